/* The breaker's states and the retry budget, against a clock of the test. */
#include <CUnit/Basic.h>

#include "actors/breaker.h"
#include "actors/budget.h"
#include "tests/lib/puppet.h"

#define MS 1000U

static bool admits(tr_breaker *b, uint64_t now_us, bool *probe, uint32_t *wait_ms) {
    *probe = false;
    *wait_ms = 0;
    return tr_breaker_admits(b, now_us, probe, wait_ms);
}

static void fail_times(tr_breaker *b, uint32_t times, uint64_t now_us) {
    for (uint32_t i = 0; i < times; i++) {
        tr_breaker_ended(b, TR_VERDICT_BAD, false, now_us, 0);
    }
}

static void fifth_failure_in_a_row_opens_it(void) {
    tr_breaker b = {0};
    bool probe;
    uint32_t wait;
    fail_times(&b, TR_BREAKER_FAILURES - 1, 0);
    tr_breaker_ended(&b, TR_VERDICT_GOOD, false, 0, 0);
    fail_times(&b, TR_BREAKER_FAILURES - 1, 0);
    tr_breaker_ended(&b, TR_VERDICT_NONE, false, 0, 0); /* says nothing: the row goes on */
    CU_ASSERT(admits(&b, 0, &probe, &wait) && !probe);
    fail_times(&b, 1, 0);
    CU_ASSERT_FALSE(admits(&b, 0, &probe, &wait));
    CU_ASSERT_EQUAL(wait, TR_BREAKER_OPEN_MS);
    CU_ASSERT_FALSE(admits(&b, 999 * MS, &probe, &wait));
    CU_ASSERT_EQUAL(wait, 1);
}

static void rows_of_failures_by_chance_do_not_open_a_busy_target(void) {
    tr_breaker b = {0};
    bool probe;
    uint32_t wait, rows = 0, row = 0;
    uint64_t state = 7;
    for (uint64_t i = 0; i < 20000; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        bool bad = (state >> 33) % 100 < 25;
        row = bad ? row + 1 : 0;
        rows += row == TR_BREAKER_FAILURES;
        tr_breaker_ended(&b, bad ? TR_VERDICT_BAD : TR_VERDICT_GOOD, false, i * 400, 0);
        CU_ASSERT_FATAL(admits(&b, i * 400, &probe, &wait));
    }
    CU_ASSERT(rows > 5); /* there were such rows */
}

static void a_busy_target_that_dies_is_given_up_after_some_two_dozen(void) {
    tr_breaker b = {0};
    bool probe;
    uint32_t wait, asked = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        tr_breaker_ended(&b, TR_VERDICT_GOOD, false, i * MS, 0);
    }
    while (admits(&b, 1000 * MS, &probe, &wait) && asked < 100) {
        tr_breaker_ended(&b, TR_VERDICT_BAD, false, 1000 * MS, 0);
        asked++;
    }
    CU_ASSERT(asked > TR_BREAKER_FAILURES && asked <= 24);
}

static void good_days_are_forgotten_in_a_while(void) {
    tr_breaker b = {0};
    bool probe;
    uint32_t wait;
    for (uint64_t i = 0; i < 1000; i++) {
        tr_breaker_ended(&b, TR_VERDICT_GOOD, false, i * MS, 0);
    }
    fail_times(&b, TR_BREAKER_FAILURES, 60000 * MS); /* a minute later */
    CU_ASSERT_FALSE(admits(&b, 60000 * MS, &probe, &wait));
}

static void half_open_lets_one_probe_at_a_time_pass(void) {
    tr_breaker b = {0};
    bool probe;
    uint32_t wait;
    fail_times(&b, TR_BREAKER_FAILURES, 0);
    uint64_t now = 1000 * MS;
    CU_ASSERT_EQUAL(tr_breaker_state_at(&b, now), TR_BREAKER_HALF_OPEN);
    CU_ASSERT(admits(&b, now, &probe, &wait) && probe);
    CU_ASSERT_FALSE(admits(&b, now, &probe, &wait));
    CU_ASSERT_EQUAL(wait, TR_BREAKER_PROBE_MS);
    tr_breaker_ended(&b, TR_VERDICT_BAD, false, now, 0);  /* was sent before it opened */
    tr_breaker_ended(&b, TR_VERDICT_GOOD, false, now, 0); /* the same */
    tr_breaker_ended(&b, TR_VERDICT_NONE, true, now, 0);  /* cancelled: another may probe */
    CU_ASSERT(admits(&b, now, &probe, &wait) && probe);
    tr_breaker_ended(&b, TR_VERDICT_GOOD, true, now, 0);
    CU_ASSERT(admits(&b, now, &probe, &wait) && probe);
    CU_ASSERT_FALSE(admits(&b, now, &probe, &wait));
    tr_breaker_ended(&b, TR_VERDICT_GOOD, true, now, 0);
    CU_ASSERT(admits(&b, now, &probe, &wait) && !probe);
    CU_ASSERT_EQUAL(tr_breaker_state_at(&b, now), TR_BREAKER_CLOSED);
}

static void rest_doubles_to_a_minute_and_begins_anew_after_it_closed(void) {
    tr_breaker b = {0};
    bool probe;
    uint32_t wait = 0;
    uint64_t now = 0;
    fail_times(&b, TR_BREAKER_FAILURES, now);
    static const uint32_t rests[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
        CU_ASSERT_FALSE(admits(&b, now, &probe, &wait));
        CU_ASSERT_EQUAL(wait, rests[i]);
        now += (uint64_t)wait * MS;
        CU_ASSERT(admits(&b, now, &probe, &wait) && probe);
        tr_breaker_ended(&b, TR_VERDICT_BAD, true, now, 0);
    }
    now += 60000 * MS;
    for (int i = 0; i < TR_BREAKER_SUCCESSES; i++) {
        CU_ASSERT(admits(&b, now, &probe, &wait) && probe);
        tr_breaker_ended(&b, TR_VERDICT_GOOD, true, now, 0);
    }
    fail_times(&b, TR_BREAKER_FAILURES, now);
    CU_ASSERT_FALSE(admits(&b, now, &probe, &wait));
    CU_ASSERT_EQUAL(wait, TR_BREAKER_OPEN_MS);
}

static void rest_has_jitter_within_a_quarter(void) {
    uint32_t least = UINT32_MAX, most = 0;
    for (uint64_t random = 0; random < 5000; random += 7) {
        tr_breaker b = {0};
        bool probe;
        uint32_t wait;
        for (int i = 0; i < TR_BREAKER_FAILURES; i++) {
            tr_breaker_ended(&b, TR_VERDICT_BAD, false, 0, random);
        }
        CU_ASSERT_FALSE(admits(&b, 0, &probe, &wait));
        least = wait < least ? wait : least;
        most = wait > most ? wait : most;
    }
    CU_ASSERT(least >= 750 && least < 770 && most > 980 && most <= 1000);
}

static void verdict_is_bad_only_for_a_target_that_is_down(void) {
    for (int err = TR_OK; err < TR_ERR_N; err++) {
        bool down = err == TR_ERR_CONNECT || err == TR_ERR_SERVER || err == TR_ERR_TIMEOUT ||
                    err == TR_ERR_OVERLOADED;
        CU_ASSERT_EQUAL(tr_breaker_verdict((tr_err)err, false) == TR_VERDICT_BAD, down);
        CU_ASSERT_NOT_EQUAL(tr_breaker_verdict((tr_err)err, true), TR_VERDICT_BAD);
    }
    CU_ASSERT_EQUAL(tr_breaker_verdict(TR_OK, true), TR_VERDICT_GOOD);
    CU_ASSERT_EQUAL(tr_breaker_verdict(TR_ERR_AUTH, false), TR_VERDICT_GOOD);
    CU_ASSERT_EQUAL(tr_breaker_verdict(TR_ERR_RATE_LIMIT, false), TR_VERDICT_NONE);
    CU_ASSERT_EQUAL(tr_breaker_verdict(TR_ERR_CANCELLED, false), TR_VERDICT_NONE);
    CU_ASSERT_EQUAL(tr_breaker_verdict(TR_ERR_CANCELLED, true), TR_VERDICT_GOOD);
}

static uint32_t take_all(tr_budget *budget, uint64_t now_us) {
    uint32_t taken = 0;
    while (tr_budget_take(budget, now_us)) {
        taken++;
    }
    return taken;
}

static void budget_is_a_fifth_of_first_attempts(void) {
    tr_budget budget;
    tr_budget_init(&budget, 0);
    CU_ASSERT_EQUAL(take_all(&budget, 0), TR_BUDGET_REST_max);
    for (int i = 0; i < 100; i++) {
        tr_budget_first(&budget);
    }
    CU_ASSERT_EQUAL(tr_budget_left(&budget, 0), 20);
    CU_ASSERT_EQUAL(take_all(&budget, 0), 20);
    for (int i = 0; i < 10000; i++) {
        tr_budget_first(&budget);
    }
    CU_ASSERT_EQUAL(take_all(&budget, 0), TR_BUDGET_SAVED_max);
}

static void budget_gets_ten_a_second(void) {
    tr_budget budget;
    tr_budget_init(&budget, 0);
    take_all(&budget, 0);
    CU_ASSERT_EQUAL(take_all(&budget, 99 * MS), 0);
    CU_ASSERT_EQUAL(take_all(&budget, 100 * MS), 1);
    uint32_t taken = 0;
    for (uint64_t us = 100 * MS; us <= 10100 * MS; us += 333) {
        taken += tr_budget_take(&budget, us);
    }
    CU_ASSERT(taken >= 99 && taken <= 100);
    CU_ASSERT_EQUAL(take_all(&budget, 3600000ULL * MS), TR_BUDGET_REST_max);
}

/* 30 % of 10,000 requests fail, at 500 a second, and each failure is sent again while it may. */
static void storm_multiplies_the_traffic_by_less_than_a_quarter(void) {
    tr_budget budget;
    tr_budget_init(&budget, 0);
    uint32_t sent = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        tr_budget_first(&budget);
        sent++;
        for (uint32_t again = 0; again < 2 && (i * 7 + again * 3) % 10 < 3; again++) {
            sent += tr_budget_take(&budget, (uint64_t)i * 2 * MS);
        }
    }
    CU_ASSERT(sent > 11000 && sent <= 12500);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(fifth_failure_in_a_row_opens_it),
        PUPPET_TEST(rows_of_failures_by_chance_do_not_open_a_busy_target),
        PUPPET_TEST(a_busy_target_that_dies_is_given_up_after_some_two_dozen),
        PUPPET_TEST(good_days_are_forgotten_in_a_while),
        PUPPET_TEST(half_open_lets_one_probe_at_a_time_pass),
        PUPPET_TEST(rest_doubles_to_a_minute_and_begins_anew_after_it_closed),
        PUPPET_TEST(rest_has_jitter_within_a_quarter),
        PUPPET_TEST(verdict_is_bad_only_for_a_target_that_is_down),
        PUPPET_TEST(budget_is_a_fifth_of_first_attempts),
        PUPPET_TEST(budget_gets_ten_a_second),
        PUPPET_TEST(storm_multiplies_the_traffic_by_less_than_a_quarter),
    };
    return puppet_main("breaker", tests, sizeof tests / sizeof *tests);
}
