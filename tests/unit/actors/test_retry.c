/* What follows a failed attempt: a row per error, times hints, attempts and what else is known. */
#include <CUnit/Basic.h>

#include "actors/retry.h"
#include "tests/lib/puppet.h"

typedef struct row {
    tr_err err;
    bool same, next, longer; /* what may follow, if there is such a target */
    bool advice;             /* whether x-should-retry changes `same` */
} row;

/* Every error of the table. */
static const row rows[] = {
    {TR_OK, false, false, false, false},
    {TR_DONE, false, false, false, false},
    {TR_ERR_NOMEM, true, true, false, true},
    {TR_ERR_INVALID, false, false, false, false},
    {TR_ERR_CONTEXT_LENGTH, false, false, true, false},
    {TR_ERR_UNSUPPORTED, false, false, false, false},
    {TR_ERR_TOO_LARGE, false, false, false, false},
    {TR_ERR_NOT_FOUND, false, true, false, true},
    {TR_ERR_AUTH, false, true, false, false},
    {TR_ERR_QUOTA, false, true, false, false},
    {TR_ERR_RATE_LIMIT, true, true, false, true},
    {TR_ERR_OVERLOADED, true, true, false, true},
    {TR_ERR_TIMEOUT, true, true, false, true},
    {TR_ERR_CONNECT, true, true, false, true},
    {TR_ERR_SERVER, true, true, false, true},
    {TR_ERR_TRUNCATED, true, true, false, true},
    {TR_ERR_CANCELLED, false, false, false, false},
    {TR_ERR_NO_DAEMON, false, false, false, false},
    {TR_ERR_CLOSED, false, false, false, false},
    {TR_ERR_VERSION, false, false, false, false},
    {TR_ERR_PROTOCOL, false, true, false, true},
    {TR_ERR_FULL, true, true, false, true},
    {TR_ERR_GONE, false, true, false, false},
    {TR_ERR_STALLED, false, false, false, false},
    {TR_ERR_CRASHED, false, true, false, false},
    {TR_ERR_SHUTDOWN, false, false, false, false},
    {TR_ERR_FILTERED, false, false, false, false},
    {TR_ERR_EXISTS, false, false, false, false},
    {TR_ERR_FORKED, false, false, false, false},
    {TR_ERR_IO, false, true, false, false},
    {TR_ERR_BUG, false, false, false, false},
    {TR_ERR_SCHEMA, false, false, false, false}, /* corrected once, elsewhere */
};
#define ROWS (sizeof rows / sizeof *rows)

static tr_retry_facts plain(tr_err err) {
    return (tr_retry_facts){
        .err = err, .attempts = 1, .attempts_max = 3, .remaining_ms = 60000, .random = 123456789};
}

static void expect(const tr_retry_facts *facts, tr_retry_action action) {
    tr_retry_choice choice = tr_retry_decide(facts);
    CU_ASSERT_EQUAL(choice.action, action);
    if (choice.action != action) {
        printf("\n    %s: action %d\n", tr_err_name(facts->err), (int)choice.action);
    }
    CU_ASSERT(choice.action == TR_RETRY_AGAIN || choice.after_ms == 0);
}

static void every_error_has_its_row(void) {
    CU_ASSERT_EQUAL(ROWS, TR_ERR_N);
    for (size_t i = 0; i < ROWS; i++) {
        CU_ASSERT_EQUAL(rows[i].err, i);
    }
}

static void error_decides_whether_the_same_target_is_asked_again(void) {
    for (size_t i = 0; i < ROWS; i++) {
        tr_retry_facts facts = plain(rows[i].err);
        expect(&facts, rows[i].same ? TR_RETRY_AGAIN : TR_RETRY_FAIL);
        facts.longer_left = true; /* says nothing of other errors */
        expect(&facts, rows[i].longer ? TR_RETRY_NEXT
                       : rows[i].same ? TR_RETRY_AGAIN
                                      : TR_RETRY_FAIL);
    }
}

static void next_target_goes_before_another_attempt(void) {
    for (size_t i = 0; i < ROWS; i++) {
        tr_retry_facts facts = plain(rows[i].err);
        facts.next_left = true;
        expect(&facts, rows[i].next ? TR_RETRY_NEXT : TR_RETRY_FAIL);
    }
}

static void nothing_follows_the_first_delta_or_the_last_attempt(void) {
    for (size_t i = 0; i < ROWS; i++) {
        for (int next = 0; next < 2; next++) {
            tr_retry_facts facts = plain(rows[i].err);
            facts.next_left = facts.longer_left = next == 1;
            facts.begun = true;
            expect(&facts, TR_RETRY_FAIL);
            facts.begun = false;
            facts.attempts = 3;
            expect(&facts, TR_RETRY_FAIL);
            facts.attempts = facts.attempts_max = 1;
            expect(&facts, TR_RETRY_FAIL);
        }
    }
}

static void refusal_of_a_gate_only_leads_to_another_target(void) {
    for (size_t i = 0; i < ROWS; i++) {
        tr_retry_facts facts = plain(rows[i].err);
        facts.refused = true;
        facts.attempts = 0;
        expect(&facts, TR_RETRY_FAIL);
        facts.next_left = true;
        expect(&facts, rows[i].next ? TR_RETRY_NEXT : TR_RETRY_FAIL);
    }
}

static void word_of_the_server_goes_before_the_class_but_not_before_all(void) {
    for (size_t i = 0; i < ROWS; i++) {
        tr_retry_facts facts = plain(rows[i].err);
        facts.advised = 1;
        expect(&facts, rows[i].same || rows[i].advice ? TR_RETRY_AGAIN : TR_RETRY_FAIL);
        facts.advised = -1;
        expect(&facts, TR_RETRY_FAIL);
        facts.next_left = true; /* it speaks of itself only */
        expect(&facts, rows[i].next ? TR_RETRY_NEXT : TR_RETRY_FAIL);
    }
}

static void hint_is_a_floor_with_a_little_above_it(void) {
    static const uint32_t hints[] = {1, 100, 1500, 5000, 48000};
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < sizeof hints / sizeof *hints; k++) {
            for (uint32_t attempt = 1; attempt <= 2 && rows[i].same; attempt++) {
                tr_retry_facts facts = plain(rows[i].err);
                facts.attempts = attempt;
                facts.hinted = true;
                facts.hint_ms = hints[k];
                facts.random = 0;
                CU_ASSERT_EQUAL(tr_retry_decide(&facts).after_ms, hints[k]);
                for (uint64_t random = 0; random < 3000; random++) {
                    facts.random = random * 0x9e3779b97f4a7c15U;
                    tr_retry_choice choice = tr_retry_decide(&facts);
                    CU_ASSERT_EQUAL(choice.action, TR_RETRY_AGAIN);
                    CU_ASSERT(choice.after_ms >= hints[k] && choice.after_ms <= hints[k] + 1000);
                }
            }
        }
    }
}

static void hint_beyond_two_minutes_or_the_deadline_fails_at_once(void) {
    for (size_t i = 0; i < ROWS; i++) {
        tr_retry_facts facts = plain(rows[i].err);
        facts.remaining_ms = 3600000;
        facts.hinted = true;
        facts.random = 0;
        facts.hint_ms = 120000;
        expect(&facts, rows[i].same ? TR_RETRY_AGAIN : TR_RETRY_FAIL);
        facts.hint_ms = 120001;
        expect(&facts, TR_RETRY_FAIL);
        facts.next_left = true; /* which has nothing to do with it */
        expect(&facts, rows[i].next ? TR_RETRY_NEXT : TR_RETRY_FAIL);
        facts.next_left = false;
        facts.hint_ms = 5000;
        facts.remaining_ms = 5001;
        expect(&facts, rows[i].same ? TR_RETRY_AGAIN : TR_RETRY_FAIL);
        facts.remaining_ms = 5000;
        expect(&facts, TR_RETRY_FAIL);
    }
}

static void hint_of_nothing_is_none(void) {
    tr_retry_facts facts = plain(TR_ERR_RATE_LIMIT);
    tr_retry_choice without = tr_retry_decide(&facts);
    facts.hinted = true;
    CU_ASSERT_EQUAL(tr_retry_decide(&facts).after_ms, without.after_ms);
    CU_ASSERT_EQUAL(tr_retry_decide(&facts).action, TR_RETRY_AGAIN);
}

/* Full jitter: from nothing to the most, evenly. */
static void pause_grows_to_eight_seconds_and_is_drawn_from_all_of_it(void) {
    static const uint32_t most[] = {500, 1000, 2000, 4000, 8000, 8000, 8000};
    for (uint32_t attempt = 1; attempt <= 7; attempt++) {
        tr_retry_facts facts = plain(TR_ERR_SERVER);
        facts.attempts = attempt;
        facts.attempts_max = 20;
        uint64_t sum = 0;
        uint32_t greatest = 0;
        for (uint64_t random = 0; random < 4000; random++) {
            facts.random = random * 0x9e3779b97f4a7c15U >> 8;
            uint32_t after_ms = tr_retry_decide(&facts).after_ms;
            greatest = after_ms > greatest ? after_ms : greatest;
            sum += after_ms;
        }
        CU_ASSERT(greatest <= most[attempt - 1] && greatest > most[attempt - 1] * 9 / 10);
        CU_ASSERT(sum / 4000 > most[attempt - 1] * 4 / 10 &&
                  sum / 4000 < most[attempt - 1] * 6 / 10);
    }
}

static void pause_that_outlasts_the_request_is_not_begun(void) {
    tr_retry_facts facts = plain(TR_ERR_SERVER);
    facts.random = 300;
    facts.remaining_ms = 301;
    expect(&facts, TR_RETRY_AGAIN);
    facts.remaining_ms = 300;
    expect(&facts, TR_RETRY_FAIL);
    facts.remaining_ms = 0;
    expect(&facts, TR_RETRY_FAIL);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(every_error_has_its_row),
        PUPPET_TEST(error_decides_whether_the_same_target_is_asked_again),
        PUPPET_TEST(next_target_goes_before_another_attempt),
        PUPPET_TEST(nothing_follows_the_first_delta_or_the_last_attempt),
        PUPPET_TEST(refusal_of_a_gate_only_leads_to_another_target),
        PUPPET_TEST(word_of_the_server_goes_before_the_class_but_not_before_all),
        PUPPET_TEST(hint_is_a_floor_with_a_little_above_it),
        PUPPET_TEST(hint_beyond_two_minutes_or_the_deadline_fails_at_once),
        PUPPET_TEST(hint_of_nothing_is_none),
        PUPPET_TEST(pause_grows_to_eight_seconds_and_is_drawn_from_all_of_it),
        PUPPET_TEST(pause_that_outlasts_the_request_is_not_begun),
    };
    return puppet_main("retry", tests, sizeof tests / sizeof *tests);
}
