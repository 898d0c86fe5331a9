/* Regression over one environment: see regress.h. */
#include "verifiers/regress.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/file.h"
#include "verifiers/regress_baseline.h"
#include "verifiers/regress_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const size_t report_bytes_max = 256U << 20;

/* ---- reports ---- */

int agon_regress_report_init(struct agon_regress_report *r, const char *id, struct agon_err *err)
{
    *r = (struct agon_regress_report){0};
    int e = agon_arena_new(&r->arena, report_bytes_max, err);
    if (!e && !(r->id = agon_arena_strdup(r->arena, agon_str(id))))
        e = agon_fail(err, AGON_ENOMEM, "verify: out of memory");
    return e;
}

void agon_regress_report_deinit(struct agon_regress_report *r)
{
    free(r->cases);
    json_decref(r->measured);
    agon_arena_free(r->arena);
    *r = (struct agon_regress_report){0};
}

static const char *report_text(struct agon_regress_report *r, const char *text, bool *ok)
{
    const char *copy = text ? agon_arena_strdup(r->arena, agon_str(text)) : NULL;
    *ok = *ok && (copy || !text);
    return copy;
}

static bool report_add(struct agon_regress_report *r, const char *task, const char *name,
                       struct agon_regress_case c)
{
    if (r->n_cases == r->n_cases_capacity) {
        int capacity = r->n_cases_capacity ? 2 * r->n_cases_capacity : 64;
        struct agon_regress_case *cases = realloc(r->cases, (size_t)capacity * sizeof(*cases));
        if (!cases)
            return false;
        r->cases = cases;
        r->n_cases_capacity = capacity;
    }
    bool ok = true;
    c.task = report_text(r, task, &ok);
    c.name = report_text(r, name, &ok);
    if (ok)
        r->cases[r->n_cases++] = c;
    return ok;
}

bool agon_regress_pass(struct agon_regress_report *r, const char *task, const char *name)
{
    return report_add(r, task, name, (struct agon_regress_case){0});
}

bool agon_regress_fail(struct agon_regress_report *r, const char *task, const char *name,
                       const char *expected, const char *got, const char *fmt, ...)
{
    struct agon_buf message AGON_AUTO(agon_buf_deinit) = AGON_BUF(REGRESS_TEXT_MAX);
    va_list ap;
    va_start(ap, fmt);
    agon_buf_addv(&message, fmt, ap);
    va_end(ap);
    bool ok = true;
    struct agon_regress_case c = {.failed = true};
    c.message = report_text(r, agon_buf_text(&message), &ok);
    c.expected = report_text(r, expected, &ok);
    c.got = report_text(r, got, &ok);
    r->n_failures++;
    return ok && report_add(r, task, name, c);
}

void agon_regress_lines(const struct agon_regress_report *r, struct agon_buf *out)
{
    for (int i = 0; i < r->n_cases; i++) {
        const struct agon_regress_case *c = &r->cases[i];
        if (!c->failed)
            continue;
        agon_buf_addf(out, "%s%s%s: %s: %s\n", r->id, c->task ? "/" : "", c->task ? c->task : "",
                      c->name, c->message);
        if (c->expected)
            agon_buf_addf(out, "    expected: %s\n", c->expected);
        if (c->got)
            agon_buf_addf(out, "    got:      %s\n", c->got);
    }
    agon_buf_addf(out, "%s: %d tasks, %d negatives, ", r->id, r->n_tasks, r->n_negatives);
    if (r->n_failures)
        agon_buf_addf(out, "FAILED (%d)\n", r->n_failures);
    else
        agon_buf_adds(out, "ok\n");
}

/* ---- an environment ---- */

/* Without the environment's files there is nothing to judge, but their absence is a finding. */
static bool is_finding(int r)
{
    return r == AGON_EINPUT;
}

static int keep_error(struct agon_err *err, const struct agon_err *why)
{
    return agon_err_set(err, why->code, why->file, why->line, "%s", why->text);
}

int regress_no_memory(struct agon_err *err)
{
    return agon_fail(err, AGON_ENOMEM, "verify: out of memory");
}

static int regress_files(struct agon_regress_report *r, const char *dir, struct agon_err *err)
{
    struct agon_err why = {0};
    int e = agon_env_check_hashes(dir, &why);
    if (e < 0 && !is_finding(e))
        return keep_error(err, &why);
    bool ok = e ? agon_regress_fail(r, NULL, "files", NULL, NULL, "%s", why.text)
                : agon_regress_pass(r, NULL, "files");
    return ok ? 0 : regress_no_memory(err);
}

/* Tasks that the baseline has and the environment has not. */
static int regress_gone(struct agon_regress_report *r, const struct agon_env *env,
                        const json_t *baseline, struct agon_err *err)
{
    const char *id;
    json_t *task;
    json_object_foreach(json_object_get(baseline, "tasks"), id, task)
    {
        bool there = false;
        for (int i = 0; i < env->n_tasks && !there; i++)
            there = !strcmp(env->tasks[i].id, id);
        if (!there && !agon_regress_fail(r, id, "there", NULL, NULL,
                                         "the task is in the baseline, but not in %s", env->id))
            return regress_no_memory(err);
    }
    return 0;
}

static int regress_tasks(struct regress *g, struct agon_err *err)
{
    int r = g->report->measured ? regress_measure_env(g, err) : 0;
    if (!r && g->baseline)
        r = agon_baseline_compare_env(g->report, g->baseline,
                                      json_array_get(g->report->measured, 0), err);
    if (!r)
        r = regress_all(g, err);
    if (!r)
        r = regress_gone(g->report, g->env, g->baseline, err);
    return r;
}

static int regress_open(struct regress *g, struct agon_sandbox *sb, struct agon_err *err)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REGRESS_REASON_MAX);
    int r = agon_runtime_open(&rt, sb, g->env->world_path, agon_str(g->env->tools), &reason, err);
    if (r == AGON_REJECTED)
        return agon_regress_fail(g->report, NULL, "loads", NULL, NULL, "its tools do not load: %s",
                                 agon_buf_text(&reason))
                   ? 0
                   : regress_no_memory(err);
    if (r)
        return agon_err_in(err, r, "%s", g->env->id);
    if (!agon_regress_pass(g->report, NULL, "loads"))
        return regress_no_memory(err);
    g->rt = rt;
    return regress_tasks(g, err);
}

static int regress_load(struct regress *g, struct agon_sandbox *sb, const char *dir,
                        struct agon_err *err)
{
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    struct agon_err why = {0};
    int r = regress_files(g->report, dir, err);
    if (r)
        return r;
    r = agon_env_load(&env, dir, &why);
    bool is_missing = r == AGON_ESYS && g->report->n_failures; /* as its hashes said */
    if (is_finding(r) || is_missing)
        return agon_regress_fail(g->report, NULL, "loads", NULL, NULL, "%s", why.text)
                   ? 0
                   : regress_no_memory(err);
    if (r)
        return keep_error(err, &why);
    g->env = env;
    g->baseline = agon_baseline_find(g->options->baseline, env->id);
    g->report->id = agon_arena_strdup(g->report->arena, agon_str(env->id));
    return g->report->id ? regress_open(g, sb, err) : regress_no_memory(err);
}

int agon_regress_env(struct agon_sandbox *sb, const char *dir,
                     const struct agon_regress_options *options, struct agon_regress_report *ret,
                     struct agon_err *err)
{
    int64_t from = agon_clock_ms();
    struct regress g = {.report = ret, .options = options};
    int r = agon_regress_report_init(ret, dir, err);
    if (!r && (options->measure || options->baseline) && !(ret->measured = json_array()))
        r = regress_no_memory(err);
    if (!r)
        r = regress_load(&g, sb, dir, err);
    ret->wall_ms = agon_clock_ms() - from;
    return r ? r : ret->n_failures ? AGON_REJECTED : 0;
}

/* ---- finding environments ---- */

enum { DEPTH_MAX = 4 };

struct finding {
    struct agon_regress_dirs *dirs;
    const char *dir;
    int depth;
};

void agon_regress_dirs_deinit(struct agon_regress_dirs *dirs)
{
    for (int i = 0; i < dirs->n; i++)
        free(dirs->items[i]);
    free(dirs->items);
    *dirs = (struct agon_regress_dirs){0};
}

static int dirs_add(struct agon_regress_dirs *dirs, const char *dir, struct agon_err *err)
{
    char **items = realloc(dirs->items, ((size_t)dirs->n + 1) * sizeof(*items));
    if (items)
        dirs->items = items;
    if (!items || !(items[dirs->n] = strdup(dir)))
        return regress_no_memory(err);
    dirs->n++;
    return 0;
}

static int find_at(struct finding *f, struct agon_err *err);

static int find_entry(const char *name, void *user, struct agon_err *err)
{
    struct finding *outer = user;
    char *path = NULL;
    if (name[0] == '.')
        return 0;
    if (asprintf(&path, "%s/%s", outer->dir, name) < 0)
        return regress_no_memory(err);
    struct finding inner = {outer->dirs, path, outer->depth + 1};
    struct stat st;
    bool is_dir = lstat(path, &st) == 0 && S_ISDIR(st.st_mode); /* links are not followed */
    int r = is_dir ? find_at(&inner, err) : 0;
    free(path);
    return r;
}

static int find_at(struct finding *f, struct agon_err *err)
{
    struct stat st;
    char *file = NULL;
    if (asprintf(&file, "%s/env.json", f->dir) < 0)
        return regress_no_memory(err);
    bool is_env = lstat(file, &st) == 0;
    free(file);
    if (is_env)
        return dirs_add(f->dirs, f->dir, err);
    return f->depth < DEPTH_MAX ? agon_dir_each(f->dir, find_entry, f, err) : 0;
}

int agon_regress_find(struct agon_regress_dirs *dirs, const char *dir, struct agon_err *err)
{
    struct finding f = {dirs, dir, 0};
    int n = dirs->n, r = find_at(&f, err);
    if (!r && dirs->n == n)
        r = agon_fail(err, AGON_EINPUT, "%s: no environment here (a directory with an env.json)",
                      dir);
    return r;
}
