/*
 * Corpora joined: see merge.h. `merging` stands in the result's meta from the first row to the
 * last: where it is found, a merge was killed, and all is taken out and begun anew.
 */
#include "pipelines/merge.h"

#include "base/file.h"
#include "pipelines/corpus.h"
#include "pipelines/dedup.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct part {
    struct agon_corpus *corpus;
    const char *dir; /* as it was named */
    json_t *config;  /* key -> text */
    long rank, ranks;
};
struct merge {
    struct part *parts;
    int n;
    bool ranks;
    struct agon_corpus *out;
};

static void merge_deinit(struct merge *m)
{
    for (int i = 0; i < m->n; i++) {
        agon_corpus_close(m->parts[i].corpus);
        json_decref(m->parts[i].config);
    }
    free(m->parts);
    agon_corpus_close(m->out);
}

/* ---- what is joined ------------------------------------------------------------ */

static int part_read_config(struct part *p, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(p->corpus),
                           "SELECT substr(key, 8), value FROM meta WHERE key GLOB 'config.*'", err);
    if (r)
        return r;
    if (!(p->config = json_object()))
        return agon_fail(err, AGON_ENOMEM, "merge: out of memory");
    while ((r = agon_query_next(q, err)) == AGON_ROW)
        if (json_object_set_new(p->config, agon_query_get_text(q, 0),
                                json_string(agon_query_get_text(q, 1))))
            return agon_fail(err, AGON_ENOMEM, "merge: out of memory");
    return r;
}

/* A number of the configuration, that every run has. */
static int part_number(const struct part *p, const char *key, long *ret, struct agon_err *err)
{
    const char *text = json_string_value(json_object_get(p->config, key));
    char *end = NULL;
    *ret = text ? strtol(text, &end, 10) : -1;
    if (*ret < 0 || !text || end == text || *end)
        return agon_fail(err, AGON_EINPUT, "'%s': its settings hold no %s: no run made it", p->dir,
                         key);
    return 0;
}

static int part_open(struct part *p, const char *dir, struct agon_err *err)
{
    bool finished, joined;
    p->dir = dir;
    int r = agon_corpus_open_read(&p->corpus, dir, err);
    if (r)
        return r > 0 ? AGON_EINPUT : r;
    if ((r = agon_corpus_marked(p->corpus, "finished", &finished, err)) ||
        (r = agon_corpus_marked(p->corpus, "joined", &joined, err)) ||
        (r = part_read_config(p, err)))
        return r;
    if (!finished)
        return agon_fail(err, AGON_EINPUT,
                         "'%s' is not finished: give the command that began it again, then merge",
                         dir);
    p->ranks = 1;
    if (joined) /* a corpus that was joined before: its runs had different settings */
        return 0;
    return (r = part_number(p, "rank", &p->rank, err)) ? r
                                                       : part_number(p, "ranks", &p->ranks, err);
}

static bool key_is_rank(const char *key)
{
    return strcmp(key, "rank") == 0;
}

/* Ranks of one run: all settings the same but the rank. */
static int ranks_compare(const struct part *a, const struct part *b, struct agon_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(a->config, key, value)
    {
        const char *other = json_string_value(json_object_get(b->config, key));
        if (!key_is_rank(key) && (!other || strcmp(json_string_value(value), other) != 0))
            return agon_fail(err, AGON_EINPUT,
                             "'%s' and '%s' are parts of different runs: %s is %.60s and %.60s",
                             a->dir, b->dir, key, json_string_value(value), other ? other : "none");
    }
    return 0;
}

/* Each rank once. */
static int ranks_check(const struct merge *m, struct agon_err *err)
{
    int r = 0;
    for (int i = 1; i < m->n && !r; i++)
        r = ranks_compare(&m->parts[0], &m->parts[i], err);
    for (int i = 0; i < m->n && !r; i++)
        for (int k = 0; k < i && !r; k++)
            if (m->parts[i].rank == m->parts[k].rank)
                r = agon_fail(err, AGON_EINPUT, "'%s' and '%s' are both rank %ld of %ld",
                              m->parts[k].dir, m->parts[i].dir, m->parts[i].rank,
                              m->parts[i].ranks);
    for (long rank = 0; rank < m->parts[0].ranks && !r; rank++) {
        int at = 0;
        while (at < m->n && m->parts[at].rank != rank)
            at++;
        if (at == m->n)
            r = agon_fail(err, AGON_EINPUT, "rank %ld of %ld is missing: name its corpus too", rank,
                          m->parts[0].ranks);
    }
    return r;
}

static int merge_open_parts(struct merge *m, char *const *dirs, int n, struct agon_err *err)
{
    if (!(m->parts = calloc((size_t)n, sizeof(*m->parts))))
        return agon_fail(err, AGON_ENOMEM, "merge: out of memory");
    for (int i = 0; i < n; i++) {
        m->n = i + 1;
        int r = part_open(&m->parts[i], dirs[i], err);
        if (r)
            return r;
        m->ranks |= m->parts[i].ranks > 1;
    }
    return m->ranks ? ranks_check(m, err) : 0;
}

/* ---- the result ---------------------------------------------------------------- */

/* Every table but meta, parents before children; what an earlier, killed merge left goes the other
 * way. */
static const struct {
    const char *name, *copy;
} tables[] = {
    {"categories",
     "INSERT INTO categories SELECT id, position + ?1, description FROM part.categories"},
    {"environments", "INSERT INTO environments SELECT * FROM part.environments"},
    {"sources", "INSERT INTO sources SELECT * FROM part.sources"},
    {"stages", "INSERT INTO stages SELECT * FROM part.stages"},
    {"tasks", "INSERT INTO tasks SELECT * FROM part.tasks"},
    {"configurations", "INSERT OR IGNORE INTO configurations SELECT * FROM part.configurations"},
    {"rollouts", "INSERT INTO rollouts SELECT * FROM part.rollouts"},
    {"stats", "INSERT INTO stats SELECT * FROM part.stats"},
    {"events", "INSERT INTO events SELECT * FROM part.events"},
    {"timing_runs", "INSERT INTO timing_runs(began, ended, wall_ms, tokens)"
                    " SELECT began, ended, wall_ms, tokens FROM part.timing_runs ORDER BY id"},
    {"timing_stages", "INSERT INTO timing_stages SELECT * FROM part.timing_stages"},
};
enum { N_TABLES = sizeof(tables) / sizeof(*tables) };

static int count(struct agon_corpus *c, const char *sql, int64_t *ret, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c), sql, err);
    if (r || (r = agon_query_next(q, err)) < 0)
        return r;
    *ret = agon_query_get_int(q, 0);
    return 0;
}

/* Nothing but the mark: whatever `out` held is a killed merge's. */
static int out_begin(struct agon_corpus *out, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    int64_t n = 0;
    bool merging = false;
    int r = count(out, "SELECT count(*) FROM categories", &n, err);
    if (!r)
        r = agon_corpus_marked(out, "merging", &merging, err);
    if (!r && n > 0 && !merging)
        r = agon_fail(err, AGON_EINPUT,
                      "'%s' holds a corpus already: name a folder that is not there yet",
                      agon_corpus_dir(out));
    if (r || (r = agon_txn_begin(&txn, agon_corpus_db(out), err)))
        return r;
    for (int i = N_TABLES; i-- > 0 && !r;) {
        char sql[128];
        snprintf(sql, sizeof(sql), "DELETE FROM %s", tables[i].name);
        r = agon_store_exec(agon_corpus_db(out), sql, err);
    }
    if (r || (r = agon_store_exec(agon_corpus_db(out),
                                  "DELETE FROM meta WHERE key <> 'format';"
                                  "INSERT INTO meta VALUES('merging', '1')",
                                  err)))
        return r;
    return agon_txn_commit(&txn, err);
}

/* Settings of the result: those that all parts share; a run's own where the parts are its ranks. */
static int out_settle(struct merge *m, struct agon_err *err)
{
    const char *key;
    json_t *value;
    json_auto_t *config = json_object();
    if (!config)
        return agon_fail(err, AGON_ENOMEM, "merge: out of memory");
    json_object_foreach(m->parts[0].config, key, value)
    {
        bool same = true;
        for (int i = 1; i < m->n; i++)
            same &= json_equal(value, json_object_get(m->parts[i].config, key));
        if (m->ranks && (key_is_rank(key) || strcmp(key, "ranks") == 0))
            value = json_string(key_is_rank(key) ? "0" : "1");
        else if (same)
            json_incref(value);
        else
            continue;
        if (json_object_set_new(config, key, value))
            return agon_fail(err, AGON_ENOMEM, "merge: out of memory");
    }
    int r = agon_corpus_settle(m->out, config, err);
    if (r || m->ranks)
        return r;
    return agon_store_exec(agon_corpus_db(m->out), "INSERT INTO meta VALUES('joined', '1')", err);
}

static int part_check_names(struct merge *m, const struct part *p, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(m->out),
                           "SELECT id FROM part.categories WHERE id IN (SELECT id FROM categories)"
                           " UNION ALL SELECT id FROM part.environments WHERE id IN"
                           " (SELECT id FROM environments) LIMIT 1",
                           err);
    if (r || (r = agon_query_next(q, err)) < 0)
        return r;
    if (r == 0)
        return 0;
    return agon_fail(err, AGON_EINPUT,
                     "environment '%s' of '%s' is in a part before it, too: names must differ",
                     agon_query_get_text(q, 0), p->dir);
}

static int part_copy_rows(struct merge *m, const struct part *p, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    int64_t offset = 0;
    int r = part_check_names(m, p, err);
    if (!r && !m->ranks)
        r = count(m->out, "SELECT coalesce(max(position), -1) + 1 FROM categories", &offset, err);
    if (r || (r = agon_txn_begin(&txn, agon_corpus_db(m->out), err)))
        return r;
    for (int i = 0; i < N_TABLES && !r; i++) {
        struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
        if ((r = agon_query_new(&q, agon_corpus_db(m->out), tables[i].copy, err)))
            break;
        if (i == 0)
            agon_query_int(q, 1, offset);
        r = agon_query_run(q, err);
    }
    return r ? r : agon_txn_commit(&txn, err);
}

static int part_attach(struct merge *m, const struct part *p, struct agon_err *err)
{
    char path[4096];
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_corpus_path(p->corpus, "corpus.db", NULL, NULL, path, err);
    if (r || (r = agon_query_new(&q, agon_corpus_db(m->out), "ATTACH ?1 AS part", err)))
        return r;
    agon_query_text(q, 1, path);
    return agon_query_run(q, err);
}

static int part_copy_files(struct merge *m, const struct part *p, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(p->corpus),
                           "SELECT id FROM environments WHERE status = 'kept' ORDER BY id", err);
    if (r)
        return r;
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        char from[4096], to[4096];
        const char *id = agon_query_get_text(q, 0);
        if ((r = agon_corpus_path(p->corpus, "environments", id, NULL, from, err)) ||
            (r = agon_corpus_path(m->out, "environments", id, NULL, to, err)) ||
            (r = agon_dir_copy(from, to, err)))
            return r;
    }
    return r;
}

static int part_copy(struct merge *m, const struct part *p, struct agon_err *err)
{
    struct agon_err ignored = {0};
    int r = part_attach(m, p, err);
    if (r)
        return agon_err_in(err, r, "'%s'", p->dir);
    if (!(r = part_copy_rows(m, p, err)))
        r = part_copy_files(m, p, err);
    int d = agon_store_exec(agon_corpus_db(m->out), "DETACH part", r ? &ignored : err);
    return r ? r : d;
}

static int merge_report(struct merge *m, struct agon_merge_report *ret, struct agon_err *err)
{
    int64_t n[3] = {0};
    int r = count(m->out, "SELECT count(*) FROM environments WHERE status = 'kept'", &n[0], err);
    if (!r)
        r = count(m->out, "SELECT count(*) FROM tasks WHERE status = 'kept'", &n[1], err);
    if (!r)
        r = count(m->out, "SELECT count(*) FROM tasks WHERE status = 'duplicate'", &n[2], err);
    *ret = (struct agon_merge_report){m->ranks, (int)n[0], (int)n[1], (int)n[2]};
    return r;
}

static int merge_all(struct merge *m, struct agon_merge_report *ret, struct agon_err *err)
{
    int r = out_begin(m->out, err);
    for (int i = 0; i < m->n && !r; i++)
        r = part_copy(m, &m->parts[i], err);
    if (!r)
        r = out_settle(m, err);
    if (!r)
        r = agon_dedup(m->out, err);
    if (!r)
        r = merge_report(m, ret, err);
    if (!r)
        r = agon_store_exec(agon_corpus_db(m->out), "DELETE FROM meta WHERE key = 'merging'", err);
    return r;
}

int agon_merge(struct agon_merge_report *ret, const char *out, char *const *parts, int n,
               struct agon_err *err)
{
    struct merge m = {0};
    int r = merge_open_parts(&m, parts, n, err);
    if (!r)
        r = agon_corpus_open(&m.out, out, err);
    if (!r)
        r = merge_all(&m, ret, err);
    merge_deinit(&m);
    return r;
}
