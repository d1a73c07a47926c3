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

/* Sets what tr_client_error() says on this thread. */
void tri_say_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, and is `err`. */
#define tri_say(err, ...) (tri_say_text(__VA_ARGS__), (tr_err)(err))
tr_err tri_say_forked(void);
static inline tr_err tri_say_nomem(void) {
    return tri_say(TR_ERR_NOMEM, "There is not enough memory for this request.");
}

/* CLOCK_MONOTONIC, in ns. */
int64_t tri_now(void);

#define TRI_MS INT64_C(1000000) /* ns in a millisecond */
#define TRI_NEVER INT64_MAX

#endif
