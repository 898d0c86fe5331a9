/*
 * Sessions of local:DIR: see local.h. A session is an engine's sequence plus, for each turn that
 * was generated in it, the ids of that turn.
 */
#include "model/local.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "model/local_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    IDS_MAX = 1 << 26,
    TURN_BYTES_MAX = 64 << 20,
    SHARE_TOKENS_MIN = 32, /* two pages: sharing less is not worth a search */
};

/* A turn that was generated here. */
struct turn_ids {
    size_t message; /* its index in the session's messages */
    struct agon_ids ids;
};

struct local_session {
    struct local_model *model;
    struct local_session *previous, *next;
    struct agon_sequence *sequence;
    struct turn_ids *turns; /* owned */
    size_t n_turns, turn_capacity;
    int n_prompt;    /* ids before the turn in flight */
    unsigned record; /* AGON_TRACE_*, of the turn in flight */
};

/* ---- messages to ids ---------------------------------------------------------------- */

/* Segments to ids: a control token is its id; text between two of them is encoded as one. */
static int prompt_ids(const struct local_model *m, const struct agon_prompt *prompt, size_t at_max,
                      struct agon_ids *ids, struct agon_err *err)
{
    size_t begin = 0, end = 0;
    for (size_t i = 0; i < prompt->n_segments && prompt->segments[i].at < at_max; i++) {
        const struct agon_segment *s = &prompt->segments[i];
        if (s->kind != AGON_SEGMENT_TOKEN) {
            end = s->at + s->size;
            continue;
        }
        struct agon_str text = {agon_buf_text(&prompt->text) + begin, end - begin};
        int r = begin < end ? agon_tokenizer_encode(m->tokenizer, text, false, ids, err) : 0;
        if (r)
            return r;
        agon_ids_add(ids, m->tokens[s->token]);
        begin = end = s->at + s->size;
    }
    if (begin >= end)
        return 0;
    struct agon_str text = {agon_buf_text(&prompt->text) + begin, end - begin};
    return agon_tokenizer_encode(m->tokenizer, text, false, ids, err);
}

/* The ids of messages [begin, end), where begin is not after a message that ends amid text. */
static int messages_ids(const struct local_model *m, enum agon_thinking thinking,
                        const json_t *messages, size_t begin, size_t end, struct agon_ids *ids,
                        struct agon_err *err)
{
    struct agon_prompt prompt AGON_AUTO(agon_prompt_deinit) = AGON_PROMPT;
    struct agon_encode_options options = {.thinking = thinking, .n_context = begin};
    int r = agon_encode(&prompt, messages, &options, err);
    size_t at_max = prompt.text.size;
    if (r == 0 && end < json_array_size(messages)) {
        /* What later messages render is the tail of this. */
        struct agon_prompt rest AGON_AUTO(agon_prompt_deinit) = AGON_PROMPT;
        options.n_context = end;
        if ((r = agon_encode(&rest, messages, &options, err)) == 0)
            at_max -= rest.text.size;
    }
    return r ? r : prompt_ids(m, &prompt, at_max, ids, err);
}

int agon_local_encode(const struct agon_model *m, enum agon_thinking thinking,
                      const json_t *messages, struct agon_ids *ids, struct agon_err *err)
{
    return messages_ids((const struct local_model *)m, thinking, messages, 0,
                        json_array_size(messages), ids, err);
}

/* The ids of a generated turn without its thinking, as it stands before a later user message. */
static void turn_add_kept(const struct local_model *m, const struct turn_ids *turn,
                          struct agon_ids *ids)
{
    size_t from = 0;
    for (size_t i = 0; i < turn->ids.n && from == 0; i++)
        if (turn->ids.data[i] == m->tokens[AGON_TOKEN_THINK_END])
            from = i + 1;
    for (size_t i = from; i < turn->ids.n; i++)
        agon_ids_add(ids, turn->ids.data[i]);
}

static const struct turn_ids *turn_of_message(const struct local_session *session, size_t message)
{
    for (size_t i = 0; i < session->n_turns; i++)
        if (session->turns[i].message == message)
            return &session->turns[i];
    return NULL;
}

/* All ids of the session after a user message has dropped earlier thinking. Messages between
 * two generated turns are encoded together: their text may join. */
static int rebuilt_ids(const struct agon_session *s, struct agon_ids *ids, struct agon_err *err)
{
    const struct local_session *session = s->state;
    size_t n = json_array_size(s->messages), end;
    for (size_t begin = 0; begin < n; begin = end + 1) {
        const struct turn_ids *turn = NULL;
        for (end = begin; end < n && !(turn = turn_of_message(session, end)); end++)
            ;
        int r = begin < end
                    ? messages_ids(session->model, s->thinking, s->messages, begin, end, ids, err)
                    : 0;
        if (r)
            return r;
        if (turn)
            turn_add_kept(session->model, turn, ids);
    }
    return 0;
}

/* ---- sharing beginnings ------------------------------------------------------------- */

static int common_prefix(const struct agon_sequence *a, const struct agon_ids *ids)
{
    const int *theirs = agon_sequence_ids(a);
    int n = agon_sequence_length(a), i = 0;
    while (i < n && (size_t)i < ids->n && theirs[i] == ids->data[i])
        i++;
    return i;
}

/* Let a new, empty session take over the cache of the living one that begins most like it. */
static int session_share(struct local_session *session, const struct agon_ids *ids,
                         struct agon_err *err)
{
    struct agon_sequence *best = NULL;
    int n_best = SHARE_TOKENS_MIN - 1;
    for (const struct local_session *o = session->model->sessions; o; o = o->next) {
        int n = o->sequence ? common_prefix(o->sequence, ids) : 0;
        if (n > n_best) {
            n_best = n;
            best = o->sequence;
        }
    }
    return best ? agon_sequence_share(session->sequence, best, n_best, err) : 0;
}

/* Make the sequence hold exactly ids, keeping what is computed of their common beginning. */
static int session_set_ids(struct local_session *session, const struct agon_ids *ids,
                           struct agon_err *err)
{
    struct agon_sequence *s = session->sequence;
    int window = session->model->base.window;
    if (ids->n > (size_t)window)
        return agon_fail(err, AGON_EINPUT, "%zu tokens are over the window of %d", ids->n, window);
    int r = agon_sequence_length(s) == 0 ? session_share(session, ids, err) : 0;
    if (r)
        return r;
    int kept = common_prefix(s, ids);
    agon_sequence_truncate(s, kept);
    return agon_sequence_append(s, ids->data + kept, (int)ids->n - kept, err);
}

/* ---- sessions ----------------------------------------------------------------------- */

static int session_open(struct agon_session *s, struct agon_err *err)
{
    struct local_model *m = (struct local_model *)s->model;
    struct local_session *session = calloc(1, sizeof(*session));
    if (!session)
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    session->model = m;
    session->next = m->sessions;
    if (m->sessions)
        m->sessions->previous = session;
    m->sessions = session;
    s->state = session;
    return 0;
}

static void local_close(struct agon_session *s)
{
    struct local_session *session = s->state;
    if (!session)
        return;
    *(session->previous ? &session->previous->next : &session->model->sessions) = session->next;
    if (session->next)
        session->next->previous = session->previous;
    agon_sequence_free(session->sequence);
    for (size_t i = 0; i < session->n_turns; i++)
        agon_ids_deinit(&session->turns[i].ids);
    free(session->turns);
    free(session);
    s->state = NULL;
}

static bool drops_thinking(const struct agon_session *s, size_t n_old)
{
    for (size_t i = n_old; i < json_array_size(s->messages) && n_old > 0; i++) {
        const char *role = agon_json_text(json_array_get(s->messages, i), "role", "");
        if (strcmp(role, "user") == 0 || strcmp(role, "developer") == 0)
            return s->thinking == AGON_THINKING_ON;
    }
    return false;
}

static int local_append(struct agon_session *s, size_t n_old, struct agon_err *err)
{
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(IDS_MAX);
    int r = s->state ? 0 : session_open(s, err);
    if (r)
        return r;
    struct local_session *session = s->state;
    if (!session->sequence &&
        (r = agon_sequence_new(&session->sequence, session->model->engine, err)))
        return r;
    if (drops_thinking(s, n_old))
        return (r = rebuilt_ids(s, &ids, err)) ? r : session_set_ids(session, &ids, err);
    if ((r = messages_ids(session->model, s->thinking, s->messages, n_old,
                          json_array_size(s->messages), &ids, err)))
        return r;
    if (n_old == 0)
        return session_set_ids(session, &ids, err);
    return agon_sequence_append(session->sequence, ids.data, (int)ids.n, err);
}

static int turns_add(struct local_session *session, size_t message, const int *ids, int n,
                     struct agon_err *err)
{
    if (session->n_turns == session->turn_capacity) {
        size_t capacity = session->turn_capacity ? 2 * session->turn_capacity : 8;
        struct turn_ids *grown = realloc(session->turns, capacity * sizeof(*grown));
        if (!grown)
            return agon_fail(err, AGON_ENOMEM, "session: out of memory");
        session->turns = grown;
        session->turn_capacity = capacity;
    }
    struct turn_ids turn = {.message = message, .ids = AGON_IDS(IDS_MAX)};
    for (int i = 0; i < n; i++)
        agon_ids_add(&turn.ids, ids[i]);
    if (turn.ids.failed) {
        agon_ids_deinit(&turn.ids);
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    }
    session->turns[session->n_turns++] = turn;
    return 0;
}

static int local_fork(struct agon_session *child, struct agon_session *parent, struct agon_err *err)
{
    const struct local_session *from = parent->state;
    int r = from ? session_open(child, err) : 0;
    if (!from || r)
        return r;
    struct local_session *session = child->state;
    for (size_t i = 0; i < from->n_turns; i++)
        if ((r = turns_add(session, from->turns[i].message, from->turns[i].ids.data,
                           (int)from->turns[i].ids.n, err)))
            return r;
    return from->sequence ? agon_sequence_fork(&session->sequence, from->sequence, err) : 0;
}

static int local_tokens(const struct agon_session *s)
{
    const struct local_session *session = s->state;
    return session && session->sequence ? agon_sequence_length(session->sequence) : 0;
}

/* ---- turns -------------------------------------------------------------------------- */

static int local_sample(struct agon_session *s, const struct agon_sampling *sampling,
                        struct agon_err *err)
{
    struct local_session *session = s->state;
    const struct local_model *m = session->model;
    struct agon_generation generation = {.sample = {.temperature = sampling->temperature,
                                                    .top_p = sampling->top_p,
                                                    .top_k = sampling->top_k},
                                         .seed = sampling->seed,
                                         .tokens_max = sampling->tokens_max,
                                         .n_ids = agon_tokenizer_size(m->tokenizer),
                                         .stop = m->stop,
                                         .n_stop = m->n_stop,
                                         .record = sampling->record};
    int r = agon_local_records(s->model, sampling->record, err);
    if (r)
        return r;
    session->record = sampling->record;
    session->n_prompt = agon_sequence_length(session->sequence);
    return agon_sequence_generate(session->sequence, &generation, err);
}

/* Steps until a turn is over or the time is up; at least one. */
static int local_poll(struct agon_model *base, int wait_ms, struct agon_err *err)
{
    struct local_model *m = (struct local_model *)base;
    (void)err; /* what fails, fails a turn */
    int64_t until = agon_clock_ms() + wait_ms;
    int n_before = agon_engine_generating(m->engine);
    while (n_before > 0 && agon_engine_step(m->engine) == n_before && agon_clock_ms() < until)
        ;
    return 0;
}

/* Where control tokens stand in the text of ids; text is filled with it. */
static int completion_marks(const struct local_model *m, const int *ids, int n,
                            struct agon_buf *text, struct agon_mark *marks, size_t *ret_n_marks,
                            struct agon_err *err)
{
    size_t n_marks = 0;
    for (int i = 0; i < n; i++) {
        for (int t = 0; t < AGON_N_TOKENS; t++)
            if (ids[i] == m->tokens[t])
                marks[n_marks++] =
                    (struct agon_mark){.token = (enum agon_token)t, .at = text->size};
        int r = agon_tokenizer_decode(m->tokenizer, ids + i, 1, text, err);
        if (r)
            return r;
    }
    *ret_n_marks = n_marks;
    return 0;
}

/* A completion that ended at a stop id. */
static int turn_parse(const struct local_model *m, enum agon_thinking thinking,
                      struct agon_turn *turn, const int *ids, int n, struct agon_buf *text,
                      struct agon_err *err)
{
    struct agon_completion completion = {.marked = true};
    struct agon_mark *marks = calloc((size_t)n + 1, sizeof(*marks));
    if (!marks)
        return agon_fail(err, AGON_ENOMEM, "turn: out of memory");
    int r = completion_marks(m, ids, n, text, marks, &completion.n_marks, err);
    completion.text = agon_buf_str(text);
    completion.marks = marks;
    if (r == 0 && (!agon_utf8_valid(completion.text) || memchr(text->data, 0, text->size))) {
        turn->end = AGON_TURN_MALFORMED;
        (void)snprintf(turn->reason, sizeof(turn->reason),
                       "the completion is not UTF-8, or holds NUL");
    } else if (r == 0) {
        r = agon_turn_fill(turn, &completion, thinking, err);
    }
    free(marks);
    return r;
}

int agon_local_parse(const struct agon_model *m, enum agon_thinking thinking, const int *ids, int n,
                     struct agon_turn *turn, struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TURN_BYTES_MAX);
    int r = turn_parse((const struct local_model *)m, thinking, turn, ids, n, &text, err);
    if (r == 0 && !turn->text && !(turn->text = strdup(agon_buf_text(&text))))
        r = agon_fail(err, AGON_ENOMEM, "turn: out of memory");
    return r;
}

static int turn_end(const struct agon_session *s, struct agon_turn *turn, const int *ids, int n,
                    struct agon_err *err)
{
    struct local_session *session = s->state;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TURN_BYTES_MAX);
    int r = 0;
    switch (agon_sequence_state(session->sequence)) {
    case AGON_SEQUENCE_STOPPED:
        r = turn_parse(session->model, s->thinking, turn, ids, n, &text, err);
        break;
    case AGON_SEQUENCE_LENGTH:
        turn->end = AGON_TURN_LENGTH;
        r = agon_tokenizer_decode(session->model->tokenizer, ids, (size_t)n, &text, err);
        (void)snprintf(turn->reason, sizeof(turn->reason), "cut after %d tokens", n);
        break;
    case AGON_SEQUENCE_CACHE: agon_turn_fail(turn, "local: the cache is full"); break;
    case AGON_SEQUENCE_NAN:
        agon_turn_fail(turn, "local: the model's logits are no numbers (a broken checkpoint?)");
        break;
    case AGON_SEQUENCE_MEMORY:
        agon_turn_fail(turn, "local: no memory for what the turn records");
        break;
    case AGON_SEQUENCE_FAILED:
        agon_turn_fail(turn, "local: %s", agon_engine_failure(session->model->engine));
        break;
    case AGON_SEQUENCE_IDLE:
    case AGON_SEQUENCE_GENERATING: agon_turn_fail(turn, "local: cancelled"); break;
    }
    if (r == 0 && !turn->text && !(turn->text = strdup(agon_buf_text(&text))))
        r = agon_fail(err, AGON_ENOMEM, "turn: out of memory");
    return r;
}

static int local_take(struct agon_session *s, struct agon_turn *ret, struct agon_err *err)
{
    struct local_session *session = s->state;
    struct agon_sequence *sequence = session->sequence;
    if (agon_sequence_state(sequence) == AGON_SEQUENCE_GENERATING)
        return 0;
    int n = agon_sequence_length(sequence) - session->n_prompt;
    const int *ids = agon_sequence_ids(sequence) + session->n_prompt;
    ret->n_prompt_tokens = session->n_prompt;
    ret->n_tokens = n;
    int r = turn_end(s, ret, ids, n, err);
    if (r == 0 && session->record && n > 0)
        r = agon_trace_new(&ret->trace, sequence, session->n_prompt, session->record, err);
    if (r == 0 && ret->end == AGON_TURN_OK)
        r = turns_add(session, json_array_size(s->messages), ids, n, err);
    if (r || ret->end != AGON_TURN_OK)
        agon_sequence_truncate(sequence, session->n_prompt);
    return r ? r : 1;
}

const struct agon_backend local_backend = {.free = local_model_free,
                                           .poll = local_poll,
                                           .append = local_append,
                                           .fork = local_fork,
                                           .close = local_close,
                                           .tokens = local_tokens,
                                           .sample = local_sample,
                                           .take = local_take,
                                           .load = local_model_load,
                                           .version = local_model_version};
