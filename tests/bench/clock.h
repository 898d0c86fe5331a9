#pragma once
/*
 * Measuring on a machine that is not ours alone: two or more things by turns, and their medians.
 * Besides the time on the wall, the processor time of this process and of the cell it watches:
 * waiting for a processor that others have is no cost of ours.
 */
#include <time.h>

enum { MEASURE_MAX = 1000 };

struct lap {
    double wall_us, cpu_us;
};
struct measure {
    double wall_us[MEASURE_MAX], cpu_us[MEASURE_MAX]; /* for one unit of work */
    int n;
};

/* Count the processor time of this process (a cell), too; -1: none. */
void measure_watch(int pid);
struct lap lap_start(void);
/* Note what `units` of work took since start. */
void measure_add(struct measure *m, struct lap start, double units);
/* Note what one unit took somewhere else. */
void measure_note(struct measure *m, struct lap took);
double measure_wall(struct measure *m); /* medians */
double measure_cpu(struct measure *m);
/* One line for runtime.py: {"row": ..., "us": ..., "cpu": ..., "floor": ..., "floor_cpu": ...};
 * floor may be NULL. */
void measure_print(const char *row, struct measure *m, struct measure *floor);
/* The process that descends from this one and has the most memory: the cell. Its pid, or -1. */
int largest_child(long *ret_kib);
