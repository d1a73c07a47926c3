/*
 * A growing run of bytes, always followed by a NUL once it holds something. Zero-initialised is
 * empty.
 */
#ifndef TR_CLIENT_BUFFER_H
#define TR_CLIENT_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/wire.h"

typedef struct tri_buffer {
    uint8_t *data;
    size_t size;
    size_t room; /* without the NUL */
} tri_buffer;

void tri_buffer_fini(tri_buffer *buffer);
/* Room for `size` more bytes at the end, counted as content already; NULL = out of memory. */
uint8_t *tri_buffer_grow(tri_buffer *buffer, size_t size);
TR_MUST_USE tr_err tri_buffer_add(tri_buffer *buffer, const void *data, size_t size);
/* Replaces the content. */
TR_MUST_USE tr_err tri_buffer_set(tri_buffer *buffer, tr_str text);
/* Empties; memory above `keep` bytes is given back. */
void tri_buffer_clear(tri_buffer *buffer, size_t keep);
/* As a string; "" when empty. */
const char *tri_buffer_text(const tri_buffer *buffer);

#endif
