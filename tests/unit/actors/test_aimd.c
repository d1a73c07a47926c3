/* How many at once a provider bears, found out by aimd.h; the clock is the test's. */
#include <CUnit/Basic.h>

#include "actors/aimd.h"
#include "tests/lib/puppet.h"

#define MS 1000U

static void unhurt_it_allows_all_there_may_be(void) {
    tr_aimd a = {0};
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 64), 64);
    CU_ASSERT_FALSE(tr_aimd_ended(&a, TR_OK, false, 64, 64, 0, 1));
    CU_ASSERT_FALSE(tr_aimd_ended(&a, TR_ERR_SERVER, false, 64, 64, 0, 1));
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 64), 64);
}

static void too_many_halves_it_once_for_all_that_began_before(void) {
    tr_aimd a = {0};
    CU_ASSERT(tr_aimd_ended(&a, TR_ERR_RATE_LIMIT, false, 64, 64, 10, 100));
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 64), 32);
    for (uint64_t i = 0; i < 63; i++) {
        CU_ASSERT_FALSE(tr_aimd_ended(&a, TR_ERR_OVERLOADED, false, 63, 64, 10 + i, 101));
    }
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 64), 32);
    CU_ASSERT(tr_aimd_ended(&a, TR_ERR_OVERLOADED, false, 32, 64, 101, 200));
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 64), 16);
}

static void it_never_falls_below_one(void) {
    tr_aimd a = {0};
    for (uint64_t i = 1; i <= 20; i++) {
        (void)tr_aimd_ended(&a, TR_ERR_OVERLOADED, false, 1, 64, i, i);
    }
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 64), 1);
}

static void a_round_of_successes_adds_one_while_it_is_in_use(void) {
    tr_aimd a = {0};
    (void)tr_aimd_ended(&a, TR_ERR_RATE_LIMIT, false, 20, 20, 1, 1);
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 20), 10);
    for (int i = 0; i < 100; i++) {
        (void)tr_aimd_ended(&a, TR_OK, false, 2, 20, 2, 2); /* hardly used: it tells nothing */
    }
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 20), 10);
    for (int i = 0; i < 10; i++) {
        (void)tr_aimd_ended(&a, TR_OK, false, 10, 20, 2, 2);
    }
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 20), 11);
    for (int i = 0; i < 1000; i++) {
        (void)tr_aimd_ended(&a, TR_OK, false, 20, 20, 2, 2);
    }
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 20), 20);
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 40), 40); /* nothing is remembered that held it down */
}

static void a_lower_maximum_holds_at_once(void) {
    tr_aimd a = {0};
    (void)tr_aimd_ended(&a, TR_ERR_RATE_LIMIT, false, 64, 64, 1, 1);
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 8), 8);
    CU_ASSERT(tr_aimd_ended(&a, TR_ERR_RATE_LIMIT, false, 8, 8, 2, 2));
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 8), 4);
}

static void first_tokens_that_come_late_lower_it_by_a_tenth(void) {
    tr_aimd a = {0};
    tr_pace pace = {0};
    for (int i = 0; i < 50; i++) {
        CU_ASSERT_FALSE(tr_pace_is_late(&pace, 200 * MS + (uint64_t)(i % 5) * 20 * MS));
    }
    CU_ASSERT_FALSE(tr_pace_is_late(&pace, 3000 * MS)); /* one alone says nothing */
    int late = 0;
    for (int i = 0; i < 10; i++) {
        late += tr_pace_is_late(&pace, 2000 * MS);
    }
    CU_ASSERT(late >= 7);
    CU_ASSERT_FALSE(tr_pace_is_late(&pace, 210 * MS)); /* a quick one is none of them */
    CU_ASSERT(tr_aimd_ended(&a, TR_OK, true, 50, 50, 5, 6));
    CU_ASSERT_EQUAL(tr_aimd_slots(&a, 50), 45);
    CU_ASSERT_FALSE(tr_aimd_ended(&a, TR_OK, true, 50, 50, 5, 7));
}

static void a_model_that_is_slow_for_good_is_not_late_for_ever(void) {
    tr_pace pace = {0};
    (void)tr_pace_is_late(&pace, 100 * MS);
    int late = 0;
    for (int i = 0; i < 2000; i++) {
        late = tr_pace_is_late(&pace, 1500 * MS);
    }
    CU_ASSERT_FALSE(late);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(unhurt_it_allows_all_there_may_be),
        PUPPET_TEST(too_many_halves_it_once_for_all_that_began_before),
        PUPPET_TEST(it_never_falls_below_one),
        PUPPET_TEST(a_round_of_successes_adds_one_while_it_is_in_use),
        PUPPET_TEST(a_lower_maximum_holds_at_once),
        PUPPET_TEST(first_tokens_that_come_late_lower_it_by_a_tenth),
        PUPPET_TEST(a_model_that_is_slow_for_good_is_not_late_for_ever),
    };
    return puppet_main("aimd", tests, sizeof tests / sizeof *tests);
}
