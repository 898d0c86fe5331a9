#pragma once
/* The floor: a C program that runs an episode's SQL with prepared statements on Debian's SQLite as
 * it comes, in this process, with nothing around it. */
#include "tests/bench/sample.h"

struct floor;

struct floor *floor_open(const struct sample *s);
void floor_close(struct floor *f);
/* BEGIN, the statements from `first` on with all columns read, ROLLBACK. */
void floor_episode(struct floor *f, const struct sample_episode *e, int first);
/* BEGIN, its writing statements, ROLLBACK. */
void floor_writes(struct floor *f, const struct sample_episode *e);
/* Open the world from its bytes, checked as a world has to be, and run the verifier's statements.
 */
void floor_first_verdict(const struct sample *s);
