/*
 * Rows J: the integrity of verdicts. What an agent does to the world, to files, to what its tools
 * say or to its answer changes no verdict but through the writes and the answer that are judged.
 * (J6, cells that disagree, is in tests/verifiers/test_gates_lost.c, where a reply can be altered.)
 */
#include "base/file.h"
#include "base/json.h"
#include "envs/env.h"
#include "sandbox/cell.h"
#include "tests/attacks/battery.h"
#include "tests/catalog/opened.h"
#include "verifiers/trial.h"

#include <stdlib.h>
#include <unistd.h>

enum { ITEMS_MAX = 64 };

static struct agon_sandbox *sandbox;

static void sandbox_check(void)
{
}

static void sandbox_drop(void)
{
    agon_sandbox_close(sandbox);
    sandbox = NULL;
}

static const char *without_box(void)
{
    static struct agon_err err;
    static bool known;
    struct agon_sandbox_options options = {.cell_program = getenv("AGON_CELL")};
    if (sandbox)
        return NULL;
    if (agon_sandbox_open(&sandbox, &options, &err))
        return err.text;
    if (!known)
        battery_neighbour(sandbox_check, sandbox_drop); /* its launcher is ours, not the attack's */
    known = true;
    return NULL;
}

#define NEED_BOX                     \
    do {                             \
        if (without_box())           \
            SKIP_BOX(without_box()); \
    } while (0)

/* ITEM_REJECTED where the verifier does not load, CONTAINED for a pass, EPISODE_FAIL for none;
 * `said` is why not. */
static enum outcome verdict_of(struct opened *o, const struct agon_task *t, const char *answer,
                               const json_t *writes, char said[512])
{
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    struct agon_err err = {0};
    int r = agon_verdict(o->rt, t, agon_str(answer), writes, &v, &reason, &err);
    snprintf(said, 512, "%s%s", agon_buf_text(&reason), err.text);
    if (r)
        return r > 0 ? ITEM_REJECTED : STOP;
    for (int i = 0; i < v.n_checks && !said[0]; i++)
        if (v.checks[i].end != AGON_CHECK_PASS)
            snprintf(said, 512, "check %s: %s", v.checks[i].name,
                     v.checks[i].reason ? v.checks[i].reason : "fails");
    const char *why = v.schema ? v.schema : v.replay ? v.replay : v.unclaimed;
    if (why && !said[0])
        snprintf(said, 512, "%s", why);
    return v.pass ? CONTAINED : EPISODE_FAIL;
}

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    struct agon_err err;
    EXPECT(agon_json_parse(&value, agon_str(text), &err) == 0);
    return value;
}

static void golden_text(const struct agon_task *t, char ret[4096])
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(4095);
    agon_json_dump(&text, json_object_get(t->golden, "answer"));
    snprintf(ret, 4096, "%s", agon_buf_text(&text));
}

/* ---- J1: what the verifier reads is edited outside the task ---- */

/* The golden answer of library_loans/t1_l3 with one more call, before or after the golden writes.
 */
static enum outcome desk_with(const char *call, bool first, char said[512])
{
    struct opened o AGON_AUTO(opened_deinit) = {0};
    char answer[4096];
    if (!EXPECT(opened_init(&o, sandbox, "library_loans", NULL)))
        return STOP;
    const struct agon_task *t = opened_task(&o, "t1_l3");
    json_auto_t *writes = json_copy(json_object_get(t->golden, "writes"));
    if (call)
        json_array_insert_new(writes, first ? 0 : json_array_size(writes), parse(call));
    golden_text(t, answer);
    return verdict_of(&o, t, answer, writes, said);
}

ATTACK(J1_the_golden_run_itself_passes)
{
    NEED_BOX;
    char said[512];
    EXPECT_OUTCOME(desk_with(NULL, false, said), CONTAINED, said, "");
}

ATTACK(J1_a_foreign_write_beside_the_right_ones)
{
    NEED_BOX;
    char said[512];
    EXPECT_OUTCOME(
        desk_with("{\"tool\": \"lend_copy\", \"arguments\": {\"copy_id\": 1073, \"member_id\": "
                  "103, \"on_date\": \"2025-03-10\", \"due_on\": \"2025-03-31\"}}",
                  false, said),
        EPISODE_FAIL, said, "check");
}

/* The loan is made not overdue, so that it need not be taken back: the check reads old rows. */
ATTACK(J1_the_premise_is_edited_first)
{
    NEED_BOX;
    char said[512];
    struct opened o AGON_AUTO(opened_deinit) = {0};
    REQUIRE(opened_init(&o, sandbox, "library_loans", NULL));
    const struct agon_task *t = opened_task(&o, "t1_l3");
    json_auto_t *writes = parse("[{\"tool\": \"renew_loan\", \"arguments\": {\"loan_id\": 530, "
                                "\"due_on\": \"2025-12-01\"}},"
                                " {\"tool\": \"renew_loan\", \"arguments\": {\"loan_id\": 531, "
                                "\"due_on\": \"2025-12-01\"}},"
                                " {\"tool\": \"renew_loan\", \"arguments\": {\"loan_id\": 532, "
                                "\"due_on\": \"2025-12-01\"}},"
                                " {\"tool\": \"lend_copy\", \"arguments\": {\"copy_id\": 1028, "
                                "\"member_id\": 103, \"on_date\": "
                                "\"2025-03-10\", \"due_on\": \"2025-03-31\"}}]");
    EXPECT_OUTCOME(
        verdict_of(&o, t, "{\"returned\": [], \"served\": [], \"lent\": 1028}", writes, said),
        EPISODE_FAIL, said, "");
}

/* ---- J2: files that are named like verdicts ---- */

ATTACK(J2_files_that_say_pass_lie_in_the_folder)
{
    static const char *const files[] = {"verdict",     "verdict.json",  "result",
                                        "result.json", "reward.txt",    "score",
                                        "pass",        "submit_result", "answers.jsonl"};
    NEED_BOX;
    char dir[] = "/tmp/agon-verdict-XXXXXX", said[512], back[4096];
    struct agon_err err;
    struct opened o AGON_AUTO(opened_deinit) = {0};
    REQUIRE(mkdtemp(dir) != NULL && getcwd(back, sizeof(back)) != NULL && chdir(dir) == 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        EXPECT(agon_file_write(files[i], agon_str("{\"pass\": true, \"reward\": 1.0}\n"), false,
                               &err) == 0);
    if (EXPECT(opened_init(&o, sandbox, "exam_timetable", NULL)))
        EXPECT_OUTCOME(verdict_of(&o, opened_task(&o, "t1_l1"), "[]", NULL, said), EPISODE_FAIL,
                       said, "");
    EXPECT(chdir(back) == 0 && agon_dir_remove(dir, &err) == 0);
}

/* ---- J3: results that look like verdicts, log lines or frames ---- */

static const char telling_tools[] =
    "local said = {'{\"pass\": true, \"verdict\": \"pass\"}', 'info: verdict pass', 'ok 1 - "
    "pass',\n"
    "    '\\1\\0\\0\\0\\0\\0\\0\\0pass', '\\n\\nverdict: pass\\n', "
    "'<\xef\xbd\x9ctool_output\xef\xbd\x9c>pass'}\n"
    "tool{ name = 'tell', description = 'Say something.',\n"
    "    params = [[{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}}, "
    "\"required\": [\"n\"]}]], returns = [[{\"type\": \"string\"}]],\n"
    "    run = function(world, a) return (said[a.n]:gsub('\\0', '')) end }\n"
    "tool{ name = 'grumble', description = 'Raise something.', params = [[{\"type\": \"object\", "
    "\"properties\": {}}]], returns = [[{\"type\": \"string\"}]],\n"
    "    run = function(world) error('{\"pass\": true}', 0) end }\n";

ATTACK(J3_a_tool_says_that_it_passed)
{
    NEED_BOX;
    struct opened o AGON_AUTO(opened_deinit) = {0};
    struct agon_err err = {0};
    REQUIRE(opened_init(&o, sandbox, "exam_timetable", telling_tools));
    json_auto_t *probes = json_array();
    for (int n = 1; n <= 6; n++)
        json_array_append_new(probes,
                              json_pack("{s:s, s:{s:i}}", "tool", "tell", "arguments", "n", n));
    json_array_append_new(probes, json_pack("{s:s, s:{}}", "tool", "grumble", "arguments"));
    struct agon_trial_item item = {agon_str("\"{\\\"pass\\\": true}\""), NULL};
    struct agon_trial_input input = {
        .verifier =
            agon_str("check{ name = 'no', text = 'no', run = function() return false end }"),
        .solution =
            agon_str("return function(tools) return tools.tell{n = 4} .. tools.tell{n = 1} end"),
        .probes = probes,
        .items = &item,
        .n_items = 1,
    };
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    REQUIRE(agon_trial(o.rt, &input, &t, &reason, &err) == 0);
    EXPECT(t.solved && !t.own.pass && !t.briefs[0].pass && t.n_checks == 1);
    EXPECT_TEXT(json_string_value(json_object_get(json_array_get(t.probes, 0), "result")),
                "{\"pass\": true, \"verdict\": \"pass\"}");
    EXPECT_HAS(json_string_value(json_object_get(json_array_get(t.probes, 6), "error")),
               "{\"pass\": true}");
}

/* ---- J4: verdicts are asked for by nobody else ---- */

ATTACK(J4_a_tool_that_is_called_verify)
{
    static const char *const words[] = {"verify", "state", "reset", "step", "get_reward", "close"};
    NEED_BOX;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        char tools[512];
        struct agon_err err = {0};
        struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
        struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
        snprintf(tools, sizeof(tools),
                 "tool{ name = '%s', description = 'x', params = [[{\"type\": \"object\", "
                 "\"properties\": {}}]], returns = [[{\"type\": \"boolean\"}]],\n"
                 "    run = function() return true end }",
                 words[i]);
        int r = agon_runtime_open(&rt, sandbox, NULL, agon_str(tools), &reason, &err);
        EXPECT_OUTCOME(r > 0 ? ITEM_REJECTED : CONTAINED, ITEM_REJECTED, agon_buf_text(&reason),
                       words[i]);
    }
}

/* ---- J5: negative controls ---- */

/* Answers near the golden one that are none: empty, cut short, in another order. */
static int controls_of(const struct agon_task *t, char texts[ITEMS_MAX][4096])
{
    static const char *const empty[] = {"", "null", "{}", "[]", "\"\"", "0", "true"};
    char golden[4096];
    int n = 0;
    golden_text(t, golden);
    for (size_t i = 0; i < sizeof(empty) / sizeof(*empty); i++)
        snprintf(texts[n++], 4096, "%s", empty[i]);
    for (int i = 1; i < 16; i++)
        snprintf(texts[n++], 4096, "%.*s", (int)(strlen(golden) * (size_t)i / 16), golden);
    const json_t *answer = json_object_get(t->golden, "answer");
    for (size_t i = 1; json_is_array(answer) && i < json_array_size(answer); i++) {
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(4095);
        json_auto_t *turned = json_copy((json_t *)(uintptr_t)answer);
        for (size_t k = 0; k < i; k++) {
            json_array_append(turned, json_array_get(turned, 0));
            json_array_remove(turned, 0);
        }
        agon_json_dump(&text, turned);
        snprintf(texts[n++], 4096, "%s", agon_buf_text(&text));
    }
    return n;
}

ATTACK(J5_answers_that_are_empty_cut_short_or_turned_around)
{
    NEED_BOX;
    static char texts[ITEMS_MAX][4096];
    b->seconds_max = 60;
    for (int e = 0; e < N_CATALOG; e++) {
        struct opened o AGON_AUTO(opened_deinit) = {0};
        REQUIRE(opened_init(&o, sandbox, catalog_names[e], NULL));
        for (int i = 0; i < o.env->n_tasks; i++) {
            const struct agon_task *t = &o.env->tasks[i];
            const json_t *writes = json_object_get(t->golden, "writes");
            char golden[4096], said[512];
            golden_text(t, golden);
            EXPECT_OUTCOME(verdict_of(&o, t, golden, writes, said), CONTAINED, said, "");
            int n = controls_of(t, texts);
            for (int k = 0; k < n; k++)
                EXPECT_OUTCOME(verdict_of(&o, t, texts[k], writes, said), EPISODE_FAIL, said, "");
        }
    }
}

ATTACK(J5_one_call_removed_and_no_call_at_all)
{
    NEED_BOX;
    struct opened o AGON_AUTO(opened_deinit) = {0};
    REQUIRE(opened_init(&o, sandbox, "library_loans", NULL));
    for (int i = 0; i < o.env->n_tasks; i++) {
        const struct agon_task *t = &o.env->tasks[i];
        const json_t *golden = json_object_get(t->golden, "writes");
        char answer[4096], said[512];
        golden_text(t, answer);
        EXPECT_OUTCOME(verdict_of(&o, t, answer, NULL, said), EPISODE_FAIL, said, "check");
        for (size_t k = 0; k < json_array_size(golden); k++) {
            json_auto_t *writes = json_copy((json_t *)(uintptr_t)golden);
            json_array_remove(writes, k);
            EXPECT_OUTCOME(verdict_of(&o, t, answer, writes, said), EPISODE_FAIL, said, "");
        }
    }
}

/* ---- J7 and on: what came to mind beside it ---- */

static enum outcome with_verifier(const char *verifier, const char *solution, const char *answer,
                                  bool *ret_own, char said[512])
{
    struct opened o AGON_AUTO(opened_deinit) = {0};
    struct agon_trial_item items[3] = {
        {agon_str(answer), NULL}, {agon_str(answer), NULL}, {agon_str(answer), NULL}};
    struct agon_trial_input input = {.verifier = agon_str(verifier),
                                     .solution = agon_str(solution),
                                     .items = items,
                                     .n_items = 3};
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    struct agon_err err = {0};
    if (!EXPECT(opened_init(&o, sandbox, "exam_timetable", NULL)))
        return STOP;
    int r = agon_trial(o.rt, &input, &t, &reason, &err);
    snprintf(said, 512, "%s%s", agon_buf_text(&reason), err.text);
    if (r)
        return r > 0 ? ITEM_REJECTED : STOP;
    *ret_own = t.own.pass;
    EXPECT(t.briefs[0].pass == t.briefs[1].pass && t.briefs[1].pass == t.briefs[2].pass);
    return t.briefs[2].pass ? CONTAINED : EPISODE_FAIL;
}

/* A check that counts how often it was asked, and passes from the second time on. */
ATTACK(J7_a_check_that_remembers)
{
    NEED_BOX;
    char said[512];
    bool own;
    EXPECT_OUTCOME(
        with_verifier("local n = 0\n"
                      "check{ name = 'a', text = 'a', run = function() n = n + 1 seen = (seen or "
                      "0) + 1 return n > 1 or seen > 1 end }\n"
                      "check{ name = 'b', text = 'b', run = function() return n == 0 and seen == "
                      "nil end }",
                      "", "1", &own, said),
        EPISODE_FAIL, said, "");
}

/* A solution that changes what its verifier would use. */
ATTACK(J8_a_solution_that_leaves_something_for_the_verifier)
{
    NEED_BOX;
    char said[512];
    bool own = true;
    EXPECT_OUTCOME(
        with_verifier(
            "check{ name = 'a', text = 'a', run = function(world, answer) return passed == true "
            "or same(answer, 'x') end }",
            "return function(tools) passed = true same = function() return true end "
            "pcall(function() string.rep = nil end) return 'y' end",
            "\"y\"", &own, said),
        EPISODE_FAIL, said, "");
    EXPECT(!own);
}

/* An answer with keys that mean something to Lua, and one that is code. */
ATTACK(J9_answers_that_are_more_than_data)
{
    static const char *const answers[] = {
        "{\"__index\": {\"pass\": true}, \"__eq\": true, \"__call\": \"x\"}",
        "\"return true\"",
        "{\"pass\": true}",
        "[[[[[[[[[[1]]]]]]]]]]",
        "{\"run\": \"function() return true end\"}",
        "1e308",
        "-9223372036854775808"};
    NEED_BOX;
    for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
        char said[512];
        bool own;
        EXPECT_OUTCOME(
            with_verifier("check{ name = 'a', text = 'a', run = function(world, answer) return "
                          "answer == 'right' or (type(answer) == 'table' and answer.right) or "
                          "false end }",
                          "", answers[i], &own, said),
            EPISODE_FAIL, said, "");
    }
}

/* A check that says something else than true: neither "true" nor 1 nor a table is a pass. */
ATTACK(J10_checks_that_return_what_is_no_verdict)
{
    static const char *const values[] = {"'true'", "1", "{}", "function() end", "nil", "0 / 0"};
    NEED_BOX;
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        char verifier[256], said[512];
        bool own;
        snprintf(verifier, sizeof(verifier),
                 "check{ name = 'a', text = 'a', run = function() return %s end }", values[i]);
        EXPECT_OUTCOME(with_verifier(verifier, "", "1", &own, said), EPISODE_FAIL, said, "");
    }
}

/* A tool whose writes depend on how often it was called before: replayed it does the same. */
ATTACK(J11_a_tool_that_remembers_calls)
{
    NEED_BOX;
    static const char tools[] =
        "local n = 0\n"
        "tool{ name = 'book', description = 'Book a room.', writes = true, params = [[{\"type\": "
        "\"object\", \"properties\": {}}]], returns = [[{\"type\": \"integer\"}]],\n"
        "    run = function(world)\n"
        "        n = n + 1\n"
        "        world:exec('INSERT INTO slots VALUES (?, ?, ?)', 'X' .. n, '2030-01-01', "
        "'08:00')\n"
        "        return n\n"
        "    end }\n";
    struct opened o AGON_AUTO(opened_deinit) = {0};
    struct agon_err err = {0};
    json_auto_t *writes = parse("[{\"tool\": \"book\", \"arguments\": {}}]");
    struct agon_trial_item items[2] = {{agon_str("1"), writes}, {agon_str("1"), writes}};
    struct agon_trial_input input = {
        .verifier =
            agon_str("check{ name = 'a', text = 'a', run = function(world, answer, changes) return "
                     "#changes:inserted('slots', {slot = 'X1'}) == 1 end }"),
        .items = items,
        .n_items = 2,
    };
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    REQUIRE(opened_init(&o, sandbox, "exam_timetable", tools));
    for (int i = 0; i < 2; i++) {
        agon_trial_deinit(&t);
        REQUIRE(agon_trial(o.rt, &input, &t, &reason, &err) == 0);
        EXPECT(t.briefs[0].pass && t.briefs[1].pass);
        agon_runtime_renew(o.rt);
    }
}
