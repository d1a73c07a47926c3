/* The parser of server-sent events: every way in which servers cut and write them. */
#include "providers/sse.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char heard[1024]; /* "type|data" of each event, a blank between them */
static tr_err answer;

static tr_err hear(void *arg, const tr_sse_event *event) {
    (void)arg;
    size_t used = strlen(heard);
    snprintf(heard + used, sizeof(heard) - used, "%s%.*s%s|%.*s", used > 0 ? " " : "",
             (int)event->type.size, event->type.ptr == NULL ? "" : event->type.ptr,
             event->bare ? "!" : "", (int)event->data.size, event->data.ptr);
    return answer;
}

/* Feeds `text` in pieces of `step` bytes. */
static tr_err parse(const char *text, size_t size, size_t step) {
    tr_sse sse;
    tr_err err = TR_OK;
    heard[0] = '\0';
    answer = TR_OK;
    tr_sse_init(&sse);
    for (size_t at = 0; at < size && err == TR_OK; at += step) {
        err = tr_sse_feed(&sse, text + at, size - at < step ? size - at : step, hear, NULL);
    }
    if (err == TR_OK) {
        err = tr_sse_end(&sse, hear, NULL);
    }
    tr_sse_fini(&sse);
    return err;
}

/* The same, however it is cut. */
static void expect(const char *text, const char *events) {
    size_t size = strlen(text);
    for (size_t step = 1; step <= size; step++) {
        CU_ASSERT_EQUAL(parse(text, size, step), TR_OK);
        if (strcmp(heard, events) != 0) {
            printf("\nstep %zu: got %s, want %s\n", step, heard, events);
        }
        CU_ASSERT_STRING_EQUAL(heard, events);
    }
}

static void line_ends_of_all_kinds_are_the_same(void) {
    expect("data: a\n\ndata: b\n\n", "|a |b");
    expect("data: a\r\n\r\ndata: b\r\n\r\n", "|a |b");
    expect("data: a\r\rdata: b\r\r", "|a |b");
    expect("data: a\r\n\ndata: b\n\r\n", "|a |b");
}

static void at_most_one_space_is_stripped(void) {
    expect("data:a\n\ndata:  b\n\n", "|a | b");
    expect("data:\n\ndata\n\n", "| |");
}

static void data_lines_are_joined(void) {
    expect("data: a\ndata:\ndata: b\n\n", "|a\n\nb");
}

static void an_event_has_its_type_and_the_next_has_none(void) {
    expect("event: error\ndata: a\n\ndata: b\n\n", "error|a |b");
    expect("event: lonely\n\ndata: b\n\n", "|b");
}

static void comments_and_unknown_fields_are_skipped(void) {
    expect(": hi\n\n:\nid: 1\nretry: 2\nx\ndata: a\n\n", "|a");
}

static void a_byte_order_mark_is_skipped(void) {
    expect("\xEF\xBB\xBF"
           "data: a\n\n",
           "|a");
}

static void the_end_flushes_an_event_without_its_blank_line(void) {
    expect("data: a\n\ndata: b", "|a |b");
    expect("data: a\n", "|a");
    expect("", "");
}

static void an_error_field_is_an_error_event(void) {
    expect("error: {\"a\":1}\n\n", "error|{\"a\":1}");
}

static void a_bare_line_of_json_is_handed_on(void) {
    expect("{\"error\":1}\ndata: a\n\n", "!|{\"error\":1} |a");
}

static void characters_survive_any_cut(void) {
    expect("data: \xC3\xBC\xE6\x97\xA5\xF0\x9F\x98\x84\n\n",
           "|\xC3\xBC\xE6\x97\xA5\xF0\x9F\x98\x84");
}

static void a_reader_can_stop_the_parser(void) {
    tr_sse sse;
    tr_sse_init(&sse);
    heard[0] = '\0';
    answer = TR_DONE;
    CU_ASSERT_EQUAL(tr_sse_feed(&sse, "data: a\n\ndata: b\n\n", 18, hear, NULL), TR_DONE);
    CU_ASSERT_STRING_EQUAL(heard, "|a");
    tr_sse_fini(&sse);
}

static tr_err count_bytes(void *arg, const tr_sse_event *event) {
    *(size_t *)arg = event->data.size;
    return TR_OK;
}

static void an_event_of_many_megabytes_passes_up_to_the_cap(void) {
    size_t size = TR_SSE_EVENT_max;
    char *bytes = malloc(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    memset(bytes, 'x', size);
    memcpy(bytes, "data: ", 6);
    size_t got = 0;
    tr_sse sse;
    tr_sse_init(&sse);
    CU_ASSERT_EQUAL(tr_sse_feed(&sse, bytes, size, count_bytes, &got), TR_OK);
    CU_ASSERT_EQUAL(tr_sse_feed(&sse, "\n\n", 2, count_bytes, &got), TR_OK);
    CU_ASSERT_EQUAL(got, size - 6);
    CU_ASSERT_EQUAL(tr_sse_feed(&sse, bytes, size, count_bytes, &got), TR_OK);
    CU_ASSERT_EQUAL(tr_sse_feed(&sse, "x", 1, count_bytes, &got), TR_ERR_TOO_LARGE);
    tr_sse_fini(&sse);
    free(bytes);
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("sse", NULL, NULL);
    CU_ADD_TEST(suite, line_ends_of_all_kinds_are_the_same);
    CU_ADD_TEST(suite, at_most_one_space_is_stripped);
    CU_ADD_TEST(suite, data_lines_are_joined);
    CU_ADD_TEST(suite, an_event_has_its_type_and_the_next_has_none);
    CU_ADD_TEST(suite, comments_and_unknown_fields_are_skipped);
    CU_ADD_TEST(suite, a_byte_order_mark_is_skipped);
    CU_ADD_TEST(suite, the_end_flushes_an_event_without_its_blank_line);
    CU_ADD_TEST(suite, an_error_field_is_an_error_event);
    CU_ADD_TEST(suite, a_bare_line_of_json_is_handed_on);
    CU_ADD_TEST(suite, characters_survive_any_cut);
    CU_ADD_TEST(suite, a_reader_can_stop_the_parser);
    CU_ADD_TEST(suite, an_event_of_many_megabytes_passes_up_to_the_cap);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}
