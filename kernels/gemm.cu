/* Products with weights: what is asked is checked here, and the way to compute it chosen. */
#include "kernels/gemm.cuh"

#include "kernels/check.cuh"

static int gemm_check(const struct gemm_launch *launch, struct agon_err *err)
{
    const struct agon_cuda_gemm *g = &launch->gemm;
    const struct agon_cuda_matrix *w = &launch->w;
    bool x_good = g->x_dtype == AGON_F32 || g->x_dtype == AGON_BF16 ||
                  (g->x_dtype == AGON_E4M3 && g->x_scale);
    bool out_good = g->out_dtype == AGON_F32 || (g->out_dtype == AGON_BF16 && !g->add);
    bool w_good = w->dtype != AGON_F16 && (w->dtype != AGON_E4M3 || w->scale);
    if (g->n_rows < 0 || w->n <= 0 || w->k <= 0 || launch->n_parts <= 0 ||
        launch->n_parts > 65535 || w->n % (launch->n_parts * (g->gated ? 2 : 1)) != 0 ||
        (g->gated && g->add) || !x_good || !out_good || !w_good)
        return agon_fail(err, AGON_EINPUT, "product: %s [%d][%d] by %s [%d][%d] in %d parts to %s",
                         agon_dtype_name(g->x_dtype), g->n_rows, w->k, agon_dtype_name(w->dtype),
                         w->n, w->k, launch->n_parts, agon_dtype_name(g->out_dtype));
    return 0;
}

static int gemm_run(struct gemm_launch *launch, enum agon_gemm_mode mode, void *stream,
                    struct agon_err *err)
{
    int r = gemm_check(launch, err);
    if (r || launch->gemm.n_rows == 0)
        return r;
    launch->w_rows = launch->w.n / launch->n_parts;
    launch->n = launch->gemm.gated ? launch->w_rows / 2 : launch->w_rows;
    r = mode == AGON_GEMM_FAST ? gemm_wgmma_launch(launch, stream, err) : GEMM_NOT_HERE;
    return r == GEMM_NOT_HERE ? gemm_exact_launch(launch, stream, err) : r;
}

extern "C" int agon_cuda_gemm(const struct agon_cuda_gemm *gemm, const struct agon_cuda_matrix *w,
                              enum agon_gemm_mode mode, void *stream, struct agon_err *err)
{
    struct gemm_launch launch = {};
    launch.gemm = *gemm;
    launch.w = *w;
    launch.n_parts = gemm->n_batch > 1 ? gemm->n_batch : 1;
    return gemm_run(&launch, mode, stream, err);
}

extern "C" int agon_cuda_gemm_grouped(const struct agon_cuda_gemm *gemm,
                                      const struct agon_cuda_matrix *w, int n_groups,
                                      const int32_t *begin, enum agon_gemm_mode mode, void *stream,
                                      struct agon_err *err)
{
    struct gemm_launch launch = {};
    launch.gemm = *gemm;
    launch.gemm.batch_x = launch.gemm.batch_out = 0;
    launch.w = *w;
    launch.n_parts = n_groups;
    launch.begin = begin;
    return gemm_run(&launch, mode, stream, err);
}
