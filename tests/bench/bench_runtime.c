/*
 * What rollouts and verdicts cost in boxed cells, beside a floor measured by turns with
 * it in the same minute. Prints one JSON object a line; runtime.py makes the table.
 *
 *   bench_runtime                 the rows of the sample world
 *   bench_runtime row ROW         one of them
 *   bench_runtime goldens N JOBS CATALOG   N golden verdicts of the catalogue; prints nothing
 *   bench_runtime catalog DIR...  the golden calls of a task, for plain.py, with our own time
 *   bench_runtime memory N        resident memory of a cell after N/10, 2N/10, ... N rollouts
 */
#include "base/file.h"
#include "base/json.h"
#include "envs/env.h"
#include "sandbox/bashbox.h"
#include "sandbox/cell.h"
#include "tests/bench/clock.h"
#include "tests/bench/floor.h"
#include "tests/bench/rollouts.h"
#include "tests/bench/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROUNDS = 150, CALL_ROUNDS = 300, SLOW_ROUNDS = 40 };

static struct agon_err err;
static struct agon_buf reason = AGON_BUF(4096);

static void check(int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "bench: %s\n", r < 0 ? err.text : agon_buf_text(&reason));
    exit(1);
}

struct bench {
    struct agon_sandbox *sandbox;
    struct agon_runtime *rt;
    struct sample sample;
    struct floor *floor;
    char path[64]; /* of the world */
};

static void bench_open(struct bench *b)
{
    *b = (struct bench){.path = "/tmp/agon-bench-XXXXXX"};
    check(agon_sandbox_open(&b->sandbox, NULL, &err));
    sample_make(&b->sample);
    b->floor = floor_open(&b->sample);
    int fd = mkstemp(b->path);
    if (fd < 0 ||
        write(fd, b->sample.world.data, b->sample.world.size) != (ssize_t)b->sample.world.size ||
        close(fd) < 0)
        exit(1);
    check(agon_runtime_open(&b->rt, b->sandbox, b->path, agon_str(b->sample.tools), &reason, &err));
    long kib;
    measure_watch(largest_child(&kib));
}

static void bench_close(struct bench *b)
{
    agon_runtime_free(b->rt);
    agon_sandbox_close(b->sandbox);
    floor_close(b->floor);
    sample_free(&b->sample);
    (void)unlink(b->path); /* a temporary file */
}

/* ---- episodes against their statements in C ---- */

enum part { PART_ALL, PART_VERDICT };

/* What of an earlier episode's is given again: its calls (envs/recall.h), the rows that it read
 * (envs/memo.h), nothing. */
enum known { KNOWN_CALLS, KNOWN_ROWS, KNOWN_NOTHING };

static void bench_episodes(struct bench *b, const char *row, bool writing, bool results,
                           enum known known, enum part part)
{
    const struct sample_episode *from = writing ? b->sample.writing : b->sample.reading;
    const char *verifier = writing ? b->sample.writing_verifier : b->sample.verifier;
    int first = part == PART_VERDICT ? SAMPLE_STATEMENTS - SAMPLE_VERDICT : 0;
    struct agon_play list[SAMPLE_EPISODES];
    for (int i = 0; i < SAMPLE_EPISODES; i++)
        list[i] = (struct agon_play){from[i].calls, part == PART_VERDICT ? 0 : SAMPLE_CALLS,
                                     agon_str(from[i].answer)};
    struct agon_playback_input input = {.answer_schema = b->sample.schema,
                                        .verifier = agon_str(verifier),
                                        .episodes = list,
                                        .n_episodes = SAMPLE_EPISODES,
                                        .results = results,
                                        .anew = known == KNOWN_NOTHING,
                                        .calls_anew = known == KNOWN_ROWS};
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    static struct measure ours, floor;
    ours.n = floor.n = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct lap start = lap_start();
        check(agon_playback(b->rt, &input, &e, &reason, &err));
        measure_add(&ours, start, SAMPLE_EPISODES);
        start = lap_start();
        for (int i = 0; i < SAMPLE_EPISODES; i++)
            floor_episode(b->floor, &from[i], first);
        measure_add(&floor, start, SAMPLE_EPISODES);
    }
    for (int i = 0; i < SAMPLE_EPISODES; i++)
        if (e.ends[i].n_failed || !e.ends[i].brief.pass) {
            fprintf(stderr, "bench: %s: episode %d: %d calls failed, failed checks %llx\n", row, i,
                    e.ends[i].n_failed, (unsigned long long)e.ends[i].brief.failed);
            exit(1);
        }
    measure_print(row, &ours, &floor);
}

/* ---- one by one ---- */

static void bench_call(struct bench *b)
{
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    static struct measure ours;
    check(agon_instance_new(&in, b->rt, &err));
    for (int round = 0; round < CALL_ROUNDS; round++) {
        const struct agon_play_call *c = &b->sample.reading[round % SAMPLE_EPISODES].calls[1];
        struct lap start = lap_start();
        check(agon_instance_call(in, "get_hotel", c->arguments, &result, &err));
        measure_add(&ours, start, 1);
    }
    measure_print("call", &ours, NULL);
}

static void bench_open_env(struct bench *b)
{
    const struct sample_episode *first = &b->sample.reading[0];
    struct agon_trial_item item = {agon_str(first->answer), NULL};
    struct agon_trial_input input = {.answer_schema = b->sample.schema,
                                     .verifier = agon_str(b->sample.verifier),
                                     .items = &item,
                                     .n_items = 1};
    static struct measure ours, floor;
    for (int round = 0; round < SLOW_ROUNDS; round++) {
        struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
        struct lap start = lap_start();
        check(agon_runtime_reopen(b->rt, b->path, agon_str(b->sample.tools), &reason, &err));
        check(agon_trial(b->rt, &input, &t, &reason, &err));
        measure_add(&ours, start, 1);
        if (!t.briefs[0].pass)
            exit(1);
        start = lap_start();
        floor_first_verdict(&b->sample);
        measure_add(&floor, start, 1);
    }
    measure_print("open", &ours, &floor);
}

/* The floor of a command: the same one spawned and waited for by a small program in the same box,
 * which says how many microseconds each took. */
static const char spawn_bash[] =
    "exec python3 -c \"\n"
    "import os, time\n"
    "for i in range(10):\n"
    "    start = time.monotonic()\n"
    "    os.waitpid(os.posix_spawn('/bin/bash', ['bash', '-c', ':'], os.environ), 0)\n"
    "    print((time.monotonic() - start) * 1e6)\"";

static void note_spawns(struct measure *floor, const char *said)
{
    char *end;
    for (double us; us = strtod(said, &end), end != said; said = end)
        measure_note(floor, (struct lap){us, 0});
}

static void bench_bash(struct bench *b)
{
    enum { EACH = 8 };
    struct agon_bashbox *box AGON_AUTO(agon_bashbox_closep) = NULL;
    static struct measure ours, floor;
    check(agon_bashbox_open(&box, b->sandbox, &(struct agon_bashbox_options){0}, &err));
    for (int round = 0; round < SLOW_ROUNDS * 2; round++) {
        struct agon_bash_result result AGON_AUTO(agon_bash_result_deinit) = {0};
        bool spawns = round % EACH == 0;
        struct lap start = lap_start();
        check(agon_bashbox_run(box, agon_str(spawns ? spawn_bash : ":"), 10000, &result, &err));
        if (spawns)
            note_spawns(&floor, agon_buf_text(&result.output));
        else
            measure_add(&ours, start, 1);
        if (result.exit_status)
            exit(1);
    }
    measure_print("bash", &ours, &floor);
}

static void bench_rows(const char *only)
{
    static const struct {
        const char *row;
        bool writing, results;
        enum known known;
        enum part part;
    } episodes[] = {
        {"read", false, false, KNOWN_CALLS, PART_ALL},
        {"read_calls", false, false, KNOWN_ROWS, PART_ALL},
        {"read_anew", false, false, KNOWN_NOTHING, PART_ALL},
        {"write", true, false, KNOWN_CALLS, PART_ALL},
        {"write_calls", true, false, KNOWN_ROWS, PART_ALL},
        {"write_anew", true, false, KNOWN_NOTHING, PART_ALL},
        {"read_json", false, true, KNOWN_CALLS, PART_ALL},
        {"read_json_calls", false, true, KNOWN_ROWS, PART_ALL},
        {"read_json_anew", false, true, KNOWN_NOTHING, PART_ALL},
        {"verdict", false, false, KNOWN_ROWS, PART_VERDICT},
        {"verdict_anew", false, false, KNOWN_NOTHING, PART_VERDICT},
    };
    static const struct {
        const char *row;
        void (*run)(struct bench *b);
    } others[] = {{"call", bench_call}, {"open", bench_open_env}, {"bash", bench_bash}};
    struct bench b;
    bench_open(&b);
    for (size_t i = 0; i < sizeof(episodes) / sizeof(*episodes); i++)
        if (!only || !strcmp(only, episodes[i].row))
            bench_episodes(&b, episodes[i].row, episodes[i].writing, episodes[i].results,
                           episodes[i].known, episodes[i].part);
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (!only || !strcmp(only, others[i].row))
            others[i].run(&b);
    bench_close(&b);
}

static void bench_memory(int n)
{
    long kib[ROLLOUTS_POINTS] = {0};
    check(rollouts_memory(n, kib, &err));
    printf("{\"row\": \"memory\", \"rollouts\": %d, \"kib\": [", n);
    for (int i = 0; i < ROLLOUTS_POINTS; i++)
        printf("%s%ld", i ? ", " : "", kib[i]);
    printf("]}\n");
}

int main(int argc, char **argv)
{
    if (argc == 1 || (argc == 3 && !strcmp(argv[1], "row")))
        bench_rows(argc == 3 ? argv[2] : NULL);
    else if (argc == 5 && !strcmp(argv[1], "goldens"))
        check(rollouts_goldens(atoi(argv[2]), atoi(argv[3]), argv[4], &err));
    else if (argc > 2 && !strcmp(argv[1], "catalog"))
        for (int i = 2; i < argc; i++)
            check(rollouts_catalog(argv[i], &err));
    else if (argc == 3 && !strcmp(argv[1], "memory"))
        bench_memory(atoi(argv[2]));
    else
        return 2;
    return 0;
}
