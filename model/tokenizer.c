/* Encoding and decoding: see tokenizer.h. Loading is tokenizer_load.c. */
#include "model/tokenizer.h"

#include "base/text.h"
#include "model/tokenizer_internal.h"

#include <stdlib.h>
#include <xxhash.h>

enum { TEXT_BYTES_MAX = 1 << 30 };

/* ---- ids ---------------------------------------------------------------------------- */

void agon_ids_deinit(struct agon_ids *ids)
{
    free(ids->data);
    *ids = (struct agon_ids)AGON_IDS(ids->n_max);
}

void agon_ids_add(struct agon_ids *ids, int id)
{
    if (ids->failed)
        return;
    if (ids->n == ids->capacity) {
        size_t capacity = ids->capacity ? 2 * ids->capacity : 64;
        int *grown = ids->n < ids->n_max ? realloc(ids->data, capacity * sizeof(*grown)) : NULL;
        if (!grown) {
            ids->failed = true;
            return;
        }
        ids->data = grown;
        ids->capacity = capacity;
    }
    if (ids->n == ids->n_max)
        ids->failed = true;
    else
        ids->data[ids->n++] = id;
}

/* ---- tables ------------------------------------------------------------------------- */

int agon_tokenizer_size(const struct agon_tokenizer *t)
{
    return t->n_tokens;
}

struct agon_str agon_tokenizer_text(const struct agon_tokenizer *t, int id)
{
    if (id < 0 || id >= t->n_tokens)
        return agon_str("");
    return (struct agon_str){t->tokens[id].bytes, t->tokens[id].size};
}

int tokenizer_find(const struct agon_tokenizer *t, struct agon_str bytes)
{
    size_t at = XXH3_64bits(bytes.data, bytes.size) & (t->n_slots - 1);
    for (; t->by_text[at] >= 0; at = (at + 1) & (t->n_slots - 1))
        if (agon_str_equal(agon_tokenizer_text(t, t->by_text[at]), bytes))
            return t->by_text[at];
    return -1;
}

int trie_next(const struct trie *trie, int node, unsigned char byte)
{
    size_t at = ((size_t)node * 257 + byte) * 0x9E3779B1U & (trie->n_slots - 1);
    for (; trie->edges[at].from >= 0; at = (at + 1) & (trie->n_slots - 1))
        if (trie->edges[at].from == node && trie->edges[at].byte == byte)
            return trie->edges[at].to;
    return -1;
}

/* The longest added token that text begins with; *ret_size its length. -1: none. */
static int trie_longest(const struct trie *trie, struct agon_str text, size_t *ret_size)
{
    int node = 0, id = -1;
    for (size_t i = 0; i < text.size; i++) {
        node = trie_next(trie, node, (unsigned char)text.data[i]);
        if (node < 0)
            break;
        if (trie->ids[node] >= 0) {
            id = trie->ids[node];
            *ret_size = i + 1;
        }
    }
    return id;
}

int agon_tokenizer_added(const struct agon_tokenizer *t, struct agon_str text)
{
    size_t size = 0;
    int id = trie_longest(&t->trie, text, &size);
    return size == text.size ? id : -1;
}

/* ---- encoding ----------------------------------------------------------------------- */

struct encoding {
    const struct agon_tokenizer *tokenizer;
    struct split_work split;
    struct bpe_work bpe;
    struct agon_ids *ids;
};

static int encode_piece(void *user, struct agon_str piece, struct agon_err *err)
{
    struct encoding *e = user;
    const struct agon_tokenizer *t = e->tokenizer;
    int id = t->ignore_merges ? tokenizer_find(t, piece) : -1;
    if (id >= 0 && !t->tokens[id].added) {
        agon_ids_add(e->ids, id);
        return 0;
    }
    return bpe_encode(&t->merges, t->byte_ids, &e->bpe, piece, e->ids, err);
}

static int encode_plain(struct encoding *e, struct agon_str text, struct agon_err *err)
{
    if (text.size == 0)
        return 0;
    return split_all(e->tokenizer->splits, e->tokenizer->n_splits, &e->split, text, encode_piece, e,
                     err);
}

static int encode_trusted(struct encoding *e, struct agon_str text, struct agon_err *err)
{
    size_t done = 0, at = 0;
    while (at < text.size) {
        size_t size;
        int id = trie_longest(&e->tokenizer->trie,
                              (struct agon_str){text.data + at, text.size - at}, &size);
        if (id < 0) {
            at++;
            continue;
        }
        int r = encode_plain(e, (struct agon_str){text.data + done, at - done}, err);
        if (r)
            return r;
        agon_ids_add(e->ids, id);
        done = at += size;
    }
    return encode_plain(e, (struct agon_str){text.data + done, text.size - done}, err);
}

int agon_tokenizer_encode(const struct agon_tokenizer *t, struct agon_str text, bool trusted,
                          struct agon_ids *ids, struct agon_err *err)
{
    if (text.size > TEXT_BYTES_MAX)
        return agon_fail(err, AGON_EINPUT, "tokenizer: text over %d bytes", TEXT_BYTES_MAX);
    if (!agon_utf8_valid(text))
        return agon_fail(err, AGON_EINPUT, "tokenizer: the text is not UTF-8");
    struct encoding e = {.tokenizer = t, .ids = ids};
    int r = split_work_init(&e.split, text.size, err);
    if (r == 0)
        r = trusted ? encode_trusted(&e, text, err) : encode_plain(&e, text, err);
    split_work_deinit(&e.split);
    bpe_work_deinit(&e.bpe);
    if (r == 0 && ids->failed)
        return agon_fail(err, AGON_ENOMEM, "tokenizer: more than %zu ids, or out of memory",
                         ids->n_max);
    return r;
}

int agon_tokenizer_decode(const struct agon_tokenizer *t, const int *ids, size_t n,
                          struct agon_buf *text, struct agon_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->n_tokens)
            return agon_fail(err, AGON_EINPUT, "tokenizer: no token has the id %d", ids[i]);
        agon_buf_add_str(text, agon_tokenizer_text(t, ids[i]));
    }
    return agon_buf_check(text, "tokenizer", err);
}
