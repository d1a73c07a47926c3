/*
 * A peer on the daemon's socket that writes any bytes: what the client library would never do.
 * Blocking, with time limits; a test's thread.
 */
#ifndef TR_TESTS_E2E_RAW_H
#define TR_TESTS_E2E_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/limits.h"
#include "protocol/wire.h"

/* Dials the stage's daemon: a descriptor, or -1. */
int raw_dial(void);
/* False: the other side has closed. */
bool raw_write(int fd, const void *data, size_t size);

/* Frames into `out` (of at least 512 bytes): their size. */
size_t raw_hello(uint8_t *out, uint16_t version);
size_t raw_submit(uint8_t *out, uint64_t ref, const char *target, const char *body,
                  uint32_t credit_messages, uint32_t credit_bytes);

typedef struct raw_frame {
    uint16_t kind;
    uint64_t ref;
    uint32_t size; /* of the inline part */
    _Alignas(8) uint8_t data[TR_DELTA_max];
} raw_frame;

/* The next frame; false when none came within `ms`, or the other side closed. */
bool raw_read(int fd, raw_frame *ret, int ms);
/* Whether the other side closes within `ms`; what it says before is dropped. */
bool raw_closes(int fd, int ms);

#endif
