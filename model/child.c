/* Child processes of exec: see child.h. */
#include "model/child.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Our environment without the key. The strings are shared, the array is the caller's. */
static char **environ_without_key(void)
{
    size_t n = 0, kept = 0;
    while (environ[n])
        n++;
    char **copy = calloc(n + 1, sizeof(*copy));
    for (size_t i = 0; copy && i < n; i++)
        if (strncmp(environ[i], "AGON_API_KEY=", strlen("AGON_API_KEY=")) != 0)
            copy[kept++] = environ[i];
    return copy;
}

/* Returns an errno. in and out are the child's ends. */
static int child_spawn(pid_t *ret_pid, const char *command, int in, int out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    char *line = strdup(command), **env = environ_without_key();
    char sh[] = "sh", dash_c[] = "-c";
    char *argv[] = {sh, dash_c, line, NULL};
    sigemptyset(&none);
    sigfillset(&all);
    int e = line && env ? 0 : ENOMEM;
    (void)posix_spawn_file_actions_init(&actions); /* these only fill structs here */
    (void)posix_spawnattr_init(&attr);
    if (!e)
        e = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    if (!e)
        e = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setpgroup(&attr, 0);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    if (!e)
        e = posix_spawn(ret_pid, "/bin/sh", &actions, &attr, argv, env);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(line);
    free(env);
    return e;
}

int agon_child_start(struct agon_child *c, const char *command, struct agon_err *err)
{
    int to[2] = {-1, -1}, from[2] = {-1, -1}, e = 0;
    struct agon_child child = AGON_CHILD_NONE;
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC) || fcntl(to[1], F_SETFL, O_NONBLOCK) ||
        fcntl(from[0], F_SETFL, O_NONBLOCK))
        e = errno;
    else
        e = child_spawn(&child.pid, command, to[0], from[1]);
    agon_fd_closep(&to[0]);
    agon_fd_closep(&from[1]);
    child.in = to[1];
    child.out = from[0];
    if (!e && (child.ended = (int)syscall(SYS_pidfd_open, child.pid, 0)) < 0)
        e = errno;
    if (e) {
        agon_child_kill(&child);
        return agon_fail(err, AGON_ESYS, "can't start '%.200s': %s", command, strerror(e));
    }
    *c = child;
    return 0;
}

bool agon_child_ended(const struct agon_child *c)
{
    struct pollfd fd = {c->ended, POLLIN, 0};
    return poll(&fd, 1, 0) > 0;
}

ssize_t agon_child_write(struct agon_child *c, const void *data, size_t size)
{
    sigset_t pipe, before, pending;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    (void)sigpending(&pending); /* can't fail with a valid set, nor can the mask */
    (void)pthread_sigmask(SIG_BLOCK, &pipe, &before);
    ssize_t n = TEMP_FAILURE_RETRY(write(c->in, data, size));
    int e = errno;
    if (n < 0 && e == EPIPE && !sigismember(&pending, SIGPIPE))
        (void)sigtimedwait(&pipe, NULL, &(struct timespec){0}); /* take our own SIGPIPE away */
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = e;
    return n;
}

ssize_t agon_child_read(struct agon_child *c, void *data, size_t size)
{
    ssize_t n = TEMP_FAILURE_RETRY(read(c->out, data, size));
    c->out_closed = n == 0;
    return n;
}

void agon_child_close_in(struct agon_child *c)
{
    agon_fd_closep(&c->in);
    c->in = -1;
}

int agon_child_reap(struct agon_child *c)
{
    int status = 0;
    /* Before the wait: until then the group's number can't belong to others. */
    (void)kill(-c->pid, SIGKILL); /* ESRCH where nothing is left */
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    c->pid = 0;
    agon_child_kill(c);
    return status;
}

void agon_child_kill(struct agon_child *c)
{
    if (c->pid)
        (void)agon_child_reap(c); /* it died because we said so */
    agon_fd_closep(&c->in);
    agon_fd_closep(&c->out);
    agon_fd_closep(&c->ended);
    *c = AGON_CHILD_NONE;
}
