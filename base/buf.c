/* Growing buffers: see buf.h. */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

enum { BUF_FIRST = 256 };

void agon_buf_deinit(struct agon_buf *b)
{
    free(b->data);
    *b = (struct agon_buf)AGON_BUF(b->size_max);
}

void agon_buf_reset(struct agon_buf *b)
{
    b->size = 0;
    b->failed = 0;
    if (b->data)
        b->data[0] = '\0';
}

static void *buf_grow(struct agon_buf *b, size_t size)
{
    if (b->failed)
        return NULL;
    if (size > b->size_max - b->size) {
        b->failed = AGON_EINPUT; /* over its maximum */
        return NULL;
    }
    size_t need = b->size + size + 1;
    if (need > b->capacity) {
        size_t capacity = b->capacity ? b->capacity : BUF_FIRST;
        while (capacity < need)
            capacity *= 2;
        char *data = realloc(b->data, capacity);
        if (!data) {
            b->failed = AGON_ENOMEM;
            return NULL;
        }
        b->data = data;
        b->capacity = capacity;
    }
    void *at = b->data + b->size;
    b->size += size;
    b->data[b->size] = '\0';
    return at;
}

/* Most of what is added finds its room. */
static inline void *buf_extend(struct agon_buf *b, size_t size)
{
    size_t room = b->capacity - b->size; /* for a NUL, too, where there is any */
    if (size >= room || size > b->size_max - b->size || b->failed)
        return buf_grow(b, size);
    char *at = b->data + b->size;
    b->size += size;
    at[size] = '\0';
    return at;
}

void *agon_buf_extend(struct agon_buf *b, size_t size)
{
    return buf_extend(b, size);
}

void agon_buf_add(struct agon_buf *b, const void *data, size_t size)
{
    if (size == 0)
        return;
    void *at = buf_extend(b, size);
    if (at)
        memcpy(at, data, size);
}

void agon_buf_add_str(struct agon_buf *b, struct agon_str s)
{
    agon_buf_add(b, s.data, s.size);
}

void agon_buf_adds(struct agon_buf *b, const char *text)
{
    agon_buf_add(b, text, strlen(text));
}

void agon_buf_addc(struct agon_buf *b, char c)
{
    agon_buf_add(b, &c, 1);
}

void agon_buf_addv(struct agon_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *at = n < 0 ? NULL : agon_buf_extend(b, (size_t)n);
    if (at)
        (void)vsnprintf(at, (size_t)n + 1, fmt, ap); /* the size is exact */
}

void agon_buf_addf(struct agon_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    agon_buf_addv(b, fmt, ap);
    va_end(ap);
}

int agon_buf_check(const struct agon_buf *b, const char *what, struct agon_err *err)
{
    if (!b->failed)
        return 0;
    if (b->failed == AGON_EINPUT)
        return agon_fail(err, AGON_ENOMEM, "%s: over %zu bytes", what, b->size_max);
    return agon_fail(err, AGON_ENOMEM, "%s: out of memory", what);
}

const char *agon_buf_text(const struct agon_buf *b)
{
    return b->data ? b->data : "";
}

struct agon_str agon_buf_str(const struct agon_buf *b)
{
    return (struct agon_str){agon_buf_text(b), b->size};
}

char *agon_buf_steal(struct agon_buf *b)
{
    if (b->failed || !agon_buf_extend(b, 0))
        return NULL;
    char *data = AGON_STEAL(b->data);
    agon_buf_deinit(b);
    return data;
}
