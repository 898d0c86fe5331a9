#pragma once
/*
 * Answers and writes near the golden ones: gate 4's mutants, which are part of gate 5's
 * pool, and the writes that gate 6 will ask about.
 */
#include "base/rng.h"
#include "verifiers/leaves.h"

/* Where mutants go: answer is JSON text, writes borrowed for the call. Non-zero ends the making. */
typedef int (*agon_mutant_fn)(void *user, const char *what, struct agon_str answer,
                              const json_t *writes, struct agon_err *err);
/* How `what` ends for texts that only a check takes for an answer which reads them as something
 * else, and for one that says nothing, which a check of free text takes as well. */
#define AGON_MUTANT_PATTERN " by a pattern"
#define AGON_MUTANT_SQL     " by a piece of SQL"
#define AGON_MUTANT_LONG    " by a long text"
/* Made of what the verifier holds; and one that says nothing else, with no number that could be
 * right. */
#define AGON_MUTANT_HELD     " by what the verifier holds"
#define AGON_MUTANT_HELD_ALL "every text replaced" AGON_MUTANT_HELD
/* Do two answers say the same? Numbers by value, within the tolerance that the schema states for
 * them (or a billionth); the order of an object's keys does not matter. */
bool agon_answers_same(const json_t *a, const json_t *b, const json_t *schema);

struct agon_mutant_options {
    int one_leaf_max; /* mutants of a single leaf; values are thinned out evenly beyond */
    int two_leaf;     /* draws with two leaves changed */
    bool far;         /* also what lies far off */
    /* Texts and numbers that the verifier holds, those that matter most first (borrowed; NULL:
     * none): what it looks an answer up in is among them, however it is written. */
    const json_t *held;
    size_t n_held_own; /* so many of them are texts of its own, of no row */
};
/*
 * Gate 4's mutants of an answer: each leaf replaced by other values of its domain (computed
 * numbers: one more, one less, doubled, negated), elements of lists dropped, doubled and
 * swapped with the next, then pairs of leaves drawn anew, then near misses of each leaf (texts
 * in other case, with a blank behind, empty; numbers one more, one less, one in the last place
 * that is written). Where asked for, at last what lies far off and is taken for the answer by a
 * check that reads a part of it, or reads it as something else (mutants_near.c): patterns, pieces
 * of SQL, beginnings and ends, numbers that hold its digits or bits, other types, two leaves
 * exchanged, members left out; and what the verifier holds, in the place of each leaf, of all at
 * once, as an element and as a member more (mutants_held.c). Each is written otherwise than the golden answer; all come with the
 * golden writes.
 */
int agon_mutants_answer(const json_t *answer, const struct agon_template *t, const json_t *writes,
                        const struct agon_mutant_options *options, struct agon_rng *rng,
                        agon_mutant_fn fn, void *user, struct agon_err *err) AGON_MUST_USE;
/* The golden writes with each one dropped, each one doubled, all dropped, and each argument leaf
 * replaced by other values of its domain (at most args_max in all) and by near misses (texts in
 * other case or with a blank behind, numbers one more, one less, negated, far off); the answer
 * stays. */
int agon_mutants_writes(const json_t *answer, const json_t *writes,
                        const struct agon_columns *columns, int args_max, agon_mutant_fn fn,
                        void *user, struct agon_err *err) AGON_MUST_USE;
