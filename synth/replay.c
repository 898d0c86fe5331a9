/*
 * Replay: see replay.h. A transcript is walked twice by the same code: first its calls are
 * gathered, tools giving nothing; then, when the cell has made all of them, once more with their
 * results. Both walks make the same calls, since whether a page is asked of a result that is known
 * is told by the stored text, and the second ends where a text differs.
 */
#include "synth/replay.h"

#include "base/json.h"
#include "synth/call.h"
#include "synth/page.h"
#include "synth/solver.h"
#include "synth/submit.h"
#include "verifiers/playback.h"
#include "verifiers/regress_diff.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TOOLS_MAX = 65,
    N_HEAD = 2, /* system and user message */
    SHOWN_BYTES_MAX = 2 << 20,
    EXCERPT_BYTES_MAX = 4000,
    ARGUMENTS_SHOWN = 120,
    PAGE_CAP_MAX = 1 << 22,
    PAGE_SEARCH_MAX = 20000,
};

void agon_replay_result_deinit(struct agon_replay_result *r)
{
    agon_buf_deinit(&r->where);
    agon_buf_deinit(&r->expected);
    agon_buf_deinit(&r->got);
}

/* One rollout on its way. */
struct walk {
    struct agon_replay *replay;
    const struct agon_replay_rollout *rollout;
    struct agon_replay_result *ret;
    struct agon_episode_tool tools[TOOLS_MAX];
    int n_tools;
    struct agon_calls calls;
    /* gathered in the first walk, owned */
    struct agon_play_call *made;
    int n_made, capacity;
    /* of the second walk */
    bool second;
    const struct agon_played_call *results; /* n_made of them, borrowed */
    int next, number;                       /* of results; of calls in the transcript */
    char *answer;                           /* owned */
};

static void walk_deinit(struct walk *w)
{
    for (int i = 0; i < w->n_made; i++)
        free((char *)(uintptr_t)w->made[i].arguments.data);
    free(w->made);
    agon_calls_deinit(&w->calls);
    free(w->answer);
}

/* ---- tools ---- */

static int walk_gather(struct walk *w, const char *name, const json_t *arguments,
                       struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHOWN_BYTES_MAX);
    if (w->n_made == w->capacity) {
        int capacity = w->capacity ? 2 * w->capacity : 32;
        struct agon_play_call *made = realloc(w->made, (size_t)capacity * sizeof(*made));
        if (!made)
            return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
        w->made = made;
        w->capacity = capacity;
    }
    agon_json_dump(&text, arguments);
    char *copy = agon_buf_steal(&text);
    if (!copy)
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    w->made[w->n_made++] = (struct agon_play_call){agon_str(name), agon_str(copy)};
    return 0;
}

static int tool_call(void *user, const char *name, const json_t *arguments, struct agon_buf *result,
                     struct agon_err *err)
{
    struct walk *w = user;
    if (!w->second)
        return walk_gather(w, name, arguments, err);
    if (w->next >= w->n_made)
        return agon_fail(err, AGON_EINPUT, "replay: the two walks differ");
    const struct agon_played_call *one = &w->results[w->next++];
    agon_buf_add_str(result, one->text);
    return one->failed ? AGON_CALL_REFUSED : 0;
}

static int tool_submit(void *user, const char *name, const json_t *arguments,
                       struct agon_buf *result, struct agon_err *err)
{
    struct walk *w = user;
    (void)name;
    free(AGON_STEAL(w->answer));
    return agon_submit(w->replay->task->answer_schema, arguments, &w->answer, result, err);
}

/* submit_result as the rollout's model saw it, last of the tools of its first message. */
static const json_t *stored_submit(const struct walk *w)
{
    const json_t *head = json_array_get(json_array_get(w->rollout->segments, 0), 0);
    const json_t *tools = json_object_get(head, "tools");
    size_t n = json_array_size(tools);
    return n ? json_array_get(tools, n - 1) : NULL;
}

/* The environment's tools as they are today, then submit_result. */
static int walk_tools(struct walk *w, struct agon_err *err)
{
    int n = agon_runtime_n_tools(w->replay->rt);
    if (n >= TOOLS_MAX)
        return agon_fail(err, AGON_EINPUT, "replay: over %d tools", TOOLS_MAX - 1);
    for (int i = 0; i < n; i++)
        w->tools[w->n_tools++] =
            (struct agon_episode_tool){.name = agon_runtime_tool(w->replay->rt, i)->name,
                                       .checks_arguments = true,
                                       .call = tool_call,
                                       .user = w};
    w->tools[w->n_tools++] = (struct agon_episode_tool){
        .name = "submit_result", .function = stored_submit(w), .call = tool_submit, .user = w};
    return 0;
}

/* ---- comparing ---- */

/* Note the first difference. */
static void differ(struct walk *w, const json_t *request, struct agon_str expected,
                   struct agon_str got)
{
    struct agon_replay_result *ret = w->ret;
    const json_t *function = json_object_get(request, "function");
    ret->same = false;
    if (request) {
        agon_buf_addf(&ret->where, "call %d, ", w->number);
        agon_text_add_plain(&ret->where, agon_str(agon_json_text(function, "name", "?")), false);
        agon_buf_addc(&ret->where, ' ');
        agon_text_add_plain(
            &ret->where,
            agon_utf8_cut(agon_str(agon_json_text(function, "arguments", "")), ARGUMENTS_SHOWN),
            false);
        agon_buf_addc(&ret->where, ':');
    }
    (void)agon_regress_diff_text(expected, got, &ret->where, &ret->expected, &ret->got);
}

static bool shows(const struct agon_call *call, size_t cap, struct agon_str stored,
                  struct agon_buf *shown)
{
    agon_buf_reset(shown);
    (void)agon_call_show(call, cap, shown);
    return agon_str_equal(agon_buf_str(shown), stored);
}

/* Characters of a stored page: what stands before its last line, "... page K of N". */
static size_t page_characters(struct agon_str stored)
{
    size_t n = 0, end = stored.size;
    while (end > 0 && stored.data[end - 1] != '\n')
        end--;
    for (size_t i = 0; i < end; i++)
        n += ((unsigned char)stored.data[i] & 0xC0) != 0x80;
    return n;
}

/* Does some size of pages show the stored text? The one found is kept. A page holds between a half
 * of the size and all of it, and sizes are a quarter of a window. */
static bool shows_paged(struct walk *w, const struct agon_call *call, struct agon_str stored,
                        struct agon_buf *shown)
{
    size_t *cap = &w->replay->page_cap, known = *cap, n = page_characters(stored);
    if (*cap && shows(call, *cap, stored, shown))
        return true;
    for (*cap = 256; *cap <= PAGE_CAP_MAX; *cap *= 2)
        if (shows(call, *cap, stored, shown))
            return true;
    size_t last = 2 * n + 2 < n + PAGE_SEARCH_MAX ? 2 * n + 2 : n + PAGE_SEARCH_MAX;
    for (*cap = n > 256 ? n - 1 : 256; *cap <= last; ++*cap)
        if (shows(call, *cap, stored, shown))
            return true;
    *cap = known;
    return false;
}

static bool has_pages(struct agon_str stored)
{
    static const char mark[] = "... page ";
    size_t at = stored.size;
    while (at > 0 && stored.data[at - 1] != '\n')
        at--;
    return stored.size - at > sizeof(mark) && !memcmp(stored.data + at, mark, sizeof(mark) - 1);
}

/* Hold a call that was made against the stored text. */
static int walk_compare(struct walk *w, const json_t *request, const struct agon_call *call,
                        struct agon_str stored, struct agon_err *err)
{
    struct agon_buf shown AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHOWN_BYTES_MAX);
    bool paged = has_pages(stored);
    bool same = shows(call, SIZE_MAX, stored, &shown);
    if (!same && (paged || call->page > 1))
        same = shows_paged(w, call, stored, &shown);
    if (!same) {
        size_t cap = w->replay->page_cap ? w->replay->page_cap : SIZE_MAX;
        (void)shows(call, cap, stored, &shown);
        differ(w, request, stored, agon_buf_str(&shown));
    }
    return same && paged ? agon_calls_keep(&w->calls, call, err) : 0;
}

/* ---- walking ---- */

static bool is_role(const json_t *message, const char *role)
{
    return strcmp(agon_json_text(message, "role", ""), role) == 0;
}

/* One call of a turn and the message that answered it. 1: the walk ends here. */
static int walk_call(struct walk *w, const json_t *request, size_t index, const json_t *message,
                     struct agon_err *err)
{
    struct agon_call call AGON_AUTO(agon_call_deinit) = {0};
    const json_t *content = json_object_get(message, "content");
    struct agon_str stored = {json_string_value(content), json_string_length(content)};
    w->number++;
    if (!message || !is_role(message, "tool") || !stored.data) {
        if (w->second)
            differ(w, request, agon_str("a result"), agon_str("none in the transcript"));
        return 1;
    }
    int r = agon_calls_make(&w->calls, request, index, &call, err);
    if (r)
        return r;
    if (w->second)
        r = walk_compare(w, request, &call, stored, err);
    else if (has_pages(stored))
        r = agon_calls_keep(&w->calls, &call, err);
    return r ? r : !w->ret->same || call.status == AGON_CALL_LAST;
}

/* Messages from `at` on. 1: the walk ends here. */
static int walk_segment(struct walk *w, const json_t *segment, size_t at, struct agon_err *err)
{
    int r = 0;
    for (size_t n = json_array_size(segment); at < n && !r; at++) {
        const json_t *message = json_array_get(segment, at);
        const json_t *requests = json_object_get(message, "tool_calls");
        size_t n_requests = is_role(message, "assistant") ? json_array_size(requests) : 0;
        for (size_t i = 0; i < n_requests && !r; i++)
            r = walk_call(w, json_array_get(requests, i), i, json_array_get(segment, at + i + 1),
                          err);
        at += n_requests;
    }
    return r;
}

/* All segments; a later one begins with what was kept of the one before. */
static int walk_all(struct walk *w, bool second, const struct agon_played_call *results,
                    struct agon_err *err)
{
    agon_calls_deinit(&w->calls);
    free(AGON_STEAL(w->answer));
    w->second = second;
    w->results = results;
    w->next = w->number = 0;
    int r = agon_calls_init(&w->calls, w->tools, w->n_tools, err);
    for (size_t i = 0; i < json_array_size(w->rollout->segments) && !r; i++) {
        const json_t *segment = json_array_get(w->rollout->segments, i);
        size_t skip = N_HEAD;
        if (i) {
            json_auto_t *kept = agon_context_shrink(
                w->replay->context, json_array_get(w->rollout->segments, i - 1), N_HEAD);
            if (!kept)
                return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
            skip = json_array_size(kept);
        }
        r = walk_segment(w, segment, skip, err);
    }
    w->ret->n_calls = w->n_made;
    return r < 0 ? r : 0;
}

/* ---- verdicts ---- */

static void differ_verdict(struct walk *w, const char *got)
{
    w->ret->same = false;
    agon_buf_adds(&w->ret->where, "verdict");
    agon_buf_adds(&w->ret->expected, w->rollout->verdict);
    agon_text_add_plain(&w->ret->got, agon_str(got), false);
}

static void differ_answer(struct walk *w)
{
    agon_buf_adds(&w->ret->where, "answer:");
    differ(w, NULL, agon_str(w->rollout->answer ? w->rollout->answer : "none"),
           agon_str(w->answer ? w->answer : "none"));
}

static bool all_pass(const json_t *checks)
{
    size_t i;
    json_t *one;
    json_array_foreach(checks, i,
                       one) if (strcmp(agon_json_text(one, "end", ""), "pass")) return false;
    return true;
}

/* What each check said, in full, where it is not simply all that passed. */
static int verdict_full(struct walk *w, struct agon_err *err)
{
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_buf path AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    int r = agon_verdict(w->replay->rt, w->replay->task, agon_str(w->answer), w->rollout->writes,
                         &v, &reason, err);
    if (r < 0)
        return r;
    if (r) {
        differ_verdict(w, agon_buf_text(&reason));
        return 0;
    }
    json_auto_t *checks = agon_submit_checks(&v);
    if (!checks)
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    agon_buf_adds(&path, "checks");
    if (agon_regress_diff(w->rollout->checks, checks, &path, &w->ret->expected, &w->ret->got)) {
        w->ret->same = false;
        agon_buf_addf(&w->ret->where, "verdict: %s", agon_buf_text(&path));
    }
    return 0;
}

static int walk_verdict(struct walk *w, const struct agon_played *end, struct agon_err *err)
{
    const struct agon_replay_rollout *o = w->rollout;
    bool both = o->answer && w->answer;
    if (both ? strcmp(o->answer, w->answer) != 0 : o->answer || w->answer)
        differ_answer(w);
    if (!both || !w->ret->same)
        return 0;
    bool pass =
        end->judged && end->brief.pass && w->n_made > 0; /* a pass without calls is a fail */
    const char *got = pass ? "pass" : "fail";
    if (strcmp(o->end, AGON_ROLLOUT_DISPUTED) == 0)
        return 0; /* two cells did not agree then: there is no verdict to compare with */
    if (strcmp(o->verdict, got) != 0) {
        differ_verdict(w, got);
        return 0;
    }
    return pass && all_pass(o->checks) ? 0 : verdict_full(w, err);
}

/* ---- a batch ---- */

static int batch_run(struct agon_replay *replay, struct walk *walks, int n, struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_playback done AGON_AUTO(agon_playback_deinit) = {0};
    struct agon_play *episodes = calloc((size_t)n + 1, sizeof(*episodes));
    if (!episodes)
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    for (int i = 0; i < n; i++) {
        const char *answer = walks[i].rollout->answer;
        episodes[i] = (struct agon_play){.calls = walks[i].made,
                                         .n_calls = walks[i].n_made,
                                         .answer = agon_str(answer ? answer : "")};
    }
    struct agon_playback_input input = {.answer_schema = replay->task->answer_schema,
                                        .verifier = agon_str(replay->task->verifier),
                                        .episodes = episodes,
                                        .n_episodes = n,
                                        .results = true};
    int r = agon_playback(replay->rt, &input, &done, &reason, err), at = 0;
    if (r > 0)
        r = agon_fail(err, AGON_ESCRIPT, "%s: its verifier does not load: %s", replay->task->id,
                      agon_buf_text(&reason));
    for (int i = 0; i < n && !r; i++) {
        r = walk_all(&walks[i], true, done.results + at, err);
        at += walks[i].n_made;
        if (!r && walks[i].ret->same)
            r = walk_verdict(&walks[i], &done.ends[i], err);
    }
    free(episodes);
    return r;
}

int agon_replay(struct agon_replay *replay, const struct agon_replay_rollout *rollouts, int n,
                struct agon_replay_result *ret, struct agon_err *err)
{
    struct walk *walks = calloc((size_t)n + 1, sizeof(*walks));
    int r = walks ? 0 : agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    for (int i = 0; i < n; i++) {
        ret[i] = (struct agon_replay_result){.same = true,
                                             .where = AGON_BUF(EXCERPT_BYTES_MAX),
                                             .expected = AGON_BUF(EXCERPT_BYTES_MAX),
                                             .got = AGON_BUF(EXCERPT_BYTES_MAX)};
        if (r)
            continue;
        walks[i] = (struct walk){.replay = replay, .rollout = &rollouts[i], .ret = &ret[i]};
        r = walk_tools(&walks[i], err);
        if (!r)
            r = walk_all(&walks[i], false, NULL, err);
    }
    if (!r)
        r = batch_run(replay, walks, n, err);
    for (int i = 0; walks && i < n; i++)
        walk_deinit(&walks[i]);
    free(walks);
    return r;
}
