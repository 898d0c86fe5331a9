#pragma once
/* Milliseconds of the monotonic clock, for deadlines and for the timing tables; for nothing that a digest covers. */
#include <stdint.h>
#include <time.h>

static inline int64_t agon_clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* always there on Linux */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
