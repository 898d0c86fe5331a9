/* The driver's loop: see run.h. */
#include "pipelines/run.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "pipelines/corpus_internal.h"
#include "pipelines/dedup.h"
#include "pipelines/job_internal.h"
#include "pipelines/rollout_row.h"
#include "sandbox/cell.h"
#include "synth/prompts.h"

#include <stdio.h>
#include <stdlib.h>

enum { POLL_MS = 50 };

void agon_run_close(struct agon_run *run)
{
    if (run->solver != run->author)
        agon_model_free(run->solver);
    agon_model_free(run->author);
    agon_library_close(run->library);
    agon_prompts_free(run->prompts);
    agon_sandbox_close(run->sandbox);
    agon_corpus_close(run->corpus);
    agon_categories_deinit(&run->categories);
    *run = (struct agon_run){0};
}

/* ---- opening ----------------------------------------------------------------- */

static int run_check_options(struct agon_run *run, struct agon_err *err)
{
    const struct agon_run_options *o = &run->o;
    if (!o->corpus)
        return agon_fail(err, AGON_EINPUT, "--corpus DIR is missing");
    if (o->rank >= o->ranks)
        return agon_fail(err, AGON_EINPUT, "--rank %lld is not below --ranks %lld",
                         (long long)o->rank, (long long)o->ranks);
    if (o->rollouts_max < o->rollouts)
        return agon_fail(err, AGON_EINPUT, "--rollouts-max %lld is below --rollouts %lld",
                         (long long)o->rollouts_max, (long long)o->rollouts);
    run->rule = (struct agon_filter_rule){0, 1, 0.1};
    int n = 0;
    if (o->band &&
        (sscanf(o->band, "%lf,%lf%n", &run->rule.band_low, &run->rule.band_high, &n) != 2 ||
         o->band[n] || run->rule.band_low < 0 || !(run->rule.band_low <= run->rule.band_high) ||
         run->rule.band_high > 1))
        return agon_fail(err, AGON_EINPUT, "--band: '%s' is not LO,HI with 0 <= LO <= HI <= 1",
                         o->band);
    return agon_context_parse(&run->context, o->context, err);
}

static int run_read_categories(struct agon_run *run, struct agon_err *err)
{
    const struct agon_run_options *o = &run->o;
    int r = 0;
    if (o->categories_file)
        r = agon_categories_read(&run->categories, o->categories_file, err);
    for (int i = 0; i < o->category.n && !r; i++)
        r = agon_categories_add(&run->categories, o->category.items[i], err);
    if (!r && run->categories.n == 0)
        r = agon_fail(err, AGON_EINPUT, "no category: give --categories FILE or --category TEXT");
    return r;
}

static const char **list_terminated(const struct agon_opt_list *list,
                                    const char *space[AGON_OPT_LIST_MAX + 1])
{
    for (int i = 0; i < list->n; i++)
        space[i] = list->items[i];
    space[list->n] = NULL;
    return space;
}

static int run_open_library(struct agon_run *run, struct agon_err *err)
{
    char dir[4096];
    const char *sources[AGON_OPT_LIST_MAX + 1], *hosts[AGON_OPT_LIST_MAX + 1];
    const struct agon_run_options *o = &run->o;
    int r = agon_corpus_path(run->corpus, "library", NULL, NULL, dir, err);
    if (r)
        return r;
    struct agon_library_options lo = {
        .sandbox = run->sandbox,
        .dir = o->library ? o->library : dir,
        .sources = list_terminated(&o->source, sources),
        .allow_hosts = list_terminated(&o->allow_host, hosts),
        .searxng_url = o->searxng,
        .crawl_pages_max = (int)o->crawl_pages,
        .delay_ms = (int)o->delay_ms,
        .exclusive = !o->library, /* below the corpus, whose lock we hold */
    };
    return agon_library_open(&run->library, &lo, err);
}

/* A model that can't be reached or read is its own kind of failure; bad bytes stay bad input. */
int agon_run_open_model(struct agon_model **ret, const char *spec,
                        const struct agon_model_options *options, struct agon_err *err)
{
    int r = agon_model_open(ret, spec, options, err);
    return r == AGON_ESYS ? (err->code = AGON_EMODEL) : r;
}

static int run_open_models(struct agon_run *run, struct agon_err *err)
{
    const struct agon_run_options *o = &run->o;
    char record[4096];
    const char *author = o->author ? o->author : o->model,
               *solver = o->solver ? o->solver : o->model;
    struct agon_model_options mo = {
        .device = o->device,
        .record_path = o->record,
        .model_name = o->model_name,
        .n_threads = (int)o->threads,
        .cache_mb = (int)o->cache_mb,
    };
    bool same = author == solver || (author && solver && strcmp(author, solver) == 0);
    int r = agon_run_open_model(&run->author, author, &mo, err);
    if (r)
        return r;
    run->solver = run->author;
    if (!same) {
        snprintf(record, sizeof(record), "%s.solver", o->record ? o->record : "");
        mo.record_path = o->record ? record : NULL;
        run->solver = NULL;
        if ((r = agon_run_open_model(&run->solver, solver, &mo, err)))
            return r;
    }
    run->author_sampling = (struct agon_sampling){.temperature = o->temperature,
                                                  .top_p = o->top_p,
                                                  .top_k = (int)o->top_k,
                                                  .tokens_max = (int)o->turn_tokens};
    run->solver_sampling = run->author_sampling;
    run->solver_sampling.temperature = o->solver_temperature;
    return 0;
}

/* Digest of the texts that this run's models see. */
static const char *run_prompts(const struct agon_run *run)
{
    return agon_prompts_digest(run->prompts, run->context == AGON_CONTEXT_SUMMARY);
}

/* With how many trajectories a rollout was made, where that is asked for; takes and gives config.
 */
static json_t *run_trajectories(const struct agon_run *run, json_t *config)
{
    if (run->context == AGON_CONTEXT_PARALLEL &&
        json_object_set_new(config, "trajectories", json_integer(run->o.trajectories))) {
        json_decref(config);
        return NULL;
    }
    return config;
}

/* What a resumed run must share with the one that began. */
static json_t *run_config(const struct agon_run *run, const char *categories, const char *library)
{
    const struct agon_run_options *o = &run->o;
    json_t *config = json_pack(
        "{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:s,"
        " s:s, s:s, s:s, s:s, s:I, s:I}",
        "family", run->family->name, "seed", (json_int_t)o->seed, "categories", categories,
        "levels", (json_int_t)o->levels, "lines", (json_int_t)o->lines, "tries",
        (json_int_t)o->tries, "rollouts", (json_int_t)o->rollouts, "rollouts-max",
        (json_int_t)o->rollouts_max, "estimate", o->estimate, "band-low", run->rule.band_low,
        "band-high", run->rule.band_high, "temperature", o->temperature, "solver-temperature",
        o->solver_temperature, "top-p", o->top_p, "top-k", (json_int_t)o->top_k, "turn-tokens",
        (json_int_t)o->turn_tokens, "context", o->context, "author", agon_model_name(run->author),
        "solver", agon_model_name(run->solver), "prompts", run_prompts(run), "library", library,
        "rank", (json_int_t)o->rank, "ranks", (json_int_t)o->ranks);
    return run_trajectories(run, config);
}

static int run_settle(struct agon_run *run, struct agon_err *err)
{
    char categories[65], library[65];
    agon_categories_digest(&run->categories, categories);
    int r = agon_library_digest(run->library, library, err);
    if (r)
        return r;
    json_auto_t *config = run_config(run, categories, library);
    if (!config)
        return agon_fail(err, AGON_ENOMEM, "configuration: out of memory");
    return agon_corpus_settle(run->corpus, config, err);
}

static int category_row(struct agon_run *run, int i, struct agon_err *err)
{
    const struct agon_category *category = &run->categories.items[i];
    struct agon_query *a AGON_AUTO(agon_query_freep) = NULL;
    struct agon_query *b AGON_AUTO(agon_query_freep) = NULL;
    struct sqlite3 *db = agon_corpus_db(run->corpus);
    int r = agon_query_new(&a, db, "INSERT OR IGNORE INTO categories VALUES(?1, ?2, ?3)", err);
    if (r || (r = agon_query_new(&b, db,
                                 "INSERT OR IGNORE INTO environments(id, category, family, status,"
                                 " next) VALUES(?1, ?1, ?2, 'open', ?3)",
                                 err)))
        return r;
    agon_query_text(a, 1, category->id);
    agon_query_int(a, 2, category->position);
    agon_query_text(a, 3, category->description);
    agon_query_text(b, 1, category->id);
    agon_query_text(b, 2, run->family->name);
    agon_query_text(b, 3, run->family->retrieve->name);
    return (r = agon_query_run(a, err)) ? r : agon_query_run(b, err);
}

/* Rows of categories, environments and the solver's configuration: once. */
static int run_rows(struct agon_run *run, struct agon_err *err)
{
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    const struct agon_sampling *s = &run->solver_sampling;
    json_auto_t *sampling = run_trajectories(
        run, json_pack("{s:f, s:f, s:i, s:i, s:s, s:s}", "temperature", s->temperature, "top_p",
                       s->top_p, "top_k", s->top_k, "tokens_max", s->tokens_max, "context",
                       agon_context_name(run->context), "prompts", run_prompts(run)));
    if (!sampling)
        return agon_fail(err, AGON_ENOMEM, "configuration: out of memory");
    int r = agon_txn_begin(&txn, agon_corpus_db(run->corpus), err);
    if (!r)
        r = agon_configuration_row(run->corpus, agon_model_name(run->solver), sampling,
                                   run->configuration, err);
    for (int i = 0; i < run->categories.n && !r; i++)
        r = category_row(run, i, err);
    return r ? r : agon_txn_commit(&txn, err);
}

int agon_run_open(struct agon_run *run, const struct agon_run_options *o,
                  const struct agon_family *family, struct agon_err *err)
{
    *run = (struct agon_run){.o = *o, .family = family, .began_ms = agon_clock_ms()};
    agon_rng_init(&run->rng, (uint64_t)o->seed);
    int r = run_check_options(run, err);
    if (r || (r = run_read_categories(run, err)) ||
        (r = agon_prompts_load(&run->prompts, o->prompts, err)) ||
        (r = agon_corpus_open(&run->corpus, o->corpus, err)))
        return r == AGON_CORPUS_LOCKED ? AGON_RUN_LOCKED : r;
    struct agon_sandbox_options so = {0};
    /* the launcher forks while this process is small: before index and model */
    if ((r = agon_sandbox_open(&run->sandbox, &so, err)) || (r = run_open_library(run, err)) ||
        (r = run_open_models(run, err)) || (r = run_settle(run, err)))
        return r == AGON_CORPUS_DIFFERS ? AGON_RUN_DIFFERS : agon_corpus_blame(run->corpus, r, err);
    agon_categories_split(&run->categories, (int)o->rank, (int)o->ranks);
    return agon_corpus_blame(run->corpus, run_rows(run, err), err);
}

/* ---- working ----------------------------------------------------------------- */

struct jobs {
    struct agon_job **items; /* at work, in the order of categories */
    int n, n_max;
    int next, n_over; /* categories begun and finished */
};

static void run_progress(struct agon_run *run, struct jobs *jobs)
{
    char line[512];
    int n = 0;
    int64_t seconds = (agon_clock_ms() - run->began_ms) / 1000;
    for (int i = 0; i < jobs->n && n < 300; i++)
        n += snprintf(line + n, sizeof(line) - (size_t)n, ", %.40s %s", jobs->items[i]->id,
                      agon_job_place(jobs->items[i]));
    agon_progress(false, "%02d:%02d  %d of %d categories%s", (int)(seconds / 60),
                  (int)(seconds % 60), jobs->n_over, run->categories.n, n ? line : "");
}

static int jobs_begin(struct agon_run *run, struct jobs *jobs, struct agon_err *err)
{
    while (jobs->n < jobs->n_max && jobs->next < run->categories.n) {
        int r = agon_job_new(&jobs->items[jobs->n], run, &run->categories.items[jobs->next], err);
        if (r)
            return r;
        jobs->n++;
        jobs->next++;
    }
    return 0;
}

/* One round: each job goes as far as it can; those that are over leave. */
static int jobs_step(struct agon_run *run, struct jobs *jobs, struct agon_err *err)
{
    int kept = 0, r = 0, n = jobs->n;
    int share = (int)run->o.parallel / (n > 0 ? n : 1);
    for (int i = 0; i < n; i++) {
        struct agon_job *job = jobs->items[i];
        if (!r)
            r = agon_job_step(job, share > 0 ? share : 1, err);
        if (r == AGON_JOB_OVER) {
            r = 0;
            agon_job_free(job);
            jobs->n_over++;
        } else {
            jobs->items[kept++] = job;
        }
    }
    jobs->n = kept;
    return r;
}

static int run_poll(struct agon_run *run, struct agon_err *err)
{
    bool two = run->solver != run->author;
    int r = agon_model_poll(run->author, two ? POLL_MS / 2 : POLL_MS, err);
    return r || !two ? r : agon_model_poll(run->solver, POLL_MS / 2, err);
}

static int run_jobs(struct agon_run *run, struct jobs *jobs, struct agon_err *err)
{
    int r = 0;
    while (!r && (jobs->n > 0 || jobs->next < run->categories.n)) {
        r = jobs_begin(run, jobs, err);
        if (!r)
            r = jobs_step(run, jobs, err);
        if (!r && jobs->n > 0)
            r = run_poll(run, err);
        run_progress(run, jobs);
    }
    return r;
}

/* The clock's side of this process's work: a row that begins now ... */
static int timing_begin(struct agon_run *run, int64_t *ret_id, struct agon_err *err)
{
    char now[32];
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(run->corpus),
                           "INSERT INTO timing_runs(began) VALUES(?1) RETURNING id", err);
    if (r)
        return r;
    agon_now_text(now);
    agon_query_text(q, 1, now);
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    *ret_id = agon_query_get_int(q, 0);
    return agon_query_run(q, err);
}

/* ... and says in the end how long it took and how many tokens it generated. */
static int timing_end(struct agon_run *run, int64_t id, struct agon_err *err)
{
    char now[32];
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(
        &q, agon_corpus_db(run->corpus),
        "UPDATE timing_runs SET ended = ?2, wall_ms = ?3, tokens = ?4 WHERE id = ?1", err);
    if (r)
        return r;
    agon_now_text(now);
    agon_query_int(q, 1, id);
    agon_query_text(q, 2, now);
    agon_query_int(q, 3, agon_clock_ms() - run->began_ms);
    agon_query_int(q, 4, run->tokens);
    return agon_query_run(q, err);
}

int agon_run_all(struct agon_run *run, struct agon_err *err)
{
    struct jobs jobs = {.n_max = (int)run->o.jobs};
    jobs.items = calloc((size_t)jobs.n_max, sizeof(*jobs.items));
    if (!jobs.items)
        return agon_fail(err, AGON_ENOMEM, "run: out of memory");
    int64_t timing = 0;
    int r = timing_begin(run, &timing, err);
    if (!r)
        r = run_jobs(run, &jobs, err);
    for (int i = 0; i < jobs.n; i++)
        agon_job_free(jobs.items[i]);
    free(jobs.items);
    agon_progress_end();
    if (!r)
        r = run->o.ranks > 1 ? agon_dedup_later(run->corpus, err) : agon_dedup(run->corpus, err);
    if (!r)
        r = timing_end(run, timing, err);
    return agon_corpus_blame(run->corpus, r, err);
}
