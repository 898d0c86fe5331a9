#pragma once
/*
 * What an engine does on a device between its passes: rows of the next step from the slots that the
 * sampler moved on, pages copied before they are written, and what is recorded of a position stored
 * beside its cache entry. Conventions and the cache's layout: cuda.h; slots: cuda_sample.h.
 */
#include "kernels/cuda_indexer.h"
#include "kernels/cuda_sample.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Row r feeds slot r's last id at the position where it stands (slot.position - 1), and is of
 * sequence r; a row whose slot does not run, and those from *d_n_rows on, are of sequence -1.
 */
int agon_cuda_step_rows(int32_t *ids, int32_t *position, int32_t *sequence,
                        const struct agon_cuda_slot *slots, int n_rows, const int32_t *d_n_rows,
                        void *stream, struct agon_err *err) AGON_MUST_USE;

/*
 * Page copy[2 i + 1] to page copy[2 i], for i < n, in each of n_layers pools that stand layer_bytes
 * apart. No page is both from and to. page_bytes is a multiple of 16.
 */
int agon_cuda_pages_copy(void *pools, size_t layer_bytes, size_t page_bytes, int n_layers,
                         const int32_t *copy, int n, void *stream,
                         struct agon_err *err) AGON_MUST_USE;

/*
 * Records of a position: width values at pool + slot * ld, slot being its slot number (cuda.h);
 * these write from[r][0 .. n) at + into it; from's rows are ld_from apart. Experts are narrowed to
 * 16 bits.
 */
int agon_cuda_record_experts(uint16_t *pool, size_t ld, int at, const int32_t *from, size_t ld_from,
                             int n, const struct agon_cuda_rows *rows, void *stream,
                             struct agon_err *err) AGON_MUST_USE;
int agon_cuda_record_selected(int32_t *pool, size_t ld, int at, const int32_t *from, size_t ld_from,
                              int n, const struct agon_cuda_rows *rows, void *stream,
                              struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
