/*
 * A shard's inbox: many producers, one consumer, intrusive. Producers push chains (already in
 * reverse) on a stack with one compare-and-swap; the consumer takes the whole stack with one
 * exchange and reverses it, which restores each producer's order. A consumer about to wait raises
 * `sleeping` and looks once more; a producer pushes and then reads `sleeping`: both in one total
 * order (seq_cst), so at least one of them sees the other and no wake is lost (Dekker's argument).
 */
#ifndef TR_RUNTIME_INBOX_H
#define TR_RUNTIME_INBOX_H

#include "runtime/msg.h"

typedef struct tri_inbox {
    _Atomic(tr_msg *) head;
    _Atomic bool sleeping;
} tri_inbox;

/* `last` is the newest and becomes the head; `first` the oldest, at the chain's end. True: the
 * consumer must be woken. */
static inline bool tri_inbox_push(tri_inbox *inbox, tr_msg *last, tr_msg *first) {
    tr_msg *head = atomic_load_explicit(&inbox->head, memory_order_relaxed);
    do {
        first->next = head;
        /* seq_cst: partner is the load in tri_inbox_sleep; also releases the chain to
         * tri_inbox_take. */
    } while (!atomic_compare_exchange_weak_explicit(&inbox->head, &head, last, memory_order_seq_cst,
                                                    memory_order_relaxed));
    return atomic_load(&inbox->sleeping) && atomic_exchange(&inbox->sleeping, false);
}

/* All messages, oldest first, or NULL. */
static inline tr_msg *tri_inbox_take(tri_inbox *inbox) {
    /* Relaxed peek: a miss is seen by the next step or by tri_inbox_sleep. */
    if (atomic_load_explicit(&inbox->head, memory_order_relaxed) == NULL) {
        return NULL;
    }
    tr_msg *list = atomic_exchange_explicit(&inbox->head, NULL, memory_order_acquire);
    tr_msg *oldest = NULL;
    while (list != NULL) {
        tr_msg *next = list->next;
        list->next = oldest;
        oldest = list;
        list = next;
    }
    return oldest;
}

static inline bool tri_inbox_empty(tri_inbox *inbox) {
    return atomic_load(&inbox->head) == NULL;
}

#endif
