/* Ends of links: peers that vanish, fall silent or do not read, links that finish, fail or are
 * freed, and streams that change hands. */
#include <CUnit/Basic.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "tests/lib/link_stage.h"

/* ---- claims: ends ---- */

static void peer_that_vanishes_inside_a_frame_is_seen(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 12);
    char all[512];
    tr_msg *msg = tr_stage_delta(0, 64);
    size_t size = tr_stage_frame(msg, 1, all);
    tr_msg_free(msg);
    tr_stage_raw_write(&s, all, size);
    tr_stage_raw_write(&s, all, size / 2);
    CU_ASSERT_EQUAL(s.a.count, 1);
    CU_ASSERT(tr_memory_net_cut(s.net, 0));
    tr_stage_run(&s);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(s.b.closed, 1);
    CU_ASSERT_FALSE(tr_memory_net_cut(s.net, 0));
    tr_stage_tear_down(&s);
}

static void half_open_peer_is_not_told_of(void) {
    tr_stage s;
    tr_stage_set_up(&s, 13);
    tr_stage_connect(&s);
    CU_ASSERT(tr_memory_net_half_open(s.net, 0));
    tr_to_send out = {.msgs = {tr_stage_delta(0, 64)}, .count = 1};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT_EQUAL(out.err, TR_OK);
    CU_ASSERT_EQUAL(s.a.count, 0);
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    CU_ASSERT_EQUAL(s.b.end, TR_OK);
    tr_stage_tear_down(&s);
}

static void nobody_listens_is_said(void) {
    tr_stage s;
    tr_stage_set_up(&s, 14);
    tr_memory_faults faults = {.refused_per_million = 1000000};
    tr_memory_net_set_faults(s.net, &faults);
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_dial, NULL);
    CU_ASSERT(s.b.dial_failed);
    CU_ASSERT_PTR_NULL(s.b.link);
    tr_stage_tear_down(&s);
}

static void peer_that_does_not_read_stalls_the_link(void) {
    tr_stage s;
    tr_stage_set_up(&s, 15);
    s.a.raw = true;
    s.a.reads = false;
    s.b.out_max = 1UL << 20;
    tr_stage_connect(&s);
    size_t sent = 0;
    tr_err err = TR_OK;
    for (int turn = 0; turn < 100 && err == TR_OK; turn++) {
        tr_to_send out = {.count = 10};
        for (uint32_t i = 0; i < 10; i++) {
            out.msgs[i] = tr_stage_delta(i, 30000);
        }
        tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
        sent += out.sent;
        err = out.err;
        CU_ASSERT(tr_link_pending(s.b.link) <= s.b.out_max);
    }
    CU_ASSERT_EQUAL(err, TR_ERR_STALLED);
    CU_ASSERT(sent * 30000 > (1UL << 20)); /* the window and what waits */
    CU_ASSERT(tr_link_pending(s.b.link) > s.b.out_max - 31000);
    tr_stage_tear_down(&s);
}

static void do_finish(tr_self *self, tr_station *me, void *arg) {
    if (arg != NULL) {
        tr_stage_do_send(self, me, arg);
    }
    tr_link_finish(me->link, self);
    tr_link_finish(me->link, self);
}

/* Whether the transport takes all at once, parts or nothing. */
static void finish_lets_what_is_queued_go_out(void) {
    for (uint32_t seed = 16; seed < 40; seed++) {
        for (uint32_t count = 1; count <= 60; count += 59) {
            tr_stage s;
            tr_stage_set_up(&s, seed);
            tr_memory_faults faults = {.at_once_per_million = seed % 3 * 500000};
            tr_memory_net_set_faults(s.net, &faults);
            tr_stage_connect(&s);
            tr_to_send out = {.count = count};
            for (uint32_t i = 0; i < count; i++) {
                out.msgs[i] = tr_stage_delta(i, 20000);
            }
            tr_stage_tell_and_run(&s, &s.b, do_finish, &out);
            CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
            CU_ASSERT_EQUAL(s.a.count, count);
            CU_ASSERT_EQUAL(s.a.end, TR_ERR_CLOSED);
            tr_stage_tear_down(&s);
        }
    }
}

static void finish_of_a_quiet_link_ends_it(void) {
    tr_stage s;
    tr_stage_set_up(&s, 17);
    tr_stage_connect(&s);
    tr_stage_tell_and_run(&s, &s.b, do_finish, NULL);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_CLOSED);
    tr_stage_tear_down(&s);
}

/* A station frees its link on an error; this one says why first. */
static void do_listen_to_garbage(tr_self *self, tr_station *me, void *arg) {
    (void)self;
    me->keeps = *(bool *)arg;
}

static void last_words_reach_a_peer_that_broke_the_protocol(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 23);
    bool keeps = true;
    tr_stage_tell_and_run(&s, &s.a, do_listen_to_garbage, &keeps);
    uint8_t junk[1000];
    memset(junk, 0xff, sizeof junk);
    tr_stage_raw_write(&s, junk, sizeof junk);
    CU_ASSERT(s.a.end == TR_ERR_PROTOCOL || s.a.end == TR_ERR_TOO_LARGE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s.a.link);
    tr_stage_raw_write(&s, junk, sizeof junk); /* is dropped */
    tr_msg *fail = tr_msg_failf(TR_ERR_PROTOCOL, "what was that?");
    size_t size = TR_FRAME_HEADER_size + fail->size;
    tr_to_send out = {.msgs = {fail}, .count = 1};
    tr_stage_tell_and_run(&s, &s.a, do_finish, &out);
    CU_ASSERT_EQUAL(s.b.received, size);
    CU_ASSERT_EQUAL(s.b.closed, 1);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(s.a.count, 0);
    tr_stage_tear_down(&s);
}

static tr_err refuse(tr_self *self, void *state, tr_msg **msg) {
    tr_err err = tr_stage_note(self, state, msg);
    (void)err;
    return TR_ERR_AUTH;
}

static void error_of_the_owner_closes(void) {
    tr_stage s;
    tr_stage_set_up(&s, 18);
    s.a.fn = refuse;
    tr_stage_connect(&s);
    tr_to_send out = {.msgs = {tr_stage_delta(0, 1), tr_stage_delta(1, 1)}, .count = 2};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT_EQUAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_AUTH);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    tr_stage_tear_down(&s);
}

static tr_err free_it(tr_self *self, void *state, tr_msg **msg) {
    tr_err err = tr_stage_note(self, state, msg);
    tr_link_free(((tr_station *)state)->link);
    return err;
}

static void owner_may_free_the_link_inside_a_frame(void) {
    tr_stage s;
    tr_stage_set_up(&s, 19);
    s.a.fn = free_it;
    tr_stage_connect(&s);
    tr_to_send out = {.msgs = {tr_stage_delta(0, 1), tr_stage_delta(1, 1)}, .count = 2};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT_EQUAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.end, TR_DONE);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    tr_stage_tear_down(&s);
}

/* ---- claims: the handover ---- */

static tr_err hand_over(tr_self *self, void *state, tr_msg **msg) {
    tr_station *me = state;
    tr_err err = tr_stage_note(self, state, msg);
    if ((*msg)->kind != TR_KIND_HELLO) {
        return err;
    }
    tr_stream *stream = tr_link_detach(me->link);
    if (stream == NULL) {
        me->refused++;
        return TR_OK;
    }
    tr_msg *handover =
        tr_handover_new(stream, (const tr_hello *)(const void *)(*msg)->data, (*msg)->size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(handover);
    CU_ASSERT_EQUAL(tr_send(self, me->stage->c.id, &handover), TR_OK);
    return TR_OK;
}

static void handed_over_stream_goes_on_at_its_new_owner(void) {
    tr_stage s;
    tr_stage_set_up(&s, 20);
    s.a.fn = hand_over;
    tr_stage_connect(&s);
    tr_to_send first = {.msgs = {tr_stage_hello()}, .count = 1};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &first);
    CU_ASSERT_EQUAL(s.a.end, TR_DONE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s.c.link);
    tr_to_send there = {.msgs = {tr_stage_ping(TR_KIND_PONG, 1), tr_stage_delta(0, 5)}, .count = 2};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &there);
    CU_ASSERT_EQUAL(s.c.count, 2);
    tr_to_send back = {.msgs = {tr_stage_welcome(), tr_stage_submit(500)}, .count = 2};
    tr_stage_tell_and_run(&s, &s.c, tr_stage_do_send, &back);
    CU_ASSERT_EQUAL(s.b.count, 2);
    CU_ASSERT_EQUAL(s.a.count, 1);
    tr_stage_tear_down(&s);
}

static void what_follows_the_hello_at_once_refuses_a_handover(void) {
    tr_stage s;
    tr_stage_set_up(&s, 21);
    s.a.fn = hand_over;
    tr_stage_connect(&s);
    tr_to_send out = {.msgs = {tr_stage_hello(), tr_stage_ping(TR_KIND_PONG, 1)}, .count = 2};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT_EQUAL(s.a.refused, 1);
    CU_ASSERT_EQUAL(s.a.count, 2);
    CU_ASSERT_PTR_NOT_NULL(s.a.link);
    tr_stage_tear_down(&s);
}

static void handover_that_nobody_takes_closes_the_stream(void) {
    tr_stage s;
    tr_stage_set_up(&s, 22);
    s.a.fn = hand_over;
    s.c.refused = 1;
    tr_stage_connect(&s);
    tr_to_send out = {.msgs = {tr_stage_hello()}, .count = 1};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT_EQUAL(s.a.end, TR_DONE);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    tr_stage_tear_down(&s);
}

static void do_detach(tr_self *self, tr_station *me, void *arg) {
    (void)arg;
    tr_stream *stream = tr_link_detach(me->link);
    CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
    me->link = NULL;
    tr_hello nothing = {.magic = TR_HELLO_MAGIC, .version_min = 1, .version_max = 1, .role = 2};
    tr_msg *handover = tr_handover_new(stream, &nothing, sizeof nothing);
    CU_ASSERT_EQUAL(tr_send(self, me->stage->c.id, &handover), TR_OK);
}

/* Frames wait in the old owner's mailbox, before or after its order to let go, or in the transport:
 * none is lost. */
static void nothing_is_lost_while_a_stream_changes_hands(void) {
    uint32_t moved = 0;
    for (uint64_t seed = 1; seed <= 80; seed++) {
        tr_stage s;
        tr_stage_set_up(&s, seed);
        tr_stage_connect(&s);
        tr_to_send out = {.count = 3};
        for (uint32_t i = 0; i < 3; i++) {
            out.msgs[i] = tr_stage_delta(i, 100);
        }
        tr_stage_tell(&s, &s.b, tr_stage_do_send, &out);
        bool late = seed % 2 == 0;
        if (!late) {
            tr_stage_tell(&s, &s.a, do_detach, NULL);
        }
        for (uint64_t i = 0; i < seed % 7; i++) { /* some way towards a's mailbox; a does not run */
            tr_stage_step(&s, 1);
        }
        if (late) {
            tr_stage_tell(&s, &s.a, do_detach, NULL);
        }
        tr_stage_run(&s);
        CU_ASSERT_EQUAL(s.a.count + s.c.count, 3);
        moved += s.c.count == 3;
        tr_to_send more = {.msgs = {tr_stage_delta(3, 9)}, .count = 1};
        tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &more);
        CU_ASSERT_EQUAL(s.a.count + s.c.count, 4);
        CU_ASSERT(s.c.count > 0);
        tr_stage_tear_down(&s);
    }
    CU_ASSERT(moved > 40);
}

int main(void) {
    tr_stage_memory();
    CU_TestInfo tests[] = {
        {"peer_that_vanishes_inside_a_frame_is_seen", peer_that_vanishes_inside_a_frame_is_seen},
        {"half_open_peer_is_not_told_of", half_open_peer_is_not_told_of},
        {"nobody_listens_is_said", nobody_listens_is_said},
        {"peer_that_does_not_read_stalls_the_link", peer_that_does_not_read_stalls_the_link},
        {"finish_lets_what_is_queued_go_out", finish_lets_what_is_queued_go_out},
        {"finish_of_a_quiet_link_ends_it", finish_of_a_quiet_link_ends_it},
        {"last_words_reach_a_peer_that_broke_the_protocol",
         last_words_reach_a_peer_that_broke_the_protocol},
        {"error_of_the_owner_closes", error_of_the_owner_closes},
        {"owner_may_free_the_link_inside_a_frame", owner_may_free_the_link_inside_a_frame},
        {"handed_over_stream_goes_on_at_its_new_owner",
         handed_over_stream_goes_on_at_its_new_owner},
        {"what_follows_the_hello_at_once_refuses_a_handover",
         what_follows_the_hello_at_once_refuses_a_handover},
        {"handover_that_nobody_takes_closes_the_stream",
         handover_that_nobody_takes_closes_the_stream},
        {"nothing_is_lost_while_a_stream_changes_hands",
         nothing_is_lost_while_a_stream_changes_hands},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"link_end", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
