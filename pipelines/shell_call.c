/* Tools in the shell: their signatures, and calls as the model makes them or as name=value. */
#include "base/json.h"
#include "pipelines/shell.h"
#include "synth/render.h"

#include <stdlib.h>

int shell_tool_find(const struct shell *sh, const char *name, size_t n)
{
    for (int i = 0; i < agon_runtime_n_tools(sh->rt); i++) {
        const char *tool = agon_runtime_tool(sh->rt, i)->name;
        if (strlen(tool) == n && memcmp(tool, name, n) == 0)
            return i;
    }
    return -1;
}

/* ---- .tools ---- */

static void print_signature(const struct shell *sh, const struct agon_tool *tool)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    agon_render_signature(&text, tool);
    if (tool->writes)
        agon_buf_adds(&text, "  (writes)");
    fputs(shell_on(sh, SHELL_HEAD), stdout);
    shell_text(sh, agon_buf_text(&text), 4);
    fputs(shell_off(sh), stdout);
}

static bool is_required(const json_t *params, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(params, "required"), i,
                       one) if (strcmp(json_string_value(one) ?: "", name) == 0) return true;
    return false;
}

/* "  city: string, required. The city." */
static void print_parameter(const struct shell *sh, const json_t *params, const char *name,
                            const json_t *schema)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    const json_t *dflt = json_object_get(schema, "default"),
                 *values = json_object_get(schema, "enum");
    agon_buf_addf(&text, "  %s: ", name);
    agon_render_type(&text, schema);
    agon_buf_adds(&text, is_required(params, name) ? ", required" : ", optional");
    if (dflt) {
        agon_buf_adds(&text, ", default ");
        agon_json_dump(&text, dflt);
    }
    if (values) {
        agon_buf_adds(&text, ", one of ");
        agon_json_dump(&text, values);
    }
    agon_buf_addf(&text, ". %s", agon_json_text(schema, "description", ""));
    shell_text(sh, agon_buf_text(&text), 6);
}

static void print_tool(const struct shell *sh, const struct agon_tool *tool)
{
    const char *name;
    json_t *schema;
    print_signature(sh, tool);
    fputs("  ", stdout);
    shell_text_after(sh, tool->description, 2);
    json_object_foreach(json_object_get(tool->params, "properties"), name, schema)
        print_parameter(sh, tool->params, name, schema);
}

int shell_tools(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)err;
    if (*rest) {
        int i = shell_tool_find(sh, rest, strlen(rest));
        if (i < 0)
            return shell_error(sh, "no tool '%.64s'; .tools lists them", rest);
        print_tool(sh, agon_runtime_tool(sh->rt, i));
        return 0;
    }
    for (int i = 0; i < agon_runtime_n_tools(sh->rt); i++) {
        print_signature(sh, agon_runtime_tool(sh->rt, i));
        fputs("    ", stdout);
        shell_text_after(sh, agon_runtime_tool(sh->rt, i)->description, 4);
    }
    return 0;
}

/* ---- arguments ---- */

/* May a value of this schema be text? */
static bool takes_text(const json_t *schema)
{
    size_t i;
    json_t *one;
    if (strcmp(agon_json_text(schema, "type", ""), "string") == 0)
        return true;
    json_array_foreach(json_object_get(schema, "anyOf"), i, one) if (takes_text(one)) return true;
    return false;
}

/* Where the value that begins here ends: in a string or brackets, spaces do not end it. */
static const char *value_end(const char *p)
{
    int depth = 0;
    bool quoted = false;
    for (; *p; p++) {
        if (quoted && *p == '\\' && p[1])
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted && strchr("[{", *p))
            depth++;
        else if (!quoted && strchr("]}", *p))
            depth--;
        else if (!quoted && depth <= 0 && strchr(" \t\n", *p))
            break;
    }
    return p;
}

/* Text alone where the schema is of text (unless it is in quotes), "a,b" for a list of texts, else
 * JSON; text where it is no JSON: the tool says what is wrong with it. */
static json_t *parse_value(struct agon_str text, const json_t *schema)
{
    json_t *value = NULL;
    bool plain = strcmp(agon_json_text(schema, "type", ""), "string") == 0;
    if ((!plain || (text.size && text.data[0] == '"')) && !agon_json_parse(&value, text, NULL))
        return value;
    bool list = strcmp(agon_json_text(schema, "type", ""), "array") == 0 &&
                takes_text(json_object_get(schema, "items"));
    if (!list)
        return json_stringn(text.data, text.size);
    value = json_array();
    while (value && text.size > 0) {
        const char *comma = memchr(text.data, ',', text.size);
        size_t n = comma ? (size_t)(comma - text.data) : text.size;
        json_array_append_new(value, json_stringn(text.data, n));
        n += comma != NULL;
        text.data += n;
        text.size -= n;
    }
    return value;
}

static json_t *parse_pairs(struct shell *sh, const struct agon_tool *tool, const char *text)
{
    json_auto_t *all = json_object();
    const json_t *properties = json_object_get(tool->params, "properties");
    for (const char *p = text; *p; p += strspn(p, " \t\n")) {
        size_t n = strcspn(p, "= \t\n");
        if (n == 0 || p[n] != '=') {
            shell_error(sh, "'%.40s': write %s {\"name\": value} or %s name=value", p, tool->name,
                        tool->name);
            return NULL;
        }
        char *name = strndup(p, n);
        const char *from = p + n + 1, *end = value_end(from);
        struct agon_str value = {from, (size_t)(end - from)};
        int bad = !name || json_object_set_new(
                               all, name, parse_value(value, json_object_get(properties, name)));
        free(name);
        if (bad) {
            shell_error(sh, "'%.40s' is no text that can be sent", p);
            return NULL;
        }
        p = end;
    }
    return AGON_STEAL(all);
}

json_t *shell_arguments(struct shell *sh, const struct agon_tool *tool, const char *text)
{
    struct agon_err why;
    json_t *value = NULL;
    if (*text != '{')
        return parse_pairs(sh, tool, text);
    if (agon_json_parse(&value, agon_str(text), &why)) {
        shell_error(sh, "arguments: %s", why.text);
        return NULL;
    }
    return value;
}

/* ---- a call ---- */

/* "NAME {JSON}" or "NAME name=value ...". */
int shell_call(struct shell *sh, const char *line, struct agon_err *err)
{
    size_t n = strcspn(line, " \t\n{");
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    const struct agon_tool *tool = agon_runtime_tool(sh->rt, shell_tool_find(sh, line, n));
    const char *rest = line + n + strspn(line + n, " \t\n");
    json_auto_t *arguments = shell_arguments(sh, tool, rest);
    if (!arguments)
        return 0;
    agon_json_dump(&text, arguments);
    size_t n_writes = json_array_size(agon_instance_writes(shell_instance(sh)));
    int r = agon_instance_call(shell_instance(sh), tool->name, agon_buf_str(&text), &result, err);
    if (r < 0)
        return r;
    if (r == AGON_TOOL_ERROR)
        return shell_error(sh, "%s", agon_buf_text(&result));
    shell_value_text(sh, agon_buf_text(&result));
    if (json_array_size(agon_instance_writes(shell_instance(sh))) > n_writes && sh->interactive)
        printf("%s(the world has changed: .diff shows how, .undo takes it back)%s\n",
               shell_on(sh, SHELL_DIM), shell_off(sh));
    return 0;
}
