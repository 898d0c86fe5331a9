/* A cell that was taken over may send any bytes: whatever they are, the driver reads them or says
 * what is wrong. The first byte picks the request; this file stands in for sandbox/cell.c. */
#include "envs/runtime.h"
#include "sandbox/cell.h"
#include "verifiers/playback.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct agon_cell {
    int unused;
};
static struct agon_str next_reply;

int agon_cell_new(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err)
{
    (void)sb, (void)err;
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : AGON_ENOMEM;
}

void agon_cell_free(struct agon_cell *c)
{
    free(c);
}

int agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                   struct agon_buf *reply, char ret_reason[128], struct agon_err *err)
{
    (void)c, (void)op, (void)request, (void)ret_reason, (void)err;
    agon_buf_reset(reply);
    agon_buf_add_str(reply, next_reply);
    return 0;
}

int agon_cell_start(struct agon_cell *c, const char *op, struct agon_str request,
                    struct agon_err *err)
{
    (void)c, (void)op, (void)request, (void)err;
    return 0;
}

int agon_cell_finish(struct agon_cell *c, struct agon_buf *reply, char ret_reason[128],
                     struct agon_err *err)
{
    return agon_cell_call(c, "", agon_str(""), reply, ret_reason, err);
}

/* A runtime whose env.open went well: status 0 and the text []. */
static struct agon_runtime *open_runtime(struct agon_buf *out)
{
    static const char opened[] = "\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0[]";
    struct agon_runtime *rt = NULL;
    struct agon_err err;
    next_reply = (struct agon_str){opened, sizeof(opened) - 1};
    assert(agon_runtime_open(&rt, NULL, NULL, agon_str(""), out, &err) == 0);
    return rt;
}

static void ask(char what, struct agon_runtime *rt, struct agon_instance *in, struct agon_buf *out)
{
    struct agon_err err;
    if (what == 'c')
        (void)!agon_instance_call(in, "tool", agon_str("{}"), out, &err);
    if (what == 's') {
        struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
        (void)!agon_runtime_solve(rt, agon_str("x"), NULL, &solved, out, &err);
    }
    if (what == 'q') {
        json_auto_t *rows = NULL;
        (void)!agon_instance_sql(in, agon_str("x"), &rows, out, &err);
    }
    struct agon_trial_item item = {agon_str("1"), NULL};
    struct agon_trial_input input = {
        .verifier = agon_str("x"), .solution = agon_str("x"), .items = &item, .n_items = 1};
    if (what == 't') {
        struct agon_trial trial AGON_AUTO(agon_trial_deinit) = {0};
        (void)!agon_trial(rt, &input, &trial, out, &err);
    }
    if (what == 'e') {
        struct agon_play_call call = {agon_str("tool"), agon_str("{}")};
        struct agon_play list[2] = {{&call, 1, agon_str("1")}, {NULL, 0, agon_str("1")}};
        struct agon_playback_input episodes = {
            .verifier = agon_str("x"), .episodes = list, .n_episodes = 2, .results = true};
        struct agon_playback ends AGON_AUTO(agon_playback_deinit) = {0};
        (void)!agon_playback(rt, &episodes, &ends, out, &err);
    }
    if (what == 'v') {
        static char verifier[] = "x";
        struct agon_task task = {.verifier = verifier};
        struct agon_verdict verdict AGON_AUTO(agon_verdict_deinit) = {0};
        (void)!agon_verdict(rt, &task, agon_str("1"), NULL, &verdict, out, &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    struct agon_err err;
    if (size == 0)
        return 0;
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) =
        data[0] == 'o' ? NULL : open_runtime(&out);
    next_reply = (struct agon_str){(const char *)data + 1, size - 1};
    if (!rt) {
        (void)!agon_runtime_open(&rt, NULL, NULL, agon_str(""), &out, &err);
        return 0;
    }
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    assert(agon_instance_new(&in, rt, &err) == 0);
    ask((char)data[0], rt, in, &out);
    return 0;
}
