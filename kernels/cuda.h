#pragma once
/*
 * The GPU: one device, its memory, streams and graphs, behind a C interface, so that nothing
 * outside kernels/ includes a CUDA header. Kernels stand in cuda_<group>.h beside this file; each
 * has a CPU twin in kernels.h or in <name>_ref.c.
 *
 * Conventions of every kernel wrapper:
 *   - returns 0 or a negative error with a line in err; AGON_EINPUT for a shape it does not do,
 * before anything is launched; AGON_EDEVICE for what CUDA says. Launches are asynchronous in
 * `stream` (NULL: the legacy default stream); no wrapper synchronises or allocates, so every one
 * can be captured in a graph. Scratch is passed in, its size told by agon_..._scratch().
 *   - pointers named d_* or documented "device" are device memory; arrays are row-major, ld_x in
 * elements.
 *   - an output row depends on its own inputs alone: the order of every sum is fixed by the shapes
 * of one row, never by how many rows a launch holds. No float atomics. This is what "same seed,
 * same tokens at any batch composition" rests on; a faster kernel that breaks it says so in its
 * name (..._any).
 *   - counts that change from step to step (rows, context lengths) are read from device memory
 * where a graph replays the launch; the grid is then sized for the largest.
 *
 * The paged cache, as kernels see it. A page holds AGON_CUDA_PAGE positions of one sequence, in all
 * layers; a page's number is its index in the pools of every layer. For one layer:
 *   latents  entry of (page p, slot s) at latents + ((size_t)p * AGON_CUDA_PAGE + s) * entry_bytes:
 *            AGON_LATENT_F32   float    [kv_lora + rope_dim]
 *            AGON_LATENT_BF16  uint16_t [kv_lora + rope_dim]
 *            AGON_LATENT_FP8   kv_lora e4m3, then kv_lora / 128 floats (scales, powers of two, one
 * for 128 values), then rope_dim bf16: 656 bytes for 512 + 64 (FlashMLA's layout) keys
 * AGON_KEYS_F32     float [page][AGON_CUDA_PAGE][index_dim] AGON_KEYS_FP8     [page]:
 * AGON_CUDA_PAGE * index_dim e4m3, then AGON_CUDA_PAGE floats (scales): 8,448 bytes for 128
 * (DeepGEMM's layout) A position's slot number is page * AGON_CUDA_PAGE + slot: what selections for
 * attention hold (int32, -1: none). Page tables: int32_t pages[n_sequences][ld_pages]. A row of a
 * batch is (sequence, position): int32_t row_sequence[n_rows], row_position[n_rows]; it sees
 * positions 0..position of its sequence.
 */
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { AGON_CUDA_PAGE = 64 };
enum agon_latent_format { AGON_LATENT_F32, AGON_LATENT_BF16, AGON_LATENT_FP8 };
enum agon_keys_format { AGON_KEYS_F32, AGON_KEYS_FP8 };

/* Bytes of one latent entry, and of the index keys of one page. */
size_t agon_latent_bytes(enum agon_latent_format format, int kv_lora, int rope_dim);
size_t agon_keys_page_bytes(enum agon_keys_format format, int index_dim);

struct agon_cuda_info {
    char name[128];
    int n_devices, n_multiprocessors, capability; /* 90 for Hopper */
    size_t memory, memory_free, l2_bytes;
};
/* Make `device` (0, 1, ...) the calling thread's and tell what it is. AGON_EDEVICE: no driver, no
 * such device, or one that sm_90a code does not run on. */
int agon_cuda_open(struct agon_cuda_info *ret, int device, struct agon_err *err);

/* Device memory; *ret is NULL for 0 bytes. AGON_ENOMEM where the device has too little. */
int agon_cuda_alloc(void **ret, size_t bytes, struct agon_err *err);
void agon_cuda_free(void *p);
/* Page-locked host memory, for copies that overlap with kernels. */
int agon_cuda_host_alloc(void **ret, size_t bytes, struct agon_err *err);
void agon_cuda_host_free(void *p);

/* Copies in stream order; kind is told by the pointers. Asynchronous for page-locked memory. */
int agon_cuda_copy(void *to, const void *from, size_t bytes, void *stream, struct agon_err *err);
/* n_rows times `bytes`, on either side ld bytes apart. */
int agon_cuda_copy_rows(void *to, const void *from, size_t ld, size_t bytes, size_t n_rows,
                        void *stream, struct agon_err *err);
int agon_cuda_set(void *to, int byte, size_t bytes, void *stream, struct agon_err *err);

int agon_cuda_stream_new(void **ret, struct agon_err *err);
void agon_cuda_stream_free(void *stream);
/* Wait for all that stream holds; the place where errors of kernels appear. */
int agon_cuda_sync(void *stream, struct agon_err *err);
/* Is it all done? Does not wait. */
int agon_cuda_done(bool *ret, void *stream, struct agon_err *err);

/* Graphs: what is launched in stream between begin and end is recorded, not run. */
int agon_cuda_graph_begin(void *stream, struct agon_err *err);
int agon_cuda_graph_end(void **ret, void *stream, struct agon_err *err);
int agon_cuda_graph_run(void *graph, void *stream, struct agon_err *err);
void agon_cuda_graph_free(void *graph);

/* Events, for timing on the device. */
int agon_cuda_event_new(void **ret, struct agon_err *err);
int agon_cuda_event_record(void *event, void *stream, struct agon_err *err);
/* Wait until what stood before the event in its stream is done. */
int agon_cuda_event_wait(void *event, struct agon_err *err);
/* Waits for `end`. Milliseconds from begin to end. */
int agon_cuda_event_ms(float *ret, void *begin, void *end, struct agon_err *err);
void agon_cuda_event_free(void *event);

#ifdef __cplusplus
}
#endif
