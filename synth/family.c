/* Families: see family.h. Budgets: PROTOCOL.md, "Episodes". */
#include "synth/family.h"

#include "synth/draft.h"
#include "synth/worldfile.h"

#include <string.h>

enum { TOOLS_MIN = 3 };

static int world_missing(const struct agon_draft *draft, const char **ret, struct agon_err *err)
{
    int n = 0;
    int r = draft->world_path ? agon_worldfile_count(draft->world_path, &n, err) : 0;
    if (r)
        return r; /* a disk that fails is not the author's failure */
    *ret = n < 1 ? "the stage ended and the world has no table" : NULL;
    return 0;
}

static int tools_missing(const struct agon_draft *draft, const char **ret, struct agon_err *err)
{
    (void)err;
    *ret = draft->tools.n < TOOLS_MIN ? "the stage ended with fewer than 3 tools" : NULL;
    return 0;
}

static const char *const retrieve_tools[] = {"search", "fetch", "bash", "import_table", NULL};
static const char *const tools_tools[] = {"define_tool", "bash", NULL};
static const char *const level_tools[] = {"propose_task", "define_tool", "bash", NULL};

static const struct agon_stage retrieve = {
    .name = "retrieve",
    .prompt = "retrieve.md",
    .tools = retrieve_tools,
    .turns_max = 16,
    .world = true,
    .missing = world_missing,
};
static const struct agon_stage tools = {
    .name = "tools",
    .prompt = "tools.md",
    .tools = tools_tools,
    .turns_max = 24,
    .missing = tools_missing,
};
static const struct agon_stage level = {
    .name = "level",
    .prompt = "level.md",
    .tools = level_tools,
    .turns_max = 6,
    .proposals_max = 4,
};

const struct agon_family agon_family_general = {
    .name = "general",
    .retrieve = &retrieve,
    .tools = &tools,
    .level = &level,
    .solver_system = "solver.md",
    .solver_task = "task.md",
    .solver_turns_max = 24,
};

const struct agon_family *agon_family_find(const char *name)
{
    return strcmp(name, agon_family_general.name) == 0 ? &agon_family_general : NULL;
}
