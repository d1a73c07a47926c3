/*
 * Turns as they are described in turns.h. The first request of a client in a lane stands for the
 * client: in the lane's ring, whose entry point is the one whose turn it is, and in a hash table by
 * lane and client. The others hang behind it. When a first one goes, the next inherits its places,
 * so a client that waits needs no memory of its own.
 */
#include "runtime/turns.h"

#include <stdbool.h>
#include <stddef.h>

#include "protocol/assert.h"

static tr_turn **bucket_of(const tr_turns *turns, uint32_t lane, uint64_t client) {
    uint64_t key = (client ^ ((uint64_t)lane << 48)) * 0x9e3779b97f4a7c15U;
    return (tr_turn **)&turns->firsts[(key >> 32) % TR_TURNS_BUCKETS];
}

static tr_turn *first_of(const tr_turns *turns, uint32_t lane, uint64_t client) {
    tr_turn *at = *bucket_of(turns, lane, client);
    while (at != NULL && (at->lane != lane || at->client != client)) {
        at = at->hash_next;
    }
    return at;
}

static void into_bucket(tr_turns *turns, tr_turn *turn) {
    tr_turn **bucket = bucket_of(turns, turn->lane, turn->client);
    turn->hash_next = *bucket;
    *bucket = turn;
}

static void out_of_bucket(tr_turns *turns, const tr_turn *turn) {
    tr_turn **at = bucket_of(turns, turn->lane, turn->client);
    while (*at != turn) {
        at = &(*at)->hash_next;
    }
    *at = turn->hash_next;
}

/* Behind all clients of the lane. */
static void into_ring(tr_turns *turns, tr_turn *turn) {
    tr_turn *first = turns->lanes[turn->lane];
    if (first == NULL) {
        turn->ring_next = turn->ring_prev = turn;
        turns->lanes[turn->lane] = turn;
        turns->taken[turn->lane / 64] |= 1ULL << turn->lane % 64;
        return;
    }
    turn->ring_next = first;
    turn->ring_prev = first->ring_prev;
    first->ring_prev->ring_next = turn;
    first->ring_prev = turn;
}

static void out_of_ring(tr_turns *turns, tr_turn *turn) {
    if (turn->ring_next == turn) {
        turns->lanes[turn->lane] = NULL;
        turns->taken[turn->lane / 64] &= ~(1ULL << turn->lane % 64);
        return;
    }
    turn->ring_next->ring_prev = turn->ring_prev;
    turn->ring_prev->ring_next = turn->ring_next;
    if (turns->lanes[turn->lane] == turn) {
        turns->lanes[turn->lane] = turn->ring_next;
    }
}

static void inherit_ring(tr_turns *turns, const tr_turn *turn, tr_turn *heir) {
    bool alone = turn->ring_next == turn;
    heir->ring_next = alone ? heir : turn->ring_next;
    heir->ring_prev = alone ? heir : turn->ring_prev;
    heir->ring_next->ring_prev = heir;
    heir->ring_prev->ring_next = heir;
    if (turns->lanes[turn->lane] == turn) {
        turns->lanes[turn->lane] = heir;
    }
}

void tr_turns_add(tr_turns *turns, tr_turn *turn, uint32_t lane, uint64_t client) {
    TR_ASSERT(lane < TR_TURNS_LANES);
    *turn = (tr_turn){.lane = lane, .client = client};
    tr_turn *first = first_of(turns, lane, client);
    if (first != NULL) {
        turn->prev = first->last;
        first->last->next = turn;
        first->last = turn;
        return;
    }
    turn->last = turn;
    into_bucket(turns, turn);
    into_ring(turns, turn);
}

void tr_turns_leave(tr_turns *turns, tr_turn *turn) {
    tr_turn *heir = turn->next;
    if (turn->prev != NULL) {
        tr_turn *first = first_of(turns, turn->lane, turn->client);
        TR_ASSERT(first != NULL);
        if (first->last == turn) {
            first->last = turn->prev;
        }
        turn->prev->next = heir;
        if (heir != NULL) {
            heir->prev = turn->prev;
        }
    } else {
        out_of_bucket(turns, turn);
        if (heir == NULL) {
            out_of_ring(turns, turn);
        } else {
            heir->prev = NULL;
            heir->last = turn->last;
            into_bucket(turns, heir);
            inherit_ring(turns, turn, heir);
        }
    }
    *turn = (tr_turn){0};
}

void tr_turns_served(tr_turns *turns, tr_turn *turn) {
    TR_ASSERT(turn->prev == NULL);
    tr_turn *heir = turn->next;
    tr_turns_leave(turns, turn);
    if (heir != NULL) {
        out_of_ring(turns, heir);
        into_ring(turns, heir);
    }
}

tr_turn *tr_turns_first(const tr_turns *turns) {
    for (uint32_t i = 0; i < TR_TURNS_LANES / 64; i++) {
        if (turns->taken[i] != 0) {
            return turns->lanes[i * 64 + (uint32_t)__builtin_ctzll(turns->taken[i])];
        }
    }
    return NULL;
}
