#pragma once
/*
 * Lines for a person on stderr: "level area: text". A run's events go to
 * corpus.db instead. One live progress line, on a terminal only, at most five
 * times a second; any log line first clears it. Everything printed is stripped
 * of control characters, since model-written text may stand in it.
 */
#include "base/err.h"

#include <stdbool.h>

enum agon_log_level { AGON_LOG_ERROR, AGON_LOG_WARN, AGON_LOG_INFO, AGON_LOG_DEBUG };

void agon_log_init(enum agon_log_level most);
void agon_log(enum agon_log_level level, const char *area, const char *fmt, ...) AGON_PRINTF(3, 4);
/* Redraw the progress line (rate-limited unless force); no-op off a terminal. */
void agon_progress(bool force, const char *fmt, ...) AGON_PRINTF(2, 3);
void agon_progress_end(void);
