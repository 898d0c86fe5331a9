/*
 * A profile of kernels, for any program that uses CUDA: a library that the driver loads where
 * CUDA_INJECTION64_PATH names it. At the program's end it prints a line for each kernel and grid
 * (how often, the median, and how much later the device was done because of it, which adds up to
 * the whole where launches overlap), the last launches one by one, and what the host spent in
 * calls. PROF_LAST=n    how many of the last launches are listed (40) PROF_WHOLE=1   from the
 * program's start; else from the first graph's launch on Source: CUPTI's activity API (CUDA Toolkit
 * documentation, CUPTI, "CUPTI Activity API").
 */
#include <cupti.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 8 << 20, LAUNCHES_MAX = 1 << 20, KINDS_MAX = 512, CALLS_MAX = 1024 };

struct launch {
    uint64_t start, end;
    int kind;
    bool graph;
};

struct kind {
    char name[48];
    int grid[3], threads, registers, shared;
    int n, n_listed;
    uint64_t advance, total;
    uint64_t *durations;
};

static struct launch *launches;
static struct kind kinds[KINDS_MAX];
static struct {
    uint64_t total;
    int n;
} calls[CALLS_MAX];
static int n_launches, n_kinds, n_lost;

/* Of the C++ library. */
char *__cxa_demangle(const char *name, char *to, size_t *size, int *ret_status);

/* What stands before a function's arguments. */
static void name_short(char ret[48], const char *name)
{
    char *plain = __cxa_demangle(name, NULL, NULL, NULL);
    const char *from = plain ? plain : name;
    from += strncmp(from, "void ", 5) == 0 ? 5 : 0;
    (void)snprintf(ret, 48, "%.*s", (int)strcspn(from, "("), from);
    free(plain);
}

static int kind_of(const CUpti_ActivityKernel10 *k)
{
    struct kind made = {.grid = {k->gridX, k->gridY, k->gridZ},
                        .threads = k->blockX * k->blockY * k->blockZ,
                        .registers = k->registersPerThread,
                        .shared = k->dynamicSharedMemory + k->staticSharedMemory};
    name_short(made.name, k->name ? k->name : "?");
    for (int i = 0; i < n_kinds; i++)
        if (strcmp(kinds[i].name, made.name) == 0 &&
            memcmp(kinds[i].grid, made.grid, sizeof(made.grid)) == 0 &&
            kinds[i].threads == made.threads && kinds[i].shared == made.shared)
            return i;
    if (n_kinds == KINDS_MAX)
        return KINDS_MAX - 1;
    kinds[n_kinds] = made;
    return n_kinds++;
}

static void take(uint64_t start, uint64_t end, int kind, bool graph)
{
    if (!launches || n_launches == LAUNCHES_MAX)
        n_lost++;
    else
        launches[n_launches++] = (struct launch){start, end, kind, graph};
}

/* A copy or a fill, as a kernel without a grid. */
static int kind_of_bytes(const char *name)
{
    CUpti_ActivityKernel10 made = {.name = name};
    return kind_of(&made);
}

static void take_record(const CUpti_Activity *a)
{
    if (a->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
        const CUpti_ActivityKernel10 *k = (const void *)a;
        take(k->start, k->end, kind_of(k), k->graphId != 0);
    } else if (a->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
        const CUpti_ActivityMemcpy6 *m = (const void *)a;
        take(m->start, m->end, kind_of_bytes("copy"), false);
    } else if (a->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
        const CUpti_ActivityMemset4 *m = (const void *)a;
        take(m->start, m->end, kind_of_bytes("fill"), false);
    } else if (a->kind == CUPTI_ACTIVITY_KIND_RUNTIME) {
        const CUpti_ActivityAPI *c = (const void *)a;
        if (c->cbid < CALLS_MAX) {
            calls[c->cbid].n++;
            calls[c->cbid].total += c->end - c->start;
        }
    }
}

static void CUPTIAPI buffer_wanted(uint8_t **ret, size_t *ret_bytes, size_t *ret_records_max)
{
    *ret = aligned_alloc(8, BUFFER_BYTES);
    *ret_bytes = *ret ? BUFFER_BYTES : 0;
    *ret_records_max = 0;
}

static void CUPTIAPI buffer_full(CUcontext context, uint32_t stream, uint8_t *buffer, size_t bytes,
                                 size_t valid)
{
    CUpti_Activity *a = NULL;
    (void)context;
    (void)stream;
    (void)bytes;
    while (cuptiActivityGetNextRecord(buffer, valid, &a) == CUPTI_SUCCESS)
        take_record(a);
    free(buffer);
}

/* ---- the end ------------------------------------------------------------------------ */

static int by_start(const void *a, const void *b)
{
    const struct launch *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static int by_advance(const void *a, const void *b)
{
    const struct kind *x = &kinds[*(const int *)a], *y = &kinds[*(const int *)b];
    return (x->advance < y->advance) - (x->advance > y->advance);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_kind(const struct kind *k, double whole)
{
    qsort(k->durations, (size_t)k->n_listed, sizeof(*k->durations), by_number);
    printf(
        "%-40s %5d,%3d,%2d x%4d %3d regs %6d B  n %6d  median %8.2f us  later by %9.2f us %5.1f%% "
        "(%.2f each)\n",
        k->name, k->grid[0], k->grid[1], k->grid[2], k->threads, k->registers, k->shared, k->n,
        k->n_listed ? 1e-3 * (double)k->durations[k->n_listed / 2] : 0, 1e-3 * (double)k->advance,
        100 * (double)k->advance / whole, 1e-3 * (double)k->advance / k->n);
}

/* Durations and advances from launch `first` on; returns the time in which nothing ran. */
static uint64_t add_up(int first)
{
    uint64_t done = launches[first].start, idle = 0;
    for (int i = first; i < n_launches; i++)
        kinds[launches[i].kind].n++;
    for (int i = 0; i < n_kinds; i++)
        kinds[i].durations = calloc((size_t)kinds[i].n + 1, sizeof(uint64_t));
    for (int i = first; i < n_launches; i++) {
        const struct launch *l = &launches[i];
        struct kind *k = &kinds[l->kind];
        uint64_t from = l->start > done ? l->start : done;
        idle += l->start > done ? l->start - done : 0;
        if (k->durations)
            k->durations[k->n_listed++] = l->end - l->start;
        k->total += l->end - l->start;
        k->advance += l->end > from ? l->end - from : 0;
        done = l->end > done ? l->end : done;
    }
    return idle;
}

static void print_last(int n)
{
    int first = n_launches > n ? n_launches - n : 0;
    uint64_t done = launches[first].start;
    printf("the last launches: begin, duration, later by (us)\n");
    for (int i = first; i < n_launches; i++) {
        const struct launch *l = &launches[i];
        printf("  %9.2f %8.2f %8.2f  %s %d,%d,%d\n",
               1e-3 * (double)(l->start - launches[first].start),
               1e-3 * (double)(l->end - l->start), 1e-3 * ((double)l->end - (double)done),
               kinds[l->kind].name, kinds[l->kind].grid[0], kinds[l->kind].grid[1],
               kinds[l->kind].grid[2]);
        done = l->end > done ? l->end : done;
    }
}

static void print_calls(void)
{
    for (int i = 0; i < CALLS_MAX; i++) {
        const char *name = NULL;
        if (calls[i].total < 100000)
            continue;
        (void)cuptiGetCallbackName(CUPTI_CB_DOMAIN_RUNTIME_API, (uint32_t)i, &name);
        printf("host: %-44s n %6d  %10.1f us (%.2f each)\n", name ? name : "?", calls[i].n,
               1e-3 * (double)calls[i].total, 1e-3 * (double)calls[i].total / calls[i].n);
    }
}

static int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static void profile_print(void)
{
    int order[KINDS_MAX], first = 0;
    (void)cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    if (n_launches == 0) {
        printf("profile: no kernel was seen\n");
        return;
    }
    qsort(launches, (size_t)n_launches, sizeof(*launches), by_start);
    while (!number_of("PROF_WHOLE", 0) && first < n_launches - 1 && !launches[first].graph)
        first++;
    uint64_t idle = add_up(first);
    double whole = (double)(launches[n_launches - 1].end - launches[first].start);
    printf("profile: %d launches (%d lost) in %.1f us, nothing ran for %.1f us\n",
           n_launches - first, n_lost, 1e-3 * whole, 1e-3 * (double)idle);
    for (int i = 0; i < n_kinds; i++)
        order[i] = i;
    qsort(order, (size_t)n_kinds, sizeof(*order), by_advance);
    for (int i = 0; i < n_kinds && kinds[order[i]].n > 0 && i < 40; i++)
        if ((double)kinds[order[i]].advance > 0.001 * whole)
            print_kind(&kinds[order[i]], whole);
    print_last(number_of("PROF_LAST", 40));
    print_calls();
}

int InitializeInjection(void);
int InitializeInjection(void)
{
    launches = calloc(LAUNCHES_MAX, sizeof(*launches));
    (void)cuptiActivityRegisterCallbacks(buffer_wanted, buffer_full);
    CUptiResult r = cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    if (r != CUPTI_SUCCESS)
        printf("profile: CUPTI says %d\n", (int)r);
    (void)cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    (void)cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
    (void)cuptiActivityEnable(CUPTI_ACTIVITY_KIND_RUNTIME);
    (void)atexit(profile_print);
    return 1;
}
