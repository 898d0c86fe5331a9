/*
 * The environments written by hand: intact, solvable, judged as their prompts say, and
 * accepted by every gate. trip_planning is also held against a judge of its own
 * (trip_cases.py) that shares no code with its verifier.
 */
#include "base/file.h"
#include "base/json.h"
#include "sandbox/cell.h"
#include "tests/catalog/opened.h"
#include "tests/test.h"
#include "verifiers/audit.h"
#include "verifiers/regress.h"
#include "verifiers/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ITEMS_MAX = 2000 };

static struct agon_sandbox *sandbox;

static void sandbox_end(void)
{
    agon_sandbox_close(sandbox);
}

/* Why there is no box to run in, or NULL. */
static const char *without_box(void)
{
    static struct agon_err err;
    struct agon_sandbox_options options = {.cell_program = getenv("AGON_CELL")};
    if (sandbox)
        return NULL;
    if (agon_sandbox_open(&sandbox, &options, &err))
        return err.text;
    atexit(sandbox_end);
    return NULL;
}

#define NEED_BOX                     \
    do {                             \
        if (without_box())           \
            SKIP_BOX(without_box()); \
    } while (0)

/* ---- what regression says ---- */

/* Regression over all environments below a folder; what it prints is appended to `lines`. */
static int regress_all(const char *dir, struct agon_buf *lines, int ret_counts[4],
                       struct agon_err *err)
{
    struct agon_regress_dirs dirs AGON_AUTO(agon_regress_dirs_deinit) = {0};
    struct agon_regress_options o = {.share_max = 900};
    int r = agon_regress_find(&dirs, dir, err);
    for (int i = 0; i < dirs.n && r >= 0; i++) {
        struct agon_regress_report report AGON_AUTO(agon_regress_report_deinit) = {0};
        r = agon_regress_env(sandbox, dirs.items[i], &o, &report, err);
        agon_regress_lines(&report, lines);
        ret_counts[0]++;
        ret_counts[1] += report.n_tasks;
        ret_counts[2] += report.n_negatives;
        ret_counts[3] += report.n_failures;
    }
    return r;
}

TEST(every_environment_is_as_it_was_sealed)
{
    NEED_BOX;
    struct agon_err err = {0};
    struct agon_buf lines AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    int counts[4] = {0};
    if (!EXPECT(regress_all(CATALOG, &lines, counts, &err) == 0))
        printf("# %s %s\n", agon_buf_text(&lines), err.text);
    EXPECT(counts[0] == N_CATALOG && counts[1] == 10 && counts[3] == 0);
    EXPECT(counts[2] >= 60);
    EXPECT_HAS(agon_buf_text(&lines), "trip_planning: 4 tasks, ");
}

/* A copy of an environment with one file changed by a sed script; what regression says of it. */
static void regress_spoiled(const char *name, const char *file, const char *script, char *ret,
                            size_t size)
{
    char dir[] = "/tmp/agon-catalog-XXXXXX", command[9000];
    struct agon_err err = {0};
    struct agon_buf lines AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    int counts[4] = {0};
    snprintf(ret, size, "nothing");
    REQUIRE(mkdtemp(dir) != NULL);
    snprintf(command, sizeof(command), "cp -r '%s/%s/.' %s && sed -i '%s' %s/%s", CATALOG, name,
             dir, script, dir, file);
    REQUIRE(system(command) == 0);
    int r = regress_all(dir, &lines, counts, &err);
    snprintf(ret, size, "%d %s%s", r, agon_buf_text(&lines), err.text);
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

TEST(an_altered_file_is_named)
{
    NEED_BOX;
    char said[8192];
    regress_spoiled("exam_timetable", "tasks/t1_l2/prompt.md", "s/four/five/", said, sizeof(said));
    EXPECT(said[0] == '1');
    EXPECT_HAS(said, "tasks/t1_l2/prompt.md");
}

TEST(a_golden_answer_that_no_longer_passes_is_named)
{
    NEED_BOX;
    char said[8192];
    regress_spoiled("library_loans", "tasks/t1_l1/verifier.lua",
                    "s/not row or answer.lent == row.copy_id/false/", said, sizeof(said));
    EXPECT(said[0] == '1');
    EXPECT_HAS(said, "library_loans/t1_l1: golden: the golden answer does not pass: check "
                     "'names_copy' fails: \"");
}

TEST(a_negative_that_passes_is_named)
{
    NEED_BOX;
    char said[8192];
    regress_spoiled("library_loans", "tasks/t1_l1/verifier.lua",
                    "s/not row or answer.lent == row.copy_id/true/", said, sizeof(said));
    EXPECT(said[0] == '1');
    EXPECT_HAS(said, "passes, it should fail check 'names_copy'");
}

TEST(tools_that_do_not_load_are_a_finding)
{
    NEED_BOX;
    char said[8192];
    regress_spoiled("exam_timetable", "tools.lua",
                    "s/tool{ name = \"get_exam\"/tool{ nam = \"get_exam\"/", said, sizeof(said));
    EXPECT(said[0] == '1');
    EXPECT_HAS(said, "its tools do not load");
}

TEST(a_broken_env_json_is_a_finding)
{
    NEED_BOX;
    char said[8192];
    regress_spoiled("exam_timetable", "env.json", "1s/{//", said, sizeof(said));
    EXPECT(said[0] == '1');
    EXPECT_HAS(said, "env.json");
}

TEST(a_folder_without_environments_is_an_error)
{
    struct agon_err err = {0};
    struct agon_regress_dirs dirs AGON_AUTO(agon_regress_dirs_deinit) = {0};
    EXPECT(agon_regress_find(&dirs, CATALOG "/trip_planning/tasks", &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "no environment here");
}

/* ---- negatives ---- */

/* Each negative of a task fails the check that it names and no other; each check has one. */
static void negatives_agree(struct opened *o, const struct agon_task *t)
{
    struct agon_err err;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    char named[64][64];
    int n_named = 0, n_checks = 0;
    size_t i;
    json_t *one;
    json_array_foreach(t->negatives, i, one)
    {
        struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        const char *fails = agon_json_text(one, "fails", "");
        agon_json_dump(&text, json_object_get(one, "answer"));
        REQUIRE(agon_verdict(o->rt, t, agon_buf_str(&text), json_object_get(one, "writes"), &v,
                             &reason, &err) == 0);
        n_checks = v.n_checks;
        bool alone = !v.pass && !v.schema && !v.replay && !v.unclaimed;
        for (int k = 0; k < v.n_checks; k++)
            alone = alone &&
                    (v.checks[k].end == AGON_CHECK_FAIL) == !strcmp(v.checks[k].name, fails) &&
                    v.checks[k].end != AGON_CHECK_ERROR;
        if (!EXPECT(alone))
            printf("# %s negative %zu should fail '%s' alone\n", t->id, i + 1, fails);
        bool known = false;
        for (int k = 0; k < n_named; k++)
            known = known || !strcmp(named[k], fails);
        if (!known && n_named < 64)
            snprintf(named[n_named++], sizeof(named[0]), "%s", fails);
    }
    if (!EXPECT(n_checks > 0 && n_named == n_checks))
        printf("# %s: %d of %d checks have a negative\n", t->id, n_named, n_checks);
}

TEST(for_every_check_some_answer_fails_it_alone)
{
    NEED_BOX;
    for (int i = 0; i < N_CATALOG; i++) {
        struct opened o AGON_AUTO(opened_deinit) = {0};
        REQUIRE(opened_init(&o, sandbox, catalog_names[i], NULL));
        for (int k = 0; k < o.env->n_tasks; k++)
            negatives_agree(&o, &o.env->tasks[k]);
    }
}

/* ---- writes ---- */

/* Does the golden answer pass with these writes (reference taken)? */
static bool passes_with(struct opened *o, const struct agon_task *t, json_t *writes_taken)
{
    json_auto_t *writes = writes_taken;
    struct agon_err err;
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_json_dump(&text, json_object_get(t->golden, "answer"));
    int r = agon_verdict(o->rt, t, agon_buf_str(&text), writes, &v, &reason, &err);
    return EXPECT(r == 0) && v.pass;
}

TEST(library_loans_wants_each_write_and_no_other)
{
    /* Each of these works in the world, before or after the golden writes. */
    static const char *const foreign[] = {
        "{\"tool\": \"lend_copy\", \"arguments\": {\"copy_id\": 1073, \"member_id\": 103, "
        "\"on_date\": "
        "\"2025-03-10\", \"due_on\": \"2025-03-31\"}}",
        "{\"tool\": \"lend_copy\", \"arguments\": {\"copy_id\": 1073, \"member_id\": 106, "
        "\"on_date\": "
        "\"2025-03-10\", \"due_on\": \"2025-03-31\"}}",
        "{\"tool\": \"return_copy\", \"arguments\": {\"loan_id\": 533, \"on_date\": "
        "\"2025-03-10\"}}",
        "{\"tool\": \"renew_loan\", \"arguments\": {\"loan_id\": 533, \"due_on\": \"2025-12-01\"}}",
        "{\"tool\": \"serve_hold\", \"arguments\": {\"hold_id\": 341, \"on_date\": "
        "\"2025-03-10\"}}",
    };
    NEED_BOX;
    struct opened o AGON_AUTO(opened_deinit) = {0};
    REQUIRE(opened_init(&o, sandbox, "library_loans", NULL));
    for (int i = 0; i < o.env->n_tasks; i++) {
        const struct agon_task *t = &o.env->tasks[i];
        json_t *golden = json_object_get(t->golden, "writes");
        EXPECT(passes_with(&o, t, json_incref(golden)));
        for (size_t k = 0; k < json_array_size(golden); k++) {
            json_t *writes = json_copy(golden);
            json_array_remove(writes, k);
            EXPECT(!passes_with(&o, t, writes));
        }
        for (size_t k = 0; k < sizeof(foreign) / sizeof(*foreign); k++) {
            json_t *call = NULL, *writes = json_copy(golden);
            struct agon_err err;
            REQUIRE(agon_json_parse(&call, agon_str(foreign[k]), &err) == 0);
            json_array_append_new(writes, call);
            EXPECT(!passes_with(&o, t, writes));
        }
    }
}

/* ---- audits ---- */

/* Answers that an audit judged, for the second checker. */
struct judged {
    FILE *to;
    const char *env;
    int n, n_rejected;
};

/* All that pass, and of the others one in seven: those that differ little come together. */
static void judged_write(void *user, const struct agon_task *task, const struct agon_gate_judged *j)
{
    struct judged *all = user;
    struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    json_auto_t *text = json_stringn(j->answer.data, j->answer.size);
    if (!text || (!j->brief->pass && all->n_rejected++ % 7))
        return;
    json_auto_t *one = json_pack("{s:s, s:s, s:O, s:O?, s:b}", "env", all->env, "task", task->id,
                                 "answer", text, "writes", j->writes, "pass", j->brief->pass);
    if (!j->writes)
        json_object_set_new(one, "writes", json_array());
    agon_json_dump(&line, one);
    fprintf(all->to, "%s\n", agon_buf_text(&line));
    all->n++;
}

/* What the second checker says of the lines of a file. */
static void second_opinion(const char *path, char *ret, size_t size)
{
    char command[9000];
    snprintf(command, sizeof(command),
             "python3 -B '" SOURCES "/second_checker.py' '" CATALOG "' < '%s'", path);
    FILE *f = popen(command, "r");
    REQUIRE(f != NULL);
    ret[fread(ret, 1, size - 1, f)] = '\0';
    EXPECT(pclose(f) == 0);
}

/* Under answers="many" other answers than the golden one pass: each is right, and what fails is
 * wrong, by a judge in another language that has no line in common with the verifiers. */
TEST(every_task_passes_an_audit_and_a_second_checker_agrees)
{
    NEED_BOX;
    char path[] = "/tmp/agon-judged-XXXXXX", said[20000] = "", wanted[64];
    struct judged all = {.to = fdopen(mkstemp(path), "w")};
    struct agon_audit_options options = {.places = {sandbox},
                                         .n_places = 1,
                                         .seed = 20,
                                         .golden_runs = 12,
                                         .judged = judged_write,
                                         .user = &all};
    json_t *cards = json_array();
    json_auto_t *report = NULL;
    struct agon_err err = {0};
    REQUIRE(all.to != NULL);
    for (int i = 0; i < N_CATALOG; i++) {
        char dir[4096];
        json_auto_t *own = NULL;
        snprintf(dir, sizeof(dir), "%s/%s", CATALOG, catalog_names[i]);
        all.env = catalog_names[i];
        if (!EXPECT(agon_audit_env(dir, &options, &own, &err) == 0))
            printf("# %s\n", err.text);
        json_array_extend(cards, own);
    }
    fclose(all.to);
    REQUIRE(agon_audit_finish(cards, &report, &err) == 0);
    const json_t *sum = json_object_get(report, "summary");
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_audit_print(report, false, &text);
    if (!EXPECT(json_integer_value(json_object_get(sum, "refused")) == 0))
        printf("# %s\n", agon_buf_text(&text));
    EXPECT(json_integer_value(json_object_get(sum, "tasks")) == 10);
    EXPECT(json_integer_value(json_object_get(sum, "attacks")) > 100000);
    EXPECT(json_integer_value(json_object_get(sum, "false_accepts")) == 0);
    EXPECT(json_integer_value(json_object_get(sum, "dropped")) == 15);
    EXPECT(json_integer_value(json_object_get(sum, "dropped_accepted")) == 0);
    EXPECT(json_integer_value(json_object_get(sum, "foreign_writes")) > 300);
    EXPECT(json_integer_value(json_object_get(sum, "foreign_accepted")) == 0);
    EXPECT(json_integer_value(json_object_get(sum, "golden_passes")) == 120);
    EXPECT(json_integer_value(json_object_get(sum, "golden_same")) == 120);
    EXPECT(json_integer_value(json_object_get(sum, "unproven")) > 150); /* many to agree about */

    second_opinion(path, said, sizeof(said));
    snprintf(wanted, sizeof(wanted), "%d judged, ", all.n);
    if (!EXPECT(!strncmp(said, wanted, strlen(wanted))))
        printf("# %.4000s\n", said);
    (void)unlink(path);
}

/* ---- trip_planning ---- */

TEST(trip_planning_has_the_reports_tools)
{
    NEED_BOX;
    static const char *const tools[] = {
        "get_all_attractions_by_city", "get_all_cities",           "get_all_hotels_by_city",
        "get_all_restaurants_by_city", "get_city_by_attraction",   "get_city_by_hotel",
        "get_city_by_restaurant",      "get_city_transport",       "get_infos_by_attraction",
        "get_infos_by_city",           "get_infos_by_hotel",       "get_infos_by_restaurant",
        "get_inter_city_transport",    "get_weather_by_city_date", /* and submit_result, the
                                                                      driver's own */
    };
    struct opened o AGON_AUTO(opened_deinit) = {0};
    REQUIRE(opened_init(&o, sandbox, "trip_planning", NULL));
    REQUIRE(agon_runtime_n_tools(o.rt) == 14);
    for (int i = 0; i < 14; i++)
        EXPECT(!strcmp(agon_runtime_tool(o.rt, i)->name, tools[i]));
}

TEST(trip_planning_submits_what_the_report_says)
{
    NEED_BOX;
    static const char *const keys[] = {"time",
                                       "city",
                                       "hotel",
                                       "afternoon_restaurant",
                                       "afternoon_attraction",
                                       "evening_restaurant"};
    struct opened o AGON_AUTO(opened_deinit) = {0};
    REQUIRE(opened_init(&o, sandbox, "trip_planning", NULL));
    const struct agon_task *t = opened_task(&o, "t1_l3");
    REQUIRE(t && t->answers == AGON_ANSWERS_MANY);
    json_t *golden = json_object_get(t->golden, "answer");
    REQUIRE(json_array_size(golden) == 3);
    int i = 0;
    const char *key;
    json_t *value;
    json_object_foreach(json_array_get(golden, 1), key, value)
        EXPECT(i < 6 && !strcmp(key, keys[i++]));
    EXPECT(i == 6 && !strcmp(agon_json_text(json_array_get(golden, 1), "time", ""), "2025-10-02"));
}

/* The cases of one task, judged in one trial; both judges must name the same broken checks. */
static void cases_agree(struct opened *o, const struct agon_task *t, const json_t *cases,
                        int *n_passed)
{
    static struct agon_trial_item items[ITEMS_MAX];
    struct agon_buf texts AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    struct agon_verdict checks AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_trial trial AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_err err;
    size_t n = json_array_size(cases), offsets[ITEMS_MAX + 1];
    REQUIRE(n <= ITEMS_MAX);
    for (size_t i = 0; i < n; i++) {
        offsets[i] = texts.size;
        agon_json_dump(&texts, json_object_get(json_array_get(cases, i), "answer"));
    }
    offsets[n] = texts.size;
    for (size_t i = 0; i < n; i++)
        items[i] =
            (struct agon_trial_item){{texts.data + offsets[i], offsets[i + 1] - offsets[i]}, NULL};
    struct agon_trial_input input = {.answer_schema = t->answer_schema,
                                     .verifier = agon_str(t->verifier),
                                     .items = items,
                                     .n_items = (int)n};
    REQUIRE(agon_verdict_checks(o->rt, agon_str(t->verifier), &checks, &reason, &err) == 0);
    REQUIRE(agon_trial(o->rt, &input, &trial, &reason, &err) == 0);
    /* Judged only until a first check failed, the same ones pass. */
    struct agon_trial brief AGON_AUTO(agon_trial_deinit) = {0};
    input.failed_max = 1;
    REQUIRE(agon_trial(o->rt, &input, &brief, &reason, &err) == 0);
    for (size_t i = 0; i < n; i++)
        EXPECT(brief.briefs[i].pass == trial.briefs[i].pass &&
               __builtin_popcountll(brief.briefs[i].failed) == !trial.briefs[i].pass);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(cases, i);
        uint64_t wanted = 0;
        for (size_t k = 0; k < json_array_size(json_object_get(one, "fails")); k++)
            for (int c = 0; c < checks.n_checks; c++)
                if (!strcmp(checks.checks[c].name,
                            json_string_value(json_array_get(json_object_get(one, "fails"), k))))
                    wanted |= UINT64_C(1) << c;
        const struct agon_brief *b = &trial.briefs[i];
        *n_passed += b->pass;
        if (!EXPECT(b->pass == (json_array_size(json_object_get(one, "fails")) == 0) &&
                    b->failed == wanted))
            printf("# %s: verifier %llx, judge %llx: %.*s\n", t->id, (unsigned long long)b->failed,
                   (unsigned long long)wanted, AGON_STR_ARG(items[i].answer));
    }
}

TEST(trip_planning_is_judged_as_by_an_independent_judge)
{
    NEED_BOX;
    enum { N = 400 };
    struct opened o AGON_AUTO(opened_deinit) = {0};
    REQUIRE(opened_init(&o, sandbox, "trip_planning", NULL));
    FILE *f = popen(
        "python3 '" SOURCES "/trip_cases.py' '" CATALOG "/trip_planning/world.sql' 5 400", "r");
    json_auto_t *cases = json_object();
    char *line = NULL;
    size_t size = 0;
    REQUIRE(f != NULL);
    while (getline(&line, &size, f) > 0) {
        json_t *one = NULL;
        struct agon_err err;
        REQUIRE(agon_json_parse(&one, agon_str(line), &err) == 0);
        const char *id = agon_json_text(one, "task", "");
        if (!json_object_get(cases, id))
            json_object_set_new(cases, id, json_array());
        json_array_append_new(json_object_get(cases, id), one);
    }
    free(line);
    REQUIRE(pclose(f) == 0 && json_object_size(cases) == 4);
    const char *id;
    json_t *list;
    json_object_foreach(cases, id, list)
    {
        int n_passed = 0;
        EXPECT(json_array_size(list) == N);
        cases_agree(&o, opened_task(&o, id), list, &n_passed);
        EXPECT(n_passed >= 20 && n_passed <= N / 2); /* both ways are well tried */
    }
}

TEST(worlds_are_what_their_generators_make)
{
    for (int i = 0; i < N_CATALOG; i++) {
        char command[9000];
        snprintf(command, sizeof(command),
                 "lua5.4 '%s/%s/make_world.lua' | cmp -s - '%s/%s/world.sql'", CATALOG,
                 catalog_names[i], CATALOG, catalog_names[i]);
        EXPECT(system(command) == 0);
    }
}
