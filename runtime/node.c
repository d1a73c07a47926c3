/*
 * A node: the shards of this process, their registry and their tables. Made and freed by one
 * thread; between start and stop every shard belongs to its own. Linux's clock and random source
 * are the defaults of the platform's table.
 */
#include "runtime/node.h"

#include <pthread.h>
#include <sys/random.h>
#include <time.h>

#include "protocol/assert.h"
#include "runtime/cell.h"
#include "runtime/memory.h"
#include "runtime/transport.h"
#include "runtime/transport_nng_mailbox.h"

static uint64_t linux_now_us(void *arg) {
    (void)arg;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
}

static uint64_t linux_random(void *arg) {
    (void)arg;
    static _Thread_local uint64_t pool[32];
    static _Thread_local size_t left;
    if (left == 0) {
        ssize_t got;
        do {
            got = getrandom(pool, sizeof pool, 0);
        } while (got < (ssize_t)sizeof pool); /* only a signal interrupts it */
        left = sizeof pool / sizeof pool[0];
    }
    return pool[--left];
}

tr_err tr_node_new(const tr_node_spec *spec, tr_node **ret) {
    if (spec->shards == 0 || spec->shards > TR_SHARDS_max || spec->node > 255) {
        return TR_ERR_INVALID;
    }
    tr_node *node = tr_zalloc(sizeof *node);
    if (node == NULL) {
        return TR_ERR_NOMEM;
    }
    node->spec = *spec;
    if (node->spec.platform.now_us == NULL) {
        node->spec.platform.now_us = linux_now_us;
    }
    if (node->spec.platform.random == NULL) {
        node->spec.platform.random = linux_random;
    }
    node->spec.shards = 0; /* so many are initialised */
    tr_err err = tri_registry_init(&node->registry);
    size_t size = spec->shards * sizeof(tr_shard);
    if (err == TR_OK) {
        node->shards_memory = tr_alloc(size + TRI_CACHE_LINE);
        err = node->shards_memory != NULL ? TR_OK : TR_ERR_NOMEM;
    }
    if (err == TR_OK) {
        uintptr_t at = (uintptr_t)node->shards_memory;
        at = (at + TRI_CACHE_LINE - 1) & ~(uintptr_t)(TRI_CACHE_LINE - 1);
        node->shards = (tr_shard *)at; // NOLINT(performance-no-int-to-ptr)
    }
    while (err == TR_OK && node->spec.shards < spec->shards) {
        uint32_t number = node->spec.shards++;
        err = tri_shard_init(&node->shards[number], node, number, spec->shards);
    }
    if (err == TR_OK && spec->mailbox == TR_MAILBOX_INPROC) {
        err = tri_mailbox_new(node, &node->inproc);
    }
    if (err != TR_OK) {
        tr_node_free(node);
        return err;
    }
    *ret = node;
    return TR_OK;
}

void tr_node_end_actors(tr_node *node) {
    TR_ASSERT(node->started == 0);
    for (uint32_t i = 0; i < node->spec.shards; i++) {
        node->shards[i].closing = true;
    }
    for (uint32_t i = 0; i < node->spec.shards; i++) {
        tri_shard_end_actors(&node->shards[i]);
    }
}

void tr_node_free(tr_node *node) {
    if (node == NULL) {
        return;
    }
    tr_node_end_actors(node);
    tr_transport *transport = node->spec.platform.transport;
    if (transport != NULL && transport->forget != NULL) {
        transport->forget(transport, node);
    }
    tri_mailbox_free(node->inproc);
    for (uint32_t i = 0; i < node->spec.shards; i++) {
        tri_shard_fini(&node->shards[i]);
    }
    tri_registry_fini(&node->registry);
    tr_free(node->shards_memory);
    tr_free(node);
}

tr_err tr_node_start(tr_node *node) {
    TR_ASSERT(node->started == 0);
    for (uint32_t i = 0; i < node->spec.shards; i++) {
        tr_err err = tri_thread_start(&node->shards[i]);
        if (err != TR_OK) {
            tr_node_stop(node);
            return err;
        }
        node->started++;
    }
    return TR_OK;
}

void tr_node_stop(tr_node *node) {
    for (uint32_t i = 0; i < node->started; i++) {
        tri_thread_stop(&node->shards[i]);
    }
    node->started = 0;
}

tr_err tr_node_spawn(tr_node *node, uint32_t shard, const tr_spawn_spec *spec) {
    return tr_node_spawn_or(node, shard, spec, NULL, NULL);
}

tr_err tr_node_spawn_or(tr_node *node, uint32_t shard, const tr_spawn_spec *spec,
                        void (*failed)(void *arg, tr_err err), void *arg) {
    TR_ASSERT(shard < node->spec.shards);
    tr_msg *msg;
    tr_err err = tri_spawn_message(spec, false, &msg);
    if (err == TR_OK) {
        tri_spawn *spawn = (tri_spawn *)(void *)msg->body->bytes;
        spawn->failed = failed;
        spawn->failed_arg = arg;
        tr_post(node, tr_shard_id(node, shard), msg);
    }
    return err;
}

void tr_post(tr_node *node, tr_id to, tr_msg *msg) {
    uint32_t shard = tr_id_shard(to);
    if (tr_id_node(to) != node->spec.node || shard >= node->spec.shards) {
        tr_msg_free(msg);
        return;
    }
    msg->to = to;
    if (tri_inbox_push(&node->shards[shard].inbox, msg, msg)) {
        tri_wake(&node->shards[shard]);
    }
}

uint32_t tr_node_shards(const tr_node *node) {
    return node->spec.shards;
}

tr_shard *tr_node_shard(const tr_node *node, uint32_t shard) {
    TR_ASSERT(shard < node->spec.shards);
    return &node->shards[shard];
}

const tr_platform *tr_node_platform(const tr_node *node) {
    return &node->spec.platform;
}

tr_mailbox_mode tr_node_mailbox(const tr_node *node) {
    return node->spec.mailbox;
}

tr_id tr_shard_id(const tr_node *node, uint32_t shard) {
    return tr_id_make(node->spec.node, shard, 0, 0);
}

uint64_t tr_node_inproc_messages(const tr_node *node) {
    return node->inproc != NULL ? tri_mailbox_count(node->inproc) : 0;
}
