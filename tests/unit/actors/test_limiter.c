/* Slots of a provider, and the line before them. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "actors/limiter.h"
#include "tests/lib/stand_in.h"

typedef struct rig {
    tr_node *node;
    tr_id limiter;
    stand_in calls[5];
    stand_in provider, provider1;
    uint32_t at_once, waiting_max;
} rig;

static void spawn(tr_self *self, void *arg) {
    rig *r = arg;
    tr_limiter_args args = {.provider = "p", .at_once = r->at_once, .waiting_max = r->waiting_max};
    tr_spawn_spec spec = {.behaviour = &tr_limiter, .args = &args, .args_size = sizeof args};
    CU_ASSERT_EQUAL_FATAL(tr_spawn(self, &spec, &r->limiter), TR_OK);
}

static void up(rig *r, uint32_t at_once, uint32_t waiting_max) {
    *r = (rig){.node = puppet_node(2), .at_once = at_once, .waiting_max = waiting_max};
    stand_in_start(&r->provider, r->node, 0, "provider:p:0");
    stand_in_start(&r->provider1, r->node, 1, "provider:p:1");
    for (uint32_t i = 0; i < 5; i++) {
        stand_in_start(&r->calls[i], r->node, i % 2, NULL);
    }
    stand_in_do(&r->provider, spawn, r);
}

static void reserve_as(rig *r, uint32_t call, uint64_t ref, int8_t priority, uint32_t ms) {
    tr_msg *msg = tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_reserve *)(void *)msg->data = (tr_reserve){.remaining_ms = ms, .priority = priority};
    msg->flags = TR_MSG_OPENING;
    stand_in_send(&r->calls[call], r->limiter, msg, ref);
}

static void reserve_mid_answer(rig *r, uint32_t call, uint32_t ms) {
    tr_msg *msg = tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_reserve *)(void *)msg->data = (tr_reserve){.remaining_ms = ms, .mid_answer = 1};
    stand_in_send(&r->calls[call], r->limiter, msg, 1);
}

static void reserve(rig *r, uint32_t call) {
    reserve_as(r, call, 1, 0, 60000);
}

static void settle(rig *r, uint32_t call, uint64_t ref) {
    tr_msg *msg = tr_msg_new(TR_KIND_SETTLE, sizeof(tr_settle));
    stand_in_send(&r->calls[call], r->limiter, msg, ref);
}

static void expect_granted(rig *r, uint32_t call) {
    tr_msg *msg = stand_in_expect(&r->calls[call], TR_KIND_GRANTED);
    tr_id backend = ((const tr_granted *)(const void *)msg->data)->backend;
    CU_ASSERT_EQUAL(backend, call % 2 == 0 ? r->provider.id : r->provider1.id);
    tr_msg_free(msg);
}

static void expect_nothing(const rig *r, uint32_t call) {
    CU_ASSERT_EQUAL(stand_in_count(&r->calls[call]), 0);
}

static void expect_fail(rig *r, uint32_t call, tr_err err) {
    tr_msg *msg = stand_in_expect(&r->calls[call], TR_KIND_FAIL);
    CU_ASSERT_EQUAL(((const tr_fail *)(const void *)msg->data)->err, err);
    tr_msg_free(msg);
}

static void expect_status(rig *r, const char *text) {
    stand_in_send(&r->provider, r->limiter, tr_msg_new(TR_KIND_STATUS, 0), 9);
    tr_msg *msg = stand_in_expect(&r->provider, TR_KIND_STATUSED);
    CU_ASSERT_EQUAL(msg->ref, 9);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg->body);
    CU_ASSERT_PTR_NOT_NULL(strstr(msg->body->bytes, text));
    tr_msg_free(msg);
}

static void slots_are_granted_and_given_back(void) {
    rig r;
    up(&r, 2, 10);
    reserve(&r, 0);
    reserve(&r, 1);
    reserve(&r, 2);
    expect_granted(&r, 0);
    expect_granted(&r, 1); /* with the provider of its own shard */
    expect_nothing(&r, 2);
    expect_status(&r, "\"used\":2,\"at_once\":2,\"waiting\":1");
    settle(&r, 0, 1);
    expect_granted(&r, 2);
    settle(&r, 1, 1);
    settle(&r, 2, 1);
    settle(&r, 2, 1); /* a second one finds nothing */
    expect_status(&r, "\"used\":0,\"at_once\":2,\"waiting\":0");
    tr_node_free(r.node);
}

static void death_of_a_call_gives_its_slot_back(void) {
    rig r;
    up(&r, 1, 10);
    reserve(&r, 0);
    reserve(&r, 1);
    reserve(&r, 2);
    expect_granted(&r, 0);
    stand_in_crash(&r.calls[1]); /* it waited */
    stand_in_crash(&r.calls[0]); /* it held the slot */
    expect_granted(&r, 2);
    settle(&r, 2, 1);
    stand_in_crash(&r.calls[2]); /* both came: one release */
    expect_status(&r, "\"used\":0,\"at_once\":1,\"waiting\":0");
    tr_node_free(r.node);
}

static void line_goes_by_priority_and_then_by_coming(void) {
    rig r;
    up(&r, 1, 10);
    reserve(&r, 0);
    expect_granted(&r, 0);
    reserve_as(&r, 1, 1, 0, 60000);
    reserve_as(&r, 2, 1, 0, 60000);
    reserve_as(&r, 3, 1, 5, 60000);
    reserve_as(&r, 4, 1, -5, 60000);
    static const uint32_t order[] = {0, 3, 1, 2, 4};
    for (uint32_t i = 1; i < 5; i++) {
        settle(&r, order[i - 1], 1);
        expect_granted(&r, order[i]);
    }
    tr_node_free(r.node);
}

static void full_line_refuses(void) {
    rig r;
    up(&r, 1, 1);
    reserve(&r, 0);
    reserve(&r, 1);
    reserve(&r, 2);
    expect_granted(&r, 0);
    expect_fail(&r, 2, TR_ERR_OVERLOADED);
    settle(&r, 0, 1);
    expect_granted(&r, 1);
    reserve(&r, 2);
    settle(&r, 1, 1);
    expect_granted(&r, 2);
    tr_node_free(r.node);
}

static void full_line_makes_room_of_the_late(void) {
    rig r;
    up(&r, 1, 1);
    reserve(&r, 0);
    expect_granted(&r, 0);
    reserve_as(&r, 1, 1, 0, 100);
    puppet_wait_us(r.node, 100000);
    reserve(&r, 2);
    expect_fail(&r, 1, TR_ERR_TIMEOUT);
    expect_nothing(&r, 2);
    settle(&r, 0, 1);
    expect_granted(&r, 2);
    tr_node_free(r.node);
}

static void call_in_the_middle_of_its_answer_goes_first_and_is_never_refused(void) {
    rig r;
    up(&r, 1, 1);
    reserve(&r, 0);
    expect_granted(&r, 0);
    reserve_as(&r, 1, 1, 9, 60000);
    reserve_mid_answer(&r, 2, 60000);
    expect_nothing(&r, 2);
    reserve(&r, 3); /* a newcomer finds the line full */
    expect_fail(&r, 3, TR_ERR_OVERLOADED);
    expect_status(&r, "\"waiting\":2");
    settle(&r, 0, 1);
    expect_granted(&r, 2); /* before one that came earlier, with the higher priority */
    expect_nothing(&r, 1);
    settle(&r, 2, 1);
    expect_granted(&r, 1);
    tr_node_free(r.node);
}

static void call_in_the_middle_of_its_answer_has_its_deadline(void) {
    rig r;
    up(&r, 1, 1);
    reserve(&r, 0);
    expect_granted(&r, 0);
    reserve_mid_answer(&r, 1, 100);
    puppet_wait_us(r.node, 100000);
    settle(&r, 0, 1);
    expect_fail(&r, 1, TR_ERR_TIMEOUT);
    expect_status(&r, "\"used\":0,\"at_once\":1,\"waiting\":0");
    tr_node_free(r.node);
}

static void waiter_whose_time_has_passed_is_passed_over(void) {
    rig r;
    up(&r, 1, 10);
    reserve(&r, 0);
    expect_granted(&r, 0);
    reserve_as(&r, 1, 1, 0, 100);
    reserve_as(&r, 2, 1, 0, 60000);
    puppet_wait_us(r.node, 100000);
    settle(&r, 0, 1);
    expect_fail(&r, 1, TR_ERR_TIMEOUT);
    expect_granted(&r, 2);
    expect_status(&r, "\"used\":1,\"at_once\":1,\"waiting\":0");
    tr_node_free(r.node);
}

static void withdrawn_waiter_is_not_granted(void) {
    rig r;
    up(&r, 1, 10);
    reserve(&r, 0);
    reserve(&r, 1);
    reserve(&r, 2);
    settle(&r, 1, 1);
    settle(&r, 0, 1);
    expect_granted(&r, 0);
    expect_nothing(&r, 1);
    expect_granted(&r, 2);
    tr_node_free(r.node);
}

static void absent_provider_fails_the_waiter_and_keeps_no_slot(void) {
    rig r;
    up(&r, 1, 10);
    stand_in_crash(&r.provider1);
    reserve(&r, 1);
    expect_fail(&r, 1, TR_ERR_SERVER);
    reserve(&r, 0);
    expect_granted(&r, 0);
    tr_node_free(r.node);
}

static void second_reservation_of_one_name_changes_nothing(void) {
    rig r;
    up(&r, 3, 10);
    reserve_as(&r, 0, 1, 0, 60000);
    reserve_as(&r, 0, 1, 0, 60000);
    reserve_as(&r, 0, 2, 0, 60000);
    expect_granted(&r, 0);
    expect_granted(&r, 0);
    expect_nothing(&r, 0);
    expect_status(&r, "\"used\":2");
    stand_in_crash(&r.calls[0]);
    expect_status(&r, "\"used\":0");
    tr_node_free(r.node);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(slots_are_granted_and_given_back),
        PUPPET_TEST(death_of_a_call_gives_its_slot_back),
        PUPPET_TEST(line_goes_by_priority_and_then_by_coming),
        PUPPET_TEST(full_line_refuses),
        PUPPET_TEST(full_line_makes_room_of_the_late),
        PUPPET_TEST(call_in_the_middle_of_its_answer_goes_first_and_is_never_refused),
        PUPPET_TEST(call_in_the_middle_of_its_answer_has_its_deadline),
        PUPPET_TEST(waiter_whose_time_has_passed_is_passed_over),
        PUPPET_TEST(withdrawn_waiter_is_not_granted),
        PUPPET_TEST(absent_provider_fails_the_waiter_and_keeps_no_slot),
        PUPPET_TEST(second_reservation_of_one_name_changes_nothing),
    };
    return puppet_main("limiter", tests, sizeof tests / sizeof *tests);
}
