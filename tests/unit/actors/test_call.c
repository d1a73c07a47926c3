/* One request from SUBMIT to its terminal: ways, ends, credit, limits in time. */
#include <CUnit/Basic.h>
#include <stdio.h>

#include "tests/unit/actors/call_rig.h"

static tr_str text_of(const tr_msg *delta) {
    return tr_delta_read((const tr_delta *)(const void *)delta->data).text;
}

static void expect_text(stand_in *door, uint32_t seq, const char *text) {
    tr_msg *msg = stand_in_expect(door, TR_KIND_DELTA);
    const tr_delta *delta = (const tr_delta *)(const void *)msg->data;
    CU_ASSERT_EQUAL(msg->ref, DOOR_REF);
    CU_ASSERT_EQUAL(delta->seq, seq);
    CU_ASSERT_EQUAL(delta->token_count, 0);
    CU_ASSERT_EQUAL_FATAL(text_of(msg).size, strlen(text));
    CU_ASSERT_EQUAL(memcmp(text_of(msg).ptr, text, strlen(text)), 0);
    CU_ASSERT_EQUAL(tr_wire_check(msg->kind, msg->data, msg->size), TR_OK);
    tr_msg_free(msg);
}

/* ---- the way there and back ---- */

static void request_reaches_its_backend_through_the_gate(void) {
    for (uint32_t shards = 1; shards <= 2; shards++) {
        call_rig r;
        rig_up(&r, shards);
        rig_begin(&r, "local/tiny", 10, 50000);
        tr_msg *submit = rig_grant(&r, &r.backend);
        const tr_submit *head = (const tr_submit *)(const void *)submit->data;
        tr_submit_view view = tr_submit_read(head);
        CU_ASSERT_EQUAL(head->credit_messages, 10);
        CU_ASSERT_EQUAL(head->credit_bytes, 50000);
        CU_ASSERT_EQUAL(head->first_token_ms, 1000);
        CU_ASSERT_EQUAL(head->total_ms, 60000);
        CU_ASSERT_EQUAL(head->resume_count, 0);
        CU_ASSERT_EQUAL(view.target.size, 4);
        CU_ASSERT_EQUAL(memcmp(view.target.ptr, "tiny", 4), 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(submit->body);
        CU_ASSERT_STRING_EQUAL(submit->body->bytes, "{}");
        tr_msg_free(submit);
        stand_in_send(&r.backend, r.call, rig_delta(0, "ab", (int32_t[]){1, 2}, 2), 1);
        stand_in_send(&r.backend, r.call, rig_delta(1, "c", (int32_t[]){3}, 1), 1);
        stand_in_send(&r.backend, r.call, rig_done(), 1);
        expect_text(&r.door, 0, "ab");
        expect_text(&r.door, 1, "c");
        tr_msg *done = stand_in_expect(&r.door, TR_KIND_DONE);
        const tr_done *end = (const tr_done *)(const void *)done->data;
        CU_ASSERT_EQUAL(end->usage.in, 5);
        CU_ASSERT_EQUAL(end->usage.queue_ms, 3);
        CU_ASSERT_EQUAL(end->attempts, 1);
        CU_ASSERT_EQUAL(tr_done_read(end).target.size, strlen("local/tiny"));
        tr_msg_free(done);
        rig_expect_settled(&r, 1);
        stand_in_clear(&r.door);
        rig_down(&r);
    }
}

static void gate_that_wants_to_know_hears_of_the_first_delta(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 100, 200000);
    tr_msg *reserve = stand_in_expect(&r.gate, TR_KIND_RESERVE);
    tr_msg *granted = rig_granted(&r.backend);
    ((tr_granted *)(void *)granted->data)->wants_flows = 1;
    stand_in_send(&r.gate, r.call, granted, reserve->ref);
    tr_msg_free(stand_in_expect(&r.backend, TR_KIND_SUBMIT));
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    stand_in_send(&r.backend, r.call, rig_delta(0, "a", NULL, 0), reserve->ref);
    stand_in_send(&r.backend, r.call, rig_delta(1, "b", NULL, 0), reserve->ref);
    tr_msg *flows = stand_in_expect(&r.gate, TR_KIND_FLOWS);
    CU_ASSERT_EQUAL(flows->ref, reserve->ref);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    tr_msg_free(flows);
    tr_msg_free(reserve);
    expect_text(&r.door, 0, "a");
    expect_text(&r.door, 1, "b");
    stand_in_send(&r.backend, r.call, rig_done(), 1);
    tr_msg_free(stand_in_expect(&r.gate, TR_KIND_SETTLE));
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

static void unknown_model_fails_before_any_gate(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tinny", 10, 50000);
    const tr_msg *fail = r.door.head;
    CU_ASSERT_PTR_NOT_NULL_FATAL(fail);
    tr_str message = tr_fail_read((const tr_fail *)(const void *)fail->data).message;
    CU_ASSERT_PTR_NOT_NULL(strstr(message.ptr, "did you mean tiny"));
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    rig_down(&r);
}

static void refusal_of_the_gate_is_the_answer(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 10, 50000);
    tr_msg_free(stand_in_expect(&r.gate, TR_KIND_RESERVE));
    stand_in_send(&r.gate, r.call, tr_msg_failf(TR_ERR_OVERLOADED, "no"), 1);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_OVERLOADED);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0); /* it holds nothing that could be settled */
    rig_down(&r);
}

static void gate_that_is_gone_fails_the_request(void) {
    call_rig r;
    rig_up(&r, 1);
    stand_in_crash(&r.gate);
    rig_begin(&r, "tiny", 10, 50000);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_SERVER);
    stand_in_start(&r.gate, r.node, 0, "pool:tiny");
    rig_begin(&r, "tiny", 10, 50000);
    stand_in_crash(&r.gate);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_SERVER);
    rig_down(&r);
}

static void stream_outlives_its_gate(void) {
    call_rig r;
    rig_up(&r, 2);
    rig_stream(&r);
    stand_in_crash(&r.gate);
    stand_in_send(&r.backend, r.call, rig_delta(0, "a", NULL, 0), 1);
    stand_in_send(&r.backend, r.call, rig_done(), 1);
    expect_text(&r.door, 0, "a");
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

static void failure_of_the_backend_is_passed_on_once(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    stand_in_send(&r.backend, r.call, tr_msg_failf(TR_ERR_QUOTA, "used up"), 1);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_QUOTA);
    rig_expect_settled(&r, 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.backend), 0); /* no CANCEL to one that has ended */
    rig_down(&r);
}

/* ---- texts ---- */

#define SUN "\xe6\x97\xa5" /* three bytes */

/* "echo/" and 85 characters of three bytes are more than a target may have, and 255 is inside one.
 */
static void long_name_is_cut_at_a_character(void) {
    call_rig r;
    rig_up(&r, 1);
    char model[TR_NAME_max];
    for (size_t i = 0; i < sizeof model; i++) {
        model[i] = SUN[i % 3];
    }
    tr_body *body = tr_body_new(0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 1, .credit_bytes = 50000};
    tr_submit_view view = {.target = {model, sizeof model}, .provider = {"echo", 4}};
    stand_in_do(&r.door, rig_spawn, &r);
    stand_in_monitor(&r.door, r.call);
    stand_in_send(&r.door, r.call, tr_msg_submit(&head, &view, body), DOOR_REF);
    const tr_msg *fail = r.door.head;
    CU_ASSERT_PTR_NOT_NULL_FATAL(fail);
    CU_ASSERT_EQUAL(tr_wire_check(fail->kind, fail->data, fail->size), TR_OK);
    tr_str target = tr_fail_read((const tr_fail *)(const void *)fail->data).target;
    CU_ASSERT_EQUAL(target.size, 254);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_SERVER); /* the rig has no limiter:echo */
    rig_down(&r);
}

static void long_sentence_is_cut_at_a_character(void) {
    char suns[3 * 1000 + 1];
    for (size_t i = 0; i < sizeof suns - 1; i++) {
        suns[i] = SUN[i % 3];
    }
    suns[sizeof suns - 1] = '\0';
    static const char *const fronts[] = {"", "a", "ab", "\xff", "a\xe6\x97"};
    for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++) {
        tr_msg *fail = tr_msg_failf(TR_ERR_INVALID, "%s%s", fronts[i], suns);
        CU_ASSERT_PTR_NOT_NULL_FATAL(fail);
        CU_ASSERT_EQUAL(tr_wire_check(fail->kind, fail->data, fail->size), TR_OK);
        tr_str message = tr_fail_read((const tr_fail *)(const void *)fail->data).message;
        CU_ASSERT(message.size > TR_MESSAGE_max - 3 && message.size <= TR_MESSAGE_max);
        tr_msg_free(fail);
    }
}

/* ---- cancelling ---- */

static void cancel_ends_backend_and_gate(void) {
    for (uint32_t shards = 1; shards <= 2; shards++) {
        call_rig r;
        rig_up(&r, shards);
        rig_stream(&r);
        stand_in_send(&r.door, r.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
        rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CANCELLED);
        tr_msg *cancel = stand_in_expect(&r.backend, TR_KIND_CANCEL);
        CU_ASSERT_EQUAL(cancel->ref, 1);
        tr_msg_free(cancel);
        rig_expect_settled(&r, 1);
        rig_down(&r);
    }
}

static void cancel_withdraws_from_the_line(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 10, 50000);
    tr_msg_free(stand_in_expect(&r.gate, TR_KIND_RESERVE));
    stand_in_send(&r.door, r.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CANCELLED);
    rig_expect_settled(&r, 1);
    rig_down(&r);
}

/* ---- credit ---- */

static tr_credit take_credit(stand_in *backend) {
    tr_msg *msg = stand_in_expect(backend, TR_KIND_CREDIT);
    tr_credit credit = *(const tr_credit *)(const void *)msg->data;
    CU_ASSERT_EQUAL(tr_wire_check(msg->kind, msg->data, msg->size), TR_OK);
    tr_msg_free(msg);
    return credit;
}

static void backend_beyond_its_messages_is_stopped(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 2, 200000);
    tr_msg_free(rig_grant(&r, &r.backend));
    for (uint32_t i = 0; i < 3; i++) {
        stand_in_send(&r.backend, r.call, rig_delta(i, "x", NULL, 0), 1);
    }
    expect_text(&r.door, 0, "x");
    expect_text(&r.door, 1, "x");
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_BUG);
    rig_down(&r);
}

static void backend_beyond_its_bytes_is_stopped(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 100, 1000);
    tr_msg_free(rig_grant(&r, &r.backend));
    char text[990];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    stand_in_send(&r.backend, r.call, rig_delta(0, text, NULL, 0), 1);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_BUG);
    rig_down(&r);
}

static void credit_goes_on_to_the_backend_with_the_bytes_of_ids(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    stand_in_send(&r.backend, r.call, rig_delta(0, "ab", (int32_t[]){1, 2}, 2), 1);
    stand_in_send(&r.door, r.call, tr_msg_credit(5, 1000), DOOR_REF);
    tr_credit credit = take_credit(&r.backend);
    CU_ASSERT_EQUAL(credit.messages, 5);
    CU_ASSERT_EQUAL(credit.bytes, 1008);
    stand_in_clear(&r.door);
    rig_down(&r);
}

/* A backend with exactly the smallest window could else never send the largest DELTA again. */
static void bytes_of_ids_go_back_at_once_when_room_is_short(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 100, TR_CREDIT_BYTES_min);
    tr_msg_free(rig_grant(&r, &r.backend));
    stand_in_send(&r.backend, r.call, rig_delta(0, "a", (int32_t[]){1}, 1), 1);
    tr_credit credit = take_credit(&r.backend);
    CU_ASSERT_EQUAL(credit.messages, 0);
    CU_ASSERT_EQUAL(credit.bytes, 4);
    CU_ASSERT_EQUAL(stand_in_count(&r.backend), 0);
    stand_in_clear(&r.door);
    rig_down(&r);
}

static void credit_is_never_more_than_one_message_may_carry(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 100, 100000);
    tr_msg_free(rig_grant(&r, &r.backend));
    stand_in_send(&r.backend, r.call, rig_delta(0, "", (int32_t[]){1, 2, 3}, 3), 1);
    /* The client has used 24 bytes; the largest grant that its own limit allows: */
    uint32_t most = TR_CREDIT_BYTES_max - (100000 - (uint32_t)sizeof(tr_delta));
    stand_in_send(&r.door, r.call, tr_msg_credit(1, most), DOOR_REF);
    tr_credit credit = take_credit(&r.backend);
    CU_ASSERT_EQUAL(credit.bytes, most + 12);
    stand_in_send(&r.door, r.call, tr_msg_credit(1, 1), DOOR_REF);
    tr_msg_free(stand_in_expect(&r.door, TR_KIND_DELTA));
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_PROTOCOL);
    rig_down(&r);
}

/* ---- limits in time ---- */

static void wait_ms(call_rig *r, uint64_t ms) {
    puppet_wait_us(r->node, ms * 1000);
}

static void silent_backend_fails_after_the_first_token_limit(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    wait_ms(&r, 999);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    wait_ms(&r, 1);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_TIMEOUT);
    rig_expect_settled(&r, 1);
    rig_down(&r);
}

static void stream_that_falls_silent_fails_after_the_idle_limit(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    for (uint32_t i = 0; i < 3; i++) { /* each DELTA starts it anew */
        stand_in_send(&r.backend, r.call, rig_delta(i, "a", NULL, 0), 1);
        wait_ms(&r, 1999);
    }
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 3);
    wait_ms(&r, 1);
    for (uint32_t i = 0; i < 3; i++) {
        expect_text(&r.door, i, "a");
    }
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_TIMEOUT);
    rig_down(&r);
}

static void idle_limit_rests_while_the_client_does_not_read(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 1, 200000);
    tr_msg_free(rig_grant(&r, &r.backend));
    stand_in_send(&r.backend, r.call, rig_delta(0, "a", NULL, 0), 1);
    wait_ms(&r, 9000); /* far beyond idle, short of stalled */
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 1);
    stand_in_send(&r.door, r.call, tr_msg_credit(1, 100), DOOR_REF);
    wait_ms(&r, 1999); /* it runs from the CREDIT on */
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 1);
    stand_in_send(&r.backend, r.call, rig_delta(1, "b", NULL, 0), 1);
    expect_text(&r.door, 0, "a");
    expect_text(&r.door, 1, "b");
    wait_ms(&r, 9999);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    wait_ms(&r, 1);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_STALLED);
    rig_down(&r);
}

static void total_limit_holds_whatever_else_goes_on(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 1000, 200000);
    wait_ms(&r, 59000); /* in line */
    tr_msg *submit = rig_grant(&r, &r.backend);
    CU_ASSERT_EQUAL(((const tr_submit *)(const void *)submit->data)->total_ms, 1000);
    tr_msg_free(submit);
    stand_in_send(&r.backend, r.call, rig_delta(0, "a", NULL, 0), 1);
    wait_ms(&r, 999);
    stand_in_send(&r.backend, r.call, rig_delta(1, "b", NULL, 0), 1);
    expect_text(&r.door, 0, "a");
    expect_text(&r.door, 1, "b");
    wait_ms(&r, 1);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_TIMEOUT);
    rig_down(&r);
}

/* ---- scarce memory ---- */

/* Whichever allocation fails: at most one terminal, an end, and nothing is left. */
static void any_failed_allocation_ends_in_one_way(void) {
    for (size_t n = 1; n < 40; n++) {
        call_rig r;
        rig_up(&r, 2);
        stand_in_do(&r.door, rig_spawn, &r);
        stand_in_monitor(&r.door, r.call);
        tr_msg *submit = rig_submit("tiny", 100, 200000);
        tr_msg *done = rig_done();
        tr_msg *delta = rig_delta(0, "ab", (int32_t[]){1, 2}, 2);
        stand_in_send(&r.door, r.call, submit, DOOR_REF);
        tr_msg *reserve = stand_in_expect(&r.gate, TR_KIND_RESERVE);
        tr_msg_free(reserve);
        tr_msg *granted = rig_granted(&r.backend);
        granted->from = r.gate.id;
        granted->ref = delta->ref = done->ref = 1;
        delta->from = done->from = r.backend.id;
        puppet_clock_us += 70000000; /* its total limit too */
        tr_post(r.node, r.call, granted);
        tr_post(r.node, r.call, delta);
        tr_post(r.node, r.call, done);
        stand_in_fail_at = n;
        stand_in_fail_on = n % 2 == 0;
        puppet_run(r.node);
        stand_in_fail_at = 0;
        puppet_run(r.node);
        uint32_t terminals = 0, downs = 0;
        for (const tr_msg *at = r.door.head; at != NULL; at = at->next) {
            terminals += at->kind == TR_KIND_DONE || at->kind == TR_KIND_FAIL;
            downs += at->kind == TR_KIND_DOWN;
            CU_ASSERT(at->kind != TR_KIND_DELTA || terminals == 0);
        }
        CU_ASSERT(terminals <= 1);
        CU_ASSERT_EQUAL(downs, 1);
        CU_ASSERT_EQUAL(tr_services_running(r.services), 0);
        rig_down(&r);
    }
}

/* The gate is told what was used and how it ended. */
static void settlement_says_what_was_used_and_why_it_ended(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    puppet_wait_us(r.node, 7000);
    stand_in_send(&r.backend, r.call, rig_delta(0, "a", NULL, 0), 1);
    stand_in_send(&r.backend, r.call, rig_done(), 1);
    tr_msg *msg = stand_in_expect(&r.gate, TR_KIND_SETTLE);
    const tr_settle *settle = (const tr_settle *)(const void *)msg->data;
    CU_ASSERT_EQUAL(settle->err, TR_OK);
    CU_ASSERT(settle->tokens_in == 5 && settle->tokens_out == 2);
    CU_ASSERT(settle->progressed == 1 && settle->first_token_ms == 7 && settle->flags == 0);
    tr_msg_free(msg);
    rig_down(&r);

    rig_up(&r, 1);
    rig_stream(&r);
    stand_in_send(&r.backend, r.call, tr_msg_failf(TR_ERR_CONNECT, "nobody is there"), 1);
    msg = stand_in_expect(&r.gate, TR_KIND_SETTLE);
    settle = (const tr_settle *)(const void *)msg->data;
    CU_ASSERT_EQUAL(settle->err, TR_ERR_CONNECT);
    CU_ASSERT(settle->why_size == 15 && memcmp(settle + 1, "nobody is there", 15) == 0);
    CU_ASSERT(settle->progressed == 0 && settle->first_token_ms == 0);
    tr_msg_free(msg);
    rig_down(&r);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(request_reaches_its_backend_through_the_gate),
        PUPPET_TEST(gate_that_wants_to_know_hears_of_the_first_delta),
        PUPPET_TEST(unknown_model_fails_before_any_gate),
        PUPPET_TEST(refusal_of_the_gate_is_the_answer),
        PUPPET_TEST(gate_that_is_gone_fails_the_request),
        PUPPET_TEST(stream_outlives_its_gate),
        PUPPET_TEST(failure_of_the_backend_is_passed_on_once),
        PUPPET_TEST(long_name_is_cut_at_a_character),
        PUPPET_TEST(long_sentence_is_cut_at_a_character),
        PUPPET_TEST(cancel_ends_backend_and_gate),
        PUPPET_TEST(cancel_withdraws_from_the_line),
        PUPPET_TEST(backend_beyond_its_messages_is_stopped),
        PUPPET_TEST(backend_beyond_its_bytes_is_stopped),
        PUPPET_TEST(credit_goes_on_to_the_backend_with_the_bytes_of_ids),
        PUPPET_TEST(bytes_of_ids_go_back_at_once_when_room_is_short),
        PUPPET_TEST(settlement_says_what_was_used_and_why_it_ended),
        PUPPET_TEST(credit_is_never_more_than_one_message_may_carry),
        PUPPET_TEST(silent_backend_fails_after_the_first_token_limit),
        PUPPET_TEST(stream_that_falls_silent_fails_after_the_idle_limit),
        PUPPET_TEST(idle_limit_rests_while_the_client_does_not_read),
        PUPPET_TEST(total_limit_holds_whatever_else_goes_on),
        PUPPET_TEST(any_failed_allocation_ends_in_one_way),
    };
    stand_in_memory();
    return puppet_main("call", tests, sizeof tests / sizeof *tests);
}
