/*
 * Names of actors: one table a node. Any thread. Internal to runtime/.
 */
#ifndef TR_RUNTIME_REGISTRY_H
#define TR_RUNTIME_REGISTRY_H

#include <pthread.h>
#include <stdint.h>

#include "protocol/err.h"
#include "protocol/id.h"

typedef struct tri_registry {
    pthread_mutex_t names_mtx;
    struct tri_name **buckets; /* guarded by names_mtx */
    uint32_t bucket_count;     /* guarded by names_mtx */
    uint32_t count;            /* guarded by names_mtx */
} tri_registry;

TR_MUST_USE tr_err tri_registry_init(tri_registry *registry);
void tri_registry_fini(tri_registry *registry);
TR_MUST_USE tr_err tri_registry_add(tri_registry *registry, const char *name, tr_id id);
void tri_registry_remove(tri_registry *registry, const char *name, tr_id id);

#endif
