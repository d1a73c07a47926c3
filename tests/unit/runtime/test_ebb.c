/* What a shard keeps after many actors have ended at once, and that no name of theirs is used
 * again: ids of actors and timers from before reach nobody after. */
#include <CUnit/Basic.h>
#include <malloc.h>
#include <stdlib.h>

#include "runtime/memory.h"
#include "tests/lib/puppet.h"

#define CROWD 1000U
#define WAIT_us 500000U

static size_t bytes_alive;

static void *counting_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    size_t before = malloc_usable_size(ptr);
    void *now = realloc(ptr, size);
    bytes_alive += now == NULL ? 0 : malloc_usable_size(now) - before;
    return now;
}

static void counting_release(void *arg, void *ptr) {
    (void)arg;
    bytes_alive -= malloc_usable_size(ptr);
    free(ptr);
}

static puppet_record crowd[CROWD], stays, last;
static uint64_t timers[CROWD];

static void watch_and_wait(tr_self *self, void *arg) {
    uint64_t *timer = arg, ref = 0;
    CU_ASSERT_EQUAL(tr_timer_start(self, 3600000000U, 1, timer), TR_OK);
    CU_ASSERT_EQUAL(tr_monitor(self, stays.id, &ref), TR_OK);
}

static void gather(tr_node *node) {
    for (uint32_t i = 0; i < CROWD; i++) {
        puppet_start(node, 0, &crowd[i]);
        puppet_tell(node, &crowd[i], watch_and_wait, &timers[i]);
    }
}

static void disperse(tr_node *node, uint32_t from) {
    for (uint32_t i = from; i < CROWD; i++) {
        puppet_post(node, &crowd[i], PUPPET_END);
    }
}

static uint64_t deadline(tr_node *node) {
    return tr_shard_deadline_us(tr_node_shard(node, 0));
}

static void tables_of_a_peak_are_given_back(void) {
    static const tr_memory counting = {.resize = counting_resize, .release = counting_release};
    tr_memory_set(&counting);
    tr_node *node = puppet_node(1);
    puppet_start(node, 0, &stays);
    size_t before = bytes_alive;
    gather(node);
    puppet_start(node, 0, &last); /* in the last page */
    disperse(node, 0);
    size_t kept = bytes_alive - before;
    CU_ASSERT_TRUE(kept > (size_t)CROWD * 200);
    CU_ASSERT_EQUAL(deadline(node), puppet_clock_us + WAIT_us);
    puppet_wait_us(node, WAIT_us - 1);
    CU_ASSERT_EQUAL(bytes_alive - before, kept);
    puppet_wait_us(node, 1);
    CU_ASSERT_TRUE(bytes_alive - before < kept / 3); /* a page is left for `last` */
    CU_ASSERT_EQUAL(deadline(node), UINT64_MAX);
    puppet_post(node, &last, PUPPET_NOTE);
    CU_ASSERT_EQUAL(last.count, 1);
    tr_node_free(node);
    CU_ASSERT_EQUAL(bytes_alive, 0);
    tr_memory_set(NULL);
}

static void cancel_old(tr_self *self, void *arg) {
    uint64_t *old = arg;
    tr_timer_cancel(self, old);
}

static void send_to_old(tr_self *self, void *arg) {
    const tr_id *old = arg;
    for (uint32_t i = 0; i < CROWD; i++) {
        CU_ASSERT_EQUAL(tr_send_control(self, old[i], puppet_msg(PUPPET_NOTE, i)), TR_OK);
    }
}

static void ids_from_before_reach_nobody_after(void) {
    static tr_id old[CROWD];
    tr_node *node = puppet_node(1);
    puppet_start(node, 0, &stays);
    for (int round = 0; round < 3; round++) {
        static uint64_t old_timers[CROWD];
        for (uint32_t i = 0; i < CROWD; i++) {
            old[i] = crowd[i].id;
            old_timers[i] = timers[i];
        }
        gather(node);
        if (round > 0) {
            puppet_tell(node, &stays, send_to_old, old);
            for (uint32_t i = 0; i < CROWD; i++) {
                puppet_tell(node, &crowd[i], cancel_old, &old_timers[i]);
            }
        }
        uint64_t now = puppet_clock_us;
        puppet_wait_us(node, 3600000000U);
        for (uint32_t i = 0; i < CROWD; i++) {
            CU_ASSERT_EQUAL_FATAL(crowd[i].count, 1);
            CU_ASSERT_EQUAL(crowd[i].got[0].kind, TR_KIND_TIMER);
            CU_ASSERT_EQUAL(crowd[i].got[0].ref, timers[i]);
        }
        CU_ASSERT_EQUAL(puppet_clock_us, now + 3600000000U);
        disperse(node, 0);
        puppet_wait_us(node, WAIT_us);
        CU_ASSERT_EQUAL(deadline(node), UINT64_MAX);
    }
    tr_node_free(node);
}

static void neither_a_few_nor_half_of_a_peak_set_a_time(void) {
    tr_node *node = puppet_node(1);
    puppet_start(node, 0, &stays);
    for (uint32_t i = 0; i < 60; i++) {
        puppet_start(node, 0, &crowd[i]);
    }
    for (uint32_t i = 0; i < 60; i++) {
        puppet_post(node, &crowd[i], PUPPET_END);
    }
    CU_ASSERT_EQUAL(deadline(node), UINT64_MAX);
    for (uint32_t i = 0; i < CROWD; i++) {
        puppet_start(node, 0, &crowd[i]);
    }
    disperse(node, CROWD / 2);
    CU_ASSERT_EQUAL(deadline(node), UINT64_MAX);
    for (uint32_t i = 0; i < CROWD / 2; i++) {
        puppet_post(node, &crowd[i], PUPPET_END);
    }
    CU_ASSERT_EQUAL(deadline(node), puppet_clock_us + WAIT_us);
    gather(node); /* another peak before the first has passed */
    puppet_wait_us(node, WAIT_us);
    CU_ASSERT_TRUE(deadline(node) > puppet_clock_us + WAIT_us); /* their timers */
    tr_node_free(node);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(tables_of_a_peak_are_given_back),
        PUPPET_TEST(ids_from_before_reach_nobody_after),
        PUPPET_TEST(neither_a_few_nor_half_of_a_peak_set_a_time),
    };
    return puppet_main("ebb", tests, sizeof(tests) / sizeof(tests[0]));
}
