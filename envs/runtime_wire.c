/* What the driver reads from and writes for a cell: see runtime_wire.h. */
#include "envs/runtime_wire.h"

#include "base/json.h"

json_t *agon_wire_json(struct agon_wire *wire)
{
    json_t *value = NULL;
    if (agon_json_parse(&value, agon_wire_str(wire), NULL))
        wire->bad = true;
    return value;
}

void agon_wire_reason(struct agon_wire *wire, struct agon_buf *reason)
{
    struct agon_str text = agon_wire_str(wire);
    if (reason)
        agon_buf_add_str(reason, text);
}

int agon_wire_add_writes(struct agon_buf *b, const json_t *writes, struct agon_err *err)
{
    struct agon_buf arguments AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    if (writes && !json_is_array(writes) && !json_is_null(writes))
        return agon_fail(err, AGON_EINPUT, "writes: not an array");
    size_t n = json_array_size(writes);
    agon_wire_add_int(b, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        const json_t *write = json_array_get(writes, i);
        const char *tool = agon_json_text(write, "tool", NULL);
        const json_t *value = json_object_get(write, "arguments");
        if (!tool || !json_is_object(value))
            return agon_fail(err, AGON_EINPUT, "writes[%zu]: needs \"tool\" and \"arguments\"", i);
        agon_buf_reset(&arguments);
        agon_json_dump(&arguments, value);
        agon_wire_add_text(b, tool);
        agon_wire_add_str(b, agon_buf_str(&arguments));
    }
    return agon_buf_check(&arguments, "writes", err);
}

static json_t *wire_writes(struct agon_wire *wire)
{
    json_t *writes = json_array();
    int n = agon_wire_count(wire);
    for (int i = 0; writes && i < n; i++) {
        struct agon_str tool = agon_wire_str(wire);
        json_t *arguments = agon_wire_json(wire);
        json_t *write =
            json_pack("{s:s%, s:o}", "tool", tool.data, tool.size, "arguments", arguments);
        if (!write || json_array_append_new(writes, write))
            wire->bad = true;
    }
    return writes;
}

struct agon_usage agon_wire_usage(struct agon_wire *wire)
{
    int64_t fuel = agon_wire_int(wire), ops = agon_wire_int(wire);
    return (struct agon_usage){fuel, ops, (int)agon_wire_int(wire)};
}

int agon_wire_solved(struct agon_wire *wire, struct agon_solved *ret, struct agon_err *err)
{
    ret->calls = agon_wire_json(wire);
    ret->writes = wire_writes(wire);
    ret->columns = json_array();
    int n = agon_wire_count(wire);
    for (int i = 0; i < n && !wire->bad; i++) {
        struct agon_str name = agon_wire_str(wire);
        wire->bad |= json_array_append_new(ret->columns, json_stringn(name.data, name.size)) != 0;
    }
    ret->usage = agon_wire_usage(wire);
    return wire->bad ? agon_fail(err, AGON_EINPUT, "the cell described a run badly") : 0;
}
