#pragma once
/* Rows over a paged cache for the indexer's tests and benchmarks: page tables whose pages are
 * shuffled, and shared as far as sequences have a prefix in common. */
#include "kernels/cuda_indexer.h"
#include "tests/gpu/gpu.h"

struct paged {
    int n_rows, n_sequences, n_pages, ld_pages;
    int32_t *row_sequence, *row_position, *pages; /* owned */
    struct gpu_buffer d_sequence, d_position, d_pages;
    struct agon_cuda_rows rows;
};

static inline void paged_free(struct paged *p)
{
    free(p->row_sequence), free(p->row_position), free(p->pages);
    gpu_buffer_free(&p->d_sequence), gpu_buffer_free(&p->d_position), gpu_buffer_free(&p->d_pages);
}
#define PAGED_AUTO __attribute__((cleanup(paged_free))) struct paged

/* Put the host's arrays on the device, as they are now. */
static inline void paged_upload(struct paged *p)
{
    gpu_buffer_free(&p->d_sequence), gpu_buffer_free(&p->d_position), gpu_buffer_free(&p->d_pages);
    p->d_sequence = gpu_upload(p->row_sequence, (size_t)p->n_rows * sizeof(int32_t));
    p->d_position = gpu_upload(p->row_position, (size_t)p->n_rows * sizeof(int32_t));
    p->d_pages = gpu_upload(p->pages, (size_t)(p->n_sequences * p->ld_pages) * sizeof(int32_t));
    int n_max = 0;
    for (int r = 0; r < p->n_rows; r++)
        n_max = p->row_position[r] + 1 > n_max ? p->row_position[r] + 1 : n_max;
    p->rows = (struct agon_cuda_rows){.n_rows = p->n_rows,
                                      .n_max = n_max,
                                      .row_sequence = p->d_sequence.p,
                                      .row_position = p->d_position.p,
                                      .pages = p->d_pages.p,
                                      .ld_pages = p->ld_pages};
}

/* n_sequences tables of ld_pages each, in shuffled order, the first n_shared entries the same in
 * all; n_rows rows with sequence 0 and position 0, for the caller to set before paged_upload(). */
static inline struct paged paged_new(int n_rows, int n_sequences, int ld_pages, int n_shared)
{
    struct paged p = {.n_rows = n_rows, .n_sequences = n_sequences, .ld_pages = ld_pages};
    n_shared = n_shared < ld_pages ? n_shared : ld_pages;
    p.n_pages = n_shared + n_sequences * (ld_pages - n_shared);
    p.row_sequence = calloc((size_t)n_rows, sizeof(int32_t));
    p.row_position = calloc((size_t)n_rows, sizeof(int32_t));
    p.pages = calloc((size_t)(n_sequences * ld_pages), sizeof(int32_t));
    int32_t *order = malloc((size_t)p.n_pages * sizeof(*order));
    for (int i = 0; i < p.n_pages; i++) {
        int j = random_below(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    int next = n_shared;
    for (int s = 0; s < n_sequences; s++)
        for (int i = 0; i < ld_pages; i++)
            p.pages[s * ld_pages + i] = i < n_shared ? order[i] : order[next++];
    free(order);
    return p;
}

static inline size_t paged_slot(const struct paged *p, int row, int position)
{
    int page = p->pages[p->row_sequence[row] * p->ld_pages + position / AGON_CUDA_PAGE];
    return (size_t)page * AGON_CUDA_PAGE + (size_t)(position % AGON_CUDA_PAGE);
}
