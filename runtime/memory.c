/* The table of memory.h and its default. The table is written before any thread starts, so readers
 * need no lock. */
#include "runtime/memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static void *libc_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    return realloc(ptr, size);
}

static void libc_release(void *arg, void *ptr) {
    (void)arg;
    free(ptr);
}

static const tr_memory libc_memory = {.resize = libc_resize, .release = libc_release, .arg = NULL};
static tr_memory memory = {.resize = libc_resize, .release = libc_release, .arg = NULL};

void tr_memory_set(const tr_memory *table) {
    memory = table != NULL ? *table : libc_memory;
}

bool tri_memory_is_libc(void) {
    return memory.resize == libc_resize;
}

void tri_memory_trim(void) {
    if (tri_memory_is_libc()) {
        malloc_trim(0);
    }
}

void *tr_alloc(size_t size) {
    return memory.resize(memory.arg, NULL, size);
}

void *tr_zalloc(size_t size) {
    void *ptr = tr_alloc(size);
    if (ptr != NULL) {
        memset(ptr, 0, size);
    }
    return ptr;
}

void *tr_realloc(void *ptr, size_t size) {
    return memory.resize(memory.arg, ptr, size);
}

void tr_free(void *ptr) {
    if (ptr != NULL) {
        memory.release(memory.arg, ptr);
    }
}

char *tr_strndup(const char *text, size_t size) {
    char *copy = tr_alloc(size + 1);
    if (copy != NULL) {
        memcpy(copy, text, size);
        copy[size] = '\0';
    }
    return copy;
}
