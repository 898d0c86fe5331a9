/* agon: the command. One file a verb; see verb.h. */
#include "base/log.h"
#include "base/memory.h"
#include "pipelines/verb.h"

#include <signal.h>

static const struct agon_verb verbs[] = {
    {"synth", agon_verb_synth, "make environments and tasks from categories: the main job"},
    {"solve", agon_verb_solve, "run a solver on the tasks of an environment or a corpus"},
    {"verify", agon_verb_verify, "check a corpus or an environment, for people and for CI"},
    {"replay", agon_verb_replay, "make the calls of stored rollouts again and compare results"},
    {"audit", agon_verb_audit, "every gate and more over a corpus: a score card for each task"},
    {"ls", agon_verb_ls, "list environments and tasks with their rates"},
    {"show", agon_verb_show, "show an environment, a task, a stage or a rollout"},
    {"log", agon_verb_log, "print what happened in a run"},
    {"merge", agon_verb_merge, "join the parts of a split run, or several corpora"},
    {"hash", agon_verb_hash, "digest a corpus: equal for equal seed, inputs and build"},
    {"shell", agon_verb_shell, "run the tools, SQL and checks of an environment by hand"},
    {"model", agon_verb_model, "talk to a model, measure it, hold it against others"},
    {0},
};

int main(int argc, char **argv)
{
    agon_log_init(AGON_LOG_INFO);
    signal(SIGPIPE, SIG_IGN); /* a model's program that ends is an error, no end of ours */
    signal(SIGXFSZ, SIG_IGN); /* as is a file over its limit */
    agon_memory_watch_json();
    int status =
        agon_verb_run("agon", verbs,
                      "Makes environments that agents can be trained in: a world of real data, "
                      "tools over it,\nand tasks that are hard to solve and easy to verify.",
                      argc, argv);
    if (status == AGON_EXIT_OK && agon_memory_ran_out()) {
        agon_log(AGON_LOG_ERROR, "agon", "out of memory: what was printed may not be whole");
        return AGON_EXIT_SYSTEM;
    }
    return status;
}
