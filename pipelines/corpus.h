#pragma once
/*
 * A corpus: a folder of environments and corpus.db, the catalogue, statistics and
 * journal of the run that fills it (tables: pipelines/README.md).
 *
 *   CORPUS/corpus.db           SQLite, WAL
 *   CORPUS/lock                flock()ed by the one driver that writes
 *   CORPUS/environments/ID/    finished environments, moved into place whole
 *   CORPUS/work/ID/STAGE/      environments in the making, one folder a finished stage
 *
 * Invariants, so that kill -9 or a power loss at any instant loses and doubles nothing:
 * 1. Files are synced and renamed into place before the transaction that names them, and
 *    what it no longer names is removed after it was synced (synchronous = FULL). What
 *    corpus.db does not name is the leftover of a dead driver and is removed.
 * 2. A stage's end, with its transcript and events, is one transaction; so is the
 *    end of each group of rollouts, in the order of their indices.
 * 3. Nothing outside the `timing_` tables depends on clock, threads or kills.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/store.h"

#include <jansson.h>

struct agon_corpus;
struct agon_episode_report;

enum { AGON_CORPUS_LOCKED = 1, AGON_CORPUS_DIFFERS = 2, AGON_CORPUS_NONE = 3 };
/* Open for writing, made if missing. AGON_CORPUS_LOCKED: another driver works on it
 * (err's text says which). */
int agon_corpus_open(struct agon_corpus **ret, const char *dir, struct agon_err *err) AGON_MUST_USE;
/*
 * config (flat object): what a resumed run must have in common with the one that began
 * the corpus; stored the first time. AGON_CORPUS_DIFFERS: begun with another value; err's
 * text names it in one line.
 */
int agon_corpus_settle(struct agon_corpus *c, const json_t *config,
                       struct agon_err *err) AGON_MUST_USE;
/* Open to look at. AGON_CORPUS_NONE where dir is no corpus. */
int agon_corpus_open_read(struct agon_corpus **ret, const char *dir,
                          struct agon_err *err) AGON_MUST_USE;
void agon_corpus_close(struct agon_corpus *c);
AGON_DEFINE_FREEP(struct agon_corpus, agon_corpus_close)

struct sqlite3 *agon_corpus_db(struct agon_corpus *c);
const char *agon_corpus_dir(const struct agon_corpus *c);
/* A value of `meta`, owned by the caller; NULL where there is none. */
int agon_corpus_meta(struct agon_corpus *c, const char *key, char **ret,
                     struct agon_err *err) AGON_MUST_USE;
/* Does the key stand in `meta`? Of marks, whose value says nothing. */
int agon_corpus_marked(struct agon_corpus *c, const char *key, bool *ret,
                       struct agon_err *err) AGON_MUST_USE;
/* DIR/environments/ID and DIR/work/ID/NAME into a buffer of 4096 bytes; AGON_EINPUT when too long.
 */
int agon_corpus_path(const struct agon_corpus *c, const char *folder, const char *id,
                     const char *name, char ret_path[4096], struct agon_err *err) AGON_MUST_USE;
/* Is the folder still the one that was opened? AGON_ESYS when it was deleted or replaced. */
int agon_corpus_check(const struct agon_corpus *c, struct agon_err *err) AGON_MUST_USE;
/* r, of something that failed over the corpus (or not). Whatever failed in a folder that is gone,
 * err then says that it is gone. */
int agon_corpus_blame(const struct agon_corpus *c, int r, struct agon_err *err) AGON_MUST_USE;

/* ---- rows; call these inside a transaction ---- */
struct agon_event {
    const char *environment, *stage, *kind; /* "accepted" */
    json_t *detail;                         /* taken */
};
/* Numbered on from the environment's last event. */
int agon_corpus_event(struct agon_corpus *c, const struct agon_event *event,
                      struct agon_err *err) AGON_MUST_USE;
struct agon_stage_row {
    const char *environment, *stage;
    int sample;
    bool done; /* else it failed, for `reason` */
    const char *reason;
    const struct agon_episode_report *report; /* its segments are the transcript */
    int64_t wall_ms;
};
int agon_corpus_stage(struct agon_corpus *c, const struct agon_stage_row *row,
                      struct agon_err *err) AGON_MUST_USE;
/* What the environment does next ("tools", "t1_l2", "solve", "done", ...), and the folder
 * in work/ID/ that it goes on from ("" when none). */
int agon_corpus_next(struct agon_corpus *c, const char *environment, const char *next,
                     const char *dir, struct agon_err *err) AGON_MUST_USE;

/* ---- digest ---- */
/* Digest of environment files and an ordered dump of corpus.db without its timing tables. */
int agon_corpus_hash(struct agon_corpus *c, char ret_hex[65], struct agon_err *err) AGON_MUST_USE;
/* The ordered dump itself, as lines (--dump): what agon_corpus_hash() digests beside files. */
int agon_corpus_dump(struct agon_corpus *c, int (*line)(void *user, struct agon_str text),
                     void *user, struct agon_err *err) AGON_MUST_USE;
