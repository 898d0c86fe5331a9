/* Cells, seen from inside: see worker.h. Descriptors: AGON_BOX_FD_* in box.h. */
#include "sandbox/worker.h"

#include "sandbox/box.h"
#include "sandbox/filter.h"
#include "sandbox/frame.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 }; /* its shadow memory and its reports need what the limits forbid */
#else
enum { SANITIZED = 0 };
#endif

static _Atomic uint64_t *worker_heartbeat; /* in memory shared with the driver, or NULL */

void agon_worker_beat(void)
{
    if (worker_heartbeat)
        atomic_fetch_add_explicit(worker_heartbeat, 1, memory_order_relaxed);
}

static int op_echo(void *state, struct agon_str request, struct agon_buf *reply,
                   struct agon_err *err)
{
    (void)state;
    agon_buf_add_str(reply, request);
    return agon_buf_check(reply, "echo", err);
}

static const struct agon_worker_op builtin[] = {{"echo", op_echo}, {0}};

static const struct agon_worker_op *op_find(const struct agon_worker_op *table, const char *name)
{
    for (; table && table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

static const struct agon_worker_op *worker_op(const struct agon_worker_options *o, const char *name)
{
    const struct agon_worker_op *op = op_find(builtin, name);
    for (int i = 0; !op && o->tables && o->tables[i]; i++)
        op = op_find(o->tables[i], name);
    return op;
}

static int worker_limit(const struct agon_worker_options *o, struct agon_err *err)
{
    if (SANITIZED)
        return 0;
    struct rlimit space = {o->bytes_max, o->bytes_max};
    if (o->bytes_max > 0 && setrlimit(RLIMIT_AS, &space) < 0)
        return agon_fail(err, AGON_ESYS, "worker: setrlimit");
    (void)prctl(PR_SET_DUMPABLE, 0); /* /proc/PID of this process is nobody else's */
    return o->filter ? agon_filter_cell_load(err) : 0;
}

static int worker_start(const struct agon_worker_options *o, struct agon_err *err)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, AGON_BOX_FD_HEARTBEAT, 0);
    if (p == MAP_FAILED)
        return agon_fail(err, AGON_EINPUT, "agon-cell is started by agon, inside a box");
    worker_heartbeat = p;
    (void)close(AGON_BOX_FD_HEARTBEAT);
    (void)close(AGON_BOX_FD_PROGRAM);
    int r = worker_limit(o, err);
    if (r)
        return r;
    struct agon_frame_head hello;
    agon_frame_head_init(&hello, "hello", 0, 0);
    return agon_frame_write(AGON_BOX_FD_CHANNEL, &hello, (struct agon_str){0}, err);
}

/* One request; >0 ends the worker in order. */
static int worker_step(const struct agon_worker_options *o, struct agon_buf *in,
                       struct agon_buf *out, struct agon_err *err)
{
    struct agon_frame_head head;
    int r = agon_frame_read(AGON_BOX_FD_CHANNEL, &head, in, err);
    if (r)
        return r;
    agon_worker_beat();
    agon_buf_reset(out);
    const struct agon_worker_op *op = worker_op(o, head.op);
    r = op ? op->run(o->state, agon_buf_str(in), out, err)
           : agon_fail(err, AGON_EINPUT, "worker: no operation '%s'", head.op);
    if (r == 0)
        r = agon_buf_check(out, head.op, err);
    struct agon_str content = r < 0 ? agon_str(err->text) : agon_buf_str(out);
    head.status = r;
    head.size = content.size;
    struct agon_err lost;
    int w = agon_frame_write(AGON_BOX_FD_CHANNEL, &head, content, &lost);
    return r ? r : w;
}

int agon_worker_main(const struct agon_worker_options *o)
{
    struct agon_buf in AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_FRAME_SIZE_MAX);
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_FRAME_SIZE_MAX);
    struct agon_err err = {0};
    int r = worker_start(o, &err);
    while (r == 0)
        r = worker_step(o, &in, &out, &err);
    if (r > 0)
        return 0;
    (void)!write(STDERR_FILENO, err.text,
                 strlen(err.text)); /* the driver reads it when we are gone */
    (void)!write(STDERR_FILENO, "\n", 1);
    return 1;
}
