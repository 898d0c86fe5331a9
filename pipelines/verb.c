/* What verbs share: see verb.h. */
#include "pipelines/verb.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HELP_BYTES_MAX = 64 << 10 };

int agon_verb_read_input(struct agon_buf *b, struct agon_err *err)
{
    char chunk[65536];
    ssize_t n;
    while ((n = read(STDIN_FILENO, chunk, sizeof(chunk))) > 0)
        agon_buf_add(b, chunk, (size_t)n);
    if (n < 0)
        return agon_fail(err, AGON_ESYS, "standard input: %s", strerror(errno));
    return agon_buf_check(b, "standard input", err);
}

static int exit_of(int code)
{
    switch (code) {
    case AGON_EINPUT:
    case AGON_ESCRIPT: return AGON_EXIT_INPUT;
    case AGON_EMODEL:
    case AGON_EDEVICE: return AGON_EXIT_MODEL;
    default: return AGON_EXIT_SYSTEM;
    }
}

int agon_verb_fail(const char *verb, const struct agon_err *err)
{
    /* what else went wrong went wrong for that */
    bool memory = agon_memory_ran_out();
    agon_progress_end();
    agon_log(AGON_LOG_ERROR, verb, "%s%s",
             memory && !strstr(err->text, "memory") ? "out of memory: " : "", err->text);
    return memory ? AGON_EXIT_SYSTEM : exit_of(err->code);
}

static void verbs_help(const char *group, const struct agon_verb *verbs, const char *about,
                       FILE *to)
{
    fprintf(to, "usage: %s VERB [ARGUMENT]...\n%s\n\n", group, about);
    for (const struct agon_verb *v = verbs; v->name; v++)
        fprintf(to, "  %-9s %s\n", v->name, v->about);
    fprintf(to, "\n%s VERB --help tells more.\n", group);
}

int agon_verb_run(const char *group, const struct agon_verb *verbs, const char *about, int argc,
                  char **argv)
{
    if (argc < 2) {
        verbs_help(group, verbs, about, stderr);
        return AGON_EXIT_INPUT;
    }
    for (const struct agon_verb *v = verbs; v->name; v++)
        if (strcmp(v->name, argv[1]) == 0)
            return v->run(argc - 1, argv + 1);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        verbs_help(group, verbs, about, stdout);
        return AGON_EXIT_OK;
    }
    agon_log(AGON_LOG_ERROR, group, "no verb '%s'; %s --help lists them", argv[1], group);
    return AGON_EXIT_INPUT;
}

int agon_verb_options(const struct agon_opt *table, void *options, const char *usage,
                      const char *about, int n_min, int n_max, int argc, char **argv, int *ret_n,
                      int *ret_exit)
{
    struct agon_err err = {0};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(HELP_BYTES_MAX);
    int n = 0;
    agon_opt_help(&b, table, options, usage, about); /* before parsing: shows the defaults */
    int r = agon_opt_parse(table, options, argc, argv, &n, &err);
    if (r == AGON_OPT_HELP) {
        fputs(agon_buf_text(&b), stdout);
        *ret_exit = AGON_EXIT_OK;
        return 1;
    }
    if (r == 0 && (n < n_min || n > n_max))
        r = agon_fail(&err, AGON_EINPUT, "%s; %s",
                      n < n_min ? "something is missing" : "too many arguments", usage);
    if (r) {
        *ret_exit = agon_verb_fail(argv[0], &err);
        return 1;
    }
    *ret_n = n;
    return 0;
}
