/* The routed experts of a layer: gate and up, SwiGLU, down; see cuda_gemm.h. */
#include "kernels/check.cuh"
#include "kernels/cuda_gemm.h"

/* What lies in a run's scratch: floats gate_up [n_pairs][2 * inner], then act [n_pairs][inner]. */
static size_t act_floats(const struct agon_cuda_moe *moe, size_t n_pairs)
{
    return (n_pairs * moe->inner + 63) / 64 * 64;
}

extern "C" size_t agon_cuda_moe_scratch(const struct agon_cuda_moe *moe, int n_rows, int top_k,
                                        enum agon_gemm_mode mode)
{
    (void)mode;
    return 3 * act_floats(moe, (size_t)n_rows * top_k) * sizeof(float);
}

static int moe_check(const struct agon_cuda_moe *moe, const struct agon_cuda_moe_run *run,
                     struct agon_err *err)
{
    const struct agon_cuda_matrix *gate_up = &moe->gate_up, *down = &moe->down;
    if (moe->n_experts <= 0 || gate_up->n != moe->n_experts * 2 * moe->inner ||
        gate_up->k != moe->hidden || down->n != moe->n_experts * moe->hidden ||
        down->k != moe->inner || run->n_rows < 0 || run->top_k <= 0)
        return agon_fail(err, AGON_EINPUT,
                         "experts: %d of hidden %d, inner %d do not fit gate and up [%d][%d], "
                         "down [%d][%d]",
                         moe->n_experts, moe->hidden, moe->inner, gate_up->n, gate_up->k, down->n,
                         down->k);
    return 0;
}

extern "C" int agon_cuda_moe(const struct agon_cuda_moe *moe, const struct agon_cuda_moe_run *run,
                             enum agon_gemm_mode mode, void *stream, struct agon_err *err)
{
    int r = moe_check(moe, run, err), n_pairs = run->n_rows * run->top_k;
    if (r || n_pairs == 0)
        return r;
    float *gate_up = (float *)run->scratch, *act = gate_up + 2 * act_floats(moe, (size_t)n_pairs);
    struct agon_cuda_gemm up = {}, down = {};
    up.out = gate_up;
    up.out_dtype = AGON_F32;
    up.ld_out = 2 * (size_t)moe->inner;
    up.x = run->x;
    up.x_dtype = run->x_dtype;
    up.ld_x = run->ld_x;
    up.rows = run->pair_row;
    up.n_rows = n_pairs;
    down.out = run->y;
    down.out_dtype = AGON_F32;
    down.ld_out = run->ld_y;
    down.x = act;
    down.x_dtype = AGON_F32;
    down.ld_x = (size_t)moe->inner;
    down.n_rows = n_pairs;
    if ((r = agon_cuda_gemm_grouped(&up, &moe->gate_up, moe->n_experts, run->begin, mode, stream,
                                    err)) ||
        (r = agon_cuda_swiglu(act, AGON_F32, (size_t)moe->inner, gate_up, up.ld_out, moe->inner,
                              n_pairs, run->begin + moe->n_experts, stream, err)))
        return r;
    return agon_cuda_gemm_grouped(&down, &moe->down, moe->n_experts, run->begin, mode, stream, err);
}
