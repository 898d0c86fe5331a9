#pragma once
/*
 * A verdict: every check of a verifier run on the world as the writes left it,
 * read-only, with the answer and the net changes (DESIGN.md, "The verifier",
 * "Changes"). A pass is all checks true and no unclaimed change.
 */
#include "base/buf.h"
#include "base/err.h"
#include "envs/runtime.h"

enum agon_check_end { AGON_CHECK_PASS, AGON_CHECK_FAIL, AGON_CHECK_ERROR };
struct agon_check_result {
    char *name, *text;
    enum agon_check_end end;
    char *reason;      /* Lua error, limit, or NULL */
    int64_t fuel, ops; /* that it took; no ops: it never asked the world */
};
struct agon_verdict {
    bool pass;
    struct agon_check_result *checks;
    int n_checks;
    uint64_t changes; /* digest of the net changes, 0: none; equal for equal ones */
    char *unclaimed;  /* first change that no check claimed, in words, or NULL */
    char *schema;     /* why the answer does not fit its schema, or NULL (then checks is empty) */
    char *replay;     /* why a writing call did not succeed again, or NULL (then checks is empty) */
};
void agon_verdict_deinit(struct agon_verdict *v);

/*
 * What a verifier is made of, without judging anything: names and texts of its
 * checks (all with end AGON_CHECK_PASS). AGON_REJECTED when it does not load.
 */
int agon_verdict_checks(struct agon_runtime *rt, struct agon_str verifier, struct agon_verdict *ret,
                        struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;

/* writes: array of {"tool","arguments"} or NULL. answer: JSON text, as submitted.
 * AGON_REJECTED when the verifier itself does not load (reason). */
int agon_verdict(struct agon_runtime *rt, const struct agon_task *task, struct agon_str answer,
                 const json_t *writes, struct agon_verdict *ret, struct agon_buf *reason,
                 struct agon_err *err) AGON_MUST_USE;
