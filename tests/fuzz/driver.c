/*
 * Runs a fuzz target without libFuzzer, so that it is built and run with every compiler and in
 * every test run: each file of the folders given, whole, and a number of seeded mutations of them.
 * Usage: driver COUNT FOLDER... The seed is fixed: the same tree gives the same run.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS_max 1024
#define SIZE_max 65536

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct {
    uint8_t *bytes;
    size_t size;
} seeds[SEEDS_max];
static size_t seed_count;
static uint64_t state = 42;

static uint64_t next(uint64_t below) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (state >> 33) % below;
}

static void load(const char *folder, const char *name) {
    char path[1024];
    static uint8_t bytes[SIZE_max];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL || seed_count == SEEDS_max) {
        return;
    }
    /* Targets read how to run from the first bytes. */
    size_t size = 2 + fread(bytes + 2, 1, sizeof(bytes) - 2, file);
    fclose(file);
    bytes[0] = bytes[1] = 0;
    uint8_t *kept = malloc(size);
    if (kept != NULL) {
        memcpy(kept, bytes, size);
        seeds[seed_count].bytes = kept;
        seeds[seed_count++].size = size;
    }
}

/* A few bytes changed, a piece of another seed put in, or the end cut off. */
static size_t mutate(uint8_t *bytes, size_t size) {
    for (uint64_t i = next(8); i > 0; i--) {
        bytes[next(size)] = (uint8_t)next(256);
    }
    if (next(2) == 0) {
        size_t other = (size_t)next(seed_count);
        size_t from = (size_t)next(seeds[other].size);
        size_t at = (size_t)next(size);
        size_t length = (size_t)next(256);
        length = length < seeds[other].size - from ? length : seeds[other].size - from;
        length = length < size - at ? length : size - at;
        memcpy(bytes + at, seeds[other].bytes + from, length);
    }
    return next(4) == 0 ? 1 + (size_t)next(size) : size;
}

int main(int argc, char **argv) {
    static uint8_t bytes[SIZE_max];
    unsigned long count = argc < 3 ? 0 : strtoul(argv[1], NULL, 10);
    for (int i = 2; i < argc; i++) {
        struct dirent **entries = NULL;
        int found = scandir(argv[i], &entries, NULL, alphasort);
        for (int k = 0; k < found; k++) {
            if (entries[k]->d_name[0] != '.') {
                load(argv[i], entries[k]->d_name);
            }
            free(entries[k]);
        }
        free(entries);
    }
    if (seed_count == 0) {
        fprintf(stderr, "usage: driver COUNT FOLDER... (folders with files)\n");
        return 2;
    }
    for (size_t i = 0; i < seed_count; i++) {
        LLVMFuzzerTestOneInput(seeds[i].bytes, seeds[i].size);
    }
    for (unsigned long i = 0; i < count; i++) {
        size_t seed = (size_t)next(seed_count);
        memcpy(bytes, seeds[seed].bytes, seeds[seed].size);
        LLVMFuzzerTestOneInput(bytes, mutate(bytes, seeds[seed].size));
    }
    printf("%zu seeds, %lu mutations\n", seed_count, count);
    for (size_t i = 0; i < seed_count; i++) {
        free(seeds[i].bytes);
    }
    return 0;
}
