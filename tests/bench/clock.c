#include "tests/bench/clock.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static clockid_t watched;
static bool watching;

void measure_watch(int pid)
{
    watching = pid > 0 && clock_getcpuclockid(pid, &watched) == 0;
}

static double clock_us(clockid_t clock)
{
    struct timespec t = {0};
    (void)clock_gettime(clock, &t); /* 0 for a process that is gone */
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

struct lap lap_start(void)
{
    return (struct lap){clock_us(CLOCK_MONOTONIC),
                        clock_us(CLOCK_PROCESS_CPUTIME_ID) + (watching ? clock_us(watched) : 0)};
}

void measure_add(struct measure *m, struct lap start, double units)
{
    struct lap now = lap_start();
    measure_note(m, (struct lap){(now.wall_us - start.wall_us) / units,
                                 (now.cpu_us - start.cpu_us) / units});
}

void measure_note(struct measure *m, struct lap took)
{
    if (m->n == MEASURE_MAX)
        return;
    m->wall_us[m->n] = took.wall_us;
    m->cpu_us[m->n++] = took.cpu_us;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *all, int n)
{
    qsort(all, (size_t)n, sizeof(*all), by_size);
    return n ? all[n / 2] : 0;
}

double measure_wall(struct measure *m)
{
    return median(m->wall_us, m->n);
}

double measure_cpu(struct measure *m)
{
    return median(m->cpu_us, m->n);
}

void measure_print(const char *row, struct measure *m, struct measure *floor)
{
    printf("{\"row\": \"%s\", \"us\": %.3f, \"cpu\": %.3f", row, measure_wall(m), measure_cpu(m));
    if (floor)
        printf(", \"floor\": %.3f, \"floor_cpu\": %.3f", measure_wall(floor), measure_cpu(floor));
    printf("}\n");
    fflush(stdout);
}

struct process {
    int pid, parent;
    long kib;
};

/* From /proc/PID/stat; false where the process is gone. */
static bool process_read(struct process *ret, const char *pid)
{
    char path[300], text[1024];
    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    FILE *f = fopen(path, "r");
    size_t size = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    text[size] = '\0';
    if (f)
        (void)fclose(f);           /* only read */
    char *at = strrchr(text, ')'); /* then the state, the parent and, 20 fields on, the pages */
    *ret = (struct process){.pid = atoi(pid)};
    for (int field = 0; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
        if (at && field == 1)
            ret->parent = atoi(at);
        if (at && field == 21)
            ret->kib = atol(at) * (sysconf(_SC_PAGESIZE) / 1024);
    }
    return at != NULL;
}

int largest_child(long *ret_kib)
{
    static struct process all[65536];
    int n = 0, pid = -1;
    DIR *dir = opendir("/proc");
    for (struct dirent *d; dir && n < 65536 && (d = readdir(dir));)
        n += isdigit((unsigned char)*d->d_name) && process_read(&all[n], d->d_name);
    if (dir)
        (void)closedir(dir); /* only read */
    *ret_kib = 0;
    for (int i = 0; i < n; i++) {
        int up = all[i].parent;
        for (int k = 0; k < n && up > 1 && up != getpid(); k++)
            if (all[k].pid == up) {
                up = all[k].parent;
                k = -1;
            }
        if (up == getpid() && all[i].kib > *ret_kib) {
            *ret_kib = all[i].kib;
            pid = all[i].pid;
        }
    }
    return pid;
}
