/*
 * The pass on a GPU for models whose weights are e4m3 and whose size makes it worth while: the
 * inputs of products become codes with a scale for 128 values (engine.md 6), the latent cache and
 * the index keys are FP8 (cuda.h), and the indexer's scores go through the tensor cores, shared out
 * over the device by one plan for all layers. The heads' halves of kv_b stay in BF16, which holds
 * their values (codes times powers of two) exactly.
 */
#include "model/cuda_forward_internal.h"

int cuda_run_product_fp8(struct cuda_run *run, const struct cuda_product *p,
                         const struct agon_cuda_matrix *w)
{
    struct cuda_forward *f = run->f;
    size_t ld_codes = cuda_blocks(w->k) * AGON_SCALE_BLOCK;
    struct agon_cuda_quant quant = {.codes = f->codes,
                                    .ld_codes = ld_codes,
                                    .scales = f->code_scales,
                                    .ld_scales = cuda_blocks(w->k),
                                    .x = p->x,
                                    .x_dtype = p->x_dtype,
                                    .ld_x = p->ld_x,
                                    .n = w->k,
                                    .group = AGON_SCALE_BLOCK,
                                    .ue8m0 = true,
                                    .n_rows = run->pass->n_rows};
    struct agon_cuda_gemm gemm = {.out = p->out,
                                  .out_dtype = p->out_dtype,
                                  .ld_out = p->ld_out,
                                  .x = f->codes,
                                  .x_dtype = AGON_E4M3,
                                  .ld_x = ld_codes,
                                  .x_scale = f->code_scales,
                                  .ld_x_scale = cuda_blocks(w->k),
                                  .n_rows = run->pass->n_rows,
                                  .gated = p->gated};
    if (p->n_batch > 1)
        return agon_fail(run->err, AGON_EINPUT, "engine: stacked products in e4m3");
    int r = agon_cuda_quantise(&quant, run->stream, run->err);
    return r ? r : agon_cuda_gemm(&gemm, w, AGON_GEMM_FAST, run->stream, run->err);
}

int cuda_run_index_input(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    struct cuda_product input = {.out = f->index_input,
                                 .ld_out = (size_t)f->config->index_heads,
                                 .x = f->h,
                                 .x_dtype = cuda_act_dtype(f),
                                 .ld_x = (size_t)f->config->hidden};
    return cuda_run_product(run, &input, &run->layer->index_weights, AGON_GEMM_FAST);
}

/* ---- the indexer's plan ------------------------------------------------------------- */

/* Bytes of the plan of cuda_score_rows() rows. */
static size_t plan_stride(const struct cuda_run *run)
{
    int n = cuda_score_rows(run);
    n = n < run->pass->n_rows ? n : run->pass->n_rows;
    return (agon_cuda_index_plan_bytes(n) + 15) / 16 * 16;
}

const void *cuda_plan_at(const struct cuda_run *run, int begin)
{
    return run->f->fp8 ? run->f->plan + (size_t)(begin / cuda_score_rows(run)) * plan_stride(run)
                       : NULL;
}

int cuda_run_plan(struct cuda_run *run)
{
    int n_rows = run->pass->n_rows, n_most = cuda_score_rows(run), r = 0;
    int k = run->f->config->index_topk;
    if (!run->f->fp8 || run->pass->n_max <= k)
        return 0;
    for (int begin = 0; begin < n_rows && r == 0; begin += n_most) {
        int n = n_rows - begin < n_most ? n_rows - begin : n_most;
        struct agon_cuda_rows rows = cuda_run_rows(run, begin, n, false);
        void *plan = run->f->plan + (size_t)(begin / n_most) * plan_stride(run);
        r = agon_cuda_index_plan(plan, k, &rows, run->stream, run->err);
    }
    return r;
}
