#pragma once
/* How a rollout ends: the tool submit_result, and what a verdict leaves in the record. */
#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>

struct agon_verdict;

/*
 * A call of submit_result: AGON_CALL_LAST with *ret_answer (owned: the text as submitted) where
 * answer_text is JSON that fits the schema, AGON_CALL_REFUSED with the reason in result, or <0.
 */
int agon_submit(const json_t *answer_schema, const json_t *arguments, char **ret_answer,
                struct agon_buf *result, struct agon_err *err) AGON_MUST_USE;
/* What each check said, and what no check claimed: [{"name", "end", "reason"?}] (new reference);
 * NULL when out of memory. */
json_t *agon_submit_checks(const struct agon_verdict *v);
