/*
 * The echo provider: a backend that needs no model. It answers with the last user message, word by
 * word; or, asked by the request's own field {"echo": {"chunks": C, "bytes": B}}, with C pieces of
 * B bytes. With "interval_ms": I a piece comes every I milliseconds; "fail": true (or
 * an error's number) ends with FAIL, "fail_after": N after N pieces, "odds": P in P of 100 attempts
 * only, with the hint "retry_after_ms": M; "crash_after": N breaks each attempt off after N pieces
 * as a worker that dies does, so that another attempt goes on. For trying a client, for measuring
 * the way through the daemon, and for simulation. It keeps to its credit like any backend.
 */
#ifndef TR_ACTORS_ECHO_H
#define TR_ACTORS_ECHO_H

#include "runtime/actor.h"

/* One a shard, registered as "provider:echo:<shard>"; no args. */
extern const tr_behaviour tr_echo;

#endif
