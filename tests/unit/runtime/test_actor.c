/* Actors on stepped shards with a clock of the test's own: order, bounds, ends, monitors, links,
 * names, timers, deferred work. */
#include <CUnit/Basic.h>
#include <string.h>

#include "protocol/limits.h"
#include "tests/lib/puppet.h"

/* ---- sending ---- */

static void send_ten(tr_self *self, void *arg) {
    const puppet_record *to = arg;
    for (uint64_t i = 0; i < 10; i++) {
        tr_msg *msg = puppet_msg(PUPPET_NOTE, i);
        CU_ASSERT_EQUAL(tr_send(self, to->id, &msg), TR_OK);
        CU_ASSERT_PTR_NULL(msg);
    }
}

static void messages_keep_their_order_on_one_shard_and_between_two(void) {
    tr_node *node = puppet_node(2);
    puppet_record a, here, there;
    puppet_start(node, 0, &a);
    puppet_start(node, 0, &here);
    puppet_start(node, 1, &there);
    puppet_tell(node, &a, send_ten, &here);
    puppet_tell(node, &a, send_ten, &there);
    CU_ASSERT_EQUAL_FATAL(here.count, 10);
    CU_ASSERT_EQUAL_FATAL(there.count, 10);
    for (uint32_t i = 0; i < 10; i++) {
        CU_ASSERT_EQUAL(here.got[i].ref, i);
        CU_ASSERT_EQUAL(there.got[i].ref, i);
        CU_ASSERT_EQUAL(there.got[i].from, a.id);
    }
    tr_node_free(node);
}

static void fill(tr_self *self, void *arg) {
    const puppet_record *to = arg;
    for (uint64_t i = 0; i < 3; i++) {
        tr_msg *msg = puppet_msg(PUPPET_NOTE, i);
        msg->flags = TR_MSG_OPENING;
        tr_err err = tr_send(self, to->id, &msg);
        if (i < 2) {
            CU_ASSERT_EQUAL(err, TR_OK);
        } else {
            CU_ASSERT_EQUAL(err, TR_ERR_FULL);
            CU_ASSERT_PTR_NOT_NULL(msg);
            tr_msg_free(msg);
        }
    }
    tr_msg *control = puppet_msg(PUPPET_NOTE, 9);
    CU_ASSERT_EQUAL(tr_send(self, to->id, &control), TR_OK);
}

static void full_mailbox_keeps_ownership_and_takes_control_messages(void) {
    tr_node *node = puppet_node(1);
    puppet_record a, b;
    puppet_start(node, 0, &a);
    puppet_start_as(node, 0, &puppet_behaviour, &b, NULL, 2);
    puppet_tell(node, &a, fill, &b);
    CU_ASSERT_EQUAL(b.count, 3);
    CU_ASSERT_EQUAL(b.got[2].ref, 9);
    tr_node_free(node);
}

static void overfill(tr_self *self, void *arg) {
    const puppet_record *to = arg;
    for (uint64_t i = 0; i < 3; i++) {
        tr_msg *msg = puppet_msg(PUPPET_NOTE, i);
        msg->flags = TR_MSG_OPENING;
        CU_ASSERT_EQUAL(tr_send(self, to->id, &msg), TR_OK);
    }
}

static void full_mailbox_of_another_shard_bounces(void) {
    tr_node *node = puppet_node(2);
    puppet_record a, b;
    puppet_start(node, 0, &a);
    puppet_start_as(node, 1, &puppet_behaviour, &b, NULL, 2);
    puppet_tell(node, &a, overfill, &b);
    CU_ASSERT_EQUAL(b.count, 2);
    CU_ASSERT_EQUAL_FATAL(a.count, 1);
    CU_ASSERT_EQUAL(a.got[0].kind, TR_KIND_BOUNCED);
    CU_ASSERT_EQUAL(a.got[0].ref, 2);
    CU_ASSERT_EQUAL(a.got[0].flags, PUPPET_NOTE);
    CU_ASSERT_EQUAL(a.got[0].from, b.id);
    tr_node_free(node);
}

static void message_to_an_earlier_life_is_dropped(void) {
    tr_node *node = puppet_node(1);
    puppet_record a, first, second;
    puppet_start(node, 0, &a);
    puppet_start(node, 0, &first);
    puppet_post(node, &first, PUPPET_END);
    CU_ASSERT_EQUAL(first.stops, 1);
    puppet_start(node, 0, &second);
    CU_ASSERT_EQUAL(tr_id_slot(first.id), tr_id_slot(second.id));
    puppet_tell(node, &a, send_ten, &first);
    CU_ASSERT_EQUAL(second.count, 0);
    CU_ASSERT_EQUAL(first.count, 0);
    tr_node_free(node);
}

/* ---- ends ---- */

static void handler_decides_how_an_actor_ends(void) {
    tr_node *node = puppet_node(1);
    puppet_record a, b;
    puppet_start(node, 0, &a);
    puppet_start(node, 0, &b);
    puppet_post(node, &a, PUPPET_END);
    puppet_post(node, &b, PUPPET_CRASH);
    CU_ASSERT_EQUAL(a.stops, 1);
    CU_ASSERT_EQUAL(a.reason, TR_OK);
    CU_ASSERT_EQUAL(b.stops, 1);
    CU_ASSERT_EQUAL(b.reason, TR_ERR_BUG);
    CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(node, 0)), 0);
    tr_node_free(node);
}

typedef struct exit_order {
    const puppet_record *to;
    tr_err reason;
} exit_order;

static void do_exit(tr_self *self, void *arg) {
    const exit_order *o = arg;
    send_ten(self, (void *)(uintptr_t)o->to);
    tr_exit(self, o->to->id, o->reason);
}

static void exit_waits_its_turn_and_kill_does_not(void) {
    for (uint32_t shard = 0; shard < 2; shard++) {
        tr_node *node = puppet_node(2);
        puppet_record a, b, trapper;
        puppet_start(node, 0, &a);
        puppet_start(node, shard, &b);
        puppet_start_as(node, shard, &puppet_trapper, &trapper, NULL, 0);
        exit_order asked = {&b, TR_ERR_SHUTDOWN};
        puppet_tell(node, &a, do_exit, &asked);
        CU_ASSERT_EQUAL(b.count, 10);
        CU_ASSERT_EQUAL(b.reason, TR_ERR_SHUTDOWN);
        exit_order trapped = {&trapper, TR_ERR_SHUTDOWN};
        puppet_tell(node, &a, do_exit, &trapped);
        CU_ASSERT_EQUAL(trapper.count, 11);
        CU_ASSERT_EQUAL(trapper.got[10].kind, TR_KIND_EXIT);
        CU_ASSERT_EQUAL(trapper.got[10].reason, TR_ERR_SHUTDOWN);
        CU_ASSERT_EQUAL(trapper.stops, 0);
        exit_order killed = {&trapper, TR_ERR_CANCELLED};
        puppet_tell(node, &a, do_exit, &killed);
        CU_ASSERT_EQUAL(trapper.count, 11);
        CU_ASSERT_EQUAL(trapper.stops, 1);
        CU_ASSERT_EQUAL(trapper.reason, TR_ERR_CANCELLED);
        tr_node_free(node);
    }
}

static void freeing_a_node_stops_every_actor(void) {
    tr_node *node = puppet_node(2);
    puppet_record a, b;
    puppet_start(node, 0, &a);
    puppet_start(node, 1, &b);
    tr_node_free(node);
    CU_ASSERT_EQUAL(a.stops, 1);
    CU_ASSERT_EQUAL(b.stops, 1);
    CU_ASSERT_EQUAL(a.reason, TR_ERR_SHUTDOWN);
}

/* ---- monitors and links ---- */

typedef struct watch_order {
    tr_id to;
    uint64_t ref;
} watch_order;

static void do_monitor(tr_self *self, void *arg) {
    watch_order *o = arg;
    CU_ASSERT_EQUAL(tr_monitor(self, o->to, &o->ref), TR_OK);
}

static void do_demonitor(tr_self *self, void *arg) {
    tr_demonitor(self, ((watch_order *)arg)->ref);
}

static void monitor_tells_the_end_once_on_either_shard(void) {
    for (uint32_t shard = 0; shard < 2; shard++) {
        tr_node *node = puppet_node(2);
        puppet_record a, b;
        puppet_start(node, 0, &a);
        puppet_start(node, shard, &b);
        watch_order o = {.to = b.id};
        watch_order twice = {.to = b.id};
        puppet_tell(node, &a, do_monitor, &o);
        puppet_tell(node, &a, do_monitor, &twice);
        puppet_post(node, &b, PUPPET_CRASH);
        CU_ASSERT_EQUAL_FATAL(a.count, 2);
        for (uint32_t i = 0; i < 2; i++) {
            CU_ASSERT_EQUAL(a.got[i].kind, TR_KIND_DOWN);
            CU_ASSERT_EQUAL(a.got[i].from, b.id);
            CU_ASSERT_EQUAL(a.got[i].reason, TR_ERR_BUG);
        }
        CU_ASSERT_NOT_EQUAL(o.ref, twice.ref);
        CU_ASSERT(a.got[0].ref == o.ref || a.got[1].ref == o.ref);
        tr_node_free(node);
    }
}

static void monitor_of_nobody_answers_at_once(void) {
    tr_node *node = puppet_node(2);
    puppet_record a, b;
    puppet_start(node, 0, &a);
    puppet_start(node, 1, &b);
    puppet_post(node, &b, PUPPET_END);
    const tr_id gone[] = {b.id, TR_ID_NONE, tr_id_make(0, 60, 1, 1), tr_id_make(3, 0, 1, 1),
                          tr_id_make(0, 0, 9999, 1)};
    for (uint32_t i = 0; i < 5; i++) {
        watch_order o = {.to = gone[i]};
        puppet_tell(node, &a, do_monitor, &o);
        CU_ASSERT_EQUAL_FATAL(a.count, i + 1);
        CU_ASSERT_EQUAL(a.got[i].kind, TR_KIND_DOWN);
        CU_ASSERT_EQUAL(a.got[i].reason, TR_ERR_GONE);
        CU_ASSERT_EQUAL(a.got[i].ref, o.ref);
    }
    tr_node_free(node);
}

static void demonitored_actor_ends_in_silence(void) {
    for (uint32_t shard = 0; shard < 2; shard++) {
        tr_node *node = puppet_node(2);
        puppet_record a, b;
        puppet_start(node, 0, &a);
        puppet_start(node, shard, &b);
        watch_order o = {.to = b.id};
        puppet_tell(node, &a, do_monitor, &o);
        puppet_tell(node, &a, do_demonitor, &o);
        puppet_tell(node, &a, do_demonitor, &o);
        puppet_post(node, &b, PUPPET_CRASH);
        CU_ASSERT_EQUAL(a.count, 0);
        CU_ASSERT_EQUAL(b.stops, 1);
        tr_node_free(node);
    }
}

static void watcher_that_ends_takes_its_monitors_back(void) {
    for (uint32_t shard = 0; shard < 2; shard++) {
        tr_node *node = puppet_node(2);
        puppet_record a, b, next;
        puppet_start(node, 0, &a);
        puppet_start(node, shard, &b);
        watch_order o = {.to = b.id};
        puppet_tell(node, &a, do_monitor, &o);
        puppet_post(node, &a, PUPPET_END);
        puppet_start(node, 0, &next); /* in the watcher's slot */
        puppet_post(node, &b, PUPPET_CRASH);
        CU_ASSERT_EQUAL(next.count, 0);
        tr_node_free(node);
    }
}

static void many_monitors_of_one_actor_all_fire(void) {
    tr_node *node = puppet_node(1);
    puppet_record watchers[50], b;
    puppet_start(node, 0, &b);
    watch_order orders[50][10];
    for (uint32_t i = 0; i < 50; i++) {
        puppet_start(node, 0, &watchers[i]);
        for (uint32_t k = 0; k < 10; k++) {
            orders[i][k] = (watch_order){.to = b.id};
            puppet_tell(node, &watchers[i], do_monitor, &orders[i][k]);
        }
        puppet_tell(node, &watchers[i], do_demonitor, &orders[i][i % 10]);
    }
    puppet_post(node, &b, PUPPET_END);
    for (uint32_t i = 0; i < 50; i++) {
        CU_ASSERT_EQUAL(watchers[i].count, 9);
    }
    tr_node_free(node);
}

static void do_link(tr_self *self, void *arg) {
    CU_ASSERT_EQUAL(tr_link_to(self, *(tr_id *)arg), TR_OK);
}

static void do_unlink(tr_self *self, void *arg) {
    tr_unlink(self, *(tr_id *)arg);
}

static void crash_of_a_linked_actor_ends_the_other(void) {
    for (uint32_t shard = 0; shard < 2; shard++) {
        for (uint32_t side = 0; side < 2; side++) {
            tr_node *node = puppet_node(2);
            puppet_record a, b;
            puppet_start(node, 0, &a);
            puppet_start(node, shard, &b);
            puppet_tell(node, &a, do_link, &b.id);
            puppet_tell(node, &b, do_link, &a.id);
            puppet_post(node, side == 0 ? &a : &b, PUPPET_CRASH);
            CU_ASSERT_EQUAL(a.reason, TR_ERR_BUG);
            CU_ASSERT_EQUAL(b.reason, TR_ERR_BUG);
            CU_ASSERT_EQUAL(a.stops + b.stops, 2);
            tr_node_free(node);
        }
    }
}

static void normal_end_and_unlink_leave_the_other_alone(void) {
    for (uint32_t shard = 0; shard < 2; shard++) {
        tr_node *node = puppet_node(2);
        puppet_record a, b, c;
        puppet_start(node, 0, &a);
        puppet_start(node, shard, &b);
        puppet_start(node, shard, &c);
        puppet_tell(node, &a, do_link, &b.id);
        puppet_tell(node, &a, do_link, &c.id);
        puppet_post(node, &b, PUPPET_END);
        CU_ASSERT_EQUAL(a.stops, 0);
        puppet_tell(node, &a, do_unlink, &c.id);
        puppet_post(node, &c, PUPPET_CRASH);
        CU_ASSERT_EQUAL(a.stops, 0);
        tr_node_free(node);
    }
}

static void link_to_nobody_is_an_exit(void) {
    tr_node *node = puppet_node(1);
    puppet_record a, b;
    puppet_start_as(node, 0, &puppet_trapper, &a, NULL, 0);
    puppet_start(node, 0, &b);
    puppet_post(node, &b, PUPPET_END);
    puppet_tell(node, &a, do_link, &b.id);
    CU_ASSERT_EQUAL_FATAL(a.count, 1);
    CU_ASSERT_EQUAL(a.got[0].kind, TR_KIND_EXIT);
    CU_ASSERT_EQUAL(a.got[0].reason, TR_ERR_GONE);
    tr_node_free(node);
}

/* ---- names ---- */

static void name_is_free_again_when_its_actor_ends(void) {
    tr_node *node = puppet_node(2);
    puppet_record a, b;
    puppet_start_as(node, 1, &puppet_behaviour, &a, "the one", 0);
    CU_ASSERT_EQUAL(tr_whereis(node, "the one"), a.id);
    CU_ASSERT_EQUAL(tr_whereis(node, "another"), TR_ID_NONE);
    puppet_post(node, &a, PUPPET_CRASH);
    CU_ASSERT_EQUAL(tr_whereis(node, "the one"), TR_ID_NONE);
    puppet_start_as(node, 0, &puppet_behaviour, &b, "the one", 0);
    CU_ASSERT_EQUAL(tr_whereis(node, "the one"), b.id);
    tr_node_free(node);
}

static void spawn_namesake(tr_self *self, void *arg) {
    puppet_args args = {arg};
    tr_spawn_spec spec = {.behaviour = &puppet_behaviour,
                          .args = &args,
                          .args_size = sizeof args,
                          .name = "taken",
                          .registers = true};
    tr_id id = TR_ID_NONE;
    CU_ASSERT_EQUAL(tr_spawn(self, &spec, &id), TR_ERR_EXISTS);
    CU_ASSERT_EQUAL(id, TR_ID_NONE);
    CU_ASSERT_EQUAL(tr_spawn_on(self, 0, &spec, 77), TR_OK);
    CU_ASSERT_EQUAL(tr_register(self, "taken"), TR_ERR_EXISTS);
    CU_ASSERT_EQUAL(tr_register(self, "mine"), TR_OK);
}

static void taken_name_refuses_a_spawn(void) {
    tr_node *node = puppet_node(1);
    puppet_record a, b, never = {0};
    puppet_start_as(node, 0, &puppet_behaviour, &a, "taken", 0);
    puppet_start(node, 0, &b);
    puppet_tell(node, &b, spawn_namesake, &never);
    CU_ASSERT_EQUAL_FATAL(b.count, 1);
    CU_ASSERT_EQUAL(b.got[0].kind, TR_KIND_STARTED);
    CU_ASSERT_EQUAL(b.got[0].ref, 77);
    CU_ASSERT_EQUAL(b.got[0].reason, TR_ERR_EXISTS);
    CU_ASSERT_EQUAL(never.id, TR_ID_NONE);
    CU_ASSERT_EQUAL(tr_whereis(node, "mine"), b.id);
    tr_node_free(node);
}

/* ---- timers and deferred work ---- */

static void start_timers(tr_self *self, void *arg) {
    uint64_t *ids = arg;
    CU_ASSERT_EQUAL(tr_timer_start(self, 300, 3, &ids[2]), TR_OK);
    CU_ASSERT_EQUAL(tr_timer_start(self, 100, 1, &ids[0]), TR_OK);
    CU_ASSERT_EQUAL(tr_timer_start(self, 200, 2, &ids[1]), TR_OK);
    CU_ASSERT_EQUAL(tr_timer_start(self, UINT64_MAX, 4, &ids[3]), TR_OK);
}

static void cancel_timer(tr_self *self, void *arg) {
    uint64_t *id = arg;
    tr_timer_cancel(self, id);
    CU_ASSERT_EQUAL(*id, 0);
    tr_timer_cancel(self, id);
}

static void timers_fire_in_time_and_not_when_cancelled(void) {
    tr_node *node = puppet_node(1);
    puppet_record a;
    uint64_t ids[4];
    puppet_start(node, 0, &a);
    puppet_tell(node, &a, start_timers, ids);
    CU_ASSERT_EQUAL(tr_shard_deadline_us(tr_node_shard(node, 0)), puppet_clock_us + 100);
    puppet_clock_us += 99;
    puppet_run(node);
    CU_ASSERT_EQUAL(a.count, 0);
    puppet_clock_us += 1;
    puppet_run(node);
    CU_ASSERT_EQUAL_FATAL(a.count, 1);
    CU_ASSERT_EQUAL(a.got[0].kind, TR_KIND_TIMER);
    CU_ASSERT_EQUAL(a.got[0].ref, ids[0]);
    CU_ASSERT_EQUAL(a.got[0].flags, 1);
    puppet_tell(node, &a, cancel_timer, &ids[1]);
    puppet_clock_us += 1000000;
    puppet_run(node);
    CU_ASSERT_EQUAL_FATAL(a.count, 2);
    CU_ASSERT_EQUAL(a.got[1].ref, ids[2]);
    puppet_post(node, &a, PUPPET_END);
    CU_ASSERT_EQUAL(tr_shard_deadline_us(tr_node_shard(node, 0)), UINT64_MAX);
    tr_node_free(node);
}

static void deferred(tr_self *self, void *state) {
    (void)self;
    puppet_of(state)->deferred++;
}

static void defer_twice(tr_self *self, void *arg) {
    const puppet_record *r = arg;
    uint32_t before = r->deferred;
    tr_defer(self, deferred);
    tr_defer(self, deferred);
    CU_ASSERT_EQUAL(r->deferred, before);
}

static void defer_and_end(tr_self *self, void *arg) {
    (void)arg;
    tr_defer(self, deferred);
    tr_exit(self, tr_self_id(self), TR_ERR_CANCELLED);
}

static void deferred_work_runs_once_after_the_messages(void) {
    tr_node *node = puppet_node(1);
    puppet_record a, b;
    puppet_start(node, 0, &a);
    puppet_tell(node, &a, defer_twice, &a);
    CU_ASSERT_EQUAL(a.deferred, 1);
    puppet_tell(node, &a, defer_twice, &a);
    CU_ASSERT_EQUAL(a.deferred, 2);
    puppet_tell(node, &a, defer_and_end, NULL);
    CU_ASSERT_EQUAL(a.deferred, 2);
    CU_ASSERT_EQUAL(a.stops, 1);
    puppet_start(node, 0, &b);
    CU_ASSERT_EQUAL(b.deferred, 0);
    tr_node_free(node);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(messages_keep_their_order_on_one_shard_and_between_two),
        PUPPET_TEST(full_mailbox_keeps_ownership_and_takes_control_messages),
        PUPPET_TEST(full_mailbox_of_another_shard_bounces),
        PUPPET_TEST(message_to_an_earlier_life_is_dropped),
        PUPPET_TEST(handler_decides_how_an_actor_ends),
        PUPPET_TEST(exit_waits_its_turn_and_kill_does_not),
        PUPPET_TEST(freeing_a_node_stops_every_actor),
        PUPPET_TEST(monitor_tells_the_end_once_on_either_shard),
        PUPPET_TEST(monitor_of_nobody_answers_at_once),
        PUPPET_TEST(demonitored_actor_ends_in_silence),
        PUPPET_TEST(watcher_that_ends_takes_its_monitors_back),
        PUPPET_TEST(many_monitors_of_one_actor_all_fire),
        PUPPET_TEST(crash_of_a_linked_actor_ends_the_other),
        PUPPET_TEST(normal_end_and_unlink_leave_the_other_alone),
        PUPPET_TEST(link_to_nobody_is_an_exit),
        PUPPET_TEST(name_is_free_again_when_its_actor_ends),
        PUPPET_TEST(taken_name_refuses_a_spawn),
        PUPPET_TEST(timers_fire_in_time_and_not_when_cancelled),
        PUPPET_TEST(deferred_work_runs_once_after_the_messages),
    };
    return puppet_main("actor", tests, sizeof tests / sizeof tests[0]);
}
