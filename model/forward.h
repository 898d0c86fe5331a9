#pragma once
/*
 * One forward pass over a batch of rows: each row is one position of one sequence, and may be
 * of any sequence. Writes the rows' cache entries, attends to what stands before each, and
 * computes logits where asked. A row's result depends on its own past alone, bit for bit,
 * whatever else is in the batch.
 *
 * Equations: engine.md 3 to 7 (DeepSeek-V3.2's report, section 2, and its inference code).
 */
#include "base/mem.h"
#include "model/cache.h"
#include "model/checkpoint.h"
#include "model/pool.h"

struct agon_row {
    int id, position;
    bool store;                     /* false: its cache entry is there already */
    int logits;                     /* which row of the logits it fills, or -1 */
    struct agon_page *const *pages; /* borrowed: of its sequence, up to and with position's */
    const uint16_t *experts; /* forced: [n_sparse][top_k], borrowed; NULL: the router's choice */
};

/* What a pass selected, for windows into the model. (What training needs is recorded in the
 * pages: cache.h.) */
struct agon_forward_trace {
    int *n_selected; /* [n_layers][n_rows_max] */
    int *selected;   /* [n_layers][n_rows_max][index_topk], ascending positions */
};

struct agon_forward;

/* Everything is borrowed and must outlive it. n_rows_max bounds a batch, n_logits_max the rows
 * of it with logits. */
int agon_forward_new(struct agon_forward **ret, const struct agon_checkpoint *checkpoint,
                     const struct agon_kernels *kernels, struct agon_pool *pool,
                     struct agon_cache *cache, int n_rows_max, int n_logits_max,
                     struct agon_err *err) AGON_MUST_USE;
void agon_forward_free(struct agon_forward *f);
AGON_DEFINE_FREEP(struct agon_forward, agon_forward_free)

/* Rows of one sequence must stand in ascending order of position without gaps from what is
 * cached; trace may be NULL. */
void agon_forward_run(struct agon_forward *f, const struct agon_row *rows, int n_rows,
                      const struct agon_forward_trace *trace);
/* [n_logits_max][n_vocab]; valid until the next run. */
const float *agon_forward_logits(const struct agon_forward *f, int i);
