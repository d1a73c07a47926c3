/* Every allocation of a supervised company fails once: each time the company comes up or says why
 * not, restarts what died of it, stops when told to, and gives everything back. */
#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/supervisor.h"
#include "tests/lib/puppet.h"

/* ---- memory that counts, and fails at one call or from it on ---- */

static uint64_t calls;
static uint64_t fail_at; /* 0 = never */
static bool fail_on;     /* all calls after it as well */
static int64_t alive;

static void *counting_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    calls++;
    if (fail_at != 0 && (calls == fail_at || (fail_on && calls > fail_at))) {
        return NULL;
    }
    void *now = realloc(ptr, size);
    alive += ptr == NULL && now != NULL ? 1 : 0;
    return now;
}

static void counting_release(void *arg, void *ptr) {
    (void)arg;
    alive--;
    free(ptr);
}

static void open_memory(uint64_t at, bool on) {
    static const tr_memory table = {.resize = counting_resize, .release = counting_release};
    calls = 0;
    alive = 0;
    fail_at = at;
    fail_on = on;
    tr_memory_set(&table);
}

/* ---- an actor that does a little of everything ---- */

enum { KIND_WORK = 100, KIND_CRASH, KIND_GIFT };

static const tr_behaviour child_behaviour;
static const tr_behaviour helper_behaviour;

static tr_err child_init(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    uint64_t timer;
    return tr_timer_start(self, 1000, 1, &timer);
}

static tr_err give(tr_self *self, tr_id to) {
    tr_msg *msg = tr_msg_new(KIND_GIFT, 100);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    msg->body = tr_body_new(1000);
    if (msg->body == NULL) {
        tr_msg_free(msg);
        return TR_ERR_NOMEM;
    }
    return tr_send(self, to, &msg);
}

static tr_err work(tr_self *self) {
    tr_id peer = tr_whereis(tr_self_node(self), "b");
    tr_id helper;
    uint64_t ref;
    tr_spawn_spec spec = {.behaviour = &helper_behaviour, .name = "helper"};
    tr_err err = tr_spawn(self, &spec, &helper);
    err = err == TR_OK ? tr_monitor(self, helper, &ref) : err;
    err = err == TR_OK ? tr_link_to(self, helper) : err;
    err = err == TR_OK ? tr_monitor(self, peer, &ref) : err;
    err = err == TR_OK ? tr_link_to(self, peer) : err;
    err = err == TR_OK ? give(self, peer) : err;
    err = err == TR_OK ? give(self, helper) : err;
    err = err == TR_OK ? tr_spawn_on(self, 1, &spec, 5) : err;
    for (uint32_t i = 0; i < 70 && err == TR_OK; i++) { /* more than the timers' first room */
        err = tr_timer_start(self, 1000000, 2, &ref);
    }
    tr_unlink(self, peer);
    tr_exit(self, helper, TR_ERR_SHUTDOWN);
    return err;
}

static tr_err child_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)state;
    switch ((*msg)->kind) {
    case KIND_WORK:
        return work(self);
    case KIND_CRASH:
        return TR_ERR_BUG;
    default:
        return TR_OK;
    }
}

static const tr_behaviour child_behaviour = {
    .name = "child", .state_size = 64, .init = child_init, .handle = child_handle};
static const tr_behaviour helper_behaviour = {
    .name = "helper", .state_size = 64, .handle = child_handle};

/* ---- the company ---- */

static void post(tr_node *node, const char *name, uint16_t kind, size_t size) {
    tr_msg *msg = tr_msg_new(kind, size);
    if (msg != NULL) {
        if (kind == TR_KIND_EXIT) {
            ((tr_ended *)(void *)msg->data)->reason = TR_ERR_SHUTDOWN;
        }
        tr_post(node, tr_whereis(node, name), msg);
    }
    puppet_run(node);
}

static uint32_t actors(const tr_node *node) {
    return tr_shard_actors(tr_node_shard(node, 0)) + tr_shard_actors(tr_node_shard(node, 1));
}

static uint64_t test_now(void *arg) {
    (void)arg;
    return puppet_clock_us;
}

/* Raises, works, crashes, stops. False when the failing call was never reached. */
static bool perform(uint64_t at, bool on) {
    open_memory(at, on);
    puppet_clock_us = 1000;
    tr_child_spec children[2] = {{.name = "a",
                                  .behaviour = &child_behaviour,
                                  .shutdown_ms = 1000,
                                  .shard = 0,
                                  .registers = true},
                                 {.name = "b",
                                  .behaviour = &child_behaviour,
                                  .shutdown_ms = 1000,
                                  .shard = 1,
                                  .registers = true}};
    tr_supervisor_args args = {.strategy = TR_ONE_FOR_ALL,
                               .intensity = 5,
                               .period_ms = 60000,
                               .children = children,
                               .child_count = 2};
    tr_spawn_spec top = {.behaviour = &tr_supervisor,
                         .args = &args,
                         .args_size = sizeof args,
                         .name = "top",
                         .registers = true};
    tr_node_spec spec = {.shards = 2, .platform = {.now_us = test_now}};
    tr_node *node = NULL;
    tr_err err = tr_node_new(&spec, &node);
    CU_ASSERT(err == TR_OK || err == TR_ERR_NOMEM);
    if (err == TR_OK) {
        err = tr_node_spawn(node, 0, &top);
        CU_ASSERT(err == TR_OK || err == TR_ERR_NOMEM);
        puppet_run(node);
        bool up = tr_whereis(node, "top") != TR_ID_NONE;
        /* Whatever did not come up is gone altogether. */
        CU_ASSERT_EQUAL(actors(node), up ? 3 : 0);
        post(node, "a", KIND_WORK, 0);
        post(node, "a", KIND_CRASH, 0);
        for (uint32_t i = 0; i < 20; i++) {
            puppet_wait_us(node, 100000);
        }
        if (!on && tr_whereis(node, "top") != TR_ID_NONE) {
            /* One failure at most kills one child once more: both are up again. */
            CU_ASSERT_NOT_EQUAL(tr_whereis(node, "a"), TR_ID_NONE);
            CU_ASSERT_NOT_EQUAL(tr_whereis(node, "b"), TR_ID_NONE);
        }
        fail_on = false; /* the daemon is told to stop when memory is there again */
        uint64_t before = calls;
        post(node, "top", TR_KIND_EXIT, sizeof(tr_ended));
        puppet_wait_us(node, 2000000);
        bool told = at <= before || at > calls || at == 0;
        CU_ASSERT(!told || tr_whereis(node, "top") == TR_ID_NONE);
        CU_ASSERT(!told || tr_whereis(node, "a") == TR_ID_NONE);
        CU_ASSERT(!told || tr_whereis(node, "b") == TR_ID_NONE);
        tr_node_free(node);
    } else {
        CU_ASSERT_PTR_NULL(node);
    }
    CU_ASSERT_EQUAL(alive, 0);
    bool reached = at != 0 && calls >= at;
    tr_memory_set(NULL);
    return reached;
}

static void company_gives_back_all_memory(void) {
    CU_ASSERT(!perform(0, false));
    CU_ASSERT(calls > 100);
}

static void any_one_failed_allocation_is_survived(void) {
    uint64_t at = 1;
    while (perform(at, false)) {
        at++;
    }
    CU_ASSERT(at > 100);
}

static void memory_that_stays_away_is_an_error_and_no_crash(void) {
    uint64_t at = 1;
    while (at < 1000 && perform(at, true)) {
        at++;
    }
    CU_ASSERT(at > 100);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(company_gives_back_all_memory),
        PUPPET_TEST(any_one_failed_allocation_is_survived),
        PUPPET_TEST(memory_that_stays_away_is_an_error_and_no_crash),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, -1);
    return puppet_main("memory", tests, sizeof tests / sizeof tests[0]);
}
