/* agon solve: rollouts of any model on tasks that exist, and their rates. Nothing in a
 * corpus changes; --out keeps the rollouts. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "envs/env.h"
#include "envs/runtime.h"
#include "pipelines/run.h"
#include "pipelines/verb.h"
#include "sandbox/cell.h"
#include "synth/episode.h"
#include "synth/prompts.h"
#include "synth/solver.h"
#include "verifiers/passk.h"

#include <stdio.h>
#include <unistd.h>

struct options {
    const char *model, *model_name, *device, *record, *prompts, *context, *task, *out;
    int64_t rollouts, trajectories, seed, parallel, threads, top_k, turn_tokens;
    double temperature, top_p;
};
#define FIELD(f) .offset = offsetof(struct options, f)
static const struct agon_opt table[] = {
    {.name = "model",
     .type = AGON_OPT_TEXT,
     FIELD(model),
     .arg = "SPEC",
     .help = "local:DIR, http(s)://.../v1, exec:COMMAND, replay:FILE; the embedded checkpoint"},
    {.name = "model-name",
     .type = AGON_OPT_TEXT,
     FIELD(model_name),
     .arg = "NAME",
     .help = "the model's name at an HTTP server"},
    {.name = "device",
     .type = AGON_OPT_TEXT,
     FIELD(device),
     .arg = "cpu|cuda",
     .help = AGON_VERB_DEVICE},
    {.name = "record",
     .type = AGON_OPT_TEXT,
     FIELD(record),
     .arg = "FILE",
     .help = "record every completion, for replay:FILE"},
    {.name = "prompts",
     .type = AGON_OPT_TEXT,
     FIELD(prompts),
     .arg = "DIR",
     .help = "prompt files to use instead of the built-in ones"},
    {.name = "context",
     .type = AGON_OPT_TEXT,
     FIELD(context),
     .arg = "HOW",
     .help = AGON_VERB_CONTEXT},
    {.name = "trajectories",
     .type = AGON_OPT_INT,
     FIELD(trajectories),
     .min = 1,
     .max = AGON_TRAJECTORIES_MAX,
     .arg = "N",
     .help = AGON_VERB_TRAJECTORIES},
    {.name = "task", .type = AGON_OPT_TEXT, FIELD(task), .arg = "ID", .help = "only this task"},
    {.name = "out",
     .type = AGON_OPT_TEXT,
     FIELD(out),
     .arg = "FILE",
     .help = "append each rollout as one line of JSON"},
    {.name = "rollouts",
     .letter = 'n',
     .type = AGON_OPT_INT,
     FIELD(rollouts),
     .min = 1,
     .max = 100000,
     .arg = "N",
     .help = "rollouts of each task"},
    {.name = "seed",
     .letter = 's',
     .type = AGON_OPT_INT,
     FIELD(seed),
     .min = 0,
     .max = 9e15,
     .arg = "N",
     .help = "everything random is a function of it"},
    {.name = "parallel",
     .type = AGON_OPT_INT,
     FIELD(parallel),
     .min = 1,
     .max = 10000,
     .arg = "N",
     .help = "episodes of rollouts in flight at once"},
    {.name = "threads",
     .letter = 'j',
     .type = AGON_OPT_INT,
     FIELD(threads),
     .min = 0,
     .max = 1024,
     .arg = "N",
     .help = "threads of a local model; 0: one a core"},
    {.name = "temperature",
     .type = AGON_OPT_REAL,
     FIELD(temperature),
     .min = 0,
     .max = 5,
     .arg = "X",
     .help = "of sampling"},
    {.name = "top-p",
     .type = AGON_OPT_REAL,
     FIELD(top_p),
     .min = 0.01,
     .max = 1,
     .arg = "X",
     .help = "of sampling"},
    {.name = "top-k",
     .type = AGON_OPT_INT,
     FIELD(top_k),
     .min = 0,
     .max = 1000000,
     .arg = "N",
     .help = "of sampling; 0: off"},
    {.name = "turn-tokens",
     .type = AGON_OPT_INT,
     FIELD(turn_tokens),
     .min = 0,
     .max = 10000000,
     .arg = "N",
     .help = "most tokens of a turn; 0: by the window"},
    {0},
};

struct solving {
    struct options o;
    struct agon_sandbox *sandbox;
    struct agon_prompts *prompts;
    struct agon_model *model;
    enum agon_context context;
    FILE *out;
    int n_tasks, n_kept; /* tried, and passed at least once */
};

static int out_rollout(struct solving *s, const struct agon_env *env, const struct agon_task *task,
                       const struct agon_rollout *r, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(256 << 20);
    if (!s->out)
        return 0;
    const struct agon_episode_report *report = agon_episode_report(r->episode);
    json_auto_t *line =
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:s?, s:O, s:O, s:i, s:i, s:O}", "environment",
                  env->id, "task", task->id, "index", r->index, "verdict", r->verdict, "end",
                  r->end, "answer", r->answer, "writes", r->writes, "checks", r->checks, "turns",
                  report->turns, "calls", report->calls, "transcript", report->segments);
    agon_json_dump(&b, line);
    agon_buf_addc(&b, '\n');
    if (!line || b.failed || fwrite(b.data, 1, b.size, s->out) != b.size || fflush(s->out))
        return agon_fail(err, AGON_ESYS, "can't write --out '%s'", s->o.out);
    return 0;
}

/* Run the solver to its end, each rollout handed to --out. */
static int solve_rollouts(struct solving *s, const struct agon_env *env,
                          const struct agon_task *task, struct agon_solver *solver, int *ret_passed,
                          struct agon_err *err)
{
    int over = 0, passed = 0, r;
    while ((r = agon_solver_step(solver, (int)s->o.parallel, err)) == 0) {
        struct agon_rollout rollout = {0};
        while (!r && (r = agon_solver_take(solver, &rollout, err)) == 1) {
            over++;
            passed += rollout.pass;
            r = out_rollout(s, env, task, &rollout, err);
            agon_rollout_deinit(&rollout);
        }
        if (r || (r = agon_model_poll(s->model, 50, err)))
            return r;
        agon_progress(false, "%s/%s: %d of %d, %d passed", env->id, task->id, over,
                      (int)s->o.rollouts, passed);
    }
    *ret_passed = passed;
    return r < 0 ? r : 0;
}

static int solve_task(struct solving *s, const struct agon_env *env, struct agon_runtime *rt,
                      const struct agon_task *task, struct agon_err *err)
{
    char key[256];
    struct agon_solver *solver AGON_AUTO(agon_solver_freep) = NULL;
    struct agon_rng rng;
    int n = (int)s->o.rollouts, passed = 0, r;
    snprintf(key, sizeof(key), "%s/solve_%s", env->id, task->id);
    agon_rng_init(&rng, (uint64_t)s->o.seed);
    rng = agon_rng_split(&rng, agon_str(env->id));
    struct agon_solver_options so = {
        .model = s->model,
        .prompts = s->prompts,
        .family = &agon_family_general,
        .rt = rt,
        .task = task,
        .sampling = {.temperature = s->o.temperature,
                     .top_p = s->o.top_p,
                     .top_k = (int)s->o.top_k,
                     .tokens_max = (int)s->o.turn_tokens},
        .context = s->context,
        .n_trajectories = (int)s->o.trajectories,
        .rng = agon_rng_split(&rng, agon_str(key)),
        .key = key,
        .n_first = n,
        .n_max = n,
        .estimate = true,
        .n_parallel = (int)s->o.parallel,
    };
    if ((r = agon_solver_new(&solver, &so, err)) ||
        (r = solve_rollouts(s, env, task, solver, &passed, err)))
        return r;
    double low, high;
    agon_pass_at_k_interval(n, passed, 1, 0.05, &low, &high);
    agon_progress_end();
    printf("%-24s %-7s %5d  %4d/%-4d %.2f [%.2f, %.2f]\n", env->id, task->id, task->level, passed,
           n, agon_pass_at_k(n, passed, 1), low, high);
    s->n_tasks++;
    s->n_kept += passed > 0;
    return 0;
}

static int solve_env(struct solving *s, const char *dir, struct agon_err *err)
{
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    int r = agon_env_load(&env, dir, err);
    if (r || (r = agon_runtime_open(&rt, s->sandbox, env->world_path, agon_str(env->tools), &reason,
                                    err)) < 0)
        return r;
    if (r)
        return agon_fail(err, AGON_ESCRIPT, "%s: its tools do not load: %s", dir,
                         agon_buf_text(&reason));
    for (int i = 0; i < env->n_tasks && !r; i++)
        if (!s->o.task || strcmp(s->o.task, env->tasks[i].id) == 0)
            r = solve_task(s, env, rt, &env->tasks[i], err);
    return r;
}

struct walk {
    struct solving *s;
    const char *dir;
};

static int walk_one(const char *name, void *user, struct agon_err *err)
{
    const struct walk *w = user;
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", w->dir, name);
    return solve_env(w->s, path, err);
}

static int solve_path(struct solving *s, const char *path, struct agon_err *err)
{
    char at[4096];
    snprintf(at, sizeof(at), "%s/env.json", path);
    if (access(at, F_OK) == 0)
        return solve_env(s, path, err);
    snprintf(at, sizeof(at), "%s/environments", path);
    if (access(at, F_OK))
        return agon_fail(err, AGON_EINPUT, "'%s' is neither an environment nor a corpus with one",
                         path);
    struct walk w = {s, at};
    return agon_dir_each(at, walk_one, &w, err);
}

static int solve_open(struct solving *s, struct agon_err *err)
{
    struct agon_sandbox_options so = {.keep_first = true};
    struct agon_model_options mo = {.device = s->o.device,
                                    .record_path = s->o.record,
                                    .model_name = s->o.model_name,
                                    .n_threads = (int)s->o.threads};
    int r = agon_context_parse(&s->context, s->o.context, err);
    if (r || (r = agon_prompts_load(&s->prompts, s->o.prompts, err)))
        return r;
    if (s->o.out && !(s->out = fopen(s->o.out, "ae")))
        return agon_fail(err, AGON_EINPUT, "can't write --out '%s'", s->o.out);
    if ((r = agon_sandbox_open(&s->sandbox, &so, err)))
        return r;
    return agon_run_open_model(&s->model, s->o.model, &mo, err);
}

int agon_verb_solve(int argc, char **argv)
{
    struct agon_err err = {0};
    struct solving s = {.o = {.rollouts = 16,
                              .seed = 1,
                              .parallel = 64,
                              .temperature = 1,
                              .top_p = 1,
                              .context = "discard-75",
                              .trajectories = AGON_TRAJECTORIES_DEFAULT}};
    int n, status;
    if (agon_verb_options(table, &s.o, "usage: agon solve CORPUS|ENVIRONMENT_DIR... [OPTION]...",
                          "Run a solver on every task and print its rates. Nothing in a corpus"
                          " changes.",
                          1, 1000, argc, argv, &n, &status))
        return status;
    int r = solve_open(&s, &err);
    for (int i = 1; i <= n && !r; i++)
        r = solve_path(&s, argv[i], &err);
    if (!r)
        printf("%d of %d tasks passed at least once\n", s.n_kept, s.n_tasks);
    agon_model_free(s.model);
    agon_sandbox_close(s.sandbox);
    agon_prompts_free(s.prompts);
    if (s.out)
        fclose(s.out);
    return r ? agon_verb_fail("solve", &err) : AGON_EXIT_OK;
}
