/*
 * What the programs of tests/bench measure with: clocks, a set of figures and its percentiles, and
 * a beat to pace by. One thread.
 */
#ifndef TR_TESTS_BENCH_FIGURES_H
#define TR_TESTS_BENCH_FIGURES_H

#include <stddef.h>
#include <stdio.h>

typedef struct bench_set {
    double *values;
    size_t count, room;
} bench_set;

/* Microseconds, of CLOCK_MONOTONIC and of the process's processor time. */
double bench_now_us(void);
double bench_cpu_us(void);
/* Ends the program when memory runs out, as all of this does. */
void bench_add(bench_set *set, double value);
/* The value below which `share` (0 to 1) of them lie; sorts the set; 0 for an empty one. */
double bench_at(bench_set *set, double share);
void bench_fini(bench_set *set);
/* A descriptor that becomes readable so often a second, and waiting for its next beat. */
int bench_beat(double per_second);
void bench_wait_beat(int fd);
/* A token of the mock's plan `stamp` may hold several times: adds how long ago each was. */
void bench_add_stamps(bench_set *set, const char *text, size_t size, double now_us);
/* A whole number from 1 to `max` of an argument, or the program ends with exit status 2. */
size_t bench_number(const char *text, size_t max);

#endif
