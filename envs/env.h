#pragma once
/*
 * An environment on disk (DESIGN.md, "An environment on disk"): env.json,
 * world.db (or world.sql in envs/catalog), tools.lua, tasks/<id>/. Loading reads
 * text only and runs nothing of it, but that world.sql is built into a temporary
 * world.db by an SQLite which lets it create tables and indexes and insert rows,
 * nothing else. Files never change with statistics.
 *
 * answers.jsonl: a line {"answer", "writes"} for the golden answer, then one for each
 * negative, with "fails", the check that rejects it.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>
#include <stdbool.h>

enum agon_answers { AGON_ANSWERS_ONE, AGON_ANSWERS_MANY };

/* A task as the author proposes it and as it stands on disk. All owned. */
struct agon_task {
    char *id;     /* "t1_l3": task line 1, level 3 */
    char *parent; /* id of the task below, or NULL */
    int level;    /* from 1 */
    char *prompt; /* what the solver reads */
    json_t *answer_schema;
    enum agon_answers answers;
    json_t *effects; /* array of {"table":..., "operations":["insert",...]}; empty: read-only */
    char *solution;  /* Lua: return function(tools) ... return answer end */
    char *verifier;  /* Lua: check{...} check{...} */
    json_t *golden;  /* {"answer": ..., "writes": [{"tool":..., "arguments":{...}}]} or NULL before
                        gate 2 */
    json_t *negatives; /* array of {"answer":..., "writes":..., "fails":"check name"} */
};
void agon_task_deinit(struct agon_task *t);

/* Where a world's rows came from. */
struct agon_source {
    char *url, *sha256, *licence, *title; /* licence and title may be "" */
};

struct agon_env {
    char *dir; /* where it was loaded from */
    char *id, *family, *category;
    int format_version;
    struct agon_source *sources;
    int n_sources;
    json_t *limits;
    char *tools;      /* text of tools.lua */
    char *world_path; /* of world.db; of a temporary file where the folder has world.sql instead;
                         NULL: none */
    bool world_is_temporary; /* agon_env_free() removes it */
    struct agon_task *tasks; /* ordered by id */
    int n_tasks;
};

int agon_env_load(struct agon_env **ret, const char *dir, struct agon_err *err) AGON_MUST_USE;
void agon_env_free(struct agon_env *e);
AGON_DEFINE_FREEP(struct agon_env, agon_env_free)
/* Write the whole environment into dir, with hashes of all other files in env.json: a temporary
 * folder beside it takes its place in one rename, so a reader sees the old one or the new one. */
int agon_env_store(const struct agon_env *e, const char *dir, struct agon_err *err) AGON_MUST_USE;
/* 0, or 1 with "tools.lua: sha256 differs from env.json" in *err's text (also for a file that is
 * missing or not listed). */
int agon_env_check_hashes(const char *dir, struct agon_err *err) AGON_MUST_USE;
/* Digest of all files, for agon hash. */
int agon_env_digest(const char *dir, char ret_hex[65], struct agon_err *err) AGON_MUST_USE;
