/*
 * fanin: `senders` actors send `messages` messages each to one sink. A sender sends CHUNK messages
 * and then asks itself to go on, so that it never holds its shard for long. The sink is on shard 0,
 * the senders on all.
 */
#include "tools/bench/bench.h"

#define CHUNK 100

enum { KIND_ITEM = 100, KIND_GO };
enum { SENDERS, MESSAGES, SHARDS };

typedef struct sink {
    tri_stage *stage;
    uint64_t left;
} sink;

static tr_err sink_init(tr_self *self, void *state, const void *args) {
    (void)self;
    sink *me = state;
    *me = *(const sink *)args;
    tri_stage_done(me->stage);
    return TR_OK;
}

static tr_err sink_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    (void)msg;
    sink *me = state;
    if (--me->left == 0) {
        tri_stage_done(me->stage);
    }
    return TR_OK;
}

static const tr_behaviour sink_behaviour = {
    .name = "sink", .state_size = sizeof(sink), .init = sink_init, .handle = sink_handle};

typedef struct sender {
    uint64_t left;
    tr_id to;
} sender;

static tr_err sender_init(tr_self *self, void *state, const void *args) {
    sender *me = state;
    me->left = *(const uint64_t *)args;
    me->to = tr_whereis(tr_self_node(self), "sink");
    tr_msg *go = tr_msg_new(KIND_GO, 0);
    return go != NULL ? tr_send(self, tr_self_id(self), &go) : TR_ERR_NOMEM;
}

static tr_err sender_handle(tr_self *self, void *state, tr_msg **msg) {
    sender *me = state;
    for (uint32_t i = 0; i < CHUNK && me->left > 0; i++) {
        tr_msg *item = tr_msg_new(KIND_ITEM, 0);
        if (item == NULL) {
            return TR_ERR_NOMEM;
        }
        me->left--;
        tr_err err = tr_send(self, me->to, &item);
        if (err != TR_OK) {
            tr_msg_free(item);
            return err;
        }
    }
    return me->left == 0 ? TR_DONE : tr_send(self, tr_self_id(self), msg);
}

static const tr_behaviour sender_behaviour = {
    .name = "sender", .state_size = sizeof(sender), .init = sender_init, .handle = sender_handle};

typedef struct maker {
    const tri_run *run;
} maker;

static tr_err maker_init(tr_self *self, void *state, const void *args) {
    (void)self;
    *(maker *)state = *(const maker *)args;
    return TR_OK;
}

static tr_err maker_handle(tr_self *self, void *state, tr_msg **msg) {
    const tri_run *run = ((maker *)state)->run;
    tr_err err = TR_OK;
    for (uint64_t i = 0; (*msg)->kind == KIND_GO && i < run->values[SENDERS] && err == TR_OK; i++) {
        tr_spawn_spec spec = {.behaviour = &sender_behaviour,
                              .args = &run->values[MESSAGES],
                              .args_size = sizeof run->values[MESSAGES]};
        err = tr_spawn_on(self, (uint32_t)(i % run->values[SHARDS]), &spec, i);
    }
    return err;
}

static const tr_behaviour maker_behaviour = {
    .name = "maker", .state_size = sizeof(maker), .init = maker_init, .handle = maker_handle};

static tr_err fanin_run(const tri_run *run, tri_result *ret) {
    tri_stage *stage;
    tr_err err = tri_stage_open(run, run->values[SHARDS], &stage);
    if (err != TR_OK) {
        return err;
    }
    tr_node *node = tri_stage_node(stage);
    uint64_t total = run->values[SENDERS] * run->values[MESSAGES];
    sink sink_args = {.stage = stage, .left = total};
    maker maker_args = {.run = run};
    tr_spawn_spec specs[] = {{.behaviour = &maker_behaviour,
                              .args = &maker_args,
                              .args_size = sizeof maker_args,
                              .name = "maker",
                              .registers = true},
                             {.behaviour = &sink_behaviour,
                              .args = &sink_args,
                              .args_size = sizeof sink_args,
                              .name = "sink",
                              .registers = true}};
    err = tr_node_spawn(node, 0, &specs[0]);
    err = err == TR_OK ? tr_node_spawn(node, 0, &specs[1]) : err;
    if (err == TR_OK) {
        tri_stage_wait(stage, 1);
        tri_stage_begin(stage, tr_whereis(node, "maker"), KIND_GO);
        tri_stage_wait(stage, 1);
        *ret = (tri_result){.count = total, .seconds = tri_stage_seconds(stage)};
    }
    tri_stage_close(stage);
    return err;
}

const tri_workload tri_bench_fanin = {.name = "fanin",
                                      .counts = "messages",
                                      .options = {{"senders", 10, 1, 100000},
                                                  {"messages", 100000, 1, 100000000},
                                                  {"shards", 1, 1, 64}},
                                      .run = fanin_run};
