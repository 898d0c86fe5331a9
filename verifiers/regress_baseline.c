/* Baselines: see regress_baseline.h. */
#include "verifiers/regress_baseline.h"

#include "base/file.h"
#include "base/json.h"
#include "verifiers/regress.h"
#include "verifiers/regress_diff.h"

#include <stdio.h>
#include <stdlib.h>

static const size_t file_bytes_max = 1U << 30;
enum { EXCERPT_BYTES_MAX = 4000 };

struct agon_baseline {
    json_t *environments; /* by id, in the order of their lines */
};

void agon_baseline_free(struct agon_baseline *b)
{
    if (!b)
        return;
    json_decref(b->environments);
    free(b);
}

/* The environment of a line, made where it is new. */
static json_t *baseline_environment(struct agon_baseline *b, const char *id)
{
    json_t *env = json_object_get(b->environments, id);
    if (env)
        return env;
    env = json_pack("{s:{}}", "tasks");
    return env && json_object_set_new(b->environments, id, env) == 0 ? env : NULL;
}

static int baseline_line(struct agon_baseline *b, int number, struct agon_str text,
                         struct agon_err *err)
{
    json_auto_t *line = NULL;
    int r = agon_json_parse(&line, text, err);
    if (r)
        return agon_err_in(err, r, "line %d", number);
    if (number == 1) {
        json_int_t version = json_integer_value(json_object_get(line, "agon_baseline"));
        return version == 1 ? 0
                            : agon_fail(err, AGON_EINPUT,
                                        "no baseline of this program: its first line is not "
                                        "{\"agon_baseline\": 1}");
    }
    const char *id = agon_json_text(line, "environment", NULL);
    const char *task = agon_json_text(line, "task", NULL);
    if (!id)
        return agon_fail(err, AGON_EINPUT, "line %d: names no \"environment\"", number);
    json_t *env = baseline_environment(b, id);
    int bad = !env;
    if (!bad && task)
        bad = json_object_set(json_object_get(env, "tasks"), task, line);
    else if (!bad)
        bad = json_object_update(env, line);
    return bad ? agon_fail(err, AGON_ENOMEM, "line %d: out of memory", number) : 0;
}

static int baseline_parse(struct agon_baseline *b, struct agon_str text, struct agon_err *err)
{
    int number = 0, r = 0;
    while (text.size > 0 && !r) {
        const char *end = memchr(text.data, '\n', text.size);
        size_t n = end ? (size_t)(end - text.data) : text.size;
        r = baseline_line(b, ++number, (struct agon_str){text.data, n}, err);
        n += end != NULL;
        text.data += n;
        text.size -= n;
    }
    return !r && number == 0 ? agon_fail(err, AGON_EINPUT, "the file is empty") : r;
}

int agon_baseline_load(struct agon_baseline **ret, const char *path, struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(file_bytes_max);
    struct agon_baseline *b AGON_AUTO(agon_baseline_freep) = calloc(1, sizeof(*b));
    if (!b || !(b->environments = json_object()))
        return agon_fail(err, AGON_ENOMEM, "baseline: out of memory");
    int r = agon_file_read(&text, path, file_bytes_max, err);
    if (!r && (r = baseline_parse(b, agon_buf_str(&text), err)))
        return agon_err_in(err, r, "baseline '%s'", path);
    if (!r)
        *ret = AGON_STEAL(b);
    return r;
}

const json_t *agon_baseline_find(const struct agon_baseline *b, const char *environment)
{
    return b ? json_object_get(b->environments, environment) : NULL;
}

const char *agon_baseline_name(const struct agon_baseline *b, int i)
{
    void *at = json_object_iter(b->environments);
    while (at && i-- > 0)
        at = json_object_iter_next(b->environments, at);
    return at ? json_object_iter_key(at) : NULL;
}

void agon_baseline_begin(struct agon_buf *out)
{
    agon_buf_adds(out, "{\"agon_baseline\": 1}\n");
}

void agon_baseline_add(struct agon_buf *out, const json_t *measured)
{
    size_t i;
    json_t *line;
    json_array_foreach(measured, i, line)
    {
        agon_json_dump(out, line);
        agon_buf_addc(out, '\n');
    }
}

/* ---- comparing ---- */

static int no_memory(struct agon_err *err)
{
    return agon_fail(err, AGON_ENOMEM, "baseline: out of memory");
}

/* One case: is `key` of both equal? what begins the sentence. False: no memory. */
static bool compare_value(struct agon_regress_report *r, const char *task, const char *name,
                          const char *what, const json_t *expected, const json_t *got)
{
    struct agon_buf path AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    struct agon_buf want AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    struct agon_buf have AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    if (!agon_regress_diff(expected, got, &path, &want, &have))
        return agon_regress_pass(r, task, name);
    return agon_regress_fail(r, task, name, agon_buf_text(&want), agon_buf_text(&have),
                             "%s%s%s not as in the baseline", what,
                             path.size ? agon_buf_text(&path) + 1 : "", path.size ? " is" : "");
}

int agon_baseline_compare_env(struct agon_regress_report *r, const json_t *expected,
                              const json_t *got, struct agon_err *err)
{
    bool ok = compare_value(r, NULL, "world", "what the world holds is",
                            json_object_get(expected, "world"), json_object_get(got, "world")) &&
              compare_value(r, NULL, "tools", "tools.lua is", json_object_get(expected, "tools"),
                            json_object_get(got, "tools"));
    return ok ? 0 : no_memory(err);
}

static bool has_text(const json_t *list, const char *text)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) if (!strcmp(json_string_value(one) ?: "", text)) return true;
    return false;
}

/* Checks that one verifier has and the other has not, by name. */
static bool compare_checks(struct agon_regress_report *r, const char *task, const json_t *expected,
                           const json_t *got)
{
    size_t i;
    json_t *one;
    bool ok = true, same = true;
    json_array_foreach(expected, i, one)
    {
        const char *name = json_string_value(one) ?: "";
        if (has_text(got, name))
            continue;
        same = false;
        ok = ok && agon_regress_fail(r, task, "checks", name, NULL,
                                     "the verifier has no check '%.64s' any more", name);
    }
    json_array_foreach(got, i, one)
    {
        const char *name = json_string_value(one) ?: "";
        if (has_text(expected, name))
            continue;
        same = false;
        ok = ok && agon_regress_fail(r, task, "checks", NULL, name,
                                     "the verifier has a new check '%.64s'", name);
    }
    if (same)
        ok = ok && compare_value(r, task, "checks", "the order of the checks: ", expected, got);
    return ok;
}

/* Fuel or operations of one run: at most the baseline's and the slack. */
static bool compare_usage(struct agon_regress_report *r, const char *task, const char *run,
                          const char *unit, const json_t *expected, const json_t *got, int slack,
                          bool *over)
{
    char want[64], have[64];
    json_int_t before = json_integer_value(json_object_get(expected, unit));
    json_int_t now = json_integer_value(json_object_get(got, unit));
    json_int_t most = before + before * slack / 100;
    if (now <= most)
        return true;
    *over = true;
    snprintf(want, sizeof(want), "at most %lld", (long long)most);
    snprintf(have, sizeof(have), "%lld", (long long)now);
    return agon_regress_fail(r, task, "budget", want, have,
                             "the %s takes %lld %s, %lld in the baseline (slack %d%%)", run,
                             (long long)now, strcmp(unit, "ops") ? unit : "SQL operations",
                             (long long)before, slack);
}

static bool compare_budget(struct agon_regress_report *r, const char *task, const json_t *expected,
                           const json_t *got, int slack)
{
    static const struct {
        const char *key, *run;
    } runs[] = {{"golden", "golden verdict"}, {"solution", "solution"}};
    bool ok = true, over = false;
    for (int i = 0; i < 2; i++) {
        const json_t *a = json_object_get(expected, runs[i].key);
        const json_t *b = json_object_get(got, runs[i].key);
        ok = ok && compare_usage(r, task, runs[i].run, "fuel", a, b, slack, &over) &&
             compare_usage(r, task, runs[i].run, "ops", a, b, slack, &over);
    }
    return ok && (over || agon_regress_pass(r, task, "budget against the baseline"));
}

/* "a, b", or "none". */
static void join(struct agon_buf *out, const json_t *names)
{
    size_t i;
    json_t *one;
    json_array_foreach(names, i, one)
        agon_buf_addf(out, "%s%s", i ? ", " : "", json_string_value(one) ?: "");
    if (json_array_size(names) == 0)
        agon_buf_adds(out, "none");
}

static bool compare_negatives(struct agon_regress_report *r, const char *task,
                              const json_t *expected, const json_t *got)
{
    size_t n = json_array_size(expected), m = json_array_size(got);
    bool ok = true;
    for (size_t i = 0; i < n && i < m && ok; i++) {
        struct agon_buf want AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
        struct agon_buf have AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
        char name[64];
        snprintf(name, sizeof(name), "negative %zu against the baseline", i + 1);
        join(&want, json_array_get(expected, i));
        join(&have, json_array_get(got, i));
        ok = !strcmp(agon_buf_text(&want), agon_buf_text(&have))
                 ? agon_regress_pass(r, task, name)
                 : agon_regress_fail(r, task, name, agon_buf_text(&want), agon_buf_text(&have),
                                     "negative %zu fails other checks than in the baseline", i + 1);
    }
    if (ok && n != m)
        ok = agon_regress_fail(r, task, "negatives", NULL, NULL,
                               "there are %zu negatives, %zu in the baseline", m, n);
    return ok;
}

int agon_baseline_compare_task(struct agon_regress_report *r, const char *task,
                               const json_t *expected, const json_t *got, int slack_percent,
                               struct agon_err *err)
{
    if (!expected)
        return agon_regress_pass(r, task, "new since the baseline") ? 0 : no_memory(err);
    bool ok = compare_value(r, task, "files", "", json_object_get(expected, "files"),
                            json_object_get(got, "files")) &&
              compare_checks(r, task, json_object_get(expected, "checks"),
                             json_object_get(got, "checks")) &&
              compare_budget(r, task, expected, got, slack_percent) &&
              compare_negatives(r, task, json_object_get(expected, "negatives"),
                                json_object_get(got, "negatives"));
    return ok ? 0 : no_memory(err);
}
