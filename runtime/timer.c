/* The heap of timer.h. Entries know their place in the heap, so that cancelling costs O(log n) as
 * adding does. */
#include "runtime/timer.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

#define ROOM_first 64U

void tri_timers_init(tri_timers *timers) {
    memset(timers, 0, sizeof *timers);
    timers->free = TRI_TIMER_NONE;
}

void tri_timers_fini(tri_timers *timers) {
    tr_free(timers->pool);
    tr_free(timers->heap);
    tri_timers_init(timers);
}

static bool before(const tri_timers *timers, uint32_t a, uint32_t b) {
    const tri_timer *x = &timers->pool[a];
    const tri_timer *y = &timers->pool[b];
    return x->due_us != y->due_us ? x->due_us < y->due_us : x->seq < y->seq;
}

static void put(tri_timers *timers, uint32_t place, uint32_t index) {
    timers->heap[place] = index;
    timers->pool[index].place = place;
}

static void rise(tri_timers *timers, uint32_t place) {
    uint32_t index = timers->heap[place];
    while (place > 0 && before(timers, index, timers->heap[(place - 1) / 2])) {
        put(timers, place, timers->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(timers, place, index);
}

static void sink(tri_timers *timers, uint32_t place) {
    uint32_t index = timers->heap[place];
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= timers->heap_size) {
            break;
        }
        if (child + 1 < timers->heap_size &&
            before(timers, timers->heap[child + 1], timers->heap[child])) {
            child++;
        }
        if (!before(timers, timers->heap[child], index)) {
            break;
        }
        put(timers, place, timers->heap[child]);
        place = child;
    }
    put(timers, place, index);
}

static tr_err resize(tri_timers *timers, uint32_t room) {
    tri_timer *pool = tr_realloc(timers->pool, room * sizeof *pool);
    if (pool == NULL) {
        return TR_ERR_NOMEM;
    }
    timers->pool = pool;
    uint32_t *heap = tr_realloc(timers->heap, room * sizeof *heap);
    if (heap == NULL) {
        return TR_ERR_NOMEM;
    }
    timers->heap = heap;
    timers->pool_room = room;
    return TR_OK;
}

tr_err tri_timers_add(tri_timers *timers, uint64_t due_us, tr_id owner, uint16_t tag,
                      uint32_t *list, uint64_t *ret_id) {
    uint32_t index = timers->free;
    if (index != TRI_TIMER_NONE) {
        timers->free = timers->pool[index].next;
    } else {
        if (timers->pool_size == timers->pool_room) {
            uint32_t room = timers->pool_room == 0 ? ROOM_first : timers->pool_room * 2;
            tr_err err = resize(timers, room);
            if (err != TR_OK) {
                return err;
            }
        }
        index = timers->pool_size++;
        timers->pool[index].generation = timers->generation;
    }
    tri_timer *timer = &timers->pool[index];
    *timer = (tri_timer){.due_us = due_us,
                         .seq = timers->seq++,
                         .owner = owner,
                         .generation = timer->generation + 1 != 0 ? timer->generation + 1 : 1,
                         .next = *list,
                         .prev = TRI_TIMER_NONE,
                         .tag = tag};
    if (*list != TRI_TIMER_NONE) {
        timers->pool[*list].prev = index;
    }
    *list = index;
    timers->heap[timers->heap_size] = index;
    rise(timers, timers->heap_size++);
    *ret_id = ((uint64_t)timer->generation << 32) | index;
    return TR_OK;
}

static void drop(tri_timers *timers, uint32_t index, uint32_t *list) {
    tri_timer *timer = &timers->pool[index];
    uint32_t place = timer->place;
    uint32_t last = timers->heap[--timers->heap_size];
    if (last != index) {
        put(timers, place, last);
        sink(timers, place);
        rise(timers, timers->pool[last].place);
    }
    if (timer->prev != TRI_TIMER_NONE) {
        timers->pool[timer->prev].next = timer->next;
    } else {
        TR_ASSERT(*list == index);
        *list = timer->next;
    }
    if (timer->next != TRI_TIMER_NONE) {
        timers->pool[timer->next].prev = timer->prev;
    }
    timer->place = TRI_TIMER_NONE;
    timer->next = timers->free;
    timers->free = index;
}

void tri_timers_cancel(tri_timers *timers, uint64_t id, tr_id owner, uint32_t *list) {
    uint32_t index = (uint32_t)id;
    if (index < timers->pool_size && timers->pool[index].generation == (uint32_t)(id >> 32) &&
        timers->pool[index].place != TRI_TIMER_NONE && timers->pool[index].owner == owner) {
        drop(timers, index, list);
    }
}

void tri_timers_cancel_all(tri_timers *timers, uint32_t *list) {
    while (*list != TRI_TIMER_NONE) {
        drop(timers, *list, list);
    }
}

void tri_timers_shrink(tri_timers *timers) {
    uint32_t size = timers->pool_size;
    while (size > 0 && timers->pool[size - 1].place == TRI_TIMER_NONE) {
        size--;
        uint32_t generation = timers->pool[size].generation;
        timers->generation = generation > timers->generation ? generation : timers->generation;
    }
    timers->pool_size = size;
    timers->free = TRI_TIMER_NONE;
    for (uint32_t i = size; i-- > 0;) {
        if (timers->pool[i].place == TRI_TIMER_NONE) {
            timers->pool[i].next = timers->free;
            timers->free = i;
        }
    }
    uint32_t room = ROOM_first;
    while (room < size) {
        room *= 2;
    }
    if (room < timers->pool_room) {
        timers->pool_room = room;
        (void)!resize(timers, room); /* what cannot shrink stays larger than it is said to be */
    }
}

uint64_t tri_timers_due(const tri_timers *timers) {
    return timers->heap_size > 0 ? timers->pool[timers->heap[0]].due_us : UINT64_MAX;
}

bool tri_timers_peek(const tri_timers *timers, uint64_t now_us, tr_id *ret_owner) {
    if (tri_timers_due(timers) > now_us) {
        return false;
    }
    *ret_owner = timers->pool[timers->heap[0]].owner;
    return true;
}

tri_fired tri_timers_pop(tri_timers *timers, uint32_t *list) {
    TR_ASSERT(timers->heap_size > 0);
    uint32_t index = timers->heap[0];
    tri_timer timer = timers->pool[index];
    drop(timers, index, list);
    return (tri_fired){
        .owner = timer.owner, .id = ((uint64_t)timer.generation << 32) | index, .tag = timer.tag};
}
