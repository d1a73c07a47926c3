/*
 * What is one per process or thread: which process this is (fork makes another), the thread's last
 * error sentence, the clock.
 */
#ifndef TR_CLIENT_PROCESS_H
#define TR_CLIENT_PROCESS_H

#include <stdint.h>

#include "protocol/err.h"

/* A number that differs between a process and its children; costs one read of memory. */
uint64_t tri_process(void);

/* Sets what tr_client_error() says on this thread, and returns `err`. */
tr_err tri_say(tr_err err, const char *format, ...) __attribute__((format(printf, 2, 3)));
tr_err tri_say_forked(void);
tr_err tri_say_nomem(void);

/* CLOCK_MONOTONIC, in ns. */
int64_t tri_now(void);

#define TRI_MS INT64_C(1000000) /* ns in a millisecond */
#define TRI_NEVER INT64_MAX

#endif
