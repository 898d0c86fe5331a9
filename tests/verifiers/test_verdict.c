/* Verdicts and trials in real cells: checks, changes and claims, perturbed worlds, batches. */
#include "base/json.h"
#include "tests/envs/open.h"
#include "tests/envs/samples.h"
#include "tests/test.h"
#include "verifiers/trial.h"

#include <stdlib.h>
#include <time.h>

static const char verifier[] =
    "check{ name='hotel', text='the cheapest hotel of Wien', run=function(world, answer)\n"
    "  local best = world:row('SELECT name, price FROM hotel WHERE city = ? AND price IS NOT NULL "
    "ORDER BY price', 'Wien')\n"
    "  answer.price = answer.price + 0\n"
    "  return answer.name == best.name and near(answer.price, best.price, 0.01)\n"
    "end }\n"
    "check{ name='booked', text='book it for Li', run=function(world, answer, changes)\n"
    "  local made = changes:inserted('booking', { guest = 'Li' })\n"
    "  return #made == 1 and world:value('SELECT name FROM hotel WHERE id = ?', made[1].hotel_id) "
    "== answer.name\n"
    "end }\n";

static const char solution[] =
    "return function(tools) local best for _, h in ipairs(tools.hotels{city='Wien'}) do "
    "if h.price ~= null and (not best or h.price < best.price) then best = h end end "
    "tools.book{hotel=best.name, guest='Li'} return {name=best.name, price=best.price} end";

static json_t *schema(void)
{
    return json_loads("{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
                      "\"price\":{\"type\":\"number\"}},"
                      "\"required\":[\"name\",\"price\"]}",
                      0, NULL);
}

static json_t *writes(const char *guest, const char *second)
{
    json_t *all = json_pack("[{s:s, s:{s:s, s:s}}]", "tool", "book", "arguments", "hotel",
                            "Astoria", "guest", guest);
    if (second)
        json_array_append_new(all, json_pack("{s:s, s:{s:s, s:s}}", "tool", "book", "arguments",
                                             "hotel", "Corso", "guest", second));
    return all;
}

/* The verdict on an answer, as a line of text. */
static const char *judge(struct open_env *b, const char *answer, json_t *done)
{
    static char line[600];
    json_auto_t *s = schema(), *owned = done;
    char *text = strdup(verifier);
    struct agon_task task = {.answer_schema = s, .verifier = text};
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    int r = agon_verdict(b->rt, &task, agon_str(answer), owned, &v, &b->out, &b->err);
    free(text);
    if (r) {
        snprintf(line, sizeof(line), "%d %s", r, r < 0 ? b->err.text : agon_buf_text(&b->out));
        return line;
    }
    int used = snprintf(line, sizeof(line), "%s", v.pass ? "pass" : "fail");
    for (int i = 0; i < v.n_checks; i++)
        used += snprintf(line + used, sizeof(line) - (size_t)used, " %s=%d", v.checks[i].name,
                         (int)v.checks[i].end);
    snprintf(line + used, sizeof(line) - (size_t)used, "%s%s%s%s%s%s", v.schema ? " schema: " : "",
             v.schema ? v.schema : "", v.replay ? " replay: " : "", v.replay ? v.replay : "",
             v.unclaimed ? " unclaimed: " : "", v.unclaimed ? v.unclaimed : "");
    return line;
}

TEST(golden_passes_and_foreign_writes_fail)
{
    START(b, sample_tools);
    static const char golden[] = "{\"name\": \"Astoria\", \"price\": 120}";
    EXPECT_TEXT(judge(&b, golden, writes("Li", NULL)), "pass hotel=0 booked=0");
    EXPECT_TEXT(judge(&b, golden, NULL), "fail hotel=0 booked=1");
    EXPECT_TEXT(judge(&b, golden, writes("Li", "Ann")),
                "fail hotel=0 booked=0 unclaimed: inserted booking id=2");
    EXPECT_TEXT(judge(&b, golden, writes("Ann", NULL)),
                "fail hotel=0 booked=1 unclaimed: inserted booking id=1");
    EXPECT_TEXT(judge(&b, "{\"name\": \"Corso\", \"price\": 120}", writes("Li", NULL)),
                "fail hotel=1 booked=1");
    EXPECT_TEXT(judge(&b, golden, writes("Nobody", NULL)),
                "fail replay: call 1 (book): nobody may not book");
}

static const char undoing_tool[] =
    "tool{ name='stars', description='set', writes=true, params=[[{\"type\":\"object\","
    "\"properties\":{\"plus\":{\"type\":\"integer\"}},\"required\":[\"plus\"]}]], "
    "returns=[[{\"type\":\"integer\"}]], run=function(world, a) "
    "return world:exec('UPDATE hotel SET stars = stars + ? WHERE id = 1', a.plus) end }\n";

TEST(a_row_that_is_as_it_was_has_not_changed)
{
    char tools[8192];
    snprintf(tools, sizeof(tools), "%s%s", sample_tools, undoing_tool);
    START(b, tools);
    static const char golden[] = "{\"name\": \"Astoria\", \"price\": 120}";
    static const char book[] = "{\"tool\": \"book\", \"arguments\": {\"hotel\": \"Astoria\", "
                               "\"guest\": \"Li\"}}";
    char undone[400], left[400];
    snprintf(undone, sizeof(undone),
             "[{\"tool\": \"stars\", \"arguments\": {\"plus\": -1}}, %s, "
             "{\"tool\": \"stars\", \"arguments\": {\"plus\": 1}}]",
             book);
    snprintf(left, sizeof(left), "[{\"tool\": \"stars\", \"arguments\": {\"plus\": -1}}, %s]",
             book);
    EXPECT_TEXT(judge(&b, golden, json_loads(undone, 0, NULL)), "pass hotel=0 booked=0");
    EXPECT_HAS(judge(&b, golden, json_loads(left, 0, NULL)), "unclaimed: updated hotel id=1");
}

TEST(answers_that_are_no_answers_are_told_so)
{
    START(b, sample_tools);
    EXPECT_TEXT(judge(&b, "{\"name\": 3, \"price\": 1}", NULL),
                "fail schema: answer.name: expected string, got integer 3");
    EXPECT_TEXT(judge(&b, "Astoria", NULL),
                "fail schema: answer: not JSON at byte 1: unexpected character");
    EXPECT_TEXT(judge(&b, "{\"name\": \"x\"}", NULL),
                "fail schema: answer: property 'price' is missing");
}

TEST(a_verifier_that_does_not_load_is_rejected_with_the_reason)
{
    START(b, sample_tools);
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"check{ name='a', text='b' }", "check 'a': run is missing (a function)"},
        {"check{ name='a', text='', run=print }", "text is empty"},
        {"x =", "verifier:1: unexpected symbol near <eof>"},
        {"local a = 1", "it has no check{ ... }"},
        {"while true do end", "ran out of fuel"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
        agon_buf_reset(&b.out);
        EXPECT(agon_verdict_checks(b.rt, agon_str(cases[i].text), &v, &b.out, &b.err) ==
               AGON_REJECTED);
        EXPECT_HAS(agon_buf_text(&b.out), cases[i].reason);
    }
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    EXPECT(agon_verdict_checks(b.rt, agon_str(verifier), &v, &b.out, &b.err) == 0);
    EXPECT(v.n_checks == 2 && !strcmp(v.checks[1].text, "book it for Li"));
}

TEST(a_verifier_cannot_write)
{
    START(b, sample_tools);
    json_auto_t *s = schema();
    static char text[] = "check{ name='a', text='t', run=function(world) world:exec('DELETE FROM "
                         "hotel') return true end }"
                         "check{ name='b', text='t', run=function(world) world:rows('DELETE FROM "
                         "hotel RETURNING id') return true end }"
                         "check{ name='c', text='t', run=function(world) return "
                         "world:value('SELECT count(*) FROM hotel') == 3 end }";
    struct agon_task task = {.answer_schema = s, .verifier = text};
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    REQUIRE(agon_verdict(b.rt, &task, agon_str("{\"name\":\"x\",\"price\":1}"), NULL, &v, &b.out,
                         &b.err) == 0);
    REQUIRE(v.n_checks == 3);
    EXPECT(v.checks[0].end == AGON_CHECK_ERROR && v.checks[1].end == AGON_CHECK_ERROR &&
           v.checks[2].end == AGON_CHECK_PASS);
    EXPECT_HAS(v.checks[0].reason, "a verifier only reads");
    EXPECT_HAS(v.checks[1].reason, "not allowed here: only SELECT");
}

/* One trial: solve, judge, and the old answer beside it. */
static int run_trial(struct open_env *b, const struct agon_perturb *p, struct agon_trial *t)
{
    json_auto_t *s = schema(), *done = writes("Li", NULL);
    struct agon_trial_item item = {agon_str("{\"name\": \"Astoria\", \"price\": 120.0}"), done};
    struct agon_trial_input input = {.perturb = p,
                                     .answer_schema = s,
                                     .verifier = agon_str(verifier),
                                     .solution = agon_str(solution),
                                     .items = &item,
                                     .n_items = 1};
    int r = agon_trial(b->rt, &input, t, &b->out, &b->err);
    if (r)
        printf("# %d %s %s\n", r, r < 0 ? b->err.text : "", agon_buf_text(&b->out));
    return r;
}

TEST(a_perturbed_world_moves_the_answer_and_is_put_back)
{
    START(b, sample_tools);
    struct agon_trial plain AGON_AUTO(agon_trial_deinit) = {0};
    REQUIRE(run_trial(&b, NULL, &plain) == 0);
    REQUIRE(plain.solved && plain.own.pass && plain.n_briefs == 1 && plain.briefs[0].pass);
    int moved = 0, old_fails = 0, solved = 0;
    for (int draw = 0; draw < 16; draw++) {
        struct agon_perturb p = {.seed = 5, .draw = draw, .columns = plain.run.columns};
        struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0},
                            again AGON_AUTO(agon_trial_deinit) = {0};
        REQUIRE(run_trial(&b, &p, &t) == 0 && run_trial(&b, &p, &again) == 0);
        solved += t.solved;
        EXPECT(t.solved == again.solved &&
               (!t.solved || json_equal(t.run.answer, again.run.answer)));
        EXPECT(!t.solved || t.own.pass);
        moved += t.solved && !json_equal(t.run.answer, plain.run.answer);
        old_fails += !t.briefs[0].pass;
    }
    EXPECT(solved >= 8 && moved >= 2 && old_fails >= 2);
    struct agon_trial after AGON_AUTO(agon_trial_deinit) = {0};
    REQUIRE(run_trial(&b, NULL, &after) == 0);
    EXPECT(json_equal(after.run.answer, plain.run.answer) && after.own.pass);
}

/* Constraints are off while values are dealt, and hold again for what tools write then. */
TEST(a_perturbed_world_keeps_its_constraints)
{
    static const char breaking[] =
        "tool{ name='enter', description='d', writes=true, params=[[{\"type\":\"object\", "
        "\"properties\":{\"hotel\":{\"type\":\"integer\"},\"nights\":{\"type\":\"integer\"}}}]], "
        "returns=[[{\"type\":\"integer\"}]], run=function(world, a) return world:exec('INSERT INTO "
        "booking VALUES (1, ?, ?, ?)', a.hotel, 'x', a.nights) end }\n";
    START(b, breaking);
    json_auto_t *columns = json_loads("[\"hotel.name\", \"hotel.price\"]", 0, NULL);
    for (int draw = 0; draw < 2; draw++) {
        struct agon_perturb p = {.seed = 5, .draw = draw, .columns = columns};
        struct agon_trial_input input = {
            .perturb = &p,
            .solution =
                agon_str("return function(tools) local _, a = pcall(tools.enter, {hotel=99, "
                         "nights=1}) local _, b = pcall(tools.enter, {hotel=1, nights=0}) "
                         "return {a, b} end")};
        struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
        REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0 && t.solved);
        char *text = json_dumps(t.run.answer, 0);
        EXPECT_HAS(text, "FOREIGN KEY constraint failed");
        EXPECT_HAS(text, "CHECK constraint failed");
        free(text);
    }
}

TEST(keys_are_permuted_and_never_drawn)
{
    START(b, sample_tools);
    static const char echo[] =
        "return function(tools) local n = {} for _, h in ipairs(tools.hotels{city='Wien'}) do "
        "n[#n+1] = h.name end return n end";
    json_auto_t *columns = json_loads("[\"hotel.name\", \"hotel.id\"]", 0, NULL);
    for (int draw = 0; draw < 8; draw++) {
        struct agon_perturb p = {.seed = 1, .draw = draw, .columns = columns};
        struct agon_trial_input input = {.perturb = &p, .solution = agon_str(echo)};
        struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
        REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
        REQUIRE(t.solved && json_array_size(t.run.answer) == 2);
        EXPECT(!json_equal(json_array_get(t.run.answer, 0), json_array_get(t.run.answer, 1)));
    }
}

TEST(overrides_replace_results_and_probes_see_the_initial_state)
{
    START(b, sample_tools);
    json_auto_t *overrides =
        json_loads("[{\"tool\":\"hotels\",\"arguments\":{\"city\":\"Wien\"},"
                   "\"result\":[{\"name\":\"Corso\",\"price\":1.0,\"id\":3}]}]",
                   0, NULL);
    json_auto_t *probes = json_loads(
        "[{\"tool\":\"bookings\",\"arguments\":{}},{\"tool\":\"hotels\",\"arguments\":{}}]", 0,
        NULL);
    json_auto_t *s = schema();
    struct agon_trial_input input = {.answer_schema = s,
                                     .verifier = agon_str(verifier),
                                     .solution = agon_str(solution),
                                     .overrides = overrides,
                                     .probes = probes};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
    EXPECT(t.solved && !t.own.pass && !strcmp(agon_json_text(t.run.answer, "name", ""), "Corso"));
    char *text = json_dumps(t.probes, 0);
    EXPECT_TEXT(text, "[{\"result\": []}, {\"error\": \"arguments: property 'city' is missing\"}]");
    free(text);
}

TEST(a_solution_that_fails_says_why_and_one_that_does_not_load_is_rejected)
{
    START(b, sample_tools);
    json_auto_t *s = schema();
    struct agon_trial_input input = {
        .answer_schema = s,
        .solution = agon_str(
            "return function(tools) tools.book{hotel='Corso', guest='Li'} return {name='x'} end")};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
    EXPECT(!t.solved && json_array_size(t.run.calls) == 1);
    EXPECT_TEXT(t.unsolved ? t.unsolved : "", "answer: property 'price' is missing");
    input.solution = agon_str("return 3");
    struct agon_trial u AGON_AUTO(agon_trial_deinit) = {0};
    EXPECT(agon_trial(b.rt, &input, &u, &b.out, &b.err) == AGON_REJECTED);
    EXPECT_HAS(agon_buf_text(&b.out), "does not return a function");
}

TEST(ten_thousand_answers_are_judged_in_one_request)
{
    START(b, sample_tools);
    enum { N = 10000 };
    static struct agon_trial_item items[N];
    static char texts[N][64];
    for (int i = 0; i < N; i++) {
        snprintf(texts[i], sizeof(texts[i]), "{\"name\": \"%s\", \"price\": %d}",
                 i % 3 ? "Corso" : "Astoria", i % 200);
        items[i] = (struct agon_trial_item){agon_str(texts[i]), NULL};
    }
    json_auto_t *s = schema();
    struct agon_trial_input input = {
        .answer_schema = s, .verifier = agon_str(verifier), .items = items, .n_items = N};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    int right = 0;
    for (int i = 0; i < N; i++)
        right += !(t.briefs[i].failed & 1);
    EXPECT(t.n_briefs == N &&
           right == 17); /* multiples of 3 that are 120 modulo 200: i = 120, 720, ... */
    printf("# %.1f us an answer of two checks\n",
           ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / 1e3 /
               N);
}

static const char unordered[] =
    "tool{ name='ids', description='ids', params=[[{\"type\":\"object\"}]], "
    "returns=[[{\"type\":\"array\"}]],"
    " run=function(world) local ids = {} for i, h in ipairs(world:rows('SELECT id FROM hotel')) do "
    "ids[i] = h.id end return ids end }";

TEST(rows_without_an_order_come_the_other_way_round_when_reversed)
{
    START(b, unordered);
    struct agon_trial_input input = {.solution =
                                         agon_str("return function(tools) return tools.ids{} end")};
    static const char *const expected[] = {"[1, 2, 3]", "[3, 2, 1]", "[1, 2, 3]"};
    for (int i = 0; i < 3; i++) {
        struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
        input.reverse = i == 1;
        REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
        char *text = json_dumps(t.run.answer, 0);
        EXPECT_TEXT(text, expected[i]);
        free(text);
    }
    struct agon_trial last AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_solved after AGON_AUTO(agon_solved_deinit) = {0};
    input.reverse = true;
    REQUIRE(agon_trial(b.rt, &input, &last, &b.out, &b.err) == 0);
    REQUIRE(agon_runtime_solve(b.rt, input.solution, NULL, &after, &b.out, &b.err) == 0);
    EXPECT(json_integer_value(json_array_get(after.answer, 0)) == 1);
}

TEST(a_failed_call_is_no_change)
{
    START(b, sample_tools);
    json_auto_t *s = schema();
    struct agon_trial_input input = {
        .answer_schema = s,
        .verifier = agon_str(verifier),
        .solution = agon_str("return function(tools) tools.book{hotel='Astoria', guest='Li'} "
                             "local ok = pcall(tools.book, {hotel='Corso', guest='Nobody'}) "
                             "return {name='Astoria', price=ok and 0 or 120} end")};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
    EXPECT(t.solved && t.own.pass && json_array_size(t.run.writes) == 1);
    EXPECT(!t.own.unclaimed);
}

static const char claims[] = "check{ name='all', text='t', run=function(world, answer, changes)\n"
                             "  local seen = {}\n"
                             "  for _, c in ipairs(changes:inserted('booking')) do seen[#seen + 1] "
                             "= c.guest .. c.nights end\n"
                             "  return same(seen, answer) and changes:count() == #seen\n"
                             "end }\n"
                             "check{ name='typo', text='t', run=function(world, answer, changes)\n"
                             "  return #changes:updated('booking', { gest = 'Li' }) == 0\n"
                             "end }\n";

TEST(a_mistake_in_a_claim_is_an_error_of_the_check)
{
    START(b, sample_tools);
    static char text[sizeof(claims)];
    memcpy(text, claims, sizeof(claims));
    json_auto_t *list = json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
    json_auto_t *done = writes("Li", "Ann");
    struct agon_task task = {.answer_schema = list, .verifier = text};
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    REQUIRE(agon_verdict(b.rt, &task, agon_str("[\"Li1\", \"Ann1\"]"), done, &v, &b.out, &b.err) ==
            0);
    REQUIRE(v.n_checks == 2);
    EXPECT(v.checks[0].end == AGON_CHECK_PASS && v.checks[1].end == AGON_CHECK_ERROR && !v.pass);
    EXPECT_HAS(v.checks[1].reason, "table 'booking' has no column 'gest'");
    struct agon_verdict w AGON_AUTO(agon_verdict_deinit) = {0};
    strcpy(strstr(text, "updated"), "deleted('hotell') == 0 end }");
    REQUIRE(agon_verdict(b.rt, &task, agon_str("[]"), NULL, &w, &b.out, &b.err) == 0);
    EXPECT(w.checks[0].end == AGON_CHECK_PASS && w.checks[1].end == AGON_CHECK_ERROR);
    EXPECT_HAS(w.checks[1].reason, "there is no table 'hotell'");
}

/* The agent takes away what the check looks up, and `{guest = nil}` would claim whatever it wrote.
 */
TEST(a_claim_of_nothing_in_particular_is_no_claim_of_all)
{
    static char text[] =
        "check{ name='all', text='t', run=function(world, answer, changes)\n"
        "  return #changes:inserted('booking', { guest = world:value(\"SELECT guest FROM booking "
        "WHERE guest = 'Nobody'\") }) == 1\n"
        "end }\n";
    START(b, sample_tools);
    json_auto_t *list = json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
    json_auto_t *done = writes("Li", NULL);
    struct agon_task task = {.answer_schema = list, .verifier = text};
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    REQUIRE(agon_verdict(b.rt, &task, agon_str("[]"), done, &v, &b.out, &b.err) == 0);
    EXPECT(v.n_checks == 1 && v.checks[0].end == AGON_CHECK_ERROR && !v.pass);
    EXPECT_HAS(v.checks[0].reason, "'booking' are nil");
}

TEST(no_check_sees_what_another_one_did)
{
    START(b, sample_tools);
    json_auto_t *s = schema();
    static char text[] =
        "check{ name='spoils', text='t', run=function(world, answer) answer.name = 'spoilt' "
        "leak = true world.value = nil string.len = nil return true end }"
        "check{ name='sees', text='t', run=function(world, answer) return leak == nil and "
        "answer.name == 'x' and world:value('SELECT 1') == 1 and string.len('ab') == 2 end }";
    struct agon_task task = {.answer_schema = s, .verifier = text};
    for (int i = 0; i < 2; i++) {
        struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
        REQUIRE(agon_verdict(b.rt, &task, agon_str("{\"name\":\"x\",\"price\":1}"), NULL, &v,
                             &b.out, &b.err) == 0);
        EXPECT(v.pass);
    }
}

/* ---- claims ---- */

/* What one check says of an answer and these writes. */
static bool check_passes(struct open_env *b, const char *body, const char *answer, json_t *done)
{
    char text[2000];
    json_auto_t *owned = done;
    struct agon_task task = {.verifier = text};
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    snprintf(text, sizeof(text),
             "check{ name='a', text='t', run=function(world, answer, changes) %s end }", body);
    int r = agon_verdict(b->rt, &task, agon_str(answer), owned, &v, &b->out, &b->err);
    if (EXPECT(r == 0 && v.n_checks == 1) && v.checks[0].reason)
        printf("# %s: %s\n", body, v.checks[0].reason);
    return r == 0 && v.n_checks == 1 && v.checks[0].end == AGON_CHECK_PASS;
}

TEST(a_claim_is_of_one_kind_of_change_to_one_table)
{
    char tools[8192];
    snprintf(tools, sizeof(tools), "%s%s", sample_tools, undoing_tool);
    START(b, tools);
    static const char both[] = "[{\"tool\": \"stars\", \"arguments\": {\"plus\": -1}}, {\"tool\": "
                               "\"book\", \"arguments\": {\"hotel\": \"Astoria\", \"guest\": "
                               "\"Lina\"}}]";
    static const struct {
        const char *claim;
        int n;
    } claimed[] = {
        {"inserted('booking')", 1},
        {"inserted('hotel')", 0},
        {"updated('hotel')", 1},
        {"updated('booking')", 0},
        {"deleted('hotel')", 0},
        {"inserted('booking', {guest = 'Lina'})", 1},
        {"inserted('booking', {guest = 'Li'})", 0}, /* the beginning of a text is another text */
        {"inserted('booking', {guest = 'Lina2'})", 0},
        {"inserted('booking', {nights = 1})", 1},
        {"inserted('booking', {nights = 1.0})", 1},
        {"inserted('booking', {nights = true})", 1},
        {"inserted('booking', {nights = false})", 0},
        {"inserted('booking', {nights = '1'})", 0},
        {"inserted('booking', {guest = null})", 0},
        {"updated('hotel', {stars = 3})", 1},
        {"updated('hotel', {stars = 4})", 0}, /* what it was is not what it is */
        {"all()", 2},
    };
    for (size_t i = 0; i < sizeof(claimed) / sizeof(*claimed); i++) {
        char body[200];
        snprintf(body, sizeof(body), "return #changes:%s == %d", claimed[i].claim, claimed[i].n);
        if (!EXPECT(check_passes(&b, body, "1", json_loads(both, 0, NULL))))
            printf("# %s\n", body);
    }
}

/* ---- limits ---- */

static void many_checks(struct agon_buf *text, int n)
{
    for (int i = 0; i < n; i++)
        agon_buf_addf(text, "check{ name='c%d', text='t', run=function() return true end }\n", i);
}

TEST(a_verifier_has_64_checks_at_most)
{
    START(b, sample_tools);
    struct agon_buf most AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    struct agon_buf over AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0},
                          w AGON_AUTO(agon_verdict_deinit) = {0};
    many_checks(&most, 64);
    many_checks(&over, 65);
    EXPECT(agon_verdict_checks(b.rt, agon_buf_str(&most), &v, &b.out, &b.err) == 0);
    EXPECT(v.n_checks == 64);
    EXPECT(agon_verdict_checks(b.rt, agon_buf_str(&over), &w, &b.out, &b.err) == AGON_REJECTED);
    EXPECT_HAS(agon_buf_text(&b.out), "over 64 checks");
}

/* The answer is decoded once, and each check is charged as if it had done it. */
TEST(a_check_pays_for_the_answer_that_it_is_given)
{
    START(b, sample_tools);
    struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_buf_adds(&answer, "[1");
    for (int i = 0; i < 5000; i++)
        agon_buf_adds(&answer, ", 1");
    agon_buf_addc(&answer, ']');
    char text[] = "check{ name='a', text='t', run=function() return true end }"
                  "check{ name='b', text='t', run=function() return true end }";
    struct agon_task task = {.verifier = text};
    int64_t fuel[2][2];
    for (int large = 0; large < 2; large++) {
        struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
        REQUIRE(agon_verdict(b.rt, &task, large ? agon_buf_str(&answer) : agon_str("[1]"), NULL, &v,
                             &b.out, &b.err) == 0);
        REQUIRE(v.pass && v.n_checks == 2);
        for (int i = 0; i < 2; i++)
            fuel[large][i] = v.checks[i].fuel;
    }
    for (int i = 0; i < 2; i++)
        EXPECT(fuel[1][i] > fuel[0][i] + 5000);
}

#define ENDLESS                                                                           \
    "'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9000) SELECT " \
    "count(*) AS c FROM n'"

/* What its tools spent is not the verifier's: a solution may use most of its operations. */
TEST(a_verifier_has_the_operations_of_a_run_for_itself)
{
    static const char counting[] =
        "tool{ name='count', description='d', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"integer\"}]], run=function(world) return world:value(" ENDLESS
        ") end }\n";
    START(b, counting);
    struct agon_trial_input input = {
        .verifier = agon_str("check{ name='a', text='t', run=function(world, answer) for i = 1, 30 "
                             "do world:value(" ENDLESS " .. ' --' .. i) end return true end }"),
        .solution = agon_str("return function(tools) local n = 0 while true do local ok = "
                             "pcall(tools.count, {}) if not ok or n == 45 then return n end n = n "
                             "+ 1 end end")};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
    REQUIRE(t.solved && t.own.n_checks == 1);
    printf("# %lld calls, %lld operations, the check %lld\n",
           (long long)json_integer_value(t.run.answer), (long long)t.run.usage.ops,
           (long long)t.own.checks[0].ops);
    EXPECT(t.run.usage.share > 600 && t.own.pass);
    if (t.own.checks[0].reason)
        printf("# %s\n", t.own.checks[0].reason);
}

/* The results that a trial puts in the place of calls are for its solution alone. */
TEST(overrides_do_not_reach_the_writes_of_answers)
{
    START(b, sample_tools);
    json_auto_t *overrides = json_loads(
        "[{\"tool\": \"book\", \"arguments\": {\"hotel\": \"Astoria\", \"guest\": \"Li\", "
        "\"nights\": 1}, \"result\": {\"booking\": 1, \"nights\": 1}}]",
        0, NULL);
    json_auto_t *s = schema(), *done = writes("Li", NULL);
    struct agon_trial_item item = {agon_str("{\"name\": \"Astoria\", \"price\": 120.0}"), done};
    struct agon_trial_input input = {.answer_schema = s,
                                     .verifier = agon_str(verifier),
                                     .solution = agon_str(solution),
                                     .overrides = overrides,
                                     .items = &item,
                                     .n_items = 1};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    REQUIRE(agon_trial(b.rt, &input, &t, &b.out, &b.err) == 0);
    EXPECT(t.solved && !t.own.pass && t.n_briefs == 1 && t.briefs[0].pass);
}
