/*
 * A shard without its thread, for those who drive it: shard_thread.c (epoll) and the simulator. A
 * step is pure in the sense that all it sees of the world comes through the node's tables and the
 * shard's inbox.
 */
#ifndef TR_RUNTIME_SHARD_H
#define TR_RUNTIME_SHARD_H

#include "runtime/node.h"

typedef struct tr_shard tr_shard;

tr_shard *tr_node_shard(const tr_node *node, uint32_t shard);

/* Takes in the inbox, fires due timers, handles up to `messages_max` messages, runs what was
 * deferred, hands outgoing messages to their shards. True when there is more to do at once. Only
 * one thread steps a shard. */
bool tr_shard_step(tr_shard *shard, uint32_t messages_max);
/* When the next timer is due, or memory is given back after a peak; or UINT64_MAX. */
uint64_t tr_shard_deadline_us(const tr_shard *shard);
/* Whether messages wait in its inbox or mailboxes. */
bool tr_shard_has_work(tr_shard *shard);
/* Between steps: moves the first `count` actors of the run queue to its end, for seeded orders. */
void tr_shard_rotate(tr_shard *shard, uint32_t count);
/* Declares that the driver is about to wait: returns false when work came in meanwhile (then step
 * again). A message sent after a true return wakes the shard (tr_platform.wake). */
bool tr_shard_sleeps(tr_shard *shard);
/* Actors alive, and messages handled, since the start. */
uint32_t tr_shard_actors(const tr_shard *shard);
uint64_t tr_shard_handled(const tr_shard *shard);

#endif
