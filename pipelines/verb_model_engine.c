/*
 * agon model info, bench, logits, tokenize, dequantize: windows into a local checkpoint, so that
 * anyone can hold it against another implementation. logits and tokenize read standard input. Every
 * refusal is one line on stderr.
 */
#include "base/file.h"
#include "base/json.h"
#include "model/bench.h"
#include "model/dequantize.h"
#include "model/jsontext.h"
#include "model/local.h"
#include "model/safetensors.h"
#include "pipelines/verb.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { INPUT_BYTES_MAX = 256 << 20, OUTPUT_BYTES_MAX = 1 << 30, LAST_ROWS = 4 };

static int write_output(const struct agon_buf *b, struct agon_err *err)
{
    int r = agon_buf_check(b, "standard output", err);
    if (r == 0 && (fwrite(agon_buf_text(b), 1, b->size, stdout) != b->size || fflush(stdout)))
        return agon_fail(err, AGON_ESYS, "standard output: %s", strerror(errno));
    return r;
}

/* {"input_ids": [...]} or a bare list. */
static int parse_ids(struct agon_str text, struct agon_ids *ids, struct agon_err *err)
{
    json_t *root AGON_AUTO(agon_json_decrefp) = NULL;
    int r = agon_json_parse(&root, text, err);
    if (r)
        return agon_err_in(err, r, "standard input");
    const json_t *list = json_is_array(root) ? root : json_object_get(root, "input_ids");
    if (!json_is_array(list))
        return agon_fail(err, AGON_EINPUT, "standard input: no list \"input_ids\"");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t id = json_integer_value(json_array_get(list, i));
        if (!json_is_integer(json_array_get(list, i)) || id < 0 || id > INT32_MAX)
            return agon_fail(err, AGON_EINPUT, "standard input: input_ids[%zu] is no id", i);
        agon_ids_add(ids, (int)id);
    }
    return ids->failed ? agon_fail(err, AGON_ENOMEM, "standard input: too many ids") : 0;
}

static int read_ids(struct agon_ids *ids, struct agon_err *err)
{
    struct agon_buf input AGON_AUTO(agon_buf_deinit) = AGON_BUF(INPUT_BYTES_MAX);
    int r = agon_verb_read_input(&input, err);
    return r ? r : parse_ids(agon_buf_str(&input), ids, err);
}

/* ---- options that several share ------------------------------------------------------- */

struct engine_verb {
    int64_t threads, decode_from, prefix, batch, tokens, ranks, cache_mb;
    const char *cpu, *device;
    bool decode, plain;
};
#define OPT_THREADS                                                                       \
    {                                                                                     \
        "threads", 'j', AGON_OPT_INT, offsetof(struct engine_verb, threads), 0, 256, "N", \
            "threads to compute with; 0: one a core"                                      \
    }
#define OPT_CPU                                                                        \
    {                                                                                  \
        "cpu", 0, AGON_OPT_TEXT, offsetof(struct engine_verb, cpu), 0, 0, "NAME",      \
            "kernels: plain, portable, avx2, avx512; best is what this machine can do" \
    }

#define OPT_DEVICE                                                                          \
    {                                                                                       \
        "device", 0, AGON_OPT_TEXT, offsetof(struct engine_verb, device), 0, 0, "cpu|cuda", \
            AGON_VERB_DEVICE                                                                \
    }

static int engine_options(const struct engine_verb *o, struct agon_engine_options *ret,
                          struct agon_err *err)
{
    static const char *const names[] = {"plain", "portable", "avx2", "avx512", "best"};
    for (int i = 0; i < 5; i++)
        if (strcmp(o->cpu, names[i]) == 0) {
            *ret = (struct agon_engine_options){
                .device = o->device, .cpu = (enum agon_cpu)i, .n_threads = (int)o->threads};
            return 0;
        }
    return agon_fail(err, AGON_EINPUT,
                     "--cpu: '%.40s' is none of plain, portable, avx2, avx512, best", o->cpu);
}

/* ---- logits --------------------------------------------------------------------------- */

/* What is kept of each position. */
struct logits {
    const struct agon_config *config;
    int n;
    int *argmax;
    double *sum, *norm;
    float *last;
    int *n_selected, *selected; /* of the last LAST_ROWS rows: [row][layer], [row][layer][topk] */
};

static void logits_row(void *user, const struct agon_evaluated *row)
{
    struct logits *l = user;
    const struct agon_config *c = l->config;
    int p = row->position, at = p - (l->n - LAST_ROWS);
    double square = 0;
    for (int i = 0; i < c->n_vocab; i++) {
        l->sum[p] += row->logits[i];
        square += (double)row->logits[i] * row->logits[i];
        if (row->logits[i] > row->logits[l->argmax[p]])
            l->argmax[p] = i;
    }
    l->norm[p] = sqrt(square);
    if (p == l->n - 1)
        memcpy(l->last, row->logits, (size_t)c->n_vocab * sizeof(*l->last));
    if (at < 0)
        return;
    size_t layers = (size_t)c->n_layers, topk = (size_t)c->index_topk;
    memcpy(l->n_selected + (size_t)at * layers, row->n_selected, layers * sizeof(int));
    memcpy(l->selected + (size_t)at * layers * topk, row->selected, layers * topk * sizeof(int));
}

static void reals_add(struct agon_buf *b, const char *key, const double *values, int n)
{
    agon_buf_addf(b, "\"%s\": [", key);
    for (int i = 0; i < n; i++) {
        agon_buf_adds(b, i ? ", " : "");
        agon_json_dump_real(b, round(values[i] * 1e6) / 1e6);
    }
    agon_buf_adds(b, "], ");
}

static void topk_add(struct agon_buf *b, const struct logits *l)
{
    const struct agon_config *c = l->config;
    int first = l->n < LAST_ROWS ? LAST_ROWS - l->n : 0, n_layers = 0;
    agon_buf_adds(b, "\"topk\": [");
    for (int i = 0; i < c->n_layers; i++) {
        if (!c->indexer[i])
            continue;
        agon_buf_adds(b, n_layers++ ? ", [" : "[");
        for (int row = first; row < LAST_ROWS; row++) {
            size_t at = (size_t)row * (size_t)c->n_layers + (size_t)i;
            agon_buf_adds(b, row > first ? ", [" : "[");
            for (int s = 0; s < l->n_selected[at]; s++)
                agon_buf_addf(b, s ? ", %d" : "%d",
                              l->selected[at * (size_t)c->index_topk + (size_t)s]);
            agon_buf_addc(b, ']');
        }
        agon_buf_addc(b, ']');
    }
    agon_buf_adds(b, "]");
}

static int logits_write(const struct logits *l, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(OUTPUT_BYTES_MAX);
    double *last = calloc((size_t)l->config->n_vocab, sizeof(*last));
    if (!last)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    for (int i = 0; i < l->config->n_vocab; i++)
        last[i] = l->last[i];
    agon_buf_adds(&b, "{\"argmax\": [");
    for (int i = 0; i < l->n; i++)
        agon_buf_addf(&b, i ? ", %d" : "%d", l->argmax[i]);
    agon_buf_adds(&b, "], ");
    reals_add(&b, "logits_last", last, l->config->n_vocab);
    reals_add(&b, "logits_sum", l->sum, l->n);
    reals_add(&b, "logits_norm", l->norm, l->n);
    topk_add(&b, l);
    agon_buf_adds(&b, "}\n");
    free(last);
    return write_output(&b, err);
}

static int logits_compute(struct agon_engine *e, const struct agon_ids *ids, int n_together,
                          struct logits *l, struct agon_err *err)
{
    struct agon_sequence *s AGON_AUTO(agon_sequence_freep) = NULL;
    int r;
    if ((r = agon_sequence_new(&s, e, err)) ||
        (r = agon_sequence_append(s, ids->data, n_together, err)) ||
        (r = agon_sequence_evaluate(s, n_together, logits_row, l, err)))
        return r;
    for (int i = n_together; i < (int)ids->n; i++)
        if ((r = agon_sequence_append(s, ids->data + i, 1, err)) ||
            (r = agon_sequence_evaluate(s, 1, logits_row, l, err)))
            return r;
    return logits_write(l, err);
}

static int logits_alloc(struct logits *l, const struct agon_config *c, size_t n,
                        struct agon_err *err)
{
    size_t selected = (size_t)LAST_ROWS * (size_t)c->n_layers;
    *l = (struct logits){.config = c,
                         .n = (int)n,
                         .argmax = calloc(n, sizeof(int)),
                         .sum = calloc(n, sizeof(double)),
                         .norm = calloc(n, sizeof(double)),
                         .last = calloc((size_t)c->n_vocab, sizeof(float)),
                         .n_selected = calloc(selected, sizeof(int)),
                         .selected = calloc(selected * (size_t)c->index_topk, sizeof(int))};
    return l->argmax && l->sum && l->norm && l->last && l->n_selected && l->selected
               ? 0
               : agon_fail(err, AGON_ENOMEM, "out of memory");
}

static void logits_deinit(struct logits *l)
{
    free(l->argmax);
    free(l->sum);
    free(l->norm);
    free(l->last);
    free(l->n_selected);
    free(l->selected);
}

static int logits(const char *dir, const struct engine_verb *o, struct agon_err *err)
{
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 24);
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = NULL;
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = NULL;
    struct agon_engine_options options;
    struct logits l AGON_AUTO(logits_deinit) = {0};
    int r;
    if ((r = engine_options(o, &options, err)) || (r = read_ids(&ids, err)))
        return r;
    if (ids.n == 0)
        return agon_fail(err, AGON_EINPUT, "standard input: no ids");
    if ((r = agon_engine_checkpoint(&checkpoint, dir, o->device, err)) ||
        (r = agon_engine_new(&e, checkpoint, &options, err)) ||
        (r = logits_alloc(&l, &checkpoint->config, ids.n, err)))
        return r;
    int n_together =
        o->decode_from >= 0 && o->decode_from < (int64_t)ids.n ? (int)o->decode_from : (int)ids.n;
    return logits_compute(e, &ids, n_together, &l, err);
}

int agon_verb_model_logits(int argc, char **argv)
{
    static const struct agon_opt table[] = {
        {"decode-from", 0, AGON_OPT_INT, offsetof(struct engine_verb, decode_from), -1, 1 << 24,
         "N", "compute positions from N on one by one; -1: all together"},
        OPT_THREADS,
        OPT_CPU,
        OPT_DEVICE,
        {0}};
    static const char about[] =
        "Reads {\"input_ids\": [...]}. Writes argmax, logits_sum and logits_norm of each "
        "position,\n"
        "logits_last, and topk: the positions that the last four rows select in each layer.";
    struct engine_verb o = {.decode_from = -1, .cpu = "best"};
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(table, &o, "agon model logits DIR < IDS.json", about, 1, 1, argc, argv,
                          &n, &status))
        return status;
    return logits(argv[1], &o, &err) ? agon_verb_fail("logits", &err) : AGON_EXIT_OK;
}

/* ---- tokenize ------------------------------------------------------------------------- */

static int tokenize(const char *dir, const struct engine_verb *o, struct agon_err *err)
{
    struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 28);
    struct agon_buf input AGON_AUTO(agon_buf_deinit) = AGON_BUF(INPUT_BYTES_MAX);
    struct agon_buf output AGON_AUTO(agon_buf_deinit) = AGON_BUF(OUTPUT_BYTES_MAX);
    struct agon_config config;
    int r;
    if ((r = agon_config_load(&config, dir, err)) ||
        (r = agon_tokenizer_load(&t, dir, config.n_vocab, err)) ||
        (r = agon_verb_read_input(&input, err)))
        return r;
    if (o->decode) {
        if ((r = parse_ids(agon_buf_str(&input), &ids, err)) ||
            (r = agon_tokenizer_decode(t, ids.data, ids.n, &output, err)))
            return r;
        return write_output(&output, err);
    }
    if ((r = agon_tokenizer_encode(t, agon_buf_str(&input), !o->plain, &ids, err)))
        return r;
    agon_buf_addc(&output, '[');
    for (size_t i = 0; i < ids.n; i++)
        agon_buf_addf(&output, i ? ", %d" : "%d", ids.data[i]);
    agon_buf_adds(&output, "]\n");
    return write_output(&output, err);
}

int agon_verb_model_tokenize(int argc, char **argv)
{
    static const struct agon_opt table[] = {
        {"decode", 'd', AGON_OPT_FLAG, offsetof(struct engine_verb, decode), 0, 0, NULL,
         "the other way: read a JSON list of ids, write their bytes"},
        {"plain", 'p', AGON_OPT_FLAG, offsetof(struct engine_verb, plain), 0, 0, NULL,
         "recognise no added token: how text from outside is encoded"},
        {0}};
    static const char about[] = "Reads text, writes a JSON list of ids; no BOS is added.";
    struct engine_verb o = {0};
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(table, &o, "agon model tokenize DIR < TEXT", about, 1, 1, argc, argv, &n,
                          &status))
        return status;
    return tokenize(argv[1], &o, &err) ? agon_verb_fail("tokenize", &err) : AGON_EXIT_OK;
}

/* ---- info ----------------------------------------------------------------------------- */

static void info_print(const struct agon_checkpoint *checkpoint, const struct agon_tokenizer *t,
                       const char *digest)
{
    const struct agon_config *c = &checkpoint->config;
    struct agon_cache cache;
    int n_sparse = 0;
    agon_cache_init(&cache, c, 0, false, false);
    for (int i = 0; i < c->n_layers; i++)
        n_sparse += c->sparse[i];
    printf("architecture  %s\n", c->model_type);
    printf("parameters    %.2fM, %.2fM used by a token; %.1f MB in memory\n",
           (double)checkpoint->n_parameters * 1e-6, (double)checkpoint->n_active * 1e-6,
           (double)checkpoint->bytes * 1e-6);
    printf("layers        %d of width %d, %d with experts\n", c->n_layers, c->hidden, n_sparse);
    printf("attention     %d heads (nope %d, rope %d, value %d), latents %d and %d\n", c->n_heads,
           c->nope_dim, c->rope_dim, c->v_dim, c->q_lora, c->kv_lora);
    printf("indexer       %d heads of %d, the best %d of the past\n", c->index_heads, c->index_dim,
           c->index_topk);
    if (n_sparse > 0)
        printf("experts       %d of %d wide, %d a token, %d shared; groups %d of %d\n",
               c->router.n_experts, c->expert_dim, c->router.top_k, c->n_shared,
               c->router.topk_group, c->router.n_group);
    printf("positions     %d, %s, theta %g\n", c->window, c->rope.yarn ? "YaRN" : "plain RoPE",
           c->rope.theta);
    printf("cache         %zu bytes a token\n", cache.page_floats * sizeof(float) / AGON_PAGE);
    printf("vocabulary    %d rows, %d tokens\n", c->n_vocab, agon_tokenizer_size(t));
    printf("sha256        %s\n", digest);
    printf("kernels       %s\n", agon_kernels_for(AGON_CPU_BEST)->name);
}

static int info(const char *dir, struct agon_err *err)
{
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = NULL;
    struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
    char digest[AGON_DIGEST_HEX];
    int r;
    if ((r = agon_checkpoint_load(&checkpoint, dir, err)) ||
        (r = agon_tokenizer_load(&t, dir, checkpoint->config.n_vocab, err)) ||
        (r = agon_local_digest(dir, digest, err)))
        return r;
    info_print(checkpoint, t, digest);
    return 0;
}

int agon_verb_model_info(int argc, char **argv)
{
    static const struct agon_opt none[] = {{0}};
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(none, NULL, "agon model info DIR",
                          "Says what a checkpoint is; refuses one that is broken.", 1, 1, argc,
                          argv, &n, &status))
        return status;
    return info(argv[1], &err) ? agon_verb_fail("info", &err) : AGON_EXIT_OK;
}

/* ---- bench ---------------------------------------------------------------------------- */

static int bench(const char *dir, const struct engine_verb *o, struct agon_err *err)
{
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = NULL;
    struct agon_bench_options options = {.n_prefix = (int)o->prefix,
                                         .n_sequences = (int)o->batch,
                                         .n_tokens = (int)o->tokens,
                                         .n_ranks = (int)o->ranks};
    struct agon_bench b;
    int r;
    if ((r = engine_options(o, &options.engine, err)))
        return r;
    options.engine.n_batch_max = (int)o->batch;
    options.engine.cache_bytes_max = (size_t)o->cache_mb << 20;
    if ((r = agon_engine_checkpoint(&checkpoint, dir, o->device, err)) ||
        (r = agon_bench_run(&b, checkpoint, &options, err)))
        return r;
    if (b.machine_gflops > 0)
        printf("machine       %d threads, %s: %.0f GFLOP/s, %.1f GB/s read\n", b.n_threads,
               b.kernels, b.machine_gflops, b.machine_gbytes);
    else
        printf("machine       %s\n", b.kernels);
    printf("prefill       %.0f tokens/s (a prompt of %d)\n", b.prefill_tokens, options.n_prefix);
    printf("generation    %.0f tokens/s (%d sequences, %d tokens each, over that shared prefix)\n",
           b.decode_tokens, options.n_sequences, options.n_tokens);
    printf("              %.2f ms a step; weights alone %.1f GFLOP/s", b.step_ms_median,
           b.decode_gflops);
    if (b.machine_gflops > 0)
        printf(", %.0f%% of the machine", 100 * b.decode_gflops / b.machine_gflops);
    printf("\n");
    printf("one sequence  %.0f tokens/s\n", b.single_tokens);
    return 0;
}

int agon_verb_model_bench(int argc, char **argv)
{
    static const struct agon_opt table[] = {
        {"batch", 'b', AGON_OPT_INT, offsetof(struct engine_verb, batch), 1, 4096, "N",
         "sequences that generate together"},
        {"prefix", 0, AGON_OPT_INT, offsetof(struct engine_verb, prefix), 1, 1 << 24, "N",
         "tokens of the prefix they share"},
        {"tokens", 'n', AGON_OPT_INT, offsetof(struct engine_verb, tokens), 1, 1 << 16, "N",
         "tokens that each generates"},
        {"ranks", 0, AGON_OPT_INT, offsetof(struct engine_verb, ranks), 0, AGON_RANKS_MAX, "N",
         "GPUs that share the sequences and the experts; 0: one, without NCCL"},
        {"cache-mb", 0, AGON_OPT_INT, offsetof(struct engine_verb, cache_mb), 0, 1 << 24, "MB",
         AGON_VERB_CACHE},
        OPT_THREADS,
        OPT_CPU,
        OPT_DEVICE,
        {0}};
    struct engine_verb o = {.batch = 64, .prefix = 1000, .tokens = 64, .cpu = "best"};
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(table, &o, "agon model bench DIR",
                          "Measures generation, prefill, and the machine beside them.", 1, 1, argc,
                          argv, &n, &status))
        return status;
    return bench(argv[1], &o, &err) ? agon_verb_fail("bench", &err) : AGON_EXIT_OK;
}

/* ---- dequantize ----------------------------------------------------------------------- */

int agon_verb_model_dequantize(int argc, char **argv)
{
    static const struct agon_opt none[] = {{0}};
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(none, NULL, "agon model dequantize DIR OUT",
                          "Writes the BF16 twin of an FP8 checkpoint, for other implementations.",
                          2, 2, argc, argv, &n, &status))
        return status;
    return agon_dequantize(argv[1], argv[2], &err) ? agon_verb_fail("dequantize", &err)
                                                   : AGON_EXIT_OK;
}
