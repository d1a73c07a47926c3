/*
 * A transport in memory for simulation: streams between the actors of one process (one node or
 * several), moved on by a driver one action at a time in a seeded order, under the driver's time.
 * It delays, splits, cuts and half-opens streams, and writes short when a window is full. The same
 * seed and the same calls give the same run. One thread.
 */
#ifndef TR_RUNTIME_TRANSPORT_MEMORY_H
#define TR_RUNTIME_TRANSPORT_MEMORY_H

#include "runtime/transport.h"

typedef struct tr_memory_net tr_memory_net;

typedef struct tr_memory_faults {
    uint64_t delay_min_us; /* of each write's bytes; their order is kept */
    uint64_t delay_max_us;
    uint32_t split_max;        /* bytes a receive gets at most, a seeded number; 0 = all there is */
    uint32_t cuts_per_million; /* deliveries before which the connection is cut */
    uint32_t half_open_per_million; /* or falls silent: nothing arrives, nobody is told */
    uint32_t refused_per_million;   /* dials that fail although somebody listens */
    uint32_t at_once_per_million;   /* tries to send that take a part at once, or all of it */
} tr_memory_faults;

/* NULL: out of memory. */
tr_memory_net *tr_memory_net_new(uint64_t seed);
/* After the nodes that used it. NULL is fine. */
void tr_memory_net_free(tr_memory_net *net);
tr_transport *tr_memory_net_transport(tr_memory_net *net);
/* From now on; all zero = none. */
void tr_memory_net_set_faults(tr_memory_net *net, const tr_memory_faults *faults);

/* Does one thing that is due at `now_us`: connects, writes, delivers or ends. False: nothing is. */
bool tr_memory_net_step(tr_memory_net *net, uint64_t now_us);
/* When the next delayed bytes arrive, or UINT64_MAX. What is due now counts only after a step has
 * returned false. */
uint64_t tr_memory_net_due_us(const tr_memory_net *net);

/* Connections made so far; they are numbered from 0 in the order of their dials. */
uint32_t tr_memory_net_connections(const tr_memory_net *net);
/* Ends a connection at both sides, with what was on its way. False: it has ended already. */
bool tr_memory_net_cut(tr_memory_net *net, uint32_t connection);
/* Nothing arrives any more, and neither side is told. False: it has ended already. */
bool tr_memory_net_half_open(tr_memory_net *net, uint32_t connection);

#endif
