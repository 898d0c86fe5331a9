/* Sizes of the paged cache on a GPU: see cuda.h. */
#include "kernels/cuda.h"

size_t agon_latent_bytes(enum agon_latent_format format, int kv_lora, int rope_dim)
{
    size_t n = (size_t)(kv_lora + rope_dim);
    switch (format) {
    case AGON_LATENT_F32: return n * sizeof(float);
    case AGON_LATENT_BF16: return n * sizeof(uint16_t);
    case AGON_LATENT_FP8:
        return (size_t)kv_lora + (size_t)((kv_lora + 127) / 128) * sizeof(float) +
               (size_t)rope_dim * sizeof(uint16_t);
    }
    return 0;
}

size_t agon_keys_page_bytes(enum agon_keys_format format, int index_dim)
{
    size_t n = (size_t)index_dim * AGON_CUDA_PAGE;
    return format == AGON_KEYS_F32 ? n * sizeof(float) : n + AGON_CUDA_PAGE * sizeof(float);
}
