/* Threads over a list of items: see workers.h. */
#include "pipelines/workers.h"

#include "sandbox/cell.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { AHEAD_MAX = 64 }; /* items whose results may wait for one before them */

struct item {
    bool begun, over;
    int status;
    void *result;
    struct agon_err err;
};

struct team {
    const struct agon_workers *w;
    struct item *items;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int next, taken; /* to begin; handed out */
    bool stop;       /* begin nothing more */
};

struct member {
    struct team *team;
    struct agon_sandbox *sandbox; /* owned */
    pthread_t thread;
    bool running;
};

/* The next item, or -1: waits while too many results wait. */
static int team_next(struct team *t)
{
    pthread_mutex_lock(&t->lock);
    while (!t->stop && t->next < t->w->n_items && t->next - t->taken >= AHEAD_MAX)
        pthread_cond_wait(&t->changed, &t->lock);
    int i = !t->stop && t->next < t->w->n_items ? t->next++ : -1;
    if (i >= 0)
        t->items[i].begun = true;
    pthread_mutex_unlock(&t->lock);
    return i;
}

static void *member_run(void *arg)
{
    struct member *m = arg;
    struct team *t = m->team;
    for (int i; (i = team_next(t)) >= 0;) {
        struct item *item = &t->items[i];
        item->status = t->w->work(t->w->user, m->sandbox, i, &item->result, &item->err);
        pthread_mutex_lock(&t->lock);
        item->over = true;
        t->stop = t->stop || item->status < 0;
        pthread_cond_broadcast(&t->changed);
        pthread_mutex_unlock(&t->lock);
    }
    return NULL;
}

/* Wait for item i; false: it will not be begun. */
static bool team_wait(struct team *t, int i)
{
    pthread_mutex_lock(&t->lock);
    while (!t->items[i].over && (t->items[i].begun || !t->stop))
        pthread_cond_wait(&t->changed, &t->lock);
    bool over = t->items[i].over;
    t->taken = i + 1;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return over;
}

static void team_stop(struct team *t)
{
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* Hand out results in order. Items are begun in order, so that the first one not begun is behind
 * all that were. */
static int team_collect(struct team *t, struct agon_err *err)
{
    int first = 0;
    for (int i = 0; i < t->w->n_items && team_wait(t, i); i++) {
        struct item *item = &t->items[i];
        struct agon_err why = item->err;
        int r = t->w->done(t->w->user, i, item->result, item->status, &why);
        if (r < 0 && first == 0) {
            first = r;
            *err = why;
            team_stop(t);
        }
    }
    return first;
}

/* All sandboxes first: their launchers are forked while this process has one thread. */
static int team_start(struct team *t, struct member *members, int n, struct agon_err *err)
{
    for (int i = 0; i < n; i++) {
        struct agon_sandbox_options so = {.keep_first = true};
        int r = agon_sandbox_open(&members[i].sandbox, &so, err);
        if (r) {
            team_stop(t);
            return r;
        }
    }
    for (int i = 0; i < n; i++) {
        members[i].team = t;
        if (pthread_create(&members[i].thread, NULL, member_run, &members[i])) {
            team_stop(t);
            return agon_fail(err, AGON_ESYS, "can't start thread %d of %d", i + 1, n);
        }
        members[i].running = true;
    }
    return 0;
}

int agon_workers_run(const struct agon_workers *w, struct agon_err *err)
{
    struct team t = {.w = w};
    int n = w->n_jobs ? w->n_jobs : (int)sysconf(_SC_NPROCESSORS_ONLN);
    n = n < w->n_items ? n : w->n_items;
    struct member *members = calloc((size_t)n + 1, sizeof(*members));
    t.items = calloc((size_t)w->n_items + 1, sizeof(*t.items));
    int r = members && t.items ? 0 : agon_fail(err, AGON_ENOMEM, "workers: out of memory");
    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.changed, NULL);
    if (!r) {
        struct agon_err why = {0};
        r = team_start(&t, members, n, err);
        int first = team_collect(&t, &why); /* what had begun before a failure, too */
        if (!r && (r = first))
            *err = why;
    }
    for (int i = 0; members && i < n; i++) {
        if (members[i].running)
            pthread_join(members[i].thread, NULL);
        agon_sandbox_close(members[i].sandbox);
    }
    pthread_cond_destroy(&t.changed);
    pthread_mutex_destroy(&t.lock);
    free(members);
    free(t.items);
    return r;
}
