/* Tool calls in a model's text, fed byte by byte. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "inference/engine_calls.h"
#include "protocol/kind.h"

static const tr_str names[] = {{"weather", 7}, {"t\\u00fcr \\\"1\\\"", 12 + 2}, {"x", 1}};

typedef struct told {
    char log[4096]; /* T:text S0=tool A0:args, runs of one kind joined */
    size_t size;
    int kind;
    uint32_t call;
    size_t most_held;
} told;

static void tell(told *t, const tri_calls_out *out) {
    char buf[256] = "";
    if (out->kind == 0) {
        return;
    }
    bool goes_on = t->kind == out->kind && t->call == out->call && out->kind != TR_DELTA_TOOL_START;
    if (out->kind == TR_DELTA_TOOL_START) {
        snprintf(buf, sizeof buf, "|S%u=%zu", out->call, out->tool);
    } else if (!goes_on && out->kind == TR_DELTA_TEXT) {
        snprintf(buf, sizeof buf, "|T:");
    } else if (!goes_on) {
        snprintf(buf, sizeof buf, "|A%u:", out->call);
    }
    t->size += (size_t)snprintf(t->log + t->size, sizeof t->log - t->size, "%s%.*s", buf,
                                (int)out->text.size, out->text.ptr);
    t->kind = out->kind;
    t->call = out->call;
}

static void read_text(told *t, tri_calls *calls, const char *text) {
    for (size_t i = 0; i < strlen(text); i++) {
        char byte = text[i]; /* no longer than the byte is promised to live */
        tri_calls_out out = tri_calls_feed(calls, &byte);
        tell(t, &out);
        size_t held = tri_calls_held(calls);
        t->most_held = held > t->most_held ? held : t->most_held;
    }
}

static void check(const char *text, const char *expected) {
    told t = {.kind = 0};
    tri_calls calls;
    tri_calls_init(&calls, names, sizeof names / sizeof *names);
    read_text(&t, &calls, text);
    tri_calls_out out = tri_calls_finish(&calls);
    tell(&t, &out);
    if (strcmp(t.log, expected) != 0) {
        printf("\n%s\ngave     %s\nexpected %s\n", text, t.log, expected);
    }
    CU_ASSERT_STRING_EQUAL(t.log, expected);
}

static void call_is_read_and_its_arguments_are_as_they_were_written(void) {
    check(
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\", \"d\":[1, {}]}}\n"
        "</tool_call>",
        "|S0=0|A0:{\"city\": \"Oslo\", \"d\":[1, {}]}");
    check("<tool_call>{\"name\":\"x\",\"arguments\":{}}</tool_call>", "|S0=2|A0:{}");
}

static void several_in_a_row_are_parallel_and_text_may_stand_before(void) {
    check("I look.\n<tool_call>{\"name\": \"x\", \"arguments\": {\"a\":1}}</tool_call>\n"
          "<tool_call>{\"name\": \"weather\", \"arguments\": {\"b\":2}}</tool_call>\n",
          "|T:I look.\n|S0=2|A0:{\"a\":1}|S1=0|A1:{\"b\":2}");
}

static void braces_and_quotes_inside_strings_end_nothing(void) {
    check(
        "<tool_call>{\"name\": \"x\", \"arguments\": {\"a\":\"}\\\"}\\\\\",\"b\":\"</tool_call>\"}}"
        "</tool_call>",
        "|S0=2|A0:{\"a\":\"}\\\"}\\\\\",\"b\":\"</tool_call>\"}");
}

static void names_with_escapes_and_letters_of_several_bytes_are_found(void) {
    check("<tool_call>{\"name\": \"t\\u00fcr \\\"1\\\"\", \"arguments\": "
          "{\"ü\":\"日本\"}}</tool_call>",
          "|S0=1|A0:{\"ü\":\"日本\"}");
}

static void what_only_looks_like_a_call_is_text_to_the_last_byte(void) {
    check("a < b, <tool> and <tool_cal", "|T:a < b, <tool> and <tool_cal");
    check("<<tool_call", "|T:<<tool_call");
    check("<tool_<tool_call>{\"name\": \"x\", \"arguments\": {}}</tool_call>",
          "|T:<tool_|S0=2|A0:{}");
    check("<tool_call>hello", "|T:<tool_call>hello");
    check("<tool_call>{\"name\": \"nobody\", \"arguments\": {}}</tool_call>",
          "|T:<tool_call>{\"name\": \"nobody\", \"arguments\": {}}</tool_call>");
    check("<tool_call>{\"name\": \"x\", \"arguments\": []}</tool_call>", "|S0=2|T:[]}</tool_call>");
    check("<tool_call>{\"name\"<tool_call>{\"name\":\"x\",\"arguments\":{}}</tool_call>",
          "|T:<tool_call>{\"name\"|S0=2|A0:{}");
}

static void call_that_is_cut_short_is_text_until_its_arguments_begin(void) {
    check("ok <tool_call>{\"name\": \"x\", \"argu", "|T:ok <tool_call>{\"name\": \"x\", \"argu");
    check("<tool_call>{\"name\": \"x\", \"arguments\":", "|S0=2");
    check("<tool_call>{\"name\": \"x\", \"arguments\": {", "|S0=2|A0:{");
    check("<tool_call>{\"name\": \"x\", \"arguments\": {\"a", "|S0=2|A0:{\"a");
    check("<tool_call>{\"name\": \"x\", \"arguments\": {}}</tool", "|S0=2|A0:{}");
}

static void text_behind_a_call_is_text(void) {
    check("<tool_call>{\"name\": \"x\", \"arguments\": {}}</tool_call> done", "|S0=2|A0:{}|T:done");
    check("<tool_call>{\"name\": \"x\", \"arguments\": {}}} more", "|S0=2|A0:{}|T:} more");
}

static void what_is_held_back_has_a_limit(void) {
    static char text[TRI_CALL_HEAD_max + 64];
    size_t size = (size_t)snprintf(text, sizeof text, "<tool_call>");
    memset(text + size, ' ', TRI_CALL_HEAD_max);
    told t = {.kind = 0};
    tri_calls calls;
    tri_calls_init(&calls, names, 1);
    read_text(&t, &calls, text);
    CU_ASSERT(t.most_held < TRI_CALL_HEAD_max);
    CU_ASSERT(strncmp(t.log, "|T:<tool_call>   ", 16) == 0);
    CU_ASSERT_EQUAL(tri_calls_held(&calls), 0);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(call_is_read_and_its_arguments_are_as_they_were_written),
        T(several_in_a_row_are_parallel_and_text_may_stand_before),
        T(braces_and_quotes_inside_strings_end_nothing),
        T(names_with_escapes_and_letters_of_several_bytes_are_found),
        T(what_only_looks_like_a_call_is_text_to_the_last_byte),
        T(call_that_is_cut_short_is_text_until_its_arguments_begin),
        T(text_behind_a_call_is_text),
        T(what_is_held_back_has_a_limit),
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"engine_calls", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
