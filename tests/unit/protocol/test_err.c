/* The error table: every number has its row, and any number from the wire may be asked about. */
#include <CUnit/Basic.h>

#include <limits.h>
#include <string.h>

#include "protocol/err.h"

static void every_number_has_a_name_and_a_sentence(void) {
    for (int number = 0; number < TR_ERR_N; number++) {
        const char *name = tr_err_name((tr_err)number);
        CU_ASSERT_EQUAL(strncmp(name, "TR_", 3), 0);
        CU_ASSERT_TRUE(strlen(tr_err_text((tr_err)number)) > 1);
        if (number != TR_ERR_BUG) { /* numbers without a row would read as it */
            CU_ASSERT_STRING_NOT_EQUAL(name, "TR_ERR_BUG");
        }
        for (int other = 0; other < number; other++) {
            CU_ASSERT_STRING_NOT_EQUAL(name, tr_err_name((tr_err)other));
            CU_ASSERT_STRING_NOT_EQUAL(tr_err_text((tr_err)number), tr_err_text((tr_err)other));
        }
    }
}

/* They travel: a client of another version relies on them. */
static void numbers_stay_what_they_were(void) {
    CU_ASSERT_EQUAL(TR_OK, 0);
    CU_ASSERT_EQUAL(TR_DONE, 1);
    CU_ASSERT_EQUAL(TR_ERR_INVALID, 3);
    CU_ASSERT_EQUAL(TR_ERR_CONTEXT_LENGTH, 4);
    CU_ASSERT_EQUAL(TR_ERR_TIMEOUT, 12);
    CU_ASSERT_EQUAL(TR_ERR_CANCELLED, 16);
    CU_ASSERT_EQUAL(TR_ERR_VERSION, 19);
    CU_ASSERT_EQUAL(TR_ERR_CRASHED, 24);
    CU_ASSERT_EQUAL(TR_ERR_BUG, 30);
}

static void an_unknown_number_reads_as_a_bug(void) {
    static const int numbers[] = {-1, INT_MIN, INT_MAX, TR_ERR_N, 999, 65535};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        tr_err err = (tr_err)numbers[i];
        CU_ASSERT_STRING_EQUAL(tr_err_name(err), "TR_ERR_BUG");
        CU_ASSERT_STRING_EQUAL(tr_err_text(err), tr_err_text(TR_ERR_BUG));
        CU_ASSERT_EQUAL(tr_err_class_of(err), TR_CLASS_SERVER);
        CU_ASSERT_FALSE(tr_err_may_retry(err));
    }
}

static void only_success_is_of_the_class_ok(void) {
    for (int number = 0; number < TR_ERR_N; number++) {
        bool ok = number == TR_OK || number == TR_DONE;
        CU_ASSERT_EQUAL(tr_err_class_of((tr_err)number) == TR_CLASS_OK, ok);
    }
}

static void classes_have_names_of_their_own(void) {
    for (int number = 0; number < TR_CLASS_N; number++) {
        const char *name = tr_err_class_name((tr_err_class)number);
        CU_ASSERT_PTR_NOT_NULL_FATAL(name);
        for (int other = 0; other < number; other++) {
            CU_ASSERT_STRING_NOT_EQUAL(name, tr_err_class_name((tr_err_class)other));
        }
    }
    CU_ASSERT_STRING_EQUAL(tr_err_class_name(TR_CLASS_RATE_LIMIT), "rate_limit");
    CU_ASSERT_STRING_EQUAL(tr_err_class_name((tr_err_class)99), "server");
}

static void advice_follows_the_kind_of_trouble(void) {
    CU_ASSERT_EQUAL(tr_err_class_of(TR_ERR_CONTEXT_LENGTH), TR_CLASS_INVALID_REQUEST);
    for (int number = 0; number < TR_ERR_N; number++) {
        tr_err err = (tr_err)number;
        tr_err_class of = tr_err_class_of(err);
        if (of == TR_CLASS_INVALID_REQUEST || of == TR_CLASS_AUTH || of == TR_CLASS_QUOTA ||
            of == TR_CLASS_NOT_FOUND || of == TR_CLASS_CANCELLED) {
            CU_ASSERT_FALSE(tr_err_may_retry(err)); /* the same again fails again */
        }
        if (of == TR_CLASS_RATE_LIMIT || of == TR_CLASS_OVERLOADED || of == TR_CLASS_TRUNCATED) {
            CU_ASSERT_TRUE(tr_err_may_retry(err));
        }
    }
}

int main(void) {
    CU_TestInfo tests[] = {
        {"every_number_has_a_name_and_a_sentence", every_number_has_a_name_and_a_sentence},
        {"numbers_stay_what_they_were", numbers_stay_what_they_were},
        {"an_unknown_number_reads_as_a_bug", an_unknown_number_reads_as_a_bug},
        {"only_success_is_of_the_class_ok", only_success_is_of_the_class_ok},
        {"classes_have_names_of_their_own", classes_have_names_of_their_own},
        {"advice_follows_the_kind_of_trouble", advice_follows_the_kind_of_trouble},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"err", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
