/*
 * See random.h. The list of tensors is made first, cut into shards of about equal size, and each
 * shard is written from begin to end.
 */
#include "model/random.h"

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "model/jsontext.h"
#include "model/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHARDS_MAX = 1000,
    CHUNK_VALUES = 1 << 20,
    HEADER_BYTES_MAX = 100 << 20,
    COPY_BYTES_MAX = 128 << 20,
};

struct item {
    char *name; /* owned */
    enum agon_tensor_kind kind;
    enum agon_dtype dtype;
    bool scale; /* of the FP8 matrix before it */
    int n, k;   /* k 0: a vector */
    uint64_t size;
};

struct generator {
    const struct agon_random_options *options;
    struct agon_layout layout;
    const char *dir;
    struct item *items;
    size_t n_items, capacity;
    uint64_t bytes;
    unsigned char *chunk; /* CHUNK_VALUES * 4 */
    struct agon_err *err;
};

/* ---- the list ----------------------------------------------------------------------- */

static int item_add(struct generator *g, struct item item, const char *name)
{
    if (g->n_items == g->capacity) {
        size_t capacity = g->capacity ? 2 * g->capacity : 1024;
        struct item *grown = reallocarray(g->items, capacity, sizeof(*grown));
        if (!grown)
            return agon_fail(g->err, AGON_ENOMEM, "random: out of memory");
        g->items = grown;
        g->capacity = capacity;
    }
    if (!(item.name = strdup(name)))
        return agon_fail(g->err, AGON_ENOMEM, "random: out of memory");
    item.size = (uint64_t)item.n * (uint64_t)(item.k ? item.k : 1) * agon_dtype_size(item.dtype);
    g->items[g->n_items++] = item;
    g->bytes += item.size;
    return 0;
}

static int expected_add(void *user, const struct agon_expected *e)
{
    struct generator *g = user;
    const struct agon_layout *l = &g->layout;
    bool fp8 = e->kind == AGON_KIND_MATRIX && l->config.fp8;
    bool f32 = l->as_f32 || strstr(e->name, "e_score_correction_bias") ||
               ((e->kind == AGON_KIND_NORM || e->kind == AGON_KIND_BIAS) && l->norms_f32);
    struct item item = {.kind = e->kind,
                        .dtype = fp8   ? AGON_E4M3
                                 : f32 ? AGON_F32
                                       : AGON_BF16,
                        .n = e->n,
                        .k = e->k};
    int r = item_add(g, item, e->name);
    if (r || !fp8)
        return r;
    char name[600];
    (void)snprintf(name, sizeof(name), "%s_scale_inv", e->name); /* ours, and short */
    item = (struct item){.kind = e->kind,
                         .dtype = AGON_F32,
                         .scale = true,
                         .n = (e->n + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK,
                         .k = (e->k + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK};
    return item_add(g, item, name);
}

/* The end of the shard that begins at item `first` where n are left for the rest. */
static size_t shard_end(const struct generator *g, size_t first, int n_left)
{
    uint64_t rest = 0, size = 0;
    for (size_t i = first; i < g->n_items; i++)
        rest += g->items[i].size;
    size_t end = first;
    while (end < g->n_items && (n_left == 1 || size < rest / (uint64_t)n_left) &&
           (end == first || g->n_items - end > (size_t)n_left - 1))
        size += g->items[end++].size;
    return end;
}

/* ---- values ------------------------------------------------------------------------- */

/* Codes by a byte of randomness: uniform over -448 .. 448. */
static void codes_fill(uint8_t *to, size_t n, struct agon_rng *rng)
{
    uint8_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = agon_e4m3_encode(((float)i - 127.5F) * (448 / 127.5F));
    for (size_t i = 0; i < n; i += 4) {
        uint32_t bits = agon_rng_u32(rng);
        for (size_t b = 0; b < 4 && i + b < n; b++)
            to[i + b] = table[bits >> (8 * b) & 255];
    }
}

static float value_draw(const struct item *item, float width, struct agon_rng *rng)
{
    float uniform = (float)(agon_rng_u32(rng) >> 8) * 0x1p-23F - 1; /* -1 .. 1 */
    switch (item->kind) {
    case AGON_KIND_NORM: return 1 + 0.1F * uniform;
    case AGON_KIND_BIAS: return 0.1F * uniform;
    case AGON_KIND_MATRIX:
    case AGON_KIND_PLAIN: break;
    }
    return width * uniform;
}

/* n values of an item. Matrices have variance 1 / k, as of a layer at its beginning; the scale of
 * codes is a power of two near to that. */
static void values_fill(unsigned char *to, size_t n, const struct item *item, float width,
                        struct agon_rng *rng)
{
    if (item->dtype == AGON_E4M3) {
        codes_fill(to, n, rng);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float x = item->scale ? agon_ue8m0_round_up(width / 448) : value_draw(item, width, rng);
        uint16_t code = agon_bf16_encode(x);
        if (item->dtype == AGON_F32)
            memcpy(to + 4 * i, &x, sizeof(x));
        else
            memcpy(to + 2 * i, &code, sizeof(code));
    }
}

static int item_write(struct generator *g, FILE *file, const struct item *item, int k)
{
    struct agon_rng root, rng;
    float width = sqrtf(3.0F / (float)(k > 0 ? k : 1));
    uint64_t left = item->size / agon_dtype_size(item->dtype);
    agon_rng_init(&root, g->options->seed);
    rng = agon_rng_split(&root, agon_str(item->name));
    while (left > 0) {
        size_t n = left < CHUNK_VALUES ? (size_t)left : CHUNK_VALUES;
        size_t size = n * agon_dtype_size(item->dtype);
        values_fill(g->chunk, n, item, width, &rng);
        if (fwrite(g->chunk, 1, size, file) != size)
            return agon_fail(g->err, AGON_ESYS, "write: %s", strerror(errno));
        left -= n;
    }
    return 0;
}

/* ---- files -------------------------------------------------------------------------- */

static void shard_name(char name[64], const struct generator *g, int i)
{
    if (g->options->n_shards == 1)
        (void)snprintf(name, 64, "model.safetensors"); /* fits, as below */
    else
        (void)snprintf(name, 64, "model-%05d-of-%06d.safetensors", i + 1, g->options->n_shards);
}

static int path_join(char path[4096], const char *dir, const char *name, struct agon_err *err)
{
    if ((size_t)snprintf(path, 4096, "%s/%s", dir, name) < 4096)
        return 0;
    return agon_fail(err, AGON_EINPUT, "'%.100s...': path too long", dir);
}

static int header_write(struct generator *g, FILE *file, size_t first, size_t end)
{
    struct agon_buf header AGON_AUTO(agon_buf_deinit) = AGON_BUF(HEADER_BYTES_MAX);
    uint64_t at = 0;
    agon_buf_adds(&header, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (size_t i = first; i < end; i++) {
        const struct item *item = &g->items[i];
        agon_buf_addf(&header, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [%d", item->name,
                      agon_dtype_name(item->dtype), item->n);
        if (item->k > 0)
            agon_buf_addf(&header, ", %d", item->k);
        agon_buf_addf(&header, "], \"data_offsets\": [%llu, %llu]}", (unsigned long long)at,
                      (unsigned long long)(at + item->size));
        at += item->size;
    }
    agon_buf_addc(&header, '}');
    while (header.size % 8) /* aligned, as the format's own writer does */
        agon_buf_addc(&header, ' ');
    int r = agon_buf_check(&header, "header", g->err);
    if (r)
        return r;
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)((uint64_t)header.size >> (8 * i));
    return fwrite(prefix, 1, 8, file) == 8 &&
                   fwrite(header.data, 1, header.size, file) == header.size
               ? 0
               : agon_fail(g->err, AGON_ESYS, "write: %s", strerror(errno));
}

static int shard_fill(struct generator *g, FILE *file, size_t first, size_t end)
{
    uint64_t size = 0;
    int r = header_write(g, file, first, end);
    for (size_t i = first; i < end && r == 0; i++) {
        /* a scale's width is that of its matrix, which stands before it */
        const struct item *item = &g->items[i], *matrix = item->scale ? item - 1 : item;
        size += item->size;
        if (!g->options->hollow)
            r = item_write(g, file, item, matrix->k);
    }
    if (r || !g->options->hollow)
        return r;
    if (fflush(file) || ftruncate(fileno(file), (off_t)((uint64_t)ftello(file) + size)))
        return agon_fail(g->err, AGON_ESYS, "truncate: %s", strerror(errno));
    return 0;
}

static int shard_write(struct generator *g, int i, size_t first, size_t end)
{
    char name[64], path[4096];
    shard_name(name, g, i);
    int r = path_join(path, g->dir, name, g->err);
    if (r)
        return r;
    FILE *file = fopen(path, "wxe");
    if (!file)
        return errno == EEXIST ? agon_fail(g->err, AGON_EINPUT,
                                           "%s: exists; name a folder without weights", path)
                               : agon_fail(g->err, AGON_ESYS, "%s: %s", path, strerror(errno));
    r = shard_fill(g, file, first, end);
    if (fclose(file) && r == 0)
        r = agon_fail(g->err, AGON_ESYS, "close: %s", strerror(errno));
    return r ? agon_err_in(g->err, r, "%s", path) : 0;
}

static int copy_file(struct generator *g, const char *from, const char *name)
{
    char path[4096];
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(COPY_BYTES_MAX);
    int r;
    if ((r = agon_file_read(&text, from, COPY_BYTES_MAX, g->err)) ||
        (r = path_join(path, g->dir, name, g->err)))
        return r;
    return agon_file_write(path, agon_buf_str(&text), false, g->err);
}

static int index_write(struct generator *g, const struct agon_buf *map)
{
    char path[4096];
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(HEADER_BYTES_MAX);
    agon_buf_addf(&text, "{\"metadata\": {\"total_size\": %llu}, \"weight_map\": {%s}}\n",
                  (unsigned long long)g->bytes, agon_buf_text(map));
    int r;
    if ((r = agon_buf_check(map, "index", g->err)) ||
        (r = agon_buf_check(&text, "index", g->err)) ||
        (r = path_join(path, g->dir, "model.safetensors.index.json", g->err)))
        return r;
    return agon_file_write(path, agon_buf_str(&text), false, g->err);
}

static int shards_write(struct generator *g)
{
    struct agon_buf map AGON_AUTO(agon_buf_deinit) = AGON_BUF(HEADER_BYTES_MAX);
    size_t first = 0;
    int n = g->options->n_shards, r = 0;
    for (int i = 0; i < n && r == 0; i++) {
        char name[64];
        size_t end = shard_end(g, first, n - i);
        shard_name(name, g, i);
        for (size_t k = first; k < end; k++)
            agon_buf_addf(&map, "%s\"%s\": \"%s\"", k ? ", " : "", g->items[k].name, name);
        r = shard_write(g, i, first, end);
        first = end;
    }
    return r || n == 1 ? r : index_write(g, &map);
}

/* ---- the whole ---------------------------------------------------------------------- */

static int generate(struct generator *g)
{
    const struct agon_random_options *o = g->options;
    json_t *config AGON_AUTO(agon_json_decrefp) = NULL;
    int r;
    if (o->n_shards < 1 || o->n_shards > SHARDS_MAX)
        return agon_fail(g->err, AGON_EINPUT, "shards: %d is not from 1 to %d", o->n_shards,
                         SHARDS_MAX);
    if ((r = agon_json_load_file(&config, o->config_path, COPY_BYTES_MAX, g->err)))
        return r;
    if ((r = agon_layout_of(&g->layout, config, g->err)))
        return agon_err_in(g->err, r, "%s", o->config_path);
    if ((r = agon_layout_each(&g->layout, expected_add, g)))
        return r;
    if ((size_t)o->n_shards > g->n_items)
        return agon_fail(g->err, AGON_EINPUT, "shards: %d for %zu tensors", o->n_shards,
                         g->n_items);
    if (!(g->chunk = malloc((size_t)CHUNK_VALUES * 4)))
        return agon_fail(g->err, AGON_ENOMEM, "random: out of memory");
    if ((r = agon_dir_make(g->dir, g->err)) || (r = shards_write(g)) ||
        (r = copy_file(g, o->config_path, "config.json")))
        return r;
    return o->tokenizer_path ? copy_file(g, o->tokenizer_path, "tokenizer.json") : 0;
}

int agon_random_write(const char *dir, const struct agon_random_options *options,
                      uint64_t *ret_bytes, struct agon_err *err)
{
    struct generator g = {.options = options, .dir = dir, .err = err};
    int r = generate(&g);
    for (size_t i = 0; i < g.n_items; i++)
        free(g.items[i].name);
    free(g.items);
    free(g.chunk);
    if (r == 0)
        *ret_bytes = g.bytes;
    return r;
}
