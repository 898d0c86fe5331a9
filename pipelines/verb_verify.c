/* agon verify: regression over a corpus or environments. */
#include "pipelines/corpus.h"
#include "pipelines/verb.h"
#include "sandbox/cell.h"
#include "verifiers/regress.h"

#include <stdio.h>
#include <unistd.h>

static const struct agon_opt table[] = {{0}};

/* Environments that corpus.db counts as kept but whose folder is gone. */
static int corpus_missing(const char *dir, int *ret_n, struct agon_err *err)
{
    char path[4096];
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = NULL;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_corpus_open_read(&c, dir, err);
    if (r ||
        (r = agon_query_new(&q, agon_corpus_db(c),
                            "SELECT id FROM environments WHERE status = 'kept' ORDER BY id", err)))
        return r;
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        if ((r = agon_corpus_path(c, "environments", agon_query_get_text(q, 0), "env.json", path,
                                  err)))
            return r;
        if (access(path, R_OK)) {
            printf("%s: kept by corpus.db, but %s is missing\n", agon_query_get_text(q, 0), path);
            ++*ret_n;
        }
    }
    return r;
}

static int verify_path(struct agon_sandbox *sb, const char *path,
                       struct agon_regress_report *report, struct agon_err *err)
{
    char at[4096];
    int r = 0;
    snprintf(at, sizeof(at), "%s/corpus.db", path);
    bool is_corpus = access(at, F_OK) == 0;
    if (is_corpus)
        r = corpus_missing(path, &report->n_failures, err);
    snprintf(at, sizeof(at), "%s%s", path, is_corpus ? "/environments" : "");
    if (is_corpus && access(at, F_OK) && !r)
        return agon_fail(err, AGON_EINPUT, "'%s' holds no finished environment yet", path);
    return r ? r : agon_regress_corpus(sb, at, report, err);
}

int agon_verb_verify(int argc, char **argv)
{
    struct agon_err err = {0};
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_sandbox_options so = {0};
    struct agon_regress_report report;
    int n, status;
    if (agon_verb_options(table, &(int){0}, "usage: agon verify CORPUS|ENVIRONMENT_DIR...",
                          "Nothing was altered, every golden answer passes, every solution still"
                          " finds it, every\nnegative fails. Exit status 1 where one does not.",
                          1, 1000, argc, argv, &n, &status))
        return status;
    int r = agon_sandbox_open(&sb, &so, &err);
    agon_regress_report_init(&report);
    for (int i = 1; i <= n && r >= 0; i++)
        r = verify_path(sb, argv[i], &report, &err);
    fputs(agon_buf_text(&report.lines), stdout);
    printf("%d environments, %d tasks, %d negatives: %d failures\n", report.n_envs, report.n_tasks,
           report.n_negatives, report.n_failures);
    bool failed = report.n_failures > 0;
    agon_regress_report_deinit(&report);
    if (r < 0)
        return agon_verb_fail("verify", &err);
    return failed || r ? AGON_EXIT_NO : AGON_EXIT_OK;
}
