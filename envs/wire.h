#pragma once
/*
 * How requests and replies of the cell's ops are laid out: little-endian numbers
 * and sized byte strings one after another. A reader checks each size against what
 * is left; once something is wrong it stays bad and gives zeros.
 */
#include "base/buf.h"
#include "base/str.h"

#include <stdint.h>

struct agon_wire {
    const char *at, *end; /* borrowed */
    bool bad;
};

void agon_wire_add_int(struct agon_buf *b, int64_t value);
void agon_wire_add_str(struct agon_buf *b, struct agon_str s);
void agon_wire_add_text(struct agon_buf *b, const char *text); /* NULL: "" */
/* A string that is appended to b in between; begin returns where it begins. */
size_t agon_wire_begin_str(struct agon_buf *b);
void agon_wire_end_str(struct agon_buf *b, size_t at);

struct agon_wire agon_wire_of(struct agon_str s);
int64_t agon_wire_int(struct agon_wire *w);
struct agon_str agon_wire_str(struct agon_wire *w); /* borrowed from the message */
/* A count that the rest of the message could hold (each item takes a byte at least). */
int agon_wire_count(struct agon_wire *w);
/* 0, or AGON_EINPUT when something was missing or is left over. */
int agon_wire_end(const struct agon_wire *w, const char *what, struct agon_err *err) AGON_MUST_USE;
