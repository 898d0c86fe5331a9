/* What all backends share: see backend.h. */
#include "model/model.h"

#include "base/json.h"
#include "model/backend.h"
#include "model/jsontext.h"
#include "model/local.h"
#include "model/message.h"
#include "model/record.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

static bool strip(const char **spec, const char *scheme)
{
    size_t size = strlen(scheme);
    if (strncmp(*spec, scheme, size) != 0)
        return false;
    *spec += size;
    return true;
}

static int open_backend(struct agon_model **ret, const char *spec,
                        const struct agon_model_options *options, struct agon_err *err)
{
    const char *url = spec;
    if (strip(&url, "http://") || strip(&url, "https://"))
        return agon_http_model_open(ret, spec, options, err);
    if (strip(&spec, "exec+lines:"))
        return agon_exec_model_open(ret, spec, true, options, err);
    if (strip(&spec, "exec:"))
        return agon_exec_model_open(ret, spec, false, options, err);
    if (strip(&spec, "replay:"))
        return agon_replay_model_open(ret, spec, options, err);
    if (!*spec)
        return agon_local_model_open(ret, NULL, options, err);
    if (strip(&spec, "local:"))
        return agon_local_model_open(ret, spec, options, err);
    return agon_fail(err, AGON_EINPUT,
                     "model '%.200s': not local:DIR, http://..., https://..., exec:COMMAND, "
                     "exec+lines:COMMAND or replay:FILE",
                     spec);
}

int agon_model_open(struct agon_model **ret, const char *spec,
                    const struct agon_model_options *options, struct agon_err *err)
{
    static const struct agon_model_options defaults;
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    if (!options)
        options = &defaults;
    int r = open_backend(&m, spec ? spec : "", options, err);
    if (r)
        return r;
    if (options->record_path && (r = agon_record_open(&m->record, options->record_path, m, err)))
        return r;
    *ret = AGON_STEAL(m);
    return 0;
}

void agon_model_free(struct agon_model *m)
{
    if (!m)
        return;
    assert(m->n_sessions == 0); /* sessions end before their model */
    agon_record_free(m->record);
    free(m->name);
    m->backend->free(m);
}

const char *agon_model_dir(const struct agon_model *m)
{
    return m->dir;
}

const char *agon_model_name(const struct agon_model *m)
{
    return m->name;
}

int agon_model_window(const struct agon_model *m)
{
    return m->window;
}

int agon_model_load(struct agon_model *m, const char *dir, struct agon_err *err)
{
    if (!m->backend->load)
        return agon_fail(err, AGON_EINPUT, "%s: its weights can't be replaced", m->name);
    return m->backend->load(m, dir, err);
}

uint64_t agon_model_version(const struct agon_model *m)
{
    return m->backend->version ? m->backend->version(m) : 0;
}

/* ---- sessions ---- */

static int session_alloc(struct agon_session **ret, struct agon_model *m,
                         enum agon_thinking thinking, struct agon_err *err)
{
    struct agon_session *s = calloc(1, sizeof(*s));
    if (!s)
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    s->model = m;
    s->thinking = thinking;
    m->n_sessions++;
    *ret = s;
    return 0;
}

int agon_session_new(struct agon_session **ret, struct agon_model *m, enum agon_thinking thinking,
                     const json_t *messages, struct agon_err *err)
{
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    int r = session_alloc(&s, m, thinking, err);
    if (r)
        return r;
    if (!(s->messages = json_array()))
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    if ((r = agon_session_append(s, messages, err)))
        return r;
    *ret = AGON_STEAL(s);
    return 0;
}

int agon_session_fork(struct agon_session **ret, struct agon_session *s, struct agon_err *err)
{
    struct agon_session *child AGON_AUTO(agon_session_freep) = NULL;
    if (s->in_flight)
        return agon_fail(err, AGON_EINPUT, "session: fork while a turn is in flight");
    int r = session_alloc(&child, s->model, s->thinking, err);
    if (r)
        return r;
    /* The list is copied, the messages in it are shared: nobody changes them. */
    if (!(child->messages = json_copy(s->messages)))
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    child->n_calls = s->n_calls;
    if (s->model->backend->fork && (r = s->model->backend->fork(child, s, err)))
        return r;
    *ret = AGON_STEAL(child);
    return 0;
}

void agon_session_free(struct agon_session *s)
{
    if (!s)
        return;
    if (s->model->backend->close)
        s->model->backend->close(s);
    s->model->n_sessions--;
    json_decref(s->messages);
    free(s->key);
    free(s);
}

int agon_session_append(struct agon_session *s, const json_t *messages, struct agon_err *err)
{
    size_t n_old = json_array_size(s->messages);
    int n_calls = s->n_calls;
    if (s->in_flight)
        return agon_fail(err, AGON_EINPUT, "session: append while a turn is in flight");
    int r = agon_messages_append(s->messages, &s->n_calls, messages, err);
    if (r)
        return r;
    if (s->model->backend->append && (r = s->model->backend->append(s, n_old, err))) {
        s->n_calls = n_calls;
        while (json_array_size(s->messages) > n_old)
            (void)json_array_remove(s->messages, n_old); /* can't fail: the index exists */
    }
    return r;
}

static size_t message_bytes(const json_t *message)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    size_t size = strlen(agon_json_text(message, "content", "")) +
                  strlen(agon_json_text(message, "reasoning_content", ""));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        size += strlen(agon_json_text(function, "name", "")) +
                strlen(agon_json_text(function, "arguments", ""));
    }
    if (json_object_get(message, "tools")) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_PROMPT_BYTES_MAX);
        agon_json_dump(&b, json_object_get(message, "tools"));
        size += b.size;
    }
    return size;
}

int agon_session_tokens(const struct agon_session *s)
{
    return s->model->backend->tokens ? s->model->backend->tokens(s)
                                     : agon_session_tokens_estimate(s);
}

int agon_session_tokens_estimate(const struct agon_session *s)
{
    size_t size = 0;
    for (size_t i = 0; i < json_array_size(s->messages); i++)
        size += message_bytes(json_array_get(s->messages, i));
    return (int)(size / 4);
}

/* ---- turns ---- */

int agon_session_sample(struct agon_session *s, const struct agon_sampling *sampling,
                        struct agon_err *err)
{
    if (s->in_flight)
        return agon_fail(err, AGON_EINPUT, "session: a turn is in flight already");
    if (!agon_messages_await_turn(s->messages))
        return agon_fail(err, AGON_EINPUT,
                         "session: it is not the assistant's turn: the last message "
                         "is neither a user's nor the last result");
    if (sampling->tokens_max <= 0)
        return agon_fail(err, AGON_EINPUT, "sampling: tokens_max is %d", sampling->tokens_max);
    char *key = strdup(sampling->key ? sampling->key : "");
    if (!key)
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    free(s->key);
    s->key = key;
    int r = s->model->backend->sample(s, sampling, err);
    s->in_flight = r == 0;
    return r;
}

int agon_model_poll(struct agon_model *m, int wait_ms, struct agon_err *err)
{
    return m->backend->poll ? m->backend->poll(m, wait_ms, err) : 0;
}

int agon_session_take(struct agon_session *s, struct agon_turn *ret, struct agon_err *err)
{
    struct agon_turn turn AGON_AUTO(agon_turn_deinit) = {0};
    if (!s->in_flight)
        return agon_fail(err, AGON_EINPUT, "session: no turn is in flight");
    int r = s->model->backend->take(s, &turn, err);
    if (r == 0)
        return 0;
    s->in_flight = false;
    if (r < 0)
        return r;
    if (s->model->record && turn.end != AGON_TURN_FAILED &&
        (r = agon_record_turn(s->model->record, s, &turn, err)))
        return r;
    if (turn.end == AGON_TURN_OK &&
        ((r = agon_message_number(turn.message, &s->n_calls, err)) ||
         json_array_append_new(s->messages, json_deep_copy(turn.message))))
        return r ? r : agon_fail(err, AGON_ENOMEM, "session: out of memory");
    *ret = turn;
    turn = (struct agon_turn){0};
    return 1;
}

void agon_turn_deinit(struct agon_turn *t)
{
    json_decref(t->message);
    free(t->text);
    agon_trace_free(t->trace);
    *t = (struct agon_turn){0};
}

void agon_turn_fail(struct agon_turn *turn, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    turn->end = AGON_TURN_FAILED;
    (void)vsnprintf(turn->reason, sizeof(turn->reason), fmt, ap); /* cut where too long */
    va_end(ap);
}

/* r is what a parse returned; message is taken. */
static int turn_settle(struct agon_turn *turn, int r, json_t *message, struct agon_str text,
                       struct agon_err *err)
{
    if (r < 0)
        return r;
    if (r == 0)
        r = agon_message_check(message, turn->reason);
    if (r >= 0)
        turn->text = strndup(text.size ? text.data : "", text.size);
    if (r || !turn->text)
        json_decref(message);
    if (r < 0 || !turn->text)
        return agon_fail(err, AGON_ENOMEM, "turn: out of memory");
    turn->end = r ? AGON_TURN_MALFORMED : AGON_TURN_OK;
    turn->message = r ? NULL : message;
    return 0;
}

int agon_turn_fill(struct agon_turn *turn, const struct agon_completion *completion,
                   enum agon_thinking thinking, struct agon_err *err)
{
    json_t *message = NULL;
    int r = agon_completion_parse(&message, completion, thinking, turn->reason, err);
    return turn_settle(turn, r, message, completion->text, err);
}

int agon_turn_fill_text(struct agon_turn *turn, struct agon_str text, enum agon_thinking thinking,
                        struct agon_err *err)
{
    json_t *message = NULL;
    int r = agon_turn_text_parse(&message, text, thinking, turn->reason, err);
    return turn_settle(turn, r, message, text, err);
}
