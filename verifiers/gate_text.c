/*
 * Gate 7: prompt, checks and answer say the same things. Each check's text stands in
 * the prompt; what the prompt states is looked at by a check or named by the answer
 * schema; what a check compares with is stated by the prompt; the answer is neither in
 * the prompt nor told by the schema or a tool's description nor written into the code; and no other
 * task line asks the same.
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"
#include "verifiers/lexicon.h"
#include "verifiers/skeleton.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const double likeness_max =
    0.8; /* of word trigrams: the same question about another name is below it */
enum { SHORT_TEXT_MAX = 2, SMALL_NUMBER_MIN = -1, SMALL_NUMBER_MAX = 10 };

struct text_run {
    struct gate_run *g;
    struct agon_str prompt;
    struct agon_mentions mentions;
    struct agon_literals verifier, solution;
    struct agon_buf schema; /* the answer schema, as text */
    json_t *identifiers;
};

static void text_run_deinit(struct text_run *t)
{
    agon_mentions_deinit(&t->mentions);
    agon_literals_deinit(&t->verifier);
    agon_literals_deinit(&t->solution);
    agon_buf_deinit(&t->schema);
    json_decref(t->identifiers);
}

/* ---- looking things up ---- */

/* Does `part` stand in `text`, letter case aside? */
static bool text_has(struct agon_str text, const char *part)
{
    size_t size = strlen(part);
    for (size_t i = 0; size && i + size <= text.size; i++)
        if (!strncasecmp(text.data + i, part, size))
            return true;
    return false;
}

/* The same with runs of white space as one space each, so that line breaks do not matter. */
static bool text_has_words(const char *text, const char *part)
{
    for (const char *start = text; *start; start++) {
        const char *t = start, *p = part;
        while (*p && *t) {
            bool space = isspace((unsigned char)*p) && isspace((unsigned char)*t);
            if (!space && *p != *t)
                break;
            if (!space) {
                p++;
                t++;
                continue;
            }
            while (isspace((unsigned char)*p))
                p++;
            while (isspace((unsigned char)*t))
                t++;
        }
        while (isspace((unsigned char)*p))
            p++;
        if (!*p)
            return true;
    }
    return false;
}

/* A number of the schema (minItems, minimum, an enumerated value, a number in a description). */
static bool schema_has_number(const json_t *schema, double number)
{
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_number(schema))
        return fabs(json_number_value(schema)) == number;
    if (json_is_string(schema)) {
        struct agon_mentions m = {0};
        bool found = !agon_prompt_mentions(&m, agon_str(json_string_value(schema)), NULL) &&
                     agon_mentions_number(&m, number);
        agon_mentions_deinit(&m);
        return found;
    }
    json_object_foreach((json_t *)(uintptr_t)schema, key,
                        value) if (schema_has_number(value, number)) return true;
    json_array_foreach(schema, i, value) if (schema_has_number(value, number)) return true;
    return false;
}

static bool literals_have_number(const struct agon_literals *l, const struct agon_mention *m)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct agon_literal *one = &l->items[i];
        if (one->label)
            continue;
        if (one->is_number &&
            (one->number == m->number || (m->percent && one->number * 100 == m->number) ||
             (m->ordinal && one->number + 1 == m->number)))
            return true;
        if (!one->is_number && text_has(agon_str(one->text), m->text))
            return true;
    }
    return false;
}

static bool literals_have_text(const struct agon_literals *l, const char *text)
{
    for (size_t i = 0; i < l->n; i++)
        if (!l->items[i].label && text_has(agon_str(l->items[i].text), text))
            return true;
    return false;
}

/* ---- the rules ---- */

static int text_of_checks(struct text_run *t)
{
    for (int i = 0; i < t->g->checks.n_checks; i++) {
        const struct agon_check_result *c = &t->g->checks.checks[i];
        if (text_has_words(t->g->in->task->prompt, c->text))
            continue;
        struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
        gate_example(&example, agon_str(c->text));
        return gate_refuse(
            t->g, "the text of check '%s' does not stand in the prompt word for word: \"%s\"",
            c->name, agon_buf_text(&example));
    }
    return 0;
}

/* No question is asked twice in one task. */
static int text_repeats(struct text_run *t)
{
    int at[2];
    if (!agon_checks_repeat(agon_str(t->g->in->task->verifier), t->g->checks.n_checks,
                            t->g->golden.run.answer, at))
        return 0;
    return gate_refuse(t->g, "check '%s' asks what check '%s' asks already; ask for something else",
                       t->g->checks.checks[at[1]].name, t->g->checks.checks[at[0]].name);
}

/* What the prompt states, a check looks at or the schema names. */
static int text_is_enforced(struct text_run *t)
{
    for (size_t i = 0; i < t->mentions.n; i++) {
        const struct agon_mention *m = &t->mentions.items[i];
        if (m->loose)
            continue;
        bool found;
        if (m->kind == AGON_MENTION_NUMBER)
            found = literals_have_number(&t->verifier, m) ||
                    schema_has_number(t->g->in->task->answer_schema, m->number);
        else
            found = literals_have_text(&t->verifier, m->text) ||
                    text_has(agon_buf_str(&t->schema), m->text) ||
                    json_object_get(t->identifiers, m->text);
        if (found)
            continue;
        const char *quote = m->kind == AGON_MENTION_QUOTED ? "'" : "";
        return gate_refuse(t->g,
                           "the prompt says %s%s%s but no check compares with %s%s%s and the "
                           "answer schema does not name it",
                           quote, m->text, quote, quote, m->text, quote);
    }
    return 0;
}

/* A number written as text, or a text: what the prompt says of it. */
static bool prompt_states(const struct text_run *t, const struct agon_literal *one)
{
    if (one->is_number)
        return agon_mentions_number(&t->mentions, one->number);
    if (text_has(t->prompt, one->text))
        return true;
    char *end;
    double number = strtod(one->text, &end);
    return end != one->text && !*end && agon_mentions_number(&t->mentions, fabs(number));
}

/* What a check compares with, the prompt states. */
static int text_is_stated(struct text_run *t)
{
    for (size_t i = 0; i < t->verifier.n; i++) {
        const struct agon_literal *one = &t->verifier.items[i];
        if (!one->compared || prompt_states(t, one))
            continue;
        const char *quote = one->is_number ? "" : "'";
        return gate_refuse(t->g, "a check compares with %s%s%s but the prompt does not say so",
                           quote, one->text, quote);
    }
    return 0;
}

static bool literal_is_leaf(const struct agon_literal *one, const json_t *leaf)
{
    if (one->label)
        return false;
    if (json_is_string(leaf))
        return !one->is_number && !strcmp(one->text, json_string_value(leaf));
    return one->is_number && one->number == fabs(json_number_value(leaf));
}

/* Too small to be accused of being the answer in disguise: 3 may be any count. */
static bool leaf_is_small(const json_t *leaf)
{
    if (json_is_string(leaf))
        return json_string_length(leaf) <= SHORT_TEXT_MAX;
    double number = json_number_value(leaf);
    return !json_is_number(leaf) || (number >= SMALL_NUMBER_MIN && number <= SMALL_NUMBER_MAX);
}

static bool prompt_has_leaf(const struct text_run *t, const json_t *leaf)
{
    if (json_is_string(leaf))
        return json_string_length(leaf) && text_has(t->prompt, json_string_value(leaf));
    return json_is_number(leaf) &&
           agon_mentions_number(&t->mentions, fabs(json_number_value(leaf)));
}

/* The answer is not given away, neither in the prompt nor in the code. */
static int text_hides_answer(struct text_run *t)
{
    const struct agon_template *answer = &t->g->answer;
    bool hidden = false;
    if (json_is_object(t->g->golden.run.answer) || json_is_array(t->g->golden.run.answer))
        if (text_has(t->prompt, agon_buf_text(&t->g->golden_text)))
            return gate_refuse(t->g, "the prompt contains the whole answer");
    for (int i = 0; i < answer->n_leaves; i++)
        hidden = hidden || !prompt_has_leaf(t, answer->leaves[i].value);
    if (!hidden)
        return gate_refuse(
            t->g,
            "everything in the answer stands in the prompt already; ask for something to be found");

    for (int i = 0; i < answer->n_leaves; i++) {
        const json_t *leaf = answer->leaves[i].value;
        if (leaf_is_small(leaf) || prompt_has_leaf(t, leaf))
            continue;
        for (size_t j = 0; j < t->solution.n + t->verifier.n; j++) {
            bool in_solution = j < t->solution.n;
            const struct agon_literal *one =
                in_solution ? &t->solution.items[j] : &t->verifier.items[j - t->solution.n];
            if (literal_is_leaf(one, leaf))
                return gate_refuse(t->g,
                                   "the %s contains %s, a part of the answer (%s) that the prompt "
                                   "does not state; it has "
                                   "to be found through the tools and the world",
                                   in_solution ? "solution" : "verifier", one->text,
                                   answer->leaves[i].path[0] ? answer->leaves[i].path
                                                             : "the whole of it");
        }
    }
    return 0;
}

/* Does the answer schema, which a solver sees, say that the leaf is this: by a single choice, by
 * what stands where nothing is given, by one number between its limits, or in its words? */
static bool schema_tells(const json_t *schema, const json_t *leaf)
{
    const json_t *values = json_object_get(schema, "enum"),
                 *least = json_object_get(schema, "minimum");
    const char *key, *said = agon_json_text(schema, "description", "");
    json_t *below;
    size_t i;
    if (json_array_size(values) == 1 && json_equal(json_array_get(values, 0), leaf))
        return true;
    if (json_equal(json_object_get(schema, "default"), leaf))
        return true;
    if (least && json_equal(least, json_object_get(schema, "maximum")) && json_is_number(leaf) &&
        json_number_value(least) == json_number_value(leaf))
        return true;
    if (json_is_string(leaf) && text_has(agon_str(said), json_string_value(leaf)))
        return true;
    if (json_is_number(leaf) && *said) {
        struct agon_mentions m = {0};
        bool told = !agon_prompt_mentions(&m, agon_str(said), NULL) &&
                    agon_mentions_number(&m, fabs(json_number_value(leaf)));
        agon_mentions_deinit(&m);
        if (told)
            return true;
    }
    json_object_foreach(json_object_get(schema, "properties"), key,
                        below) if (schema_tells(below, leaf)) return true;
    json_array_foreach(json_object_get(schema, "anyOf"), i,
                       below) if (schema_tells(below, leaf)) return true;
    below = json_object_get(schema, "items");
    return below && schema_tells(below, leaf);
}

static int text_schema_is_silent(struct text_run *t)
{
    const struct agon_template *answer = &t->g->answer;
    for (int i = 0; i < answer->n_leaves; i++) {
        const json_t *leaf = answer->leaves[i].value;
        if (leaf_is_small(leaf) || prompt_has_leaf(t, leaf) ||
            !schema_tells(t->g->in->task->answer_schema, leaf))
            continue;
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
        struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
        agon_json_dump(&text, leaf);
        gate_example(&example, agon_buf_str(&text));
        return gate_refuse(t->g,
                           "the answer schema tells %s, a part of the answer (%s), and whoever "
                           "solves the task sees the schema; leave it out",
                           agon_buf_text(&example),
                           answer->leaves[i].path[0] ? answer->leaves[i].path : "the whole of it");
    }
    return 0;
}

/* ---- the tools' descriptions ---- */

enum { DESCRIPTION_BYTES_MAX = 64 << 10, CHOICE_MIN = 8, TELLING_NUMBER_MIN = 100 };

/* What a schema says in words, below its members, too. */
static void schema_words(const json_t *schema, struct agon_buf *b)
{
    static const char *const speaking[] = {"description", "title", "default"};
    const char *key;
    json_t *value;
    for (size_t i = 0; i < sizeof(speaking) / sizeof(*speaking); i++) {
        const json_t *said = json_object_get(schema, speaking[i]);
        if (json_is_string(said))
            agon_buf_addf(b, "\n%s", json_string_value(said));
        else if (json_is_number(said)) {
            agon_buf_adds(b, "\n");
            agon_json_dump(b, said);
        }
    }
    json_object_foreach(json_object_get(schema, "properties"), key, value) schema_words(value, b);
    if (json_object_get(schema, "items"))
        schema_words(json_object_get(schema, "items"), b);
}

/* The value stands in it as words of its own. */
static bool words_tell(const char *words, const json_t *value)
{
    if (json_is_number(value)) {
        struct agon_mentions m = {0};
        bool told = !agon_prompt_mentions(&m, agon_str(words), NULL) &&
                    agon_mentions_number(&m, fabs(json_number_value(value)));
        agon_mentions_deinit(&m);
        return told;
    }
    const char *name = json_string_value(value);
    size_t size = json_string_length(value);
    for (const char *at = words; size && (at = strcasestr(at, name)); at++)
        if ((at == words || !isalnum((unsigned char)at[-1])) && !isalnum((unsigned char)at[size]))
            return true;
    return false;
}

/* One of few choices may be an example, and a small number a limit. */
static bool leaf_could_be_told(const struct agon_leaf *leaf)
{
    double number = fabs(json_number_value(leaf->value));
    if (json_is_number(leaf->value) && number < TELLING_NUMBER_MIN && number == floor(number))
        return false;
    return (json_is_string(leaf->value) || json_is_number(leaf->value)) &&
           (leaf->kind == AGON_DOMAIN_RANGE || json_array_size(leaf->values) == 1 ||
            json_array_size(leaf->values) >= CHOICE_MIN);
}

/* Told alone of all that it might have been: a list of the choices gives nothing away. */
static bool words_single_out(const char *words, const struct agon_leaf *leaf)
{
    size_t i;
    json_t *other;
    if (!words_tell(words, leaf->value))
        return false;
    if (leaf->kind == AGON_DOMAIN_VALUES)
        json_array_foreach(leaf->values, i, other) if (!json_equal(other, leaf->value) &&
                                                       words_tell(words, other)) return false;
    return true;
}

static int tool_is_silent(struct text_run *t, const struct agon_tool *tool)
{
    const struct agon_template *answer = &t->g->answer;
    struct agon_buf words AGON_AUTO(agon_buf_deinit) = AGON_BUF(DESCRIPTION_BYTES_MAX);
    agon_buf_adds(&words, tool->description);
    schema_words(tool->params, &words);
    schema_words(tool->returns, &words);
    for (int i = 0; i < answer->n_leaves; i++) {
        const struct agon_leaf *leaf = &answer->leaves[i];
        if (leaf_is_small(leaf->value) || prompt_has_leaf(t, leaf->value) ||
            !leaf_could_be_told(leaf) || !words_single_out(agon_buf_text(&words), leaf))
            continue;
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
        struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
        agon_json_dump(&text, leaf->value);
        gate_example(&example, agon_buf_str(&text));
        return gate_refuse(t->g,
                           "the description of tool '%s' tells %s, a part of the answer (%s), and "
                           "whoever solves the task reads it; ask for something else",
                           tool->name, agon_buf_text(&example),
                           leaf->path[0] ? leaf->path : "the whole of it");
    }
    return 0;
}

static int text_tools_are_silent(struct text_run *t)
{
    int r = 0;
    for (int k = 0; k < agon_runtime_n_tools(t->g->in->rt) && !r; k++)
        r = tool_is_silent(t, agon_runtime_tool(t->g->in->rt, k));
    return r;
}

/* ---- other tasks ---- */

static int text_is_new(struct text_run *t, struct agon_err *err)
{
    for (int i = 0; i < t->g->in->n_others; i++) {
        const struct agon_task *other = &t->g->in->others[i];
        double likeness = agon_prompt_likeness(t->prompt, agon_str(other->prompt));
        if (likeness < 0)
            return agon_fail(err, AGON_ENOMEM, "out of memory");
        if (likeness < likeness_max)
            continue;
        struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
        gate_example(&example, agon_str(other->prompt));
        return gate_refuse(t->g, "the prompt says nearly the same as that of task %s: \"%s\"",
                           other->id ? other->id : "(new)", agon_buf_text(&example));
    }
    return 0;
}

/* ---- identifiers ---- */

static void identifiers_add(json_t *set, const char *name)
{
    json_object_set_new(set, name, json_true());
}

static void identifiers_of_schema(json_t *set, const json_t *schema)
{
    const char *key;
    json_t *property;
    json_object_foreach(json_object_get(schema, "properties"), key, property)
    {
        identifiers_add(set, key);
        identifiers_of_schema(set, property);
    }
    if (json_object_get(schema, "items"))
        identifiers_of_schema(set, json_object_get(schema, "items"));
}

/* Tables and columns that the golden run read or that the task writes, tools and their arguments,
 * answer keys. */
static json_t *identifiers_of(const struct gate_run *g)
{
    json_t *set = json_object();
    size_t i;
    json_t *one;
    json_array_foreach(g->golden.run.columns, i, one)
    {
        const char *name = json_string_value(one), *dot = strchr(name, '.');
        char table[128];
        snprintf(table, sizeof(table), "%.*s", (int)(dot ? dot - name : 0), name);
        identifiers_add(set, table);
        identifiers_add(set, dot ? dot + 1 : name);
    }
    json_array_foreach(g->in->task->effects, i, one)
        identifiers_add(set, agon_json_text(one, "table", ""));
    for (int k = 0; k < agon_runtime_n_tools(g->in->rt); k++) {
        const struct agon_tool *tool = agon_runtime_tool(g->in->rt, k);
        identifiers_add(set, tool->name);
        identifiers_of_schema(set, tool->params);
        identifiers_of_schema(set, tool->returns);
    }
    identifiers_of_schema(set, g->in->task->answer_schema);
    return set;
}

int gate_text(struct gate_run *g, struct agon_err *err)
{
    const struct agon_task *task = g->in->task;
    struct text_run t AGON_AUTO(text_run_deinit) = {
        .g = g,
        .prompt = agon_str(task->prompt),
        .schema = AGON_BUF(GATE_ANSWER_BYTES_MAX),
        .identifiers = identifiers_of(g),
    };
    agon_json_dump(&t.schema, task->answer_schema);
    int r = gate_prepare(g, err);
    if (!r)
        r = agon_prompt_mentions(&t.mentions, t.prompt, err);
    if (!r)
        r = agon_lua_literals(&t.verifier, agon_str(task->verifier), t.identifiers, err);
    if (!r)
        r = agon_lua_literals(&t.solution, agon_str(task->solution), t.identifiers, err);
    if (r || (r = text_of_checks(&t)) || (r = text_repeats(&t)) || (r = text_is_enforced(&t)) ||
        (r = text_is_stated(&t)) || (r = text_hides_answer(&t)) ||
        (r = text_schema_is_silent(&t)) || (r = text_tools_are_silent(&t)))
        return r;
    return text_is_new(&t, err);
}
