/* cp -r of what agon made: see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 16, CHUNK_BYTES = 1 << 16 };

struct copy {
    const char *from, *to;
    int depth;
};

static int fail(struct agon_err *err, const char *path)
{
    return agon_fail(err, AGON_ESYS, "%s: %s", path, strerror(errno));
}

static int fd_copy(int from, int to)
{
    char chunk[CHUNK_BYTES];
    for (;;) {
        ssize_t n = read(from, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return (int)n;
        if (agon_fd_write(to, (struct agon_str){chunk, (size_t)n}))
            return -1;
    }
}

static int file_copy(const char *from, const char *to, mode_t mode, struct agon_err *err)
{
    int in AGON_AUTO(agon_fd_closep) = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (in < 0)
        return fail(err, from);
    int out AGON_AUTO(agon_fd_closep) =
        open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0777);
    if (out < 0 || fd_copy(in, out) || fsync(out))
        return fail(err, to);
    return 0;
}

static int tree_copy(const char *from, const char *to, int depth, struct agon_err *err);

static int entry_copy(const char *name, void *user, struct agon_err *err)
{
    const struct copy *c = user;
    char from[4096], to[4096];
    struct stat st;
    if (snprintf(from, sizeof(from), "%s/%s", c->from, name) >= (int)sizeof(from) ||
        snprintf(to, sizeof(to), "%s/%s", c->to, name) >= (int)sizeof(to))
        return agon_fail(err, AGON_EINPUT, "%.60s...: path too long", c->to);
    if (lstat(from, &st))
        return fail(err, from);
    if (S_ISDIR(st.st_mode))
        return tree_copy(from, to, c->depth + 1, err);
    if (!S_ISREG(st.st_mode))
        return agon_fail(err, AGON_EINPUT, "%s: neither a file nor a folder", from);
    return file_copy(from, to, st.st_mode, err);
}

static int tree_copy(const char *from, const char *to, int depth, struct agon_err *err)
{
    struct copy c = {from, to, depth};
    if (depth > DEPTH_MAX)
        return agon_fail(err, AGON_EINPUT, "%s: folders nested over %d deep", from, DEPTH_MAX);
    if (mkdir(to, 0755))
        return fail(err, to);
    int r = agon_dir_each(from, entry_copy, &c, err);
    return r ? r : agon_dir_sync(to, err);
}

int agon_dir_copy(const char *from, const char *to, struct agon_err *err)
{
    char whole[4096];
    if (snprintf(whole, sizeof(whole), "%s.agon-tmp", to) >= (int)sizeof(whole))
        return agon_fail(err, AGON_EINPUT, "%.60s...: path too long", to);
    int r;
    if ((r = agon_dir_remove(whole, err)) || (r = tree_copy(from, whole, 0, err)) ||
        (r = agon_dir_remove(to, err)))
        return r;
    if (rename(whole, to))
        return fail(err, to);
    return agon_dir_sync_parent(to, err);
}
