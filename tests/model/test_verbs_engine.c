/* agon model logits, tokenize, info and bench as a user runs them: the program itself. */
#include "base/file.h"
#include "base/json.h"
#include "model/jsontext.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 26 };

static char dir[64]; /* a folder of this program's: in, out, err, and a checkpoint */

static const struct random_checkpoint tiny = {RANDOM_CHECKPOINT_TINY, .seed = 2,
                                              .n_vocab = 900,         .index_topk = 8,
                                              .window = 300,          .dtype = AGON_BF16};

static bool folder_make(void)
{
    struct agon_err err;
    char path[128];
    (void)snprintf(dir, sizeof(dir), "/tmp/agon-test-XXXXXX");
    if (!mkdtemp(dir))
        return false;
    (void)snprintf(path, sizeof(path), "%s/model", dir);
    return random_checkpoint_write(path, &tiny, &err) == 0;
}

static void folder_remove(void)
{
    struct agon_err err;
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

static void read_part(const char *name, struct agon_buf *b)
{
    char path[128];
    struct agon_err err;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    agon_buf_reset(b);
    EXPECT(agon_file_read(b, path, FILE_MAX, &err) == 0);
}

/* Run "agon model ARGS" in the folder; returns its exit status, with what it wrote. */
static int run(const char *args, struct agon_str input, struct agon_buf *out,
               struct agon_buf *errors)
{
    char path[128], command[2048];
    struct agon_err err;
    (void)snprintf(path, sizeof(path), "%s/in", dir);
    EXPECT(agon_file_write(path, input, false, &err) == 0);
    (void)snprintf(command, sizeof(command), "cd %s && " AGON_PROGRAM " model %s <in >out 2>err",
                   dir, args);
    int status = system(command);
    read_part("out", out);
    read_part("err", errors);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static double worst_difference(const json_t *a, const json_t *b)
{
    double worst = json_array_size(a) == json_array_size(b) ? 0 : 1e9;
    for (size_t i = 0; i < json_array_size(a) && i < json_array_size(b); i++)
        worst = fmax(worst, fabs(json_number_value(json_array_get(a, i)) -
                                 json_number_value(json_array_get(b, i))));
    return worst;
}

/* Whether all but one in 500 are nearer than that: a tie at the indexer's cut may fall either way.
 */
static bool nearly_all_near(const json_t *a, const json_t *b, double most)
{
    size_t n = json_array_size(b), n_far = 0;
    for (size_t i = 0; i < n; i++)
        n_far += !(fabs(json_number_value(json_array_get(a, i)) -
                        json_number_value(json_array_get(b, i))) < most);
    return n > 0 && json_array_size(a) == n && n_far <= n / 500;
}

/* Float32 sums over the vocabulary: what rounding leaves grows with the numbers (2e-5 of the
 * largest). */
static double rounding_of(const json_t *expected)
{
    double most = 0;
    for (size_t i = 0; i < json_array_size(expected); i++)
        most = fmax(most, fabs(json_number_value(json_array_get(expected, i))));
    return 2e-5 * most;
}

static void check_logits(const json_t *expected, const char *args, struct agon_str ids)
{
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_buf errors AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    json_t *said AGON_AUTO(agon_json_decrefp) = NULL;
    struct agon_err err;
    if (!EXPECT(run(args, ids, &out, &errors) == 0))
        printf("# %s\n", agon_buf_text(&errors));
    REQUIRE(agon_json_parse(&said, agon_buf_str(&out), &err) == 0);
    EXPECT(json_equal(json_object_get(said, "argmax"), json_object_get(expected, "argmax")));
    EXPECT(json_equal(json_object_get(said, "topk"), json_object_get(expected, "topk")));
    EXPECT(worst_difference(json_object_get(said, "logits_last"),
                            json_object_get(expected, "logits_last")) < 1e-3);
    const json_t *norm = json_object_get(expected, "logits_norm"),
                 *sum = json_object_get(expected, "logits_sum");
    EXPECT(
        nearly_all_near(json_object_get(said, "logits_norm"), norm, fmax(1e-3, rounding_of(norm))));
    EXPECT(nearly_all_near(json_object_get(said, "logits_sum"), sum, fmax(1e-2, rounding_of(sum))));
}

TEST(logits_are_those_of_expected_json_also_when_computed_one_by_one)
{
    json_t *expected AGON_AUTO(agon_json_decrefp) = NULL;
    struct agon_err err;
    if (access(VECTORS_DIR "/tiny_v32", F_OK) != 0)
        SKIP("the vectors in ../shared/spec/engine_vectors are absent");
    REQUIRE(folder_make());
    REQUIRE(agon_json_load_file(&expected, VECTORS_DIR "/tiny_v32/expected.json", FILE_MAX, &err) ==
            0);
    json_t *ids AGON_AUTO(agon_json_decrefp) =
        json_pack("{s:O}", "input_ids", json_object_get(expected, "input_ids"));
    char *text = json_dumps(ids, 0);
    check_logits(expected, "logits " VECTORS_DIR "/tiny_v32", agon_str(text));
    check_logits(expected, "logits --decode-from 17 -j 2 " VECTORS_DIR "/tiny_v32", agon_str(text));
    check_logits(expected, "logits --cpu plain " VECTORS_DIR "/tiny_v32", agon_str(text));
    free(text);
    folder_remove();
}

/* expected.json beside the weights: what transformers says of the BF16 twin
 * (model/train/hfcheck.py). */
TEST(the_embedded_checkpoint_says_what_transformers_says_of_its_twin)
{
    json_t *expected AGON_AUTO(agon_json_decrefp) = NULL;
    struct agon_err err;
    if (access(EMBEDDED_DIR "/expected.json", F_OK) != 0)
        SKIP("model/embedded holds no expected.json");
    REQUIRE(folder_make());
    REQUIRE(agon_json_load_file(&expected, EMBEDDED_DIR "/expected.json", FILE_MAX, &err) == 0);
    json_t *ids AGON_AUTO(agon_json_decrefp) =
        json_pack("{s:O}", "input_ids", json_object_get(expected, "input_ids"));
    char *text = json_dumps(ids, 0);
    check_logits(expected, "logits " EMBEDDED_DIR, agon_str(text));
    free(text);
    folder_remove();
}

TEST(tokenize_goes_both_ways)
{
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_buf errors AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_buf ids AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_str text = agon_str("Hello,\n <think>毕老师 123456</think>");
    REQUIRE(folder_make());
    EXPECT(run("tokenize model", text, &ids, &errors) == 0);
    EXPECT(run("tokenize --decode model", agon_buf_str(&ids), &out, &errors) == 0);
    EXPECT(agon_str_equal(agon_buf_str(&out), text));
    EXPECT(run("tokenize --plain model", text, &out, &errors) == 0);
    EXPECT(out.size > ids.size); /* <think> in many pieces */
    EXPECT(run("tokenize --decode model", agon_buf_str(&out), &ids, &errors) == 0);
    EXPECT(agon_str_equal(agon_buf_str(&ids), text));
    folder_remove();
}

TEST(info_and_bench_say_what_a_checkpoint_is_and_does)
{
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_buf errors AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    REQUIRE(folder_make());
    EXPECT(run("info model", agon_str(""), &out, &errors) == 0);
    EXPECT_HAS(agon_buf_text(&out), "deepseek_v32");
    EXPECT_HAS(agon_buf_text(&out), "the best 8 of the past");
    EXPECT(run("bench --batch 4 --prefix 40 --tokens 5 model", agon_str(""), &out, &errors) == 0);
    EXPECT_HAS(agon_buf_text(&out), "GFLOP/s");
    EXPECT_HAS(agon_buf_text(&out), "4 sequences");
    folder_remove();
}

TEST(the_cache_is_as_large_as_it_is_told_to_be)
{
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_buf errors AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct random_checkpoint wide = tiny; /* 16 KB a position */
    struct agon_err err;
    char path[128];
    wide.kv_lora = 2048;
    REQUIRE(folder_make());
    (void)snprintf(path, sizeof(path), "%s/wide", dir);
    REQUIRE(random_checkpoint_write(path, &wide, &err) == 0);
    EXPECT(run("bench --batch 2 --prefix 100 --tokens 5 --cache-mb 4 wide", agon_str(""), &out,
               &errors) == 0);
    EXPECT(run("bench --batch 2 --prefix 100 --tokens 5 --cache-mb 1 wide", agon_str(""), &out,
               &errors) != 0);
    EXPECT_HAS(agon_buf_text(&errors), "the cache is full (3 pages of 16 positions)");
    folder_remove();
}

TEST(a_gpu_is_used_or_missed_in_one_line)
{
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_buf errors AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    REQUIRE(folder_make());
    int status = run("logits --device cuda:reference model", agon_str("[1, 2]"), &out, &errors);
    if (status) { /* with CUDA its library was loaded whole before the device was looked for */
        EXPECT(status == 5 && out.size == 0);
        EXPECT_HAS(agon_buf_text(&errors), HAVE_CUDA ? "CUDA de" : "was built without CUDA");
        EXPECT(strchr(agon_buf_text(&errors), '\n') == agon_buf_text(&errors) + errors.size - 1);
    }
    folder_remove();
}

TEST(bad_input_is_one_line_and_an_exit_code_by_kind)
{
    static const struct {
        const char *args, *input, *reason;
        int status;
    } cases[] = {{"logits model", "{}", "input_ids", 2},
                 {"logits model", "[]", "no ids", 2},
                 {"logits model", "[1, 900]", "token id 900", 2},
                 {"logits model", "[1, \"a\"]", "is no id", 2},
                 {"logits --cpu abacus model", "[1]", "abacus", 2},
                 {"logits nowhere", "[1]", "nowhere/config.json", 3},
                 {"info nowhere", "", "nowhere/config.json", 3},
                 {"tokenize model", "\xff", "UTF-8", 2},
                 {"tokenize -d model", "[100000]", "100000", 2},
                 {"bench --prefix 400 model", "", "window of 300", 2}};
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    struct agon_buf errors AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
    REQUIRE(folder_make());
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int status = run(cases[i].args, agon_str(cases[i].input), &out, &errors);
        if (!EXPECT(status == cases[i].status))
            printf("# %s: %d\n", cases[i].args, status);
        EXPECT_HAS(agon_buf_text(&errors), cases[i].reason);
        EXPECT(out.size == 0 &&
               strchr(agon_buf_text(&errors), '\n') == agon_buf_text(&errors) + errors.size - 1);
    }
    folder_remove();
}
