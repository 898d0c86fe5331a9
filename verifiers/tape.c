/* Asking again and telling two answers apart: see tape.h. */
#include "verifiers/tape.h"

#include "base/json.h"
#include "envs/runtime_wire.h"
#include "verifiers/trial_internal.h"

#include <stdlib.h>
#include <string.h>

enum { REPLY_BYTES_MAX = 64 << 20, REASON_BYTES_MAX = 4000, EXAMPLE_BYTES_MAX = 64 << 10 };

void agon_tape_deinit(struct agon_tape *t)
{
    for (int i = 0; i < t->n; i++) {
        free(t->items[i].request);
        free(t->items[i].reply);
    }
    free(t->items);
    *t = (struct agon_tape){0};
}

static char *copy_bytes(const struct agon_buf *b)
{
    char *copy = malloc(b->size + 1);
    if (copy)
        memcpy(copy, agon_buf_text(b), b->size + 1);
    return copy;
}

int agon_tape_add(struct agon_tape *t, int gate, const struct agon_buf *request,
                  const struct agon_buf *reply, struct agon_err *err)
{
    if (t->n == t->capacity) {
        int capacity = t->capacity ? 2 * t->capacity : 32;
        struct agon_tape_item *items = realloc(t->items, (size_t)capacity * sizeof(*items));
        if (!items)
            return agon_fail(err, AGON_ENOMEM, "tape: out of memory");
        t->items = items;
        t->capacity = capacity;
    }
    struct agon_tape_item *item = &t->items[t->n++];
    *item = (struct agon_tape_item){gate, copy_bytes(request), copy_bytes(reply), request->size,
                                    reply->size};
    t->bytes += request->size + reply->size;
    if (!item->request || !item->reply)
        return agon_fail(err, AGON_ENOMEM, "tape: out of memory");
    return 0;
}

/* ---- what was asked ---- */

struct asked {
    struct agon_str verifier, solution;
    struct agon_wire items; /* at the first item */
    int n_items;
};

static void skip_strings(struct agon_wire *w, int n)
{
    for (int i = 0; i < n; i++)
        (void)agon_wire_str(w);
}

/* As trial_wire.h lays it out. */
static struct asked asked_read(struct agon_str request)
{
    struct agon_wire w = agon_wire_of(request);
    struct asked a = {0};
    if (agon_wire_int(&w)) { /* perturbed */
        (void)agon_wire_int(&w);
        (void)agon_wire_int(&w);
        skip_strings(&w, agon_wire_count(&w));
    }
    for (int i = 0; i < 3; i++) /* reverse, cache, full */
        (void)agon_wire_int(&w);
    skip_strings(&w, 1); /* the schema */
    a.verifier = agon_wire_str(&w);
    a.solution = agon_wire_str(&w);
    skip_strings(&w, 3 * agon_wire_count(&w)); /* overrides */
    skip_strings(&w, 2 * agon_wire_count(&w)); /* probes */
    (void)agon_wire_int(&w);                   /* failed_max */
    a.n_items = agon_wire_count(&w);
    a.items = w;
    return a;
}

/* Item i: {"answer": text, "writes": [...]} (new reference). */
static json_t *asked_item(const struct asked *a, int i)
{
    struct agon_wire w = a->items;
    struct agon_str answer = {0};
    json_t *writes = NULL;
    for (int k = 0; k <= i; k++) {
        answer = agon_wire_str(&w);
        json_decref(writes);
        writes = json_array();
        for (int n = agon_wire_count(&w); n > 0; n--) {
            struct agon_str tool = agon_wire_str(&w);
            json_t *arguments = agon_wire_json(&w);
            json_array_append_new(writes, json_pack("{s:s%, s:o*}", "tool", tool.data, tool.size,
                                                    "arguments", arguments));
        }
    }
    size_t size = answer.size < EXAMPLE_BYTES_MAX ? answer.size : 0;
    json_t *text = json_stringn(answer.data, size); /* NULL where it is no UTF-8 */
    return json_pack("{s:o*, s:o}", "answer", text, "writes", writes);
}

/* ---- what was said ---- */

static json_t *failed_checks(const struct agon_verdict *v)
{
    json_t *failed = json_array();
    for (int i = 0; i < v->n_checks; i++)
        if (v->checks[i].end != AGON_CHECK_PASS)
            json_array_append_new(failed,
                                  json_pack("{s:s, s:s}", "name", v->checks[i].name, "reason",
                                            v->checks[i].reason ? v->checks[i].reason : ""));
    return failed;
}

static json_t *brief_json(const struct agon_brief *b)
{
    return json_pack("{s:b, s:b, s:b, s:b, s:I, s:I}", "pass", b->pass, "schema", b->schema,
                     "replay", b->replay, "unclaimed", b->unclaimed, "failed",
                     (json_int_t)b->failed, "changes", (json_int_t)b->changes);
}

/* One side; differs: the item that the two disagree on, or -1. */
static json_t *trace_json(const struct agon_trial *t, const char *refused, int differs)
{
    json_t *trace = json_object();
    if (refused)
        json_object_set_new(trace, "refused", json_string(refused));
    if (t->unsolved)
        json_object_set_new(trace, "unsolved", json_string(t->unsolved));
    if (t->run.answer)
        json_object_set(trace, "answer", t->run.answer);
    if (t->run.calls)
        json_object_set(trace, "calls", t->run.calls);
    if (t->own.n_checks)
        json_object_set_new(trace, "checks", failed_checks(&t->own));
    if (t->probes)
        json_object_set(trace, "probes", t->probes);
    if (differs >= 0)
        json_object_set_new(trace, "verdict", brief_json(&t->briefs[differs]));
    return trace;
}

static int first_difference(const struct agon_trial *a, const struct agon_trial *b)
{
    for (int i = 0; i < a->n_briefs && i < b->n_briefs; i++) {
        const struct agon_brief *x = &a->briefs[i], *y = &b->briefs[i];
        if (x->pass != y->pass || x->schema != y->schema || x->replay != y->replay ||
            x->unclaimed != y->unclaimed || x->failed != y->failed || x->changes != y->changes)
            return i;
    }
    return -1;
}

static int traces_make(const struct agon_tape_item *item, struct agon_str second, json_t **ret,
                       struct agon_err *err)
{
    struct asked asked = asked_read((struct agon_str){item->request, item->request_size});
    struct agon_trial t[2] = {0};
    struct agon_buf reasons[2] = {AGON_BUF(REASON_BYTES_MAX), AGON_BUF(REASON_BYTES_MAX)};
    const struct agon_str replies[2] = {{item->reply, item->reply_size}, second};
    int r[2] = {0}, worst = 0;
    for (int i = 0; i < 2; i++) {
        r[i] = trial_decode(replies[i], asked.verifier.size > 0, &t[i], &reasons[i], err);
        worst = r[i] < worst ? r[i] : worst;
    }
    int differs = worst < 0 ? -1 : first_difference(&t[0], &t[1]);
    if (worst >= 0)
        *ret = json_pack(
            "{s:{s:s%, s:s%, s:o*}, s:o, s:o}", "request", "verifier", asked.verifier.data,
            asked.verifier.size, "solution", asked.solution.data, asked.solution.size, "item",
            differs >= 0 ? asked_item(&asked, differs) : NULL, "first",
            trace_json(&t[0], r[0] ? agon_buf_text(&reasons[0]) : NULL, differs), "second",
            trace_json(&t[1], r[1] ? agon_buf_text(&reasons[1]) : NULL, differs));
    for (int i = 0; i < 2; i++) {
        agon_trial_deinit(&t[i]);
        agon_buf_deinit(&reasons[i]);
    }
    if (worst < 0)
        return worst;
    return *ret ? 0 : agon_fail(err, AGON_ENOMEM, "tape: out of memory");
}

/* ---- again ---- */

int agon_tape_again(const struct agon_tape *t, struct agon_runtime *rt, int *ret_gate,
                    json_t **ret_traces, struct agon_err *err)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(REPLY_BYTES_MAX);
    agon_runtime_renew(rt);
    for (int i = 0; i < t->n; i++) {
        const struct agon_tape_item *item = &t->items[i];
        struct agon_str request = {item->request, item->request_size};
        int r = agon_runtime_request(rt, "verify.trial", request, &reply, err);
        if (r)
            return r;
        if (agon_str_equal(agon_buf_str(&reply), (struct agon_str){item->reply, item->reply_size}))
            continue;
        *ret_gate = item->gate;
        r = traces_make(item, agon_buf_str(&reply), ret_traces, err);
        return r ? r : AGON_TAPE_DIFFERS;
    }
    return 0;
}
