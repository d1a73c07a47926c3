/*
 * A local model's text of any bytes, read for tool calls: nothing crashes, each byte is said once
 * or held back, what is said is a function of the bytes alone, and a call begins before its
 * arguments and with a name that it was given.
 */
#include <stdint.h>
#include <string.h>

#include "inference/engine_calls.h"
#include "protocol/assert.h"
#include "protocol/kind.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const tr_str names[] = {{"weather", 7}, {"weather_of", 10}, {"a\\\"b", 4}};
enum { name_count = sizeof names / sizeof *names };

typedef struct told {
    uint64_t hash;
    size_t text; /* bytes said as text */
    uint32_t calls;
} told;

static void take(told *told, const tri_calls_out *out) {
    switch (out->kind) {
    case 0:
        return;
    case TR_DELTA_TEXT:
        told->text += out->text.size;
        break;
    case TR_DELTA_TOOL_START:
        TR_ASSERT(out->call == told->calls && out->tool < name_count);
        told->calls++;
        break;
    default:
        TR_ASSERT(out->kind == TR_DELTA_TOOL_ARGS && out->call + 1 == told->calls);
        break;
    }
    told->hash = (told->hash ^ (uint64_t)out->kind) * 1099511628211U;
    for (size_t i = 0; i < out->text.size; i++) {
        told->hash = (told->hash ^ (unsigned char)out->text.ptr[i]) * 1099511628211U;
    }
}

static told hear(const char *text, size_t size) {
    static tri_calls calls;
    told told = {.hash = 14695981039346656037U};
    tri_calls_init(&calls, names, name_count);
    for (size_t i = 0; i < size; i++) {
        tri_calls_out out = tri_calls_feed(&calls, text + i);
        take(&told, &out);
        TR_ASSERT(tri_calls_held(&calls) <= i + 1);
    }
    tri_calls_out out = tri_calls_finish(&calls);
    take(&told, &out);
    TR_ASSERT(told.calls == calls.count && told.text <= size);
    TR_ASSERT(told.calls > 0 || told.text == size);
    return told;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2) {
        return 0; /* the driver puts two bytes before each seed */
    }
    told once = hear((const char *)bytes + 2, size - 2);
    told twice = hear((const char *)bytes + 2, size - 2);
    TR_ASSERT(once.hash == twice.hash);
    return 0;
}
