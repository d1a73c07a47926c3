/* Writes one of the tests' models to a file: for tests that start programs. */
#include <stdio.h>
#include <string.h>

#include "tests/gguf/tiny_gguf.h"

int main(int argc, char **argv) {
    if (argc != 3 || (strcmp(argv[1], "chain") != 0 && strcmp(argv[1], "random") != 0)) {
        fprintf(stderr, "usage: troupe-tiny-gguf chain|random FILE\n");
        return 2;
    }
    tr_tiny_spec spec = {.kind = argv[1][0] == 'c' ? TR_TINY_CHAIN : TR_TINY_RANDOM};
    if (!tr_tiny_gguf_write(&spec, argv[2])) {
        perror(argv[2]);
        return 1;
    }
    return 0;
}
