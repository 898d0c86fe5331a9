/* Meetings of threads: see group.h. */
#include "model/group.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct agon_group {
    pthread_mutex_t lock;
    pthread_cond_t met;
    int n_ranks, n_arrived;
    unsigned long meeting;          /* how many were held */
    struct agon_group_plan plan;    /* of those who have arrived */
    struct agon_group_plan agreed;  /* of the last meeting */
    char told[AGON_GROUP_TOLD_MAX]; /* by rank 0 */
    bool failed;
    struct agon_err why;
};

/*
 * NCCL reads them once. NVLink's multicast can put GPUs that others share out of service; and a
 * graph's buffers must not be registered: that is another meeting of all ranks, while they record.
 */
static int nccl_environment(struct agon_err *err)
{
    if (setenv("NCCL_NVLS_ENABLE", "0", 1) || setenv("NCCL_GRAPH_REGISTER", "0", 1))
        return agon_fail(err, AGON_ENOMEM, "ranks: out of memory");
    return 0;
}

int agon_group_new(struct agon_group **ret, int n_ranks, struct agon_err *err)
{
    if (n_ranks < 1 || n_ranks > AGON_RANKS_MAX)
        return agon_fail(err, AGON_EINPUT, "ranks: %d is not from 1 to %d", n_ranks,
                         AGON_RANKS_MAX);
    int r = nccl_environment(err);
    if (r)
        return r;
    struct agon_group *g = calloc(1, sizeof(*g));
    if (!g)
        return agon_fail(err, AGON_ENOMEM, "ranks: out of memory");
    g->n_ranks = n_ranks;
    (void)pthread_mutex_init(&g->lock, NULL); /* cannot fail without attributes */
    (void)pthread_cond_init(&g->met, NULL);
    *ret = g;
    return 0;
}

void agon_group_free(struct agon_group *g)
{
    if (!g)
        return;
    (void)pthread_mutex_destroy(&g->lock); /* nobody is in it */
    (void)pthread_cond_destroy(&g->met);
    free(g);
}

int agon_group_ranks(const struct agon_group *g)
{
    return g->n_ranks;
}

/* ---- meetings ----------------------------------------------------------------------- */

static void plan_join(struct agon_group_plan *all, const struct agon_group_plan *one)
{
    all->kind = all->kind > one->kind ? all->kind : one->kind;
    all->n_rows = all->n_rows > one->n_rows ? all->n_rows : one->n_rows;
    all->n_steps = all->n_steps > one->n_steps ? all->n_steps : one->n_steps;
    all->n_max = all->n_max > one->n_max ? all->n_max : one->n_max;
}

/* The last to arrive ends the meeting. The next cannot end before all have left this one, since it
 * needs them: agreed and told are read in between. */
static void wait_for_all(struct agon_group *g)
{
    unsigned long meeting = g->meeting;
    if (++g->n_arrived == g->n_ranks) {
        g->n_arrived = 0;
        g->agreed = g->plan;
        g->plan = (struct agon_group_plan){0};
        g->meeting++;
        (void)pthread_cond_broadcast(&g->met);
    }
    while (g->meeting == meeting && !g->failed)
        (void)pthread_cond_wait(&g->met, &g->lock);
}

int agon_group_meet(struct agon_group *g, struct agon_group_plan *plan, struct agon_err *err)
{
    int r = 0;
    (void)pthread_mutex_lock(&g->lock); /* of the default kind: cannot fail */
    plan_join(&g->plan, plan);
    wait_for_all(g);
    if (g->failed)
        r = agon_fail(err, AGON_EDEVICE, "%s", g->why.text);
    else
        *plan = g->agreed;
    (void)pthread_mutex_unlock(&g->lock);
    return r;
}

int agon_group_tell(struct agon_group *g, int rank, void *bytes, size_t size, struct agon_err *err)
{
    struct agon_group_plan none = {0};
    assert(size <= sizeof(g->told));
    if (rank == 0) {
        (void)pthread_mutex_lock(&g->lock);
        memcpy(g->told, bytes, size);
        (void)pthread_mutex_unlock(&g->lock);
    }
    int r = agon_group_meet(g, &none, err);
    if (r == 0)
        memcpy(bytes, g->told, size); /* rank 0 writes again after the next meeting only */
    return r ? r : agon_group_meet(g, &none, err);
}

void agon_group_fail(struct agon_group *g, int rank, const struct agon_err *why)
{
    (void)pthread_mutex_lock(&g->lock);
    if (!g->failed)
        (void)agon_fail(&g->why, AGON_EDEVICE, "rank %d: %s", rank, why->text);
    g->failed = true;
    (void)pthread_cond_broadcast(&g->met);
    (void)pthread_mutex_unlock(&g->lock);
}

bool agon_group_failed(struct agon_group *g)
{
    (void)pthread_mutex_lock(&g->lock);
    bool failed = g->failed;
    (void)pthread_mutex_unlock(&g->lock);
    return failed;
}

/* ---- threads ------------------------------------------------------------------------ */

struct worker {
    pthread_t thread;
    void (*fn)(void *user, int rank);
    void *user;
    int rank;
};

static void *worker_main(void *user)
{
    const struct worker *w = user;
    w->fn(w->user, w->rank);
    return NULL;
}

int agon_group_run(struct agon_group *g, void (*fn)(void *user, int rank), void *user,
                   struct agon_err *err)
{
    struct worker workers[AGON_RANKS_MAX];
    int n = 0;
    for (; n < g->n_ranks; n++) {
        workers[n] = (struct worker){.fn = fn, .user = user, .rank = n};
        if (pthread_create(&workers[n].thread, NULL, worker_main, &workers[n])) {
            struct agon_err why;
            (void)agon_fail(&why, AGON_ESYS, "no thread for it");
            agon_group_fail(g, n, &why);
            break;
        }
    }
    for (int i = 0; i < n; i++)
        (void)pthread_join(workers[i].thread, NULL); /* ours, and joined once */
    return agon_group_failed(g) ? agon_fail(err, AGON_EDEVICE, "%s", g->why.text) : 0;
}
