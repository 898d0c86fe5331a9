#pragma once
/* Shared by the tests of the engine on a GPU: models, windows into them, how far two of them are
 * apart. */
#include "model/engine.h"
#include "tests/gpu/open.h"
#include "tests/test.h"

#include <stdlib.h>

/* Skip the case where there is no GPU. */
extern struct agon_err err;
#define REQUIRE_GPU()            \
    struct agon_cuda_info info_; \
    SKIP_WITHOUT_GPU(&info_, err)

/* The folder of the embedded model: AGON_EMBEDDED, or model/embedded; and it, loaded once. */
const char *embedded_dir(void);
struct agon_checkpoint *embedded(void);
/* NULL (and a failure) where it can't be; a cache of 1 GB unless options say otherwise. */
struct agon_engine *engine_of(const struct agon_checkpoint *checkpoint, const char *device,
                              struct agon_engine_options options);
void ids_of(int *ids, int n, int seed, int n_vocab);

/* What an engine says of each position. */
struct seen {
    int n_vocab, n_layers, topk, n_rows;
    float *logits;              /* [n][n_vocab] */
    int *n_selected, *selected; /* [n][n_layers], [n][n_layers][topk] */
};
struct seen seen_new(const struct agon_config *c, int n);
void seen_free(struct seen *s);
/* For agon_sequence_evaluate(): user is the struct seen. */
void see(void *user, const struct agon_evaluated *row);
/* The first n_first ids in chunks, the rest one by one. */
bool look(struct seen *s, struct agon_engine *e, const int *ids, int n, int n_first, int chunk);
/* The same with these experts [n][...] for the first n ids; and what an engine that records
 * routing chooses, to experts. */
bool look_forced(struct seen *s, struct agon_engine *e, const int *ids, int n, int n_first,
                 int chunk, const uint16_t *experts);
bool look_recorded(struct seen *s, struct agon_engine *e, const int *ids, int n, int chunk,
                   uint16_t *experts);
/* ||a - b|| / ||b|| of the logits at position p. */
double row_error(const struct seen *a, const struct seen *b, int p);
/* Prints how far the logits of n positions are from the wanted ones: rows' errors; in how many the
 * best id is the same, and in how many it would be if the error were chance, each row's as large;
 * where it is another, how many of the wanted ids' margins are below the row's largest error. */
void tell_agreement(const char *what, const struct seen *got, const struct seen *wanted, int n);
/* The GPU's reference mode against the CPU, over n random ids. */
void check_model(const struct agon_checkpoint *checkpoint, const char *name, int n);
