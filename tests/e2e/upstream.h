/*
 * troupe-mock in the place of a provider, and what it says of the connections that it saw. One at a
 * time; it is started before the stage, whose configuration names its port.
 */
#ifndef TR_TESTS_E2E_UPSTREAM_H
#define TR_TESTS_E2E_UPSTREAM_H

#include "tests/e2e/stage.h"

/* Starts the mock (with `--key KEY` unless NULL) and tells its port. */
uint16_t tr_upstream_open(const char *key);
void tr_upstream_close(void);
/* One number of its /stats. */
long long tr_upstream_stat(const char *name);
/* When its requests came, from the first since the last reset on, in microseconds of the monotonic
 * clock; how many. */
size_t tr_upstream_arrivals(uint64_t *ret_us, size_t max);
void tr_upstream_reset(void);
/* Waits until a number of its /stats is `value`, at most `ms`. */
bool tr_upstream_comes_to(const char *name, long long value, long ms);

#endif
