#pragma once
/* Private to engine*.c. */
#include "model/engine.h"

struct agon_sequence {
    struct agon_engine *engine;
    struct agon_sequence *previous, *next; /* while generating, in the order of beginning */
    int *ids;
    int n, capacity, n_cached;
    struct agon_page **pages; /* owned; each holds a reference */
    int n_pages, page_capacity;
    enum agon_sequence_state state;
    struct agon_generation generation;
    struct agon_drawn *drawn; /* owned; [n_drawn] */
    int n_drawn, drawn_capacity;
    /* Owned; recorded of what is drawn: kept ids, where those of each begin, the likeliest. */
    int *kept, *kept_at; /* kept_at [n_drawn + 1] */
    int n_kept, kept_capacity, kept_at_capacity;
    struct agon_top *top; /* [n_drawn][n_top] */
    int top_capacity;
    const uint16_t *forced; /* borrowed; [n_forced][experts of a position] */
    int n_forced;
    struct agon_sequence *all_previous, *all_next; /* of the engine's */
};

/* A sequence's part of a step. */
struct step_part {
    struct agon_sequence *s;
    int begin, end; /* positions */
    int logits;     /* row of the logits, or -1 */
    struct agon_sample sample;
    bool good, memory; /* the logits are numbers; there was memory to record */
};

struct agon_engine {
    const struct agon_checkpoint *checkpoint;
    const struct agon_kernels *kernels;
    struct agon_pool *pool;
    struct agon_forward *forward;
    struct agon_cache cache;
    int n_batch_max, n_chunk_max;
    struct agon_sequence *first, *last; /* those that generate */
    struct agon_sequence *all;          /* every sequence */
    unsigned record;
    uint64_t version;        /* of the weights */
    struct agon_row *rows;   /* [n_chunk_max] */
    struct step_part *parts; /* [n_chunk_max] */
    int n_rows, n_parts, n_logits;
    void *sample_scratch; /* [threads][AGON_SAMPLE_SCRATCH * n_vocab] */
    uint64_t n_rows_total;
};

/* ---- engine.c ----------------------------------------------------------------------- */

/* Make room for n items in *array (a pointer's address); false where there is no memory. */
bool engine_grow(void *array, int *capacity, int n, size_t item);
void engine_step_begin(struct agon_engine *e);
/* Add positions [begin, end) of s to the step; false where the cache has no room. */
bool engine_step_add(struct agon_engine *e, struct agon_sequence *s, int end, bool logits);
void engine_step_run(struct agon_engine *e, const struct agon_forward_trace *trace);

/* ---- engine_record.c ---------------------------------------------------------------- */

/* Room for what a generation of n ids records, apart from the kept sets. */
bool sequence_record_begin(struct agon_sequence *s, int n);
/* Record the draw that comes next; runs in the threads of the pool, one sequence in each.
 * scratch: AGON_SAMPLE_SCRATCH bytes for each of the n ids. */
bool sequence_record(struct agon_sequence *s, const struct agon_sample *sample, const float *logits,
                     int n, void *scratch);
void sequence_record_free(struct agon_sequence *s);
