/* An environment's cards and a corpus's summary: see audit.h. */
#include "verifiers/audit.h"

#include "base/json.h"
#include "verifiers/audit_internal.h"
#include "verifiers/lexicon.h"
#include "verifiers/regress.h"

#include <string.h>

static const double likeness_max = 0.8; /* as gate 7 has it within an environment */

static json_t *card_new(const char *env, const struct agon_task *task)
{
    if (!task)
        return json_pack("{s:s, s:n, s:[]}", "env", env, "task", "findings");
    return json_pack("{s:s, s:s, s:i, s:s, s:s, s:[]}", "env", env, "task", task->id, "level",
                     task->level, "answers", task->answers == AGON_ANSWERS_MANY ? "many" : "one",
                     "prompt", task->prompt, "findings");
}

/* The card of a task, or the environment's own, made when first asked for (borrowed; NULL: no
 * memory). */
static json_t *card_of(json_t *cards, const char *env, const char *task)
{
    size_t i;
    json_t *card;
    json_array_foreach(cards, i, card)
    {
        const char *id = agon_json_text(card, "task", NULL);
        if (task ? id && !strcmp(id, task) : !id)
            return card;
    }
    card = card_new(env, NULL);
    return json_array_insert_new(cards, 0, card) ? NULL : json_array_get(cards, 0);
}

static int env_finding(json_t *cards, const char *env, const char *task, const char *kind,
                       const char *what, struct agon_err *err)
{
    struct audit_task t = {.card = card_of(cards, env, task)};
    if (!t.card)
        return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
    audit_find(&t, kind, true, "%s", what);
    return 0;
}

/* What agon verify finds: files that were altered, negatives that pass. */
static int env_regress(const char *dir, const struct agon_audit_options *o, json_t *cards,
                       struct agon_err *err)
{
    struct agon_regress_report report AGON_AUTO(agon_regress_report_deinit) = {0};
    struct agon_regress_options options = {0};
    int r = agon_regress_env(o->places[0], dir, &options, &report, err);
    if (r < 0)
        return r;
    r = 0;
    for (int i = 0; i < report.n_cases && !r; i++) {
        const struct agon_regress_case *c = &report.cases[i];
        if (c->failed)
            r = env_finding(cards, report.id, c->task, "files", c->message, err);
    }
    return r;
}

/* 0, or AGON_REJECTED with the finding. */
static int env_open(const struct agon_env *env, const struct agon_audit_options *o,
                    struct audit_task *t, json_t *cards, struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    for (int i = 0; i < o->n_places; i++) {
        int r = agon_runtime_open(&t->places[i], o->places[i], env->world_path,
                                  agon_str(env->tools), &reason, err);
        if (r == AGON_REJECTED && (r = env_finding(cards, env->id, NULL, "gate 1 (loads)",
                                                   agon_buf_text(&reason), err)) == 0)
            return AGON_REJECTED;
        if (r)
            return r;
    }
    return 0;
}

static int env_tasks(struct agon_env *env, const struct agon_audit_options *o, json_t *cards,
                     struct agon_err *err)
{
    struct audit_task t = {.options = o, .env = env};
    int r = env_open(env, o, &t, cards, err);
    for (int i = 0; i < env->n_tasks && !r; i++) {
        struct audit_task one = t;
        one.task = &env->tasks[i];
        one.card = card_of(cards, env->id, env->tasks[i].id);
        r = audit_task(&one, err);
        audit_answers_deinit(&one.answers);
        if (r)
            r = agon_err_in(err, r, "%s/%s", env->id, env->tasks[i].id);
    }
    for (int i = 0; i < o->n_places; i++)
        agon_runtime_free(t.places[i]);
    return r < 0 ? r : 0;
}

int agon_audit_env(const char *dir, const struct agon_audit_options *options, json_t **ret,
                   struct agon_err *err)
{
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    json_auto_t *cards = json_array();
    struct agon_err why = {0};
    int loaded = agon_env_load(&env, dir, &why), r = 0;
    if (!cards)
        return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
    if (loaded && loaded != AGON_EINPUT)
        return agon_err_set(err, loaded, why.file, why.line, "%s", why.text);
    for (int i = 0; env && i < env->n_tasks; i++)
        if (json_array_append_new(cards, card_new(env->id, &env->tasks[i])))
            return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
    if (loaded)
        r = env_finding(cards, dir, NULL, "files", why.text, err);
    else if (!(r = env_regress(dir, options, cards, err)))
        r = env_tasks(env, options, cards, err);
    if (!r)
        *ret = json_incref(cards);
    return r;
}

/* ---- a corpus ---- */

/* NEEDSWORK: all pairs, as in pipelines/dedup.c; a MinHash index for millions. */
static int find_duplicates(json_t *cards, struct agon_err *err)
{
    for (size_t i = 0; i < json_array_size(cards); i++) {
        json_t *card = json_array_get(cards, i);
        const char *prompt = agon_json_text(card, "prompt", NULL);
        for (size_t k = 0; prompt && k < i; k++) {
            const json_t *other = json_array_get(cards, k);
            const char *theirs = agon_json_text(other, "prompt", NULL);
            if (!theirs ||
                !strcmp(agon_json_text(card, "env", ""), agon_json_text(other, "env", "")))
                continue;
            double likeness = agon_prompt_likeness(agon_str(prompt), agon_str(theirs));
            if (likeness < 0)
                return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
            if (likeness < likeness_max)
                continue;
            struct audit_task t = {.card = card};
            audit_find(
                &t, "duplicate", true, "its prompt says nearly the same as that of %s/%s (%.2f)",
                agon_json_text(other, "env", "?"), agon_json_text(other, "task", "?"), likeness);
            break;
        }
    }
    return 0;
}

static const char *card_verdict(const json_t *card)
{
    const json_t *findings = json_object_get(card, "findings");
    size_t i;
    json_t *one;
    json_array_foreach(findings, i,
                       one) if (json_is_true(json_object_get(one, "refused"))) return "refused";
    return json_array_size(findings) ? "noted" : "ok";
}

static json_t *summary_of(const json_t *cards)
{
    static const char *const sums[] = {
        "attacks",        "false_accepts",    "unproven",    "dropped",       "dropped_accepted",
        "foreign_writes", "foreign_accepted", "golden_runs", "golden_passes", "golden_same"};
    json_t *summary = json_object();
    json_int_t n_tasks = 0, n_verdicts[3] = {0}, totals[sizeof(sums) / sizeof(*sums)] = {0};
    json_auto_t *envs = json_object();
    size_t i;
    json_t *card;
    json_array_foreach(cards, i, card)
    {
        const char *verdict = agon_json_text(card, "verdict", "");
        n_tasks += json_is_string(json_object_get(card, "task"));
        n_verdicts[*verdict == 'o' ? 0 : *verdict == 'n' ? 1 : 2]++;
        json_object_set_new(envs, agon_json_text(card, "env", ""), json_true());
        for (size_t k = 0; k < sizeof(sums) / sizeof(*sums); k++)
            totals[k] += json_integer_value(json_object_get(card, sums[k]));
    }
    json_object_set_new(summary, "environments", json_integer((json_int_t)json_object_size(envs)));
    json_object_set_new(summary, "tasks", json_integer(n_tasks));
    json_object_set_new(summary, "ok", json_integer(n_verdicts[0]));
    json_object_set_new(summary, "noted", json_integer(n_verdicts[1]));
    json_object_set_new(summary, "refused", json_integer(n_verdicts[2]));
    for (size_t k = 0; k < sizeof(sums) / sizeof(*sums); k++)
        json_object_set_new(summary, sums[k], json_integer(totals[k]));
    return summary;
}

int agon_audit_finish(json_t *cards_taken, json_t **ret, struct agon_err *err)
{
    json_auto_t *cards = cards_taken;
    size_t i;
    json_t *card;
    int r = find_duplicates(cards, err);
    if (r)
        return r;
    json_array_foreach(cards, i, card)
    {
        json_object_del(card, "prompt");
        json_object_set_new(card, "verdict", json_string(card_verdict(card)));
    }
    *ret = json_pack("{s:O, s:o}", "tasks", cards, "summary", summary_of(cards));
    return *ret ? 0 : agon_fail(err, AGON_ENOMEM, "audit: out of memory");
}
