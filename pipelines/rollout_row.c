/* Rows of rollouts and what goes with them: see rollout_row.h. */
#include "pipelines/rollout_row.h"

#include "base/json.h"
#include "base/sha256.h"
#include "synth/episode.h"
#include "synth/solver.h"

#include <stdio.h>

enum { TEXT_BYTES_MAX = 256 << 20 };

/* Bind a JSON value as text. */
static int bind_json(struct agon_query *q, int at, const json_t *value, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_json_dump(&b, value);
    int r = agon_buf_check(&b, "rollout", err);
    if (!r)
        agon_query_str(q, at, agon_buf_str(&b));
    return r;
}

static void bind_key(struct agon_query *q, const struct agon_rollout_key *key)
{
    agon_query_text(q, 1, key->environment);
    agon_query_text(q, 2, key->task);
    agon_query_text(q, 3, key->configuration);
    agon_query_text(q, 4, key->purpose);
    agon_query_text(q, 5, key->policy ? key->policy : "");
}

int agon_rollout_row(struct agon_corpus *c, const struct agon_rollout_key *key,
                     const struct agon_rollout *rollout, struct agon_err *err)
{
    const struct agon_episode_report *report = agon_episode_report(rollout->episode);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "INSERT INTO rollouts(environment, task, role, configuration, purpose,"
                           " policy, idx, status, verdict, score, end, reason, turns, calls,"
                           " refused, resets, tokens, answer, writes, checks, transcript)"
                           " VALUES(?1, ?2, 'solver', ?3, ?4, ?5, ?6, 'scored', ?7, ?8, ?9, ?10,"
                           " ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
                           err);
    if (r)
        return r;
    bind_key(q, key);
    agon_query_int(q, 6, rollout->index);
    agon_query_text(q, 7, rollout->verdict);
    agon_query_real(q, 8, rollout->pass ? 1 : 0);
    agon_query_text(q, 9, rollout->end);
    agon_query_text(q, 10, report->reason);
    agon_query_int(q, 11, report->turns);
    agon_query_int(q, 12, report->calls);
    agon_query_int(q, 13, report->refused);
    agon_query_int(q, 14, report->resets);
    agon_query_int(q, 15, rollout->tokens);
    agon_query_text(q, 16, rollout->answer);
    if ((r = bind_json(q, 17, rollout->writes, err)) ||
        (r = bind_json(q, 18, rollout->checks, err)) ||
        (r = bind_json(q, 19, report->segments, err)))
        return r;
    r = agon_query_run(q, err);
    return r ? agon_err_in(err, r, "rollout %d of %s", rollout->index, key->task) : 0;
}

int agon_stats_row(struct agon_corpus *c, const struct agon_rollout_key *key,
                   const struct agon_stats *stats, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "INSERT OR REPLACE INTO stats(environment, task, configuration, purpose,"
                           " policy, n, c, n_first, c_first, stop, kept)"
                           " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0)",
                           err);
    if (r)
        return r;
    bind_key(q, key);
    agon_query_int(q, 6, stats->n);
    agon_query_int(q, 7, stats->c);
    agon_query_int(q, 8, stats->n_first);
    agon_query_int(q, 9, stats->c_first);
    agon_query_text(q, 10, stats->stop);
    return agon_query_run(q, err);
}

static int stats_mark(struct agon_corpus *c, const char *environment, const char *task, bool kept,
                      struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "UPDATE stats SET kept = ?3 WHERE environment = ?1 AND task = ?2 AND"
                           " purpose = 'filter'",
                           err);
    if (r)
        return r;
    agon_query_text(q, 1, environment);
    agon_query_text(q, 2, task);
    agon_query_int(q, 3, kept);
    return agon_query_run(q, err);
}

int agon_task_status(struct agon_corpus *c, const char *environment, const char *task,
                     const char *status, const char *reason, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "UPDATE tasks SET status = ?3, reason = ?4 WHERE environment = ?1 AND"
                           " id = ?2",
                           err);
    if (r)
        return r;
    agon_query_text(q, 1, environment);
    agon_query_text(q, 2, task);
    agon_query_text(q, 3, status);
    agon_query_text(q, 4, reason);
    r = agon_query_run(q, err);
    return r ? r : stats_mark(c, environment, task, strcmp(status, "kept") == 0, err);
}

int agon_source_row(struct agon_corpus *c, const char *environment, const json_t *source,
                    struct agon_err *err)
{
    static const char *const keys[] = {"url", "sha256", "title", "licence"};
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, agon_corpus_db(c),
                       "INSERT OR REPLACE INTO sources(environment, url, sha256, title, licence)"
                       " VALUES(?1, ?2, ?3, ?4, ?5)",
                       err);
    if (r)
        return r;
    agon_query_text(q, 1, environment);
    for (int i = 0; i < 4; i++)
        agon_query_text(q, i + 2, agon_json_text(source, keys[i], ""));
    return agon_query_run(q, err);
}

int agon_configuration_row(struct agon_corpus *c, const char *model, const json_t *sampling,
                           char ret_id[16], struct agon_err *err)
{
    char hex[AGON_SHA256_HEX];
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    agon_json_dump_string(&b, agon_str(model));
    agon_json_dump_sorted(&b, sampling);
    int r = agon_buf_check(&b, "configuration", err);
    if (r || (r = agon_query_new(&q, agon_corpus_db(c),
                                 "INSERT OR IGNORE INTO configurations VALUES(?1, ?2, ?3)", err)))
        return r;
    agon_sha256_of(agon_buf_str(&b), hex);
    snprintf(ret_id, 16, "%.12s", hex);
    agon_query_text(q, 1, ret_id);
    agon_query_text(q, 2, model);
    if ((r = bind_json(q, 3, sampling, err)))
        return r;
    return agon_query_run(q, err);
}
