/*
 * A map from (actor, ref) to a number: how the door finds a transfer and a provider its request.
 * Open addressing; grows; deletion leaves no tombstones. One thread. Internal to providers/.
 */
#ifndef TR_PROVIDERS_SLOTS_H
#define TR_PROVIDERS_SLOTS_H

#include <stdbool.h>

#include "protocol/err.h"
#include "protocol/id.h"

typedef struct tri_slot_entry {
    tr_id id; /* TR_ID_NONE = free */
    uint64_t ref;
    uint32_t value;
} tri_slot_entry;

typedef struct tri_slots {
    tri_slot_entry *entries;
    uint32_t room; /* a power of two, or 0 */
    uint32_t count;
} tri_slots;

void tri_slots_fini(tri_slots *slots);
/* TR_ERR_EXISTS or TR_ERR_NOMEM. `id` is not TR_ID_NONE. */
TR_MUST_USE tr_err tri_slots_add(tri_slots *slots, tr_id id, uint64_t ref, uint32_t value);
bool tri_slots_find(const tri_slots *slots, tr_id id, uint64_t ref, uint32_t *ret);
void tri_slots_remove(tri_slots *slots, tr_id id, uint64_t ref);

#endif
