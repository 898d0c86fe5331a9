#pragma once
/*
 * A person who has waited long enough: while the flag is set, every request to a box that is in
 * flight or is made is lost ("interrupted") instead of waited for. For the shell's Ctrl-C; a run
 * that nobody sits at never sets it. One flag for the whole process.
 */
#include <stdbool.h>

void agon_interrupt(bool on); /* may be called by a signal handler */
bool agon_interrupted(void);
