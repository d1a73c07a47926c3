/* PROTOCOL.md, held against the code: its examples against what writes frames, its tables of
 * fields, limits and errors against the headers. */
#include <CUnit/Basic.h>

#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/wire.h"

static char *document;

static bool read_document(void) {
    FILE *file = fopen("protocol/PROTOCOL.md", "re");
    if (file == NULL) {
        return false;
    }
    document = calloc(1, 65536);
    size_t size = fread(document, 1, 65535, file);
    fclose(file);
    return size > 0 && size < 65535;
}

/* The bytes of the block ```hex NAME; their number. */
static size_t example(const char *name, uint8_t out[512]) {
    char fence[64];
    snprintf(fence, sizeof fence, "```hex %s\n", name);
    const char *at = strstr(document, fence);
    size_t size = 0;
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    at += strlen(fence);
    while (*at != '`' && size < 512) {
        if (isspace((unsigned char)*at)) {
            at++;
            continue;
        }
        char *end;
        out[size++] = (uint8_t)strtoul(at, &end, 16);
        CU_ASSERT_EQUAL_FATAL(end - at, 2);
        at = end;
    }
    return size;
}

/* The frame as our code writes it, against the example; and the example through our reader. */
static void compare(const char *name, uint16_t kind, uint64_t ref, const void *inline_part,
                    size_t inline_size, const char *body) {
    uint8_t want[512];
    uint8_t got[512];
    size_t want_size = example(name, want);
    tr_frame frame = {.kind = kind,
                      .ref = ref,
                      .inline_size = (uint32_t)inline_size,
                      .body_size = (uint32_t)strlen(body)};
    tr_frame_encode(&frame, got);
    memcpy(got + TR_FRAME_HEADER_size, inline_part, inline_size);
    memcpy(got + TR_FRAME_HEADER_size + inline_size, body, strlen(body));
    size_t got_size = tr_frame_size(&frame);
    bool same = got_size == want_size && memcmp(got, want, got_size) == 0;
    if (!same) {
        printf("\n    %s should be:\n", name);
        for (size_t i = 0; i < got_size; i++) {
            printf("%02x%c", got[i], i % 24 == 23 || i + 1 == got_size ? '\n' : ' ');
        }
    }
    CU_ASSERT_TRUE(same);
    tr_frame back;
    CU_ASSERT_EQUAL_FATAL(tr_frame_decode(want, want_size, TR_FRAME_BODY_max, &back), TR_OK);
    CU_ASSERT_EQUAL(back.kind, kind);
    CU_ASSERT_EQUAL(back.ref, ref);
    CU_ASSERT_EQUAL(tr_frame_size(&back), want_size);
    _Alignas(8) uint8_t aligned[512];
    memcpy(aligned, want + TR_FRAME_HEADER_size, back.inline_size);
    CU_ASSERT_EQUAL(tr_wire_check(kind, aligned, back.inline_size), TR_OK);
}

static _Alignas(8) uint8_t part[512];

static void handshake_examples_are_what_we_write(void) {
    tr_hello hello = {
        .magic = TR_HELLO_MAGIC, .version_min = 1, .version_max = 1, .role = TR_ROLE_CLIENT};
    tr_hello_view hello_view = {.software = {"demo/1", 6}};
    tr_hello_write(part, &hello, &hello_view);
    compare("hello", TR_KIND_HELLO, 0, part, tr_hello_size(&hello_view), "");
    tr_welcome welcome = {
        .version = 1, .streams_max = TR_STREAMS_PER_CLIENT_max, .frame_max = TR_FRAME_max};
    tr_str software = {"troupe/1", 8};
    tr_welcome_write(part, &welcome, software);
    compare("welcome", TR_KIND_WELCOME, 0, part, tr_welcome_size(software), "");
}

static void request_examples_are_what_we_write(void) {
    tr_submit submit = {.op = TR_OP_CHAT, .credit_messages = 256, .credit_bytes = 262144};
    tr_submit_view submit_view = {.target = {"local/m", 7}};
    tr_submit_write(part, &submit, &submit_view);
    compare("submit", TR_KIND_SUBMIT, 7, part, tr_submit_size(&submit, &submit_view),
            "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
    tr_delta delta = {.kind = TR_DELTA_TEXT};
    tr_delta_view delta_view = {.text = {"Hello", 5}};
    tr_delta_write(part, &delta, &delta_view);
    compare("delta", TR_KIND_DELTA, 7, part, tr_delta_size(&delta, &delta_view), "");
    tr_credit credit = {.messages = 128, .bytes = 131072};
    compare("credit", TR_KIND_CREDIT, 7, &credit, sizeof credit, "");
    tr_cancel cancel = {.reason = TR_ERR_CANCELLED};
    compare("cancel", TR_KIND_CANCEL, 7, &cancel, sizeof cancel, "");
}

static void terminal_examples_are_what_we_write(void) {
    tr_done done = {.usage = {.in = 9, .out = 5, .first_token_ms = 12, .total_ms = 40},
                    .finish = TR_FINISH_STOP,
                    .attempts = 1};
    tr_end_view done_view = {.target = {"local/m", 7}};
    tr_done_write(part, &done, &done_view);
    compare("done", TR_KIND_DONE, 7, part, tr_done_size(&done_view), "");
    tr_fail fail = {.err = TR_ERR_TIMEOUT};
    tr_end_view fail_view = {.message = {"too late", 8}};
    tr_fail_write(part, &fail, &fail_view);
    compare("fail", TR_KIND_FAIL, 7, part, tr_fail_size(&fail_view), "");
}

static void every_error_stands_in_the_table(void) {
    for (int number = TR_ERR_NOMEM; number < TR_ERR_N; number++) {
        tr_err err = (tr_err)number;
        char row[256];
        snprintf(row, sizeof row, "| %d | `%s` | %s | %s | %s |\n", number, tr_err_name(err),
                 tr_err_class_name(tr_err_class_of(err)), tr_err_may_retry(err) ? "yes" : "no",
                 tr_err_text(err));
        if (strstr(document, row) == NULL) {
            printf("\n    missing: %s", row);
            CU_FAIL("missing");
        }
    }
}

static void holds_row(const char *row) {
    if (strstr(document, row) == NULL) {
        printf("\n    missing: %s\n", row);
        CU_FAIL("missing");
    }
}

static void every_limit_stands_in_the_table(void) {
#define LIMIT(name)                                                                                \
    { #name, name }
    static const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
        LIMIT(TR_FRAME_INLINE_max),
        LIMIT(TR_FRAME_BODY_max),
        LIMIT(TR_TOKEN_max),
        LIMIT(TR_NAME_max),
        LIMIT(TR_URL_max),
        LIMIT(TR_MESSAGE_max),
        LIMIT(TR_DELTA_max),
        LIMIT(TR_DELTA_TEXT_max),
        LIMIT(TR_DELTA_TOKENS_max),
        LIMIT(TR_CREDIT_MESSAGES_max),
        LIMIT(TR_CREDIT_BYTES_max),
        LIMIT(TR_RESUME_TOKENS_max),
        LIMIT(TR_TIMEOUT_MS_max),
        LIMIT(TR_ATTEMPTS_max),
        LIMIT(TR_STREAMS_PER_CLIENT_max),
        LIMIT(TR_JSON_DEPTH_max),
        LIMIT(TR_CONTROLS_PER_CLIENT_max),
        LIMIT(TR_CHAT_VALUES_max),
        LIMIT(TR_CONTROL_BODY_max),
        LIMIT(TR_STOP_max),
        LIMIT(TR_STOP_TEXT_max),
        LIMIT(TR_INPUTS_max),
    };
#undef LIMIT
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char row[128];
        snprintf(row, sizeof row, "| `%s` | %llu |", limits[i].name,
                 (unsigned long long)limits[i].value);
        holds_row(row);
    }
}

/* Offset and size of a field, as its row in the document begins. */
static void every_field_stands_at_its_offset(void) {
#define FIELD(type, name)                                                                          \
    { #name, offsetof(type, name), sizeof(((type *)0)->name) }
    static const struct {
        const char *name;
        size_t offset, size;
    } fields[] = {
        FIELD(tr_hello, magic),
        FIELD(tr_hello, version_min),
        FIELD(tr_hello, version_max),
        FIELD(tr_hello, role),
        FIELD(tr_hello, token_size),
        FIELD(tr_hello, software_size),
        FIELD(tr_hello, model_size),
        FIELD(tr_hello, engine_size),
        FIELD(tr_hello, sequences),
        FIELD(tr_hello, context),
        FIELD(tr_hello, nonce),
        FIELD(tr_hello, digest),
        FIELD(tr_submit, op),
        FIELD(tr_submit, priority),
        FIELD(tr_submit, flags),
        FIELD(tr_submit, credit_messages),
        FIELD(tr_submit, credit_bytes),
        FIELD(tr_submit, connect_ms),
        FIELD(tr_submit, first_token_ms),
        FIELD(tr_submit, idle_ms),
        FIELD(tr_submit, total_ms),
        FIELD(tr_submit, attempts),
        FIELD(tr_submit, target_size),
        FIELD(tr_submit, provider_size),
        FIELD(tr_submit, base_url_size),
        FIELD(tr_submit, resume_count),
        FIELD(tr_submit, seed),
        FIELD(tr_delta, seq),
        FIELD(tr_delta, choice),
        FIELD(tr_delta, kind),
        FIELD(tr_delta, token_count),
        FIELD(tr_delta, tool),
        FIELD(tr_delta, id_size),
        FIELD(tr_delta, name_size),
        FIELD(tr_delta, text_size),
    };
#undef FIELD
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char row[128];
        snprintf(row, sizeof row, "| %zu | %zu | %s |", fields[i].offset, fields[i].size,
                 fields[i].name);
        holds_row(row);
    }
}

int main(void) {
    CU_TestInfo tests[] = {
        {"handshake_examples_are_what_we_write", handshake_examples_are_what_we_write},
        {"request_examples_are_what_we_write", request_examples_are_what_we_write},
        {"terminal_examples_are_what_we_write", terminal_examples_are_what_we_write},
        {"every_error_stands_in_the_table", every_error_stands_in_the_table},
        {"every_limit_stands_in_the_table", every_limit_stands_in_the_table},
        {"every_field_stands_at_its_offset", every_field_stands_at_its_offset},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"protocol_md", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (!read_document() || CU_initialize_registry() != CUE_SUCCESS ||
        CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    free(document);
    return failed > 0;
}
