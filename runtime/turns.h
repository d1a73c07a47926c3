/*
 * Whose turn it is: lanes in a fixed order, and in a lane one turn after the other for each client
 * that waits there, so that a client with a thousand requests does not delay another's single one.
 * A client's own requests go in the order of their coming. Intrusive: it needs no memory, and every
 * step takes constant time. Pure; one thread. Part of a line (line.h).
 */
#ifndef TR_RUNTIME_TURNS_H
#define TR_RUNTIME_TURNS_H

#include <stdint.h>

#define TR_TURNS_LANES 1024U
#define TR_TURNS_BUCKETS 256U

/* One that waits. Zeroed, it waits nowhere. */
typedef struct tr_turn {
    struct tr_turn *next, *prev; /* of the same lane and client */
    /* Only the first of its lane and client: */
    struct tr_turn *last;
    struct tr_turn *ring_next, *ring_prev; /* the lane's clients */
    struct tr_turn *hash_next;
    uint64_t client;
    uint32_t lane;
} tr_turn;

/* Zeroed, it is empty. */
typedef struct tr_turns {
    tr_turn *lanes[TR_TURNS_LANES]; /* whose turn it is there */
    uint64_t taken[TR_TURNS_LANES / 64];
    tr_turn *firsts[TR_TURNS_BUCKETS]; /* by lane and client */
} tr_turns;

void tr_turns_add(tr_turns *turns, tr_turn *turn, uint32_t lane, uint64_t client);
/* It goes unserved: the client's next takes its place. */
void tr_turns_leave(tr_turns *turns, tr_turn *turn);
/* It was served: the client's next stands behind the other clients of the lane. Only for one that
 * is its client's first. */
void tr_turns_served(tr_turns *turns, tr_turn *turn);
/* The one whose turn it is in the lowest lane that is not empty; NULL = nobody waits. */
tr_turn *tr_turns_first(const tr_turns *turns);

#endif
