/* The world in the shell: tables, SQL, differences, a copy of it for bash. */
#include "base/json.h"
#include "pipelines/shell.h"
#include "sandbox/bashbox.h"
#include "sandbox/interrupt.h"

enum { BASH_MS_MAX = 600000, REASON_BYTES_MAX = 8192 };

/* Rows of a query, or NULL with *ret_r: <0 ends the shell, else the error was said. */
static json_t *query(struct shell *sh, const char *sql, int *ret_r, struct agon_err *err)
{
    json_t *rows = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    int r = agon_instance_sql(shell_instance(sh), agon_str(sql), &rows, &reason, err);
    *ret_r = r < 0 ? r : 0;
    if (r > 0)
        shell_error(sh, "%s", agon_buf_text(&reason));
    return r ? NULL : rows;
}

int shell_sql(struct shell *sh, const char *rest, struct agon_err *err)
{
    int r;
    if (!*rest)
        return shell_error(sh, "usage: .sql SELECT ...");
    json_auto_t *rows = query(sh, rest, &r, err);
    if (rows && json_array_size(rows) == 0)
        puts("(no rows)");
    else if (rows)
        shell_value(sh, rows);
    return r;
}

/* ---- .schema ---- */

/* "key 1, not null, references cities" */
static json_t *column_notes(const json_t *column)
{
    struct agon_buf notes AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    json_int_t key = json_integer_value(json_object_get(column, "pk"));
    const char *other = agon_json_text(column, "other", NULL);
    if (key)
        agon_buf_addf(&notes, "key %lld", (long long)key);
    if (json_integer_value(json_object_get(column, "notnull")))
        agon_buf_addf(&notes, "%snot null", notes.size ? ", " : "");
    if (other)
        agon_buf_addf(&notes, "%sreferences %s", notes.size ? ", " : "", other);
    return json_string(notes.size ? agon_buf_text(&notes) : " ");
}

static int schema_table(struct shell *sh, const char *name, struct agon_err *err)
{
    char sql[600];
    size_t i;
    int r;
    json_t *one;
    snprintf(sql, sizeof(sql),
             "SELECT c.name, c.type, c.pk, c.\"notnull\", (SELECT max(f.\"table\") FROM"
             " pragma_foreign_key_list('%s') f WHERE f.\"from\" = c.name) AS other FROM"
             " pragma_table_info('%s') c ORDER BY c.cid",
             name, name);
    json_auto_t *columns = query(sh, sql, &r, err), *shown = json_array();
    if (!columns)
        return r;
    json_array_foreach(columns, i, one)(void) json_array_append_new(
        shown,
        json_pack("{s:O, s:O, s:o}", "column", json_object_get(one, "name"), "type",
                  json_object_get(one, "type"), "notes", column_notes(one))); /* seen below */
    if (json_array_size(shown) != json_array_size(columns))
        return agon_fail(err, AGON_ENOMEM, "shell: out of memory");
    shell_value(sh, shown);
    snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\" LIMIT 3", name);
    json_auto_t *rows = query(sh, sql, &r, err);
    if (rows) {
        shell_heading(sh, "first rows");
        shell_value(sh, rows);
    }
    return r;
}

/* "cities (city*, country, population): 40 rows", the key's columns marked. */
static int schema_line(struct shell *sh, const json_t *table, struct agon_err *err)
{
    char sql[400];
    size_t i;
    int r;
    json_t *one;
    struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    const char *name = agon_json_text(table, "name", "");
    snprintf(sql, sizeof(sql),
             "SELECT name, type, pk, (SELECT count(*) FROM \"%s\") AS n FROM"
             " pragma_table_info('%s') ORDER BY cid",
             name, name);
    json_auto_t *columns = query(sh, sql, &r, err);
    if (!columns)
        return r;
    agon_buf_addf(&line, "%s (", name);
    json_array_foreach(columns, i, one) agon_buf_addf(
        &line, "%s%s%s %s", i ? ", " : "", agon_json_text(one, "name", ""),
        json_integer_value(json_object_get(one, "pk")) ? "*" : "", agon_json_text(one, "type", ""));
    agon_buf_addf(&line, "): %lld rows",
                  (long long)json_integer_value(json_object_get(json_array_get(columns, 0), "n")));
    shell_text(sh, agon_buf_text(&line), 4);
    return 0;
}

int shell_schema(struct shell *sh, const char *rest, struct agon_err *err)
{
    size_t i;
    json_t *table;
    int r;
    json_auto_t *tables =
        query(sh, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name", &r, err);
    json_array_foreach(tables, i, table)
    {
        if (*rest && strcmp(rest, agon_json_text(table, "name", "")) == 0)
            return schema_table(sh, rest, err);
        if (!*rest && (r = schema_line(sh, table, err)))
            return r;
    }
    if (tables && *rest)
        return shell_error(sh, "no table '%.64s'; .schema lists them", rest);
    return r;
}

/* ---- .hash, .diff ---- */

int shell_hash(struct shell *sh, const char *rest, struct agon_err *err)
{
    char hex[AGON_STATE_HEX];
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    (void)rest;
    int r = agon_state_hash(sh->rt, agon_instance_writes(shell_instance(sh)), hex, &reason, err);
    if (r)
        return r < 0 ? r : shell_error(sh, "%s", agon_buf_text(&reason));
    puts(hex);
    return 0;
}

/* "~ booking id=7" and, of an updated row, what differs. */
static void print_change(const struct shell *sh, const json_t *change)
{
    const char *kind = agon_json_text(change, "change", ""), *name;
    const json_t *before = json_object_get(change, "before");
    const json_t *after = json_object_get(change, "after");
    json_t *value;
    bool updated = before && after;
    enum shell_style style = updated ? SHELL_HEAD : after ? SHELL_GOOD : SHELL_BAD;
    struct agon_buf line AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    agon_buf_addf(&line, "%s %s", kind, agon_json_text(change, "table", ""));
    json_object_foreach(json_object_get(change, "key"), name, value)
    {
        agon_buf_addf(&line, " %s=", name);
        agon_json_dump(&line, value);
    }
    fputs(shell_on(sh, style), stdout);
    shell_text(sh, agon_buf_text(&line), 4);
    fputs(shell_off(sh), stdout);
    json_object_foreach((json_t *)(uintptr_t)(updated ? before
                                              : after ? after
                                                      : before),
                        name, value)
    {
        const json_t *now = json_object_get(after, name);
        if (json_object_get(json_object_get(change, "key"), name) ||
            (updated && json_equal(value, now)))
            continue;
        agon_buf_reset(&line);
        agon_buf_addf(&line, "    %s: ", name);
        agon_json_dump(&line, value);
        if (updated) {
            agon_buf_adds(&line, " -> ");
            agon_json_dump(&line, now);
        }
        shell_text(sh, agon_buf_text(&line), 8);
    }
}

/* The writes of a snapshot or a branch; NULL: there is none of that name. */
static const json_t *writes_of(const struct shell *sh, const char *name)
{
    for (int i = 0; i < sh->snapshots.n; i++)
        if (strcmp(sh->snapshots.items[i].name, name) == 0)
            return agon_instance_writes(sh->snapshots.items[i].in);
    for (int i = 0; i < sh->n_branches; i++)
        if (strcmp(sh->branches[i].name, name) == 0)
            return agon_instance_writes(sh->branches[i].in);
    return NULL;
}

int shell_diff(struct shell *sh, const char *rest, struct agon_err *err)
{
    size_t i;
    json_t *one;
    json_auto_t *changes = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    const json_t *from = *rest ? writes_of(sh, rest) : NULL;
    if (*rest && !from)
        return shell_error(sh, "no snapshot or branch '%.64s'; .snapshot and .switch list them",
                           rest);
    int r = agon_state_diff(sh->rt, from, agon_instance_writes(shell_instance(sh)), &changes,
                            &reason, err);
    if (r)
        return r < 0 ? r : shell_error(sh, "%s", agon_buf_text(&reason));
    if (json_array_size(changes) == 0)
        puts("no difference");
    if (sh->raw)
        json_array_foreach(changes, i, one) shell_line_value(sh, "", one);
    else
        json_array_foreach(changes, i, one) print_change(sh, one);
    return 0;
}

/* ---- .bash ---- */

int shell_bash(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_bashbox_options o = {.world_path = sh->env->world_path};
    struct agon_bash_result done AGON_AUTO(agon_bash_result_deinit) = {0};
    if (!*rest)
        return shell_error(sh, "usage: .bash COMMAND");
    int r = sh->bash ? 0 : agon_bashbox_open(&sh->bash, sh->sandbox, &o, err);
    if (!r)
        r = agon_bashbox_run(sh->bash, agon_str(rest), BASH_MS_MAX, &done, err);
    if (r == AGON_BASHBOX_LOST || (r < 0 && agon_interrupted())) {
        agon_bashbox_close(AGON_STEAL(sh->bash));
        return shell_error(sh, "%s; the box of bash is gone, a new one begins with the next .bash",
                           agon_interrupted() ? "interrupted" : "the command ended its box");
    }
    if (r < 0)
        return r;
    if (done.output.size)
        shell_text(sh, agon_buf_text(&done.output), 0);
    if (done.output_capped)
        puts("(output cut)");
    if (done.exit_status)
        return shell_error(sh, "exit status %d", done.exit_status);
    return 0;
}
