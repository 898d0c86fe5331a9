#include "tests/bench/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double clock_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* always there on Linux */
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

void measure_add(struct measure *m, double start, double units)
{
    if (m->n < MEASURE_MAX)
        m->us[m->n++] = (clock_us() - start) / units;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure_at(struct measure *m, double share)
{
    qsort(m->us, (size_t)m->n, sizeof(*m->us), by_size);
    return m->n ? m->us[(int)(share * (m->n - 1))] : 0;
}

double measure_median(struct measure *m)
{
    return measure_at(m, 0.5);
}

double measure_low(struct measure *m)
{
    return measure_at(m, 0.1);
}

void measure_print(const char *row, struct measure *m, struct measure *floor)
{
    printf("{\"row\": \"%s\", \"us\": %.3f, \"low\": %.3f", row, measure_median(m), measure_low(m));
    if (floor)
        printf(", \"floor\": %.3f, \"floor_low\": %.3f", measure_median(floor), measure_low(floor));
    printf("}\n");
    fflush(stdout);
}
