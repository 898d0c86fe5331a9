/*
 * What a verifier has read before and is given again (envs/memo.h): nothing that a check
 * can see or is charged tells the difference, and a world that changed is read anew.
 */
#include "envs/changes.h"
#include "envs/memo.h"
#include "envs/world.h"
#include "tests/envs/local.h"
#include "tests/test.h"
#include "verifiers/verifier.h"

#include <stdlib.h>

static const char world_sql[] =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, size REAL) STRICT;"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)"
    " INSERT INTO t SELECT i, CASE WHEN i % 7 THEN 'name ' || (i % 50) END, i * 0.5 FROM n;";

struct setting {
    struct agon_world *world;
    struct agon_verifier *verifier;
    struct agon_err err;
};

static void setting_deinit(struct setting *s)
{
    agon_verifier_free(s->verifier);
    agon_world_free(s->world);
}

static bool setting_init(struct setting *s, const char *verifier)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    local_image(&image, world_sql);
    int r = agon_world_open(&s->world, agon_buf_str(&image), &s->err);
    if (!r)
        r = agon_verifier_load(&s->verifier, s->world, agon_str(verifier), &s->err);
    if (!r)
        r = agon_world_set_query_only(s->world, true, &s->err);
    if (r)
        printf("# %s\n", s->err.text);
    return r == 0;
}

/* Judge one answer as a new run; what it cost. */
struct cost {
    bool ok, pass;
    uint64_t failed, raised;
    int64_t fuel, ops;
    char reason[200];
};

static struct cost judge(struct setting *s, const char *answer)
{
    struct agon_judgement j AGON_AUTO(agon_judgement_deinit) = {0};
    struct cost c = {0};
    agon_world_set_run_ops(s->world, 0);
    c.ok = agon_verifier_run(s->verifier, NULL, agon_str(answer), true, 0, &j, &s->err) == 0;
    c.pass = j.pass;
    c.failed = j.failed;
    c.raised = j.raised;
    c.fuel = j.usage.fuel;
    c.ops = agon_world_run_ops(s->world);
    snprintf(c.reason, sizeof(c.reason), "%s", j.reasons[0] ? j.reasons[0] : "");
    return c;
}

/* The same answer three times: read, and given again twice. Each costs and says the same. */
static struct cost judged_alike(const char *verifier, const char *answer)
{
    struct setting s AGON_AUTO(setting_deinit) = {0};
    struct cost first = {0};
    if (!EXPECT(setting_init(&s, verifier)))
        return first;
    first = judge(&s, answer);
    for (int i = 0; i < 2; i++) {
        struct cost again = judge(&s, answer);
        if (!EXPECT(again.ok && again.pass == first.pass && again.failed == first.failed &&
                    again.raised == first.raised && again.fuel == first.fuel &&
                    again.ops == first.ops && !strcmp(again.reason, first.reason)))
            printf("# fuel %lld, then %lld; operations %lld, then %lld; '%s', then '%s'\n",
                   (long long)first.fuel, (long long)again.fuel, (long long)first.ops,
                   (long long)again.ops, first.reason, again.reason);
    }
    EXPECT(first.ok && first.ops > 0);
    return first;
}

#define CHECK(body) "check{ name = 'a', text = 't', run = function(world, answer) " body " end }"

TEST(values_rows_and_lists_are_given_again_at_the_same_cost)
{
    EXPECT(
        judged_alike(
            CHECK("return world:value('SELECT count(*) FROM t WHERE size > ?', 99.5) == 201"), "1")
            .pass);
    EXPECT(
        judged_alike(CHECK("local r = world:row('SELECT id, name, size FROM t ORDER BY size DESC') "
                           "return r.id == 400 and r.name == 'name 0' and r.size == 200.0 and "
                           "math.type(r.size) == 'float'"),
                     "1")
            .pass);
    EXPECT(judged_alike(
               CHECK("local l = world:rows('SELECT name, id FROM t WHERE id < 9 ORDER BY id') "
                     "return #l == 8 and l[7].name == null and l[8].id == 8"),
               "1")
               .pass);
    EXPECT(judged_alike(CHECK("return #world:rows('SELECT id FROM t WHERE id < 0') == 0 and "
                              "world:row('SELECT id FROM t WHERE id < 0') == nil and "
                              "world:value('SELECT max(id) FROM t WHERE id < 0') == nil"),
                        "1")
               .pass);
}

TEST(large_results_are_read_each_time)
{
    EXPECT(judged_alike(CHECK("return #world:rows('SELECT id, name FROM t') == 400"), "1").pass);
}

TEST(errors_are_raised_each_time)
{
    struct cost c = judged_alike(
        CHECK("world:value('SELECT count(*) FROM t') return world:value(\"SELECT x'00'\") == 1"),
        "1");
    EXPECT(c.raised == 1);
    EXPECT_HAS(c.reason, "BLOB");
}

TEST(a_budget_that_runs_out_does_so_each_time)
{
    /* Some 20 million operations a time; a run may take 10 million. */
    struct cost c = judged_alike(CHECK("for i = 1, 200 do world:value('SELECT count(*) FROM t a, t "
                                       "b WHERE a.size > b.size') end "
                                       "return true"),
                                 "1");
    EXPECT(c.raised == 1);
    EXPECT_HAS(c.reason, "operations");
}

TEST(parameters_tell_results_apart)
{
    struct setting s AGON_AUTO(setting_deinit) = {0};
    REQUIRE(setting_init(
        &s,
        CHECK("return world:value('SELECT name FROM t WHERE id = ?', answer.id) == answer.name and "
              "#world:rows('SELECT typeof(?) AS k', answer.k) == 1 and "
              "world:value('SELECT typeof(?)', answer.k) == answer.type")));
    for (int i = 0; i < 2; i++) {
        EXPECT(
            judge(&s, "{\"id\": 1, \"name\": \"name 1\", \"k\": 1, \"type\": \"integer\"}").pass);
        EXPECT(judge(&s, "{\"id\": 2, \"name\": \"name 2\", \"k\": 1.0, \"type\": \"real\"}").pass);
        EXPECT(
            judge(&s, "{\"id\": 3, \"name\": \"name 3\", \"k\": \"1\", \"type\": \"text\"}").pass);
        EXPECT(judge(&s, "{\"id\": 4, \"name\": \"name 4\", \"k\": \"'1'\", \"type\": \"text\"}")
                   .pass);
        EXPECT(
            !judge(&s, "{\"id\": 4, \"name\": \"name 1\", \"k\": 1, \"type\": \"integer\"}").pass);
    }
}

TEST(the_first_row_is_not_taken_for_all_of_them)
{
    struct setting s AGON_AUTO(setting_deinit) = {0};
    REQUIRE(setting_init(
        &s, CHECK("local q = 'SELECT id FROM t WHERE id < 5 ORDER BY id' "
                  "return world:value(q) == 1 and world:row(q).id == 1 and #world:rows(q) == 4")));
    EXPECT(judge(&s, "1").pass && judge(&s, "1").pass);
}

/* A statement of a tool, run to its end in a call that is kept. */
static bool write_row(struct setting *s, const char *sql)
{
    struct agon_statement *st = NULL;
    int r = agon_world_set_query_only(s->world, false, &s->err);
    if (!r)
        r = agon_world_begin_call(s->world, &s->err);
    if (!r)
        r = agon_statement_get(&st, s->world, AGON_BY_TOOLS, true, agon_str(sql), &s->err);
    bool ended = !r && agon_statement_step(st, &s->err) == AGON_STEP_END;
    if (st)
        (void)agon_statement_end(st);
    if (!r)
        r = agon_world_end_call(s->world, true, &s->err);
    return ended && !r && !agon_world_set_query_only(s->world, true, &s->err);
}

TEST(a_world_that_changed_is_read_anew)
{
    struct setting s AGON_AUTO(setting_deinit) = {0};
    REQUIRE(setting_init(&s, CHECK("return world:value('SELECT count(*) FROM t') == answer")));
    EXPECT(judge(&s, "400").pass && judge(&s, "400").pass);
    REQUIRE(write_row(&s, "DELETE FROM t WHERE id = 400"));
    EXPECT(!judge(&s, "400").pass);
    EXPECT(judge(&s, "399").failed == 0); /* no pass: nobody claims the change */
    REQUIRE(agon_world_reset(s.world, &s.err) == 0);
    EXPECT(judge(&s, "400").pass);
}

TEST(a_perturbed_world_is_read_anew)
{
    struct setting s AGON_AUTO(setting_deinit) = {0};
    struct agon_str column = agon_str("t.name");
    REQUIRE(setting_init(
        &s, CHECK("return world:value('SELECT name FROM t WHERE id = 1') == answer and "
                  "world:value('SELECT name FROM t WHERE id = 2') == 'name 2'")));
    EXPECT(judge(&s, "\"name 1\"").pass && judge(&s, "\"name 1\"").pass);
    REQUIRE(agon_world_perturb(s.world, 5, 0, &column, 1, &s.err) == 0);
    EXPECT(!judge(&s, "\"name 1\"").pass);
    REQUIRE(agon_world_perturb(s.world, 0, 0, NULL, 0, &s.err) == 0);
    EXPECT(judge(&s, "\"name 1\"").pass);
}

/* SQLite writes a bound number with 15 digits: two numbers that differ later are not one. */
TEST(numbers_that_differ_in_the_last_bit_are_not_taken_for_each_other)
{
    struct setting s AGON_AUTO(setting_deinit) = {0};
    REQUIRE(setting_init(&s, "check{ name='a', text='t', run=function(world, answer)"
                             " return world:value('SELECT ?', answer) == answer end }"));
    EXPECT(judge(&s, "0.3").pass);
    EXPECT(judge(&s, "0.30000000000000004").pass);
    EXPECT(judge(&s, "0.3").pass);
}

TEST(nothing_writes_while_a_verifier_judges)
{
    struct setting s AGON_AUTO(setting_deinit) = {0};
    struct agon_statement *st = NULL;
    REQUIRE(setting_init(&s, CHECK("return true")));
    REQUIRE(agon_statement_get(&st, s.world, AGON_BY_TOOLS, true, agon_str("DELETE FROM t"),
                               &s.err) == 0);
    EXPECT(agon_statement_step(st, &s.err) == AGON_STEP_ERROR);
    EXPECT_HAS(s.err.text, "nothing writes");
    (void)agon_statement_end(st);
    EXPECT(agon_changes_logged(s.world) == 0);
    EXPECT(agon_statement_get(&st, s.world, AGON_BY_VERIFIER, false, agon_str("DELETE FROM t"),
                              &s.err) == AGON_WORLD_REFUSED);
    EXPECT(agon_world_set_query_only(s.world, false, &s.err) == 0);
    REQUIRE(agon_statement_get(&st, s.world, AGON_BY_TOOLS, true, agon_str("DELETE FROM t"),
                               &s.err) == 0);
    EXPECT(agon_statement_step(st, &s.err) == AGON_STEP_END);
    (void)agon_statement_end(st);
}
