/* A request that may be made twice: when, where to, who serves, and that the other one leaves
 * nothing behind. The gates and backends are stand-ins, the clock is the test's. */
#include <CUnit/Basic.h>

#include "actors/hedge.h"
#include "tests/unit/actors/call_rig.h"

#define LATE_MS 200U

typedef struct hedge_rig {
    call_rig call; /* its gate and backend serve "tiny" */
    stand_in cloud, far;
    tr_id hedge;
} hedge_rig;

static void up(hedge_rig *r) {
    rig_up(&r->call, 1);
    stand_in_start(&r->cloud, r->call.node, 0, "limiter:openai");
    stand_in_start(&r->far, r->call.node, 0, NULL);
}

static void down(hedge_rig *r) {
    stand_in_clear(&r->call.door);
    rig_down(&r->call);
}

/* Answers to `name` began so late. */
static void learn(hedge_rig *r, const char *name) {
    tr_stats *stats = tr_services_hedging(r->call.services);
    uint32_t row = tr_stats_row(stats, name, true);
    for (uint32_t i = 0; i < TR_STATS_LATE_SEEN_min; i++) {
        tr_stats_first_came(stats, row, LATE_MS * 1000);
    }
}

static void spawn(tr_self *self, void *arg) {
    hedge_rig *r = arg;
    tr_call_args args = {.services = r->call.services};
    tr_spawn_spec spec = {.behaviour = &tr_hedge, .args = &args, .args_size = sizeof args};
    CU_ASSERT_EQUAL_FATAL(tr_services_enter(r->call.services), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_spawn(self, &spec, &r->hedge), TR_OK);
}

static void begin(hedge_rig *r, const char *target) {
    tr_msg *submit = rig_submit(target, 10, 50000);
    tr_submit *head = (tr_submit *)(void *)submit->data;
    head->flags = TR_SUBMIT_HEDGE;
    head->attempts = 0;
    stand_in_do(&r->call.door, spawn, r);
    stand_in_monitor(&r->call.door, r->hedge);
    stand_in_send(&r->call.door, r->hedge, submit, DOOR_REF);
}

typedef struct attempt {
    tr_id call;
    uint64_t ref;
    uint8_t flags;
} attempt;

/* `gate` is asked and grants `backend`. */
static attempt grant(stand_in *gate, stand_in *backend) {
    tr_msg *msg = stand_in_expect(gate, TR_KIND_RESERVE);
    attempt a = {msg->from, msg->ref, ((const tr_reserve *)(const void *)msg->data)->flags};
    tr_msg_free(msg);
    stand_in_send(gate, a.call, rig_granted(backend), a.ref);
    return a;
}

/* The backend is asked then. */
static attempt admit(stand_in *gate, stand_in *backend) {
    attempt a = grant(gate, backend);
    tr_msg *msg = stand_in_expect(backend, TR_KIND_SUBMIT);
    CU_ASSERT_EQUAL(((const tr_submit *)(const void *)msg->data)->credit_messages, 10);
    tr_msg_free(msg);
    return a;
}

static void wait_ms(hedge_rig *r, uint64_t ms) {
    puppet_wait_us(r->call.node, ms * 1000);
}

/* The attempt was given up: its backend got CANCEL, its gate SETTLE. */
static void expect_dropped(stand_in *gate, stand_in *backend) {
    tr_msg_free(stand_in_expect(backend, TR_KIND_CANCEL));
    tr_msg *settle = stand_in_expect(gate, TR_KIND_SETTLE);
    CU_ASSERT_EQUAL(((const tr_settle *)(const void *)settle->data)->err, TR_ERR_CANCELLED);
    tr_msg_free(settle);
}

static void expect_delta(hedge_rig *r, uint32_t seq) {
    tr_msg *delta = stand_in_expect(&r->call.door, TR_KIND_DELTA);
    CU_ASSERT_EQUAL(delta->ref, DOOR_REF);
    CU_ASSERT_EQUAL(((const tr_delta *)(const void *)delta->data)->seq, seq);
    tr_msg_free(delta);
}

/* DONE with `attempts` and `flags`, then the end of everything. */
static void expect_done(hedge_rig *r, uint16_t attempts, uint8_t flags) {
    tr_msg *msg = stand_in_expect(&r->call.door, TR_KIND_DONE);
    const tr_done *done = (const tr_done *)(const void *)msg->data;
    CU_ASSERT_EQUAL(msg->ref, DOOR_REF);
    CU_ASSERT_EQUAL(done->attempts, attempts);
    CU_ASSERT_EQUAL(done->flags, flags);
    tr_msg_free(msg);
    tr_msg_free(stand_in_expect(&r->call.door, TR_KIND_DOWN));
    CU_ASSERT_EQUAL(stand_in_count(&r->call.door), 0);
    CU_ASSERT_EQUAL(tr_services_running(r->call.services), 0);
}

static tr_msg *failure(tr_err err) {
    tr_fail head = {.err = (uint16_t)err};
    return tr_msg_fail(&head, &(tr_end_view){.message = {"no", 2}});
}

static void unknown_first_tokens_are_waited_for_without_end(void) {
    hedge_rig r;
    up(&r);
    begin(&r, "fast");
    attempt a = admit(&r.cloud, &r.call.backend);
    wait_ms(&r, 900);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
    stand_in_send(&r.call.backend, a.call, rig_delta(0, "a", NULL, 0), a.ref);
    expect_delta(&r, 0);
    stand_in_send(&r.call.backend, a.call, rig_done(), a.ref);
    expect_done(&r, 1, 0);
    CU_ASSERT(tr_stats_row(tr_services_hedging(r.call.services), "/fast", false) > 0);
    down(&r);
}

static void late_first_token_makes_it_a_second_time_at_the_next_target(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/fast");
    begin(&r, "fast");
    attempt a = admit(&r.cloud, &r.call.backend);
    CU_ASSERT_EQUAL(a.flags, 0);
    wait_ms(&r, LATE_MS - 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
    wait_ms(&r, 2);
    attempt b = admit(&r.call.gate, &r.far);
    CU_ASSERT_EQUAL(b.flags, TR_RESERVE_RETRY); /* it costs a retry */
    stand_in_send(&r.far, b.call, rig_delta(0, "b", NULL, 0), b.ref);
    expect_delta(&r, 0);
    expect_dropped(&r.cloud, &r.call.backend);
    stand_in_send(&r.call.backend, a.call, rig_delta(0, "late", NULL, 0), a.ref);
    stand_in_send(&r.far, b.call, rig_delta(1, "c", NULL, 0), b.ref);
    expect_delta(&r, 1);
    stand_in_send(&r.far, b.call, rig_done(), b.ref);
    expect_done(&r, 2, TR_DONE_FALLBACK | TR_DONE_HEDGED);
    down(&r);
}

static void first_that_answers_serves_and_the_second_is_cancelled(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/openai/a");
    begin(&r, "openai/a");
    attempt a = admit(&r.cloud, &r.call.backend);
    wait_ms(&r, LATE_MS + 1);
    attempt b = admit(&r.cloud, &r.far); /* the same target: there is no other */
    CU_ASSERT_NOT_EQUAL(a.call, b.call);
    stand_in_send(&r.call.backend, a.call, rig_delta(0, "a", NULL, 0), a.ref);
    expect_delta(&r, 0);
    expect_dropped(&r.cloud, &r.far);
    stand_in_send(&r.call.backend, a.call, rig_done(), a.ref);
    expect_done(&r, 2, 0);
    down(&r);
}

/* A provider without schemas: the call holds its answer back until it is known to be good. */
static void answer_that_is_held_back_has_begun(void) {
    static const char json[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"response_format\":"
        "{\"type\":\"json_object\"}}";
    static const char *const providers[] = {"openai"};
    static const tr_structured structured[] = {TR_STRUCTURED_INSTRUCT};
    tr_routes_spec spec = {
        .providers = providers,
        .provider_count = 1,
        .structured = structured,
        .limits = {
            .first_token_ms = 1000, .idle_ms = 2000, .total_ms = 60000, .stalled_ms = 10000}};
    hedge_rig r;
    tr_routes *routes = NULL;
    up(&r);
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&spec, &routes), TR_OK);
    tr_services_set_routes(r.call.services, routes);
    learn(&r, "/openai/a");
    tr_body *body = tr_body_new(sizeof json - 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    memcpy(body->bytes, json, sizeof json - 1);
    tr_submit head = {
        .op = TR_OP_CHAT, .flags = TR_SUBMIT_HEDGE, .credit_messages = 10, .credit_bytes = 50000};
    stand_in_do(&r.call.door, spawn, &r);
    stand_in_monitor(&r.call.door, r.hedge);
    stand_in_send(&r.call.door, r.hedge,
                  tr_msg_submit(&head, &(tr_submit_view){.target = {"openai/a", 8}}, body),
                  DOOR_REF);
    attempt a = grant(&r.cloud, &r.call.backend);
    tr_msg_free(stand_in_expect(&r.call.backend, TR_KIND_SUBMIT)); /* with credit of its own */
    stand_in_send(&r.call.backend, a.call, rig_delta(0, "{}", NULL, 0), a.ref);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
    wait_ms(&r, 3 * LATE_MS);
    CU_ASSERT_EQUAL(stand_in_count(&r.cloud), 0); /* nobody asks a second time */
    stand_in_send(&r.call.backend, a.call, rig_done(), a.ref);
    expect_delta(&r, 0);
    expect_done(&r, 1, 0);
    down(&r);
}

static void second_that_fails_is_not_heard_of(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/fast");
    begin(&r, "fast");
    attempt a = admit(&r.cloud, &r.call.backend);
    wait_ms(&r, LATE_MS + 1);
    tr_msg *reserve = stand_in_expect(&r.call.gate, TR_KIND_RESERVE);
    stand_in_send(&r.call.gate, reserve->from, failure(TR_ERR_OVERLOADED), reserve->ref);
    tr_msg_free(reserve);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
    stand_in_send(&r.call.backend, a.call, rig_done(), a.ref);
    expect_done(&r, 2, 0);
    down(&r);
}

static void second_goes_on_when_the_first_fails(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/openai/a");
    begin(&r, "openai/a");
    attempt a = admit(&r.cloud, &r.call.backend);
    wait_ms(&r, LATE_MS + 1);
    attempt b = admit(&r.cloud, &r.far);
    stand_in_send(&r.call.backend, a.call, failure(TR_ERR_AUTH), a.ref);
    tr_msg_free(stand_in_expect(&r.cloud, TR_KIND_SETTLE));
    CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
    stand_in_send(&r.far, b.call, rig_done(), b.ref);
    expect_done(&r, 2, TR_DONE_HEDGED);
    down(&r);
}

static void two_failures_are_told_as_the_first_one(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/openai/a");
    begin(&r, "openai/a");
    attempt a = admit(&r.cloud, &r.call.backend);
    wait_ms(&r, LATE_MS + 1);
    attempt b = admit(&r.cloud, &r.far);
    stand_in_send(&r.call.backend, a.call, failure(TR_ERR_AUTH), a.ref);
    stand_in_send(&r.far, b.call, failure(TR_ERR_QUOTA), b.ref);
    rig_expect_end(&r.call, TR_KIND_FAIL, TR_ERR_AUTH);
    down(&r);
}

static void cancel_ends_both_and_is_answered_once(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/fast");
    begin(&r, "fast");
    (void)admit(&r.cloud, &r.call.backend);
    wait_ms(&r, LATE_MS + 1);
    (void)admit(&r.call.gate, &r.far);
    stand_in_send(&r.call.door, r.hedge, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    expect_dropped(&r.cloud, &r.call.backend);
    expect_dropped(&r.call.gate, &r.far);
    rig_expect_end(&r.call, TR_KIND_FAIL, TR_ERR_CANCELLED);
    down(&r);
}

static void cancel_after_the_first_failed_is_answered_as_a_cancel(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/openai/a");
    begin(&r, "openai/a");
    attempt a = admit(&r.cloud, &r.call.backend);
    wait_ms(&r, LATE_MS + 1);
    (void)admit(&r.cloud, &r.far);
    stand_in_send(&r.call.backend, a.call, failure(TR_ERR_AUTH), a.ref);
    tr_msg_free(stand_in_expect(&r.cloud, TR_KIND_SETTLE));
    stand_in_send(&r.call.door, r.hedge, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    expect_dropped(&r.cloud, &r.far);
    rig_expect_end(&r.call, TR_KIND_FAIL, TR_ERR_CANCELLED);
    down(&r);
}

static void credit_that_came_before_is_the_seconds_too(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/fast");
    begin(&r, "fast");
    attempt a = admit(&r.cloud, &r.call.backend);
    stand_in_send(&r.call.door, r.hedge, tr_msg_credit(5, 1000), DOOR_REF);
    tr_msg *credit = stand_in_expect(&r.call.backend, TR_KIND_CREDIT);
    CU_ASSERT_EQUAL(credit->ref, a.ref);
    tr_msg_free(credit);
    wait_ms(&r, LATE_MS + 1);
    attempt b = grant(&r.call.gate, &r.far);
    tr_msg *submit = stand_in_expect(&r.far, TR_KIND_SUBMIT);
    const tr_submit *head = (const tr_submit *)(const void *)submit->data;
    CU_ASSERT_EQUAL(head->credit_messages, 15);
    CU_ASSERT_EQUAL(head->credit_bytes, 51000);
    CU_ASSERT(head->total_ms < 60000 && head->total_ms > 59000);
    stand_in_send(&r.far, b.call, rig_done(), submit->ref);
    tr_msg_free(submit);
    expect_done(&r, 2, TR_DONE_FALLBACK | TR_DONE_HEDGED);
    down(&r);
}

static void call_that_crashes_is_a_failure_of_its_own(void) {
    hedge_rig r;
    up(&r);
    begin(&r, "fast");
    attempt a = admit(&r.cloud, &r.call.backend);
    stand_in_send(&r.call.backend, a.call, puppet_msg(TR_KIND_EXIT, 0), 0);
    rig_expect_end(&r.call, TR_KIND_FAIL, TR_ERR_CRASHED);
    down(&r);
}

static void door_that_ends_the_hedge_leaves_nothing(void) {
    hedge_rig r;
    up(&r);
    learn(&r, "/fast");
    begin(&r, "fast");
    (void)admit(&r.cloud, &r.call.backend);
    wait_ms(&r, LATE_MS + 1);
    (void)admit(&r.call.gate, &r.far);
    stand_in_send(&r.call.door, r.hedge, puppet_msg(TR_KIND_EXIT, 0), 0);
    expect_dropped(&r.cloud, &r.call.backend);
    expect_dropped(&r.call.gate, &r.far);
    CU_ASSERT_EQUAL(tr_services_running(r.call.services), 0);
    down(&r);
}

static void late_is_what_five_of_a_hundred_are(void) {
    tr_stats *stats = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_stats_new(&stats), TR_OK);
    uint32_t row = tr_stats_row(stats, "x", true);
    CU_ASSERT_EQUAL(tr_stats_late_us(stats, row), 0);
    uint64_t state = 1;
    uint32_t late = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        uint64_t us = 100000 + (state >> 33) % 100000; /* 100 to 200 ms, evenly */
        late += i >= 10000 && us > tr_stats_late_us(stats, row);
        tr_stats_first_came(stats, row, us);
    }
    CU_ASSERT(late > 300 && late < 800); /* of 10,000: about 500 */
    tr_stats_free(stats);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(unknown_first_tokens_are_waited_for_without_end),
        PUPPET_TEST(late_first_token_makes_it_a_second_time_at_the_next_target),
        PUPPET_TEST(first_that_answers_serves_and_the_second_is_cancelled),
        PUPPET_TEST(answer_that_is_held_back_has_begun),
        PUPPET_TEST(second_that_fails_is_not_heard_of),
        PUPPET_TEST(second_goes_on_when_the_first_fails),
        PUPPET_TEST(two_failures_are_told_as_the_first_one),
        PUPPET_TEST(cancel_ends_both_and_is_answered_once),
        PUPPET_TEST(cancel_after_the_first_failed_is_answered_as_a_cancel),
        PUPPET_TEST(credit_that_came_before_is_the_seconds_too),
        PUPPET_TEST(call_that_crashes_is_a_failure_of_its_own),
        PUPPET_TEST(door_that_ends_the_hedge_leaves_nothing),
        PUPPET_TEST(late_is_what_five_of_a_hundred_are),
    };
    return puppet_main("hedge", tests, sizeof tests / sizeof *tests);
}
