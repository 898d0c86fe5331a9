/* Options of a run: see run.h. */
#include "pipelines/run.h"

#include "pipelines/verb.h"
#include "synth/solver.h"

#define OPT(n, l, t, f, lo, hi, a, h)                                                      \
    {                                                                                      \
        .name = n, .letter = l, .type = t, .offset = offsetof(struct agon_run_options, f), \
        .min = lo, .max = hi, .arg = a, .help = h                                          \
    }
#define TEXT(n, f, a, h)        OPT(n, 0, AGON_OPT_TEXT, f, 0, 0, a, h)
#define LIST(n, f, a, h)        OPT(n, 0, AGON_OPT_LIST, f, 0, 0, a, h)
#define INT(n, f, lo, hi, a, h) OPT(n, 0, AGON_OPT_INT, f, lo, hi, a, h)
#define REAL(n, f, lo, hi, h)   OPT(n, 0, AGON_OPT_REAL, f, lo, hi, "X", h)
#define FLAG(n, f, h)           OPT(n, 0, AGON_OPT_FLAG, f, 0, 0, NULL, h)

const struct agon_opt agon_run_option_table[] = {
    TEXT("corpus", corpus, "DIR", "folder of the corpus; made if missing, resumed if begun"),
    TEXT("categories", categories_file, "FILE",
         "categories, one \"id: description\" a line, or JSON"),
    LIST("category", category, "TEXT", "one category, \"id: description\" or a description alone"),
    LIST("source", source, "PLACE", "folder or file to index, or http(s) URL to crawl, for search"),
    LIST("allow-host", allow_host, "HOST",
         "private host that may be fetched from, like 127.0.0.1:8080"),
    TEXT("searxng", searxng, "URL", "ask this SearXNG-compatible endpoint as well"),
    TEXT("library", library, "DIR",
         "where the index and fetched documents are kept; DIR/library of the corpus"),
    INT("crawl-pages", crawl_pages, 1, 1000000, "N", "most pages of a crawled source"),
    INT("delay-ms", delay_ms, -1, 600000, "N",
        "least time between requests to one host; -1: 1000, allowed hosts 0"),
    TEXT("model", model, "SPEC",
         "local:DIR, http(s)://.../v1, exec:COMMAND, replay:FILE; the embedded checkpoint"),
    TEXT("author", author, "SPEC", "another model for the author"),
    TEXT("solver", solver, "SPEC", "another model for the solver"),
    TEXT("model-name", model_name, "NAME", "the model's name at an HTTP server"),
    TEXT("device", device, "cpu|cuda", AGON_VERB_DEVICE),
    TEXT("record", record, "FILE",
         "record every completion, for replay:FILE (FILE.solver for --solver)"),
    TEXT("prompts", prompts, "DIR", "prompt files to use instead of the built-in ones"),
    OPT("seed", 's', AGON_OPT_INT, seed, 0, 9e15, "N", "everything random is a function of it"),
    INT("levels", levels, 1, 9, "N", "most levels of a task line"),
    INT("lines", lines, 1, 9, "N", "task lines of an environment"),
    INT("tries", tries, 1, 100, "N", "samples of a stage before it is given up"),
    INT("rollouts", rollouts, 1, 10000, "N", "rollouts of a task that always run"),
    INT("rollouts-max", rollouts_max, 1, 10000, "N", "where none passes, go on to so many"),
    FLAG("estimate", estimate, "run all --rollouts-max of every task"),
    TEXT("band", band, "LO,HI", "keep tasks with a pass rate from LO to HI only"),
    REAL("temperature", temperature, 0, 5, "of the author"),
    REAL("solver-temperature", solver_temperature, 0, 5, "of the solver"),
    REAL("top-p", top_p, 0.01, 1, "of both"),
    INT("top-k", top_k, 0, 1000000, "N", "of both; 0: off"),
    INT("turn-tokens", turn_tokens, 0, 10000000, "N", "most tokens of a turn; 0: by the window"),
    TEXT("context", context, "HOW", AGON_VERB_CONTEXT),
    INT("trajectories", trajectories, 1, AGON_TRAJECTORIES_MAX, "N", AGON_VERB_TRAJECTORIES),
    INT("jobs", jobs, 1, 1000, "N", "categories worked on at once"),
    INT("parallel", parallel, 1, 10000, "N", "episodes of rollouts in flight at once"),
    OPT("threads", 'j', AGON_OPT_INT, threads, 0, 1024, "N",
        "threads of a local model; 0: one a core"),
    INT("cache-mb", cache_mb, 0, 1 << 24, "MB", AGON_VERB_CACHE),
    INT("rank", rank, 0, 999999, "R", "of --ranks: work on this part of the categories"),
    INT("ranks", ranks, 1, 1000000, "N", "parts that the categories are split into"),
    OPT("verbose", 'v', AGON_OPT_FLAG, verbose, 0, 0, NULL, "say more on stderr"),
    {0},
};

struct agon_run_options agon_run_defaults(void)
{
    return (struct agon_run_options){
        .seed = 1,
        .levels = 5,
        .lines = 2,
        .tries = 4,
        .rollouts = 16,
        .rollouts_max = 100,
        .temperature = 0.7,
        .solver_temperature = 1,
        .top_p = 1,
        .context = "discard-75",
        .trajectories = AGON_TRAJECTORIES_DEFAULT,
        .crawl_pages = 500,
        .delay_ms = -1,
        .jobs = 8,
        .parallel = 64,
        .ranks = 1,
    };
}
