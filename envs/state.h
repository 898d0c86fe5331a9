#pragma once
/*
 * States of an environment. A state is a runtime's world and a list of writing calls
 * ([{"tool","arguments"}], as agon_instance_writes() gives it; NULL: none), so it is named, kept,
 * compared and digested without a copy of the world. A fork (agon_instance_fork()) takes the list
 * along, its items shared: some 100 ns a writing call; the cell makes the state again when it is
 * called the next time, and does nothing for it while the calls made before are the same.
 */
#include "envs/runtime.h"

enum { AGON_STATE_HEX = 65 }; /* 64 digits and a NUL */

/*
 * The net difference: [{"change": "inserted" | "updated" | "deleted", "table": T, "key": {...},
 * "before": {...}, "after": {...}}], with the whole row before and after (an inserted row has no
 * before, a deleted one no after), in the order of tables' names, then of keys. A row whose key
 * changed is one deleted and one inserted. Text that is no UTF-8 and BLOBs are {"blob": HEX}.
 * AGON_REJECTED with a reason when a writing call of either list does not succeed.
 */
int agon_state_diff(struct agon_runtime *rt, const json_t *from, const json_t *to,
                    json_t **ret_changes, struct agon_buf *reason,
                    struct agon_err *err) AGON_MUST_USE;
/*
 * SHA-256 of what the world holds, whatever the layout of its pages and the order in which its rows
 * came. Digested are lines, each with its newline: for each table in bytewise order of names
 * `table NAME`, then `column NAME TYPE KEY` for each column (KEY: its position in the PRIMARY KEY,
 * or 0), then each row as canonical JSON array, ordered by the key's columns, then by the others,
 * all COLLATE BINARY. Indexes and constraints are no part of it. AGON_REJECTED as above.
 */
int agon_state_hash(struct agon_runtime *rt, const json_t *writes, char ret_hex[AGON_STATE_HEX],
                    struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;

/* ---- named snapshots ---- */

struct agon_snapshot {
    char *name;
    struct agon_instance *in;
};
/* Zero it; in order of names. All owned; the runtime outlives it. */
struct agon_snapshots {
    struct agon_snapshot *items;
    int n;
};
enum {
    AGON_SNAPSHOTS_MAX = 10000,
    AGON_SNAPSHOT_NAME_MAX = 64,
    AGON_SNAPSHOT_NONE = 1,
};
void agon_snapshots_deinit(struct agon_snapshots *s);
/* Keep the state of `in` under a name, in the place of another one of that name. AGON_EINPUT: the
 * name is empty, over 64 bytes or not of printable ASCII without spaces; or there are 10,000. */
int agon_snapshots_put(struct agon_snapshots *s, const char *name, const struct agon_instance *in,
                       struct agon_err *err) AGON_MUST_USE;
/* A new instance in that state; AGON_SNAPSHOT_NONE: there is none of that name. */
int agon_snapshots_get(const struct agon_snapshots *s, const char *name, struct agon_instance **ret,
                       struct agon_err *err) AGON_MUST_USE;
/* Was there one? */
bool agon_snapshots_remove(struct agon_snapshots *s, const char *name);
