/* What an audit reads rather than runs: where the answer leaks, and of how much of the prompt the
 * checks speak. */
#include "base/json.h"
#include "verifiers/audit_internal.h"
#include "verifiers/leaves.h"
#include "verifiers/lexicon.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* As gate 7 has it: shorter texts and smaller numbers may stand anywhere by chance. */
enum { TEXT_MIN = 3, NUMBER_MIN = -1, NUMBER_MAX = 10, TELLING_TEXT_MIN = 6 };

struct leaks {
    struct agon_literals tools; /* of tools.lua: descriptions and signatures, too */
    json_t *schema;             /* texts and numbers that the answer schema says, keys and
                                   enumerations aside */
    struct agon_mentions prompt;
};

static void leaks_deinit(struct leaks *l)
{
    agon_literals_deinit(&l->tools);
    agon_mentions_deinit(&l->prompt);
    json_decref(l->schema);
}

static void schema_says(const json_t *schema, json_t *said)
{
    static const char *const speaking[] = {"description", "title", "default"};
    const char *key;
    json_t *value;
    size_t i;
    for (i = 0; i < sizeof(speaking) / sizeof(*speaking); i++)
        if (json_object_get(schema, speaking[i]))
            json_array_append(said, json_object_get(schema, speaking[i]));
    json_object_foreach(json_object_get(schema, "properties"), key, value) schema_says(value, said);
    if (json_object_get(schema, "items"))
        schema_says(json_object_get(schema, "items"), said);
}

/* `part` stands in `text` as words of its own. */
static bool has_words(const char *text, const char *part)
{
    size_t size = strlen(part);
    for (const char *at = text; (at = strstr(at, part)); at++) {
        bool begins = at == text || !isalnum((unsigned char)at[-1]);
        if (begins && !isalnum((unsigned char)at[size]))
            return true;
    }
    return false;
}

/* Is a leaf one that could leak at all? */
static bool telling(const struct audit_task *t, const struct leaks *l, const json_t *leaf)
{
    double number = json_number_value(leaf);
    if (json_is_string(leaf))
        return json_string_length(leaf) >= TEXT_MIN &&
               !has_words(t->task->prompt, json_string_value(leaf));
    return json_is_number(leaf) && (number < NUMBER_MIN || number > NUMBER_MAX) &&
           !agon_mentions_number(&l->prompt, fabs(number));
}

/* Does this text say the leaf, or this number equal it? */
static bool says(const char *text, const json_t *leaf)
{
    struct agon_buf number AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    if (json_is_string(leaf))
        return has_words(text, json_string_value(leaf));
    agon_json_dump(&number, leaf);
    return has_words(text, agon_buf_text(&number));
}

static bool leaks_out(const struct leaks *l, const json_t *leaf)
{
    size_t i;
    json_t *said;
    json_array_foreach(l->schema, i, said)
    {
        if (json_equal(said, leaf) || (json_is_string(said) && says(json_string_value(said), leaf)))
            return true;
    }
    for (i = 0; i < l->tools.n; i++) {
        const struct agon_literal *one = &l->tools.items[i];
        if (one->is_number ? json_is_number(leaf) && one->number == fabs(json_number_value(leaf))
                           : says(one->text, leaf))
            return true;
    }
    return false;
}

static int texts_leaks(struct audit_task *t, struct agon_err *err)
{
    struct leaks l AGON_AUTO(leaks_deinit) = {.schema = json_array()};
    struct agon_columns none AGON_AUTO(agon_columns_deinit) = {.values = json_object()};
    struct agon_template answer AGON_AUTO(agon_template_deinit) = {0};
    schema_says(t->task->answer_schema, l.schema);
    int r = agon_lua_literals(&l.tools, agon_str(t->env->tools), NULL, err);
    if (!r)
        r = agon_prompt_mentions(&l.prompt, agon_str(t->task->prompt), err);
    if (!r)
        r = agon_template_init(&answer, json_object_get(t->task->golden, "answer"),
                               t->task->answer_schema, &none, err);
    int n_telling = 0, n_leaked = 0;
    const struct agon_leaf *first = NULL;
    for (int i = 0; i < answer.n_leaves && !r; i++) {
        const json_t *leaf = answer.leaves[i].value;
        if (!telling(t, &l, leaf))
            continue;
        n_telling++;
        if (!leaks_out(&l, leaf))
            continue;
        n_leaked++;
        if (json_string_length(leaf) >= TELLING_TEXT_MIN && !first)
            first = &answer.leaves[i];
    }
    if (r || !n_leaked)
        return r;
    if (n_leaked == n_telling)
        audit_find(t, "leak", true,
                   "every part of the answer that could be looked for stands in tools.lua or the "
                   "answer schema, which the solver reads");
    else if (first)
        audit_find(t, "leak", false,
                   "'%s', a part of the answer (%s), stands in tools.lua or the "
                   "answer schema",
                   json_string_value(first->value), first->path);
    return 0;
}

/* ---- the prompt's sentences ---- */

/* The end of the sentence that begins at p. */
static const char *sentence_end(const char *p)
{
    while (*p && *p != '\n' && !(strchr(".!?", *p) && (!p[1] || isspace((unsigned char)p[1]))))
        p++;
    return *p ? p + 1 : p;
}

/* Does some word run of a check's text stand in [from, to)? White space counts as one blank. */
static bool speaks_of(const char *from, const char *to, const char *text)
{
    for (const char *start = from; start < to; start++) {
        const char *p = start, *q = text;
        while (p < to && *q &&
               (*p == *q || (isspace((unsigned char)*p) && isspace((unsigned char)*q)))) {
            p++;
            q++;
        }
        if (!*q || (p == to && q > text + 3)) /* whole, or as far as the sentence goes */
            return true;
    }
    return false;
}

static int texts_coverage(struct audit_task *t, struct agon_err *err)
{
    struct agon_verdict checks AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    int n = 0, n_covered = 0,
        r = agon_verdict_checks(t->places[0], agon_str(t->task->verifier), &checks, &reason, err);
    if (r)
        return r < 0 ? r : 0; /* gate 1 says so */
    for (const char *p = t->task->prompt, *end; *p; p = end) {
        end = sentence_end(p);
        while (p < end && isspace((unsigned char)*p))
            p++;
        bool covered = p == end; /* nothing but white space */
        n += !covered;
        bool spoken = false;
        for (int i = 0; i < checks.n_checks && !covered && !spoken; i++)
            spoken = speaks_of(p, end, checks.checks[i].text);
        n_covered += spoken;
    }
    json_object_set_new(t->card, "prompt_covered", json_real(n ? (double)n_covered / n : 0));
    return 0;
}

int audit_texts(struct audit_task *t, struct agon_err *err)
{
    int r = texts_leaks(t, err);
    return r ? r : texts_coverage(t, err);
}
