/*
 * The episode loop: see episode.h.
 *
 * State is small on purpose: a session, whether a turn is in flight, the numbers of
 * turn and try. The transcript's last segment mirrors the session's messages.
 */
#include "synth/episode.h"

#include "base/json.h"
#include "synth/cleantext.h"
#include "synth/page.h"
#include "synth/prompts.h"

#include <stdlib.h>

enum { SHOWN_BYTES_MAX = 2 << 20, PROMPT_BYTES_MAX = 4 << 20, TURN_TOKENS_MAX = 16384 };
static const char ask_file[] = "summary.md", restart_file[] = "restart.md";

struct agon_episode {
    struct agon_episode_options o;
    char *key;
    struct agon_session *session;
    bool in_flight;
    bool sums_up;      /* what is sampled is no turn but a summary of the segment */
    int turn, attempt; /* from 0 */
    json_t *segment;   /* the last of report.segments (borrowed from it) */
    struct agon_calls calls;
    struct agon_episode_report report;
};

const char *agon_episode_end_name(enum agon_episode_end end)
{
    static const char *const names[] = {"running",   "done",   "silent", "turns",
                                        "malformed", "length", "window"};
    return names[end];
}

void agon_episode_free(struct agon_episode *e)
{
    if (!e)
        return;
    agon_session_free(e->session);
    json_decref(e->report.segments);
    agon_calls_deinit(&e->calls);
    free(e->key);
    free(e);
}

const struct agon_episode_report *agon_episode_report(const struct agon_episode *e)
{
    return &e->report;
}

/* Begin a segment of the transcript with a copy of the list `head`. */
static int segment_begin(struct agon_episode *e, const json_t *head, struct agon_err *err)
{
    json_t *copy = json_array();
    if (!copy || json_array_extend(copy, (json_t *)(uintptr_t)head) ||
        json_array_append_new(e->report.segments, copy))
        return agon_fail(err, AGON_ENOMEM, "episode: out of memory");
    e->segment = copy;
    return 0;
}

static int episode_end(struct agon_episode *e, enum agon_episode_end end)
{
    e->report.end = end;
    agon_session_free(AGON_STEAL(e->session));
    return AGON_EPISODE_ENDED;
}

/* Messages that the model does not take: they are over its window. */
static int episode_overflow(struct agon_episode *e, const struct agon_err *why)
{
    snprintf(e->report.reason, sizeof(e->report.reason), "%.255s", why->text);
    return episode_end(e, AGON_EPISODE_WINDOW);
}

int agon_episode_new(struct agon_episode **ret, const struct agon_episode_options *o,
                     struct agon_err *err)
{
    struct agon_episode *e AGON_AUTO(agon_episode_freep) = calloc(1, sizeof(*e));
    if (!e || !(e->key = strdup(o->key)) || !(e->report.segments = json_array()))
        return agon_fail(err, AGON_ENOMEM, "episode: out of memory");
    e->o = *o;
    if (o->context == AGON_CONTEXT_SUMMARY &&
        (!agon_prompts_has(o->prompts, ask_file) || !agon_prompts_has(o->prompts, restart_file)))
        return agon_fail(err, AGON_EINPUT,
                         "prompts: context summary needs %s and %s, one is not there", ask_file,
                         restart_file);
    int r = agon_calls_init(&e->calls, o->tools, o->n_tools, err);
    if (r)
        return agon_err_in(err, r, "%s", o->key);
    if (e->o.sampling.tokens_max == 0) {
        int half = agon_model_window(o->model) / 2;
        e->o.sampling.tokens_max = half < TURN_TOKENS_MAX ? half : TURN_TOKENS_MAX;
    }
    struct agon_err why = {0};
    r = o->prefix ? agon_session_fork(&e->session, o->prefix, &why)
                  : agon_session_new(&e->session, o->model, AGON_THINKING_ON, o->head, &why);
    if (r == AGON_EINPUT)
        (void)episode_overflow(e, &why);
    else if (r)
        return agon_fail(err, r, "%s: %s", o->key, why.text);
    if ((r = segment_begin(e, o->head, err)))
        return agon_err_in(err, r, "%s", o->key);
    *ret = AGON_STEAL(e);
    return 0;
}

static int episode_sample(struct agon_episode *e, struct agon_err *err)
{
    char key[512];
    struct agon_rng rng = e->o.rng;
    if (e->sums_up)
        rng = agon_rng_split(&rng, agon_str("summary"));
    int number = e->sums_up ? e->report.resets : e->turn;
    rng = agon_rng_split_int(&rng, (uint64_t)number);
    rng = agon_rng_split_int(&rng, (uint64_t)e->attempt);
    struct agon_sampling sampling = e->o.sampling;
    sampling.seed = agon_rng_u64(&rng) >> 1; /* fits JSON's signed integers */
    snprintf(key, sizeof(key), "%s/%s%d.%d", e->key, e->sums_up ? "summary" : "", number,
             e->attempt);
    sampling.key = key;
    int r = agon_session_sample(e->session, &sampling, err);
    if (r)
        return agon_err_in(err, r, "%s", key);
    e->in_flight = true;
    return 0;
}

/* ---- calls ------------------------------------------------------------------- */

/* Make one call and append what the model sees of it to shown. 0, AGON_CALL_*, or <0. */
static int call_one(struct agon_episode *e, const json_t *request, size_t index,
                    struct agon_buf *shown, struct agon_err *err)
{
    struct agon_call call AGON_AUTO(agon_call_deinit) = {0};
    int r = agon_calls_make(&e->calls, request, index, &call, err);
    e->report.calls = e->calls.n_made;
    if (r)
        return agon_err_in(err, r, "%s", e->key);
    int n_pages = agon_call_show(&call, agon_page_cap(agon_model_window(e->o.model)), shown);
    if (agon_call_is_past(&call, n_pages))
        return AGON_CALL_REFUSED;
    if (n_pages > 1 && (r = agon_calls_keep(&e->calls, &call, err)))
        return agon_err_in(err, r, "%s", e->key);
    return call.status;
}

/* Run the calls of a turn in order and append their results to `messages`.
 * 0, AGON_CALL_LAST, or <0. */
static int calls_run(struct agon_episode *e, const json_t *calls, json_t *messages,
                     struct agon_err *err)
{
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        struct agon_buf shown AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHOWN_BYTES_MAX);
        int r = call_one(e, call, i, &shown, err);
        if (r < 0 || (r == 0 && agon_buf_check(&shown, "a tool's result", err)))
            return r < 0 ? r : AGON_ENOMEM;
        e->report.refused += r == AGON_CALL_REFUSED;
        json_t *message =
            json_pack("{s:s, s:s, s:s%}", "role", "tool", "tool_call_id",
                      agon_json_text(call, "id", ""), "content", agon_buf_text(&shown), shown.size);
        if (!message || json_array_append_new(messages, message))
            return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
        if (r == AGON_CALL_LAST)
            return AGON_CALL_LAST;
    }
    return 0;
}

/* ---- turns ------------------------------------------------------------------- */

/* Go on in a fresh session that begins with `messages`. 0, or AGON_EPISODE_ENDED where even they
 * are over the window. */
static int episode_restart(struct agon_episode *e, const json_t *messages, struct agon_err *err)
{
    struct agon_err why = {0};
    agon_session_free(AGON_STEAL(e->session));
    int r = agon_session_new(&e->session, e->o.model, AGON_THINKING_ON, messages, &why);
    if (r == AGON_EINPUT)
        return episode_overflow(e, &why);
    if (r)
        return agon_fail(err, r, "%s: context reset: %s", e->key, why.text);
    e->report.resets++;
    return segment_begin(e, messages, err);
}

/* A session in which the segment, whose last message asks for it, can be summed up: a tenth of the
 * window is left for that. What is too long is halved. */
static int summary_session(struct agon_episode *e, struct agon_err *err)
{
    struct agon_err why = {0};
    int window = agon_model_window(e->o.model);
    json_auto_t *messages = json_incref(e->segment);
    for (;;) {
        agon_session_free(AGON_STEAL(e->session));
        int r = agon_session_new(&e->session, e->o.model, AGON_THINKING_ON, messages, &why);
        if (r && r != AGON_EINPUT)
            return agon_fail(err, r, "%s: summary: %s", e->key, why.text);
        if (!r && agon_session_tokens(e->session) <= window - window / 10)
            return 0;
        json_t *less = agon_context_halve(messages, json_array_size(e->o.head));
        if (!less)
            return r ? episode_overflow(e, &why) : 0;
        json_decref(messages);
        messages = less;
    }
}

/* Have the model sum the segment up; its next completion is the summary. */
static int summary_ask(struct agon_episode *e, struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    int r = agon_prompts_fill(e->o.prompts, ask_file, NULL, &text, err);
    if (r)
        return r;
    json_t *ask = json_pack("{s:s, s:s}", "role", "user", "content", agon_buf_text(&text));
    if (!ask || json_array_append_new(e->segment, ask))
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    e->sums_up = true;
    return summary_session(e, err);
}

/* The summary is there: go on with the task and it. */
static int summary_restart(struct agon_episode *e, struct agon_str summary, struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    const json_t *user = json_array_get(e->o.head, json_array_size(e->o.head) - 1);
    struct agon_slot slots[] = {
        {"task", agon_str(agon_json_text(user, "content", ""))}, {"summary", summary}, {0}};
    int r = agon_prompts_fill(e->o.prompts, restart_file, slots, &text, err);
    if (r)
        return r;
    json_auto_t *messages = agon_context_retext(e->o.head, agon_buf_str(&text));
    if (!messages)
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    e->sums_up = false;
    e->attempt = 0;
    return episode_restart(e, messages, err);
}

/* The window is full, or nearly: go on with less of the past. 0, or AGON_EPISODE_ENDED. */
static int episode_reset(struct agon_episode *e, struct agon_err *err)
{
    if (e->o.context == AGON_CONTEXT_SUMMARY)
        return summary_ask(e, err);
    json_auto_t *kept = agon_context_shrink(e->o.context, e->segment, json_array_size(e->o.head));
    if (!kept)
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    return episode_restart(e, kept, err);
}

/* Is there more than one turn in this segment, or need none stay, so that something can go? */
static bool has_past(const struct agon_episode *e)
{
    size_t i;
    json_t *message;
    int n = 0;
    json_array_foreach(e->segment, i, message) n +=
        strcmp(agon_json_text(message, "role", ""), "assistant") == 0;
    return n > 1 || e->o.context != AGON_CONTEXT_DISCARD_75;
}

/* Hand the results to the session, and make room where it runs short. */
static int episode_append(struct agon_episode *e, const json_t *results, struct agon_err *err)
{
    struct agon_err why = {0};
    int r = agon_session_append(e->session, results, &why);
    if (r && r != AGON_EINPUT)
        return agon_fail(err, r, "%s: %s", e->key, why.text);
    bool full =
        r || agon_context_full(agon_session_tokens(e->session), agon_model_window(e->o.model));
    bool can_reset = agon_context_resets(e->o.context) && has_past(e);
    if (full && can_reset)
        return episode_reset(e, err);
    return r ? episode_overflow(e, &why) : 0;
}

static int turn_ok(struct agon_episode *e, json_t *message, struct agon_err *err)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    e->report.turns++;
    if (json_array_append(e->segment, message))
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    if (json_array_size(calls) == 0)
        return episode_end(e, AGON_EPISODE_SILENT);

    json_auto_t *results = json_array();
    int r = results ? calls_run(e, calls, results, err)
                    : agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    if (r < 0)
        return r;
    if (json_array_extend(e->segment, results))
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    if (r == AGON_CALL_LAST)
        return episode_end(e, AGON_EPISODE_DONE);
    e->attempt = 0;
    if (++e->turn >= e->o.turns_max)
        return episode_end(e, AGON_EPISODE_TURNS);
    return episode_append(e, results, err);
}

/* A completion that can't stand in the history: once more, or the end. What was
 * generated last stays in the record. */
static int turn_bad(struct agon_episode *e, const struct agon_turn *turn, struct agon_err *err)
{
    e->report.malformed++;
    if (++e->attempt < e->o.tries_max)
        return 0;
    snprintf(e->report.reason, sizeof(e->report.reason), "%s", turn->reason);
    json_t *message = json_pack("{s:s, s:o, s:o}", "role", "assistant", "malformed",
                                agon_cleantext_json(agon_str(turn->text ? turn->text : "")),
                                "reason", agon_cleantext_json(agon_str(turn->reason)));
    if (!message || json_array_append_new(e->segment, message))
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    if (turn->end == AGON_TURN_MALFORMED)
        return episode_end(e, AGON_EPISODE_MALFORMED);
    int window = agon_model_window(e->o.model);
    bool full = agon_session_tokens(e->session) + e->o.sampling.tokens_max > window;
    return episode_end(e, full ? AGON_EPISODE_WINDOW : AGON_EPISODE_LENGTH);
}

/* A summary is text alone. Calls in it are not made, and do not stand in the record. */
static int summary_over(struct agon_episode *e, struct agon_turn *turn, struct agon_err *err)
{
    const json_t *content = json_object_get(turn->message, "content");
    struct agon_str text = {json_string_value(content), json_string_length(content)};
    bool calls = json_array_size(json_object_get(turn->message, "tool_calls")) > 0;
    if (calls || text.size == 0) {
        turn->end = AGON_TURN_MALFORMED;
        snprintf(turn->reason, sizeof(turn->reason), "a summary %s",
                 calls ? "makes no calls" : "has a text");
        int r = turn_bad(e, turn, err);
        return r ? r : summary_session(e, err); /* the session holds it; begin anew */
    }
    if (json_array_append(e->segment, turn->message))
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", e->key);
    return summary_restart(e, text, err);
}

static int turn_over(struct agon_episode *e, struct agon_turn *turn, struct agon_err *err)
{
    e->report.tokens += turn->n_tokens;
    switch (turn->end) {
    case AGON_TURN_OK:
        return e->sums_up ? summary_over(e, turn, err) : turn_ok(e, turn->message, err);
    case AGON_TURN_MALFORMED:
    case AGON_TURN_LENGTH: return turn_bad(e, turn, err);
    case AGON_TURN_FAILED: break;
    }
    return agon_fail(err, AGON_EMODEL, "model '%s': %s/%d.%d: %s", agon_model_name(e->o.model),
                     e->key, e->turn, e->attempt, turn->reason);
}

int agon_episode_step(struct agon_episode *e, struct agon_err *err)
{
    while (e->report.end == AGON_EPISODE_RUNNING) {
        if (!e->in_flight) {
            int r = episode_sample(e, err);
            if (r)
                return r;
        }
        struct agon_turn turn = {0};
        int r = agon_session_take(e->session, &turn, err);
        if (r <= 0)
            return r;
        e->in_flight = false;
        r = turn_over(e, &turn, err);
        agon_turn_deinit(&turn);
        if (r < 0)
            return r;
    }
    return AGON_EPISODE_ENDED;
}
