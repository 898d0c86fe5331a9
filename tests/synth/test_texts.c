/* What is text in, text out: pages, contexts, prompts, toolboxes, signatures, the filter. */
#include "base/json.h"
#include "synth/cleantext.h"
#include "synth/context.h"
#include "synth/filter.h"
#include "synth/page.h"
#include "synth/prompts.h"
#include "synth/render.h"
#include "synth/toolbox.h"
#include "tests/test.h"

static struct agon_err err;

TEST(pages_end_at_lines_then_values_and_hold_all)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_buf all AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    for (int i = 0; i < 300; i++)
        agon_buf_addf(&text, "zeile %d ä€\n", i);
    int n = agon_page_cut(&(struct agon_buf)AGON_BUF(0), agon_buf_str(&text), 256, 1000);
    EXPECT(n > 10);
    for (int i = 1; i <= n; i++) {
        struct agon_buf page AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        EXPECT(agon_page_cut(&page, agon_buf_str(&text), 256, i) == n);
        char *mark = strstr(page.data, "... page ");
        REQUIRE(mark && mark[-1] == '\n');
        EXPECT(agon_utf8_valid(agon_buf_str(&page)));
        agon_buf_add(&all, page.data, (size_t)(mark - page.data));
    }
    EXPECT(agon_str_equal(agon_buf_str(&all), agon_buf_str(&text)));
}

TEST(a_short_text_is_one_page_as_it_is)
{
    struct agon_buf page AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_page_cut(&page, agon_str("abc"), 3, 1) == 1);
    EXPECT(strcmp(agon_buf_text(&page), "abc") == 0);
    EXPECT(agon_page_cap(4096) == 1024 && agon_page_cap(100) == 256);
}

TEST(a_text_without_breaks_is_cut_at_the_cap)
{
    struct agon_buf page AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_page_cut(&page, agon_str("aaaaaaaaaa"), 4, 2) == 3);
    EXPECT(strcmp(agon_buf_text(&page), "aaaa\n... page 2 of 3; the next: \"more\": 3") == 0);
}

static json_t *conversation(int n_turns)
{
    json_t *m = json_pack("[{s:s}, {s:s}]", "role", "system", "role", "user");
    for (int i = 0; i < n_turns; i++) {
        json_array_append_new(m, json_pack("{s:s, s:i}", "role", "assistant", "turn", i));
        json_array_append_new(m, json_pack("{s:s}", "role", "tool"));
        json_array_append_new(m, json_pack("{s:s}", "role", "tool"));
    }
    return m;
}

TEST(a_shrunken_context_keeps_head_and_whole_turns)
{
    json_auto_t *m = conversation(8);
    json_auto_t *quarter = agon_context_shrink(AGON_CONTEXT_DISCARD_75, m, 2);
    json_auto_t *none = agon_context_shrink(AGON_CONTEXT_DISCARD_ALL, m, 2);
    EXPECT(json_array_size(quarter) == 2 + 2 * 3 && json_array_size(none) == 2);
    EXPECT(json_integer_value(json_object_get(json_array_get(quarter, 2), "turn")) == 6);
    json_auto_t *summed = agon_context_shrink(AGON_CONTEXT_SUMMARY, m, 2);
    EXPECT(json_array_size(summed) == 2);
    EXPECT(agon_context_full(81, 100) && !agon_context_full(80, 100) && !agon_context_full(9, 0));
}

TEST(contexts_have_names)
{
    static const char *const names[] = {"none", "discard-75", "discard-all", "summary",
                                        "parallel-fewest-step"};
    for (int i = 0; i < 5; i++) {
        enum agon_context context;
        EXPECT(agon_context_parse(&context, names[i], &err) == 0 &&
               context == (enum agon_context)i);
        EXPECT_TEXT(agon_context_name(context), names[i]);
        EXPECT_HAS(AGON_CONTEXT_NAMES, names[i]);
        EXPECT(agon_context_resets(context) == (i > 0 && i < 4));
    }
    enum agon_context context;
    EXPECT(agon_context_parse(&context, "discard", &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "'discard' is none of none, discard-75,");
}

TEST(a_conversation_loses_older_turns_then_halves_of_results)
{
    json_auto_t *m = conversation(5);
    for (size_t i = 0; i < json_array_size(m); i++)
        json_object_set_new(json_array_get(m, i), "content",
                            json_string("0123456789012345678901234567890123456789012345678901234567"
                                        "89\xc3\xa4\xc3\xa4\xc3\xa4"));
    json_auto_t *three = agon_context_halve(m, 2), *two = agon_context_halve(three, 2),
                *one = agon_context_halve(two, 2), *cut = agon_context_halve(one, 2);
    EXPECT(json_array_size(three) == 2 + 9 && json_array_size(two) == 2 + 6);
    REQUIRE(json_array_size(one) == 2 + 3 && json_array_size(cut) == 2 + 3);
    EXPECT(json_integer_value(json_object_get(json_array_get(one, 2), "turn")) == 4);
    EXPECT_TEXT(json_string_value(json_object_get(json_array_get(cut, 3), "content")),
                "012345678901234567890123456789012");
    EXPECT(json_equal(json_array_get(one, 2), json_array_get(cut, 2)));
    EXPECT(!agon_context_halve(cut, 2)); /* short as they are */
    json_auto_t *said = agon_context_retext(m, agon_str("other"));
    EXPECT_TEXT(json_string_value(json_object_get(json_array_get(said, 16), "content")), "other");
    EXPECT(!agon_context_retext(m, agon_str("\xff")));
}

TEST(the_texts_of_summaries_are_part_of_a_digest_of_their_own)
{
    struct agon_prompts *p AGON_AUTO(agon_prompts_freep) = NULL;
    REQUIRE(agon_prompts_load(&p, NULL, &err) == 0);
    EXPECT(strcmp(agon_prompts_digest(p, false), agon_prompts_digest(p, true)) != 0);
    EXPECT(agon_prompts_has(p, "summary.md") && agon_prompts_has(p, "task.md"));
    EXPECT(!agon_prompts_has(p, "nope.md") && !agon_prompts_has(NULL, "task.md"));
}

TEST(slots_are_filled_once_and_never_inside_filled_text)
{
    struct agon_prompts *p AGON_AUTO(agon_prompts_freep) = NULL;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    REQUIRE(agon_prompts_load(&p, NULL, &err) == 0);
    struct agon_slot slots[] = {{"prompt", agon_str("{{schema}}")}, {"schema", agon_str("S")}, {0}};
    REQUIRE(agon_prompts_fill(p, "task.md", slots, &b, &err) == 0);
    EXPECT(strcmp(agon_buf_text(&b), "{{schema}}\n\nAnswer schema: S") == 0);
    EXPECT(agon_prompts_fill(p, "task.md", NULL, &b, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "task.md has a slot {{prompt}}");
    EXPECT(agon_prompts_tool(p, "propose_task") && !agon_prompts_tool(p, "nope"));
    EXPECT(agon_prompts_load(&p, "/nonexistent", &err) < 0);
}

TEST(a_toolbox_comes_apart_as_it_was_put_together)
{
    struct agon_toolbox t AGON_AUTO(agon_toolbox_deinit) = {0};
    struct agon_toolbox back AGON_AUTO(agon_toolbox_deinit) = {0};
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    REQUIRE(agon_toolbox_put(&t, "a", agon_str("one"), &err) == 0);
    REQUIRE(agon_toolbox_put(&t, "b", agon_str("two\n-- ===\nthree"), &err) == 0);
    REQUIRE(agon_toolbox_put(&t, "a", agon_str("four"), &err) == 0);
    agon_toolbox_text(&t, &text);
    EXPECT(strcmp(agon_buf_text(&text),
                  "-- ==== a ====\nfour\n-- ==== b ====\ntwo\n-- ===\nthree\n") == 0);
    REQUIRE(agon_toolbox_parse(&back, agon_buf_str(&text), &err) == 0);
    EXPECT(back.n == 2 && strcmp(back.items[1].source, "two\n-- ===\nthree") == 0);
    EXPECT(agon_toolbox_has_mark(agon_str("x\n-- ==== y")) &&
           !agon_toolbox_has_mark(agon_str("--- ====")));
    EXPECT(agon_toolbox_parse(&back, agon_str("tool{}"), &err) == AGON_EINPUT);
}

static const char *type_of(const char *schema, struct agon_buf *b)
{
    json_auto_t *s = json_loads(schema, JSON_DECODE_ANY, NULL);
    agon_buf_reset(b);
    agon_render_type(b, s);
    return agon_buf_text(b);
}

TEST(types_read_as_the_protocol_says)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    EXPECT(strcmp(type_of("{\"type\":\"integer\"}", &b), "integer") == 0);
    EXPECT(
        strcmp(
            type_of("{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"a\":{"
                    "\"type\":"
                    "\"string\"},\"b\":{\"anyOf\":[{\"type\":\"number\"},{\"type\":\"null\"}]}}}}",
                    &b),
            "array of {a: string, b: number or null}") == 0);
    EXPECT(strcmp(type_of("{\"type\":\"object\"}", &b), "object") == 0);
    json_auto_t *params =
        json_loads("{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\"},\"y\":{"
                   "\"type\":\"integer\"}},\"required\":[\"x\"]}",
                   0, NULL);
    json_auto_t *returns = json_loads("{\"type\":\"boolean\"}", 0, NULL);
    struct agon_tool tool = {"has", "d", params, returns, false};
    agon_buf_reset(&b);
    agon_render_signature(&b, &tool);
    EXPECT(strcmp(agon_buf_text(&b), "has(x: string, y?: integer) -> boolean") == 0);
}

TEST(values_are_cut_and_cleaned)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    json_auto_t *text = json_string("a\tb\xc3\xa4 0123456789012345678901234567890123456789");
    json_auto_t *real = json_real(21);
    agon_render_value(&b, text);
    EXPECT(strcmp(agon_buf_text(&b), "a b\xc3\xa4 01234567890123456789012345678901234…") == 0);
    agon_buf_reset(&b);
    agon_render_value(&b, real);
    agon_render_value(&b, NULL);
    EXPECT(strcmp(agon_buf_text(&b), "21.0null") == 0);
}

TEST(text_that_was_cut_inside_a_character_is_made_clean)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    json_auto_t *whole = agon_cleantext_json(agon_str("ä\n"));
    json_auto_t *cut = agon_cleantext_json((struct agon_str){"aä", 2});
    EXPECT(strcmp(json_string_value(whole), "ä\n") == 0);
    EXPECT(strcmp(json_string_value(cut), "a?") == 0);
    agon_buf_add(&b, "x\0y\xff", 4);
    agon_cleantext_buf(&b);
    EXPECT(strcmp(agon_buf_text(&b), "x?y?") == 0);
}

TEST(the_filter_keeps_what_is_passed_and_not_easier_than_below)
{
    struct agon_filter_rule rule = {0, 1, 0.1}, band = {0.2, 0.8, 0.1};
    struct agon_filter_task t[] = {
        {.parent = -1, .level = 1, .n = 16, .c = 4, .n_first = 16, .c_first = 4},
        {.parent = 0, .level = 2, .n = 16, .c = 15, .n_first = 16, .c_first = 15},
        {.parent = 1, .level = 3, .n = 100, .c = 0, .n_first = 16, .c_first = 0},
        {.parent = -1, .level = 1, .n = 40, .c = 1, .n_first = 16, .c_first = 0},
        {.parent = -1, .level = 1, .n = 16, .c = 9, .n_first = 16, .c_first = 9, .disputed = true},
    };
    agon_filter_decide(&rule, t, 5);
    EXPECT(t[0].kept && !t[1].kept && !t[2].kept && t[3].kept && !t[4].kept);
    EXPECT_HAS(t[1].reason, "easier than level 1 below: 15 of 16 against 4 of 16");
    EXPECT_HAS(t[2].reason, "no pass in 100 rollouts");
    EXPECT_HAS(t[4].reason, "two cells");
    agon_filter_decide(&band, t, 5);
    EXPECT(t[0].kept && !t[3].kept);
    EXPECT_HAS(t[3].reason, "outside the band");
}
