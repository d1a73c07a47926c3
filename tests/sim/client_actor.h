/*
 * A client in the simulated world: dials, greets, sends some requests, reads them in its own manner
 * (at once, slowly, never, cancelling, vanishing), and holds the daemon to its promises: one
 * terminal a SUBMIT, nothing after it, no DELTA beyond credit, no gap in a stream, the whole text
 * on DONE.
 */
#ifndef TR_TESTS_SIM_CLIENT_ACTOR_H
#define TR_TESTS_SIM_CLIENT_ACTOR_H

#include "tests/sim/world.h"

#define TR_SIM_REQUESTS_max 6

typedef struct tr_sim_tally {
    uint32_t clients_left;
    uint64_t submits, dones, fails, deltas;
    uint64_t used_slots; /* as the last client saw them at rest */
} tr_sim_tally;

typedef struct tr_sim_client_args {
    tr_world *world;
    tr_sim_tally *tally;
    bool auditor; /* the last one: asks for the daemon's status at rest */
} tr_sim_client_args;

extern const tr_behaviour tr_sim_client;

#endif
