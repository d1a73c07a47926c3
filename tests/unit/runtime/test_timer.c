/* The heap of timers against a plain list, under random additions, cancellations and firings. */
#include <CUnit/Basic.h>
#include <stdlib.h>

#include "runtime/timer.h"
#include "tests/lib/puppet.h"

#define OWNERS 5
#define TIMERS 2000

typedef struct expected {
    uint64_t id;
    uint64_t due_us;
    uint64_t seq;
    uint32_t owner;
    bool alive;
} expected;

static uint64_t seed = 88172645463325252U;

static uint32_t dice(uint32_t sides) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % sides);
}

static expected all[TIMERS];
static uint32_t count;

static expected *earliest(void) {
    expected *best = NULL;
    for (uint32_t i = 0; i < count; i++) {
        expected *e = &all[i];
        if (e->alive && (best == NULL || e->due_us < best->due_us ||
                         (e->due_us == best->due_us && e->seq < best->seq))) {
            best = e;
        }
    }
    return best;
}

static void timers_fire_in_order_of_time_then_of_setting(void) {
    tri_timers timers;
    uint32_t lists[OWNERS] = {TRI_TIMER_NONE, TRI_TIMER_NONE, TRI_TIMER_NONE, TRI_TIMER_NONE,
                              TRI_TIMER_NONE};
    tri_timers_init(&timers);
    count = 0;
    uint64_t now = 0;
    while (count < TIMERS || earliest() != NULL) {
        uint32_t what = dice(10);
        if (what < 5 && count < TIMERS) {
            expected *e = &all[count];
            *e = (expected){.due_us = now + dice(50), .seq = count, .owner = dice(OWNERS)};
            CU_ASSERT_EQUAL_FATAL(
                tri_timers_add(&timers, e->due_us, e->owner + 1, 7, &lists[e->owner], &e->id),
                TR_OK);
            e->alive = true;
            count++;
        } else if (what < 7 && count > 0) {
            expected *e = &all[dice(count)]; /* perhaps one that has fired: no effect */
            tri_timers_cancel(&timers, e->id, e->owner + 1, &lists[e->owner]);
            e->alive = false;
        } else {
            now += dice(20);
            tr_id owner;
            while (tri_timers_peek(&timers, now, &owner)) {
                const expected *e = earliest();
                CU_ASSERT_PTR_NOT_NULL_FATAL(e);
                CU_ASSERT_EQUAL_FATAL(owner, e->owner + 1);
                tri_fired fired = tri_timers_pop(&timers, &lists[owner - 1]);
                CU_ASSERT_EQUAL_FATAL(fired.id, e->id);
                CU_ASSERT_EQUAL(fired.tag, 7);
                all[e - all].alive = false;
            }
            const expected *next = earliest();
            CU_ASSERT_EQUAL_FATAL(tri_timers_due(&timers),
                                  next != NULL ? next->due_us : UINT64_MAX);
        }
    }
    for (uint32_t i = 0; i < OWNERS; i++) {
        CU_ASSERT_EQUAL(lists[i], TRI_TIMER_NONE);
    }
    tri_timers_fini(&timers);
}

static void cancelling_an_owners_timers_leaves_the_others(void) {
    tri_timers timers;
    uint32_t mine = TRI_TIMER_NONE;
    uint32_t theirs = TRI_TIMER_NONE;
    uint64_t id;
    tri_timers_init(&timers);
    for (uint32_t i = 0; i < 100; i++) {
        CU_ASSERT_EQUAL_FATAL(tri_timers_add(&timers, 1000 - i, 1, 0, &mine, &id), TR_OK);
        CU_ASSERT_EQUAL_FATAL(tri_timers_add(&timers, 2000 - i, 2, 0, &theirs, &id), TR_OK);
    }
    tri_timers_cancel(&timers, id, 1, &mine); /* not its own */
    tri_timers_cancel_all(&timers, &mine);
    CU_ASSERT_EQUAL(mine, TRI_TIMER_NONE);
    CU_ASSERT_EQUAL(timers.heap_size, 100);
    CU_ASSERT_EQUAL(tri_timers_due(&timers), 1901);
    tri_timers_cancel_all(&timers, &theirs);
    CU_ASSERT_EQUAL(tri_timers_due(&timers), UINT64_MAX);
    tri_timers_fini(&timers);
}

static void id_of_a_reused_entry_is_a_new_one(void) {
    tri_timers timers;
    uint32_t list = TRI_TIMER_NONE;
    uint64_t first;
    uint64_t second;
    tri_timers_init(&timers);
    CU_ASSERT_EQUAL_FATAL(tri_timers_add(&timers, 1, 1, 0, &list, &first), TR_OK);
    CU_ASSERT_NOT_EQUAL(first, 0);
    tri_timers_cancel(&timers, first, 1, &list);
    CU_ASSERT_EQUAL_FATAL(tri_timers_add(&timers, 1, 1, 0, &list, &second), TR_OK);
    CU_ASSERT_NOT_EQUAL(first, second);
    tri_timers_cancel(&timers, first, 1, &list);
    CU_ASSERT_EQUAL(tri_timers_due(&timers), 1);
    tri_timers_fini(&timers);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(timers_fire_in_order_of_time_then_of_setting),
        PUPPET_TEST(cancelling_an_owners_timers_leaves_the_others),
        PUPPET_TEST(id_of_a_reused_entry_is_a_new_one),
    };
    return puppet_main("timer", tests, sizeof tests / sizeof tests[0]);
}
