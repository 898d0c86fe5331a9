#pragma once
/*
 * A run: the driver's loop over the categories of a corpus. Each category is a job, a
 * small state machine whose state between two transactions is `environments.next` in
 * corpus.db: retrieve, tools, t1_l1 ... tN_lM, solve, publish, done. Jobs run
 * side by side over the same models; nothing of one depends on another, so the
 * corpus does not depend on how many run at once. When all are done, near-duplicates
 * across environments are removed in the order of ids.
 */
#include "base/opt.h"
#include "base/rng.h"
#include "model/model.h"
#include "pipelines/category.h"
#include "pipelines/corpus.h"
#include "synth/context.h"
#include "synth/family.h"
#include "synth/filter.h"
#include "synth/retrieval.h"

struct agon_prompts;
struct agon_sandbox;

/* What the command line says; texts are borrowed from argv. */
struct agon_run_options {
    const char *corpus, *categories_file, *model, *author, *solver, *model_name, *device;
    const char *record, *prompts, *library, *searxng, *context, *band;
    struct agon_opt_list category, source, allow_host;
    int64_t seed, levels, lines, tries, rollouts, rollouts_max, trajectories, jobs, parallel,
        threads, cache_mb, rank, ranks;
    int64_t top_k, turn_tokens, crawl_pages, delay_ms;
    double temperature, top_p, solver_temperature;
    bool estimate, verbose;
};
extern const struct agon_opt agon_run_option_table[];
/* The defaults, to be overwritten by agon_opt_parse(). */
struct agon_run_options agon_run_defaults(void);

struct agon_run {
    struct agon_run_options o;
    const struct agon_family *family;
    struct agon_categories categories; /* of this rank */
    struct agon_corpus *corpus;
    struct agon_sandbox *sandbox;
    struct agon_prompts *prompts;
    struct agon_library *library;
    struct agon_model *author, *solver; /* solver may be the same as author */
    struct agon_sampling author_sampling, solver_sampling;
    enum agon_context context;
    struct agon_filter_rule rule;
    struct agon_rng rng;
    char configuration[16]; /* id of the solver's configuration in corpus.db */
    int64_t began_ms;
    int64_t tokens; /* generated in this process; for the progress line */
};

enum { AGON_RUN_LOCKED = 1, AGON_RUN_DIFFERS = 2 };
/* Open all that a run needs, cheap things first. AGON_RUN_*: err's text says it. */
int agon_run_open(struct agon_run *run, const struct agon_run_options *o,
                  const struct agon_family *family, struct agon_err *err) AGON_MUST_USE;
void agon_run_close(struct agon_run *run);
/* agon_model_open() whose system errors are AGON_EMODEL. */
int agon_run_open_model(struct agon_model **ret, const char *spec,
                        const struct agon_model_options *options,
                        struct agon_err *err) AGON_MUST_USE;
/* Work until every job is done. */
int agon_run_all(struct agon_run *run, struct agon_err *err) AGON_MUST_USE;

/* ---- one category's job: job.c, job_solve.c ---- */
struct agon_job;
int agon_job_new(struct agon_job **ret, struct agon_run *run, const struct agon_category *category,
                 struct agon_err *err) AGON_MUST_USE;
void agon_job_free(struct agon_job *job);
enum { AGON_JOB_OVER = 1 };
/* Go as far as is possible without waiting; parallel: rollouts that may be in flight. */
int agon_job_step(struct agon_job *job, int parallel, struct agon_err *err) AGON_MUST_USE;
/* "t1_l3", "solve 12": for the progress line; borrowed until the next step. */
const char *agon_job_place(struct agon_job *job);
