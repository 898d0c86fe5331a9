/*
 * One category's job: the author's stages. See run.h. A stage's draft is stored as
 * work/ID/STAGE/ and then named by a transaction; a resumed job reads it from there,
 * and so does one that was never stopped, so that both go on from the same bytes.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "pipelines/job_internal.h"
#include "synth/cleantext.h"
#include "synth/episode.h"
#include "synth/solver.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void agon_job_free(struct agon_job *job)
{
    if (!job)
        return;
    for (int i = 0; job->tasks && i < job->draft->n_tasks; i++)
        agon_solver_free(job->tasks[i].solver);
    free(job->tasks);
    agon_stage_free(job->stage);
    agon_runtime_free(job->rt);
    agon_draft_free(job->draft);
    free(job->id);
    free(job);
}

int agon_job_event(struct agon_job *job, const char *stage, const char *kind, json_t *detail,
                   struct agon_err *err)
{
    struct agon_event event = {job->id, stage, kind, detail};
    return agon_corpus_event(job->run->corpus, &event, err);
}

int agon_job_status(struct agon_job *job, const char *status, const char *reason,
                    struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(job->run->corpus),
                           "UPDATE environments SET status = ?2, reason = ?3 WHERE id = ?1", err);
    if (r)
        return r;
    agon_query_text(q, 1, job->id);
    agon_query_text(q, 2, status);
    agon_query_text(q, 3, reason);
    return agon_query_run(q, err);
}

/* ---- where the job stands ---------------------------------------------------- */

/* The step and place that a name in environments.next stands for. */
static int job_place(struct agon_job *job, const char *next, struct agon_err *err)
{
    const struct agon_family *family = job->run->family;
    struct agon_stage_place place = {0};
    job->step = JOB_STAGE;
    if (strcmp(next, family->retrieve->name) == 0)
        place.stage = family->retrieve;
    else if (strcmp(next, family->tools->name) == 0)
        place.stage = family->tools;
    else if (sscanf(next, "t%d_l%d", &place.line, &place.level) == 2)
        place.stage = family->level;
    else if (strcmp(next, "solve") == 0)
        job->step = JOB_SOLVE;
    else if (strcmp(next, "publish") == 0)
        job->step = JOB_PUBLISH;
    else if (strcmp(next, "done") == 0)
        job->step = JOB_DONE;
    else
        return agon_fail(err, AGON_EINPUT, "corpus: environment '%s' has the unknown step '%s'",
                         job->id, next);
    job->place = place;
    return 0;
}

/* What comes after this stage. climbed: it is done; else it failed for good. */
static void job_next(const struct agon_job *job, bool climbed, char ret_next[AGON_STAGE_NAME])
{
    const struct agon_family *family = job->run->family;
    struct agon_stage_place next = {.stage = family->level, .line = 1, .level = 1};
    if (job->place.stage == family->retrieve) {
        next = (struct agon_stage_place){.stage = family->tools};
    } else if (job->place.stage == family->level) {
        next = job->place;
        next.level++;
        if (!climbed || next.level > (int)job->run->o.levels) {
            next.level = 1;
            next.line++;
        }
    }
    if (next.level && next.line > (int)job->run->o.lines)
        snprintf(ret_next, AGON_STAGE_NAME, "solve");
    else
        agon_stage_name(&next, ret_next);
}

static int job_samples(struct agon_job *job, const char *stage, int *ret_n, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r =
        agon_query_new(&q, agon_corpus_db(job->run->corpus),
                       "SELECT count(*) FROM stages WHERE environment = ?1 AND stage = ?2", err);
    if (r)
        return r;
    agon_query_text(q, 1, job->id);
    agon_query_text(q, 2, stage);
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    *ret_n = (int)agon_query_get_int(q, 0);
    return 0;
}

/* The draft of the last finished stage, from disk; a bare one before the first. */
static int job_load_draft(struct agon_job *job, const char *description, struct agon_err *err)
{
    char path[4096];
    agon_draft_free(AGON_STEAL(job->draft));
    if (!job->dir[0])
        return agon_draft_new(&job->draft, job->id, job->run->family->name, description, err);
    int r = agon_corpus_path(job->run->corpus, "work", job->id, job->dir, path, err);
    return r ? r : agon_draft_load(&job->draft, path, err);
}

struct sweep {
    const char *parent, *keep;
};

static int sweep_one(const char *name, void *user, struct agon_err *err)
{
    const struct sweep *s = user;
    char path[4200];
    if (strcmp(name, s->keep) == 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", s->parent, name);
    return agon_dir_remove(path, err);
}

/* Remove what a dead driver left in work/ID/ beside the folder that corpus.db names. */
static int job_sweep(struct agon_job *job, struct agon_err *err)
{
    char path[4096];
    struct sweep s = {path, job->dir};
    int r = agon_corpus_path(job->run->corpus, "work", job->id, NULL, path, err);
    /* synced always: a driver may have died between making it and that */
    if (r || (r = agon_dir_make(path, err)) || (r = agon_dir_sync_parent(path, err)) ||
        (r = agon_dir_each(path, sweep_one, &s, err)))
        return r;
    if ((r = agon_corpus_path(job->run->corpus, "work", job->id, "scratch", job->scratch, err)))
        return r;
    return agon_dir_make(job->scratch, err);
}

int agon_job_clear(struct agon_job *job, struct agon_err *err)
{
    char path[4096];
    int r = agon_corpus_path(job->run->corpus, "work", job->id, NULL, path, err);
    return r ? r : agon_dir_remove(path, err);
}

static int job_read_row(struct agon_job *job, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(job->run->corpus),
                           "SELECT next, dir FROM environments WHERE id = ?1", err);
    if (r)
        return r;
    agon_query_text(q, 1, job->id);
    if ((r = agon_query_next(q, err)) != AGON_ROW)
        return r < 0 ? r : agon_fail(err, AGON_EINPUT, "corpus: no environment '%s'", job->id);
    snprintf(job->dir, sizeof(job->dir), "%s", agon_query_get_text(q, 1));
    return job_place(job, agon_query_get_text(q, 0), err);
}

int agon_job_new(struct agon_job **ret, struct agon_run *run, const struct agon_category *category,
                 struct agon_err *err)
{
    struct agon_job *job = calloc(1, sizeof(*job));
    if (!job || !(job->id = strdup(category->id))) {
        free(job);
        return agon_fail(err, AGON_ENOMEM, "job: out of memory");
    }
    job->run = run;
    job->rng = agon_rng_split(&run->rng, agon_str(category->id));
    int r = job_read_row(job, err);
    if (!r && job->step == JOB_DONE)
        r = agon_job_clear(job, err);
    else if (!r && !(r = job_sweep(job, err)))
        r = job_load_draft(job, category->description, err);
    if (r) {
        agon_job_free(job);
        return agon_err_in(err, r, "'%s'", category->id);
    }
    *ret = job;
    return 0;
}

/* ---- author's stages --------------------------------------------------------- */

static int job_begin_stage(struct agon_job *job, struct agon_err *err)
{
    char name[AGON_STAGE_NAME];
    const struct agon_run *run = job->run;
    struct agon_workshop shop = {
        .model = run->author,
        .sandbox = run->sandbox,
        .prompts = run->prompts,
        .library = run->library,
        .sampling = run->author_sampling,
        .context = run->context,
        .rng = job->rng,
        .scratch = job->scratch,
    };
    agon_stage_name(&job->place, name);
    int r = job_samples(job, name, &job->place.sample, err);
    job->stage_began_ms = agon_clock_ms();
    return r ? r : agon_stage_begin(&job->stage, &shop, job->draft, &job->place, err);
}

static int commit_events(struct agon_job *job, const char *stage, struct agon_err *err)
{
    size_t i;
    json_t *event;
    json_array_foreach(agon_stage_events(job->stage), i, event)
    {
        json_t *detail = json_copy(event);
        char kind[64];
        snprintf(kind, sizeof(kind), "%s", agon_json_text(event, "kind", "event"));
        json_object_del(detail, "kind");
        int r = agon_job_event(job, stage, kind, detail, err);
        if (r)
            return r;
    }
    return 0;
}

static int commit_row(struct agon_job *job, const char *stage, struct agon_err *err)
{
    const char *failure = agon_stage_failure(job->stage);
    struct agon_stage_row row = {
        .environment = job->id,
        .stage = stage,
        .sample = job->place.sample,
        .done = !failure,
        .reason = failure,
        .report = agon_stage_report(job->stage),
        .wall_ms = agon_clock_ms() - job->stage_began_ms,
    };
    int r = agon_corpus_stage(job->run->corpus, &row, err);
    if (r || (r = commit_events(job, stage, err)))
        return r;
    json_t *detail = json_pack("{s:i, s:s}", "sample", row.sample, "end",
                               agon_episode_end_name(row.report->end));
    if (failure && json_object_set_new(detail, "reason", agon_cleantext_json(agon_str(failure)))) {
        json_decref(detail);
        detail = NULL; /* out of memory: as agon_job_event() says */
    }
    return agon_job_event(job, stage, failure ? "stage_failed" : "stage_done", detail, err);
}

/* The accepted task of a level stage, as a row. */
static int commit_task(struct agon_job *job, const struct agon_draft *draft, const char *stage,
                       struct agon_err *err)
{
    const struct agon_task *task = agon_draft_task(draft, stage);
    if (!task)
        return 0;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    struct agon_buf evidence AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    json_auto_t *definition = agon_task_json(task);
    const json_t *events = agon_stage_events(job->stage);
    const json_t *last = json_array_get(events, json_array_size(events) - 1);
    const json_t *found = json_object_get(last, "evidence");
    agon_json_dump(&text, definition);
    if (found)
        agon_json_dump(&evidence, found);
    int r;
    if (!definition || (r = agon_buf_check(&text, "task", err)) ||
        (r = agon_buf_check(&evidence, "evidence", err)) ||
        (r = agon_query_new(&q, agon_corpus_db(job->run->corpus),
                            "INSERT INTO tasks(environment, id, line, level, parent, status,"
                            " definition, evidence) VALUES(?1, ?2, ?3, ?4, ?5, 'accepted', ?6, ?7)",
                            err)))
        return definition ? r : agon_fail(err, AGON_ENOMEM, "task: out of memory");
    agon_query_text(q, 1, job->id);
    agon_query_text(q, 2, task->id);
    agon_query_int(q, 3, job->place.line);
    agon_query_int(q, 4, job->place.level);
    agon_query_text(q, 5, task->parent);
    agon_query_text(q, 6, agon_buf_text(&text));
    agon_query_text(q, 7, found ? agon_buf_text(&evidence) : "{}");
    return agon_query_run(q, err);
}

/* A stage that failed for good: without it there is no environment, or the line ends. */
static int commit_given_up(struct agon_job *job, char next[AGON_STAGE_NAME], struct agon_err *err)
{
    if (job->place.stage == job->run->family->level)
        return 0;
    snprintf(next, AGON_STAGE_NAME, "done");
    char reason[600];
    snprintf(reason, sizeof(reason), "stage %s failed %d times, the last: %s",
             job->place.stage->name, (int)job->run->o.tries, agon_stage_failure(job->stage));
    return agon_job_status(job, "failed", reason, err);
}

/* One transaction: the stage's row, events, task, and what is next. */
static int job_commit_stage(struct agon_job *job, const struct agon_draft *draft, const char *stage,
                            struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    struct agon_corpus *corpus = job->run->corpus;
    bool failed = agon_stage_failure(job->stage) != NULL;
    bool again = failed && job->place.sample + 1 < (int)job->run->o.tries;
    char next[AGON_STAGE_NAME];
    snprintf(next, sizeof(next), "%s", stage);
    if (!again)
        job_next(job, !failed, next);
    int r = agon_corpus_check(corpus, err);
    if (r || (r = agon_txn_begin(&txn, agon_corpus_db(corpus), err)) ||
        (r = commit_row(job, stage, err)) ||
        (!failed && (r = commit_task(job, draft, stage, err))) ||
        (failed && !again && (r = commit_given_up(job, next, err))) ||
        (r = agon_corpus_next(corpus, job->id, next, failed ? job->dir : stage, err)))
        return r;
    return agon_txn_commit(&txn, err);
}

static int job_end_stage(struct agon_job *job, struct agon_err *err)
{
    char name[AGON_STAGE_NAME], path[4096], old[AGON_STAGE_NAME];
    struct agon_draft *draft AGON_AUTO(agon_draft_freep) = NULL;
    agon_stage_name(&job->place, name);
    snprintf(old, sizeof(old), "%s", job->dir);
    bool failed = agon_stage_failure(job->stage) != NULL;
    int r;
    job->run->tokens += agon_stage_report(job->stage)->tokens;
    if (!failed) {
        draft = agon_stage_take_draft(job->stage);
        if ((r = agon_corpus_path(job->run->corpus, "work", job->id, name, path, err)) ||
            (r = agon_dir_remove(path, err)) ||
            (r = agon_draft_store(draft, path, NULL, NULL, err)))
            return r;
    }
    if ((r = job_commit_stage(job, draft, name, err)))
        return r; /* and nothing is said to be done */
    agon_log(AGON_LOG_INFO, job->id, "%s: %s%s", name, failed ? "failed: " : "done",
             failed ? agon_stage_failure(job->stage) : "");
    agon_stage_free(AGON_STEAL(job->stage));
    if ((r = job_read_row(job, err)) || (r = job_sweep(job, err)))
        return r;
    return failed ? 0 : job_load_draft(job, "", err);
}

static int job_step_stage(struct agon_job *job, struct agon_err *err)
{
    int r = job->stage ? 0 : job_begin_stage(job, err);
    if (r)
        return r;
    r = agon_stage_step(job->stage, err);
    return r == AGON_STAGE_ENDED ? job_end_stage(job, err) : r;
}

int agon_job_step(struct agon_job *job, int parallel, struct agon_err *err)
{
    enum job_step before;
    int r = 0;
    do { /* a step that ended begins the next one at once */
        before = job->step;
        switch (job->step) {
        case JOB_STAGE: r = job_step_stage(job, err); break;
        case JOB_SOLVE: r = agon_job_solve(job, parallel, err); break;
        case JOB_PUBLISH: r = agon_job_publish(job, err); break;
        case JOB_DONE: r = agon_job_clear(job, err); return r ? r : AGON_JOB_OVER;
        }
        if (r == AGON_JOB_OVER)
            r = job_read_row(job, err);
    } while (!r && (job->step != before || (job->step == JOB_STAGE && !job->stage)));
    return r < 0 ? agon_err_in(err, r, "'%s'", job->id) : 0;
}

const char *agon_job_place(struct agon_job *job)
{
    char name[AGON_STAGE_NAME] = "";
    int n = 0, passed = 0;
    if (job->step == JOB_STAGE)
        agon_stage_name(&job->place, name);
    for (int i = 0; job->tasks && i < job->draft->n_tasks; i++) {
        n += job->tasks[i].n;
        passed += job->tasks[i].c;
    }
    switch (job->step) {
    case JOB_STAGE: snprintf(job->shown, sizeof(job->shown), "%s", name); break;
    case JOB_SOLVE: snprintf(job->shown, sizeof(job->shown), "solve %d/%d", passed, n); break;
    case JOB_PUBLISH: return "publish";
    case JOB_DONE: return "done";
    }
    return job->shown;
}
