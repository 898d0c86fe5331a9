/*
 * The model of local:DIR: opening it, its digest, and replacing its weights. See local.h.
 */
#include "base/file.h"
#include "base/sha256.h"
#include "model/local_internal.h"
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EMBEDDED "model/embedded"

/* ---- digest ------------------------------------------------------------------------- */

static int path_of(char path[4096], const char *dir, const char *name, struct agon_err *err)
{
    if ((size_t)snprintf(path, 4096, "%s/%s", dir, name) < 4096)
        return 0;
    return agon_fail(err, AGON_EINPUT, "'%.100s...': path too long", dir);
}

static int digest_file(struct agon_sha256 *h, const char *dir, const char *name,
                       struct agon_err *err)
{
    char path[4096], hex[AGON_SHA256_HEX];
    int r = path_of(path, dir, name, err);
    if (r || (r = agon_sha256_file(path, hex, err)))
        return r;
    agon_sha256_add(h, hex, sizeof(hex));
    return 0;
}

static int digest_tensors(struct agon_sha256 *h, const struct agon_tensors *t, struct agon_err *err)
{
    bool bytes = agon_tensors_bytes(t) <= AGON_DIGEST_BYTES_MAX;
    for (size_t i = 0; i < agon_tensors_count(t); i++) {
        const struct agon_tensor *tensor = agon_tensors_at(t, i);
        char shape[256] = "";
        agon_tensor_shape(tensor, shape, sizeof(shape));
        agon_sha256_add(h, tensor->name, strlen(tensor->name) + 1);
        agon_sha256_add(h, shape, strlen(shape) + 1);
        if (!bytes)
            continue;
        void *data = malloc(tensor->size + 1);
        if (!data)
            return agon_fail(err, AGON_ENOMEM, "digest: out of memory");
        int r = agon_tensor_read(t, tensor, data, err);
        if (r == 0)
            agon_sha256_add(h, data, tensor->size);
        free(data);
        if (r)
            return r;
    }
    return 0;
}

/* tokenizer_dir: where tokenizer.json is, if dir has none. */
static int digest_of(const char *dir, const char *tokenizer_dir, char ret_hex[AGON_DIGEST_HEX],
                     struct agon_err *err)
{
    char path[4096];
    struct agon_tensors *t AGON_AUTO(agon_tensors_freep) = NULL;
    struct agon_sha256 h;
    agon_sha256_init(&h);
    int r = path_of(path, dir, "tokenizer.json", err);
    if (r || (r = digest_file(&h, dir, "config.json", err)) ||
        (r = digest_file(&h, access(path, F_OK) == 0 ? dir : tokenizer_dir, "tokenizer.json",
                         err)) ||
        (r = agon_tensors_open(&t, dir, err)) || (r = digest_tensors(&h, t, err)))
        return r;
    agon_sha256_hex(&h, ret_hex);
    return 0;
}

int agon_local_digest(const char *dir, char ret_hex[AGON_DIGEST_HEX], struct agon_err *err)
{
    return digest_of(dir, dir, ret_hex, err);
}

/* ---- the model ---------------------------------------------------------------------- */

void local_model_free(struct agon_model *base)
{
    struct local_model *m = (struct local_model *)base;
    agon_engine_free(m->engine);
    agon_tokenizer_free(m->tokenizer);
    agon_checkpoint_free(m->checkpoint);
    free(m->dir);
    free(m);
}

static void local_find_stops(struct local_model *m)
{
    const struct agon_config *c = &m->checkpoint->config;
    m->n_stop = 0;
    m->stop[m->n_stop++] = m->tokens[AGON_TOKEN_EOS];
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] != m->stop[0])
            m->stop[m->n_stop++] = c->eos[i];
}

/* The chat's control tokens must be added tokens; a turn ends at EOS and the config's. */
static int local_find_tokens(struct local_model *m, struct agon_err *err)
{
    for (int t = 0; t < AGON_N_TOKENS; t++) {
        struct agon_str text = agon_token_text((enum agon_token)t);
        m->tokens[t] = agon_tokenizer_added(m->tokenizer, text);
        if (m->tokens[t] < 0)
            return agon_fail(err, AGON_EINPUT,
                             "tokenizer.json: no added token '%.*s', which the chat encoding needs",
                             AGON_STR_ARG(text));
    }
    local_find_stops(m);
    return 0;
}

/* The name says which weights these are. */
static int local_name(struct local_model *m, const char *dir, const char *shown,
                      struct agon_err *err)
{
    char digest[AGON_DIGEST_HEX], *name;
    int r = digest_of(dir, m->dir, digest, err);
    if (r)
        return r;
    if (asprintf(&name, "local:%s sha256:%.16s %.1fM", shown, digest,
                 (double)m->checkpoint->n_parameters * 1e-6) < 0)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    free(m->base.name);
    m->base.name = name;
    m->base.dir = m->dir;
    return 0;
}

static int local_load(struct local_model *m, const char *dir, const char *shown,
                      const struct agon_model_options *options, struct agon_err *err)
{
    struct agon_engine_options engine = {.cpu = AGON_CPU_BEST,
                                         .device = options->device,
                                         .n_threads = options->n_threads,
                                         .n_batch_max = options->n_batch_max,
                                         .cache_bytes_max = (size_t)options->cache_mb << 20,
                                         .record = options->record};
    int r;
    if ((r = agon_engine_check_device(options->device, err)))
        return r;
    m->record = options->record;
    if (!(m->dir = strdup(dir)))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    char path[4096];
    if ((r = path_of(path, dir, "tokenizer.json", err)) ||
        (r = agon_engine_checkpoint(&m->checkpoint, dir, options->device, err)) ||
        (r = agon_tokenizer_load(&m->tokenizer, dir, m->checkpoint->config.n_vocab, err)) ||
        (r = agon_sha256_file(path, m->tokenizer_hex, err)) || (r = local_find_tokens(m, err)) ||
        (r = agon_engine_new(&m->engine, m->checkpoint, &engine, err)) ||
        (r = local_name(m, dir, shown, err)))
        return r;
    m->base.window = m->checkpoint->config.window;
    return 0;
}

/* ---- other weights ------------------------------------------------------------------ */

/* Ids must keep their meaning: a tokenizer that comes with the weights is the one in use. */
static int check_tokenizer(const struct local_model *m, const char *dir, struct agon_err *err)
{
    char path[4096], hex[AGON_SHA256_HEX];
    int r = path_of(path, dir, "tokenizer.json", err);
    if (r || access(path, F_OK) != 0 || (r = agon_sha256_file(path, hex, err)))
        return r;
    return strcmp(hex, m->tokenizer_hex) == 0
               ? 0
               : agon_fail(err, AGON_EINPUT, "%s: another tokenizer than the one in use", path);
}

int local_model_load(struct agon_model *base, const char *dir, struct agon_err *err)
{
    struct local_model *m = (struct local_model *)base;
    int r;
    if (agon_engine_generating(m->engine) > 0)
        return agon_fail(err, AGON_EINPUT, "local: weights can't be replaced during a turn");
    if ((r = check_tokenizer(m, dir, err)) ||
        (r = agon_checkpoint_replace(m->checkpoint, dir, err)))
        return r;
    local_find_stops(m);
    if ((r = agon_engine_weights_changed(m->engine, err)))
        return r;
    return local_name(m, dir, dir, err);
}

uint64_t local_model_version(const struct agon_model *base)
{
    return agon_engine_version(((const struct local_model *)base)->engine);
}

/* ---- what sampling by ids needs ----------------------------------------------------- */

bool agon_model_is_local(const struct agon_model *m)
{
    return m->backend == &local_backend;
}

struct agon_engine *agon_local_engine(const struct agon_model *m)
{
    return ((const struct local_model *)m)->engine;
}

const struct agon_tokenizer *agon_local_tokenizer(const struct agon_model *m)
{
    return ((const struct local_model *)m)->tokenizer;
}

const int *agon_local_stop(const struct agon_model *m, int *ret_n)
{
    const struct local_model *local = (const struct local_model *)m;
    *ret_n = local->n_stop;
    return local->stop;
}

int agon_local_records(const struct agon_model *m, unsigned record, struct agon_err *err)
{
    unsigned missing = record & (AGON_TRACE_ROUTING | AGON_TRACE_INDEXER) &
                       ~((const struct local_model *)m)->record;
    if (!missing)
        return 0;
    return agon_fail(err, AGON_EINPUT,
                     "local: opened without recording %s, so a turn can't ask for it",
                     missing & AGON_TRACE_ROUTING ? "routing" : "the indexer");
}

int agon_local_token(const struct agon_model *m, enum agon_token token)
{
    return ((const struct local_model *)m)->tokens[token];
}

/* The checkpoint that ships with the program: model/embedded in a folder above the program's
 * (build/agon stands in the source tree), or else in the working directory. */
static void embedded_find(char path[4096])
{
    char config[4200];
    ssize_t n = readlink("/proc/self/exe", path, 4000);
    path[n > 0 ? n : 0] = '\0';
    for (char *slash; (slash = strrchr(path, '/'));) {
        *slash = '\0';
        (void)snprintf(config, sizeof(config), "%s/" EMBEDDED "/config.json", path);
        if (access(config, R_OK) == 0) {
            memcpy(slash, "/" EMBEDDED, sizeof("/" EMBEDDED)); /* 4000 and 16 are below 4096 */
            return;
        }
    }
    (void)snprintf(path, 4096, EMBEDDED);
}

int agon_local_model_open(struct agon_model **ret, const char *dir,
                          const struct agon_model_options *options, struct agon_err *err)
{
    char embedded[4096];
    struct local_model *m = calloc(1, sizeof(*m));
    if (!m)
        return agon_fail(err, AGON_ENOMEM, "local: out of memory");
    m->base.backend = &local_backend;
    if (!dir)
        embedded_find(embedded);
    int r = local_load(m, dir ? dir : embedded, dir ? dir : EMBEDDED, options, err);
    if (r) {
        free(m->base.name);
        local_model_free(&m->base);
        return agon_err_in(err, r, "local");
    }
    *ret = &m->base;
    return 0;
}
