/* Files: see file.h. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILE_TMP_PREFIX ".agon-tmp-"

enum { FILE_CHUNK = 64 << 10, DIR_DEPTH_MAX = 64 };

static int sys_fail(struct agon_err *err, const char *path)
{
    return agon_fail(err, AGON_ESYS, "%s: %s", path, strerror(errno));
}

void agon_fd_closep(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* only reads end here; a writer closes by hand and looks */
    *fd = -1;
}

static int file_read_all(struct agon_buf *b, int fd, const char *path, size_t size_max,
                         struct agon_err *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return sys_fail(err, path);
    if (!S_ISREG(st.st_mode))
        return agon_fail(err, AGON_EINPUT, "%s: not a regular file", path);
    size_t n_read = 0;
    for (;;) {
        char chunk[FILE_CHUNK];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sys_fail(err, path);
        if (n == 0)
            return agon_buf_check(b, path, err);
        if ((size_t)n > size_max - n_read)
            return agon_fail(err, AGON_EINPUT, "%s: over %zu bytes", path, size_max);
        n_read += (size_t)n;
        agon_buf_add(b, chunk, (size_t)n);
    }
}

static int file_read_fd(struct agon_buf *b, int fd, const char *path, size_t size_max,
                        struct agon_err *err)
{
    size_t start = b->size;
    int r = file_read_all(b, fd, path, size_max, err);
    if (r && b->data) { /* nothing half read stays */
        b->size = start;
        b->data[start] = '\0';
    }
    return r;
}

/* O_NONBLOCK, so that a FIFO in the place of a file cannot hold us. */
enum { FILE_READ_FLAGS = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

int agon_file_read(struct agon_buf *b, const char *path, size_t size_max, struct agon_err *err)
{
    int fd AGON_AUTO(agon_fd_closep) = open(path, FILE_READ_FLAGS);
    if (fd < 0)
        return sys_fail(err, path);
    return file_read_fd(b, fd, path, size_max, err);
}

int agon_file_read_at(struct agon_buf *b, int dir_fd, const char *name, size_t size_max,
                      struct agon_err *err)
{
    struct open_how how = {.flags = FILE_READ_FLAGS,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    int fd AGON_AUTO(agon_fd_closep) = -1;
    do /* EAGAIN: the kernel can't tell whether ".." stayed beneath, for a rename ran beside it */
        fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
    while (fd < 0 && errno == EAGAIN);
    if (fd < 0)
        return sys_fail(err, name);
    return file_read_fd(b, fd, name, size_max, err);
}

int agon_fd_write(int fd, struct agon_str s)
{
    while (s.size > 0) {
        ssize_t n = write(fd, s.data, s.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        s.data += n, s.size -= (size_t)n;
    }
    return 0;
}

/* "dir/" of "dir/name", or "" */
static struct agon_str path_dir(const char *path)
{
    const char *slash = strrchr(path, '/');
    return (struct agon_str){path, slash ? (size_t)(slash - path) + 1 : 0};
}

/* A name that a killed process left over is stepped past. */
static int file_open_temporary(char **ret_name, const char *path, struct agon_err *err)
{
    static atomic_uint serial;
    struct agon_str dir = path_dir(path);
    for (int attempt = 0; attempt < 1000; attempt++) {
        char *name = NULL;
        if (asprintf(&name, "%.*s" FILE_TMP_PREFIX "%d-%u", AGON_STR_ARG(dir), (int)getpid(),
                     atomic_fetch_add(&serial, 1)) < 0)
            return agon_fail(err, AGON_ENOMEM, "%s: out of memory", path);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd >= 0) {
            *ret_name = name;
            return fd;
        }
        bool taken = errno == EEXIST;
        int r = sys_fail(err, path);
        free(name);
        if (!taken)
            return r;
    }
    return agon_fail(err, AGON_ESYS, "%s: no free temporary name beside it", path);
}

int agon_dir_sync_parent(const char *path, struct agon_err *err)
{
    struct agon_str dir = path_dir(path);
    char *name = dir.size ? strndup(dir.data, dir.size) : strdup(".");
    if (!name)
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", path);
    int r = agon_dir_sync(name, err);
    free(name);
    if (r && (errno == EACCES || errno == EINVAL || errno == ENOTSUP))
        return 0;
    return r;
}

int agon_file_write(const char *path, struct agon_str content, bool durable, struct agon_err *err)
{
    char *temporary = NULL;
    int fd = file_open_temporary(&temporary, path, err);
    if (fd < 0)
        return fd;
    int failed = agon_fd_write(fd, content);
    if (!failed && durable)
        failed = fsync(fd);
    int saved = errno;
    if (close(fd) && !failed) {
        failed = -1;
        saved = errno;
    }
    if (!failed && rename(temporary, path)) {
        failed = -1;
        saved = errno;
    }
    if (failed)
        (void)unlink(temporary); /* the first failure is the one to report */
    free(temporary);
    errno = saved;
    if (failed)
        return sys_fail(err, path);
    return durable ? agon_dir_sync_parent(path, err) : 0;
}

int agon_dir_make(const char *path, struct agon_err *err)
{
    char *prefix = strdup(path);
    if (!prefix)
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", path);
    int r = 0;
    for (char *p = prefix + 1; *prefix && !r; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (mkdir(prefix, 0777) == 0)
            r = agon_dir_sync_parent(prefix, err);
        else if (errno != EEXIST)
            r = sys_fail(err, prefix);
        if (!end)
            break;
        *p = end;
    }
    free(prefix);
    struct stat st;
    if (!r && (stat(path, &st) || !S_ISDIR(st.st_mode))) {
        errno = ENOTDIR;
        r = sys_fail(err, path);
    }
    return r;
}

static bool name_is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int dir_remove_at(int parent_fd, const char *name, int depth, const char *path,
                         struct agon_err *err);

static int dir_empty(DIR *dir, int depth, const char *path, struct agon_err *err)
{
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry)
            return errno ? sys_fail(err, path) : 0;
        if (name_is_dots(entry->d_name) || unlinkat(dirfd(dir), entry->d_name, 0) == 0)
            continue;
        if (errno != EISDIR && errno != EPERM)
            return sys_fail(err, path);
        int r = dir_remove_at(dirfd(dir), entry->d_name, depth + 1, path, err);
        if (r)
            return r;
    }
}

static int dir_remove_at(int parent_fd, const char *name, int depth, const char *path,
                         struct agon_err *err)
{
    if (depth > DIR_DEPTH_MAX)
        return agon_fail(err, AGON_EINPUT, "%s: folders nested over %d deep", path, DIR_DEPTH_MAX);
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : sys_fail(err, path);
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int r = sys_fail(err, path);
        (void)close(fd);
        return r;
    }
    int r = dir_empty(dir, depth, path, err);
    (void)closedir(dir); /* read only */
    if (!r && unlinkat(parent_fd, name, AT_REMOVEDIR) && errno != ENOENT)
        r = sys_fail(err, path);
    return r;
}

int agon_dir_remove(const char *path, struct agon_err *err)
{
    return dir_remove_at(AT_FDCWD, path, 0, path, err);
}

int agon_dir_sync(const char *path, struct agon_err *err)
{
    int fd AGON_AUTO(agon_fd_closep) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fsync(fd) == 0)
        return 0;
    int saved = errno; /* which says more to the caller than the code */
    int r = sys_fail(err, path);
    errno = saved;
    return r;
}

static int name_is_temporary(const struct dirent *entry)
{
    return strncmp(entry->d_name, FILE_TMP_PREFIX, strlen(FILE_TMP_PREFIX)) == 0;
}

static int name_is_listed(const struct dirent *entry)
{
    return !name_is_dots(entry->d_name) && !name_is_temporary(entry);
}

/* Not alphasort(), whose order is the locale's. */
static int name_order(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int dir_each(const char *path, int (*listed)(const struct dirent *),
                    int (*fn)(const char *name, void *user, struct agon_err *err), void *user,
                    struct agon_err *err)
{
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, listed, name_order);
    if (n < 0)
        return sys_fail(err, path);
    int r = 0;
    for (int i = 0; i < n; i++) {
        if (!r)
            r = fn(entries[i]->d_name, user, err);
        free(entries[i]);
    }
    free(entries);
    return r;
}

int agon_dir_each(const char *path, int (*fn)(const char *name, void *user, struct agon_err *err),
                  void *user, struct agon_err *err)
{
    return dir_each(path, name_is_listed, fn, user, err);
}

static int sweep_one(const char *name, void *user, struct agon_err *err)
{
    const char *dir = user;
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", dir);
    int r = unlink(path) && errno != ENOENT ? sys_fail(err, path) : 0;
    free(path);
    return r;
}

int agon_dir_sweep(const char *path, struct agon_err *err)
{
    return dir_each(path, name_is_temporary, sweep_one, (void *)(uintptr_t)path, err);
}

int agon_program_beside(char *ret, size_t size, const char *name, struct agon_err *err)
{
    ssize_t n = readlink("/proc/self/exe", ret, size - 1);
    if (n < 0)
        return agon_fail(err, AGON_ESYS, "/proc/self/exe: %s", strerror(errno));
    ret[n] = '\0';
    char *slash = strrchr(ret, '/');
    size_t at = slash ? (size_t)(slash - ret) + 1 : 0, length = strlen(name);
    if (length >= size - at)
        return agon_fail(err, AGON_EINPUT, "%s: the path of this program's folder is too long",
                         name);
    memcpy(ret + at, name, length + 1);
    return 0;
}
