#pragma once
/*
 * tokenizer.json: byte-level BPE with its pre-tokenizer and added tokens.
 *
 * Text is trusted or not. In trusted text the added tokens (special or not) are matched on the
 * raw bytes, leftmost and longest first, before everything else. In untrusted text none of
 * them is: whatever it spells becomes plain BPE of its characters, and loading refuses a file
 * in which BPE itself could arrive at an added token. No BOS is added to either.
 *
 * Time is near linear in the text for any text with the patterns in use; a hostile file's pattern
 * is stopped after 5 s, and 20 s more for each megabyte of text. A file that this cannot do exactly as the
 * tokenizers library does is refused with the reason.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

/* A growing list of ids; its first failure sticks, as in agon_buf. */
struct agon_ids {
    int *data; /* owned */
    size_t n, capacity, n_max;
    bool failed;
};
#define AGON_IDS(max)  \
    {                  \
        .n_max = (max) \
    }
void agon_ids_deinit(struct agon_ids *ids);
void agon_ids_add(struct agon_ids *ids, int id);

struct agon_tokenizer;

/* DIR/tokenizer.json; every id must be below n_vocab. */
int agon_tokenizer_load(struct agon_tokenizer **ret, const char *dir, int n_vocab,
                        struct agon_err *err) AGON_MUST_USE;
int agon_tokenizer_parse(struct agon_tokenizer **ret, struct agon_str json, int n_vocab,
                         struct agon_err *err) AGON_MUST_USE;
void agon_tokenizer_free(struct agon_tokenizer *t);
AGON_DEFINE_FREEP(struct agon_tokenizer, agon_tokenizer_free)

/* Ids are 0 .. size - 1, without gaps. */
int agon_tokenizer_size(const struct agon_tokenizer *t);
/* The added token that is spelled exactly so, or -1. */
int agon_tokenizer_added(const struct agon_tokenizer *t, struct agon_str text);
/* The bytes of an id, borrowed; empty where there is no such id. */
struct agon_str agon_tokenizer_text(const struct agon_tokenizer *t, int id);

/* Append the ids of text. AGON_EINPUT where it is no UTF-8 or a pattern of the pre-tokenizer
 * gives up on it; AGON_ENOMEM where ids is full. */
int agon_tokenizer_encode(const struct agon_tokenizer *t, struct agon_str text, bool trusted,
                          struct agon_ids *ids, struct agon_err *err) AGON_MUST_USE;
/* Append the bytes of ids, special ones included; the whole need not be UTF-8. AGON_EINPUT for
 * an id that does not exist. */
int agon_tokenizer_decode(const struct agon_tokenizer *t, const int *ids, size_t n,
                          struct agon_buf *text, struct agon_err *err) AGON_MUST_USE;
