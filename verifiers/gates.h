#pragma once
/*
 * Gates: what the driver checks before it accepts what the author proposes
 * (DESIGN.md, "Gates"). A refusal is one sentence for the author with the
 * smallest example, and names the gate: "gate 7 (text): the prompt says 12 but no
 * check compares with 12 and the answer schema does not name it".
 */
#include "base/rng.h"
#include "envs/runtime.h"
#include "verifiers/verdict.h"

struct agon_gate_input {
    struct agon_runtime *rt;
    struct agon_task *task;         /* draft; golden and negatives are filled in on success */
    const struct agon_task *below;  /* the level below, or NULL */
    const struct agon_task *others; /* accepted tasks of other lines (near-duplicates) */
    int n_others;
    const json_t *wrong; /* the author's wrong answers: [{"answer","writes"?}], or NULL */
    struct agon_rng rng;
};
struct agon_gate_report {
    int gate;               /* 0: passed all; else the first gate that refused, 1 to 10 */
    struct agon_buf reason; /* the sentence for the author */
    /*
     * What was found, as far as the gates got: "checks" (that bite), "mutants" (how many were
     * judged), "survivors" (mutants that passed: [{"answer","mutation"}], 20 at most) and
     * "n_survivors", "worlds" and "draws" (perturbed worlds that counted, and tried), "guesses",
     * "guesses_passed", "guess_rate", "calls" and "necessary_calls" (distinct calls of the
     * solution).
     */
    json_t *evidence;
};
void agon_gate_report_deinit(struct agon_gate_report *r);
/* 0 when every gate passed, AGON_REJECTED with the report, or <0. The report is set up here. */
int agon_gates(struct agon_gate_input *in, struct agon_gate_report *ret,
               struct agon_err *err) AGON_MUST_USE;
