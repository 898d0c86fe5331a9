/*
 * agon-cell, the program inside each box: a worker that runs what envs/ and
 * verifiers/ registered, or the runner of a bash box. agon starts it; it is of no
 * use by hand.
 */
#include "envs/cell_state.h"
#include "envs/ops.h"
#include "envs/world_memory.h"
#include "sandbox/runner.h"
#include "sandbox/worker.h"
#include "verifiers/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Lua mixes the time into the seed of its hashes, and a cell's results must not differ
 * by when it ran: here the clock on the wall stands still. */
time_t time(time_t *ret)
{
    if (ret)
        *ret = 0;
    return 0;
}

static int run_cell(size_t bytes_max)
{
    static const struct agon_worker_op *const tables[] = {agon_env_ops, agon_state_ops,
                                                           agon_verifier_ops, NULL};
    struct agon_env_cell *cell AGON_AUTO(agon_env_cell_freep) = agon_env_cell_new();
    agon_world_memory_use();
    struct agon_worker_options o = {
        .tables = tables, .state = cell, .bytes_max = bytes_max, .filter = true};
    return cell ? agon_worker_main(&o) : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strncmp(argv[1], "--cell=", 7) == 0)
        return run_cell(strtoull(argv[1] + 7, NULL, 10));
    if (argc == 2 && strncmp(argv[1], "--bash=", 7) == 0)
        return agon_runner_main(strtoull(argv[1] + 7, NULL, 10));
    fprintf(stderr, "agon-cell: started by agon, inside a box\n");
    return 2;
}
