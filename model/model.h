#pragma once
/*
 * A model behind one interface, whatever runs it: the engine in this process
 * (local:DIR), an OpenAI-compatible server (http://HOST/v1), a program or a
 * person (exec:COMMAND), or a recording (replay:FILE).
 *
 * A session is one conversation. Messages are appended to it and the assistant's
 * next turn is sampled from it; the local engine keeps its tokens, so generated
 * text is never encoded again (token-in, token-out). Sampling is asynchronous:
 * many sessions sample at once, agon_model_poll() moves all of them on, and
 * agon_session_take() hands out what is finished. One thread uses a model.
 *
 * Messages are JSON objects as in OpenAI's chat API and spec/encoding.md:
 *   {"role":"system","content":"...","tools":[{"type":"function","function":{...}}]}
 *   {"role":"user","content":"..."}
 *   {"role":"assistant","content":"...","reasoning_content":"...","tool_calls":
 *       [{"id":"...","type":"function","function":{"name":"...","arguments":"{...}"}}]}
 *   {"role":"tool","tool_call_id":"...","content":"..."}    one for each call, in order
 * Message content is untrusted text: whatever it contains, it becomes no control token.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/trace.h"

#include <jansson.h>
#include <stdint.h>

struct agon_model;
struct agon_session;

enum agon_thinking { AGON_THINKING_OFF, AGON_THINKING_ON }; /* encoding modes chat, thinking */

struct agon_model_options {
    const char *device;      /* "cpu" or "cuda"; local only */
    const char *record_path; /* write every completion here as JSONL for replay:; NULL: no */
    const char *model_name;  /* http: the "model" field; NULL: ask GET /models */
    int n_threads;           /* local; 0: one a core */
    int n_batch_max;         /* most sequences that decode together; 0: 64 */
    int cache_mb;            /* local: memory for what sequences keep; 0: by the machine */
    int n_parallel_max;      /* http, exec: requests in flight; 0: 16 and 1 */
    int n_tries_max;         /* http: tries of one turn; 0: 6 */
    int retry_ms;            /* http: the first pause between tries, doubled each time; 0: 500 */
    int turn_ms_max;         /* http, exec: time for one try of one turn; 0: 10 minutes */
    unsigned record; /* local: AGON_TRACE_ROUTING, _INDEXER, so that turns may ask for them */
};

/* spec: "local:DIR", "http://...", "https://...", "exec:COMMAND", "exec+lines:COMMAND",
 * "replay:FILE" (model/README.md); NULL or "" is the embedded checkpoint. The API key comes from
 * AGON_API_KEY. */
int agon_model_open(struct agon_model **ret, const char *spec,
                    const struct agon_model_options *options, struct agon_err *err) AGON_MUST_USE;
void agon_model_free(struct agon_model *m);
AGON_DEFINE_FREEP(struct agon_model, agon_model_free)
/* A line for people and for the corpus's provenance: "local:model/embedded sha256:... 21.7M". */
const char *agon_model_name(const struct agon_model *m);
/* The folder of a local model's checkpoint, borrowed; NULL where the model is elsewhere. */
const char *agon_model_dir(const struct agon_model *m);
/* Tokens that fit in one session, or a default where the backend can't tell. */
int agon_model_window(const struct agon_model *m);
/*
 * Replace the weights by those in dir: same architecture and dimensions, and the same tokenizer
 * where dir has one. Sessions keep their text and ids; what was computed is forgotten, and the
 * version goes up by one. On failure everything is as before. AGON_EINPUT where a turn is in
 * flight, or the backend can't.
 */
int agon_model_load(struct agon_model *m, const char *dir, struct agon_err *err) AGON_MUST_USE;
/* Of the weights: 0, then one more with each load. */
uint64_t agon_model_version(const struct agon_model *m);

/* Begin a conversation. messages: array, borrowed. */
int agon_session_new(struct agon_session **ret, struct agon_model *m, enum agon_thinking thinking,
                     const json_t *messages, struct agon_err *err) AGON_MUST_USE;
/* A second session with the same past (shared, not copied, by the local engine). */
int agon_session_fork(struct agon_session **ret, struct agon_session *s,
                      struct agon_err *err) AGON_MUST_USE;
void agon_session_free(struct agon_session *s); /* cancels a turn in flight */
AGON_DEFINE_FREEP(struct agon_session, agon_session_free)
/* Append messages (tool results, or a user message, which drops earlier thinking).
 * AGON_EINPUT where they do not fit what came before. */
int agon_session_append(struct agon_session *s, const json_t *messages,
                        struct agon_err *err) AGON_MUST_USE;
/* Tokens so far; an estimate (bytes / 4) where the backend can't tell. */
int agon_session_tokens(const struct agon_session *s);

struct agon_sampling {
    double temperature; /* 0: greedy */
    double top_p;       /* 1: off */
    int top_k;          /* 0: off */
    int tokens_max;     /* of this turn */
    uint64_t seed;      /* with the position, all that randomness depends on */
    unsigned record;    /* AGON_TRACE_*: what agon_turn.trace is to hold */
    const char *key;    /* "category/stage/sample/turn.try": names the turn in recordings; copied */
};
/* Begin to sample the next assistant turn. */
int agon_session_sample(struct agon_session *s, const struct agon_sampling *sampling,
                        struct agon_err *err) AGON_MUST_USE;
/* Move every turn in flight on; wait at most wait_ms for outside events. */
int agon_model_poll(struct agon_model *m, int wait_ms, struct agon_err *err) AGON_MUST_USE;

enum agon_turn_end {
    AGON_TURN_OK,        /* message holds the parsed turn, which is now part of the session */
    AGON_TURN_MALFORMED, /* the completion does not parse (reason); the session is unchanged */
    AGON_TURN_LENGTH,    /* tokens_max or the window ran out; the session is unchanged */
    AGON_TURN_FAILED,    /* infrastructure: server, program or recording failed (reason) */
};
struct agon_turn {
    enum agon_turn_end end;
    json_t *message; /* owned; NULL unless OK. Calls carry ids "call_0", "call_1", ... */
    char *text;      /* owned: the completion as generated, for the record */
    char reason[256];
    int n_prompt_tokens, n_tokens;
    struct agon_trace *trace; /* owned; NULL unless asked for, and where the backend has none */
};
void agon_turn_deinit(struct agon_turn *t);
/* 1 with *ret filled when the turn is over, 0 when it is still in flight. */
int agon_session_take(struct agon_session *s, struct agon_turn *ret,
                      struct agon_err *err) AGON_MUST_USE;
