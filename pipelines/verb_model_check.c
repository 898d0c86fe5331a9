/* agon model check, random: a checkpoint folder against its config.json, and folders to check. */
#include "model/check.h"
#include "model/random.h"
#include "pipelines/verb.h"

#include <stddef.h>
#include <stdio.h>

struct check_options {
    int64_t problems;
};
struct problems {
    int64_t n, n_max;
};

static void print_problem(void *user, const char *text)
{
    struct problems *p = user;
    if (p->n++ < p->n_max)
        printf("%s\n", text);
}

int agon_verb_model_check(int argc, char **argv)
{
    static const struct agon_opt table[] = {{"problems", 'n', AGON_OPT_INT,
                                             offsetof(struct check_options, problems), 0, 1e9, "N",
                                             "print at most this many"},
                                            {0}};
    static const char about[] =
        "Names, shapes, dtypes, FP8 scales and index of all tensors against config.json; reads "
        "headers\nonly. A line for each problem; exit status 1 where there is one.";
    struct check_options o = {.problems = 100};
    struct agon_check result;
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(table, &o, "agon model check DIR", about, 1, 1, argc, argv, &n, &status))
        return status;
    struct problems problems = {.n_max = o.problems};
    if (agon_check(argv[1], print_problem, &problems, &result, &err))
        return agon_verb_fail("check", &err);
    printf("%llu tensors in %d files, %llu parameters and %llu scales (%llu of the parameters "
           "predict ahead), "
           "%.1f GB: ",
           (unsigned long long)result.n_tensors, result.n_files,
           (unsigned long long)result.n_parameters, (unsigned long long)result.n_scales,
           (unsigned long long)result.n_predict, (double)result.bytes * 1e-9);
    if (result.n_problems == 0)
        printf("complete\n");
    else
        printf("%llu problems\n", (unsigned long long)result.n_problems);
    return result.n_problems ? AGON_EXIT_NO : AGON_EXIT_OK;
}

struct random_options {
    const char *config, *tokenizer;
    int64_t shards, seed;
    bool hollow;
};

int agon_verb_model_random(int argc, char **argv)
{
    static const struct agon_opt table[] = {
        {"config", 'c', AGON_OPT_TEXT, offsetof(struct random_options, config), 0, 0, "FILE",
         "the config.json to follow"},
        {"tokenizer", 't', AGON_OPT_TEXT, offsetof(struct random_options, tokenizer), 0, 0, "FILE",
         "a tokenizer.json to put beside it"},
        {"shards", 's', AGON_OPT_INT, offsetof(struct random_options, shards), 1, 1000, "N",
         "files to cut the weights into"},
        {"seed", 0, AGON_OPT_INT, offsetof(struct random_options, seed), 0, 0, "N",
         "of the values"},
        {"hollow", 0, AGON_OPT_FLAG, offsetof(struct random_options, hollow), 0, 0, NULL,
         "headers alone: files of full size that take no room"},
        {0}};
    static const char about[] =
        "Writes a checkpoint of random weights in the published layout: to load and to measure.";
    struct random_options o = {.shards = 1, .seed = 1};
    struct agon_err err = {0};
    uint64_t bytes;
    int n, status;
    if (agon_verb_options(table, &o, "agon model random DIR --config FILE", about, 1, 1, argc, argv,
                          &n, &status))
        return status;
    struct agon_random_options options = {.config_path = o.config,
                                          .tokenizer_path = o.tokenizer,
                                          .n_shards = (int)o.shards,
                                          .seed = (uint64_t)o.seed,
                                          .hollow = o.hollow};
    if (!o.config) {
        (void)agon_fail(&err, AGON_EINPUT, "--config FILE is missing");
        return agon_verb_fail("random", &err);
    }
    if (agon_random_write(argv[1], &options, &bytes, &err))
        return agon_verb_fail("random", &err);
    printf("%s: %.3f GB of weights\n", argv[1], (double)bytes * 1e-9);
    return AGON_EXIT_OK;
}
