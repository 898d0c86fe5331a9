#pragma once
/* What a run used of what it may use. Fuel and operations are functions of code, data and build:
 * equal each time, so that a test may hold them against a record. */
#include <stdint.h>

struct agon_usage {
    int64_t fuel; /* of Lua */
    int64_t ops;  /* of SQLite's virtual machine */
    int share;    /* the largest share of a limit of fuel or operations, in thousandths */
};

static inline void agon_usage_raise(struct agon_usage *usage, int64_t used, int64_t max)
{
    int share = max > 0 ? (int)((used * 1000 + max - 1) / max) : 0;
    usage->share = share > usage->share ? share : usage->share;
}
