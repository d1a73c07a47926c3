/* A failed attempt: when another follows, where it goes, and what the client hears in the end. The
 * puppets' random number is 4, so that every pause is 4 ms, or the hint and 4 ms. */
#include <CUnit/Basic.h>
#include <stdio.h>

#include "tests/unit/actors/call_rig.h"

typedef struct retry_rig {
    call_rig call;
    stand_in cloud, big; /* more gates */
} retry_rig;

static void up(retry_rig *r, uint32_t shards) {
    rig_up(&r->call, shards);
    stand_in_start(&r->cloud, r->call.node, shards - 1, "limiter:openai");
    stand_in_start(&r->big, r->call.node, 0, "pool:big");
}

static void down(retry_rig *r) {
    stand_in_clear(&r->call.door);
    rig_down(&r->call);
}

/* `attempts` 0 = the default, three. */
static void begin(retry_rig *r, const char *target, uint16_t attempts) {
    tr_msg *submit = rig_submit(target, 10, 50000);
    ((tr_submit *)(void *)submit->data)->attempts = attempts;
    stand_in_do(&r->call.door, rig_spawn, &r->call);
    stand_in_monitor(&r->call.door, r->call.call);
    stand_in_send(&r->call.door, r->call.call, submit, DOOR_REF);
}

static tr_msg *failure(tr_err err, uint16_t flags, uint32_t hint_ms) {
    tr_fail head = {.err = (uint16_t)err, .flags = flags, .retry_after_ms = hint_ms, .status = 503};
    static const char said[] = "so it said";
    tr_end_view view = {.message = {said, sizeof said - 1}, .request_id = {"r9", 2}};
    return tr_msg_fail(&head, &view);
}

/* `gate` was asked by attempt `ref` and grants the rig's backend. Its SUBMIT is returned. */
static tr_msg *admit(retry_rig *r, stand_in *gate, uint64_t ref, const char *model, bool retry) {
    tr_msg *msg = stand_in_expect(gate, TR_KIND_RESERVE);
    const tr_reserve *reserve = (const tr_reserve *)(const void *)msg->data;
    CU_ASSERT_EQUAL(msg->ref, ref);
    CU_ASSERT_EQUAL(reserve->flags, retry ? TR_RESERVE_RETRY : 0);
    CU_ASSERT_EQUAL(reserve->resumes, 0);
    CU_ASSERT_EQUAL_FATAL(reserve->model_size, strlen(model));
    CU_ASSERT_EQUAL(memcmp(reserve + 1, model, strlen(model)), 0);
    tr_msg_free(msg);
    stand_in_send(gate, r->call.call, rig_granted(&r->call.backend), ref);
    return stand_in_expect(&r->call.backend, TR_KIND_SUBMIT);
}

static void settled(stand_in *gate, uint64_t ref, tr_err err) {
    tr_msg *msg = stand_in_expect(gate, TR_KIND_SETTLE);
    CU_ASSERT_EQUAL(msg->ref, ref);
    CU_ASSERT_EQUAL(((const tr_settle *)(const void *)msg->data)->err, err);
    tr_msg_free(msg);
}

/* Attempt `ref` is granted by `gate` and fails. */
static void fails_with(retry_rig *r, stand_in *gate, uint64_t ref, const char *model, bool retry,
                       tr_msg *fail) {
    tr_err err = (tr_err)((const tr_fail *)(const void *)fail->data)->err;
    tr_msg_free(admit(r, gate, ref, model, retry));
    stand_in_send(&r->call.backend, r->call.call, fail, ref);
    settled(gate, ref, err);
    CU_ASSERT_EQUAL(stand_in_count(&r->call.backend), 0);
}

static void wait_ms(retry_rig *r, uint64_t ms) {
    puppet_wait_us(r->call.node, ms * 1000);
}

static bool holds(tr_str text, const char *word) {
    for (size_t i = 0; i + strlen(word) <= text.size; i++) {
        if (memcmp(text.ptr + i, word, strlen(word)) == 0) {
            return true;
        }
    }
    return false;
}

/* The one terminal is a FAIL; it is checked and freed. */
static void failed(retry_rig *r, tr_err err, uint16_t attempts, const char *target,
                   const char *words) {
    const tr_msg *msg = r->call.door.head;
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    CU_ASSERT_EQUAL_FATAL(msg->kind, TR_KIND_FAIL);
    const tr_fail *fail = (const tr_fail *)(const void *)msg->data;
    tr_end_view view = tr_fail_read(fail);
    CU_ASSERT_EQUAL(fail->attempts, attempts);
    CU_ASSERT(view.target.size == strlen(target) && holds(view.target, target));
    CU_ASSERT(holds(view.message, words));
    CU_ASSERT_EQUAL(tr_wire_check(msg->kind, msg->data, msg->size), TR_OK);
    rig_expect_end(&r->call, TR_KIND_FAIL, err);
}

static void served(retry_rig *r, uint64_t ref, uint16_t attempts, const char *target,
                   bool fallback) {
    stand_in_send(&r->call.backend, r->call.call, rig_delta(0, "a", NULL, 0), ref);
    stand_in_send(&r->call.backend, r->call.call, rig_done(), ref);
    tr_msg_free(stand_in_expect(&r->call.door, TR_KIND_DELTA));
    const tr_msg *msg = r->call.door.head;
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    CU_ASSERT_EQUAL_FATAL(msg->kind, TR_KIND_DONE);
    const tr_done *done = (const tr_done *)(const void *)msg->data;
    CU_ASSERT_EQUAL(done->attempts, attempts);
    CU_ASSERT_EQUAL(done->flags, fallback ? TR_DONE_FALLBACK : 0);
    CU_ASSERT(holds(tr_done_read(done).target, target));
    rig_expect_end(&r->call, TR_KIND_DONE, TR_OK);
}

/* ---- the same target again ---- */

static void failed_attempt_is_followed_by_another_after_a_pause(void) {
    for (uint32_t shards = 1; shards <= 2; shards++) {
        retry_rig r;
        up(&r, shards);
        begin(&r, "tiny", 0);
        fails_with(&r, &r.call.gate, 1, "tiny", false, failure(TR_ERR_OVERLOADED, 0, 0));
        wait_ms(&r, 3);
        CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
        CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
        wait_ms(&r, 1);
        tr_msg_free(admit(&r, &r.call.gate, 2, "tiny", true));
        served(&r, 2, 2, "local/tiny", false);
        down(&r);
    }
}

static void attempts_are_as_many_as_asked_and_the_last_failure_is_the_answer(void) {
    static const uint16_t asked[] = {0, 1, 2, 5};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        retry_rig r;
        up(&r, 1);
        begin(&r, "tiny", asked[i]);
        uint16_t all = asked[i] > 0 ? asked[i] : 3;
        for (uint16_t n = 1; n <= all; n++) {
            fails_with(&r, &r.call.gate, n, "tiny", n > 1, failure(TR_ERR_SERVER, 0, 0));
            wait_ms(&r, 4);
        }
        static const char *const words[] = {[1] = "so it said",
                                            [2] = "so it said (after 2 attempts)",
                                            [3] = "so it said (after 3 attempts)",
                                            [5] = "so it said (after 5 attempts)"};
        failed(&r, TR_ERR_SERVER, all, "local/tiny", words[all]);
        CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
        down(&r);
    }
}

static void hint_is_the_least_pause(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false,
               failure(TR_ERR_RATE_LIMIT, TR_FAIL_RETRY_AFTER, 1500));
    wait_ms(&r, 1503);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
    wait_ms(&r, 1);
    tr_msg_free(admit(&r, &r.call.gate, 2, "tiny", true));
    served(&r, 2, 2, "local/tiny", false);
    down(&r);
}

static void hint_beyond_the_deadline_or_two_minutes_fails_at_once_with_it(void) {
    static const uint32_t hints[] = {60000, 120001, 86400000};
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        retry_rig r;
        up(&r, 1);
        begin(&r, "tiny", 0);
        fails_with(&r, &r.call.gate, 1, "tiny", false,
                   failure(TR_ERR_RATE_LIMIT, TR_FAIL_RETRY_AFTER, hints[i]));
        CU_ASSERT_PTR_NOT_NULL_FATAL(r.call.door.head);
        const tr_fail *fail = (const tr_fail *)(const void *)r.call.door.head->data;
        CU_ASSERT_EQUAL(fail->flags, TR_FAIL_RETRY_AFTER);
        CU_ASSERT_EQUAL(fail->retry_after_ms, hints[i]);
        CU_ASSERT_EQUAL(fail->status, 503);
        CU_ASSERT(holds(tr_fail_read(fail).request_id, "r9"));
        failed(&r, TR_ERR_RATE_LIMIT, 1, "local/tiny", "so it said");
        down(&r);
    }
}

static void quota_key_and_request_are_never_tried_again(void) {
    static const tr_err errs[] = {TR_ERR_QUOTA,    TR_ERR_AUTH,           TR_ERR_INVALID,
                                  TR_ERR_FILTERED, TR_ERR_CONTEXT_LENGTH, TR_ERR_NOT_FOUND,
                                  TR_ERR_SHUTDOWN};
    for (size_t i = 0; i < sizeof errs / sizeof *errs; i++) {
        retry_rig r;
        up(&r, 1);
        begin(&r, "tiny", 0);
        fails_with(&r, &r.call.gate, 1, "tiny", false, failure(errs[i], 0, 0));
        failed(&r, errs[i], 1, "local/tiny", "so it said");
        down(&r);
    }
}

static void word_of_the_server_decides(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false, failure(TR_ERR_SERVER, TR_FAIL_RETRY_NO, 0));
    failed(&r, TR_ERR_SERVER, 1, "local/tiny", "so it said");
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false, failure(TR_ERR_NOT_FOUND, TR_FAIL_RETRY_YES, 0));
    wait_ms(&r, 4);
    tr_msg_free(admit(&r, &r.call.gate, 2, "tiny", true));
    served(&r, 2, 2, "local/tiny", false);
    down(&r);
}

static void nothing_is_tried_again_after_the_first_delta(void) {
    static const char *const targets[] = {"tiny", "local"};
    for (size_t i = 0; i < 2; i++) {
        retry_rig r;
        up(&r, 1);
        begin(&r, targets[i], 0);
        tr_msg_free(admit(&r, &r.call.gate, 1, "tiny", false));
        stand_in_send(&r.call.backend, r.call.call, rig_delta(0, "a", NULL, 0), 1);
        tr_msg_free(stand_in_expect(&r.call.door, TR_KIND_DELTA));
        stand_in_send(&r.call.backend, r.call.call, failure(TR_ERR_SERVER, 0, 0), 1);
        failed(&r, TR_ERR_SERVER, 1, "local/tiny", "so it said");
        CU_ASSERT_EQUAL(stand_in_count(&r.cloud), 0);
        down(&r);
    }
}

static void refused_retry_reports_the_failure_before_it(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false,
               failure(TR_ERR_RATE_LIMIT, TR_FAIL_RETRY_AFTER, 100));
    wait_ms(&r, 104);
    tr_msg_free(stand_in_expect(&r.call.gate, TR_KIND_RESERVE));
    stand_in_send(&r.call.gate, r.call.call,
                  tr_msg_failf(TR_ERR_OVERLOADED, "retry budget used up"), 2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r.call.door.head);
    const tr_fail *fail = (const tr_fail *)(const void *)r.call.door.head->data;
    CU_ASSERT_EQUAL(fail->retry_after_ms, 100);
    CU_ASSERT(holds(tr_fail_read(fail).request_id, "r9"));
    failed(&r, TR_ERR_RATE_LIMIT, 1, "local/tiny",
           "so it said; no further attempt: retry budget used up");
    CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
    down(&r);
}

/* ---- in the pause ---- */

static void cancel_in_the_pause_ends_at_once_and_nothing_is_held(void) {
    retry_rig r;
    up(&r, 2);
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false,
               failure(TR_ERR_RATE_LIMIT, TR_FAIL_RETRY_AFTER, 20000));
    stand_in_crash(&r.call.gate); /* which it does not hold */
    stand_in_crash(&r.call.backend);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
    stand_in_send(&r.call.door, r.call.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    failed(&r, TR_ERR_CANCELLED, 1, "local/tiny", "cancelled");
    down(&r);
}

static void credit_in_the_pause_counts(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false, failure(TR_ERR_SERVER, 0, 0));
    stand_in_send(&r.call.door, r.call.call, tr_msg_credit(7, 2000), DOOR_REF);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0); /* and does not shorten it */
    wait_ms(&r, 4);
    tr_msg *submit = admit(&r, &r.call.gate, 2, "tiny", true);
    const tr_submit *head = (const tr_submit *)(const void *)submit->data;
    CU_ASSERT_EQUAL(head->credit_messages, 17);
    CU_ASSERT_EQUAL(head->credit_bytes, 52000);
    CU_ASSERT_EQUAL(head->resume_count, 0);
    tr_msg_free(submit);
    served(&r, 2, 2, "local/tiny", false);
    down(&r);
}

static void what_a_failed_attempt_still_says_is_dropped(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false, failure(TR_ERR_SERVER, 0, 0));
    stand_in_send(&r.call.backend, r.call.call, rig_delta(0, "late", NULL, 0), 1);
    stand_in_send(&r.call.backend, r.call.call, rig_done(), 1);
    stand_in_send(&r.call.gate, r.call.call, tr_msg_failf(TR_ERR_OVERLOADED, "late"), 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
    wait_ms(&r, 4);
    tr_msg_free(admit(&r, &r.call.gate, 2, "tiny", true));
    stand_in_send(&r.call.backend, r.call.call, rig_done(), 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
    served(&r, 2, 2, "local/tiny", false);
    down(&r);
}

static void total_limit_runs_over_all_attempts_and_tells_what_failed(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false,
               failure(TR_ERR_RATE_LIMIT, TR_FAIL_RETRY_AFTER, 58000));
    wait_ms(&r, 58004);
    tr_msg *msg = stand_in_expect(&r.call.gate, TR_KIND_RESERVE);
    CU_ASSERT_EQUAL(((const tr_reserve *)(const void *)msg->data)->remaining_ms, 60000 - 58004);
    tr_msg_free(msg);
    wait_ms(&r, 1995);
    CU_ASSERT_EQUAL(stand_in_count(&r.call.door), 0);
    wait_ms(&r, 1);
    failed(
        &r, TR_ERR_TIMEOUT, 1, "local/tiny",
        "local/tiny waited 1996 ms for a free place at its model (troupe models): the answer was "
        "not complete within the total limit of 60000 ms; before, an attempt failed: so it said");
    settled(&r.call.gate, 2, TR_ERR_TIMEOUT);
    down(&r);
}

static void who_was_never_let_in_is_told_what_it_waited_for(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "openai/a", 0);
    tr_msg_free(stand_in_expect(&r.cloud, TR_KIND_RESERVE));
    wait_ms(&r, 60000);
    failed(&r, TR_ERR_TIMEOUT, 0, "openai/a",
           "openai/a waited 60000 ms at the limits of provider openai (troupe limit openai): the "
           "answer was not complete within the total limit of 60000 ms");
    settled(&r.cloud, 1, TR_ERR_TIMEOUT);
    down(&r);
}

static void first_token_limit_is_an_attempts(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 2);
    for (uint64_t n = 1; n <= 2; n++) {
        tr_msg_free(admit(&r, &r.call.gate, n, "tiny", n > 1));
        wait_ms(&r, 999);
        CU_ASSERT_EQUAL(stand_in_count(&r.call.backend), 0);
        wait_ms(&r, 1);
        tr_msg *cancel = stand_in_expect(&r.call.backend, TR_KIND_CANCEL);
        CU_ASSERT_EQUAL(cancel->ref, n);
        tr_msg_free(cancel);
        settled(&r.call.gate, n, TR_ERR_TIMEOUT);
        wait_ms(&r, 4);
    }
    failed(&r, TR_ERR_TIMEOUT, 2, "local/tiny",
           "no first token came within 1000 ms (a long prompt takes a local model long to read: "
           "raise timeouts.first_token in the configuration, or the request's first_token_ms)");
    down(&r);
}

/* ---- another target ---- */

static void next_target_is_asked_at_once_and_named(void) {
    static const tr_err errs[] = {TR_ERR_AUTH,       TR_ERR_QUOTA,      TR_ERR_NOT_FOUND,
                                  TR_ERR_RATE_LIMIT, TR_ERR_OVERLOADED, TR_ERR_TIMEOUT,
                                  TR_ERR_CONNECT,    TR_ERR_SERVER};
    for (size_t i = 0; i < sizeof errs / sizeof *errs; i++) {
        retry_rig r;
        up(&r, 2);
        begin(&r, "fast", 0);
        fails_with(&r, &r.cloud, 1, "a", false, failure(errs[i], TR_FAIL_RETRY_AFTER, 500000));
        tr_msg_free(admit(&r, &r.call.gate, 2, "tiny", false));
        served(&r, 2, 2, "local/tiny", true);
        down(&r);
    }
}

static void fault_of_the_request_goes_to_no_other_target(void) {
    static const tr_err errs[] = {TR_ERR_INVALID, TR_ERR_UNSUPPORTED, TR_ERR_FILTERED,
                                  TR_ERR_TOO_LARGE};
    for (size_t i = 0; i < sizeof errs / sizeof *errs; i++) {
        retry_rig r;
        up(&r, 1);
        begin(&r, "fast", 0);
        fails_with(&r, &r.cloud, 1, "a", false, failure(errs[i], 0, 0));
        failed(&r, errs[i], 1, "openai/a", "so it said");
        CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
        down(&r);
    }
}

static void last_target_is_asked_again_while_attempts_are_left(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "fast", 0);
    fails_with(&r, &r.cloud, 1, "a", false, failure(TR_ERR_SERVER, 0, 0));
    fails_with(&r, &r.call.gate, 2, "tiny", false, failure(TR_ERR_SERVER, 0, 0));
    CU_ASSERT_EQUAL(stand_in_count(&r.call.gate), 0);
    wait_ms(&r, 4);
    fails_with(&r, &r.call.gate, 3, "tiny", true, failure(TR_ERR_SERVER, 0, 0));
    failed(&r, TR_ERR_SERVER, 3, "local/tiny", "so it said");
    CU_ASSERT_EQUAL(stand_in_count(&r.cloud), 0);
    down(&r);
}

static void long_prompt_goes_only_where_more_is_said_to_fit(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "longer", 0);
    fails_with(&r, &r.call.gate, 1, "tiny", false, failure(TR_ERR_CONTEXT_LENGTH, 0, 0));
    CU_ASSERT_EQUAL(stand_in_count(&r.cloud), 0); /* nobody knows how much fits there */
    tr_msg_free(admit(&r, &r.big, 2, "big", false));
    served(&r, 2, 2, "local/big", true);
    stand_in_clear(&r.big);
    begin(&r, "shorter", 0);
    fails_with(&r, &r.big, 1, "big", false, failure(TR_ERR_CONTEXT_LENGTH, 0, 0));
    failed(&r, TR_ERR_CONTEXT_LENGTH, 1, "local/big", "so it said");
    begin(&r, "fast", 0);
    fails_with(&r, &r.cloud, 1, "a", false, failure(TR_ERR_CONTEXT_LENGTH, 0, 0));
    failed(&r, TR_ERR_CONTEXT_LENGTH, 1, "openai/a", "so it said");
    down(&r);
}

static void refusing_gate_leads_to_the_next_target_and_is_no_attempt(void) {
    for (int gone = 0; gone < 2; gone++) {
        retry_rig r;
        up(&r, 1);
        if (gone == 1) {
            stand_in_crash(&r.cloud);
        }
        begin(&r, "fast", 1);
        if (gone == 0) {
            tr_msg_free(stand_in_expect(&r.cloud, TR_KIND_RESERVE));
            stand_in_send(&r.cloud, r.call.call, tr_msg_failf(TR_ERR_OVERLOADED, "broken"), 1);
        }
        tr_msg_free(admit(&r, &r.call.gate, 2, "tiny", false));
        served(&r, 2, 1, "local/tiny", true);
        down(&r);
    }
}

static void when_the_next_gate_refuses_too_the_first_trouble_is_told(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "fast", 0);
    fails_with(&r, &r.cloud, 1, "a", false, failure(TR_ERR_AUTH, 0, 0));
    tr_msg_free(stand_in_expect(&r.call.gate, TR_KIND_RESERVE));
    stand_in_send(&r.call.gate, r.call.call, tr_msg_failf(TR_ERR_NOT_FOUND, "no file"), 2);
    failed(&r, TR_ERR_AUTH, 1, "openai/a", "so it said; no further attempt: no file");
    begin(&r, "fast", 0);
    tr_msg_free(stand_in_expect(&r.cloud, TR_KIND_RESERVE));
    stand_in_send(&r.cloud, r.call.call, tr_msg_failf(TR_ERR_OVERLOADED, "broken"), 1);
    stand_in_clear(&r.call.gate);
    stand_in_send(&r.call.gate, r.call.call, tr_msg_failf(TR_ERR_OVERLOADED, "full"), 2);
    failed(&r, TR_ERR_OVERLOADED, 0, "openai/a", "broken; no further attempt: full");
    down(&r);
}

/* Only a gate that granted once is waited for: another target's never has. */
static void gate_of_the_next_target_is_not_waited_for(void) {
    retry_rig r;
    up(&r, 1);
    stand_in_crash(&r.call.gate);
    begin(&r, "fast", 0);
    fails_with(&r, &r.cloud, 1, "a", false, failure(TR_ERR_AUTH, 0, 0));
    failed(&r, TR_ERR_AUTH, 1, "openai/a", "being restarted");
    down(&r);
}

static void base_url_has_one_target(void) {
    retry_rig r;
    up(&r, 1);
    tr_body *body = tr_body_new(0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 1, .credit_bytes = 50000};
    tr_submit_view view = {.target = {"fast", 4}, .base_url = {"http://h/v1", 11}};
    stand_in_do(&r.call.door, rig_spawn, &r.call);
    stand_in_monitor(&r.call.door, r.call.call);
    stand_in_send(&r.call.door, r.call.call, tr_msg_submit(&head, &view, body), DOOR_REF);
    fails_with(&r, &r.cloud, 1, "a", false, failure(TR_ERR_AUTH, 0, 0));
    failed(&r, TR_ERR_AUTH, 1, "openai/a", "so it said");
    down(&r);
}

static void request_that_kills_workers_goes_to_the_next_target(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "local", 0);
    for (uint64_t n = 1; n <= TR_RESUMES_WITHOUT_TOKEN_max; n++) {
        tr_msg *reserve = stand_in_expect(&r.call.gate, TR_KIND_RESERVE);
        CU_ASSERT_EQUAL(((const tr_reserve *)(const void *)reserve->data)->flags, 0);
        tr_msg_free(reserve);
        stand_in_send(&r.call.gate, r.call.call, rig_granted(&r.call.backend), n);
        tr_msg_free(stand_in_expect(&r.call.backend, TR_KIND_SUBMIT));
        tr_fail head = {.err = TR_ERR_CRASHED, .flags = TR_FAIL_RESUMABLE};
        stand_in_send(&r.call.backend, r.call.call, tr_msg_fail(&head, &(tr_end_view){0}), n);
        settled(&r.call.gate, n, TR_ERR_CRASHED);
    }
    tr_msg *reserve = stand_in_expect(&r.cloud, TR_KIND_RESERVE);
    CU_ASSERT_EQUAL(((const tr_reserve *)(const void *)reserve->data)->avoid, TR_ID_NONE);
    tr_msg_free(reserve);
    stand_in_send(&r.call.door, r.call.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    failed(&r, TR_ERR_CANCELLED, 3, "openai/a", "cancelled");
    down(&r);
}

static void least_busy_target_is_asked_first(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "spread", 0);
    tr_msg_free(admit(&r, &r.cloud, 1, "a", false));
    tr_id first = r.call.call;
    begin(&r, "spread", 0);
    tr_msg_free(admit(&r, &r.cloud, 1, "b", false)); /* a has one */
    stand_in_send(&r.call.door, first, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    stand_in_clear(&r.cloud);
    stand_in_clear(&r.call.backend);
    stand_in_clear(&r.call.door);
    tr_id second = r.call.call;
    begin(&r, "spread", 0);
    tr_msg_free(admit(&r, &r.cloud, 1, "a", false)); /* b has one, a none any more */
    stand_in_send(&r.call.door, second, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    stand_in_send(&r.call.door, r.call.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
    down(&r);
}

/* ---- scarce memory ---- */

static void any_failed_allocation_in_a_retry_ends_in_one_way(void) {
    for (size_t n = 1; n < 30; n++) {
        retry_rig r;
        up(&r, 1);
        begin(&r, "fast", 0);
        tr_msg_free(admit(&r, &r.cloud, 1, "a", false));
        tr_msg *fail = failure(TR_ERR_SERVER, 0, 0);
        fail->from = r.call.backend.id;
        fail->ref = 1;
        tr_post(r.call.node, r.call.call, fail);
        stand_in_fail_at = n;
        stand_in_fail_on = n % 2 == 0;
        puppet_run(r.call.node);
        stand_in_fail_at = 0;
        puppet_wait_us(r.call.node, 70000000);
        uint32_t terminals = 0, downs = 0;
        for (const tr_msg *at = r.call.door.head; at != NULL; at = at->next) {
            terminals += at->kind == TR_KIND_DONE || at->kind == TR_KIND_FAIL;
            downs += at->kind == TR_KIND_DOWN;
        }
        CU_ASSERT(terminals <= 1);
        CU_ASSERT_EQUAL(downs, 1);
        CU_ASSERT_EQUAL(tr_services_running(r.call.services), 0);
        down(&r);
    }
}

/* As the gate: grants the backend, whose mailbox is full when the call comes to it. */
static void grant_and_overfill(tr_self *self, void *arg) {
    retry_rig *r = arg;
    tr_msg *granted = rig_granted(&r->call.backend);
    granted->ref = 1;
    CU_ASSERT_EQUAL(tr_send(self, r->call.call, &granted), TR_OK);
    tr_err err = TR_OK;
    while (err == TR_OK) {
        tr_msg *msg = rig_submit("tiny", 1, 1);
        err = tr_send(self, r->call.backend.id, &msg);
        tr_msg_free(msg);
    }
    CU_ASSERT_EQUAL(err, TR_ERR_FULL);
}

static void attempt_that_a_full_backend_refuses_has_used_nothing(void) {
    retry_rig r;
    up(&r, 1);
    begin(&r, "tiny", 1);
    tr_msg_free(stand_in_expect(&r.call.gate, TR_KIND_RESERVE));
    stand_in_do(&r.call.gate, grant_and_overfill, &r);
    stand_in_clear(&r.call.backend);
    tr_msg *msg = stand_in_expect(&r.call.gate, TR_KIND_SETTLE);
    CU_ASSERT_EQUAL(((const tr_settle *)(const void *)msg->data)->flags, TR_SETTLE_UNUSED);
    tr_msg_free(msg);
    failed(&r, TR_ERR_OVERLOADED, 1, "local/tiny", "too much to do");
    down(&r);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(failed_attempt_is_followed_by_another_after_a_pause),
        PUPPET_TEST(attempts_are_as_many_as_asked_and_the_last_failure_is_the_answer),
        PUPPET_TEST(hint_is_the_least_pause),
        PUPPET_TEST(hint_beyond_the_deadline_or_two_minutes_fails_at_once_with_it),
        PUPPET_TEST(quota_key_and_request_are_never_tried_again),
        PUPPET_TEST(word_of_the_server_decides),
        PUPPET_TEST(nothing_is_tried_again_after_the_first_delta),
        PUPPET_TEST(refused_retry_reports_the_failure_before_it),
        PUPPET_TEST(cancel_in_the_pause_ends_at_once_and_nothing_is_held),
        PUPPET_TEST(credit_in_the_pause_counts),
        PUPPET_TEST(what_a_failed_attempt_still_says_is_dropped),
        PUPPET_TEST(total_limit_runs_over_all_attempts_and_tells_what_failed),
        PUPPET_TEST(who_was_never_let_in_is_told_what_it_waited_for),
        PUPPET_TEST(first_token_limit_is_an_attempts),
        PUPPET_TEST(next_target_is_asked_at_once_and_named),
        PUPPET_TEST(fault_of_the_request_goes_to_no_other_target),
        PUPPET_TEST(last_target_is_asked_again_while_attempts_are_left),
        PUPPET_TEST(long_prompt_goes_only_where_more_is_said_to_fit),
        PUPPET_TEST(refusing_gate_leads_to_the_next_target_and_is_no_attempt),
        PUPPET_TEST(when_the_next_gate_refuses_too_the_first_trouble_is_told),
        PUPPET_TEST(gate_of_the_next_target_is_not_waited_for),
        PUPPET_TEST(base_url_has_one_target),
        PUPPET_TEST(attempt_that_a_full_backend_refuses_has_used_nothing),
        PUPPET_TEST(request_that_kills_workers_goes_to_the_next_target),
        PUPPET_TEST(least_busy_target_is_asked_first),
        PUPPET_TEST(any_failed_allocation_in_a_retry_ends_in_one_way),
    };
    stand_in_memory();
    return puppet_main("call_retry", tests, sizeof tests / sizeof *tests);
}
