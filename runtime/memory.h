/*
 * Memory of the runtime and everything above it, through one table, so that a test can make the Nth
 * allocation fail. The table is a process-wide setting: set it before the first node is made, never
 * while one lives.
 */
#ifndef TR_RUNTIME_MEMORY_H
#define TR_RUNTIME_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct tr_memory {
    void *(*resize)(void *arg, void *ptr, size_t size); /* as realloc(3); called by any thread */
    void (*release)(void *arg, void *ptr);              /* as free(3) */
    void *arg;
} tr_memory;

/* NULL = realloc and free of the C library. */
void tr_memory_set(const tr_memory *table);
/* Whether it is the C library's. Internal to runtime/. */
bool tri_memory_is_libc(void);
/* Lets the C library give back what it keeps of freed memory; milliseconds after much was freed.
 * Any thread. Internal to runtime/. */
void tri_memory_trim(void);

/* Zeroed memory, or NULL. Any thread. */
void *tr_zalloc(size_t size);
/* Uninitialised memory, or NULL. Any thread. */
void *tr_alloc(size_t size);
/* As realloc(3). Any thread. */
void *tr_realloc(void *ptr, size_t size);
/* NULL is fine. Any thread. */
void tr_free(void *ptr);
/* A NUL-terminated copy of `size` bytes, or NULL. Any thread. */
char *tr_strndup(const char *text, size_t size);

#endif
