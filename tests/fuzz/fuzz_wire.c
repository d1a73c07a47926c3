/*
 * A stream of any bytes as a door reads it: headers, then the check of each message. Nothing
 * crashes or reads beyond a message, and what passes the check is what the writers would write
 * again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/frame.h"
#include "protocol/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* What the writers make of the views; 0 where a kind has none. */
static size_t rewrite(uint16_t kind, const void *data, void *out) {
    if (kind == TR_KIND_SUBMIT) {
        tr_submit_view view = tr_submit_read(data);
        tr_submit_write(out, data, &view);
        return tr_submit_size(data, &view);
    }
    if (kind == TR_KIND_DELTA) {
        tr_delta_view view = tr_delta_read(data);
        tr_delta_write(out, data, &view);
        return tr_delta_size(data, &view);
    }
    if (kind == TR_KIND_DONE) {
        tr_end_view view = tr_done_read(data);
        tr_done_write(out, data, &view);
        return tr_done_size(&view);
    }
    if (kind == TR_KIND_FAIL) {
        tr_end_view view = tr_fail_read(data);
        tr_fail_write(out, data, &view);
        return tr_fail_size(&view);
    }
    if (kind == TR_KIND_HELLO) {
        tr_hello_view view = tr_hello_read(data);
        tr_hello_write(out, data, &view);
        return tr_hello_size(&view);
    }
    if (kind == TR_KIND_WELCOME) {
        tr_str software = tr_welcome_read(data);
        tr_welcome_write(out, data, software);
        return tr_welcome_size(software);
    }
    return 0;
}

static void check(uint16_t kind, const uint8_t *bytes, size_t size) {
    size_t room = size > 0 ? size : 1;
    uint8_t *data = malloc(room); /* of its own, so that a sanitizer sees a read beyond it */
    uint8_t *again = malloc(room);
    TR_ASSERT(data != NULL && again != NULL);
    memcpy(data, bytes, size);
    if (tr_wire_check(kind, data, size) == TR_OK) {
        size_t written = rewrite(kind, data, again);
        TR_ASSERT(written == 0 || written == size);
        TR_ASSERT(memcmp(again, data, written) == 0);
    }
    free(data);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    tr_frame frame;
    size_t at = 2; /* as the driver writes */
    while (at < size &&
           tr_frame_decode(bytes + at, size - at, TR_FRAME_BODY_max, &frame) == TR_OK) {
        size_t whole = tr_frame_size(&frame);
        TR_ASSERT(whole <= TR_FRAME_max);
        size_t came = size - at - TR_FRAME_HEADER_size;
        check(frame.kind, bytes + at + TR_FRAME_HEADER_size,
              came < frame.inline_size ? came : frame.inline_size);
        at += whole < size - at ? whole : size - at;
    }
    return 0;
}
