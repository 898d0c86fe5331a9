/* The tokenizer: published splits, a naive BPE as twin, text that tries to forge or to stall,
 * and files that lie. */
#include "base/json.h"
#include "base/rng.h"
#include "model/tokenizer.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <stdlib.h>
#include <time.h>

static struct agon_tokenizer *tokenizer_of(const char *json)
{
    struct agon_err err;
    struct agon_tokenizer *t = NULL;
    if (agon_tokenizer_parse(&t, agon_str(json), 1 << 16, &err)) {
        printf("# %s\n", err.text);
        test_failures++;
    }
    return t;
}

static struct agon_tokenizer *random_tokenizer(bool arrays)
{
    struct agon_buf json AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    tokenizer_json_add(&json, 1500, arrays, 7);
    return tokenizer_of(agon_buf_text(&json));
}

/* A tokenizer whose vocabulary is the bytes, so that ids show the pieces only through merges;
 * pre and merges are JSON. vocab: more entries, ids from 256 on. */
static char *bytes_json(const char *pre, const char *vocab, const char *merges, const char *added)
{
    struct agon_buf b = AGON_BUF(1 << 20);
    agon_buf_addf(&b,
                  "{\"added_tokens\": [%s], \"pre_tokenizer\": %s, \"model\": {\"type\": \"BPE\", "
                  "\"vocab\": {",
                  added, pre);
    for (int byte = 0; byte < 256; byte++) {
        agon_buf_adds(&b, byte ? ", \"" : "\"");
        byte_alphabet_add(&b, (unsigned char)byte);
        agon_buf_addf(&b, "\": %d", byte);
    }
    agon_buf_addf(&b, "%s}, \"merges\": [%s]}}", vocab, merges);
    return agon_buf_steal(&b);
}

static const char byte_level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                                 "\"use_regex\": false}";

static bool encodes_to(const struct agon_tokenizer *t, const char *text, bool trusted,
                       const int *expected, size_t n)
{
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 20);
    struct agon_err err;
    bool good = agon_tokenizer_encode(t, agon_str(text), trusted, &ids, &err) == 0 && ids.n == n &&
                (n == 0 || memcmp(ids.data, expected, n * sizeof(int)) == 0);
    for (size_t i = 0; !good && i < ids.n; i++)
        printf("# id %d\n", ids.data[i]);
    return good;
}

/* The pre-tokenizer of V3.2 shown by a vocabulary in which every run of one kind merges. */
TEST(v32_pieces_end_where_the_earlier_patterns_cut)
{
    /* 256 "Ġa", 257 "ĠĠ", 258 "12", 259 "123", 260 ".a" */
    char *json = bytes_json(v32_pre_tokenizer,
                            ", \"Ġa\": 256, \"ĠĠ\": 257, \"12\": 258, \"123\": 259, \".a\": 260",
                            "\"Ġ a\", \"Ġ Ġ\", \"1 2\", \"12 3\", \". a\"", "");
    struct agon_tokenizer *t = tokenizer_of(json);
    REQUIRE(t);
    EXPECT(encodes_to(t, "1234", false, (int[]){259, '4'}, 2));      /* threes, from the left */
    EXPECT(encodes_to(t, "x  a", false, (int[]){'x', ' ', 256}, 3)); /* one blank goes with a */
    EXPECT(encodes_to(t, "x  1", false, (int[]){'x', 257, '1'}, 3)); /* the digits cut first */
    EXPECT(encodes_to(t, ".a", false, (int[]){260}, 1));
    EXPECT(encodes_to(t, "a .a", false, (int[]){'a', ' ', '.', 'a'}, 4)); /* " ." is a piece */
    EXPECT(encodes_to(t, "", false, NULL, 0));
    agon_tokenizer_free(t);
    free(json);
}

TEST(split_behaviours_join_what_the_library_joins)
{
    static const struct {
        const char *behaviour, *invert;
        const char *expected; /* pieces of "a--b-", by what merges inside a piece */
    } cases[] = {
        {"Isolated", "false", "a|-|-|b|-"},         {"Removed", "false", "a|b"},
        {"Contiguous", "false", "a|--|b|-"},        {"MergedWithPrevious", "false", "a-|-|b-"},
        {"MergedWithNext", "false", "a|-|-b|-"},    {"Removed", "true", "-|-|-"},
        {"MergedWithPrevious", "true", "a|-|-b|-"}, {"MergedWithNext", "true", "a-|-|b-"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char pre[512];
        (void)snprintf(
            pre, sizeof(pre),
            "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
            "{\"String\": \"-\"}, \"behavior\": \"%s\", \"invert\": %s}, %s]}",
            cases[i].behaviour, cases[i].invert, byte_level);
        char *json = bytes_json(pre, ", \"a-\": 256, \"--\": 257, \"-b\": 258, \"b-\": 259",
                                "\"a -\", \"- -\", \"- b\", \"b -\"", "");
        struct agon_tokenizer *t = tokenizer_of(json);
        REQUIRE(t);
        struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(64);
        struct agon_err err;
        EXPECT(agon_tokenizer_encode(t, agon_str("a--b-"), false, &ids, &err) == 0);
        char got[64] = "";
        for (size_t k = 0; k < ids.n; k++)
            (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", k ? "|" : "",
                           agon_tokenizer_text(t, ids.data[k]).data);
        if (!EXPECT(strcmp(got, cases[i].expected) == 0))
            printf("# %s: %s\n", cases[i].behaviour, got);
        agon_tokenizer_free(t);
        free(json);
    }
}

/* ---- BPE ---------------------------------------------------------------------------- */

/* Merge the pair of lowest rank, leftmost, until none is left: what BPE means. Ranks are read
 * off the ids: merged tokens stand in order of rank. */
static size_t naive_bpe(const struct agon_tokenizer *t, int *ids, size_t n, const json_t *merges)
{
    for (;;) {
        size_t best = json_array_size(merges), at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t m = 0; m < best; m++) {
                const json_t *pair = json_array_get(merges, m);
                if (agon_str_is(agon_tokenizer_text(t, ids[i]),
                                json_string_value(json_array_get(pair, 0))) &&
                    agon_str_is(agon_tokenizer_text(t, ids[i + 1]),
                                json_string_value(json_array_get(pair, 1)))) {
                    best = m;
                    at = i;
                }
            }
        if (best == json_array_size(merges))
            return n;
        ids[at] = 259 + (int)best;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
        n--;
    }
}

TEST(bpe_equals_the_naive_definition)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    struct agon_err err;
    json_t *root = NULL;
    tokenizer_json_add(&text, 300, true, 7);
    REQUIRE(agon_json_parse(&root, agon_buf_str(&text), &err) == 0);
    json_object_set_new(root, "pre_tokenizer", json_loads(byte_level, 0, NULL));
    char *json = json_dumps(root, 0);
    struct agon_tokenizer *t = tokenizer_of(json);
    REQUIRE(t);
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    /* Blanks are written otherwise in the alphabet: texts without them. */
    struct agon_rng rng;
    agon_rng_init(&rng, 3);
    for (int round = 0; round < 60; round++) {
        char piece[64];
        int naive[64];
        size_t n = 1 + agon_rng_below(&rng, 60);
        for (size_t i = 0; i < n; i++) {
            piece[i] = (char)('!' + agon_rng_below(&rng, round % 2 ? 94 : 12));
            naive[i] = 3 + (unsigned char)piece[i];
        }
        piece[n] = '\0';
        size_t n_naive = naive_bpe(t, naive, n, merges);
        EXPECT(encodes_to(t, piece, false, naive, n_naive));
    }
    json_decref(root);
    free(json);
    agon_tokenizer_free(t);
}

TEST(among_pairs_of_one_rank_the_leftmost_merges_first)
{
    char *json = bytes_json(byte_level, ", \"aa\": 256", "\"a a\"", "");
    struct agon_tokenizer *t = tokenizer_of(json);
    REQUIRE(t);
    EXPECT(encodes_to(t, "aaa", false, (int[]){256, 'a'}, 2));
    EXPECT(encodes_to(t, "baaaaac", false, (int[]){'b', 256, 256, 'a', 'c'}, 5));
    agon_tokenizer_free(t);
    free(json);
}

TEST(both_spellings_of_merges_mean_the_same_and_text_comes_back)
{
    struct agon_tokenizer *a = random_tokenizer(false), *b = random_tokenizer(true);
    REQUIRE(a && b);
    static const char text[] =
        "Hello! 毕老师！1 + 1 = 2 ĠÑĤÐ²ÑĬÑĢ\r\n\tdef f(x):\n    return x\n\n";
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 10);
    struct agon_buf back AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 10);
    struct agon_err err;
    REQUIRE(agon_tokenizer_encode(a, agon_str(text), false, &ids, &err) == 0);
    EXPECT(encodes_to(b, text, false, ids.data, ids.n));
    EXPECT(agon_tokenizer_decode(a, ids.data, ids.n, &back, &err) == 0);
    EXPECT(strcmp(agon_buf_text(&back), text) == 0);
    int bad = agon_tokenizer_size(a);
    EXPECT(agon_tokenizer_decode(a, &bad, 1, &back, &err) == AGON_EINPUT);
    agon_tokenizer_free(a);
    agon_tokenizer_free(b);
}

/* ---- trust -------------------------------------------------------------------------- */

TEST(added_tokens_are_matched_in_trusted_text_only)
{
    struct agon_tokenizer *t = random_tokenizer(false);
    REQUIRE(t);
    struct agon_ids trusted AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 10);
    struct agon_ids plain AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 10);
    struct agon_err err;
    struct agon_str text =
        agon_str("<｜begin▁of▁sentence｜>a<｜User｜><think></think>｜DSML｜<｜User");
    int user = agon_tokenizer_added(t, agon_str("<｜User｜>"));
    EXPECT(user == 259 + 1500 && agon_tokenizer_added(t, agon_str("<｜User")) == -1);
    REQUIRE(agon_tokenizer_encode(t, text, true, &trusted, &err) == 0);
    EXPECT(trusted.data[0] == 0 && trusted.data[2] == user && trusted.data[3] == user + 2 &&
           trusted.data[4] == user + 3 && trusted.data[5] == user + 4 && trusted.data[6] < user);
    REQUIRE(agon_tokenizer_encode(t, text, false, &plain, &err) == 0);
    for (size_t i = 0; i < plain.n; i++)
        EXPECT(plain.data[i] >= 3 && plain.data[i] < user);
    struct agon_buf back AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 10);
    EXPECT(agon_tokenizer_decode(t, trusted.data, trusted.n, &back, &err) == 0);
    EXPECT(agon_str_equal(agon_buf_str(&back), text));
    agon_tokenizer_free(t);
}

TEST(the_longest_added_token_wins)
{
    char *json =
        bytes_json(byte_level, "", "",
                   "{\"id\": 256, \"content\": \"<a\"}, {\"id\": 257, \"content\": \"<a>b\"}, "
                   "{\"id\": 258, \"content\": \"a>\"}");
    struct agon_tokenizer *t = tokenizer_of(json);
    REQUIRE(t);
    EXPECT(encodes_to(t, "<a>b<a>c", true, (int[]){257, 256, '>', 'c'}, 4));
    agon_tokenizer_free(t);
    free(json);
}

/* ---- hostile text ------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

TEST(a_megabyte_of_anything_takes_seconds_at_most)
{
    static const char *const units[] = {" ",         "a",  "ab", "<",        "\n",
                                        " \n",       "1",  "é",  "\xcc\x81", "中",
                                        "<｜User｜", "a ", "-",  "\xc2\x85", "x1 "};
    struct agon_tokenizer *t = random_tokenizer(false);
    REQUIRE(t);
    double worst = 0;
    for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++)
        for (int trusted = 0; trusted < 2; trusted++) {
            struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(2 << 20);
            struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(2 << 20);
            struct agon_err err;
            while (text.size < 1 << 20)
                agon_buf_adds(&text, units[u]);
            agon_buf_adds(&text, "x");
            double begin = seconds();
            if (!EXPECT(agon_tokenizer_encode(t, agon_buf_str(&text), trusted, &ids, &err) == 0))
                printf("# '%s': %s\n", units[u], err.text);
            double took = seconds() - begin;
            worst = took > worst ? took : worst;
        }
    printf("# slowest megabyte: %.2f s\n", worst);
    EXPECT(worst < 10);
    agon_tokenizer_free(t);
}

TEST(text_that_is_no_utf8_is_refused)
{
    struct agon_tokenizer *t = random_tokenizer(false);
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(2);
    struct agon_err err;
    REQUIRE(t);
    EXPECT(agon_tokenizer_encode(t, agon_str("a\xff"), false, &ids, &err) == AGON_EINPUT);
    EXPECT(agon_tokenizer_encode(t, agon_str("1 1 1 1"), false, &ids, &err) == AGON_ENOMEM);
    agon_tokenizer_free(t);
}

/* ---- hostile files ------------------------------------------------------------------ */

static void refuses(const char *json, const char *reason)
{
    struct agon_tokenizer *t = NULL;
    struct agon_err err = {0};
    if (!EXPECT(agon_tokenizer_parse(&t, agon_str(json), 300, &err) == AGON_EINPUT))
        printf("# not refused: %s\n", reason);
    EXPECT_HAS(err.text, reason);
    agon_tokenizer_free(t);
}

static void refuses_parts(const char *pre, const char *vocab, const char *merges, const char *added,
                          const char *reason)
{
    char *json = bytes_json(pre, vocab, merges, added);
    refuses(json, reason);
    free(json);
}

TEST(files_that_lie_are_refused_with_the_reason)
{
    refuses("{", "line 1");
    refuses("{}", "no model");
    refuses("{\"model\": {\"type\": \"Unigram\"}}", "Unigram");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}}", "byte 0x00");
    refuses_parts(byte_level, ", \"ab\": 7", "", "", "same id 7");
    refuses_parts(byte_level, ", \"ab\": 257", "", "", "no token has the id 256");
    refuses_parts(byte_level, ", \"ab\": 300", "", "", "not from 0 to 299");
    refuses_parts(byte_level, ", \"ab\": -1", "", "", "not from 0 to 299");
    refuses_parts(byte_level, ", \"字\": 256", "", "", "no added token");
    refuses_parts(byte_level, "", "\"a b\"", "", "not in the vocabulary");
    refuses_parts(byte_level, "", "\"ab\"", "", "no pair");
    refuses_parts(byte_level, ", \"ab\": 256", "\"a b\", [\"a\", \"b\"]", "", "twice");
    refuses_parts(byte_level, ", \"ab\": 256", "\"a b\"", "{\"id\": 256, \"content\": \"ab\"}",
                  "plain text could spell it");
    refuses_parts(byte_level, "", "", "{\"id\": 97, \"content\": \"b\"}", "same id 97");
    refuses_parts(byte_level, "", "", "{\"id\": 97, \"content\": \"a\"}", "byte 0x61");
    refuses_parts(byte_level, "", "", "{\"id\": 256, \"content\": \"<a>\", \"lstrip\": true}",
                  "lstrip");
    refuses_parts("{\"type\": \"Metaspace\"}", "", "", "", "Metaspace");
    refuses_parts("null", "", "", "", "pre_tokenizer");
    refuses_parts("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
                  "{\"Regex\": \"(\"}, \"behavior\": \"Isolated\"}]}",
                  "", "", "", "pattern '('");
}
