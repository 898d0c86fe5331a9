/*
 * A checkpoint with the published shapes (hidden 7168, 128 heads, all of FP8), but two layers and
 * few experts, in 163 shards (120 for fewer than 32): written, then streamed to the GPU. Prints how
 * fast, and how much memory the host took for it. With `check` the engine's logits over it, in FP8,
 * against the CPU's in F32: under the CPU's experts while all is selected, which is the error of
 * FP8's arithmetic alone (fp8_error.py DIR/checkpoint 1 96 says how large that is); with choices of
 * their own; and with selections of their own, too.
 *
 *   bench_gpu_load [DIR [EXPERTS [check]]]     DIR gets the checkpoint, in DIR/checkpoint; without
 *                                              one it is written in /tmp and removed
 */
#include "base/file.h"
#include "model/cuda_weights.h"
#include "model/random.h"
#include "tests/gpu/engine.h"

#include <time.h>

enum { N_IDS = 96 };
static int n_shards;

int test_failures; /* of engine.c */

static void fail_if(int r)
{
    if (r) {
        printf("failed: %s\n", err.text);
        exit(1);
    }
}

static double seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A line of /proc/self/status in MB: VmRSS, or VmHWM, its largest value since it was reset. */
static double status_mb(const char *name)
{
    char line[256];
    long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtol(line + strlen(name) + 1, NULL, 10);
    if (f)
        (void)fclose(f);
    return (double)kb / 1024;
}

static void peak_reset(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");
    if (f) {
        (void)fputs("5", f);
        (void)fclose(f);
    }
}

static void config_write(const char *path, int n_experts, int index_topk)
{
    FILE *f = fopen(path, "we");
    if (!f) {
        printf("failed: %s\n", path);
        exit(1);
    }
    (void)fprintf(
        f,
        "{\"architectures\": [\"DeepseekV32ForCausalLM\"], \"model_type\": \"deepseek_v32\", "
        "\"vocab_size\": 8192, \"hidden_size\": 7168, \"num_hidden_layers\": 2, "
        "\"num_nextn_predict_layers\": 0, \"num_attention_heads\": 128, "
        "\"num_key_value_heads\": 128, \"q_lora_rank\": 1536, \"kv_lora_rank\": 512, "
        "\"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64, \"v_head_dim\": 128, "
        "\"index_n_heads\": 64, \"index_head_dim\": 128, \"index_topk\": %d, "
        "\"intermediate_size\": 18432, \"first_k_dense_replace\": 1, "
        "\"moe_intermediate_size\": 2048, \"n_routed_experts\": %d, \"num_experts_per_tok\": 8, "
        "\"n_shared_experts\": 1, \"n_group\": 1, \"topk_group\": 1, "
        "\"scoring_func\": \"sigmoid\", \"topk_method\": \"noaux_tc\", \"norm_topk_prob\": true, "
        "\"routed_scaling_factor\": 2.5, \"moe_layer_freq\": 1, \"rms_norm_eps\": 1e-06, "
        "\"hidden_act\": \"silu\", \"rope_theta\": 10000, \"rope_scaling\": {\"type\": \"yarn\", "
        "\"factor\": 40, \"original_max_position_embeddings\": 4096, \"beta_fast\": 32, "
        "\"beta_slow\": 1, \"mscale\": 1.0, \"mscale_all_dim\": 1.0}, "
        "\"max_position_embeddings\": 4096, \"bos_token_id\": 0, \"eos_token_id\": 1, "
        "\"tie_word_embeddings\": false, \"attention_bias\": false, "
        "\"torch_dtype\": \"bfloat16\", \"quantization_config\": {\"quant_method\": \"fp8\", "
        "\"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\", \"weight_block_size\": "
        "[128, 128], \"scale_fmt\": \"ue8m0\"}}\n",
        index_topk, n_experts);
    (void)fclose(f);
}

/* Twice: the first time reads what was just written, from the page cache for the most part. */
static void bench(const struct agon_cuda_info *gpu, const char *dir)
{
    struct agon_checkpoint *c AGON_AUTO(agon_checkpoint_freep) = NULL;
    peak_reset();
    double before = status_mb("VmRSS"), begin = seconds();
    fail_if(agon_checkpoint_open(&c, dir, &err));
    double opened = seconds() - begin;
    for (int fp8 = 1; fp8 >= 0; fp8--) {
        struct cuda_weights w;
        begin = seconds();
        struct cuda_weights_options options = {.fast = true, .fp8 = fp8};
        fail_if(cuda_weights_init(&w, c, &options, &err));
        double s = seconds() - begin;
        printf("%s: %.1f GB in %d shards streamed to %.1f GB in %s: %.2f s, %.1f GB/s (headers "
               "%.2f s); the host took %.0f MB for it\n",
               gpu->name, (double)agon_tensors_bytes(c->tensors) * 1e-9, n_shards,
               (double)w.bytes * 1e-9, fp8 ? "FP8" : "BF16", s,
               (double)agon_tensors_bytes(c->tensors) * 1e-9 / s, opened,
               status_mb("VmHWM") - before);
        (void)fflush(stdout);
        cuda_weights_deinit(&w);
    }
}

/* Both engines over the same ids; forced: the GPU's with the CPU's experts, too. */
static void check(const char *dir, const char *what, bool forced)
{
    struct agon_checkpoint *c AGON_AUTO(agon_checkpoint_freep) = NULL;
    struct agon_checkpoint *open AGON_AUTO(agon_checkpoint_freep) = NULL;
    fail_if(agon_checkpoint_load(&c, dir, &err));
    fail_if(agon_checkpoint_open(&open, dir, &err));
    struct agon_engine *gpu AGON_AUTO(agon_engine_freep) =
        engine_of(open, "cuda:fp8", (struct agon_engine_options){.n_batch_max = 32});
    struct agon_engine *cpu AGON_AUTO(agon_engine_freep) =
        engine_of(c, "cpu", (struct agon_engine_options){.record = AGON_TRACE_ROUTING});
    struct seen got = seen_new(&c->config, N_IDS), wanted = seen_new(&c->config, N_IDS);
    static uint16_t experts[N_IDS * 8]; /* one layer has any */
    int ids[N_IDS];
    ids_of(ids, N_IDS, 1, c->config.n_vocab);
    if (!gpu || !cpu || !look_recorded(&wanted, cpu, ids, N_IDS, N_IDS, experts))
        exit(1);
    if (forced && look_forced(&got, gpu, ids, N_IDS, N_IDS - 8, 64, experts))
        tell_agreement("full-size layers, FP8 against the CPU's F32, experts are the CPU's", &got,
                       &wanted, N_IDS);
    if (look(&got, gpu, ids, N_IDS, N_IDS - 8, 64))
        tell_agreement(what, &got, &wanted, N_IDS);
    seen_free(&got);
    seen_free(&wanted);
}

/* All is selected; then 32 positions are. */
static void check_both(const char *dir, int n_experts)
{
    char config[8192];
    (void)snprintf(config, sizeof(config), "%s/config.json", dir);
    check(dir, "with choices of their own", true);
    config_write(config, n_experts, 32);
    check(dir, "and with selections of their own", false);
    config_write(config, n_experts, 2048);
}

int main(int argc, char **argv)
{
    struct agon_cuda_info gpu = gpu_or_leave();
    char config[4096], dir[4096];
    uint64_t bytes = 0;
    char made[] = "/tmp/agon-load-XXXXXX";
    const char *top = argc > 1 ? argv[1] : mkdtemp(made);
    if (!top) {
        printf("failed: no folder in /tmp\n");
        return 1;
    }
    (void)snprintf(config, sizeof(config), "%s/source.json", top);
    (void)snprintf(dir, sizeof(dir), "%s/checkpoint", top);
    fail_if(agon_dir_make(top, &err));
    int n_experts = argc > 2 ? atoi(argv[2]) : 16;
    n_shards = n_experts < 32 ? 120 : 163;
    config_write(config, n_experts, 2048);
    struct agon_random_options options = {.config_path = config, .n_shards = n_shards, .seed = 1};
    double begin = seconds();
    fail_if(agon_random_write(dir, &options, &bytes, &err));
    printf("%.1f GB written in %.1f s\n", (double)bytes * 1e-9, seconds() - begin);
    (void)fflush(stdout);
    bench(&gpu, dir);
    if (argc > 3)
        check_both(dir, n_experts);
    if (argc <= 1)
        fail_if(agon_dir_remove(top, &err));
    return 0;
}
