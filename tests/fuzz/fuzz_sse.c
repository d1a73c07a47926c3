/*
 * Server-sent events of any bytes: nothing crashes, and the events are the same however the bytes
 * are cut (the first byte says how).
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "providers/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct heard {
    uint64_t hash;
    size_t count;
} heard;

static void mix(heard *heard, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        heard->hash = (heard->hash ^ (unsigned char)bytes[i]) * 1099511628211U;
    }
    heard->hash = (heard->hash ^ size) * 1099511628211U;
}

static tr_err hear(void *arg, const tr_sse_event *event) {
    heard *heard = arg;
    heard->count++;
    mix(heard, event->type.ptr, event->type.size);
    mix(heard, event->data.ptr, event->data.size);
    mix(heard, event->bare ? "b" : "f", 1);
    return TR_OK;
}

static heard parse(const char *bytes, size_t size, size_t step) {
    tr_sse sse;
    heard heard = {.hash = 14695981039346656037U};
    tr_sse_init(&sse);
    for (size_t at = 0; at < size; at += step) {
        size_t left = size - at;
        TR_ASSERT(tr_sse_feed(&sse, bytes + at, left < step ? left : step, hear, &heard) == TR_OK);
    }
    TR_ASSERT(tr_sse_end(&sse, hear, &heard) == TR_OK);
    tr_sse_fini(&sse);
    return heard;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2) {
        return 0;
    }
    const char *text = (const char *)bytes + 1;
    heard whole = parse(text, size - 1, size);
    heard cut = parse(text, size - 1, 1U + bytes[0] % 32U);
    TR_ASSERT(whole.hash == cut.hash && whole.count == cut.count);
    return 0;
}
