#pragma once
/*
 * Private to engine*.c. engine.c plans: whose rows stand in a step, who waits for pages, what a
 * draw does to a sequence. A compute does what was planned: a CPU's threads (engine_cpu.c) or a GPU
 * (engine_cuda.c).
 */
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

/* A sequence's part of a step: rows that stand together. */
struct step_part {
    struct agon_sequence *s;
    int begin, end; /* positions */
    int logits;     /* row of the logits, or -1 */
    struct agon_sample sample;
    bool good, memory; /* the logits are numbers; there was memory to record */
};

/* Steps in one go; so many at most between two looks of the host at what was drawn. */
enum { BURST_MAX = 64, LOOK_STEPS = 16 };

struct engine_compute {
    const struct engine_compute_ops *ops;
};
/* All but free work on the engine's step: e->rows, e->parts. */
struct engine_compute_ops {
    void (*free)(struct engine_compute *c); /* NULL is no compute */
    /* Compute e->rows; trace may be NULL. */
    int (*run)(struct agon_engine *e, const struct agon_forward_trace *trace, struct agon_err *err);
    /* Row i of the logits of the last run; valid until the next. */
    const float *(*logits)(struct agon_engine *e, int i);
    /* After a run: sample, good and memory of each part with logits, and what it records. */
    int (*draw)(struct agon_engine *e, struct agon_err *err);
    /*
     * Run, draw and advance up to n_steps times (fewer where it is better that others have their
     * turn), feeding each draw to the next step; e->parts are decoding sequences of one position
     * each, and have pages for it. NULL where there is no such thing.
     */
    int (*burst)(struct agon_engine *e, int n_steps, struct agon_err *err);
    /* Before anything else that a later run does. */
    int (*page_copy)(struct agon_engine *e, const struct agon_page *to,
                     const struct agon_page *from, struct agon_err *err);
    /* What is recorded of n positions from `slot` on, in one page. */
    int (*experts)(struct agon_engine *e, const struct agon_page *page, int slot, int n,
                   uint16_t *ret, struct agon_err *err);
    int (*selected)(struct agon_engine *e, const struct agon_page *page, int slot, int n,
                    int32_t *ret, struct agon_err *err);
    /* The checkpoint's weights are others now; false: they could not be taken over. */
    int (*weights_changed)(struct agon_engine *e, struct agon_err *err);
};

struct agon_engine {
    const struct agon_checkpoint *checkpoint;
    const struct agon_kernels *kernels; /* of the CPU, for what is done with logits here */
    struct engine_compute *compute;     /* owned */
    struct agon_cache cache;
    int n_batch_max, n_chunk_max;
    struct agon_sequence *first, *last; /* those that generate */
    struct agon_sequence *all;          /* every sequence */
    unsigned record;
    uint64_t version;        /* of the weights */
    struct agon_row *rows;   /* [n_chunk_max] */
    struct step_part *parts; /* [n_chunk_max] */
    int n_rows, n_parts, n_logits;
    uint64_t n_rows_total;
    struct agon_err failure;  /* why sequences are in AGON_SEQUENCE_FAILED */
    struct agon_group *group; /* borrowed, or NULL */
    int rank;
    struct agon_group_plan agreed; /* of this step, with the other ranks */
};

/* ---- engine.c ----------------------------------------------------------------------- */

/* Make room for n items in *array (a pointer's address); false where there is no memory. */
bool engine_grow(void *array, int *capacity, int n, size_t item);
void engine_step_begin(struct agon_engine *e);
/* Add positions [begin, end) of s to the step; false where the cache has no room. */
bool engine_step_add(struct agon_engine *e, struct agon_sequence *s, int end, bool logits);
/* The rows of those that generate: decoding ones first, then chunks of prompts. */
void engine_step_fill(struct agon_engine *e);
/* Compute what was planned; a meeting where there are other ranks. */
int engine_step_run(struct agon_engine *e, const struct agon_forward_trace *trace,
                    struct agon_err *err);
/* Compute what engine_step_fill() planned and the ranks agreed on, draw, advance. */
int engine_step_take(struct agon_engine *e);
/* Nobody can move: the one that began last ends. Returns how many generate (see
 * agon_engine_step()). */
int engine_step_nobody(struct agon_engine *e);
/* The device failed: nobody goes on, and no other rank. Returns 0. */
int engine_fail(struct agon_engine *e);
/* Give s pages of its own for positions [n_cached, end): false where the cache has none left; what
 * was taken stays. */
bool sequence_reserve(struct agon_sequence *s, int end);
/* A number in [0, 1) for the draw that stands at a position. */
double sequence_uniform(const struct agon_sequence *s, int position);

/* Append what was drawn, and see whether that ends it. */
void sequence_advance(struct agon_sequence *s, const struct step_part *part);

/* ---- engine_burst.c ----------------------------------------------------------------- */

/* If those that generate can go several steps in one, make e->parts of them and say how many. */
bool engine_burst_begin(struct agon_engine *e, int *ret_n_steps);
/* Those that ended give back the pages that they were to write. */
void engine_burst_end(struct agon_engine *e);
/* How many ids its generation may still draw. */
int sequence_left(const struct agon_sequence *s);
/* Give back pages that hold nothing computed. */
void sequence_trim(struct agon_sequence *s);
/* The sizes for which graphs are made: the smallest of 1, 2, 3, 4, 6, 8, 12, ... that is not below
 * n, at most n_most. */
int engine_bucket(int n, int n_most);

/* ---- engine_group.c ----------------------------------------------------------------- */

/* agon_engine_step() of a rank. */
int engine_group_step(struct agon_engine *e);

/* ---- engine_cpu.c, engine_cuda.c ---------------------------------------------------- */

/* Set e->compute, e->cache, and n_batch_max and n_chunk_max where they are 0; checkpoint, kernels
 * and record are set. */
int engine_cpu_new(struct agon_engine *e, const struct agon_engine_options *options,
                   struct agon_err *err) AGON_MUST_USE;

/* ---- engine_record.c ---------------------------------------------------------------- */

/* Room for what a generation of n ids records, apart from the kept sets. */
bool sequence_record_begin(struct agon_sequence *s, int n);
/* Record the draw that comes next; runs in the threads of the pool, one sequence in each.
 * scratch: AGON_SAMPLE_SCRATCH bytes for each of the n ids. */
bool sequence_record(struct agon_sequence *s, const struct agon_sample *sample, const float *logits,
                     int n, void *scratch);
/* The same in two halves, for draws made elsewhere: the likeliest ids, and the kept ids (ascending;
 * NULL: they were lost), none of them where sequence_records_kept() is false. */
void sequence_record_top(struct agon_sequence *s, const struct agon_sample *sample,
                         const float *logits, int n, void *scratch);
bool sequence_record_kept(struct agon_sequence *s, const int *ids, int n);
/* Is a kept set recorded of its draws? (Without a cut it would be all ids.) */
bool sequence_records_kept(const struct agon_sequence *s);
void sequence_record_free(struct agon_sequence *s);
