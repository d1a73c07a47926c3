/* Answers of any bytes through the decoder of the gemini dialect: see decoder.h. */
#include "providers/gemini.h"
#include "tests/fuzz/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    fuzz_decoder(&tr_dialect_gemini, bytes, size);
    return 0;
}
