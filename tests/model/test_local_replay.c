/*
 * What a local model said, recorded and replayed: ends, texts, reasons and token counts, so
 * that a run that minds the window goes the same way. Two models: a random one, whose turns
 * are bytes of any kind and never parse, and one that says nothing but </think> and EOS, each
 * with probability one half (see test_local.c).
 */
#include "base/file.h"
#include "base/json.h"
#include "model/jsontext.h"
#include "tests/model/chat.h"
#include "tests/model/random_checkpoint.h"

#include <stdlib.h>

enum { N_TURNS = 24, SAID_MAX = 1 << 16 };

static const struct random_checkpoint tiny = {RANDOM_CHECKPOINT_TINY, .seed = 9,
                                              .n_vocab = 900,         .index_topk = 64,
                                              .window = 3000,         .dtype = AGON_F32};

/* In the silent model's tokenizer </think> is id 0, where it picks from. */
static void swap_bos_and_think_end(const char *path)
{
    static const char *const names[] = {"<｜begin▁of▁sentence｜>", "</think>"};
    struct agon_buf from AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    struct agon_buf to AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    REQUIRE(agon_file_read(&from, path, 1 << 24, NULL) == 0);
    for (const char *at = agon_buf_text(&from); *at;) {
        int which = strncmp(at, names[0], strlen(names[0])) == 0   ? 0
                    : strncmp(at, names[1], strlen(names[1])) == 0 ? 1
                                                                   : -1;
        agon_buf_add(&to, which < 0 ? at : names[!which], which < 0 ? 1 : strlen(names[!which]));
        at += which < 0 ? 1 : strlen(names[which]);
    }
    EXPECT(agon_file_write(path, agon_buf_str(&to), false, NULL) == 0);
}

static void note(struct agon_buf *said, const struct agon_session *s, const struct agon_turn *t)
{
    agon_buf_addf(said, "%d %d+%d=%d '", t->end, t->n_prompt_tokens, t->n_tokens,
                  agon_session_tokens(s));
    agon_json_dump_string(said, agon_str(t->text));
    agon_buf_addf(said, "' %s ", t->reason);
    if (t->message)
        agon_json_dump(said, t->message);
    agon_buf_addc(said, '\n');
}

/* A conversation of N_TURNS samples in thinking mode; everything that can be seen of it. */
static void converse(const char *spec, const char *record, int top_k, struct agon_buf *said)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    struct agon_model_options options = {.n_threads = 1, .record_path = record};
    struct agon_err err = {0};
    json_t *user AGON_AUTO(agon_json_decrefp) =
        json_pack("[{s:s, s:s}]", "role", "user", "content", "Go on. 概要 <｜User｜>");
    if (!EXPECT(agon_model_open(&m, spec, &options, &err) == 0))
        printf("# %s\n", err.text);
    REQUIRE(m && agon_session_new(&s, m, AGON_THINKING_ON, user, &err) == 0);
    agon_buf_addf(said, "window %d\n", agon_model_window(m));
    for (int i = 0; i < N_TURNS; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "c/s/0/%d.0", i);
        struct agon_sampling how = {.temperature = 1,
                                    .top_p = 1,
                                    .top_k = top_k,
                                    .tokens_max = 10,
                                    .seed = (uint64_t)i,
                                    .key = key};
        REQUIRE(agon_session_sample(s, &how, &err) == 0);
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_take(m, s);
        if (t.end == AGON_TURN_OK && i < N_TURNS - 1) /* what is counted is what is asked next */
            EXPECT(agon_session_append(s, user, &err) == 0);
        note(said, s, &t);
    }
}

static void expect_replay(bool silent, int top_k, enum agon_turn_end seen)
{
    struct random_checkpoint r = tiny;
    char dir[] = "/tmp/agon-test-XXXXXX", spec[160], path[128], record[128], want[16];
    struct agon_buf live AGON_AUTO(agon_buf_deinit) = AGON_BUF(SAID_MAX);
    struct agon_buf replayed AGON_AUTO(agon_buf_deinit) = AGON_BUF(SAID_MAX);
    struct agon_err err = {0};
    r.silent = silent;
    REQUIRE(mkdtemp(dir) && random_checkpoint_write(dir, &r, &err) == 0);
    (void)snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
    if (silent)
        swap_bos_and_think_end(path);
    (void)snprintf(spec, sizeof(spec), "local:%s", dir);
    (void)snprintf(record, sizeof(record), "%s/record.jsonl", dir);
    converse(spec, record, top_k, &live);
    (void)snprintf(spec, sizeof(spec), "replay:%s", record);
    converse(spec, NULL, top_k, &replayed);
    if (!EXPECT(strcmp(agon_buf_text(&live), agon_buf_text(&replayed)) == 0))
        printf("# live:\n%s# replayed:\n%s", agon_buf_text(&live), agon_buf_text(&replayed));
    EXPECT_HAS(agon_buf_text(&live), "window 3000\n");
    (void)snprintf(want, sizeof(want), "\n%d ", seen);
    EXPECT_HAS(agon_buf_text(&live), want);
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

TEST(turns_that_parse_replay_with_their_counts)
{
    expect_replay(true, 2, AGON_TURN_OK);
}

TEST(malformed_turns_replay_as_they_were)
{
    expect_replay(true, 2, AGON_TURN_MALFORMED);
}

TEST(cut_turns_of_any_bytes_replay)
{
    expect_replay(false, 0, AGON_TURN_LENGTH);
}
