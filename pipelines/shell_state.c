/* States in the shell: branches, snapshots, going back. */
#include "base/json.h"
#include "pipelines/shell.h"

#include <stdlib.h>

struct agon_instance *shell_instance(const struct shell *sh)
{
    return sh->branches[sh->current].in;
}

void shell_state_free(struct shell *sh)
{
    for (int i = 0; i < sh->n_branches; i++) {
        free(sh->branches[i].name);
        agon_instance_free(sh->branches[i].in);
    }
    free(sh->branches);
    agon_snapshots_deinit(&sh->snapshots);
}

static int branch_find(const struct shell *sh, const char *name)
{
    for (int i = 0; i < sh->n_branches; i++)
        if (strcmp(sh->branches[i].name, name) == 0)
            return i;
    return -1;
}

int shell_branch_add(struct shell *sh, const char *name, struct agon_instance *in,
                     struct agon_err *err)
{
    struct shell_branch *branches =
        realloc(sh->branches, ((size_t)sh->n_branches + 1) * sizeof(*branches));
    char *copy = strdup(name);
    if (branches)
        sh->branches = branches;
    if (!branches || !copy) {
        free(copy);
        agon_instance_free(in);
        return agon_fail(err, AGON_ENOMEM, "shell: out of memory");
    }
    sh->current = sh->n_branches++;
    branches[sh->current] = (struct shell_branch){copy, in};
    return 0;
}

static size_t n_writes(const struct agon_instance *in)
{
    return json_array_size(agon_instance_writes(in));
}

/* "* main: 2 writing calls" for each. */
static void print_branches(const struct shell *sh)
{
    for (int i = 0; i < sh->n_branches; i++) {
        size_t n = n_writes(sh->branches[i].in);
        printf("%s %s: %zu writing call%s\n", i == sh->current ? "*" : " ", sh->branches[i].name, n,
               n == 1 ? "" : "s");
    }
}

static bool is_name(const char *text)
{
    size_t n = strlen(text);
    bool fine = n > 0 && n <= AGON_SNAPSHOT_NAME_MAX;
    for (size_t i = 0; i < n; i++)
        fine = fine && text[i] > ' ' && text[i] < 0x7F;
    return fine;
}

int shell_fork(struct shell *sh, const char *rest, struct agon_err *err)
{
    char name[AGON_SNAPSHOT_NAME_MAX + 1];
    struct agon_instance *in = NULL;
    snprintf(name, sizeof(name), "%s", rest);
    for (int i = 1; !*rest && (i == 1 || branch_find(sh, name) >= 0); i++)
        snprintf(name, sizeof(name), "fork%d", i);
    if (!is_name(*rest ? rest : name))
        return shell_error(sh, "a name is 1 to %d printable characters without spaces",
                           AGON_SNAPSHOT_NAME_MAX);
    if (branch_find(sh, name) >= 0)
        return shell_error(sh, "there is a branch '%s'; .switch %s goes there", name, name);
    if (sh->n_branches == SHELL_BRANCHES_MAX)
        return shell_error(sh, "there are %d branches", SHELL_BRANCHES_MAX);
    const char *from = sh->branches[sh->current].name;
    int r = agon_instance_fork(&in, shell_instance(sh), err);
    if (!r) {
        printf("now in '%s', forked from '%s'\n", name, from);
        r = shell_branch_add(sh, name, in, err);
    }
    return r;
}

int shell_switch(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)err;
    if (*rest) {
        int i = branch_find(sh, rest);
        if (i < 0)
            return shell_error(sh, "no branch '%.64s'; .switch lists them", rest);
        sh->current = i;
    }
    print_branches(sh);
    return 0;
}

int shell_snapshot(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_err why = {0};
    if (*rest) {
        int r = agon_snapshots_put(&sh->snapshots, rest, shell_instance(sh), &why);
        if (r == AGON_EINPUT)
            return shell_error(sh, "%s", why.text);
        if (r)
            return agon_fail(err, r, "%s", why.text);
        printf("kept as '%s'; .reset %s comes back here\n", rest, rest);
        return 0;
    }
    for (int i = 0; i < sh->snapshots.n; i++)
        printf("%s: %zu writing calls\n", sh->snapshots.items[i].name,
               n_writes(sh->snapshots.items[i].in));
    if (sh->snapshots.n == 0)
        puts("no snapshot; .snapshot NAME takes one");
    return 0;
}

/* Put another instance in the current one's place. */
static void replace_instance(struct shell *sh, struct agon_instance *in)
{
    agon_instance_free(sh->branches[sh->current].in);
    sh->branches[sh->current].in = in;
}

int shell_reset(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_instance *in = NULL;
    int r = *rest ? agon_snapshots_get(&sh->snapshots, rest, &in, err)
                  : agon_instance_new(&in, sh->rt, err);
    if (r == AGON_SNAPSHOT_NONE)
        return shell_error(sh, "no snapshot '%.64s'; .snapshot lists them", rest);
    if (r)
        return r;
    replace_instance(sh, in);
    if (*rest)
        printf("as in snapshot '%s'\n", rest);
    else
        puts("the world is as it was at first");
    return 0;
}

int shell_undo(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)rest;
    size_t n = n_writes(shell_instance(sh));
    if (n == 0)
        return shell_error(sh, "no writing call to take back");
    json_auto_t *writes = json_copy((json_t *)(uintptr_t)agon_instance_writes(shell_instance(sh)));
    if (!writes)
        return agon_fail(err, AGON_ENOMEM, "shell: out of memory");
    shell_line_value(sh, "taken back: ", json_array_get(writes, n - 1));
    json_array_remove(writes, n - 1);
    return agon_instance_set_writes(shell_instance(sh), writes, err);
}

int shell_writes(struct shell *sh, const char *rest, struct agon_err *err)
{
    size_t i;
    json_t *one;
    (void)rest;
    (void)err;
    json_array_foreach(agon_instance_writes(shell_instance(sh)), i, one)
    {
        char before[128];
        snprintf(before, sizeof(before), "%zu. %.64s ", i + 1, agon_json_text(one, "tool", "?"));
        shell_line_value(sh, before, json_object_get(one, "arguments"));
    }
    if (n_writes(shell_instance(sh)) == 0)
        puts("nothing was written");
    return 0;
}
