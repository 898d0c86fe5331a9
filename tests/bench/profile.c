/*
 * One row of the table in this process alone, as often as asked: for perf and callgrind, which
 * cannot look into a box. The code, SQLite's memory included, is the cell's.
 *
 *   profile read|write|verdict N [calls|anew] [json]   N batches of 64 episodes; calls: each is
 *                                                      made; anew: and each row read, too
 *   profile open N                                     N openings, each with a first verdict
 *
 * Prints what one episode or opening took of the processor; the first 1,000 batches count.
 */
#include "base/json.h"
#include "envs/cell_state.h"
#include "envs/world_memory.h"
#include "tests/bench/clock.h"
#include "tests/bench/sample.h"
#include "verifiers/episodes_cell.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static struct agon_err err;

static void check(int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "profile: %s\n", err.text);
    exit(1);
}

enum known { KNOWN_CALLS, KNOWN_ROWS, KNOWN_NOTHING };

/* The request that playback.c would send. */
static void make_request(struct agon_buf *b, const struct sample *s, const char *row, int n,
                         enum known known, bool results)
{
    struct agon_buf schema AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    bool writing = !strcmp(row, "write");
    int n_calls = writing || !strcmp(row, "read") ? SAMPLE_CALLS : 0;
    agon_json_dump(&schema, s->schema);
    agon_wire_add_str(b, agon_buf_str(&schema));
    agon_wire_add_text(b, writing ? s->writing_verifier : s->verifier);
    agon_wire_add_int(b, results);
    agon_wire_add_int(b, known == KNOWN_NOTHING);
    agon_wire_add_int(b, known != KNOWN_CALLS);
    agon_wire_add_int(b, n);
    for (int i = 0; i < n; i++) {
        const struct sample_episode *e = writing ? &s->writing[i] : &s->reading[i];
        agon_wire_add_int(b, n_calls);
        for (int k = 0; k < n_calls; k++) {
            agon_wire_add_str(b, e->calls[k].tool);
            agon_wire_add_str(b, e->calls[k].arguments);
        }
        agon_wire_add_text(b, e->answer);
    }
}

static void cell_open(struct agon_env_cell *cell, const struct sample *s)
{
    check(agon_world_open(&cell->world, agon_buf_str(&s->world), &err));
    check(agon_toolset_load(&cell->toolset, cell->world, agon_str(s->tools), &err));
}

/* After the status and its text: failed calls, judged, and the brief's flags (bit 0: pass). */
static void check_reply(struct agon_str reply, bool results)
{
    struct agon_wire wire = agon_wire_of(reply);
    check((int)agon_wire_int(&wire));
    (void)agon_wire_str(&wire);
    for (int i = 0; results && i < 2 * SAMPLE_CALLS; i += 2) {
        check((int)agon_wire_int(&wire));
        (void)agon_wire_str(&wire);
    }
    int64_t failed = agon_wire_int(&wire), judged = agon_wire_int(&wire);
    if (failed || !judged || !(agon_wire_int(&wire) & 1) || wire.bad)
        exit(1);
}

int main(int argc, char **argv)
{
    enum known known = KNOWN_CALLS;
    bool results = false;
    for (int i = 3; i < argc; i++) {
        known = !strcmp(argv[i], "anew")    ? KNOWN_NOTHING
                : !strcmp(argv[i], "calls") ? KNOWN_ROWS
                                            : known;
        results |= !strcmp(argv[i], "json");
    }
    if (argc < 3)
        return 2;
    bool opening = !strcmp(argv[1], "open");
    struct sample s;
    sample_make(&s);
    (void)sqlite3_shutdown(); /* the sample was made; what follows has the cell's memory */
    agon_world_memory_use();
    struct agon_env_cell *cell AGON_AUTO(agon_env_cell_freep) = agon_env_cell_new();
    struct agon_buf request AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    make_request(&request, &s, argv[1], opening ? 1 : SAMPLE_EPISODES, known, results);
    if (!cell)
        return 1;
    static struct measure all;
    for (int i = 0; i < atoi(argv[2]); i++) {
        struct lap start = lap_start();
        if (opening || i == 0) {
            agon_env_cell_close(cell);
            cell_open(cell, &s);
        }
        agon_buf_reset(&reply);
        check(verifier_op_episodes(cell, agon_buf_str(&request), &reply, &err));
        measure_add(&all, start, opening ? 1 : SAMPLE_EPISODES);
        check_reply(agon_buf_str(&reply), results);
    }
    double median = measure_cpu(&all); /* sorts them */
    printf("median %.3f us of the processor, least %.3f\n", median, all.cpu_us[0]);
    sample_free(&s);
    return 0;
}
