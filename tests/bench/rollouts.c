#include "tests/bench/rollouts.h"

#include "base/file.h"
#include "base/json.h"
#include "envs/env.h"
#include "sandbox/cell.h"
#include "tests/bench/clock.h"
#include "tests/bench/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { JOBS_MAX = 64, BATCH = 256, CATALOG_BATCH = 16, CATALOG_ROUNDS = 60, CALLS_MAX = 2000 };

static struct agon_buf reason = AGON_BUF(4096);

/* Calls from a JSON array of {"tool", "arguments"}; their texts are kept in `texts`. */
static int calls_of(const json_t *list, struct agon_buf *texts, struct agon_play_call *ret)
{
    size_t n = json_array_size(list), offsets[CALLS_MAX + 1];
    if (n > CALLS_MAX)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        offsets[i] = texts->size;
        agon_json_dump(texts, json_object_get(json_array_get(list, i), "arguments"));
        ret[i].tool = agon_str(agon_json_text(json_array_get(list, i), "tool", ""));
    }
    offsets[n] = texts->size;
    for (size_t i = 0; i < n; i++)
        ret[i].arguments = (struct agon_str){texts->data + offsets[i], offsets[i + 1] - offsets[i]};
    return (int)n;
}

/* ---- goldens ---- */

struct job {
    struct agon_runtime *rt;
    struct agon_playback_input input;
    struct agon_playback ends;
    bool busy;
};
struct goldens {
    struct agon_sandbox *sandbox;
    struct job jobs[JOBS_MAX];
    int n_jobs, turn;
    const char *dir;
    int n_each;
};

static int job_end(struct job *j, struct agon_err *err)
{
    if (!j->busy)
        return 0;
    j->busy = false;
    int r = agon_playback_end(j->rt, &j->input, &j->ends, &reason, err);
    if (r > 0)
        return agon_fail(err, AGON_EINPUT, "goldens: %s", agon_buf_text(&reason));
    for (int i = 0; !r && i < j->ends.n_ends; i++)
        if (!j->ends.ends[i].brief.pass)
            r = agon_fail(err, AGON_EINPUT, "goldens: an answer does not pass");
    return r;
}

static int goldens_task(struct goldens *g, const struct agon_task *task, struct agon_err *err)
{
    static struct agon_play list[BATCH];
    static struct agon_play_call calls[CALLS_MAX];
    struct agon_buf texts AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    int n_calls = calls_of(json_object_get(task->golden, "writes"), &texts, calls), r = 0;
    agon_json_dump(&answer, json_object_get(task->golden, "answer"));
    for (int i = 0; i < BATCH; i++)
        list[i] = (struct agon_play){calls, n_calls, agon_buf_str(&answer)};
    for (int left = g->n_each; left > 0 && !r; left -= BATCH) {
        struct job *j = &g->jobs[g->turn++ % g->n_jobs];
        r = job_end(j, err);
        j->input = (struct agon_playback_input){.answer_schema = task->answer_schema,
                                                .verifier = agon_str(task->verifier),
                                                .episodes = list,
                                                .n_episodes = left < BATCH ? left : BATCH};
        if (!r)
            r = agon_playback_begin(j->rt, &j->input, &j->ends, err);
        j->busy = !r;
    }
    for (int i = 0; i < g->n_jobs && !r; i++) /* the texts go */
        r = job_end(&g->jobs[i], err);
    return r;
}

static int goldens_env(const char *name, void *user, struct agon_err *err)
{
    struct goldens *g = user;
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s/env.json", g->dir, name);
    if (access(path, R_OK) != 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", g->dir, name);
    int r = agon_env_load(&env, path, err);
    for (int i = 0; i < g->n_jobs && !r; i++) {
        struct job *j = &g->jobs[i];
        r = j->rt ? agon_runtime_reopen(j->rt, env->world_path, agon_str(env->tools), &reason, err)
                  : agon_runtime_open(&j->rt, g->sandbox, env->world_path, agon_str(env->tools),
                                      &reason, err);
    }
    for (int i = 0; !r && i < env->n_tasks; i++)
        r = goldens_task(g, &env->tasks[i], err);
    return r;
}

static int count_tasks(const char *name, void *user, struct agon_err *err)
{
    struct goldens *g = user;
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s/env.json", g->dir, name);
    if (access(path, R_OK) != 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", g->dir, name);
    int r = agon_env_load(&env, path, err);
    if (!r)
        g->n_each += env->n_tasks;
    return r;
}

int rollouts_goldens(int n, int jobs, const char *dir, struct agon_err *err)
{
    struct goldens g = {.dir = dir, .n_jobs = jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : jobs};
    struct agon_sandbox_options so = {.keep_first = true};
    int r = agon_sandbox_open(&g.sandbox, &so, err);
    if (!r)
        r = agon_dir_each(dir, count_tasks, &g, err);
    if (!r && g.n_each == 0)
        r = agon_fail(err, AGON_EINPUT, "goldens: no task below %s", dir);
    if (!r) {
        g.n_each = (n + g.n_each - 1) / g.n_each;
        r = agon_dir_each(dir, goldens_env, &g, err);
    }
    for (int i = 0; i < g.n_jobs; i++) {
        agon_runtime_free(g.jobs[i].rt);
        agon_playback_deinit(&g.jobs[i].ends);
    }
    agon_sandbox_close(g.sandbox);
    return r;
}

/* ---- a task's own calls ---- */

static void add_field(struct agon_buf *b, const char *name, struct agon_str text)
{
    agon_buf_addf(b, ", \"%s\": ", name);
    agon_buf_add_str(b, text);
}

static int catalog_run(struct agon_runtime *rt, const struct agon_task *task, struct agon_buf *out,
                       struct agon_err *err)
{
    static struct agon_play_call calls[CALLS_MAX];
    static struct measure ours;
    struct agon_buf texts AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    struct agon_buf list_text AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    struct agon_trial_input trial = {.answer_schema = task->answer_schema,
                                     .verifier = agon_str(task->verifier),
                                     .solution = agon_str(task->solution)};
    int r = agon_trial(rt, &trial, &t, &reason, err);
    if (r || !t.solved)
        return r < 0 ? r : agon_fail(err, AGON_EINPUT, "%s: not solved", task->id);
    int n_calls = calls_of(t.run.calls, &texts, calls);
    agon_json_dump(&answer, t.run.answer);
    struct agon_play list[CATALOG_BATCH];
    for (int i = 0; i < CATALOG_BATCH; i++)
        list[i] = (struct agon_play){calls, n_calls, agon_buf_str(&answer)};
    struct agon_playback_input input = {.answer_schema = task->answer_schema,
                                        .verifier = agon_str(task->verifier),
                                        .episodes = list,
                                        .n_episodes = CATALOG_BATCH,
                                        .results = true,
                                        .calls_anew = true}; /* as Python makes them */
    long kib;
    measure_watch(largest_child(&kib));
    ours.n = 0;
    for (int i = 0; i < CATALOG_ROUNDS && !r; i++) {
        struct lap start = lap_start();
        r = agon_playback(rt, &input, &e, &reason, err);
        measure_add(&ours, start, CATALOG_BATCH);
    }
    if (r || !e.ends[0].brief.pass)
        return r < 0 ? r : agon_fail(err, AGON_EINPUT, "%s: its answer does not pass", task->id);
    agon_json_dump(&list_text, t.run.calls);
    add_field(out, "answer", agon_buf_str(&answer));
    add_field(out, "calls", agon_buf_str(&list_text));
    agon_buf_addf(out, ", \"us\": %.3f, \"cpu\": %.3f, \"results\": [", measure_wall(&ours),
                  measure_cpu(&ours));
    for (int i = 0; i < n_calls; i++) {
        agon_buf_adds(out, i ? ", " : "");
        agon_json_dump_string(out, e.results[i].text);
    }
    agon_buf_adds(out, "]}");
    return agon_buf_check(out, "catalog", err);
}

int rollouts_catalog(const char *dir, struct agon_err *err)
{
    struct agon_sandbox *sandbox AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_env *env AGON_AUTO(agon_env_freep) = NULL;
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    char path[4096];
    const char *id = strrchr(dir, '/');
    snprintf(path, sizeof(path), "%s/../..", dir);
    int r = agon_sandbox_open(&sandbox, NULL, err);
    if (r || (r = agon_env_load(&env, path, err)) ||
        (r = agon_runtime_open(&rt, sandbox, env->world_path, agon_str(env->tools), &reason, err)))
        return r;
    for (int i = 0; id && i < env->n_tasks; i++) {
        if (strcmp(env->tasks[i].id, id + 1) != 0)
            continue;
        agon_buf_addf(&out, "{\"env\": \"%s\", \"task\": \"%s\"", env->id, id + 1);
        r = catalog_run(rt, &env->tasks[i], &out, err);
        if (!r)
            puts(agon_buf_text(&out));
        return r;
    }
    return agon_fail(err, AGON_EINPUT, "%s: no such task", dir);
}

/* ---- memory ---- */

/* What models do beside good calls. */
static void memory_bad_calls(struct agon_play_call calls[SAMPLE_CALLS])
{
    static const struct {
        const char *tool, *arguments;
    } bad[] = {
        {"no_such_tool", "{}"},
        {"get_hotel", "{\"hotel\": 7}"},
        {"get_hotel", "not JSON"},
        {"get_flight", "{\"flight\": \"no such flight\"}"},
        {"find_flights", "{\"from_city\": \"x\"}"},
        {"book_room", "{\"booking\": 1, \"hotel\": \"a\", \"guest\": \"b\", \"nights\": 1}"},
        {"book_room", "{\"booking\": 1, \"hotel\": \"a\", \"guest\": \"b\", \"nights\": 1}"},
        {"take_seat", "{\"flight\": \"none\"}"},
        {"price_range", "{\"city\": \"\\u00e4\\u4e2d\"}"},
        {"list_hotels", "{\"city\": \"City\", \"more\": 1}"},
    };
    for (int i = 0; i < SAMPLE_CALLS; i++)
        calls[i] = (struct agon_play_call){agon_str(bad[i].tool), agon_str(bad[i].arguments)};
}

/* A tool whose SQL is another text each time, which no cache should keep for ever. */
static const char made_up_tool[] =
    "tool{ name = 'made_up', description = 'A statement of its own.',\n"
    "  params = [[{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}}}]],\n"
    "  returns = [[{\"type\": \"array\", \"items\": {\"type\": \"object\"}}]],\n"
    "  run = function(world, a) return world:rows('SELECT ' .. a.n .. ' AS n_' .. a.n) end }\n";

static void memory_made_up(struct agon_play_call *call, char text[48], int n)
{
    int size = snprintf(text, 48, "{\"n\": %d}", n);
    *call = (struct agon_play_call){agon_str("made_up"), {text, (size_t)size}};
}

static int memory_run(struct agon_runtime *rt, const struct sample *s, int n,
                      long ret_kib[ROLLOUTS_POINTS], struct agon_err *err)
{
    struct agon_play_call bad[SAMPLE_CALLS], made_up[SAMPLE_CALLS];
    char texts[SAMPLE_CALLS][48];
    struct agon_play list[SAMPLE_EPISODES];
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    struct agon_playback_input input = {.answer_schema = s->schema,
                                        .episodes = list,
                                        .n_episodes = SAMPLE_EPISODES,
                                        .results = true};
    int r = 0, done = 0, tenth = 0;
    memory_bad_calls(bad);
    for (int round = 0; done < n && !r; round++) {
        bool writing = round % 2;
        for (int i = 0; i < SAMPLE_CALLS; i++)
            memory_made_up(&made_up[i], texts[i], round * SAMPLE_CALLS + i);
        for (int i = 0; i < SAMPLE_EPISODES; i++) {
            const struct sample_episode *from = writing ? &s->writing[i] : &s->reading[i];
            const struct agon_play_call *calls = i % 8 == 7   ? bad
                                                 : i % 8 == 3 ? made_up
                                                              : from->calls;
            list[i] = (struct agon_play){calls, SAMPLE_CALLS, agon_str(from->answer)};
        }
        input.verifier = agon_str(writing ? s->writing_verifier : s->verifier);
        r = agon_playback(rt, &input, &e, &reason, err);
        done += SAMPLE_EPISODES;
        while (!r && tenth < ROLLOUTS_POINTS && done >= n / ROLLOUTS_POINTS * (tenth + 1))
            (void)largest_child(&ret_kib[tenth++]); /* 0 where there is none */
    }
    return r;
}

int rollouts_memory(int n, long ret_kib[ROLLOUTS_POINTS], struct agon_err *err)
{
    struct agon_sandbox *sandbox AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    char path[] = "/tmp/agon-bench-XXXXXX";
    struct sample s;
    int r = agon_sandbox_open(&sandbox, NULL, err);
    if (r)
        return r;
    sample_make(&s);
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, s.world.data, s.world.size) != (ssize_t)s.world.size || close(fd) < 0)
        exit(1);
    struct agon_buf tools AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_buf_adds(&tools, s.tools);
    agon_buf_adds(&tools, made_up_tool);
    r = agon_runtime_open(&rt, sandbox, path, agon_buf_str(&tools), &reason, err);
    (void)unlink(path); /* a temporary file, and read */
    if (!r)
        r = memory_run(rt, &s, n, ret_kib, err);
    sample_free(&s);
    return r;
}
