/* agon audit: every gate and more, over environments that are accepted already. */
#include "base/file.h"
#include "base/json.h"
#include "pipelines/verb.h"
#include "pipelines/workers.h"
#include "sandbox/cell.h"
#include "verifiers/audit.h"
#include "verifiers/regress.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { REPORT_BYTES_MAX = 1 << 30 };

struct options {
    bool json;
    int64_t seed, jobs, golden;
};
#define FIELD(f) .offset = offsetof(struct options, f)
static const struct agon_opt table[] = {
    {.name = "json", .type = AGON_OPT_FLAG, FIELD(json), .help = "print the cards as JSON"},
    {.name = "seed",
     .type = AGON_OPT_INT,
     FIELD(seed),
     .min = 0,
     .max = 9007199254740992.0,
     .arg = "N",
     .help = "of the attack answers; others than the gates' when the task was accepted"},
    {.name = "golden",
     .type = AGON_OPT_INT,
     FIELD(golden),
     .min = 1,
     .max = 1000000,
     .arg = "N",
     .help = "runs of each solution"},
    {.name = "jobs",
     .letter = 'j',
     .type = AGON_OPT_INT,
     FIELD(jobs),
     .min = 1,
     .max = 256,
     .arg = "N",
     .help = "environments at once"},
    {0},
};

struct auditing {
    const struct options *options;
    struct agon_regress_dirs dirs;
    json_t *cards;
};

/* A sandbox whose processes run on the n-th processor that we may use, counted from the back
 * where n < 0: they take it over from the thread that starts them. */
static int sandbox_on(struct agon_sandbox **ret, int n, struct agon_err *err)
{
    cpu_set_t mine, one;
    struct agon_sandbox_options so = {.keep_first = true};
    int last = -1, at = -1;
    if (sched_getaffinity(0, sizeof(mine), &mine))
        CPU_ZERO(&mine);
    for (int i = 0, k = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &mine)) {
            last = i;
            at = k++ == n ? i : at;
        }
    CPU_ZERO(&one);
    CPU_SET(at >= 0 ? at : last >= 0 ? last : 0, &one);
    /* Where it cannot be had the runs are still in another process. */
    (void)sched_setaffinity(0, sizeof(one), &one);
    int r = agon_sandbox_open(ret, &so, err);
    (void)sched_setaffinity(0, sizeof(mine), &mine);
    return r;
}

static int audit_one(void *user, struct agon_sandbox *sb, int i, void **result,
                     struct agon_err *err)
{
    struct auditing *a = user;
    struct agon_sandbox *first AGON_AUTO(agon_sandbox_closep) = NULL,
                               *last AGON_AUTO(agon_sandbox_closep) = NULL;
    int r = sandbox_on(&first, 0, err);
    if (!r)
        r = sandbox_on(&last, -1, err);
    struct agon_audit_options o = {
        .places = {sb, first, last},
        .n_places = 3,
        .seed = (uint64_t)a->options->seed,
        .golden_runs = (int)a->options->golden,
    };
    json_t *cards = NULL;
    if (!r)
        r = agon_audit_env(a->dirs.items[i], &o, &cards, err);
    *result = cards;
    return r;
}

static int audit_done(void *user, int i, void *result, int status, struct agon_err *err)
{
    struct auditing *a = user;
    json_auto_t *cards = result;
    (void)i;
    if (status < 0)
        return status;
    return json_array_extend(a->cards, cards) ? agon_fail(err, AGON_ENOMEM, "out of memory") : 0;
}

/* A corpus keeps its environments in a folder of its own; drafts beside it are not looked at. */
static int find_dirs(struct agon_regress_dirs *dirs, const char *path, struct agon_err *err)
{
    char at[4096];
    if (access(path, F_OK))
        return agon_fail(err, AGON_EINPUT, "there is no folder '%s'", path);
    snprintf(at, sizeof(at), "%s/corpus.db", path);
    bool is_corpus = access(at, F_OK) == 0;
    snprintf(at, sizeof(at), "%s%s", path, is_corpus ? "/environments" : "");
    if (is_corpus && access(at, F_OK))
        return agon_fail(err, AGON_EINPUT, "'%s' holds no finished environment yet", path);
    return agon_regress_find(dirs, at, err);
}

static int audit_report(struct auditing *a, json_t **ret, struct agon_err *err)
{
    struct agon_workers w = {
        .n_items = a->dirs.n,
        .n_jobs = (int)a->options->jobs,
        .user = a,
        .work = audit_one,
        .done = audit_done,
    };
    int r = agon_workers_run(&w, err);
    return r ? r : agon_audit_finish(json_incref(a->cards), ret, err);
}

static int print_report(const json_t *report, bool as_json, struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(REPORT_BYTES_MAX);
    if (as_json)
        agon_json_dump(&text, report);
    else
        agon_audit_print(report, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"), &text);
    int r = agon_buf_check(&text, "report", err);
    if (r)
        return r;
    fputs(agon_buf_text(&text), stdout);
    if (as_json)
        putchar('\n');
    return 0;
}

int agon_verb_audit(int argc, char **argv)
{
    struct agon_err err = {0};
    struct options o = {.seed = 1000003, .jobs = 1, .golden = 100};
    struct auditing a = {.options = &o, .cards = json_array()};
    json_auto_t *report = NULL;
    int n, status;
    if (agon_verb_options(table, &o, "usage: agon audit [OPTIONS] CORPUS|ENVIRONMENT_DIR...",
                          "Every gate and more over what was accepted: a score card for each task,"
                          " what is wrong\nand where. Exit status 1 where something is refused.",
                          1, 1000, argc, argv, &n, &status)) {
        json_decref(a.cards);
        return status;
    }
    int r = a.cards ? 0 : agon_fail(&err, AGON_ENOMEM, "out of memory");
    for (int i = 1; i <= n && !r; i++)
        r = find_dirs(&a.dirs, argv[i], &err);
    if (!r)
        r = audit_report(&a, &report, &err);
    agon_regress_dirs_deinit(&a.dirs);
    json_decref(a.cards);
    if (!r)
        r = print_report(report, o.json, &err);
    if (r < 0)
        return agon_verb_fail("audit", &err);
    return json_integer_value(json_object_get(json_object_get(report, "summary"), "refused"))
               ? AGON_EXIT_NO
               : AGON_EXIT_OK;
}
