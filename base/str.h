#pragma once
/* Text that someone else owns: a pointer and a size, NUL not promised. */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct agon_str {
    const char *data;
    size_t size;
};

static inline struct agon_str agon_str(const char *text)
{
    return (struct agon_str){text, strlen(text)};
}

static inline bool agon_str_equal(struct agon_str a, struct agon_str b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool agon_str_is(struct agon_str a, const char *text)
{
    return agon_str_equal(a, agon_str(text));
}

/* What follows the first n bytes; n <= s.size. */
static inline struct agon_str agon_str_from(struct agon_str s, size_t n)
{
    return (struct agon_str){s.data + n, s.size - n};
}

/* For printf: "%.*s", AGON_STR_ARG(s). */
#define AGON_STR_ARG(s) (int)(s).size, (s).data
