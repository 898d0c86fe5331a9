/* agon hash: one digest of a corpus, or the lines that it is made of. */
#include "pipelines/corpus.h"
#include "pipelines/verb.h"

#include <stdio.h>

struct options {
    bool dump;
};
static const struct agon_opt table[] = {
    {.name = "dump",
     .type = AGON_OPT_FLAG,
     .offset = offsetof(struct options, dump),
     .help = "print the ordered dump of corpus.db that goes into the digest"},
    {0},
};

static int print_line(void *user, struct agon_str text)
{
    return fwrite(text.data, 1, text.size, user) == text.size ? 0 : AGON_ESYS;
}

int agon_verb_hash(int argc, char **argv)
{
    struct agon_err err = {0};
    struct options o = {0};
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = NULL;
    char hex[65];
    int n, status;
    if (agon_verb_options(table, &o, "usage: agon hash CORPUS [--dump]",
                          "Equal for equal seed, inputs, build and instruction set, whatever the"
                          " threads or kills.",
                          1, 1, argc, argv, &n, &status))
        return status;
    int r = agon_corpus_open_read(&c, argv[1], &err);
    if (!r && o.dump)
        r = agon_corpus_dump(c, print_line, stdout, &err);
    else if (!r && !(r = agon_corpus_hash(c, hex, &err)))
        puts(hex);
    return r ? agon_verb_fail("hash", &err) : AGON_EXIT_OK;
}
