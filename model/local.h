#pragma once
/*
 * The backend local:DIR: a checkpoint in Hugging Face layout (config.json, tokenizer.json,
 * safetensors) run in this process by the engine.
 *
 * Token in, token out: what was generated stays in its session as the ids that were drawn;
 * only messages from outside are encoded, and only when they are appended. When a new user
 * message drops earlier thinking, the ids of the kept part of each earlier turn are kept, and
 * the cache up to the first difference. A turn that is not OK leaves the session as it was.
 * Sessions that begin alike share the cache of their common beginning.
 */
#include "base/mem.h"
#include "model/checkpoint.h"
#include "model/encoding.h"
#include "model/model.h"
#include "model/tokenizer.h"

/* dir NULL: the embedded checkpoint. */
int agon_local_model_open(struct agon_model **ret, const char *dir,
                          const struct agon_model_options *options,
                          struct agon_err *err) AGON_MUST_USE;

/*
 * What sampling by ids needs of a local model (replies.h). m must be one:
 * agon_model_is_local().
 */
bool agon_model_is_local(const struct agon_model *m);
struct agon_engine *agon_local_engine(const struct agon_model *m);
const struct agon_tokenizer *agon_local_tokenizer(const struct agon_model *m);
/* The ids that end a turn; borrowed, until weights are replaced. */
const int *agon_local_stop(const struct agon_model *m, int *ret_n);
int agon_local_token(const struct agon_model *m, enum agon_token token);
/* Append the ids of a whole conversation, up to where the assistant speaks. AGON_EINPUT. */
int agon_local_encode(const struct agon_model *m, enum agon_thinking thinking,
                      const json_t *messages, struct agon_ids *ids,
                      struct agon_err *err) AGON_MUST_USE;
/* A completion's ids to a turn: OK, or MALFORMED with the reason; text is set either way. */
int agon_local_parse(const struct agon_model *m, enum agon_thinking thinking, const int *ids, int n,
                     struct agon_turn *turn, struct agon_err *err) AGON_MUST_USE;

/* AGON_EINPUT where record asks for what this model was not opened to record. */
int agon_local_records(const struct agon_model *m, unsigned record,
                       struct agon_err *err) AGON_MUST_USE;

/*
 * SHA-256 over config.json, tokenizer.json and every tensor's name, shape and bytes (bytes only
 * where all are at most AGON_DIGEST_BYTES_MAX), whatever the shards.
 */
enum { AGON_DIGEST_BYTES_MAX = 512 << 20, AGON_DIGEST_HEX = 65 };
int agon_local_digest(const char *dir, char ret_hex[AGON_DIGEST_HEX],
                      struct agon_err *err) AGON_MUST_USE;
