/*
 * Key files of any bytes: nothing crashes, each key is a slice of the text that a header can carry,
 * and a refusal says why without a byte of what it refuses.
 */
#include <stdint.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "providers/key_file.h"
#include "providers/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    tr_str keys[TR_KEYS_max];
    char why[128] = "";
    size_t count = 0;
    if (size < 2) {
        return 0;
    }
    size -= 2; /* the driver puts two bytes before each seed */
    const char *text = (const char *)bytes + 2;
    if (tr_key_lines(text, size, keys, TR_KEYS_max, &count, why, sizeof why) != TR_OK) {
        TR_ASSERT(strncmp(why, "line ", 5) == 0 || strncmp(why, "it holds more than ", 19) == 0);
        return 0;
    }
    TR_ASSERT(count <= TR_KEYS_max);
    for (size_t i = 0; i < count; i++) {
        TR_ASSERT(keys[i].ptr >= text && keys[i].ptr + keys[i].size <= text + size);
        TR_ASSERT(tr_key_valid(keys[i]));
    }
    return 0;
}
