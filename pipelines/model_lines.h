#pragma once
/*
 * JSON lines about a local model: requests that trainers write, one object a line, and their
 * replies. Fields: README.md of model/, "Records". A request that is wrong is {"error": ...}, and
 * the next one is read.
 */
#include "base/buf.h"
#include "base/err.h"
#include "model/model.h"

enum { AGON_LINE_BYTES_MAX = 256 << 20 };

/* {"temperature", "top_p", "top_k"}, each with its default where absent: 1, 1, 0. Others in the
 * object are left alone. */
int agon_lines_sampling(struct agon_sampling *ret, const json_t *object,
                        struct agon_err *err) AGON_MUST_USE;
/* Answer one score request: appends the members of the reply. */
int agon_lines_score(struct agon_model *m, const json_t *request, struct agon_buf *reply,
                     struct agon_err *err) AGON_MUST_USE;
/* Append `"id": ...` of the request where it has one, for replies that come in another order. */
void agon_lines_id(struct agon_buf *reply, const json_t *request);
