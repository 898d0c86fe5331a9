#pragma once
/*
 * uthash (intrusive hash tables, one module's own business) with XXH3 as its hash: its own
 * one falls through switch cases in a way that clang's warnings refuse, and XXH3 is faster.
 */
#include <xxhash.h>

#define HASH_FUNCTION(key, size, hash)                 \
    do {                                               \
        (hash) = (unsigned)XXH3_64bits((key), (size)); \
    } while (0)
/* A table without memory ends no process: what was not added has hh.tbl NULL. */
#ifndef HASH_NONFATAL_OOM
#define HASH_NONFATAL_OOM 1
#endif
#include <uthash.h> /* IWYU pragma: export */
