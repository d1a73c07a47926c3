/* The echo provider, as a client sees it: words, made-up streams, and streams that break off. */
#include <CUnit/Basic.h>
#include <stdio.h>

#include "runtime/log.h"
#include "tests/unit/actors/company_rig.h"

static char text[100000];

static void ask(peer *who, uint64_t ref, const char *content, const char *echo) {
    char body[1024];
    snprintf(body, sizeof body,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"first\"},"
             "{\"role\":\"user\",\"content\":\"%s\"}]%s%s}",
             content, echo[0] != '\0' ? ",\"echo\":" : "", echo);
    peer_send(who, peer_submit(TR_OP_CHAT, "echo/any", body, 1000, 1000000), ref);
}

static void words_of_the_last_message_come_back_one_by_one(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    ask(&who, 1, " Grüße, \\n 世界  and all", "");
    static const char *const pieces[] = {" ", "Grüße, \n ", "世界  ", "and ", "all"};
    for (uint32_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        tr_msg *msg = peer_expect(&who, TR_KIND_DELTA, 1);
        tr_str piece = tr_delta_read((const tr_delta *)(const void *)msg->data).text;
        CU_ASSERT_EQUAL_FATAL(piece.size, strlen(pieces[i]));
        CU_ASSERT_EQUAL(memcmp(piece.ptr, pieces[i], piece.size), 0);
        tr_msg_free(msg);
    }
    tr_msg *done = peer_expect(&who, TR_KIND_DONE, 1);
    CU_ASSERT_EQUAL(((const tr_done *)(const void *)done->data)->usage.out, 5);
    tr_msg_free(done);
    peer_free(&who);
    company_end(&r);
}

static void pieces_are_as_many_and_as_long_as_asked(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    ask(&who, 1, "x", "{\"chunks\":7,\"bytes\":11}");
    CU_ASSERT_EQUAL(strlen(company_answer(&who, 1, text, sizeof text)), 77);
    ask(&who, 2, "x", "{\"chunks\":0}");
    CU_ASSERT_STRING_EQUAL(company_answer(&who, 2, text, sizeof text), "");
    peer_free(&who);
    company_end(&r);
}

static void interval_spaces_the_pieces(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    ask(&who, 1, "x", "{\"chunks\":4,\"bytes\":8,\"interval_ms\":100}");
    ask(&who, 2, "x", "{\"chunks\":3,\"bytes\":8,\"interval_ms\":250}");
    CU_ASSERT_EQUAL(peer_drop(&who), 2); /* the first of each at once */
    peer_wait_us(r.node, 99000);
    CU_ASSERT_EQUAL(peer_drop(&who), 0);
    peer_wait_us(r.node, 1000);
    CU_ASSERT_EQUAL(peer_drop(&who), 1);
    peer_wait_us(r.node, 150000); /* at 200 ms and at 250 ms */
    CU_ASSERT_EQUAL(peer_drop(&who), 2);
    peer_wait_us(r.node, 1000000);
    CU_ASSERT_EQUAL(peer_drop(&who), 4); /* two last pieces, two DONEs */
    peer_free(&who);
    company_end(&r);
}

static void stream_fails_where_asked(void) {
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    ask(&who, 1, "x", "{\"chunks\":9,\"fail_after\":2}");
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 1));
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 1));
    company_expect_fail(&who, 1, TR_ERR_SERVER, "asked to fail");
    ask(&who, 2, "x", "{\"chunks\":1,\"fail\":true}");
    tr_msg_free(peer_expect(&who, TR_KIND_DELTA, 2));
    company_expect_fail(&who, 2, TR_ERR_SERVER, "asked to fail");
    ask(&who, 3, "a b c", "{\"fail_after\":0}");
    CU_ASSERT_PTR_NULL(peer_take(&who)); /* nothing went out: it is tried again */
    for (int i = 1; i < TR_ATTEMPTS_default; i++) {
        peer_wait_us(r.node, 1000000);
    }
    company_expect_fail(&who, 3, TR_ERR_SERVER, "asked to fail");
    CU_ASSERT_PTR_NULL(peer_take(&who));
    peer_free(&who);
    company_end(&r);
}

static void stream_that_breaks_off_goes_on_unbroken(void) {
    company_rig r;
    company_start(&r, 2);
    peer who = {0};
    company_greet(&r, &who);
    ask(&who, 1, "one two three four five six seven", "{\"crash_after\":2}");
    CU_ASSERT_STRING_EQUAL(company_answer(&who, 1, text, sizeof text),
                           "one two three four five six seven");
    ask(&who, 2, "x", "{\"chunks\":100,\"bytes\":3,\"crash_after\":1}");
    CU_ASSERT_EQUAL(strlen(company_answer(&who, 2, text, sizeof text)), 300);
    ask(&who, 3, "x", "{\"crash_after\":0}"); /* never gets anywhere */
    company_expect_fail(&who, 3, TR_ERR_CRASHED, "3 workers in a row");
    peer_free(&who);
    company_end(&r);
}

static void senseless_wishes_are_refused(void) {
    static const char *const bad[] = {"{\"chunks\":100000001}", "{\"chunks\":1,\"bytes\":0}",
                                      "{\"chunks\":1,\"bytes\":32769}", "{\"interval_ms\":-1}"};
    company_rig r;
    company_start(&r, 1);
    peer who = {0};
    company_greet(&r, &who);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ask(&who, i + 1, "x", bad[i]);
        company_expect_fail(&who, i + 1, TR_ERR_INVALID, "chunks");
    }
    peer_send(&who, peer_submit(TR_OP_EMBED, "echo/any", "{\"input\":\"x\"}", 1000, 1000000), 9);
    company_expect_fail(&who, 9, TR_ERR_UNSUPPORTED, "only chats");
    peer_send(&who, peer_submit(TR_OP_CHAT, "echo/any", "{\"messages\":7}", 1000, 1000000), 9);
    company_expect_fail(&who, 9, TR_ERR_INVALID, "messages");
    peer_free(&who);
    company_end(&r);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(words_of_the_last_message_come_back_one_by_one),
        PUPPET_TEST(pieces_are_as_many_and_as_long_as_asked),
        PUPPET_TEST(interval_spaces_the_pieces),
        PUPPET_TEST(stream_fails_where_asked),
        PUPPET_TEST(stream_that_breaks_off_goes_on_unbroken),
        PUPPET_TEST(senseless_wishes_are_refused),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, 2);
    return puppet_main("echo", tests, sizeof tests / sizeof *tests);
}
