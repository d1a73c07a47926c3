/*
 * Turns as they are described in turns.h. The first request of a client in a lane of an aisle
 * stands for the client there: in the lane's ring, whose entry point is the one whose turn it is,
 * and in a hash table by aisle, lane and client. The others hang behind it. When a first one goes,
 * the next inherits its places, so a client that waits needs no memory of its own.
 *
 * What makes the rings of several aisles one is the time at which a client got its place (`stood`):
 * in each ring it ascends, since places are only given at the end, and who is served gives up its
 * client's places in all aisles for new ones of the same time. So the least of the aisles' heads is
 * the head that one ring would have.
 */
#include "runtime/turns.h"

#include <stddef.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

struct tr_aisle {
    tr_turn *lanes[TR_TURNS_LANES]; /* whose turn it is there */
    uint64_t taken[TR_TURNS_LANES / 64];
};

/* A name's three parts. */
typedef struct place {
    uint32_t aisle, lane;
    uint64_t client;
} place;

static place place_of(const tr_turn *turn) {
    return (place){turn->aisle, turn->lane, turn->client};
}

static tr_turn **bucket_of(const tr_turns *turns, place at) {
    uint64_t where = (uint64_t)at.lane << 48 ^ (uint64_t)at.aisle << 40;
    uint64_t key = (at.client ^ where) * 0x9e3779b97f4a7c15U;
    return (tr_turn **)&turns->firsts[(key >> 32) % TR_TURNS_BUCKETS];
}

static tr_turn *first_of(const tr_turns *turns, place place) {
    tr_turn *at = *bucket_of(turns, place);
    while (at != NULL &&
           (at->lane != place.lane || at->client != place.client || at->aisle != place.aisle)) {
        at = at->hash_next;
    }
    return at;
}

static void into_bucket(tr_turns *turns, tr_turn *turn) {
    tr_turn **bucket = bucket_of(turns, place_of(turn));
    turn->hash_next = *bucket;
    *bucket = turn;
}

static void out_of_bucket(tr_turns *turns, const tr_turn *turn) {
    tr_turn **at = bucket_of(turns, place_of(turn));
    while (*at != turn) {
        at = &(*at)->hash_next;
    }
    *at = turn->hash_next;
}

static bool is_empty(const tr_aisle *aisle) {
    for (uint32_t i = 0; i < TR_TURNS_LANES / 64; i++) {
        if (aisle->taken[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Behind all clients of the lane. */
static void into_ring(tr_turns *turns, tr_turn *turn, uint64_t stood) {
    tr_aisle *aisle = turns->aisles[turn->aisle];
    tr_turn *first = aisle->lanes[turn->lane];
    turn->stood = stood;
    if (first == NULL) {
        turn->ring_next = turn->ring_prev = turn;
        aisle->lanes[turn->lane] = turn;
        aisle->taken[turn->lane / 64] |= 1ULL << turn->lane % 64;
        turns->taken[turn->aisle / 64] |= 1ULL << turn->aisle % 64;
        return;
    }
    turn->ring_next = first;
    turn->ring_prev = first->ring_prev;
    first->ring_prev->ring_next = turn;
    first->ring_prev = turn;
}

static void out_of_ring(tr_turns *turns, tr_turn *turn) {
    tr_aisle *aisle = turns->aisles[turn->aisle];
    if (turn->ring_next == turn) {
        aisle->lanes[turn->lane] = NULL;
        aisle->taken[turn->lane / 64] &= ~(1ULL << turn->lane % 64);
        if (is_empty(aisle)) {
            turns->taken[turn->aisle / 64] &= ~(1ULL << turn->aisle % 64);
        }
        return;
    }
    turn->ring_next->ring_prev = turn->ring_prev;
    turn->ring_prev->ring_next = turn->ring_next;
    if (aisle->lanes[turn->lane] == turn) {
        aisle->lanes[turn->lane] = turn->ring_next;
    }
}

static void inherit_ring(tr_turns *turns, const tr_turn *turn, tr_turn *heir) {
    tr_aisle *aisle = turns->aisles[turn->aisle];
    bool alone = turn->ring_next == turn;
    heir->stood = turn->stood;
    heir->ring_next = alone ? heir : turn->ring_next;
    heir->ring_prev = alone ? heir : turn->ring_prev;
    heir->ring_next->ring_prev = heir;
    heir->ring_prev->ring_next = heir;
    if (aisle->lanes[turn->lane] == turn) {
        aisle->lanes[turn->lane] = heir;
    }
}

tr_err tr_turns_add(tr_turns *turns, tr_turn *turn, uint32_t aisle, uint32_t lane,
                    uint64_t client) {
    TR_ASSERT(lane < TR_TURNS_LANES);
    TR_ASSERT(aisle < TR_TURNS_AISLES);
    if (turns->aisles[aisle] == NULL) {
        turns->aisles[aisle] = tr_zalloc(sizeof(tr_aisle));
        if (turns->aisles[aisle] == NULL) {
            return TR_ERR_NOMEM;
        }
    }
    *turn = (tr_turn){
        .came = ++turns->clock, .lane = (uint16_t)lane, .aisle = (uint16_t)aisle, .client = client};
    tr_turn *first = first_of(turns, place_of(turn));
    if (first != NULL) {
        turn->prev = first->last;
        first->last->next = turn;
        first->last = turn;
        return TR_OK;
    }
    turn->last = turn;
    into_bucket(turns, turn);
    into_ring(turns, turn, turns->clock);
    return TR_OK;
}

void tr_turns_leave(tr_turns *turns, tr_turn *turn) {
    tr_turn *heir = turn->next;
    if (turn->prev != NULL) {
        tr_turn *first = first_of(turns, place_of(turn));
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
    place at = place_of(turn);
    tr_turns_leave(turns, turn);
    turns->clock++;
    for (uint32_t i = 0; i < TR_TURNS_AISLES / 64; i++) {
        for (uint64_t left = turns->taken[i]; left != 0; left &= left - 1) {
            at.aisle = i * 64 + (uint32_t)__builtin_ctzll(left);
            tr_turn *first = first_of(turns, at);
            if (first != NULL) {
                out_of_ring(turns, first);
                into_ring(turns, first, turns->clock);
            }
        }
    }
}

static tr_turn *head_of(const tr_aisle *aisle) {
    for (uint32_t i = 0; i < TR_TURNS_LANES / 64; i++) {
        if (aisle->taken[i] != 0) {
            return aisle->lanes[i * 64 + (uint32_t)__builtin_ctzll(aisle->taken[i])];
        }
    }
    return NULL;
}

static bool goes_before(const tr_turn *a, const tr_turn *b) {
    if (a->lane != b->lane) {
        return a->lane < b->lane;
    }
    return a->stood != b->stood ? a->stood < b->stood : a->came < b->came;
}

tr_turn *tr_turns_first(const tr_turns *turns, tr_turn_held_fn *held, void *arg) {
    tr_turn *best = NULL;
    for (uint32_t i = 0; i < TR_TURNS_AISLES / 64; i++) {
        for (uint64_t left = turns->taken[i]; left != 0; left &= left - 1) {
            tr_turn *head = head_of(turns->aisles[i * 64 + (uint32_t)__builtin_ctzll(left)]);
            if ((best == NULL || goes_before(head, best)) && (held == NULL || !held(arg, head))) {
                best = head;
            }
        }
    }
    return best;
}

void tr_turns_fini(tr_turns *turns) {
    for (uint32_t i = 0; i < TR_TURNS_AISLES; i++) {
        tr_free(turns->aisles[i]);
    }
    *turns = (tr_turns){0};
}
