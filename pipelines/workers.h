#pragma once
/*
 * Work on many environments at once: so many threads, each with a sandbox of its own, take items
 * from a list; what came of them is handed out in the order of the list, by the calling thread.
 */
#include "base/err.h"
#include "base/opt.h"

struct agon_sandbox;

/* The option of a verb that works so; field: offset of an int64_t for n_jobs. */
#define AGON_WORKERS_OPTION(field)                                                           \
    {                                                                                        \
        .name = "jobs", .letter = 'j', .type = AGON_OPT_INT, .offset = (field), .min = 0,    \
        .max = 1024, .arg = "N", .help = "environments at once, a cell each; 0: one a core", \
    }

struct agon_workers {
    int n_items, n_jobs; /* 0 jobs: one a core */
    void *user;
    /* In a thread; *result is its own until done() gets it. An error ends the work. */
    int (*work)(void *user, struct agon_sandbox *sb, int i, void **result, struct agon_err *err);
    /* In the calling thread, in order, once for each item whose work() was called, with what that
     * returned (<0: err says why). Takes the result, which may be NULL. */
    int (*done)(void *user, int i, void *result, int status, struct agon_err *err);
};
/* 0, or the first error in the order of the list. */
int agon_workers_run(const struct agon_workers *w, struct agon_err *err) AGON_MUST_USE;
