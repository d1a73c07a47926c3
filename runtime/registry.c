/*
 * Names of actors: one table a node, a mutex around it, since an actor on any shard registers and
 * any thread asks. Looked up once a request at most, so a lock costs nothing that matters; no lock
 * is held while anything else runs.
 */
#include <string.h>

#include "runtime/memory.h"
#include "runtime/shard_internal.h"

#define BUCKETS_FIRST 64U

typedef struct tri_name {
    struct tri_name *next;
    tr_id id;
    uint64_t hash;
    char text[];
} tri_name;

static uint64_t hash_of(const char *text) {
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a */
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3U;
    }
    return hash;
}

static tri_name **place_of_locked(tri_registry *registry, const char *text, uint64_t hash) {
    tri_name **link = &registry->buckets[hash & (registry->bucket_count - 1)];
    while (*link != NULL && ((*link)->hash != hash || strcmp((*link)->text, text) != 0)) {
        link = &(*link)->next;
    }
    return link;
}

/* Out of memory leaves longer chains. */
static void grow_locked(tri_registry *registry) {
    uint32_t wider = registry->bucket_count * 4;
    tri_name **buckets = tr_zalloc(wider * sizeof *buckets);
    if (buckets == NULL) {
        return;
    }
    for (uint32_t i = 0; i < registry->bucket_count; i++) {
        for (tri_name *name = registry->buckets[i]; name != NULL;) {
            tri_name *next = name->next;
            name->next = buckets[name->hash & (wider - 1)];
            buckets[name->hash & (wider - 1)] = name;
            name = next;
        }
    }
    tr_free(registry->buckets);
    registry->buckets = buckets;
    registry->bucket_count = wider;
}

tr_err tri_registry_init(tri_registry *registry) {
    *registry = (tri_registry){.bucket_count = BUCKETS_FIRST};
    registry->buckets = tr_zalloc(BUCKETS_FIRST * sizeof(tri_name *));
    pthread_mutex_init(&registry->names_mtx, NULL);
    return registry->buckets != NULL ? TR_OK : TR_ERR_NOMEM;
}

void tri_registry_fini(tri_registry *registry) {
    for (uint32_t i = 0; registry->buckets != NULL && i < registry->bucket_count; i++) {
        while (registry->buckets[i] != NULL) {
            tri_name *next = registry->buckets[i]->next;
            tr_free(registry->buckets[i]);
            registry->buckets[i] = next;
        }
    }
    tr_free(registry->buckets);
    pthread_mutex_destroy(&registry->names_mtx);
}

tr_err tri_registry_add(tri_registry *registry, const char *name, tr_id id) {
    size_t size = strlen(name) + 1;
    tri_name *added = tr_alloc(sizeof *added + size);
    if (added == NULL) {
        return TR_ERR_NOMEM;
    }
    added->id = id;
    added->hash = hash_of(name);
    added->next = NULL;
    memcpy(added->text, name, size);
    pthread_mutex_lock(&registry->names_mtx);
    tri_name **link = place_of_locked(registry, name, added->hash);
    bool taken = *link != NULL;
    if (!taken) {
        *link = added;
        if (++registry->count > registry->bucket_count) {
            grow_locked(registry);
        }
    }
    pthread_mutex_unlock(&registry->names_mtx);
    if (taken) {
        tr_free(added);
        return TR_ERR_EXISTS;
    }
    return TR_OK;
}

void tri_registry_remove(tri_registry *registry, const char *name, tr_id id) {
    pthread_mutex_lock(&registry->names_mtx);
    tri_name **link = place_of_locked(registry, name, hash_of(name));
    tri_name *removed = *link;
    if (removed != NULL && removed->id == id) {
        *link = removed->next;
        registry->count--;
    } else {
        removed = NULL;
    }
    pthread_mutex_unlock(&registry->names_mtx);
    tr_free(removed);
}

tr_id tr_whereis(tr_node *node, const char *name) {
    tri_registry *registry = &node->registry;
    pthread_mutex_lock(&registry->names_mtx);
    const tri_name *found = *place_of_locked(registry, name, hash_of(name));
    tr_id id = found != NULL ? found->id : TR_ID_NONE;
    pthread_mutex_unlock(&registry->names_mtx);
    return id;
}
