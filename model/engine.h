#pragma once
/*
 * The local engine: sequences of token ids that generate together (continuous batching).
 *
 * A sequence is a list of ids and, behind it, cache pages for those already computed. Appended
 * ids are computed in chunks beside the decoding of other sequences; a fork shares all pages
 * with its parent and copies the last, partly filled one when it first writes. What a sequence
 * samples depends on its ids, its sampling options, its seed and the position alone: not on the
 * batch, the chunks, the number of threads, or whether its prefix was shared.
 *
 * One thread uses an engine; it owns the worker threads.
 *
 * On a GPU (device "cuda") a step may draw several ids of each sequence. Several GPUs are several
 * engines, one a thread, in a group (group.h).
 */
#include "base/mem.h"
#include "model/checkpoint.h"
#include "model/forward.h"
#include "model/group.h"
#include "model/trace.h"

#include <stdint.h>

struct agon_engine;
struct agon_sequence;

struct agon_engine_options {
    const char *device;       /* see AGON_DEVICES; NULL: cpu */
    enum agon_cpu cpu;        /* AGON_CPU_BEST unless a test wants another */
    int n_threads;            /* 0: as many as the process may use */
    int n_batch_max;          /* most sequences that generate in one step; 0: 64 */
    int n_chunk_max;          /* most rows in one step; 0: 256 (at least n_batch_max) */
    size_t cache_bytes_max;   /* 0: half of the machine's memory, 80% of a GPU's free */
    unsigned record;          /* AGON_TRACE_ROUTING and _INDEXER, kept with every position */
    struct agon_group *group; /* borrowed; NULL: alone. Rank r is on the r-th device. */
    int rank;
};
/* cuda: the first GPU that the process sees, in BF16 where the kernels can; cuda:fp8: with e4m3
 * weights as they are, and FP8 caches; cuda:reference: in F32, with the sums of the CPU. */
#define AGON_DEVICES "cpu|cuda|cuda:fp8|cuda:reference"
#define AGON_ENGINE_OPTIONS  \
    {                        \
        .cpu = AGON_CPU_BEST \
    }

/* AGON_EINPUT where device is none of those; NULL is the default. */
int agon_engine_check_device(const char *device, struct agon_err *err) AGON_MUST_USE;
/* The checkpoint in dir as an engine on `device` wants it: loaded for the CPU, opened for a GPU. */
int agon_engine_checkpoint(struct agon_checkpoint **ret, const char *dir, const char *device,
                           struct agon_err *err) AGON_MUST_USE;
/* checkpoint is borrowed and must outlive the engine. AGON_EINPUT: it is open only, and the device
 * is the CPU. */
int agon_engine_new(struct agon_engine **ret, const struct agon_checkpoint *checkpoint,
                    const struct agon_engine_options *options, struct agon_err *err) AGON_MUST_USE;
/* Every sequence must have been freed before. */
void agon_engine_free(struct agon_engine *e);
AGON_DEFINE_FREEP(struct agon_engine, agon_engine_free)
const struct agon_config *agon_engine_config(const struct agon_engine *e);
/* Positions of new ids that the cache still has room for. */
size_t agon_engine_room(const struct agon_engine *e);
/*
 * The checkpoint's weights have changed in place (agon_checkpoint_replace()): what is computed is
 * forgotten, ids stay, and the version goes up. Nobody may be generating. On failure (a device's)
 * the engine computes nothing any more.
 */
int agon_engine_weights_changed(struct agon_engine *e, struct agon_err *err) AGON_MUST_USE;
/* What the device said when a step failed; "" if none did. */
const char *agon_engine_failure(const struct agon_engine *e);
uint64_t agon_engine_version(const struct agon_engine *e); /* of the weights: 0, 1, ... */

/* ---- sequences ---------------------------------------------------------------------- */

int agon_sequence_new(struct agon_sequence **ret, struct agon_engine *e,
                      struct agon_err *err) AGON_MUST_USE;
/* The same past; parent may not be generating. Ids of the parent that are not computed yet are
 * computed first, so that they are shared. */
int agon_sequence_fork(struct agon_sequence **ret, struct agon_sequence *parent,
                       struct agon_err *err) AGON_MUST_USE;
/* Make empty s begin with the first n ids of other, sharing their cache; what of them is not
 * computed yet is computed first, unless other is generating: then only what is, is taken. */
int agon_sequence_share(struct agon_sequence *s, struct agon_sequence *other, int n,
                        struct agon_err *err) AGON_MUST_USE;
void agon_sequence_free(struct agon_sequence *s); /* cancels; NULL is fine */
AGON_DEFINE_FREEP(struct agon_sequence, agon_sequence_free)
/* AGON_EINPUT where an id is out of range or the window too small; nothing is appended then. */
int agon_sequence_append(struct agon_sequence *s, const int *ids, int n,
                         struct agon_err *err) AGON_MUST_USE;
/* Forget all but the first n ids. */
void agon_sequence_truncate(struct agon_sequence *s, int n);
/* Give the cache of s back; its ids stay and are computed again when they are needed. */
void agon_sequence_forget(struct agon_sequence *s);
/* Compute the ids not computed yet. */
int agon_sequence_compute(struct agon_sequence *s, struct agon_err *err) AGON_MUST_USE;
int agon_sequence_computed(const struct agon_sequence *s); /* how many are */
/* Where positions below n_rows are computed, they take these experts ([n_rows][n_sparse][top_k],
 * checked, borrowed) and not the router's. Nobody else should share them. */
void agon_sequence_force(struct agon_sequence *s, const uint16_t *experts, int n_rows);
int agon_sequence_length(const struct agon_sequence *s);
const int *agon_sequence_ids(const struct agon_sequence *s); /* borrowed, until the next change */

/* ---- generation --------------------------------------------------------------------- */

struct agon_generation {
    struct agon_sample_options sample;
    uint64_t seed;
    int tokens_max;
    int n_ids;       /* only ids below it are drawn (rows past the tokenizer's); 0: all */
    const int *stop; /* ids that end it (and stay in the sequence); borrowed until it ends */
    int n_stop;
    unsigned record; /* AGON_TRACE_MASK: keep what the cuts leave over */
    int n_top;       /* keep this many of the likeliest ids; at most AGON_TOP_MAX */
};
enum { AGON_TOP_MAX = 32 };
enum agon_sequence_state {
    AGON_SEQUENCE_IDLE,
    AGON_SEQUENCE_GENERATING,
    AGON_SEQUENCE_STOPPED, /* the last id is a stop id */
    AGON_SEQUENCE_LENGTH,  /* tokens_max or the window */
    AGON_SEQUENCE_CACHE,   /* the cache is full and nobody else will make room */
    AGON_SEQUENCE_NAN,     /* logits that are no numbers: a broken checkpoint */
    AGON_SEQUENCE_MEMORY,  /* no memory for what is recorded */
    AGON_SEQUENCE_FAILED,  /* the device failed: agon_engine_failure() */
};
/* For each generated id: log-probability under the distribution drawn from (temperature, top-k,
 * top-p, renormalised) and under softmax(logits), and how many ids the cut left over. */
struct agon_drawn {
    float logprob, logprob_raw;
    int n_kept;
};

/* Begin. The sequence must hold an id and not be generating. */
int agon_sequence_generate(struct agon_sequence *s, const struct agon_generation *generation,
                           struct agon_err *err) AGON_MUST_USE;
void agon_sequence_cancel(struct agon_sequence *s); /* becomes idle; keeps what it generated */
/* Go on with a generation that ended for want of room; it draws what it would have drawn. */
void agon_sequence_resume(struct agon_sequence *s);
enum agon_sequence_state agon_sequence_state(const struct agon_sequence *s);
/* What the last generation drew, for its ids in order; borrowed. */
const struct agon_drawn *agon_sequence_drawn(const struct agon_sequence *s, int *ret_n);
/* What the cuts of the i-th left over, ascending; NULL where nothing was cut or recorded. */
const int *agon_sequence_kept(const struct agon_sequence *s, int i, int *ret_n);
/* The likeliest ids of the i-th, likeliest first, with logprob_raw; [generation.n_top]. */
struct agon_top {
    int id;
    float logprob_raw;
};
const struct agon_top *agon_sequence_top(const struct agon_sequence *s, int i);
/*
 * What was recorded of computed positions [begin, end): experts [..][n_sparse][top_k], selected
 * [..][n_indexers][index_topk]. False where the engine does not record that.
 */
bool agon_sequence_experts(const struct agon_sequence *s, int begin, int end, uint16_t *ret);
bool agon_sequence_selected(const struct agon_sequence *s, int begin, int end, int32_t *ret);
const struct agon_engine *agon_sequence_engine(const struct agon_sequence *s);

/*
 * One forward pass for those that generate; returns how many still do. In a group every pass is one
 * of all ranks (so are those of agon_sequence_compute(), fork, evaluate): each rank goes on until
 * this returns 0, which it does on all of them together, when nobody generates; 1 on a rank that
 * has nothing left itself.
 */
int agon_engine_step(struct agon_engine *e);
int agon_engine_generating(const struct agon_engine *e); /* how many generate */
/* All rows computed so far: for measuring. */
uint64_t agon_engine_rows(const struct agon_engine *e);

/* ---- a window into the model -------------------------------------------------------- */

struct agon_evaluated {
    int position;
    const float *logits; /* [n_vocab] */
    /* By layer i: selected positions selected[i * index_topk ..]. */
    const int *n_selected, *selected;
};
/* Compute the ids not computed yet, at most n_rows_max together, and call fn for each. */
int agon_sequence_evaluate(struct agon_sequence *s, int n_rows_max,
                           void (*fn)(void *user, const struct agon_evaluated *row), void *user,
                           struct agon_err *err) AGON_MUST_USE;
