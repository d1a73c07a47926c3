/* The order of turns, against a plain model, and the heap of deadlines. */
#include <CUnit/Basic.h>
#include <stdio.h>

#include "runtime/dues.h"
#include "runtime/turns.h"
#include "tests/lib/puppet.h"

static uint64_t seed = 88172645463325252U;

static uint32_t dice(uint32_t sides) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % sides);
}

static void add(tr_turns *turns, tr_turn *turn, uint32_t aisle, uint32_t lane, uint64_t client) {
    CU_ASSERT_EQUAL_FATAL(tr_turns_add(turns, turn, aisle, lane, client), TR_OK);
}

static void serve(tr_turns *turns, const tr_turn *expected) {
    tr_turn *first = tr_turns_first(turns, NULL, NULL);
    CU_ASSERT_PTR_EQUAL_FATAL(first, expected);
    tr_turns_served(turns, first);
}

static void clients_take_turns_and_keep_their_own_order(void) {
    static tr_turns turns;
    tr_turn a[4], b[2], c[1];
    for (int i = 0; i < 4; i++) {
        add(&turns, &a[i], 0, 5, 1);
    }
    add(&turns, &b[0], 0, 5, 2);
    add(&turns, &b[1], 0, 5, 2);
    serve(&turns, &a[0]);
    add(&turns, &c[0], 0, 5, 3);
    serve(&turns, &b[0]);
    serve(&turns, &a[1]);
    serve(&turns, &c[0]);
    serve(&turns, &b[1]);
    serve(&turns, &a[2]);
    serve(&turns, &a[3]);
    CU_ASSERT_PTR_NULL(tr_turns_first(&turns, NULL, NULL));
    tr_turns_fini(&turns);
}

static void thousand_of_one_client_do_not_delay_another(void) {
    static tr_turns turns;
    static tr_turn many[1000];
    for (int i = 0; i < 1000; i++) {
        add(&turns, &many[i], 0, 700, 1);
    }
    tr_turn one;
    add(&turns, &one, 0, 700, 2);
    serve(&turns, &many[0]);
    serve(&turns, &one);
    serve(&turns, &many[1]);
    tr_turns_fini(&turns);
}

static void who_leaves_hands_the_place_on(void) {
    static tr_turns turns;
    tr_turn a[3], b[1];
    for (int i = 0; i < 3; i++) {
        add(&turns, &a[i], 0, 0, 1);
    }
    add(&turns, &b[0], 0, 0, 2);
    tr_turns_leave(&turns, &a[0]); /* the client does not lose its turn */
    tr_turns_leave(&turns, &a[2]);
    serve(&turns, &a[1]);
    serve(&turns, &b[0]);
    CU_ASSERT_PTR_NULL(tr_turns_first(&turns, NULL, NULL));
    tr_turns_fini(&turns);
}

static void lower_lanes_go_first(void) {
    static tr_turns turns;
    tr_turn t[4];
    static const uint32_t lanes[] = {1023, 64, 63, 0};
    for (int i = 0; i < 4; i++) {
        add(&turns, &t[i], 0, lanes[i], 7);
    }
    for (int i = 3; i >= 0; i--) {
        serve(&turns, &t[i]);
    }
    tr_turns_fini(&turns);
}

/* Bits: the aisles that are held. */
static bool is_held(void *arg, const tr_turn *turn) {
    return (*(const uint32_t *)arg >> turn->aisle & 1) != 0;
}

static void held_aisle_delays_no_other_and_keeps_its_turn(void) {
    static tr_turns turns;
    tr_turn a[3], b[2], late;
    for (int i = 0; i < 3; i++) {
        add(&turns, &a[i], 1, 5, 1);
    }
    add(&turns, &b[0], 2, 5, 2);
    add(&turns, &late, 3, 6, 1);
    add(&turns, &b[1], 2, 5, 2);
    uint32_t held = 1 << 1;
    CU_ASSERT_PTR_EQUAL(tr_turns_first(&turns, is_held, &held), &b[0]);
    tr_turns_served(&turns, &b[0]);
    serve(&turns, &a[0]); /* its turn was kept, and only one */
    CU_ASSERT_PTR_EQUAL(tr_turns_first(&turns, NULL, NULL), &b[1]);
    held = 1 << 1 | 1 << 2;
    CU_ASSERT_PTR_EQUAL(tr_turns_first(&turns, is_held, &held), &late);
    held |= 1 << 3;
    CU_ASSERT_PTR_NULL(tr_turns_first(&turns, is_held, &held));
    serve(&turns, &b[1]);
    serve(&turns, &a[1]);
    serve(&turns, &a[2]);
    serve(&turns, &late);
    tr_turns_fini(&turns);
}

static void client_of_many_aisles_has_one_turn(void) {
    static tr_turns turns;
    static tr_turn many[60];
    tr_turn one[3];
    for (uint32_t i = 0; i < 60; i++) {
        add(&turns, &many[i], i % 20, 9, 1);
    }
    for (uint32_t i = 0; i < 3; i++) {
        add(&turns, &one[i], 0, 9, 2);
    }
    for (uint32_t i = 0; i < 3; i++) {
        serve(&turns, &many[i]); /* also in the order of their coming */
        serve(&turns, &one[i]);
    }
    for (uint32_t i = 3; i < 60; i++) {
        serve(&turns, &many[i]);
    }
    tr_turns_fini(&turns);
}

#define WAITERS 400
#define CLIENTS 9
#define AISLES 3

typedef struct waiter {
    tr_turn turn;
    uint32_t aisle;
    uint32_t lane;
    uint32_t client;
    bool waits;
    uint64_t came;
} waiter;

static waiter waiters[WAITERS];
/* The model: when each client was served in each lane, or came into an aisle's without having one
 * there. */
static uint64_t stood[AISLES][8][CLIENTS];

static bool has_any(uint32_t aisle, uint32_t lane, uint32_t client) {
    for (int i = 0; i < WAITERS; i++) {
        const waiter *w = &waiters[i];
        if (w->waits && w->aisle == aisle && w->lane == lane && w->client == client) {
            return true;
        }
    }
    return false;
}

static waiter *expected_next(uint32_t held) {
    waiter *best = NULL;
    for (int i = 0; i < WAITERS; i++) {
        waiter *w = &waiters[i];
        if (!w->waits || (held >> w->aisle & 1) != 0) {
            continue;
        }
        uint64_t mine = stood[w->aisle][w->lane][w->client];
        uint64_t theirs = best != NULL ? stood[best->aisle][best->lane][best->client] : 0;
        if (best == NULL || w->lane < best->lane ||
            (w->lane == best->lane &&
             (mine < theirs || (mine == theirs && w->came < best->came)))) {
            best = w;
        }
    }
    return best;
}

static void come(tr_turns *turns, waiter *w, uint64_t clock) {
    w->aisle = dice(AISLES);
    w->lane = dice(8);
    w->client = dice(CLIENTS);
    if (!has_any(w->aisle, w->lane, w->client)) {
        stood[w->aisle][w->lane][w->client] = clock;
    }
    w->came = clock;
    w->waits = true;
    add(turns, &w->turn, w->aisle, w->lane, w->client);
}

static void random_coming_and_going_keeps_the_order(void) {
    static tr_turns turns;
    uint64_t clock = 0;
    for (uint32_t round = 0; round < 40000; round++) {
        waiter *w = &waiters[dice(WAITERS)];
        clock++;
        if (dice(3) == 0) {
            uint32_t held = dice(2) * dice(1 << AISLES);
            w = expected_next(held);
            tr_turn *first = tr_turns_first(&turns, is_held, &held);
            CU_ASSERT_PTR_EQUAL_FATAL(first, w != NULL ? &w->turn : NULL);
            if (w != NULL) {
                tr_turns_served(&turns, first);
                w->waits = false;
                for (uint32_t i = 0; i < AISLES; i++) {
                    stood[i][w->lane][w->client] = clock;
                }
            }
        } else if (w->waits) {
            tr_turns_leave(&turns, &w->turn);
            w->waits = false;
        } else {
            come(&turns, w, clock);
        }
    }
    tr_turns_fini(&turns);
}

static void heap_gives_the_earliest_whatever_is_taken_out(void) {
    enum { N = 300 };
    static tr_due dues[N];
    static bool in[N];
    tr_dues heap = {0};
    for (uint32_t round = 0; round < 30000; round++) {
        uint32_t i = dice(N);
        if (in[i]) {
            tr_dues_remove(&heap, &dues[i]);
        } else {
            dues[i].us = dice(1000);
            CU_ASSERT_EQUAL_FATAL(tr_dues_add(&heap, &dues[i]), TR_OK);
        }
        in[i] = !in[i];
        uint64_t least = UINT64_MAX;
        for (uint32_t k = 0; k < N; k++) {
            least = in[k] && dues[k].us < least ? dues[k].us : least;
        }
        tr_due *first = tr_dues_first(&heap);
        CU_ASSERT_EQUAL_FATAL(first != NULL ? first->us : UINT64_MAX, least);
    }
    tr_dues_fini(&heap);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(clients_take_turns_and_keep_their_own_order),
        PUPPET_TEST(thousand_of_one_client_do_not_delay_another),
        PUPPET_TEST(who_leaves_hands_the_place_on),
        PUPPET_TEST(lower_lanes_go_first),
        PUPPET_TEST(held_aisle_delays_no_other_and_keeps_its_turn),
        PUPPET_TEST(client_of_many_aisles_has_one_turn),
        PUPPET_TEST(random_coming_and_going_keeps_the_order),
        PUPPET_TEST(heap_gives_the_earliest_whatever_is_taken_out),
    };
    return puppet_main("turns", tests, sizeof tests / sizeof *tests);
}
