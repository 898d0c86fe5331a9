/* Calls: see call.h. */
#include "synth/call.h"

#include "base/json.h"
#include "envs/schema.h"
#include "synth/cleantext.h"
#include "synth/page.h"

enum {
    RESULT_BYTES_MAX = 1 << 20, /* of a whole result, before paging */
    CALLS_MAX = 64,             /* of one turn; more are refused one by one */
};

int agon_calls_init(struct agon_calls *c, const struct agon_episode_tool *tools, int n_tools,
                    struct agon_err *err)
{
    *c = (struct agon_calls){tools, n_tools, json_object(), 0};
    return c->results ? 0 : agon_fail(err, AGON_ENOMEM, "calls: out of memory");
}

void agon_calls_deinit(struct agon_calls *c)
{
    json_decref(c->results);
    *c = (struct agon_calls){0};
}

void agon_call_deinit(struct agon_call *call)
{
    agon_buf_deinit(&call->memo);
    agon_buf_deinit(&call->whole);
}

static const struct agon_episode_tool *tool_find(const struct agon_calls *c, const char *name)
{
    for (int i = 0; i < c->n_tools; i++)
        if (strcmp(c->tools[i].name, name) == 0)
            return &c->tools[i];
    return NULL;
}

static int refuse_unknown(const struct agon_calls *c, const char *name, struct agon_buf *b)
{
    agon_buf_addf(b, "no tool '%.64s'; there are: ", name);
    for (int i = 0; i < c->n_tools; i++)
        agon_buf_addf(b, "%s%s", i ? ", " : "", c->tools[i].name);
    return AGON_CALL_REFUSED;
}

/* Take `more` out of the arguments. 0, or AGON_CALL_REFUSED with the reason in b. */
static int take_more(json_t *arguments, int *ret_page, struct agon_buf *b)
{
    const json_t *more = json_object_get(arguments, "more");
    *ret_page = 1;
    if (!more)
        return 0;
    json_int_t page = json_integer_value(more);
    if (!json_is_integer(more) || page < 1 || page > 1000000) {
        agon_buf_adds(b, "arguments.more: expected a page, from 1");
        return AGON_CALL_REFUSED;
    }
    *ret_page = (int)page;
    json_object_del(arguments, "more");
    return 0;
}

static int call_run(const struct agon_episode_tool *tool, const json_t *arguments,
                    struct agon_buf *b, struct agon_err *err)
{
    struct agon_err why;
    const json_t *schema =
        json_object_get(json_object_get(tool->function, "function"), "parameters");
    if (!tool->checks_arguments && agon_schema_fits(schema, arguments, "arguments", &why)) {
        agon_buf_adds(b, why.text);
        return AGON_CALL_REFUSED;
    }
    return tool->call(tool->user, tool->name, arguments, b, err);
}

/* The whole text of the call's result: a stored one for later pages, else a new one. */
static int call_result(struct agon_calls *c, const struct agon_episode_tool *tool,
                       const json_t *arguments, struct agon_call *call, struct agon_err *err)
{
    const json_t *stored =
        call->page > 1 ? json_object_get(c->results, agon_buf_text(&call->memo)) : NULL;
    if (stored) {
        agon_buf_adds(&call->whole, json_string_value(stored));
        return 0;
    }
    return call_run(tool, arguments, &call->whole, err);
}

/* Run it: call->status and call->whole. */
static int call_one(struct agon_calls *c, const char *name, json_t *arguments,
                    struct agon_call *call, struct agon_err *err)
{
    const struct agon_episode_tool *tool = tool_find(c, name);
    int r = tool ? take_more(arguments, &call->page, &call->whole)
                 : refuse_unknown(c, name, &call->whole);
    if (!r) {
        agon_buf_addf(&call->memo, "%s ", name);
        agon_json_dump_sorted(&call->memo, arguments);
        r = call_result(c, tool, arguments, call, err);
        c->n_made++;
    }
    if (r < 0)
        return r;
    if (call->whole.failed) { /* a result over the limit is the tool's fault, not ours */
        agon_buf_reset(&call->whole);
        agon_buf_addf(&call->whole, "the result is over %d bytes; ask for less", RESULT_BYTES_MAX);
        r = AGON_CALL_REFUSED;
    }
    agon_cleantext_buf(&call->whole); /* a sentence may have been cut inside a character */
    call->status = r;
    return 0;
}

int agon_calls_make(struct agon_calls *c, const json_t *request, size_t index,
                    struct agon_call *ret, struct agon_err *err)
{
    const json_t *function = json_object_get(request, "function");
    json_auto_t *arguments = NULL;
    struct agon_err why = {0};
    *ret = (struct agon_call){
        .page = 1, .memo = AGON_BUF(RESULT_BYTES_MAX), .whole = AGON_BUF(RESULT_BYTES_MAX)};
    int r =
        agon_json_parse(&arguments, agon_str(agon_json_text(function, "arguments", "{}")), &why);
    if (r == AGON_ENOMEM)
        return agon_fail(err, r, "%s", why.text);
    if (!r && index < CALLS_MAX)
        return call_one(c, agon_json_text(function, "name", ""), arguments, ret, err);
    ret->status = AGON_CALL_REFUSED;
    ret->short_text = true;
    if (r) /* a key twice, too deep: the model's doing */
        agon_buf_addf(&ret->whole, "arguments: %s", why.text);
    else
        agon_buf_addf(&ret->whole, "at most %d calls in one turn", CALLS_MAX);
    return 0;
}

bool agon_call_is_past(const struct agon_call *call, int n_pages)
{
    return call->page > n_pages;
}

int agon_call_show(const struct agon_call *call, size_t cap, struct agon_buf *shown)
{
    struct agon_str whole = agon_buf_str(&call->whole);
    if (call->status == AGON_CALL_REFUSED && strncmp(agon_buf_text(&call->whole), "error: ", 7))
        agon_buf_adds(shown, "error: ");
    if (call->short_text) {
        agon_buf_add_str(shown, whole);
        return 1;
    }
    int n_pages = agon_page_cut(shown, whole, cap, call->page);
    if (agon_call_is_past(call, n_pages))
        agon_buf_addf(shown, "error: page %d is past the last, %d", call->page, n_pages);
    return n_pages;
}

int agon_calls_keep(struct agon_calls *c, const struct agon_call *call, struct agon_err *err)
{
    return json_object_set_new(c->results, agon_buf_text(&call->memo),
                               json_stringn(agon_buf_text(&call->whole), call->whole.size))
               ? agon_fail(err, AGON_ENOMEM, "calls: out of memory")
               : 0;
}
