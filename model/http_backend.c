/*
 * The backend http(s)://HOST/v1: an OpenAI-compatible server (vLLM, SGLang, llama.cpp,
 * DeepSeek's own API).
 *
 * Turns wait in a list; at most n_parallel of them are in flight in one multi handle. A
 * try that fails for a passing reason (no connection, time-out, 408, 409, 425, 429, 5xx,
 * an answer that is no chat completion) is made again after a pause that doubles, with a
 * jitter that depends on the turn's key alone; Retry-After counts, up to a limit. What
 * will not pass (other 4xx, a redirect) ends the turn at once.
 *
 * The key from AGON_API_KEY goes into one header. It is wiped from every answer before
 * anything reads it, so a server that echoes it puts it into no recording and no log.
 */
#include "base/clock.h"
#include "base/http.h"
#include "base/json.h"
#include "base/rng.h"
#include "model/backend.h"
#include "model/jsontext.h"
#include "model/message.h"

#include <stdlib.h>
#include <time.h>

enum {
    PARALLEL_DEFAULT = 16,
    TRIES_DEFAULT = 6,
    RETRY_MS_DEFAULT = 500,
    RETRY_MS_MAX = 30 * 1000,
    RETRY_AFTER_S_MAX = 60, /* a server may ask for no more */
    TURN_MS_DEFAULT = 600 * 1000,
    OPEN_MS_MAX = 15 * 1000,
    ANSWER_BYTES_MAX = 32 << 20,
};

enum turn_state { TURN_WAITING, TURN_FLYING, TURN_DONE };

struct http_turn {
    struct http_turn *next;
    enum turn_state state;
    char *body; /* owned */
    struct agon_http_transfer *transfer;
    int64_t not_before_ms; /* while waiting */
    int n_tries;
    struct agon_rng jitter;
    /* when done */
    char *text; /* owned: the assistant message as JSON; NULL: failed, see reason */
    bool cut;   /* finish_reason "length" */
    int n_prompt_tokens, n_tokens;
    char reason[AGON_REASON_SIZE];
};
struct http_model {
    struct agon_model base;
    struct agon_http *http;
    char *url, *completions_url;   /* without a slash at the end */
    char *served_name;             /* the field "model" */
    char *api_key, *authorization; /* NULL: none */
    struct http_turn *turns;       /* borrowed from their sessions, oldest first */
    int n_parallel, n_tries_max, retry_ms, turn_ms_max;
};

static void http_free(struct agon_model *m)
{
    struct http_model *h = (struct http_model *)m;
    agon_http_free(h->http);
    free(h->url);
    free(h->completions_url);
    free(h->served_name);
    free(h->api_key);
    free(h->authorization);
    free(h);
}

/* ---- one request ---- */

static struct agon_http_request http_request(const struct http_model *h, const char *url,
                                             const char *headers[4], int total_ms)
{
    int n = 0;
    headers[n++] = "Content-Type: application/json";
    headers[n++] = "Accept: application/json";
    if (h->authorization)
        headers[n++] = h->authorization;
    headers[n] = NULL;
    return (struct agon_http_request){
        .url = url,
        .headers = headers,
        .user_agent = "agon",
        .body_bytes_max = ANSWER_BYTES_MAX,
        .total_ms = total_ms,
        .stall_ms = total_ms, /* a model is silent while it thinks */
    };
}

/* Overwrite every copy of the key in what a server sent. */
static void wipe_key(const struct http_model *h, char *text, size_t size)
{
    size_t key_size = h->api_key ? strlen(h->api_key) : 0;
    char *hit = key_size ? memmem(text, size, h->api_key, key_size) : NULL;
    while (hit) {
        memset(hit, '*', key_size);
        hit = memmem(hit, size - (size_t)(hit - text), h->api_key, key_size);
    }
}

static void wipe_answer(const struct http_model *h, struct agon_http_response *a)
{
    if (a->body.data)
        wipe_key(h, a->body.data, a->body.size);
    wipe_key(h, a->content_type, strlen(a->content_type));
    wipe_key(h, a->location, strlen(a->location));
}

/* What a server says about a refusal: {"error": {"message": ...}}, {"error": ...}, {"message":
 * ...},
 * {"detail": ...}. Borrowed from answer; "" where it says nothing we know. */
static const char *error_words(const json_t *answer)
{
    const json_t *error = json_object_get(answer, "error");
    const char *text = agon_json_text(error, "message", json_string_value(error));
    if (!text)
        text = agon_json_text(answer, "message", NULL);
    return text ? text : agon_json_text(answer, "detail", "");
}

/* The first words of a body that is no JSON, for a person. */
static void body_words(const struct agon_http_response *a, char words[80])
{
    size_t n = 0;
    for (size_t i = 0; i < a->body.size && n < 79; i++) {
        unsigned char c = (unsigned char)a->body.data[i];
        bool space = c <= ' ' || c >= 0x7f;
        if (!space || (n && words[n - 1] != ' '))
            words[n++] = space ? ' ' : (char)c;
    }
    words[n] = '\0';
}

/* ---- reading an answer ---- */

enum verdict { ANSWER_GOOD, ANSWER_AGAIN, ANSWER_NEVER };

static void say(struct http_turn *turn, const char *fmt, ...) AGON_PRINTF(2, 3);
static void say(struct http_turn *turn, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(turn->reason, sizeof(turn->reason), fmt, ap); /* cut where too long */
    va_end(ap);
}

/* Keep the fields of a message that we know: a server's others are of no use in a recording. */
static char *message_text(const json_t *message)
{
    static const char *const fields[] = {"role", "content", "reasoning_content", "reasoning",
                                         "tool_calls"};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(ANSWER_BYTES_MAX);
    const char *comma = "{";
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const json_t *value = json_object_get(message, fields[i]);
        if (!value || json_is_null(value))
            continue;
        agon_buf_addf(&b, "%s\"%s\": ", comma, fields[i]);
        agon_json_dump(&b, value);
        comma = ", ";
    }
    agon_buf_adds(&b, comma[0] == '{' ? "{}" : "}");
    return agon_buf_steal(&b);
}

/* What a server counted; nonsense counts as nothing. */
static int usage_count(const json_t *usage, const char *field)
{
    json_int_t n = json_integer_value(json_object_get(usage, field));
    return n > 0 && n <= INT32_MAX ? (int)n : 0;
}

static enum verdict read_completion(struct http_turn *turn, const struct agon_http_response *a)
{
    json_t *answer AGON_AUTO(agon_json_decrefp) = NULL;
    char words[80];
    body_words(a, words);
    if (agon_json_parse(&answer, agon_buf_str(&a->body), NULL)) {
        say(turn, "the answer is no JSON but '%s' (%.60s)", words, a->content_type);
        return ANSWER_AGAIN;
    }
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *message = json_object_get(choice, "message");
    if (!json_is_object(message)) {
        const char *error = error_words(answer);
        say(turn, "the answer holds no choices[0].message%s%.120s", *error ? ": " : "", error);
        return ANSWER_AGAIN;
    }
    const json_t *usage = json_object_get(answer, "usage");
    turn->n_prompt_tokens = usage_count(usage, "prompt_tokens");
    turn->n_tokens = usage_count(usage, "completion_tokens");
    turn->cut = strcmp(agon_json_text(choice, "finish_reason", ""), "length") == 0;
    turn->text = message_text(message);
    turn->reason[0] = '\0'; /* of earlier tries */
    if (!turn->text)
        say(turn, "out of memory");
    return turn->text ? ANSWER_GOOD : ANSWER_NEVER;
}

static bool status_passes(long status)
{
    return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

/* vLLM, SGLang, llama.cpp and OpenAI each say it in other words, all with one of these. */
static bool says_too_long(const struct agon_http_response *a)
{
    static const char *const words[] = {"context length", "context_length", "context size",
                                        "context window"};
    for (size_t i = 0; a->status >= 400 && a->status < 500 && i < sizeof(words) / sizeof(*words);
         i++)
        if (strstr(agon_buf_text(&a->body), words[i]))
            return true;
    return false;
}

/*
 * Fields that not every server knows. One that names such a field in a refusal is asked again
 * without it: ours stand before "messages", so the first match is the field and no text of a
 * message.
 */
static bool omit_refused_field(struct http_turn *turn, const struct agon_http_response *a)
{
    static const char *const fields[] = {"chat_template_kwargs", "top_k", "seed"};
    char start[40];
    for (size_t i = 0; (a->status == 400 || a->status == 422) && i < 3; i++) {
        (void)snprintf(start, sizeof(start), ", \"%s\": ", fields[i]); /* fits */
        char *at = strstr(agon_buf_text(&a->body), fields[i]) ? strstr(turn->body, start) : NULL;
        const char *next = at ? strstr(at + 2, ", \"") : NULL;
        if (!next || strstr(turn->body, "\"messages\"") < at)
            continue;
        memmove(at, next, strlen(next) + 1);
        return true;
    }
    return false;
}

static enum verdict read_status(struct http_turn *turn, const struct http_model *h,
                                const struct agon_http_response *a)
{
    if (says_too_long(a)) {
        turn->cut = true;
        turn->text = strdup("");
        say(turn, "the conversation is over the server's window");
        return turn->text ? ANSWER_GOOD : ANSWER_NEVER;
    }
    if (omit_refused_field(turn, a)) {
        say(turn, "HTTP %ld: a field of the request is not known", a->status);
        return ANSWER_AGAIN;
    }
    if (a->status >= 300 && a->status < 400) {
        say(turn, "HTTP %ld: redirected to %.120s, which is not followed", a->status, a->location);
        return ANSWER_NEVER;
    }
    json_t *answer AGON_AUTO(agon_json_decrefp) = NULL;
    char words[80];
    body_words(a, words);
    const char *why =
        agon_json_parse(&answer, agon_buf_str(&a->body), NULL) ? words : error_words(answer);
    bool denied = a->status == 401 || a->status == 403;
    say(turn, "HTTP %ld%s%.140s%s", a->status, *why ? ": " : "", why,
        denied ? h->authorization ? " (the key in AGON_API_KEY is not accepted)"
                                  : " (set AGON_API_KEY)"
               : "");
    return status_passes(a->status) ? ANSWER_AGAIN : ANSWER_NEVER;
}

static enum verdict read_answer(struct http_turn *turn, const struct http_model *h,
                                struct agon_http_response *a)
{
    wipe_answer(h, a);
    if (a->end != AGON_HTTP_OK) {
        say(turn, "%.200s", a->end == AGON_HTTP_TOO_BIG ? "the answer is too big" : a->reason);
        return a->end == AGON_HTTP_FAILED ? ANSWER_AGAIN : ANSWER_NEVER;
    }
    return a->status == 200 ? read_completion(turn, a) : read_status(turn, h, a);
}

/* ---- tries ---- */

static int64_t pause_ms(const struct http_model *h, struct http_turn *turn,
                        const struct agon_http_response *a)
{
    int64_t pause = h->retry_ms;
    for (int i = 1; i < turn->n_tries && pause < RETRY_MS_MAX; i++)
        pause *= 2;
    pause = pause < RETRY_MS_MAX ? pause : RETRY_MS_MAX;
    struct agon_rng rng = agon_rng_split_int(&turn->jitter, (uint64_t)turn->n_tries);
    pause = (int64_t)((double)pause * (0.5 + 0.5 * agon_rng_real(&rng)));
    char *end;
    long after = strtol(a->retry_after, &end, 10); /* a date is not read: the pause stands */
    if (end != a->retry_after && *end == '\0' && after > 0) {
        after = after < RETRY_AFTER_S_MAX ? after : RETRY_AFTER_S_MAX;
        pause = pause > after * 1000 ? pause : after * 1000;
    }
    return pause;
}

static int turn_start(struct http_model *h, struct http_turn *turn, struct agon_err *err)
{
    const char *headers[4];
    struct agon_http_request req = http_request(h, h->completions_url, headers, h->turn_ms_max);
    req.post_body = turn->body;
    req.post_size = strlen(turn->body);
    int r = agon_http_start(&turn->transfer, h->http, &req, err);
    if (r)
        return agon_err_in(err, r, "%s", h->url);
    turn->state = TURN_FLYING;
    turn->n_tries++;
    return 0;
}

static void turn_answered(struct http_model *h, struct http_turn *turn,
                          struct agon_http_response *a)
{
    enum verdict verdict = read_answer(turn, h, a);
    turn->state = TURN_DONE;
    if (verdict == ANSWER_AGAIN && turn->n_tries < h->n_tries_max) {
        turn->state = TURN_WAITING;
        turn->not_before_ms = agon_clock_ms() + pause_ms(h, turn, a);
    }
}

static int turn_move(struct http_model *h, struct http_turn *turn, struct agon_err *err)
{
    struct agon_http_response answer AGON_AUTO(agon_http_response_deinit) = {0};
    int r = agon_http_take(turn->transfer, &answer, err);
    if (r <= 0)
        return r;
    turn->transfer = NULL;
    turn_answered(h, turn, &answer);
    return 0;
}

/* Start what may start; *until_ms becomes the time of the next try where that is earlier. */
static int http_start_waiting(struct http_model *h, int64_t *until_ms, int *ret_n_flying,
                              struct agon_err *err)
{
    int n_flying = 0, r;
    for (struct http_turn *turn = h->turns; turn; turn = turn->next)
        n_flying += turn->state == TURN_FLYING;
    for (struct http_turn *turn = h->turns; turn; turn = turn->next) {
        if (turn->state != TURN_WAITING || n_flying >= h->n_parallel)
            continue;
        if (turn->not_before_ms > agon_clock_ms()) {
            *until_ms = *until_ms < turn->not_before_ms ? *until_ms : turn->not_before_ms;
            continue;
        }
        if ((r = turn_start(h, turn, err)))
            return r;
        n_flying++;
    }
    *ret_n_flying = n_flying;
    return 0;
}

static int http_poll(struct agon_model *m, int wait_ms, struct agon_err *err)
{
    struct http_model *h = (struct http_model *)m;
    int64_t until = agon_clock_ms() + wait_ms;
    int n_flying, r;
    if (!h->turns)
        return 0;
    if ((r = http_start_waiting(h, &until, &n_flying, err)))
        return r;
    int64_t wait = until - agon_clock_ms();
    wait = wait > 0 ? wait : 0;
    if (n_flying) {
        if ((r = agon_http_poll(h->http, (int)wait, err)))
            return r;
    } else if (wait) {
        struct timespec pause = {wait / 1000, wait % 1000 * 1000000};
        (void)nanosleep(&pause, NULL); /* waking early is fine */
    }
    for (struct http_turn *turn = h->turns; turn; turn = turn->next)
        if (turn->state == TURN_FLYING && (r = turn_move(h, turn, err)))
            return r;
    return 0;
}

/* ---- sessions ---- */

static void turn_free(struct http_turn *turn)
{
    if (!turn)
        return;
    if (turn->transfer)
        agon_http_cancel(turn->transfer);
    free(turn->body);
    free(turn->text);
    free(turn);
}
AGON_DEFINE_FREEP(struct http_turn, turn_free)

static void http_close(struct agon_session *s)
{
    struct http_model *h = (struct http_model *)s->model;
    struct http_turn **at = &h->turns;
    while (*at && *at != s->state)
        at = &(*at)->next;
    if (*at)
        *at = (*at)->next;
    turn_free(s->state);
    s->state = NULL;
}

static int completion_body(struct agon_buf *b, const struct agon_session *s,
                           const struct agon_sampling *sampling, struct agon_err *err)
{
    const struct http_model *h = (const struct http_model *)s->model;
    agon_buf_adds(b, "{\"model\": ");
    agon_json_dump_string(b, agon_str(h->served_name));
    agon_buf_adds(b, ", \"temperature\": ");
    agon_json_dump_real(b, sampling->temperature);
    agon_buf_adds(b, ", \"top_p\": ");
    agon_json_dump_real(b, sampling->top_p > 0 ? sampling->top_p : 1.0);
    if (sampling->top_k > 0)
        agon_buf_addf(b, ", \"top_k\": %d", sampling->top_k);
    /* Some servers hold a seed in 32 bits. */
    agon_buf_addf(b, ", \"max_tokens\": %d, \"seed\": %u, \"stream\": false", sampling->tokens_max,
                  (unsigned)(sampling->seed & 0x7fffffff));
    if (s->thinking)
        agon_buf_adds(b, ", \"chat_template_kwargs\": {\"thinking\": true}");
    agon_buf_adds(b, ", ");
    int r = agon_request_dump(b, s, true, err);
    agon_buf_addc(b, '}');
    return r ? r : agon_buf_check(b, "request", err);
}

static int http_sample(struct agon_session *s, const struct agon_sampling *sampling,
                       struct agon_err *err)
{
    struct http_model *h = (struct http_model *)s->model;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_PROMPT_BYTES_MAX);
    struct http_turn *turn AGON_AUTO(turn_freep) = calloc(1, sizeof(*turn));
    int r = completion_body(&b, s, sampling, err);
    if (r)
        return r;
    if (!turn || !(turn->body = agon_buf_steal(&b)))
        return agon_fail(err, AGON_ENOMEM, "http: out of memory");
    struct agon_rng root;
    agon_rng_init(&root, sampling->seed);
    turn->jitter = agon_rng_split(&root, agon_str(s->key));
    struct http_turn **at = &h->turns;
    while (*at)
        at = &(*at)->next;
    *at = turn;
    s->state = AGON_STEAL(turn);
    return 0;
}

static int http_take(struct agon_session *s, struct agon_turn *ret, struct agon_err *err)
{
    const struct http_model *h = (const struct http_model *)s->model;
    struct http_turn *turn = s->state;
    int r = 0;
    if (turn->state != TURN_DONE)
        return 0;
    ret->n_prompt_tokens = turn->n_prompt_tokens;
    ret->n_tokens = turn->n_tokens;
    if (!turn->text) {
        const char *tries = turn->n_tries == 1 ? "try" : "tries";
        agon_turn_fail(ret, "%.100s: %.120s (%d %s)", h->url, turn->reason, turn->n_tries, tries);
    } else if (turn->cut) {
        ret->end = AGON_TURN_LENGTH;
        ret->text = AGON_STEAL(turn->text);
        (void)snprintf(ret->reason, sizeof(ret->reason), "%s", turn->reason); /* same size */
    } else {
        r = agon_turn_fill_text(ret, agon_str(turn->text), s->thinking, err);
    }
    http_close(s);
    return r ? r : 1;
}

static const struct agon_backend http_backend = {
    .free = http_free,
    .poll = http_poll,
    .close = http_close,
    .sample = http_sample,
    .take = http_take,
};

/* ---- opening ---- */

/* Name and window of the model served: {"data": [{"id": ..., "max_model_len": ...}]}. */
static int read_models(struct http_model *h, const struct agon_http_response *a,
                       struct agon_err *err)
{
    json_t *answer AGON_AUTO(agon_json_decrefp) = NULL;
    if (a->status != 200 || agon_json_parse(&answer, agon_buf_str(&a->body), NULL))
        answer = NULL; /* names no model then, which is told below */
    const json_t *data = json_object_get(answer, "data"), *found = NULL;
    for (size_t i = 0; i < json_array_size(data) && !found; i++) {
        const json_t *one = json_array_get(data, i);
        const char *id = agon_json_text(one, "id", NULL);
        if (id && (!h->served_name || strcmp(id, h->served_name) == 0))
            found = one;
    }
    const json_t *window = json_object_get(found, "max_model_len");
    if (json_integer_value(window) > 0 && json_integer_value(window) <= INT32_MAX)
        h->base.window = (int)json_integer_value(window);
    if (h->served_name)
        return 0;
    if (!found)
        return agon_fail(
            err, AGON_EINPUT,
            "GET /models (HTTP %ld) names no model: name it (--model-name), or check the URL "
            "(it ends in /v1 as a rule)",
            a->status);
    h->served_name = strdup(agon_json_text(found, "id", ""));
    return h->served_name ? 0 : agon_fail(err, AGON_ENOMEM, "out of memory");
}

static int ask_models(struct http_model *h, struct agon_err *err)
{
    struct agon_http_response a AGON_AUTO(agon_http_response_deinit) = {0};
    const char *headers[4];
    char *url = NULL;
    if (asprintf(&url, "%s/models", h->url) < 0)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    struct agon_http_request req = http_request(h, url, headers, OPEN_MS_MAX);
    int r = agon_http_run(h->http, &req, &a, err);
    free(url);
    if (r)
        return r;
    wipe_answer(h, &a);
    if (a.end != AGON_HTTP_OK)
        return agon_fail(err, AGON_EMODEL, "can't be reached: %s", a.reason);
    if (a.status == 401 || a.status == 403)
        return agon_fail(err, AGON_EINPUT, "HTTP %ld: %s", a.status,
                         h->authorization ? "the key in AGON_API_KEY is not accepted"
                                          : "it wants a key: set AGON_API_KEY");
    return read_models(h, &a, err);
}

static int read_key(struct http_model *h, struct agon_err *err)
{
    const char *key = getenv("AGON_API_KEY");
    if (!key || !*key)
        return 0;
    for (const char *c = key; *c; c++)
        if (*c <= ' ' || *c >= 0x7f)
            return agon_fail(err, AGON_EINPUT, "AGON_API_KEY holds a blank or control character");
    if (!(h->api_key = strdup(key)) ||
        asprintf(&h->authorization, "Authorization: Bearer %s", key) < 0)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    return 0;
}

static int http_open(struct http_model *h, const struct agon_model_options *options,
                     struct agon_err *err)
{
    int r;
    const char *host = strstr(h->url, "://") + 3;
    if (memchr(host, '@', strcspn(host, "/")))
        return agon_fail(err, AGON_EINPUT, "no user or password in the URL: set AGON_API_KEY");
    if (asprintf(&h->completions_url, "%s/chat/completions", h->url) < 0)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    if (options->model_name && !(h->served_name = strdup(options->model_name)))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    if ((r = read_key(h, err)) || (r = agon_http_new(&h->http, err)) || (r = ask_models(h, err)))
        return r;
    if (asprintf(&h->base.name, "%s %s", h->url, h->served_name) < 0)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    return 0;
}

int agon_http_model_open(struct agon_model **ret, const char *url,
                         const struct agon_model_options *options, struct agon_err *err)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct http_model *h = calloc(1, sizeof(*h));
    if (!h)
        return agon_fail(err, AGON_ENOMEM, "http: out of memory");
    m = &h->base;
    m->backend = &http_backend;
    m->window = AGON_WINDOW_DEFAULT;
    h->n_parallel = options->n_parallel_max ? options->n_parallel_max : PARALLEL_DEFAULT;
    h->n_tries_max = options->n_tries_max ? options->n_tries_max : TRIES_DEFAULT;
    h->retry_ms = options->retry_ms ? options->retry_ms : RETRY_MS_DEFAULT;
    h->turn_ms_max = options->turn_ms_max ? options->turn_ms_max : TURN_MS_DEFAULT;
    size_t size = strlen(url);
    while (size && url[size - 1] == '/')
        size--;
    if (!(h->url = strndup(url, size)))
        return agon_fail(err, AGON_ENOMEM, "http: out of memory");
    int r =
        strstr(h->url, "://") ? http_open(h, options, err) : agon_fail(err, AGON_EINPUT, "no host");
    if (r)
        return agon_err_in(err, r, "model at %.200s",
                           strchr(h->url, '@') ? "(URL with @)" : h->url);
    *ret = AGON_STEAL(m);
    return 0;
}
