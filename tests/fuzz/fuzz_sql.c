/*
 * SQL of a model in the guarded world: the first byte says who (bits 0, 1) and whether it writes
 * (bit 2), the rest is the statement. Whatever it is, it ends within its budget, hands out no more
 * than its rows, and after the call is taken back, and after a reset, the world reads as it did.
 */
#include "envs/world.h"
#include "tests/fuzz/samples.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char everything[] =
    "SELECT (SELECT group_concat(quote(id) || quote(name) || quote(city) || quote(price) || "
    "quote(stars)) FROM (SELECT * FROM hotel ORDER BY id)) || '|' || coalesce((SELECT "
    "group_concat(quote(id) || quote(hotel_id) || quote(guest) || quote(nights)) FROM (SELECT * "
    "FROM booking ORDER BY id)), '') AS it";

static void run(struct agon_world *w, enum agon_principal by, bool writes, struct agon_str sql)
{
    struct agon_statement *st = NULL;
    struct agon_err err;
    int r = agon_statement_get(&st, w, by, writes, sql, &err), n = 0;
    assert(r == 0 || r == AGON_WORLD_REFUSED);
    if (r)
        return;
    enum agon_step step;
    while ((step = agon_statement_step(st, &err)) == AGON_STEP_ROW && n++ < AGON_WORLD_ROWS_MAX)
        for (int i = 0; i < agon_statement_n_columns(st); i++)
            (void)sqlite3_column_bytes(agon_statement_sqlite(st), i);
    int64_t ops = agon_statement_end(st);
    int64_t most = by == AGON_BY_PEOPLE ? AGON_WORLD_OPS_PEOPLE : AGON_WORLD_OPS_MAX;
    assert(ops <= most + 2000 || step == AGON_STEP_ERROR);
}

static char *read_all(struct agon_world *w)
{
    struct agon_statement *st = NULL;
    struct agon_err err;
    assert(agon_statement_get(&st, w, AGON_BY_PEOPLE, false, agon_str(everything), &err) == 0);
    assert(agon_statement_step(st, &err) == AGON_STEP_ROW);
    char *text = strdup((const char *)sqlite3_column_text(agon_statement_sqlite(st), 0));
    (void)agon_statement_end(st);
    assert(text);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct agon_world *w;
    static char *before;
    struct agon_err err;
    if (!w) {
        w = fuzz_world();
        before = read_all(w);
    }
    if (size == 0)
        return 0;
    enum agon_principal by = (enum agon_principal)((data[0] & 3) % AGON_N_PRINCIPALS);
    bool writes = data[0] & 4 && by == AGON_BY_TOOLS;
    assert(agon_world_begin_call(w, &err) == 0);
    run(w, by, writes, (struct agon_str){(const char *)data + 1, size - 1});
    assert(agon_world_end_call(w, false, &err) == 0);
    if (agon_world_lost(w))
        assert(agon_world_reset(w, &err) == 0);
    char *after = read_all(w);
    assert(strcmp(before, after) == 0);
    free(after);
    assert(agon_world_reset(w, &err) == 0);
    after = read_all(w);
    assert(strcmp(before, after) == 0);
    free(after);
    return 0;
}
