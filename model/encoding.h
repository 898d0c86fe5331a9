#pragma once
/*
 * The chat encoding of DeepSeek-V3.2: messages to prompt, completion to message.
 *
 * A prompt is a list of segments. Only AGON_SEGMENT_TOKEN becomes a control token;
 * message content, tool schemas, names, argument values and tool results are
 * AGON_SEGMENT_TEXT, in which "<｜User｜>" is nothing but nine characters. The byte
 * string is a view: all segments concatenated are exactly what DeepSeek's own
 * encoding_dsv32.py writes. A tokenizer joins neighbouring MARKUP and TEXT before
 * it applies BPE (that gives the ids of the reference) and recognises no added
 * token in either.
 *
 * Source: deepseek-ai/DeepSeek-V3.2, encoding/ (MIT); goldens in tests/data/encoding.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/model.h"

#include <jansson.h>

/* The control tokens. `｜` is U+FF5C, `▁` U+2581. */
enum agon_token {
    AGON_TOKEN_BOS,       /* <｜begin▁of▁sentence｜> */
    AGON_TOKEN_EOS,       /* <｜end▁of▁sentence｜> */
    AGON_TOKEN_USER,      /* <｜User｜> */
    AGON_TOKEN_ASSISTANT, /* <｜Assistant｜> */
    AGON_TOKEN_THINK,     /* <think> */
    AGON_TOKEN_THINK_END, /* </think> */
    AGON_TOKEN_DSML,      /* ｜DSML｜ */
    AGON_N_TOKENS,
};
/* The text of a control token, as tokenizer.json spells it. */
struct agon_str agon_token_text(enum agon_token token);

enum agon_segment_kind {
    AGON_SEGMENT_TOKEN,  /* trusted: exactly one control token (`token`) */
    AGON_SEGMENT_MARKUP, /* trusted ordinary text: "<result>", the tools template */
    AGON_SEGMENT_TEXT,   /* untrusted */
};
struct agon_segment {
    enum agon_segment_kind kind;
    enum agon_token token; /* when kind is AGON_SEGMENT_TOKEN */
    size_t at, size;       /* in agon_prompt.text */
};
struct agon_prompt {
    struct agon_buf text;          /* owned: the whole byte string */
    struct agon_segment *segments; /* owned; in order, they cover text without gaps */
    size_t n_segments, capacity;
};
#define AGON_PROMPT                             \
    {                                           \
        .text = AGON_BUF(AGON_PROMPT_BYTES_MAX) \
    }
enum { AGON_PROMPT_BYTES_MAX = 64 << 20 };
void agon_prompt_deinit(struct agon_prompt *p);

struct agon_encode_options {
    enum agon_thinking thinking;
    bool keep_thinking; /* drop_thinking = false; has no effect on what is written */
    bool no_bos;        /* leave the leading BOS out (it is also left out after a context) */
    size_t n_context;   /* the first n_context messages are already rendered: write the rest only */
};
/*
 * Render messages[n_context..] as the reference does, looking at all of messages
 * (array, borrowed; fields as in model.h, plus `response_format`). `function` and
 * `response_format` may also be strings that hold JSON text: numbers which jansson
 * can't hold survive that way. Results are appended to p. AGON_EINPUT names the
 * message ("message 3 (tool): ..."); p is then half written.
 * Where the reference prints "None" for a missing user or tool content, so does
 * this; sessions refuse such messages before they come here.
 */
int agon_encode(struct agon_prompt *p, const json_t *messages,
                const struct agon_encode_options *options, struct agon_err *err) AGON_MUST_USE;
/*
 * The same from the text of a JSON object with the fields of the reference's test
 * cases: messages, context (array or null), thinking_mode, drop_thinking,
 * add_default_bos_token, and tools (belonging to the first message). Integers of
 * any size inside tools and response_format survive.
 */
int agon_encode_case(struct agon_prompt *p, struct agon_str text,
                     struct agon_err *err) AGON_MUST_USE;

/* Where control tokens stand in a completion: in order of `at`. */
struct agon_mark {
    enum agon_token token;
    size_t at;
};
struct agon_completion {
    struct agon_str text; /* everything generated, EOS included */
    /* The control tokens among the generated ids. With `marked`, only these count and
     * text that merely spells one stays text; each that stands where none belongs
     * makes the completion malformed. Without it (text from a server or a program)
     * whatever spells a control token is one, as in the reference. */
    const struct agon_mark *marks;
    size_t n_marks;
    bool marked;
};
enum { AGON_PARSE_MALFORMED = 1, AGON_REASON_SIZE = 256 };
/*
 * Parse a completion as strictly as the reference. 0 with *ret a new reference:
 * {"role","content","reasoning_content","tool_calls":[{"type","function":{"name",
 * "arguments"}}]}, without ids. AGON_PARSE_MALFORMED with the reason. As in the
 * reference, a value marked string="false" is taken over as it is: `arguments` may
 * be no JSON (agon_message_check() tells).
 */
int agon_completion_parse(json_t **ret, const struct agon_completion *completion,
                          enum agon_thinking thinking, char reason[AGON_REASON_SIZE],
                          struct agon_err *err) AGON_MUST_USE;
/* The same for the text of a whole turn in either of the two forms that programs and
 * recordings use: an assistant message as a JSON object ("{...}"), or a completion. */
int agon_turn_text_parse(json_t **ret, struct agon_str text, enum agon_thinking thinking,
                         char reason[AGON_REASON_SIZE], struct agon_err *err) AGON_MUST_USE;
/* Can this assistant message stand in a history: are all its arguments JSON objects?
 * 0, AGON_PARSE_MALFORMED with the reason, or AGON_ENOMEM. */
int agon_message_check(const json_t *message, char reason[AGON_REASON_SIZE]) AGON_MUST_USE;
