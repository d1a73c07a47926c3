/* ref -> call, by open addressing with linear probing: refs are consecutive, so that their low bits
 * are a perfect hash as long as the calls end in about the order in which they began. */
#include "protocol/client/call.h"

#include <stdlib.h>

#define ROOM_FIRST 32

static size_t home_of(const tri_table *table, uint64_t ref) {
    return (size_t)ref & (table->room - 1);
}

static void put(tri_table *table, tri_call *call) {
    size_t at = home_of(table, call->ref);
    while (table->slots[at] != NULL) {
        at = (at + 1) & (table->room - 1);
    }
    table->slots[at] = call;
}

tr_err tri_table_add(tri_table *table, tri_call *call) {
    if ((table->count + 1) * 2 > table->room) {
        tri_table larger = {.room = table->room == 0 ? ROOM_FIRST : table->room * 2};
        larger.slots = calloc(larger.room, sizeof(tri_call *));
        if (larger.slots == NULL) {
            return TR_ERR_NOMEM;
        }
        for (size_t i = 0; i < table->room; i++) {
            if (table->slots[i] != NULL) {
                put(&larger, table->slots[i]);
            }
        }
        larger.count = table->count;
        free(table->slots);
        *table = larger;
    }
    put(table, call);
    table->count++;
    return TR_OK;
}

tri_call *tri_table_find(const tri_table *table, uint64_t ref) {
    if (table->room == 0) {
        return NULL;
    }
    size_t at = home_of(table, ref);
    while (table->slots[at] != NULL && table->slots[at]->ref != ref) {
        at = (at + 1) & (table->room - 1);
    }
    return table->slots[at];
}

/* Moves later members of the run back, so that no probe stops early at the gap. */
void tri_table_remove(tri_table *table, uint64_t ref) {
    size_t mask = table->room - 1;
    size_t gap = home_of(table, ref);
    while (table->slots[gap] != NULL && table->slots[gap]->ref != ref) {
        gap = (gap + 1) & mask;
    }
    if (table->slots[gap] == NULL) {
        return;
    }
    table->count--;
    for (size_t at = (gap + 1) & mask; table->slots[at] != NULL; at = (at + 1) & mask) {
        size_t home = home_of(table, table->slots[at]->ref);
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            table->slots[gap] = table->slots[at];
            gap = at;
        }
    }
    table->slots[gap] = NULL;
}
