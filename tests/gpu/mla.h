#pragma once
/* A layer's cache for the tests and the benchmark of latent attention: sequences whose pages lie
 * scattered in the pool, with what the store kernel should have written computed on the CPU. */
#include "kernels/cuda_mla.h"
#include "tests/gpu/gpu.h"

struct mla_world {
    int kv_lora, rope_dim, n_sequences, n_positions; /* positions of each sequence */
    enum agon_latent_format format;
    size_t entry_bytes;
    int n_pages, ld_pages; /* pages in the pool; pages of a sequence */
    int first_page;        /* the pool's pages before these: mla_world_move() */
    int32_t *pages;        /* [n_sequences][ld_pages] */
    float *kv;             /* [n_sequences][n_positions][kv_lora + rope_dim], as stored from */
    float *decoded;        /* the same, as read back from the format */
    uint8_t *expected;     /* the pool; 0xa5 where nothing is stored */
};

/* Encode one entry as the store should, and decode it again. */
static inline void mla_world_entry(struct mla_world *w, uint8_t *entry, float *decoded,
                                   const float *kv)
{
    int n = w->kv_lora + w->rope_dim;
    if (w->format == AGON_LATENT_F32) {
        memcpy(entry, kv, (size_t)n * sizeof(*kv));
        memcpy(decoded, kv, (size_t)n * sizeof(*kv));
        return;
    }
    int first_bf16 = 0;
    uint8_t *at = entry;
    if (w->format == AGON_LATENT_FP8) {
        first_bf16 = w->kv_lora;
        uint8_t *scales = entry + w->kv_lora;
        for (int d = 0; d < w->kv_lora; d += 128, scales += sizeof(float)) {
            float scale;
            agon_act_quant_ref(entry + d, &scale, kv + d,
                               w->kv_lora - d < 128 ? w->kv_lora - d : 128, true);
            memcpy(scales, &scale, sizeof(scale));
            for (int i = d; i < d + 128 && i < w->kv_lora; i++)
                decoded[i] = agon_e4m3_decode(entry[i]) * scale;
        }
        at = scales;
    }
    for (int d = first_bf16; d < n; d++, at += sizeof(uint16_t)) {
        uint16_t code = agon_bf16_encode(kv[d]);
        memcpy(at, &code, sizeof(code));
        decoded[d] = agon_bf16_decode(code);
    }
}

/* Entries of a size that gives softmax something to choose between; pages in a scattered order,
 * `spare` more in the pool than are used. */
static inline struct mla_world mla_world_new(enum agon_latent_format format, int kv_lora,
                                             int rope_dim, int n_sequences, int n_positions,
                                             int spare)
{
    struct mla_world w = {.kv_lora = kv_lora,
                          .rope_dim = rope_dim,
                          .n_sequences = n_sequences,
                          .n_positions = n_positions,
                          .format = format};
    w.entry_bytes = agon_latent_bytes(format, kv_lora, rope_dim);
    w.ld_pages = (n_positions + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE + 1;
    w.n_pages = n_sequences * w.ld_pages + spare;
    int32_t *order = malloc((size_t)w.n_pages * sizeof(*order));
    for (int i = 0; i < w.n_pages; i++)
        order[i] = i;
    for (int i = w.n_pages - 1; i > 0; i--) {
        int j = random_below(i + 1);
        int32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    w.pages = malloc((size_t)n_sequences * (size_t)w.ld_pages * sizeof(*w.pages));
    for (int s = 0; s < n_sequences; s++)
        for (int p = 0; p < w.ld_pages; p++) /* the last one is not there */
            w.pages[s * w.ld_pages + p] = p + 1 < w.ld_pages ? order[s * w.ld_pages + p] : -1;
    free(order);
    size_t dim = (size_t)(kv_lora + rope_dim), n = (size_t)n_sequences * (size_t)n_positions;
    w.kv = random_floats(n * dim);
    w.decoded = malloc(n * dim * sizeof(float));
    size_t pool = (size_t)w.n_pages * AGON_CUDA_PAGE * w.entry_bytes;
    w.expected = malloc(pool);
    memset(w.expected, 0xa5, pool);
    for (size_t i = 0; i < n; i++) {
        int s = (int)(i / (size_t)n_positions), position = (int)(i % (size_t)n_positions);
        size_t slot = (size_t)w.pages[s * w.ld_pages + position / AGON_CUDA_PAGE] * AGON_CUDA_PAGE +
                      (size_t)(position % AGON_CUDA_PAGE);
        mla_world_entry(&w, w.expected + slot * w.entry_bytes, w.decoded + i * dim, w.kv + i * dim);
    }
    return w;
}

static inline size_t mla_world_bytes(const struct mla_world *w)
{
    return (size_t)w->n_pages * AGON_CUDA_PAGE * w->entry_bytes;
}

static inline int32_t mla_world_slot(const struct mla_world *w, int sequence, int position)
{
    return w->pages[sequence * w->ld_pages + position / AGON_CUDA_PAGE] * AGON_CUDA_PAGE +
           position % AGON_CUDA_PAGE;
}

/* The pool begins so many pages before `expected`. */
static inline void mla_world_move(struct mla_world *w, int first_page)
{
    for (int i = 0; i < w->n_sequences * w->ld_pages; i++)
        if (w->pages[i] >= 0)
            w->pages[i] += first_page - w->first_page;
    w->first_page = first_page;
}

static inline void mla_world_free(struct mla_world *w)
{
    free(w->pages);
    free(w->kv);
    free(w->decoded);
    free(w->expected);
}
