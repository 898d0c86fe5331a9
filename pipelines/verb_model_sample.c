/*
 * agon model sample: one long-lived process for a trainer. JSON lines in: completions (many run
 * together, in one batch), scores, and {"load": DIR}, which replaces the weights once everything
 * asked before has ended. JSON lines out, each when it is ready, with the request's "id".
 */
#include "base/json.h"
#include "model/jsontext.h"
#include "pipelines/model_ask.h"
#include "pipelines/model_lines.h"
#include "pipelines/verb.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { JOBS_MAX = 4096 };

struct sample_options {
    int64_t threads, batch, cache_mb;
    const char *device;
    bool routing, indexer;
};

/* A request under way. */
struct job {
    json_t *request; /* owned; names it */
    struct agon_ask ask;
    struct agon_reply *completion;
};

struct sampler {
    struct agon_model *model;
    struct agon_replies *completions;
    struct agon_buf input, reply;
    struct job jobs[JOBS_MAX];
    int n_jobs;
    bool ended; /* no more input */
};

/* ---- replies ------------------------------------------------------------------------ */

static int reply_write(struct agon_buf *reply, struct agon_err *err)
{
    agon_buf_addc(reply, '\n');
    int r = agon_buf_check(reply, "reply", err);
    if (r == 0 &&
        (fwrite(agon_buf_text(reply), 1, reply->size, stdout) != reply->size || fflush(stdout)))
        r = agon_fail(err, AGON_ESYS, "standard output: %s", strerror(errno));
    return r;
}

static void reply_begin(struct agon_buf *reply, const json_t *request)
{
    agon_buf_reset(reply);
    agon_buf_addc(reply, '{');
    agon_lines_id(reply, request);
}

static int reply_error(struct agon_buf *reply, const json_t *request, const char *text,
                       struct agon_err *err)
{
    reply_begin(reply, request);
    agon_buf_adds(reply, "\"error\": ");
    agon_json_dump_string(reply, agon_str(text));
    agon_buf_addc(reply, '}');
    return reply_write(reply, err);
}

/* The turn of a conversation as a message, or why it is none. */
static int add_message(struct agon_buf *b, const struct sampler *s, const struct job *job,
                       const struct agon_choice *choice, struct agon_err *err)
{
    struct agon_turn turn AGON_AUTO(agon_turn_deinit) = {0};
    if (!job->ask.chat || !choice->stopped_at_id)
        return 0;
    int r = agon_local_parse(s->model, job->ask.thinking, choice->ids, choice->n, &turn, err);
    if (r)
        return r;
    agon_buf_adds(b, turn.end == AGON_TURN_OK ? ", \"message\": " : ", \"malformed\": ");
    if (turn.end == AGON_TURN_OK)
        agon_json_dump(b, turn.message);
    else
        agon_json_dump_string(b, agon_str(turn.reason));
    return 0;
}

static int add_choice(struct agon_buf *b, const struct sampler *s, const struct job *job, int i,
                      struct agon_err *err)
{
    struct agon_choice choice = agon_reply_choice(job->completion, i);
    struct agon_trace *trace AGON_AUTO(agon_trace_freep) = NULL;
    agon_buf_addf(b, "%s{\"index\": %d, \"finish_reason\": \"%s\", \"text\": ", i ? ", " : "", i,
                  agon_choice_finish(&choice));
    agon_json_dump_string(b, choice.text);
    if (choice.stop) {
        agon_buf_adds(b, ", \"stop_reason\": ");
        agon_json_dump_string(b, agon_str(choice.stop));
    }
    if (choice.reason)
        agon_buf_addf(b, ", \"reason\": \"%s\"", choice.reason);
    int r = add_message(b, s, job, &choice, err);
    if (r == 0 && job->ask.options.record && choice.n > 0 && choice.end != AGON_CHOICE_FAILED) {
        if ((r = agon_reply_trace(job->completion, i, &trace, err)))
            return r;
        agon_buf_adds(b, ", ");
        agon_trace_json(b, trace);
    }
    agon_buf_addc(b, '}');
    return r;
}

static int job_reply(struct sampler *s, const struct job *job, struct agon_err *err)
{
    int n_cached, n_prompt = agon_reply_prompt(job->completion, &n_cached), r = 0;
    reply_begin(&s->reply, job->request);
    agon_buf_addf(&s->reply,
                  "\"weight_version\": %llu, \"prompt_tokens\": %d, \"cached_tokens\": %d, "
                  "\"completions\": [",
                  (unsigned long long)agon_model_version(s->model), n_prompt, n_cached);
    for (int i = 0; i < agon_reply_choices(job->completion) && r == 0; i++)
        r = add_choice(&s->reply, s, job, i, err);
    agon_buf_adds(&s->reply, "]}");
    return r ? r : reply_write(&s->reply, err);
}

static void job_deinit(struct job *job)
{
    agon_reply_free(job->completion);
    agon_ask_deinit(&job->ask);
    json_decref(job->request);
    *job = (struct job){0};
}

/* Answer those that are done. */
static int jobs_reap(struct sampler *s, struct agon_err *err)
{
    int n = 0, r = 0;
    for (int i = 0; i < s->n_jobs; i++) {
        bool done = r == 0 && agon_reply_done(s->jobs[i].completion);
        if (done)
            r = job_reply(s, &s->jobs[i], err);
        if (done)
            job_deinit(&s->jobs[i]);
        else
            s->jobs[n++] = s->jobs[i];
    }
    s->n_jobs = n;
    return r;
}

/* One step, and answers. */
static int work(struct sampler *s, struct agon_err *err)
{
    (void)agon_replies_step(s->completions); /* what is left shows in the jobs */
    return jobs_reap(s, err);
}

/* ---- requests ----------------------------------------------------------------------- */

static int request_load(struct sampler *s, const json_t *request, struct agon_err *err)
{
    const char *dir = agon_json_text(request, "load", NULL);
    int r = 0;
    while (s->n_jobs > 0 && r == 0) /* what was asked before, is sampled by the old weights */
        r = work(s, err);
    if (r)
        return r;
    if (!dir)
        return agon_fail(err, AGON_EINPUT, "load: not the name of a folder");
    if ((r = agon_replies_load(s->completions, dir, err)))
        return r;
    reply_begin(&s->reply, request);
    agon_buf_adds(&s->reply, "\"loaded\": ");
    agon_json_dump_string(&s->reply, agon_str(dir));
    agon_buf_addf(&s->reply, ", \"weight_version\": %llu, \"model\": ",
                  (unsigned long long)agon_model_version(s->model));
    agon_json_dump_string(&s->reply, agon_str(agon_model_name(s->model)));
    agon_buf_addc(&s->reply, '}');
    return reply_write(&s->reply, err);
}

static int request_score(struct sampler *s, const json_t *request, struct agon_err *err)
{
    reply_begin(&s->reply, request);
    int r = agon_lines_score(s->model, json_object_get(request, "score"), &s->reply, err);
    agon_buf_addc(&s->reply, '}');
    return r ? r : reply_write(&s->reply, err);
}

static int request_sample(struct sampler *s, json_t *request, struct agon_err *err)
{
    struct job job = {0};
    int r = 0;
    while (s->n_jobs == JOBS_MAX && r == 0)
        r = work(s, err);
    if (r || (r = agon_ask_parse(&job.ask, s->model, request, err)))
        return r;
    if ((r = agon_reply_new(&job.completion, s->completions, &job.ask.options, err))) {
        agon_ask_deinit(&job.ask);
        return r;
    }
    job.request = json_incref(request);
    s->jobs[s->n_jobs++] = job;
    return 0;
}

static int request_line(struct sampler *s, struct agon_str line, struct agon_err *err)
{
    json_t *request AGON_AUTO(agon_json_decrefp) = NULL;
    if (line.size == 0)
        return 0;
    int r = agon_json_parse(&request, line, err);
    if (r == 0 && json_object_get(request, "load"))
        r = request_load(s, request, err);
    else if (r == 0 && json_object_get(request, "score"))
        r = request_score(s, request, err);
    else if (r == 0)
        r = request_sample(s, request, err);
    /* A folder that can't be read is the request's fault too. */
    bool theirs = r == AGON_EINPUT || (r == AGON_ESYS && json_object_get(request, "load"));
    return theirs ? reply_error(&s->reply, request, err->text, err) : r;
}

/* ---- the loop ----------------------------------------------------------------------- */

/* Read what there is; waits only where nothing is under way. */
static int input_read(struct sampler *s, struct agon_err *err)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char chunk[65536];
    if (s->ended || poll(&in, 1, s->n_jobs > 0 ? 0 : -1) <= 0)
        return 0; /* EINTR is asked again */
    ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (n < 0)
        return errno == EINTR || errno == EAGAIN
                   ? 0
                   : agon_fail(err, AGON_ESYS, "standard input: %s", strerror(errno));
    s->ended = n == 0;
    agon_buf_add(&s->input, n ? chunk : "\n", n ? (size_t)n : 1); /* a last line may have no end */
    return agon_buf_check(&s->input, "a line", err);
}

static int input_lines(struct sampler *s, struct agon_err *err)
{
    size_t begin = 0;
    const char *end;
    int r = 0;
    while (r == 0 && begin < s->input.size &&
           (end = memchr(s->input.data + begin, '\n', s->input.size - begin))) {
        struct agon_str line = {s->input.data + begin, (size_t)(end - s->input.data) - begin};
        r = request_line(s, line, err);
        begin += line.size + 1;
    }
    if (begin > 0) {
        memmove(s->input.data, s->input.data + begin, s->input.size - begin);
        s->input.size -= begin;
    }
    return r;
}

static int sampler_run(struct sampler *s, struct agon_err *err)
{
    int r = 0;
    while (r == 0 && (!s->ended || s->n_jobs > 0)) {
        if ((r = input_read(s, err)) || (r = input_lines(s, err)))
            break;
        r = work(s, err);
    }
    return r;
}

static void sampler_deinit(struct sampler *s)
{
    for (int i = 0; i < s->n_jobs; i++)
        job_deinit(&s->jobs[i]);
    agon_replies_free(s->completions);
    agon_model_free(s->model);
    agon_buf_deinit(&s->input);
    agon_buf_deinit(&s->reply);
}

int agon_verb_model_sample(int argc, char **argv)
{
    static const struct agon_opt table[] = {
        {"threads", 'j', AGON_OPT_INT, offsetof(struct sample_options, threads), 0, 256, "N",
         "threads to compute with; 0: one a core"},
        {"device", 0, AGON_OPT_TEXT, offsetof(struct sample_options, device), 0, 0, "cpu|cuda",
         AGON_VERB_DEVICE},
        {"batch", 'b', AGON_OPT_INT, offsetof(struct sample_options, batch), 0, 4096, "N",
         "choices that decode together; 0: 64, on a GPU 1024"},
        {"cache-mb", 0, AGON_OPT_INT, offsetof(struct sample_options, cache_mb), 0, 1 << 24, "MB",
         AGON_VERB_CACHE},
        {"routing", 0, AGON_OPT_FLAG, offsetof(struct sample_options, routing), 0, 0, NULL,
         "keep every position's experts, so that requests may record them"},
        {"indexer", 0, AGON_OPT_FLAG, offsetof(struct sample_options, indexer), 0, 0, NULL,
         "keep every position's selection too"},
        {0}};
    static const char about[] =
        "Reads a JSON object a line: {\"id\", \"prompt\" (text or ids) or \"messages\", \"n\", "
        "\"seed\",\n\"temperature\", \"top_p\", \"top_k\", \"max_tokens\", \"stop\", \"record\"}, "
        "{\"score\": {...}} or {\"load\": DIR}.\n"
        "Answers a line for each when it is ready. model/README.md, Records, tells the fields.";
    static struct sampler s; /* half a megabyte: not on the stack */
    struct sample_options o = {0};
    struct agon_err err = {0};
    char spec[4200];
    int n, status;
    if (agon_verb_options(table, &o, "agon model sample DIR < LINES", about, 1, 1, argc, argv, &n,
                          &status))
        return status;
    struct agon_model_options options = {.device = o.device,
                                         .n_threads = (int)o.threads,
                                         .n_batch_max = (int)o.batch,
                                         .cache_mb = (int)o.cache_mb,
                                         .record = (o.routing ? AGON_TRACE_ROUTING : 0) |
                                                   (o.indexer ? AGON_TRACE_INDEXER : 0)};
    s = (struct sampler){.input = AGON_BUF(AGON_LINE_BYTES_MAX), .reply = AGON_BUF(1L << 30)};
    (void)snprintf(spec, sizeof(spec), "local:%s", argv[1]); /* a longer path exists nowhere */
    int r = agon_model_open(&s.model, spec, &options, &err);
    if (r == 0)
        r = agon_replies_new(&s.completions, s.model, &err);
    if (r == 0)
        r = sampler_run(&s, &err);
    sampler_deinit(&s);
    return r ? agon_verb_fail("sample", &err) : AGON_EXIT_OK;
}
