/* Near-duplicates across environments: see dedup.h. Files first, then one transaction;
 * all is decided from corpus.db, so doing it again after a kill gives the same. */
#include "pipelines/dedup.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "pipelines/corpus.h"
#include "pipelines/rollout_row.h"
#include "synth/draft.h"
#include "verifiers/lexicon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const double likeness_max = 0.8; /* as gate 7 has it within an environment */

static const char mark_finished[] = "INSERT OR IGNORE INTO meta VALUES('finished', '1')";

struct entry {
    char *environment, *task, *prompt;
    int original; /* index of the one that stays, or -1 */
};
struct entries {
    struct entry *items;
    int n;
    const char *environment; /* while storing */
};

static void entries_deinit(struct entries *e)
{
    for (int i = 0; i < e->n; i++) {
        free(e->items[i].environment);
        free(e->items[i].task);
        free(e->items[i].prompt);
    }
    free(e->items);
}

static int entries_push(struct entries *e, struct agon_query *q, struct agon_err *err)
{
    struct entry *items = realloc(e->items, ((size_t)e->n + 1) * sizeof(*items));
    if (!items)
        return agon_fail(err, AGON_ENOMEM, "dedup: out of memory");
    e->items = items;
    struct entry *entry = &items[e->n++];
    *entry = (struct entry){strdup(agon_query_get_text(q, 0)), strdup(agon_query_get_text(q, 1)),
                            strdup(agon_query_get_text(q, 2)), -1};
    if (!entry->environment || !entry->task || !entry->prompt)
        return agon_fail(err, AGON_ENOMEM, "dedup: out of memory");
    return 0;
}

static int entries_read(struct entries *e, struct agon_corpus *c, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "SELECT environment, id, definition ->> 'prompt' FROM tasks"
                           " WHERE status = 'kept' ORDER BY environment, id",
                           err);
    if (r)
        return r;
    while ((r = agon_query_next(q, err)) == AGON_ROW)
        if ((r = entries_push(e, q, err)))
            return r;
    return r;
}

/* NEEDSWORK: all pairs; fine for thousands of tasks, a MinHash index for millions. */
static int entries_compare(struct entries *e, int *ret_n, struct agon_err *err)
{
    for (int i = 1; i < e->n; i++)
        for (int k = 0; k < i && e->items[i].original < 0; k++) {
            if (e->items[k].original >= 0 ||
                strcmp(e->items[i].environment, e->items[k].environment) == 0)
                continue;
            double likeness =
                agon_prompt_likeness(agon_str(e->items[i].prompt), agon_str(e->items[k].prompt));
            if (likeness < 0)
                return agon_fail(err, AGON_ENOMEM, "dedup: out of memory");
            if (likeness >= likeness_max) {
                e->items[i].original = k;
                (*ret_n)++;
            }
        }
    return 0;
}

static bool stays(const struct agon_task *task, void *user)
{
    const struct entries *e = user;
    for (int i = 0; i < e->n; i++)
        if (strcmp(e->items[i].environment, e->environment) == 0 &&
            strcmp(e->items[i].task, task->id) == 0)
            return e->items[i].original < 0;
    return false;
}

/* Write an environment anew with the tasks that stay, or remove it. */
static int environment_rewrite(struct agon_corpus *c, struct entries *e, const char *environment,
                               int n_left, struct agon_err *err)
{
    char path[4096];
    struct agon_draft *draft AGON_AUTO(agon_draft_freep) = NULL;
    int r = agon_corpus_path(c, "environments", environment, NULL, path, err);
    if (r)
        return r;
    if (access(path, F_OK)) /* removed by a driver that was killed before rows_write() */
        return errno == ENOENT ? 0 : agon_fail(err, AGON_ESYS, "%s: %m", path);
    if (n_left == 0) /* and gone for good, before a row says so */
        return (r = agon_dir_remove(path, err)) ? r : agon_dir_sync_parent(path, err);
    if ((r = agon_draft_load(&draft, path, err)))
        return r;
    e->environment = environment;
    return agon_draft_store(draft, path, stays, e, err);
}

static int files_rewrite(struct agon_corpus *c, struct entries *e, struct agon_err *err)
{
    for (int i = 0, end; i < e->n; i = end) {
        int n_left = 0, n_gone = 0;
        for (end = i; end < e->n && strcmp(e->items[end].environment, e->items[i].environment) == 0;
             end++) {
            n_left += e->items[end].original < 0;
            n_gone += e->items[end].original >= 0;
        }
        int r = n_gone ? environment_rewrite(c, e, e->items[i].environment, n_left, err) : 0;
        if (r)
            return agon_err_in(err, r, "dedup: '%s'", e->items[i].environment);
    }
    return 0;
}

static int rows_write(struct agon_corpus *c, const struct entries *e, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    int r = agon_txn_begin(&txn, agon_corpus_db(c), err);
    for (int i = 0; i < e->n && !r; i++) {
        const struct entry *entry = &e->items[i];
        if (entry->original < 0)
            continue;
        char reason[256];
        const struct entry *original = &e->items[entry->original];
        snprintf(reason, sizeof(reason), "near-duplicate of %s/%s", original->environment,
                 original->task);
        struct agon_event event = {entry->environment, "dedup", "duplicate",
                                   json_pack("{s:s, s:s}", "task", entry->task, "of", reason + 18)};
        if ((r = agon_task_status(c, entry->environment, entry->task, "duplicate", reason, err)) ==
            0)
            r = agon_corpus_event(c, &event, err);
        else
            json_decref(event.detail);
    }
    if (r ||
        (r = agon_store_exec(agon_corpus_db(c),
                             "UPDATE environments SET status = 'empty', reason = 'all its tasks"
                             " are near-duplicates' WHERE status = 'kept' AND NOT EXISTS (SELECT"
                             " 1 FROM tasks WHERE environment = environments.id AND status ="
                             " 'kept')",
                             err)) ||
        (r = agon_store_exec(agon_corpus_db(c), mark_finished, err)))
        return r;
    return agon_txn_commit(&txn, err);
}

int agon_dedup_later(struct agon_corpus *c, struct agon_err *err)
{
    return agon_store_exec(agon_corpus_db(c), mark_finished, err);
}

int agon_dedup(struct agon_corpus *c, struct agon_err *err)
{
    struct entries e = {0};
    int n = 0;
    bool finished;
    int r = agon_corpus_marked(c, "finished", &finished, err);
    if (r || finished)
        return r;
    if (!(r = entries_read(&e, c, err)) && !(r = entries_compare(&e, &n, err)) &&
        !(r = files_rewrite(c, &e, err)))
        r = rows_write(c, &e, err);
    if (!r && n > 0)
        agon_log(AGON_LOG_INFO, "dedup", "%d near-duplicates across environments left", n);
    entries_deinit(&e);
    return r;
}
