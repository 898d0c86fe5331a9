/*
 * Threads: see pool.h.
 *
 * One 64-bit ticket holds generation, number of tasks and the next task, so a worker learns
 * all three from one fetch-and-add. A worker that wakes late sees next >= n_tasks and goes
 * back to sleep; one that got a task keeps the caller from beginning another loop, so fn and
 * user are stable while it runs. A worker that the system has put aside therefore delays a loop
 * by the one task it holds, if any.
 */
#include "model/pool.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    NEXT_BITS = 24, /* leaves room for every worker to overshoot */
    TASKS_BITS = 24,
    SPIN_IDLE = 4000, /* some 20 us: the gap between two loops of one step */
    SPIN_DONE = 2000, /* then give the core away, since a worker may need it */
};
#define FIELD_MASK ((UINT64_C(1) << NEXT_BITS) - 1)

struct worker {
    struct agon_pool *pool;
    pthread_t thread;
    int index;
};

struct agon_pool {
    struct worker *workers; /* n_threads - 1 of them are running */
    int n_threads, n_started;
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) atomic_int n_done;
    agon_pool_fn *fn;
    void *user;
    atomic_int n_sleeping;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static uint64_t ticket_generation(uint64_t ticket)
{
    return ticket >> (NEXT_BITS + TASKS_BITS);
}

/* Take tasks of the current loop until none is left; returns the loop's generation. */
static uint64_t pool_work(struct agon_pool *p, int thread)
{
    for (;;) {
        uint64_t ticket = atomic_fetch_add(&p->ticket, 1);
        uint64_t task = ticket & FIELD_MASK, n_tasks = ticket >> NEXT_BITS & FIELD_MASK;
        if (task >= n_tasks)
            return ticket_generation(ticket);
        p->fn(p->user, (int)task, thread);
        atomic_fetch_add(&p->n_done, 1);
    }
}

static void pool_sleep(struct agon_pool *p, uint64_t seen)
{
    for (int i = 0; i < SPIN_IDLE; i++) {
        if (ticket_generation(atomic_load_explicit(&p->ticket, memory_order_acquire)) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_sleeping, 1); /* before the look at the ticket: see agon_pool_run() */
    while (ticket_generation(atomic_load(&p->ticket)) == seen && !atomic_load(&p->stop))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->n_sleeping, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *user)
{
    struct worker *w = user;
    while (!atomic_load(&w->pool->stop)) {
        uint64_t seen = pool_work(w->pool, w->index);
        pool_sleep(w->pool, seen);
    }
    return NULL;
}

void agon_pool_run(struct agon_pool *p, agon_pool_fn *fn, void *user, int n_tasks)
{
    assert(n_tasks <= AGON_POOL_TASKS_MAX);
    if (p->n_started == 0 || n_tasks <= 1) {
        for (int i = 0; i < n_tasks; i++)
            fn(user, i, 0);
        return;
    }
    p->fn = fn;
    p->user = user;
    atomic_store(&p->n_done, 0);
    uint64_t generation = ticket_generation(atomic_load(&p->ticket)) + 1;
    atomic_store(&p->ticket,
                 generation << (NEXT_BITS + TASKS_BITS) | (uint64_t)n_tasks << NEXT_BITS);
    if (atomic_load(&p->n_sleeping) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    (void)pool_work(p, 0);
    for (int i = 0; atomic_load(&p->n_done) < n_tasks; i++) {
        if (i < SPIN_DONE)
            relax();
        else
            (void)sched_yield(); /* cannot fail on Linux */
    }
}

static int pool_start(struct agon_pool *p, struct agon_err *err)
{
    for (int i = 1; i < p->n_threads; i++) {
        p->workers[i] = (struct worker){.pool = p, .index = i};
        int e = pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]);
        if (e)
            return agon_fail(err, AGON_ESYS, "thread: %s", strerror(e));
        p->n_started++;
    }
    return 0;
}

static int threads_available(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < AGON_POOL_THREADS_MAX ? n : AGON_POOL_THREADS_MAX;
}

int agon_pool_new(struct agon_pool **ret, int n_threads, struct agon_err *err)
{
    if (n_threads < 0 || n_threads > AGON_POOL_THREADS_MAX)
        return agon_fail(err, AGON_EINPUT, "threads: %d is not from 0 to %d", n_threads,
                         AGON_POOL_THREADS_MAX);
    struct agon_pool *p AGON_AUTO(agon_pool_freep) = aligned_alloc(64, sizeof(*p));
    if (!p)
        return agon_fail(err, AGON_ENOMEM, "pool: out of memory");
    memset(p, 0, sizeof(*p));
    p->n_threads = n_threads > 0 ? n_threads : threads_available();
    (void)pthread_mutex_init(&p->lock, NULL); /* default attributes: cannot fail */
    (void)pthread_cond_init(&p->wake, NULL);
    p->workers = calloc((size_t)p->n_threads, sizeof(*p->workers));
    if (!p->workers)
        return agon_fail(err, AGON_ENOMEM, "pool: out of memory");
    int r = pool_start(p, err);
    if (r)
        return r;
    *ret = AGON_STEAL(p);
    return 0;
}

void agon_pool_free(struct agon_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    /* A spinning worker looks at the ticket alone: give it a new generation, without tasks. */
    uint64_t generation = ticket_generation(atomic_load(&p->ticket)) + 1;
    atomic_store(&p->ticket, generation << (NEXT_BITS + TASKS_BITS));
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_started; i++)
        (void)pthread_join(p->workers[i + 1].thread, NULL); /* ours, and joinable */
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

int agon_pool_threads(const struct agon_pool *p)
{
    return p->n_threads;
}
