#pragma once
/*
 * The paged cache: for each position, of every layer, the latent entry (normed c, then the
 * rotated k_pe) and the indexer's key. Pages hold AGON_PAGE positions and are shared by
 * reference between sequences that have the same past; a page that more than one holds is
 * never written.
 *
 * Layout of a page, for each layer: entries [AGON_PAGE][entry_dim], zero-padded, then index
 * keys [index_dim][AGON_PAGE], transposed as the indexer's kernel reads them.
 */
#include "base/mem.h"
#include "model/config.h"

enum { AGON_PAGE = AGON_PANEL };

struct agon_page {
    int n_refs;
    float *data;
    struct agon_page *next_free;
};

struct agon_cache {
    int entry_dim, value_dim, index_dim; /* dims padded to AGON_PANEL; value_dim: c's part */
    size_t layer_floats, page_floats;
    size_t n_pages, n_pages_max, n_free;
    struct agon_page *free;
    struct cache_slab *slabs; /* owned */
};

/* bytes_max bounds the pages; memory is taken as they are first used. */
void agon_cache_init(struct agon_cache *c, const struct agon_config *config, size_t bytes_max);
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
