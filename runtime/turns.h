/*
 * Whose turn it is: lanes in a fixed order, and in a lane one turn after the other for each client
 * that waits there, so that a client with a thousand requests does not delay another's single one.
 * What they wait for may be held for reasons of its own, so each such thing has an aisle: who is
 * next is asked of those aisles alone that are not held. A client has its one turn over all aisles,
 * and its own requests go in the order of their coming, but for those that are held. Intrusive:
 * only an aisle's first request needs memory, which the aisle keeps. A step takes constant time,
 * or as many steps as there are aisles in which somebody waits. One thread. Part of a line
 * (line.h).
 */
#ifndef TR_RUNTIME_TURNS_H
#define TR_RUNTIME_TURNS_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/err.h"

#define TR_TURNS_LANES 1024U
#define TR_TURNS_AISLES 128U
#define TR_TURNS_BUCKETS 256U

/* One that waits. Zeroed, it waits nowhere. */
typedef struct tr_turn {
    struct tr_turn *next, *prev; /* of the same aisle, lane and client */
    uint64_t came;
    /* Only the first of its aisle, lane and client: */
    struct tr_turn *last;
    struct tr_turn *ring_next, *ring_prev; /* the clients of the aisle's lane */
    struct tr_turn *hash_next;
    uint64_t stood; /* when its client got its place in the ring: ascending from the entry on */
    uint64_t client;
    uint16_t lane, aisle;
} tr_turn;

typedef struct tr_aisle tr_aisle;

/* Zeroed, it is empty. */
typedef struct tr_turns {
    tr_aisle *aisles[TR_TURNS_AISLES]; /* NULL until somebody waits there */
    uint64_t taken[TR_TURNS_AISLES / 64];
    tr_turn *firsts[TR_TURNS_BUCKETS]; /* by aisle, lane and client */
    uint64_t clock;
} tr_turns;

/* TR_ERR_NOMEM: it does not wait. */
TR_MUST_USE tr_err tr_turns_add(tr_turns *turns, tr_turn *turn, uint32_t aisle, uint32_t lane,
                                uint64_t client);
/* It goes unserved: the client's next in its aisle takes its place. */
void tr_turns_leave(tr_turns *turns, tr_turn *turn);
/* It was served: what its client has in the lane stands behind the other clients. Only for one that
 * is its client's first in its aisle. */
void tr_turns_served(tr_turns *turns, tr_turn *turn);
/* Whether an aisle is held, by the one whose turn it is there. */
typedef bool tr_turn_held_fn(void *arg, const tr_turn *turn);
/* The one whose turn it is, in the lowest lane that is not empty, of the aisles that are not held
 * (`held` NULL: none is); NULL = nobody. */
tr_turn *tr_turns_first(const tr_turns *turns, tr_turn_held_fn *held, void *arg);
/* Gives the aisles' memory back; who still waits is forgotten. */
void tr_turns_fini(tr_turns *turns);

#endif
