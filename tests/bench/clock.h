#pragma once
/* Measuring on a machine that is not ours alone: two or more things by turns, and their medians. */

enum { MEASURE_MAX = 1000 };

struct measure {
    double us[MEASURE_MAX]; /* for one unit of work */
    int n;
};

double clock_us(void);
/* Note that `units` of work took from start (clock_us()) until now. */
void measure_add(struct measure *m, double start, double units);
double measure_median(struct measure *m);
double measure_low(struct measure *m); /* the tenth of a hundred: what a quiet machine would show */
/* One line for runtime.py: {"row": ..., "us": ..., "low": ..., "floor": ..., "floor_low": ...};
 * floor may be NULL. */
void measure_print(const char *row, struct measure *m, struct measure *floor);
