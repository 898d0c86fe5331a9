#pragma once
/*
 * What a backend implements. model.c owns what is common: it keeps the message
 * list of every session (whatever the backend), checks that messages fit what came
 * before, gives calls their ids, appends a parsed turn to the list, and records
 * turns. A backend embeds `struct agon_model` as its first member and hangs what it
 * needs for a session on `agon_session.state`.
 */
#include "model/encoding.h"
#include "model/model.h"

struct agon_record; /* a recording being written: model/record.h */

struct agon_backend {
    /* Frees the backend's own members and the struct itself; every session is gone by
     * then. name and record are freed by agon_model_free() before. */
    void (*free)(struct agon_model *m);
    int (*poll)(struct agon_model *m, int wait_ms, struct agon_err *err);

    /*
     * s->messages holds the whole conversation; the backend has seen its first n_old
     * messages (0 when the session is new). A turn that ended AGON_TURN_OK counts as
     * seen. The messages have been checked. On failure the session is unchanged
     * (model.c takes the new messages off the list). NULL: nothing to do.
     */
    int (*append)(struct agon_session *s, size_t n_old, struct agon_err *err);
    /* Make child->state a second one of parent's. No turn is in flight. NULL: nothing to do. */
    int (*fork)(struct agon_session *child, struct agon_session *parent, struct agon_err *err);
    /* Cancel a turn in flight, free s->state (may be NULL). NULL: nothing to do. */
    void (*close)(struct agon_session *s);
    int (*tokens)(const struct agon_session *s); /* NULL: estimated from the bytes */
    int (*sample)(struct agon_session *s, const struct agon_sampling *sampling,
                  struct agon_err *err);
    /* As agon_session_take(). On AGON_TURN_OK, ret->message is the parsed turn without
     * call ids, it passed agon_message_check(), and the backend counts it as part of
     * its past from here on. */
    int (*take)(struct agon_session *s, struct agon_turn *ret, struct agon_err *err);
    /* agon_model_load() and agon_model_version(); NULL: weights never change. */
    int (*load)(struct agon_model *m, const char *dir, struct agon_err *err);
    uint64_t (*version)(const struct agon_model *m);
};

struct agon_model {
    const struct agon_backend *backend;
    char *name;                 /* owned; agon_model_name() */
    const char *dir;            /* the backend's; agon_model_dir(), or NULL */
    int window;                 /* tokens; agon_model_window() */
    struct agon_record *record; /* owned; NULL: no recording */
    int n_sessions;             /* alive; for the assertion in agon_model_free() */
};
enum { AGON_WINDOW_DEFAULT = 131072 };

struct agon_session {
    struct agon_model *model;
    enum agon_thinking thinking;
    json_t *messages; /* owned: array; the whole conversation, never changed in place */
    int n_calls;      /* calls so far: the next one gets the id "call_<n_calls>" */
    bool in_flight;   /* a turn has been asked for and not been taken */
    char *key;        /* owned: agon_sampling.key of the turn in flight, or NULL */
    void *state;      /* the backend's own */
};

/* Fill turn from generated text: end, message, text, reason (agon_completion_parse() and
 * agon_message_check()). completion is borrowed. turn must be zeroed. */
int agon_turn_fill(struct agon_turn *turn, const struct agon_completion *completion,
                   enum agon_thinking thinking, struct agon_err *err) AGON_MUST_USE;
/* The same for text in either form of agon_turn_text_parse(). */
int agon_turn_fill_text(struct agon_turn *turn, struct agon_str text, enum agon_thinking thinking,
                        struct agon_err *err) AGON_MUST_USE;
/* What agon_session_tokens() says where a backend doesn't count: bytes / 4. */
int agon_session_tokens_estimate(const struct agon_session *s);
/*
 * The request as JSON members, for those who ask by text: `"messages": [...]`, then
 * `"tools": [...]` where there are any (of all messages, in order). With for_api, in the
 * form of OpenAI's API: messages carry no tools and no empty fields.
 */
int agon_request_dump(struct agon_buf *b, const struct agon_session *s, bool for_api,
                      struct agon_err *err) AGON_MUST_USE;
/* Fill turn as AGON_TURN_FAILED with a reason. */
void agon_turn_fail(struct agon_turn *turn, const char *fmt, ...) AGON_PRINTF(2, 3);

/* The backends; where is the spec without its scheme. local: model/local.h. */
int agon_http_model_open(struct agon_model **ret, const char *url,
                         const struct agon_model_options *options,
                         struct agon_err *err) AGON_MUST_USE;
int agon_exec_model_open(struct agon_model **ret, const char *command, bool lines,
                         const struct agon_model_options *options,
                         struct agon_err *err) AGON_MUST_USE;
int agon_replay_model_open(struct agon_model **ret, const char *path,
                           const struct agon_model_options *options,
                           struct agon_err *err) AGON_MUST_USE;
