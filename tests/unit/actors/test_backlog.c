/* A client that does not read: what waits for it is bounded by what its credit justifies and a few
 * MiB; whoever keeps to its credit is never closed for it. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/backlog.h"
#include "protocol/frame.h"
#include "runtime/log.h"
#include "tests/unit/actors/company_rig.h"

#define MANY(chunks, bytes)                                                                        \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"echo\":{\"chunks\":" chunks           \
    ",\"bytes\":" bytes "}}"
#define SLACK (512U * 1024) /* buffers under way, and the batch that was over */

/* `count` frames like `msg` (freed) with refs from `ref` on, in one write. */
static void send_many(peer *who, tr_msg *msg, uint64_t ref, uint32_t count) {
    tr_frame frame = {.kind = msg->kind,
                      .inline_size = msg->size,
                      .body_size = msg->body != NULL ? (uint32_t)msg->body->size : 0};
    size_t size = tr_frame_size(&frame);
    uint8_t *out = malloc(size * count);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    for (uint32_t i = 0; i < count && out != NULL; i++) {
        uint8_t *at = out + i * size;
        frame.ref = ref + i;
        tr_frame_encode(&frame, at);
        memcpy(at + TR_FRAME_HEADER_size, msg->data, msg->size);
        if (msg->body != NULL) {
            memcpy(at + TR_FRAME_HEADER_size + msg->size, msg->body->bytes, msg->body->size);
        }
    }
    tr_msg_free(msg);
    peer_write(who, out, size * count);
    free(out);
}

static void go_deaf(peer *who) {
    who->deaf = true; /* from now on it hands no buffer back */
}

/* Reads all that waits. Asserts that it is at most `max` bytes and ends with the last words. */
static void expect_overloaded(company_rig *r, peer *who, size_t max) {
    size_t before = who->in_size;
    CU_ASSERT_FALSE(who->closed);
    who->deaf = false;
    who->stream->transport->received(who->stream);
    peer_run(r->node);
    CU_ASSERT(who->in_size - before > TR_BACKLOG_ALLOWANCE);
    CU_ASSERT(who->in_size - before <= max);
    tr_msg *last = NULL;
    for (tr_msg *msg = peer_take(who); msg != NULL; msg = peer_take(who)) {
        tr_msg_free(last);
        last = msg;
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(last);
    if (last != NULL) {
        CU_ASSERT_EQUAL(last->kind, TR_KIND_FAIL);
        CU_ASSERT_EQUAL(last->ref, 0);
        CU_ASSERT_EQUAL(((const tr_fail *)(const void *)last->data)->err, TR_ERR_OVERLOADED);
    }
    tr_msg_free(last);
    CU_ASSERT(who->closed);
    CU_ASSERT_EQUAL(tr_services_running(r->services), 0);
}

/* Others are served while it happens, and afterwards. */
static void expect_served(company_rig *r) {
    peer other = {0};
    company_greet(r, &other);
    peer_send(&other, peer_submit(TR_OP_CHAT, "echoes", MANY("3", "8"), 10, 90000), 1);
    CU_ASSERT_EQUAL(peer_drop(&other), 4);
    peer_free(&other);
}

static void unread_refusals_close_the_connection(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    go_deaf(&who);
    for (uint64_t i = 0; i < 60; i++) {
        send_many(&who, peer_submit(TR_OP_CHAT, "nobody/knows", MANY("1", "1"), 10, 90000),
                  1 + i * 1000, 1000);
    }
    expect_overloaded(&r, &who, TR_BACKLOG_ALLOWANCE + SLACK);
    expect_served(&r);
    peer_free(&who);
    company_end(&r);
}

static void unread_pongs_close_the_connection(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    go_deaf(&who);
    for (uint64_t i = 0; i < 100; i++) {
        send_many(&who, tr_msg_new(TR_KIND_PING, sizeof(tr_ping)), 1 + i * 1000, 1000);
    }
    expect_overloaded(&r, &who, TR_BACKLOG_ALLOWANCE + SLACK);
    expect_served(&r);
    peer_free(&who);
    company_end(&r);
}

static void deaf_client_that_stays_so_is_gone_after_two_seconds(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    const tr_shard *shard = tr_node_shard(r.node, 0);
    uint32_t actors = tr_shard_actors(shard);
    company_greet(&r, &who);
    go_deaf(&who);
    send_many(&who, tr_msg_new(TR_KIND_PING, sizeof(tr_ping)), 1, 100000);
    peer_wait_us(r.node, 1900000);
    CU_ASSERT_EQUAL(tr_shard_actors(shard), actors + 2); /* the peer's and its connection */
    peer_wait_us(r.node, 200000);
    CU_ASSERT_EQUAL(tr_shard_actors(shard), actors + 1);
    peer_free(&who);
    company_end(&r);
}

/* Credit for what was not read is no credit. */
static void unread_stream_that_is_granted_more_closes_the_connection(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", MANY("1000000", "1000"), 100, 100000), 1);
    go_deaf(&who);
    for (uint64_t i = 0; i < 100; i++) {
        peer_send(&who, tr_msg_credit(100, 100000), 1);
    }
    expect_overloaded(&r, &who, TR_BACKLOG_ALLOWANCE + 2 * 100000 + SLACK);
    expect_served(&r);
    peer_free(&who);
    company_end(&r);
}

static void unread_windows_are_kept_also_of_streams_that_have_ended(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    go_deaf(&who);
    for (uint64_t i = 1; i <= 64; i++) { /* 16 MB in all; every second stream comes to its end */
        const char *body = i % 2 == 0 ? MANY("250", "1000") : MANY("1000", "1000");
        peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", body, 1000, 262144), i);
    }
    CU_ASSERT_EQUAL(tr_services_running(r.services), 32);
    who.deaf = false;
    who.stream->transport->received(who.stream);
    peer_run(r.node);
    CU_ASSERT_FALSE(who.closed);
    uint64_t deltas = 0;
    uint32_t done = 0;
    for (tr_msg *msg = peer_take(&who); msg != NULL; msg = peer_take(&who)) {
        deltas += msg->kind == TR_KIND_DELTA;
        done += msg->kind == TR_KIND_DONE;
        tr_msg_free(msg);
    }
    CU_ASSERT_EQUAL(done, 32);
    CU_ASSERT(deltas >= 64 * 250);
    expect_served(&r);
    peer_free(&who);
    company_end(&r);
}

static void client_that_reads_may_ask_as_often_as_it_likes(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    for (uint64_t i = 0; i < 300; i++) { /* 17 MB of answers without credit */
        send_many(&who, tr_msg_new(TR_KIND_PING, sizeof(tr_ping)), 1 + i * 1000, 1000);
    }
    CU_ASSERT_FALSE(who.closed);
    CU_ASSERT_EQUAL(peer_drop(&who), 300000);
    peer_free(&who);
    company_end(&r);
}

/* ---- the counts by themselves ---- */

static void what_was_written_is_forgotten(void) {
    tr_backlog b = {0};
    tr_backlog_stream s = {0};
    size_t pending = 0;
    tr_backlog_grant(&b, &s, 1000000);
    for (int i = 0; i < 5; i++) { /* always 3 MiB wait, of ever other frames */
        pending = 3U << 20;
        tr_backlog_queued(&b, NULL, 3U << 20, 0, pending);
        CU_ASSERT_FALSE(tr_backlog_exceeds(&b, pending));
    }
    pending += 2U << 20;
    tr_backlog_queued(&b, NULL, 2U << 20, 0, pending);
    CU_ASSERT(tr_backlog_exceeds(&b, pending));
    tr_backlog_ended(&b, &s);
    CU_ASSERT_EQUAL(b.windows, 0);
}

static void window_is_the_most_that_was_open_at_once(void) {
    tr_backlog b = {0};
    tr_backlog_stream s = {0};
    tr_backlog_grant(&b, &s, 1000);
    tr_backlog_queued(&b, &s, 624, 600, 624);
    tr_backlog_grant(&b, &s, 600);
    CU_ASSERT_EQUAL(b.windows, 1000);
    tr_backlog_grant(&b, &s, 500);
    CU_ASSERT_EQUAL(b.windows, 1500);
    tr_backlog_grant(&b, &s, UINT32_MAX);
    CU_ASSERT_EQUAL(b.windows, TR_CREDIT_BYTES_max);
    tr_backlog_ended(&b, &s);
    CU_ASSERT_EQUAL(b.windows, 0);
    CU_ASSERT_EQUAL(b.ended[0], 624);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(unread_refusals_close_the_connection),
        PUPPET_TEST(unread_pongs_close_the_connection),
        PUPPET_TEST(deaf_client_that_stays_so_is_gone_after_two_seconds),
        PUPPET_TEST(unread_stream_that_is_granted_more_closes_the_connection),
        PUPPET_TEST(unread_windows_are_kept_also_of_streams_that_have_ended),
        PUPPET_TEST(client_that_reads_may_ask_as_often_as_it_likes),
        PUPPET_TEST(what_was_written_is_forgotten),
        PUPPET_TEST(window_is_the_most_that_was_open_at_once),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, 2);
    return puppet_main("backlog", tests, sizeof tests / sizeof *tests);
}
