#pragma once
/* Shared by corpus.c and corpus_hash.c. */
#include "pipelines/corpus.h"

struct agon_corpus {
    char *dir; /* owned, without trailing slashes */
    struct sqlite3 *db;
    int dir_fd;  /* held, so that a deleted or replaced folder is noticed */
    int lock_fd; /* -1 when opened to look at */
};

/* Now, as "2025-10-01T12:00:00Z": for timing tables only. */
void agon_now_text(char ret[32]);
