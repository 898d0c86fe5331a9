/* Trials and verdicts on the driver's side: see trial.h and verdict.h. */
#include "verifiers/trial.h"

#include "base/json.h"
#include "envs/runtime_wire.h"
#include "verifiers/tape.h"
#include "verifiers/trial_internal.h"
#include "verifiers/trial_wire.h"

#include <stdlib.h>

enum { MESSAGE_BYTES_MAX = 64 << 20 };

void agon_verdict_deinit(struct agon_verdict *v)
{
    for (int i = 0; i < v->n_checks; i++) {
        free(v->checks[i].name);
        free(v->checks[i].text);
        free(v->checks[i].reason);
    }
    free(v->checks);
    free(v->unclaimed);
    free(v->schema);
    free(v->replay);
    *v = (struct agon_verdict){0};
}

void agon_trial_deinit(struct agon_trial *t)
{
    agon_solved_deinit(&t->run);
    agon_verdict_deinit(&t->own);
    json_decref(t->probes);
    json_decref(t->texts);
    json_decref(t->reads);
    free(t->unsolved);
    free(t->briefs);
    *t = (struct agon_trial){0};
}

/* ---- the request ---- */

static void add_json(struct agon_buf *b, const json_t *value)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    if (value)
        agon_json_dump(&text, value);
    agon_wire_add_str(b, agon_buf_str(&text));
    if (text.failed)
        b->failed = text.failed;
}

static int add_perturb(struct agon_buf *b, const struct agon_perturb *p, struct agon_err *err)
{
    agon_wire_add_int(b, p != NULL);
    if (!p)
        return 0;
    agon_wire_add_int(b, (int64_t)p->seed);
    agon_wire_add_int(b, p->draw);
    agon_wire_add_int(b, (int64_t)json_array_size(p->columns));
    for (size_t i = 0; i < json_array_size(p->columns); i++) {
        const char *name = json_string_value(json_array_get(p->columns, i));
        if (!name)
            return agon_fail(err, AGON_EINPUT, "trial: columns[%zu] is not a string", i);
        agon_wire_add_text(b, name);
    }
    return 0;
}

static int add_overrides(struct agon_buf *b, const json_t *overrides, struct agon_err *err)
{
    agon_wire_add_int(b, (int64_t)json_array_size(overrides));
    for (size_t i = 0; i < json_array_size(overrides); i++) {
        const json_t *o = json_array_get(overrides, i);
        const char *tool = agon_json_text(o, "tool", NULL);
        if (!tool || !json_object_get(o, "arguments") || !json_object_get(o, "result"))
            return agon_fail(err, AGON_EINPUT,
                             "trial: overrides[%zu] needs tool, arguments and result", i);
        agon_wire_add_text(b, tool);
        add_json(b, json_object_get(o, "arguments"));
        add_json(b, json_object_get(o, "result"));
    }
    return 0;
}

static int trial_request(struct agon_buf *b, const struct agon_trial_input *in, bool full,
                         struct agon_err *err)
{
    int r = add_perturb(b, in->perturb, err);
    agon_wire_add_int(b, in->reverse);
    agon_wire_add_int(b, in->cache_kib);
    agon_wire_add_int(b, (full ? TRIAL_FULL : 0) | (in->texts ? TRIAL_TEXTS : 0));
    add_json(b, in->answer_schema);
    agon_wire_add_str(b, in->verifier);
    agon_wire_add_str(b, in->solution);
    if (!r)
        r = add_overrides(b, in->overrides, err);
    if (!r)
        r = agon_wire_add_writes(b, in->probes, err); /* calls have the same form */
    agon_wire_add_int(b, in->failed_max);
    int n = in->verifier.size ? in->n_items : 0;
    agon_wire_add_int(b, n);
    for (int i = 0; i < n && !r; i++) {
        agon_wire_add_str(b, in->items[i].answer);
        r = agon_wire_add_writes(b, in->items[i].writes, err);
    }
    return r ? r : agon_buf_check(b, "trial", err);
}

/* ---- the reply ---- */

/* Names and texts of the checks, each as passed. */
static int read_checks(struct agon_wire *wire, struct agon_verdict *v, struct agon_err *err)
{
    int n = agon_wire_count(wire);
    v->checks = calloc((size_t)n + 1, sizeof(*v->checks));
    if (!v->checks)
        return agon_fail(err, AGON_ENOMEM, "verdict: out of memory");
    for (int i = 0; i < n; i++) {
        struct agon_str name = agon_wire_str(wire), text = agon_wire_str(wire);
        v->checks[i].name = strndup(name.data, name.size);
        v->checks[i].text = strndup(text.data, text.size);
        v->n_checks++;
        if (!v->checks[i].name || !v->checks[i].text)
            return agon_fail(err, AGON_ENOMEM, "verdict: out of memory");
    }
    return 0;
}

struct agon_brief agon_wire_brief(struct agon_wire *wire)
{
    int64_t flags = agon_wire_int(wire);
    uint64_t failed = (uint64_t)agon_wire_int(wire), changes = (uint64_t)agon_wire_int(wire);
    return (struct agon_brief){
        .pass = flags & TRIAL_PASS,
        .schema = flags & TRIAL_SCHEMA,
        .replay = flags & TRIAL_REPLAY,
        .unclaimed = flags & TRIAL_UNCLAIMED,
        .failed = failed,
        .changes = changes,
        .usage = agon_wire_usage(wire),
    };
}

static int copy_text(char **ret, struct agon_str s, struct agon_err *err)
{
    *ret = strndup(s.data, s.size);
    return *ret ? 0 : agon_fail(err, AGON_ENOMEM, "verdict: out of memory");
}

static void drop_checks(struct agon_verdict *v)
{
    struct agon_verdict kept = *v;
    kept.checks = NULL;
    kept.n_checks = 0;
    v->unclaimed = v->schema = v->replay = NULL;
    agon_verdict_deinit(v);
    *v = kept;
}

/* A full verdict into v, which has the checks' names already. */
static int read_verdict(struct agon_wire *wire, struct agon_verdict *v, struct agon_err *err)
{
    struct agon_brief brief = agon_wire_brief(wire);
    struct agon_str why = agon_wire_str(wire);
    int r = 0;
    v->pass = brief.pass;
    v->changes = brief.changes;
    if (brief.schema)
        r = copy_text(&v->schema, why, err);
    else if (brief.replay)
        r = copy_text(&v->replay, why, err);
    else if (brief.unclaimed)
        r = copy_text(&v->unclaimed, why, err);
    for (int i = 0; i < v->n_checks && !r; i++) {
        int64_t end = agon_wire_int(wire);
        struct agon_str reason = agon_wire_str(wire);
        v->checks[i].end = end == 0   ? AGON_CHECK_PASS
                           : end == 1 ? AGON_CHECK_FAIL
                                      : AGON_CHECK_ERROR;
        v->checks[i].fuel = agon_wire_int(wire);
        v->checks[i].ops = agon_wire_int(wire);
        if (reason.size)
            r = copy_text(&v->checks[i].reason, reason, err);
    }
    if (brief.schema || brief.replay)
        drop_checks(v);
    return r;
}

/* The solution's run; its verdict into checks, which is moved to ret->own. */
static int read_run(struct agon_wire *wire, struct agon_trial *ret, struct agon_verdict *checks,
                    struct agon_err *err)
{
    int64_t state = agon_wire_int(wire);
    if (state < 0)
        return 0;
    struct agon_str why = agon_wire_str(wire);
    int r = state ? copy_text(&ret->unsolved, why, err) : 0;
    ret->solved = state == 0;
    if (ret->solved)
        ret->run.answer = agon_wire_json(wire);
    else
        (void)agon_wire_str(wire);
    if (!r)
        r = agon_wire_solved(wire, &ret->run, err);
    if (r || !agon_wire_int(wire))
        return r;
    ret->own = *checks;
    *checks = (struct agon_verdict){0};
    return read_verdict(wire, &ret->own, err);
}

static int read_probes(struct agon_wire *wire, struct agon_trial *ret, struct agon_err *err)
{
    int n = agon_wire_count(wire);
    if (n && !(ret->probes = json_array()))
        return agon_fail(err, AGON_ENOMEM, "trial: out of memory");
    for (int i = 0; i < n && !wire->bad; i++) {
        bool failed = agon_wire_int(wire) != 0;
        json_t *one = NULL;
        if (failed) {
            struct agon_str why = agon_wire_str(wire);
            one = json_pack("{s:s%}", "error", why.data, why.size);
        } else {
            one = json_pack("{s:o}", "result", agon_wire_json(wire));
        }
        if (json_array_append_new(ret->probes, one))
            return agon_fail(err, AGON_EINPUT, "trial: the cell described a call badly");
    }
    return 0;
}

static int read_briefs(struct agon_wire *wire, struct agon_trial *ret, struct agon_err *err)
{
    int n = agon_wire_count(wire);
    ret->briefs = calloc((size_t)n + 1, sizeof(*ret->briefs));
    if (!ret->briefs)
        return agon_fail(err, AGON_ENOMEM, "trial: out of memory");
    ret->n_briefs = n;
    for (int i = 0; i < n; i++)
        ret->briefs[i] = agon_wire_brief(wire);
    return 0;
}

/* n strings as a JSON array; *ret stays NULL where there are none. */
static int read_strings(struct agon_wire *wire, int n, json_t **ret, struct agon_err *err)
{
    if (n && !(*ret = json_array()))
        return agon_fail(err, AGON_ENOMEM, "trial: out of memory");
    for (int i = 0; i < n; i++) {
        struct agon_str text = agon_wire_str(wire);
        if (json_array_append_new(*ret, json_stringn(text.data, text.size)))
            return agon_fail(err, AGON_EINPUT, "trial: the cell described a text badly");
    }
    return 0;
}

static int read_texts(struct agon_wire *wire, struct agon_trial *ret, struct agon_err *err)
{
    int n = agon_wire_count(wire);
    ret->n_loaded = (size_t)agon_wire_int(wire);
    int r = read_strings(wire, n, &ret->texts, err);
    return r ? r : read_strings(wire, agon_wire_count(wire), &ret->reads, err);
}

static int trial_send(struct agon_runtime *rt, const struct agon_trial_input *input, bool full,
                      struct agon_buf *reply, struct agon_err *err)
{
    struct agon_buf request AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    int r = trial_request(&request, input, full, err);
    if (!r)
        r = agon_runtime_request(rt, "verify.trial", agon_buf_str(&request), reply, err);
    if (!r && input->tape)
        r = agon_tape_add(input->tape, input->gate, &request, reply, err);
    return r;
}

/* 0 with the wire past the status, or AGON_REJECTED. */
static int trial_status(struct agon_wire *wire, struct agon_buf *reason)
{
    bool rejected = agon_wire_int(wire) != 0;
    struct agon_str why = agon_wire_str(wire);
    if (rejected)
        agon_buf_add_str(reason, why);
    return rejected ? AGON_REJECTED : 0;
}

static int trial_read(struct agon_wire *wire, bool verified, struct agon_trial *ret,
                      struct agon_err *err)
{
    struct agon_verdict checks AGON_AUTO(agon_verdict_deinit) = {0};
    int r = read_checks(wire, &checks, err);
    ret->n_checks = checks.n_checks;
    if (!r)
        r = read_run(wire, ret, &checks, err);
    if (!r)
        r = read_probes(wire, ret, err);
    if (!r && verified)
        r = read_briefs(wire, ret, err);
    else if (!r)
        (void)agon_wire_int(wire);
    if (!r && wire->at < wire->end)
        r = read_texts(wire, ret, err);
    return r ? r : agon_wire_end(wire, "verify.trial", err);
}

int trial_decode(struct agon_str reply, bool verified, struct agon_trial *ret,
                 struct agon_buf *reason, struct agon_err *err)
{
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_wire wire = agon_wire_of(reply);
    int r = trial_status(&wire, reason);
    if (r || (r = trial_read(&wire, verified, &t, err)))
        return r;
    *ret = t;
    t = (struct agon_trial){0};
    return 0;
}

int agon_trial(struct agon_runtime *rt, const struct agon_trial_input *input,
               struct agon_trial *ret, struct agon_buf *reason, struct agon_err *err)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    int r = trial_send(rt, input, false, &reply, err);
    return r ? r : trial_decode(agon_buf_str(&reply), input->verifier.size > 0, ret, reason, err);
}

int agon_trial_begin(struct agon_runtime *rt, const struct agon_trial_input *input,
                     struct agon_buf *request, struct agon_err *err)
{
    request->size_max = MESSAGE_BYTES_MAX;
    int r = trial_request(request, input, false, err);
    return r ? r : agon_runtime_begin(rt, "verify.trial", agon_buf_str(request), err);
}

int agon_trial_end(struct agon_runtime *rt, const struct agon_trial_input *input,
                   const struct agon_buf *request, struct agon_trial *ret, struct agon_buf *reason,
                   struct agon_err *err)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    int r = agon_runtime_end(rt, "verify.trial", agon_buf_str(request), &reply, err);
    return r ? r : trial_decode(agon_buf_str(&reply), input->verifier.size > 0, ret, reason, err);
}

/* ---- verdicts ---- */

/* What follows the checks where there is no solution: run -1, no probes, then the items. */
static int verdict_read(struct agon_wire *wire, int n_items, struct agon_verdict *v,
                        struct agon_err *err)
{
    int r = read_checks(wire, v, err);
    if (r)
        return r;
    bool fine =
        agon_wire_int(wire) == -1 && agon_wire_count(wire) == 0 && agon_wire_count(wire) == n_items;
    if (!fine)
        return agon_fail(err, AGON_EINPUT, "the cell described a verdict badly");
    if (n_items)
        r = read_verdict(wire, v, err);
    return r ? r : agon_wire_end(wire, "verify.trial", err);
}

static int verdict_run(struct agon_runtime *rt, const struct agon_trial_input *input,
                       struct agon_verdict *ret, struct agon_buf *reason, struct agon_err *err)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    int r = trial_send(rt, input, true, &reply, err);
    struct agon_wire wire = agon_wire_of(agon_buf_str(&reply));
    if (!r)
        r = trial_status(&wire, reason);
    if (!r)
        r = verdict_read(&wire, input->n_items, &v, err);
    if (!r) {
        *ret = v;
        v = (struct agon_verdict){0};
    }
    return r;
}

int agon_verdict_checks(struct agon_runtime *rt, struct agon_str verifier, struct agon_verdict *ret,
                        struct agon_buf *reason, struct agon_err *err)
{
    struct agon_trial_input input = {.verifier = verifier};
    if (verifier.size == 0) {
        agon_buf_adds(reason, "verifier: it has no check{ ... }");
        return AGON_REJECTED;
    }
    return verdict_run(rt, &input, ret, reason, err);
}

int agon_verdict(struct agon_runtime *rt, const struct agon_task *task, struct agon_str answer,
                 const json_t *writes, struct agon_verdict *ret, struct agon_buf *reason,
                 struct agon_err *err)
{
    struct agon_trial_item item = {answer, writes};
    struct agon_trial_input input = {
        .answer_schema = task->answer_schema,
        .verifier = agon_str(task->verifier),
        .items = &item,
        .n_items = 1,
    };
    if (input.verifier.size == 0) {
        agon_buf_adds(reason, "verifier: it has no check{ ... }");
        return AGON_REJECTED;
    }
    return verdict_run(rt, &input, ret, reason, err);
}
