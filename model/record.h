#pragma once
/*
 * Recordings: one JSON line for each turn, whatever backend it came from, after a line
 *   {"model": "...", "window": 4096, "counts_tokens": true}
 * which replay: needs to behave as that model does.
 *   {"key", "request_sha256", "messages": [digest of each], "end": "ok|malformed|length",
 *    "text", "reason", "message", "n_prompt_tokens", "n_tokens"}
 * `text` is the completion as generated. `message` stands there only where the text
 * does not say it by itself (generated control tokens are not told from spelled ones
 * in text). A line is appended by one write, so several processes may share a file, and
 * lines have no order.
 */
#include "base/err.h"
#include "base/sha256.h"
#include "model/backend.h"

#include <jansson.h>

/* Open for appending; the torn last line of a killed run is cut off. */
int agon_record_open(struct agon_record **ret, const char *path, const struct agon_model *m,
                     struct agon_err *err) AGON_MUST_USE;
void agon_record_free(struct agon_record *record);
/* Append a turn of s, before its message joins s->messages. turn->end is not FAILED. */
int agon_record_turn(struct agon_record *record, const struct agon_session *s,
                     const struct agon_turn *turn, struct agon_err *err) AGON_MUST_USE;

enum { AGON_DIGEST_SIZE = 13 }; /* 12 digits and a NUL: tells which message differs */
/*
 * The SHA-256 of what s would be answered: "thinking" or "chat" and a newline, then each
 * message in the canonical writing with sorted keys and a newline. digests, where not
 * NULL, is filled with the start of the SHA-256 of each message.
 */
int agon_request_digest(const struct agon_session *s, char ret_hex[AGON_SHA256_HEX],
                        json_t *digests, struct agon_err *err) AGON_MUST_USE;

const char *agon_turn_end_name(enum agon_turn_end end);
