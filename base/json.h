#pragma once
/*
 * JSON of moderate size, as jansson's values, and its one canonical writing: what
 * Python's json.dumps(v, ensure_ascii=False) gives (separators ", " and ": ",
 * shortest round-trip floats that keep ".0").
 *
 * The rule for what is JSON, wherever it enters agon (arguments, answers, environment
 * files, replies, options, checkpoints; envs/codec.h reads it into Lua under the same):
 *   text       RFC 8259 to the letter, in UTF-8: no byte order mark, comments, trailing
 *              commas, leading zeros, NaN or Infinity; nothing after the value. Invalid
 *              UTF-8, overlong forms and encoded surrogates are refused.
 *   integers   a number without point and exponent; it must fit 64 bits (2^63 is refused,
 *              never rounded). -0 is 0.
 *   floats     all other numbers, also 1.0, 1e3 and -0.0; 1e999 is refused, 1e-999 is 0.0.
 *              1.0 is no integer and 1 is no float: a schema's "integer" takes 1 alone,
 *              "number" both; values compare as numbers where a check compares them.
 *              NaN and infinity never come in and are written as null.
 *   strings    no NUL, raw or as \u0000, so each is a C string; no half of a surrogate pair.
 *   objects    a key stands once; a second one is refused, also when it is spelled otherwise.
 *   limits     AGON_JSON_DEPTH_MAX deep, AGON_JSON_NUMBER_MAX digits, AGON_JSON_VALUES_MAX values
 *              (cells: 32 deep, 100,000 values).
 * What is refused is AGON_EINPUT with its place; a model's text is told to the model. The only
 * reader that bends the rule is agon_json_rewrite(), for texts that are passed on as they are.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/text.h"

#include <jansson.h>

enum {
    AGON_JSON_DEPTH_MAX = 64,
    AGON_JSON_NUMBER_MAX = 400,
    /* An empty list takes some 130 bytes of memory and 3 of text. The largest that is good, the
     * index and tokenizer of V3.2, have under a million. */
    AGON_JSON_VALUES_MAX = 1 << 21,
};

/* Parse one value and nothing after it. *ret is a new reference. AGON_EINPUT
 * with "line 3 column 7: ..." where the text is no JSON under the rule above; the place
 * counts bytes. AGON_ENOMEM when any allocation fails, never a partial value. */
int agon_json_parse(json_t **ret, struct agon_str text, struct agon_err *err) AGON_MUST_USE;
int agon_json_load_file(json_t **ret, const char *path, size_t size_max,
                        struct agon_err *err) AGON_MUST_USE;
/* Append the canonical writing (keys in their order) to b. value NULL: it could not be made for
 * want of memory, and b has failed with AGON_ENOMEM. */
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
/* Is a value equal to this one in the array? */
bool agon_json_array_has(const json_t *array, const json_t *value);
/* A borrowed string field, or dflt where it is absent or no string. */
const char *agon_json_text(const json_t *object, const char *key, const char *dflt);
