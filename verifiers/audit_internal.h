#pragma once
/* What the files of the audit share: audit.c, audit_task.c, audit_answers.c, audit_text.c. */
#include "envs/env.h"
#include "verifiers/audit.h"
#include "verifiers/trial.h"

enum { AUDIT_PLACES_MAX = 3, AUDIT_ANSWER_BYTES_MAX = 1 << 20 };

/* One answer with what was said of it, to be judged again elsewhere. */
struct audit_answer {
    size_t offset, size;
    json_t *writes;
};
struct audit_answers {
    struct agon_buf texts;
    struct audit_answer *items; /* owned */
    int n, capacity;
};
void audit_answers_deinit(struct audit_answers *a);

struct audit_task {
    const struct agon_audit_options *options;
    const struct agon_env *env;
    struct agon_task *task;
    struct agon_runtime *places[AUDIT_PLACES_MAX]; /* borrowed */
    json_t *card;                                  /* borrowed */
    struct audit_answers answers;
    int64_t n_attacks, n_false, n_unproven, n_dropped, n_dropped_accepted;
    bool failed; /* keeping an answer had no memory */
};

/* Note what is wrong; refused: false is a note only. */
void audit_find(struct audit_task *t, const char *kind, bool refused, const char *fmt, ...)
    AGON_PRINTF(4, 5);
/* Keep an answer (all is copied). */
int audit_keep(struct audit_answers *a, struct agon_str text, const json_t *writes,
               struct agon_err *err) AGON_MUST_USE;

/* Count an answer that was judged (gate 0: by the audit itself). */
void audit_count(struct audit_task *t, int gate, const struct agon_gate_judged *judged);
/* All of the card of one task. */
int audit_task(struct audit_task *t, struct agon_err *err) AGON_MUST_USE;
/* What gates made no question of: the golden answer cut short, wrapped, shuffled, its keys missing,
 * other tasks' answers. */
int audit_more_answers(struct audit_task *t, struct agon_err *err) AGON_MUST_USE;
/* Judge what was kept with rows reversed and with a small page cache, in another cell. */
int audit_judge_again(struct audit_task *t, struct agon_err *err) AGON_MUST_USE;
/* The solution's run and the verdict on it, over and over in all places. */
int audit_golden(struct audit_task *t, struct agon_err *err) AGON_MUST_USE;
/* Leaks, and how much of the prompt the checks speak of. */
int audit_texts(struct audit_task *t, struct agon_err *err) AGON_MUST_USE;
