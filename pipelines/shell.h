#pragma once
/*
 * The shell over one environment, for verb_shell.c and the files of its commands, shell_*.c. A line
 * is a command with a dot, a call of a tool, or SQL. State is a list of branches (instances, each
 * with a name), of which one is current, and named snapshots.
 *
 * Invariants: 1. a command that can't be done says so in one line that begins with "error: ", is
 * counted, and leaves everything as it was; 2. only what ends the shell is returned (<0); 3. all
 * text of models passes through agon_text_add_plain() or pretty.h before it is printed.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "envs/env.h"
#include "envs/runtime.h"
#include "envs/state.h"

#include <stdio.h>

struct agon_bashbox;
struct agon_corpus;
struct agon_sandbox;
struct shell_transcript; /* shell_transcript.c */

enum { SHELL_TEXT_MAX = 64 << 20, SHELL_BRANCHES_MAX = 1000 };

struct shell_branch {
    char *name;
    struct agon_instance *in;
};
struct shell {
    struct agon_sandbox *sandbox;
    struct agon_env *env;
    struct agon_runtime *rt;
    struct agon_corpus *corpus; /* of which env is part, or NULL */
    struct shell_branch *branches;
    int n_branches, current;
    struct agon_snapshots snapshots;
    const struct agon_task *task; /* borrowed from env, or NULL */
    struct agon_bashbox *bash;    /* opened by the first .bash */
    struct shell_transcript *transcript;
    int width;        /* of a line of output */
    bool colour, raw; /* raw: values as the model gets them */
    bool interactive, over;
    int n_errors;
};

/* ---- shell_print.c ---- */
enum shell_style { SHELL_PLAIN, SHELL_GOOD, SHELL_BAD, SHELL_HEAD, SHELL_DIM };
/* The escapes that begin and end a style; "" without colours. */
const char *shell_on(const struct shell *sh, enum shell_style style);
const char *shell_off(const struct shell *sh);
/* What can't be done, as "error: ..."; returns 0. */
int shell_error(struct shell *sh, const char *fmt, ...) AGON_PRINTF(2, 3);
void shell_heading(const struct shell *sh, const char *text);
/* A value: a table, JSON in lines, or as it is. */
void shell_value(const struct shell *sh, const json_t *value);
/* The same, but never a table, whose cells may be cut. */
void shell_json(const struct shell *sh, const json_t *value);
/* The same of JSON text; what is none is printed as it is. */
void shell_value_text(const struct shell *sh, const char *text);
/* Text wrapped, its further lines indented. */
void shell_text(const struct shell *sh, const char *text, int indent);
/* The same where as many columns as the indent are written already. */
void shell_text_after(const struct shell *sh, const char *text, int indent);
/* One line that is cut to the width: `before` (our own), then a value. */
void shell_line_value(const struct shell *sh, const char *before, const json_t *value);

/* ---- commands: each gets the rest of its line, without spaces around it ---- */
typedef int shell_run(struct shell *sh, const char *rest, struct agon_err *err);
struct shell_command {
    const char *name; /* ".sql" */
    const char *usage, *about;
    const char *more; /* of .help COMMAND; may be NULL */
    shell_run *run;
    char completes; /* what follows: 't'ool, 'T'able, 'k' task, 'c'ommand, 's'napshot, 'b'ranch,
                       'q'uery, 0 nothing */
};
extern const struct shell_command shell_commands[]; /* shell_command.c; ends with {0} */
const struct shell_command *shell_command_find(const char *name, size_t n);
/* One line of input. <0 ends the shell. */
int shell_line(struct shell *sh, char *line, struct agon_err *err);
/* Does a line go on in the next? It ends in a backslash, or in an open bracket of JSON. */
bool shell_line_is_open(const struct shell *sh, const char *line);

shell_run shell_tools, shell_call;                                     /* shell_call.c */
shell_run shell_schema, shell_sql, shell_hash, shell_diff, shell_bash; /* shell_world.c */
shell_run shell_fork, shell_switch, shell_snapshot, shell_reset, shell_undo, shell_writes;
shell_run shell_task, shell_tasks, shell_verify, shell_gold, shell_lua; /* shell_task.c */
shell_run shell_audit;                                                  /* shell_audit.c */
shell_run shell_transcript, shell_step;
int shell_tool_find(const struct shell *sh, const char *name, size_t n); /* -1: none */
/* Name=value pairs or JSON as arguments (new reference), or NULL after an error line. */
json_t *shell_arguments(struct shell *sh, const struct agon_tool *tool, const char *text);

/* ---- shell_state.c ---- */
struct agon_instance *shell_instance(const struct shell *sh);
/* A new branch, which becomes the current one; `in` is taken. */
int shell_branch_add(struct shell *sh, const char *name, struct agon_instance *in,
                     struct agon_err *err);
void shell_state_free(struct shell *sh);

/* ---- shell_task.c ---- */
/* Judge and print; *ret_pass may be NULL. */
int shell_judge(struct shell *sh, struct agon_str answer, const json_t *writes, bool *ret_pass,
                struct agon_err *err);

/* ---- shell_transcript.c ---- */
void shell_transcript_free(struct shell_transcript *t);
bool shell_transcript_waits(const struct shell *sh); /* is there a step to come? */

/* ---- shell_input.c: lines from a terminal or a pipe, history, completion, Ctrl-C ---- */
void shell_input_begin(struct shell *sh);
/* The next line (the caller's), or NULL at the end. */
char *shell_input_line(struct shell *sh, const char *prompt);
void shell_input_end(void);
/* While a command runs, Ctrl-C interrupts it. */
void shell_input_busy(bool busy);
