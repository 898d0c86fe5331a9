/* Category files: see category.h. */
#include "pipelines/category.h"

#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "envs/schema.h"

#include <ctype.h>
#include <stdlib.h>

enum { FILE_BYTES_MAX = 16 << 20, DESCRIPTION_BYTES_MAX = 1000, ID_BYTES_MAX = 63 };

void agon_categories_deinit(struct agon_categories *c)
{
    for (int i = 0; i < c->n; i++) {
        free(c->items[i].id);
        free(c->items[i].description);
    }
    free(c->items);
    *c = (struct agon_categories){0};
}

static struct agon_str trim(struct agon_str s)
{
    while (s.size > 0 && isspace((unsigned char)s.data[0]))
        s = (struct agon_str){s.data + 1, s.size - 1};
    while (s.size > 0 && isspace((unsigned char)s.data[s.size - 1]))
        s.size--;
    return s;
}

static int categories_push(struct agon_categories *c, struct agon_str id, struct agon_str text,
                           struct agon_err *err)
{
    if (text.size == 0 || text.size > DESCRIPTION_BYTES_MAX)
        return agon_fail(err, AGON_EINPUT, "category '%.*s': a description has 1 to %d bytes",
                         AGON_STR_ARG(id), DESCRIPTION_BYTES_MAX);
    if (!agon_utf8_valid(text) || memchr(text.data, '\0', text.size))
        return agon_fail(err, AGON_EINPUT, "category '%.*s': its description is no UTF-8 text",
                         AGON_STR_ARG(id));
    struct agon_category *items = realloc(c->items, ((size_t)c->n + 1) * sizeof(*items));
    if (!items)
        return agon_fail(err, AGON_ENOMEM, "categories: out of memory");
    c->items = items;
    struct agon_category *item = &items[c->n];
    item->id = strndup(id.data, id.size);
    item->description = strndup(text.data, text.size);
    item->position = c->n++;
    struct agon_err why;
    if (!item->id || !item->description)
        return agon_fail(err, AGON_ENOMEM, "categories: out of memory");
    if (agon_name_check(item->id, &why))
        return agon_fail(err, AGON_EINPUT, "category id '%.80s': %s", item->id, why.text);
    for (int i = 0; i < c->n - 1; i++)
        if (strcmp(items[i].id, item->id) == 0)
            return agon_fail(err, AGON_EINPUT, "category id '%s' stands there twice", item->id);
    return 0;
}

/* An id out of a description: its letters and digits, words joined by "_". */
static struct agon_str id_of(struct agon_str text, char id[ID_BYTES_MAX + 1])
{
    size_t n = 0;
    for (size_t i = 0; i < text.size && n < ID_BYTES_MAX; i++) {
        unsigned char ch = (unsigned char)text.data[i];
        if (ch < 128 && isalnum(ch) && (n > 0 || isalpha(ch)))
            id[n++] = (char)tolower(ch);
        else if (n > 0 && id[n - 1] != '_')
            id[n++] = '_';
    }
    while (n > 0 && id[n - 1] == '_')
        n--;
    return (struct agon_str){id, n};
}

/* Where "id:" ends; 0 where the text begins with no id. */
static size_t id_prefix(struct agon_str line)
{
    size_t n = 0;
    while (n < line.size && (isalnum((unsigned char)line.data[n]) || line.data[n] == '_'))
        n++;
    return n < line.size && line.data[n] == ':' ? n : 0;
}

int agon_categories_add(struct agon_categories *c, const char *text, struct agon_err *err)
{
    char id[ID_BYTES_MAX + 1];
    struct agon_str line = trim(agon_str(text));
    size_t n = id_prefix(line);
    if (n)
        return categories_push(c, (struct agon_str){line.data, n},
                               trim((struct agon_str){line.data + n + 1, line.size - n - 1}), err);
    struct agon_str made = id_of(line, id);
    if (made.size == 0)
        return agon_fail(err, AGON_EINPUT,
                         "category '%.80s': no id can be made of it; write \"id: description\"",
                         text);
    return categories_push(c, made, line, err);
}

static int categories_read_lines(struct agon_categories *c, const char *path, struct agon_str text,
                                 struct agon_err *err)
{
    for (int number = 1; text.size > 0; number++) {
        const char *nl = memchr(text.data, '\n', text.size);
        size_t n = nl ? (size_t)(nl - text.data) : text.size;
        struct agon_str line = trim((struct agon_str){text.data, n});
        n += nl != NULL;
        text = (struct agon_str){text.data + n, text.size - n};
        if (line.size == 0 || line.data[0] == '#')
            continue;
        size_t id = id_prefix(line);
        if (!id)
            return agon_fail(err, AGON_EINPUT,
                             "%s:%d: a line is \"id: description\", this one is \"%.*s\"", path,
                             number, (int)(line.size < 60 ? line.size : 60), line.data);
        struct agon_str rest = {line.data + id + 1, line.size - id - 1};
        int r = categories_push(c, (struct agon_str){line.data, id}, trim(rest), err);
        if (r)
            return agon_err_in(err, r, "%s:%d", path, number);
    }
    return 0;
}

static int categories_read_json(struct agon_categories *c, const char *path, struct agon_str text,
                                struct agon_err *err)
{
    json_auto_t *root = NULL;
    size_t i;
    json_t *item;
    int r = agon_json_parse(&root, text, err);
    if (r)
        return agon_err_in(err, r, "%s", path);
    json_array_foreach(root, i, item)
    {
        const char *id = agon_json_text(item, "id", NULL);
        const char *description = agon_json_text(item, "description", NULL);
        if (!id || !description)
            return agon_fail(err, AGON_EINPUT,
                             "%s: item %zu: a category is {\"id\": ..., \"description\": ...}",
                             path, i);
        if ((r = categories_push(c, agon_str(id), agon_str(description), err)))
            return agon_err_in(err, r, "%s: item %zu", path, i);
    }
    return 0;
}

int agon_categories_read(struct agon_categories *c, const char *path, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_BYTES_MAX);
    int n = c->n, r = agon_file_read(&b, path, FILE_BYTES_MAX, err);
    if (r == AGON_ESYS && err) /* a wrong name on the command line is bad input */
        r = err->code = AGON_EINPUT;
    if (r)
        return agon_err_in(err, r, "categories");
    struct agon_str text = trim(agon_buf_str(&b));
    if (text.size > 0 && text.data[0] == '[')
        r = categories_read_json(c, path, text, err);
    else
        r = categories_read_lines(c, path, agon_buf_str(&b), err);
    if (r == 0 && c->n == n)
        return agon_fail(err, AGON_EINPUT, "%s: no category in it", path);
    return r;
}

void agon_categories_split(struct agon_categories *c, int rank, int n_ranks)
{
    int n = 0;
    for (int i = 0; i < c->n; i++) {
        char hex[AGON_SHA256_HEX];
        agon_sha256_of(agon_str(c->items[i].id), hex);
        hex[8] = '\0'; /* 32 bits are plenty to spread categories */
        if (strtoul(hex, NULL, 16) % (unsigned long)n_ranks == (unsigned long)rank) {
            struct agon_category mine = c->items[i];
            c->items[i] = c->items[n];
            c->items[n++] = mine;
        }
    }
    struct agon_categories rest = {c->items + n, c->n - n};
    for (int i = 0; i < rest.n; i++) {
        free(rest.items[i].id);
        free(rest.items[i].description);
    }
    c->n = n;
}

void agon_categories_digest(const struct agon_categories *c, char ret_hex[65])
{
    struct agon_sha256 hash;
    agon_sha256_init(&hash);
    for (int i = 0; i < c->n; i++) {
        agon_sha256_add(&hash, c->items[i].id, strlen(c->items[i].id) + 1);
        agon_sha256_add(&hash, c->items[i].description, strlen(c->items[i].description) + 1);
    }
    agon_sha256_hex(&hash, ret_hex);
}
