#pragma once
/*
 * The runner: the first process of a bash box. It starts bash for each command, ends
 * all that a command leaves behind, and reads and writes files below /work for the
 * driver. What it says is untrusted like all that comes out of a box.
 *
 * Requests and replies are these structs followed by bytes: run - the command, the
 * output; read - the name, the content or the reason why not; write - the name and
 * the content, nothing or the reason.
 */
#include <stddef.h>
#include <stdint.h>

enum {
    AGON_RUNNER_OUTPUT_MAX = 256 << 10,
    AGON_RUNNER_PIECE_MAX = 16 << 20, /* of a file, in one frame */
    AGON_RUNNER_FILES_MAX = 100000,   /* in the box's writable places together */
    AGON_RUNNER_PROCESSES_MAX = 128,
    AGON_RUNNER_TERMINALS_MAX = 32,   /* all boxes and the host share 4,096 */
    AGON_RUNNER_MIB_MAX = 2048,       /* resident, of all processes together */
};

struct agon_runner_run {
    int32_t timeout_ms;
};
struct agon_runner_ran {
    int64_t wall_ms;
    int32_t exit_status;
    uint8_t timed_out, output_capped, over_memory, over_files, over_terminals;
};
struct agon_runner_file {
    uint64_t offset, size_max; /* size_max: read */
    uint32_t name_size, zero;  /* write */
};
struct agon_runner_done {
    int64_t file_size; /* -1: refused, and the bytes are the reason */
};

/* main() of agon-cell in a bash box. file_bytes_max bounds each file. */
int agon_runner_main(size_t file_bytes_max);
