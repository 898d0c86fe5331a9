/*
 * What happens inside a cell between two episodes, in this process (the code is a cell's, SQLite's
 * memory included; the sample is our own): reset after writes, and a fork whose state is made
 * again. The floor is another process, since its SQLite is Debian's as it comes. One JSON object a
 * line, as bench_runtime.c.
 */
#include "envs/cell_state.h"
#include "envs/runtime_wire.h"
#include "envs/solution.h"
#include "envs/world_memory.h"
#include "tests/bench/clock.h"
#include "tests/bench/floor.h"
#include "tests/bench/sample.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 600 };

static struct agon_err err;

static void check(int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "bench: %s\n", err.text);
    exit(1);
}

static json_t *writes_of(const struct sample_episode *e)
{
    static const int writing[SAMPLE_WRITES] = {1, 2, 4, 9};
    json_t *list = json_array();
    for (int i = 0; i < SAMPLE_WRITES; i++) {
        const struct agon_play_call *c = &e->calls[writing[i]];
        json_t *arguments = json_loadb(c->arguments.data, c->arguments.size, 0, NULL);
        if (json_array_append_new(list, json_pack("{s:s%, s:o}", "tool", c->tool.data, c->tool.size,
                                                  "arguments", arguments)))
            exit(1);
    }
    return list;
}

static void replay(struct agon_env_cell *cell, const struct agon_buf *request)
{
    struct agon_wire wire = agon_wire_of(agon_buf_str(request));
    check(agon_session_replay(cell, &wire, &err));
}

/* The writes of `from` are made; then the world is reset. */
static void bench_reset(struct agon_env_cell *cell, const struct agon_buf *request)
{
    static struct measure ours;
    for (int i = 0; i < ROUNDS; i++) {
        replay(cell, request);
        struct lap start = lap_start();
        check(agon_session_reset(cell, &err));
        measure_add(&ours, start, 1);
    }
    measure_print("reset", &ours, NULL);
}

/* ---- the floor ---- */

/* Makes the writes once for each byte that comes, and answers with what that took. */
static void floor_serve(int fd)
{
    struct sample s;
    char byte;
    sample_make(&s);
    struct floor *f = floor_open(&s);
    while (read(fd, &byte, 1) == 1) {
        static struct measure one;
        one.n = 0;
        floor_writes(f, &s.writing[0]); /* as warm as ours are */
        struct lap start = lap_start();
        floor_writes(f, &s.writing[0]);
        measure_add(&one, start, 1);
        struct lap took = {one.wall_us[0], one.cpu_us[0]};
        if (write(fd, &took, sizeof(took)) != sizeof(took))
            break;
    }
    floor_close(f);
    sample_free(&s);
}

static int floor_start(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        exit(1);
    int pid = fork();
    if (pid < 0)
        exit(1);
    (void)close(pair[pid ? 1 : 0]); /* the other's */
    if (pid)
        return pair[0];
    floor_serve(pair[1]);
    exit(0);
}

static void floor_ask(int fd, struct measure *m)
{
    struct lap took;
    if (write(fd, "", 1) != 1 || read(fd, &took, sizeof(took)) != sizeof(took))
        exit(1);
    measure_note(m, took);
}

/* ---- states ---- */

/* The cell stands elsewhere; the instance is forked, and the cell goes to the fork's state. */
static void bench_fork(struct agon_env_cell *cell, const struct sample *s, int floor_fd,
                       const struct agon_buf *elsewhere)
{
    static struct measure ours, floor;
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_buf request AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    json_auto_t *writes = writes_of(&s->writing[0]);
    check(agon_instance_new(&in, NULL, &err));
    check(agon_instance_set_writes(in, writes, &err));
    for (int i = 0; i < ROUNDS; i++) {
        struct agon_instance *fork AGON_AUTO(agon_instance_freep) = NULL;
        replay(cell, elsewhere);
        struct lap start = lap_start();
        check(agon_instance_fork(&fork, in, &err));
        agon_buf_reset(&request);
        check(agon_wire_add_writes(&request, agon_instance_writes(fork), &err));
        replay(cell, &request);
        measure_add(&ours, start, 1);
        floor_ask(floor_fd, &floor);
    }
    measure_print("fork", &ours, &floor);
}

int main(void)
{
    struct sample s;
    struct agon_buf elsewhere AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_env_cell *cell AGON_AUTO(agon_env_cell_freep) = agon_env_cell_new();
    int floor_fd = floor_start();
    sample_make(&s);
    (void)sqlite3_shutdown(); /* what follows has the cell's memory */
    agon_world_memory_use();
    if (!cell)
        return 1;
    check(agon_world_open(&cell->world, agon_buf_str(&s.world), &err));
    check(agon_toolset_load(&cell->toolset, cell->world, agon_str(s.tools), &err));
    json_auto_t *writes = writes_of(&s.writing[1]);
    check(agon_wire_add_writes(&elsewhere, writes, &err));
    bench_reset(cell, &elsewhere);
    bench_fork(cell, &s, floor_fd, &elsewhere);
    sample_free(&s);
    (void)close(floor_fd); /* which ends it */
    return wait(NULL) < 0;
}
