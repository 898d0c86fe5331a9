/* States on the driver's side: see state.h; the cell's part is state_ops.c. */
#include "envs/state.h"

#include "base/json.h"
#include "envs/runtime_wire.h"

#include <stdlib.h>

enum { MESSAGE_BYTES_MAX = 64 << 20 };

/* Ask the cell about one or two lists of writes; *ret_text is borrowed from reply. */
static int state_request(struct agon_runtime *rt, const char *op, const json_t *const *lists, int n,
                         struct agon_buf *reply, struct agon_str *ret_text, struct agon_buf *reason,
                         struct agon_err *err)
{
    struct agon_buf request AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    int r = 0;
    for (int i = 0; i < n && !r; i++)
        r = agon_wire_add_writes(&request, lists[i], err);
    if (!r)
        r = agon_buf_check(&request, op, err);
    if (!r)
        r = agon_runtime_request(rt, op, agon_buf_str(&request), reply, err);
    if (r)
        return r;
    struct agon_wire wire = agon_wire_of(agon_buf_str(reply));
    int64_t status = agon_wire_int(&wire);
    *ret_text = agon_wire_str(&wire);
    if ((r = agon_wire_end(&wire, op, err)) || !status)
        return r;
    agon_buf_add_str(reason, *ret_text);
    return AGON_REJECTED;
}

int agon_state_diff(struct agon_runtime *rt, const json_t *from, const json_t *to,
                    json_t **ret_changes, struct agon_buf *reason, struct agon_err *err)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    const json_t *lists[] = {from, to};
    struct agon_str text;
    int r = state_request(rt, "state.diff", lists, 2, &reply, &text, reason, err);
    return r ? r : agon_json_parse(ret_changes, text, err);
}

int agon_state_hash(struct agon_runtime *rt, const json_t *writes, char ret_hex[AGON_STATE_HEX],
                    struct agon_buf *reason, struct agon_err *err)
{
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    struct agon_str text;
    int r = state_request(rt, "state.hash", &writes, 1, &reply, &text, reason, err);
    if (r)
        return r;
    if (text.size != AGON_STATE_HEX - 1)
        return agon_fail(err, AGON_EINPUT, "the cell described a digest badly");
    memcpy(ret_hex, text.data, text.size);
    ret_hex[text.size] = '\0';
    return 0;
}

/* ---- named snapshots ---- */

static void snapshot_deinit(struct agon_snapshot *s)
{
    free(s->name);
    agon_instance_free(s->in);
}

void agon_snapshots_deinit(struct agon_snapshots *s)
{
    for (int i = 0; i < s->n; i++)
        snapshot_deinit(&s->items[i]);
    free(s->items);
    *s = (struct agon_snapshots){0};
}

/* The place of a name, and whether one of that name stands there. */
static bool snapshots_find(const struct agon_snapshots *s, const char *name, int *ret)
{
    int low = 0, high = s->n;
    while (low < high) {
        int middle = low + (high - low) / 2, order = strcmp(s->items[middle].name, name);
        if (order == 0) {
            *ret = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret = low;
    return false;
}

static int name_check(const char *name, struct agon_err *err)
{
    size_t n = strlen(name);
    bool fine = n > 0 && n <= AGON_SNAPSHOT_NAME_MAX;
    for (size_t i = 0; i < n; i++)
        fine &= name[i] > ' ' && name[i] < 0x7F;
    return fine ? 0
                : agon_fail(err, AGON_EINPUT,
                            "a snapshot's name is 1 to %d printable characters without spaces",
                            AGON_SNAPSHOT_NAME_MAX);
}

/* Room for one more at `at`. */
static int snapshots_insert(struct agon_snapshots *s, int at, struct agon_snapshot new,
                            struct agon_err *err)
{
    struct agon_snapshot *items = realloc(s->items, ((size_t)s->n + 1) * sizeof(*items));
    if (!items)
        return agon_fail(err, AGON_ENOMEM, "snapshot: out of memory");
    memmove(items + at + 1, items + at, (size_t)(s->n - at) * sizeof(*items));
    items[at] = new;
    s->items = items;
    s->n++;
    return 0;
}

int agon_snapshots_put(struct agon_snapshots *s, const char *name, const struct agon_instance *in,
                       struct agon_err *err)
{
    int at, r = name_check(name, err);
    bool there = !r && snapshots_find(s, name, &at);
    if (!r && !there && s->n == AGON_SNAPSHOTS_MAX)
        r = agon_fail(err, AGON_EINPUT, "there are %d snapshots, remove some", s->n);
    struct agon_snapshot new = {0};
    if (!r)
        r = agon_instance_fork(&new.in, in, err);
    if (!r && !(new.name = strdup(name)))
        r = agon_fail(err, AGON_ENOMEM, "snapshot: out of memory");
    if (!r && !there)
        r = snapshots_insert(s, at, new, err);
    if (r) {
        snapshot_deinit(&new);
        return r;
    }
    if (there) {
        snapshot_deinit(&s->items[at]);
        s->items[at] = new;
    }
    return 0;
}

int agon_snapshots_get(const struct agon_snapshots *s, const char *name, struct agon_instance **ret,
                       struct agon_err *err)
{
    int at;
    if (!snapshots_find(s, name, &at))
        return AGON_SNAPSHOT_NONE;
    return agon_instance_fork(ret, s->items[at].in, err);
}

bool agon_snapshots_remove(struct agon_snapshots *s, const char *name)
{
    int at;
    if (!snapshots_find(s, name, &at))
        return false;
    snapshot_deinit(&s->items[at]);
    s->n--;
    memmove(s->items + at, s->items + at + 1, (size_t)(s->n - at) * sizeof(*s->items));
    return true;
}
