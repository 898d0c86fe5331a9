#pragma once
/*
 * An environment in the making: what the author's stages have made so far. A stage
 * works on a copy and the copy is taken over when the stage is done, so a failed
 * stage leaves nothing.
 */
#include "base/err.h"
#include "base/mem.h"
#include "envs/env.h"
#include "synth/toolbox.h"

struct agon_draft {
    char *id, *family, *category; /* category: the description, as the model reads it */
    char *world_path;             /* NULL: no world yet */
    struct agon_toolbox tools;
    struct agon_task *tasks; /* accepted, in the order of acceptance; golden filled in */
    int n_tasks;
    json_t *sources; /* [{"url","sha256","title","licence"}] */
};

int agon_draft_new(struct agon_draft **ret, const char *id, const char *family,
                   const char *category, struct agon_err *err) AGON_MUST_USE;
void agon_draft_free(struct agon_draft *d);
AGON_DEFINE_FREEP(struct agon_draft, agon_draft_free)
int agon_draft_copy(struct agon_draft **ret, const struct agon_draft *from,
                    struct agon_err *err) AGON_MUST_USE;
int agon_draft_set_world(struct agon_draft *d, const char *path,
                         struct agon_err *err) AGON_MUST_USE;
/* Add a task; taken (emptied) on success. */
int agon_draft_add_task(struct agon_draft *d, struct agon_task *task,
                        struct agon_err *err) AGON_MUST_USE;
const struct agon_task *agon_draft_task(const struct agon_draft *d, const char *id); /* or NULL */
/* As an environment folder; `keep` (NULL: all) says which tasks. */
int agon_draft_store(const struct agon_draft *d, const char *dir,
                     bool (*keep)(const struct agon_task *task, void *user), void *user,
                     struct agon_err *err) AGON_MUST_USE;
/* From a folder that agon_draft_store() wrote; its world is used where it lies. */
int agon_draft_load(struct agon_draft **ret, const char *dir, struct agon_err *err) AGON_MUST_USE;

int agon_task_copy(struct agon_task *to, const struct agon_task *from,
                   struct agon_err *err) AGON_MUST_USE;
/* A task as one JSON object (new reference), for the record in corpus.db. */
json_t *agon_task_json(const struct agon_task *t);
