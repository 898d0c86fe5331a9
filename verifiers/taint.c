/* Arguments that become SQL: see taint.h. */
#include "verifiers/taint.h"

#include "base/json.h"

#include <stdlib.h>

enum { RESULT_MAX = 8 << 20 };
/* Ends each kind of SQL text that it may stand in, and opens another that does not end. */
static const char quotes[] = "a'b\"c";

/* What SQLite says of a statement that does not parse, or that has the text for a name: in brackets
 * or between backticks quotes are letters. */
static bool is_parse_error(const char *said)
{
    static const char *const words[] = {"syntax error",        "unrecognized token",
                                        "incomplete input",    "one statement only",
                                        "no such column: a'b", "no such table: a'b"};
    const char *sql = strstr(said, "SQL: ");
    for (size_t i = 0; sql && i < sizeof(words) / sizeof(*words); i++)
        if (strstr(sql, words[i]))
            return true;
    return false;
}

/* One call on the world as it was at the start: whether its SQL failed to parse. */
static int call_breaks(struct agon_runtime *rt, const struct agon_tool *tool,
                       const json_t *arguments, bool *ret, struct agon_err *err)
{
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(RESULT_MAX);
    struct agon_buf said AGON_AUTO(agon_buf_deinit) = AGON_BUF(RESULT_MAX);
    agon_json_dump(&text, arguments);
    int r = agon_buf_check(&text, "arguments", err);
    if (r || (r = agon_instance_new(&in, rt, err)) ||
        (r = agon_instance_call(in, tool->name, agon_buf_str(&text), &said, err)) < 0)
        return r;
    *ret = r == AGON_TOOL_ERROR && is_parse_error(agon_buf_text(&said));
    return 0;
}

/* text in the place of an argument: itself, or in a list; NULL: the schema takes no text. One that
 * takes a few words alone refuses the call. */
static json_t *argument_of(const json_t *schema, const char *text)
{
    const char *type = agon_json_text(schema, "type", "");
    if (strcmp(type, "string") == 0)
        return json_string(text);
    const json_t *items = json_object_get(schema, "items");
    bool list =
        strcmp(type, "array") == 0 && strcmp(agon_json_text(items, "type", ""), "string") == 0;
    return list ? json_pack("[s]", text) : NULL;
}

/* The argument `name` with quotes breaks the SQL, and with plain text does not. */
static int argument_taints(struct agon_runtime *rt, const struct agon_tool *tool,
                           const json_t *arguments, const char *name, const json_t *schema,
                           bool *ret, struct agon_err *err)
{
    static const char *const texts[] = {quotes, "abc"};
    bool breaks = true;
    for (int plain = 0; plain < 2 && breaks; plain++) {
        json_t *value = argument_of(schema, texts[plain]);
        json_auto_t *changed = value ? json_copy((json_t *)(uintptr_t)arguments) : NULL;
        if (!value)
            return 0;
        if (!changed || json_object_set_new(changed, name, value))
            return agon_fail(err, AGON_ENOMEM, "tool: out of memory");
        int r = call_breaks(rt, tool, changed, &breaks, err);
        if (r)
            return r;
        *ret = plain && !breaks;
    }
    return 0;
}

int agon_taint_check(struct agon_runtime *rt, const struct agon_tool *tool, const json_t *arguments,
                     struct agon_buf *reason, struct agon_err *err)
{
    const char *name;
    json_t *schema;
    json_object_foreach(json_object_get(tool->params, "properties"), name, schema)
    {
        bool taints = false;
        int r = argument_taints(rt, tool, arguments, name, schema, &taints, err);
        if (r)
            return r;
        if (!taints)
            continue;
        agon_buf_addf(reason,
                      "tool '%s' puts the argument '%s' into the text of its SQL, so a quote in it "
                      "becomes SQL: write ? in the statement and hand the argument to world:rows "
                      "after it",
                      tool->name, name);
        return AGON_REJECTED;
    }
    return 0;
}
