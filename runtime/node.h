/*
 * A node is all shards of this process with their tables: clock, random source, wake, transports,
 * processes. Real nodes run a thread a shard (tr_node_start); the simulator makes one without
 * threads and steps the shards itself (shard.h).
 */
#ifndef TR_RUNTIME_NODE_H
#define TR_RUNTIME_NODE_H

#include "runtime/actor.h"

typedef struct tr_platform {
    uint64_t (*now_us)(void *arg);           /* monotonic; any thread */
    uint64_t (*random)(void *arg);           /* 64 random bits; any thread */
    void (*wake)(void *arg, uint32_t shard); /* NULL = the shard's own eventfd */
    void *arg;
    struct tr_transport *transport;     /* transport.h; may be NULL */
    struct tr_process_table *processes; /* process.h; may be NULL */
} tr_platform;

typedef enum tr_mailbox_mode { TR_MAILBOX_DIRECT, TR_MAILBOX_INPROC } tr_mailbox_mode;

typedef struct tr_node_spec {
    uint32_t node;   /* 0 to 255 */
    uint32_t shards; /* 1 to TR_SHARDS_max */
    tr_mailbox_mode mailbox;
    tr_platform platform; /* zeroed functions = Linux's clock and random source */
} tr_node_spec;

TR_MUST_USE tr_err tr_node_new(const tr_node_spec *spec, tr_node **ret);
/* After tr_node_stop: every actor left gets its stop(), which may use the platform's tables; free
 * those only afterwards. Again is fine. */
void tr_node_end_actors(tr_node *node);
/* After tr_node_stop, and tr_node_end_actors where that was not called. NULL is fine. */
void tr_node_free(tr_node *node);
/* Starts the shards' threads. */
TR_MUST_USE tr_err tr_node_start(tr_node *node);
/* Ends the threads after what they do now; blocks; never called from a shard. Stop the actors first
 * (the root supervisor). */
void tr_node_stop(tr_node *node);
/* Before tr_node_start or from any thread: starts an actor on `shard`, without waiting. */
TR_MUST_USE tr_err tr_node_spawn(tr_node *node, uint32_t shard, const tr_spawn_spec *spec);
/* The same; when the actor cannot start after all, `failed` says so on that shard, once (it needs
 * no memory for it). Never when the node ends before it was its turn. */
TR_MUST_USE tr_err tr_node_spawn_or(tr_node *node, uint32_t shard, const tr_spawn_spec *spec,
                                    void (*failed)(void *arg, tr_err err), void *arg);
/* From any thread that is no shard's: sends `msg` (its `from` is kept), taking it always. */
void tr_post(tr_node *node, tr_id to, tr_msg *msg);
uint32_t tr_node_shards(const tr_node *node);
const tr_platform *tr_node_platform(const tr_node *node);
tr_mailbox_mode tr_node_mailbox(const tr_node *node);
uint64_t tr_node_inproc_messages(const tr_node *node);

/* Introspection: INSPECT to tr_shard_id(n) is answered by INSPECTED{ref} whose body is an array of
 * tr_actor_row; nothing is counted or kept for it when nobody asks. */
typedef struct tr_actor_row {
    tr_id id;
    tr_id parent;
    uint32_t mailbox;
    uint32_t mailbox_max;
    uint64_t handled;
    uint32_t restarts; /* of a supervised child */
    char name[64];
    char kind[24];
    char info[120];
} tr_actor_row;
tr_id tr_shard_id(const tr_node *node, uint32_t shard);

#endif
