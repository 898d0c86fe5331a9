#pragma once
/*
 * A child process with a pipe each way, for exec: (the user's own command; nothing that a
 * model wrote runs here). It leads a process group, knows no descriptor of ours but
 * the two pipes and standard error, and does not inherit AGON_API_KEY.
 */
#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct agon_child {
    pid_t pid; /* 0: none */
    int in;    /* its standard input; non-blocking; -1: closed */
    int out;   /* its standard output; non-blocking */
    int ended; /* a pidfd: readable once it has ended */
    bool out_closed;
};
#define AGON_CHILD_NONE      \
    (struct agon_child)      \
    {                        \
        0, -1, -1, -1, false \
    }

/* Run /bin/sh -c command. */
int agon_child_start(struct agon_child *c, const char *command, struct agon_err *err) AGON_MUST_USE;
static inline bool agon_child_lives(const struct agon_child *c)
{
    return c->pid != 0;
}
bool agon_child_ended(const struct agon_child *c);
/* write(2) without SIGPIPE. */
ssize_t agon_child_write(struct agon_child *c, const void *data, size_t size);
/* read(2); remembers the end in out_closed. */
ssize_t agon_child_read(struct agon_child *c, void *data, size_t size);
void agon_child_close_in(struct agon_child *c);
/* Of a child that has ended: kill what is left of its group, return its wait status. */
int agon_child_reap(struct agon_child *c);
/* Kill it and its group; no-op where there is none. */
void agon_child_kill(struct agon_child *c);
