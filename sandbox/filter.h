#pragma once
/*
 * The two system call filters. The box's is a list of what is refused, loaded by
 * bubblewrap before it starts the program: it must let a dynamic linker, or bash and
 * its commands, work. The cell's is a list of some 15 calls that are left, loaded by
 * the worker once it has started and before it reads its first request.
 */
#include "base/buf.h"
#include "base/err.h"

/* Append the box's filter as BPF, for bubblewrap's --seccomp. */
int agon_filter_box(struct agon_buf *b, struct agon_err *err) AGON_MUST_USE;
/* Load the cell's filter into this process, for good. */
int agon_filter_cell_load(struct agon_err *err) AGON_MUST_USE;
