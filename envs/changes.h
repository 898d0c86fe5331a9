#pragma once
/*
 * What writing calls did to the world: the preupdate hook logs each touched row;
 * the net difference folds the log by table and primary key. Rollbacks do not call
 * the hook, so a savepoint remembers the log's length and cuts it back.
 */
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct agon_world;
struct sqlite3_value;

struct change_row { /* one logged event; values owned, NULL arrays where there is no such row */
    int table;
    struct sqlite3_value **before, **after;
};
struct change_log {
    struct change_row *rows;
    int n, capacity;
    int mark;      /* length at the savepoint */
    int *by_table; /* owned: how many of the events are of each table */
    int over;      /* 1: more rows than the limit; AGON_ENOMEM: no memory. The call is void */
    bool paused;   /* while the world is perturbed */
};

enum agon_change_kind { AGON_INSERTED, AGON_UPDATED, AGON_DELETED };
/* A net change; before and after are borrowed from the log, arrays by column. */
struct agon_change {
    enum agon_change_kind kind;
    int table;
    struct sqlite3_value **before, **after;
    bool claimed;
};
struct agon_changes {
    struct agon_change *items; /* in the order of their first event */
    int n;
};

int changes_hook(struct agon_world *w, struct agon_err *err);
/* Does the log hold an event of one of these tables (a byte each)? Where not, they are as they were
 * at the reset. */
bool changes_touch(const struct agon_world *w, const uint8_t *tables);
void changes_cut(struct change_log *log, int n);
void changes_free(struct change_log *log);

/* The net difference since the reset; valid until the world changes again. */
int agon_changes_of(struct agon_changes *ret, const struct agon_world *w,
                    struct agon_err *err) AGON_MUST_USE;
void agon_changes_deinit(struct agon_changes *c);
/* "inserted booking id=7". */
void agon_change_text(const struct agon_world *w, const struct agon_change *c, char *ret,
                      size_t size);
/* How many events the log holds: whether a call wrote anything. */
int agon_changes_logged(const struct agon_world *w);
