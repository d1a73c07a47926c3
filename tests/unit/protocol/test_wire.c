/* The wire: what is written passes the check and reads back; every truncation and every broken
 * limit is refused; no mutation reaches beyond the message. */
#include <CUnit/Basic.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"
#include "protocol/wire.h"

static _Alignas(16) uint8_t part[TR_FRAME_INLINE_max];

static bool is(tr_str str, const char *text) {
    return str.size == strlen(text) && (str.size == 0 || memcmp(str.ptr, text, str.size) == 0);
}

/* The check on memory of exactly `size` bytes, so that a sanitizer sees a read beyond it. */
static tr_err check_exact(uint16_t kind, const uint8_t *bytes, size_t size) {
    void *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, bytes, size);
    tr_err err = tr_wire_check(kind, copy, size);
    free(copy);
    return err;
}

/* Whole it passes; cut at any place, or a byte longer, it does not; mutated it never crashes. */
static void hold(uint16_t kind, size_t size) {
    CU_ASSERT_EQUAL(check_exact(kind, part, size), TR_OK);
    for (size_t cut = 0; cut < size; cut++) {
        CU_ASSERT_EQUAL(check_exact(kind, part, cut), TR_ERR_PROTOCOL);
    }
    part[size] = 'x';
    CU_ASSERT_EQUAL(check_exact(kind, part, size + 1), TR_ERR_PROTOCOL);
    uint32_t state = kind * 77U + 1;
    for (int i = 0; i < 20000; i++) {
        uint8_t mutated[512];
        memcpy(mutated, part, size);
        state = state * 1664525U + 1013904223U;
        mutated[(state >> 8) % size] = (uint8_t)(state >> 24);
        (void)!check_exact(kind, mutated, size);
    }
}

static size_t write_submit(void) {
    static const int32_t tokens[] = {1, 2, 3};
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 5, .credit_bytes = 6, .resume_count = 3};
    tr_submit_view view = {.resume = tokens,
                           .target = {"openai/gpt", 10},
                           .provider = {"p", 1},
                           .base_url = {"http://h", 8}};
    tr_submit_write(part, &head, &view);
    return tr_submit_size(&head, &view);
}

static void submit_reads_back_and_holds(void) {
    size_t size = write_submit();
    tr_submit_view view = tr_submit_read((const tr_submit *)(void *)part);
    CU_ASSERT_EQUAL(view.resume[2], 3);
    CU_ASSERT_TRUE(is(view.target, "openai/gpt"));
    CU_ASSERT_TRUE(is(view.provider, "p"));
    CU_ASSERT_TRUE(is(view.base_url, "http://h"));
    hold(TR_KIND_SUBMIT, size);
}

static void submit_keeps_its_limits(void) {
    size_t size = write_submit();
    tr_submit *submit = (tr_submit *)(void *)part;
    const tr_submit good = *submit;
    submit->op = 0;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
    submit->op = TR_OP_CONTROL + 1;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
    *submit = good;
    submit->credit_messages = TR_CREDIT_MESSAGES_max + 1;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
    *submit = good;
    submit->total_ms = TR_TIMEOUT_MS_max + 1;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
    *submit = good;
    submit->attempts = TR_ATTEMPTS_max + 1;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
    *submit = good;
    submit->resume_count = UINT32_MAX; /* its bytes would not fit a size_t of 32 bits */
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
    *submit = good;
    part[size - 1] = 0xff; /* no UTF-8 */
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
    part[size - 1] = 0; /* a NUL */
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_ERR_PROTOCOL);
}

static void delta_reads_back_and_holds(void) {
    static const int32_t tokens[] = {9};
    tr_delta head = {.kind = TR_DELTA_TOOL_START, .seq = 4, .token_count = 1, .tool = 2};
    tr_delta_view view = {
        .tokens = tokens, .id = {"id", 2}, .name = {"name", 4}, .text = {"\xc3\xa9", 2}};
    tr_delta_write(part, &head, &view);
    tr_delta_view back = tr_delta_read((const tr_delta *)(void *)part);
    CU_ASSERT_EQUAL(back.tokens[0], 9);
    CU_ASSERT_TRUE(is(back.id, "id"));
    CU_ASSERT_TRUE(is(back.name, "name"));
    CU_ASSERT_TRUE(is(back.text, "\xc3\xa9"));
    hold(TR_KIND_DELTA, tr_delta_size(&head, &view));
}

static void only_opaque_text_may_be_no_utf8(void) {
    tr_delta head = {.kind = TR_DELTA_OPAQUE};
    tr_delta_view view = {.name = {"embedding", 9}, .text = {"\xff\x00", 2}};
    tr_delta_write(part, &head, &view);
    size_t size = tr_delta_size(&head, &view);
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_DELTA, part, size), TR_OK);
    ((tr_delta *)(void *)part)->kind = TR_DELTA_TEXT;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_DELTA, part, size), TR_ERR_PROTOCOL);
}

static void terminals_read_back_and_hold(void) {
    tr_done done = {.finish = TR_FINISH_LENGTH, .attempts = 2};
    tr_end_view view = {.target = {"local/m", 7}, .request_id = {"req-1", 5}};
    tr_done_write(part, &done, &view);
    tr_end_view back = tr_done_read((const tr_done *)(void *)part);
    CU_ASSERT_TRUE(is(back.target, "local/m"));
    CU_ASSERT_TRUE(is(back.request_id, "req-1"));
    hold(TR_KIND_DONE, tr_done_size(&view));
    tr_fail fail = {.err = TR_ERR_QUOTA, .status = 429};
    view.message = (tr_str){"no money", 8};
    tr_fail_write(part, &fail, &view);
    back = tr_fail_read((const tr_fail *)(void *)part);
    CU_ASSERT_TRUE(is(back.message, "no money"));
    CU_ASSERT_TRUE(is(back.request_id, "req-1"));
    hold(TR_KIND_FAIL, tr_fail_size(&view));
}

static void a_fail_is_no_success(void) {
    tr_fail fail = {.err = TR_OK};
    tr_end_view view = {0};
    tr_fail_write(part, &fail, &view);
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_FAIL, part, tr_fail_size(&view)), TR_ERR_PROTOCOL);
    ((tr_fail *)(void *)part)->err = 999; /* a later version's */
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_FAIL, part, tr_fail_size(&view)), TR_OK);
    CU_ASSERT_STRING_EQUAL(tr_err_name((tr_err)999), "TR_ERR_BUG");
}

static void a_long_message_is_cut_at_a_character(void) {
    static char text[3 * TR_MESSAGE_max];
    for (size_t i = 0; i + 2 < sizeof text; i += 3) {
        memcpy(text + i, "\xe2\x82\xac", 3);
    }
    tr_fail fail = {.err = TR_ERR_SERVER};
    tr_end_view view = {.message = {text, sizeof text}};
    tr_fail_write(part, &fail, &view);
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_FAIL, part, tr_fail_size(&view)), TR_OK);
    size_t size = tr_fail_read((const tr_fail *)(void *)part).message.size;
    CU_ASSERT_TRUE(size <= TR_MESSAGE_max && size % 3 == 0 && size > TR_MESSAGE_max - 3);
}

static void handshake_reads_back_and_holds(void) {
    tr_hello hello = {.magic = TR_HELLO_MAGIC, .version_max = 3, .role = TR_ROLE_WORKER};
    tr_hello_view view = {.token = {"\xff\x01secret", 8},
                          .software = {"w/1", 3},
                          .model = {"m", 1},
                          .engine = {"0.7", 3}};
    tr_hello_write(part, &hello, &view);
    tr_hello_view back = tr_hello_read((const tr_hello *)(void *)part);
    CU_ASSERT_TRUE(is(back.token, "\xff\x01secret"));
    CU_ASSERT_TRUE(is(back.engine, "0.7"));
    hold(TR_KIND_HELLO, tr_hello_size(&view));
    tr_welcome welcome = {.version = 1};
    tr_welcome_write(part, &welcome, view.software);
    CU_ASSERT_TRUE(is(tr_welcome_read((const tr_welcome *)(void *)part), "w/1"));
    hold(TR_KIND_WELCOME, tr_welcome_size(view.software));
}

/* The fixed part with `number` of `size` bytes at `at` is refused; with `good` it is not. */
static void refuses_at(uint16_t kind, size_t part_size, size_t at, size_t size, uint64_t good,
                       uint64_t bad) {
    uint8_t before[8];
    memcpy(before, part + at, size);
    memcpy(part + at, &good, size);
    CU_ASSERT_EQUAL(tr_wire_check(kind, part, part_size), TR_OK);
    memcpy(part + at, &bad, size);
    CU_ASSERT_EQUAL(tr_wire_check(kind, part, part_size), TR_ERR_PROTOCOL);
    memcpy(part + at, before, size);
}

#define REFUSES(kind, part_size, type, field, good, bad)                                           \
    refuses_at(kind, part_size, offsetof(type, field), sizeof(((type *)0)->field),                 \
               (uint64_t)(good), (uint64_t)(bad))

static void every_number_has_its_limit(void) {
    size_t size = write_submit();
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, op, TR_OP_CONTROL, 255);
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, credit_messages, TR_CREDIT_MESSAGES_max,
            TR_CREDIT_MESSAGES_max + 1);
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, credit_bytes, TR_CREDIT_BYTES_max,
            TR_CREDIT_BYTES_max + 1);
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, connect_ms, TR_TIMEOUT_MS_max, TR_TIMEOUT_MS_max + 1);
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, first_token_ms, TR_TIMEOUT_MS_max,
            TR_TIMEOUT_MS_max + 1);
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, idle_ms, TR_TIMEOUT_MS_max, TR_TIMEOUT_MS_max + 1);
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, total_ms, TR_TIMEOUT_MS_max, UINT32_MAX);
    REFUSES(TR_KIND_SUBMIT, size, tr_submit, attempts, TR_ATTEMPTS_max, TR_ATTEMPTS_max + 1);
    tr_credit credit = {.messages = 1, .bytes = 1};
    memcpy(part, &credit, sizeof credit);
    REFUSES(TR_KIND_CREDIT, sizeof credit, tr_credit, messages, TR_CREDIT_MESSAGES_max,
            TR_CREDIT_MESSAGES_max + 1);
    REFUSES(TR_KIND_CREDIT, sizeof credit, tr_credit, bytes, TR_CREDIT_BYTES_max, UINT32_MAX);
    hold(TR_KIND_CREDIT, sizeof credit);
    tr_delta delta = {.kind = TR_DELTA_TEXT};
    memcpy(part, &delta, sizeof delta);
    REFUSES(TR_KIND_DELTA, sizeof delta, tr_delta, kind, TR_DELTA_OPAQUE, TR_DELTA_OPAQUE + 1);
    REFUSES(TR_KIND_DELTA, sizeof delta, tr_delta, kind, TR_DELTA_TEXT, 0);
    REFUSES(TR_KIND_DELTA, sizeof delta, tr_delta, token_count, 0, UINT32_MAX);
    REFUSES(TR_KIND_DELTA, sizeof delta, tr_delta, text_size, 0, UINT32_MAX);
    tr_done done = {.finish = TR_FINISH_STOP};
    memcpy(part, &done, sizeof done);
    REFUSES(TR_KIND_DONE, sizeof done, tr_done, finish, TR_FINISH_OTHER, TR_FINISH_OTHER + 1);
    REFUSES(TR_KIND_DONE, sizeof done, tr_done, finish, TR_FINISH_STOP, 0);
    tr_fail fail = {.err = TR_ERR_SERVER};
    memcpy(part, &fail, sizeof fail);
    REFUSES(TR_KIND_FAIL, sizeof fail, tr_fail, err, UINT16_MAX, TR_DONE);
    tr_hello hello = {.magic = TR_HELLO_MAGIC, .version_max = 9, .role = TR_ROLE_CLIENT};
    memcpy(part, &hello, sizeof hello);
    REFUSES(TR_KIND_HELLO, sizeof hello, tr_hello, magic, TR_HELLO_MAGIC, TR_HELLO_MAGIC + 1);
    REFUSES(TR_KIND_HELLO, sizeof hello, tr_hello, version_min, 9, 10);
    REFUSES(TR_KIND_HELLO, sizeof hello, tr_hello, role, TR_ROLE_WORKER, 3);
    REFUSES(TR_KIND_HELLO, sizeof hello, tr_hello, role, TR_ROLE_CLIENT, 0);
}

/* A structure of `fixed` bytes, then one string of exactly its limit, and of a byte more. */
static void limits_string(uint16_t kind, const void *fixed, size_t fixed_size, size_t at,
                          size_t max) {
    memset(part, 'a', sizeof part);
    memcpy(part, fixed, fixed_size);
    uint16_t size = (uint16_t)max;
    memcpy(part + at, &size, sizeof size);
    CU_ASSERT_EQUAL(tr_wire_check(kind, part, fixed_size + max), TR_OK);
    size++;
    memcpy(part + at, &size, sizeof size);
    CU_ASSERT_EQUAL(tr_wire_check(kind, part, fixed_size + max + 1), TR_ERR_PROTOCOL);
}

static void every_string_has_its_limit(void) {
    tr_submit submit = {.op = TR_OP_CHAT};
    tr_delta delta = {.kind = TR_DELTA_TOOL_START};
    tr_done done = {.finish = TR_FINISH_STOP};
    tr_fail fail = {.err = TR_ERR_SERVER};
    tr_hello hello = {.magic = TR_HELLO_MAGIC, .role = TR_ROLE_CLIENT};
    tr_welcome welcome = {.version = 1};
    const struct {
        uint16_t kind;
        const void *fixed;
        size_t fixed_size, at, max;
    } strings[] = {
        {TR_KIND_SUBMIT, &submit, sizeof submit, offsetof(tr_submit, target_size), TR_NAME_max},
        {TR_KIND_SUBMIT, &submit, sizeof submit, offsetof(tr_submit, provider_size), TR_NAME_max},
        {TR_KIND_SUBMIT, &submit, sizeof submit, offsetof(tr_submit, base_url_size), TR_URL_max},
        {TR_KIND_DELTA, &delta, sizeof delta, offsetof(tr_delta, id_size), TR_NAME_max},
        {TR_KIND_DELTA, &delta, sizeof delta, offsetof(tr_delta, name_size), TR_NAME_max},
        {TR_KIND_DELTA, &delta, sizeof delta, offsetof(tr_delta, text_size), TR_DELTA_TEXT_max},
        {TR_KIND_DONE, &done, sizeof done, offsetof(tr_done, target_size), TR_NAME_max},
        {TR_KIND_DONE, &done, sizeof done, offsetof(tr_done, request_id_size), TR_NAME_max},
        {TR_KIND_FAIL, &fail, sizeof fail, offsetof(tr_fail, message_size), TR_MESSAGE_max},
        {TR_KIND_FAIL, &fail, sizeof fail, offsetof(tr_fail, target_size), TR_NAME_max},
        {TR_KIND_FAIL, &fail, sizeof fail, offsetof(tr_fail, request_id_size), TR_NAME_max},
        {TR_KIND_HELLO, &hello, sizeof hello, offsetof(tr_hello, token_size), TR_TOKEN_max},
        {TR_KIND_HELLO, &hello, sizeof hello, offsetof(tr_hello, software_size), TR_NAME_max},
        {TR_KIND_HELLO, &hello, sizeof hello, offsetof(tr_hello, model_size), TR_NAME_max},
        {TR_KIND_HELLO, &hello, sizeof hello, offsetof(tr_hello, engine_size), TR_NAME_max},
        {TR_KIND_WELCOME, &welcome, sizeof welcome, offsetof(tr_welcome, software_size),
         TR_NAME_max},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        limits_string(strings[i].kind, strings[i].fixed, strings[i].fixed_size, strings[i].at,
                      strings[i].max);
    }
}

static void token_ids_have_limits(void) {
    memset(part, 0, sizeof part);
    tr_submit submit = {.op = TR_OP_CHAT, .resume_count = TR_RESUME_TOKENS_max};
    memcpy(part, &submit, sizeof submit);
    size_t size = sizeof submit + TR_RESUME_TOKENS_max * sizeof(int32_t);
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size), TR_OK);
    ((tr_submit *)(void *)part)->resume_count++;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_SUBMIT, part, size + sizeof(int32_t)), TR_ERR_PROTOCOL);
    tr_delta delta = {.kind = TR_DELTA_TEXT, .token_count = TR_DELTA_TOKENS_max};
    memcpy(part, &delta, sizeof delta);
    size = sizeof delta + TR_DELTA_TOKENS_max * sizeof(int32_t);
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_DELTA, part, size), TR_OK);
    ((tr_delta *)(void *)part)->token_count++;
    CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_DELTA, part, size + sizeof(int32_t)), TR_ERR_PROTOCOL);
}

static void the_largest_submit_fits_a_frame(void) {
    CU_ASSERT_TRUE(sizeof(tr_submit) + TR_RESUME_TOKENS_max * sizeof(int32_t) + 2 * TR_NAME_max +
                       TR_URL_max <=
                   TR_FRAME_INLINE_max);
}

static void fixed_messages_hold(void) {
    memset(part, 0x7f, sizeof part); /* any content is fine */
    hold(TR_KIND_CANCEL, sizeof(tr_cancel));
    hold(TR_KIND_PING, sizeof(tr_ping));
    hold(TR_KIND_PONG, sizeof(tr_ping));
}

static void unknown_kinds_pass(void) {
    memset(part, 0xee, 100);
    CU_ASSERT_EQUAL(tr_wire_check(31, part, 100), TR_OK);
    CU_ASSERT_EQUAL(tr_wire_check(0, part, 0), TR_OK);
}

static void a_plain_sentence_moves_no_cursor_and_begins_no_line(void) {
    static const struct {
        const char *said, *plain;
    } cases[] = {
        {"bad \x1b[31mred\x07", "bad  [31mred "},
        {"one\r\ntwo\t\x7f", "one \ntwo\t "},
        {"\xc2\x9b"
         "1m \xc2\xa9 \xc3\xa9",
         "  1m \xc2\xa9 \xc3\xa9"},
        {"a\xe2\x80\xae"
         "b\xe2\x81\xa6"
         "c\xe2\x80\xa6",
         "a   b   c\xe2\x80\xa6"},
        {"cut \xe2\x80", "cut "},
        {"\x9b"
         "1m",
         "?1m"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", cases[i].said);
        size_t size = tr_utf8_plain(text, strlen(text));
        CU_ASSERT_TRUE(tr_utf8_valid(text, size));
        CU_ASSERT_TRUE(is((tr_str){text, size}, cases[i].plain));
    }
}

static void utf8_is_mended_in_place(void) {
    static const struct {
        const char *broken, *mended;
    } cases[] = {
        {"", ""},
        {"fine \xc3\xa9", "fine \xc3\xa9"},
        {"cut \xc3", "cut "},
        {"cut \xe6\x97", "cut "},
        {"cut \xf0\x9f\x98", "cut "},
        {"\xe6", ""},
        {"\x97 in \xff the \xe6\x97 middle", "? in ? the ?? middle"},
        {"a lone one at the end \x97", "a lone one at the end ?"},
        {"\xff", "?"},
        {"\xed\xa0\x80", "???"}, /* a surrogate */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        size_t size = strlen(cases[i].broken);
        memcpy(text, cases[i].broken, size + 1);
        size = tr_utf8_mend(text, size);
        CU_ASSERT_TRUE(tr_utf8_valid(text, size));
        CU_ASSERT_TRUE(is((tr_str){text, size}, cases[i].mended));
    }
    char zero[] = "a\0b";
    CU_ASSERT_EQUAL(tr_utf8_mend(zero, 3), 3);
    CU_ASSERT_STRING_EQUAL(zero, "a?b");
}

static void utf8_is_checked_and_cut_at_characters(void) {
    const char *good[] = {"",
                          "abcdefghijk",
                          "\xc2\x80",
                          "\xe0\xa0\x80",
                          "\xed\x9f\xbf",
                          "\xee\x80\x80",
                          "\xf0\x90\x80\x80",
                          "\xf4\x8f\xbf\xbf",
                          "12345678\xc3\xa9",
                          "1234567\xc3\xa9zzzzzzzz"};
    const char *bad[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",     "\xed\xa0\x80",
        "\xc3",         "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82",
        "12345678\xff", "abc\xe2\x28\xa1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CU_ASSERT_TRUE(tr_utf8_valid(good[i], strlen(good[i])));
    }
    CU_ASSERT_TRUE(tr_utf8_valid(NULL, 0));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CU_ASSERT_FALSE(tr_utf8_valid(bad[i], strlen(bad[i])));
    }
    CU_ASSERT_FALSE(tr_utf8_valid("a\0b", 3));
    CU_ASSERT_FALSE(tr_utf8_valid("1234567\0", 8));
    const char *text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    const size_t cuts[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
    for (size_t max = 0; max < sizeof cuts / sizeof *cuts; max++) {
        CU_ASSERT_EQUAL(tr_utf8_cut(text, 10, max), cuts[max]);
    }
}

int main(void) {
    CU_TestInfo tests[] = {
        {"submit_reads_back_and_holds", submit_reads_back_and_holds},
        {"submit_keeps_its_limits", submit_keeps_its_limits},
        {"delta_reads_back_and_holds", delta_reads_back_and_holds},
        {"only_opaque_text_may_be_no_utf8", only_opaque_text_may_be_no_utf8},
        {"a_plain_sentence_moves_no_cursor_and_begins_no_line",
         a_plain_sentence_moves_no_cursor_and_begins_no_line},
        {"utf8_is_mended_in_place", utf8_is_mended_in_place},
        {"terminals_read_back_and_hold", terminals_read_back_and_hold},
        {"a_fail_is_no_success", a_fail_is_no_success},
        {"a_long_message_is_cut_at_a_character", a_long_message_is_cut_at_a_character},
        {"handshake_reads_back_and_holds", handshake_reads_back_and_holds},
        {"every_number_has_its_limit", every_number_has_its_limit},
        {"every_string_has_its_limit", every_string_has_its_limit},
        {"token_ids_have_limits", token_ids_have_limits},
        {"the_largest_submit_fits_a_frame", the_largest_submit_fits_a_frame},
        {"fixed_messages_hold", fixed_messages_hold},
        {"unknown_kinds_pass", unknown_kinds_pass},
        {"utf8_is_checked_and_cut_at_characters", utf8_is_checked_and_cut_at_characters},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"wire", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
