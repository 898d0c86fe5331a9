/* Tasks in the shell: what is asked, what is judged, what the solution does. */
#include "base/json.h"
#include "pipelines/listing.h"
#include "pipelines/shell.h"
#include "verifiers/regress_diff.h"
#include "verifiers/verdict.h"

enum { REASON_BYTES_MAX = 8192, SENTENCE_MAX = 300, PROMPT_MAX = 160, EXCERPT_BYTES_MAX = 4000 };

static int need_task(struct shell *sh)
{
    return shell_error(sh, sh->env->n_tasks ? "choose a task first: .task ID (.tasks lists them)"
                                            : "this environment has no task");
}

/* ---- .tasks, .task ---- */

int shell_tasks(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)rest;
    (void)err;
    for (int i = 0; i < sh->env->n_tasks; i++) {
        const struct agon_task *t = &sh->env->tasks[i];
        struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
        struct agon_buf prompt AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
        agon_text_add_plain(&prompt, agon_utf8_cut(agon_str(t->prompt), PROMPT_MAX), false);
        agon_buf_addf(&line, "%s %s (level %d): %s%s", t == sh->task ? "*" : " ", t->id, t->level,
                      agon_buf_text(&prompt), strlen(t->prompt) > PROMPT_MAX ? "…" : "");
        shell_text(sh, agon_buf_text(&line), 4);
    }
    if (sh->env->n_tasks == 0)
        puts("no task");
    return 0;
}

static int print_checks(struct shell *sh, struct agon_err *err)
{
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    int r = agon_verdict_checks(sh->rt, agon_str(sh->task->verifier), &v, &reason, err);
    if (r)
        return r < 0 ? r : shell_error(sh, "%s", agon_buf_text(&reason));
    shell_heading(sh, "checks");
    for (int i = 0; i < v.n_checks; i++) {
        struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
        agon_buf_addf(&line, "  %s: ", v.checks[i].name);
        agon_text_add_plain(&line, agon_str(v.checks[i].text), false);
        shell_text(sh, agon_buf_text(&line), 4);
    }
    return 0;
}

int shell_task(struct shell *sh, const char *rest, struct agon_err *err)
{
    const struct agon_task *task = *rest ? NULL : sh->task;
    for (int i = 0; *rest && i < sh->env->n_tasks; i++)
        if (strcmp(sh->env->tasks[i].id, rest) == 0)
            task = &sh->env->tasks[i];
    if (!task)
        return *rest ? shell_error(sh, "no task '%.64s'; .tasks lists them", rest) : need_task(sh);
    sh->task = task;
    shell_text(sh, task->prompt, 0);
    shell_heading(sh, "answer schema");
    shell_json(sh, task->answer_schema);
    if (json_array_size(task->effects)) {
        shell_heading(sh, "may write");
        shell_value(sh, task->effects);
    }
    return print_checks(sh, err);
}

/* ---- verdicts ---- */

/* The sentence of the prompt around a check's words; the words alone where they do not stand in
 * it. */
static struct agon_str sentence_of(const char *prompt, const char *words)
{
    const char *at = *words ? strstr(prompt, words) : NULL;
    if (!at)
        return agon_str(words);
    const char *from = at, *end = at + strlen(words);
    while (from > prompt && from[-1] != '\n' &&
           !(from[-1] == ' ' && from - 1 > prompt && strchr(".!?", from[-2])))
        from--;
    from += strspn(from, "-* "); /* of a list */
    from = from < at ? from : at;
    while (*end && *end != '\n' && !(strchr(".!?", end[-1]) && *end == ' '))
        end++;
    return (struct agon_str){from, (size_t)(end - from)};
}

static void print_check(const struct shell *sh, const struct agon_check_result *c)
{
    static const char *const ends[] = {"pass ", "FAIL ", "ERROR"};
    bool pass = c->end == AGON_CHECK_PASS;
    struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    printf("%s%s%s ", shell_on(sh, pass ? SHELL_GOOD : SHELL_BAD), ends[c->end], shell_off(sh));
    agon_text_add_plain(&line, agon_str(c->name), false);
    if (!pass) {
        agon_buf_adds(&line, ": ");
        agon_text_add_plain(
            &line, agon_utf8_cut(sentence_of(sh->task->prompt, c->text), SENTENCE_MAX), false);
    }
    if (c->reason)
        agon_buf_addf(&line, " (%s)", c->reason);
    shell_text_after(sh, agon_buf_text(&line), 6);
}

int shell_judge(struct shell *sh, struct agon_str answer, const json_t *writes, bool *ret_pass,
                struct agon_err *err)
{
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    int r = agon_verdict(sh->rt, sh->task, answer, writes, &v, &reason, err);
    if (r)
        return r < 0 ? r : shell_error(sh, "%s", agon_buf_text(&reason));
    for (int i = 0; i < v.n_checks; i++)
        print_check(sh, &v.checks[i]);
    const char *whole = v.schema ? v.schema : v.replay ? v.replay : v.unclaimed;
    if (whole) {
        struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
        agon_buf_addf(&line, "FAIL  %s%s", v.unclaimed ? "no check claims this change: " : "",
                      whole);
        shell_text(sh, agon_buf_text(&line), 6);
    }
    printf("%s%s%s\n", shell_on(sh, v.pass ? SHELL_GOOD : SHELL_BAD), v.pass ? "pass" : "fail",
           shell_off(sh));
    if (ret_pass)
        *ret_pass = v.pass;
    return 0;
}

int shell_verify(struct shell *sh, const char *rest, struct agon_err *err)
{
    if (!sh->task)
        return need_task(sh);
    if (!*rest)
        return shell_error(sh, "usage: .verify ANSWER, as JSON that fits the schema of .task");
    return shell_judge(sh, agon_str(rest), agon_instance_writes(shell_instance(sh)), NULL, err);
}

/* ---- solutions ---- */

/* "3. find_hotels {"city": "Turin"}" and, on a line of its own, what it gave. */
static void print_calls(const struct shell *sh, const json_t *calls)
{
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        char before[128];
        const json_t *result = json_object_get(call, "result");
        snprintf(before, sizeof(before), "%zu. %.64s ", i + 1, agon_json_text(call, "tool", "?"));
        shell_line_value(sh, before, json_object_get(call, "arguments"));
        shell_line_value(sh, result ? "   -> " : "   -> error: ",
                         result ? result : json_object_get(call, "error"));
    }
}

int shell_lua(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    if (!*rest)
        return shell_error(sh, "usage: .lua return tools.NAME{...}");
    bool expression = strncmp(rest, "tools.", 6) == 0 && !strchr(rest, ';');
    agon_buf_addf(&text, "return function(tools) %s%s\nend", expression ? "return " : "", rest);
    int r = agon_buf_check(&text, "lua", err);
    if (!r)
        r = agon_instance_solve(shell_instance(sh), agon_buf_str(&text), NULL, &solved, &reason,
                                err);
    if (r)
        return r < 0 ? r : shell_error(sh, "%s", agon_buf_text(&reason));
    shell_value(sh, solved.answer);
    return 0;
}

/* Is what the solution gives what answers.jsonl has? */
static void print_agreement(struct shell *sh, const char *what, const json_t *golden,
                            const json_t *got)
{
    struct agon_buf path AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    struct agon_buf want AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    struct agon_buf have AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    agon_buf_adds(&path, what);
    if (agon_regress_diff(golden, got, &path, &want, &have))
        shell_error(sh, "%s: answers.jsonl has %s, the solution gives %s", agon_buf_text(&path),
                    agon_buf_text(&want), agon_buf_text(&have));
}

/* Run the solution on a fresh instance. */
static int gold_run(struct shell *sh, struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    const json_t *writes = json_object_get(sh->task->golden, "writes");
    json_auto_t *none = json_array();
    int r = agon_runtime_solve(sh->rt, agon_str(sh->task->solution), sh->task->answer_schema,
                               &solved, &reason, err);
    if (r)
        return r < 0 ? r : shell_error(sh, "%s", agon_buf_text(&reason));
    shell_heading(sh, "calls of the solution");
    print_calls(sh, solved.calls);
    shell_heading(sh, "answer");
    shell_json(sh, solved.answer);
    if (sh->task->golden) {
        print_agreement(sh, "answer", json_object_get(sh->task->golden, "answer"), solved.answer);
        print_agreement(sh, "writes", writes ? writes : none, solved.writes);
    }
    shell_heading(sh, "verdict");
    agon_json_dump(&answer, solved.answer);
    return shell_judge(sh, agon_buf_str(&answer), solved.writes, NULL, err);
}

int shell_gold(struct shell *sh, const char *rest, struct agon_err *err)
{
    if (!sh->task)
        return need_task(sh);
    if (strcmp(rest, "apply") == 0) {
        const json_t *writes = json_object_get(sh->task->golden, "writes");
        printf("the golden writes, and nothing else: %zu\n", json_array_size(writes));
        return agon_instance_set_writes(shell_instance(sh), writes, err);
    }
    if (strcmp(rest, "code") == 0) {
        shell_heading(sh, "solution.lua");
        agon_listing_block(stdout, sh->task->solution);
        shell_heading(sh, "verifier.lua");
        agon_listing_block(stdout, sh->task->verifier);
        return 0;
    }
    return *rest ? shell_error(sh, "usage: .gold [apply | code]") : gold_run(sh, err);
}
