/* RMSNorm, with the residual sum before it: see cuda_ops.h. */
#include "kernels/check.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"

/* A block is a row; thread t takes columns t, t + blockDim.x, ..., and n alone says how many
 * threads there are: one order of sums for every launch. The row is read again from L1 for the
 * second pass. */
static __global__ void norm_kernel(struct agon_cuda_norm p)
{
    depends_wait();
    __shared__ double sums[32];
    int n_rows = rows_today(p.n_rows, p.d_n_rows);
    for (int r = blockIdx.x; r < n_rows; r += gridDim.x) {
        float *x = p.x + r * p.ld_x;
        double square = 0;
        for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
            float value = x[i];
            if (p.add)
                x[i] = value = __fadd_rn(value, p.add[r * p.ld_add + i]);
            square += (double)value * value;
        }
        double factor = 1 / sqrt(block_sum(square, sums) / p.n + p.eps);
        for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
            double value = p.w[i] * (x[i] * factor);
            number_store(p.out, p.out_dtype, r * p.ld_out + i, (float)value);
        }
        __syncthreads(); /* sums are written again */
    }
}

static unsigned norm_threads(int n)
{
    return n > 2048 ? 512 : 128;
}

extern "C" int agon_cuda_rmsnorm(const struct agon_cuda_norm *norm, void *stream,
                                 struct agon_err *err)
{
    if (norm->n <= 0 || norm->n_rows < 0 ||
        (norm->out_dtype != AGON_F32 && norm->out_dtype != AGON_BF16))
        return agon_fail(err, AGON_EINPUT, "norm: [%d][%d] to %s", norm->n_rows, norm->n,
                         agon_dtype_name(norm->out_dtype));
    if (norm->n_rows == 0)
        return 0;
    AGON_CUDA(
        err, "RMSNorm launch",
        launch_overlapping(norm_kernel, norm->n_rows, norm_threads(norm->n), 0, stream, *norm));
    return 0;
}
