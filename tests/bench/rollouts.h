#pragma once
/* Rollouts by the thousand for the benchmark: verdicts of a catalogue, one task's own calls, and
 * what becomes of a cell's memory. Each returns 0 or <0 with the reason in err. */
#include "base/err.h"

/* n golden verdicts spread over all tasks at or below dir, in `jobs` cells. Each makes the golden
 * writes again on a fresh instance. AGON_EINPUT where one of them does not pass. */
int rollouts_goldens(int n, int jobs, const char *dir, struct agon_err *err) AGON_MUST_USE;
/* The calls that a task's solution makes, their results, answer and our own time for all of it with
 * JSON both ways, as one JSON object. dir: of the task. */
int rollouts_catalog(const char *dir, struct agon_err *err) AGON_MUST_USE;
enum { ROLLOUTS_POINTS = 10 };
/* The resident memory of a cell in KiB after each tenth of n rollouts of the sample world, failing
 * calls, refused writes and made-up SQL among them. */
int rollouts_memory(int n, long ret_kib[ROLLOUTS_POINTS], struct agon_err *err) AGON_MUST_USE;
