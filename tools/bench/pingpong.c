/*
 * pingpong: two actors, one message between them, sent back and forth `messages` times. With
 * `shards` 2 they live on two threads and each message wakes the other one.
 */
#include "tools/bench/bench.h"

enum { KIND_BALL = 100, KIND_GO };
enum { MESSAGES, SHARDS };

typedef struct player {
    tri_stage *stage;
    uint64_t messages;
    tr_id other;
} player;

static tr_err player_handle(tr_self *self, void *state, tr_msg **msg) {
    player *me = state;
    bool opens = (*msg)->kind == KIND_GO;
    uint64_t left = opens ? me->messages : (*msg)->ref;
    if (me->other == TR_ID_NONE) {
        me->other = opens ? tr_whereis(tr_self_node(self), "pong") : (*msg)->from;
    }
    if (left == 0) {
        tri_stage_done(me->stage);
        return TR_OK;
    }
    tr_msg *ball = tr_msg_new(KIND_BALL, 0);
    if (ball == NULL) {
        return TR_ERR_NOMEM;
    }
    ball->ref = left - 1;
    return tr_send(self, me->other, &ball);
}

static tr_err player_init(tr_self *self, void *state, const void *args) {
    (void)self;
    player *me = state;
    *me = *(const player *)args;
    tri_stage_done(me->stage);
    return TR_OK;
}

static const tr_behaviour player_behaviour = {
    .name = "player", .state_size = sizeof(player), .init = player_init, .handle = player_handle};

static tr_err pingpong_run(const tri_run *run, tri_result *ret) {
    tri_stage *stage;
    tr_err err = tri_stage_open(run, run->values[SHARDS], &stage);
    if (err != TR_OK) {
        return err;
    }
    tr_node *node = tri_stage_node(stage);
    player args = {.stage = stage, .messages = run->values[MESSAGES]};
    static const char *const names[] = {"ping", "pong"};
    for (uint32_t i = 0; i < 2 && err == TR_OK; i++) {
        tr_spawn_spec spec = {.behaviour = &player_behaviour,
                              .args = &args,
                              .args_size = sizeof args,
                              .name = names[i],
                              .registers = true};
        err = tr_node_spawn(node, i % (uint32_t)run->values[SHARDS], &spec);
    }
    if (err == TR_OK) {
        tri_stage_wait(stage, 2);
        tri_stage_begin(stage, tr_whereis(node, "ping"), KIND_GO);
        tri_stage_wait(stage, 1);
        *ret = (tri_result){.count = run->values[MESSAGES], .seconds = tri_stage_seconds(stage)};
    }
    tri_stage_close(stage);
    return err;
}

const tri_workload tri_bench_pingpong = {
    .name = "pingpong",
    .counts = "messages",
    .options = {{"messages", 1000000, 1, 1000000000}, {"shards", 1, 1, 2}},
    .run = pingpong_run};
