/* Answers of any bytes through the decoder of the responses dialect: see decoder.h. */
#include "providers/responses.h"
#include "tests/fuzz/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    fuzz_decoder(&tr_dialect_responses, bytes, size);
    return 0;
}
