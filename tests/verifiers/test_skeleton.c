/* The cases of tests/data/embedded/skeletons.json are held against model/train/novelty.py by
 * tests/train. */
#include "verifiers/skeleton.h"

#include "base/json.h"
#include "tests/test.h"

#include <string.h>

static const char *skeleton_of(const char *verifier)
{
    static struct agon_buf b = AGON_BUF(1 << 20);
    agon_buf_reset(&b);
    agon_skeleton(agon_str(verifier), &b);
    return agon_buf_text(&b);
}

TEST(leaves_out_names_texts_and_literals)
{
    EXPECT_TEXT(
        skeleton_of("  check{ name = \"n\", text = [[how many]], run = function(world, answer)\n"
                    "  return answer.n_x == world:value(\"SELECT COUNT(*) FROM cars WHERE cyl = ?"
                    " AND x > 3.5\", \"four\", -8)\nend }\n"),
        "check{ name = v, text = T, run = function(world, answer) return answer.x =="
        " world:value(SELECT COUNT(*) FROM x WHERE x = ? AND x > v, v, -v) end }");
}

TEST(says_the_same_as_training)
{
    struct agon_err err = {0};
    json_auto_t *cases = NULL;
    REQUIRE(agon_json_load_file(&cases, DATA_DIR "/skeletons.json", 1 << 20, &err) == 0);
    EXPECT(json_array_size(cases) >= 20);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        EXPECT_TEXT(skeleton_of(agon_json_text(one, "verifier", "")),
                    agon_json_text(one, "skeleton", "?"));
    }
}

/* The places of two checks that ask the same, as 10 * first + second, or -1. */
static int repeat_of(const char *verifier, int n, const char *answer)
{
    int at[2];
    json_auto_t *a = json_loads(answer, 0, NULL);
    return agon_checks_repeat(agon_str(verifier), n, a, at) ? 10 * at[0] + at[1] : -1;
}

#define CHECK(name, text, body)                  \
    "check{ name = \"" name "\", text = [[" text \
    "]], run = function(world, answer, changes)\n" body " end }\n"

TEST(a_question_asked_twice_is_found)
{
    static const char twice[] =
        CHECK("a", "how many",
              "  return answer.a == world:value(\"SELECT COUNT(*) FROM t WHERE x = ?\", 3)\n")
            CHECK("b", "the sum", "  return answer.b == world:value(\"SELECT SUM(y) FROM t\")\n")
                CHECK("c", "the count of",
                      "  -- once more\n  return answer.c ==   world:value(\"SELECT COUNT(*) FROM t "
                      "WHERE x = ?\", 3)\n");
    EXPECT(repeat_of(twice, 3, "{\"a\": 7, \"b\": 1, \"c\": 7}") == 2);
    EXPECT(repeat_of(twice, 2, "{\"a\": 7, \"b\": 1, \"c\": 7}") ==
           -1); /* the text does not show its checks */
    EXPECT(repeat_of(CHECK("a", "s", "return answer.a == world:value([[SELECT 1]])")
                         CHECK("b", "t", "return answer.b == world:value([[SELECT 2]])"),
                     2, "{\"a\": 1, \"b\": 1}") == -1);
    EXPECT(repeat_of(CHECK("a", "s", "return answer.x < answer.y")
                         CHECK("b", "t", "return answer.x < answer.z"),
                     2, "{\"x\": 1, \"y\": 2, \"z\": 2}") == -1);
}

TEST(checks_of_a_form_are_no_repeats)
{
    EXPECT(repeat_of(CHECK("a", "a is text", "return type(answer.a) == \"string\"")
                         CHECK("b", "b is text", "return type(answer.b) == \"string\""),
                     2, "{\"a\": \"x\", \"b\": \"y\"}") == -1);
}

TEST(finds_each_mark_and_no_other)
{
    static const char marks[] = "aaaaabbbbbcccccddddd";
    struct agon_str all = {marks, sizeof(marks) - 1};
    for (int i = 0; i < 4; i++)
        EXPECT(agon_marks_have(all, (const unsigned char *)marks + i * AGON_MARK_BYTES));
    EXPECT(!agon_marks_have(all, (const unsigned char *)"aaaab"));
    EXPECT(!agon_marks_have(all, (const unsigned char *)"eeeee"));
    EXPECT(!agon_marks_have((struct agon_str){marks, 0}, (const unsigned char *)"aaaaa"));
}

TEST(refuses_a_shape_without_end)
{
    struct agon_err err = {0};
    unsigned char mark[AGON_MARK_BYTES];
    static char huge[3 << 20];
    memset(huge, '(', sizeof(huge) - 1);
    EXPECT(agon_skeleton_mark(agon_str(huge), mark, &err) == AGON_ENOMEM);
}
