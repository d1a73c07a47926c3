/*
 * ring: `actors` actors in a circle, `tokens` messages that go round it, each for `hops` hops. A
 * hop is a new message, as in most programs. Each shard has a run of neighbours, so a token changes
 * shards `shards` times a round. Ends when every token has made its hops.
 */
#include <stdlib.h>

#include "tools/bench/bench.h"

enum { KIND_TOKEN = 100, KIND_GO, KIND_NEXT };
enum { ACTORS, TOKENS, HOPS, SHARDS };

typedef struct ring_args {
    tri_stage *stage;
    const tri_run *run;
    tr_id *ids;
} ring_args;

typedef struct member {
    tri_stage *stage;
    tr_id next;
} member;

static tr_err member_init(tr_self *self, void *state, const void *args) {
    (void)self;
    member *me = state;
    me->stage = *(tri_stage *const *)args;
    return TR_OK;
}

static tr_err member_handle(tr_self *self, void *state, tr_msg **msg) {
    member *me = state;
    if ((*msg)->kind == KIND_NEXT) {
        me->next = (*msg)->ref;
        tri_stage_done(me->stage);
        return TR_OK;
    }
    uint64_t left = (*msg)->ref;
    if (left == 0) {
        tri_stage_done(me->stage);
        return TR_OK;
    }
    tr_msg *token = tr_msg_new(KIND_TOKEN, 0);
    if (token == NULL) {
        return TR_ERR_NOMEM;
    }
    token->ref = left - 1;
    return tr_send(self, me->next, &token);
}

static const tr_behaviour member_behaviour = {
    .name = "member", .state_size = sizeof(member), .init = member_init, .handle = member_handle};

typedef struct maker {
    ring_args given;
    uint64_t started;
} maker;

static tr_err maker_init(tr_self *self, void *state, const void *args) {
    maker *me = state;
    me->given = *(const ring_args *)args;
    const tri_run *run = me->given.run;
    tr_err err = TR_OK;
    for (uint64_t i = 0; i < run->values[ACTORS] && err == TR_OK; i++) {
        tr_spawn_spec spec = {.behaviour = &member_behaviour,
                              .args = &me->given.stage,
                              .args_size = sizeof me->given.stage};
        err =
            tr_spawn_on(self, (uint32_t)(i * run->values[SHARDS] / run->values[ACTORS]), &spec, i);
    }
    return err;
}

static tr_err send(tr_self *self, tr_id to, uint16_t kind, uint64_t ref) {
    tr_msg *msg = tr_msg_new(kind, 0);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    msg->ref = ref;
    return tr_send(self, to, &msg);
}

static tr_err maker_handle(tr_self *self, void *state, tr_msg **msg) {
    maker *me = state;
    const tri_run *run = me->given.run;
    uint64_t actors = run->values[ACTORS];
    tr_err err = TR_OK;
    if ((*msg)->kind == TR_KIND_STARTED) {
        me->given.ids[(*msg)->ref] = ((const tr_started_note *)(const void *)(*msg)->data)->id;
        if (++me->started == actors) {
            for (uint64_t i = 0; i < actors && err == TR_OK; i++) {
                err = send(self, me->given.ids[i], KIND_NEXT, me->given.ids[(i + 1) % actors]);
            }
        }
    } else if ((*msg)->kind == KIND_GO) {
        for (uint64_t i = 0; i < run->values[TOKENS] && err == TR_OK; i++) {
            err = send(self, me->given.ids[i * actors / run->values[TOKENS]], KIND_TOKEN,
                       run->values[HOPS] - 1);
        }
    }
    return err;
}

static void maker_stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)state;
    if (reason != TR_ERR_SHUTDOWN) {
        abort(); /* out of memory: nothing would ever end */
    }
}

static const tr_behaviour maker_behaviour = {.name = "maker",
                                             .state_size = sizeof(maker),
                                             .init = maker_init,
                                             .handle = maker_handle,
                                             .stop = maker_stop};

static tr_err ring_run(const tri_run *run, tri_result *ret) {
    tri_stage *stage;
    tr_id *ids = calloc(run->values[ACTORS], sizeof *ids);
    tr_err err = ids != NULL ? tri_stage_open(run, run->values[SHARDS], &stage) : TR_ERR_NOMEM;
    if (err != TR_OK) {
        free(ids);
        return err;
    }
    ring_args args = {.stage = stage, .run = run, .ids = ids};
    tr_spawn_spec spec = {.behaviour = &maker_behaviour,
                          .args = &args,
                          .args_size = sizeof args,
                          .name = "maker",
                          .registers = true};
    err = tr_node_spawn(tri_stage_node(stage), 0, &spec);
    if (err == TR_OK) {
        tri_stage_wait(stage, run->values[ACTORS]);
        tri_stage_begin(stage, tr_whereis(tri_stage_node(stage), "maker"), KIND_GO);
        tri_stage_wait(stage, run->values[TOKENS]);
        *ret = (tri_result){.count = run->values[TOKENS] * run->values[HOPS],
                            .seconds = tri_stage_seconds(stage)};
    }
    tri_stage_close(stage);
    free(ids);
    return err;
}

const tri_workload tri_bench_ring = {.name = "ring",
                                     .counts = "messages",
                                     .options = {{"actors", 100, 2, 1000000},
                                                 {"tokens", 50, 1, 1000000},
                                                 {"hops", 100000, 1, 1000000000},
                                                 {"shards", 1, 1, 64}},
                                     .run = ring_run};
