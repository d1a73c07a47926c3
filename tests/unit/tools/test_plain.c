/* What `troupe` makes of an answer before it prints names out of it (plain.h). */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "protocol/json.h"
#include "tools/troupe/plain.h"

/* The value of the member "a" once the text was made plain. */
static void expect(const char *json, const char *value) {
    char text[256];
    tr_json *tree = NULL;
    size_t size = strlen(json);
    CU_ASSERT_FATAL(size < sizeof text);
    memcpy(text, json, size);
    size = tri_plain_json(text, size);
    CU_ASSERT_EQUAL_FATAL(tr_json_parse(text, size, &tree, NULL), TR_OK);
    tr_str got = tr_json_string(tr_json_get(tr_json_root(tree), "a"));
    CU_ASSERT_EQUAL(got.size, strlen(value));
    CU_ASSERT(got.size == strlen(value) && memcmp(got.ptr, value, got.size) == 0);
    tr_json_free(tree);
}

static void escape_sequences_become_blanks(void) {
    expect("{\"a\":\"x\\u001b[2Jy\"}", "x [2Jy");
    expect("{\"a\":\"x\\u001B]0;t\\u0007y\"}", "x ]0;t y");
    expect("{\"a\":\"x\\u009b2J\\u007f\"}", "x 2J ");
    expect("{\"a\":\"x\xc2\x9b"
           "2J\x7f\"}",
           "x  2J "); /* raw */
    expect("{\"a\":\"x\\u0000y\"}", "x y");
}

static void names_begin_no_line_and_turn_no_writing(void) {
    expect("{\"a\":\"x\\ny\\rz\\tt\\bb\\ff\"}", "x y z t b f");
    expect("{\"a\":\"x\\u000ay\"}", "x y");
    expect("{\"a\":\"x\\u202ey\\u2066z\"}", "x y z");
    expect("{\"a\":\"x\xe2\x80\xaey\"}", "x   y");
}

static void all_else_stays(void) {
    expect("{\"a\":\"\\\\n \\\\u001b \\\"q\\\" \\/\"}", "\\n \\u001b \"q\" /");
    expect("{\"a\":\"\\u00e4\xc3\xa4\\ud83d\\ude00\"}", "\xc3\xa4\xc3\xa4\xf0\x9f\x98\x80");
    expect("{\n \"a\": \"x\"\n}", "x");
    expect("{\"a\\u001b\":1,\"a\":\"x\"}", "x");
}

static void text_that_is_cut_off_stays_within_its_size(void) {
    static const char *const cut[] = {"\\", "\"\\u", "\"\\u00", "\"\\u001", "\"\\ux01b\"", ""};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        char text[16];
        size_t size = strlen(cut[i]);
        memcpy(text, cut[i], size);
        CU_ASSERT_EQUAL(tri_plain_json(text, size), size);
        CU_ASSERT_EQUAL(memcmp(text, cut[i], size), 0);
    }
}

int main(void) {
    CU_TestInfo tests[] = {
        {"escape_sequences_become_blanks", escape_sequences_become_blanks},
        {"names_begin_no_line_and_turn_no_writing", names_begin_no_line_and_turn_no_writing},
        {"all_else_stays", all_else_stays},
        {"text_that_is_cut_off_stays_within_its_size", text_that_is_cut_off_stays_within_its_size},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"plain", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 1;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failures = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failures > 0;
}
