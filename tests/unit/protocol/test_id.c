/* Actor ids: each field keeps its bits, and people can read them. */
#include <CUnit/Basic.h>

#include <string.h>

#include "protocol/id.h"

static void fields_keep_to_their_bits(void) {
    static const uint32_t cases[][4] = {{0, 0, 0, 1},
                                        {255, 0, 0, 0},
                                        {0, 255, 0, 0},
                                        {0, 0, 0xffffff, 0},
                                        {0, 0, 0, 0xffffff},
                                        {1, 2, 3, 4},
                                        {255, 255, 0xffffff, 0xffffff}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tr_id id = tr_id_make(cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
        CU_ASSERT_EQUAL(tr_id_node(id), cases[i][0]);
        CU_ASSERT_EQUAL(tr_id_shard(id), cases[i][1]);
        CU_ASSERT_EQUAL(tr_id_slot(id), cases[i][2]);
        CU_ASSERT_EQUAL(tr_id_generation(id), cases[i][3]);
    }
}

static void what_is_too_large_does_not_spill_over(void) {
    tr_id id = tr_id_make(256, 256, 1U << 24, 1U << 24);
    CU_ASSERT_EQUAL(id, TR_ID_NONE);
}

static void two_lives_of_a_slot_differ(void) {
    CU_ASSERT_NOT_EQUAL(tr_id_make(0, 1, 7, 1), tr_id_make(0, 1, 7, 2));
    CU_ASSERT_NOT_EQUAL(tr_id_make(0, 0, 0, 1), TR_ID_NONE);
}

static void people_read_node_shard_slot_and_life(void) {
    char text[TR_ID_FMT_size];
    CU_ASSERT_PTR_EQUAL(tr_id_format(tr_id_make(0, 1, 27, 3), text), text);
    CU_ASSERT_STRING_EQUAL(text, "<0.1.27.3>");
    CU_ASSERT_STRING_EQUAL(tr_id_format(TR_ID_NONE, text), "<0.0.0.0>");
    CU_ASSERT_STRING_EQUAL(tr_id_format(UINT64_MAX, text), "<255.255.16777215.16777215>");
}

int main(void) {
    CU_TestInfo tests[] = {
        {"fields_keep_to_their_bits", fields_keep_to_their_bits},
        {"what_is_too_large_does_not_spill_over", what_is_too_large_does_not_spill_over},
        {"two_lives_of_a_slot_differ", two_lives_of_a_slot_differ},
        {"people_read_node_shard_slot_and_life", people_read_node_shard_slot_and_life},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"id", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
