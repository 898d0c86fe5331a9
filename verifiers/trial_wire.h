#pragma once
/*
 * The messages of verify.trial.
 *
 * Request: perturbed (0/1) [seed, draw, n, columns]; reverse; KiB of page cache
 * (0: as usual); full (1: verdicts of items with reasons; 2: the verifier's texts); schema text; verifier text; solution text;
 * n overrides (tool, arguments, result); n probes (tool, arguments); failed_max; n items (answer,
 * writes).
 *
 * Reply: status, reason (1: solution or verifier does not load; nothing follows);
 * n checks (name, text); run: -1 none, 0 solved, 1 unsolved [why, answer, calls,
 * writes, reads, usage]; the verdict on it where there is one (0/1, then it);
 * n probes (status, text); n items, each a brief, or a verdict where full; where they were asked for
 * n texts that the verifier holds, those it held when it was loaded first, how many these
 * are, and the columns that were read since.
 *
 * A brief is flags, the failed bits, the digest of the net changes and usage; a verdict is
 * a brief, why, then for each check its end, reason, fuel and operations.
 */
enum {
    TRIAL_PASS = 1,
    TRIAL_SCHEMA = 2,
    TRIAL_REPLAY = 4,
    TRIAL_UNCLAIMED = 8,
};
enum { TRIAL_FULL = 1, TRIAL_TEXTS = 2 };

struct agon_brief;
struct agon_wire;
/* A brief in a reply, on the driver's side. (trial.c) */
struct agon_brief agon_wire_brief(struct agon_wire *wire);
