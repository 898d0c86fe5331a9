/*
 * The author's define_tool. A source must load alone and define exactly one tool;
 * then the whole set is opened anew, and every task that was accepted must hold
 * with it.
 */
#include "base/json.h"
#include "synth/author_try.h"
#include "synth/cleantext.h"
#include "synth/render.h"
#include "synth/stage_internal.h"
#include "verifiers/verdict.h"

enum { TOOLS_TEXT_MAX = AGON_TOOLS_MAX * (AGON_TOOL_SOURCE_MAX + 128) };

static int refuse(struct agon_stage_run *run, const struct agon_buf *result, struct agon_err *err)
{
    int r = agon_stage_note(run, "tool_refused",
                            json_pack("{s:o}", "reason", agon_cleantext_json(agon_buf_str(result))),
                            err);
    return r ? r : AGON_CALL_REFUSED;
}

/* The name of the one tool that a source defines. AGON_REJECTED with the reason. */
static int source_name(struct agon_stage_run *run, struct agon_str source, char ret_name[64],
                       struct agon_buf *reason, struct agon_err *err)
{
    struct agon_runtime *alone AGON_AUTO(agon_runtime_freep) = NULL;
    if (source.size > AGON_TOOL_SOURCE_MAX || agon_toolbox_has_mark(source)) {
        agon_buf_addf(reason,
                      "a source has at most %d bytes, no NUL and no line that begins with "
                      "\"-- ==== \"",
                      AGON_TOOL_SOURCE_MAX);
        return AGON_REJECTED;
    }
    int r =
        agon_runtime_open(&alone, run->shop.sandbox, run->draft->world_path, source, reason, err);
    if (r)
        return r;
    if (agon_runtime_n_tools(alone) != 1) {
        agon_buf_addf(reason, "one call defines one tool; this source defines %d",
                      agon_runtime_n_tools(alone));
        return AGON_REJECTED;
    }
    snprintf(ret_name, 64, "%s", agon_runtime_tool(alone, 0)->name);
    return agon_author_try_tool(alone, source, reason, err);
}

/* Does the golden answer of a task, and what its solution gives now, pass? */
static int task_holds(struct agon_runtime *rt, const struct agon_task *task,
                      struct agon_buf *reason, struct agon_err *err)
{
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    struct agon_buf why AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_verdict verdict AGON_AUTO(agon_verdict_deinit) = {0};
    int r =
        agon_runtime_solve(rt, agon_str(task->solution), task->answer_schema, &solved, &why, err);
    if (r == 0) {
        agon_json_dump(&answer, solved.answer);
        if ((r = agon_buf_check(&answer, "answer", err)))
            return r;
        r = agon_verdict(rt, task, agon_buf_str(&answer), solved.writes, &verdict, &why, err);
    }
    if (r < 0 || (r == 0 && verdict.pass))
        return r;
    agon_buf_addf(reason, "with this tool the task of level %d no longer holds: %s", task->level,
                  r ? agon_buf_text(&why) : "its solution's answer fails");
    return AGON_REJECTED;
}

static int toolset_try(struct agon_stage_run *run, const struct agon_toolbox *tools,
                       struct agon_runtime **ret, struct agon_buf *reason, struct agon_err *err)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TOOLS_TEXT_MAX);
    agon_toolbox_text(tools, &text);
    int r = agon_buf_check(&text, "tools.lua", err);
    if (r || (r = agon_runtime_open(&rt, run->shop.sandbox, run->draft->world_path,
                                    agon_buf_str(&text), reason, err)))
        return r;
    for (int i = 0; i < run->draft->n_tasks; i++)
        if ((r = task_holds(rt, &run->draft->tasks[i], reason, err)))
            return r;
    *ret = AGON_STEAL(rt);
    return 0;
}

/* The new set is good: the draft and the stage go on with it. */
static int toolset_take(struct agon_stage_run *run, const char *name, struct agon_str source,
                        struct agon_runtime *rt, struct agon_buf *result, struct agon_err *err)
{
    bool replaced = agon_toolbox_find(&run->draft->tools, name) >= 0;
    agon_runtime_free(run->rt);
    run->rt = rt;
    int r = agon_toolbox_put(&run->draft->tools, name, source, err);
    if (r)
        return r;
    agon_buf_adds(result, "ok: ");
    for (int i = 0; i < agon_runtime_n_tools(rt); i++)
        if (strcmp(agon_runtime_tool(rt, i)->name, name) == 0)
            agon_render_signature(result, agon_runtime_tool(rt, i));
    return agon_stage_note(run, "tool", json_pack("{s:s, s:b}", "name", name, "replaced", replaced),
                           err);
}

int agon_author_define_tool(void *user, const char *name, const json_t *arguments,
                            struct agon_buf *result, struct agon_err *err)
{
    struct agon_stage_run *run = user;
    struct agon_toolbox tools AGON_AUTO(agon_toolbox_deinit) = {0};
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    const json_t *text = json_object_get(arguments, "source");
    struct agon_str source = {json_string_value(text), json_string_length(text)};
    char tool[64] = "";
    (void)name;
    int r = source_name(run, source, tool, result, err);
    if (r)
        return r < 0 ? r : refuse(run, result, err);
    if ((r = agon_toolbox_copy(&tools, &run->draft->tools, err)) ||
        (r = agon_toolbox_put(&tools, tool, source, err)))
        return r;
    if (tools.n > AGON_TOOLS_MAX) {
        agon_buf_addf(result, "an environment has at most %d tools", AGON_TOOLS_MAX);
        return refuse(run, result, err);
    }
    if ((r = toolset_try(run, &tools, &rt, result, err)))
        return r < 0 ? r : refuse(run, result, err);
    return toolset_take(run, tool, source, AGON_STEAL(rt), result, err);
}
