/* Pages: see cache.h. They come in slabs and go back to a free list. */
#include "model/cache.h"

#include <stdlib.h>
#include <string.h>

enum { SLAB_PAGES = 32 };

struct cache_slab {
    struct cache_slab *next;
    float *data;
    struct agon_page pages[SLAB_PAGES];
};

static int padded(int n)
{
    return (n + AGON_PANEL - 1) / AGON_PANEL * AGON_PANEL;
}

/* Room for n values of `size` bytes a position, behind the page's floats; its place. */
static size_t page_extend(struct agon_cache *c, int n, size_t size)
{
    size_t at = c->page_floats, bytes = (size_t)AGON_PAGE * (size_t)n * size;
    c->page_floats += (bytes + 63) / 64 * 16; /* pages stay multiples of 64 bytes */
    return at;
}

void agon_cache_init(struct agon_cache *c, const struct agon_config *config, size_t bytes_max,
                     bool record_routing, bool record_indexer)
{
    *c = (struct agon_cache){.page = AGON_PAGE,
                             .entry_dim = padded(config->kv_lora + config->rope_dim),
                             .value_dim = padded(config->kv_lora),
                             .index_dim = config->index_dim};
    c->layer_floats = (size_t)AGON_PAGE * (size_t)(c->entry_dim + c->index_dim);
    c->page_floats = c->layer_floats * (size_t)config->n_layers;
    if (record_routing) {
        c->n_experts = agon_config_sparse_layers(config) * config->router.top_k;
        c->experts_at = page_extend(c, c->n_experts, sizeof(uint16_t));
    }
    if (record_indexer) {
        c->n_selected = agon_config_indexers(config) * config->index_topk;
        c->selected_at = page_extend(c, c->n_selected, sizeof(int32_t));
    }
    c->n_pages_max = bytes_max / (c->page_floats * sizeof(float));
}

void agon_cache_init_numbers(struct agon_cache *c, int page, size_t n_pages)
{
    *c = (struct agon_cache){.page = page, .numbers_only = true, .n_pages_max = n_pages};
}

void agon_cache_deinit(struct agon_cache *c)
{
    for (struct cache_slab *slab = c->slabs, *next; slab; slab = next) {
        next = slab->next;
        free(slab->data);
        free(slab);
    }
    *c = (struct agon_cache){0};
}

static bool cache_grow(struct agon_cache *c)
{
    size_t n = c->n_pages_max - c->n_pages < SLAB_PAGES ? c->n_pages_max - c->n_pages : SLAB_PAGES;
    if (n == 0)
        return false;
    struct cache_slab *slab = calloc(1, sizeof(*slab));
    size_t size = n * c->page_floats * sizeof(float); /* a multiple of 64: panels are */
    float *data = slab && !c->numbers_only ? aligned_alloc(64, size) : NULL;
    if (!slab || (!data && !c->numbers_only)) {
        free(slab);
        return false;
    }
    if (data)
        memset(data, 0, size); /* padding stays zero for good */
    slab->data = data;
    slab->next = c->slabs;
    c->slabs = slab;
    for (size_t i = n; i-- > 0;) {
        slab->pages[i].data = data ? data + i * c->page_floats : NULL;
        slab->pages[i].number = (int)(c->n_pages + i);
        slab->pages[i].next_free = c->free;
        c->free = &slab->pages[i];
    }
    c->n_pages += n;
    c->n_free += n;
    return true;
}

struct agon_page *agon_cache_take(struct agon_cache *c)
{
    if (!c->free && !cache_grow(c))
        return NULL;
    struct agon_page *page = c->free;
    c->free = page->next_free;
    c->n_free--;
    page->n_refs = 1;
    return page;
}

void agon_page_unref(struct agon_cache *c, struct agon_page *page)
{
    if (--page->n_refs > 0)
        return;
    page->next_free = c->free;
    c->free = page;
    c->n_free++;
}

size_t agon_cache_left(const struct agon_cache *c)
{
    return c->n_free + (c->n_pages_max - c->n_pages);
}
