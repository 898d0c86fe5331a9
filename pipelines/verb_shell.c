/* agon shell: an environment at work, by hand: its tools, SQL, Lua and checks. Reads lines
 * from a terminal or a pipe. */
#include "base/json.h"
#include "envs/env.h"
#include "envs/runtime.h"
#include "pipelines/listing.h"
#include "pipelines/verb.h"
#include "sandbox/cell.h"
#include "synth/render.h"
#include "verifiers/verdict.h"

#include <editline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TEXT_BYTES_MAX = 16 << 20 };

struct shell {
    struct agon_sandbox *sandbox;
    struct agon_env *env;
    struct agon_runtime *rt;
    struct agon_instance *in;
    const struct agon_task *task; /* of check and solve */
    int n_errors;
};

static const struct agon_opt table[] = {{0}};

/* What a command says when it can't: on stdout, where its result would stand. */
static int say_error(struct shell *sh, const char *text)
{
    sh->n_errors++;
    printf("error: ");
    agon_listing_block(stdout, text);
    return 0;
}

static void print_json(const json_t *value)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_json_dump(&b, value);
    agon_listing_block(stdout, b.failed ? "(too long)" : agon_buf_text(&b));
}

/* ---- commands: each gets the rest of its line -------------------------------- */

static int cmd_tools(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    (void)rest;
    agon_render_tools(&b, sh->rt);
    int r = agon_buf_check(&b, "tools", err);
    agon_listing_block(stdout, agon_buf_text(&b));
    return r;
}

static int cmd_world(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    struct agon_rng rng;
    (void)rest;
    agon_rng_init(&rng, 1);
    int r = agon_render_world(&b, sh->in, &rng, err);
    agon_listing_block(stdout, agon_buf_text(&b));
    return r;
}

static int cmd_tasks(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)rest;
    (void)err;
    for (int i = 0; i < sh->env->n_tasks; i++) {
        const struct agon_task *t = &sh->env->tasks[i];
        printf("%s %s (level %d): ", t == sh->task ? "*" : " ", t->id, t->level);
        agon_listing_text(stdout, t->prompt, 2000);
        putchar('\n');
    }
    return 0;
}

static int cmd_task(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)err;
    for (int i = 0; i < sh->env->n_tasks; i++)
        if (strcmp(sh->env->tasks[i].id, rest) == 0) {
            sh->task = &sh->env->tasks[i];
            agon_listing_block(stdout, sh->task->prompt);
            printf("answer schema: ");
            print_json(sh->task->answer_schema);
            return 0;
        }
    return say_error(sh, "no such task; `tasks` lists them");
}

static int cmd_sql(struct shell *sh, const char *rest, struct agon_err *err)
{
    size_t i;
    json_t *row;
    json_auto_t *rows = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    int r = agon_instance_sql(sh->in, agon_str(rest), &rows, &reason, err);
    if (r)
        return r < 0 ? r : say_error(sh, agon_buf_text(&reason));
    json_array_foreach(rows, i, row) print_json(row);
    printf("(%zu rows)\n", json_array_size(rows));
    return 0;
}

/* "NAME {JSON}": call a tool; writes stay until `reset`. */
static int cmd_call(struct shell *sh, const char *rest, struct agon_err *err)
{
    char name[64];
    struct agon_err why;
    json_auto_t *arguments = NULL;
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    size_t n = strcspn(rest, " \t{");
    snprintf(name, sizeof(name), "%.*s", (int)(n < 63 ? n : 63), rest);
    rest += n;
    rest += strspn(rest, " \t");
    int r = agon_json_parse(&arguments, agon_str(*rest ? rest : "{}"), &why);
    if (r || !json_is_object(arguments))
        return say_error(sh, r ? why.text : "arguments are a JSON object");
    r = agon_instance_call(sh->in, name, agon_str(*rest ? rest : "{}"), &result, err);
    if (r < 0)
        return r;
    if (r == AGON_TOOL_ERROR)
        return say_error(sh, agon_buf_text(&result));
    agon_listing_block(stdout, agon_buf_text(&result));
    return 0;
}

static int cmd_writes(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)rest;
    (void)err;
    print_json(agon_instance_writes(sh->in));
    return 0;
}

static int cmd_reset(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)rest;
    agon_instance_free(AGON_STEAL(sh->in));
    return agon_instance_new(&sh->in, sh->rt, err);
}

static int run_solution(struct shell *sh, const char *lua, const json_t *schema,
                        struct agon_err *err)
{
    size_t i;
    json_t *call;
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    int r = agon_runtime_solve(sh->rt, agon_str(lua), schema, &solved, &reason, err);
    if (r)
        return r < 0 ? r : say_error(sh, agon_buf_text(&reason));
    json_array_foreach(solved.calls, i, call) print_json(call);
    printf("answer: ");
    print_json(solved.answer);
    return 0;
}

static int cmd_solve(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)rest;
    if (!sh->task)
        return say_error(sh, "choose a task first: task ID");
    return run_solution(sh, sh->task->solution, sh->task->answer_schema, err);
}

/* Lua as in a solution: `tools` and pure logic. */
static int cmd_lua(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_buf_addf(&b, "return function(tools) %s end", rest);
    int r = agon_buf_check(&b, "lua", err);
    return r ? r : run_solution(sh, agon_buf_text(&b), NULL, err);
}

static int cmd_check(struct shell *sh, const char *rest, struct agon_err *err)
{
    static const char *const ends[] = {"pass", "FAIL", "ERROR"};
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    if (!sh->task)
        return say_error(sh, "choose a task first: task ID");
    int r = agon_verdict(sh->rt, sh->task, agon_str(rest), agon_instance_writes(sh->in), &v,
                         &reason, err);
    if (r)
        return r < 0 ? r : say_error(sh, agon_buf_text(&reason));
    for (int i = 0; i < v.n_checks; i++) {
        printf("%-5s ", ends[v.checks[i].end]);
        agon_listing_text(stdout, v.checks[i].name, 64);
        printf(": ");
        agon_listing_text(stdout, v.checks[i].text, 200);
        if (v.checks[i].reason) {
            printf(" (");
            agon_listing_text(stdout, v.checks[i].reason, 300);
            putchar(')');
        }
        putchar('\n');
    }
    if (v.schema)
        say_error(sh, v.schema);
    if (v.replay)
        say_error(sh, v.replay);
    if (v.unclaimed)
        say_error(sh, v.unclaimed);
    puts(v.pass ? "pass" : "fail");
    return 0;
}

static int cmd_help(struct shell *sh, const char *rest, struct agon_err *err);
static const struct {
    const char *name;
    int (*run)(struct shell *sh, const char *rest, struct agon_err *err);
    const char *about;
} commands[] = {
    {"world", cmd_world, "the tables, as an author reads them"},
    {"tools", cmd_tools, "signatures of the tools"},
    {"call", cmd_call, "call TOOL {ARGUMENTS}: call a tool; what it writes stays"},
    {"writes", cmd_writes, "the writing calls so far"},
    {"reset", cmd_reset, "the world as it was"},
    {"sql", cmd_sql, "sql SELECT ...: read the world"},
    {"lua", cmd_lua, "lua return tools.NAME{...}: Lua as in a solution"},
    {"tasks", cmd_tasks, "the tasks"},
    {"task", cmd_task, "task ID: choose a task"},
    {"solve", cmd_solve, "run the task's solution"},
    {"check", cmd_check, "check ANSWER: judge an answer (JSON) with the writes so far"},
    {"help", cmd_help, "this list; a line that begins with a tool's name calls it; Ctrl-D ends"},
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int cmd_help(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)sh;
    (void)rest;
    (void)err;
    for (int i = 0; i < N_COMMANDS; i++)
        printf("%-7s %s\n", commands[i].name, commands[i].about);
    return 0;
}

static bool is_tool(const struct shell *sh, const char *line, size_t n)
{
    for (int i = 0; i < agon_runtime_n_tools(sh->rt); i++) {
        const char *name = agon_runtime_tool(sh->rt, i)->name;
        if (strlen(name) == n && memcmp(name, line, n) == 0)
            return true;
    }
    return false;
}

static int shell_line(struct shell *sh, char *line, struct agon_err *err)
{
    line += strspn(line, " \t");
    size_t n = strcspn(line, " \t\r\n{"), end = strlen(line);
    while (end > 0 && strchr(" \t\r\n", line[end - 1]))
        line[--end] = '\0';
    if (!*line || *line == '#')
        return 0;
    const char *rest = line + n + strspn(line + n, " \t");
    for (int i = 0; i < N_COMMANDS; i++)
        if (strlen(commands[i].name) == n && memcmp(commands[i].name, line, n) == 0)
            return commands[i].run(sh, rest, err);
    if (is_tool(sh, line, n))
        return cmd_call(sh, line, err);
    return say_error(sh, "no such command; `help` lists them");
}

/* The next line, owned by the caller; NULL at the end. */
static char *next_line(bool terminal)
{
    if (!terminal) {
        char *line = NULL;
        size_t size = 0;
        if (getline(&line, &size, stdin) >= 0)
            return line;
        free(line);
        return NULL;
    }
    char *line = readline("agon> ");
    if (line && *line)
        add_history(line);
    return line;
}

static int shell_open(struct shell *sh, const char *dir, struct agon_err *err)
{
    struct agon_sandbox_options so = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    int r = agon_sandbox_open(&sh->sandbox, &so, err);
    if (r || (r = agon_env_load(&sh->env, dir, err)) ||
        (r = agon_runtime_open(&sh->rt, sh->sandbox, sh->env->world_path, agon_str(sh->env->tools),
                               &reason, err)) < 0)
        return r;
    if (r)
        return agon_fail(err, AGON_ESCRIPT, "%s: its tools do not load: %s", dir,
                         agon_buf_text(&reason));
    if (sh->env->n_tasks > 0)
        sh->task = &sh->env->tasks[0];
    return agon_instance_new(&sh->in, sh->rt, err);
}

int agon_verb_shell(int argc, char **argv)
{
    char dir[4096];
    struct agon_err err = {0};
    struct shell sh = {0};
    bool terminal = isatty(STDIN_FILENO);
    int n, status;
    if (agon_verb_options(
            table, &(int){0},
            "usage: agon shell ENVIRONMENT_DIR\n       agon shell CORPUS ENVIRONMENT",
            "Reads commands from the terminal or a pipe; `help` lists them. From a pipe"
            " the exit\nstatus is 1 where a command failed.",
            1, 2, argc, argv, &n, &status))
        return status;
    snprintf(dir, sizeof(dir), "%s%s%s", argv[1], n > 1 ? "/environments/" : "",
             n > 1 ? argv[2] : "");
    int r = shell_open(&sh, dir, &err);
    for (char *line; !r && (line = next_line(terminal)); free(line)) {
        r = shell_line(&sh, line, &err);
        fflush(stdout);
    }
    agon_instance_free(sh.in);
    agon_runtime_free(sh.rt);
    agon_env_free(sh.env);
    agon_sandbox_close(sh.sandbox);
    if (r)
        return agon_verb_fail("shell", &err);
    return !terminal && sh.n_errors ? AGON_EXIT_NO : AGON_EXIT_OK;
}
