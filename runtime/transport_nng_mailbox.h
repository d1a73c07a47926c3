/*
 * `mailbox: inproc`: every message between actors goes through NNG inproc, one pair of pair0
 * sockets for each ordered pair of shards, a shard and itself included. Order within a pair is the
 * order sent, for all kinds of messages. Internal to runtime/.
 */
#ifndef TR_RUNTIME_TRANSPORT_NNG_MAILBOX_H
#define TR_RUNTIME_TRANSPORT_NNG_MAILBOX_H

#include "runtime/node.h"

typedef struct tri_mailbox tri_mailbox;

/* Sockets and their listening for all pairs of the node's shards. */
TR_MUST_USE tr_err tri_mailbox_new(tr_node *node, tri_mailbox **ret);
/* Blocks until no callback can run; drops what is under way. NULL is fine. */
void tri_mailbox_free(tri_mailbox *mailbox);
/* Takes `msg`; it leaves at the next flush. On shard `from`'s thread. */
void tri_mailbox_send(tri_mailbox *mailbox, uint32_t from, uint32_t to, tr_msg *msg);
/* Hands what waits at `from` to NNG, on its thread. False when memory ran out: some still waits. */
TR_MUST_USE bool tri_mailbox_flush(tri_mailbox *mailbox, uint32_t from);
/* Messages handed over so far. Any thread. */
uint64_t tri_mailbox_count(const tri_mailbox *mailbox);

#endif
