/* Supervisors on stepped shards, by OTP's rules: order, strategies, restart types, intensity,
 * backoff, shutdown, dynamic and adopted children, escalation. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#include "protocol/limits.h"
#include "runtime/log.h"
#include "runtime/supervisor.h"
#include "tests/lib/puppet.h"

#define CHILDREN 3
#define SECOND 1000000U

/* A boss that starts and watches the supervisor, and three children. */
typedef struct stage {
    tr_node *node;
    puppet_record boss;
    puppet_record child[CHILDREN + 2];
    tr_child_spec specs[CHILDREN];
    puppet_args args[CHILDREN + 2];
    tr_supervisor_args sup;
    tr_id id;
    uint64_t watch;
} stage;

static void open_stage(stage *s, tr_strategy strategy) {
    static const char *const names[] = {"a", "b", "c"};
    memset(s, 0, sizeof *s);
    s->node = puppet_node(2);
    puppet_start(s->node, 0, &s->boss);
    for (uint32_t i = 0; i < CHILDREN + 2; i++) {
        s->args[i].record = &s->child[i];
    }
    for (uint32_t i = 0; i < CHILDREN; i++) {
        s->specs[i] = (tr_child_spec){.name = names[i],
                                      .behaviour = &puppet_behaviour,
                                      .args = &s->args[i],
                                      .args_size = sizeof s->args[i],
                                      .restart = TR_PERMANENT,
                                      .shutdown_ms = 1000,
                                      .shard = i == 1 ? 1 : TR_SHARD_SAME,
                                      .registers = true};
    }
    s->sup = (tr_supervisor_args){.strategy = strategy,
                                  .intensity = 10,
                                  .period_ms = 60000,
                                  .children = s->specs,
                                  .child_count = CHILDREN};
}

static void spawn_sup(tr_self *self, void *arg) {
    stage *s = arg;
    tr_spawn_spec spec = {.behaviour = &tr_supervisor,
                          .args = &s->sup,
                          .args_size = sizeof s->sup,
                          .name = "sup",
                          .registers = true};
    CU_ASSERT_EQUAL(tr_spawn_on(self, 0, &spec, 1), TR_OK);
}

static void watch_sup(tr_self *self, void *arg) {
    stage *s = arg;
    CU_ASSERT_EQUAL(tr_monitor(self, s->id, &s->watch), TR_OK);
}

/* The error that the start came to. */
static tr_err raise_sup(stage *s) {
    puppet_tell(s->node, &s->boss, spawn_sup, s);
    CU_ASSERT_EQUAL_FATAL(s->boss.count, 1);
    CU_ASSERT_EQUAL(s->boss.got[0].kind, TR_KIND_STARTED);
    s->id = s->boss.got[0].id;
    s->boss.count = 0;
    if (s->boss.got[0].reason == TR_OK) {
        puppet_tell(s->node, &s->boss, watch_sup, s);
    }
    return (tr_err)s->boss.got[0].reason;
}

/* Whether the supervisor has ended, and why. */
static bool ended(const stage *s, tr_err *ret_reason) {
    for (uint32_t i = 0; i < s->boss.count; i++) {
        if (s->boss.got[i].kind == TR_KIND_DOWN && s->boss.got[i].ref == s->watch) {
            *ret_reason = (tr_err)s->boss.got[i].reason;
            return true;
        }
    }
    return false;
}

static bool alive(const stage *s) {
    tr_err reason;
    return !ended(s, &reason);
}

static void crash(stage *s, uint32_t child) {
    puppet_post(s->node, &s->child[child], PUPPET_CRASH);
}

static void ask_end(tr_self *self, void *arg) {
    tr_exit(self, ((stage *)arg)->id, TR_ERR_SHUTDOWN);
}

static void ask_kill(tr_self *self, void *arg) {
    tr_exit(self, ((stage *)arg)->id, TR_ERR_CANCELLED);
}

static void close_stage(stage *s) {
    tr_node_free(s->node);
}

/* ---- order ---- */

static void children_start_from_the_left_and_stop_from_the_right(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    CU_ASSERT(s.child[0].started_at < s.child[1].started_at);
    CU_ASSERT(s.child[1].started_at < s.child[2].started_at);
    CU_ASSERT_EQUAL(tr_whereis(s.node, "b"), s.child[1].id);
    CU_ASSERT_EQUAL(tr_id_shard(s.child[1].id), 1);
    puppet_tell(s.node, &s.boss, ask_end, &s);
    tr_err reason = TR_OK;
    CU_ASSERT(ended(&s, &reason));
    CU_ASSERT_EQUAL(reason, TR_ERR_SHUTDOWN);
    CU_ASSERT(s.child[0].stopped_at > s.child[1].stopped_at);
    CU_ASSERT(s.child[1].stopped_at > s.child[2].stopped_at);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s.child[i].stops, 1);
        CU_ASSERT_EQUAL(s.child[i].reason, TR_ERR_SHUTDOWN);
    }
    close_stage(&s);
}

static void child_that_does_not_start_stops_the_ones_before_it(void) {
    for (uint32_t failing = 0; failing < CHILDREN; failing++) {
        stage s;
        open_stage(&s, TR_ONE_FOR_ONE);
        s.child[failing].init_fails = TR_ERR_IO;
        CU_ASSERT_EQUAL(raise_sup(&s), TR_ERR_IO);
        for (uint32_t i = 0; i < CHILDREN; i++) {
            CU_ASSERT_EQUAL(s.child[i].stops, i < failing ? 1 : 0);
            CU_ASSERT_EQUAL(s.child[i].starts, i <= failing ? 1 : 0);
        }
        CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(s.node, 0)), 1);
        CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(s.node, 1)), 0);
        close_stage(&s);
    }
}

static void two_children_of_one_name_are_refused(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[2].name = "a";
    CU_ASSERT_EQUAL(raise_sup(&s), TR_ERR_EXISTS);
    close_stage(&s);
}

static void supervisor_without_children_is_up_at_once(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.sup.child_count = 0;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    CU_ASSERT(alive(&s));
    close_stage(&s);
}

/* ---- strategies ---- */

static void one_for_one_restarts_only_the_crashed(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    crash(&s, 1);
    CU_ASSERT_EQUAL(s.child[0].starts, 1);
    CU_ASSERT_EQUAL(s.child[1].starts, 2);
    CU_ASSERT_EQUAL(s.child[2].starts, 1);
    CU_ASSERT_EQUAL(tr_whereis(s.node, "b"), s.child[1].id);
    close_stage(&s);
}

static void one_for_all_stops_from_the_right_and_starts_from_the_left(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ALL);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    crash(&s, 1);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s.child[i].starts, 2);
        CU_ASSERT_EQUAL(s.child[i].stops, 1);
    }
    CU_ASSERT(s.child[1].stopped_at < s.child[2].stopped_at);
    CU_ASSERT(s.child[2].stopped_at < s.child[0].stopped_at);
    CU_ASSERT(s.child[0].started_at < s.child[1].started_at);
    CU_ASSERT(s.child[1].started_at < s.child[2].started_at);
    CU_ASSERT(s.child[0].started_at > s.child[0].stopped_at);
    close_stage(&s);
}

static void rest_for_one_restarts_those_after(void) {
    stage s;
    open_stage(&s, TR_REST_FOR_ONE);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    crash(&s, 1);
    CU_ASSERT_EQUAL(s.child[0].starts, 1);
    CU_ASSERT_EQUAL(s.child[1].starts, 2);
    CU_ASSERT_EQUAL(s.child[2].starts, 2);
    CU_ASSERT(s.child[2].started_at > s.child[1].started_at);
    close_stage(&s);
}

/* ---- restart types ---- */

static void restart_type_decides_after_each_kind_of_end(void) {
    static const struct {
        tr_restart restart;
        uint16_t how;
        uint32_t starts;
    } cases[] = {{TR_PERMANENT, PUPPET_CRASH, 2}, {TR_PERMANENT, PUPPET_END, 2},
                 {TR_TRANSIENT, PUPPET_CRASH, 2}, {TR_TRANSIENT, PUPPET_END, 1},
                 {TR_TEMPORARY, PUPPET_CRASH, 1}, {TR_TEMPORARY, PUPPET_END, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stage s;
        open_stage(&s, TR_ONE_FOR_ONE);
        s.specs[0].restart = cases[i].restart;
        CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
        puppet_post(s.node, &s.child[0], cases[i].how);
        CU_ASSERT_EQUAL(s.child[0].starts, cases[i].starts);
        CU_ASSERT(alive(&s));
        close_stage(&s);
    }
}

static void temporary_sibling_does_not_come_back_and_a_finished_transient_does(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ALL);
    s.specs[0].restart = TR_TEMPORARY;
    s.specs[1].restart = TR_TRANSIENT;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_post(s.node, &s.child[1], PUPPET_END);
    CU_ASSERT_EQUAL(s.child[1].starts, 1);
    crash(&s, 2);
    CU_ASSERT_EQUAL(s.child[0].starts, 1);
    CU_ASSERT_EQUAL(s.child[0].stops, 1);
    CU_ASSERT_EQUAL(s.child[1].starts, 2);
    CU_ASSERT_EQUAL(s.child[2].starts, 2);
    close_stage(&s);
}

/* ---- intensity and backoff ---- */

static void one_crash_more_than_the_intensity_ends_the_supervisor(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.sup.intensity = 0;
    s.sup.period_ms = 0; /* OTP's: 1 in 5 s */
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    crash(&s, 0);
    CU_ASSERT(alive(&s));
    crash(&s, 2);
    tr_err reason = TR_OK;
    CU_ASSERT(ended(&s, &reason));
    CU_ASSERT_EQUAL(reason, TR_ERR_BUG);
    CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(s.node, 0)), 1);
    CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(s.node, 1)), 0);
    close_stage(&s);
}

static void crashes_outside_the_period_do_not_add_up(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.sup.intensity = 1;
    s.sup.period_ms = 5000;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    for (uint32_t i = 0; i < 5; i++) {
        crash(&s, 0);
        CU_ASSERT_EQUAL(s.child[0].starts, i + 2);
        puppet_wait_us(s.node, 5 * SECOND + 1);
    }
    CU_ASSERT(alive(&s));
    close_stage(&s);
}

static void restarts_in_a_row_wait_longer_and_longer(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    static const uint64_t waits[] = {0, 100000, 200000, 400000, 800000};
    for (uint32_t i = 0; i < 5; i++) {
        crash(&s, 0);
        if (waits[i] > 0) {
            puppet_wait_us(s.node, waits[i] - 1);
            CU_ASSERT_EQUAL(s.child[0].starts, i + 1);
            puppet_wait_us(s.node, 1);
        }
        CU_ASSERT_EQUAL(s.child[0].starts, i + 2);
    }
    puppet_wait_us(s.node, 60 * SECOND); /* quiet: at once again */
    crash(&s, 0);
    CU_ASSERT_EQUAL(s.child[0].starts, 7);
    close_stage(&s);
}

static void siblings_wait_for_the_one_that_backs_off(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ALL);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    crash(&s, 1);
    crash(&s, 1);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s.child[i].starts, 2);
        CU_ASSERT_EQUAL(s.child[i].stops, 2);
    }
    puppet_wait_us(s.node, 100000);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s.child[i].starts, 3);
    }
    close_stage(&s);
}

static void restart_that_fails_counts_and_is_tried_again(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.sup.intensity = 3;
    s.sup.period_ms = 60000;
    s.child[1].init_fails = TR_ERR_CONNECT;
    s.child[1].init_fails_after = 1;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    crash(&s, 1);
    for (uint32_t i = 0; i < 100; i++) {
        puppet_wait_us(s.node, 100000);
    }
    tr_err reason = TR_OK;
    CU_ASSERT(ended(&s, &reason));
    CU_ASSERT_EQUAL(reason, TR_ERR_CONNECT);
    CU_ASSERT_EQUAL(s.child[1].starts, 4); /* the first and three restarts */
    close_stage(&s);
}

static void tell_sup(tr_self *self, tr_id to, tr_msg *msg) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    CU_ASSERT_EQUAL(tr_send(self, to, &msg), TR_OK);
}

static void forgive_a(tr_self *self, void *arg) {
    tell_sup(self, ((stage *)arg)->id, tr_forgive_child("a"));
}

static void forgiven_restarts_do_not_count(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.sup.intensity = 1;
    s.sup.period_ms = 60000;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    for (uint32_t i = 0; i < 6; i++) {
        crash(&s, 0);
        CU_ASSERT_EQUAL(s.child[0].starts, i + 2);
        puppet_tell(s.node, &s.boss, forgive_a, &s);
    }
    CU_ASSERT(alive(&s));
    crash(&s, 0);
    crash(&s, 0);
    CU_ASSERT(!alive(&s));
    close_stage(&s);
}

/* ---- shutdown ---- */

static void stubborn_child_is_killed_after_its_limit(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[1].behaviour = &puppet_trapper;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_tell(s.node, &s.boss, ask_end, &s);
    CU_ASSERT_EQUAL(s.child[2].stops, 1);
    CU_ASSERT_EQUAL(s.child[1].stops, 0);
    CU_ASSERT_EQUAL(s.child[0].stops, 0); /* its turn comes after */
    puppet_wait_us(s.node, SECOND - 1);
    CU_ASSERT_EQUAL(s.child[1].stops, 0);
    puppet_wait_us(s.node, 1);
    CU_ASSERT_EQUAL(s.child[1].stops, 1);
    CU_ASSERT_EQUAL(s.child[1].reason, TR_ERR_CANCELLED);
    CU_ASSERT_EQUAL(s.child[0].stops, 1);
    CU_ASSERT(!alive(&s));
    close_stage(&s);
}

static void brutal_shutdown_kills_at_once_and_infinity_waits(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[2].behaviour = &puppet_trapper;
    s.specs[2].shutdown_ms = TR_SHUTDOWN_BRUTAL;
    s.specs[1].behaviour = &puppet_trapper;
    s.specs[1].shutdown_ms = TR_SHUTDOWN_INFINITY;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_tell(s.node, &s.boss, ask_end, &s);
    CU_ASSERT_EQUAL(s.child[2].reason, TR_ERR_CANCELLED);
    puppet_wait_us(s.node, 24 * 3600 * (uint64_t)SECOND);
    CU_ASSERT(alive(&s));
    puppet_post(s.node, &s.child[1], PUPPET_END);
    CU_ASSERT(!alive(&s));
    close_stage(&s);
}

static void killed_supervisor_leaves_no_child(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[0].behaviour = &puppet_trapper;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_tell(s.node, &s.boss, ask_kill, &s);
    tr_err reason = TR_OK;
    CU_ASSERT(ended(&s, &reason));
    CU_ASSERT_EQUAL(reason, TR_ERR_CANCELLED);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s.child[i].stops, 1);
    }
    close_stage(&s);
}

static void crash_while_another_is_being_stopped_does_not_restart_it(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ALL);
    s.specs[2].behaviour = &puppet_trapper;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    crash(&s, 1); /* c is asked to stop and does not */
    CU_ASSERT_EQUAL(s.child[2].stops, 0);
    crash(&s, 0); /* it was to be stopped anyway */
    puppet_wait_us(s.node, SECOND);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s.child[i].starts, 2);
    }
    CU_ASSERT(alive(&s));
    close_stage(&s);
}

/* ---- dynamic and adopted children ---- */

static void start_d(tr_self *self, void *arg) {
    stage *s = arg;
    tr_child_spec spec = s->specs[0];
    spec.name = "d";
    spec.args = &s->args[CHILDREN];
    tell_sup(self, s->id, tr_start_child(&spec, 21));
}

static void stop_d(tr_self *self, void *arg) {
    tell_sup(self, ((stage *)arg)->id, tr_stop_child("d", 22));
}

static void expect_answer(stage *s, uint64_t ref, tr_err err) {
    CU_ASSERT_EQUAL_FATAL(s->boss.count, 1);
    CU_ASSERT_EQUAL(s->boss.got[0].kind, TR_KIND_STARTED);
    CU_ASSERT_EQUAL(s->boss.got[0].ref, ref);
    CU_ASSERT_EQUAL(s->boss.got[0].reason, err);
    s->boss.count = 0;
}

static void dynamic_child_is_started_restarted_and_stopped(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_record *d = &s.child[CHILDREN];
    puppet_tell(s.node, &s.boss, start_d, &s);
    CU_ASSERT_EQUAL(s.boss.got[0].id, d->id);
    expect_answer(&s, 21, TR_OK);
    puppet_tell(s.node, &s.boss, start_d, &s);
    expect_answer(&s, 21, TR_ERR_EXISTS);
    puppet_post(s.node, d, PUPPET_CRASH);
    CU_ASSERT_EQUAL(d->starts, 2);
    puppet_tell(s.node, &s.boss, stop_d, &s);
    expect_answer(&s, 22, TR_OK);
    CU_ASSERT_EQUAL(d->stops, 2);
    puppet_tell(s.node, &s.boss, stop_d, &s);
    expect_answer(&s, 22, TR_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(d->starts, 2);
    close_stage(&s);
}

static void dynamic_child_that_fails_is_forgotten(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_record *d = &s.child[CHILDREN];
    d->init_fails = TR_ERR_IO;
    puppet_tell(s.node, &s.boss, start_d, &s);
    expect_answer(&s, 21, TR_ERR_IO);
    d->init_fails = TR_OK;
    puppet_tell(s.node, &s.boss, start_d, &s);
    expect_answer(&s, 21, TR_OK);
    CU_ASSERT(alive(&s));
    close_stage(&s);
}

static void stopping_a_child_that_backs_off_forgets_it(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_record *d = &s.child[CHILDREN];
    puppet_tell(s.node, &s.boss, start_d, &s);
    expect_answer(&s, 21, TR_OK);
    puppet_post(s.node, d, PUPPET_CRASH);
    puppet_post(s.node, d, PUPPET_CRASH);
    puppet_tell(s.node, &s.boss, stop_d, &s);
    expect_answer(&s, 22, TR_OK);
    puppet_wait_us(s.node, 60 * SECOND);
    CU_ASSERT_EQUAL(d->starts, 2);
    close_stage(&s);
}

static void spawn_adopted(tr_self *self, void *arg) {
    stage *s = arg;
    for (uint32_t i = 0; i < 2; i++) {
        tr_spawn_spec spec = {.behaviour = i == 0 ? &puppet_behaviour : &puppet_trapper,
                              .args = &s->args[CHILDREN + i],
                              .args_size = sizeof s->args[0],
                              .parent = s->id};
        tr_id id;
        CU_ASSERT_EQUAL(tr_spawn(self, &spec, &id), TR_OK);
    }
}

static void adopting_supervisor_stops_whoever_was_spawned_under_it(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.sup.adopts = true;
    s.sup.child_count = 1;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_tell(s.node, &s.boss, spawn_adopted, &s);
    puppet_record *plain = &s.child[CHILDREN];
    puppet_record *stubborn = &s.child[CHILDREN + 1];
    CU_ASSERT_EQUAL(plain->starts + stubborn->starts, 2);
    puppet_tell(s.node, &s.boss, ask_end, &s);
    CU_ASSERT_EQUAL(plain->stops, 1);
    CU_ASSERT_EQUAL(stubborn->stops, 0);
    CU_ASSERT_EQUAL(s.child[0].stops, 0);
    puppet_wait_us(s.node, 5 * SECOND);
    CU_ASSERT_EQUAL(stubborn->stops, 1);
    CU_ASSERT_EQUAL(s.child[0].stops, 1);
    CU_ASSERT(!alive(&s));
    close_stage(&s);
}

/* ---- significant children ---- */

static void open_significant(stage *s, tr_strategy strategy, tr_auto_shutdown when) {
    open_stage(s, strategy);
    s->sup.auto_shutdown = when;
    for (uint32_t i = 0; i < 2; i++) {
        s->specs[i].significant = true;
        s->specs[i].restart = i == 0 ? TR_TRANSIENT : TR_TEMPORARY;
    }
    CU_ASSERT_EQUAL(raise_sup(s), TR_OK);
}

static void expect_shut_down(const stage *s) {
    tr_err reason = TR_OK;
    CU_ASSERT(ended(s, &reason));
    CU_ASSERT_EQUAL(reason, TR_ERR_SHUTDOWN);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        CU_ASSERT_EQUAL(s->child[i].starts, s->child[i].stops);
    }
}

static void significant_child_needs_auto_shutdown_and_is_not_permanent(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[1].significant = true;
    s.specs[1].restart = TR_TRANSIENT;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(s.child[0].starts, s.child[0].stops);
    close_stage(&s);
    open_stage(&s, TR_ONE_FOR_ONE);
    s.sup.auto_shutdown = TR_AUTO_SHUTDOWN_ANY;
    s.specs[1].significant = true;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_ERR_INVALID);
    close_stage(&s);
}

static void any_significant_child_that_is_done_shuts_the_supervisor_down(void) {
    static const struct {
        uint32_t child;
        uint16_t how;
        bool shuts_down;
    } cases[] = {{0, PUPPET_END, true},   {0, PUPPET_CRASH, false}, {1, PUPPET_END, true},
                 {1, PUPPET_CRASH, true}, {2, PUPPET_END, false},   {2, PUPPET_CRASH, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stage s;
        open_significant(&s, TR_ONE_FOR_ONE, TR_AUTO_SHUTDOWN_ANY);
        puppet_post(s.node, &s.child[cases[i].child], cases[i].how);
        if (cases[i].shuts_down) {
            expect_shut_down(&s);
        } else {
            CU_ASSERT(alive(&s));
            CU_ASSERT_EQUAL(s.child[cases[i].child].starts, 2);
        }
        close_stage(&s);
    }
}

static void all_significant_waits_for_the_last_that_is_active(void) {
    stage s;
    open_significant(&s, TR_ONE_FOR_ONE, TR_AUTO_SHUTDOWN_ALL);
    puppet_post(s.node, &s.child[1], PUPPET_CRASH);
    CU_ASSERT(alive(&s));
    puppet_post(s.node, &s.child[0], PUPPET_CRASH); /* is restarted */
    CU_ASSERT(alive(&s));
    puppet_post(s.node, &s.child[0], PUPPET_END);
    expect_shut_down(&s);
    close_stage(&s);
}

static void stop_b(tr_self *self, void *arg) {
    tell_sup(self, ((stage *)arg)->id, tr_stop_child("b", 22));
}

static void significant_child_that_is_stopped_shuts_nothing_down(void) {
    stage s;
    open_significant(&s, TR_ONE_FOR_ONE, TR_AUTO_SHUTDOWN_ANY);
    puppet_tell(s.node, &s.boss, stop_b, &s);
    expect_answer(&s, 22, TR_OK);
    CU_ASSERT(alive(&s));
    close_stage(&s);
    open_significant(&s, TR_ONE_FOR_ALL, TR_AUTO_SHUTDOWN_ANY);
    crash(&s, 2); /* takes them down with it */
    CU_ASSERT_EQUAL(s.child[1].stops, 1);
    CU_ASSERT(alive(&s));
    close_stage(&s);
}

/* ---- trees ---- */

static void failing_supervisor_is_restarted_by_its_own(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    tr_supervisor_args inner = {.strategy = TR_ONE_FOR_ONE,
                                .intensity = 1,
                                .period_ms = 60000,
                                .children = s.specs,
                                .child_count = 2};
    tr_child_spec outer[] = {{.name = "inner",
                              .behaviour = &tr_supervisor,
                              .args = &inner,
                              .args_size = sizeof inner,
                              .restart = TR_PERMANENT,
                              .shutdown_ms = TR_SHUTDOWN_INFINITY,
                              .shard = 1}};
    s.sup.children = outer;
    s.sup.child_count = 1;
    s.sup.intensity = 1;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    CU_ASSERT_EQUAL(s.child[0].starts, 1);
    crash(&s, 0);
    CU_ASSERT_EQUAL(s.child[1].starts, 1);
    crash(&s, 0); /* too often: the inner one ends, the outer one starts it again */
    CU_ASSERT_EQUAL(s.child[0].starts, 3);
    CU_ASSERT_EQUAL(s.child[1].starts, 2);
    CU_ASSERT(alive(&s));
    crash(&s, 0);
    crash(&s, 0);
    tr_err reason = TR_OK;
    CU_ASSERT(ended(&s, &reason));
    CU_ASSERT_EQUAL(reason, TR_ERR_BUG);
    CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(s.node, 0)), 1);
    CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(s.node, 1)), 0);
    close_stage(&s);
}

static void say_up(tr_self *self, void *arg) {
    (void)arg;
    tr_started(self, TR_OK);
}

static void say_failed(tr_self *self, void *arg) {
    (void)arg;
    tr_started(self, TR_ERR_CONNECT);
}

static void ask_end_by_name(tr_self *self, void *arg) {
    tr_exit(self, tr_whereis(((stage *)arg)->node, "sup"), TR_ERR_SHUTDOWN);
}

static void child_that_acks_itself_holds_up_the_next(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[1].behaviour = &puppet_silent;
    puppet_tell(s.node, &s.boss, spawn_sup, &s);
    CU_ASSERT_EQUAL(s.child[1].starts, 1);
    CU_ASSERT_EQUAL(s.child[2].starts, 0);
    CU_ASSERT_EQUAL(s.boss.count, 0);
    puppet_tell(s.node, &s.child[1], say_up, NULL);
    CU_ASSERT_EQUAL(s.child[2].starts, 1);
    expect_answer(&s, 1, TR_OK);
    close_stage(&s);
}

static void child_that_says_it_failed_fails_the_start(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[1].behaviour = &puppet_silent;
    puppet_tell(s.node, &s.boss, spawn_sup, &s);
    puppet_tell(s.node, &s.child[1], say_failed, NULL);
    CU_ASSERT_EQUAL(s.child[0].stops, 1);
    CU_ASSERT_EQUAL(s.child[2].starts, 0);
    expect_answer(&s, 1, TR_ERR_CONNECT);
    close_stage(&s);
}

static void supervisor_told_to_end_stops_a_child_that_still_starts(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[1].behaviour = &puppet_silent;
    puppet_tell(s.node, &s.boss, spawn_sup, &s);
    puppet_tell(s.node, &s.boss, ask_end_by_name, &s);
    CU_ASSERT_EQUAL(s.child[1].stops, 1);
    CU_ASSERT_EQUAL(s.child[1].reason, TR_ERR_SHUTDOWN);
    CU_ASSERT_EQUAL(s.child[0].stops, 1);
    expect_answer(&s, 1, TR_ERR_SHUTDOWN);
    CU_ASSERT_EQUAL(tr_shard_actors(tr_node_shard(s.node, 0)), 1);
    close_stage(&s);
}

static void nothing_starts_while_a_supervisor_ends(void) {
    stage s;
    open_stage(&s, TR_ONE_FOR_ONE);
    s.specs[0].behaviour = &puppet_trapper;
    s.specs[0].shutdown_ms = TR_SHUTDOWN_INFINITY;
    CU_ASSERT_EQUAL(raise_sup(&s), TR_OK);
    puppet_tell(s.node, &s.boss, ask_end, &s);
    CU_ASSERT_EQUAL(s.child[0].stops, 0);
    puppet_tell(s.node, &s.boss, start_d, &s); /* too late */
    expect_answer(&s, 21, TR_ERR_SHUTDOWN);
    puppet_post(s.node, &s.child[0], PUPPET_CRASH);
    CU_ASSERT(!alive(&s));
    CU_ASSERT_EQUAL(s.child[0].starts, 1);
    close_stage(&s);
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(children_start_from_the_left_and_stop_from_the_right),
        PUPPET_TEST(child_that_does_not_start_stops_the_ones_before_it),
        PUPPET_TEST(two_children_of_one_name_are_refused),
        PUPPET_TEST(supervisor_without_children_is_up_at_once),
        PUPPET_TEST(one_for_one_restarts_only_the_crashed),
        PUPPET_TEST(one_for_all_stops_from_the_right_and_starts_from_the_left),
        PUPPET_TEST(rest_for_one_restarts_those_after),
        PUPPET_TEST(restart_type_decides_after_each_kind_of_end),
        PUPPET_TEST(temporary_sibling_does_not_come_back_and_a_finished_transient_does),
        PUPPET_TEST(one_crash_more_than_the_intensity_ends_the_supervisor),
        PUPPET_TEST(crashes_outside_the_period_do_not_add_up),
        PUPPET_TEST(restarts_in_a_row_wait_longer_and_longer),
        PUPPET_TEST(siblings_wait_for_the_one_that_backs_off),
        PUPPET_TEST(restart_that_fails_counts_and_is_tried_again),
        PUPPET_TEST(forgiven_restarts_do_not_count),
        PUPPET_TEST(stubborn_child_is_killed_after_its_limit),
        PUPPET_TEST(brutal_shutdown_kills_at_once_and_infinity_waits),
        PUPPET_TEST(killed_supervisor_leaves_no_child),
        PUPPET_TEST(crash_while_another_is_being_stopped_does_not_restart_it),
        PUPPET_TEST(dynamic_child_is_started_restarted_and_stopped),
        PUPPET_TEST(dynamic_child_that_fails_is_forgotten),
        PUPPET_TEST(stopping_a_child_that_backs_off_forgets_it),
        PUPPET_TEST(adopting_supervisor_stops_whoever_was_spawned_under_it),
        PUPPET_TEST(significant_child_needs_auto_shutdown_and_is_not_permanent),
        PUPPET_TEST(any_significant_child_that_is_done_shuts_the_supervisor_down),
        PUPPET_TEST(all_significant_waits_for_the_last_that_is_active),
        PUPPET_TEST(significant_child_that_is_stopped_shuts_nothing_down),
        PUPPET_TEST(failing_supervisor_is_restarted_by_its_own),
        PUPPET_TEST(child_that_acks_itself_holds_up_the_next),
        PUPPET_TEST(child_that_says_it_failed_fails_the_start),
        PUPPET_TEST(supervisor_told_to_end_stops_a_child_that_still_starts),
        PUPPET_TEST(nothing_starts_while_a_supervisor_ends),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, -1);
    return puppet_main("supervisor", tests, sizeof tests / sizeof tests[0]);
}
