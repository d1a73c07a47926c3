/* Answers of any bytes through the decoder of the ollama dialect: see decoder.h. */
#include "providers/ollama.h"
#include "tests/fuzz/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    fuzz_decoder(&tr_dialect_ollama, bytes, size);
    return 0;
}
