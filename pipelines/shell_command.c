/* The table of commands, .help, and what a line means. */
#include "base/json.h"
#include "pipelines/pretty.h"
#include "pipelines/shell.h"
#include "sandbox/interrupt.h"

#include <ctype.h>
#include <stdlib.h>

static int shell_help(struct shell *sh, const char *rest, struct agon_err *err);
static int shell_raw(struct shell *sh, const char *rest, struct agon_err *err);
static int shell_quit(struct shell *sh, const char *rest, struct agon_err *err);

const struct shell_command shell_commands[] = {
    {".tools", ".tools [TOOL]", "signatures of the tools; of one, its arguments", NULL, shell_tools,
     't'},
    {".schema", ".schema [TABLE]", "tables, * marks keys; of one, columns and first rows", NULL,
     shell_schema, 'T'},
    {".sql", ".sql SELECT ...", "read the world as it is now",
     "One statement that reads. A line that begins with SELECT or WITH needs no .sql.", shell_sql,
     'q'},
    {".lua", ".lua CODE", "Lua as in a solution, with `tools`; its writes stay",
     "The code is the body of a solution: .lua local a = tools.x{} return #a. What begins with"
     " tools. needs no return. It begins in the state that the shell is in and leaves its own.",
     shell_lua, 't'},
    {".bash", ".bash COMMAND", "bash in its box, with /work/world.db, a copy of the world at first",
     "The box has no network and no files of this machine but a read-only system. It stays until"
     " the shell ends; what it changes in world.db changes nothing elsewhere.",
     shell_bash, 0},
    {".tasks", ".tasks", "the tasks; * marks the chosen one", NULL, shell_tasks, 0},
    {".task", ".task [ID]", "choose a task; its prompt, answer schema and checks", NULL, shell_task,
     'k'},
    {".verify", ".verify ANSWER", "judge an answer (JSON) with what was written so far",
     "Each check that fails is named with the sentence of the prompt that it enforces. The verdict"
     " is of this state: what a model would have written to the world has to be written first, by"
     " calls or .gold apply.",
     shell_verify, 0},
    {".gold", ".gold [apply | code]", "run the task's solution on a fresh world, and judge it",
     "apply: the golden writes become the state of the shell. code: solution.lua and verifier.lua.",
     shell_gold, 0},
    {".audit", ".audit [all]", "every gate and more over the chosen task, or over all tasks",
     "What agon audit asks of it: golden runs in other processes and row orders, mutants of the"
     " answer, dropped and foreign writes, guesses, the prompt's words. Some seconds a task; Ctrl-C"
     " ends it.",
     shell_audit, 0},
    {".diff", ".diff [NAME]", "what differs from the world at first, or from a snapshot or branch",
     NULL, shell_diff, 's'},
    {".writes", ".writes", "the writing calls so far", NULL, shell_writes, 0},
    {".undo", ".undo", "take the last writing call back", NULL, shell_undo, 0},
    {".snapshot", ".snapshot [NAME]", "keep this state under a name; without, list them", NULL,
     shell_snapshot, 's'},
    {".reset", ".reset [NAME]", "the world as it was at first, or as in a snapshot", NULL,
     shell_reset, 's'},
    {".fork", ".fork [NAME]", "a branch that goes its own way from here; go there", NULL,
     shell_fork, 0},
    {".switch", ".switch [NAME]", "go to a branch; without, list them", NULL, shell_switch, 'b'},
    {".hash", ".hash", "digest of what the world holds, whatever its file looks like", NULL,
     shell_hash, 0},
    {".transcript", ".transcript [N]", "open a stored rollout of the task; without, list them",
     "Rollouts are in the corpus.db of a corpus: agon shell CORPUS ENVIRONMENT.", shell_transcript,
     0},
    {".step", ".step [N | all]", "go through it turn by turn; an empty line does, too",
     "The calls are made again, in a branch of their own: after each step .sql, .diff and calls"
     " show the world as the model had it. A result that is another one today is said.",
     shell_step, 0},
    {".raw", ".raw [on | off]", "values as the model gets them, not for people", NULL, shell_raw,
     0},
    {".help", ".help [COMMAND]", "this list, or more on one command or tool", NULL, shell_help,
     'c'},
    {".quit", ".quit", "end; so does Ctrl-D", NULL, shell_quit, 0},
    {0},
};

const struct shell_command *shell_command_find(const char *name, size_t n)
{
    for (const struct shell_command *c = shell_commands; c->name; c++)
        if (strlen(c->name) == n && memcmp(c->name, name, n) == 0)
            return c;
    return NULL;
}

static int help_all(const struct shell *sh)
{
    puts("A line is a command, a call of a tool, or SQL:");
    puts("  TOOL {\"name\": value}   as the model calls it");
    puts("  TOOL name=value ...    the same, shorter; text with spaces in \"quotes\"");
    puts("  SELECT ...             read the world");
    for (const struct shell_command *c = shell_commands; c->name; c++) {
        char line[300];
        snprintf(line, sizeof(line), "  %-22s %s", c->usage, c->about);
        shell_text(sh, line, 25);
    }
    return 0;
}

static int shell_help(struct shell *sh, const char *rest, struct agon_err *err)
{
    char name[64];
    if (!*rest)
        return help_all(sh);
    if (shell_tool_find(sh, rest, strlen(rest)) >= 0)
        return shell_tools(sh, rest, err);
    snprintf(name, sizeof(name), "%s%.60s", *rest == '.' ? "" : ".", rest);
    const struct shell_command *c = shell_command_find(name, strlen(name));
    if (!c)
        return shell_error(sh, "no command '%.60s'; .help lists them", rest);
    shell_heading(sh, c->usage);
    shell_text(sh, c->about, 0);
    if (c->more)
        shell_text(sh, c->more, 0);
    return 0;
}

static int shell_raw(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)err;
    if (*rest && strcmp(rest, "on") != 0 && strcmp(rest, "off") != 0)
        return shell_error(sh, "usage: .raw [on | off]");
    sh->raw = *rest ? rest[1] == 'n' : !sh->raw;
    printf("raw: %s\n", sh->raw ? "on" : "off");
    return 0;
}

static int shell_quit(struct shell *sh, const char *rest, struct agon_err *err)
{
    (void)rest;
    (void)err;
    sh->over = true;
    return 0;
}

/* ---- lines ---- */

static bool is_sql(const char *line, size_t n)
{
    static const char *const words[] = {"select", "with", "values", "explain"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strlen(words[i]) == n && strncasecmp(words[i], line, n) == 0)
            return true;
    return false;
}

/* The command or tool that a mistyped word begins. */
static int unknown(struct shell *sh, const char *word, size_t n)
{
    for (const struct shell_command *c = shell_commands; c->name; c++)
        if (strlen(c->name) == n + 1 && strncmp(c->name + 1, word, n) == 0)
            return shell_error(sh, "commands begin with a dot: %s", c->name);
    return shell_error(sh, "'%.*s' is no %s; %s", (int)(n < 60 ? n : 60), word,
                       *word == '.' ? "command" : "command and no tool",
                       *word == '.' ? ".help lists them" : ".help lists commands, .tools tools");
}

static int line_run(struct shell *sh, const char *line, struct agon_err *err)
{
    size_t n = strcspn(line, " \t\n{");
    const char *rest = line + n + strspn(line + n, " \t\n");
    const struct shell_command *c = *line == '.' ? shell_command_find(line, n) : NULL;
    if (c)
        return c->run(sh, rest, err);
    if (shell_tool_find(sh, line, n) >= 0)
        return shell_call(sh, line, err);
    return is_sql(line, n) ? shell_sql(sh, line, err) : unknown(sh, line, n);
}

int shell_line(struct shell *sh, char *line, struct agon_err *err)
{
    line += strspn(line, " \t\r\n");
    for (size_t end = strlen(line); end > 0 && isspace((unsigned char)line[end - 1]);)
        line[--end] = '\0';
    if (*line == '#')
        return 0;
    if (!*line)
        return sh->interactive && shell_transcript_waits(sh) ? shell_step(sh, "", err) : 0;
    shell_input_busy(true);
    int r = line_run(sh, line, err);
    shell_input_busy(false);
    if (r >= 0)
        return 0;
    if (agon_interrupted() || agon_runtime_gave_up(sh->rt)) { /* the next call opens a new cell */
        const char *why = agon_interrupted() ? "interrupted" : err->text;
        agon_interrupt(false);
        return shell_error(sh, "%s", why);
    }
    return r;
}

bool shell_line_is_open(const struct shell *sh, const char *line)
{
    size_t n = strcspn(line += strspn(line, " \t"), " \t{"), end = strlen(line);
    int depth = 0;
    bool quoted = false;
    if (end > 0 && line[end - 1] == '\\')
        return true;
    if (shell_tool_find(sh, line, n) < 0 && strncmp(line, ".verify", 7) != 0)
        return false;
    for (const char *p = line; *p; p++) {
        if (quoted && *p == '\\' && p[1])
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
    }
    return depth > 0;
}
