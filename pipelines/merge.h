#pragma once
/*
 * Corpora joined into one: the parts that --rank and --ranks split a run into, or runs
 * that have nothing to do with each other.
 */
#include "base/err.h"

#include <stdbool.h>

struct agon_merge_report {
    bool ranks; /* the parts of one run */
    int environments, tasks, duplicates;
};
/*
 * Join the corpora in parts[0..n) into `out`, which is made. Parts are only read, and stay.
 *
 * Ranks of one run: all of them, which differ in their rank alone. The result is the corpus that
 * the run without --ranks makes, to the digest; the same `agon synth` without --rank has
 * nothing left to do in it.
 * Else: whole runs whose environments have different names. What their settings share is
 * kept, near-duplicates across all leave (dedup.h), and no run goes on in the result.
 *
 * AGON_EINPUT: a part is no corpus or is not finished, parts do not fit, `out` holds something
 * already; AGON_CORPUS_LOCKED as agon_corpus_open(). A merge that was killed is begun anew by the
 * next.
 */
int agon_merge(struct agon_merge_report *ret, const char *out, char *const *parts, int n,
               struct agon_err *err) AGON_MUST_USE;
