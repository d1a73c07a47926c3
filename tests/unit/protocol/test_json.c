/* JSON: strict where cJSON is not, and slices that pass through byte for byte. */
#include <CUnit/Basic.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/limits.h"

static tr_json *json;

static tr_err parse(const char *text) {
    return tr_json_parse(text, strlen(text), &json, NULL);
}

static bool is(tr_str str, const char *text) {
    return str.size == strlen(text) && memcmp(str.ptr, text, str.size) == 0;
}

static void what_cjson_lets_through_is_refused(void) {
    const char *bad[] = {
        "",
        " ",
        "{} x",
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "1e+",
        "tru",
        "nulll",
        "\"a",
        "\"\\x\"",
        "\"\\u00\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\t\"",
        "[1 2]",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "[",
        "]",
        "{\"a\":1",
        "'a'",
        "NaN",
        "Infinity",
        "\"\xff\"",
        "\"\xc0\xaf\"",
        "\xef\xbb\xbf{}",
        "{\"a\":1,\"a\":2}",
        "[{\"k\":[{\"x\":1,\"x\":1}]}]",
        "\"\xed\xa0\x80\"",
        "// c\n1",
        "\"\\ud800\\u0041\"",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tr_json_fault why = {0};
        if (tr_json_parse(bad[i], strlen(bad[i]), &json, &why) != TR_ERR_INVALID) {
            printf("\n    accepted: %s\n", bad[i]);
            CU_FAIL("accepted");
            continue;
        }
        CU_ASSERT_PTR_NOT_NULL(why.reason);
        CU_ASSERT_TRUE(why.offset <= strlen(bad[i]));
    }
    CU_ASSERT_EQUAL(tr_json_parse("1\0", 2, &json, NULL), TR_ERR_INVALID);
}

static void values_are_read(void) {
    CU_ASSERT_EQUAL_FATAL(
        parse(" {\"s\":\"a\\u00e9\\ud83d\\ude00\\n\",\"n\":-1.5e2,\"i\":9007199254740993,"
              "\"t\":true,\"z\":null,\"a\":[1,[2],{}],\"S\":1} "),
        TR_OK);
    const tr_json_value *root = tr_json_root(json);
    CU_ASSERT_EQUAL(tr_json_type_of(root), TR_JSON_OBJECT);
    CU_ASSERT_EQUAL(tr_json_count(root), 7);
    CU_ASSERT_TRUE(is(tr_json_string(tr_json_get(root, "s")), "a\xc3\xa9\xf0\x9f\x98\x80\n"));
    CU_ASSERT_DOUBLE_EQUAL(tr_json_number(tr_json_get(root, "n"), 0), -150, 0);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "n"), 0), -150);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "i"), 0), 9007199254740993);
    CU_ASSERT_TRUE(tr_json_bool(tr_json_get(root, "t"), false));
    CU_ASSERT_EQUAL(tr_json_type_of(tr_json_get(root, "z")), TR_JSON_NULL);
    const tr_json_value *array = tr_json_get(root, "a");
    CU_ASSERT_EQUAL(tr_json_count(array), 3);
    CU_ASSERT_TRUE(is(tr_json_raw(array), "[1,[2],{}]"));
    CU_ASSERT_TRUE(is(tr_json_raw(tr_json_next(tr_json_first(array))), "[2]"));
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(root, "S"), 0), 1); /* case matters */
    tr_json_free(json);
}

static void numbers_pass_through_as_written(void) {
    const char *numbers[] = {"1.0", "-0", "1e400", "123456789012345678901234567890", "0.10"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CU_ASSERT_EQUAL_FATAL(parse(numbers[i]), TR_OK);
        CU_ASSERT_TRUE(is(tr_json_raw(tr_json_root(json)), numbers[i]));
        tr_json_free(json);
    }
    CU_ASSERT_EQUAL_FATAL(parse("123456789012345678901234567890"), TR_OK);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_root(json), -7), -7); /* too large for an int64 */
    tr_json_free(json);
    CU_ASSERT_EQUAL_FATAL(parse("9223372036854775807"), TR_OK);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_root(json), 0), INT64_MAX);
    tr_json_free(json);
}

static void look_ups_chain_over_what_is_missing(void) {
    CU_ASSERT_EQUAL_FATAL(parse("{\"a\":{\"b\":1}}"), TR_OK);
    const tr_json_value *root = tr_json_root(json);
    CU_ASSERT_EQUAL(tr_json_int(tr_json_get(tr_json_get(root, "a"), "b"), 0), 1);
    CU_ASSERT_PTR_NULL(tr_json_get(tr_json_get(root, "x"), "b"));
    CU_ASSERT_EQUAL(tr_json_int(NULL, 5), 5);
    CU_ASSERT_PTR_NULL(tr_json_string(NULL).ptr);
    CU_ASSERT_EQUAL(tr_json_count(NULL), 0);
    tr_json_free(json);
}

static void depth_has_a_limit(void) {
    char text[2 * TR_JSON_DEPTH_max + 8];
    for (int extra = 0; extra < 2; extra++) {
        size_t depth = (size_t)TR_JSON_DEPTH_max + (size_t)extra;
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        tr_err err = tr_json_parse(text, 2 * depth, &json, NULL);
        CU_ASSERT_EQUAL(err, extra == 0 ? TR_OK : TR_ERR_INVALID);
        if (err == TR_OK) {
            tr_json_free(json);
        }
    }
}

static void mutations_never_crash(void) {
    const char *good =
        "{\"a\":[1,-2.5e3,\"x\\n\\u00e9\\ud83d\\ude00\",true,null,{\"b\":{}}],\"c\":\"\xc3\xa9\"}";
    char text[128];
    uint32_t state = 7;
    for (int i = 0; i < 200000; i++) {
        size_t size = strlen(good);
        memcpy(text, good, size);
        for (int k = 0; k < 2; k++) {
            state = state * 1664525U + 1013904223U;
            text[(state >> 8) % size] = (char)(state >> 24);
        }
        size -= (state >> 4) % 5;
        if (tr_json_parse(text, size, &json, NULL) == TR_OK) {
            tr_json_free(json);
        }
    }
}

static void what_is_written_reads_back(void) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "s\"\n");
    tr_jsonw_text(&w, "\x01\x7f\\\"\b\f\r\t\xc3\xa9");
    tr_jsonw_name(&w, "d");
    tr_jsonw_double(&w, 0.1);
    tr_jsonw_name(&w, "nan");
    tr_jsonw_double(&w, NAN);
    tr_jsonw_name(&w, "a");
    tr_jsonw_open(&w, '[');
    tr_jsonw_int(&w, INT64_MIN);
    tr_jsonw_uint(&w, UINT64_MAX);
    tr_jsonw_bool(&w, false);
    tr_jsonw_raw(&w, (tr_str){"{\"x\": 1.0}", 10});
    tr_jsonw_close(&w, ']');
    tr_jsonw_close(&w, '}');
    char *text;
    size_t size;
    CU_ASSERT_EQUAL_FATAL(tr_jsonw_take(&w, &text, &size), TR_OK);
    CU_ASSERT_STRING_EQUAL(
        text, "{\"s\\\"\\n\":\"\\u0001\\u007f\\\\\\\"\\b\\f\\r\\t\xc3\xa9\",\"d\":0.1,\"nan\":null,"
              "\"a\":[-9223372036854775808,18446744073709551615,false,{\"x\": 1.0}]}");
    CU_ASSERT_EQUAL(size, strlen(text));
    CU_ASSERT_EQUAL_FATAL(parse(text), TR_OK);
    CU_ASSERT_TRUE(is(tr_json_string(tr_json_get(tr_json_root(json), "s\"\n")),
                      "\x01\x7f\\\"\b\f\r\t\xc3\xa9"));
    tr_json_free(json);
    free(text);
}

static void the_first_failure_of_a_writer_sticks(void) {
    tr_jsonw w;
    char *text;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '[');
    tr_jsonw_text(&w, "\xff");
    tr_jsonw_close(&w, ']');
    CU_ASSERT_EQUAL(tr_jsonw_take(&w, &text, NULL), TR_ERR_INVALID);
    tr_jsonw_open(&w, '[');
    CU_ASSERT_EQUAL(tr_jsonw_take(&w, &text, NULL), TR_ERR_BUG); /* not closed */
}

/* Each string is a series of calls: brackets, n = a name, 1 = a value. */
static tr_err write_series(const char *series) {
    tr_jsonw w;
    char *text;
    tr_jsonw_init(&w);
    for (const char *at = series; *at != '\0'; at++) {
        if (*at == 'n') {
            tr_jsonw_name_str(&w, (tr_str){at, strlen(at)}); /* another each time */
        } else if (*at == '1') {
            tr_jsonw_int(&w, 1);
        } else if (*at == '{' || *at == '[') {
            tr_jsonw_open(&w, *at);
        } else {
            tr_jsonw_close(&w, *at);
        }
    }
    tr_err err = tr_jsonw_take(&w, &text, NULL);
    if (err == TR_OK) {
        CU_ASSERT_EQUAL_FATAL(parse(text), TR_OK);
        tr_json_free(json);
        free(text);
    }
    return err;
}

static void a_writer_writes_json_or_fails(void) {
    static const char *const good[] = {"1", "{}", "[]", "[11]", "[{}[]1]", "{n[]n1n{}}"};
    static const char *const bad[] = {"11", "{1}", "[n1]", "{nn1}", "{n}",  "[}",
                                      "{]", "n",   "]",    "[1",    "{}[]", "{n1]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CU_ASSERT_EQUAL(write_series(good[i]), TR_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CU_ASSERT_EQUAL(write_series(bad[i]), TR_ERR_BUG);
    }
}

static void doubles_are_short_and_read_back_equal(void) {
    static const struct {
        double number;
        const char *text;
    } cases[] = {
        {0.1, "0.1"}, {1.0, "1"},         {-0.0, "-0"},        {1e300, "1e+300"},
        {1.5, "1.5"}, {INFINITY, "null"}, {-INFINITY, "null"}, {5e-324, "4.94065645841247e-324"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tr_jsonw w;
        char *text;
        tr_jsonw_init(&w);
        tr_jsonw_double(&w, cases[i].number);
        CU_ASSERT_EQUAL_FATAL(tr_jsonw_take(&w, &text, NULL), TR_OK);
        CU_ASSERT_STRING_EQUAL(text, cases[i].text);
        free(text);
    }
}

static void faults_say_where(void) {
    static const struct {
        const char *text;
        size_t offset;
    } cases[] = {{"{\"a\":1,\"b\":2,\"a\":3}", 17}, {"[1,2,x]", 5}, {"[1] 2", 4}, {"[1 2]", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tr_json_fault fault = {0};
        CU_ASSERT_EQUAL(tr_json_parse(cases[i].text, strlen(cases[i].text), &json, &fault),
                        TR_ERR_INVALID);
        CU_ASSERT_EQUAL(fault.offset, cases[i].offset);
    }
}

static void values_are_limited_in_number(void) {
    CU_ASSERT_EQUAL(tr_json_parse_max("[1,2,3]", 7, 3, &json, NULL), TR_ERR_INVALID);
    CU_ASSERT_EQUAL_FATAL(tr_json_parse_max("[1,2,3]", 7, 4, &json, NULL), TR_OK);
    tr_json_free(json);
}

static void every_truncation_is_refused(void) {
    const char *good = "{\"a\":[1,-2.5e3,\"x\\n\\u00e9\\ud83d\\ude00\",true,null,{\"b\":{}}]}";
    for (size_t size = 0; size < strlen(good); size++) {
        char *exact = malloc(size > 0 ? size : 1); /* a sanitizer sees a read beyond it */
        memcpy(exact, good, size);
        CU_ASSERT_EQUAL(tr_json_parse(exact, size, &json, NULL), TR_ERR_INVALID);
        free(exact);
    }
    CU_ASSERT_EQUAL(tr_json_parse(NULL, 0, &json, NULL), TR_ERR_INVALID);
}

static void long_numbers_have_values_and_slices(void) {
    char text[1100];
    static const size_t lengths[] = {62, 63, 64, 65, 300, 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t digits = lengths[i];
        memset(text, '0', sizeof text);
        memcpy(text, "[1.", 3); /* 1.000…05 */
        text[digits + 2] = '5';
        memcpy(text + digits + 3, ",2]", 4);
        CU_ASSERT_EQUAL_FATAL(parse(text), TR_OK);
        const tr_json_value *first = tr_json_first(tr_json_root(json));
        CU_ASSERT_EQUAL(tr_json_raw(first).size, digits + 2);
        CU_ASSERT_DOUBLE_EQUAL(tr_json_number(first, 0), 1.0, 1e-12);
        CU_ASSERT_DOUBLE_EQUAL(tr_json_number(tr_json_next(first), 0), 2.0, 0);
        tr_json_free(json);
    }
}

/* Everything must hold with the tree in one piece as well. */
static int own_hooks(void) {
    tr_json_own_hooks();
    return 0;
}

int main(void) {
    CU_TestInfo tests[] = {
        {"what_cjson_lets_through_is_refused", what_cjson_lets_through_is_refused},
        {"values_are_read", values_are_read},
        {"numbers_pass_through_as_written", numbers_pass_through_as_written},
        {"look_ups_chain_over_what_is_missing", look_ups_chain_over_what_is_missing},
        {"depth_has_a_limit", depth_has_a_limit},
        {"mutations_never_crash", mutations_never_crash},
        {"what_is_written_reads_back", what_is_written_reads_back},
        {"the_first_failure_of_a_writer_sticks", the_first_failure_of_a_writer_sticks},
        {"a_writer_writes_json_or_fails", a_writer_writes_json_or_fails},
        {"doubles_are_short_and_read_back_equal", doubles_are_short_and_read_back_equal},
        {"faults_say_where", faults_say_where},
        {"values_are_limited_in_number", values_are_limited_in_number},
        {"every_truncation_is_refused", every_truncation_is_refused},
        {"long_numbers_have_values_and_slices", long_numbers_have_values_and_slices},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"json", NULL, NULL, NULL, NULL, tests},
                             {"json in one piece", own_hooks, NULL, NULL, NULL, tests},
                             CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
