/*
 * The operating system of the simulated world: starts and ends the worker processes that the daemon
 * asks for, each after a seeded while. Behind runtime/process_fake.h; part of the world.
 */
#ifndef TR_TESTS_SIM_PROCESSES_H
#define TR_TESTS_SIM_PROCESSES_H

#include "tests/sim/world.h"

void tr_sim_processes_init(tr_world *world);
/* Does one thing that is due. False: nothing is. */
bool tr_sim_processes_step(tr_world *world);
/* UINT64_MAX = nothing will be. */
uint64_t tr_sim_processes_due_us(const tr_world *world);

/* The worker behind a process says that it runs, and that it has ended by itself. */
void tr_sim_process_runs(tr_world *world, int32_t pid, tr_id worker);
void tr_sim_process_ends(tr_world *world, int32_t pid);

#endif
