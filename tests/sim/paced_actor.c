/* The actor of paced_actor.h: an echo actor inside, which does the work, and the world's list of
 * starts, which is shared by all shards since the world runs on one thread. */
#include "tests/sim/paced_actor.h"

#include <stdio.h>

#include "actors/echo.h"
#include "protocol/assert.h"

#define ECHO_max 4096

typedef struct paced {
    tr_world *world;
    _Alignas(16) char echo[ECHO_max]; /* its state */
} paced;

tr_provider_limit tr_sim_pace(tr_world *world) {
    world->pace_burst = 1 + tr_world_below(world, TR_WORLD_BURST_max);
    world->pace_us = 20000 + tr_world_below(world, 4) * 10000;
    return (tr_provider_limit){.name = "paced",
                               .at_once = 1 + tr_world_below(world, 6),
                               .rpm = 60000000 / world->pace_us,
                               .burst = world->pace_burst};
}

/* The one that may start now is `burst` after one that started at least an interval ago. Between
 * grant and start lie a few messages, which take far less than half of it. A limiter that was
 * killed has forgotten what it granted. */
static void check_start(tr_world *world) {
    uint64_t *before = &world->starts[world->start_count++ % world->pace_burst];
    bool full = world->start_count > world->pace_burst;
    if (full && world->kills == 0 && world->shortages == 0 &&
        world->now_us - *before < world->pace_us - world->pace_us / 2) {
        tr_world_fault(world, "%u requests started within %llu us where %u may within %u",
                       world->pace_burst + 1, (unsigned long long)(world->now_us - *before),
                       world->pace_burst, world->pace_us);
    }
    *before = world->now_us;
}

static tr_err init(tr_self *self, void *state, const void *args) {
    paced *p = state;
    p->world = *(tr_world *const *)args;
    TR_ASSERT(tr_echo.state_size <= sizeof p->echo);
    return tr_echo.init(self, p->echo, NULL);
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    paced *p = state;
    if ((*msg)->kind == TR_KIND_SUBMIT) {
        check_start(p->world);
    }
    return tr_echo.handle(self, p->echo, msg);
}

static void stop(tr_self *self, void *state, tr_err reason) {
    tr_echo.stop(self, ((paced *)state)->echo, reason);
}

static const tr_behaviour paced_behaviour = {
    .name = "paced", .state_size = sizeof(paced), .init = init, .handle = handle, .stop = stop};

tr_child_spec tr_sim_paced_child(tr_world **world, uint32_t shard, char name[32]) {
    snprintf(name, 32, "provider:paced:%u", shard);
    return (tr_child_spec){.name = name,
                           .behaviour = &paced_behaviour,
                           .args = world,
                           .args_size = sizeof *world,
                           .restart = TR_PERMANENT,
                           .shutdown_ms = 1000,
                           .shard = shard,
                           .registers = true};
}
