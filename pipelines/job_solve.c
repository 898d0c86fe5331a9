/*
 * One category's job: rollouts of all tasks side by side, the filter, and the finished
 * environment. Rollouts are committed in the order of their indices, so a resumed job
 * goes on behind the last one that corpus.db holds.
 */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "pipelines/job_internal.h"
#include "pipelines/rollout_row.h"
#include "synth/episode.h"
#include "synth/solver.h"

#include <stdlib.h>

/* ---- opening ----------------------------------------------------------------- */

/* What corpus.db knows of a task's rollouts. */
static int task_counts(struct agon_job *job, const char *task, struct job_task *t,
                       struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(
        &q, agon_corpus_db(job->run->corpus),
        "SELECT count(*), coalesce(sum(verdict = 'pass'), 0), coalesce(sum(idx < ?4), 0),"
        " coalesce(sum(idx < ?4 AND verdict = 'pass'), 0),"
        " coalesce(max(end = '" AGON_ROLLOUT_DISPUTED "'), 0) FROM rollouts"
        " WHERE environment = ?1 AND task = ?2 AND role = 'solver'"
        " AND configuration = ?3 AND purpose = 'filter'",
        err);
    if (r)
        return r;
    agon_query_text(q, 1, job->id);
    agon_query_text(q, 2, task);
    agon_query_text(q, 3, job->run->configuration);
    agon_query_int(q, 4, job->run->o.rollouts);
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    t->n = (int)agon_query_get_int(q, 0);
    t->c = (int)agon_query_get_int(q, 1);
    t->n_first = (int)agon_query_get_int(q, 2);
    t->c_first = (int)agon_query_get_int(q, 3);
    t->disputed = agon_query_get_int(q, 4) != 0;
    return 0;
}

static int solver_open(struct agon_job *job, int i, struct agon_err *err)
{
    char key[256];
    struct agon_run *run = job->run;
    struct job_task *t = &job->tasks[i];
    const struct agon_task *task = &job->draft->tasks[i];
    int r = task_counts(job, task->id, t, err);
    if (r)
        return r;
    snprintf(key, sizeof(key), "%s/solve_%s", job->id, task->id);
    struct agon_solver_options o = {
        .model = run->solver,
        .prompts = run->prompts,
        .family = run->family,
        .rt = job->rt,
        .task = task,
        .sampling = run->solver_sampling,
        .context = run->context,
        .n_trajectories = (int)run->o.trajectories,
        .rng = agon_rng_split(&job->rng, agon_str(key)),
        .key = key,
        .n_first = (int)run->o.rollouts,
        .n_max = (int)run->o.rollouts_max,
        .estimate = run->o.estimate,
        .n_parallel = (int)run->o.parallel,
        .n_done = t->n,
        .n_passed = t->c,
    };
    return agon_solver_new(&t->solver, &o, err);
}

static int solve_open(struct agon_job *job, struct agon_err *err)
{
    struct agon_buf tools AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    job->tasks = calloc((size_t)job->draft->n_tasks + 1, sizeof(*job->tasks));
    if (!job->tasks)
        return agon_fail(err, AGON_ENOMEM, "solve: out of memory");
    if (job->draft->n_tasks == 0)
        return 0;
    agon_toolbox_text(&job->draft->tools, &tools);
    int r = agon_buf_check(&tools, "tools.lua", err);
    if (r || (r = agon_runtime_open(&job->rt, job->run->sandbox, job->draft->world_path,
                                    agon_buf_str(&tools), &reason, err)) < 0)
        return r;
    if (r)
        return agon_fail(err, AGON_ESCRIPT, "its tools no longer load: %s", agon_buf_text(&reason));
    for (int i = 0; i < job->draft->n_tasks && !r; i++)
        r = solver_open(job, i, err);
    return r;
}

/* ---- rollouts ---------------------------------------------------------------- */

static int task_take(struct agon_job *job, int i, const struct agon_rollout *rollout,
                     struct agon_err *err)
{
    struct job_task *t = &job->tasks[i];
    struct agon_run *run = job->run;
    struct agon_rollout_key key = {
        .environment = job->id,
        .task = job->draft->tasks[i].id,
        .configuration = run->configuration,
        .purpose = "filter",
    };
    int r = agon_rollout_row(run->corpus, &key, rollout, err);
    if (r)
        return r;
    bool first = rollout->index < run->o.rollouts;
    t->n++;
    t->c += rollout->pass;
    t->n_first += first;
    t->c_first += first && rollout->pass;
    t->disputed |= strcmp(rollout->end, AGON_ROLLOUT_DISPUTED) == 0;
    run->tokens += rollout->tokens;
    return 0;
}

/* Commit what is finished, in one transaction. */
static int solve_commit(struct agon_job *job, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    int r = 0;
    for (int i = 0; i < job->draft->n_tasks && !r; i++) {
        struct agon_rollout rollout = {0};
        while (job->tasks[i].solver && !r &&
               (r = agon_solver_take(job->tasks[i].solver, &rollout, err)) == 1) {
            r = 0;
            if (!txn.db && !(r = agon_corpus_check(job->run->corpus, err)))
                r = agon_txn_begin(&txn, agon_corpus_db(job->run->corpus), err);
            if (!r)
                r = task_take(job, i, &rollout, err);
            agon_rollout_deinit(&rollout);
        }
    }
    return r || !txn.db ? r : agon_txn_commit(&txn, err);
}

static int stats_row(struct agon_job *job, int i, struct agon_err *err)
{
    const struct job_task *t = &job->tasks[i];
    const struct agon_run_options *o = &job->run->o;
    struct agon_stats stats = {
        .n = t->n,
        .c = t->c,
        .n_first = t->n_first,
        .c_first = t->c_first,
        .stop = o->estimate           ? "estimate"
                : t->n <= o->rollouts ? "first"
                : t->c                ? "pass"
                                      : "max",
    };
    struct agon_rollout_key key = {job->id, job->draft->tasks[i].id, job->run->configuration,
                                   "filter", ""};
    int r = agon_stats_row(job->run->corpus, &key, &stats, err);
    if (r)
        return r;
    return agon_job_event(
        job, "solve", "solved",
        json_pack("{s:s, s:i, s:i}", "task", job->draft->tasks[i].id, "n", t->n, "c", t->c), err);
}

static int solve_end(struct agon_job *job, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    int r = agon_txn_begin(&txn, agon_corpus_db(job->run->corpus), err);
    for (int i = 0; i < job->draft->n_tasks && !r; i++)
        r = stats_row(job, i, err);
    if (r || (r = agon_corpus_next(job->run->corpus, job->id, "publish", job->dir, err)) ||
        (r = agon_txn_commit(&txn, err)))
        return r;
    return AGON_JOB_OVER;
}

int agon_job_solve(struct agon_job *job, int parallel, struct agon_err *err)
{
    int r = job->tasks ? 0 : solve_open(job, err), busy = 0, in_flight = 0;
    for (int i = 0; i < job->draft->n_tasks && !r; i++)
        in_flight += job->tasks[i].solver ? agon_solver_in_flight(job->tasks[i].solver) : 0;
    for (int i = 0; i < job->draft->n_tasks && !r; i++) {
        struct agon_solver *solver = job->tasks[i].solver;
        if (!solver)
            continue;
        int mine = agon_solver_in_flight(solver);
        r = agon_solver_step(solver, parallel - in_flight + mine, err);
        in_flight += agon_solver_in_flight(solver) - mine;
        if (r == AGON_SOLVER_OVER) {
            agon_solver_free(AGON_STEAL(job->tasks[i].solver));
            r = 0;
        } else {
            busy++;
        }
    }
    if (!r)
        r = solve_commit(job, err);
    return r || busy ? r : solve_end(job, err);
}

/* ---- filter and publishing --------------------------------------------------- */

static int filter_decide(struct agon_job *job, struct agon_filter_task *out, struct agon_err *err)
{
    int n = job->draft->n_tasks;
    for (int i = 0; i < n; i++) {
        const struct agon_task *task = &job->draft->tasks[i];
        struct job_task t = {0};
        int r = task_counts(job, task->id, &t, err);
        if (r)
            return r;
        out[i] = (struct agon_filter_task){.parent = -1,
                                           .level = task->level,
                                           .n = t.n,
                                           .c = t.c,
                                           .n_first = t.n_first,
                                           .c_first = t.c_first,
                                           .disputed = t.disputed};
        for (int k = 0; task->parent && k < i; k++)
            if (strcmp(job->draft->tasks[k].id, task->parent) == 0)
                out[i].parent = k;
    }
    agon_filter_decide(&job->run->rule, out, n);
    return 0;
}

struct kept {
    const struct agon_draft *draft;
    const struct agon_filter_task *decisions;
};

static bool is_kept(const struct agon_task *task, void *user)
{
    const struct kept *k = user;
    for (int i = 0; i < k->draft->n_tasks; i++)
        if (strcmp(k->draft->tasks[i].id, task->id) == 0)
            return k->decisions[i].kept;
    return false;
}

static int publish_rows(struct agon_job *job, const struct agon_filter_task *decisions,
                        struct agon_err *err)
{
    struct agon_corpus *corpus = job->run->corpus;
    int r = 0, n = 0;
    for (int i = 0; i < job->draft->n_tasks && !r; i++) {
        const struct agon_filter_task *d = &decisions[i];
        const char *id = job->draft->tasks[i].id;
        n += d->kept;
        if ((r = agon_task_status(corpus, job->id, id, d->kept ? "kept" : "dropped", d->reason,
                                  err)) ||
            (r = agon_job_event(job, "publish", d->kept ? "kept" : "dropped",
                                json_pack("{s:s, s:i, s:i, s:s}", "task", id, "n", d->n, "c", d->c,
                                          "reason", d->reason),
                                err)))
            return r;
    }
    for (size_t i = 0; i < json_array_size(job->draft->sources) && n > 0 && !r; i++)
        r = agon_source_row(corpus, job->id, json_array_get(job->draft->sources, i), err);
    if (r)
        return r;
    return agon_job_status(job, n > 0 ? "kept" : "empty",
                           n > 0                     ? ""
                           : job->draft->n_tasks > 0 ? "the filter kept no task"
                                                     : "no task was accepted",
                           err);
}

static int publish_commit(struct agon_job *job, const struct agon_filter_task *decisions,
                          struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    int r = agon_corpus_check(job->run->corpus, err);
    if (r || (r = agon_txn_begin(&txn, agon_corpus_db(job->run->corpus), err)) ||
        (r = publish_rows(job, decisions, err)) ||
        (r = agon_corpus_next(job->run->corpus, job->id, "done", "", err)))
        return r;
    return agon_txn_commit(&txn, err);
}

int agon_job_publish(struct agon_job *job, struct agon_err *err)
{
    char path[4096];
    int n = 0;
    struct agon_filter_task *decisions =
        calloc((size_t)job->draft->n_tasks + 1, sizeof(*decisions));
    if (!decisions)
        return agon_fail(err, AGON_ENOMEM, "publish: out of memory");
    int r = filter_decide(job, decisions, err);
    for (int i = 0; i < job->draft->n_tasks; i++)
        n += decisions[i].kept;
    struct kept kept = {job->draft, decisions};
    if (!r && !(r = agon_corpus_path(job->run->corpus, "environments", job->id, NULL, path, err)) &&
        n > 0)
        r = agon_draft_store(job->draft, path, is_kept, &kept, err);
    if (!r)
        r = publish_commit(job, decisions, err);
    free(decisions);
    if (r || (r = agon_job_clear(job, err)))
        return r;
    agon_log(AGON_LOG_INFO, job->id, "%d of %d tasks kept", n, job->draft->n_tasks);
    return AGON_JOB_OVER;
}
