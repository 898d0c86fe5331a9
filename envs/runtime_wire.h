#pragma once
/* What the driver's side of envs/ and verifiers/ share: requests to a runtime's cell. */
#include "envs/runtime.h"
#include "envs/wire.h"

/*
 * Send a request to the runtime's cell, opening a fresh one where there is none and
 * again where one is lost; AGON_ESYS "refused" after three. reply is emptied first.
 */
int agon_runtime_request(struct agon_runtime *rt, const char *op, struct agon_str request,
                         struct agon_buf *reply, struct agon_err *err) AGON_MUST_USE;
/* The two halves, to keep several runtimes busy: begin sends to the cell, which is opened where
 * there is none, and returns; end waits, and where that cell is lost does what
 * agon_runtime_request() does. The request stands until then. */
int agon_runtime_begin(struct agon_runtime *rt, const char *op, struct agon_str request,
                       struct agon_err *err) AGON_MUST_USE;
int agon_runtime_end(struct agon_runtime *rt, const char *op, struct agon_str request,
                     struct agon_buf *reply, struct agon_err *err) AGON_MUST_USE;
/* Writes as the cell reads them: a count, then tool and arguments. NULL: none. AGON_EINPUT names a
 * malformed one. */
int agon_wire_add_writes(struct agon_buf *b, const json_t *writes,
                         struct agon_err *err) AGON_MUST_USE;
/* A JSON value in a reply (new reference), or NULL and wire->bad. */
json_t *agon_wire_json(struct agon_wire *wire);
/* What a run used: fuel, operations, share. */
struct agon_usage agon_wire_usage(struct agon_wire *wire);
/* What env.solve and verify.trial say of a run: calls, writes, reads, usage, into ret. */
int agon_wire_solved(struct agon_wire *wire, struct agon_solved *ret,
                     struct agon_err *err) AGON_MUST_USE;
/* Copy a reason out of a reply. */
void agon_wire_reason(struct agon_wire *wire, struct agon_buf *reason);
