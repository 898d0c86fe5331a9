/* Drafts: see draft.h. */
#include "synth/draft.h"

#include "base/json.h"

#include <stdlib.h>

enum { TOOLS_BYTES_MAX = AGON_TOOLS_MAX * (AGON_TOOL_SOURCE_MAX + 128), FORMAT_VERSION = 1 };

/* strdup() that lets NULL through; *failed when memory is gone. */
static char *copy_text(const char *text, bool *failed)
{
    char *copy = text ? strdup(text) : NULL;
    *failed |= text && !copy;
    return copy;
}

int agon_draft_new(struct agon_draft **ret, const char *id, const char *family,
                   const char *category, struct agon_err *err)
{
    bool failed = false;
    struct agon_draft *d AGON_AUTO(agon_draft_freep) = calloc(1, sizeof(*d));
    if (!d)
        return agon_fail(err, AGON_ENOMEM, "draft: out of memory");
    d->id = copy_text(id, &failed);
    d->family = copy_text(family, &failed);
    d->category = copy_text(category, &failed);
    if (failed || !(d->sources = json_array()))
        return agon_fail(err, AGON_ENOMEM, "draft: out of memory");
    *ret = AGON_STEAL(d);
    return 0;
}

void agon_draft_free(struct agon_draft *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->n_tasks; i++)
        agon_task_deinit(&d->tasks[i]);
    free(d->tasks);
    agon_toolbox_deinit(&d->tools);
    json_decref(d->sources);
    free(d->id);
    free(d->family);
    free(d->category);
    free(d->world_path);
    free(d);
}

int agon_draft_copy(struct agon_draft **ret, const struct agon_draft *from, struct agon_err *err)
{
    struct agon_draft *d AGON_AUTO(agon_draft_freep) = NULL;
    int r = agon_draft_new(&d, from->id, from->family, from->category, err);
    if (r || (r = agon_toolbox_copy(&d->tools, &from->tools, err)) ||
        (from->world_path && (r = agon_draft_set_world(d, from->world_path, err))))
        return r;
    if (json_array_extend(d->sources, from->sources))
        return agon_fail(err, AGON_ENOMEM, "draft: out of memory");
    for (int i = 0; i < from->n_tasks; i++) {
        struct agon_task task = {0};
        if ((r = agon_task_copy(&task, &from->tasks[i], err)) ||
            (r = agon_draft_add_task(d, &task, err))) {
            agon_task_deinit(&task);
            return r;
        }
    }
    *ret = AGON_STEAL(d);
    return 0;
}

int agon_draft_set_world(struct agon_draft *d, const char *path, struct agon_err *err)
{
    char *copy = strdup(path);
    if (!copy)
        return agon_fail(err, AGON_ENOMEM, "draft: out of memory");
    free(d->world_path);
    d->world_path = copy;
    return 0;
}

int agon_draft_add_task(struct agon_draft *d, struct agon_task *task, struct agon_err *err)
{
    struct agon_task *tasks = realloc(d->tasks, ((size_t)d->n_tasks + 1) * sizeof(*tasks));
    if (!tasks)
        return agon_fail(err, AGON_ENOMEM, "draft: out of memory");
    d->tasks = tasks;
    tasks[d->n_tasks++] = *task;
    *task = (struct agon_task){0};
    return 0;
}

const struct agon_task *agon_draft_task(const struct agon_draft *d, const char *id)
{
    for (int i = 0; i < d->n_tasks; i++)
        if (strcmp(d->tasks[i].id, id) == 0)
            return &d->tasks[i];
    return NULL;
}

int agon_task_copy(struct agon_task *to, const struct agon_task *from, struct agon_err *err)
{
    bool failed = false;
    struct agon_task t = {
        .id = copy_text(from->id, &failed),
        .parent = copy_text(from->parent, &failed),
        .level = from->level,
        .prompt = copy_text(from->prompt, &failed),
        .answer_schema = json_incref(from->answer_schema),
        .answers = from->answers,
        .effects = json_incref(from->effects),
        .solution = copy_text(from->solution, &failed),
        .verifier = copy_text(from->verifier, &failed),
        .golden = json_incref(from->golden),
        .negatives = json_incref(from->negatives),
    };
    if (failed) {
        agon_task_deinit(&t);
        return agon_fail(err, AGON_ENOMEM, "task: out of memory");
    }
    *to = t;
    return 0;
}

json_t *agon_task_json(const struct agon_task *t)
{
    return json_pack("{s:s, s:s?, s:i, s:s, s:O, s:s, s:O*, s:s, s:s, s:O*, s:O*}", "id", t->id,
                     "parent", t->parent, "level", t->level, "prompt", t->prompt, "answer_schema",
                     t->answer_schema, "answers", t->answers == AGON_ANSWERS_ONE ? "one" : "many",
                     "effects", t->effects, "solution", t->solution, "verifier", t->verifier,
                     "golden", t->golden, "negatives", t->negatives);
}

/* ---- on disk ----------------------------------------------------------------- */

static char *source_field(const json_t *source, const char *key)
{
    return (char *)(uintptr_t)agon_json_text(source, key, "");
}

int agon_draft_store(const struct agon_draft *d, const char *dir,
                     bool (*keep)(const struct agon_task *task, void *user), void *user,
                     struct agon_err *err)
{
    struct agon_buf tools AGON_AUTO(agon_buf_deinit) = AGON_BUF(TOOLS_BYTES_MAX);
    size_t n_sources = json_array_size(d->sources);
    struct agon_source *sources = calloc(n_sources + 1, sizeof(*sources));
    struct agon_task *tasks = calloc((size_t)d->n_tasks + 1, sizeof(*tasks));
    json_t *limits = json_object();
    int n = 0, r = 0;
    if (!sources || !tasks || !limits)
        r = agon_fail(err, AGON_ENOMEM, "draft: out of memory");
    for (size_t i = 0; !r && i < n_sources; i++) {
        const json_t *s = json_array_get(d->sources, i);
        sources[i] = (struct agon_source){source_field(s, "url"), source_field(s, "sha256"),
                                          source_field(s, "licence"), source_field(s, "title")};
    }
    for (int i = 0; !r && i < d->n_tasks; i++)
        if (!keep || keep(&d->tasks[i], user))
            tasks[n++] = d->tasks[i];
    agon_toolbox_text(&d->tools, &tools);
    if (!r && !(r = agon_buf_check(&tools, "tools.lua", err))) {
        struct agon_env env = {.id = d->id,
                               .family = d->family,
                               .category = d->category,
                               .format_version = FORMAT_VERSION,
                               .sources = sources,
                               .n_sources = (int)n_sources,
                               .limits = limits,
                               .tools = (char *)(uintptr_t)agon_buf_text(&tools),
                               .world_path = d->world_path,
                               .tasks = tasks,
                               .n_tasks = n};
        r = agon_env_store(&env, dir, err);
    }
    free(sources);
    free(tasks);
    json_decref(limits);
    return r;
}

int agon_draft_load(struct agon_draft **ret, const char *dir, struct agon_err *err)
{
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    struct agon_draft *d AGON_AUTO(agon_draft_freep) = NULL;
    int r = agon_env_load(&env, dir, err);
    if (!r && !env->world_path)
        r = agon_fail(err, AGON_EINPUT, "it has no world");
    if (r || (r = agon_draft_new(&d, env->id, env->family, env->category, err)) ||
        (r = agon_draft_set_world(d, env->world_path, err)) ||
        (r = agon_toolbox_parse(&d->tools, agon_str(env->tools), err)))
        return agon_err_in(err, r, "%s", dir);
    for (int i = 0; i < env->n_sources; i++)
        if (json_array_append_new(
                d->sources, json_pack("{s:s, s:s, s:s, s:s}", "url", env->sources[i].url, "sha256",
                                      env->sources[i].sha256, "title", env->sources[i].title,
                                      "licence", env->sources[i].licence)))
            return agon_fail(err, AGON_ENOMEM, "draft: out of memory");
    for (int i = 0; i < env->n_tasks; i++)
        if ((r = agon_draft_add_task(d, &env->tasks[i], err)))
            return r;
    *ret = AGON_STEAL(d);
    return 0;
}
