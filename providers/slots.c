/*
 * Linear probing with backward-shift deletion (Knuth, The Art of Computer Programming, vol. 3, 6.4,
 * algorithm R): at most half full, so probes stay short. The order of entries never reaches a
 * decision: nobody walks the table.
 *
 * Used by http.c and provider.c, each for its own, on their shards.
 */
#include "providers/slots.h"

#include <string.h>

#include "runtime/memory.h"

#define KEPT_max 1024U

static uint32_t place(const tri_slots *slots, tr_id id, uint64_t ref) {
    uint64_t mixed = (id ^ (ref * 0x9E3779B97F4A7C15U)) * 0xD6E8FEB86659FD93U;
    return (uint32_t)(mixed >> 32) & (slots->room - 1);
}

/* Where (id, ref) is, or the free place where it would be. */
static uint32_t locate(const tri_slots *slots, tr_id id, uint64_t ref) {
    uint32_t at = place(slots, id, ref);
    while (slots->entries[at].id != TR_ID_NONE &&
           (slots->entries[at].id != id || slots->entries[at].ref != ref)) {
        at = (at + 1) & (slots->room - 1);
    }
    return at;
}

static tr_err grow(tri_slots *slots) {
    tri_slots grown = {.room = slots->room == 0 ? 16 : slots->room * 2, .count = slots->count};
    grown.entries = tr_zalloc(grown.room * sizeof(tri_slot_entry));
    if (grown.entries == NULL) {
        return TR_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < slots->room; i++) {
        const tri_slot_entry *entry = &slots->entries[i];
        if (entry->id != TR_ID_NONE) {
            grown.entries[locate(&grown, entry->id, entry->ref)] = *entry;
        }
    }
    tr_free(slots->entries);
    *slots = grown;
    return TR_OK;
}

void tri_slots_fini(tri_slots *slots) {
    tr_free(slots->entries);
    memset(slots, 0, sizeof(*slots));
}

tr_err tri_slots_add(tri_slots *slots, tr_id id, uint64_t ref, uint32_t value) {
    if ((slots->count + 1) * 2 > slots->room) {
        tr_err err = grow(slots);
        if (err != TR_OK) {
            return err;
        }
    }
    uint32_t at = locate(slots, id, ref);
    if (slots->entries[at].id != TR_ID_NONE) {
        return TR_ERR_EXISTS;
    }
    slots->entries[at] = (tri_slot_entry){.id = id, .ref = ref, .value = value};
    slots->count++;
    return TR_OK;
}

bool tri_slots_find(const tri_slots *slots, tr_id id, uint64_t ref, uint32_t *ret) {
    if (slots->room == 0) {
        return false;
    }
    const tri_slot_entry *entry = &slots->entries[locate(slots, id, ref)];
    if (entry->id == TR_ID_NONE) {
        return false;
    }
    *ret = entry->value;
    return true;
}

void tri_slots_remove(tri_slots *slots, tr_id id, uint64_t ref) {
    if (slots->room == 0) {
        return;
    }
    uint32_t hole = locate(slots, id, ref);
    if (slots->entries[hole].id == TR_ID_NONE) {
        return;
    }
    uint32_t mask = slots->room - 1;
    for (uint32_t at = (hole + 1) & mask; slots->entries[at].id != TR_ID_NONE;
         at = (at + 1) & mask) {
        uint32_t home = place(slots, slots->entries[at].id, slots->entries[at].ref);
        /* An entry moves into the hole unless its home lies behind the hole. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            slots->entries[hole] = slots->entries[at];
            hole = at;
        }
    }
    slots->entries[hole].id = TR_ID_NONE;
    if (--slots->count == 0 && slots->room > KEPT_max) {
        tri_slots_fini(slots); /* a peak's table is of no use to what comes after it */
    }
}
