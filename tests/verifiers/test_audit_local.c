/* An audit in the test's own process, for the sanitizers: library_loans, whose tasks write, and a
 * folder that is no environment. What audits find is in test_audit.py. */
#include "base/file.h"
#include "base/json.h"
#include "sandbox/cell.h"
#include "tests/test.h"
#include "verifiers/audit.h"

static int audit(const char *dir, json_t **ret, struct agon_err *err)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_sandbox_options so = {0};
    json_t *cards = NULL;
    int r = agon_sandbox_open(&sb, &so, err);
    struct agon_audit_options options = {
        .places = {sb, sb}, .n_places = 2, .seed = 3, .golden_runs = 10};
    if (!r)
        r = agon_audit_env(dir, &options, &cards, err);
    return r ? r : agon_audit_finish(cards, ret, err);
}

TEST(an_audit_gives_each_task_a_card)
{
    struct agon_err err = {0};
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    json_auto_t *report = NULL;
    if (!EXPECT(audit(CATALOG "/library_loans", &report, &err) == 0))
        printf("# %s\n", err.text);
    const json_t *sum = json_object_get(report, "summary");
    agon_audit_print(report, true, &text);
    if (!EXPECT(json_integer_value(json_object_get(sum, "ok")) == 3))
        printf("# %s\n", agon_buf_text(&text));
    EXPECT(json_array_size(json_object_get(report, "tasks")) == 3);
    EXPECT_HAS(agon_buf_text(&text), "t1_l3");
    EXPECT_HAS(agon_buf_text(&text), "golden writes dropped and accepted: 0 of 15 (0 %)");
    EXPECT_HAS(agon_buf_text(&text), "golden runs with equal bytes: 30 of 30 (100 %)");
    const json_t *card = json_array_get(json_object_get(report, "tasks"), 0);
    EXPECT(!json_object_get(card, "prompt") && !json_object_get(card, "refusals"));
}

TEST(a_folder_whose_env_json_is_broken_is_a_refused_card)
{
    char dir[] = "/tmp/agon-audit-XXXXXX", path[64];
    struct agon_err err = {0};
    json_auto_t *report = NULL;
    REQUIRE(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/env.json", dir);
    REQUIRE(agon_file_write(path, agon_str("{"), false, &err) == 0);
    EXPECT(audit(dir, &report, &err) == 0);
    EXPECT(agon_dir_remove(dir, &err) == 0);
    const json_t *card = json_array_get(json_object_get(report, "tasks"), 0);
    EXPECT(json_is_null(json_object_get(card, "task")));
    EXPECT_TEXT(agon_json_text(card, "verdict", NULL), "refused");
    EXPECT_TEXT(agon_json_text(json_array_get(json_object_get(card, "findings"), 0), "kind", NULL),
                "files");
}
