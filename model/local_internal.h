#pragma once
/* Private to local*.c: the model behind local:DIR, and what its two files share. */
#include "model/backend.h"
#include "model/engine.h"
#include "model/local.h"

struct local_session;

struct local_model {
    struct agon_model base;
    struct agon_checkpoint *checkpoint;
    struct agon_tokenizer *tokenizer;
    struct agon_engine *engine;
    char *dir; /* owned: what was opened; its tokenizer is the one in use */
    char tokenizer_hex[AGON_DIGEST_HEX];
    unsigned record; /* agon_model_options.record */
    int tokens[AGON_N_TOKENS];
    int stop[AGON_EOS_MAX + 1], n_stop;
    struct local_session *sessions; /* all that live, for sharing */
};

/* local.c */
extern const struct agon_backend local_backend;
/* local_model.c */
void local_model_free(struct agon_model *base);
int local_model_load(struct agon_model *base, const char *dir, struct agon_err *err);
uint64_t local_model_version(const struct agon_model *base);
