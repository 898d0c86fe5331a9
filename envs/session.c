/* Calls on the open world and their replay: see cell_state.h. */
#include "envs/cell_state.h"

#include "envs/solution.h"

#include <stdio.h>
#include <stdlib.h>

struct agon_env_cell *agon_env_cell_new(void)
{
    struct agon_env_cell *cell = calloc(1, sizeof(*cell));
    if (cell) {
        cell->canonical = (struct agon_buf)AGON_BUF(2 << 20);
        cell->result = (struct agon_buf)AGON_BUF(8 << 20);
    }
    return cell;
}

static void writes_cut(struct agon_env_cell *cell, int n)
{
    while (cell->n_writes > n) {
        struct agon_write *write = &cell->writes[--cell->n_writes];
        free(write->tool);
        free(write->arguments);
    }
}

void agon_env_cell_close(struct agon_env_cell *cell)
{
    writes_cut(cell, 0);
    if (cell->verifier_free)
        cell->verifier_free(cell->verifier);
    cell->verifier = NULL;
    agon_solution_free(cell->solution);
    cell->solution = NULL;
    agon_recall_free(cell->recall);
    cell->recall = NULL;
    cell->state = AGON_STATE_CLEAN; /* numbers of states are of this recall alone */
    agon_toolset_free(cell->toolset);
    cell->toolset = NULL;
    agon_world_free(cell->world);
    cell->world = NULL;
}

void agon_env_cell_free(struct agon_env_cell *cell)
{
    if (!cell)
        return;
    agon_env_cell_close(cell);
    free(cell->writes);
    agon_buf_deinit(&cell->canonical);
    agon_buf_deinit(&cell->result);
    free(cell);
}

int agon_session_reset(struct agon_env_cell *cell, struct agon_err *err)
{
    writes_cut(cell, 0);
    cell->state = AGON_STATE_CLEAN;
    cell->fuel = AGON_CELL_RUN_FUEL;
    return agon_world_reset(cell->world, err);
}

static int session_note(struct agon_env_cell *cell, const char *tool, struct agon_err *err)
{
    struct agon_write *writes =
        realloc(cell->writes, (size_t)(cell->n_writes + 1) * sizeof(*writes));
    if (!writes)
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    cell->writes = writes;
    struct agon_write write = {strdup(tool), strdup(agon_buf_text(&cell->canonical))};
    if (!write.tool || !write.arguments) {
        free(write.tool);
        free(write.arguments);
        return agon_fail(err, AGON_ENOMEM, "session: out of memory");
    }
    writes[cell->n_writes++] = write;
    return 0;
}

static bool session_override(void *user, const struct agon_tool_call *call)
{
    struct agon_env_cell *cell = user;
    const char *name = agon_toolset_get(cell->toolset, call->tool)->name;
    for (int i = 0; i < cell->n_overrides; i++) {
        const struct agon_override *o = &cell->overrides[i];
        if (strcmp(o->tool, name) != 0 || !agon_str_is(agon_buf_str(call->canonical), o->arguments))
            continue;
        agon_buf_adds(call->result, o->result);
        return true;
    }
    return false;
}

/* The call itself, in its savepoint where it may write. */
static int session_try(struct agon_env_cell *cell, int tool, struct agon_str arguments,
                       struct agon_err *err)
{
    bool writes = agon_toolset_get(cell->toolset, tool)->writes;
    int r = writes ? agon_world_begin_call(cell->world, err) : 0;
    if (r)
        return r;
    struct agon_tool_call call = {
        .tool = tool,
        .arguments = arguments,
        .fuel = cell->fuel,
        .canonical = &cell->canonical,
        .result = &cell->result,
        .override = cell->n_overrides ? session_override : NULL,
        .user = cell,
    };
    int logged = agon_changes_logged(cell->world);
    r = agon_toolset_call(cell->toolset, &call, err);
    cell->fuel = call.fuel;
    if (r < 0 || !writes)
        return r;
    if (r == 0 && agon_world_dangles(cell->world)) { /* a call is a whole: nothing mends it later */
        agon_buf_reset(&cell->result);
        agon_buf_adds(&cell->result, "the call leaves a row that refers to none "
                                     "(FOREIGN KEY constraint failed)");
        r = AGON_SESSION_ERROR;
    }
    /* One that changed no row is in no list of writes, so it may not leave what is beside rows: an
     * ignored INSERT draws the next key of an AUTOINCREMENT. */
    bool keep = r == 0 && agon_changes_logged(cell->world) != logged;
    int end = agon_world_end_call(cell->world, keep, err);
    return end ? end : r;
}

static int unknown_tool(struct agon_env_cell *cell, struct agon_str tool)
{
    agon_buf_reset(&cell->canonical);
    agon_buf_reset(&cell->result);
    agon_buf_addf(&cell->result,
                  "no tool '%.*s'; there are:", (int)(tool.size < 60 ? tool.size : 60), tool.data);
    for (int i = 0; i < agon_toolset_count(cell->toolset); i++)
        agon_buf_addf(&cell->result, "%s %s", i ? "," : "",
                      agon_toolset_get(cell->toolset, i)->name);
    return AGON_SESSION_ERROR;
}

/* SQLite rolled everything back: make the state again from the list. */
static int session_rebuild(struct agon_env_cell *cell, struct agon_err *err)
{
    struct agon_buf kept AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    agon_session_add_writes(cell, &kept);
    struct agon_buf result = cell->result; /* the sentence of the call that failed */
    int64_t fuel = cell->fuel, ops = agon_world_run_ops(cell->world);
    cell->result = (struct agon_buf)AGON_BUF(result.size_max);
    bool anew = cell->calls_anew;
    int r = agon_buf_check(&kept, "session", err);
    struct agon_wire wire = agon_wire_of(agon_buf_str(&kept));
    if (!r)
        r = agon_session_reset(cell, err);
    cell->calls_anew = true; /* what is known may be what failed */
    if (!r)
        r = agon_session_replay(cell, &wire, err);
    cell->calls_anew = anew;
    agon_buf_deinit(&cell->result);
    cell->result = result;
    cell->fuel = fuel; /* a run cannot buy itself new budgets by losing its transaction */
    agon_world_set_run_ops(cell->world, ops);
    return r > 0 ? agon_fail(err, AGON_ESTORE, "session: a call does not repeat: %.300s",
                             err ? err->text : "")
                 : r;
}

/* The call in Lua, and what becomes of it noted. */
static int session_make(struct agon_env_cell *cell, int i, struct agon_str arguments,
                        struct agon_err *err)
{
    int logged = agon_changes_logged(cell->world);
    int r = session_try(cell, i, arguments, err);
    if (r >= 0 && agon_world_lost(cell->world)) {
        int again = session_rebuild(cell, err);
        if (again)
            return again;
        if (r == 0) { /* it caught the error, but its writes are gone */
            agon_buf_reset(&cell->result);
            agon_buf_adds(&cell->result, "SQL rolled back all that the call had written");
        }
        return AGON_SESSION_ERROR;
    }
    if (r || agon_changes_logged(cell->world) == logged)
        return r;
    return session_note(cell, agon_toolset_get(cell->toolset, i)->name, err);
}

/* 0, 1 where SQLite did not what it did before, or <0. */
static int session_recall(struct agon_env_cell *cell, const struct agon_recall_call *call,
                          struct agon_recalled *known, struct agon_err *err)
{
    if (agon_recall_redo(known, cell->world))
        return 1;
    agon_buf_reset(&cell->canonical);
    agon_buf_reset(&cell->result);
    agon_buf_add_str(&cell->canonical, known->canonical);
    agon_buf_add_str(&cell->result, known->result);
    cell->fuel -= known->fuel;
    if (call->writes)
        cell->state = known->state;
    int r = agon_buf_check(&cell->canonical, "session", err);
    if (!r)
        r = agon_buf_check(&cell->result, "session", err);
    return r || !known->n_events
               ? r
               : session_note(cell, agon_toolset_get(cell->toolset, call->tool)->name, err);
}

static int session_make_only(struct agon_env_cell *cell, const struct agon_recall_call *call,
                             struct agon_err *err)
{
    int r = session_make(cell, call->tool, call->arguments, err);
    if (call->writes)
        cell->state = AGON_STATE_UNKNOWN;
    return r;
}

/* Make it, and keep what it did. */
static int session_record(struct agon_env_cell *cell, const struct agon_recall_call *call,
                          struct agon_err *err)
{
    struct agon_recalled did = {.fuel = cell->fuel, .ops = agon_world_run_ops(cell->world)};
    agon_recall_begin(cell->recall, cell->world);
    int r = session_make(cell, call->tool, call->arguments, err);
    did.fuel -= cell->fuel;
    did.ops = agon_world_run_ops(cell->world) - did.ops;
    did.canonical = agon_buf_str(&cell->canonical);
    did.result = agon_buf_str(&cell->result);
    cell->state = agon_recall_end(cell->recall, cell->world, r ? NULL : &did);
    return r;
}

static int session_call(struct agon_env_cell *cell, int i, struct agon_str arguments,
                        struct agon_err *err)
{
    if (cell->n_writes == AGON_CELL_WRITES_MAX && agon_toolset_get(cell->toolset, i)->writes) {
        agon_buf_reset(&cell->canonical);
        agon_buf_reset(&cell->result);
        agon_buf_addf(&cell->result, "over %d writing calls were made", AGON_CELL_WRITES_MAX);
        return AGON_SESSION_ERROR;
    }
    bool writes = agon_toolset_get(cell->toolset, i)->writes;
    struct agon_recall_call call = {cell->state, i, writes, cell->fuel, arguments};
    if (!cell->recall)
        cell->recall = agon_recall_new();
    if (!cell->recall || cell->calls_anew || cell->n_overrides) /* whose results are no world's */
        return session_make_only(cell, &call, err);
    struct agon_recalled *known = agon_recall_find(cell->recall, cell->world, &call);
    if (!known)
        return session_record(cell, &call, err);
    int r = session_recall(cell, &call, known, err);
    if (r <= 0)
        return r;
    r = session_rebuild(cell, err); /* half of it may be in the world */
    return r ? r : session_make_only(cell, &call, err);
}

int agon_session_call(struct agon_env_cell *cell, struct agon_str tool, struct agon_str arguments,
                      struct agon_err *err)
{
    int i = agon_toolset_find(cell->toolset, tool);
    if (i < 0)
        return unknown_tool(cell, tool);
    int r = session_call(cell, i, arguments, err);
    agon_world_set_state(cell->world, cell->state);
    return r;
}

void agon_session_budgets(struct agon_env_cell *cell)
{
    cell->fuel = AGON_CELL_RUN_FUEL;
    agon_world_set_run_ops(cell->world, 0);
}

int agon_session_replay(struct agon_env_cell *cell, struct agon_wire *wire, struct agon_err *err)
{
    int n = agon_wire_count(wire);
    struct agon_wire ahead = *wire;
    int same = 0; /* how many of our writes the list begins with */
    while (same < n && same < cell->n_writes) {
        struct agon_str tool = agon_wire_str(&ahead), arguments = agon_wire_str(&ahead);
        if (!agon_str_is(tool, cell->writes[same].tool) ||
            !agon_str_is(arguments, cell->writes[same].arguments))
            break;
        same++;
    }
    /* We are elsewhere, or what came last rolled everything back. */
    bool again = same < cell->n_writes || agon_world_lost(cell->world);
    int r = again ? agon_session_reset(cell, err) : 0;
    for (int i = 0; !r && i < n; i++) {
        struct agon_str tool = agon_wire_str(wire), arguments = agon_wire_str(wire);
        if (!again && i < same)
            continue;
        if (wire->bad)
            return agon_fail(err, AGON_EINPUT, "session: the list of writes is cut short");
        agon_session_budgets(cell); /* each of them had its own when it was made */
        r = agon_session_call(cell, tool, arguments, err);
        if (r == AGON_SESSION_ERROR)
            agon_fail(err, AGON_SESSION_ERROR, "call %d (%.*s): %.300s", i + 1, AGON_STR_ARG(tool),
                      agon_buf_text(&cell->result));
    }
    agon_session_budgets(cell);
    return r;
}

void agon_session_add_usage(const struct agon_usage *usage, struct agon_buf *out)
{
    agon_wire_add_int(out, usage->fuel);
    agon_wire_add_int(out, usage->ops);
    agon_wire_add_int(out, usage->share);
}

void agon_session_add_writes(const struct agon_env_cell *cell, struct agon_buf *out)
{
    agon_wire_add_int(out, cell->n_writes);
    for (int i = 0; i < cell->n_writes; i++) {
        agon_wire_add_text(out, cell->writes[i].tool);
        agon_wire_add_text(out, cell->writes[i].arguments);
    }
}

/* The column of t that has `rank` smaller names than its own. */
static int column_by_rank(const struct agon_table *t, int rank)
{
    for (int i = 0; i < t->n_columns; i++) {
        int smaller = 0;
        for (int k = 0; k < t->n_columns; k++)
            smaller += strcmp(t->columns[k].name, t->columns[i].name) < 0;
        if (smaller == rank)
            return i;
    }
    return 0; /* names of a table are distinct */
}

/* Tables are in order of their names already, and no character of a name sorts below the dot. */
void agon_session_add_reads(const struct agon_env_cell *cell, struct agon_buf *out)
{
    int n, count = 0;
    const uint8_t *reads = agon_world_reads(cell->world, &n);
    for (int i = 0; i < n; i++)
        count += reads[i];
    agon_wire_add_int(out, count);
    for (int i = 0; i < agon_world_n_tables(cell->world); i++) {
        const struct agon_table *t = agon_world_table(cell->world, i);
        for (int k = 0; k < t->n_columns; k++) {
            int c = column_by_rank(t, k);
            if (!reads[t->first + c])
                continue;
            char name[160];
            snprintf(name, sizeof(name), "%s.%s", t->name, t->columns[c].name);
            agon_wire_add_text(out, name);
        }
    }
}
