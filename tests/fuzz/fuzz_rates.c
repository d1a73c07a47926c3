/*
 * Headers of any bytes, as HEAD has them, and each line by itself as a span of time: nothing
 * crashes, and what is read is never negative and never for ever.
 */
#include <stdint.h>
#include <string.h>

#include "protocol/assert.h"
#include "providers/rates.h"

#define NOW_MS 1742031500000LL
#define YEAR_MS (366LL * 24 * 3600 * 1000)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    tr_rates rates;
    if (size < 2) {
        return 0;
    }
    size -= 2; /* the driver puts two bytes before each seed */
    const char *text = (const char *)bytes + 2;
    const char *end = text + size;
    (void)tr_rates_read((tr_str){text, size}, NOW_MS, &rates);
    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        const char *colon = NULL;
        int64_t ms = 0;
        stop = stop != NULL ? stop : end;
        colon = memchr(text, ':', (size_t)(stop - text));
        const char *value = colon != NULL ? colon + 1 : text;
        while (value < stop && *value == ' ') {
            value++;
        }
        if (tr_rates_reset((tr_str){value, (size_t)(stop - value)}, NOW_MS, &ms)) {
            TR_ASSERT(ms >= 0 && ms <= YEAR_MS);
        }
        text = stop < end ? stop + 1 : end;
    }
    return 0;
}
