#pragma once
/*
 * A full-text index (SQLite FTS5, bm25) over documents: what a run's library and a
 * stage's own documents are searched with. CJK text is indexed as pairs of
 * characters: the stock tokenizers find next to none of its two-character words.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>

struct agon_index;

/* path NULL: in memory. */
int agon_index_open(struct agon_index **ret, const char *path, struct agon_err *err) AGON_MUST_USE;
void agon_index_close(struct agon_index *ix);
AGON_DEFINE_FREEP(struct agon_index, agon_index_close)

struct agon_index_entry {
    const char *address;
    const char *title;
    struct agon_str text; /* words to find it by; the beginning also gives snippets */
    const char *summary;  /* what a hit shows instead of a snippet (a table's columns), or NULL */
    const char *sha256;   /* of the body, or "" where it was not read yet */
    const char *path;     /* where the body is on this machine, or "" */
    int64_t size, mtime;
};
int agon_index_begin(struct agon_index *ix, struct agon_err *err) AGON_MUST_USE;
int agon_index_commit(struct agon_index *ix, struct agon_err *err) AGON_MUST_USE;
/* Add, or replace the entry of the same address. */
int agon_index_put(struct agon_index *ix, const struct agon_index_entry *e,
                   struct agon_err *err) AGON_MUST_USE;
int agon_index_remove(struct agon_index *ix, const char *address,
                      struct agon_err *err) AGON_MUST_USE;
/* 1 with the entry's stored facts copied out (path up to 4096 bytes), 0 when there is none. */
struct agon_index_facts {
    char sha256[65], path[4096], title[256];
    int64_t size, mtime;
};
int agon_index_find(struct agon_index *ix, const char *address, struct agon_index_facts *ret,
                    struct agon_err *err) AGON_MUST_USE;
/* Best first, at most n_max: fn(address, title, snippet); ties by address. */
int agon_index_search(struct agon_index *ix, const char *query, int n_max,
                      int (*fn)(void *user, const char *address, const char *title,
                                const char *snippet),
                      void *user, struct agon_err *err) AGON_MUST_USE;
int agon_index_count(struct agon_index *ix, int64_t *ret_n, struct agon_err *err) AGON_MUST_USE;
/* Digest over (address, sha256) in order of address. */
int agon_index_digest(struct agon_index *ix, char ret_hex[65], struct agon_err *err) AGON_MUST_USE;
/* A small note kept in the index ("crawled http://...": "done"), and its value or "" . */
int agon_index_note(struct agon_index *ix, const char *key, const char *value,
                    struct agon_err *err) AGON_MUST_USE;
int agon_index_get_note(struct agon_index *ix, const char *key, struct agon_buf *value,
                        struct agon_err *err) AGON_MUST_USE;
