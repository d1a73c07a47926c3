/* The ring of a provider's keys. */
#include "providers/keys.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

static tr_keys keys;

static void set(uint8_t source, const char *const *texts, bool afresh) {
    tr_str list[TR_KEYS_max + 4];
    size_t count = 0;
    for (; texts[count] != NULL; count++) {
        list[count] = (tr_str){texts[count], strlen(texts[count])};
    }
    CU_ASSERT_TRUE(tr_keys_set(&keys, source, list, count, afresh));
}

#define SET(source, ...) set(source, (const char *const[]){__VA_ARGS__, NULL}, false)

static void fresh(void) {
    tr_keys_wipe(&keys);
}

static const char *next(uint64_t now_us) {
    const tr_key *key = tr_keys_next(&keys, now_us, NULL, 0);
    return key != NULL ? key->text : "";
}

static uint32_t id_of(const char *text) {
    for (uint32_t i = 0; i < keys.count; i++) {
        if (strcmp(keys.list[i].text, text) == 0) {
            return keys.list[i].id;
        }
    }
    CU_FAIL("no such key");
    return 0;
}

static void each_good_key_has_its_turn(void) {
    fresh();
    SET(0, "a", "b");
    SET(1, "c");
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_STRING_EQUAL(next(1), "a");
        CU_ASSERT_STRING_EQUAL(next(1), "b");
        CU_ASSERT_STRING_EQUAL(next(1), "c");
    }
}

static void refused_key_is_left_out_and_tried_again_once_after_a_rest(void) {
    fresh();
    SET(0, "a", "b");
    tr_keys_refused(&keys, id_of("a"), 0);
    tr_keys_refused(&keys, id_of("a"), 1); /* of another request that was under way */
    CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_REFUSED, 2), 1);
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_STRING_EQUAL(next(9999999), "b");
    }
    CU_ASSERT_STRING_EQUAL(next(10000000), "a");
    CU_ASSERT_STRING_EQUAL(next(10000000), "b");
    CU_ASSERT_STRING_EQUAL(next(10000000), "b"); /* one request tries it */
    tr_keys_refused(&keys, id_of("a"), 10000000);
    CU_ASSERT_STRING_EQUAL(next(29999999), "b"); /* it rests twice as long */
    CU_ASSERT_STRING_EQUAL(next(30000000), "a");
    tr_keys_fine(&keys, id_of("a"));
    CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_GOOD, 30000000), 2);
    tr_keys_refused(&keys, id_of("a"), 40000000);
    CU_ASSERT_EQUAL(tr_keys_wait_ms(&keys, TR_KEY_REFUSED, 40000000), TR_KEY_REST_MS_min);
}

static void rest_of_refused_keys_has_an_end(void) {
    fresh();
    SET(0, "a", "b");
    uint64_t now_us = 0;
    for (int i = 0; i < 40; i++) {
        tr_keys_refused(&keys, id_of("a"), now_us);
        tr_keys_refused(&keys, id_of("b"), now_us);
        CU_ASSERT(tr_keys_wait_ms(&keys, TR_KEY_REFUSED, now_us) <= TR_KEY_REST_MS_max);
        CU_ASSERT_STRING_EQUAL(next(now_us), "");
        now_us += TR_KEY_REST_MS_max * 1000ULL;
        CU_ASSERT_STRING_EQUAL(next(now_us), "a");
        CU_ASSERT_STRING_EQUAL(next(now_us), "b");
        CU_ASSERT_STRING_EQUAL(next(now_us), "");
    }
}

static void only_key_is_never_left_out(void) {
    fresh();
    SET(0, "a");
    for (int i = 0; i < 3; i++) {
        tr_keys_refused(&keys, id_of("a"), 0);
        CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_REFUSED, 0), 1);
        CU_ASSERT_STRING_EQUAL(next(0), "a");
        uint32_t tried = id_of("a");
        CU_ASSERT_PTR_NULL(tr_keys_next(&keys, 0, &tried, 1));
    }
}

static void limited_key_is_used_only_when_no_other_is_left(void) {
    fresh();
    SET(0, "a", "b");
    tr_keys_limited(&keys, id_of("a"), 5000000);
    CU_ASSERT_STRING_EQUAL(next(1), "b");
    CU_ASSERT_STRING_EQUAL(next(1), "b");
    tr_keys_limited(&keys, id_of("b"), 3000000);
    CU_ASSERT_STRING_EQUAL(next(1), "b"); /* the one that is free first */
    uint32_t tried = id_of("b");
    CU_ASSERT_PTR_NULL(tr_keys_next(&keys, 1, &tried, 1)); /* it has just been told so */
    CU_ASSERT_EQUAL(tr_keys_wait_ms(&keys, TR_KEY_LIMITED, 1000000), 2000);
    CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_LIMITED, 4000000), 1);
    CU_ASSERT_STRING_EQUAL(next(4000000), "b");
    CU_ASSERT_STRING_EQUAL(next(5000000), "a");
}

static void request_meets_no_key_twice(void) {
    fresh();
    SET(0, "a", "b", "c");
    uint32_t tried[3] = {id_of("b")};
    const tr_key *key = tr_keys_next(&keys, 1, tried, 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    CU_ASSERT_STRING_EQUAL(key->text, "a");
    tried[1] = key->id;
    key = tr_keys_next(&keys, 1, tried, 2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    CU_ASSERT_STRING_EQUAL(key->text, "c");
    tried[2] = key->id;
    CU_ASSERT_PTR_NULL(tr_keys_next(&keys, 1, tried, 3));
}

static void key_that_stays_keeps_its_state_and_a_new_one_begins_afresh(void) {
    fresh();
    SET(0, "a", "b");
    SET(2, "z");
    uint32_t was = id_of("a");
    tr_keys_refused(&keys, was, 0);
    SET(0, "c", "a");
    CU_ASSERT_EQUAL(id_of("a"), was);
    CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_REFUSED, 1), 1);
    CU_ASSERT_EQUAL(keys.count, 3);
    CU_ASSERT_EQUAL(tr_keys_of(&keys, 0), 2);
    set(0, (const char *const[]){"a", NULL}, true); /* its source has changed */
    CU_ASSERT_NOT_EQUAL(id_of("a"), was);
    CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_GOOD, 1), 2);
    tr_keys_refused(&keys, was, 1); /* the answer to a request with the old one */
    CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_GOOD, 1), 2);
    tr_keys_refused(&keys, id_of("z"), 1);
    tr_keys_forgive(&keys);
    CU_ASSERT_EQUAL(tr_keys_in(&keys, TR_KEY_GOOD, 1), 2);
    tr_keys_set(&keys, 0, NULL, 0, false);
    CU_ASSERT_EQUAL(keys.count, 1);
    CU_ASSERT_STRING_EQUAL(next(1), "z");
}

static void keys_beyond_the_limit_are_left_out_and_told(void) {
    char texts[TR_KEYS_max + 1][16];
    tr_str list[TR_KEYS_max + 1];
    fresh();
    for (size_t i = 0; i <= TR_KEYS_max; i++) {
        snprintf(texts[i], sizeof texts[i], "key-%zu", i);
        list[i] = (tr_str){texts[i], strlen(texts[i])};
    }
    CU_ASSERT_TRUE(tr_keys_set(&keys, 0, list, TR_KEYS_max, false));
    CU_ASSERT_FALSE(tr_keys_set(&keys, 0, list, TR_KEYS_max + 1, false));
    CU_ASSERT_EQUAL(keys.count, TR_KEYS_max);
}

static void text_without_blanks_is_a_key(void) {
    char long_text[TR_KEY_max + 2];
    memset(long_text, 'k', sizeof long_text);
    CU_ASSERT_TRUE(tr_key_valid((tr_str){"sk-1", 4}));
    CU_ASSERT_TRUE(tr_key_valid((tr_str){long_text, TR_KEY_max}));
    CU_ASSERT_FALSE(tr_key_valid((tr_str){long_text, TR_KEY_max + 1}));
    CU_ASSERT_FALSE(tr_key_valid((tr_str){"", 0}));
    CU_ASSERT_FALSE(tr_key_valid((tr_str){"a b", 3}));
    CU_ASSERT_FALSE(tr_key_valid((tr_str){"a\n", 2}));
    CU_ASSERT_FALSE(tr_key_valid((tr_str){"\xc3\xa9", 2}));
}

static void keys_in_a_text_are_hidden_also_when_they_are_cut(void) {
    char text[] = "not sk-secret-123456 nor sk-other-7890123, begins sk-secret-123";
    char shorter[] = "sk-secret-1 is innocent";
    char brief[] = "abc stays";
    fresh();
    SET(0, "sk-secret-123456", "abc");
    SET(1, "sk-other-7890123");
    tr_keys_hide(&keys, text);
    CU_ASSERT_STRING_EQUAL(text, "not **************** nor ****************, begins *************");
    tr_keys_hide(&keys, shorter);
    CU_ASSERT_STRING_EQUAL(shorter, "sk-secret-1 is innocent");
    tr_keys_hide(&keys, brief);
    CU_ASSERT_STRING_EQUAL(brief, "abc stays");
}

static void wiped_keys_leave_nothing_in_memory(void) {
    static const char canary[] = "canary-0123456789";
    fresh();
    SET(0, "first", canary, "last");
    SET(0, "first", "last");
    CU_ASSERT_PTR_NULL(memmem(&keys, sizeof keys, canary, sizeof canary - 1));
    tr_keys_wipe(&keys);
    CU_ASSERT_PTR_NULL(memmem(&keys, sizeof keys, "first", 5));
    CU_ASSERT_EQUAL(keys.count, 0);
}

int main(void) {
    static CU_TestInfo tests[] = {
        {"each_good_key_has_its_turn", each_good_key_has_its_turn},
        {"refused_key_is_left_out_and_tried_again_once_after_a_rest",
         refused_key_is_left_out_and_tried_again_once_after_a_rest},
        {"rest_of_refused_keys_has_an_end", rest_of_refused_keys_has_an_end},
        {"only_key_is_never_left_out", only_key_is_never_left_out},
        {"limited_key_is_used_only_when_no_other_is_left",
         limited_key_is_used_only_when_no_other_is_left},
        {"request_meets_no_key_twice", request_meets_no_key_twice},
        {"key_that_stays_keeps_its_state_and_a_new_one_begins_afresh",
         key_that_stays_keeps_its_state_and_a_new_one_begins_afresh},
        {"keys_beyond_the_limit_are_left_out_and_told",
         keys_beyond_the_limit_are_left_out_and_told},
        {"text_without_blanks_is_a_key", text_without_blanks_is_a_key},
        {"keys_in_a_text_are_hidden_also_when_they_are_cut",
         keys_in_a_text_are_hidden_also_when_they_are_cut},
        {"wiped_keys_leave_nothing_in_memory", wiped_keys_leave_nothing_in_memory},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"keys", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 1;
    }
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
