#pragma once
/* What mutants.c, mutants_near.c and mutants_held.c share. */
#include "verifiers/mutants.h"

struct making {
    const struct agon_template *t;
    const json_t *writes;
    struct agon_buf golden, text;
    agon_mutant_fn fn;
    void *user;
};

/* Hand over m->text, unless it is the golden answer after all, and empty it. */
int mutants_emit(struct making *m, const char *what, struct agon_err *err);
/* Leaf i replaced by this value, whose reference is taken. */
int mutants_leaf(struct making *m, int i, json_t *value_taken, struct agon_err *err);
/* The same, said with what by: one of those of mutants.h, or "". */
int mutants_leaf_by(struct making *m, int i, json_t *value_taken, const char *by,
                    struct agon_err *err);
/* The whole answer, as it now stands. */
int mutants_whole(struct making *m, const json_t *answer, const char *what, struct agon_err *err);
/* mutants_near.c: the text with the case of each ASCII letter turned over, or NULL where it has
 * none. */
json_t *mutants_other_case(const char *text);
/* Misses by a little, and by what lies far off and is taken for the answer all the same; answer is
 * a private copy, put back each time. */
int mutants_near(struct making *m, struct agon_err *err);
int mutants_far(struct making *m, json_t *answer, struct agon_err *err);
/* mutants_held.c: answers made of what the verifier holds; answer as above. */
int mutants_held(struct making *m, json_t *answer, const struct agon_mutant_options *options,
                 struct agon_err *err);
