#pragma once
/*
 * One table for each options struct feeds the command line (getopt_long), JSON
 * configuration, --help and the dump of the configuration in use.
 */
#include "base/err.h"
#include "base/json.h"

#include <stddef.h>

enum agon_opt_type {
    AGON_OPT_FLAG, /* bool */
    AGON_OPT_INT,  /* int64_t, min..max */
    AGON_OPT_REAL, /* double, min..max */
    AGON_OPT_TEXT, /* const char *, borrowed from argv or owned by the table's user */
    AGON_OPT_LIST, /* struct agon_opt_list: may be given several times */
};
enum { AGON_OPT_LIST_MAX = 32 };
struct agon_opt_list {
    int n;
    const char *items[AGON_OPT_LIST_MAX];
};
struct agon_opt {
    const char *name; /* "threads"; --threads on the command line */
    char letter;      /* 'j', or 0 */
    enum agon_opt_type type;
    size_t offset;   /* in the options struct */
    double min, max; /* INT and REAL; 0 and 0: any */
    const char *arg; /* "N" in the help */
    const char *help;
};
/* A table ends with {0}. */

enum { AGON_OPT_HELP = 1 };
/*
 * Parse argv[1..]; *ret_n_args positional arguments are moved to argv[1..n].
 * Returns 0, AGON_OPT_HELP when --help was asked for (the caller prints it), or
 * AGON_EINPUT with "--threads: 'x' is not a number from 1 to 64".
 */
int agon_opt_parse(const struct agon_opt *table, void *options, int argc, char **argv,
                   int *ret_n_args, struct agon_err *err) AGON_MUST_USE;
/* Set what a JSON object names, under the same ranges; texts are borrowed from
 * it. An unknown key is AGON_EINPUT. */
int agon_opt_load(const struct agon_opt *table, void *options, const json_t *object,
                  struct agon_err *err) AGON_MUST_USE;
/* "usage: agon VERB ..." then a line for each option with its default. */
void agon_opt_help(struct agon_buf *b, const struct agon_opt *table, const void *defaults,
                   const char *usage, const char *about);
/* The options in use as a JSON object (new reference); NULL when out of memory,
 * or when a text in them is no UTF-8. */
json_t *agon_opt_dump(const struct agon_opt *table, const void *options);
