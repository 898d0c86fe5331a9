/* Cells, seen from inside: see worker.h. */
#include "sandbox/worker.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

static _Atomic uint64_t *worker_heartbeat; /* in memory shared with the driver, or NULL */

void agon_worker_beat(void)
{
    if (worker_heartbeat)
        atomic_fetch_add_explicit(worker_heartbeat, 1, memory_order_relaxed);
}
