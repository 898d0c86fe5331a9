#pragma once
/*
 * What the verbs of `agon` share: exit codes by kind, one error line, options.
 * A verb is one file, verb_<name>.c, with one function; argv[0] is the verb's name.
 */
#include "base/err.h"
#include "base/opt.h"

enum agon_exit {
    AGON_EXIT_OK = 0,
    AGON_EXIT_NO =
        1, /* the question that was asked has the answer no (verify: something is wrong) */
    AGON_EXIT_INPUT = 2,   /* usage, or bytes from outside that break their format */
    AGON_EXIT_SYSTEM = 3,  /* disk, memory, processes, no box, SQLite */
    AGON_EXIT_LOCKED = 4,  /* another driver works on this corpus */
    AGON_EXIT_MODEL = 5,   /* a model's server, program, recording or device failed */
    AGON_EXIT_REFUSED = 6, /* this corpus was begun with other settings */
};

int agon_verb_synth(int argc, char **argv);
int agon_verb_solve(int argc, char **argv);
int agon_verb_verify(int argc, char **argv);
int agon_verb_replay(int argc, char **argv);
int agon_verb_audit(int argc, char **argv);
int agon_verb_merge(int argc, char **argv);
int agon_verb_hash(int argc, char **argv);
int agon_verb_log(int argc, char **argv);
int agon_verb_ls(int argc, char **argv);
int agon_verb_show(int argc, char **argv);
int agon_verb_shell(int argc, char **argv);
int agon_verb_model(int argc, char **argv);
/* agon model ...: verb_model_<name>.c */
int agon_verb_model_chat(int argc, char **argv);
int agon_verb_model_info(int argc, char **argv);
int agon_verb_model_bench(int argc, char **argv);
int agon_verb_model_logits(int argc, char **argv);
int agon_verb_model_sample(int argc, char **argv);
int agon_verb_model_serve(int argc, char **argv);
int agon_verb_model_check(int argc, char **argv);
int agon_verb_model_random(int argc, char **argv);
int agon_verb_model_score(int argc, char **argv);
int agon_verb_model_encode(int argc, char **argv);
int agon_verb_model_parse(int argc, char **argv);
int agon_verb_model_tokenize(int argc, char **argv);
int agon_verb_model_dequantize(int argc, char **argv);

/* The help of --device, wherever a local model runs. */
#define AGON_VERB_DEVICE \
    "where a local model runs: cpu, cuda, cuda:fp8 (e4m3 weights stay), or cuda:reference (F32)"
#define AGON_VERB_CACHE "memory for what sequences keep; 0: half of the machine's, 80% of a GPU's"
/* Help of --context and --trajectories. */
#define AGON_VERB_CONTEXT "when the window fills: " AGON_CONTEXT_NAMES
#define AGON_VERB_TRAJECTORIES \
    "of a rollout under parallel-fewest-step: the one that answers in the fewest turns counts"

/* A verb and, in a list that ends with {0}, its group. */
struct agon_verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about; /* one line of --help */
};
/* Run argv[1] of a group ("agon", "agon model"); prints the list for --help. */
int agon_verb_run(const char *group, const struct agon_verb *verbs, const char *about, int argc,
                  char **argv);

/* All of standard input, appended to b (its maximum is the limit). */
int agon_verb_read_input(struct agon_buf *b, struct agon_err *err);
/* The exit code of an error, which is printed as one line on stderr. */
int agon_verb_fail(const char *verb, const struct agon_err *err);
/*
 * Parse options and demand n_min..n_max positional arguments (they are then argv[1..]).
 * Returns 0 with *ret_n, or 1 when the verb is over and *ret_exit is its exit status
 * (--help was printed, or usage was wrong).
 */
int agon_verb_options(const struct agon_opt *table, void *options, const char *usage,
                      const char *about, int n_min, int n_max, int argc, char **argv, int *ret_n,
                      int *ret_exit);
