/*
 * The backends exec:COMMAND and exec+lines:COMMAND: any program answers.
 *
 * A worker is one slot for a child process and the turn that it works on. Under exec: the
 * child lives for one turn: the request on its standard input, the answer all of its
 * standard output until it ends. Under exec+lines: it stays, and a turn is one line each
 * way. Children lead their own process group, which is killed when a turn ends badly, so
 * nothing that a command starts outlives it. Their standard error is ours.
 * Formats: model/README.md.
 */
#include "base/clock.h"
#include "base/json.h"
#include "model/backend.h"
#include "model/child.h"
#include "model/jsontext.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    OUTPUT_BYTES_MAX = 16 << 20,
    PARALLEL_MAX = 64, /* children at once */
    TURN_MS_DEFAULT = 600000,
};

enum turn_state { TURN_QUEUED, TURN_RUNNING, TURN_DONE };

struct exec_turn {
    struct exec_turn *next; /* in exec.queue, while queued */
    enum turn_state state;
    struct agon_buf request, output;
    size_t n_sent;
    int64_t deadline_ms;
    bool failed;
    char reason[AGON_REASON_SIZE];
};
struct worker {
    struct agon_child child;
    struct exec_turn *turn; /* borrowed from its session; NULL: idle */
};
struct exec {
    struct agon_model base;
    char *command;
    bool lines;
    int turn_ms_max, n_workers;
    struct exec_turn *queue, **queue_end;
    struct worker workers[PARALLEL_MAX];
};

static void exec_free(struct agon_model *m)
{
    struct exec *exec = (struct exec *)m;
    for (int i = 0; i < exec->n_workers; i++)
        agon_child_kill(&exec->workers[i].child);
    free(exec->command);
    free(exec);
}

/* ---- one turn's way: queued, running, done ---- */

static void turn_done(struct worker *w)
{
    w->turn->state = TURN_DONE;
    w->turn = NULL;
}

static void turn_failed(struct worker *w, const char *fmt, ...) AGON_PRINTF(2, 3);
static void turn_failed(struct worker *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(w->turn->reason, sizeof(w->turn->reason), fmt, ap); /* cut where too long */
    va_end(ap);
    w->turn->failed = true;
    agon_child_kill(&w->child);
    turn_done(w);
}

/* A child that ended meanwhile, or said something unasked: its next line would answer the
 * wrong turn. */
static void worker_drop_stale(struct worker *w)
{
    char byte;
    if (agon_child_lives(&w->child) &&
        (agon_child_ended(&w->child) || agon_child_read(&w->child, &byte, 1) >= 0))
        agon_child_kill(&w->child);
}

static void worker_start(struct exec *exec, struct worker *w)
{
    struct agon_err err;
    worker_drop_stale(w);
    w->turn = exec->queue;
    exec->queue = w->turn->next;
    if (!exec->queue)
        exec->queue_end = &exec->queue;
    w->turn->state = TURN_RUNNING;
    w->turn->deadline_ms = agon_clock_ms() + exec->turn_ms_max;
    if (!agon_child_lives(&w->child) && agon_child_start(&w->child, exec->command, &err))
        turn_failed(w, "exec: %s", err.text);
}

/* Send what the pipe takes. A program that reads nothing is no failure: it may know its answer. */
static void worker_send(struct exec *exec, struct worker *w)
{
    struct exec_turn *turn = w->turn;
    ssize_t n = agon_child_write(&w->child, turn->request.data + turn->n_sent,
                                 turn->request.size - turn->n_sent);
    if (n > 0)
        turn->n_sent += (size_t)n;
    else if (n < 0 && errno != EAGAIN)
        turn->n_sent = turn->request.size;
    if (turn->n_sent == turn->request.size && !exec->lines)
        agon_child_close_in(&w->child);
}

static void worker_read(struct worker *w)
{
    char chunk[65536];
    ssize_t n;
    while ((n = agon_child_read(&w->child, chunk, sizeof(chunk))) > 0)
        agon_buf_add(&w->turn->output, chunk, (size_t)n);
}

static void worker_ended(struct exec *exec, struct worker *w)
{
    int status = agon_child_reap(&w->child);
    if (WIFSIGNALED(status))
        turn_failed(w, "exec: the program was killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status))
        turn_failed(w, "exec: the program ended with exit status %d", WEXITSTATUS(status));
    else if (exec->lines)
        turn_failed(w, "exec: the program ended without an answer");
    else
        turn_done(w);
}

static void worker_move(struct exec *exec, struct worker *w, int64_t now)
{
    struct exec_turn *turn = w->turn;
    bool ended = agon_child_ended(&w->child); /* asked first: what it wrote is in the pipe then */
    if (turn->n_sent < turn->request.size && !ended)
        worker_send(exec, w);
    worker_read(w);
    const char *newline = exec->lines && turn->output.size
                              ? memchr(turn->output.data, '\n', turn->output.size)
                              : NULL;
    if (turn->output.failed)
        turn_failed(w, "exec: the answer is over %d bytes", OUTPUT_BYTES_MAX);
    else if (newline && newline + 1 < turn->output.data + turn->output.size)
        turn_failed(w, "exec: the program answered with more than one line");
    else if (newline)
        turn_done(w);
    else if (ended)
        worker_ended(exec, w);
    else if (now >= turn->deadline_ms)
        turn_failed(w, "exec: no answer in %d ms", exec->turn_ms_max);
}

/* ---- all of them ---- */

static void exec_start_queued(struct exec *exec)
{
    for (int i = 0; i < exec->n_workers; i++)
        while (exec->queue && !exec->workers[i].turn)
            worker_start(exec, &exec->workers[i]); /* a failed start frees the worker again */
}

static int exec_poll(struct agon_model *m, int wait_ms, struct agon_err *err)
{
    struct exec *exec = (struct exec *)m;
    struct pollfd fds[3 * PARALLEL_MAX];
    int64_t now = agon_clock_ms(), until = now + wait_ms;
    nfds_t n = 0;
    exec_start_queued(exec);
    for (int i = 0; i < exec->n_workers; i++) {
        const struct worker *w = &exec->workers[i];
        if (!w->turn)
            continue;
        fds[n++] = (struct pollfd){w->child.ended, POLLIN, 0};
        if (!w->child.out_closed)
            fds[n++] = (struct pollfd){w->child.out, POLLIN, 0};
        if (w->turn->n_sent < w->turn->request.size)
            fds[n++] = (struct pollfd){w->child.in, POLLOUT, 0};
        until = w->turn->deadline_ms < until ? w->turn->deadline_ms : until;
    }
    if (n == 0)
        return 0;
    if (poll(fds, n, until > now ? (int)(until - now) : 0) < 0 && errno != EINTR)
        return agon_fail(err, AGON_ESYS, "exec: poll: %s", strerror(errno));
    for (int i = 0; i < exec->n_workers; i++)
        if (exec->workers[i].turn)
            worker_move(exec, &exec->workers[i], agon_clock_ms());
    exec_start_queued(exec);
    return 0;
}

/* ---- sessions ---- */

static void turn_free(struct exec_turn *turn)
{
    if (!turn)
        return;
    agon_buf_deinit(&turn->request);
    agon_buf_deinit(&turn->output);
    free(turn);
}
AGON_DEFINE_FREEP(struct exec_turn, turn_free)

static void exec_close(struct agon_session *s)
{
    struct exec *exec = (struct exec *)s->model;
    struct exec_turn *turn = s->state;
    for (int i = 0; turn && i < exec->n_workers; i++)
        if (exec->workers[i].turn == turn)
            turn_failed(&exec->workers[i], "exec: cancelled");
    for (struct exec_turn **at = &exec->queue; turn && *at;) {
        if (*at == turn)
            *at = turn->next;
        else
            at = &(*at)->next;
        exec->queue_end = at;
    }
    turn_free(turn);
    s->state = NULL;
}

static int exec_sample(struct agon_session *s, const struct agon_sampling *sampling,
                       struct agon_err *err)
{
    struct exec *exec = (struct exec *)s->model;
    struct exec_turn *turn AGON_AUTO(turn_freep) = calloc(1, sizeof(*turn));
    if (!turn)
        return agon_fail(err, AGON_ENOMEM, "exec: out of memory");
    turn->request = (struct agon_buf)AGON_BUF(AGON_PROMPT_BYTES_MAX);
    turn->output = (struct agon_buf)AGON_BUF(OUTPUT_BYTES_MAX);
    struct agon_buf *b = &turn->request;
    agon_buf_adds(b, "{\"key\": ");
    agon_json_dump_string(b, agon_str(s->key));
    agon_buf_addf(
        b, ", \"thinking\": %s, \"sampling\": {\"temperature\": ", s->thinking ? "true" : "false");
    agon_json_dump_real(b, sampling->temperature);
    agon_buf_adds(b, ", \"top_p\": ");
    agon_json_dump_real(b, sampling->top_p);
    agon_buf_addf(b, ", \"top_k\": %d, \"tokens_max\": %d, \"seed\": %llu}, ", sampling->top_k,
                  sampling->tokens_max, (unsigned long long)sampling->seed);
    int r = agon_request_dump(b, s, false, err);
    agon_buf_adds(b, "}\n");
    if (r || (r = agon_buf_check(b, "exec: request", err)))
        return r;
    *exec->queue_end = turn;
    exec->queue_end = &turn->next;
    s->state = AGON_STEAL(turn);
    return 0;
}

/* The line of a program under exec+lines: {"completion": "..."}, {"error": "..."} or a message. */
static int fill_from_line(struct agon_turn *ret, const struct agon_session *s, struct agon_str line,
                          struct agon_err *err)
{
    json_t *answer AGON_AUTO(agon_json_decrefp) = NULL;
    struct agon_err why;
    int r = agon_json_parse(&answer, line, &why);
    if (r == AGON_ENOMEM)
        return agon_fail(err, r, "%s", why.text);
    const char *error = agon_json_text(answer, "error", NULL);
    const json_t *completion = json_object_get(answer, "completion");
    if (json_is_string(completion))
        return agon_turn_fill_text(
            ret, (struct agon_str){json_string_value(completion), json_string_length(completion)},
            s->thinking, err);
    if (r)
        agon_turn_fail(ret, "exec: the answer is no JSON: %.180s", why.text);
    else if (error)
        agon_turn_fail(ret, "exec: the program says: %.200s", error);
    else
        return agon_turn_fill_text(ret, line, s->thinking, err);
    return 0;
}

static int exec_take(struct agon_session *s, struct agon_turn *ret, struct agon_err *err)
{
    struct exec *exec = (struct exec *)s->model;
    struct exec_turn *turn = s->state;
    if (turn->state != TURN_DONE)
        return 0;
    struct exec_turn *mine AGON_AUTO(turn_freep) = turn;
    s->state = NULL;
    struct agon_str text = agon_buf_str(&mine->output);
    while (text.size && text.data[text.size - 1] == '\n')
        text.size--;
    int r = 0;
    if (mine->failed)
        agon_turn_fail(ret, "%s", mine->reason);
    else if (exec->lines)
        r = fill_from_line(ret, s, text, err);
    else
        r = agon_turn_fill_text(ret, text, s->thinking, err);
    ret->n_prompt_tokens = agon_session_tokens_estimate(s);
    ret->n_tokens = (int)(text.size / 4);
    return r ? r : 1;
}

static const struct agon_backend exec_backend = {
    .free = exec_free,
    .poll = exec_poll,
    .close = exec_close,
    .sample = exec_sample,
    .take = exec_take,
};

int agon_exec_model_open(struct agon_model **ret, const char *command, bool lines,
                         const struct agon_model_options *options, struct agon_err *err)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    if (command[strspn(command, " \t")] == '\0')
        return agon_fail(err, AGON_EINPUT, "exec: no command (exec:COMMAND)");
    if (options->n_parallel_max > PARALLEL_MAX)
        return agon_fail(err, AGON_EINPUT, "exec: at most %d programs at once", PARALLEL_MAX);
    struct exec *exec = calloc(1, sizeof(*exec));
    if (!exec)
        return agon_fail(err, AGON_ENOMEM, "exec: out of memory");
    m = &exec->base;
    m->backend = &exec_backend;
    m->window = AGON_WINDOW_DEFAULT;
    exec->lines = lines;
    exec->queue_end = &exec->queue;
    exec->turn_ms_max = options->turn_ms_max ? options->turn_ms_max : TURN_MS_DEFAULT;
    exec->n_workers = options->n_parallel_max ? options->n_parallel_max : 1;
    for (int i = 0; i < exec->n_workers; i++)
        exec->workers[i].child = AGON_CHILD_NONE;
    if (asprintf(&m->name, "exec%s:%s", lines ? "+lines" : "", command) < 0 ||
        !(exec->command = strdup(command)))
        return agon_fail(err, AGON_ENOMEM, "exec: out of memory");
    *ret = AGON_STEAL(m);
    return 0;
}
