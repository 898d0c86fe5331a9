#include "verifiers/mutants.h"

#include "base/json.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    struct agon_err err;
    if (agon_json_parse(&value, agon_str(text), &err))
        printf("# %s in %s\n", err.text, text);
    return value;
}

/* A template over columns given as JSON, 40 rows read. */
static bool template_of(struct agon_template *ret, const char *answer, const char *schema,
                        const char *columns)
{
    struct agon_columns c = {.values = parse(columns), .n_rows_max = 40};
    json_auto_t *value = parse(answer);
    json_auto_t *s = schema ? parse(schema) : NULL;
    struct agon_err err;
    int r = agon_template_init(ret, value, s, &c, &err);
    agon_columns_deinit(&c);
    return r == 0;
}

/* The domain of the first leaf as JSON, or "0..N by STEP". */
static const char *domain_of(const char *answer, const char *schema, const char *columns)
{
    static char out[500];
    struct agon_template t AGON_AUTO(agon_template_deinit) = {0};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(400);
    if (!template_of(&t, answer, schema, columns) || !t.n_leaves)
        return "no leaf";
    if (t.leaves[0].kind == AGON_DOMAIN_RANGE)
        snprintf(out, sizeof(out), "0..%u by %g", t.leaves[0].n_steps, t.leaves[0].step);
    else
        agon_json_dump(&b, t.leaves[0].values);
    if (b.size)
        snprintf(out, sizeof(out), "%s", agon_buf_text(&b));
    return out;
}

static bool gives(const char *got, const char *want)
{
    if (!strcmp(got, want))
        return true;
    printf("# got  %s\n# want %s\n", got, want);
    return false;
}

TEST(a_leaf_draws_from_the_columns_that_hold_it)
{
    const char *columns =
        "{\"a.x\": [\"Li\", \"Mo\"], \"b.y\": [\"Mo\", \"Nu\"], \"c.z\": [\"Ox\"]}";
    EXPECT(gives(domain_of("\"Mo\"", NULL, columns), "[\"Li\", \"Mo\", \"Nu\"]"));
    EXPECT(gives(domain_of("{\"k\": [\"Ox\"]}", NULL, columns), "[\"Ox\"]"));
    EXPECT(gives(domain_of("\"elsewhere\"", NULL, columns), "[\"elsewhere\"]"));
}

TEST(integers_and_reals_stay_distinct)
{
    EXPECT(gives(domain_of("3", NULL, "{\"a.x\": [3, 4], \"b.y\": [3.0, 4.5]}"), "[3, 4]"));
    EXPECT(gives(domain_of("3.0", NULL, "{\"a.x\": [3, 4], \"b.y\": [3.0, 4.5]}"), "[3.0, 4.5]"));
}

TEST(a_computed_number_has_a_range)
{
    EXPECT(gives(domain_of("7", NULL, "{\"a.x\": [1, 2]}"),
                 "0..40 by 1")); /* at least the rows read */
    EXPECT(gives(domain_of("70", NULL, "{\"a.x\": [1, 2]}"), "0..140 by 1"));
    EXPECT(gives(domain_of("2.25", NULL, "{\"a.x\": [1, 2]}"), "0..450 by 0.01"));
    EXPECT(gives(domain_of("-2.5", NULL, "{\"a.x\": [1, 2]}"), "0..50 by 0.1"));
}

TEST(booleans_and_enumerations_are_known)
{
    EXPECT(gives(domain_of("true", NULL, "{}"), "[false, true]"));
    EXPECT(gives(domain_of("{\"k\": \"b\"}",
                           "{\"type\": \"object\", \"properties\": {\"k\": {\"type\": \"string\", "
                           "\"enum\": [\"a\", \"b\"]}}}",
                           "{\"t.c\": [\"b\", \"x\", \"y\"]}"),
                 "[\"a\", \"b\"]"));
}

TEST(a_filled_template_is_the_canonical_writing)
{
    static const char answer[] = "{\"a\": [\"Mo\", {}], \"b\": {\"c\": 3, \"d\": []}, \"e\": null}";
    struct agon_template t AGON_AUTO(agon_template_deinit) = {0};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    REQUIRE(template_of(&t, answer, NULL, "{\"x.y\": [\"Li\", \"Mo\"]}"));
    REQUIRE(t.n_leaves == 3);
    EXPECT(gives(t.leaves[1].path, "b.c"));
    agon_template_fill(&t, (uint32_t[]){UINT32_MAX, UINT32_MAX, UINT32_MAX}, &b);
    EXPECT(gives(agon_buf_text(&b), answer));
    agon_buf_reset(&b);
    agon_template_fill(&t, (uint32_t[]){0, 12, 0}, &b);
    EXPECT(gives(agon_buf_text(&b),
                 "{\"a\": [\"Li\", {}], \"b\": {\"c\": 12, \"d\": []}, \"e\": null}"));
}

TEST(fillings_are_counted_up_to_a_limit)
{
    struct agon_template t AGON_AUTO(agon_template_deinit) = {0};
    REQUIRE(template_of(&t, "[\"Mo\", true, 7]", NULL, "{\"x.y\": [\"Li\", \"Mo\", \"Nu\"]}"));
    EXPECT(agon_template_count(&t, 1e6) == 3 * 2 * 41);
    EXPECT(agon_template_count(&t, 100) == 100);
}

/* ---- mutants ---- */

struct seen {
    char text[4000];
    int n, n_with_golden_writes;
    const json_t *writes;
};

static int see(void *user, const char *what, struct agon_str answer, const json_t *writes,
               struct agon_err *err)
{
    struct seen *s = user;
    size_t n = strlen(s->text);
    (void)err;
    snprintf(s->text + n, sizeof(s->text) - n, "%.*s|", AGON_STR_ARG(answer));
    s->n++;
    s->n_with_golden_writes += writes == s->writes;
    EXPECT(what[0] != '\0');
    return 0;
}

static bool mutants_with(const char *answer, const char *columns,
                         const struct agon_mutant_options *options, struct seen *ret)
{
    struct agon_template t AGON_AUTO(agon_template_deinit) = {0};
    struct agon_rng rng;
    struct agon_err err;
    json_auto_t *value = parse(answer);
    *ret = (struct seen){.n = 0};
    agon_rng_init(&rng, 3);
    return template_of(&t, answer, NULL, columns) &&
           agon_mutants_answer(value, &t, NULL, options, &rng, see, ret, &err) == 0;
}

static bool mutants_of(const char *answer, const char *columns, int one_leaf_max, int two_leaf,
                       struct seen *ret)
{
    return mutants_with(answer, columns,
                        &(struct agon_mutant_options){one_leaf_max, two_leaf, false}, ret);
}

/* What comes behind the others. */
static bool far_mutants_of(const char *answer, struct seen *ret)
{
    static struct seen without;
    return mutants_of(answer, "{}", 100, 0, &without) &&
           mutants_with(answer, "{}", &(struct agon_mutant_options){100, 0, true}, ret) &&
           EXPECT(!strncmp(ret->text, without.text, strlen(without.text))) &&
           memmove(ret->text, ret->text + strlen(without.text),
                   strlen(ret->text + strlen(without.text)) + 1);
}

TEST(a_leaf_is_replaced_by_the_other_values_of_its_column)
{
    struct seen s;
    REQUIRE(mutants_of("{\"k\": \"Mo\"}", "{\"x.y\": [\"Li\", \"Mo\", \"Nu\"]}", 100, 0, &s));
    EXPECT(gives(s.text, "{\"k\": \"Li\"}|{\"k\": \"Nu\"}|"
                         "{\"k\": \"mO\"}|{\"k\": \"Mo \"}|{\"k\": \"\"}|"));
}

TEST(a_number_of_a_column_is_also_missed_by_one)
{
    struct seen s;
    REQUIRE(mutants_of("[7]", "{\"x.y\": [3, 7]}", 100, 0, &s));
    EXPECT_HAS(s.text, "[3]|");
    EXPECT_HAS(s.text, "[8]|[6]|");
}

TEST(a_real_number_is_also_missed_in_its_last_place)
{
    struct seen s;
    REQUIRE(mutants_of("2.35", "{}", 100, 0, &s));
    EXPECT(gives(s.text, "3.35|1.35|4.7|-2.35|2.36|2.34|"));
}

static bool same(const char *a, const char *b, const char *schema)
{
    json_auto_t *x = parse(a), *y = parse(b), *s = parse(schema);
    return agon_answers_same(x, y, s);
}

TEST(answers_are_the_same_by_value_and_within_the_stated_tolerance)
{
    static const char schema[] =
        "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": "
        "\"array\", \"items\": {\"type\": \"number\", \"tolerance\": 0.1}}}}";
    EXPECT(same("{\"a\": 1, \"b\": [2]}", "{\"b\": [2.0], \"a\": 1}", "{}"));
    EXPECT(!same("{\"a\": 1}", "{\"a\": 1, \"b\": 2}", "{}"));
    EXPECT(!same("[1, 2]", "[2, 1]", "{}"));
    EXPECT(!same("[1, 2]", "[1]", "{}"));
    EXPECT(!same("\"Mo\"", "\"mo\"", "{}"));
    EXPECT(!same("3", "\"3\"", "{}"));
    EXPECT(same("{\"n\": [2.5]}", "{\"n\": [2.59]}", schema));
    EXPECT(!same("{\"n\": [2.5]}", "{\"n\": [2.61]}", schema));
    EXPECT(!same("9007199254740993", "9007199254740992", "{}")); /* not through a double */
}

TEST(a_computed_number_is_one_more_one_less_doubled_negated)
{
    struct seen s;
    REQUIRE(mutants_of("{\"k\": 70}", "{}", 100, 0, &s));
    EXPECT(gives(s.text, "{\"k\": 71}|{\"k\": 69}|{\"k\": 140}|{\"k\": -70}|"));
    REQUIRE(mutants_of("0", "{}", 100, 0, &s)); /* doubled and negated it is the same: no mutant */
    EXPECT(gives(s.text, "1|-1|"));
}

TEST(elements_are_dropped_doubled_and_swapped)
{
    struct seen s;
    REQUIRE(mutants_of("[true, \"Ox\"]", "{}", 1, 0, &s));
    EXPECT_HAS(s.text, "|[\"Ox\"]|");
    EXPECT_HAS(s.text, "|[true]|");
    EXPECT_HAS(s.text, "|[true, true, \"Ox\"]|");
    EXPECT_HAS(s.text, "|[\"Ox\", true]|");
}

TEST(what_lies_far_off_comes_last)
{
    struct seen s;
    REQUIRE(far_mutants_of("120", &s));
    EXPECT(gives(s.text, "120.5|0|-120|1200|12|1120|10120|4294967416|null|\"x\"|"));
    REQUIRE(far_mutants_of("2.5", &s));
    EXPECT(gives(s.text, "0.0|-2.5|25.0|10002.5|null|\"x\"|"));
    REQUIRE(far_mutants_of("true", &s));
    EXPECT(gives(s.text, "null|\"x\"|7|"));
    REQUIRE(far_mutants_of("\"1 \303\266\"", &s));
    EXPECT_HAS(s.text, "\"\303\266 1\"|\"1\"|\"1 \"|\" \303\266\"|\"01 \303\266\"|\"xxx");
    EXPECT_HAS(s.text, "xxx\"|\"*\"|\"%\"|\".*\"|\"1 \303\266' OR '1'='2\"|");
    REQUIRE(far_mutants_of("{\"a\": 1, \"b\": [2, 3]}", &s));
    EXPECT_HAS(s.text, "|{\"a\": 2, \"b\": [1, 3]}|{\"a\": 2, \"b\": [1, 3]}|");
    EXPECT_HAS(s.text, "|{\"a\": 1, \"b\": [3, 2]}|{\"a\": 1, \"b\": [3, 2]}|");
    EXPECT_HAS(s.text, "|{\"b\": [2, 3]}|{\"b\": []");
    EXPECT_HAS(s.text, "}|{\"a\": 1}|");
}

TEST(no_mutant_is_the_golden_answer)
{
    struct seen s;
    REQUIRE(mutants_of("[\"Mo\", \"Mo\"]", "{\"x.y\": [\"Li\", \"Mo\"]}", 100, 50, &s));
    EXPECT(s.n > 0);
    EXPECT(!strstr(s.text, "|[\"Mo\", \"Mo\"]|"));
}

TEST(long_columns_are_thinned_out_evenly)
{
    struct seen s;
    struct agon_buf columns AGON_AUTO(agon_buf_deinit) = AGON_BUF(20000);
    agon_buf_adds(&columns, "{\"x.y\": [0");
    for (int i = 1; i < 1000; i++)
        agon_buf_addf(&columns, ", %d", i);
    agon_buf_adds(&columns, "]}");
    REQUIRE(mutants_of("[500]", agon_buf_text(&columns), 9, 0, &s));
    EXPECT_HAS(s.text, "[0]|[100]|[200]|[300]|[400]|[600]|");
}

TEST(writes_are_dropped_doubled_and_given_other_arguments)
{
    struct agon_columns c = {.values = parse("{\"x.y\": [\"Li\", \"Mo\"]}")};
    json_auto_t *answer = parse("{\"k\": 1}");
    json_auto_t *writes = parse("[{\"tool\": \"lend\", \"arguments\": {\"to\": \"Mo\"}}, "
                                "{\"tool\": \"end\", \"arguments\": {}}]");
    struct seen s = {.writes = writes};
    struct agon_err err;
    REQUIRE(agon_mutants_writes(answer, writes, &c, 100, see, &s, &err) == 0);
    /* none; each dropped and doubled; `to` replaced, in other case, with a blank. All with the
     * golden answer. */
    EXPECT(s.n == 8 && s.n_with_golden_writes == 0);
    EXPECT(gives(s.text, "{\"k\": 1}|{\"k\": 1}|{\"k\": 1}|{\"k\": 1}|{\"k\": 1}|{\"k\": 1}|"
                         "{\"k\": 1}|{\"k\": 1}|"));
    agon_columns_deinit(&c);
}
