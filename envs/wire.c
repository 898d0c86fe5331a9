/* Messages between driver and cell: see wire.h. */
#include "envs/wire.h"

#include <endian.h>
#include <limits.h>

void agon_wire_add_int(struct agon_buf *b, int64_t value)
{
    uint64_t bytes = htole64((uint64_t)value);
    agon_buf_add(b, &bytes, sizeof(bytes));
}

void agon_wire_add_str(struct agon_buf *b, struct agon_str s)
{
    agon_wire_add_int(b, (int64_t)s.size);
    agon_buf_add_str(b, s);
}

size_t agon_wire_begin_str(struct agon_buf *b)
{
    agon_wire_add_int(b, 0);
    return b->size;
}

void agon_wire_end_str(struct agon_buf *b, size_t at)
{
    uint64_t bytes = htole64((uint64_t)(b->size - at));
    if (!b->failed)
        memcpy(b->data + at - sizeof(bytes), &bytes, sizeof(bytes));
}

void agon_wire_add_text(struct agon_buf *b, const char *text)
{
    agon_wire_add_str(b, agon_str(text ? text : ""));
}

struct agon_wire agon_wire_of(struct agon_str s)
{
    return (struct agon_wire){.at = s.data, .end = s.data + s.size};
}

int64_t agon_wire_int(struct agon_wire *w)
{
    uint64_t bytes;
    if (w->bad || (size_t)(w->end - w->at) < sizeof(bytes)) {
        w->bad = true;
        return 0;
    }
    memcpy(&bytes, w->at, sizeof(bytes));
    w->at += sizeof(bytes);
    return (int64_t)le64toh(bytes);
}

struct agon_str agon_wire_str(struct agon_wire *w)
{
    int64_t size = agon_wire_int(w);
    if (w->bad || size < 0 || size > w->end - w->at) {
        w->bad = true;
        return agon_str("");
    }
    struct agon_str s = {w->at, (size_t)size};
    w->at += size;
    return s;
}

int agon_wire_count(struct agon_wire *w)
{
    int64_t n = agon_wire_int(w);
    if (w->bad || n < 0 || n > w->end - w->at || n > INT_MAX) {
        w->bad = true;
        return 0;
    }
    return (int)n;
}

int agon_wire_end(const struct agon_wire *w, const char *what, struct agon_err *err)
{
    if (w->bad)
        return agon_fail(err, AGON_EINPUT, "%s: the message is cut short", what);
    if (w->at != w->end)
        return agon_fail(err, AGON_EINPUT, "%s: %zu bytes too many", what,
                         (size_t)(w->end - w->at));
    return 0;
}
