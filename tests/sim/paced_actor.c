/* The actor of paced_actor.h: an echo actor inside, which does the work, and the world's list of
 * starts, which is shared by all shards since the world runs on one thread. Now and then it says of
 * a model that nothing is left of it for a while, as a provider's headers do: then no request of
 * that model may start, and those of the others go on (nobody waits for ever). */
#include "tests/sim/paced_actor.h"

#include <stdio.h>

#include "actors/echo.h"
#include "protocol/assert.h"
#include "protocol/gate.h"

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

/* Between a word to the limiter and a start that comes of it lies less than this. */
static uint64_t slack_us(const tr_world *world) {
    return world->pace_us / 2;
}

static void check_hold(tr_world *world, uint32_t model) {
    bool known = world->kills == 0 && world->shortages == 0;
    /* Of two words that are sent at nearly the same time either may come last. */
    bool clear = world->paced[model].told_us >= world->paced[model].before_us + slack_us(world);
    if (known && clear && world->now_us > world->paced[model].told_us + slack_us(world) &&
        world->now_us < world->paced[model].until_us) {
        tr_world_fault(world, "a request of model %u started %llu us before it was free", model,
                       (unsigned long long)(world->paced[model].until_us - world->now_us));
    }
}

/* What is left of a model: nothing, or enough. */
static tr_err tell_rates(tr_self *self, tr_world *world, uint32_t model) {
    bool none = tr_world_below(world, 2) == 0;
    uint32_t ms = 1 + tr_world_below(world, 300);
    tr_msg *msg = tr_msg_new(TR_KIND_RATES, sizeof(tr_rates) + 1);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    *(tr_rates *)(void *)msg->data = (tr_rates){none ? 0 : 1000, ms, -1, -1};
    msg->data[sizeof(tr_rates)] = (uint8_t)('x' + model);
    world->paced[model].before_us = world->paced[model].told_us;
    world->paced[model].told_us = world->now_us;
    world->paced[model].until_us = none ? world->now_us + ms * 1000ULL : 0;
    return tr_send_control(self, tr_whereis(tr_self_node(self), "limiter:paced"), msg);
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
        tr_str name = tr_submit_read((const tr_submit *)(const void *)(*msg)->data).target;
        uint32_t model = name.size == 1 ? (uint32_t)(name.ptr[0] - 'x') : TR_WORLD_PACED;
        TR_ASSERT(model < TR_WORLD_PACED);
        check_start(p->world);
        check_hold(p->world, model);
        tr_err err = tr_world_below(p->world, 3) == 0 ? tell_rates(self, p->world, model) : TR_OK;
        if (err != TR_OK) {
            return err;
        }
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
