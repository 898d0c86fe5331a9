/* What a cell reads from its channel: one frame after another into its operations. The driver is
 * not hostile, but a cell that breaks on a cut request would look like a cell that was broken. */
#include "envs/cell_state.h"
#include "envs/ops.h"
#include "sandbox/frame.h"
#include "verifiers/ops.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct agon_worker_op *find(const char *name)
{
    static const struct agon_worker_op *const tables[] = {agon_env_ops, agon_state_ops,
                                                          agon_verifier_ops, NULL};
    for (int t = 0; tables[t]; t++)
        for (const struct agon_worker_op *op = tables[t]; op->name; op++)
            if (strcmp(op->name, name) == 0)
                return op;
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_env_cell *cell AGON_AUTO(agon_env_cell_freep) = agon_env_cell_new();
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_FRAME_SIZE_MAX);
    struct agon_frame_head head;
    assert(cell);
    for (size_t at = 0; size - at >= sizeof(head);) {
        struct agon_err err = {0};
        memcpy(&head, data + at, sizeof(head));
        at += sizeof(head);
        if (agon_frame_check(&head, &err) || head.size > size - at)
            break;
        const struct agon_worker_op *op = find(head.op);
        struct agon_str content = {(const char *)data + at, head.size};
        at += head.size;
        agon_buf_reset(&reply);
        int r = op ? op->run(cell, content, &reply, &err) : 0;
        assert(r <= 0 && (r == 0 || err.text[0]));
        if (r)
            break; /* the cell ends */
    }
    return 0;
}
