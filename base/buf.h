#pragma once
/*
 * A growing byte buffer with a maximum given at birth. It stays NUL-terminated.
 * Appending never fails on the spot: the first failure (no memory, or over the
 * maximum) sticks, later appends do nothing, and agon_buf_check() reports it once.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdint.h>

struct agon_buf {
    char *data; /* owned; NULL until the first append */
    size_t size, capacity;
    size_t size_max; /* a limit on content, the final NUL not counted */
    int failed;      /* 0, AGON_EINPUT (over size_max) or AGON_ENOMEM; the first one sticks */
};

#define AGON_BUF(max)     \
    {                     \
        .size_max = (max) \
    }

void agon_buf_deinit(struct agon_buf *b); /* frees; b is empty and usable again */
/* Empty it and forget a failure; keeps the memory. */
void agon_buf_reset(struct agon_buf *b);

void agon_buf_add(struct agon_buf *b, const void *data, size_t size);
void agon_buf_add_str(struct agon_buf *b, struct agon_str s);
void agon_buf_adds(struct agon_buf *b, const char *text);
void agon_buf_addc(struct agon_buf *b, char c);
void agon_buf_addf(struct agon_buf *b, const char *fmt, ...) AGON_PRINTF(2, 3);
void agon_buf_addv(struct agon_buf *b, const char *fmt, va_list ap) AGON_PRINTF(2, 0);
/* size bytes, uninitialised, to be filled by the caller; NULL once failed. */
void *agon_buf_extend(struct agon_buf *b, size_t size);

/* 0, or AGON_ENOMEM with err filled ("what: over N bytes", "what: out of memory"). */
int agon_buf_check(const struct agon_buf *b, const char *what, struct agon_err *err) AGON_MUST_USE;
/* The content as a NUL-terminated string ("" when empty); borrowed from b. */
const char *agon_buf_text(const struct agon_buf *b);
struct agon_str agon_buf_str(const struct agon_buf *b);
/* Take the memory out (caller frees with free()); NULL when failed. Never NULL otherwise. */
char *agon_buf_steal(struct agon_buf *b);
