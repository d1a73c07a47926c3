/* Clocks and percentiles of the benches; see figures.h. Called by peer*.c and path*.c. */
#include "tests/bench/figures.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static double clock_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

double bench_now_us(void) {
    return clock_us(CLOCK_MONOTONIC);
}

double bench_cpu_us(void) {
    return clock_us(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_add(bench_set *set, double value) {
    if (set->count == set->room) {
        set->room = set->room == 0 ? 1024 : set->room * 2;
        set->values = realloc(set->values, set->room * sizeof *set->values);
        if (set->values == NULL) {
            abort();
        }
    }
    set->values[set->count++] = value;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_at(bench_set *set, double share) {
    if (set->count == 0) {
        return 0;
    }
    qsort(set->values, set->count, sizeof *set->values, by_value);
    size_t i = (size_t)((double)set->count * share);
    return set->values[i < set->count ? i : set->count - 1];
}

void bench_fini(bench_set *set) {
    free(set->values);
    *set = (bench_set){0};
}

int bench_beat(double per_second) {
    long ns = (long)(1e9 / per_second);
    struct timespec gap = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    struct itimerspec beat = {.it_interval = gap, .it_value = gap};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (fd < 0 || timerfd_settime(fd, 0, &beat, NULL) != 0) {
        abort();
    }
    return fd;
}

void bench_wait_beat(int fd) {
    uint64_t beats;
    (void)!read(fd, &beats, sizeof beats);
}

void bench_add_stamps(bench_set *set, const char *text, size_t size, double now_us) {
    double stamp = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            stamp = stamp * 10 + (text[i] - '0');
        } else if (stamp > 0) {
            bench_add(set, now_us - stamp);
            stamp = 0;
        }
    }
}

size_t bench_number(const char *text, size_t max) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || number < 1 || number > max) {
        fprintf(stderr, "%s: expected a number from 1 to %zu\n", text, max);
        exit(2);
    }
    return number;
}
