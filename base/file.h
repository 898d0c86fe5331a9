#pragma once
/*
 * Files: whole reads with a limit, atomic writes (temporary name, fsync, rename),
 * and reads below a directory that follow no link out of it.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* Read the whole of a regular file into b (appended; b is as before on failure). AGON_ESYS names
 * the path; AGON_EINPUT when it is over size_max or no regular file. */
int agon_file_read(struct agon_buf *b, const char *path, size_t size_max,
                   struct agon_err *err) AGON_MUST_USE;
/* The same beneath dir_fd: openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV). */
int agon_file_read_at(struct agon_buf *b, int dir_fd, const char *name, size_t size_max,
                      struct agon_err *err) AGON_MUST_USE;
/* Write to a temporary name beside path (".agon-tmp-..."), fsync when durable, rename over path. */
int agon_file_write(const char *path, struct agon_str content, bool durable,
                    struct agon_err *err) AGON_MUST_USE;
/* All of s to fd, however many writes that takes. 0, or -1 with errno. */
int agon_fd_write(int fd, struct agon_str s) AGON_MUST_USE;
/* mkdir -p; what it made is still there after a power loss. */
int agon_dir_make(const char *path, struct agon_err *err) AGON_MUST_USE;
/* rm -r of a directory that agon made; follows no link; a missing one is fine. */
int agon_dir_remove(const char *path, struct agon_err *err) AGON_MUST_USE;
/* cp -r of regular files and folders, synced, into place whole; a folder `to` that is there is
 * replaced. What is neither file nor folder is AGON_EINPUT. What a killed copy left lies beside as
 * TO.agon-tmp. */
int agon_dir_copy(const char *from, const char *to, struct agon_err *err) AGON_MUST_USE;
int agon_dir_sync(const char *path, struct agon_err *err) AGON_MUST_USE;
/* Sync the folder that path's name stands in, so that it is found after a power loss. One that
 * may not be read, or whose file system syncs no folders, is left: nothing better can be had. */
int agon_dir_sync_parent(const char *path, struct agon_err *err) AGON_MUST_USE;
/* Call fn(name, user) for each entry in bytewise order of names, without ".", ".." and the
 * temporary names that a killed agon_file_write() left. A non-zero result of fn ends the walk
 * and is returned. */
int agon_dir_each(const char *path, int (*fn)(const char *name, void *user, struct agon_err *err),
                  void *user, struct agon_err *err) AGON_MUST_USE;
/* Remove the temporary names that killed writers left in a folder that nobody else writes to. */
int agon_dir_sweep(const char *path, struct agon_err *err) AGON_MUST_USE;
/* The path of `name` in the folder where this program lies. AGON_ESYS; AGON_EINPUT: too long. */
int agon_program_beside(char *ret, size_t size, const char *name,
                        struct agon_err *err) AGON_MUST_USE;
/* AGON_AUTO for descriptors; -1 is "none". */
void agon_fd_closep(int *fd);
