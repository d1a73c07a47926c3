/* Where tools/setup puts the default model, SmolLM2-135M-Instruct. For programs of one thread. */
#ifndef TR_TESTS_LIB_DEFAULT_MODEL_H
#define TR_TESTS_LIB_DEFAULT_MODEL_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Fills `path`. False: it cannot be read there. */
static inline bool tr_default_model(char *path, size_t size) {
    const char *cache = getenv("TROUPE_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (cache != NULL) {
        snprintf(path, size, "%s/models/default.gguf", cache);
    } else if (xdg != NULL) {
        snprintf(path, size, "%s/troupe/models/default.gguf", xdg);
    } else {
        snprintf(path, size, "%s/.cache/troupe/models/default.gguf", home != NULL ? home : "");
    }
    return access(path, R_OK) == 0;
}

#endif
