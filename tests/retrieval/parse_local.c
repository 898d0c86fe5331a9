/*
 * Parser cells without processes, in the place of sandbox/cell.c: documents are taken apart in the
 * test program itself, so that sanitizers see the code that is boxed otherwise.
 */
#include "sandbox/cell.h"
#include "synth/retrieval/parse_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct agon_sandbox {
    int unused;
};
struct agon_cell {
    int unused;
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

int agon_cell_new_parser(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err)
{
    (void)sb;
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : agon_fail(err, AGON_ENOMEM, "out of memory");
}

void agon_cell_free(struct agon_cell *c)
{
    free(c);
}

int agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                   struct agon_buf *reply, char ret_reason[128], struct agon_err *err)
{
    (void)c, (void)err;
    struct agon_err lost = {0};
    agon_buf_reset(reply);
    int r = agon_fail(&lost, AGON_EINPUT, "worker: no operation '%s'", op);
    for (const struct agon_worker_op *o = agon_parse_ops; o->name; o++)
        if (!strcmp(o->name, op))
            r = o->run(NULL, request, reply, &lost);
    if (r < 0)
        snprintf(ret_reason, 128, "%.127s", lost.text);
    return r < 0 ? AGON_CELL_LOST : 0;
}
