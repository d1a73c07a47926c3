/*
 * A worker process in the simulated world: an actor on the clients' node that dials the daemon as
 * troupe-worker does, and generates numbered tokens. It holds the daemon to its side of the worker
 * protocol, and dies, hangs or is poisoned by a request as the seed will have it.
 */
#ifndef TR_TESTS_SIM_WORKER_ACTOR_H
#define TR_TESTS_SIM_WORKER_ACTOR_H

#include "tests/sim/world.h"

#define TR_SIM_TOKEN_first 1000 /* the id of a stream's token 0; the next is one more */

typedef struct tr_sim_worker_args {
    tr_world *world;
    int32_t pid;
    uint64_t nonce;
} tr_sim_worker_args;

/* It ends when it gets TR_SIM_KIND_DIE. */
enum { TR_SIM_KIND_DIE = 130 };
extern const tr_behaviour tr_sim_worker;

#endif
