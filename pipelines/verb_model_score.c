/* agon model score: JSON lines of ids in, their log-probabilities out, in order. */
#include "base/json.h"
#include "model/jsontext.h"
#include "pipelines/model_lines.h"
#include "pipelines/verb.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct score_options {
    int64_t threads;
    const char *device;
};

/* One line: its reply, or {"error": ...} where the request is wrong. */
static int score_line(struct agon_model *m, struct agon_str line, struct agon_buf *reply,
                      struct agon_err *err)
{
    json_t *request AGON_AUTO(agon_json_decrefp) = NULL;
    int r = agon_json_parse(&request, line, err);
    agon_buf_reset(reply);
    agon_buf_addc(reply, '{');
    agon_lines_id(reply, request);
    size_t begin = reply->size;
    if (r == 0)
        r = agon_lines_score(m, request, reply, err);
    if (r && r != AGON_EINPUT)
        return r;
    if (r) {
        reply->size = begin; /* what stands before the error is whole */
        agon_buf_adds(reply, "\"error\": ");
        agon_json_dump_string(reply, agon_str(err->text));
    }
    agon_buf_adds(reply, "}\n");
    return agon_buf_check(reply, "reply", err);
}

static int score_lines(struct agon_model *m, struct agon_err *err)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_LINE_BYTES_MAX);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    int r = 0;
    while (r == 0 && (n = getline(&line, &capacity, stdin)) >= 0) {
        struct agon_str text = {line, (size_t)n - (n > 0 && line[n - 1] == '\n')};
        if (text.size == 0)
            continue;
        r = score_line(m, text, &reply, err);
        if (r == 0 &&
            (fwrite(agon_buf_text(&reply), 1, reply.size, stdout) != reply.size || fflush(stdout)))
            r = agon_fail(err, AGON_ESYS, "standard output: %s", strerror(errno));
    }
    free(line);
    return r;
}

int agon_verb_model_score(int argc, char **argv)
{
    static const struct agon_opt table[] = {
        {"threads", 'j', AGON_OPT_INT, offsetof(struct score_options, threads), 0, 256, "N",
         "threads to compute with; 0: one a core"},
        {"device", 0, AGON_OPT_TEXT, offsetof(struct score_options, device), 0, 0, "cpu|cuda",
         AGON_VERB_DEVICE},
        {0}};
    static const char about[] =
        "Reads a JSON object a line: prompt_token_ids, token_ids (these are scored), and if "
        "wanted\n"
        "sampling {temperature, top_p, top_k}, sampling_mask {ids, offsets} and routed_experts "
        "{dtype,\n"
        "shape, data}, as `agon model sample` records them: then these are forced. Writes "
        "logprobs\n"
        "(under the cut distribution), logprobs_raw, n_kept and argmax of each id.";
    struct score_options o = {0};
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_err err = {0};
    char spec[4200];
    int n, status;
    if (agon_verb_options(table, &o, "agon model score DIR < LINES", about, 1, 1, argc, argv, &n,
                          &status))
        return status;
    struct agon_model_options options = {.device = o.device, .n_threads = (int)o.threads};
    (void)snprintf(spec, sizeof(spec), "local:%s", argv[1]); /* a longer path exists nowhere */
    int r = agon_model_open(&m, spec, &options, &err);
    if (r == 0)
        r = score_lines(m, &err);
    return r ? agon_verb_fail("score", &err) : AGON_EXIT_OK;
}
