#pragma once
/*
 * JSON of moderate size through jansson, with the rules that hold everywhere in
 * agon: UTF-8, duplicate keys refused, depth limited, no NaN or infinity, and
 * one canonical writing: what Python's json.dumps(v, ensure_ascii=False) gives
 * (separators ", " and ": ", shortest round-trip floats that keep ".0").
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/text.h"

#include <jansson.h>

enum { AGON_JSON_DEPTH_MAX = 64 };

/* Parse one value and nothing after it. *ret is a new reference. AGON_EINPUT
 * with "line 3 column 7: ..." where the text is no JSON. \u0000 is refused, so
 * every string is a C string; so are integers beyond 64 bits. */
int agon_json_parse(json_t **ret, struct agon_str text, struct agon_err *err) AGON_MUST_USE;
int agon_json_load_file(json_t **ret, const char *path, size_t size_max,
                        struct agon_err *err) AGON_MUST_USE;
/* Append the canonical writing (keys in their order) to b. */
void agon_json_dump(struct agon_buf *b, const json_t *value);
/* The same with keys sorted bytewise, for hashing. */
void agon_json_dump_sorted(struct agon_buf *b, const json_t *value);
/* Append one JSON string literal, quotes included. Invalid UTF-8 bytes become U+FFFD. */
void agon_json_dump_string(struct agon_buf *b, struct agon_str s);
/* Append a double as Python's repr() writes it (1.0, 0.1, 1e-05, 1e+16); NaN
 * and infinity, which JSON cannot say, become null. */
void agon_json_dump_real(struct agon_buf *b, double value);
/* Rewrite JSON text in the canonical writing without going through numbers:
 * integers of any size survive verbatim, duplicate keys keep the last value at
 * the first place (a Python dict). Text with a lone surrogate (\ud800) is
 * written in ASCII, all else as \uXXXX. AGON_EINPUT where text is no JSON; b is
 * then as before. Nested over AGON_JSON_DEPTH_MAX deep is refused too. */
int agon_json_rewrite(struct agon_buf *b, struct agon_str text, struct agon_err *err) AGON_MUST_USE;
/* A borrowed string field, or dflt where it is absent or no string. */
const char *agon_json_text(const json_t *object, const char *key, const char *dflt);
