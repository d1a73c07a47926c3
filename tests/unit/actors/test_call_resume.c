/* A backend's death in the middle of a stream: what another gets, and when the request fails. */
#include <CUnit/Basic.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/log.h"
#include "tests/unit/actors/call_rig.h"

static tr_msg *resumable(void) {
    tr_fail head = {.err = TR_ERR_CRASHED, .flags = TR_FAIL_RESUMABLE};
    return tr_msg_fail(&head, &(tr_end_view){0});
}

static uint32_t seq_of(const tr_msg *msg) {
    return ((const tr_delta *)(const void *)msg->data)->seq;
}

/* The next attempt: its RESERVE says which one and whom to avoid. */
static tr_msg *expect_resume(call_rig *r, stand_in *to, uint64_t ref, uint8_t resumes,
                             tr_id avoid) {
    rig_expect_settled(r, ref - 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->gate.head);
    const tr_reserve *reserve = (const tr_reserve *)(const void *)r->gate.head->data;
    CU_ASSERT_EQUAL(r->gate.head->ref, ref);
    CU_ASSERT_EQUAL(reserve->resumes, resumes);
    CU_ASSERT_EQUAL(reserve->avoid, avoid);
    return rig_grant(r, to);
}

/* The last message that the gate got is a RESERVE; whether it claims to go before newcomers. */
static const tr_reserve *expect_mid_answer(const call_rig *r, bool mid_answer) {
    const tr_msg *last = r->gate.head;
    while (last != NULL && last->next != NULL) {
        last = last->next;
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(last);
    CU_ASSERT_EQUAL_FATAL(last->kind, TR_KIND_RESERVE);
    const tr_reserve *reserve = (const tr_reserve *)(const void *)last->data;
    CU_ASSERT_EQUAL(reserve->mid_answer, mid_answer);
    CU_ASSERT_EQUAL((last->flags & TR_MSG_OPENING) == 0, mid_answer);
    return reserve;
}

static void expect_resume_tokens(const tr_msg *submit, const int32_t *ids, uint32_t count) {
    const tr_submit *head = (const tr_submit *)(const void *)submit->data;
    CU_ASSERT_EQUAL_FATAL(head->resume_count, count);
    CU_ASSERT_EQUAL(memcmp(tr_submit_read(head).resume, ids, count * sizeof *ids), 0);
}

static void another_backend_goes_on_from_the_tokens_so_far(void) {
    for (int crash = 0; crash < 2; crash++) {
        call_rig r;
        rig_up(&r, 2);
        rig_begin(&r, "tiny", 100, 200000);
        tr_msg *submit = rig_grant(&r, &r.backend);
        uint32_t seed = ((const tr_submit *)(const void *)submit->data)->seed;
        tr_msg_free(submit);
        stand_in_send(&r.backend, r.call, rig_delta(0, "ab", (int32_t[]){1, 2}, 2), 1);
        stand_in_send(&r.backend, r.call, rig_delta(1, "c", (int32_t[]){3}, 1), 1);
        tr_id dead = r.backend.id;
        if (crash == 1) {
            stand_in_crash(&r.backend);
        } else {
            stand_in_send(&r.backend, r.call, resumable(), 1);
        }
        submit = expect_resume(&r, &r.other, 2, 1, dead);
        const tr_submit *head = (const tr_submit *)(const void *)submit->data;
        CU_ASSERT_EQUAL(head->seed, seed);
        CU_ASSERT_EQUAL(head->credit_messages, 98);
        CU_ASSERT_EQUAL(head->credit_bytes, 200000 - 2 * sizeof(tr_delta) - 3);
        expect_resume_tokens(submit, (int32_t[]){1, 2, 3}, 3);
        tr_msg_free(submit);
        stand_in_send(&r.other, r.call, rig_delta(0, "d", (int32_t[]){4}, 1), 2);
        stand_in_send(&r.other, r.call, rig_done(), 2);
        for (uint32_t i = 0; i < 3; i++) {
            tr_msg *delta = stand_in_expect(&r.door, TR_KIND_DELTA);
            CU_ASSERT_EQUAL(seq_of(delta), i);
            tr_msg_free(delta);
        }
        CU_ASSERT_PTR_NOT_NULL_FATAL(r.door.head);
        CU_ASSERT_EQUAL(((const tr_done *)(const void *)r.door.head->data)->attempts, 2);
        rig_expect_end(&r, TR_KIND_DONE, TR_OK);
        rig_expect_settled(&r, 2);
        rig_down(&r);
    }
}

static void what_an_earlier_attempt_still_says_is_dropped(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    stand_in_send(&r.backend, r.call, resumable(), 1);
    stand_in_send(&r.backend, r.call, rig_delta(0, "late", (int32_t[]){9}, 1), 1);
    tr_msg_free(expect_resume(&r, &r.other, 2, 1, r.backend.id));
    stand_in_send(&r.backend, r.call, rig_delta(1, "later", (int32_t[]){9}, 1), 1);
    stand_in_send(&r.backend, r.call, rig_done(), 1);
    stand_in_send(&r.gate, r.call, tr_msg_failf(TR_ERR_OVERLOADED, "late"), 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    stand_in_send(&r.other, r.call, rig_done(), 2);
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

static void request_that_kills_three_backends_without_a_token_fails(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    stand_in_send(&r.backend, r.call, resumable(), 1);
    tr_msg_free(expect_resume(&r, &r.backend, 2, 1, r.backend.id));
    stand_in_send(&r.backend, r.call, resumable(), 2);
    tr_msg_free(expect_resume(&r, &r.backend, 3, 2, r.backend.id));
    stand_in_send(&r.backend, r.call, resumable(), 3);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CRASHED);
    rig_expect_settled(&r, 3);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    rig_down(&r);
}

/* Little credit is enough for a token, so that its lack is no excuse. */
static void request_with_little_credit_that_kills_three_backends_fails_too(void) {
    static const uint32_t credits[] = {512, 16384, TR_DELTA_max - 1};
    for (size_t i = 0; i < sizeof credits / sizeof *credits; i++) {
        call_rig r;
        rig_up(&r, 1);
        rig_begin(&r, "tiny", 100, credits[i]);
        tr_msg_free(rig_grant(&r, &r.backend));
        stand_in_send(&r.backend, r.call, resumable(), 1);
        tr_msg_free(expect_resume(&r, &r.backend, 2, 1, r.backend.id));
        stand_in_send(&r.backend, r.call, resumable(), 2);
        tr_msg_free(expect_resume(&r, &r.backend, 3, 2, r.backend.id));
        stand_in_send(&r.backend, r.call, resumable(), 3);
        rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CRASHED);
        rig_expect_settled(&r, 3);
        rig_down(&r);
    }
}

/* A worker that brings one token and dies, again and again, must not fill the log. */
static void resumes_are_logged_a_few_times_and_then_counted(void) {
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    call_rig r;
    rig_up(&r, 1);
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_INFO, ends[1]);
    rig_stream(&r);
    for (uint32_t i = 1; i <= 50; i++) {
        stand_in_send(&r.backend, r.call, rig_delta(0, "t", (int32_t[]){7}, 1), i);
        stand_in_clear(&r.door);
        stand_in_send(&r.backend, r.call, resumable(), i);
        tr_msg_free(expect_resume(&r, &r.backend, i + 1, (uint8_t)i, r.backend.id));
    }
    stand_in_send(&r.backend, r.call, tr_msg_failf(TR_ERR_SERVER, "no more"), 51);
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, STDERR_FILENO);
    char text[16384];
    ssize_t size = read(ends[0], text, sizeof text - 1);
    CU_ASSERT_FATAL(size > 0);
    text[size] = '\0';
    uint32_t lines = 0;
    for (const char *at = text; (at = strstr(at, "another goes on")) != NULL; at++) {
        lines++;
    }
    CU_ASSERT(lines >= 3 && lines <= 8);
    const char *end = strstr(text, "request failed");
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    CU_ASSERT_PTR_NOT_NULL(strstr(end, " resumes=50 "));
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_SERVER);
    rig_down(&r);
    close(ends[0]);
    close(ends[1]);
}

static void each_new_token_gives_three_lives_again(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    int32_t ids[20];
    for (uint32_t i = 1; i <= 20; i++) {
        ids[i - 1] = (int32_t)i;
        if (i % 3 == 0) { /* every third attempt brings a token */
            stand_in_send(&r.backend, r.call, rig_delta(0, "t", &ids[i / 3 - 1], 1), i);
            stand_in_clear(&r.door);
        }
        stand_in_send(&r.backend, r.call, resumable(), i);
        tr_msg *submit = expect_resume(&r, &r.backend, i + 1, (uint8_t)i, r.backend.id);
        expect_resume_tokens(submit, ids, i / 3);
        tr_msg_free(submit);
    }
    stand_in_send(&r.backend, r.call, rig_done(), 21);
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

static void only_a_call_in_the_middle_of_its_answer_goes_before_newcomers(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 100, 200000);
    (void)expect_mid_answer(&r, false);
    tr_msg_free(rig_grant(&r, &r.backend));
    stand_in_send(&r.backend, r.call, resumable(), 1);
    (void)expect_mid_answer(&r, false); /* resumed, but nobody has read a word */
    tr_msg_free(expect_resume(&r, &r.backend, 2, 1, r.backend.id));
    stand_in_send(&r.backend, r.call, rig_delta(0, "t", (int32_t[]){7}, 1), 2);
    stand_in_send(&r.backend, r.call, resumable(), 2);
    (void)expect_mid_answer(&r, true);
    tr_msg_free(expect_resume(&r, &r.backend, 3, 2, r.backend.id));
    stand_in_send(&r.backend, r.call, resumable(), 3);
    (void)expect_mid_answer(&r, true); /* also without a new token */
    tr_msg_free(expect_resume(&r, &r.backend, 4, 3, r.backend.id));
    stand_in_send(&r.backend, r.call, rig_done(), 4);
    stand_in_clear(&r.door);
    stand_in_clear(&r.gate);
    rig_down(&r);
}

/* It was starved when its backend died: another could not say a word either. */
static void death_of_an_unread_stream_waits_for_credit_and_not_at_the_gate(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 1, 200000);
    tr_msg_free(rig_grant(&r, &r.backend));
    int32_t id = 7;
    stand_in_send(&r.backend, r.call, rig_delta(0, "t", &id, 1), 1);
    stand_in_clear(&r.door);
    stand_in_send(&r.backend, r.call, resumable(), 1);
    rig_expect_settled(&r, 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    puppet_wait_us(r.node, 5000000);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    stand_in_send(&r.door, r.call, tr_msg_credit(3, 1000), DOOR_REF);
    const tr_reserve *reserve = expect_mid_answer(&r, true);
    CU_ASSERT_EQUAL(reserve->resumes, 1);
    CU_ASSERT_EQUAL(reserve->avoid, r.backend.id);
    tr_msg *submit = rig_grant(&r, &r.other);
    expect_resume_tokens(submit, &id, 1);
    tr_msg_free(submit);
    stand_in_send(&r.other, r.call, rig_delta(0, "u", (int32_t[]){8}, 1), 2);
    tr_msg_free(stand_in_expect(&r.door, TR_KIND_DELTA));
    stand_in_send(&r.other, r.call, rig_done(), 2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r.door.head);
    CU_ASSERT_EQUAL(((const tr_done *)(const void *)r.door.head->data)->attempts, 2);
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

static void unread_stream_without_a_backend_still_has_its_limit(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 1, 200000);
    tr_msg_free(rig_grant(&r, &r.backend));
    stand_in_send(&r.backend, r.call, rig_delta(0, "t", (int32_t[]){7}, 1), 1);
    stand_in_clear(&r.door);
    stand_in_crash(&r.backend);
    puppet_wait_us(r.node, 9999000);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    puppet_wait_us(r.node, 1000);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_STALLED);
    rig_expect_settled(&r, 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    rig_down(&r);
}

static void deaths_while_a_slow_client_leaves_room_for_a_token_count(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 100, TR_DELTA_max - 1); /* room for a token, not for every DELTA */
    tr_msg_free(rig_grant(&r, &r.backend));
    int32_t id = 7;
    stand_in_send(&r.backend, r.call, rig_delta(0, "t", &id, 1), 1);
    stand_in_clear(&r.door);
    stand_in_clear(&r.backend);
    for (uint32_t i = 1; i <= TR_RESUMES_WITHOUT_TOKEN_max; i++) {
        stand_in_send(&r.backend, r.call, resumable(), i);
        tr_msg_free(expect_resume(&r, &r.backend, i + 1, (uint8_t)i, r.backend.id));
    }
    /* The first brought one. */
    stand_in_send(&r.backend, r.call, resumable(), TR_RESUMES_WITHOUT_TOKEN_max + 1);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CRASHED);
    rig_down(&r);
}

static void unread_stream_gives_its_sequence_back_and_goes_on_with_credit(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 1, 200000);
    tr_msg_free(rig_grant(&r, &r.backend));
    int32_t id = 7;
    stand_in_send(&r.backend, r.call, rig_delta(0, "t", &id, 1), 1);
    stand_in_clear(&r.door);
    puppet_wait_us(r.node, 999000);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    puppet_wait_us(r.node, 1000);
    tr_msg *cancel = stand_in_expect(&r.backend, TR_KIND_CANCEL);
    CU_ASSERT_EQUAL(cancel->ref, 1);
    tr_msg_free(cancel);
    rig_expect_settled(&r, 1);
    stand_in_send(&r.backend, r.call, rig_delta(1, "late", (int32_t[]){8}, 1), 1);
    CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
    stand_in_send(&r.door, r.call, tr_msg_credit(2, 1000), DOOR_REF);
    tr_msg *submit = rig_grant(&r, &r.backend);
    expect_resume_tokens(submit, &id, 1);
    tr_msg_free(submit);
    stand_in_send(&r.backend, r.call, rig_delta(0, "u", (int32_t[]){8}, 1), 2);
    stand_in_clear(&r.door);
    stand_in_send(&r.backend, r.call, rig_done(), 2);
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

/* Their DELTAs carry a place, of which the last is enough to go on from. */
static void unread_embeddings_give_their_sequence_back_and_go_on(void) {
    call_rig r;
    rig_up(&r, 1);
    stand_in_do(&r.door, rig_spawn, &r);
    stand_in_monitor(&r.door, r.call);
    tr_msg *asked = rig_submit("tiny", 2, 200000);
    ((tr_submit *)(void *)asked->data)->op = TR_OP_EMBED;
    stand_in_send(&r.door, r.call, asked, DOOR_REF);
    tr_msg_free(rig_grant(&r, &r.backend));
    stand_in_send(&r.backend, r.call, rig_delta(0, "0123", (int32_t[]){0, 8}, 2), 1);
    stand_in_send(&r.backend, r.call, rig_delta(1, "4567", (int32_t[]){1, 3}, 2), 1);
    stand_in_clear(&r.door);
    puppet_wait_us(r.node, 1000000);
    tr_msg_free(stand_in_expect(&r.backend, TR_KIND_CANCEL));
    rig_expect_settled(&r, 1);
    stand_in_send(&r.door, r.call, tr_msg_credit(2, 1000), DOOR_REF);
    tr_msg *submit = rig_grant(&r, &r.backend);
    expect_resume_tokens(submit, (int32_t[]){1, 3}, 2);
    tr_msg_free(submit);
    stand_in_send(&r.backend, r.call, rig_done(), 2);
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

static void request_without_credit_holds_no_gate(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 0, 0);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    stand_in_send(&r.door, r.call, tr_msg_credit(10, 100000), DOOR_REF);
    tr_msg_free(rig_grant(&r, &r.backend));
    stand_in_send(&r.backend, r.call, rig_done(), 1);
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

/* A pool ends and takes its workers along: the stream goes on at what replaces it. */
static void stream_whose_gate_ended_goes_on_at_the_replacement(void) {
    for (int waits = 0; waits < 2; waits++) {
        call_rig r;
        rig_up(&r, 1);
        rig_stream(&r);
        int32_t id = 7;
        stand_in_send(&r.backend, r.call, rig_delta(0, "t", &id, 1), 1);
        stand_in_clear(&r.door);
        if (waits == 1) { /* it dies while the call is back in its line */
            stand_in_send(&r.backend, r.call, resumable(), 1);
        }
        stand_in_crash(&r.gate);
        if (waits == 0) {
            stand_in_send(&r.backend, r.call, resumable(), 1);
        }
        puppet_wait_us(r.node, 5000000);
        CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
        stand_in_start(&r.gate, r.node, 0, "pool:tiny");
        puppet_wait_us(r.node, 200000);
        (void)expect_mid_answer(&r, true);
        CU_ASSERT_EQUAL(stand_in_count(&r.gate), 1);
        tr_msg *submit = rig_grant(&r, &r.other);
        expect_resume_tokens(submit, &id, 1);
        uint64_t ref = submit->ref;
        tr_msg_free(submit);
        stand_in_send(&r.other, r.call, rig_done(), ref);
        rig_expect_end(&r, TR_KIND_DONE, TR_OK);
        rig_expect_settled(&r, ref);
        rig_down(&r);
    }
}

static void stream_whose_gate_never_comes_back_fails(void) {
    for (int cancels = 0; cancels < 2; cancels++) {
        call_rig r;
        rig_up(&r, 1);
        rig_stream(&r);
        stand_in_send(&r.backend, r.call, rig_delta(0, "t", (int32_t[]){7}, 1), 1);
        stand_in_clear(&r.door);
        stand_in_crash(&r.gate);
        stand_in_send(&r.backend, r.call, resumable(), 1);
        puppet_wait_us(r.node, 9000000);
        CU_ASSERT_EQUAL(stand_in_count(&r.door), 0);
        if (cancels == 1) {
            stand_in_send(&r.door, r.call, tr_msg_cancel(TR_ERR_CANCELLED), DOOR_REF);
        } else {
            puppet_wait_us(r.node, 1200000);
        }
        rig_expect_end(&r, TR_KIND_FAIL, cancels == 1 ? TR_ERR_CANCELLED : TR_ERR_SERVER);
        rig_down(&r);
    }
}

static void text_without_tokens_cannot_be_resumed(void) {
    for (int crash = 0; crash < 2; crash++) {
        call_rig r;
        rig_up(&r, 1);
        rig_stream(&r);
        stand_in_send(&r.backend, r.call, rig_delta(0, "a", (int32_t[]){1}, 1), 1);
        stand_in_send(&r.backend, r.call, rig_delta(1, "b", NULL, 0), 1);
        tr_msg_free(stand_in_expect(&r.door, TR_KIND_DELTA));
        tr_msg_free(stand_in_expect(&r.door, TR_KIND_DELTA));
        if (crash == 1) {
            stand_in_crash(&r.backend);
        } else {
            stand_in_send(&r.backend, r.call, resumable(), 1);
        }
        rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CRASHED);
        rig_expect_settled(&r, 1);
        CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
        rig_down(&r);
    }
}

/* A backend that dies before its first word is as if it had never been asked. */
static void backend_that_dies_before_the_first_delta_is_replaced(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_stream(&r);
    tr_id dead = r.backend.id;
    stand_in_crash(&r.backend);
    tr_msg_free(expect_resume(&r, &r.other, 2, 1, dead));
    stand_in_send(&r.other, r.call, rig_delta(0, "a", NULL, 0), 2);
    stand_in_send(&r.other, r.call, rig_done(), 2);
    tr_msg_free(stand_in_expect(&r.door, TR_KIND_DELTA));
    rig_expect_end(&r, TR_KIND_DONE, TR_OK);
    rig_down(&r);
}

/* Tokens are kept up to what a SUBMIT can carry; a longer stream goes on, but has one life. */
static void stream_longer_than_a_submit_can_replay_has_one_life(void) {
    call_rig r;
    rig_up(&r, 1);
    rig_begin(&r, "tiny", 1000, TR_CREDIT_BYTES_max);
    tr_msg_free(rig_grant(&r, &r.backend));
    int32_t ids[1000] = {0};
    for (uint32_t i = 0; i < TR_RESUME_TOKENS_max / 1000; i++) {
        stand_in_send(&r.backend, r.call, rig_delta(i, "x", ids, 1000), 1);
    }
    stand_in_send(&r.backend, r.call, resumable(), 1);
    stand_in_clear(&r.backend); /* bytes of ids came back */
    tr_msg *submit = expect_resume(&r, &r.other, 2, 1, r.backend.id);
    const tr_submit *head = (const tr_submit *)(const void *)submit->data;
    CU_ASSERT_EQUAL(head->resume_count, TR_RESUME_TOKENS_max);
    CU_ASSERT_EQUAL(tr_wire_check(submit->kind, submit->data, submit->size), TR_OK);
    CU_ASSERT(submit->size <= TR_FRAME_INLINE_max);
    tr_msg_free(submit);
    stand_in_send(&r.other, r.call, rig_delta(0, "y", ids, 1), 2);
    stand_in_clear(&r.door);
    stand_in_send(&r.other, r.call, resumable(), 2);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_CRASHED);
    rig_down(&r);
}

static void client_that_submits_resume_tokens_is_refused(void) {
    call_rig r;
    rig_up(&r, 1);
    stand_in_do(&r.door, rig_spawn, &r);
    stand_in_monitor(&r.door, r.call);
    tr_body *body = tr_body_new(0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    tr_submit head = {
        .op = TR_OP_CHAT, .credit_messages = 1, .credit_bytes = 50000, .resume_count = 1};
    int32_t id = 4;
    tr_submit_view view = {.resume = &id, .target = {"tiny", 4}};
    stand_in_send(&r.door, r.call, tr_msg_submit(&head, &view, body), DOOR_REF);
    rig_expect_end(&r, TR_KIND_FAIL, TR_ERR_INVALID);
    CU_ASSERT_EQUAL(stand_in_count(&r.gate), 0);
    rig_down(&r);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(another_backend_goes_on_from_the_tokens_so_far),
        PUPPET_TEST(what_an_earlier_attempt_still_says_is_dropped),
        PUPPET_TEST(request_that_kills_three_backends_without_a_token_fails),
        PUPPET_TEST(request_with_little_credit_that_kills_three_backends_fails_too),
        PUPPET_TEST(resumes_are_logged_a_few_times_and_then_counted),
        PUPPET_TEST(each_new_token_gives_three_lives_again),
        PUPPET_TEST(deaths_while_a_slow_client_leaves_room_for_a_token_count),
        PUPPET_TEST(only_a_call_in_the_middle_of_its_answer_goes_before_newcomers),
        PUPPET_TEST(death_of_an_unread_stream_waits_for_credit_and_not_at_the_gate),
        PUPPET_TEST(unread_stream_without_a_backend_still_has_its_limit),
        PUPPET_TEST(unread_stream_gives_its_sequence_back_and_goes_on_with_credit),
        PUPPET_TEST(unread_embeddings_give_their_sequence_back_and_go_on),
        PUPPET_TEST(request_without_credit_holds_no_gate),
        PUPPET_TEST(stream_whose_gate_ended_goes_on_at_the_replacement),
        PUPPET_TEST(stream_whose_gate_never_comes_back_fails),
        PUPPET_TEST(text_without_tokens_cannot_be_resumed),
        PUPPET_TEST(backend_that_dies_before_the_first_delta_is_replaced),
        PUPPET_TEST(stream_longer_than_a_submit_can_replay_has_one_life),
        PUPPET_TEST(client_that_submits_resume_tokens_is_refused),
    };
    return puppet_main("call_resume", tests, sizeof tests / sizeof *tests);
}
