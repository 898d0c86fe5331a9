#pragma once
/*
 * Threads for the engine's parallel loops. The caller works too, so a pool of 1 has no thread
 * of its own. Which thread runs which task is not fixed: tasks must write to places of their
 * own, and then the result does not depend on the number of threads.
 */
#include "base/err.h"
#include "base/mem.h"

struct agon_pool;

enum { AGON_POOL_THREADS_MAX = 256, AGON_POOL_TASKS_MAX = 1 << 20 };

/* n_threads 0: as many as this process may use. */
int agon_pool_new(struct agon_pool **ret, int n_threads, struct agon_err *err) AGON_MUST_USE;
void agon_pool_free(struct agon_pool *p);
AGON_DEFINE_FREEP(struct agon_pool, agon_pool_free)
int agon_pool_threads(const struct agon_pool *p);
/* Call fn(user, task, thread) for each task in [0, n_tasks), at most AGON_POOL_TASKS_MAX;
 * returns when all are done. thread is in [0, agon_pool_threads()). */
typedef void agon_pool_fn(void *user, int task, int thread);
void agon_pool_run(struct agon_pool *p, agon_pool_fn *fn, void *user, int n_tasks);
