#pragma once
/*
 * Audits: everything the gates ask of a proposal, asked of environments that are accepted, and
 * what takes longer than an author should wait for. What `agon audit` prints. Runs in
 * cells; nothing on disk changes.
 *
 * The result is JSON, a card for each task:
 *
 *   {"env", "task", "level", "answers", "verdict": "ok" | "noted" | "refused",
 *    "findings": [{"kind", "refused", "what"}],
 *    "checks", "mutants", "survivors": [...], "n_survivors", ... (evidence of the gates, gates.h),
 *    "attacks", "false_accepts", "unproven", "dropped", "dropped_accepted", "foreign",
 *    "foreign_accepted", "guess_rate_most" (upper end of the 95 % interval),
 *    "golden_runs", "golden_passes", "golden_same", "rejudged", "prompt_covered",
 *    "share" (the largest of a limit, thousandths), "run_ms" (solution and verdict)}
 *
 * The kinds of findings: "gate 1 (loads)" to "gate 10 (ladder)"; "files" (what agon verify says);
 * "golden" (not 100 of 100, or other bytes); "order", "cache" and "process" (a verdict that is
 * another one with rows reversed, with a small page cache, in another process or on another core);
 * "false accept"; "leak" (a part of the answer stands in the tools or the schema); "budget";
 * "duplicate" (of a prompt elsewhere in the corpus); and, noted but not refused, "unproven".
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "verifiers/gates.h"

#include <jansson.h>

struct agon_sandbox;

struct agon_audit_options {
    struct agon_sandbox *places[3]; /* borrowed: the golden runs go round these; the first does all
                                       else */
    int n_places;
    uint64_t seed;
    int golden_runs; /* 0: 100 */
    /* Sees each answer that is judged by the gates; NULL: nobody. */
    void (*judged)(void *user, const struct agon_task *task, const struct agon_gate_judged *judged);
    void *user;
};

/* The cards of one environment: *ret is a new JSON array. One that cannot be opened is a card
 * without a task ("task": null) that is refused. */
int agon_audit_env(const char *dir, const struct agon_audit_options *options, json_t **ret,
                   struct agon_err *err) AGON_MUST_USE;
/*
 * All cards of a corpus, in their order: adds the finding "duplicate" and each card's verdict.
 * *ret: {"tasks": cards, "summary": {"environments", "tasks", "ok", "noted", "refused",
 * "attacks", "false_accepts", "unproven", "dropped", "dropped_accepted", "foreign",
 * "foreign_accepted", "golden_runs", "golden_passes", "golden_same"}}. cards is taken.
 */
int agon_audit_finish(json_t *cards_taken, json_t **ret, struct agon_err *err) AGON_MUST_USE;
/* For people: a line for each task, then what is wrong and where, then the summary. */
void agon_audit_print(const json_t *report, bool colour, struct agon_buf *out);
