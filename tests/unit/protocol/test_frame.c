/* Frame headers: what is encoded reads back, and no claim about sizes gets beyond its limit. */
#include <CUnit/Basic.h>

#include <string.h>

#include "protocol/frame.h"
#include "protocol/wire.h"

static uint8_t bytes[TR_FRAME_HEADER_size];
static tr_frame back;

static tr_err decode(size_t body_max) {
    return tr_frame_decode(bytes, sizeof bytes, body_max, &back);
}

static void put32(size_t at, uint32_t number) {
    memcpy(bytes + at, &number, sizeof number);
}

static void headers_read_back(void) {
    tr_frame frame = {.kind = TR_KIND_SUBMIT,
                      .flags = 9,
                      .ref = 0x1122334455667788,
                      .inline_size = 44,
                      .body_size = 70000};
    tr_frame_encode(&frame, bytes);
    CU_ASSERT_EQUAL_FATAL(decode(TR_FRAME_BODY_max), TR_OK);
    CU_ASSERT_EQUAL(back.kind, TR_KIND_SUBMIT);
    CU_ASSERT_EQUAL(back.flags, 9);
    CU_ASSERT_EQUAL(back.ref, 0x1122334455667788);
    CU_ASSERT_EQUAL(back.inline_size, 44);
    CU_ASSERT_EQUAL(back.body_size, 70000);
    CU_ASSERT_EQUAL(tr_frame_size(&back), 24 + 44 + 70000);
}

static void headers_lie_at_any_address(void) {
    uint8_t shifted[TR_FRAME_HEADER_size + 8];
    tr_frame frame = {.kind = TR_KIND_CREDIT, .ref = 5, .inline_size = 8};
    for (size_t shift = 0; shift < 8; shift++) {
        tr_frame_encode(&frame, shifted + shift);
        CU_ASSERT_EQUAL(tr_frame_decode(shifted + shift, TR_FRAME_HEADER_size, 0, &back), TR_OK);
        CU_ASSERT_EQUAL(back.ref, 5);
    }
}

static void a_part_of_a_header_waits_for_the_rest(void) {
    tr_frame frame = {.kind = TR_KIND_CREDIT, .ref = 5, .inline_size = 8};
    tr_frame_encode(&frame, bytes);
    for (size_t size = 0; size < sizeof bytes; size++) {
        CU_ASSERT_EQUAL(tr_frame_decode(bytes, size, 0, &back), TR_ERR_FULL);
    }
    CU_ASSERT_EQUAL(decode(0), TR_OK);
}

static void the_largest_frame_passes_and_one_byte_more_does_not(void) {
    tr_frame frame = {.kind = TR_KIND_SUBMIT,
                      .ref = 1,
                      .inline_size = TR_FRAME_INLINE_max,
                      .body_size = TR_FRAME_BODY_max};
    tr_frame_encode(&frame, bytes);
    CU_ASSERT_EQUAL(decode(TR_FRAME_BODY_max), TR_OK);
    CU_ASSERT_EQUAL(tr_frame_size(&back), TR_FRAME_max);
    CU_ASSERT_EQUAL(decode(TR_FRAME_BODY_max - 1), TR_ERR_TOO_LARGE);
    put32(0, 20U + TR_FRAME_INLINE_max + TR_FRAME_BODY_max + 1);
    CU_ASSERT_EQUAL(decode(TR_FRAME_BODY_max), TR_ERR_TOO_LARGE);
    put32(0, 20U + TR_FRAME_INLINE_max + 1);
    put32(16, TR_FRAME_INLINE_max + 1);
    CU_ASSERT_EQUAL(decode(TR_FRAME_BODY_max), TR_ERR_TOO_LARGE);
}

static void a_claim_of_gibibytes_is_refused(void) {
    for (unsigned high = 0x40; high <= 0xff; high++) {
        memset(bytes, 0xff, 4);
        memset(bytes + 4, 0, sizeof bytes - 4);
        bytes[3] = (uint8_t)high;
        bytes[4] = TR_KIND_SUBMIT;
        bytes[8] = 1;
        CU_ASSERT_EQUAL(decode(TR_FRAME_BODY_max), TR_ERR_TOO_LARGE);
    }
}

static void sizes_that_contradict_each_other_are_refused(void) {
    tr_frame frame = {.kind = TR_KIND_CREDIT, .ref = 1, .inline_size = 8};
    for (uint32_t size = 0; size < 28; size++) {
        tr_frame_encode(&frame, bytes);
        put32(0, size); /* shorter than the header, or than its inline part */
        CU_ASSERT_EQUAL(decode(TR_FRAME_BODY_max), TR_ERR_PROTOCOL);
    }
    tr_frame_encode(&frame, bytes);
    put32(16, UINT32_MAX);
    CU_ASSERT_EQUAL(decode(TR_FRAME_BODY_max), TR_ERR_PROTOCOL);
}

static void only_a_submit_has_a_body(void) {
    for (unsigned kind = 0; kind < 256; kind++) {
        tr_frame frame = {.kind = (uint16_t)kind, .ref = 1, .inline_size = 44, .body_size = 1};
        tr_frame_encode(&frame, bytes);
        CU_ASSERT_EQUAL(decode(1), kind == TR_KIND_SUBMIT ? TR_OK : TR_ERR_PROTOCOL);
    }
}

static void a_refused_header_writes_no_result(void) {
    tr_frame frame = {.kind = TR_KIND_DELTA, .ref = 1, .inline_size = 24, .body_size = 1};
    tr_frame_encode(&frame, bytes);
    back = (tr_frame){.kind = 77, .ref = 78, .body_size = 79};
    CU_ASSERT_EQUAL(decode(1), TR_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(back.kind, 77);
    CU_ASSERT_EQUAL(back.ref, 78);
    CU_ASSERT_EQUAL(back.inline_size, 0);
    CU_ASSERT_EQUAL(back.body_size, 79);
}

/* Whatever the bytes: what is accepted is within the limits and encodes to what was read. */
static void what_is_accepted_is_within_the_limits(void) {
    uint64_t state = 11;
    unsigned accepted = 0;
    for (int i = 0; i < 200000; i++) {
        tr_frame frame = {.kind = TR_KIND_SUBMIT, .ref = 1, .inline_size = 44, .body_size = 99};
        tr_frame_encode(&frame, bytes);
        for (int k = 0; k < 3; k++) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            bytes[(state >> 33) % sizeof bytes] = (uint8_t)(state >> 56);
        }
        if (decode(TR_FRAME_BODY_max) != TR_OK) {
            continue;
        }
        uint8_t again[TR_FRAME_HEADER_size];
        accepted++;
        memset(bytes + 20, 0, 4); /* reserved: ignored */
        tr_frame_encode(&back, again);
        CU_ASSERT_EQUAL(memcmp(again, bytes, sizeof again), 0);
    }
    CU_ASSERT_TRUE(accepted > 1000);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"headers_read_back", headers_read_back},
        {"headers_lie_at_any_address", headers_lie_at_any_address},
        {"a_part_of_a_header_waits_for_the_rest", a_part_of_a_header_waits_for_the_rest},
        {"the_largest_frame_passes_and_one_byte_more_does_not",
         the_largest_frame_passes_and_one_byte_more_does_not},
        {"a_claim_of_gibibytes_is_refused", a_claim_of_gibibytes_is_refused},
        {"sizes_that_contradict_each_other_are_refused",
         sizes_that_contradict_each_other_are_refused},
        {"only_a_submit_has_a_body", only_a_submit_has_a_body},
        {"a_refused_header_writes_no_result", a_refused_header_writes_no_result},
        {"what_is_accepted_is_within_the_limits", what_is_accepted_is_within_the_limits},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"frame", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
