/*
 * A shard's timers: a binary heap of (due, sequence), so that equal times fire in the order in
 * which they were set, over a pool of entries with generations, so that a cancelled or fired id is
 * recognised. One thread. Internal to runtime/.
 */
#ifndef TR_RUNTIME_TIMER_H
#define TR_RUNTIME_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/err.h"
#include "protocol/id.h"

typedef struct tri_timer {
    uint64_t due_us;
    uint64_t seq;
    tr_id owner;
    uint32_t generation;
    uint32_t place; /* in the heap; UINT32_MAX = free */
    uint32_t next;  /* the owner's or the free list, by index; UINT32_MAX ends it */
    uint32_t prev;
    uint16_t tag;
} tri_timer;

typedef struct tri_timers {
    tri_timer *pool;
    uint32_t *heap;
    uint32_t pool_size;
    uint32_t pool_room;
    uint32_t heap_size;
    uint32_t free;
    uint32_t generation; /* the highest of entries that were given back */
    uint64_t seq;
} tri_timers;

#define TRI_TIMER_NONE UINT32_MAX

typedef struct tri_fired {
    tr_id owner;
    uint64_t id;
    uint16_t tag;
} tri_fired;

void tri_timers_init(tri_timers *timers);
void tri_timers_fini(tri_timers *timers);
/* `list` is the owner's list head: all of an actor's timers end with it. */
TR_MUST_USE tr_err tri_timers_add(tri_timers *timers, uint64_t due_us, tr_id owner, uint16_t tag,
                                  uint32_t *list, uint64_t *ret_id);
/* An id that fired, was cancelled or is another owner's changes nothing. */
void tri_timers_cancel(tri_timers *timers, uint64_t id, tr_id owner, uint32_t *list);
void tri_timers_cancel_all(tri_timers *timers, uint32_t *list);
/* Gives back the entries behind the last one in use; ids of timers stay as they are. */
void tri_timers_shrink(tri_timers *timers);
uint64_t tri_timers_due(const tri_timers *timers);
/* Whose timer is due first, when one is due: its list head goes to tri_timers_pop. */
bool tri_timers_peek(const tri_timers *timers, uint64_t now_us, tr_id *ret_owner);
tri_fired tri_timers_pop(tri_timers *timers, uint32_t *list);

#endif
