#pragma once
/*
 * A verifier inside a cell: one Lua state that has run verifier.lua (check{...}
 * for each check) and was then snapshot. Each check starts from the snapshot with
 * an answer of its own, so no check can change what another one sees.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "envs/usage.h"

#include <jansson.h>
#include <stdint.h>

struct agon_verifier;
struct agon_world;

enum {
    AGON_CHECKS_MAX = 64, /* a bit each */
    AGON_CHECK_FUEL = 2000000,
    AGON_VERIFIER_REFUSED = 1,
};

/* AGON_VERIFIER_REFUSED with a sentence in err when text does not load or has no check. */
int agon_verifier_load(struct agon_verifier **ret, struct agon_world *w, struct agon_str text,
                       struct agon_err *err) AGON_MUST_USE;
void agon_verifier_free(struct agon_verifier *v);
AGON_DEFINE_FREEP(struct agon_verifier, agon_verifier_free)
bool agon_verifier_is(const struct agon_verifier *v, struct agon_str text);
int agon_verifier_count(const struct agon_verifier *v);
const char *agon_verifier_name(const struct agon_verifier *v, int i);
const char *agon_verifier_text(const struct agon_verifier *v, int i);

/* What a check took: fuel of its Lua, operations of its SQL (0: it never asked the world). */
struct agon_check_cost {
    int64_t fuel, ops;
};
struct agon_judgement {
    bool pass, schema, replay, unclaimed;
    uint64_t failed; /* bit i: check i did not pass */
    uint64_t raised; /* of these: it raised or hit a limit */
    json_t *texts;   /* borrowed: gets each text that the verifier's state holds, true where it did
                        before the first check ran; NULL: nobody asks */
    struct agon_usage usage; /* of all checks */
    uint64_t changes;        /* digest of the net changes, in whatever order; 0: none */
    struct agon_check_cost costs[AGON_CHECKS_MAX]; /* of each check that ran */
    char why[256];                  /* schema, replay, or the first unclaimed change */
    char *reasons[AGON_CHECKS_MAX]; /* owned; of checks that raised, where reasons are wanted */
};
void agon_judgement_deinit(struct agon_judgement *j);
/* Judge an answer (JSON text) on the world as it stands; nothing is written. Ends once failed_max
 * checks failed (0: all run). */
int agon_verifier_run(struct agon_verifier *v, const json_t *schema, struct agon_str answer,
                      bool want_reasons, int failed_max, struct agon_judgement *ret,
                      struct agon_err *err) AGON_MUST_USE;
