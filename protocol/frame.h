/*
 * Frames: how messages lie on a byte stream (ipc, tcp, tls+tcp). Little-endian, 24 bytes of header,
 * then the inline part, then the body. Frames follow each other without padding.
 *
 *     0        4      6      8                16           20          24
 *     +--------+------+------+----------------+------------+-----------+--------------+----------+
 *     | size   | kind | flags| ref            | inline_size| reserved  | inline part  | body     |
 *     +--------+------+------+----------------+------------+-----------+--------------+----------+
 *
 * `size` counts everything after the first four bytes. `ref` is chosen by the side that sends
 * SUBMIT, unique among its open requests, and names the request in both directions.
 */
#ifndef TR_PROTOCOL_FRAME_H
#define TR_PROTOCOL_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/err.h"
#include "protocol/limits.h"

typedef struct tr_frame {
    uint16_t kind;
    uint16_t flags;
    uint64_t ref;
    uint32_t inline_size;
    uint32_t body_size;
} tr_frame;

/* Writes the header. Any thread. */
void tr_frame_encode(const tr_frame *frame, uint8_t out[TR_FRAME_HEADER_size]);

/* Reads a header from the first `size` bytes at `in`. TR_OK: *ret is filled and its sizes are
 * within the limits (the body's too: `body_max`, at most TR_FRAME_BODY_max; only a SUBMIT may have
 * a body). TR_ERR_FULL: fewer than 24 bytes, come back with more. TR_ERR_TOO_LARGE or
 * TR_ERR_PROTOCOL: the stream cannot be understood any further: close it. Any thread. */
TR_MUST_USE tr_err tr_frame_decode(const uint8_t *in, size_t size, size_t body_max, tr_frame *ret);

/* Header, inline part and body together. */
static inline size_t tr_frame_size(const tr_frame *frame) {
    return (size_t)TR_FRAME_HEADER_size + frame->inline_size + frame->body_size;
}

#endif
