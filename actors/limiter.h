/*
 * The limiter: the gate of one provider (protocol/gate.h). For now it counts slots: at most
 * `at_once` requests of a provider run, more wait in line, by priority and then in the order of
 * their coming; beyond `waiting_max` they are refused. A waiter whose deadline has passed is
 * dropped when its turn comes (its call has given up by then).
 */
#ifndef TR_ACTORS_LIMITER_H
#define TR_ACTORS_LIMITER_H

#include <stdatomic.h>

#include "protocol/gate.h"
#include "protocol/limits.h"
#include "runtime/actor.h"

#define TR_LIMITER_WAITING_max 8192

typedef struct tr_limiter_args {
    char provider[TR_ACTOR_NAME_max - 15]; /* backends are "provider:<provider>:<shard>" */
    uint32_t at_once;                      /* ≥ 1 */
    uint32_t waiting_max;
    /* Where at_once stands now, for one that may change (relaxed: a number by itself); NULL = it
     * does not. Lives as long as the limiter's supervisor. */
    const _Atomic uint32_t *now;
} tr_limiter_args;

/* To a limiter: the number at `now` may have changed; more of those who wait may go. */
enum { TR_KIND_LIMIT_CHANGED = 73 };

/* Spawn it with tr_limiter_args, registered as "limiter:<provider>". */
extern const tr_behaviour tr_limiter;

#endif
