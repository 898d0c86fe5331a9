#pragma once
/*
 * A small shop for the tests of the gates: a world of 48 items and some orders, a toolset, and
 * good tasks over them that each test spoils in one place.
 */
#include "tests/test.h"
#include "verifiers/gates.h"

#include <stdlib.h>

extern const char fixture_tools[]; /* tools.lua */

/* A proposal as texts; what is NULL or 0 is taken from fixture_good. */
struct proposal {
    const char *prompt, *schema, *solution, *verifier, *wrong, *effects;
    int level;
    bool many;
    const struct proposal *below;
    const char *other; /* the prompt of an accepted task of another line */
    const char *tools; /* another toolset */
};
extern const struct proposal fixture_good;  /* level 1: the dearest tea and its price */
extern const struct proposal fixture_next;  /* level 2: and how many are scarce */
extern const struct proposal fixture_order; /* one that writes */

/* Why there is no box to run in, or NULL. */
const char *fixture_without_box(void);
/* First line of each test of the gates. */
#define NEED_BOX                             \
    do {                                     \
        if (fixture_without_box())           \
            SKIP_BOX(fixture_without_box()); \
    } while (0)

struct outcome {
    int r; /* of agon_gates() */
    int gate;
    char reason[4096];
    json_t *evidence, *golden, *negatives;
};
void outcome_deinit(struct outcome *o);
/* Run the gates; false (and a line of TAP) when the machinery itself failed. */
bool fixture_run(const struct proposal *p, struct outcome *ret);
/* The gate that refuses the proposal, its sentence holding `has`. */
bool fixture_refused(const struct proposal *p, int gate, const char *has);
/* No gate refuses it; else false with a line of TAP. */
bool fixture_passes(const struct proposal *p, struct outcome *ret);
#define REFUSED(name, gate, has, ...)           \
    TEST(name)                                  \
    {                                           \
        NEED_BOX;                               \
        struct proposal p = {__VA_ARGS__};      \
        EXPECT(fixture_refused(&p, gate, has)); \
    }

/* The answer of fixture_good, to plant it where it must not stand. */
const char *fixture_golden_item(void);
const char *fixture_golden_price(void);
