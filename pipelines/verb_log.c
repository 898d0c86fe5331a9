/* agon log: the events of a run, in the order of environments and of what happened in each. */
#include "pipelines/corpus.h"
#include "pipelines/listing.h"
#include "pipelines/verb.h"

#include <stdio.h>

struct options {
    const char *kind, *stage;
};
static const struct agon_opt table[] = {
    {.name = "kind",
     .type = AGON_OPT_TEXT,
     .offset = offsetof(struct options, kind),
     .arg = "KIND",
     .help = "only events of this kind, like refused"},
    {.name = "stage",
     .type = AGON_OPT_TEXT,
     .offset = offsetof(struct options, stage),
     .arg = "STAGE",
     .help = "only events of this stage, like t1_l2"},
    {0},
};

static int print_events(struct agon_corpus *c, const char *environment, const struct options *o,
                        struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(c),
                           "SELECT environment, seq, stage, kind, detail FROM events"
                           " WHERE environment = coalesce(?1, environment)"
                           " AND kind = coalesce(?2, kind) AND stage = coalesce(?3, stage)"
                           " ORDER BY environment, seq",
                           err);
    if (r)
        return r;
    agon_query_text(q, 1, environment);
    agon_query_text(q, 2, o->kind);
    agon_query_text(q, 3, o->stage);
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        printf("%s %d %s %s ", agon_query_get_text(q, 0), (int)agon_query_get_int(q, 1),
               agon_query_get_text(q, 2), agon_query_get_text(q, 3));
        agon_listing_text(stdout, agon_query_get_text(q, 4), 2000);
        putchar('\n');
    }
    return r;
}

int agon_verb_log(int argc, char **argv)
{
    struct agon_err err = {0};
    struct options o = {0};
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = NULL;
    int n, status;
    if (agon_verb_options(table, &o, "usage: agon log CORPUS [ENVIRONMENT] [OPTION]...",
                          "One line an event: environment, number, stage, kind, details as JSON.",
                          1, 2, argc, argv, &n, &status))
        return status;
    int r = agon_corpus_open_read(&c, argv[1], &err);
    if (!r)
        r = print_events(c, n > 1 ? argv[2] : NULL, &o, &err);
    return r ? agon_verb_fail("log", &err) : AGON_EXIT_OK;
}
