/* agon verify: regression over a corpus or environments, for people and for CI. */
#include "base/file.h"
#include "base/log.h"
#include "pipelines/corpus.h"
#include "pipelines/verb.h"
#include "pipelines/verify_report.h"
#include "pipelines/workers.h"
#include "verifiers/regress.h"
#include "verifiers/regress_baseline.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const size_t baseline_bytes_max = 1U << 30;

struct options {
    const char *junit, *baseline;
    bool tap, write_baseline;
    int64_t jobs, slack, budget;
};
#define FIELD(f) .offset = offsetof(struct options, f)
static const struct agon_opt table[] = {
    {.name = "junit",
     .type = AGON_OPT_TEXT,
     FIELD(junit),
     .arg = "FILE",
     .help = "write every case as JUnit XML, too"},
    {.name = "tap",
     .type = AGON_OPT_FLAG,
     FIELD(tap),
     .help = "print every case as TAP 14 instead of lines"},
    {.name = "baseline",
     .type = AGON_OPT_TEXT,
     FIELD(baseline),
     .arg = "FILE",
     .help = "compare with what was recorded there; anything else fails"},
    {.name = "write-baseline",
     .type = AGON_OPT_FLAG,
     FIELD(write_baseline),
     .help = "record what is found in --baseline FILE, where nothing fails"},
    {.name = "slack",
     .type = AGON_OPT_INT,
     FIELD(slack),
     .min = 0,
     .max = 1000,
     .arg = "PERCENT",
     .help = "more fuel and SQL operations than the baseline's that pass"},
    {.name = "budget",
     .type = AGON_OPT_INT,
     FIELD(budget),
     .min = 1,
     .max = 100,
     .arg = "PERCENT",
     .help = "most share of a limit that a golden run may take"},
    AGON_WORKERS_OPTION(offsetof(struct options, jobs)),
    {0},
};

struct verify {
    struct options o;
    struct agon_regress_dirs dirs;
    struct agon_baseline *baseline;
    struct agon_verify_report report;
    struct agon_buf measured; /* the new baseline */
    json_t *seen;             /* ids of the environments that were judged */
    bool whole; /* a folder of environments was named: those of the baseline are due */
};

/* ---- environments ---- */

static int verify_work(void *user, struct agon_sandbox *sb, int i, void **result,
                       struct agon_err *err)
{
    const struct verify *v = user;
    struct agon_regress_options o = {.baseline = v->baseline,
                                     .measure = v->o.write_baseline,
                                     .share_max = (int)v->o.budget * 10,
                                     .slack_percent = (int)v->o.slack};
    struct agon_regress_report *r = calloc(1, sizeof(*r));
    if (!r)
        return agon_fail(err, AGON_ENOMEM, "verify: out of memory");
    *result = r;
    return agon_regress_env(sb, v->dirs.items[i], &o, r, err);
}

static int verify_done(void *user, int i, void *result, int status, struct agon_err *err)
{
    struct verify *v = user;
    struct agon_regress_report *r = result;
    (void)i;
    if (status >= 0) {
        agon_verify_report_add(&v->report, r);
        agon_baseline_add(&v->measured, r->measured);
        if (json_object_set_new(v->seen, r->id, json_true()))
            status = agon_fail(err, AGON_ENOMEM, "verify: out of memory");
        fflush(stdout);
    }
    if (r)
        agon_regress_report_deinit(r);
    free(r);
    return status < 0 ? status : 0;
}

/* An environment that should be there, as a failed case. */
static int verify_absent(struct verify *v, const char *id, const char *why, struct agon_err *err)
{
    struct agon_regress_report r = {0};
    int e = agon_regress_report_init(&r, id, err);
    if (!e && !agon_regress_fail(&r, NULL, "there", NULL, NULL, "%s", why))
        e = agon_fail(err, AGON_ENOMEM, "verify: out of memory");
    if (!e)
        agon_verify_report_add(&v->report, &r);
    agon_regress_report_deinit(&r);
    return e;
}

static int verify_baseline_absent(struct verify *v, struct agon_err *err)
{
    const char *name;
    int r = 0;
    for (int k = 0; v->whole && v->baseline && (name = agon_baseline_name(v->baseline, k)) && !r;
         k++)
        if (!json_object_get(v->seen, name))
            r = verify_absent(v, name, "the environment is in the baseline, but not here", err);
    return r;
}

/* Environments that corpus.db counts as kept but whose folder is gone. */
static int verify_corpus_absent(struct verify *v, const char *dir, struct agon_err *err)
{
    char path[4096];
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = NULL;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_corpus_open_read(&c, dir, err);
    if (r ||
        (r = agon_query_new(&q, agon_corpus_db(c),
                            "SELECT id FROM environments WHERE status = 'kept' ORDER BY id", err)))
        return r;
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        const char *id = agon_query_get_text(q, 0);
        if ((r = agon_corpus_path(c, "environments", id, "env.json", path, err)))
            return r;
        if (access(path, R_OK) &&
            (r = verify_absent(v, id, "kept by corpus.db, but its folder is missing", err)))
            return r;
    }
    return r;
}

/* ---- paths ---- */

static bool is_file(const char *dir, const char *name)
{
    char *at = NULL;
    bool there = asprintf(&at, "%s/%s", dir, name) >= 0 && access(at, F_OK) == 0;
    free(at);
    return there;
}

static int verify_path(struct verify *v, const char *path, struct agon_err *err)
{
    char at[4096];
    if (access(path, F_OK))
        return agon_fail(err, AGON_EINPUT, "there is no folder '%s'", path);
    bool is_corpus = is_file(path, "corpus.db");
    int r = is_corpus ? verify_corpus_absent(v, path, err) : 0;
    snprintf(at, sizeof(at), "%s%s", path, is_corpus ? "/environments" : "");
    if (!r && is_corpus && !is_file(path, "environments"))
        return agon_fail(err, AGON_EINPUT, "'%s' holds no finished environment yet", path);
    v->whole = v->whole || !is_file(at, "env.json");
    return r ? r : agon_regress_find(&v->dirs, at, err);
}

/* ---- the verb ---- */

static int verify_open(struct verify *v, struct agon_err *err)
{
    if (v->o.write_baseline && !v->o.baseline)
        return agon_fail(err, AGON_EINPUT, "--write-baseline needs --baseline FILE");
    if (v->o.baseline && !v->o.write_baseline) {
        if (access(v->o.baseline, F_OK))
            return agon_fail(err, AGON_EINPUT,
                             "there is no baseline '%s'; --write-baseline makes it", v->o.baseline);
        int r = agon_baseline_load(&v->baseline, v->o.baseline, err);
        if (r)
            return r;
    }
    if (!(v->seen = json_object()))
        return agon_fail(err, AGON_ENOMEM, "verify: out of memory");
    v->measured = (struct agon_buf)AGON_BUF(baseline_bytes_max);
    agon_baseline_begin(&v->measured);
    v->report.to = stdout;
    v->report.tap = v->o.tap;
    v->report.want_junit = v->o.junit != NULL;
    agon_verify_report_begin(&v->report);
    return 0;
}

static int verify_write(struct verify *v, struct agon_err *err)
{
    struct agon_buf junit AGON_AUTO(agon_buf_deinit) = AGON_BUF(baseline_bytes_max);
    int r = 0;
    if (v->o.junit) {
        agon_verify_report_junit(&v->report, &junit);
        r = agon_buf_check(&junit, "--junit", err);
        if (!r)
            r = agon_file_write(v->o.junit, agon_buf_str(&junit), false, err);
    }
    if (r || !v->o.write_baseline)
        return r;
    if (v->report.n_failures) {
        agon_log(AGON_LOG_WARN, "verify", "'%s' is not written: there are failures", v->o.baseline);
        return 0;
    }
    r = agon_buf_check(&v->measured, "--baseline", err);
    return r ? r : agon_file_write(v->o.baseline, agon_buf_str(&v->measured), false, err);
}

static int verify_run(struct verify *v, int n, char **paths, struct agon_err *err)
{
    int r = verify_open(v, err);
    for (int i = 0; i < n && !r; i++)
        r = verify_path(v, paths[i], err);
    struct agon_workers w = {.n_items = v->dirs.n,
                             .n_jobs = (int)v->o.jobs,
                             .user = v,
                             .work = verify_work,
                             .done = verify_done};
    if (!r)
        r = agon_workers_run(&w, err);
    if (!r)
        r = verify_baseline_absent(v, err);
    if (r && v->o.tap)
        puts("Bail out!");
    if (r)
        return r;
    agon_verify_report_end(&v->report);
    return verify_write(v, err);
}

static const char about[] =
    "Nothing was altered, every golden answer passes, every solution still finds it, every\n"
    "negative fails, and no run comes near its limits. With a baseline: the world, the tools,\n"
    "files, checks, what each negative fails on, fuel and SQL operations are as recorded.\n"
    "Exit status: 0 all as it should be; 1 something is not, and is named; 2 usage, or no such\n"
    "baseline; 3 this machine could not judge (no box, no memory).";

int agon_verb_verify(int argc, char **argv)
{
    struct agon_err err = {0};
    struct verify v = {.o = {.slack = 10, .budget = 90}};
    int n, status;
    if (agon_verb_options(table, &v.o, "usage: agon verify CORPUS|ENVIRONMENT_DIR... [OPTION]...",
                          about, 1, 1000, argc, argv, &n, &status))
        return status;
    int r = verify_run(&v, n, argv + 1, &err);
    bool failed = v.report.n_failures > 0;
    agon_verify_report_deinit(&v.report);
    agon_buf_deinit(&v.measured);
    agon_baseline_free(v.baseline);
    agon_regress_dirs_deinit(&v.dirs);
    json_decref(v.seen);
    if (r)
        return agon_verb_fail("verify", &err);
    return failed ? AGON_EXIT_NO : AGON_EXIT_OK;
}
