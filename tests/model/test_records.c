/*
 * Records: what a turn leaves for training is what happened, costs no other draws, and gives the
 * same log-probabilities again when it is scored, free or forced; weights are replaced in place.
 */
#include "base/file.h"
#include "base/json.h"
#include "model/local.h"
#include "model/score.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <math.h>
#include <unistd.h>

enum { N_DRAWN = 30, ALL = 15 };

/* Experts in groups, an indexer that cuts from the 24th position on. */
static const struct random_checkpoint small = {
    .seed = 5,
    .n_vocab = 600,
    .hidden = 64,
    .n_layers = 4,
    .n_heads = 3,
    .q_lora = 32,
    .kv_lora = 32,
    .nope = 16,
    .rope = 8,
    .v = 16,
    .index_heads = 2,
    .index_dim = 16,
    .index_topk = 24,
    .window = 400,
    .dense = 96,
    .n_dense = 1,
    .expert = 32,
    .n_experts = 12,
    .top_k = 3,
    .n_shared = 1,
    .n_group = 4,
    .topk_group = 2,
    .dtype = AGON_F32,
    .tied = true,
    .n_shards = 1,
    .n_tokens = 500,
};

static char dir[64];

/* Weights of a seed with the tokenizer of small.seed: those of another step of training. */
static bool write_weights(uint64_t seed)
{
    struct random_checkpoint r = small;
    struct agon_buf tokenizer AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    struct agon_err err;
    char path[128];
    (void)snprintf(dir, sizeof(dir), "/tmp/agon-test-XXXXXX");
    bool good = mkdtemp(dir) && random_checkpoint_write(dir, &r, &err) == 0;
    (void)snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
    r.seed = seed;
    good = good && agon_file_read(&tokenizer, path, 1 << 24, &err) == 0 &&
           random_checkpoint_write(dir, &r, &err) == 0 &&
           agon_file_write(path, agon_buf_str(&tokenizer), false, &err) == 0;
    return EXPECT(good);
}

static void remove_weights(void)
{
    struct agon_err err;
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

static struct agon_model *model_of(uint64_t seed, unsigned record)
{
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    char spec[128];
    struct agon_model_options options = {.n_threads = 2, .record = record};
    if (!write_weights(seed))
        return NULL;
    (void)snprintf(spec, sizeof(spec), "local:%s", dir);
    if (!EXPECT(agon_model_open(&m, spec, &options, &err) == 0))
        printf("# %s\n", err.text);
    remove_weights();
    return m;
}

static struct agon_session *session_of(struct agon_model *m, const char *content)
{
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", content);
    struct agon_session *s = NULL;
    struct agon_err err = {0};
    if (!EXPECT(agon_session_new(&s, m, AGON_THINKING_OFF, messages, &err) == 0))
        printf("# %s\n", err.text);
    json_decref(messages);
    return s;
}

static struct agon_turn turn_of(struct agon_model *m, struct agon_session *s,
                                struct agon_sample_options cut, uint64_t seed, unsigned record)
{
    struct agon_sampling sampling = {.temperature = cut.temperature,
                                     .top_p = cut.top_p,
                                     .top_k = cut.top_k,
                                     .tokens_max = N_DRAWN,
                                     .seed = seed,
                                     .record = record,
                                     .key = "test"};
    struct agon_turn turn = {0};
    struct agon_err err = {0};
    int r = agon_session_sample(s, &sampling, &err);
    while (r == 0 && (r = agon_session_take(s, &turn, &err)) == 0)
        EXPECT(agon_model_poll(m, 10, &err) == 0);
    if (!EXPECT(r == 1))
        printf("# %s\n", err.text);
    return turn;
}

static const struct agon_sample_options cuts[] = {{.temperature = 1, .top_p = 1},
                                                  {.temperature = 0.7, .top_p = 0.9},
                                                  {.temperature = 1.3, .top_p = 0.8, .top_k = 40},
                                                  {.temperature = 1, .top_p = 1, .top_k = 5},
                                                  {.temperature = 0, .top_p = 1}};
enum { N_CUTS = sizeof(cuts) / sizeof(cuts[0]) };

/* The largest difference of the recorded log-probabilities and those of a score. */
static double score_distance(struct agon_model *m, const struct agon_trace *t,
                             struct agon_sample_options cut, bool mask, bool routing)
{
    struct agon_score scores[N_DRAWN];
    struct agon_err err = {0};
    double distance = 0;
    struct agon_score_request request = {
        .ids = t->ids,
        .n = t->n_prompt + t->n_sampled,
        .start = t->n_prompt,
        .n_vocab = agon_tokenizer_size(agon_local_tokenizer(m)),
        .sample = cut,
        .mask_ids = mask ? t->mask_ids : NULL,
        .mask_offsets = mask ? t->mask_offsets : NULL,
        .experts = routing ? t->experts : NULL,
        .n_expert_rows = routing ? t->n_rows : 0,
    };
    if (!EXPECT(agon_score(agon_local_engine(m), &request, scores, &err) == 0)) {
        printf("# %s\n", err.text);
        return 1;
    }
    for (int i = 0; i < t->n_sampled; i++) {
        distance = fmax(distance, fabs((double)scores[i].logprob - (double)t->logprobs[i]));
        distance = fmax(distance, fabs((double)scores[i].logprob_raw - (double)t->logprobs_raw[i]));
    }
    return distance;
}

TEST(recording_changes_no_draw)
{
    struct agon_model *off = model_of(5, 0),
                      *on = model_of(5, AGON_TRACE_ROUTING | AGON_TRACE_INDEXER);
    REQUIRE(off && on);
    for (int i = 0; i < N_CUTS; i++) {
        struct agon_session *a = session_of(off, "Say anything."),
                            *b = session_of(on, "Say anything.");
        struct agon_turn x = turn_of(off, a, cuts[i], 9, 0), y = turn_of(on, b, cuts[i], 9, ALL);
        EXPECT_TEXT(y.text, x.text);
        EXPECT(x.n_tokens == y.n_tokens && !x.trace && y.trace);
        agon_turn_deinit(&x);
        agon_turn_deinit(&y);
        agon_session_free(a);
        agon_session_free(b);
    }
    agon_model_free(off);
    agon_model_free(on);
}

TEST(a_scored_completion_has_the_recorded_logprobs_free_and_forced)
{
    struct agon_model *m = model_of(5, AGON_TRACE_ROUTING);
    REQUIRE(m);
    double largest = 0;
    for (int i = 0; i < 4 * N_CUTS; i++) {
        struct agon_sample_options cut = cuts[i % N_CUTS];
        char content[64];
        (void)snprintf(content, sizeof(content), "%.*s", 5 + 9 * (i / N_CUTS),
                       "Begin with a number, then go on and on.");
        struct agon_session *s = session_of(m, content);
        struct agon_turn turn =
            turn_of(m, s, cut, (uint64_t)i, AGON_TRACE_MASK | AGON_TRACE_ROUTING);
        REQUIRE(turn.trace && turn.trace->n_sampled == turn.n_tokens);
        for (int forced = 0; forced < 4; forced++)
            largest = fmax(largest, score_distance(m, turn.trace, cut, forced & 1, forced & 2));
        agon_turn_deinit(&turn);
        agon_session_free(s);
    }
    printf("# largest difference %.2g\n", largest);
    EXPECT(largest < 1e-5);
    agon_model_free(m);
}

TEST(a_mask_holds_the_drawn_id_and_what_the_cut_left_over)
{
    struct agon_model *m = model_of(5, 0);
    REQUIRE(m);
    for (int i = 0; i < N_CUTS; i++) {
        struct agon_session *s = session_of(m, "Speak.");
        struct agon_turn turn = turn_of(m, s, cuts[i], 3, AGON_TRACE_MASK);
        const struct agon_trace *t = turn.trace;
        REQUIRE(t);
        EXPECT((t->mask_ids != NULL) == (i != 0)); /* nothing cut: no mask */
        for (int k = 0; k < t->n_sampled && t->mask_ids; k++) {
            int n = t->mask_offsets[k + 1] - t->mask_offsets[k];
            bool found = false;
            for (int at = t->mask_offsets[k]; at < t->mask_offsets[k + 1]; at++)
                found |= t->mask_ids[at] == t->ids[t->n_prompt + k];
            EXPECT(found && (cuts[i].top_k == 0 || n <= cuts[i].top_k));
            EXPECT(i != 3 || n == 5);
            EXPECT(i != 4 || (n == 1 && t->logprobs[k] == 0));
            /* Renormalised: no smaller than the share among all, at the same temperature. */
            EXPECT(cuts[i].temperature != 1 || t->logprobs[k] >= t->logprobs_raw[k]);
        }
        agon_turn_deinit(&turn);
        agon_session_free(s);
    }
    agon_model_free(m);
}

TEST(routing_of_a_shared_beginning_is_that_of_one_computed_alone)
{
    struct agon_trace *traces[3] = {0};
    struct agon_turn turns[3];
    for (int mode = 0; mode < 3; mode++) {
        struct agon_model *m = model_of(5, AGON_TRACE_ROUTING | AGON_TRACE_INDEXER);
        REQUIRE(m);
        struct agon_session *first =
            session_of(m, "A beginning that is more than two pages long, surely.");
        struct agon_session *other = NULL;
        struct agon_err err = {0};
        if (mode == 1)
            EXPECT(agon_session_fork(&other, first, &err) == 0);
        else if (mode == 2)
            other = session_of(m, "A beginning that is more than two pages long, surely.");
        turns[mode] = turn_of(m, other ? other : first, cuts[1], 4, ALL);
        traces[mode] = turns[mode].trace;
        REQUIRE(traces[mode]);
        const struct agon_trace *t = traces[mode], *o = traces[0];
        EXPECT(t->n_rows == t->n_prompt + t->n_sampled - 1);
        EXPECT(t->n_moe_layers == 3 && t->n_experts == 3 && t->n_index_layers == 4);
        size_t rows = (size_t)t->n_rows;
        EXPECT(t->n_rows == o->n_rows &&
               memcmp(t->experts, o->experts, rows * 9 * sizeof(*t->experts)) == 0 &&
               memcmp(t->selected, o->selected, rows * 4 * 24 * sizeof(*t->selected)) == 0);
        /* Past index_topk a row selects exactly that many, its own position at most. */
        for (size_t row = 0; row < rows; row++)
            for (size_t l = 0; l < 4; l++) {
                const int32_t *selected = t->selected + (row * 4 + l) * 24;
                size_t n = 0;
                while (n < 24 && selected[n] >= 0 && selected[n] <= (int32_t)row)
                    n++;
                EXPECT(n == (row + 1 < 24 ? row + 1 : 24));
            }
        agon_session_free(first);
        agon_session_free(other);
        agon_model_free(m);
    }
    for (int mode = 0; mode < 3; mode++)
        agon_turn_deinit(&turns[mode]);
}

TEST(forced_experts_are_the_ones_that_compute)
{
    struct agon_model *m = model_of(5, AGON_TRACE_ROUTING);
    REQUIRE(m);
    struct agon_session *s = session_of(m, "Speak.");
    struct agon_turn turn = turn_of(m, s, cuts[0], 3, AGON_TRACE_ROUTING);
    struct agon_trace *t = turn.trace;
    REQUIRE(t);
    EXPECT(score_distance(m, t, cuts[0], false, true) < 1e-5);
    /* Another expert in one place of an early row reaches all that comes after it. */
    t->experts[4] = t->experts[3] == 11 || t->experts[5] == 11 || t->experts[4] == 11 ? 10 : 11;
    if (t->experts[4] == t->experts[3] || t->experts[4] == t->experts[5])
        t->experts[4] = 9;
    EXPECT(score_distance(m, t, cuts[0], false, true) > 1e-5);
    agon_turn_deinit(&turn);
    agon_session_free(s);
    agon_model_free(m);
}

TEST(a_trace_goes_through_json_and_back)
{
    struct agon_model *m = model_of(5, AGON_TRACE_ROUTING | AGON_TRACE_INDEXER);
    REQUIRE(m);
    struct agon_session *s = session_of(m, "Speak.");
    struct agon_turn turn = turn_of(m, s, cuts[2], 3, ALL);
    const struct agon_trace *t = turn.trace;
    REQUIRE(t);
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    struct agon_err err = {0};
    json_t *root = NULL;
    int *ids = NULL, *offsets = NULL, n_rows = 0;
    uint16_t *experts = NULL;
    agon_buf_addc(&b, '{');
    agon_trace_json(&b, t);
    agon_buf_addc(&b, '}');
    REQUIRE(agon_json_parse(&root, agon_buf_str(&b), &err) == 0);
    EXPECT(json_array_size(json_object_get(root, "token_ids")) == (size_t)t->n_sampled);
    EXPECT(json_array_size(json_object_get(root, "prompt_token_ids")) == (size_t)t->n_prompt);
    const json_t *mask = json_object_get(root, "sampling_mask");
    json_t *routing = json_object_get(root, "routed_experts");
    REQUIRE(agon_trace_mask_parse(&ids, &offsets, mask, t->n_sampled, 500, &err) == 0);
    EXPECT(memcmp(ids, t->mask_ids, sizeof(int) * (size_t)offsets[t->n_sampled]) == 0);
    REQUIRE(agon_trace_experts_parse(&experts, &n_rows, routing, 3, 3, 12, &err) == 0);
    EXPECT(n_rows == t->n_rows &&
           memcmp(experts, t->experts, sizeof(*experts) * 9 * (size_t)n_rows) == 0);
    free(ids);
    free(offsets);
    free(experts);
    /* What does not fit is refused, and says where. */
    EXPECT(agon_trace_mask_parse(&ids, &offsets, mask, t->n_sampled + 1, 500, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "sampling_mask.offsets");
    EXPECT(agon_trace_mask_parse(&ids, &offsets, mask, t->n_sampled, 3, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "sampling_mask.ids[");
    EXPECT(agon_trace_experts_parse(&experts, &n_rows, routing, 3, 3, 2, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "does not exist");
    EXPECT(agon_trace_experts_parse(&experts, &n_rows, routing, 4, 3, 12, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "shape");
    json_object_set_new(routing, "data", json_string("AAAA"));
    EXPECT(agon_trace_experts_parse(&experts, &n_rows, routing, 3, 3, 12, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "base64");
    json_decref(root);
    agon_turn_deinit(&turn);
    agon_session_free(s);
    agon_model_free(m);
}

TEST(what_was_not_recorded_from_the_start_can_not_be_asked_for)
{
    struct agon_model *m = model_of(5, 0);
    REQUIRE(m);
    struct agon_session *s = session_of(m, "Speak.");
    struct agon_sampling sampling = {
        .temperature = 1, .top_p = 1, .tokens_max = 3, .record = AGON_TRACE_ROUTING, .key = "test"};
    struct agon_err err = {0};
    EXPECT(agon_session_sample(s, &sampling, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "without recording routing");
    agon_session_free(s);
    agon_model_free(m);
}

TEST(replaced_weights_speak_as_if_they_had_been_opened_and_count_up)
{
    struct agon_model *m = model_of(5, 0), *fresh = model_of(6, 0);
    struct agon_err err = {0};
    REQUIRE(m && fresh);
    struct agon_session *s = session_of(m, "A beginning that is more than two pages long, surely.");
    struct agon_session *wanted =
        session_of(fresh, "A beginning that is more than two pages long, surely.");
    struct agon_turn before = turn_of(m, s, cuts[1], 8, AGON_TRACE_TOKENS);
    REQUIRE(write_weights(6));
    EXPECT(agon_model_version(m) == 0);
    char *name = strdup(agon_model_name(m));
    if (!EXPECT(agon_model_load(m, dir, &err) == 0))
        printf("# %s\n", err.text);
    remove_weights();
    EXPECT(agon_model_version(m) == 1 && strcmp(name, agon_model_name(m)) != 0);
    struct agon_turn after = turn_of(m, s, cuts[1], 8, AGON_TRACE_TOKENS);
    struct agon_turn other = turn_of(fresh, wanted, cuts[1], 8, AGON_TRACE_TOKENS);
    EXPECT_TEXT(after.text, other.text);
    EXPECT(before.end == AGON_TURN_OK || strcmp(before.text, after.text) != 0);
    EXPECT(before.trace && before.trace->weights_version == 0);
    EXPECT(after.trace && after.trace->weights_version == 1);
    free(name);
    agon_turn_deinit(&before);
    agon_turn_deinit(&after);
    agon_turn_deinit(&other);
    agon_session_free(s);
    agon_session_free(wanted);
    agon_model_free(m);
    agon_model_free(fresh);
}

TEST(weights_of_another_shape_or_tokenizer_are_refused_and_nothing_changes)
{
    struct agon_model *m = model_of(5, 0);
    REQUIRE(m);
    struct agon_session *s = session_of(m, "Speak.");
    struct agon_turn before = turn_of(m, s, cuts[0], 8, 0);
    struct random_checkpoint wide = small;
    struct agon_err err = {0};
    char path[128];
    wide.dense = 128;
    REQUIRE(write_weights(6) && random_checkpoint_write(dir, &wide, &err) == 0);
    EXPECT(agon_model_load(m, dir, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "intermediate_size");
    (void)snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
    EXPECT(agon_file_write(path, agon_str("{}"), false, &err) == 0);
    EXPECT(agon_model_load(m, dir, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "another tokenizer");
    EXPECT(unlink(path) == 0);
    remove_weights();
    EXPECT(agon_model_load(m, "/nonexistent", &err) < 0);
    EXPECT(agon_model_version(m) == 0);
    struct agon_turn after = turn_of(m, s, cuts[0], 8, 0);
    EXPECT_TEXT(after.text, before.text);
    agon_turn_deinit(&before);
    agon_turn_deinit(&after);
    agon_session_free(s);
    agon_model_free(m);
}
