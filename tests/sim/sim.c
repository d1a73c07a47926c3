/*
 * Runs worlds: sim --seed N [--twice] [--trace] [--log], sim --seeds A-B. Each world has clients of
 * seeded manners and an assassin that kills some calls. A broken rule prints the seed, and the exit
 * status is 1; the same seed gives the same trace. With --bug NAME (the planted build) a bug is at
 * work, and with --must-fail some seed has to find it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "runtime/node.h"
#include "runtime/planted.h"
#include "tests/sim/client_actor.h"
#include "tests/sim/world.h"

/* --- the assassin: kills an actor now and then, most often a call, as a bug in it would --- */

typedef struct assassin {
    tr_world *world;
    uint32_t left;
    const char *prey; /* the kind of actor */
    bool gateway;     /* was killed: twice in five seconds would be the end of the root */
    uint64_t timer;
} assassin;

static void choose_prey(assassin *a) {
    static const char *const prey[] = {"connection", "echo",   "limiter",
                                       "pool",       "worker", "gateway"};
    a->prey = "call";
    if (tr_world_below(a->world, 4) == 0) {
        a->prey = prey[tr_world_below(a->world, sizeof prey / sizeof *prey)];
        if (strcmp(a->prey, "gateway") == 0) {
            a->prey = a->gateway ? "call" : a->prey;
            a->gateway = true;
        }
    }
}

static tr_err hire(tr_self *self, void *state, const void *args) {
    assassin *a = state;
    a->world = *(tr_world *const *)args;
    a->left = tr_world_below(a->world, 4);
    choose_prey(a);
    return tr_timer_start(self, 500 + tr_world_below(a->world, 4000), 0, &a->timer);
}

static tr_err ask_shard(tr_self *self, assassin *a) {
    tr_node *node = tr_self_node(self);
    uint32_t shard = tr_world_below(a->world, tr_node_shards(node));
    return tr_send_control(self, tr_shard_id(node, shard), tr_msg_new(TR_KIND_INSPECT, 0));
}

static tr_err kill_one(tr_self *self, assassin *a, const tr_msg *msg) {
    if (msg->body == NULL) {
        return TR_OK;
    }
    const tr_actor_row *rows = (const tr_actor_row *)(const void *)msg->body->bytes;
    size_t count = msg->body->size / sizeof *rows;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].kind, a->prey) == 0 && tr_world_below(a->world, 3) == 0) {
            tr_exit(self, rows[i].id, TR_ERR_CANCELLED);
            a->world->kills += strcmp(a->prey, "call") != 0;
            break;
        }
    }
    choose_prey(a);
    if (a->left-- == 0) {
        return TR_DONE;
    }
    return tr_timer_start(self, 500 + tr_world_below(a->world, 4000), 0, &a->timer);
}

static tr_err murder(tr_self *self, void *state, tr_msg **msg) {
    assassin *a = state;
    if ((*msg)->kind == TR_KIND_TIMER) {
        return ask_shard(self, a);
    }
    return (*msg)->kind == TR_KIND_INSPECTED ? kill_one(self, a, *msg) : TR_OK;
}

static const tr_behaviour assassin_behaviour = {
    .name = "assassin", .state_size = sizeof(assassin), .init = hire, .handle = murder};

/* --- a world --- */

static void add_client(tr_world *world, tr_sim_tally *tally, bool auditor) {
    tr_sim_client_args args = {.world = world, .tally = tally, .auditor = auditor};
    tr_spawn_spec spec = {.behaviour = &tr_sim_client, .args = &args, .args_size = sizeof args};
    tally->clients_left++;
    tr_err err = tr_node_spawn(world->clients.node, 0, &spec);
    TR_ASSERT(err == TR_OK);
}

static void run_until_clients_left(tr_world *world, const tr_sim_tally *tally) {
    while (tally->clients_left > 0 && world->fault == NULL && tr_world_step(world)) {
    }
    if (tally->clients_left > 0) {
        tr_world_fault(world, "%u clients wait for ever", tally->clients_left);
    }
}

static void run_for(tr_world *world, uint64_t us, bool until_idle) {
    uint64_t until = world->now_us + us;
    while (
        world->fault == NULL && world->now_us < until &&
        !(until_idle && tr_services_running(world->services) == 0 && world->sequences_held == 0) &&
        tr_world_step(world)) {
    }
}

/* What vanished clients left behind ends when the net tells, or by the limits of its requests; the
 * last messages of an ended request still have to arrive then. Among them may be a SUBMIT at a
 * worker whose CANCEL is lost in a half-open stream: that one ends with its heartbeats. */
static void come_to_rest(tr_world *world) {
    for (int i = 0; i < 2; i++) {
        run_for(world, 1000000000, true);
        run_for(world, 1000000, false);
    }
}

/* NULL, or the broken rule. */
static const char *run(uint64_t seed, bool trace, uint64_t *ret_trace) {
    static tr_world world;
    tr_sim_tally tally = {0};
    tr_world_init(&world, seed);
    for (uint32_t i = 1 + tr_world_below(&world, 8); i > 0; i--) {
        add_client(&world, &tally, false);
    }
    tr_world *self = &world;
    tr_spawn_spec spec = {
        .behaviour = &assassin_behaviour, .args = &self, .args_size = sizeof(tr_world *)};
    tr_err err = tr_node_spawn(world.daemon.node, 0, &spec);
    TR_ASSERT(err == TR_OK);
    run_until_clients_left(&world, &tally);
    come_to_rest(&world);
    tr_world_calm(&world);
    if (!world.down && !world.stopped) {
        add_client(&world, &tally, true);
        run_until_clients_left(&world, &tally);
    }
    tr_world_fini(&world);
    if (trace) {
        printf("seed %" PRIu64 ": steps=%" PRIu64 " submits=%" PRIu64 " dones=%" PRIu64
               " fails=%" PRIu64 " deltas=%" PRIu64
               " deaths=%u resumes=%u kills=%u shortages=%u trace=%016" PRIx64 "%s%s\n",
               seed, world.steps, tally.submits, tally.dones, tally.fails, tally.deltas,
               world.deaths, world.resumes, world.kills, world.shortages, world.trace,
               world.fault != NULL ? " FAULT: " : "", world.fault != NULL ? world.fault : "");
    }
    *ret_trace = world.trace;
    return world.fault;
}

static bool set_bug(const char *name) {
#ifdef TR_PLANTED_BUGS
    static const char *const names[TR_BUG_N] = {"none", "lost_wake", "second_terminal",
                                                "slot_leak"};
    for (int i = 0; i < TR_BUG_N; i++) {
        if (strcmp(name, names[i]) == 0) {
            tr_planted_bug_now = (tr_planted_bug)i;
            return true;
        }
    }
#endif
    fprintf(stderr, "there is no planted bug \"%s\" in this build\n", name);
    return false;
}

int main(int argc, char **argv) {
    uint64_t first = 1, last = 1;
    bool twice = false, trace = false, must_fail = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            first = last = strtoull(argv[++i], NULL, 0);
            trace = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            char *end;
            first = strtoull(argv[++i], &end, 0);
            last = *end == '-' ? strtoull(end + 1, NULL, 0) : first;
        } else if (strcmp(argv[i], "--bug") == 0 && i + 1 < argc) {
            if (!set_bug(argv[++i])) {
                return 2;
            }
        } else if (strcmp(argv[i], "--twice") == 0) {
            twice = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--log") == 0) {
            tr_world_logs = true;
        } else if (strcmp(argv[i], "--must-fail") == 0) {
            must_fail = true;
        } else {
            fputs("usage: sim [--seed N | --seeds A-B] [--twice] [--trace] [--log] [--bug NAME "
                  "[--must-fail]]\n",
                  stderr);
            return 2;
        }
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        uint64_t once, again;
        const char *fault = run(seed, trace, &once);
        if (fault != NULL) {
            printf("seed %" PRIu64 " broke a rule: %s\n", seed, fault);
            return must_fail ? 0 : 1;
        }
        if (twice && (run(seed, trace, &again) != NULL || again != once)) {
            printf("seed %" PRIu64 " does not replay\n", seed);
            return 1;
        }
    }
    printf("seeds %" PRIu64 " to %" PRIu64 ": no rule was broken\n", first, last);
    return must_fail ? 1 : 0;
}
