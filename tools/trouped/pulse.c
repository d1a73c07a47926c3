/*
 * Whether the shards still run, for a service manager's watchdog: an actor that is started on a
 * shard shows by its init that the shard takes up work, and ends at once. Nothing is kept or
 * counted on the shards for it when nobody asks. Called by trouped's main thread.
 */
#include <string.h>

#include "tools/trouped/daemon_internal.h"

static tr_err beat(tr_self *self, void *state, const void *args) {
    tr_daemon *d;
    (void)state;
    memcpy(&d, args, sizeof d);
    atomic_fetch_add_explicit(&d->beats, 1, memory_order_relaxed);
    tr_exit(self, tr_self_id(self), TR_OK);
    return TR_OK;
}

static tr_err ignore(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    (void)state;
    (void)msg;
    return TR_OK;
}

static const tr_behaviour pulse = {.name = "pulse", .init = beat, .handle = ignore};

bool tri_daemon_pulse(tr_daemon *d) {
    if (atomic_load_explicit(&d->beats, memory_order_relaxed) < d->beats_asked) {
        return false;
    }
    tr_spawn_spec spec = {.behaviour = &pulse, .args = &d, .args_size = sizeof d, .name = "pulse"};
    for (uint32_t shard = 0; shard < tr_node_shards(d->node); shard++) {
        if (tr_node_spawn(d->node, shard, &spec) == TR_OK) {
            d->beats_asked++;
        }
    }
    return true;
}

uint64_t tri_daemon_drain_ms(const tr_daemon *d) {
    return d->config.drain_ms;
}
