/* The order of turns, against a plain model, and the heap of deadlines. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

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

static void serve(tr_turns *turns, const tr_turn *expected) {
    tr_turn *first = tr_turns_first(turns);
    CU_ASSERT_PTR_EQUAL_FATAL(first, expected);
    tr_turns_served(turns, first);
}

static void clients_take_turns_and_keep_their_own_order(void) {
    static tr_turns turns;
    memset(&turns, 0, sizeof turns);
    tr_turn a[4], b[2], c[1];
    for (int i = 0; i < 4; i++) {
        tr_turns_add(&turns, &a[i], 5, 1);
    }
    tr_turns_add(&turns, &b[0], 5, 2);
    tr_turns_add(&turns, &b[1], 5, 2);
    serve(&turns, &a[0]);
    tr_turns_add(&turns, &c[0], 5, 3);
    serve(&turns, &b[0]);
    serve(&turns, &a[1]);
    serve(&turns, &c[0]);
    serve(&turns, &b[1]);
    serve(&turns, &a[2]);
    serve(&turns, &a[3]);
    CU_ASSERT_PTR_NULL(tr_turns_first(&turns));
}

static void thousand_of_one_client_do_not_delay_another(void) {
    static tr_turns turns;
    static tr_turn many[1000];
    memset(&turns, 0, sizeof turns);
    for (int i = 0; i < 1000; i++) {
        tr_turns_add(&turns, &many[i], 700, 1);
    }
    tr_turn one;
    tr_turns_add(&turns, &one, 700, 2);
    serve(&turns, &many[0]);
    serve(&turns, &one);
    serve(&turns, &many[1]);
}

static void who_leaves_hands_the_place_on(void) {
    static tr_turns turns;
    memset(&turns, 0, sizeof turns);
    tr_turn a[3], b[1];
    for (int i = 0; i < 3; i++) {
        tr_turns_add(&turns, &a[i], 0, 1);
    }
    tr_turns_add(&turns, &b[0], 0, 2);
    tr_turns_leave(&turns, &a[0]); /* the client does not lose its turn */
    tr_turns_leave(&turns, &a[2]);
    serve(&turns, &a[1]);
    serve(&turns, &b[0]);
    CU_ASSERT_PTR_NULL(tr_turns_first(&turns));
}

static void lower_lanes_go_first(void) {
    static tr_turns turns;
    memset(&turns, 0, sizeof turns);
    tr_turn t[4];
    static const uint32_t lanes[] = {1023, 64, 63, 0};
    for (int i = 0; i < 4; i++) {
        tr_turns_add(&turns, &t[i], lanes[i], 7);
    }
    for (int i = 3; i >= 0; i--) {
        serve(&turns, &t[i]);
    }
}

#define WAITERS 400
#define CLIENTS 9

typedef struct waiter {
    tr_turn turn;
    uint32_t lane;
    uint32_t client;
    uint64_t came;
    bool waits;
} waiter;

static waiter waiters[WAITERS];
/* The model: when each client was served in each lane, or came into it without having one. */
static uint64_t stood[8][CLIENTS];

static bool has_any(uint32_t lane, uint32_t client) {
    for (int i = 0; i < WAITERS; i++) {
        if (waiters[i].waits && waiters[i].lane == lane && waiters[i].client == client) {
            return true;
        }
    }
    return false;
}

static waiter *expected_next(void) {
    waiter *best = NULL;
    for (int i = 0; i < WAITERS; i++) {
        waiter *w = &waiters[i];
        if (!w->waits) {
            continue;
        }
        uint64_t mine = stood[w->lane][w->client];
        uint64_t theirs = best != NULL ? stood[best->lane][best->client] : 0;
        if (best == NULL || w->lane < best->lane ||
            (w->lane == best->lane &&
             (mine < theirs || (w->client == best->client && w->came < best->came)))) {
            best = w;
        }
    }
    return best;
}

static void random_coming_and_going_keeps_the_order(void) {
    static tr_turns turns;
    memset(&turns, 0, sizeof turns);
    uint64_t clock = 0;
    for (uint32_t round = 0; round < 40000; round++) {
        waiter *w = &waiters[dice(WAITERS)];
        clock++;
        if (dice(3) == 0) {
            w = expected_next();
            tr_turn *first = tr_turns_first(&turns);
            CU_ASSERT_PTR_EQUAL_FATAL(first, w != NULL ? &w->turn : NULL);
            if (w != NULL) {
                tr_turns_served(&turns, first);
                w->waits = false;
                stood[w->lane][w->client] = clock;
            }
        } else if (w->waits) {
            tr_turns_leave(&turns, &w->turn);
            w->waits = false;
        } else {
            w->lane = dice(8);
            w->client = dice(CLIENTS);
            if (!has_any(w->lane, w->client)) {
                stood[w->lane][w->client] = clock;
            }
            w->came = clock;
            w->waits = true;
            tr_turns_add(&turns, &w->turn, w->lane, w->client);
        }
    }
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
        PUPPET_TEST(random_coming_and_going_keeps_the_order),
        PUPPET_TEST(heap_gives_the_earliest_whatever_is_taken_out),
    };
    return puppet_main("turns", tests, sizeof tests / sizeof *tests);
}
