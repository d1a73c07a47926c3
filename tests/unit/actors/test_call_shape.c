/* Answers in JSON: passed on and checked, or asked for by instruction, held back and corrected. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>

#include "protocol/chat.h"
#include "tests/unit/actors/call_rig.h"

#define SCHEMA                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}"
#define FORMAT                                                                                     \
    "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":" SCHEMA "}}"
#define BODY "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"x\":1.50," FORMAT "}"

static void shape_up(call_rig *r, const char *gate) {
    static const char *const providers[] = {"native", "object", "plain", "schemas"};
    static const tr_structured structured[] = {TR_STRUCTURED_NATIVE, TR_STRUCTURED_OBJECT,
                                               TR_STRUCTURED_INSTRUCT, TR_STRUCTURED_SCHEMA};
    tr_routes_spec spec = {
        .providers = providers,
        .provider_count = 4,
        .structured = structured,
        .limits = {
            .first_token_ms = 1000, .idle_ms = 2000, .total_ms = 60000, .stalled_ms = 10000}};
    tr_services_spec services_spec = {.version = "0"};
    tr_routes *routes = NULL;
    *r = (call_rig){.node = puppet_node(1)};
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&services_spec, &r->services), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
    tr_services_set_routes(r->services, routes);
    stand_in_start(&r->door, r->node, 0, NULL);
    stand_in_start(&r->gate, r->node, 0, gate);
    stand_in_start(&r->backend, r->node, 0, NULL);
}

static void begin(call_rig *r, const char *target, const char *json, uint32_t messages,
                  uint32_t bytes) {
    tr_body *body = tr_body_new(strlen(json));
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    memcpy(body->bytes, json, strlen(json));
    tr_submit head = {
        .op = TR_OP_CHAT, .credit_messages = messages, .credit_bytes = bytes, .attempts = 1};
    stand_in_do(&r->door, rig_spawn, r);
    stand_in_monitor(&r->door, r->call);
    stand_in_send(&r->door, r->call,
                  tr_msg_submit(&head, &(tr_submit_view){.target = {target, strlen(target)}}, body),
                  DOOR_REF);
}

/* What the backend was asked. */
static void expect_body(call_rig *r, const char *json) {
    tr_msg *submit = rig_grant(r, &r->backend);
    if (strcmp(submit->body->bytes, json) != 0) {
        printf("\ngot      %s\nexpected %s\n", submit->body->bytes, json);
        CU_FAIL("the backend was asked something else");
    }
    tr_msg_free(submit);
}

static tr_msg *done(tr_finish finish, uint64_t in, uint64_t out, double cost) {
    tr_done head = {.finish = (uint8_t)finish, .usage = {.in = in, .out = out, .cost = cost}};
    return tr_msg_done(&head, &(tr_end_view){0});
}

static void answer(call_rig *r, uint64_t ref, const char *text, tr_finish finish) {
    stand_in_send(&r->backend, r->call, rig_delta(0, text, NULL, 0), ref);
    stand_in_send(&r->backend, r->call, done(finish, 10, 3, 0.5), ref);
}

static void expect_text(call_rig *r, const char *text) {
    tr_msg *msg = stand_in_expect(&r->door, TR_KIND_DELTA);
    tr_str got = tr_delta_read((const tr_delta *)(const void *)msg->data).text;
    if (got.size != strlen(text) || memcmp(got.ptr, text, got.size) != 0) {
        printf("\ngot %.*s, expected %s\n", (int)got.size, got.ptr, text);
        CU_FAIL("another text");
    }
    CU_ASSERT_EQUAL(msg->ref, DOOR_REF);
    tr_msg_free(msg);
}

static void expect_done(call_rig *r, uint16_t attempts, uint64_t in, uint64_t out) {
    tr_msg *end = stand_in_expect(&r->door, TR_KIND_DONE);
    const tr_done *head = (const tr_done *)(const void *)end->data;
    CU_ASSERT_EQUAL(head->attempts, attempts);
    CU_ASSERT_EQUAL(head->usage.in, in);
    CU_ASSERT_EQUAL(head->usage.out, out);
    tr_msg_free(end);
    tr_msg_free(stand_in_expect(&r->door, TR_KIND_DOWN));
    CU_ASSERT_EQUAL(stand_in_count(&r->door), 0);
}

static void expect_fail(call_rig *r, tr_err err, const char *sentence, uint16_t attempts,
                        uint64_t in) {
    tr_msg *end = stand_in_expect(&r->door, TR_KIND_FAIL);
    const tr_fail *head = (const tr_fail *)(const void *)end->data;
    tr_str message = tr_fail_read(head).message;
    CU_ASSERT_EQUAL(head->err, err);
    CU_ASSERT_EQUAL(head->attempts, attempts);
    CU_ASSERT_EQUAL(head->usage.in, in);
    if (message.size < strlen(sentence) || memcmp(message.ptr, sentence, strlen(sentence)) != 0) {
        printf("\ngot %.*s\n", (int)message.size, message.ptr);
        CU_FAIL("another sentence");
    }
    tr_msg_free(end);
    tr_msg_free(stand_in_expect(&r->door, TR_KIND_DOWN));
    CU_ASSERT_EQUAL(stand_in_count(&r->door), 0);
}

static void who_holds_to_schemas_gets_the_request_as_it_is(void) {
    call_rig r;
    shape_up(&r, "limiter:native");
    begin(&r, "native/m", BODY, 10, 50000);
    expect_body(&r, BODY);
    stand_in_send(&r.backend, r.call, rig_delta(0, " {\"n\":", NULL, 0), 1);
    expect_text(&r, " {\"n\":"); /* at once */
    stand_in_send(&r.backend, r.call, rig_delta(1, "1}\n", NULL, 0), 1);
    stand_in_send(&r.backend, r.call, done(TR_FINISH_STOP, 10, 3, 0.5), 1);
    expect_text(&r, "1}\n");
    expect_done(&r, 1, 10, 3);
    rig_expect_settled(&r, 1);
    rig_down(&r);
}

static void who_ignores_the_schema_does_not_look_like_success(void) {
    call_rig r;
    shape_up(&r, "limiter:native");
    begin(&r, "native/m", BODY, 10, 50000);
    tr_msg_free(rig_grant(&r, &r.backend));
    answer(&r, 1, "Sure! 1.", TR_FINISH_STOP);
    expect_text(&r, "Sure! 1.");
    expect_fail(&r, TR_ERR_SCHEMA, "the answer does not follow the schema: it is no JSON", 1, 10);
    rig_expect_settled(&r, 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    rig_down(&r);
}

static void an_answer_that_is_no_whole_one_says_so_by_its_finish(void) {
    static const tr_finish finishes[] = {TR_FINISH_LENGTH, TR_FINISH_TOOL_CALLS,
                                         TR_FINISH_FILTERED};
    for (size_t i = 0; i < 3; i++) {
        call_rig r;
        shape_up(&r, i == 0 ? "limiter:native" : "limiter:plain");
        begin(&r, i == 0 ? "native/m" : "plain/m", BODY, 10, 50000);
        tr_msg_free(rig_grant(&r, &r.backend));
        answer(&r, 1, "{\"n\":", finishes[i]);
        expect_text(&r, "{\"n\":");
        expect_done(&r, 1, 10, 3);
        stand_in_clear(&r.gate);
        rig_down(&r);
    }
}

#define INSTRUCTION                                                                                \
    "Answer with one JSON value and nothing else: no explanation and no Markdown. It must follow " \
    "this JSON schema:\\n{\\\"type\\\":\\\"object\\\",\\\"properties\\\":{\\\"n\\\":{\\\"type\\\"" \
    ":\\\"integer\\\"}},\\\"required\\\":[\\\"n\\\"]}"

static void who_cannot_is_told_the_schema_and_the_answer_is_held_back(void) {
    call_rig r;
    shape_up(&r, "limiter:object");
    begin(&r, "object/m", BODY, 10, 50000);
    expect_body(&r, "{\"messages\":[{\"role\":\"system\",\"content\":\"" INSTRUCTION
                    "\"},{\"role\":\"user\",\"content\":\"hi\"}],\"x\":1.50,\"response_format\":"
                    "{\"type\":\"json_object\"}}");
    stand_in_send(&r.backend, r.call, rig_delta(0, "```json\n{\"n\":", NULL, 0), 1);
    stand_in_send(&r.backend, r.call, rig_delta(1, "1}\n```\n", NULL, 0), 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    stand_in_send(&r.backend, r.call, done(TR_FINISH_STOP, 10, 3, 0.5), 1);
    expect_text(&r, "{\"n\":1}"); /* without the fence */
    expect_done(&r, 1, 10, 3);
    rig_expect_settled(&r, 1);
    rig_down(&r);
}

static void a_system_message_is_joined(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m",
          "{" FORMAT ",\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\",\"y\":2},"
          "{\"role\":\"user\",\"content\":\"hi\"}]}",
          10, 50000);
    expect_body(&r, "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\\n\\n" INSTRUCTION
                    "\",\"y\":2},{\"role\":\"user\",\"content\":\"hi\"}]}");
    answer(&r, 1, "{\"n\":1}", TR_FINISH_STOP);
    expect_text(&r, "{\"n\":1}");
    expect_done(&r, 1, 10, 3);
    stand_in_clear(&r.gate);
    rig_down(&r);
}

static void a_wrong_answer_is_corrected_once_and_both_are_counted(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m", BODY, 10, 50000);
    tr_msg_free(rig_grant(&r, &r.backend));
    answer(&r, 1, "{\"n\":\"one\"}", TR_FINISH_STOP);
    rig_expect_settled(&r, 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    expect_body(&r, "{\"messages\":[{\"role\":\"system\",\"content\":\"" INSTRUCTION
                    "\"},{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\","
                    "\"content\":\"{\\\"n\\\":\\\"one\\\"}\"},{\"role\":\"user\",\"content\":"
                    "\"This answer is not valid: at /n: expected integer, got string. Answer again "
                    "with the corrected JSON and nothing else.\"}],\"x\":1.50}");
    answer(&r, 2, "{\"n\":1}", TR_FINISH_STOP);
    expect_text(&r, "{\"n\":1}");
    expect_done(&r, 2, 20, 6);
    rig_expect_settled(&r, 2);
    rig_down(&r);
}

static void a_second_wrong_answer_is_an_error_that_names_the_place(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m", BODY, 10, 50000);
    tr_msg_free(rig_grant(&r, &r.backend));
    answer(&r, 1, "no", TR_FINISH_STOP);
    rig_expect_settled(&r, 1);
    tr_msg_free(rig_grant(&r, &r.backend));
    answer(&r, 2, "{\"n\":null}", TR_FINISH_STOP);
    expect_fail(&r, TR_ERR_SCHEMA,
                "the answer does not follow the schema, also after a correction: at /n: expected "
                "integer, got null",
                2, 20);
    rig_expect_settled(&r, 2);
    CU_ASSERT_EQUAL(stand_in_count(&r.backend), 0);
    rig_down(&r);
}

static void who_knows_schemas_only_is_told_that_any_object_is_wanted(void) {
    call_rig r;
    shape_up(&r, "limiter:schemas");
    begin(&r, "schemas/m", BODY, 10, 50000);
    expect_body(&r, BODY);
    answer(&r, 1, "{\"n\":1}", TR_FINISH_STOP);
    expect_text(&r, "{\"n\":1}");
    expect_done(&r, 1, 10, 3);
    rig_down(&r);
    shape_up(&r, "limiter:schemas");
    begin(&r, "schemas/m",
          "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"response_format\":{\"type\":"
          "\"json_object\"}}",
          10, 50000);
    expect_body(&r, "{\"messages\":[{\"role\":\"system\",\"content\":\"Answer with one JSON object "
                    "and nothing else: no explanation and no Markdown.\"},{\"role\":\"user\","
                    "\"content\":\"hi\"}]}");
    answer(&r, 1, "```json\n{\"any\":1}\n```", TR_FINISH_STOP);
    expect_text(&r, "{\"any\":1}");
    expect_done(&r, 1, 10, 3);
    rig_down(&r);
}

/* 300 small deltas and 100 KB: more than any one grant. */
static void a_held_answer_goes_out_as_the_client_reads(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m",
          "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"response_format\":{\"type\":"
          "\"json_object\"}}",
          1, 50000);
    tr_msg_free(rig_grant(&r, &r.backend));
    char piece[1024];
    memset(piece, 'a', sizeof piece);
    piece[sizeof piece - 1] = '\0';
    uint64_t granted = TR_CREDIT_MESSAGES_default;
    stand_in_send(&r.backend, r.call, rig_delta(0, "{\"a\":\"", NULL, 0), 1);
    for (uint32_t i = 1; i <= 300; i++) {
        stand_in_send(&r.backend, r.call, rig_delta(i, i % 3 == 0 ? piece : "b", NULL, 0), 1);
        while (stand_in_count(&r.backend) > 0) {
            tr_msg *credit = stand_in_expect(&r.backend, TR_KIND_CREDIT);
            granted += ((const tr_credit *)(const void *)credit->data)->messages;
            tr_msg_free(credit);
        }
    }
    CU_ASSERT_TRUE(granted > 302);
    stand_in_send(&r.backend, r.call, rig_delta(301, "\"}", NULL, 0), 1);
    stand_in_send(&r.backend, r.call, done(TR_FINISH_STOP, 1, 1, 0), 1);
    rig_expect_settled(&r, 1); /* the slot is free before the client has read */
    size_t size = 0;
    uint32_t messages = 0;
    while (size < 100 * 1023 + 200 + 8) {
        tr_msg *msg = stand_in_expect(&r.door, TR_KIND_DELTA);
        const tr_delta *delta = (const tr_delta *)(const void *)msg->data;
        CU_ASSERT_EQUAL(delta->seq, messages++);
        CU_ASSERT_TRUE(msg->size <= 50000);
        size += delta->text_size;
        uint32_t bytes = msg->size;
        tr_msg_free(msg);
        CU_ASSERT_EQUAL(stand_in_count(&r.door), size < 100 * 1023 + 200 + 8 ? 0 : 2);
        if (size < 100 * 1023 + 200 + 8) {
            stand_in_send(&r.door, r.call, tr_msg_credit(1, bytes), DOOR_REF);
        }
    }
    CU_ASSERT_EQUAL(size, 100 * 1023 + 200 + 8);
    expect_done(&r, 1, 1, 1);
    rig_down(&r);
}

static void other_parts_keep_their_place_beside_the_text(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m", BODY, 10, 50000);
    tr_msg_free(rig_grant(&r, &r.backend));
    tr_delta thought = {.kind = TR_DELTA_REASONING};
    tr_delta opaque = {.kind = TR_DELTA_OPAQUE};
    stand_in_send(&r.backend, r.call, tr_msg_delta(&thought, &(tr_delta_view){.text = {"hm", 2}}),
                  1);
    stand_in_send(&r.backend, r.call, rig_delta(1, "{\"n\":1}", NULL, 0), 1);
    stand_in_send(&r.backend, r.call,
                  tr_msg_delta(&opaque, &(tr_delta_view){.name = {"o", 1}, .text = {"{}", 2}}), 1);
    stand_in_send(&r.backend, r.call, done(TR_FINISH_STOP, 1, 1, 0), 1);
    expect_text(&r, "hm");
    expect_text(&r, "{\"n\":1}");
    expect_text(&r, "{}");
    expect_done(&r, 1, 1, 1);
    stand_in_clear(&r.gate);
    rig_down(&r);
}

static void what_cannot_be_checked_is_refused_before_anybody_is_asked(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m",
          "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"response_format\":{\"type\":"
          "\"json_schema\",\"json_schema\":{\"schema\":{\"not\":{}}}}}",
          10, 50000);
    expect_fail(&r, TR_ERR_UNSUPPORTED,
                "response_format: this provider cannot hold an answer to a schema, and Troupe "
                "cannot check this one: /not: ",
                0, 0);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    rig_down(&r);
}

static void too_much_to_be_held_back_ends_the_request(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m", BODY, 10, 50000);
    tr_msg_free(rig_grant(&r, &r.backend));
    char *piece = malloc(32001);
    memset(piece, ' ', 32000);
    piece[32000] = '\0';
    for (uint32_t i = 0; i < 33; i++) {
        stand_in_send(&r.backend, r.call, rig_delta(i, piece, NULL, 0), 1);
    }
    free(piece);
    expect_fail(&r, TR_ERR_TOO_LARGE, "an answer that is checked against a schema may have at most",
                1, 0);
    stand_in_clear(&r.backend);
    stand_in_clear(&r.gate);
    rig_down(&r);
}

static void a_request_cancelled_while_its_answer_waits_ends_once(void) {
    call_rig r;
    shape_up(&r, "limiter:plain");
    begin(&r, "plain/m", BODY, 1, 50000);
    tr_msg_free(rig_grant(&r, &r.backend));
    tr_delta thought = {.kind = TR_DELTA_REASONING};
    stand_in_send(&r.backend, r.call, tr_msg_delta(&thought, &(tr_delta_view){.text = {"hm", 2}}),
                  1);
    answer(&r, 1, "{\"n\":1}", TR_FINISH_STOP);
    expect_text(&r, "hm");
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    stand_in_send(&r.door, r.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CANCELLED);
    rig_expect_settled(&r, 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    rig_down(&r);
}

int main(void) {
    CU_TestInfo tests[] = {
#define T(name) {#name, name}
        T(who_holds_to_schemas_gets_the_request_as_it_is),
        T(who_ignores_the_schema_does_not_look_like_success),
        T(an_answer_that_is_no_whole_one_says_so_by_its_finish),
        T(who_cannot_is_told_the_schema_and_the_answer_is_held_back),
        T(who_knows_schemas_only_is_told_that_any_object_is_wanted),
        T(a_system_message_is_joined),
        T(a_wrong_answer_is_corrected_once_and_both_are_counted),
        T(a_second_wrong_answer_is_an_error_that_names_the_place),
        T(a_held_answer_goes_out_as_the_client_reads),
        T(other_parts_keep_their_place_beside_the_text),
        T(what_cannot_be_checked_is_refused_before_anybody_is_asked),
        T(too_much_to_be_held_back_ends_the_request),
        T(a_request_cancelled_while_its_answer_waits_ends_once),
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"call_shape", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
