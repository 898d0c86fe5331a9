/* See opened.h. */
#include "tests/catalog/opened.h"

#include <stdio.h>
#include <string.h>

void opened_deinit(struct opened *o)
{
    agon_runtime_free(o->rt);
    agon_env_free(o->env);
}

bool opened_init(struct opened *o, struct agon_sandbox *sandbox, const char *name,
                 const char *tools)
{
    char dir[4096];
    struct agon_err err = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    snprintf(dir, sizeof(dir), "%s/%s", CATALOG, name);
    if (!agon_env_load(&o->env, dir, &err) &&
        !agon_runtime_open(&o->rt, sandbox, o->env->world_path,
                           agon_str(tools ? tools : o->env->tools), &reason, &err))
        return true;
    printf("# %s %s\n", err.text, agon_buf_text(&reason));
    return false;
}

const struct agon_task *opened_task(const struct opened *o, const char *id)
{
    for (int i = 0; id && i < o->env->n_tasks; i++)
        if (!strcmp(o->env->tasks[i].id, id))
            return &o->env->tasks[i];
    return NULL;
}
