/* A corpus: see corpus.h. Digest and dump are in corpus_hash.c. */
#include "pipelines/corpus.h"

#include "base/file.h"
#include "base/json.h"
#include "pipelines/corpus_internal.h"
#include "pipelines/corpus_schema.h"
#include "synth/episode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* SQLite takes paths of up to 512 bytes; what stands in work/ID/ is the longest below a corpus. */
enum { TEXT_BYTES_MAX = 256 << 20, DIR_BYTES_MAX = 360 };

void agon_corpus_close(struct agon_corpus *c)
{
    if (!c)
        return;
    agon_store_close(c->db);
    agon_fd_closep(&c->lock_fd); /* frees the lock, after the database */
    agon_fd_closep(&c->dir_fd);
    free(c->dir);
    free(c);
}

struct sqlite3 *agon_corpus_db(struct agon_corpus *c)
{
    return c->db;
}

const char *agon_corpus_dir(const struct agon_corpus *c)
{
    return c->dir;
}

static struct agon_corpus *corpus_alloc(const char *dir)
{
    struct agon_corpus *c = calloc(1, sizeof(*c));
    if (!c || !(c->dir = strdup(dir))) {
        free(c);
        return NULL;
    }
    size_t n = strlen(c->dir);
    while (n > 1 && c->dir[n - 1] == '/')
        c->dir[--n] = '\0';
    c->dir_fd = c->lock_fd = -1;
    return c;
}

/* ---- opening ----------------------------------------------------------------- */

/* Said before anything is made. */
static int corpus_check_path(const struct agon_corpus *c, struct agon_err *err)
{
    char cwd[4096] = "";
    if (c->dir[0] != '/' && !getcwd(cwd, sizeof(cwd)))
        return agon_fail(err, AGON_ESYS, "the current folder: %s", strerror(errno));
    size_t size = strlen(cwd) + strlen(c->dir);
    if (size <= DIR_BYTES_MAX)
        return 0;
    return agon_fail(err, AGON_EINPUT,
                     "corpus '%.60s...': a path of %zu bytes is too long, %d are possible", c->dir,
                     size, DIR_BYTES_MAX);
}

static int corpus_open_dir(struct agon_corpus *c, struct agon_err *err)
{
    c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->dir_fd < 0)
        return agon_fail(err, AGON_ESYS, "corpus '%s': %s", c->dir, strerror(errno));
    return 0;
}

/* Take the lock: flock() ends with its process, so a stale pid is never believed. */
static int corpus_lock(struct agon_corpus *c, struct agon_err *err)
{
    char pid[32] = "";
    c->lock_fd = openat(c->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (c->lock_fd < 0)
        return agon_fail(err, AGON_ESYS, "corpus '%s': can't write in it: %s", c->dir,
                         strerror(errno));
    if (flock(c->lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            return agon_fail(err, AGON_ESYS, "corpus '%s': can't lock it: %s", c->dir,
                             strerror(errno));
        ssize_t n = pread(c->lock_fd, pid, sizeof(pid) - 1, 0);
        if (n > 0)
            pid[strcspn(pid, "\n")] = '\0';
        agon_fail(err, AGON_ESYS,
                  "corpus '%s' is in use by another driver (process %s); wait for it, end it, or "
                  "name another --corpus",
                  c->dir, *pid ? pid : "unknown");
        return AGON_CORPUS_LOCKED;
    }
    snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(c->lock_fd, 0) || agon_fd_write(c->lock_fd, agon_str(pid)))
        return agon_fail(err, AGON_ESYS, "corpus '%s': can't write its lock: %s", c->dir,
                         strerror(errno));
    return 0;
}

static int corpus_open_db(struct agon_corpus *c, enum agon_store_mode mode, struct agon_err *err)
{
    char path[4096];
    int r = agon_corpus_path(c, "corpus.db", NULL, NULL, path, err);
    if (r)
        return r;
    if ((r = agon_store_open(&c->db, path, mode, err)))
        return agon_err_in(err, r, "corpus");
    return 0;
}

/* Make the tables, in one transaction, in a file that is empty; another's is left as it is. */
static int corpus_init_db(struct agon_corpus *c, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r;
    /* FULL: what a transaction names replaces what was there before, which is then removed; after
     * a power loss a commit that was not synced would name what is gone. */
    if ((r = agon_store_exec(c->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", err)) ||
        (r = agon_txn_begin(&txn, c->db, err)) ||
        (r = agon_query_new(&q, c->db, "SELECT count(*) FROM sqlite_schema", err)) ||
        (r = agon_query_next(q, err)) < 0)
        return agon_err_in(err, r, "corpus '%s'", c->dir);
    bool fresh = agon_query_get_int(q, 0) == 0;
    agon_query_reset(q);
    if (fresh && ((r = agon_store_exec(c->db, corpus_schema, err)) ||
                  (r = agon_store_exec(
                       c->db, "INSERT INTO meta VALUES('format', '" AGON_CORPUS_FORMAT "')", err))))
        return agon_err_in(err, r, "corpus '%s'", c->dir);
    return agon_txn_commit(&txn, err);
}

static int corpus_check_format(struct agon_corpus *c, struct agon_err *err)
{
    char *format = NULL;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, c->db, "SELECT 1 FROM sqlite_schema WHERE name = 'meta'", err);
    if (r || (r = agon_query_next(q, err)) < 0)
        return agon_err_in(err, r, "corpus '%s'", c->dir);
    if (r == 0)
        return agon_fail(err, AGON_EINPUT,
                         "corpus '%s': its corpus.db is empty, or of something else; give the "
                         "command that began it again, or name another --corpus",
                         c->dir);
    r = agon_corpus_meta(c, "format", &format, err);
    if (!r && (!format || strcmp(format, AGON_CORPUS_FORMAT) != 0))
        r = agon_fail(err, AGON_EINPUT,
                      "corpus '%s' has format %.20s, this program reads format " AGON_CORPUS_FORMAT
                      "; use the program that wrote it, or another --corpus",
                      c->dir, format ? format : "none");
    free(format);
    return r;
}

/* The folders that are always there, each name synced: a killed driver may have made one and
 * not come to its sync. */
static int corpus_make_dirs(struct agon_corpus *c, struct agon_err *err)
{
    char path[4096];
    int r = 0;
    for (int i = 0; i < 2 && !r; i++)
        if (!(r = agon_corpus_path(c, i ? "work" : "environments", NULL, NULL, path, err)))
            r = agon_dir_make(path, err);
    return r || (r = agon_dir_sync(c->dir, err)) ? r : agon_dir_sync_parent(c->dir, err);
}

int agon_corpus_open(struct agon_corpus **ret, const char *dir, struct agon_err *err)
{
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = corpus_alloc(dir);
    if (!c)
        return agon_fail(err, AGON_ENOMEM, "corpus: out of memory");
    int r = corpus_check_path(c, err);
    if (r)
        return r;
    if ((r = agon_dir_make(c->dir, err)))
        return agon_err_in(err, r, "corpus '%.200s'", c->dir);
    if ((r = corpus_open_dir(c, err)) || (r = corpus_lock(c, err)))
        return r;
    if ((r = corpus_make_dirs(c, err)) || (r = corpus_open_db(c, AGON_STORE_CREATE, err)) ||
        (r = corpus_init_db(c, err)) || (r = corpus_check_format(c, err)))
        return agon_corpus_blame(c, r, err);
    *ret = AGON_STEAL(c);
    return 0;
}

int agon_corpus_open_read(struct agon_corpus **ret, const char *dir, struct agon_err *err)
{
    char path[4096];
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = corpus_alloc(dir);
    if (!c)
        return agon_fail(err, AGON_ENOMEM, "corpus: out of memory");
    int r = corpus_check_path(c, err);
    if (r || (r = agon_corpus_path(c, "corpus.db", NULL, NULL, path, err)))
        return r;
    if (access(path, F_OK) && errno != ENOENT && errno != ENOTDIR)
        return agon_fail(err, AGON_ESYS, "corpus '%s': %s", c->dir, strerror(errno));
    if (access(path, F_OK)) {
        agon_fail(err, AGON_EINPUT, "'%s' is no corpus: it has no corpus.db", c->dir);
        return AGON_CORPUS_NONE;
    }
    if ((r = corpus_open_dir(c, err)) || (r = corpus_open_db(c, AGON_STORE_READ, err)) ||
        (r = corpus_check_format(c, err)))
        return r;
    *ret = AGON_STEAL(c);
    return 0;
}

int agon_corpus_check(const struct agon_corpus *c, struct agon_err *err)
{
    struct stat now, held;
    if (fstat(c->dir_fd, &held) || stat(c->dir, &now) || held.st_ino != now.st_ino ||
        held.st_dev != now.st_dev)
        return agon_fail(err, AGON_ESYS,
                         "corpus '%s' was deleted or replaced while this driver worked on it",
                         c->dir);
    return 0;
}

int agon_corpus_blame(const struct agon_corpus *c, int r, struct agon_err *err)
{
    struct agon_err gone;
    return r < 0 && c && agon_corpus_check(c, &gone) ? (*err = gone).code : r;
}

int agon_corpus_path(const struct agon_corpus *c, const char *folder, const char *id,
                     const char *name, char ret_path[4096], struct agon_err *err)
{
    int n = snprintf(ret_path, 4096, "%s/%s%s%s%s%s", c->dir, folder, id ? "/" : "", id ? id : "",
                     name ? "/" : "", name ? name : "");
    if (n >= 4096)
        return agon_fail(err, AGON_EINPUT, "corpus '%.60s...': path too long", c->dir);
    return 0;
}

/* ---- configuration ----------------------------------------------------------- */

int agon_corpus_meta(struct agon_corpus *c, const char *key, char **ret, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, c->db, "SELECT value FROM meta WHERE key = ?1", err);
    if (r)
        return r;
    agon_query_text(q, 1, key);
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    char *value = r == AGON_ROW ? strdup(agon_query_get_text(q, 0)) : NULL;
    if (r == AGON_ROW && !value)
        return agon_fail(err, AGON_ENOMEM, "corpus: out of memory");
    *ret = value;
    return 0;
}

int agon_corpus_marked(struct agon_corpus *c, const char *key, bool *ret, struct agon_err *err)
{
    char *value = NULL;
    int r = agon_corpus_meta(c, key, &value, err);
    *ret = value != NULL;
    free(value);
    return r;
}

static int settle_one(struct agon_corpus *c, const char *key, const char *value,
                      struct agon_err *err)
{
    char name[64];
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    snprintf(name, sizeof(name), "config.%s", key);
    char *old = NULL;
    int r = agon_corpus_meta(c, name, &old, err);
    if (r)
        return r;
    bool absent = !old, same = old && strcmp(old, value) == 0;
    if (!absent && !same)
        agon_fail(err, AGON_EINPUT,
                  "corpus '%.200s' was begun with %s %.100s, now it is %.100s: repeat the command "
                  "that began it, or name another --corpus",
                  c->dir, key, old, value);
    free(old);
    if (!absent)
        return same ? 0 : AGON_CORPUS_DIFFERS;
    if ((r = agon_query_new(&q, c->db, "INSERT INTO meta VALUES(?1, ?2)", err)))
        return r;
    agon_query_text(q, 1, name);
    agon_query_text(q, 2, value);
    return agon_query_run(q, err);
}

int agon_corpus_settle(struct agon_corpus *c, const json_t *config, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    const char *key;
    json_t *value;
    bool joined;
    int r = agon_corpus_marked(c, "joined", &joined, err);
    if (!r && joined) {
        agon_fail(err, AGON_EINPUT,
                  "corpus '%.200s' was joined of different runs by agon merge, no run goes on in"
                  " it: name another --corpus",
                  c->dir);
        return AGON_CORPUS_DIFFERS;
    }
    if (r || (r = agon_txn_begin(&txn, c->db, err)))
        return r;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        if (json_is_string(value))
            agon_buf_adds(&b, json_string_value(value));
        else
            agon_json_dump(&b, value);
        if ((r = agon_buf_check(&b, "configuration", err)) ||
            (r = settle_one(c, key, agon_buf_text(&b), err)))
            return r;
    }
    return agon_txn_commit(&txn, err);
}

/* ---- rows -------------------------------------------------------------------- */

int agon_corpus_event(struct agon_corpus *c, const struct agon_event *event, struct agon_err *err)
{
    json_auto_t *detail = event->detail;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    if (!detail)
        return agon_fail(err, AGON_ENOMEM, "event '%s': out of memory", event->kind);
    agon_json_dump(&b, detail);
    int r = agon_buf_check(&b, "event", err);
    if (r || (r = agon_query_new(&q, c->db,
                                 "INSERT INTO events SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3,"
                                 " ?4 FROM events WHERE environment = ?1",
                                 err)))
        return r;
    agon_query_text(q, 1, event->environment);
    agon_query_text(q, 2, event->stage);
    agon_query_text(q, 3, event->kind);
    agon_query_text(q, 4, agon_buf_text(&b));
    return agon_query_run(q, err);
}

void agon_now_text(char ret[32])
{
    time_t now = time(NULL);
    struct tm tm;
    strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
}

static int stage_timing(struct agon_corpus *c, const struct agon_stage_row *row,
                        struct agon_err *err)
{
    char now[32];
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, c->db, "INSERT INTO timing_stages VALUES(?1, ?2, ?3, ?4, ?5)", err);
    if (r)
        return r;
    agon_now_text(now);
    agon_query_text(q, 1, row->environment);
    agon_query_text(q, 2, row->stage);
    agon_query_int(q, 3, row->sample);
    agon_query_text(q, 4, now);
    agon_query_int(q, 5, row->wall_ms);
    return agon_query_run(q, err);
}

int agon_corpus_stage(struct agon_corpus *c, const struct agon_stage_row *row, struct agon_err *err)
{
    const struct agon_episode_report *report = row->report;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    agon_json_dump(&b, report->segments);
    int r = agon_buf_check(&b, "transcript", err);
    if (r || (r = agon_query_new(&q, c->db,
                                 "INSERT INTO stages VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
                                 " ?10, ?11, ?12, ?13)",
                                 err)))
        return r;
    agon_query_text(q, 1, row->environment);
    agon_query_text(q, 2, row->stage);
    agon_query_int(q, 3, row->sample);
    agon_query_text(q, 4, row->done ? "done" : "failed");
    agon_query_text(q, 5, agon_episode_end_name(report->end));
    agon_query_text(q, 6, row->reason ? row->reason : "");
    agon_query_int(q, 7, report->turns);
    agon_query_int(q, 8, report->calls);
    agon_query_int(q, 9, report->refused);
    agon_query_int(q, 10, report->malformed);
    agon_query_int(q, 11, report->resets);
    agon_query_int(q, 12, report->tokens);
    agon_query_str(q, 13, agon_buf_str(&b));
    if ((r = agon_query_run(q, err)))
        return agon_err_in(err, r, "corpus: stage %s of '%s'", row->stage, row->environment);
    return stage_timing(c, row, err);
}

int agon_corpus_next(struct agon_corpus *c, const char *environment, const char *next,
                     const char *dir, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, c->db, "UPDATE environments SET next = ?2, dir = ?3 WHERE id = ?1", err);
    if (r)
        return r;
    agon_query_text(q, 1, environment);
    agon_query_text(q, 2, next);
    agon_query_text(q, 3, dir);
    return agon_query_run(q, err);
}
