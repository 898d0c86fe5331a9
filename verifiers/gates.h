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

/* An answer that was judged on the way; borrowed for the call. */
struct agon_gate_judged {
    const char *what;       /* how it was made: "price replaced" */
    struct agon_str answer; /* JSON text, or what was submitted as such */
    const json_t *writes;   /* NULL: none */
    const struct agon_brief *brief;
    bool differs; /* of one that passes: from the golden answer, or its writes from what they leave
                   */
};
typedef void (*agon_gate_observer)(void *user, int gate, const struct agon_gate_judged *judged);

struct agon_gate_input {
    struct agon_runtime *rt;
    struct agon_task *task;         /* draft; golden and negatives are filled in on success */
    const struct agon_task *below;  /* the level below, or NULL */
    const struct agon_task *others; /* accepted tasks of other lines (near-duplicates) */
    int n_others;
    const json_t *wrong; /* the author's wrong answers: [{"answer","writes"?}], or NULL */
    struct agon_rng rng;
    /* Go on after a refusal, from gate 3 on, and note each in the evidence: "refusals",
     * [{"gate","reason"}]. The report is that of the first. */
    bool go_on;
    agon_gate_observer observe; /* sees every answer that is judged; NULL: nobody */
    void *observer;
};
struct agon_gate_report {
    int gate;               /* 0: passed all; else the first gate that refused, 1 to 10 */
    struct agon_buf reason; /* the sentence for the author */
    /*
     * What was found, as far as the gates got: "checks" (that bite), "mutants" (how many were
     * judged), "survivors" (mutants that passed and differ: [{"answer","mutation","checks"}], 20
     * at most, each check with its "name" and what it took, "fuel" and "ops") and "n_survivors"
     * (under answers="many" they count as unproven), "dropped_writes", "foreign_calls" and
     * "foreign_writes" (calls that were tried beside the golden writes or in the place of one, and
     * those of them that changed something), "foreign_accepted" (of those beside), "worlds" and "draws" (perturbed worlds that counted, and tried),
     * "guesses", "guesses_passed", "guess_rate", "guesses_false" (passed and differ), "calls" and
     * "necessary_calls" (distinct calls of the solution). Where a second cell judged otherwise,
     * "disagreement" holds both traces (tape.h).
     */
    json_t *evidence;
};
void agon_gate_report_deinit(struct agon_gate_report *r);
/* 0 when every gate passed, AGON_REJECTED with the report, or <0. The report is set up here. */
int agon_gates(struct agon_gate_input *in, struct agon_gate_report *ret,
               struct agon_err *err) AGON_MUST_USE;
