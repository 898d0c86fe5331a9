#pragma once
/*
 * What the gates share: one run over one proposal. Each gate is a function of it
 * that returns 0, AGON_REJECTED through gate_refuse(), or <0. Gates run in the order
 * of their numbers and may use what earlier ones have found.
 */
#include "verifiers/gates.h"
#include "verifiers/mutants.h"
#include "verifiers/tape.h"
#include "verifiers/trial.h"

enum { GATE_ANSWER_BYTES_MAX = 1 << 20, GATE_EXAMPLE_BYTES_MAX = 240 };

/* For which worlds and checks a gate holds (DESIGN.md, "The other families"). */
enum { GATE_WORLD_DB = 1, GATE_WORLD_TREE = 2, GATE_WORLD_NONE = 4, GATE_WORLD_ANY = 7 };
enum { GATE_CHECK_CODE = 1, GATE_CHECK_JUDGE = 2, GATE_CHECK_ANY = 3 };

struct gate_run;
struct gate {
    int number;
    const char *name;
    unsigned worlds, checks;
    int (*run)(struct gate_run *g, struct agon_err *err);
};

/* Gate 9's draws, made when they are first asked for. */
struct gate_guesses {
    bool made;
    int n, n_passed;
    char *example; /* a guess that passed, owned, or NULL */
    int n_false;   /* that passed and differ from the golden answer or its writes */
    char *false_example;
};

/* What gate 5's pool showed of the writes, for gate 6. Owned; NULL: nothing. */
struct gate_writes_found {
    json_t *dropped;  /* the writes without one of the golden ones, that pass */
    json_t *doubled;  /* with one made twice, that pass and leave something else */
    json_t *replaced; /* with an argument replaced, that pass and leave something else */
    int n_dropped;    /* that were tried */
};

struct gate_run {
    struct agon_gate_input *in;
    struct agon_gate_report *report;
    const struct gate *gate;     /* the one at work */
    struct agon_verdict checks;  /* names and texts */
    struct agon_trial golden;    /* the solution's run in the world as it is */
    struct agon_buf golden_text; /* its answer, in the canonical writing */
    bool ready;                  /* columns and templates are set */
    bool lost;                   /* the proposal's code ended three cells: nothing is asked again */
    struct agon_columns columns;
    struct agon_template answer, writes;
    uint64_t bitten; /* bit i: some answer fails check i alone */
    json_t *alone;   /* for each check: {"answer","writes"?,"fails"} or null */
    json_t *probes;  /* the golden run's distinct calls: [{"tool","arguments"}] */
    json_t *worlds;  /* gate 8's worlds that counted: for each the probes' results */
    uint64_t perturb_seed;
    struct gate_guesses guesses;
    json_t *held;      /* texts and numbers that the verifier holds; NULL before gate 4 */
    size_t n_held_own; /* so many of them are texts of its own that are there before it is asked */
    struct gate_writes_found writes_found;
    struct agon_tape tape; /* what the cells were asked, for a second one */
};

/* Refuse with "gate N (name): " and the sentence. Always AGON_REJECTED. */
int gate_refuse(struct gate_run *g, const char *fmt, ...) AGON_PRINTF(2, 3);
/* Why a verdict is no pass: "check 'seats' fails", "no check claims ...". */
void gate_explain(const struct agon_verdict *v, struct agon_buf *b);
/* At most GATE_EXAMPLE_BYTES_MAX bytes of text, whole characters, "..." where it was cut. */
void gate_example(struct agon_buf *b, struct agon_str text);
/* Columns and templates of the golden run, read once. */
int gate_prepare(struct gate_run *g, struct agon_err *err);

/*
 * Answers judged in batches: each comes back to `done` in the order in which it was added.
 * Every one also counts for gate 5 (gate_bite). Non-zero from done ends the batch.
 */
struct gate_batch;
typedef int (*gate_done_fn)(void *user, const struct agon_gate_judged *judged,
                            struct agon_err *err);
/* done may be NULL. */
int gate_batch_new(struct gate_batch **ret, struct gate_run *g, gate_done_fn done, void *user,
                   struct agon_err *err);
void gate_batch_free(struct gate_batch *b);
AGON_DEFINE_FREEP(struct gate_batch, gate_batch_free)
/* An agon_mutant_fn whose user is the batch. Everything is copied. */
int gate_batch_add(void *batch, const char *what, struct agon_str answer, const json_t *writes,
                   struct agon_err *err);
int gate_batch_flush(struct gate_batch *b, struct agon_err *err);
/* agon_trial() whose request a second cell will be asked, too. */
int gate_trial(struct gate_run *g, struct agon_trial_input *input, struct agon_trial *ret,
               struct agon_buf *reason, struct agon_err *err);
/* A bit for each check. */
uint64_t gate_all_checks(const struct gate_run *g);

int gate_loads(struct gate_run *g, struct agon_err *err);       /* 1 */
int gate_golden(struct gate_run *g, struct agon_err *err);      /* 2 */
int gate_rejects(struct gate_run *g, struct agon_err *err);     /* 3 */
int gate_mutants(struct gate_run *g, struct agon_err *err);     /* 4 */
int gate_bites(struct gate_run *g, struct agon_err *err);       /* 5 */
int gate_writes(struct gate_run *g, struct agon_err *err);      /* 6 */
int gate_text(struct gate_run *g, struct agon_err *err);        /* 7 */
int gate_metamorphic(struct gate_run *g, struct agon_err *err); /* 8 */
int gate_guess(struct gate_run *g, struct agon_err *err);       /* 9 */
int gate_ladder(struct gate_run *g, struct agon_err *err);      /* 10 */

/* Gates 4 and 6, under answers="many". note: keep this answer with its writes, which passed, where
 * something in them is the verifier's own and no part of the golden ones. Then refuse where one of
 * them is wrong for certain. */
int gate_planted_note(struct gate_run *g, json_t *candidates, const struct agon_gate_judged *judged,
                      struct agon_err *err);
int gate_planted(struct gate_run *g, const json_t *candidates, struct agon_err *err);
/* Judge the author's wrong answers; one that passes is refused, or left for gate 5 to refuse. */
int gate_wrong(struct gate_run *g, bool refuse, struct agon_err *err);
/* A gate_done_fn for mutants of the writes; user is the run. */
int gate_writes_found(void *user, const struct agon_gate_judged *judged, struct agon_err *err);
void gate_writes_found_deinit(struct gate_writes_found *f);
/* Make gate 9's draws unless they are made. */
int gate_guesses_make(struct gate_run *g, struct agon_err *err);
/* The distinct calls of a run, as probes (new reference; NULL when out of memory). */
json_t *gate_distinct_calls(const json_t *calls);
