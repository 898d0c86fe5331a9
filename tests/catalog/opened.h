#pragma once
/* An environment of the catalogue, open in a cell: for tests over what it holds. */
#include "envs/env.h"
#include "envs/runtime.h"

#include <stdbool.h>

static const char *const catalog_names[] = {"trip_planning", "library_loans", "exam_timetable"};
enum { N_CATALOG = 3 };

struct opened {
    struct agon_env *env;
    struct agon_runtime *rt;
};
void opened_deinit(struct opened *o);
/* tools: in the place of its own, or NULL. false, and a line of TAP, where it does not open. */
bool opened_init(struct opened *o, struct agon_sandbox *sandbox, const char *name,
                 const char *tools);
/* NULL where there is none. */
const struct agon_task *opened_task(const struct opened *o, const char *id);
