/*
 * The echo provider: a backend that needs no model. It answers with the last user message, word by
 * word; or, asked by the request's own field {"echo": {"chunks": C, "bytes": B}}, with C pieces of
 * B bytes, after which "fail": true ends with FAIL. For trying a client, for measuring the way
 * through the daemon, and for simulation. It keeps to its credit like any backend.
 */
#ifndef TR_ACTORS_ECHO_H
#define TR_ACTORS_ECHO_H

#include "runtime/actor.h"

/* One a shard, registered as "provider:echo:<shard>"; no args. */
extern const tr_behaviour tr_echo;

#endif
