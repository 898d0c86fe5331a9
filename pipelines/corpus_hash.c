/*
 * The digest of a corpus: see corpus.h. Tables in order of name, rows in order of
 * all their columns' values, each value as a JSON literal. Tables whose name begins
 * with timing_ do not count, nor does what SQLite keeps for itself.
 */
#include "base/buf.h"
#include "base/json.h"
#include "base/sha256.h"
#include "envs/env.h"
#include "pipelines/corpus_internal.h"

#include <sqlite3.h>
#include <stdlib.h>

enum { ROW_BYTES_MAX = 512 << 20, COLUMNS_MAX = 64 };

typedef int line_fn(void *user, struct agon_str text);

/* SELECT * of a table, ordered by its primary key. */
static int dump_query(struct agon_query **ret, struct agon_corpus *c, const char *table,
                      int *ret_n_columns, struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, c->db,
                           "SELECT name FROM pragma_table_info(?1) ORDER BY pk = 0, pk, cid", err);
    if (r)
        return r;
    agon_query_text(q, 1, table);
    agon_buf_addf(&sql, "SELECT * FROM \"%s\" ORDER BY ", table);
    int n = 0;
    while ((r = agon_query_next(q, err)) == AGON_ROW)
        agon_buf_addf(&sql, "%s\"%s\"", n++ ? ", " : "", agon_query_get_text(q, 0));
    if (r < 0 || (r = agon_buf_check(&sql, "dump", err)))
        return r;
    *ret_n_columns = n;
    return agon_query_new(ret, c->db, agon_buf_text(&sql), err);
}

static int dump_table(struct agon_corpus *c, const char *table, line_fn *line, void *user,
                      struct agon_err *err)
{
    int n = 0;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(ROW_BYTES_MAX);
    int r = dump_query(&q, c, table, &n, err);
    if (r)
        return r;
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        agon_buf_reset(&b);
        agon_buf_adds(&b, table);
        for (int i = 0; i < n; i++) {
            agon_buf_adds(&b, i ? ", " : ": ");
            if (agon_query_is_null(q, i))
                agon_buf_adds(&b, "null");
            else
                agon_json_dump_string(&b, agon_query_get_str(q, i));
        }
        agon_buf_addc(&b, '\n');
        if ((r = agon_buf_check(&b, "dump", err)) || (r = line(user, agon_buf_str(&b))))
            return r;
    }
    return r;
}

int agon_corpus_dump(struct agon_corpus *c, line_fn *line, void *user, struct agon_err *err)
{
    struct agon_txn snapshot AGON_AUTO(agon_txn_end) = {0};
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, c->db,
                           "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB "
                           "'timing_*' AND name NOT GLOB 'sqlite_*' ORDER BY name",
                           err);
    if (r || (r = agon_store_exec(c->db, "BEGIN", err)))
        return r;
    snapshot.db = c->db;
    while ((r = agon_query_next(q, err)) == AGON_ROW)
        if ((r = dump_table(c, agon_query_get_text(q, 0), line, user, err)))
            return r;
    return r;
}

static int hash_line(void *user, struct agon_str text)
{
    agon_sha256_add(user, text.data, text.size);
    return 0;
}

int agon_corpus_hash(struct agon_corpus *c, char ret_hex[65], struct agon_err *err)
{
    struct agon_sha256 hash;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    agon_sha256_init(&hash);
    int r = agon_corpus_dump(c, hash_line, &hash, err);
    if (r || (r = agon_query_new(
                  &q, c->db, "SELECT id FROM environments WHERE status = 'kept' ORDER BY id", err)))
        return r;
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        char path[4096], hex[AGON_SHA256_HEX];
        const char *id = agon_query_get_text(q, 0);
        if ((r = agon_corpus_path(c, "environments", id, NULL, path, err)) ||
            (r = agon_env_digest(path, hex, err)))
            return agon_err_in(err, r, "environment '%s'", id);
        agon_sha256_add(&hash, id, strlen(id) + 1);
        agon_sha256_add(&hash, hex, AGON_SHA256_HEX);
    }
    if (r < 0)
        return r;
    agon_sha256_hex(&hash, ret_hex);
    return 0;
}
