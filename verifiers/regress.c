#include "verifiers/regress.h"

#include "base/file.h"
#include "base/json.h"
#include "envs/env.h"
#include "verifiers/trial.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LINES_BYTES_MAX = 16 << 20, REASON_BYTES_MAX = 4000, DEPTH_MAX = 4, NEGATIVES_MAX = 200 };

/* Without the environment's files there is nothing to judge, but their absence is a finding. */
static bool is_finding(int r)
{
    return r == AGON_EINPUT;
}

void agon_regress_report_init(struct agon_regress_report *r)
{
    *r = (struct agon_regress_report){.lines = AGON_BUF(LINES_BYTES_MAX)};
}

void agon_regress_report_deinit(struct agon_regress_report *r)
{
    agon_buf_deinit(&r->lines);
    *r = (struct agon_regress_report){0};
}

struct regress {
    struct agon_regress_report *report;
    const char *name; /* of the environment, for the lines */
    struct agon_runtime *rt;
};

static void regress_fail(struct regress *g, const char *task, const char *fmt, ...)
    AGON_PRINTF(3, 4);
static void regress_fail(struct regress *g, const char *task, const char *fmt, ...)
{
    va_list ap;
    agon_buf_addf(&g->report->lines, "%s%s%s: ", g->name, task ? "/" : "", task ? task : "");
    va_start(ap, fmt);
    agon_buf_addv(&g->report->lines, fmt, ap);
    va_end(ap);
    agon_buf_addc(&g->report->lines, '\n');
    g->report->n_failures++;
}

/* The index of a check by name, or -1. */
static int check_index(const struct agon_verdict *v, const char *name)
{
    for (int i = 0; i < v->n_checks; i++)
        if (!strcmp(v->checks[i].name, name))
            return i;
    return -1;
}

/* The first check of a brief that fails, or what else is wrong with it. */
static const char *brief_reason(const struct agon_brief *b, const struct agon_verdict *checks)
{
    if (b->schema)
        return "it does not fit the answer schema";
    if (b->replay)
        return "a writing call does not succeed";
    if (b->failed && __builtin_ctzll(b->failed) < checks->n_checks)
        return checks->checks[__builtin_ctzll(b->failed)].name;
    return b->unclaimed ? "a change that no check claims" : "unknown";
}

static void regress_golden(struct regress *g, const struct agon_task *task,
                           const struct agon_trial *t, const struct agon_verdict *checks)
{
    const struct agon_brief *golden = &t->briefs[0];
    if (!golden->pass)
        regress_fail(g, task->id, "the golden answer does not pass: %s",
                     brief_reason(golden, checks));
    if (!t->solved)
        regress_fail(g, task->id, "the solution gives no answer: %s",
                     t->unsolved ? t->unsolved : "it returned nil");
    else if (!json_equal(t->run.answer, json_object_get(task->golden, "answer")))
        regress_fail(g, task->id, "the solution gives another answer than the golden one");
}

static void regress_negative(struct regress *g, const struct agon_task *task, size_t i,
                             const struct agon_brief *b, const struct agon_verdict *checks)
{
    const char *fails = agon_json_text(json_array_get(task->negatives, i), "fails", NULL);
    int check = fails ? check_index(checks, fails) : -1;
    g->report->n_negatives++;
    if (b->pass)
        regress_fail(g, task->id, "negative %zu passes, it should fail check '%s'", i + 1,
                     fails ? fails : "any");
    else if (fails && check < 0)
        regress_fail(g, task->id, "negative %zu names check '%s', which the verifier does not have",
                     i + 1, fails);
    else if (fails && !(b->failed >> check & 1))
        regress_fail(g, task->id, "negative %zu does not fail check '%s', but: %s", i + 1, fails,
                     brief_reason(b, checks));
}

/* The golden answer and the negatives as items; texts are kept in `texts`, which must not grow
 * later. */
static size_t regress_items(const struct agon_task *task, struct agon_buf *texts,
                            struct agon_trial_item *items, size_t max)
{
    size_t n = json_array_size(task->negatives) + 1, offsets[NEGATIVES_MAX + 2];
    if (n > max)
        n = max;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = i ? json_array_get(task->negatives, i - 1) : task->golden;
        offsets[i] = texts->size;
        agon_json_dump(texts, json_object_get(one, "answer"));
        items[i].writes = json_object_get(one, "writes");
    }
    offsets[n] = texts->size;
    for (size_t i = 0; i < n; i++)
        items[i].answer = (struct agon_str){texts->data + offsets[i], offsets[i + 1] - offsets[i]};
    return n;
}

static int regress_task(struct regress *g, const struct agon_task *task, struct agon_err *err)
{
    struct agon_trial_item items[NEGATIVES_MAX + 1];
    struct agon_buf texts AGON_AUTO(agon_buf_deinit) = AGON_BUF(LINES_BYTES_MAX);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    struct agon_verdict checks AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    g->report->n_tasks++;
    if (!task->golden) {
        regress_fail(g, task->id, "there is no golden answer");
        return 0;
    }
    size_t n = regress_items(task, &texts, items, NEGATIVES_MAX + 1);
    int r = agon_buf_check(&texts, "answers.jsonl", err);
    if (!r)
        r = agon_verdict_checks(g->rt, agon_str(task->verifier), &checks, &reason, err);
    if (r == AGON_REJECTED) {
        regress_fail(g, task->id, "the verifier does not load: %s", agon_buf_text(&reason));
        return 0;
    }
    struct agon_trial_input input = {
        .answer_schema = task->answer_schema,
        .verifier = agon_str(task->verifier),
        .solution = agon_str(task->solution),
        .items = items,
        .n_items = (int)n,
    };
    if (!r)
        r = agon_trial(g->rt, &input, &t, &reason, err);
    if (r == AGON_REJECTED) {
        regress_fail(g, task->id, "it does not load: %s", agon_buf_text(&reason));
        return 0;
    }
    if (r == AGON_ESYS && agon_runtime_gave_up(g->rt)) {
        regress_fail(g, task->id, "the process that runs it ended, in three fresh ones");
        return 0;
    }
    if (r)
        return agon_err_in(err, r, "%s/%s", g->name, task->id);
    regress_golden(g, task, &t, &checks);
    for (size_t i = 1; i < n; i++)
        regress_negative(g, task, i - 1, &t.briefs[i], &checks);
    return 0;
}

static int regress_tasks(struct regress *g, struct agon_sandbox *sb, const struct agon_env *env,
                         struct agon_err *err)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    int r = agon_runtime_open(&rt, sb, env->world_path, agon_str(env->tools), &reason, err);
    if (r == AGON_REJECTED) {
        regress_fail(g, NULL, "its tools do not load: %s", agon_buf_text(&reason));
        return 0;
    }
    g->rt = rt;
    for (int i = 0; i < env->n_tasks && !r; i++)
        r = regress_task(g, &env->tasks[i], err);
    return r;
}

int agon_regress_env(struct agon_sandbox *sb, const char *dir, struct agon_regress_report *report,
                     struct agon_err *err)
{
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    struct agon_err why = {0};
    int failures = report->n_failures, negatives = report->n_negatives;
    struct regress g = {.report = report, .name = dir};
    report->n_envs++;

    int r = agon_env_check_hashes(dir, &why);
    if (r > 0 || is_finding(r))
        regress_fail(&g, NULL, "%s", why.text);
    else if (r < 0)
        return agon_err_set(err, r, why.file, why.line, "%s", why.text);
    r = agon_env_load(&env, dir, &why);
    if (is_finding(r)) {
        regress_fail(&g, NULL, "%s", why.text);
        return AGON_REJECTED;
    }
    if (r)
        return agon_err_set(err, r, why.file, why.line, "%s", why.text);

    g.name = env->id;
    if ((r = regress_tasks(&g, sb, env, err)))
        return r;
    agon_buf_addf(&report->lines, "%s: %d tasks, %d negatives, %s\n", env->id, env->n_tasks,
                  report->n_negatives - negatives,
                  report->n_failures == failures ? "ok" : "FAILED");
    if ((r = agon_buf_check(&report->lines, "report", err)))
        return r;
    return report->n_failures == failures ? 0 : AGON_REJECTED;
}

/* ---- a corpus ---- */

struct corpus {
    struct agon_sandbox *sb;
    struct agon_regress_report *report;
    const char *dir;
    int depth;
};

static int corpus_at(struct corpus *c, struct agon_err *err);

static int corpus_entry(const char *name, void *user, struct agon_err *err)
{
    struct corpus *outer = user;
    struct stat st;
    char *path = NULL;
    if (name[0] == '.')
        return 0;
    if (asprintf(&path, "%s/%s", outer->dir, name) < 0)
        return agon_fail(err, AGON_ENOMEM, "corpus: out of memory");
    int r = 0;
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) { /* links are not followed */
        struct corpus inner = {outer->sb, outer->report, path, outer->depth + 1};
        r = corpus_at(&inner, err);
    }
    free(path);
    return r;
}

static int corpus_at(struct corpus *c, struct agon_err *err)
{
    struct stat st;
    char *file = NULL;
    if (asprintf(&file, "%s/env.json", c->dir) < 0)
        return agon_fail(err, AGON_ENOMEM, "corpus: out of memory");
    bool is_env = lstat(file, &st) == 0;
    free(file);
    if (is_env) {
        int r = agon_regress_env(c->sb, c->dir, c->report, err);
        return r == AGON_REJECTED ? 0 : r;
    }
    return c->depth < DEPTH_MAX ? agon_dir_each(c->dir, corpus_entry, c, err) : 0;
}

int agon_regress_corpus(struct agon_sandbox *sb, const char *dir,
                        struct agon_regress_report *report, struct agon_err *err)
{
    struct corpus c = {sb, report, dir, 0};
    int failures = report->n_failures, envs = report->n_envs;
    int r = corpus_at(&c, err);
    if (r)
        return r;
    if (report->n_envs == envs)
        return agon_fail(err, AGON_EINPUT, "%s: no environment here (a directory with an env.json)",
                         dir);
    return report->n_failures == failures ? 0 : AGON_REJECTED;
}
