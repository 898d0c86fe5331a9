/*
 * Lines for the shell. On a terminal through libedit: history in a file, completion by what the
 * line begins with, and Ctrl-C, which drops the line that is being written or interrupts the call
 * that runs (interrupt.h). From a pipe as they come.
 */
#include "base/json.h"
#include "pipelines/shell.h"
#include "sandbox/interrupt.h"

#include <editline/readline.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HISTORY_LINES = 2000 };

static struct shell *shell; /* completion and signals know no other way to it */
static sigjmp_buf at_prompt;
static volatile sig_atomic_t in_prompt, in_command;

/* ---- completion: candidates are gathered, then handed out one by one ---- */

static char **candidates;
static size_t n_candidates;

static void candidates_free(void)
{
    for (size_t i = 0; i < n_candidates; i++)
        free(candidates[i]);
    free(candidates);
    candidates = NULL;
    n_candidates = 0;
}

static void candidate(const char *text, const char *word, const char *after)
{
    char **more = NULL, *copy = NULL;
    if (strncmp(text, word, strlen(word)) != 0 || asprintf(&copy, "%s%s", text, after) < 0)
        return;
    more = realloc(candidates, (n_candidates + 1) * sizeof(*candidates));
    if (!more) {
        free(copy);
        return;
    }
    candidates = more;
    candidates[n_candidates++] = copy;
}

static void candidates_of_query(const char *sql, const char *word)
{
    size_t i;
    json_t *row;
    json_auto_t *rows = NULL;
    struct agon_err err;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    if (agon_instance_sql(shell_instance(shell), agon_str(sql), &rows, &reason, &err))
        return;
    json_array_foreach(rows, i, row) candidate(agon_json_text(row, "name", ""), word, "");
}

static void candidates_of_tools(const char *word)
{
    for (int i = 0; i < agon_runtime_n_tools(shell->rt); i++)
        candidate(agon_runtime_tool(shell->rt, i)->name, word, "");
}

static void candidates_of_commands(const char *word)
{
    for (const struct shell_command *c = shell_commands; c->name; c++)
        candidate(c->name, word, "");
}

static void candidates_of_sql(const char *word)
{
    static const char *const words[] = {"SELECT", "FROM",  "WHERE", "ORDER BY", "GROUP BY",
                                        "JOIN",   "LIMIT", "COUNT", "DISTINCT"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        candidate(words[i], word, "");
    candidates_of_query("SELECT name FROM sqlite_schema WHERE type = 'table' UNION SELECT c.name"
                        " FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
                        " ORDER BY name",
                        word);
}

/* Arguments of a tool, "city="; after the sign, the values of an enumeration. */
static void candidates_of_arguments(const struct agon_tool *tool, const char *word)
{
    const char *name, *sign = strchr(word, '=');
    json_t *schema, *one;
    size_t i;
    json_object_foreach(json_object_get(tool->params, "properties"), name, schema)
    {
        if (!sign)
            candidate(name, word, "=");
        else if (strlen(name) == (size_t)(sign - word) && !memcmp(name, word, strlen(name)))
            json_array_foreach(json_object_get(schema, "enum"), i, one)
            {
                char *text = NULL;
                if (json_is_string(one) &&
                    asprintf(&text, "%s=%s", name, json_string_value(one)) >= 0)
                    candidate(text, word, "");
                free(text);
            }
    }
}

static void candidates_of_names(const char *word, bool snapshots, bool branches)
{
    for (int i = 0; snapshots && i < shell->snapshots.n; i++)
        candidate(shell->snapshots.items[i].name, word, "");
    for (int i = 0; branches && i < shell->n_branches; i++)
        candidate(shell->branches[i].name, word, "");
}

/* What may stand after a command. */
static void candidates_after(const struct shell_command *c, const char *word)
{
    switch (c->completes) {
    case 't': candidates_of_tools(word); break;
    case 'T':
        candidates_of_query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name",
                            word);
        break;
    case 'q': candidates_of_sql(word); break;
    case 'c': candidates_of_commands(word); break;
    case 's': candidates_of_names(word, true, !strcmp(c->name, ".diff")); break;
    case 'b': candidates_of_names(word, false, true); break;
    case 'k':
        for (int i = 0; i < shell->env->n_tasks; i++)
            candidate(shell->env->tasks[i].id, word, "");
        break;
    default: break;
    }
}

static char *next_candidate(const char *word, int state)
{
    static size_t at;
    (void)word;
    at = state ? at : 0;
    return at < n_candidates ? strdup(candidates[at++]) : NULL;
}

static char **complete(const char *word, int start, int end)
{
    const char *line = rl_line_buffer + strspn(rl_line_buffer, " \t");
    size_t n = strcspn(line, " \t{");
    (void)end;
    candidates_free();
    rl_attempted_completion_over = 1; /* never names of files */
    rl_completion_append_character = ' ';
    if (line + n >= rl_line_buffer + start) {
        candidates_of_commands(word);
        candidates_of_tools(word);
    } else if (*line == '.') {
        const struct shell_command *c = shell_command_find(line, n);
        if (c)
            candidates_after(c, word);
    } else if (shell_tool_find(shell, line, n) >= 0) {
        candidates_of_arguments(agon_runtime_tool(shell->rt, shell_tool_find(shell, line, n)),
                                word);
        if (n_candidates && strchr(candidates[0], '=') == strrchr(candidates[0], '\0') - 1)
            rl_completion_append_character = '\0';
    } else {
        candidates_of_sql(word);
    }
    return n_candidates ? rl_completion_matches(word, next_candidate) : NULL;
}

/* ---- history ---- */

/* $XDG_STATE_HOME/agon_history, or ~/.agon_history; false: nowhere. */
static bool history_path(char ret[4096])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool xdg = state && *state == '/';
    if (!xdg && (!home || *home != '/'))
        return false;
    int n = snprintf(ret, 4096, xdg ? "%s/agon_history" : "%s/.agon_history", xdg ? state : home);
    return n < 4096;
}

/* Into the history and its file at once: a terminal that is closed takes the shell with it. */
static void history_note(const char *text)
{
    char path[4096];
    HIST_ENTRY *last = history_length > 0 ? history_get(history_base + history_length - 1) : NULL;
    char *line = strdup(text);
    for (char *p = line; p && *p; p++)
        *p = *p == '\n' ? ' ' : *p;
    if (line && line[strspn(line, " \t")] && (!last || strcmp(last->line, line) != 0)) {
        add_history(line);
        mode_t mask = umask(077); /* what one types is nobody else's */
        if (history_path(path))
            (void)write_history(path); /* a home that can't be written costs the history alone */
        umask(mask);
    }
    free(line);
}

/* ---- signals ---- */

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    if (in_command) {
        agon_interrupt(true);
    } else if (in_prompt) {
        in_prompt = 0;
        siglongjmp(at_prompt, 1);
    }
}

void shell_input_busy(bool busy)
{
    in_command = busy && shell->interactive;
}

/* ---- lines ---- */

static int terminal_width(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    int width = columns ? (int)strtol(columns, NULL, 10) : 0;
    if (width <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        width = size.ws_col;
    return width >= 20 && width <= 1000 ? width : 80;
}

void shell_input_begin(struct shell *sh)
{
    char path[4096];
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    bool tty = isatty(STDOUT_FILENO);
    shell = sh;
    sh->width = tty ? terminal_width() : 80;
    sh->colour = tty && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
    if (!sh->interactive)
        return;
    struct sigaction action = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &action, NULL); /* can't fail for a signal that exists */
    rl_readline_name = "agon";
    rl_attempted_completion_function = complete;
    static char breaks[] = " \t\n,()";
    rl_completer_word_break_characters = breaks;
    using_history();
    stifle_history(HISTORY_LINES);
    if (history_path(path))
        (void)read_history(path); /* there is none the first time */
}

static char *prompt_line(const char *prompt)
{
    char *line = NULL;
    if (sigsetjmp(at_prompt, 1)) {
        putchar('\n');
        return strdup("");
    }
    in_prompt = 1;
    line = readline(prompt);
    in_prompt = 0;
    if (!line)
        putchar('\n');
    return line;
}

static char *piped_line(void)
{
    char *line = NULL;
    size_t size = 0;
    if (getline(&line, &size, stdin) >= 0)
        return line;
    free(line);
    return NULL;
}

char *shell_input_line(struct shell *sh, const char *prompt)
{
    struct agon_buf whole AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    char *line;
    while ((line = sh->interactive ? prompt_line(prompt) : piped_line())) {
        size_t n = strcspn(line, "\r\n");
        bool joined = n > 0 && line[n - 1] == '\\';
        bool dropped = sh->interactive && n == 0; /* by an empty line or Ctrl-C */
        agon_buf_add(&whole, line, joined ? n - 1 : n);
        agon_buf_adds(&whole, joined ? "\n" : "");
        free(line);
        if (dropped)
            return strdup("");
        if (!joined && !shell_line_is_open(sh, agon_buf_text(&whole)))
            break;
        prompt = "  ...> ";
    }
    if (!line)
        return whole.size == 0 ? NULL : strdup(sh->interactive ? "" : agon_buf_text(&whole));
    if (sh->interactive)
        history_note(agon_buf_text(&whole));
    return strdup(agon_buf_text(&whole));
}

void shell_input_end(void)
{
    candidates_free();
}
