#pragma once
/*
 * The bash box: one resident box for an author's stage. Commands run under bash
 * with a root file system that is read-only, no network, a sized tmpfs at
 * /work (the working directory, where the world and files made by commands
 * live), documents fetched so far read-only at /docs, nothing inherited.
 *
 * Limits on a command: its timeout, 256 KiB of output, 128 processes with 1 GiB of
 * address space each and 2 GiB resident together, 100,000 files. Nothing that it
 * started outlives it. Where agon runs as root, documents must be readable by others.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct agon_sandbox;
struct agon_bashbox;

struct agon_bashbox_options {
    const char *docs_dir;   /* host directory shown read-only at /docs; NULL: none */
    const char *world_path; /* copied to /work/world.db at the start; NULL: none */
    size_t work_bytes_max;  /* 0: 256 MiB */
};

int agon_bashbox_open(struct agon_bashbox **ret, struct agon_sandbox *sb,
                      const struct agon_bashbox_options *options,
                      struct agon_err *err) AGON_MUST_USE;
void agon_bashbox_close(struct agon_bashbox *b); /* nothing of it is left; NULL is fine */
AGON_DEFINE_FREEP(struct agon_bashbox, agon_bashbox_close)

struct agon_bash_result {
    int exit_status; /* 128 + signal when killed */
    bool timed_out, output_capped;
    int64_t wall_ms;
    struct agon_buf output; /* stdout and stderr as they came, valid UTF-8, capped; owned */
};
void agon_bash_result_deinit(struct agon_bash_result *r);
enum { AGON_BASHBOX_LOST = 1 }; /* the box died: infrastructure */
int agon_bashbox_run(struct agon_bashbox *b, struct agon_str command, int timeout_ms,
                     struct agon_bash_result *ret, struct agon_err *err) AGON_MUST_USE;
/* Read back a file below /work: regular files only, no links, at most size_max bytes.
 * Returns 0, 1 when there is no such regular file or it is too big (reason in err's text), or <0.
 */
int agon_bashbox_read(struct agon_bashbox *b, const char *name, size_t size_max,
                      struct agon_buf *content, struct agon_err *err) AGON_MUST_USE;
/* Put a file below /work. */
int agon_bashbox_write(struct agon_bashbox *b, const char *name, struct agon_str content,
                       struct agon_err *err) AGON_MUST_USE;
