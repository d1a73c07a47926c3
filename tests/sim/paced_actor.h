/*
 * The backend of the provider "paced" in a simulated world: an echo that checks when its requests
 * start. The provider's limiter has a rate, and whatever happens in the world, no window may get
 * more than its share. One a shard of the daemon; registered as a provider's actor.
 */
#ifndef TR_TESTS_SIM_PACED_ACTOR_H
#define TR_TESTS_SIM_PACED_ACTOR_H

#include "tests/sim/world.h"

/* Chooses the limits of the world's provider "paced". */
tr_provider_limit tr_sim_pace(tr_world *world);
/* Its child spec on a shard; `name` must outlive the company. */
tr_child_spec tr_sim_paced_child(tr_world **world, uint32_t shard, char name[32]);

#endif
