/* A client's door: who may come in, what a peer may do wrong, and what is owed to it. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "protocol/frame.h"
#include "runtime/log.h"
#include "tests/unit/actors/company_rig.h"

#define CHAT(text) "{\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]}"
#define MANY(chunks, bytes)                                                                        \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"echo\":{\"chunks\":" chunks           \
    ",\"bytes\":" bytes "}}"

static tr_msg *chat(const char *body) {
    return peer_submit(TR_OP_CHAT, "echoes", body, 1000, 1000000);
}

static void ask_and_expect(peer *who, uint64_t ref) {
    char text[256];
    peer_send(who, chat(CHAT("two words")), ref);
    CU_ASSERT_STRING_EQUAL(company_answer(who, ref, text, sizeof text), "two words");
}

/* ---- coming in ---- */

static void client_is_welcomed_and_served(void) {
    for (uint32_t shards = 1; shards <= 3; shards++) {
        company_rig r;
        company_start(&r, shards);
        peer a = {0}, b = {0};
        peer_dial(&a, r.node, OPEN_URL);
        peer_send(&a, peer_hello(""), 0);
        tr_msg *msg = peer_expect(&a, TR_KIND_WELCOME, 0);
        const tr_welcome *welcome = (const tr_welcome *)(const void *)msg->data;
        CU_ASSERT_EQUAL(welcome->version, TR_PROTOCOL_VERSION);
        CU_ASSERT_EQUAL(welcome->streams_max, TR_STREAMS_PER_CLIENT_max);
        CU_ASSERT_EQUAL(memcmp(tr_welcome_read(welcome).ptr, "troupe/9.9", 10), 0);
        tr_msg_free(msg);
        company_greet(&r, &b);
        ask_and_expect(&a, 1);
        ask_and_expect(&b, 1);
        ask_and_expect(&a, 1); /* a ref is free again after its terminal */
        peer_free(&a);
        peer_free(&b);
        company_end(&r);
    }
}

static void silent_peer_is_closed_after_five_seconds(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    peer_dial(&who, r.node, OPEN_URL);
    peer_wait_us(r.node, 4999000);
    CU_ASSERT_FALSE(who.closed);
    peer_wait_us(r.node, 2000);
    CU_ASSERT(who.closed);
    peer_free(&who);
    company_greet(&r, &who); /* one that has greeted may be silent */
    peer_wait_us(r.node, 100000000);
    CU_ASSERT_FALSE(who.closed);
    ask_and_expect(&who, 1);
    peer_free(&who);
    company_end(&r);
}

static void other_version_is_told_both(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    peer_dial(&who, r.node, OPEN_URL);
    tr_msg *hello = peer_hello("");
    tr_hello *head = (tr_hello *)(void *)hello->data;
    head->version_min = 7;
    head->version_max = 9;
    peer_send(&who, hello, 0);
    company_expect_closed(&who, TR_ERR_VERSION, "speaks protocol version 1, the client speaks 7");
    peer_free(&who);
    company_end(&r);
}

static void only_the_token_opens_a_door_with_one(void) {
    static const char *const wrong[] = {"", "secre", "secres", "secretsecret", "Secret", "s"};
    company_rig r;
    company_start(&r, 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        peer who = {0};
        peer_dial(&who, r.node, TOKEN_URL);
        peer_send(&who, peer_hello(wrong[i]), 0);
        company_expect_closed(&who, TR_ERR_AUTH, "token");
        peer_free(&who);
    }
    peer who = {0};
    peer_dial(&who, r.node, TOKEN_URL);
    peer_send(&who, peer_hello("secret"), 0);
    tr_msg_free(peer_expect(&who, TR_KIND_WELCOME, 0));
    ask_and_expect(&who, 3);
    peer_free(&who);
    company_end(&r);
}

static void door_for_workers_takes_no_clients_and_no_strangers(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    peer_dial(&who, r.node, WORKER_URL);
    peer_send(&who, peer_hello(""), 0);
    company_expect_closed(&who, TR_ERR_AUTH, "workers");
    peer_free(&who);
    peer_dial(&who, r.node, WORKER_URL);
    tr_msg *hello = peer_hello("");
    ((tr_hello *)(void *)hello->data)->role = TR_ROLE_WORKER;
    ((tr_hello *)(void *)hello->data)->nonce = 42; /* nobody started it */
    peer_send(&who, hello, 0);
    company_expect_closed(&who, TR_ERR_NOT_FOUND, "nobody waits");
    peer_free(&who);
    company_end(&r);
}

static uint32_t peer_is;
static bool peer_is_known;

static bool played_peer_uid(tr_stream *stream, uint32_t *ret_uid) {
    (void)stream;
    *ret_uid = peer_is;
    return peer_is_known;
}

static void peer_of_another_user_is_refused(void) {
    company_rig r;
    company_start(&r, 1);
    tr_node_platform(r.node)->transport->peer_uid = played_peer_uid;
    for (int i = 0; i < 2; i++) {
        peer who = {0};
        peer_is_known = i == 1; /* nobody knows who it is; then somebody else */
        peer_is = i == 0 ? (uint32_t)getuid() : (uint32_t)getuid() + 1;
        peer_dial(&who, r.node, OPEN_URL);
        company_expect_closed(&who, TR_ERR_AUTH, "another user");
        peer_free(&who);
    }
    peer who = {0};
    peer_is = 0; /* root may */
    company_greet(&r, &who);
    peer_free(&who);
    peer_dial(&who, r.node, TOKEN_URL); /* where the token decides, nobody asks */
    peer_is_known = false;
    peer_send(&who, peer_hello("secret"), 0);
    tr_msg_free(peer_expect(&who, TR_KIND_WELCOME, 0));
    peer_free(&who);
    company_end(&r);
}

static void send_with_base_url(peer *who, uint64_t ref) {
    static const char body[] = CHAT("two words");
    static const char url[] = "http://127.0.0.1:1/v1";
    tr_body *bytes = tr_body_new(sizeof body - 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    memcpy(bytes->bytes, body, sizeof body - 1);
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 1000, .credit_bytes = 1000000};
    tr_submit_view view = {.target = {"echoes", 6}, .base_url = {url, sizeof url - 1}};
    peer_send(who, tr_msg_submit(&head, &view, bytes), ref);
}

static void only_the_same_user_over_ipc_names_a_base_url(void) {
    company_rig r;
    char text[64];
    company_start(&r, 1);
    tr_node_platform(r.node)->transport->peer_uid = played_peer_uid;
    peer who = {0};
    peer_is_known = true;
    peer_is = (uint32_t)getuid();
    company_greet(&r, &who);
    send_with_base_url(&who, 1);
    CU_ASSERT_STRING_EQUAL(company_answer(&who, 1, text, sizeof text), "two words");
    peer_free(&who);
    peer_is = getuid() == 0 ? 1 : 0; /* root may come in, but only as itself */
    if (peer_is == 0) {
        company_greet(&r, &who);
        send_with_base_url(&who, 1);
        company_expect_fail(&who, 1, TR_ERR_AUTH, "only over ipc");
        ask_and_expect(&who, 1); /* the connection goes on */
        peer_free(&who);
    }
    peer_dial(&who, r.node, TOKEN_URL);
    peer_is_known = false;
    peer_send(&who, peer_hello("secret"), 0);
    tr_msg_free(peer_expect(&who, TR_KIND_WELCOME, 0));
    send_with_base_url(&who, 1);
    company_expect_fail(&who, 1, TR_ERR_AUTH, "only over ipc");
    ask_and_expect(&who, 1);
    peer_free(&who);
    company_end(&r);
}

/* ---- what a peer may do wrong ---- */

static void request_before_hello_is_refused(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    peer_dial(&who, r.node, OPEN_URL);
    tr_msg *ping = tr_msg_new(TR_KIND_PING, sizeof(tr_ping));
    peer_send(&who, ping, 1);
    company_expect_closed(&who, TR_ERR_PROTOCOL, "HELLO");
    peer_free(&who);
    company_end(&r);
}

static void garbage_closes_the_connection_and_nobody_elses(void) {
    static const uint8_t huge[24] = {0x00, 0x00, 0x00, 0x40, 1, 0};
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    company_rig r;
    company_start(&r, 2);
    peer good = {0};
    company_greet(&r, &good);
    for (int greeted = 0; greeted < 2; greeted++) {
        for (int kind = 0; kind < 2; kind++) {
            peer bad = {0};
            if (greeted == 1) {
                company_greet(&r, &bad);
            } else {
                peer_dial(&bad, r.node, OPEN_URL);
            }
            peer_write(&bad, kind == 0 ? (const void *)huge : http,
                       kind == 0 ? sizeof huge : sizeof http - 1);
            tr_msg *msg = peer_expect(&bad, TR_KIND_FAIL, 0);
            tr_msg_free(msg);
            CU_ASSERT(bad.closed);
            peer_free(&bad);
        }
    }
    ask_and_expect(&good, 1);
    peer_free(&good);
    company_end(&r);
}

static void frames_come_in_pieces_of_any_size(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    peer_dial(&who, r.node, OPEN_URL);
    /* The bytes of HELLO and SUBMIT, as a peer would write them. */
    tr_msg *frames[] = {peer_hello(""), chat(CHAT("two words"))};
    for (uint64_t i = 0; i < 2; i++) {
        tr_msg *msg = frames[i];
        uint8_t bytes[1024];
        tr_frame frame = {.kind = msg->kind,
                          .ref = i,
                          .inline_size = msg->size,
                          .body_size = msg->body != NULL ? (uint32_t)msg->body->size : 0};
        tr_frame_encode(&frame, bytes);
        memcpy(bytes + TR_FRAME_HEADER_size, msg->data, msg->size);
        if (msg->body != NULL) {
            memcpy(bytes + TR_FRAME_HEADER_size + msg->size, msg->body->bytes, msg->body->size);
        }
        for (size_t at = 0; at < tr_frame_size(&frame); at++) {
            peer_write(&who, bytes + at, 1);
        }
        tr_msg_free(msg);
    }
    tr_msg_free(peer_expect(&who, TR_KIND_WELCOME, 0));
    char text[64];
    CU_ASSERT_STRING_EQUAL(company_answer(&who, 1, text, sizeof text), "two words");
    peer_free(&who);
    company_end(&r);
}

static void ref_that_still_runs_closes_the_connection(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", MANY("10", "8"), 1, 50000), 5);
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 5));
    peer_send(&who, chat(CHAT("x")), 5);
    company_expect_closed(&who, TR_ERR_PROTOCOL, "still runs");
    peer_wait_us(r.node, 3000000);
    CU_ASSERT_EQUAL(tr_services_running(r.services), 0);
    peer_free(&who);
    company_end(&r);
}

static void submit_without_a_ref_closes_the_connection(void) {
    company_rig r;
    company_start(&r, 1);
    for (int control = 0; control < 2; control++) {
        peer who = {0};
        company_greet(&r, &who);
        peer_send(&who,
                  control == 1 ? peer_submit(TR_OP_CONTROL, "", "{\"do\":\"ping\"}", 10, 50000)
                               : chat(CHAT("x")),
                  0);
        company_expect_closed(&who, TR_ERR_PROTOCOL, "ref 0");
        peer_free(&who);
    }
    CU_ASSERT_EQUAL(tr_services_running(r.services), 0);
    company_end(&r);
}

static void unknown_kinds_are_skipped_and_known_ones_out_of_place_are_not(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    for (uint16_t kind = 7; kind < 200; kind += 1) {
        if (kind < TR_KIND_HELLO || kind > TR_KIND_PONG) {
            peer_send(&who, tr_msg_new(kind, 12), kind);
        }
    }
    ask_and_expect(&who, 1);
    peer_send(&who, tr_msg_failf(TR_ERR_BUG, "clients do not say this"), 1);
    company_expect_closed(&who, TR_ERR_PROTOCOL, "kind 5");
    peer_free(&who);
    company_end(&r);
}

/* ---- streams ---- */

static void ping_is_answered(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    tr_msg *ping = tr_msg_new(TR_KIND_PING, sizeof(tr_ping));
    ((tr_ping *)(void *)ping->data)->number = 123;
    peer_send(&who, ping, 9);
    tr_msg *pong = peer_expect(&who, TR_KIND_PONG, 9);
    CU_ASSERT_EQUAL(((const tr_ping *)(const void *)pong->data)->number, 123);
    tr_msg_free(pong);
    peer_free(&who);
    company_end(&r);
}

static void cancel_ends_a_stream_once(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", MANY("1000", "8"), 2, 50000), 5);
    CU_ASSERT_EQUAL(tr_services_running(r.services), 1);
    peer_send(&who, tr_msg_cancel(TR_ERR_CANCELLED), 5);
    peer_send(&who, tr_msg_cancel(TR_ERR_CANCELLED), 5);
    peer_send(&who, tr_msg_credit(1, 10), 5);
    peer_send(&who, tr_msg_cancel(TR_ERR_CANCELLED), 99); /* never was one */
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 5));
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 5));
    company_expect_fail(&who, 5, TR_ERR_CANCELLED, "cancelled");
    CU_ASSERT_PTR_NULL(peer_take(&who));
    CU_ASSERT_EQUAL(tr_services_running(r.services), 0);
    ask_and_expect(&who, 5);
    peer_free(&who);
    company_end(&r);
}

static void streams_beyond_the_limit_are_overloaded(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    for (uint64_t i = 1; i <= TR_STREAMS_PER_CLIENT_max; i++) {
        peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", MANY("2", "1"), 1, 50000), i);
    }
    CU_ASSERT_EQUAL(peer_drop(&who), TR_STREAMS_PER_CLIENT_max);
    peer_send(&who, chat(CHAT("x")), 1000000);
    company_expect_fail(&who, 1000000, TR_ERR_OVERLOADED, "4096 a connection");
    peer_send(&who, tr_msg_credit(1, 50000), 7);
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 7));
    tr_msg_free(peer_expect(&who, TR_KIND_DONE, 7));
    ask_and_expect(&who, 1000000);
    peer_leave(&who);
    CU_ASSERT_EQUAL(tr_services_running(r.services), 0);
    peer_free(&who);
    company_end(&r);
}

/* The largest body, of a request that waits for credit. */
static tr_msg *largest(void) {
    tr_body *body = tr_body_new(TR_FRAME_BODY_max);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    memset(body->bytes, ' ', TR_FRAME_BODY_max);
    tr_submit head = {.op = TR_OP_CHAT};
    return tr_msg_submit(&head, &(tr_submit_view){.target = {"echoes", 6}}, body);
}

static void bodies_beyond_the_limits_are_overloaded(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0}, other = {0};
    company_greet(&r, &who);
    company_greet(&r, &other);
    uint64_t fit = TR_BODIES_PER_CLIENT_max / TR_FRAME_BODY_max;
    for (uint64_t i = 1; i <= fit; i++) {
        peer_send(&who, largest(), i);
    }
    CU_ASSERT_EQUAL(tr_services_running(r.services), fit);
    CU_ASSERT_EQUAL(tr_services_bodies(r.services), TR_BODIES_PER_CLIENT_max);
    peer_send(&who, chat(CHAT("x")), 100);
    company_expect_fail(&who, 100, TR_ERR_OVERLOADED, "256 MiB a connection");
    peer_send(&who, peer_submit(TR_OP_CONTROL, "", "{\"do\":\"ping\"}", 10, 50000), 101);
    company_expect_fail(&who, 101, TR_ERR_OVERLOADED, "256 MiB a connection");
    ask_and_expect(&other, 1);
    uint64_t others = TR_BODIES_max / TR_BODIES_PER_CLIENT_max - 1;
    for (uint64_t i = 0; i < others; i++) { /* as many more such clients */
        CU_ASSERT(tr_services_hold(r.services, 0, TR_BODIES_PER_CLIENT_max));
    }
    peer_send(&other, chat(CHAT("x")), 2);
    company_expect_fail(&other, 2, TR_ERR_OVERLOADED, "1024 MiB in all");
    tr_services_release(r.services, others * TR_BODIES_PER_CLIENT_max);
    ask_and_expect(&other, 2);
    peer_send(&who, tr_msg_cancel(TR_ERR_CANCELLED), 3);
    company_expect_fail(&who, 3, TR_ERR_CANCELLED, "cancelled");
    ask_and_expect(&who, 100);
    peer_leave(&who);
    CU_ASSERT_EQUAL(tr_services_bodies(r.services), 0);
    peer_free(&who);
    peer_free(&other);
    company_end(&r);
}

static void client_that_leaves_ends_its_requests(void) {
    company_rig r;
    company_start(&r, 3);
    peer who = {0}, stays = {0};
    company_greet(&r, &who);
    company_greet(&r, &stays);
    for (uint64_t i = 1; i <= 50; i++) {
        peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", MANY("1000", "8"), 1, 50000), i);
    }
    peer_send(&stays, peer_submit(TR_OP_CHAT, "echoes", MANY("1000", "8"), 1, 50000), 1);
    CU_ASSERT_EQUAL(tr_services_running(r.services), 51);
    peer_leave(&who);
    CU_ASSERT_EQUAL(tr_services_running(r.services), 1);
    peer_free(&who);
    peer_free(&stays);
    company_end(&r);
}

static void unread_stream_holds_its_window_and_no_more(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0}, other = {0};
    company_greet(&r, &who);
    who.deaf = true; /* from now on it hands no buffer back */
    peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", MANY("100000", "1000"), 300, 300000), 1);
    peer_send(&who, peer_submit(TR_OP_CHAT, "echoes", MANY("100000", "1000"), 300, 300000), 2);
    company_greet(&r, &other); /* nobody else waits for it */
    ask_and_expect(&other, 1);
    /* What the two windows allow is all that was ever made: when it reads again, that comes. */
    who.deaf = false;
    who.stream->transport->received(who.stream);
    peer_run(r.node);
    uint64_t bytes[3] = {0};
    for (tr_msg *msg = peer_take(&who); msg != NULL; msg = peer_take(&who)) {
        CU_ASSERT_EQUAL(msg->kind, TR_KIND_DELTA);
        bytes[msg->ref] += msg->size;
        tr_msg_free(msg);
    }
    CU_ASSERT(bytes[1] > 290000 && bytes[1] <= 300000);
    CU_ASSERT(bytes[2] > 290000 && bytes[2] <= 300000);
    peer_free(&who);
    peer_free(&other);
    company_end(&r);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(client_is_welcomed_and_served),
        PUPPET_TEST(silent_peer_is_closed_after_five_seconds),
        PUPPET_TEST(other_version_is_told_both),
        PUPPET_TEST(only_the_token_opens_a_door_with_one),
        PUPPET_TEST(door_for_workers_takes_no_clients_and_no_strangers),
        PUPPET_TEST(peer_of_another_user_is_refused),
        PUPPET_TEST(only_the_same_user_over_ipc_names_a_base_url),
        PUPPET_TEST(request_before_hello_is_refused),
        PUPPET_TEST(garbage_closes_the_connection_and_nobody_elses),
        PUPPET_TEST(frames_come_in_pieces_of_any_size),
        PUPPET_TEST(ref_that_still_runs_closes_the_connection),
        PUPPET_TEST(submit_without_a_ref_closes_the_connection),
        PUPPET_TEST(unknown_kinds_are_skipped_and_known_ones_out_of_place_are_not),
        PUPPET_TEST(ping_is_answered),
        PUPPET_TEST(cancel_ends_a_stream_once),
        PUPPET_TEST(streams_beyond_the_limit_are_overloaded),
        PUPPET_TEST(bodies_beyond_the_limits_are_overloaded),
        PUPPET_TEST(client_that_leaves_ends_its_requests),
        PUPPET_TEST(unread_stream_holds_its_window_and_no_more),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, 2);
    return puppet_main("connection", tests, sizeof tests / sizeof *tests);
}
