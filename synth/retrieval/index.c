/* The index: see index.h. */
#include "synth/retrieval/index.h"

#include "base/sha256.h"
#include "base/store.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    INDEX_SNIPPET = 160,
    INDEX_TEXT_KEPT = 4000,
    INDEX_QUERY_WORDS = 24,
    INDEX_WORDS_MAX = 256 << 10
};

struct agon_index {
    struct sqlite3 *db;
    struct agon_query *put, *put_words, *find, *drop_words, *drop;
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS documents(id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, "
    "title TEXT NOT NULL,"
    " text TEXT NOT NULL, is_summary INTEGER NOT NULL, words TEXT NOT NULL, sha256 TEXT NOT NULL, "
    "path TEXT NOT NULL, size "
    "INTEGER NOT NULL,"
    " mtime INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS notes(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    "CREATE VIRTUAL TABLE IF NOT EXISTS fts USING fts5(title, words, content='documents', "
    "content_rowid='id',"
    " tokenize='unicode61 remove_diacritics 2');";

int agon_index_open(struct agon_index **ret, const char *path, struct agon_err *err)
{
    struct agon_index *ix AGON_AUTO(agon_index_closep) = calloc(1, sizeof(*ix));
    if (!ix)
        return agon_fail(err, AGON_ENOMEM, "index: out of memory");
    int r = agon_store_open(&ix->db, path ? path : ":memory:", AGON_STORE_CREATE, err);
    if (r || (r = agon_store_exec(ix->db, schema, err)) ||
        (r = agon_query_new(&ix->put, ix->db,
                            "INSERT INTO documents(address, title, text, words, sha256, path, "
                            "size, mtime, is_summary)"
                            " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
                            err)) ||
        (r = agon_query_new(&ix->put_words, ix->db,
                            "INSERT INTO fts(rowid, title, words) VALUES(?1, ?2, ?3)", err)) ||
        (r = agon_query_new(
             &ix->find, ix->db,
             "SELECT id, sha256, path, size, mtime, title, words FROM documents WHERE address = ?1",
             err)) ||
        (r = agon_query_new(
             &ix->drop_words, ix->db,
             "INSERT INTO fts(fts, rowid, title, words) VALUES('delete', ?1, ?2, ?3)", err)) ||
        (r = agon_query_new(&ix->drop, ix->db, "DELETE FROM documents WHERE id = ?1", err)))
        return agon_err_in(err, r, "index %s", path ? path : "");
    *ret = AGON_STEAL(ix);
    return 0;
}

void agon_index_close(struct agon_index *ix)
{
    if (!ix)
        return;
    agon_query_free(ix->put);
    agon_query_free(ix->put_words);
    agon_query_free(ix->find);
    agon_query_free(ix->drop_words);
    agon_query_free(ix->drop);
    agon_store_close(ix->db);
    free(ix);
}

int agon_index_begin(struct agon_index *ix, struct agon_err *err)
{
    return agon_store_exec(ix->db, "BEGIN IMMEDIATE", err);
}

int agon_index_commit(struct agon_index *ix, struct agon_err *err)
{
    struct agon_txn txn = {ix->db};
    return agon_txn_commit(&txn, err);
}

/* ---- words */

static bool is_cjk(uint32_t c)
{
    return (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7AF);
}

/* One character of valid UTF-8; a broken byte is taken as it is. */
static size_t next_char(struct agon_str s, size_t at, uint32_t *ret)
{
    unsigned char c = (unsigned char)s.data[at];
    size_t n = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (at + n > s.size)
        n = 1;
    *ret = n == 1 ? c : c & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        *ret = *ret << 6 | ((unsigned char)s.data[at + i] & 0x3F);
    return n;
}

/* Copy text with each run of CJK characters written as its overlapping pairs. */
static void add_words(struct agon_buf *b, struct agon_str s)
{
    size_t previous = SIZE_MAX; /* where the CJK character before this one begins */
    bool paired = false;
    uint32_t c;
    for (size_t i = 0, n; i < s.size; i += n) {
        n = next_char(s, i, &c);
        if (!is_cjk(c)) {
            if (previous != SIZE_MAX && !paired)
                agon_buf_add(b, s.data + previous, i - previous);
            if (previous != SIZE_MAX)
                agon_buf_addc(b, ' ');
            previous = SIZE_MAX;
            agon_buf_add(b, s.data + i, n);
            continue;
        }
        paired = previous != SIZE_MAX;
        agon_buf_adds(b, paired ? "" : " ");
        if (paired) {
            agon_buf_add(b, s.data + previous, i + n - previous);
            agon_buf_addc(b, ' ');
        }
        previous = i;
    }
    if (previous != SIZE_MAX && !paired)
        agon_buf_add(b, s.data + previous, s.size - previous);
}

/* ---- entries */

static int drop_entry(struct agon_index *ix, const char *address, struct agon_err *err)
{
    agon_query_text(ix->find, 1, address);
    int r = agon_query_next(ix->find, err);
    if (r != AGON_ROW)
        return r;
    int64_t id = agon_query_get_int(ix->find, 0);
    agon_query_int(ix->drop_words, 1, id);
    agon_query_text(ix->drop_words, 2, agon_query_get_text(ix->find, 5));
    agon_query_text(ix->drop_words, 3, agon_query_get_text(ix->find, 6));
    agon_query_reset(ix->find);
    if ((r = agon_query_run(ix->drop_words, err)))
        return r;
    agon_query_int(ix->drop, 1, id);
    return agon_query_run(ix->drop, err);
}

int agon_index_remove(struct agon_index *ix, const char *address, struct agon_err *err)
{
    return drop_entry(ix, address, err);
}

static struct agon_str cut(struct agon_str s, size_t size_max)
{
    if (s.size <= size_max)
        return s;
    s.size = size_max;
    while (s.size && ((unsigned char)s.data[s.size] & 0xC0) == 0x80)
        s.size--;
    return s;
}

int agon_index_put(struct agon_index *ix, const struct agon_index_entry *e, struct agon_err *err)
{
    struct agon_buf words = AGON_BUF(INDEX_WORDS_MAX * 2), title = AGON_BUF(64 << 10);
    add_words(&words, cut(e->text, INDEX_WORDS_MAX / 2));
    add_words(&title, cut(agon_str(e->title), 1000));
    int r = agon_buf_check(&words, "index", err);
    if (!r)
        r = drop_entry(ix, e->address, err);
    if (!r) {
        agon_query_text(ix->put, 1, e->address);
        agon_query_text(ix->put, 2, agon_buf_text(&title));
        agon_query_str(ix->put, 3,
                       cut(e->summary ? agon_str(e->summary) : e->text, INDEX_TEXT_KEPT));
        agon_query_int(ix->put, 9, e->summary != NULL);
        agon_query_text(ix->put, 4, agon_buf_text(&words));
        agon_query_text(ix->put, 5, e->sha256);
        agon_query_text(ix->put, 6, e->path);
        agon_query_int(ix->put, 7, e->size);
        agon_query_int(ix->put, 8, e->mtime);
        r = agon_query_next(ix->put, err);
        int64_t id = r == AGON_ROW ? agon_query_get_int(ix->put, 0) : 0;
        agon_query_reset(ix->put);
        if (r == AGON_ROW) {
            agon_query_int(ix->put_words, 1, id);
            agon_query_text(ix->put_words, 2, agon_buf_text(&title));
            agon_query_text(ix->put_words, 3, agon_buf_text(&words));
            r = agon_query_run(ix->put_words, err);
        }
    }
    agon_buf_deinit(&words);
    agon_buf_deinit(&title);
    return r < 0 ? agon_err_in(err, r, "index: '%s'", e->address) : 0;
}

int agon_index_find(struct agon_index *ix, const char *address, struct agon_index_facts *ret,
                    struct agon_err *err)
{
    agon_query_text(ix->find, 1, address);
    int r = agon_query_next(ix->find, err);
    if (r == AGON_ROW) {
        snprintf(ret->sha256, sizeof(ret->sha256), "%s", agon_query_get_text(ix->find, 1));
        snprintf(ret->path, sizeof(ret->path), "%s", agon_query_get_text(ix->find, 2));
        ret->size = agon_query_get_int(ix->find, 3);
        ret->mtime = agon_query_get_int(ix->find, 4);
        snprintf(ret->title, sizeof(ret->title), "%s", agon_query_get_text(ix->find, 5));
        agon_query_reset(ix->find);
        return 1;
    }
    return r;
}

/* ---- search */

static size_t word_size(const char *w)
{
    size_t size = 0;
    while (isalnum((unsigned char)w[size]) || (unsigned char)w[size] >= 0x80)
        size++;
    return size;
}

/*
 * Words of the query, each quoted (so that nothing in it is FTS5 syntax), any of
 * them; and what stands between spaces as a phrase too: "3166-1" is more than 3166 and 1.
 */
static int match_of(const char *query, struct agon_buf *match)
{
    struct agon_buf words = AGON_BUF(8192);
    add_words(&words, cut(agon_str(query), 2000));
    int n = 0;
    const char *w = agon_buf_text(&words);
    while (*w && n < INDEX_QUERY_WORDS) {
        size_t part = strcspn(w, " \t\r\n"), first = word_size(w);
        if (part == 0) {
            w++;
            continue;
        }
        if (first && first < part) {
            agon_buf_adds(match, n++ ? " OR \"" : "\"");
            for (size_t i = 0; i < part; i++)
                agon_buf_addc(match, word_size(w + i) ? w[i] : ' ');
            agon_buf_addc(match, '"');
        }
        for (size_t i = 0, size; i < part; i += size ? size : 1) {
            if (!(size = word_size(w + i)))
                continue;
            agon_buf_adds(match, n++ ? " OR \"" : "\"");
            agon_buf_add(match, w + i, size);
            agon_buf_addc(match, '"');
        }
        w += part;
    }
    agon_buf_deinit(&words);
    return n;
}

/* The stored text around the first word of the query that occurs in it, on one line. */
static void add_snippet(struct agon_buf *b, const char *text, const char *query)
{
    const char *at = NULL;
    char word[64];
    for (const char *q = query; *q && !at; q += strcspn(q, " ")) {
        q += strspn(q, " ");
        snprintf(word, sizeof(word), "%.*s", (int)strcspn(q, " "), q);
        at = strlen(word) > 2 ? strcasestr(text, word) : NULL;
    }
    size_t from = at && at - text > INDEX_SNIPPET / 3 ? (size_t)(at - text) - INDEX_SNIPPET / 3 : 0;
    while (text[from] && ((unsigned char)text[from] & 0xC0) == 0x80)
        from++;
    struct agon_str s = cut(agon_str(text + from), INDEX_SNIPPET);
    agon_buf_adds(b, from ? "…" : "");
    for (size_t i = 0; i < s.size; i++) {
        bool space = isspace((unsigned char)s.data[i]);
        if (!space || (b->size && b->data[b->size - 1] != ' '))
            agon_buf_addc(b, space ? ' ' : s.data[i]);
    }
    if (from + s.size < strlen(text))
        agon_buf_adds(b, " …");
}

int agon_index_search(struct agon_index *ix, const char *query, int n_max,
                      int (*fn)(void *user, const char *address, const char *title,
                                const char *snippet),
                      void *user, struct agon_err *err)
{
    struct agon_buf match = AGON_BUF(16384);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = 0;
    if (match_of(query, &match) > 0)
        r = agon_query_new(&q, ix->db,
                           "SELECT d.address, d.title, d.text, d.is_summary FROM fts JOIN "
                           "documents d ON d.id = fts.rowid"
                           " WHERE fts MATCH ?1 ORDER BY bm25(fts, 4.0, 1.0), d.address LIMIT ?2",
                           err);
    if (q) {
        agon_query_text(q, 1, agon_buf_text(&match));
        agon_query_int(q, 2, n_max);
        while ((r = agon_query_next(q, err)) == AGON_ROW) {
            struct agon_buf snippet = AGON_BUF(4096);
            if (agon_query_get_int(q, 3))
                agon_buf_adds(&snippet, agon_query_get_text(q, 2));
            else
                add_snippet(&snippet, agon_query_get_text(q, 2), query);
            r = fn(user, agon_query_get_text(q, 0), agon_query_get_text(q, 1),
                   agon_buf_text(&snippet));
            agon_buf_deinit(&snippet);
            if (r)
                break;
        }
    }
    agon_buf_deinit(&match);
    return r;
}

/* ---- facts about the whole */

int agon_index_count(struct agon_index *ix, int64_t *ret_n, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, ix->db, "SELECT count(*) FROM documents", err);
    if (!r && (r = agon_query_next(q, err)) == AGON_ROW)
        *ret_n = agon_query_get_int(q, 0);
    return r < 0 ? r : 0;
}

int agon_index_digest(struct agon_index *ix, char ret_hex[65], struct agon_err *err)
{
    struct agon_sha256 h;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, ix->db, "SELECT address, sha256 FROM documents ORDER BY address", err);
    agon_sha256_init(&h);
    while (!r && (r = agon_query_next(q, err)) == AGON_ROW) {
        struct agon_str address = agon_query_get_str(q, 0), sha = agon_query_get_str(q, 1);
        agon_sha256_add(&h, address.data, address.size + 1); /* SQLite ends its text in NUL */
        agon_sha256_add(&h, sha.data, sha.size + 1);
        r = 0;
    }
    agon_sha256_hex(&h, ret_hex);
    return r;
}

int agon_index_note(struct agon_index *ix, const char *key, const char *value, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, ix->db, "INSERT OR REPLACE INTO notes VALUES(?1, ?2)", err);
    if (r)
        return r;
    agon_query_text(q, 1, key);
    agon_query_text(q, 2, value);
    return agon_query_run(q, err);
}

int agon_index_get_note(struct agon_index *ix, const char *key, struct agon_buf *value,
                        struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, ix->db, "SELECT value FROM notes WHERE key = ?1", err);
    if (r)
        return r;
    agon_query_text(q, 1, key);
    if ((r = agon_query_next(q, err)) == AGON_ROW)
        agon_buf_adds(value, agon_query_get_text(q, 0));
    return r < 0 ? r : 0;
}
