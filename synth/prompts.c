/* Prompt files: see prompts.h. All are read at the start, so that a run sees one state of them. */
#include "synth/prompts.h"

#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const file_names[] = {
    "author.md", "retrieve.md", "tools.md",   "level.md",   "solver.md",
    "task.md",   "tools.json",  "summary.md", "restart.md",
};
enum {
    N_FILES = sizeof(file_names) / sizeof(file_names[0]),
    TOOLS_FILE = 6,
    N_NEEDED = 7, /* the others are of context summary, and may be absent */
    FILE_BYTES_MAX = 256 << 10
};

struct agon_prompts {
    char *texts[N_FILES];            /* NULL: absent */
    json_t *tools;                   /* tools.json */
    char digest[2][AGON_SHA256_HEX]; /* of what is needed; of all */
};

void agon_prompts_free(struct agon_prompts *p)
{
    if (!p)
        return;
    for (int i = 0; i < N_FILES; i++)
        free(p->texts[i]);
    json_decref(p->tools);
    free(p);
}

static const char *prompts_dir(const char *dir)
{
    if (!dir || !*dir)
        dir = getenv("AGON_PROMPTS");
    if (dir && *dir)
        return dir;
    return access(AGON_PROMPTS_SOURCE "/author.md", R_OK) == 0 ? AGON_PROMPTS_SOURCE
                                                               : AGON_PROMPTS_INSTALLED;
}

static int prompts_read(struct agon_prompts *p, const char *dir, int i, struct agon_err *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file_names[i]) >= sizeof(path))
        return agon_fail(err, AGON_EINPUT, "prompts: path too long: %.80s...", dir);
    if (i >= N_NEEDED && access(path, F_OK) && errno == ENOENT)
        return 0;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_BYTES_MAX);
    int r = agon_file_read(&b, path, FILE_BYTES_MAX, err);
    if (r)
        return agon_err_in(err, r, "prompts");
    while (b.size > 0 && b.data[b.size - 1] == '\n')
        b.data[--b.size] = '\0';
    if (!agon_utf8_valid(agon_buf_str(&b)))
        return agon_fail(err, AGON_EINPUT, "prompts: %s is not UTF-8", path);
    p->texts[i] = strdup(agon_buf_text(&b));
    return p->texts[i] ? 0 : agon_fail(err, AGON_ENOMEM, "prompts: out of memory");
}

static int prompts_check_tools(const struct agon_prompts *p, const char *dir, struct agon_err *err)
{
    size_t i;
    json_t *tool;
    if (!json_is_array(p->tools))
        return agon_fail(err, AGON_EINPUT, "prompts: %s/tools.json is no array", dir);
    json_array_foreach(p->tools, i, tool)
    {
        const json_t *function = json_object_get(tool, "function");
        if (!agon_json_text(function, "name", NULL) ||
            !json_is_object(json_object_get(function, "parameters")))
            return agon_fail(err, AGON_EINPUT,
                             "prompts: %s/tools.json: entry %zu has no function with name and "
                             "parameters",
                             dir, i);
    }
    return 0;
}

int agon_prompts_load(struct agon_prompts **ret, const char *dir, struct agon_err *err)
{
    struct agon_prompts *p AGON_AUTO(agon_prompts_freep) = calloc(1, sizeof(*p));
    if (!p)
        return agon_fail(err, AGON_ENOMEM, "prompts: out of memory");
    dir = prompts_dir(dir);
    struct agon_sha256 hash;
    agon_sha256_init(&hash);
    for (int i = 0, r; i < N_FILES; i++) {
        if ((r = prompts_read(p, dir, i, err)))
            return r;
        if (p->texts[i]) {
            agon_sha256_add(&hash, file_names[i], strlen(file_names[i]) + 1);
            agon_sha256_add(&hash, p->texts[i], strlen(p->texts[i]) + 1);
        }
        struct agon_sha256 so_far = hash;
        if (i >= N_NEEDED - 1)
            agon_sha256_hex(&so_far, p->digest[i >= N_NEEDED]);
    }
    int r = agon_json_parse(&p->tools, agon_str(p->texts[TOOLS_FILE]), err);
    if (r)
        return agon_err_in(err, r, "prompts: %s/tools.json", dir);
    if ((r = prompts_check_tools(p, dir, err)))
        return r;
    *ret = AGON_STEAL(p);
    return 0;
}

static const struct agon_slot *slot_find(const struct agon_slot *slots, struct agon_str name)
{
    for (; slots && slots->name; slots++)
        if (agon_str_is(name, slots->name))
            return slots;
    return NULL;
}

/* NULL: there is no such file. */
static const char *prompts_text(const struct agon_prompts *p, const char *name)
{
    for (int i = 0; i < N_FILES; i++)
        if (strcmp(file_names[i], name) == 0)
            return p->texts[i];
    return NULL;
}

bool agon_prompts_has(const struct agon_prompts *p, const char *name)
{
    return p && prompts_text(p, name);
}

int agon_prompts_fill(const struct agon_prompts *p, const char *name, const struct agon_slot *slots,
                      struct agon_buf *b, struct agon_err *err)
{
    const char *at = prompts_text(p, name);
    if (!at)
        return agon_fail(err, AGON_EINPUT, "prompts: no file %s", name);
    for (const char *open; (open = strstr(at, "{{"));) {
        const char *close = strstr(open, "}}");
        if (!close)
            break;
        struct agon_str slot_name = {open + 2, (size_t)(close - open - 2)};
        const struct agon_slot *slot = slot_find(slots, slot_name);
        if (!slot)
            return agon_fail(err, AGON_EINPUT, "prompts: %s has a slot {{%.*s}} that nothing fills",
                             name, AGON_STR_ARG(slot_name));
        agon_buf_add(b, at, (size_t)(open - at));
        agon_buf_add_str(b, slot->text);
        at = close + 2;
    }
    agon_buf_adds(b, at);
    return agon_buf_check(b, name, err);
}

const json_t *agon_prompts_tool(const struct agon_prompts *p, const char *name)
{
    size_t i;
    json_t *tool;
    json_array_foreach(p->tools, i, tool) if (strcmp(
                                                  json_string_value(json_object_get(
                                                      json_object_get(tool, "function"), "name")),
                                                  name) == 0) return tool;
    return NULL;
}

const char *agon_prompts_digest(const struct agon_prompts *p, bool summary)
{
    return p->digest[summary];
}
