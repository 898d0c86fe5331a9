#pragma once
/* What ls and the end of a run print. */
#include "base/err.h"

#include <stdio.h>

struct agon_corpus;

/* Environments: status, tasks kept of accepted, what comes next. */
int agon_listing_environments(struct agon_corpus *c, FILE *to, struct agon_err *err) AGON_MUST_USE;
/* Tasks of one environment, kept or not, with rates and reasons. */
int agon_listing_tasks(struct agon_corpus *c, const char *environment, FILE *to,
                       struct agon_err *err) AGON_MUST_USE;
/* Kept tasks with their rates, and one line of totals. */
int agon_listing_kept(struct agon_corpus *c, FILE *to, struct agon_err *err) AGON_MUST_USE;
/* Print text without control characters, newlines as spaces, at most n_max characters. */
void agon_listing_text(FILE *to, const char *text, int n_max);
/* Print text with its newlines and tabs, other control characters as spaces; it ends in a newline.
 */
void agon_listing_block(FILE *to, const char *text);
