/* agon ls: the environments of a corpus, or the tasks of one. */
#include "pipelines/corpus.h"
#include "pipelines/listing.h"
#include "pipelines/verb.h"

static const struct agon_opt table[] = {{0}};

int agon_verb_ls(int argc, char **argv)
{
    struct agon_err err = {0};
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = NULL;
    int n, status;
    if (agon_verb_options(table, &(int){0}, "usage: agon ls CORPUS [ENVIRONMENT]",
                          "Environments with their status, or the tasks of one with their rates.",
                          1, 2, argc, argv, &n, &status))
        return status;
    int r = agon_corpus_open_read(&c, argv[1], &err);
    if (!r)
        r = n > 1 ? agon_listing_tasks(c, argv[2], stdout, &err)
                  : agon_listing_environments(c, stdout, &err);
    return r ? agon_verb_fail("ls", &err) : AGON_EXIT_OK;
}
