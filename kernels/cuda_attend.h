#pragma once
/*
 * Attention and indexer of small models: what cuda_mla.h and cuda_indexer.h compute, for rows that
 * stand side by side and hold the same pages, as forks of one prompt do. Such pages are read once
 * for all of them, and what a row has not selected is masked: where a good part of the past is
 * selected, that reads less and fills the tensor cores better than a gather of each row's own.
 *
 * Entries are taken in four interleaved lists of pages (page p is of list p % 4), each in ascending
 * order with the running softmax of Milakov and Gimelshein 2018, merged in their order: a row's
 * output depends on its own query, entries and selection alone, not on which rows stand beside it.
 *
 * Selections are masks: bit p % 64 of mask[r][p / 64] says whether row r sees position p.
 */
#include "kernels/cuda_indexer.h"
#include "kernels/cuda_mla.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { AGON_ATTEND_POSITIONS_MAX = 8192 };

struct agon_attend {
    struct agon_mla_cache cache; /* BF16, kv_lora 128, rope_dim 16; no NaN in pages that are held */
    struct agon_mla_rows rows;
    int n_heads; /* 3 to 8 */
    float scale;
    const float *q;            /* [n_rows][n_heads][kv_lora + rope_dim] */
    void *out;                 /* [n_rows][n_heads][kv_lora] */
    enum agon_dtype out_dtype; /* F32 or BF16 */
    const uint64_t *mask;      /* [n_rows][ld_mask]; NULL: all positions up to the row's own */
    int ld_mask;
    int n_max; /* no row's position + 1 is above this; at most AGON_ATTEND_POSITIONS_MAX */
};
/* Are these shapes done here? (agon_mla_cuda() does all.) */
bool agon_attend_does(const struct agon_attend *attend);
int agon_attend_cuda(const struct agon_attend *attend, void *stream,
                     struct agon_err *err) AGON_MUST_USE;

/*
 * The lightning indexer and its top-k in one: the mask of the k best positions of each row, the
 * lowest first on ties; all where there are no more than k.
 */
struct agon_select {
    struct agon_cuda_keys keys; /* F32, index_dim 32 */
    struct agon_cuda_rows rows; /* n_max at most AGON_ATTEND_POSITIONS_MAX */
    int n_heads;                /* at most 8 */
    const float *q;             /* [n_rows][n_heads][32] */
    const float *weights;       /* [n_rows][n_heads] */
    int k;
    uint64_t *mask; /* [n_rows][ld_mask], ld_mask at least n_max / 64 rounded up */
    int ld_mask;
};
bool agon_select_does(const struct agon_select *select);
int agon_select_cuda(const struct agon_select *select, void *stream,
                     struct agon_err *err) AGON_MUST_USE;
/* A mask as a list: selected [n_rows][k], ascending, -1 behind the last; n_selected [n_rows]. */
int agon_select_list_cuda(int32_t *selected, int32_t *n_selected, int k, const uint64_t *mask,
                          int ld_mask, int n_rows, void *stream,
                          struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
