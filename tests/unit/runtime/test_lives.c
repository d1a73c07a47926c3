/* Thousands of short lives that spawn, watch, link, ask each other to end and end, in a random
 * order over three shards. Whoever monitors hears of the end exactly once, unless it took the
 * monitor back or ended itself; nothing is kept of anyone. */
#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"
#include "runtime/memory.h"
#include "tests/lib/puppet.h"

#define SHARDS 3
#define KNOWN 64
#define MONITORS 8

enum { KIND_ACT = 100 };

static uint64_t seed;

static uint32_t dice(uint32_t sides) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % sides);
}

/* Some ids, alive or gone: whom an actor may turn to. */
static tr_id known[KNOWN];
static uint64_t started, ended, monitored, downs, taken_back, lost_with_watcher;
static int64_t memory_alive;

static void *counting_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    void *now = realloc(ptr, size);
    memory_alive += ptr == NULL && now != NULL ? 1 : 0;
    return now;
}

static void counting_release(void *arg, void *ptr) {
    (void)arg;
    memory_alive--;
    free(ptr);
}

typedef struct life {
    uint64_t monitors[MONITORS]; /* 0 = none */
} life;

static const tr_behaviour life_behaviour;
static const tr_behaviour trapping_behaviour;

static tr_err life_init(tr_self *self, void *state, const void *args) {
    (void)state;
    (void)args;
    if (dice(20) == 0) {
        return TR_ERR_IO;
    }
    started++;
    known[dice(KNOWN)] = tr_self_id(self);
    return TR_OK;
}

static tr_err spawn_another(tr_self *self) {
    tr_spawn_spec spec = {.behaviour = dice(3) == 0 ? &trapping_behaviour : &life_behaviour};
    tr_id id;
    if (dice(2) == 0) {
        tr_err err = tr_spawn(self, &spec, &id);
        return err == TR_ERR_IO ? TR_OK : err;
    }
    return tr_spawn_on(self, dice(SHARDS), &spec, 1);
}

static tr_err watch_somebody(tr_self *self, life *me, tr_id to) {
    for (uint32_t i = 0; i < MONITORS; i++) {
        if (me->monitors[i] == 0) {
            monitored++;
            return tr_monitor(self, to, &me->monitors[i]);
        }
    }
    return TR_OK;
}

static void take_back(tr_self *self, life *me) {
    uint64_t *ref = &me->monitors[dice(MONITORS)];
    if (*ref != 0) {
        tr_demonitor(self, *ref);
        taken_back++;
        *ref = 0;
    }
}

static tr_err act(tr_self *self, life *me) {
    tr_id other = known[dice(KNOWN)];
    uint64_t timer;
    switch (dice(12)) {
    case 0:
    case 1:
        return spawn_another(self);
    case 2:
    case 3:
        return watch_somebody(self, me, other);
    case 4:
        take_back(self, me);
        return TR_OK;
    case 5:
        return tr_link_to(self, other);
    case 6:
        tr_unlink(self, other);
        return TR_OK;
    case 7:
        tr_exit(self, other, dice(2) == 0 ? TR_ERR_SHUTDOWN : TR_ERR_CANCELLED);
        return TR_OK;
    case 8:
        return dice(3) == 0 ? TR_DONE : TR_OK;
    case 9:
        return dice(3) == 0 ? TR_ERR_BUG : TR_OK;
    case 10:
        return tr_timer_start(self, dice(100), 1, &timer);
    default:
        return tr_send_control(self, other, tr_msg_new(KIND_ACT, dice(200)));
    }
}

static tr_err life_handle(tr_self *self, void *state, tr_msg **taken) {
    life *me = state;
    const tr_msg *msg = *taken;
    if (msg->kind == TR_KIND_DOWN) {
        uint32_t i = 0;
        while (i < MONITORS && me->monitors[i] != msg->ref) {
            i++;
        }
        if (i < MONITORS) {
            downs++;
            me->monitors[i] = 0;
        } else {
            /* Only one that was taken back while its DOWN waited in the mailbox. */
            taken_back--;
            downs++;
        }
    }
    tr_err err = TR_OK;
    for (uint32_t i = 0; i < 3 && err == TR_OK; i++) {
        err = act(self, me);
    }
    return err;
}

static void life_stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    const life *me = state;
    ended++;
    for (uint32_t i = 0; i < MONITORS; i++) {
        lost_with_watcher += me->monitors[i] != 0 ? 1 : 0;
    }
    tr_id other = known[dice(KNOWN)];
    if (dice(4) == 0 && other != tr_self_id(self)) {
        tr_exit(self, other, TR_ERR_CANCELLED);
    }
}

static const tr_behaviour life_behaviour = {.name = "life",
                                            .state_size = sizeof(life),
                                            .init = life_init,
                                            .handle = life_handle,
                                            .stop = life_stop};
static const tr_behaviour trapping_behaviour = {.name = "trapping life",
                                                .state_size = sizeof(life),
                                                .traps_exit = true,
                                                .init = life_init,
                                                .handle = life_handle,
                                                .stop = life_stop};

static void live(uint64_t from_seed) {
    static const tr_memory table = {.resize = counting_resize, .release = counting_release};
    seed = from_seed * 0x9e3779b97f4a7c15U + 1;
    started = ended = monitored = downs = taken_back = lost_with_watcher = 0;
    memory_alive = 0;
    memset(known, 0, sizeof known);
    tr_memory_set(&table);
    tr_node *node = puppet_node(SHARDS);
    for (uint32_t round = 0; round < 400; round++) {
        puppet_clock_us += 10;
        tr_spawn_spec spec = {.behaviour = &life_behaviour};
        CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, dice(SHARDS), &spec), TR_OK);
        for (uint32_t i = 0; i < 3; i++) {
            tr_msg *msg = tr_msg_new(KIND_ACT, 0);
            CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
            tr_post(node, known[dice(KNOWN)], msg);
        }
        for (uint32_t i = 0; i < SHARDS * 4; i++) {
            tr_shard *shard = tr_node_shard(node, dice(SHARDS));
            tr_shard_rotate(shard, dice(5));
            (void)tr_shard_step(shard, 1 + dice(50));
        }
    }
    uint32_t actors = 0;
    for (uint32_t i = 0; i < SHARDS; i++) {
        actors += tr_shard_actors(tr_node_shard(node, i));
    }
    CU_ASSERT_EQUAL(started - ended, actors);
    tr_node_free(node);
    CU_ASSERT_EQUAL(started, ended);
    CU_ASSERT_EQUAL(memory_alive, 0);
    CU_ASSERT(downs > 0 && taken_back > 0 && lost_with_watcher > 0);
    CU_ASSERT_EQUAL(downs + taken_back + lost_with_watcher, monitored);
    tr_memory_set(NULL);
}

static void every_monitor_ends_in_one_way_and_nothing_is_kept(void) {
    for (uint64_t i = 1; i <= 100; i++) {
        live(i);
    }
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(every_monitor_ends_in_one_way_and_nothing_is_kept),
    };
    return puppet_main("lives", tests, sizeof tests / sizeof tests[0]);
}
