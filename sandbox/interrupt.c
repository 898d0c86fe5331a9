#include "sandbox/interrupt.h"

#include <signal.h>

static volatile sig_atomic_t interrupted;

void agon_interrupt(bool on)
{
    interrupted = on;
}

bool agon_interrupted(void)
{
    return interrupted;
}
