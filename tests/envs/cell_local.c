/*
 * Cells without processes, in the place of sandbox/cell.c: requests run in the test
 * program itself, so that sanitizers see the code that is boxed otherwise.
 */
#include "envs/cell_state.h"
#include "envs/ops.h"
#include "sandbox/cell.h"
#include "sandbox/worker.h"
#include "verifiers/ops.h"

#include <stdio.h>
#include <stdlib.h>

struct agon_sandbox {
    int unused;
};
struct agon_cell {
    struct agon_env_cell *state;
    struct agon_buf reply; /* of the request that was started */
    char lost[128];
    int r;
};

int agon_sandbox_open(struct agon_sandbox **ret, const struct agon_sandbox_options *options,
                      struct agon_err *err)
{
    (void)options;
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : agon_fail(err, AGON_ENOMEM, "out of memory");
}

void agon_sandbox_close(struct agon_sandbox *sb)
{
    free(sb);
}

int agon_cell_new(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err)
{
    (void)sb;
    struct agon_cell *c = calloc(1, sizeof(*c));
    if (!c || !(c->state = agon_env_cell_new()))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    *ret = c;
    return 0;
}

void agon_cell_free(struct agon_cell *c)
{
    if (!c)
        return;
    agon_env_cell_free(c->state);
    agon_buf_deinit(&c->reply);
    free(c);
}

int agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                   struct agon_buf *reply, char ret_reason[128], struct agon_err *err)
{
    static const struct agon_worker_op *const tables[] = {agon_env_ops, agon_state_ops,
                                                           agon_verifier_ops, NULL};
    (void)err;
    struct agon_err lost = {0};
    agon_buf_reset(reply);
    int r = agon_fail(&lost, AGON_EINPUT, "worker: no operation '%s'", op);
    for (int t = 0; tables[t]; t++)
        for (const struct agon_worker_op *o = tables[t]; o->name; o++)
            if (!strcmp(o->name, op))
                r = o->run(c->state, request, reply, &lost);
    if (r < 0)
        snprintf(ret_reason, 128, "%.127s", lost.text);
    return r < 0 ? AGON_CELL_LOST : 0;
}

/* What is started is done at once. */
int agon_cell_start(struct agon_cell *c, const char *op, struct agon_str request,
                    struct agon_err *err)
{
    c->reply.size_max = (size_t)64 << 20;
    c->r = agon_cell_call(c, op, request, &c->reply, c->lost, err);
    return c->r < 0 ? c->r : 0;
}

int agon_cell_finish(struct agon_cell *c, struct agon_buf *reply, char ret_reason[128],
                     struct agon_err *err)
{
    agon_buf_reset(reply);
    agon_buf_add_str(reply, agon_buf_str(&c->reply));
    memcpy(ret_reason, c->lost, sizeof(c->lost));
    return c->r ? c->r : agon_buf_check(reply, "reply", err);
}
