#pragma once
/*
 * Sampling on the GPU: from logits to the next id of every sequence, with the sequences' state on
 * the device, so that the host looks only every few steps.
 *
 * A slot is a sequence that generates. It holds the options of its generation and how far it is;
 * the sampler draws one id for it, appends what it drew to the slot's records, counts its length up
 * and stops it at a stop id or at its limit. A slot that does not run is passed over.
 *
 * The draw is agon_sample_ref()'s, computed in double up to probabilities and in integers from
 * there (a probability is a share of 2^63 over the vocabulary's size), so that neither the order of
 * sums nor the launch can change it. Its uniform number is f(seed, position), the engine's:
 * agon_draw_uniform(). Equal logits give an equal id, on either device.
 */
#include "kernels/cuda.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Uniform in [0, 1) for the id that will stand at `position` of a sequence: what base/rng.h gives
 * for agon_rng_init(seed), agon_rng_split_int(position), agon_rng_real(). */
double agon_draw_uniform(uint64_t seed, uint64_t position);

enum { AGON_SLOT_STOPS_MAX = 8 };
enum agon_slot_state {
    AGON_SLOT_IDLE,
    AGON_SLOT_RUNNING,
    AGON_SLOT_STOPPED, /* the last id is a stop id */
    AGON_SLOT_LENGTH,  /* n_drawn reached n_drawn_max */
    AGON_SLOT_NAN,     /* logits that are no numbers; nothing was drawn, of which -1 is recorded */
};
/* One a sequence; an array of them lies on the device. The host writes one to begin a generation
 * and reads it to learn how far it is. */
struct agon_cuda_slot {
    double temperature, top_p; /* struct agon_sample_options */
    uint64_t seed;
    int32_t top_k;
    int32_t n_ids;    /* ids below it are drawn; 0: all */
    int32_t position; /* of the next id: the sequence's length; the sampler counts it up */
    int32_t n_drawn, n_drawn_max;
    int32_t state; /* enum agon_slot_state */
    int32_t id;    /* the last that was drawn: the next step's input */
    int32_t n_stop, stop[AGON_SLOT_STOPS_MAX];
    int32_t keep; /* record the kept sets */
    int32_t reserved;
};
struct agon_cuda_drawn {
    int32_t id, n_kept; /* id -1: AGON_SLOT_NAN */
    float logprob, logprob_raw;
    int64_t kept_at; /* its kept ids, ascending, are kept[kept_at ..]; -1: not recorded */
};

struct agon_cuda_sampler {
    const float *logits; /* [n_rows][ld_logits]; row r belongs to slot row_slot[r] */
    size_t ld_logits;
    int n_rows, n; /* n: the vocabulary */
    const int32_t *d_n_rows;
    const int32_t *row_slot; /* -1: no slot; NULL: row r is slot r */
    struct agon_cuda_slot *slots;
    struct agon_cuda_drawn *drawn; /* [slot][ld_drawn]: the i-th id drawn lies at i % ld_drawn */
    int ld_drawn;
    int32_t *kept; /* room for n_kept_max ids; NULL where none are recorded */
    int64_t n_kept_max;
    /* How many of them are used (the host sets it to 0); counts on past n_kept_max where the room
     * was too small, and what did not fit has kept_at -2. */
    unsigned long long *n_kept;
    void *scratch; /* agon_cuda_sample_scratch() bytes */
};
size_t agon_cuda_sample_scratch(int n_rows, int n);
int agon_cuda_sample(const struct agon_cuda_sampler *sampler, void *stream,
                     struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
