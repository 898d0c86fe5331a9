/* agon synth FAMILY: the main job. */
#include "base/log.h"
#include "pipelines/listing.h"
#include "pipelines/novelty.h"
#include "pipelines/run.h"
#include "pipelines/verb.h"

#include <stdio.h>

static void print_end(struct agon_run *run)
{
    struct agon_err err = {0};
    if (agon_listing_kept(run->corpus, stdout, &err))
        agon_log(AGON_LOG_ERROR, "synth", "%s", err.text);
    if (agon_novelty_print(run->corpus, agon_model_dir(run->author), stdout, &err))
        agon_log(AGON_LOG_ERROR, "synth", "%s", err.text);
    const char *dir = agon_corpus_dir(run->corpus);
    printf("\ncorpus: %s\nnext: agon ls %s | agon show %s ENVIRONMENT/TASK | agon verify %s\n", dir,
           dir, dir, dir);
}

int agon_verb_synth(int argc, char **argv)
{
    struct agon_err err = {0};
    struct agon_run run;
    struct agon_run_options o = agon_run_defaults();
    int n = 0, status = 0;
    if (agon_verb_options(
            agon_run_option_table, &o,
            "usage: agon synth general --corpus DIR --category TEXT [OPTION]...",
            "Synthesise environments of a family. The same command again goes on where"
            " a run was\nstopped, even by kill -9.",
            1, 1, argc, argv, &n, &status))
        return status;
    const struct agon_family *family = agon_family_find(argv[1]);
    if (!family) {
        agon_fail(&err, AGON_EINPUT, "no family '%s'; there is: general", argv[1]);
        return agon_verb_fail("synth", &err);
    }
    agon_log_init(o.verbose ? AGON_LOG_DEBUG : AGON_LOG_INFO);
    int r = agon_run_open(&run, &o, family, &err);
    if (!r)
        r = agon_run_all(&run, &err);
    if (!r)
        print_end(&run);
    else
        status = agon_verb_fail("synth", &err);
    agon_run_close(&run);
    if (r == AGON_RUN_LOCKED)
        return AGON_EXIT_LOCKED;
    return r == AGON_RUN_DIFFERS ? AGON_EXIT_REFUSED : status;
}
