/*
 * One HTTP request. libmicrohttpd calls exchange_handle() for its header, then for each piece of
 * its body, then once more; a completion is then suspended until there is something to send. A
 * whole answer resumes it to be called again; a stream is read by stream_read() as it grows.
 */
#include "base/clock.h"
#include "base/json.h"
#include "pipelines/serve_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OUT_BYTES_MAX = 256 << 20, STREAM_BYTES_MAX = 16 << 20 };

/* ---- answers ------------------------------------------------------------------------ */

static enum MHD_Result answer_send(struct exchange *x, unsigned status, const char *type)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        x->out.size, x->out.size ? x->out.data : NULL, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    /* What can't be set, is left out: there was no memory. */
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (status == MHD_HTTP_UNAUTHORIZED)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
                                      strstr(x->path, "completions") ? "POST" : "GET");
    enum MHD_Result r = MHD_queue_response(x->connection, status, response);
    MHD_destroy_response(response);
    x->status = status;
    metrics_count(x->server, x->path, status);
    return r;
}

static enum MHD_Result answer_json(struct exchange *x, unsigned status)
{
    return answer_send(x, status, "application/json");
}

static enum MHD_Result answer_error(struct exchange *x, unsigned status, const char *code,
                                    const char *message)
{
    const char *type = status == MHD_HTTP_TOO_MANY_REQUESTS ? "rate_limit_error"
                       : status >= 500                      ? "server_error"
                                                            : "invalid_request_error";
    agon_buf_reset(&x->out);
    agon_answer_error(&x->out, type, code, message);
    return answer_json(x, status);
}

static enum MHD_Result answer_err(struct exchange *x, int r, const struct agon_err *err)
{
    bool length =
        strstr(err->text, "maximum context length") || strstr(err->text, "over the window");
    if (r != AGON_EINPUT)
        return answer_error(x, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, err->text);
    return answer_error(x, MHD_HTTP_BAD_REQUEST, length ? "context_length_exceeded" : NULL,
                        err->text);
}

/* ---- streams ------------------------------------------------------------------------ */

static ssize_t stream_read(void *user, uint64_t at, char *to, size_t size)
{
    struct exchange *x = user;
    size_t left = x->out.size - x->n_out;
    (void)at; /* bytes so far; ours are counted in n_out */
    if (x->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (left > 0) {
        size = left < size ? left : size;
        memcpy(to, x->out.data + x->n_out, size);
        x->n_out += size;
        return (ssize_t)size;
    }
    if (x->done)
        return MHD_CONTENT_READER_END_OF_STREAM;
    x->suspended = true;
    MHD_suspend_connection(x->connection);
    return 0;
}

static enum MHD_Result stream_begin(struct exchange *x)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, stream_read, x, NULL);
    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  "text/event-stream; charset=utf-8");
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    enum MHD_Result r = MHD_queue_response(x->connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    metrics_count(x->server, x->path, MHD_HTTP_OK);
    return r;
}

/* ---- progress ----------------------------------------------------------------------- */

static void exchange_resume(struct exchange *x)
{
    if (!x->suspended)
        return;
    x->suspended = false;
    x->server->resumed = true;
    MHD_resume_connection(x->connection);
}

void exchange_abandon(struct exchange *x)
{
    x->gone = true;
    agon_reply_free(x->reply);
    x->reply = NULL;
    exchange_resume(x);
}

static void observe(struct exchange *x)
{
    double seconds = (double)(agon_clock_ms() - x->begun_ms) * 1e-3;
    for (int i = 0; !x->first_seen && i < agon_reply_choices(x->reply); i++)
        if (agon_reply_choice(x->reply, i).n > 0) {
            x->first_seen = true;
            metrics_observe(&x->server->first_token, seconds);
        }
    if (agon_reply_done(x->reply))
        metrics_observe(&x->server->whole, seconds);
}

/* Append a stream's new events; one that its client does not read is ended. */
static int stream_more(struct exchange *x, struct agon_err *err)
{
    if (x->n_out == x->out.size) {
        agon_buf_reset(&x->out);
        x->n_out = 0;
    }
    if (x->out.size - x->n_out > STREAM_BYTES_MAX)
        return agon_fail(err, AGON_EINPUT, "the client does not read");
    return agon_answer_stream(&x->answer, &x->out, err);
}

/* The reason of a choice that failed, if all did: then there is no answer. */
static const char *all_failed(const struct agon_reply *reply)
{
    const char *reason = NULL;
    for (int i = 0; i < agon_reply_choices(reply); i++) {
        struct agon_choice choice = agon_reply_choice(reply, i);
        if (choice.end != AGON_CHOICE_FAILED)
            return NULL;
        reason = choice.reason;
    }
    return reason;
}

void exchange_progress(struct exchange *x)
{
    struct agon_err err = {0};
    int r = 0;
    if (!x->reply || x->gone)
        return;
    observe(x);
    bool done = agon_reply_done(x->reply);
    x->status = MHD_HTTP_OK;
    if (x->streams) {
        r = stream_more(x, &err);
    } else if (done && all_failed(x->reply)) {
        x->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        agon_answer_error(&x->out, "server_error", NULL, all_failed(x->reply));
    } else if (done) {
        r = agon_answer_whole(&x->answer, &x->out, &err);
    }
    if (r) {
        exchange_abandon(x);
        return;
    }
    if (done) {
        agon_reply_free(x->reply);
        x->reply = NULL;
        x->done = true;
    }
    if (x->done || x->n_out < x->out.size)
        exchange_resume(x);
}

/* ---- requests ----------------------------------------------------------------------- */

/* Compared in constant time: how long it takes tells nothing of the key. */
static bool key_is(const char *given, const char *key)
{
    size_t n = strlen(key), n_given = strlen(given);
    unsigned char difference = n != n_given;
    for (size_t i = 0; i < n_given; i++)
        difference |=
            (unsigned char)((unsigned char)given[i] ^ (unsigned char)key[i % (n ? n : 1)]);
    return difference == 0;
}

static bool is_allowed(const struct exchange *x)
{
    static const char scheme[] = "Bearer ";
    const char *key = x->server->options.key;
    const char *given =
        MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!key || strncmp(x->path, "/v1/", 4) != 0)
        return true;
    return given && strncmp(given, scheme, sizeof(scheme) - 1) == 0 &&
           key_is(given + sizeof(scheme) - 1, key);
}

static enum MHD_Result answer_models(struct exchange *x)
{
    const struct server *s = x->server;
    agon_buf_adds(&x->out, "{\"object\": \"list\", \"data\": [{\"id\": ");
    agon_json_dump_string(&x->out, agon_str(s->options.model_name));
    agon_buf_addf(&x->out,
                  ", \"object\": \"model\", \"created\": %ld, \"owned_by\": \"agon\", "
                  "\"max_model_len\": %d, \"description\": ",
                  s->started, agon_model_window(s->model));
    agon_json_dump_string(&x->out, agon_str(agon_model_name(s->model)));
    agon_buf_adds(&x->out, "}]}");
    return answer_json(x, MHD_HTTP_OK);
}

static enum MHD_Result answer_health(struct exchange *x)
{
    agon_buf_adds(&x->out,
                  x->server->stopping ? "{\"status\": \"stopping\"}" : "{\"status\": \"ok\"}");
    return answer_json(x, x->server->stopping ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK);
}

/* Read the request; 0 with the reply begun, or <0. */
static int completion_begin(struct exchange *x, struct agon_err *err)
{
    struct server *s = x->server;
    bool chat = strcmp(x->path, "/v1/chat/completions") == 0;
    int r;
    if ((r = agon_json_parse(&x->json, agon_buf_str(&x->body), err)))
        return agon_err_in(err, r, "the body");
    if (!json_object_get(x->json, chat ? "messages" : "prompt"))
        return agon_fail(err, AGON_EINPUT, "%s: missing", chat ? "messages" : "prompt");
    if (!chat && json_object_get(x->json, "messages"))
        return agon_fail(err, AGON_EINPUT, "messages: belong to /v1/chat/completions");
    if ((r = agon_ask_parse(&x->ask, s->model, x->json, err)) ||
        (r = agon_reply_new(&x->reply, s->replies, &x->ask.options, err)))
        return r;
    (void)snprintf(x->id, sizeof(x->id), "%s-%lx-%llx", chat ? "chatcmpl" : "cmpl", s->started,
                   (unsigned long long)s->n_ids++); /* fits */
    x->streams = x->ask.stream;
    x->answer =
        (struct agon_answer){.model = s->model,
                             .reply = x->reply,
                             .ask = &x->ask,
                             .id = x->id,
                             .model_name = s->options.model_name,
                             .created = (long)time(NULL),
                             .sent = calloc((size_t)x->ask.options.n, sizeof(struct agon_sent))};
    return x->answer.sent ? 0 : agon_fail(err, AGON_ENOMEM, "out of memory");
}

static enum MHD_Result completion_answer(struct exchange *x)
{
    struct server *s = x->server;
    struct agon_replies_stats stats;
    struct agon_err err = {0};
    agon_replies_stats(s->replies, &stats);
    if (s->stopping)
        return answer_error(x, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "the server is stopping");
    if (stats.n_running + stats.n_waiting >= AGON_SERVE_CHOICES_MAX)
        return answer_error(x, MHD_HTTP_TOO_MANY_REQUESTS, NULL,
                            "too many choices are under way; try again later");
    int r = completion_begin(x, &err);
    const char *model = agon_json_text(x->json, "model", s->options.model_name);
    if (r == 0 && strcmp(model, s->options.model_name) != 0) {
        (void)snprintf(err.text, sizeof(err.text),
                       "The model '%.80s' does not exist: this is '%.80s'", model,
                       s->options.model_name); /* cut where too long */
        agon_reply_free(x->reply);
        x->reply = NULL;
        return answer_error(x, MHD_HTTP_NOT_FOUND, "model_not_found", err.text);
    }
    if (r) {
        agon_reply_free(x->reply);
        x->reply = NULL;
        return answer_err(x, r, &err);
    }
    x->begun_ms = agon_clock_ms();
    if (x->streams)
        return stream_begin(x);
    x->suspended = true;
    MHD_suspend_connection(x->connection);
    return MHD_YES;
}

static enum MHD_Result exchange_answer(struct exchange *x)
{
    static const struct {
        const char *path, *method;
        enum MHD_Result (*answer)(struct exchange *x);
    } routes[] = {{"/v1/chat/completions", "POST", completion_answer},
                  {"/v1/completions", "POST", completion_answer},
                  {"/v1/models", "GET", answer_models},
                  {"/health", "GET", answer_health}};
    if (!is_allowed(x))
        return answer_error(x, MHD_HTTP_UNAUTHORIZED, "invalid_api_key",
                            "Incorrect API key provided");
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (strcmp(x->path, routes[i].path) == 0)
            return strcmp(x->method, routes[i].method) == 0
                       ? routes[i].answer(x)
                       : answer_error(x, MHD_HTTP_METHOD_NOT_ALLOWED, NULL,
                                      "another method is due");
    if (strcmp(x->path, "/metrics") == 0 && strcmp(x->method, "GET") == 0) {
        metrics_write(x->server, &x->out);
        return answer_send(x, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8");
    }
    return answer_error(x, MHD_HTTP_NOT_FOUND, NULL, "no such path");
}

/* ---- what MHD calls ----------------------------------------------------------------- */

static struct exchange *exchange_new(struct server *s, struct MHD_Connection *connection,
                                     const char *url, const char *method)
{
    struct exchange *x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->server = s;
    x->connection = connection;
    (void)snprintf(x->method, sizeof(x->method), "%s", method); /* cut ones match nothing */
    (void)snprintf(x->path, sizeof(x->path), "%s", url);
    x->body.size_max = s->options.body_bytes_max;
    x->out.size_max = OUT_BYTES_MAX;
    x->next = s->first;
    if (s->first)
        s->first->previous = x;
    s->first = x;
    s->n_exchanges++;
    return x;
}

/* Refuse what says beforehand that it is too large. */
static bool announces_too_much(const struct exchange *x)
{
    const char *length =
        MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length && strtoull(length, NULL, 10) > x->server->options.body_bytes_max;
}

enum MHD_Result exchange_handle(void *user, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *data_size, void **state)
{
    struct exchange *x = *state;
    (void)version; /* 1.0 and 1.1 are answered alike */
    if (!x) {
        if (!(x = *state = exchange_new(user, connection, url, method)))
            return MHD_NO;
        if (announces_too_much(x))
            return answer_error(x, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "the body is too large");
        return MHD_YES;
    }
    if (*data_size > 0) {
        agon_buf_add(&x->body, data, *data_size); /* a failure sticks */
        *data_size = 0;
        return MHD_YES;
    }
    if (x->gone)
        return MHD_NO;
    if (x->done) /* resumed: the answer is there */
        return answer_json(x, x->status);
    if (x->body.failed)
        return answer_error(x, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "the body is too large");
    return exchange_answer(x);
}

void exchange_completed(void *user, struct MHD_Connection *connection, void **state,
                        enum MHD_RequestTerminationCode how)
{
    struct exchange *x = *state;
    (void)user;
    (void)connection;
    (void)how; /* whatever it was, it is over */
    if (!x)
        return;
    *(x->previous ? &x->previous->next : &x->server->first) = x->next;
    if (x->next)
        x->next->previous = x->previous;
    x->server->n_exchanges--;
    agon_reply_free(x->reply);
    agon_ask_deinit(&x->ask);
    json_decref(x->json);
    agon_buf_deinit(&x->body);
    agon_buf_deinit(&x->out);
    free(x->answer.sent);
    free(x);
    *state = NULL;
}
