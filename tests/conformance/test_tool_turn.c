/*
 * A recorded answer that calls tools goes back: decoded as the daemon does, put into the next
 * request by tr_request_answer as a program does, and encoded again. What only the provider
 * understands of it (signatures, encrypted thoughts) must be there again, byte for byte. Not run
 * without recordings (TROUPE_RECORDINGS).
 */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/client/result.h"
#include "protocol/limits.h"
#include "runtime/msg.h"
#include "tests/conformance/exchange.h"

enum { piece_max = 16 * 1024, secret_min = 24 };

static exchange *exchanges;
static size_t exchange_count;

/* As the daemon sends it on: a long text in several DELTAs, an opaque one's name in the first. */
static tr_err hear(void *arg, const tr_piece *piece) {
    tr_err err = TR_OK;
    size_t at = 0;
    do {
        size_t left = piece->text.size - at;
        size_t size = left < piece_max ? left : piece_max;
        tr_delta head = {.kind = (uint8_t)piece->kind, .tool = piece->tool};
        tr_delta_view view = {.id = piece->id,
                              .name = at == 0 ? piece->name : (tr_str){"", 0},
                              .text = {piece->text.ptr + at, size}};
        tr_msg *msg = tr_msg_delta(&head, &view);
        CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
        err = tri_result_add(arg, (const tr_delta *)msg->data, true);
        tr_msg_free(msg);
        at += size;
    } while (err == TR_OK && at < piece->text.size);
    return err;
}

static tr_result *decode(const exchange *one) {
    tr_decoder *decoder = NULL;
    tr_result *result = tri_result_new();
    CU_ASSERT_EQUAL_FATAL(
        tr_decoder_new(tr_dialect_find(one->dialect), one->op, hear, result, &decoder), TR_OK);
    tr_decoder_head(decoder, one->status);
    tr_err err = tr_decoder_feed(decoder, one->body.bytes, one->body.size);
    err = err == TR_OK ? tr_decoder_end(decoder, one->cut) : err;
    tr_decoder_free(decoder);
    CU_ASSERT_EQUAL(err, TR_DONE);
    return result;
}

/* The next request as the dialect writes it, to be freed. */
static char *next_turn(const exchange *one, const tr_result *result) {
    tr_request *request = NULL;
    tr_chat *chat = NULL;
    char *json = NULL, why[256] = "";
    CU_ASSERT_EQUAL_FATAL(tr_request_new(NULL, &request), TR_OK);
    CU_ASSERT_EQUAL(tr_request_text(request, "user", "hi"), TR_OK);
    CU_ASSERT_EQUAL(tr_request_answer(request, result), TR_OK);
    for (size_t i = 0; i < tr_result_tool_calls(result); i++) {
        CU_ASSERT_EQUAL(tr_request_tool_result(request, tr_result_tool_call(result, i).id, "done"),
                        TR_OK);
    }
    CU_ASSERT_EQUAL_FATAL(tr_request_json(request, &json), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_chat_parse(TR_OP_CHAT, json, strlen(json), &chat, why, sizeof why),
                          TR_OK);
    tr_encoded encoded = {.body = NULL};
    tr_encode in = {.op = TR_OP_CHAT,
                    .chat = chat,
                    .model = {"model", 5},
                    .stream = true,
                    .provider = "recorded"};
    tr_err err = tr_dialect_find(one->dialect)->encode(&in, &encoded, why, sizeof why);
    if (err != TR_OK) {
        printf("\n    %s: %s\n", one->name, why);
    }
    CU_ASSERT_EQUAL(err, TR_OK);
    tr_chat_free(chat);
    tr_memory_free(json);
    tr_request_free(request);
    return encoded.body;
}

/* Long strings of one word: what is signed or encrypted. Counts them; each must be in `encoded`. */
static size_t check_secrets(const exchange *one, const tr_json_value *value, const char *encoded) {
    size_t count = 0;
    if (tr_json_type_of(value) == TR_JSON_STRING) {
        tr_str raw = tr_json_raw(value);
        bool secret = raw.size > secret_min && memchr(raw.ptr, ' ', raw.size) == NULL &&
                      memmem(one->body.bytes, one->body.size, raw.ptr, raw.size) != NULL;
        bool kept = !secret || memmem(encoded, strlen(encoded), raw.ptr, raw.size) != NULL;
        if (!kept) {
            printf("\n    %s: lost %.*s\n", one->name, (int)raw.size, raw.ptr);
        }
        CU_ASSERT_TRUE(kept);
        return secret;
    }
    if (tr_json_type_of(value) == TR_JSON_OBJECT || tr_json_type_of(value) == TR_JSON_ARRAY) {
        const tr_json_value *member = tr_json_first(value);
        for (; member != NULL; member = tr_json_next(member)) {
            count += check_secrets(one, member, encoded);
        }
    }
    return count;
}

static size_t check(const exchange *one) {
    tr_result *result = decode(one);
    size_t secrets = 0;
    if (tr_result_tool_calls(result) > 0 && result->opaque_count > 0) {
        char *encoded = next_turn(one, result);
        for (size_t i = 0; encoded != NULL && i < result->opaque_count; i++) {
            tr_json *json = NULL;
            const tri_buffer *opaque = &result->opaques[i].value;
            if (tr_json_parse(tri_buffer_text(opaque), opaque->size, &json, NULL) == TR_OK) {
                secrets += check_secrets(one, tr_json_root(json), encoded);
            }
            tr_json_free(json);
        }
        free(encoded);
    }
    tr_result_free(result);
    return secrets;
}

static void opaque_fields_survive_the_round_trip_of_a_tool(void) {
    static const char *const dialects[] = {"anthropic", "gemini", "openai", "responses"};
    for (size_t k = 0; k < sizeof dialects / sizeof *dialects; k++) {
        size_t secrets = 0;
        for (size_t i = 0; i < exchange_count; i++) {
            const exchange *one = &exchanges[i];
            const tr_json_value *end = tr_json_get(tr_json_root(one->expected), "tool_calls");
            if (strcmp(one->dialect, dialects[k]) == 0 && one->op == TR_OP_CHAT && end != NULL &&
                tr_json_count(end) > 0 && one->status == 200) {
                secrets += check(one);
            }
        }
        printf("\n    %s: %zu opaque strings came back", dialects[k], secrets);
        CU_ASSERT_TRUE(secrets > 0);
    }
}

int main(void) {
    enum { skipped = 77 };
    const char *folder = getenv("TROUPE_RECORDINGS");
    if (folder == NULL) {
        printf("not run: TROUPE_RECORDINGS is not set\n");
        return skipped;
    }
    if (exchange_load_all(folder, &exchanges, &exchange_count) != 0) {
        return 1;
    }
    CU_TestInfo tests[] = {{"opaque_fields_survive_the_round_trip_of_a_tool",
                            opaque_fields_survive_the_round_trip_of_a_tool},
                           CU_TEST_INFO_NULL};
    CU_SuiteInfo suites[] = {{"tool_turn", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    exchange_free_all(exchanges, exchange_count);
    return failed > 0;
}
