/* Allocations that fail on demand: see alloc.h. */
#include "tests/alloc.h"

#include <jansson.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static long until; /* allocations until the one that fails; 0: none will */
static bool failed = true, persistent;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *fmt, va_list ap);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_asprintf(char **ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static bool fails_now(void)
{
    if (until == 0 || --until > 0)
        return false;
    failed = true;
    until = persistent ? 1 : 0;
    return true;
}

static bool arrange(long n, bool from_there_on)
{
    bool go_on = n == 1 || failed;
    failed = false;
    persistent = from_there_on;
    until = go_on ? n : 0;
    return go_on;
}

bool alloc_fail_at(long n)
{
    return arrange(n, false);
}

bool alloc_fail_from(long n)
{
    return arrange(n, true);
}

bool alloc_failed(void)
{
    until = 0;
    return failed;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
    return fails_now() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return fails_now() ? NULL : __real_strndup(s, n);
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list ap)
{
    return fails_now() ? -1 : __real_vasprintf(ret, fmt, ap);
}

int __wrap_asprintf(char **ret, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = __wrap_vasprintf(ret, fmt, ap);
    va_end(ap);
    return n;
}

static sqlite3_mem_methods sqlite_own;

static void *sqlite_malloc(int size)
{
    return fails_now() ? NULL : sqlite_own.xMalloc(size);
}

static void *sqlite_realloc(void *p, int size)
{
    return fails_now() ? NULL : sqlite_own.xRealloc(p, size);
}

__attribute__((constructor)) static void alloc_take_over(void)
{
    json_set_alloc_funcs(__wrap_malloc, free);
    (void)sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_own);
    sqlite3_mem_methods mine = sqlite_own;
    mine.xMalloc = sqlite_malloc;
    mine.xRealloc = sqlite_realloc;
    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &mine);
    (void)sqlite3_initialize();
}
