/* Rates: exact in every window, whatever is settled and returned. */
#include <CUnit/Basic.h>

#include "actors/gcra.h"
#include "tests/lib/puppet.h"

#define SECOND 1000000U

/* When the Nth of callers that all wait gets its turn, from the first. */
static uint64_t nth_us(uint32_t per_minute, uint32_t burst, uint32_t n, uint32_t cost) {
    tr_gcra gcra = {0};
    uint64_t began = 123456789, now = began;
    tr_gcra_set(&gcra, per_minute, burst, now);
    for (uint32_t i = 1;; i++) {
        uint64_t wait = tr_gcra_wait_us(&gcra, cost, now);
        now += wait;
        CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, cost, now), 0);
        tr_gcra_take(&gcra, cost, now);
        if (i == n) {
            return now - began;
        }
    }
}

static void twentieth_of_five_a_second_starts_at_3800_ms(void) {
    CU_ASSERT_EQUAL(nth_us(300, 1, 20, 1), 3800000);
    CU_ASSERT_EQUAL(nth_us(300, 5, 20, 1), 3000000); /* five go at once */
}

static void odd_rates_lose_nothing_by_rounding(void) {
    /* 7 a minute: the 700,001st comes after 100,000 minutes, to the microsecond. */
    CU_ASSERT_EQUAL(nth_us(7, 1, 700001, 1), 100000ULL * 60 * SECOND);
    CU_ASSERT_EQUAL(nth_us(999983, 1, 999984, 1), 60ULL * SECOND);
    CU_ASSERT_EQUAL(nth_us(7000, 1, 71, 100), 60ULL * SECOND);
}

static uint64_t seed = 88172645463325252U;

static uint32_t dice(uint32_t sides) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % sides);
}

#define GRANTS 4000

/* Grants that go and are not returned: their times. */
static uint64_t gone[GRANTS];

/* In any window the grants are at most burst + window * rate. */
static void expect_never_faster(uint32_t count, uint64_t interval_us, uint32_t burst) {
    for (uint32_t i = 0; i + burst < count; i++) {
        for (uint32_t k = i + burst; k < count && k < i + burst + 40; k++) {
            uint64_t least = (uint64_t)(k - i - burst + 1) * interval_us;
            CU_ASSERT_FATAL(gone[k] - gone[i] >= least);
        }
    }
}

static void no_window_gets_more_than_its_share_whatever_is_returned(void) {
    for (uint32_t burst = 1; burst <= 8; burst++) {
        tr_gcra gcra = {0};
        uint64_t now = 1000000;
        tr_gcra_set(&gcra, 300, burst, now);
        uint32_t count = 0;
        while (count < GRANTS / 4) {
            now += dice(3) == 0 ? dice(900000) : dice(1000);
            if (tr_gcra_wait_us(&gcra, 1, now) > 0) {
                continue;
            }
            tr_gcra_take(&gcra, 1, now);
            uint64_t taken = now;
            if (dice(3) == 0) {
                now += dice(2) == 0 ? dice(1000) : dice(600000);
                tr_gcra_return(&gcra, 1, taken, now);
            } else {
                gone[count++] = taken;
            }
        }
        expect_never_faster(count, 200000, burst);
    }
}

static void what_was_not_used_may_go_at_once(void) {
    tr_gcra gcra = {0};
    tr_gcra_set(&gcra, 6000, 100, 0);
    tr_gcra_take(&gcra, 500, 0);
    CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, 100, 0), 5 * SECOND);
    tr_gcra_settle(&gcra, 500, 20, 0);
    CU_ASSERT_EQUAL(tr_gcra_free(&gcra, 0), 80);
    CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, 80, 0), 0);
    tr_gcra_settle(&gcra, 20, 220, 0); /* more was used than it seemed */
    CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, 1, 0), 1210000);
    tr_gcra_settle(&gcra, 500, 0, 10 * SECOND); /* what is not owed is not saved up */
    CU_ASSERT_EQUAL(tr_gcra_free(&gcra, 10 * SECOND), 100);
}

static void cost_beyond_the_burst_goes_when_nothing_is_owed(void) {
    tr_gcra gcra = {0};
    tr_gcra_set(&gcra, 60, 1, 0);
    CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, 600, 0), 0);
    tr_gcra_take(&gcra, 600, 0);
    CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, 5, 0), 600ULL * SECOND);
    tr_gcra_take(&gcra, UINT32_MAX, 0);
    CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, UINT32_MAX, 0), (600ULL + UINT32_MAX) * SECOND);
}

static void new_rate_keeps_what_is_owed(void) {
    tr_gcra gcra = {0};
    tr_gcra_set(&gcra, 60, 1, 0);
    tr_gcra_take(&gcra, 10, 0);
    tr_gcra_set(&gcra, 600, 1, 0);
    uint64_t wait = tr_gcra_wait_us(&gcra, 1, 0);
    CU_ASSERT(wait >= 1000000 && wait <= 1000002);
    tr_gcra_set(&gcra, 0, 0, 0);
    CU_ASSERT_EQUAL(tr_gcra_wait_us(&gcra, 1000, 0), 0);
    CU_ASSERT_EQUAL(tr_gcra_free(&gcra, 0), UINT32_MAX);
}

static void burst_that_is_not_given_is_what_a_second_brings(void) {
    tr_gcra gcra = {0};
    tr_gcra_set(&gcra, 300, 0, 0);
    CU_ASSERT_EQUAL(tr_gcra_free(&gcra, 0), 5);
    tr_gcra_set(&gcra, 7, 0, 0);
    CU_ASSERT_EQUAL(tr_gcra_free(&gcra, 0), 1);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(twentieth_of_five_a_second_starts_at_3800_ms),
        PUPPET_TEST(odd_rates_lose_nothing_by_rounding),
        PUPPET_TEST(no_window_gets_more_than_its_share_whatever_is_returned),
        PUPPET_TEST(what_was_not_used_may_go_at_once),
        PUPPET_TEST(cost_beyond_the_burst_goes_when_nothing_is_owed),
        PUPPET_TEST(new_rate_keeps_what_is_owed),
        PUPPET_TEST(burst_that_is_not_given_is_what_a_second_brings),
    };
    return puppet_main("gcra", tests, sizeof tests / sizeof *tests);
}
