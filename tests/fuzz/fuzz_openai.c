/* Answers of any bytes through the decoder of the openai dialect: see decoder.h. */
#include "providers/openai.h"
#include "tests/fuzz/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    fuzz_decoder(&tr_dialect_openai, bytes, size);
    return 0;
}
