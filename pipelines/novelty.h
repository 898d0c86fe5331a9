#pragma once
/* How much of a corpus is new to the model that wrote it. */
#include "base/err.h"

#include <stdio.h>

struct agon_corpus;

/*
 * One line: how many kept tasks have a verifier whose shape (verifiers/skeleton.h) is not among
 * those that the author's training drew, DIR/skeletons.bin. Nothing is printed where dir is NULL
 * (the author is no local model) or has no such file.
 */
int agon_novelty_print(struct agon_corpus *c, const char *dir, FILE *to,
                       struct agon_err *err) AGON_MUST_USE;
