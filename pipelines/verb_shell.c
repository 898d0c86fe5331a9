/* agon shell: an environment at work, by hand. The commands are in shell_*.c. */
#include "pipelines/corpus.h"
#include "pipelines/shell.h"
#include "pipelines/verb.h"
#include "sandbox/bashbox.h"
#include "sandbox/cell.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <unistd.h>

struct options {
    const char *task;
    struct agon_opt_list commands;
};
static const struct agon_opt table[] = {
    {.name = "task",
     .type = AGON_OPT_TEXT,
     .offset = offsetof(struct options, task),
     .arg = "ID",
     .help = "choose this task; the first one"},
    {.name = "command",
     .letter = 'c',
     .type = AGON_OPT_LIST,
     .offset = offsetof(struct options, commands),
     .arg = "LINE",
     .help = "run this line and no others; may be given several times"},
    {0},
};

/* libedit and wcwidth() go by LC_CTYPE: some UTF-8, whatever the environment says of the rest. */
static void set_locale(void)
{
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        (void)setlocale(LC_CTYPE, "C.UTF-8"); /* where there is none, widths are a bit off */
}

static int shell_choose(struct shell *sh, const char *task, struct agon_err *err)
{
    if (sh->env->n_tasks > 0)
        sh->task = &sh->env->tasks[0];
    for (int i = 0; task && i < sh->env->n_tasks; i++)
        if (strcmp(sh->env->tasks[i].id, task) == 0) {
            sh->task = &sh->env->tasks[i];
            return 0;
        }
    return task
               ? agon_fail(err, AGON_EINPUT, "environment '%s' has no task '%s'", sh->env->id, task)
               : 0;
}

static int shell_open(struct shell *sh, const char *dir, const char *task, struct agon_err *err)
{
    struct agon_sandbox_options so = {.keep_first = true};
    struct agon_instance *in = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    int r = agon_env_load(&sh->env, dir, err);
    if (r || (r = shell_choose(sh, task, err)) || (r = agon_sandbox_open(&sh->sandbox, &so, err)) ||
        (r = agon_runtime_open(&sh->rt, sh->sandbox, sh->env->world_path, agon_str(sh->env->tools),
                               &reason, err)) < 0)
        return r;
    if (r)
        return agon_fail(err, AGON_ESCRIPT, "%s: its tools do not load: %s", dir,
                         agon_buf_text(&reason));
    r = agon_instance_new(&in, sh->rt, err);
    return r ? r : shell_branch_add(sh, "main", in, err);
}

/* CORPUS and ENVIRONMENT[/TASK], or a folder alone. */
static int shell_place(struct shell *sh, int n, char **argv, const char *task, struct agon_err *err)
{
    char path[4096], id[256];
    if (n == 1)
        return shell_open(sh, argv[1], task, err);
    const char *slash = strchr(argv[2], '/');
    snprintf(id, sizeof(id), "%.*s", slash ? (int)(slash - argv[2]) : 255, argv[2]);
    int r = agon_corpus_open_read(&sh->corpus, argv[1], err);
    if (r)
        return r < 0 ? r : AGON_EINPUT;
    if ((r = agon_corpus_path(sh->corpus, "environments", id, NULL, path, err)))
        return r;
    if (access(path, F_OK))
        return agon_fail(err, AGON_EINPUT, "no finished environment '%s' in '%s'; agon ls %s", id,
                         argv[1], argv[1]);
    return shell_open(sh, path, slash ? slash + 1 : task, err);
}

static void shell_welcome(const struct shell *sh)
{
    printf("%s%s%s: %d tools, %d task%s%s%s. .help lists commands, Tab completes, Ctrl-D ends.\n",
           shell_on(sh, SHELL_HEAD), sh->env->id, shell_off(sh), agon_runtime_n_tools(sh->rt),
           sh->env->n_tasks, sh->env->n_tasks == 1 ? "" : "s", sh->task ? ", chosen: " : "",
           sh->task ? sh->task->id : "");
}

static int shell_loop(struct shell *sh, struct agon_err *err)
{
    char prompt[200];
    int r = 0;
    while (!r && !sh->over) {
        const char *branch = sh->branches[sh->current].name;
        snprintf(prompt, sizeof(prompt), "%.60s%s%.64s> ", sh->env->id, sh->current ? ":" : "",
                 sh->current ? branch : "");
        char *line = shell_input_line(sh, prompt);
        if (!line)
            break;
        r = shell_line(sh, line, err);
        fflush(stdout);
        free(line);
    }
    return r;
}

static int shell_commands_run(struct shell *sh, const struct agon_opt_list *commands,
                              struct agon_err *err)
{
    int r = 0;
    for (int i = 0; i < commands->n && !r && !sh->over; i++) {
        char *line = strdup(commands->items[i]);
        r = line ? shell_line(sh, line, err) : agon_fail(err, AGON_ENOMEM, "shell: out of memory");
        free(line);
    }
    return r;
}

static const char about[] =
    "An environment at work: call its tools, read and change its world, judge answers, go through\n"
    "stored rollouts. On a terminal with history and completion; from a pipe or --command without\n"
    "a prompt, and the exit status is 1 where a command failed. `.help` lists the commands.";

int agon_verb_shell(int argc, char **argv)
{
    struct agon_err err = {0};
    struct shell sh = {0};
    struct options o = {0};
    int n, status;
    if (agon_verb_options(table, &o,
                          "usage: agon shell ENVIRONMENT_DIR [OPTION]...\n"
                          "       agon shell CORPUS ENVIRONMENT[/TASK] [OPTION]...",
                          about, 1, 2, argc, argv, &n, &status))
        return status;
    set_locale();
    sh.interactive = o.commands.n == 0 && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    int r = shell_place(&sh, n, argv, o.task, &err);
    if (!r) {
        shell_input_begin(&sh);
        if (sh.interactive)
            shell_welcome(&sh);
        r = o.commands.n ? shell_commands_run(&sh, &o.commands, &err) : shell_loop(&sh, &err);
        shell_input_end();
    }
    shell_transcript_free(sh.transcript);
    shell_state_free(&sh);
    agon_bashbox_close(sh.bash);
    agon_runtime_free(sh.rt);
    agon_env_free(sh.env);
    agon_sandbox_close(sh.sandbox);
    agon_corpus_close(sh.corpus);
    if (r)
        return agon_verb_fail("shell", &err);
    return !sh.interactive && sh.n_errors ? AGON_EXIT_NO : AGON_EXIT_OK;
}
