/* Each allocation of loading and running a checkpoint fails once: an error comes back and
 * nothing leaks (under ASan); so does each of reading a tokenizer and of encoding with it. */
#include "base/file.h"
#include "base/json.h"
#include "model/local.h"
#include "tests/alloc.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <stdlib.h>

static const struct random_checkpoint least = {.seed = 2,
                                               .n_vocab = 280,
                                               .hidden = 16,
                                               .n_layers = 2,
                                               .n_heads = 1,
                                               .q_lora = 8,
                                               .kv_lora = 8,
                                               .nope = 4,
                                               .rope = 2,
                                               .v = 4,
                                               .index_heads = 1,
                                               .index_dim = 4,
                                               .index_topk = 4,
                                               .window = 256,
                                               .dense = 8,
                                               .n_dense = 1,
                                               .expert = 8,
                                               .n_experts = 2,
                                               .top_k = 1,
                                               .n_shared = 1,
                                               .n_group = 1,
                                               .topk_group = 1,
                                               .dtype = AGON_E4M3,
                                               .n_shards = 2};

/* jansson's own allocations succeed here: its lexer aborts on some that fail. */
void *__real_malloc(size_t size);
static void spare_jansson(void)
{
    json_set_alloc_funcs(__real_malloc, free);
}

TEST(tokenizer)
{
    struct agon_buf json AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    tokenizer_json_add(&json, 3, true, 1);
    spare_jansson();
    long n = 1;
    for (; alloc_fail_at(n); n += 1 + n / 64) { /* most are alike: the vocabulary's */
        struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
        struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 10);
        struct agon_err err;
        int r = agon_tokenizer_parse(&t, agon_buf_str(&json), 1000, &err);
        if (r == 0)
            r = agon_tokenizer_encode(t, agon_str("a bc 123 <think>"), true, &ids, &err);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0);
    }
    EXPECT(n > 100);
}

/* Open a model, begin a session, sample a turn, fork. */
static int converse(const char *spec)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL,
                           *fork AGON_AUTO(agon_session_freep) = NULL;
    struct agon_model_options options = {.n_threads = 1};
    struct agon_sampling sampling = {.temperature = 1, .top_p = 1, .tokens_max = 3, .key = "k"};
    struct agon_turn turn AGON_AUTO(agon_turn_deinit) = {0};
    struct agon_err err;
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "hello");
    int r = messages ? 0 : AGON_ENOMEM;
    if (r || (r = agon_model_open(&m, spec, &options, &err)) ||
        (r = agon_session_new(&s, m, AGON_THINKING_OFF, messages, &err)) ||
        (r = agon_session_fork(&fork, s, &err)) || (r = agon_session_sample(fork, &sampling, &err)))
        goto out;
    while ((r = agon_session_take(fork, &turn, &err)) == 0)
        if ((r = agon_model_poll(m, 0, &err)))
            break;
    r = r > 0 ? 0 : r;
out:
    json_decref(messages);
    return r;
}

TEST(local_model_and_session)
{
    char dir[] = "/tmp/agon-test-XXXXXX", spec[64];
    struct agon_err err;
    REQUIRE(mkdtemp(dir) && random_checkpoint_write(dir, &least, &err) == 0);
    (void)snprintf(spec, sizeof(spec), "local:%s", dir);
    spare_jansson();
    REQUIRE(converse(spec) == 0);
    long n = 1;
    for (; alloc_fail_at(n); n += 1 + n / 128) {
        int r = converse(spec);
        if (!EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0))
            printf("# allocation %ld: %d\n", n, r);
    }
    EXPECT(n > 500);
    EXPECT(agon_dir_remove(dir, &err) == 0);
}
