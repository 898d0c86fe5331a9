/* A parser that a document has taken over, in the place of agon-parse: what it answers depends on
 * the document's address. */
#include "envs/wire.h"
#include "sandbox/worker.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool about(struct agon_str request, const char *what)
{
    return memmem(request.data, request.size < 200 ? request.size : 200, what, strlen(what)) !=
           NULL;
}

static int op_any(void *state, struct agon_str request, struct agon_buf *reply,
                  struct agon_err *err)
{
    (void)state;
    char noise[64];
    memset(noise, 0xff, sizeof(noise));
    if (about(request, "crash"))
        abort();
    while (about(request, "hang"))
        ;
    if (about(request, "quit"))
        _exit(0);
    if (about(request, "fail"))
        return agon_fail(err, AGON_EINPUT, "a reason\nof two lines \x1b[2J");
    if (about(request, "noise"))
        agon_buf_add(reply, noise, sizeof(noise));
    if (about(request, "huge")) /* sizes and counts far beyond what is there */
        for (int i = 0; i < 8; i++)
            agon_wire_add_int(reply, INT64_MAX - i);
    if (about(request, "negative"))
        for (int i = 0; i < 8; i++)
            agon_wire_add_int(reply, i == 0 ? 0 : -i);
    if (about(request, "wide")) { /* a table of more columns and rows than any */
        agon_wire_add_int(reply, 0);
        agon_wire_add_int(reply, 1 << 20);
        agon_wire_add_int(reply, 1 << 30);
        for (int i = 0; i < 1000; i++)
            agon_wire_add_int(reply, 0);
    }
    if (about(request, "kind")) { /* one cell of no kind */
        for (int i = 0; i < 4; i++)
            agon_wire_add_int(reply, i == 0 || i == 3 ? 0 : 1);
        agon_wire_add_text(reply, "a");
        agon_wire_add_int(reply, 77);
        agon_wire_add_text(reply, "1");
    }
    if (about(request, "number")) { /* an integer that is a long text */
        for (int i = 0; i < 4; i++)
            agon_wire_add_int(reply, i == 0 || i == 3 ? 0 : 1);
        agon_wire_add_text(reply, "a");
        agon_wire_add_int(reply, 2);
        agon_wire_add_text(
            reply, "1234567890123456789012345678901234567890123456789012345678901234567890");
    }
    return agon_buf_check(reply, "hostile", err);
}

int main(int argc, char **argv)
{
    static const struct agon_worker_op ops[] = {{"doc.render", op_any},
                                                {"doc.words", op_any},
                                                {"doc.table", op_any},
                                                {"doc.robots", op_any},
                                                {0}};
    static const struct agon_worker_op *const tables[] = {ops, NULL};
    struct agon_worker_options o = {
        .tables = tables, .bytes_max = argc == 2 ? 1UL << 30 : 0, .filter = argv[1] != NULL};
    return agon_worker_main(&o);
}
