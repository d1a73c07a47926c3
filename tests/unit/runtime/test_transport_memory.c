/* The memory transport: the same seed gives the same run, and each fault does what it says. */
#include <CUnit/Basic.h>
#include <string.h>

#include "protocol/limits.h"
#include "tests/lib/link_stage.h"

/* Frames both ways under every fault; a number made of all that was seen, step by step. */
static uint64_t trace_of(uint64_t seed, const tr_memory_faults *faults) {
    tr_stage s;
    tr_stage_set_up(&s, seed);
    tr_memory_net_set_faults(s.net, faults);
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_dial, NULL);
    uint64_t trace = 14695981039346656037U;
    for (uint32_t round = 0; round < 20; round++) {
        tr_to_send there = {.count = 5};
        tr_to_send back = {.count = 5};
        for (uint32_t i = 0; i < 5; i++) {
            there.msgs[i] = tr_stage_delta(i, 500);
            back.msgs[i] = tr_stage_delta(i, 300);
        }
        bool open = s.a.link != NULL && s.b.link != NULL;
        tr_stage_tell(&s, &s.a, open ? tr_stage_do_send : tr_stage_do_drop, &back);
        tr_stage_tell(&s, &s.b, open ? tr_stage_do_send : tr_stage_do_drop, &there);
        for (uint32_t i = 0; i < 12; i++) {
            tr_stage_step(&s, i % 2);
            uint64_t seen[] = {s.a.count, s.b.count, (uint64_t)s.a.end, (uint64_t)s.b.end,
                               tr_memory_net_due_us(s.net)};
            for (size_t k = 0; k < sizeof seen / sizeof seen[0]; k++) {
                trace = (trace ^ seen[k]) * 1099511628211U;
            }
        }
        tr_stage_run(&s);
    }
    tr_stage_tear_down(&s);
    return trace;
}

static void same_seed_gives_the_same_run(void) {
    tr_memory_faults faults = {.delay_min_us = 10,
                               .delay_max_us = 900,
                               .split_max = 400,
                               .cuts_per_million = 2000,
                               .half_open_per_million = 1000,
                               .refused_per_million = 50000};
    uint32_t different = 0;
    uint64_t before = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        uint64_t trace = trace_of(seed, &faults);
        CU_ASSERT_EQUAL(trace, trace_of(seed, &faults));
        different += trace != before;
        before = trace;
    }
    CU_ASSERT(different > 40);
}

static void bytes_arrive_after_their_delay(void) {
    tr_stage s;
    tr_stage_set_up_raw(&s, 3);
    tr_memory_faults faults = {.delay_min_us = 5000, .delay_max_us = 5000};
    tr_memory_net_set_faults(s.net, &faults);
    tr_msg *msg = tr_stage_ping(TR_KIND_PING, 1);
    char bytes[128];
    size_t size = tr_stage_frame(msg, 1, bytes);
    tr_msg_free(msg);
    uint64_t before_us = tr_stage_clock_us();
    tr_stage_raw_write(&s, bytes, size);
    CU_ASSERT_EQUAL(s.a.count, 1);
    CU_ASSERT_EQUAL(tr_stage_clock_us() - before_us, 5000);
    tr_stage_tear_down(&s);
}

static void split_gives_pieces_of_at_most_its_size(void) {
    tr_stage s;
    tr_stage_set_up(&s, 4);
    s.a.raw = true;
    tr_memory_faults faults = {.split_max = 100};
    tr_memory_net_set_faults(s.net, &faults);
    tr_stage_connect(&s);
    tr_to_send out = {.msgs = {tr_stage_delta(0, 10000)}, .count = 1};
    tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
    CU_ASSERT(s.a.received > 10000);
    CU_ASSERT(s.a.receives >= s.a.received / 100);
    tr_stage_tear_down(&s);
}

static void faults_come_about_as_often_as_asked(void) {
    uint32_t cut = 0;
    uint32_t silent = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        tr_stage s;
        tr_stage_set_up(&s, seed);
        tr_stage_connect(&s);
        tr_memory_faults faults = {.cuts_per_million = 100000, .half_open_per_million = 100000};
        tr_memory_net_set_faults(s.net, &faults);
        for (uint32_t i = 0; i < 10 && s.b.link != NULL; i++) {
            tr_to_send out = {.msgs = {tr_stage_delta(0, 10)}, .count = 1};
            tr_stage_tell_and_run(&s, &s.b, tr_stage_do_send, &out);
        }
        cut += s.b.end == TR_ERR_CLOSED;
        silent += s.b.link != NULL && s.a.count < 10;
        tr_stage_tear_down(&s);
    }
    CU_ASSERT(cut > 10 && cut < 50);
    CU_ASSERT(silent > 5 && silent < 50);
}

static void second_listener_of_an_address_is_refused(void) {
    tr_stage s;
    tr_stage_set_up(&s, 6);
    bool refused = false;
    tr_stage_tell_and_run(&s, &s.c, tr_stage_do_listen_again, &refused);
    CU_ASSERT(refused);
    tr_stage_tear_down(&s);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"same_seed_gives_the_same_run", same_seed_gives_the_same_run},
        {"bytes_arrive_after_their_delay", bytes_arrive_after_their_delay},
        {"split_gives_pieces_of_at_most_its_size", split_gives_pieces_of_at_most_its_size},
        {"faults_come_about_as_often_as_asked", faults_come_about_as_often_as_asked},
        {"second_listener_of_an_address_is_refused", second_listener_of_an_address_is_refused},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"transport_memory", NULL, NULL, NULL, NULL, tests},
                             CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
