/*
 * Completion to message: see agon_completion_parse() in encoding.h.
 *
 * The text is walked from one stop to the next. A stop is a control token with the
 * ordinary text around it ("</" DSML "invoke"), so the list of control tokens (the
 * marks) is all that is searched; a tag spelled in ordinary text is never found when
 * the marks came from generated ids.
 */
#include "model/encoding.h"

#include "base/json.h"
#include "model/jsontext.h"

#include <stdarg.h>
#include <stdlib.h>

enum { COMPLETION_BYTES_MAX = 16 << 20 }; /* far above any window */

enum stop {
    STOP_EOS,
    STOP_THINK_END,
    STOP_CALLS,
    STOP_CALLS_END,
    STOP_INVOKE,
    STOP_INVOKE_END,
    STOP_PARAMETER,
    STOP_PARAMETER_END,
    STOP_NONE,
};
static const struct {
    enum agon_token token;
    const char *before, *after;
} stops[] = {
    [STOP_EOS] = {AGON_TOKEN_EOS, "", ""},
    [STOP_THINK_END] = {AGON_TOKEN_THINK_END, "", ""},
    [STOP_CALLS] = {AGON_TOKEN_DSML, "\n\n<", "function_calls"},
    [STOP_CALLS_END] = {AGON_TOKEN_DSML, "</", "function_calls>"},
    [STOP_INVOKE] = {AGON_TOKEN_DSML, "<", "invoke"},
    [STOP_INVOKE_END] = {AGON_TOKEN_DSML, "</", "invoke"},
    [STOP_PARAMETER] = {AGON_TOKEN_DSML, "<", "parameter"},
    [STOP_PARAMETER_END] = {AGON_TOKEN_DSML, "/", "parameter"},
};

struct parser {
    struct agon_str text;
    struct agon_mark *marks; /* owned */
    size_t n_marks, capacity;
    bool marked;
    size_t at;         /* parsed up to here */
    size_t first_mark; /* no mark before this one lies at or behind `at` */
    char *reason;
};

/* ---- marks ---- */

static int parser_add_mark(struct parser *p, enum agon_token token, size_t at)
{
    if (p->n_marks == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 64;
        struct agon_mark *grown = reallocarray(p->marks, capacity, sizeof(*grown));
        if (!grown)
            return AGON_ENOMEM;
        p->marks = grown;
        p->capacity = capacity;
    }
    p->marks[p->n_marks++] = (struct agon_mark){token, at};
    return 0;
}

static bool text_has_at(struct agon_str text, size_t at, struct agon_str part)
{
    return at <= text.size && part.size <= text.size - at &&
           memcmp(text.data + at, part.data, part.size) == 0;
}

/* Without ids, whatever spells a control token is one. */
static int parser_scan_marks(struct parser *p)
{
    for (size_t at = 0; at < p->text.size; at++) {
        if (p->text.data[at] != '<' && p->text.data[at] != '\xef')
            continue;
        for (int t = 0; t < AGON_N_TOKENS; t++)
            if (text_has_at(p->text, at, agon_token_text((enum agon_token)t)) &&
                parser_add_mark(p, (enum agon_token)t, at))
                return AGON_ENOMEM;
    }
    return 0;
}

static int parser_init(struct parser *p, const struct agon_completion *c)
{
    p->text = c->text;
    p->marked = c->marked;
    if (!c->marked)
        return parser_scan_marks(p);
    for (size_t i = 0; i < c->n_marks; i++)
        if (parser_add_mark(p, c->marks[i].token, c->marks[i].at))
            return AGON_ENOMEM;
    return 0;
}

static void parser_deinit(struct parser *p)
{
    free(p->marks);
}

/* ---- walking ---- */

static int malformed(struct parser *p, const char *fmt, ...) AGON_PRINTF(2, 3);
static int malformed(struct parser *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(p->reason, AGON_REASON_SIZE, fmt, ap); /* cut where too long */
    va_end(ap);
    return AGON_PARSE_MALFORMED;
}

/* Does the stop stand around this mark, at or behind p->at? Its first byte, or -1. */
static ptrdiff_t stop_at_mark(const struct parser *p, const struct agon_mark *mark, enum stop stop)
{
    struct agon_str before = agon_str(stops[stop].before), after = agon_str(stops[stop].after);
    if (mark->token != stops[stop].token || mark->at < p->at + before.size)
        return -1;
    size_t start = mark->at - before.size;
    size_t behind = mark->at + agon_token_text(mark->token).size;
    return text_has_at(p->text, start, before) && text_has_at(p->text, behind, after)
               ? (ptrdiff_t)start
               : -1;
}

/* Read on to the first of two stops; *ret_text is what stands before it. */
static enum stop read_to(struct parser *p, enum stop one, enum stop other,
                         struct agon_str *ret_text)
{
    for (; p->first_mark < p->n_marks; p->first_mark++) {
        const struct agon_mark *mark = &p->marks[p->first_mark];
        const enum stop wanted[] = {one, other};
        for (int i = 0; i < 2; i++) {
            ptrdiff_t start = stop_at_mark(p, mark, wanted[i]);
            if (start < 0)
                continue;
            *ret_text = (struct agon_str){p->text.data + p->at, (size_t)start - p->at};
            p->at = mark->at + agon_token_text(mark->token).size + strlen(stops[wanted[i]].after);
            p->first_mark++;
            return wanted[i];
        }
    }
    *ret_text = (struct agon_str){p->text.data + p->at, p->text.size - p->at};
    p->at = p->text.size;
    return STOP_NONE;
}

/* The first control token inside a part of the text, or -1. In text without ids, User and
 * Assistant count as text there, as in the reference. */
static int token_inside(const struct parser *p, struct agon_str part)
{
    size_t from = (size_t)(part.data - p->text.data);
    for (size_t i = 0; i < p->n_marks && p->marks[i].at < from + part.size; i++) {
        enum agon_token token = p->marks[i].token;
        bool counts = p->marked || (token != AGON_TOKEN_USER && token != AGON_TOKEN_ASSISTANT);
        if (counts && p->marks[i].at >= from &&
            p->marks[i].at + agon_token_text(token).size <= from + part.size)
            return (int)token;
    }
    return -1;
}

/* Prose may hold no control token. */
static int check_prose(struct parser *p, struct agon_str part, const char *where)
{
    int token = token_inside(p, part);
    if (token < 0)
        return 0;
    return malformed(p, "control token %s in the %s", agon_token_text((enum agon_token)token).data,
                     where);
}

/* Nor may a generated one stand inside a tag or a value. Without ids the reference takes
 * such text as it is. */
static int check_tag(struct parser *p, struct agon_str part, const char *where)
{
    return p->marked ? check_prose(p, part, where) : 0;
}

/* ---- the parts ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f');
}

static bool str_ends(struct agon_str s, const char *end)
{
    size_t size = strlen(end);
    return s.size >= size && memcmp(s.data + s.size - size, end, size) == 0;
}

/* ` name="NAME">` and a newline, or two where an empty line follows. */
static int read_name(struct parser *p, struct agon_str tag, struct agon_str *ret_name)
{
    static const char open[] = "name=\"";
    struct agon_str name = tag;
    while (name.size && is_space(name.data[0])) {
        name.data++;
        name.size--;
    }
    size_t tail = str_ends(name, "\">\n\n") ? 4 : str_ends(name, "\">\n") ? 3 : 0;
    if (!tail || !text_has_at(name, 0, agon_str(open)) || name.size < strlen(open) + tail)
        return malformed(p, "an invoke tag is not <｜DSML｜invoke name=\"...\"> and a newline");
    *ret_name = (struct agon_str){name.data + strlen(open), name.size - strlen(open) - tail};
    return check_tag(p, tag, "invoke tag");
}

struct parameter {
    struct agon_str key, value;
    bool is_text;
};

/* ` name="KEY" string="true|false">VALUE<`, up to the slash of the closing tag. */
static int read_parameter(struct parser *p, struct agon_str tag, struct parameter *ret)
{
    static const char open[] = " name=\"", yes[] = "\" string=\"true\">",
                      no[] = "\" string=\"false\">";
    size_t tail = str_ends(tag, "<\n") ? 2 : str_ends(tag, "<") ? 1 : 0;
    size_t key = strlen(open);
    if (!tail || !text_has_at(tag, 0, agon_str(open)))
        return malformed(p,
                         "a parameter is not <｜DSML｜parameter name=\"...\" string=\"true|false\">"
                         "...</｜DSML｜parameter>");
    for (size_t at = key; at + tail <= tag.size; at++) {
        bool is_text = text_has_at(tag, at, agon_str(yes));
        size_t size = is_text ? strlen(yes) : strlen(no);
        if (!is_text && !text_has_at(tag, at, agon_str(no)))
            continue;
        if (at + size + tail > tag.size)
            break;
        *ret = (struct parameter){
            .key = {tag.data + key, at - key},
            .value = {tag.data + at + size, tag.size - tail - at - size},
            .is_text = is_text,
        };
        return check_tag(p, tag, "parameter");
    }
    return malformed(p, "a parameter has no string=\"true\" or string=\"false\"");
}

/* The parameters of one call, as the text of a JSON object. */
static int read_parameters(struct parser *p, struct agon_buf *arguments)
{
    json_t *seen AGON_AUTO(agon_json_decrefp) = json_object();
    enum stop stop = STOP_PARAMETER;
    agon_buf_addc(arguments, '{');
    while (stop == STOP_PARAMETER) {
        struct agon_str tag, between;
        struct parameter param = {0};
        if (read_to(p, STOP_PARAMETER_END, STOP_PARAMETER_END, &tag) == STOP_NONE)
            return malformed(p, "a parameter is not closed");
        int r = read_parameter(p, tag, &param);
        if (r)
            return r;
        if (json_object_getn(seen, param.key.data, param.key.size))
            return malformed(p, "parameter \"%.*s\" is given twice",
                             (int)(param.key.size < 80 ? param.key.size : 80), param.key.data);
        if (json_object_setn_new(seen, param.key.data, param.key.size, json_true()))
            return AGON_ENOMEM;
        agon_buf_adds(arguments, json_object_size(seen) > 1 ? ", " : "");
        agon_json_dump_string(arguments, param.key);
        agon_buf_adds(arguments, ": ");
        if (param.is_text)
            agon_json_dump_string(arguments, param.value);
        else
            agon_buf_add_str(arguments, param.value);
        stop = read_to(p, STOP_PARAMETER, STOP_INVOKE_END, &between);
        if (stop == STOP_NONE || !agon_str_is(between, ">\n"))
            return malformed(p,
                             "after a parameter comes neither another one nor the end of the call");
    }
    agon_buf_addc(arguments, '}');
    return 0;
}

static int read_call(struct parser *p, json_t *calls)
{
    struct agon_buf arguments AGON_AUTO(agon_buf_deinit) = AGON_BUF(4L * COMPLETION_BYTES_MAX);
    struct agon_str tag, name = {0};
    enum stop stop = read_to(p, STOP_PARAMETER, STOP_INVOKE_END, &tag);
    if (stop == STOP_NONE)
        return malformed(p, "a call is not closed");
    int r = read_name(p, tag, &name);
    if (r || (stop == STOP_PARAMETER && (r = read_parameters(p, &arguments))))
        return r;
    if (stop == STOP_INVOKE_END)
        agon_buf_adds(&arguments, "{}");
    if (arguments.failed)
        return AGON_ENOMEM;
    json_t *call = json_pack("{s:s, s:{s:s%, s:s%}}", "type", "function", "function", "name",
                             name.data, name.size, "arguments", arguments.data, arguments.size);
    return json_array_append_new(calls, call) ? AGON_ENOMEM : 0;
}

static int read_calls(struct parser *p, json_t *calls)
{
    for (;;) {
        struct agon_str between;
        enum stop stop = read_to(p, STOP_INVOKE, STOP_CALLS_END, &between);
        if (stop == STOP_NONE)
            return malformed(p, "the block of calls is not closed");
        if (!agon_str_is(between, ">\n"))
            return malformed(p, "unexpected text between the tags of the calls");
        if (stop == STOP_CALLS_END)
            return 0;
        int r = read_call(p, calls);
        if (r)
            return r;
    }
}

static int read_turn(struct parser *p, enum agon_thinking thinking, struct agon_str *reasoning,
                     struct agon_str *content, json_t *calls)
{
    int r;
    *reasoning = (struct agon_str){p->text.data, 0};
    if (thinking && read_to(p, STOP_THINK_END, STOP_CALLS, reasoning) != STOP_THINK_END)
        return malformed(p, "thinking does not end in </think>");
    enum stop stop = read_to(p, STOP_EOS, STOP_CALLS, content);
    if (stop == STOP_NONE)
        return malformed(p, "the turn does not end in <｜end▁of▁sentence｜>");
    if (stop == STOP_CALLS) {
        struct agon_str tail;
        if ((r = read_calls(p, calls)))
            return r;
        (void)read_to(p, STOP_EOS, STOP_EOS, &tail); /* EOS may be missing behind calls */
        if (tail.size)
            return malformed(p, "unexpected text after the calls");
    }
    if (p->at != p->text.size)
        return malformed(p, "unexpected text after the end");
    if ((r = check_prose(p, *reasoning, "thinking")))
        return r;
    return check_prose(p, *content, "content");
}

int agon_completion_parse(json_t **ret, const struct agon_completion *completion,
                          enum agon_thinking thinking, char reason[AGON_REASON_SIZE],
                          struct agon_err *err)
{
    struct parser p AGON_AUTO(parser_deinit) = {.reason = reason};
    struct agon_str reasoning = {0}, content = {0};
    if (completion->text.size > COMPLETION_BYTES_MAX)
        return malformed(&p, "over %d bytes", COMPLETION_BYTES_MAX);
    if (!agon_utf8_valid(completion->text))
        return malformed(&p, "no valid UTF-8");
    if (completion->text.size && memchr(completion->text.data, 0, completion->text.size))
        return malformed(&p, "a NUL byte");
    json_t *calls AGON_AUTO(agon_json_decrefp) = json_array();
    int r = calls ? parser_init(&p, completion) : AGON_ENOMEM;
    if (r == 0)
        r = read_turn(&p, thinking, &reasoning, &content, calls);
    if (r == AGON_PARSE_MALFORMED)
        return r;
    json_t *message = r ? NULL
                        : json_pack("{s:s, s:s%, s:s%, s:O}", "role", "assistant", "content",
                                    content.data, content.size, "reasoning_content", reasoning.data,
                                    reasoning.size, "tool_calls", calls);
    if (!message)
        return agon_fail(err, AGON_ENOMEM, "completion: out of memory");
    *ret = message;
    return 0;
}
