/* The end of a rollout: see submit.h. */
#include "synth/submit.h"

#include "base/json.h"
#include "envs/codec.h"
#include "envs/schema.h"
#include "synth/call.h"
#include "synth/cleantext.h"
#include "verifiers/verdict.h"

#include <stdlib.h>

enum { ANSWER_BYTES_MAX = 256 << 10 };

/* Deeper than a verifier's cell reads? (An open "object" in the schema may hold anything.) */
static bool is_too_deep(const json_t *value, int depth)
{
    const char *key;
    json_t *child;
    size_t i;
    if (!json_is_object(value) && !json_is_array(value))
        return false;
    if (depth == AGON_CODEC_DEPTH_MAX)
        return true;
    json_object_foreach((json_t *)(uintptr_t)value, key, child)
    {
        if (is_too_deep(child, depth + 1))
            return true;
    }
    json_array_foreach(value, i, child)
    {
        if (is_too_deep(child, depth + 1))
            return true;
    }
    return false;
}

int agon_submit(const json_t *answer_schema, const json_t *arguments, char **ret_answer,
                struct agon_buf *result, struct agon_err *err)
{
    struct agon_err why;
    json_auto_t *answer = NULL;
    const json_t *field = json_object_get(arguments, "answer_text");
    struct agon_str text = {json_string_value(field), json_string_length(field)};
    if (text.size > ANSWER_BYTES_MAX) {
        agon_buf_addf(result, "answer_text is over %d bytes", ANSWER_BYTES_MAX);
        return AGON_CALL_REFUSED;
    }
    int r = agon_json_parse(&answer, text, &why);
    if (r == AGON_ENOMEM)
        return agon_fail(err, r, "%s", why.text);
    if (r) {
        agon_buf_addf(result, "answer_text is no JSON: %s", why.text);
        return AGON_CALL_REFUSED;
    }
    if (agon_schema_fits(answer_schema, answer, "answer", &why)) {
        agon_buf_addf(result, "the answer does not fit its schema: %s", why.text);
        return AGON_CALL_REFUSED;
    }
    if (is_too_deep(answer, 0)) {
        agon_buf_addf(result, "the answer is nested over %d deep", AGON_CODEC_DEPTH_MAX);
        return AGON_CALL_REFUSED;
    }
    if (!(*ret_answer = strndup(text.data, text.size)))
        return agon_fail(err, AGON_ENOMEM, "answer: out of memory");
    agon_buf_adds(result, "submitted");
    return AGON_CALL_LAST;
}

static int checks_push(json_t *checks, const char *name, const char *end, const char *reason)
{
    return json_array_append_new(
        checks, json_pack("{s:o, s:s, s:o*}", "name", agon_cleantext_json(agon_str(name)), "end",
                          end, "reason", reason ? agon_cleantext_json(agon_str(reason)) : NULL));
}

json_t *agon_submit_checks(const struct agon_verdict *v)
{
    static const char *const ends[] = {"pass", "fail", "error"};
    json_t *checks = json_array();
    int failed = !checks;
    for (int i = 0; !failed && i < v->n_checks; i++)
        failed =
            checks_push(checks, v->checks[i].name, ends[v->checks[i].end], v->checks[i].reason);
    if (!failed && v->unclaimed)
        failed = checks_push(checks, "(changes)", "fail", v->unclaimed);
    if (!failed && v->replay)
        failed = checks_push(checks, "(replay)", "error", v->replay);
    if (!failed)
        return checks;
    json_decref(checks);
    return NULL;
}
