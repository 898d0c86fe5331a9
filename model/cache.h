#pragma once
/*
 * The paged cache: for each position, of every layer, the latent entry (normed c, then the
 * rotated k_pe) and the indexer's key. Pages hold AGON_PAGE positions and are shared by
 * reference between sequences that have the same past; a page that more than one holds is
 * never written.
 *
 * Layout of a page, for each layer: entries [AGON_PAGE][entry_dim], zero-padded, then index
 * keys [index_dim][AGON_PAGE], transposed as the indexer's kernel reads them. Behind the layers
 * stands what is recorded of each position, if anything is: that way it is there for every
 * sequence that shares the page, however the position came to be computed.
 *   experts   uint16_t [AGON_PAGE][n_sparse][top_k]
 *   selected  int32_t [AGON_PAGE][n_indexers][index_topk], ascending, then -1
 *
 * Where something else than this process' memory holds the positions (a GPU), the cache counts
 * pages and gives them numbers; they have no data here.
 */
#include "base/mem.h"
#include "model/config.h"

#include <stdint.h>

enum { AGON_PAGE = AGON_PANEL };

struct agon_page {
    int n_refs, number; /* number: from 0, in the order in which pages were made */
    float *data;
    struct agon_page *next_free;
};

struct agon_cache {
    int page;                            /* positions of a page */
    int entry_dim, value_dim, index_dim; /* dims padded to AGON_PANEL; value_dim: c's part */
    size_t layer_floats, page_floats;
    int n_experts, n_selected;      /* recorded of a position; 0: not recorded */
    size_t experts_at, selected_at; /* in floats */
    size_t n_pages, n_pages_max, n_free;
    bool numbers_only;
    struct agon_page *free;
    struct cache_slab *slabs; /* owned */
};

/* bytes_max bounds the pages; memory is taken as they are first used. With record_routing and
 * record_indexer, pages have room for these. */
void agon_cache_init(struct agon_cache *c, const struct agon_config *config, size_t bytes_max,
                     bool record_routing, bool record_indexer);
/* n_pages pages of `page` positions, whose data stand elsewhere, at their numbers. */
void agon_cache_init_numbers(struct agon_cache *c, int page, size_t n_pages);
void agon_cache_deinit(struct agon_cache *c);
/* A page with one reference, or NULL where bytes_max or memory is exhausted. */
struct agon_page *agon_cache_take(struct agon_cache *c);
void agon_page_unref(struct agon_cache *c, struct agon_page *page);
/* How many more pages agon_cache_take() may give. */
size_t agon_cache_left(const struct agon_cache *c);

static inline float *agon_page_entry(const struct agon_cache *c, const struct agon_page *page,
                                     int layer, int slot)
{
    return page->data + (size_t)layer * c->layer_floats + (size_t)(slot * c->entry_dim);
}

static inline float *agon_page_keys(const struct agon_cache *c, const struct agon_page *page,
                                    int layer)
{
    return page->data + (size_t)layer * c->layer_floats + (size_t)(AGON_PAGE * c->entry_dim);
}

static inline uint16_t *agon_page_experts(const struct agon_cache *c, const struct agon_page *page,
                                          int slot)
{
    return (uint16_t *)(void *)(page->data + c->experts_at) + (size_t)slot * (size_t)c->n_experts;
}

static inline int32_t *agon_page_selected(const struct agon_cache *c, const struct agon_page *page,
                                          int slot)
{
    return (int32_t *)(void *)(page->data + c->selected_at) + (size_t)slot * (size_t)c->n_selected;
}
