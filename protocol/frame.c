/* The frame header of frame.h, field by field, so that alignment of the stream does not matter. */
#include "protocol/frame.h"

#include <string.h>

#include "protocol/assert.h"
#include "protocol/wire.h"

#define AFTER_SIZE (TR_FRAME_HEADER_size - 4U)

void tr_frame_encode(const tr_frame *frame, uint8_t out[TR_FRAME_HEADER_size]) {
    TR_ASSERT(frame->inline_size <= TR_FRAME_INLINE_max && frame->body_size <= TR_FRAME_BODY_max);
    uint32_t size = AFTER_SIZE + frame->inline_size + frame->body_size;
    uint32_t reserved = 0;
    memcpy(out, &size, 4);
    memcpy(out + 4, &frame->kind, 2);
    memcpy(out + 6, &frame->flags, 2);
    memcpy(out + 8, &frame->ref, 8);
    memcpy(out + 16, &frame->inline_size, 4);
    memcpy(out + 20, &reserved, 4);
}

tr_err tr_frame_decode(const uint8_t *in, size_t size, size_t body_max, tr_frame *ret) {
    TR_ASSERT(body_max <= TR_FRAME_BODY_max);
    if (size < TR_FRAME_HEADER_size) {
        return TR_ERR_FULL;
    }
    uint32_t after;
    tr_frame frame = {0};
    memcpy(&after, in, 4);
    memcpy(&frame.kind, in + 4, 2);
    memcpy(&frame.flags, in + 6, 2);
    memcpy(&frame.ref, in + 8, 8);
    memcpy(&frame.inline_size, in + 16, 4);
    if (after < AFTER_SIZE) {
        return TR_ERR_PROTOCOL;
    }
    uint32_t content = after - AFTER_SIZE;
    if (frame.inline_size > content) {
        return TR_ERR_PROTOCOL;
    }
    frame.body_size = content - frame.inline_size;
    if (frame.inline_size > TR_FRAME_INLINE_max || frame.body_size > body_max) {
        return TR_ERR_TOO_LARGE;
    }
    if (frame.body_size > 0 && frame.kind != TR_KIND_SUBMIT) {
        return TR_ERR_PROTOCOL;
    }
    *ret = frame;
    return TR_OK;
}
