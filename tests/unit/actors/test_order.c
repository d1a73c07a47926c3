/* Which of an alias's targets is asked first, and the numbers that this is decided by. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "actors/stats.h"
#include "tests/lib/stand_in.h"

#define SECOND 1000000U

static uint8_t order[TR_TARGETS_max];

static void expect(tr_policy policy, const tr_target_load *loads, uint32_t count,
                   const char *want) {
    char got[TR_TARGETS_max + 1] = "";
    tr_order(policy, loads, count, 5, order);
    for (uint32_t i = 0; i < count; i++) {
        got[i] = (char)('0' + order[i]);
    }
    CU_ASSERT_STRING_EQUAL(got, want);
}

static void list_order_is_the_list(void) {
    tr_target_load loads[8] = {{1, 9, 9}, {1, 0, 0}, {1, 5, 5}};
    expect(TR_POLICY_ORDER, loads, 8, "01234567");
    expect(TR_POLICY_ORDER, loads, 1, "0");
}

static void least_busy_and_fastest_come_first_and_equals_stay(void) {
    tr_target_load loads[] = {{0, 3, 700}, {0, 1, 0}, {0, 3, 20}, {0, 0, 700}, {0, 1, 900}};
    expect(TR_POLICY_LEAST_BUSY, loads, 5, "31402");
    expect(TR_POLICY_FASTEST, loads, 5, "12034"); /* unknown is worth a try */
}

static void weights_are_kept_to_over_many_draws(void) {
    tr_target_load loads[] = {{6, 0, 0}, {3, 0, 0}, {1, 0, 0}, {0, 0, 0}};
    uint32_t first[4] = {0}, second[4] = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        tr_order(TR_POLICY_WEIGHT, loads, 4, (i + 1) * 0x9e3779b97f4a7c15U, order);
        uint32_t seen = 0;
        for (uint32_t k = 0; k < 4; k++) {
            seen |= 1U << order[k];
        }
        CU_ASSERT_EQUAL(seen, 15);    /* each once */
        CU_ASSERT_EQUAL(order[3], 3); /* without weight: only when all others have failed */
        first[order[0]]++;
        second[order[1]]++;
    }
    CU_ASSERT(first[0] > 11400 && first[0] < 12600);
    CU_ASSERT(first[1] > 5500 && first[1] < 6500);
    CU_ASSERT(first[2] > 1700 && first[2] < 2300);
    CU_ASSERT(second[0] > 5000 && second[1] > 5000 && second[2] > 1500);
    tr_target_load none[] = {{0, 0, 0}, {0, 0, 0}};
    expect(TR_POLICY_WEIGHT, none, 2, "01");
}

static void policies_have_their_names(void) {
    CU_ASSERT_STRING_EQUAL(tr_policy_name(TR_POLICY_ORDER), "order");
    CU_ASSERT_STRING_EQUAL(tr_policy_name(TR_POLICY_WEIGHT), "weight");
    CU_ASSERT_STRING_EQUAL(tr_policy_name(TR_POLICY_LEAST_BUSY), "least_busy");
    CU_ASSERT_STRING_EQUAL(tr_policy_name(TR_POLICY_FASTEST), "fastest");
}

static void row_counts_what_runs_and_how_soon_it_answers(void) {
    tr_stats *stats = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_stats_new(&stats), TR_OK);
    CU_ASSERT_EQUAL(tr_stats_row(stats, "openai/a", false), 0); /* not asked for by any alias */
    uint32_t row = tr_stats_row(stats, "openai/a", true);
    CU_ASSERT_NOT_EQUAL_FATAL(row, 0);
    CU_ASSERT_EQUAL(tr_stats_row(stats, "openai/a", false), row);
    CU_ASSERT_NOT_EQUAL(tr_stats_row(stats, "openai/b", true), row);
    tr_stats_begin(stats, row);
    tr_stats_begin(stats, row);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, 0).running, 2);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, 0).first_ms, 0);
    tr_stats_end(stats, row, 400, false, SECOND);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, SECOND).running, 1);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, SECOND).first_ms, 400);
    tr_stats_end(stats, row, 1200, false, SECOND);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, SECOND).first_ms, 500);
    tr_stats_begin(stats, row);
    tr_stats_end(stats, row, 0, false, SECOND); /* cancelled early: says nothing */
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, SECOND).first_ms, 500);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, SECOND).running, 0);
    tr_stats_begin(stats, 0); /* counted nowhere */
    tr_stats_end(stats, 0, 5, false, SECOND);
    CU_ASSERT_EQUAL(tr_stats_load(stats, 0, SECOND).running, 0);
    tr_stats_free(stats);
}

static void failing_fast_is_slow_and_is_forgotten_in_time(void) {
    tr_stats *stats = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_stats_new(&stats), TR_OK);
    uint32_t row = tr_stats_row(stats, "openai/a", true);
    tr_stats_begin(stats, row);
    tr_stats_end(stats, row, 0, true, SECOND);
    uint32_t at_once = tr_stats_load(stats, row, SECOND).first_ms;
    CU_ASSERT(at_once >= 5000);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, 31 * SECOND).first_ms, at_once / 2);
    CU_ASSERT_EQUAL(tr_stats_load(stats, row, 3600U * SECOND).first_ms, 0);
    tr_stats_free(stats);
}

static void full_table_tracks_no_more_and_breaks_nothing(void) {
    tr_stats *stats = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_stats_new(&stats), TR_OK);
    uint32_t none = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        char label[32];
        snprintf(label, sizeof label, "p/%u", i);
        uint32_t row = tr_stats_row(stats, label, true);
        CU_ASSERT(row <= 1024);
        none += row == 0;
        CU_ASSERT_EQUAL(tr_stats_row(stats, label, false), row);
    }
    CU_ASSERT(none >= 3000 - 1024 && none < 2300);
    tr_stats_free(stats);
    tr_stats_free(NULL);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(list_order_is_the_list),
        PUPPET_TEST(least_busy_and_fastest_come_first_and_equals_stay),
        PUPPET_TEST(weights_are_kept_to_over_many_draws),
        PUPPET_TEST(policies_have_their_names),
        PUPPET_TEST(row_counts_what_runs_and_how_soon_it_answers),
        PUPPET_TEST(failing_fast_is_slow_and_is_forgotten_in_time),
        PUPPET_TEST(full_table_tracks_no_more_and_breaks_nothing),
    };
    return puppet_main("order", tests, sizeof tests / sizeof *tests);
}
