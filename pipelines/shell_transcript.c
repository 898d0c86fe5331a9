/*
 * Stored rollouts in the shell: .transcript N opens one, .step goes through it turn by turn. The
 * calls of a step are made again in a branch of their own, so that at each point the world can be
 * looked into as the model had it before its eyes.
 */
#include "base/json.h"
#include "pipelines/corpus.h"
#include "pipelines/pretty.h"
#include "pipelines/shell.h"

#include <stdlib.h>

enum { TEXT_SHOWN = 600 };

struct shell_transcript {
    json_t *messages; /* owned: all segments, one after another */
    size_t next;      /* message to be shown */
    int n_turns;
    char *answer, *verdict, *end; /* of the rollout; answer may be NULL */
    json_t *checks;
};

void shell_transcript_free(struct shell_transcript *t)
{
    if (!t)
        return;
    json_decref(t->messages);
    json_decref(t->checks);
    free(t->answer);
    free(t->verdict);
    free(t->end);
    free(t);
}
AGON_DEFINE_FREEP(struct shell_transcript, shell_transcript_free)

bool shell_transcript_waits(const struct shell *sh)
{
    return sh->transcript && sh->transcript->next < json_array_size(sh->transcript->messages);
}

/* ---- opening ---- */

/* What a later segment begins with was shown in the one before: its tail that is equal. */
static size_t repeated(const json_t *before, const json_t *segment)
{
    size_t n = json_array_size(before), m = json_array_size(segment), head = 2;
    for (size_t kept = n - (n < head ? n : head); kept > 0; kept--) {
        size_t same = 0;
        while (same < kept && head + same < m &&
               json_equal(json_array_get(before, n - kept + same),
                          json_array_get(segment, head + same)))
            same++;
        if (same == kept)
            return head + kept;
    }
    return head;
}

static int transcript_segments(struct shell_transcript *t, const json_t *segments,
                               struct agon_err *err)
{
    int bad = !(t->messages = json_array());
    for (size_t i = 0; i < json_array_size(segments) && !bad; i++) {
        const json_t *segment = json_array_get(segments, i);
        size_t from = i ? repeated(json_array_get(segments, i - 1), segment) : 0;
        if (i)
            bad = json_array_append_new(t->messages, json_pack("{s:s}", "role", "reset"));
        for (; from < json_array_size(segment) && !bad; from++)
            bad = json_array_append(t->messages, json_array_get(segment, from));
    }
    return bad ? agon_fail(err, AGON_ENOMEM, "transcript: out of memory") : 0;
}

static int transcript_read(struct shell_transcript *t, struct agon_query *q, struct agon_err *err)
{
    json_auto_t *segments = NULL;
    t->verdict = strdup(agon_query_get_text(q, 1));
    t->end = strdup(agon_query_get_text(q, 2));
    t->answer = agon_query_is_null(q, 3) ? NULL : strdup(agon_query_get_text(q, 3));
    if (!t->verdict || !t->end || (!t->answer && !agon_query_is_null(q, 3)))
        return agon_fail(err, AGON_ENOMEM, "transcript: out of memory");
    int r = agon_json_parse(&segments, agon_query_get_str(q, 0), err);
    if (!r)
        r = agon_json_parse(&t->checks, agon_query_get_str(q, 4), err);
    return r ? r : transcript_segments(t, segments, err);
}

/* The rollouts of the task, one a line. */
static int transcript_list(struct shell *sh, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int n = 0, r = agon_query_new(&q, agon_corpus_db(sh->corpus),
                                  "SELECT idx, verdict, end, turns, calls, answer FROM rollouts"
                                  " WHERE environment = ?1 AND task = ?2 ORDER BY purpose, idx",
                                  err);
    if (r)
        return r;
    agon_query_text(q, 1, sh->env->id);
    agon_query_text(q, 2, sh->task->id);
    for (; (r = agon_query_next(q, err)) == AGON_ROW; n++) {
        char before[128];
        json_auto_t *answer = NULL;
        if (agon_json_parse(&answer, agon_query_get_str(q, 5), NULL))
            answer = json_string("(no answer)");
        snprintf(before, sizeof(before), "%3d %-4s %-9s %2d turns %2d calls  ",
                 (int)agon_query_get_int(q, 0), agon_query_get_text(q, 1),
                 agon_query_get_text(q, 2), (int)agon_query_get_int(q, 3),
                 (int)agon_query_get_int(q, 4));
        shell_line_value(sh, before, answer);
    }
    if (!r && n == 0)
        puts("no rollout of this task is stored");
    return r;
}

static int transcript_open(struct shell *sh, int index, struct agon_err *err)
{
    struct shell_transcript *t AGON_AUTO(shell_transcript_freep) = calloc(1, sizeof(*t));
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    if (!t)
        return agon_fail(err, AGON_ENOMEM, "transcript: out of memory");
    int r = agon_query_new(&q, agon_corpus_db(sh->corpus),
                           "SELECT transcript, verdict, end, answer, checks FROM rollouts WHERE"
                           " environment = ?1 AND task = ?2 AND idx = ?3 ORDER BY purpose ="
                           " 'filter' DESC LIMIT 1",
                           err);
    if (r)
        return r;
    agon_query_text(q, 1, sh->env->id);
    agon_query_text(q, 2, sh->task->id);
    agon_query_int(q, 3, index);
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    if (r == 0)
        return shell_error(sh, "no rollout %d of %s; .transcript lists them", index, sh->task->id);
    if ((r = transcript_read(t, q, err)))
        return r;
    shell_transcript_free(sh->transcript);
    sh->transcript = AGON_STEAL(t);
    return 0;
}

static bool is_role(const json_t *message, const char *role)
{
    return strcmp(agon_json_text(message, "role", ""), role) == 0;
}

/* A branch in the world as it was at first, and past the system message and the prompt. */
static int transcript_begin(struct shell *sh, int index, struct agon_err *err)
{
    char name[64];
    struct agon_instance *in = NULL;
    struct shell_transcript *t = sh->transcript;
    while (t->next < json_array_size(t->messages) &&
           !is_role(json_array_get(t->messages, t->next), "assistant"))
        t->next++;
    for (int k = 1;; k++) {
        snprintf(name, sizeof(name), k == 1 ? "rollout%d" : "rollout%d.%d", index, k);
        bool taken = false;
        for (int i = 0; i < sh->n_branches; i++)
            taken = taken || strcmp(sh->branches[i].name, name) == 0;
        if (!taken)
            break;
    }
    int r = agon_instance_new(&in, sh->rt, err);
    if (!r)
        r = shell_branch_add(sh, name, in, err);
    if (!r)
        printf("rollout %d of %s: %s (%s); .step goes through it, in branch '%s'\n", index,
               sh->task->id, t->verdict, t->end, name);
    return r;
}

int shell_transcript(struct shell *sh, const char *rest, struct agon_err *err)
{
    char *end;
    long index = strtol(rest, &end, 10);
    if (!sh->corpus)
        return shell_error(sh,
                           "an environment alone has no rollouts; open it as part of its corpus: "
                           "agon shell CORPUS ENVIRONMENT");
    if (!sh->task)
        return shell_error(sh, "choose a task first: .task ID (.tasks lists them)");
    if (!*rest)
        return transcript_list(sh, err);
    if (*end || index < 0 || index > 1000000)
        return shell_error(sh, "usage: .transcript [N]; without N it lists the rollouts");
    struct shell_transcript *before = sh->transcript;
    int r = transcript_open(sh, (int)index, err);
    return r || sh->transcript == before ? r : transcript_begin(sh, (int)index, err);
}

/* ---- steps ---- */

static void print_shortened(const struct shell *sh, const char *before, const char *text,
                            int indent)
{
    struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    struct agon_str cut = agon_utf8_cut(agon_str(text), TEXT_SHOWN);
    agon_buf_adds(&line, before);
    agon_buf_add_str(&line, cut);
    if (cut.size < strlen(text))
        agon_buf_addf(&line, "… (%zu bytes)", strlen(text));
    shell_text(sh, agon_buf_text(&line), indent);
}

/* Make a call again, where it is one of the environment's tools, and say where it gave other
 * bytes. */
static int step_call(struct shell *sh, const json_t *request, const json_t *message,
                     struct agon_err *err)
{
    const json_t *function = json_object_get(request, "function");
    const char *name = agon_json_text(function, "name", "?");
    const char *text = agon_json_text(function, "arguments", "{}");
    const char *stored = agon_json_text(message, "content", "");
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    json_auto_t *arguments = NULL;
    agon_buf_addf(&line, "%s %s", name, text);
    print_shortened(sh, "-> ", agon_buf_text(&line), 6);
    bool fine = strncmp(stored, "error: ", 7) != 0;
    fputs(shell_on(sh, fine ? SHELL_PLAIN : SHELL_BAD), stdout);
    print_shortened(sh, "   ", stored, 3);
    fputs(shell_off(sh), stdout);
    if (shell_tool_find(sh, name, strlen(name)) < 0 ||
        agon_json_parse(&arguments, agon_str(text), NULL))
        return 0;
    json_object_del(arguments, "more");
    agon_buf_reset(&line);
    agon_json_dump(&line, arguments);
    int r = agon_instance_call(shell_instance(sh), name, agon_buf_str(&line), &result, err);
    if (r < 0)
        return r;
    const char *now = agon_buf_text(&result), *was = fine ? stored : stored + 7;
    bool paged = strstr(stored, "\n... page ") != NULL;
    if (!paged && strcmp(now, was) != 0)
        shell_error(sh, "today this call gives: %.300s", now);
    return 0;
}

/* A turn and its results. */
static int step_turn(struct shell *sh, const json_t *message, struct agon_err *err)
{
    struct shell_transcript *t = sh->transcript;
    const json_t *requests = json_object_get(message, "tool_calls");
    const char *thinking = agon_json_text(message, "reasoning_content", "");
    const char *content = agon_json_text(message, "content", "");
    const char *malformed = agon_json_text(message, "malformed", NULL);
    int r = 0;
    printf("%sturn %d%s\n", shell_on(sh, SHELL_HEAD), ++t->n_turns, shell_off(sh));
    if (*thinking)
        print_shortened(sh, "(thinking) ", thinking, 2);
    if (*content)
        print_shortened(sh, "", content, 0);
    if (malformed)
        print_shortened(sh, "(does not parse) ", malformed, 2);
    for (size_t i = 0; i < json_array_size(requests) && !r; i++) {
        const json_t *result = json_array_get(t->messages, t->next);
        if (!is_role(result, "tool"))
            break;
        t->next++;
        r = step_call(sh, json_array_get(requests, i), result, err);
    }
    return r;
}

/* What came of it. */
static void step_end(const struct shell *sh)
{
    const struct shell_transcript *t = sh->transcript;
    size_t i;
    json_t *check;
    printf("%send: %s, verdict: %s%s\n", shell_on(sh, SHELL_HEAD), t->end, t->verdict,
           shell_off(sh));
    if (t->answer)
        print_shortened(sh, "answer: ", t->answer, 4);
    json_array_foreach(t->checks, i, check)
    {
        const char *end = agon_json_text(check, "end", "");
        if (strcmp(end, "pass") == 0)
            continue;
        struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
        agon_buf_addf(&line, "%s: %s %s", end, agon_json_text(check, "name", ""),
                      agon_json_text(check, "reason", ""));
        shell_text(sh, agon_buf_text(&line), 4);
    }
}

static int step_one(struct shell *sh, struct agon_err *err)
{
    struct shell_transcript *t = sh->transcript;
    int r = 0;
    const json_t *message = json_array_get(t->messages, t->next++);
    if (is_role(message, "reset"))
        puts("(the window was full: the context was cut here)");
    else if (is_role(message, "assistant"))
        r = step_turn(sh, message, err);
    if (!r && !shell_transcript_waits(sh))
        step_end(sh);
    return r;
}

int shell_step(struct shell *sh, const char *rest, struct agon_err *err)
{
    char *end;
    long n = *rest ? strtol(rest, &end, 10) : 1;
    bool all = strcmp(rest, "all") == 0;
    if (!sh->transcript)
        return shell_error(sh, "no rollout is open; .transcript N opens one");
    if (!shell_transcript_waits(sh))
        return shell_error(sh, "the rollout is over; .transcript N begins it anew");
    if (!all && *rest && (*end || n < 1))
        return shell_error(sh, "usage: .step [N | all]");
    int r = 0;
    for (long i = 0; (all || i < n) && !r && shell_transcript_waits(sh); i++)
        r = step_one(sh, err);
    return r;
}
