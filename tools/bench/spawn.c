/*
 * spawn: one actor starts `actors` others, each of which has one turn, in which it sends its parent
 * one message and ends. It starts CHUNK at a time and goes on when those have ended, so memory
 * stays bounded.
 */
#include "tools/bench/bench.h"

#define CHUNK 1000

enum { KIND_BORN = 100, KIND_GO };
enum { ACTORS };

static tr_err child_handle(tr_self *self, void *state, tr_msg **msg) {
    (void)state;
    tr_msg *born = tr_msg_new(KIND_BORN, 0);
    if (born == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_err err = tr_send(self, (*msg)->from, &born);
    return err == TR_OK ? TR_DONE : err;
}

static const tr_behaviour child_behaviour = {
    .name = "child", .state_size = 64, .handle = child_handle};

typedef struct parent {
    tri_stage *stage;
    uint64_t left; /* to start */
    uint64_t alive;
} parent;

static tr_err parent_init(tr_self *self, void *state, const void *args) {
    (void)self;
    parent *me = state;
    *me = *(const parent *)args;
    tri_stage_done(me->stage);
    return TR_OK;
}

static tr_err parent_handle(tr_self *self, void *state, tr_msg **msg) {
    parent *me = state;
    if ((*msg)->kind == KIND_BORN) {
        me->alive--;
    }
    if (me->alive > 0) {
        return TR_OK;
    }
    if (me->left == 0) {
        tri_stage_done(me->stage);
        return TR_DONE;
    }
    for (; me->left > 0 && me->alive < CHUNK; me->left--) {
        tr_spawn_spec spec = {.behaviour = &child_behaviour};
        tr_id child;
        tr_err err = tr_spawn(self, &spec, &child);
        err = err == TR_OK ? tr_send_control(self, child, tr_msg_new(KIND_GO, 0)) : err;
        if (err != TR_OK) {
            return err;
        }
        me->alive++;
    }
    return TR_OK;
}

static const tr_behaviour parent_behaviour = {
    .name = "parent", .state_size = sizeof(parent), .init = parent_init, .handle = parent_handle};

static tr_err spawn_run(const tri_run *run, tri_result *ret) {
    tri_stage *stage;
    tr_err err = tri_stage_open(run, 1, &stage);
    if (err != TR_OK) {
        return err;
    }
    tr_node *node = tri_stage_node(stage);
    parent args = {.stage = stage, .left = run->values[ACTORS]};
    tr_spawn_spec spec = {.behaviour = &parent_behaviour,
                          .args = &args,
                          .args_size = sizeof args,
                          .name = "parent",
                          .registers = true};
    err = tr_node_spawn(node, 0, &spec);
    if (err == TR_OK) {
        tri_stage_wait(stage, 1);
        tri_stage_begin(stage, tr_whereis(node, "parent"), KIND_GO);
        tri_stage_wait(stage, 1);
        *ret = (tri_result){.count = run->values[ACTORS], .seconds = tri_stage_seconds(stage)};
    }
    tri_stage_close(stage);
    return err;
}

const tri_workload tri_bench_spawn = {.name = "spawn",
                                      .counts = "actors",
                                      .options = {{"actors", 1000000, 1, 100000000}},
                                      .run = spawn_run};
