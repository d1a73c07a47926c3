/* The heap of dues.h: an array of pointers, each entry knowing its place. It grows by doubling and
 * is given back when the line before a gate ends. Called from the gate's shard. */
#include "runtime/dues.h"

#include <stddef.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

static void put(tr_dues *dues, tr_due *due, uint32_t place) {
    dues->heap[place] = due;
    due->place = place;
}

static void rise(tr_dues *dues, tr_due *due, uint32_t place) {
    while (place > 0 && dues->heap[(place - 1) / 2]->us > due->us) {
        put(dues, dues->heap[(place - 1) / 2], place);
        place = (place - 1) / 2;
    }
    put(dues, due, place);
}

static void sink(tr_dues *dues, tr_due *due, uint32_t place) {
    for (;;) {
        uint32_t child = place * 2 + 1;
        if (child >= dues->count) {
            break;
        }
        if (child + 1 < dues->count && dues->heap[child + 1]->us < dues->heap[child]->us) {
            child++;
        }
        if (dues->heap[child]->us >= due->us) {
            break;
        }
        put(dues, dues->heap[child], place);
        place = child;
    }
    put(dues, due, place);
}

tr_err tr_dues_add(tr_dues *dues, tr_due *due) {
    if (dues->count == dues->room) {
        uint32_t room = dues->room > 0 ? dues->room * 2 : 16;
        tr_due **grown = tr_realloc(dues->heap, room * sizeof *grown);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        dues->heap = grown;
        dues->room = room;
    }
    rise(dues, due, dues->count++);
    return TR_OK;
}

void tr_dues_remove(tr_dues *dues, tr_due *due) {
    uint32_t place = due->place;
    TR_ASSERT(place < dues->count && dues->heap[place] == due);
    tr_due *last = dues->heap[--dues->count];
    if (last == due) {
        return;
    }
    if (place > 0 && dues->heap[(place - 1) / 2]->us > last->us) {
        rise(dues, last, place);
    } else {
        sink(dues, last, place);
    }
}

tr_due *tr_dues_first(const tr_dues *dues) {
    return dues->count > 0 ? dues->heap[0] : NULL;
}

void tr_dues_fini(tr_dues *dues) {
    tr_free(dues->heap);
    *dues = (tr_dues){0};
}
