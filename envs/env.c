/* Loading an environment's folder: see env.h. Writing it is env_store.c. */
#include "envs/env.h"

#include "base/file.h"
#include "base/json.h"
#include "envs/env_internal.h"
#include "envs/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TEXT_BYTES_MAX = 4 << 20,
    ANSWERS_BYTES_MAX = 64 << 20,
    TASKS_MAX = 10000,
    LEVEL_MAX = 1000,
    NAME_BYTES_MAX = 128,
};

void agon_task_deinit(struct agon_task *t)
{
    free(t->id);
    free(t->parent);
    free(t->prompt);
    free(t->solution);
    free(t->verifier);
    json_decref(t->answer_schema);
    json_decref(t->effects);
    json_decref(t->golden);
    json_decref(t->negatives);
    *t = (struct agon_task){0};
}

void agon_env_free(struct agon_env *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->n_sources; i++) {
        free(e->sources[i].url);
        free(e->sources[i].sha256);
        free(e->sources[i].licence);
        free(e->sources[i].title);
    }
    for (int i = 0; i < e->n_tasks; i++)
        agon_task_deinit(&e->tasks[i]);
    if (e->world_is_temporary && e->world_path)
        (void)unlink(e->world_path); /* already gone is as good */
    free(e->sources);
    free(e->tasks);
    free(e->dir);
    free(e->id);
    free(e->family);
    free(e->category);
    free(e->tools);
    free(e->world_path);
    json_decref(e->limits);
    free(e);
}

/* ---- small readers ---- */

static int out_of_memory(struct agon_err *err)
{
    return agon_fail(err, AGON_ENOMEM, "env: out of memory");
}

/* 1 and *st: there is such a name, 0: there is none, <0: a disk that can't tell. */
static int is_there(int dir_fd, const char *name, struct stat *st, struct agon_err *err)
{
    if (fstatat(dir_fd, name, st, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    return errno == ENOENT ? 0 : agon_fail(err, AGON_ESYS, "%s: %m", name);
}

static int copy(char **ret, const char *text, struct agon_err *err)
{
    *ret = strdup(text);
    return *ret ? 0 : out_of_memory(err);
}

static int read_text(char **ret, int dir_fd, const char *name, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    int r = agon_file_read_at(&b, dir_fd, name, TEXT_BYTES_MAX, err);
    if (r)
        return r;
    if (!agon_utf8_valid(agon_buf_str(&b)) || (b.size && memchr(b.data, '\0', b.size)))
        return agon_fail(err, AGON_EINPUT, "%s: not UTF-8 text", name);
    *ret = agon_buf_steal(&b);
    return *ret ? 0 : out_of_memory(err);
}

static int read_json(json_t **ret, int dir_fd, const char *name, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    int r = agon_file_read_at(&b, dir_fd, name, TEXT_BYTES_MAX, err);
    if (!r && (r = agon_json_parse(ret, agon_buf_str(&b), err)))
        return agon_err_in(err, r, "%s", name);
    return r;
}

static int open_dir(int *ret_fd, const char *dir, struct agon_err *err)
{
    *ret_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd < 0 ? agon_fail(err, AGON_ESYS, "%s: %m", dir) : 0;
}

/* Ids and families are shown to people as they are, and become names of folders. */
static bool is_plain_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
    return n > 0 && n <= NAME_BYTES_MAX && !name[n];
}

/* ---- tasks ---- */

/* One line of answers.jsonl: the golden answer or a negative. */
static int task_answer(struct agon_task *t, struct agon_str line, struct agon_err *err)
{
    json_t *value = NULL;
    int r = agon_json_parse(&value, line, err);
    if (r)
        return r;
    json_auto_t *owned = value;
    if (!json_is_object(value) || !json_object_get(value, "answer"))
        return agon_fail(err, AGON_EINPUT, "a line without \"answer\"");
    if (json_object_get(value, "fails"))
        return json_array_append(t->negatives, owned) ? out_of_memory(err) : 0;
    if (t->golden)
        return agon_fail(err, AGON_EINPUT,
                         "two lines without \"fails\"; only the golden answer has none");
    t->golden = json_incref(owned);
    return 0;
}

static int task_answers(struct agon_task *t, int dir_fd, const char *name, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(ANSWERS_BYTES_MAX);
    if (!(t->negatives = json_array()))
        return out_of_memory(err);
    struct stat st;
    int r = is_there(dir_fd, name, &st, err);
    if (r <= 0)
        return r; /* a draft has none yet */
    r = agon_file_read_at(&b, dir_fd, name, ANSWERS_BYTES_MAX, err);
    if (!r && b.size && memchr(b.data, '\0', b.size)) /* lines would hide behind it */
        return agon_fail(err, AGON_EINPUT, "%s: not UTF-8 text", name);
    const char *at = agon_buf_text(&b);
    for (int n = 1; !r && *at; n++) {
        size_t size = strcspn(at, "\n");
        r = size ? task_answer(t, (struct agon_str){at, size}, err) : 0;
        if (r)
            return agon_err_in(err, r, "%s: line %d", name, n);
        at += size + (at[size] == '\n');
    }
    return r;
}

static int task_fields(struct agon_task *t, int dir_fd, const char *name, struct agon_err *err)
{
    json_t *root = NULL;
    int r = read_json(&root, dir_fd, name, err);
    json_auto_t *owned = root;
    if (r)
        return r;
    const char *answers = NULL;
    json_int_t level = 0;
    json_t *parent = NULL; /* null, or absent, at level 1 */
    json_error_t at;
    if (json_unpack_ex(owned, &at, JSON_STRICT, "{s:I, s?o, s:O, s:s, s?O}", "level", &level,
                       "parent", &parent, "answer_schema", &t->answer_schema, "answers", &answers,
                       "effects", &t->effects))
        return agon_fail(err, AGON_EINPUT, "%s: %s", name, at.text);
    bool many = !strcmp(answers, "many");
    bool is_level = level >= 1 && level <= LEVEL_MAX;
    if (!is_level || (!many && strcmp(answers, "one") != 0))
        return agon_fail(err, AGON_EINPUT, "%s: %s", name,
                         level < 1   ? "level is below 1"
                         : !is_level ? "level is above 1000"
                                     : "answers is neither one nor many");
    t->level = (int)level;
    t->answers = many ? AGON_ANSWERS_MANY : AGON_ANSWERS_ONE;
    if (!t->effects && !(t->effects = json_array()))
        return out_of_memory(err);
    if (agon_schema_check(t->answer_schema, err))
        return agon_err_in(err, AGON_EINPUT, "%s: answer_schema", name);
    if (parent && !json_is_null(parent) && !json_is_string(parent))
        return agon_fail(err, AGON_EINPUT, "%s: parent is neither a task's id nor null", name);
    if (json_is_string(parent) && !is_plain_name(json_string_value(parent)))
        return agon_fail(err, AGON_EINPUT, "%s: parent is no name of a task", name);
    return json_is_string(parent) ? copy(&t->parent, json_string_value(parent), err) : 0;
}

static int task_load(struct agon_task *t, int dir_fd, const char *id, struct agon_err *err)
{
    char name[128];
    int r = copy(&t->id, id, err);
#define AT(file) (snprintf(name, sizeof(name), "tasks/%s/" file, id), name)
    if (!r)
        r = task_fields(t, dir_fd, AT("task.json"), err);
    if (!r)
        r = read_text(&t->prompt, dir_fd, AT("prompt.md"), err);
    if (!r)
        r = read_text(&t->solution, dir_fd, AT("solution.lua"), err);
    if (!r)
        r = read_text(&t->verifier, dir_fd, AT("verifier.lua"), err);
    if (!r)
        r = task_answers(t, dir_fd, AT("answers.jsonl"), err);
#undef AT
    return r;
}

struct tasks_loading {
    struct agon_env *env;
    int dir_fd;
};

static int env_add_task(const char *name, void *user, struct agon_err *err)
{
    struct tasks_loading *l = user;
    struct agon_env *e = l->env;
    if (agon_name_check(name, err))
        return agon_err_in(err, AGON_EINPUT, "tasks");
    if (e->n_tasks == TASKS_MAX)
        return agon_fail(err, AGON_EINPUT, "tasks: over %d", TASKS_MAX);
    struct agon_task *tasks = realloc(e->tasks, (size_t)(e->n_tasks + 1) * sizeof(*tasks));
    if (!tasks)
        return out_of_memory(err);
    e->tasks = tasks;
    e->tasks[e->n_tasks] = (struct agon_task){0};
    return task_load(&e->tasks[e->n_tasks++], l->dir_fd, name,
                     err); /* freed with the environment */
}

/* ---- the environment ---- */

static int env_sources(struct agon_env *e, const json_t *sources, struct agon_err *err)
{
    size_t n = json_array_size(sources);
    e->sources = calloc(n + 1, sizeof(*e->sources));
    int r = e->sources ? 0 : out_of_memory(err);
    for (size_t i = 0; i < n && !r; i++) {
        const json_t *one = json_array_get(sources, i);
        struct agon_source *s = &e->sources[e->n_sources++];
        if (!json_is_object(one))
            return agon_fail(err, AGON_EINPUT, "env.json: sources[%zu] is not an object", i);
        r = copy(&s->url, agon_json_text(one, "url", ""), err);
        if (!r)
            r = copy(&s->sha256, agon_json_text(one, "sha256", ""), err);
        if (!r)
            r = copy(&s->licence, agon_json_text(one, "licence", ""), err);
        if (!r)
            r = copy(&s->title, agon_json_text(one, "title", ""), err);
    }
    return r;
}

static int env_fields(struct agon_env *e, int dir_fd, struct agon_err *err)
{
    json_t *root = NULL;
    int r = read_json(&root, dir_fd, "env.json", err);
    json_auto_t *owned = root;
    if (r)
        return r;
    const char *id, *family, *category;
    json_int_t version = 0;
    json_t *sources = NULL, *files = NULL;
    json_error_t at;
    /* the version first: another one's fields are not ours to judge */
    if (!json_unpack(owned, "{s:I}", "format_version", &version) && version != AGON_ENV_FORMAT)
        return agon_fail(err, AGON_EINPUT,
                         "env.json: format_version %lld is not %d, which this agon reads",
                         (long long)version, AGON_ENV_FORMAT);
    if (json_unpack_ex(owned, &at, JSON_STRICT, "{s:s, s:s, s:s, s:I, s?o, s?O, s?o}", "id", &id,
                       "family", &family, "category", &category, "format_version", &version,
                       "sources", &sources, "limits", &e->limits, "files", &files))
        return agon_fail(err, AGON_EINPUT, "env.json: %s", at.text);
    if (!is_plain_name(id) || !is_plain_name(family))
        return agon_fail(err, AGON_EINPUT,
                         "env.json: %s is no name: 1 to %d letters, digits, '_', '-' and '.'",
                         is_plain_name(id) ? "family" : "id", NAME_BYTES_MAX);
    e->format_version = (int)version;
    if (!e->limits && !(e->limits = json_object()))
        return out_of_memory(err);
    r = copy(&e->id, id, err);
    if (!r)
        r = copy(&e->family, family, err);
    if (!r)
        r = copy(&e->category, category, err);
    return r ? r : env_sources(e, sources, err);
}

/* world.db where there is one, else built from world.sql, else none. */
static int env_world(struct agon_env *e, int dir_fd, struct agon_err *err)
{
    struct stat st;
    int r = is_there(dir_fd, "world.db", &st, err);
    if (r < 0)
        return r;
    if (r && !S_ISREG(st.st_mode)) /* it is opened by its path, which follows links */
        return agon_fail(err, AGON_EINPUT, "world.db: not a regular file");
    if (r)
        return asprintf(&e->world_path, "%s/world.db", e->dir) < 0 ? out_of_memory(err) : 0;
    if ((r = is_there(dir_fd, "world.sql", &st, err)) <= 0)
        return r;
    char *sql AGON_AUTO(env_free_text) = NULL;
    r = read_text(&sql, dir_fd, "world.sql", err);
    if (!r)
        r = env_build_world(&e->world_path, sql, err);
    e->world_is_temporary = r == 0;
    return r;
}

static int env_load(struct agon_env *e, struct agon_err *err)
{
    int fd AGON_AUTO(agon_fd_closep) = -1;
    int r = open_dir(&fd, e->dir, err);
    if (!r)
        r = env_fields(e, fd, err);
    if (!r)
        r = read_text(&e->tools, fd, "tools.lua", err);
    if (!r)
        r = env_world(e, fd, err);
    struct stat st;
    if (r || (r = is_there(fd, "tasks", &st, err)) <= 0)
        return r;
    char *tasks AGON_AUTO(env_free_text) = NULL;
    if (asprintf(&tasks, "%s/tasks", e->dir) < 0)
        return out_of_memory(err);
    struct tasks_loading loading = {e, fd};
    return agon_dir_each(tasks, env_add_task, &loading, err);
}

int agon_env_load(struct agon_env **ret, const char *dir, struct agon_err *err)
{
    struct agon_env *e AGON_AUTO(agon_env_freep) = calloc(1, sizeof(*e));
    if (!e)
        return out_of_memory(err);
    int r = copy(&e->dir, dir, err);
    if (!r)
        r = env_load(e, err);
    if (r)
        return agon_err_in(err, r, "environment '%s'", dir);
    *ret = AGON_STEAL(e);
    return 0;
}
