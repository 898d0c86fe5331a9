/* The way into latent attention: shapes are checked, a kernel is chosen. cuda_mla.h. */
#include "kernels/mla.cuh"

static int mla_check(const struct agon_mla *mla, struct agon_err *err)
{
    const struct agon_mla_cache *cache = &mla->cache;
    if (mla->rows.n_rows < 0 || mla->n_heads <= 0 || mla->n_heads > 8 * 65535 ||
        cache->kv_lora <= 0 || cache->rope_dim < 0)
        return agon_fail(err, AGON_EINPUT, "latent attention: %d rows, %d heads of %d + %d values",
                         mla->rows.n_rows, mla->n_heads, cache->kv_lora, cache->rope_dim);
    if ((mla->q_dtype != AGON_F32 && mla->q_dtype != AGON_BF16) ||
        (mla->out_dtype != AGON_F32 && mla->out_dtype != AGON_BF16))
        return agon_fail(err, AGON_EINPUT,
                         "latent attention: queries in %s, outputs in %s, not in F32 or BF16",
                         agon_dtype_name(mla->q_dtype), agon_dtype_name(mla->out_dtype));
    if (mla->selected ? mla->ld_selected <= 0 : mla->rows.ld_pages <= 0 || !mla->rows.pages)
        return agon_fail(err, AGON_EINPUT,
                         "latent attention: neither selected slots nor pages of sequences");
    if (mla->split < 0 || mla->split % 64)
        return agon_fail(err, AGON_EINPUT,
                         "latent attention: a split of %d entries is no multiple of 64",
                         mla->split);
    return 0;
}

extern "C" size_t agon_mla_scratch(const struct agon_mla *mla)
{
    return !mla->plain && agon_mla_fast_does(mla) ? agon_mla_fast_scratch(mla) : 0;
}

extern "C" int agon_mla_cuda(const struct agon_mla *mla, void *stream, struct agon_err *err)
{
    int r = mla_check(mla, err);
    if (r || mla->rows.n_rows == 0)
        return r;
    if (agon_mla_scratch(mla) && !mla->scratch)
        return agon_fail(err, AGON_EINPUT, "latent attention: no scratch, %zu bytes are needed",
                         agon_mla_scratch(mla));
    return (mla->plain                 ? agon_mla_plain
            : agon_mla_fast_does(mla)  ? agon_mla_fast
            : agon_mla_small_does(mla) ? agon_mla_small
                                       : agon_mla_plain)(mla, (cudaStream_t)stream, err);
}
