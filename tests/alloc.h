#pragma once
/*
 * Allocations that fail on demand, for programs that link test_alloc_dep: the
 * linker sends our code's malloc, calloc, realloc, strdup, strndup and asprintf
 * through here, and jansson's and SQLite's come along. The loop that every
 * constructor should survive:
 *
 *     for (long n = 1; alloc_fail_at(n); n++)
 *         EXPECT(thing_new(&thing, &err) == AGON_ENOMEM || !alloc_failed());
 */
#include <stdbool.h>

/* Arrange that the nth allocation from now fails, once. False when the one arranged
 * before never came, which ends the loop: the work needs fewer than n allocations. */
bool alloc_fail_at(long n);
/* The same, but all after it fail too: memory does not come back. */
bool alloc_fail_from(long n);
/* Has it come? Ends the arrangement. */
bool alloc_failed(void);
