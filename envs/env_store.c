/*
 * Writing an environment's folder, and its hashes (env.h). All files go into a
 * temporary folder beside the place, are synced, and take the place in one rename;
 * an old folder is swapped out by RENAME_EXCHANGE and then removed.
 */
#include "envs/env.h"

#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "envs/env_internal.h"
#include "envs/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORLD_BYTES_MAX = 48 << 20, PATH_BYTES_MAX = 4096, DEPTH_MAX = 4, FILE_MISMATCH = 1 };

static int out_of_memory(struct agon_err *err)
{
    return agon_fail(err, AGON_ENOMEM, "env: out of memory");
}

/* ---- all files of a folder ---- */

struct listing {
    const char *root;
    char at[PATH_BYTES_MAX]; /* below root, "" or "tasks/t1_l1/" */
    int depth;
    int (*fn)(const char *name, const char *hex, void *user, struct agon_err *err);
    void *user;
};

static int listing_walk(struct listing *l, struct agon_err *err);

static int listing_entry(const char *name, void *user, struct agon_err *err)
{
    struct listing *l = user;
    char path[2 * PATH_BYTES_MAX + 300], hex[AGON_SHA256_HEX];
    size_t was = strlen(l->at);
    struct stat st;
    if (was + strlen(name) + 2 > sizeof(l->at) || l->depth > DEPTH_MAX)
        return agon_fail(err, AGON_EINPUT, "%s%s: too deep a path for an environment", l->at, name);
    strcat(l->at, name); /* fits: checked above */
    snprintf(path, sizeof(path), "%s/%s", l->root, l->at);
    int r = lstat(path, &st) ? agon_fail(err, AGON_ESYS, "%s: %m", path) : 0;
    if (!r && S_ISDIR(st.st_mode)) {
        strcat(l->at, "/");
        r = listing_walk(l, err);
    } else if (!r && S_ISREG(st.st_mode)) {
        r = agon_sha256_file(path, hex, err);
        if (!r)
            r = l->fn(l->at, hex, l->user, err);
    } else if (!r) {
        r = agon_fail(err, AGON_EINPUT, "%s: neither a file nor a folder", path);
    }
    l->at[was] = '\0';
    return r;
}

static int listing_walk(struct listing *l, struct agon_err *err)
{
    char path[2 * PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/%s", l->root, l->at);
    l->depth++;
    int r = agon_dir_each(path, listing_entry, l, err);
    l->depth--;
    return r;
}

static int each_file(const char *dir,
                     int (*fn)(const char *, const char *, void *, struct agon_err *), void *user,
                     struct agon_err *err)
{
    if (strlen(dir) >= PATH_BYTES_MAX)
        return agon_fail(err, AGON_EINPUT, "%.40s...: too long a path", dir);
    struct listing l = {.root = dir, .fn = fn, .user = user};
    return listing_walk(&l, err);
}

static int add_hash(const char *name, const char *hex, void *user, struct agon_err *err)
{
    if (!strcmp(name, "env.json"))
        return 0;
    return json_object_set_new(user, name, json_string(hex)) ? out_of_memory(err) : 0;
}

/* ---- storing ---- */

static int write_at(const char *dir, const char *name, struct agon_str content,
                    struct agon_err *err)
{
    char *path AGON_AUTO(env_free_text) = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return out_of_memory(err);
    return agon_file_write(path, content, true, err);
}

/* JSON for people: indented, one final newline. */
static int write_json(const char *dir, const char *name, const json_t *value, struct agon_err *err)
{
    char *text AGON_AUTO(env_free_text) =
        json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    if (!text)
        return out_of_memory(err);
    agon_buf_addf(&b, "%s\n", text);
    int r = agon_buf_check(&b, name, err);
    return r ? r : write_at(dir, name, agon_buf_str(&b), err);
}

static int write_answers(const char *dir, const struct agon_task *t, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    if (t->golden) {
        agon_json_dump(&b, t->golden);
        agon_buf_addc(&b, '\n');
    }
    for (size_t i = 0; i < json_array_size(t->negatives); i++) {
        agon_json_dump(&b, json_array_get(t->negatives, i));
        agon_buf_addc(&b, '\n');
    }
    int r = agon_buf_check(&b, "answers.jsonl", err);
    return r ? r : write_at(dir, "answers.jsonl", agon_buf_str(&b), err);
}

static int write_task_json(const char *dir, const struct agon_task *t, struct agon_err *err)
{
    json_auto_t *root =
        json_pack("{s:i, s:s?, s:O, s:s}", "level", t->level, "parent", t->parent, "answer_schema",
                  t->answer_schema, "answers", t->answers == AGON_ANSWERS_MANY ? "many" : "one");
    json_t *effects = t->effects ? json_incref(t->effects) : json_array();
    if (!root || json_object_set_new(root, "effects", effects))
        return out_of_memory(err);
    return write_json(dir, "task.json", root, err);
}

static int write_task(const char *root, const struct agon_task *t, struct agon_err *err)
{
    char *dir AGON_AUTO(env_free_text) = NULL;
    if (agon_name_check(t->id, err))
        return agon_err_in(err, AGON_EINPUT, "task");
    if (asprintf(&dir, "%s/tasks/%s", root, t->id) < 0)
        return out_of_memory(err);
    int r = agon_dir_make(dir, err);
    if (!r)
        r = write_task_json(dir, t, err);
    if (!r)
        r = write_at(dir, "prompt.md", agon_str(t->prompt), err);
    if (!r)
        r = write_at(dir, "solution.lua", agon_str(t->solution), err);
    if (!r)
        r = write_at(dir, "verifier.lua", agon_str(t->verifier), err);
    if (!r)
        r = write_answers(dir, t, err);
    return r ? r : agon_dir_sync(dir, err);
}

static int write_env_json(const char *dir, const struct agon_env *e, struct agon_err *err)
{
    json_auto_t *sources = json_array(), *files = json_object();
    for (int i = 0; i < e->n_sources; i++) {
        const struct agon_source *s = &e->sources[i];
        if (json_array_append_new(sources,
                                  json_pack("{s:s, s:s, s:s, s:s}", "url", s->url, "sha256",
                                            s->sha256, "licence", s->licence ? s->licence : "",
                                            "title", s->title ? s->title : "")))
            return out_of_memory(err);
    }
    int r = files ? each_file(dir, add_hash, files, err) : out_of_memory(err);
    if (r)
        return r;
    json_auto_t *root =
        json_pack("{s:s, s:s, s:s, s:i, s:O, s:o, s:O}", "id", e->id, "family", e->family,
                  "category", e->category, "format_version", AGON_ENV_FORMAT, "sources", sources,
                  "limits", e->limits ? json_incref(e->limits) : json_object(), "files", files);
    return root ? write_json(dir, "env.json", root, err) : out_of_memory(err);
}

static int write_all(const char *dir, const struct agon_env *e, struct agon_err *err)
{
    struct agon_buf world AGON_AUTO(agon_buf_deinit) = AGON_BUF(WORLD_BYTES_MAX);
    int r = write_at(dir, "tools.lua", agon_str(e->tools ? e->tools : ""), err);
    if (!r && e->world_path) {
        r = agon_file_read(&world, e->world_path, WORLD_BYTES_MAX, err);
        if (!r)
            r = write_at(dir, "world.db", agon_buf_str(&world), err);
    }
    char *tasks AGON_AUTO(env_free_text) = NULL;
    if (!r && asprintf(&tasks, "%s/tasks", dir) < 0)
        r = out_of_memory(err);
    if (!r)
        r = agon_dir_make(tasks, err);
    for (int i = 0; i < e->n_tasks && !r; i++)
        r = write_task(dir, &e->tasks[i], err);
    if (!r)
        r = agon_dir_sync(tasks, err);
    if (!r)
        r = write_env_json(dir, e, err);
    return r ? r : agon_dir_sync(dir, err);
}

/* Put the finished folder in its place. */
static int take_place(const char *made, const char *dir, struct agon_err *err)
{
    if (!rename(made, dir))
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return agon_fail(err, AGON_ESYS, "%s: %m", dir);
    if (!renameat2(AT_FDCWD, made, AT_FDCWD, dir, RENAME_EXCHANGE)) {
        /* made is now the old one, and stays whole until a power loss can't bring it back */
        int r = agon_dir_sync_parent(dir, err);
        return r ? r : agon_dir_remove(made, err);
    }
    if (errno == EINVAL || errno == ENOSYS)
        return agon_fail(err, AGON_ESYS,
                         "%s: its file system cannot exchange two folders (renameat2)", dir);
    return agon_fail(err, AGON_ESYS, "%s: %m", dir);
}

/* The temporary folder's name: the dot keeps it out of agon_dir_each(), and being the same each
 * time, a killed writer leaves one at most. */
static int temporary_beside(char **ret_made, char **ret_parent, const char *place,
                            struct agon_err *err)
{
    const char *slash = strrchr(place, '/');
    int size = slash ? (int)(slash - place) : 0;
    if (asprintf(ret_parent, "%.*s%s", size, place,
                 !slash ? "."
                 : size ? ""
                        : "/") < 0 ||
        asprintf(ret_made, "%s/.agon-tmp-%s", *ret_parent, slash ? slash + 1 : place) < 0)
        return out_of_memory(err);
    return 0;
}

static int env_store(const struct agon_env *e, const char *place, struct agon_err *err)
{
    char *made AGON_AUTO(env_free_text) = NULL, *parent AGON_AUTO(env_free_text) = NULL;
    int r = temporary_beside(&made, &parent, place, err);
    if (!r)
        r = agon_dir_make(parent, err);
    if (!r)
        r = agon_dir_remove(made, err);
    if (!r)
        r = agon_dir_make(made, err);
    if (!r)
        r = write_all(made, e, err);
    if (!r)
        r = take_place(made, place, err);
    if (!r)
        r = agon_dir_sync(parent, err);
    if (r && made)
        (void)!agon_dir_remove(made, NULL); /* the error that led here is the one to report */
    return r;
}

int agon_env_store(const struct agon_env *e, const char *dir, struct agon_err *err)
{
    size_t size = strlen(dir);
    while (size > 1 && dir[size - 1] == '/')
        size--;
    char *place AGON_AUTO(env_free_text) = strndup(dir, size);
    int r = place ? env_store(e, place, err) : out_of_memory(err);
    return r ? agon_err_in(err, r, "environment '%s'", dir) : 0;
}

/* ---- hashes ---- */

struct comparing {
    json_t *files; /* those not yet seen */
};

static int compare_hash(const char *name, const char *hex, void *user, struct agon_err *err)
{
    struct comparing *c = user;
    if (!strcmp(name, "env.json"))
        return 0;
    const char *listed = json_string_value(json_object_get(c->files, name));
    if (listed && !strcmp(listed, hex))
        return json_object_del(c->files, name) ? out_of_memory(err) : 0;
    agon_fail(err, FILE_MISMATCH, "%s: %s", name,
              listed ? "sha256 differs from env.json" : "not listed in env.json");
    return FILE_MISMATCH;
}

int agon_env_check_hashes(const char *dir, struct agon_err *err)
{
    char *path AGON_AUTO(env_free_text) = NULL;
    json_t *root = NULL;
    if (asprintf(&path, "%s/env.json", dir) < 0)
        return out_of_memory(err);
    int r = agon_json_load_file(&root, path, 4 << 20, err);
    json_auto_t *owned = root;
    if (r)
        return r;
    struct comparing c = {json_object_get(owned, "files")};
    if (!json_is_object(c.files)) {
        agon_fail(err, FILE_MISMATCH, "env.json: lists no files with their sha256");
        return FILE_MISMATCH;
    }
    r = each_file(dir, compare_hash, &c, err);
    const char *missing = json_object_iter_key(json_object_iter(c.files));
    if (!r && missing) {
        agon_fail(err, FILE_MISMATCH, "%s: missing, though env.json lists it", missing);
        return FILE_MISMATCH;
    }
    return r;
}

static int digest_file(const char *name, const char *hex, void *user, struct agon_err *err)
{
    (void)err;
    agon_sha256_add(user, name, strlen(name) + 1); /* the NUL ends the name */
    agon_sha256_add(user, hex, AGON_SHA256_HEX - 1);
    return 0;
}

int agon_env_digest(const char *dir, char ret_hex[65], struct agon_err *err)
{
    struct agon_sha256 h;
    agon_sha256_init(&h);
    int r = each_file(dir, digest_file, &h, err);
    if (!r)
        agon_sha256_hex(&h, ret_hex);
    return r;
}
