#pragma once
/*
 * UTF-8 (RFC 3629: no overlong forms, no surrogates), and text that is safe to
 * print: model-written text must not be able to move a terminal's cursor.
 */
#include "base/buf.h"
#include "base/str.h"

#include <stdint.h>

/* The code point at *pos, which moves past it; -1 on an invalid byte, past
 * which *pos moves by one. *pos must be below s.size. */
int32_t agon_utf8_next(struct agon_str s, size_t *pos);
/* Append one code point (a Unicode scalar value). */
void agon_utf8_add(struct agon_buf *b, uint32_t code);
bool agon_utf8_valid(struct agon_str s);
/* The longest prefix of at most size_max bytes that splits no UTF-8 sequence. */
struct agon_str agon_utf8_cut(struct agon_str s, size_t size_max);
/* Append s for a person to read: control characters (C0, DEL, C1), bidirectional
 * overrides and invalid bytes become '?'; newline and tab stay where keep_lines,
 * else become a space. */
void agon_text_add_plain(struct agon_buf *b, struct agon_str s, bool keep_lines);
