/* One try at a task: see trajectory.h. */
#include "synth/trajectory.h"

#include "base/json.h"
#include "envs/env.h"
#include "synth/submit.h"

#include <stdlib.h>

enum { ARGUMENTS_BYTES_MAX = 1 << 20 };

void agon_trajectory_free(struct agon_trajectory *t)
{
    if (!t)
        return;
    agon_episode_free(t->episode);
    agon_instance_free(t->in);
    free(t->answer);
    free(t);
}

static int call_tool(void *user, const char *name, const json_t *arguments, struct agon_buf *result,
                     struct agon_err *err)
{
    struct agon_trajectory *t = user;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(ARGUMENTS_BYTES_MAX);
    agon_json_dump(&text, arguments);
    int r = agon_buf_check(&text, "arguments", err);
    if (r)
        return r;
    t->calls++;
    r = agon_instance_call(t->in, name, agon_buf_str(&text), result, err);
    return r == AGON_TOOL_ERROR ? AGON_CALL_REFUSED : r;
}

/* The first answer that is JSON and fits the schema ends the trajectory. */
static int call_submit(void *user, const char *name, const json_t *arguments,
                       struct agon_buf *result, struct agon_err *err)
{
    struct agon_trajectory *t = user;
    (void)name;
    return agon_submit(t->task->answer_schema, arguments, &t->answer, result, err);
}

static void trajectory_tools(struct agon_trajectory *t, const json_t *shown)
{
    size_t n = json_array_size(shown);
    for (size_t i = 0; i < n; i++) {
        const json_t *function = json_array_get(shown, i);
        const char *name = agon_json_text(json_object_get(function, "function"), "name", "");
        bool last = i == n - 1;
        t->tools[i] = (struct agon_episode_tool){.name = name,
                                                 .function = function,
                                                 .checks_arguments = !last,
                                                 .call = last ? call_submit : call_tool,
                                                 .user = t};
    }
}

int agon_trajectory_new(struct agon_trajectory **ret, const struct agon_task *task,
                        struct agon_runtime *rt, const json_t *shown,
                        const struct agon_episode_options *o, struct agon_err *err)
{
    struct agon_trajectory *t AGON_AUTO(agon_trajectory_freep) = calloc(1, sizeof(*t));
    if (!t)
        return agon_fail(err, AGON_ENOMEM, "rollout: out of memory");
    if (json_array_size(shown) > AGON_TRAJECTORY_TOOLS_MAX)
        return agon_fail(err, AGON_EINPUT, "%s: over %d tools", o->key, AGON_TRAJECTORY_TOOLS_MAX);
    struct agon_episode_options own = *o;
    t->task = task;
    trajectory_tools(t, shown);
    own.tools = t->tools;
    own.n_tools = (int)json_array_size(shown);
    int r = agon_instance_new(&t->in, rt, err);
    if (r || (r = agon_episode_new(&t->episode, &own, err)))
        return r;
    *ret = AGON_STEAL(t);
    return 0;
}

int agon_trajectory_step(struct agon_trajectory *t, struct agon_err *err)
{
    int r = t->over ? 0 : agon_episode_step(t->episode, err);
    if (r == AGON_EPISODE_ENDED)
        t->over = true;
    return r < 0 ? r : 0;
}
