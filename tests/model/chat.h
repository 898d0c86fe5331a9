#pragma once
/* What the tests of the backends share: one turn from question to answer. */
#include "model/model.h"
#include "tests/test.h"

/* A conversation of one user message. */
static inline struct agon_session *chat_new(struct agon_model *m, const char *user)
{
    struct agon_session *s = NULL;
    struct agon_err err = {0};
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", user);
    if (!EXPECT(agon_session_new(&s, m, AGON_THINKING_OFF, messages, &err) == 0))
        printf("# %s\n", err.text);
    json_decref(messages);
    return s;
}

static inline void chat_sample(struct agon_session *s, const char *key)
{
    struct agon_sampling sampling = {.top_p = 1, .tokens_max = 100, .seed = 7, .key = key};
    struct agon_err err = {0};
    if (!EXPECT(agon_session_sample(s, &sampling, &err) == 0))
        printf("# %s\n", err.text);
}

/* Poll until the turn is over. */
static inline struct agon_turn chat_take(struct agon_model *m, struct agon_session *s)
{
    struct agon_turn turn = {.end = AGON_TURN_FAILED};
    struct agon_err err = {0};
    int r = 0;
    for (int i = 0; i < 3000 && r == 0; i++)
        if ((r = agon_session_take(s, &turn, &err)) == 0)
            r = agon_model_poll(m, 20, &err);
    if (!EXPECT(r == 1))
        printf("# the turn did not end: %s\n", err.text);
    return turn;
}

static inline struct agon_turn chat_turn(struct agon_model *m, struct agon_session *s,
                                         const char *key)
{
    chat_sample(s, key);
    return chat_take(m, s);
}

/* One turn of a new conversation. */
static inline struct agon_turn chat_ask(struct agon_model *m, const char *user, const char *key)
{
    struct agon_session *s = chat_new(m, user);
    struct agon_turn turn = s ? chat_turn(m, s, key) : (struct agon_turn){0};
    agon_session_free(s);
    return turn;
}

static inline const char *turn_content(const struct agon_turn *t)
{
    const char *text = json_string_value(json_object_get(t->message, "content"));
    return text ? text : "(no content)";
}
