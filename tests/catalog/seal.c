/*
 * catalog_seal DIR: after an environment of the catalogue was edited, take every task
 * through the gates (its negatives as the author's wrong answers, the level below as the
 * ladder's), write answers.jsonl anew and hash all files into env.json. Prints the evidence.
 */
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "sandbox/cell.h"
#include "verifiers/gates.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_BYTES_MAX = 16 << 20, SEED = 1 };

static int write_text(const char *dir, const char *name, const struct agon_buf *b,
                      struct agon_err *err)
{
    char path[4096];
    int r = agon_buf_check(b, name, err);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return r ? r : agon_file_write(path, agon_buf_str(b), false, err);
}

static int write_answers(const char *dir, const struct agon_task *t, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    char name[256];
    size_t i;
    json_t *one;
    agon_json_dump(&b, t->golden);
    agon_buf_addc(&b, '\n');
    json_array_foreach(t->negatives, i, one)
    {
        agon_json_dump(&b, one);
        agon_buf_addc(&b, '\n');
    }
    snprintf(name, sizeof(name), "tasks/%s/answers.jsonl", t->id);
    return write_text(dir, name, &b, err);
}

static const struct agon_task *task_by_id(const struct agon_env *env, const char *id)
{
    for (int i = 0; id && i < env->n_tasks; i++)
        if (!strcmp(env->tasks[i].id, id))
            return &env->tasks[i];
    return NULL;
}

static int seal_task(struct agon_runtime *rt, const struct agon_env *env, struct agon_task *t,
                     struct agon_err *err)
{
    struct agon_gate_report report AGON_AUTO(agon_gate_report_deinit) = {0};
    json_auto_t *wrong = json_incref(t->negatives);
    struct agon_gate_input in = {
        .rt = rt, .task = t, .below = task_by_id(env, t->parent), .wrong = wrong};
    struct timespec from, to;
    struct agon_buf evidence AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_rng_init(&in.rng, SEED);
    clock_gettime(CLOCK_MONOTONIC, &from);
    int r = agon_gates(&in, &report, err);
    clock_gettime(CLOCK_MONOTONIC, &to);
    if (r < 0)
        return r;
    json_object_del(report.evidence, "survivors");
    agon_json_dump(&evidence, report.evidence);
    printf("%s: %s%s %s, %.2f s\n", t->id, r ? "REFUSED " : "passes", agon_buf_text(&report.reason),
           agon_buf_text(&evidence),
           (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
    if (r)
        return agon_fail(err, AGON_EINPUT, "%s: refused", t->id);
    return write_answers(env->dir, t, err);
}

/* ---- env.json ---- */

static json_t *hashes; /* nftw() hands its callback no user data */
static size_t root_size;

static int hash_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)at;
    const char *name = path + root_size + 1;
    char hex[AGON_SHA256_HEX];
    struct agon_err err;
    if (type != FTW_F || !strcmp(name, "env.json"))
        return 0;
    if (agon_sha256_file(path, hex, &err))
        return -1;
    return json_object_set_new(hashes, name, json_string(hex));
}

static int seal_hashes(const char *dir, struct agon_err *err)
{
    char path[4096];
    json_t *root = NULL;
    snprintf(path, sizeof(path), "%s/env.json", dir);
    int r = agon_json_load_file(&root, path, TEXT_BYTES_MAX, err);
    json_auto_t *owned = root;
    if (r)
        return r;
    hashes = json_object();
    root_size = strlen(dir);
    if (nftw(dir, hash_file, 8, FTW_PHYS))
        return agon_fail(err, AGON_ESYS, "%s: %m", dir);

    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    json_auto_t *sorted = NULL;
    agon_json_dump_sorted(&b, hashes);
    json_decref(hashes);
    if ((r = agon_json_parse(&sorted, agon_buf_str(&b), err)))
        return r;
    json_object_set(owned, "files", sorted);
    char *text = json_dumps(owned, JSON_INDENT(2));
    agon_buf_reset(&b);
    agon_buf_addf(&b, "%s\n", text ? text : "");
    free(text);
    return write_text(dir, "env.json", &b, err);
}

static int seal(const char *dir, struct agon_err *err)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    struct agon_sandbox_options options = {.cell_program = getenv("AGON_CELL")};
    int r = agon_sandbox_open(&sb, &options, err);
    if (!r)
        r = agon_env_load(&env, dir, err);
    if (!r)
        r = agon_runtime_open(&rt, sb, env->world_path, agon_str(env->tools), &reason, err);
    if (r == AGON_REJECTED)
        return agon_fail(err, AGON_EINPUT, "%s", agon_buf_text(&reason));
    for (int i = 0; !r && i < env->n_tasks; i++)
        r = seal_task(rt, env, &env->tasks[i], err);
    return r ? r : seal_hashes(dir, err);
}

int main(int argc, char **argv)
{
    struct agon_err err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: catalog_seal DIR (AGON_CELL names agon-cell)\n");
        return 2;
    }
    if (!seal(argv[1], &err))
        return 0;
    fprintf(stderr, "catalog_seal: %s\n", err.text);
    return 1;
}
