/* agon merge: the parts of a split run, or several corpora, as one. */
#include "pipelines/corpus.h"
#include "pipelines/merge.h"
#include "pipelines/verb.h"

#include <limits.h>
#include <stdio.h>

static const struct agon_opt table[] = {{0}};

int agon_verb_merge(int argc, char **argv)
{
    struct agon_err err = {0};
    struct agon_merge_report report;
    int n, status, none = 0;
    if (agon_verb_options(
            table, &none, "usage: agon merge CORPUS PART...",
            "Makes CORPUS of the corpora PART..., which stay as they are. Parts that --rank split"
            " off one\nrun give what the run without --ranks makes, to the digest. Corpora of"
            " different runs are\nput side by side; their environments must have different"
            " names. Near-duplicates across\nall parts leave.",
            2, INT_MAX, argc, argv, &n, &status))
        return status;
    int r = agon_merge(&report, argv[1], argv + 2, n - 1, &err);
    if (r == AGON_CORPUS_LOCKED) {
        agon_verb_fail("merge", &err);
        return AGON_EXIT_LOCKED;
    }
    if (r)
        return agon_verb_fail("merge", &err);
    printf("%d environments and %d tasks of %d %s", report.environments, report.tasks, n - 1,
           report.ranks ? "ranks" : "corpora");
    if (report.duplicates)
        printf(", %d near-duplicates left out", report.duplicates);
    printf("\nnext: agon ls %s | agon verify %s\n", argv[1], argv[1]);
    return AGON_EXIT_OK;
}
