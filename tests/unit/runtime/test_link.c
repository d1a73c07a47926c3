/* Links over the memory transport: what goes in comes out, whole, whatever happens on the way; and
 * what a peer may not do. */
#include <CUnit/Basic.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "tests/lib/link_stage.h"

/* ---- claims: whole frames ---- */

static void every_kind_arrives_as_sent(void) {
    tr_stage s;
    tr_stage_set_up(&s, 1);
    tr_stage_connect(&s);
    tr_to_send out = {.msgs = {tr_stage_hello(), tr_stage_welcome(), tr_stage_submit(100),
                               tr_stage_delta(0, 64), tr_msg_credit(3, 300), tr_stage_done(),
                               tr_msg_failf(TR_ERR_TIMEOUT, "too late"),
                               tr_msg_cancel(TR_ERR_CANCELLED), tr_stage_ping(TR_KIND_PING, 7),
                               tr_stage_ping(TR_KIND_PONG, 7), tr_stage_submit(1UL << 20)},
                      .count = 11};
    uint16_t kinds[11];
    uint32_t sums[11];
    for (size_t i = 0; i < out.count; i++) {
        kinds[i] = out.msgs[i]->kind;
        sums[i] = tr_stage_sum(out.msgs[i]);
    }
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT_EQUAL(out.err, TR_OK);
    CU_ASSERT_EQUAL_FATAL(s.a.count, out.count);
    for (size_t i = 0; i < out.count; i++) {
        CU_ASSERT_EQUAL(s.a.seen[i].kind, kinds[i]);
        CU_ASSERT_EQUAL(s.a.seen[i].ref, 1000 + i);
        CU_ASSERT_EQUAL(s.a.seen[i].sum, sums[i]);
        CU_ASSERT_EQUAL(s.a.seen[i].flags, kinds[i] == TR_KIND_SUBMIT ? TR_MSG_OPENING : 0);
    }
    CU_ASSERT_EQUAL(tr_link_pending(s.b.link), 0);
    tr_stage_tear_down(&s);
}

static void frames_of_one_step_leave_together(void) {
    tr_stage s;
    tr_stage_set_up(&s, 2);
    s.a.raw = true;
    tr_stage_connect(&s);
    tr_to_send out = {.count = 100};
    size_t expected = 0;
    for (uint32_t i = 0; i < 100; i++) {
        out.msgs[i] = tr_stage_delta(i, 64);
        expected += TR_FRAME_HEADER_size + out.msgs[i]->size;
    }
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT_EQUAL(s.a.receives, 1);
    CU_ASSERT_EQUAL(s.a.received, expected);
    tr_stage_tear_down(&s);
}

static void frames_split_at_every_offset_arrive(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 3);
    char all[1024];
    tr_msg *msgs[] = {tr_stage_submit(57), tr_stage_delta(1, 33), tr_stage_ping(TR_KIND_PING, 5)};
    uint32_t sums[3];
    size_t size = 0;
    for (size_t i = 0; i < 3; i++) {
        sums[i] = tr_stage_sum(msgs[i]);
        size += tr_stage_frame(msgs[i], i, all + size);
        tr_msg_free(msgs[i]);
    }
    for (size_t at = 1; at < size; at++) {
        s.a.count = 0;
        tr_stage_raw_write(&s, all, at);
        tr_stage_raw_write(&s, all + at, size - at);
        CU_ASSERT_EQUAL_FATAL(s.a.count, 3);
        for (size_t i = 0; i < 3; i++) {
            CU_ASSERT_EQUAL(s.a.seen[i].sum, sums[i]);
            CU_ASSERT_EQUAL(s.a.seen[i].ref, i);
        }
    }
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    tr_stage_tear_down(&s);
}

static void frames_arrive_through_every_fault_of_delivery(void) {
    for (uint64_t seed = 1; seed <= 30; seed++) {
        tr_stage s;
        tr_stage_set_up(&s, seed);
        tr_memory_faults faults = {.delay_max_us = 5000,
                                   .split_max = seed % 3 == 0 ? 1 : 100 * (uint32_t)seed,
                                   .at_once_per_million = (uint32_t)(seed % 4) * 330000};
        tr_memory_net_set_faults(s.net, &faults);
        tr_stage_connect(&s);
        tr_to_send out = {.count = 40};
        uint32_t sums[40];
        for (uint32_t i = 0; i < 40; i++) {
            out.msgs[i] = i % 10 == 9 ? tr_stage_submit(3000) : tr_stage_delta(i, i * 7);
            sums[i] = tr_stage_sum(out.msgs[i]);
        }
        tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
        CU_ASSERT_EQUAL_FATAL(s.a.count, 40);
        for (uint32_t i = 0; i < 40; i++) {
            CU_ASSERT_EQUAL(s.a.seen[i].sum, sums[i]);
        }
        tr_stage_tear_down(&s);
    }
}

static void both_ways_at_once(void) {
    tr_stage s;
    tr_stage_set_up(&s, 5);
    tr_stage_connect(&s);
    tr_to_send there = {.count = 50};
    tr_to_send back = {.count = 50};
    for (uint32_t i = 0; i < 50; i++) {
        there.msgs[i] = tr_stage_delta(i, 30000);
        back.msgs[i] = tr_stage_delta(i, 20000);
    }
    tr_stage_tell(&s, &s.a, tr_stage_do_send, &back);
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &there);
    CU_ASSERT_EQUAL(s.a.count, 50);
    CU_ASSERT_EQUAL(s.b.count, 50);
    tr_stage_tear_down(&s);
}

/* ---- claims: bad input ---- */

static void claim_of_one_gibibyte_is_refused(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 6);
    uint8_t head[TR_FRAME_HEADER_size] = {0};
    uint32_t size = (1U << 30) + 20;
    memcpy(head, &size, 4);
    head[4] = TR_KIND_SUBMIT;
    head[16] = 44;
    tr_stage_largest = 0;
    tr_stage_raw_write(&s, head, sizeof head);
    CU_ASSERT(s.a.end == TR_ERR_TOO_LARGE || s.a.end == TR_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(s.b.closed, 1);
    CU_ASSERT(tr_stage_largest < 4096);
    tr_stage_tear_down(&s);
}

static void claim_alone_takes_no_memory(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 7);
    tr_frame frame = {.kind = TR_KIND_SUBMIT, .inline_size = 49, .body_size = TR_FRAME_BODY_max};
    uint8_t head[TR_FRAME_HEADER_size];
    tr_frame_encode(&frame, head);
    tr_stage_largest = 0;
    tr_stage_raw_write(&s, head, sizeof head);
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    CU_ASSERT(tr_stage_largest <= 66 * 1024);
    tr_stage_tear_down(&s);
}

static void garbage_ends_the_link_and_nothing_else(void) {
    uint32_t ended = 0;
    for (uint32_t seed = 1; seed <= 200; seed++) {
        tr_stage s;
        tr_stage_set_up_raw(&s, seed);
        uint8_t junk[600];
        uint32_t x = seed * 2654435761U;
        for (size_t i = 0; i < sizeof junk; i++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            junk[i] = (uint8_t)x;
            if (seed % 2 == 0 && i % 24 < 4 && i % 24 > 0) {
                junk[i] = 0; /* small sizes get further */
            }
        }
        tr_stage_raw_write(&s, junk, sizeof junk);
        CU_ASSERT(s.a.end == TR_OK || s.a.end == TR_ERR_TOO_LARGE || s.a.end == TR_ERR_PROTOCOL);
        ended += s.a.end != TR_OK;
        tr_stage_tear_down(&s);
    }
    CU_ASSERT(ended > 150);
}

static void unknown_kinds_are_skipped(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 8);
    uint16_t kinds[] = {0, 7, 31, TR_KIND_STREAM, TR_KIND_HANDOVER, 200, 0xff00};
    char all[4096];
    size_t size = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        tr_frame frame = {.kind = kinds[i], .inline_size = (uint32_t)(i * 10)};
        tr_frame_encode(&frame, (uint8_t *)all + size);
        memset(all + size + TR_FRAME_HEADER_size, 0xff, i * 10);
        size += tr_frame_size(&frame);
    }
    tr_msg *last = tr_stage_ping(TR_KIND_PING, 9);
    size += tr_stage_frame(last, 77, all + size);
    tr_msg_free(last);
    tr_stage_raw_write(&s, all, size);
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    CU_ASSERT_EQUAL_FATAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.seen[0].ref, 77);
    tr_stage_tear_down(&s);
}

static void peer_cannot_set_the_runtimes_flags(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 9);
    char all[256];
    tr_msg *msg = tr_stage_ping(TR_KIND_PING, 1);
    size_t size = tr_stage_frame(msg, 1, all);
    tr_msg_free(msg);
    all[6] = (char)0x05;
    all[7] = (char)0xff;
    tr_stage_raw_write(&s, all, size);
    CU_ASSERT_EQUAL_FATAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.seen[0].flags, 5);
    tr_stage_tear_down(&s);
}

static void broken_inline_part_ends_the_link(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 10);
    char all[512];
    tr_msg *msg = tr_stage_delta(0, 64);
    size_t size = tr_stage_frame(msg, 1, all);
    tr_msg_free(msg);
    uint32_t lie = 65;
    memcpy(all + TR_FRAME_HEADER_size + offsetof(tr_delta, text_size), &lie, 4);
    tr_stage_raw_write(&s, all, size);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(s.a.count, 0);
    CU_ASSERT_EQUAL(s.b.closed, 1);
    tr_stage_tear_down(&s);
}

static void do_allow_bodies(tr_self *self, tr_station *me, void *arg) {
    (void)self;
    tr_link_set_body_max(me->link, *(size_t *)arg);
}

static void bodies_wait_until_they_are_allowed(void) {
    for (int allowed = 0; allowed < 2; allowed++) {
        tr_stage s;
        tr_stage_set_up(&s, 11);
        s.a.body_max = 0;
        tr_stage_connect(&s);
        size_t max = 1000;
        if (allowed) {
            tr_stage_tell_and_run(&s, &s.a, do_allow_bodies, &max);
        }
        tr_to_send out = {.msgs = {tr_stage_submit(1000)}, .count = 1};
        tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
        CU_ASSERT_EQUAL(s.a.count, allowed ? 1 : 0);
        CU_ASSERT_EQUAL(s.a.end, allowed ? TR_OK : TR_ERR_TOO_LARGE);
        tr_stage_tear_down(&s);
    }
}

/* ---- claims: memory ---- */

static void failing_allocation_loses_a_link_at_most(void) {
    bool whole = false;
    for (size_t nth = 1; !whole; nth++) {
        CU_ASSERT_FATAL(nth < 500);
        tr_stage s;
        tr_stage_set_up(&s, nth);
        tr_stage_connect(&s);
        tr_to_send out = {
            .msgs = {tr_stage_submit(90000), tr_stage_delta(0, 64), tr_stage_delta(1, 64)},
            .count = 3};
        tr_stage_tell(&s, &s.b, tr_stage_do_send, &out);
        tr_stage_fail_at = nth;
        tr_stage_run(&s);
        whole = tr_stage_fail_at > 0; /* the run needed fewer */
        tr_stage_fail_at = 0;
        tr_stage_run(&s);
        if (whole) {
            CU_ASSERT_EQUAL(s.a.count, 3);
        } else if (out.err == TR_OK) {
            /* It went through all the same, or somebody was told. */
            CU_ASSERT(s.a.count == 3 || s.a.end != TR_OK || s.b.end != TR_OK);
        } else {
            CU_ASSERT_EQUAL(out.err, TR_ERR_NOMEM);
        }
        tr_stage_tear_down(&s);
    }
}

int main(void) {
    tr_stage_memory();
    CU_TestInfo tests[] = {
        {"every_kind_arrives_as_sent", every_kind_arrives_as_sent},
        {"frames_of_one_step_leave_together", frames_of_one_step_leave_together},
        {"frames_split_at_every_offset_arrive", frames_split_at_every_offset_arrive},
        {"frames_arrive_through_every_fault_of_delivery",
         frames_arrive_through_every_fault_of_delivery},
        {"both_ways_at_once", both_ways_at_once},
        {"claim_of_one_gibibyte_is_refused", claim_of_one_gibibyte_is_refused},
        {"claim_alone_takes_no_memory", claim_alone_takes_no_memory},
        {"garbage_ends_the_link_and_nothing_else", garbage_ends_the_link_and_nothing_else},
        {"unknown_kinds_are_skipped", unknown_kinds_are_skipped},
        {"peer_cannot_set_the_runtimes_flags", peer_cannot_set_the_runtimes_flags},
        {"broken_inline_part_ends_the_link", broken_inline_part_ends_the_link},
        {"bodies_wait_until_they_are_allowed", bodies_wait_until_they_are_allowed},
        {"failing_allocation_loses_a_link_at_most", failing_allocation_loses_a_link_at_most},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"link", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
