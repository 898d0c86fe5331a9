/* The run of an author's stage: see stage.h. */
#include "synth/stage.h"

#include "base/json.h"
#include "synth/render.h"
#include "synth/stage_internal.h"
#include "synth/worldfile.h"

#include <stdlib.h>

enum { PROMPT_BYTES_MAX = 4 << 20, TRIES_MAX = 4 /* a completion and three more */ };

void agon_stage_name(const struct agon_stage_place *place, char ret_name[AGON_STAGE_NAME])
{
    if (place->level)
        snprintf(ret_name, AGON_STAGE_NAME, "t%d_l%d", place->line, place->level);
    else
        snprintf(ret_name, AGON_STAGE_NAME, "%s", place->stage->name);
}

void agon_stage_free(struct agon_stage_run *run)
{
    if (!run)
        return;
    agon_episode_free(run->episode);
    agon_bashbox_close(run->box);
    agon_retrieval_free(run->retrieval);
    agon_runtime_free(run->rt);
    agon_draft_free(run->draft);
    json_decref(run->head);
    json_decref(run->events);
    free(run);
}

int agon_stage_note(struct agon_stage_run *run, const char *kind, json_t *detail,
                    struct agon_err *err)
{
    if (!detail || json_object_set_new(detail, "kind", json_string(kind)) ||
        json_array_append(run->events, detail)) {
        json_decref(detail);
        return agon_fail(err, AGON_ENOMEM, "event '%s': out of memory", kind);
    }
    json_decref(detail);
    return 0;
}

int agon_stage_world_path(struct agon_stage_run *run, char ret_path[4096], struct agon_err *err)
{
    int n = snprintf(ret_path, 4096, "%s/%s_%d_%d.db", run->shop.scratch, run->name,
                     run->place.sample, run->n_worlds++);
    return n < 4096 ? 0 : agon_fail(err, AGON_EINPUT, "%.80s...: path too long", run->shop.scratch);
}

int agon_stage_retrieval(struct agon_stage_run *run, struct agon_err *err)
{
    return run->retrieval ? 0 : agon_retrieval_new(&run->retrieval, run->shop.library, err);
}

/* ---- beginning --------------------------------------------------------------- */

/* The tools so far over the world so far. What was accepted loads again, or is broken. */
static int stage_open_runtime(struct agon_stage_run *run, struct agon_err *err)
{
    struct agon_buf tools AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    agon_toolbox_text(&run->draft->tools, &tools);
    int r = agon_buf_check(&tools, "tools.lua", err);
    if (r || (r = agon_runtime_open(&run->rt, run->shop.sandbox, run->draft->world_path,
                                    agon_buf_str(&tools), &reason, err)) <= 0)
        return r;
    return agon_fail(err, AGON_ESCRIPT, "%s: its tools no longer load: %s", run->draft->id,
                     agon_buf_text(&reason));
}

static int stage_prepare_world(struct agon_stage_run *run, struct agon_err *err)
{
    char path[4096];
    int r;
    if (!run->place.stage->world)
        return stage_open_runtime(run, err);
    if ((r = agon_stage_world_path(run, path, err)) || (r = agon_worldfile_create(path, err)))
        return r;
    return agon_draft_set_world(run->draft, path, err);
}

static int stage_world_text(struct agon_stage_run *run, struct agon_buf *b, struct agon_err *err)
{
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_rng rng = agon_rng_split(&run->rng, agon_str("world"));
    if (!run->rt) {
        agon_buf_adds(b, "(empty)\n");
        return 0;
    }
    int r = agon_instance_new(&in, run->rt, err);
    return r ? r : agon_render_world(b, in, &rng, err);
}

const struct agon_task *agon_stage_below(const struct agon_stage_run *run)
{
    struct agon_stage_place below = run->place;
    char id[AGON_STAGE_NAME];
    if (below.level-- < 2)
        return NULL;
    agon_stage_name(&below, id);
    return agon_draft_task(run->draft, id);
}

static int stage_user_text(struct agon_stage_run *run, struct agon_buf *b, struct agon_err *err)
{
    static const char harder[] =
        " that is harder than the one above: one more thing is asked, or more calls are needed";
    static const char *const guess[] = {"0.05", "0.05", "0.01", "0.001"};
    struct agon_buf world AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    struct agon_buf tools AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    struct agon_buf below AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    const struct agon_task *task = agon_stage_below(run);
    char level[16];
    int n = run->place.level, r = stage_world_text(run, &world, err);
    snprintf(level, sizeof(level), "%d", n);
    if (run->rt)
        agon_render_tools(&tools, run->rt);
    if (task)
        agon_render_below(&below, task);
    else if (n == 1)
        agon_render_others(&below, run->draft->tasks, run->draft->n_tasks);
    if (r || (r = agon_buf_check(&world, "world", err)) ||
        (r = agon_buf_check(&tools, "tools", err)) || (r = agon_buf_check(&below, "task", err)))
        return r;
    struct agon_slot slots[] = {
        {"category", agon_str(run->draft->category)},
        {"world", agon_buf_str(&world)},
        {"tools", agon_buf_str(&tools)},
        {"below", agon_buf_str(&below)},
        {"level", agon_str(level)},
        {"harder", agon_str(n > 1 ? harder : "")},
        {"guess", agon_str(guess[n > 3 ? 3 : n])},
        {0},
    };
    return agon_prompts_fill(run->shop.prompts, run->place.stage->prompt, slots, b, err);
}

static agon_author_call *author_call(const char *name)
{
    static const struct {
        const char *name;
        agon_author_call *call;
    } calls[] = {
        {"search", agon_author_search},
        {"fetch", agon_author_fetch},
        {"bash", agon_author_bash},
        {"import_table", agon_author_import_table},
        {"define_tool", agon_author_define_tool},
        {"propose_task", agon_author_propose_task},
    };
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (strcmp(calls[i].name, name) == 0)
            return calls[i].call;
    return NULL;
}

static int stage_tools(struct agon_stage_run *run, json_t *shown, int *ret_n, struct agon_err *err)
{
    int n = 0;
    for (const char *const *name = run->place.stage->tools; *name; name++, n++) {
        const json_t *function = agon_prompts_tool(run->shop.prompts, *name);
        if (!function)
            return agon_fail(err, AGON_EINPUT, "prompts: tools.json has no tool '%s'", *name);
        if (json_array_append(shown, (json_t *)(uintptr_t)function))
            return agon_fail(err, AGON_ENOMEM, "stage: out of memory");
        run->tools[n] = (struct agon_episode_tool){
            .name = *name, .function = function, .call = author_call(*name), .user = run};
    }
    *ret_n = n;
    return 0;
}

static int stage_head(struct agon_stage_run *run, json_t *shown, struct agon_err *err)
{
    struct agon_buf system AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    struct agon_buf user AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    int r = agon_prompts_fill(run->shop.prompts, "author.md", NULL, &system, err);
    if (r || (r = stage_user_text(run, &user, err)))
        return r;
    run->head = json_pack("[{s:s, s:s, s:O}, {s:s, s:s}]", "role", "system", "content",
                          agon_buf_text(&system), "tools", shown, "role", "user", "content",
                          agon_buf_text(&user));
    return run->head ? 0 : agon_fail(err, AGON_ENOMEM, "stage: prompt is no UTF-8 text");
}

static int stage_episode(struct agon_stage_run *run, int n_tools, struct agon_err *err)
{
    char key[256];
    snprintf(key, sizeof(key), "%s/%s/%d", run->draft->id, run->name, run->place.sample);
    struct agon_episode_options o = {
        .model = run->shop.model,
        .head = run->head,
        .tools = run->tools,
        .n_tools = n_tools,
        .turns_max = run->place.stage->turns_max,
        .tries_max = TRIES_MAX,
        .sampling = run->shop.sampling,
        .rng = agon_rng_split(&run->rng, agon_str("turns")),
        .key = key,
        .context = run->shop.context,
        .prompts = run->shop.prompts,
    };
    return agon_episode_new(&run->episode, &o, err);
}

int agon_stage_begin(struct agon_stage_run **ret, const struct agon_workshop *shop,
                     const struct agon_draft *draft, const struct agon_stage_place *place,
                     struct agon_err *err)
{
    struct agon_stage_run *run AGON_AUTO(agon_stage_freep) = calloc(1, sizeof(*run));
    json_auto_t *shown = json_array();
    int n_tools = 0, r;
    if (!run || !shown || !(run->events = json_array()))
        return agon_fail(err, AGON_ENOMEM, "stage: out of memory");
    run->shop = *shop;
    run->place = *place;
    agon_stage_name(place, run->name);
    run->rng = agon_rng_split(&shop->rng, agon_str(run->name));
    run->rng = agon_rng_split_int(&run->rng, (uint64_t)place->sample);
    if ((r = agon_draft_copy(&run->draft, draft, err)) || (r = stage_prepare_world(run, err)) ||
        (r = stage_tools(run, shown, &n_tools, err)) || (r = stage_head(run, shown, err)) ||
        (r = stage_episode(run, n_tools, err)))
        return agon_err_in(err, r, "%s, stage %s", draft->id, run->name);
    *ret = AGON_STEAL(run);
    return 0;
}

/* ---- going on and ending ----------------------------------------------------- */

static int stage_judge(struct agon_stage_run *run, struct agon_err *err)
{
    const struct agon_episode_report *report = agon_episode_report(run->episode);
    const struct agon_stage *stage = run->place.stage;
    const char *missing = NULL;
    int r = 0;
    if (run->accepted || run->failure[0])
        return 0;
    if (report->end == AGON_EPISODE_SILENT && stage->missing)
        r = stage->missing(run->draft, &missing, err);
    else if (report->end == AGON_EPISODE_SILENT)
        missing = "the stage ended without an accepted task";
    else if (report->end == AGON_EPISODE_TURNS)
        snprintf(run->failure, sizeof(run->failure), "%d turns were not enough", stage->turns_max);
    else
        snprintf(run->failure, sizeof(run->failure), "%s%s%s", agon_episode_end_name(report->end),
                 report->reason[0] ? ": " : "", report->reason);
    if (missing)
        snprintf(run->failure, sizeof(run->failure), "%s", missing);
    return r;
}

int agon_stage_step(struct agon_stage_run *run, struct agon_err *err)
{
    int r = agon_episode_step(run->episode, err);
    if (r == AGON_EPISODE_ENDED)
        r = (r = stage_judge(run, err)) ? r : AGON_STAGE_ENDED;
    return r < 0 ? agon_err_in(err, r, "%s, stage %s", run->draft->id, run->name) : r;
}

const char *agon_stage_failure(const struct agon_stage_run *run)
{
    return run->failure[0] ? run->failure : NULL;
}

const struct agon_episode_report *agon_stage_report(const struct agon_stage_run *run)
{
    return agon_episode_report(run->episode);
}

const json_t *agon_stage_events(const struct agon_stage_run *run)
{
    return run->events;
}

struct agon_draft *agon_stage_take_draft(struct agon_stage_run *run)
{
    return AGON_STEAL(run->draft);
}
