/* The world of world.h. Everything runs on the caller's thread. */
#include "tests/sim/world.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/shard.h"
#include "tests/sim/paced_actor.h"
#include "tests/sim/processes.h"

#define STEPS_max 3000000U

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t tr_world_random(tr_world *world) {
    uint64_t z = world->random += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

uint32_t tr_world_below(tr_world *world, uint32_t below) {
    return (uint32_t)(tr_world_random(world) % below);
}

void tr_world_note(tr_world *world, uint64_t what) {
    world->trace = (world->trace ^ what) * 0x100000001b3U;
}

void tr_world_fault(tr_world *world, const char *format, ...) {
    if (world->fault == NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(world->fault_text, sizeof world->fault_text, format, args);
        va_end(args);
        world->fault = world->fault_text;
    }
}

bool tr_world_logs;

/* The memory of the one world that runs. */
static tr_world *at_work;

static void *resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    if (at_work != NULL && at_work->fail_after > 0 && --at_work->fail_after == 0) {
        at_work->shortages++;
        return NULL;
    }
    return realloc(ptr, size);
}

static void release(void *arg, void *ptr) {
    (void)arg;
    free(ptr);
}

static uint64_t now(void *arg) {
    return ((tr_world_node *)arg)->world->now_us;
}

static uint64_t draw(void *arg) {
    return tr_world_random(((tr_world_node *)arg)->world);
}

static void wake(void *arg, uint32_t shard) {
    ((tr_world_node *)arg)->asleep[shard] = false;
}

static void up(void *arg, tr_err err, const char *why) {
    tr_world *world = arg;
    world->up = true;
    if (err != TR_OK) {
        tr_world_fault(world, "the company did not start: %s", why);
    }
}

static void down(void *arg, tr_err reason) {
    tr_world *world = arg;
    world->down = true;
    if (reason != TR_OK && world->shortages == 0) {
        tr_world_fault(world, "the root supervisor gave up: %s", tr_err_name(reason));
    }
}

static void make_node(tr_world *world, tr_world_node *place, uint32_t number, uint32_t shards) {
    place->world = world;
    place->shards = shards;
    tr_node_spec spec = {
        .node = number,
        .shards = shards,
        .platform = {.now_us = now,
                     .random = draw,
                     .wake = wake,
                     .arg = place,
                     .transport = tr_memory_net_transport(world->net),
                     .processes = tr_fake_processes_table(world->fakes)},
    };
    tr_err err = tr_node_new(&spec, &place->node);
    TR_ASSERT(err == TR_OK);
}

static void set_routes(tr_world *world) {
    const char *providers[] = {"echo", "paced"};
    const char *locals[] = {"tiny"};
    tr_alias aliases[] = {
        {.name = "fast", .targets = (const char *const[]){"echo/fast"}, .target_count = 1},
        {.name = "pair",
         .targets = (const char *const[]){"echo/one", "echo/two"},
         .target_count = 2,
         .policy = (tr_policy)tr_world_below(world, 4),
         .weights = {1, 3}},
    };
    tr_routes_spec spec = {.locals = locals,
                           .local_count = 1,
                           .providers = providers,
                           .provider_count = 2,
                           .aliases = aliases,
                           .alias_count = 2,
                           .default_model = "fast",
                           .limits = {.connect_ms = 5000,
                                      .first_token_ms = 120000,
                                      .idle_ms = 60000,
                                      .total_ms = 600000,
                                      .stalled_ms = 5000}};
    tr_routes *routes;
    tr_err err = tr_routes_new(&spec, &routes);
    TR_ASSERT(err == TR_OK);
    tr_services_set_routes(world->services, routes);
}

static void plan_pool(tr_world *world) {
    world->sequences = 1 + tr_world_below(world, 4);
    world->deaths_left = tr_world_below(world, 2) == 0 ? tr_world_below(world, 5) : 0;
    world->hangs_left = tr_world_below(world, 4) == 0;
    tr_pool_spec spec = {.model = "tiny",
                         .file = "tiny.gguf",
                         .worker_program = "troupe-worker",
                         .dial_url = TR_WORLD_WORKER_URL,
                         .workers = 1 + tr_world_below(world, 3),
                         .sequences = world->sequences,
                         .idle_unload_ms = tr_world_below(world, 4) == 0 ? 50 : 0};
    tr_err err = tr_pool_plan_new(&spec, &world->plan);
    TR_ASSERT(err == TR_OK);
}

static void plan_troubles(tr_world *world) {
    world->cuts = tr_world_below(world, 4) == 0;
    world->half_opens = tr_world_below(world, 6) == 0;
    world->stop_us =
        tr_world_below(world, 6) == 0 ? world->now_us + tr_world_below(world, 30000) : 0;
    world->scarce = tr_world_below(world, 4) == 0 ? 1 + tr_world_below(world, 6) : 0;
    tr_memory_faults faults = {.delay_min_us = 10,
                               .delay_max_us = 10 + tr_world_below(world, 2000),
                               .split_max = tr_world_below(world, 3) == 0 ? 7 : 0,
                               .cuts_per_million = world->cuts ? 2000 : 0,
                               .half_open_per_million = world->half_opens ? 400 : 0,
                               .at_once_per_million = 250000 * (uint32_t)tr_world_below(world, 5)};
    tr_memory_net_set_faults(world->net, &faults);
}

void tr_world_calm(tr_world *world) {
    world->stop_us = 0;
    world->scarce = world->fail_after = 0;
    world->deaths_left = world->hangs_left = 0;
    tr_memory_net_set_faults(world->net, &(tr_memory_faults){0});
}

void tr_world_init(tr_world *world, uint64_t seed) {
    static const tr_memory memory = {.resize = resize, .release = release};
    tr_memory_set(&memory);
    memset(world, 0, sizeof *world);
    world->random = seed * 0x2545F4914F6CDD1DU + 1;
    world->now_us = 1000000;
    world->net = tr_memory_net_new(tr_world_random(world));
    tr_services_spec services = {.version = "sim"};
    tr_err err = tr_services_new(&services, &world->services);
    TR_ASSERT(err == TR_OK && world->net != NULL);
    static int silence = -1; /* killed calls are logged, and they are meant to be killed */
    if (silence < 0) {
        silence = open("/dev/null", O_WRONLY | O_CLOEXEC);
    }
    tr_log_set(TR_LOG_LOGFMT, tr_world_logs ? TR_LOG_DEBUG : TR_LOG_ERROR,
               tr_world_logs ? STDERR_FILENO : silence);
    set_routes(world);
    plan_pool(world);
    tr_sim_processes_init(world);
    make_node(world, &world->daemon, 0, 1 + tr_world_below(world, TR_WORLD_SHARDS_max));
    make_node(world, &world->clients, 1, 1);
    tr_door_spec doors[] = {{.url = TR_WORLD_URL, .takes_clients = true},
                            {.url = TR_WORLD_WORKER_URL}};
    tr_child_spec pool = tr_pool_child(world->plan);
    tr_provider_limit pace = tr_sim_pace(world);
    tr_child_spec paced[TR_WORLD_SHARDS_max];
    for (uint32_t i = 0; i < world->daemon.shards; i++) {
        paced[i] = tr_sim_paced_child(&world, i, world->paced_names[i]);
    }
    tr_company_spec company = {.services = world->services,
                               .doors = doors,
                               .door_count = 2,
                               .pools = &pool,
                               .pool_count = 1,
                               .providers = paced,
                               .provider_count = world->daemon.shards,
                               .limits = &pace,
                               .limit_count = 1,
                               .drain_ms = 10000,
                               .up = up,
                               .down = down,
                               .arg = world};
    err = tr_company_start(world->daemon.node, &company, &world->company);
    TR_ASSERT(err == TR_OK);
    while (!world->up && world->fault == NULL && tr_world_step(world)) {
    }
    if (!world->up) {
        tr_world_fault(world, "the company never came up");
    }
    plan_troubles(world);
}

static void run_shard(tr_world *world, tr_world_node *place, uint32_t number) {
    tr_shard *shard = tr_node_shard(place->node, number);
    if (place->drowsy[number]) {
        /* Between its last step and this others ran, as other threads would. */
        place->drowsy[number] = false;
        place->asleep[number] = tr_shard_sleeps(shard);
        return;
    }
    place->asleep[number] = false; /* a due timer wakes too */
    if (tr_world_below(world, 4) == 0) {
        tr_shard_rotate(shard, tr_world_below(world, 4));
    }
    if (place == &world->daemon && world->scarce > 0 && world->fail_after == 0 &&
        tr_world_below(world, 100) == 0) {
        world->scarce--;
        world->fail_after = 1 + tr_world_below(world, 4);
    }
    at_work = place == &world->daemon ? world : NULL;
    bool more = tr_shard_step(shard, 1 + tr_world_below(world, 8));
    at_work = NULL;
    tr_world_note(world, tr_shard_handled(shard) * 16 + number);
    if (!more && tr_shard_deadline_us(shard) > world->now_us) {
        place->drowsy[number] = true;
    }
}

/* Of all shards that are awake, or whose timer is due, one by chance. */
static bool run_some_shard(tr_world *world) {
    tr_world_node *nodes[] = {&world->daemon, &world->clients};
    uint32_t ready = 0;
    tr_world_node *chosen = NULL;
    uint32_t chosen_shard = 0;
    for (size_t n = 0; n < 2; n++) {
        for (uint32_t i = 0; i < nodes[n]->shards; i++) {
            tr_shard *shard = tr_node_shard(nodes[n]->node, i);
            if (!nodes[n]->asleep[i] || tr_shard_deadline_us(shard) <= world->now_us) {
                ready++;
                if (tr_world_below(world, ready) == 0) {
                    chosen = nodes[n];
                    chosen_shard = i;
                }
            }
        }
    }
    if (chosen != NULL) {
        run_shard(world, chosen, chosen_shard);
    }
    return chosen != NULL;
}

static bool jump(tr_world *world) {
    uint64_t due = tr_memory_net_due_us(world->net);
    uint64_t process_due = tr_sim_processes_due_us(world);
    due = process_due < due ? process_due : due;
    tr_world_node *nodes[] = {&world->daemon, &world->clients};
    for (size_t n = 0; n < 2; n++) {
        for (uint32_t i = 0; i < nodes[n]->shards; i++) {
            tr_shard *shard = tr_node_shard(nodes[n]->node, i);
            if (tr_shard_has_work(shard)) {
                tr_world_fault(world, "a shard sleeps although messages wait: a wake was lost");
            }
            uint64_t timer = tr_shard_deadline_us(shard);
            due = timer < due ? timer : due;
        }
    }
    if (due == UINT64_MAX) {
        return false;
    }
    world->now_us = due > world->now_us ? due : world->now_us;
    return true;
}

bool tr_world_step(tr_world *world) {
    if (++world->steps > STEPS_max) {
        tr_world_fault(world, "the world does not come to rest");
        return false;
    }
    world->now_us += tr_world_below(world, 3);
    if (world->stop_us != 0 && world->now_us >= world->stop_us && !world->stopped) {
        world->stopped = true;
        tr_company_stop(world->company);
        return true;
    }
    bool net_first = tr_world_below(world, 2) == 0;
    if (net_first && tr_memory_net_step(world->net, world->now_us)) {
        return true;
    }
    if (tr_world_below(world, 2) == 0 && tr_sim_processes_step(world)) {
        return true;
    }
    if (run_some_shard(world)) {
        return true;
    }
    if (!net_first && tr_memory_net_step(world->net, world->now_us)) {
        return true;
    }
    return tr_memory_net_step(world->net, world->now_us) || tr_sim_processes_step(world) ||
           jump(world);
}

void tr_world_fini(tr_world *world) {
    if (world->up && world->fault == NULL && !world->down) {
        if (!world->stopped) {
            tr_company_stop(world->company);
        }
        while (!world->down && world->fault == NULL && tr_world_step(world)) {
        }
        if (!world->down) {
            tr_world_fault(world, "the company did not stop");
        }
    }
    if (world->down && world->shortages == 0 && tr_services_running(world->services) != 0) {
        tr_world_fault(world, "%u requests are left", tr_services_running(world->services));
    }
    tr_transport *transport = tr_memory_net_transport(world->net);
    transport->forget(transport, world->daemon.node);
    transport->forget(transport, world->clients.node);
    tr_node_free(world->clients.node);
    tr_node_free(world->daemon.node);
    tr_company_free(world->company);
    tr_process_table_free(tr_fake_processes_table(world->fakes));
    tr_pool_plan_free(world->plan);
    tr_services_free(world->services);
    tr_memory_net_free(world->net);
}
