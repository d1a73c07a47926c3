/*
 * For tests of a daemon's doors on a stepped node: the node has the memory transport, and peers are
 * actors with a bare stream, which write any bytes and keep what comes. The clock is
 * puppet_clock_us. One node at a time, one thread.
 */
#ifndef TR_TESTS_LIB_PEER_H
#define TR_TESTS_LIB_PEER_H

#include "runtime/transport_memory.h"
#include "tests/lib/puppet.h"

typedef struct peer {
    tr_node *node;
    tr_id id;
    tr_stream *stream; /* NULL = not connected, or closed */
    bool refused;      /* nobody listens there */
    bool closed;       /* by the other side */
    bool deaf;         /* does not read: set it before it dials */
    bool sending;
    uint8_t *in;
    size_t in_size, in_room, taken;
} peer;

tr_node *peer_node(uint32_t shards);
void peer_node_free(tr_node *node);
/* Steps shards and net until nothing is left to do now. */
void peer_run(tr_node *node);
/* Lets time pass, timer by timer. */
void peer_wait_us(tr_node *node, uint64_t us);

void peer_dial(peer *who, tr_node *node, const char *url);
void peer_write(peer *who, const void *data, size_t size);
/* Writes one frame and frees `msg`. */
void peer_send(peer *who, tr_msg *msg, uint64_t ref);
/* The next whole frame that came, checked, to be freed by the test; NULL. */
tr_msg *peer_take(peer *who);
/* The same, which must be of `kind` and `ref`. */
tr_msg *peer_expect(peer *who, uint16_t kind, uint64_t ref);
/* Frames that came and were not taken; frees them. */
uint32_t peer_drop(peer *who);
/* Closes the stream and ends the actor. */
void peer_leave(peer *who);
void peer_free(peer *who);

/* A client's HELLO with this token (or ""). */
tr_msg *peer_hello(const char *token);
/* A SUBMIT with a text as body. */
tr_msg *peer_submit(tr_op op, const char *target, const char *body, uint32_t credit_messages,
                    uint32_t credit_bytes);

#endif
