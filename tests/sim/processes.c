/* See processes.h. Hooks only note what was asked, since they run inside an actor's call. */
#include "tests/sim/processes.h"

#include <signal.h>
#include <stdlib.h>

#include "protocol/assert.h"
#include "runtime/process_fake.h"
#include "tests/sim/worker_actor.h"

static tr_sim_process *find(tr_world *world, int32_t pid) {
    for (size_t i = 0; i < TR_WORLD_PROCESSES_max; i++) {
        if (world->processes[i].pid == pid) {
            return &world->processes[i];
        }
    }
    return NULL;
}

static uint64_t soon(tr_world *world) {
    return world->now_us + 1 + tr_world_below(world, 5000);
}

static void spawned(void *arg, int32_t pid) {
    tr_world *world = arg;
    tr_sim_process *process = find(world, 0);
    TR_ASSERT(process != NULL);
    *process = (tr_sim_process){.pid = pid, .due_us = soon(world)};
}

static void signalled(void *arg, int32_t pid, int number) {
    tr_world *world = arg;
    tr_sim_process *process = find(world, pid);
    if (process != NULL && !process->ending) {
        process->ending = true;
        process->signal = number;
        process->due_us = process->started ? soon(world) : process->due_us;
    }
}

void tr_sim_processes_init(tr_world *world) {
    tr_fake_hooks hooks = {.spawned = spawned, .signalled = signalled, .arg = world};
    world->fakes = tr_fake_processes_new(&hooks);
    TR_ASSERT(world->fakes != NULL);
}

void tr_sim_process_runs(tr_world *world, int32_t pid, tr_id worker) {
    tr_sim_process *process = find(world, pid);
    if (process != NULL) {
        process->worker = worker;
    }
}

void tr_sim_process_ends(tr_world *world, int32_t pid) {
    tr_sim_process *process = find(world, pid);
    if (process != NULL && !process->gone) {
        process->worker = TR_ID_NONE;
        if (!process->ending) { /* its link may be seen to end before it is, or after */
            process->ending = true;
            process->signal = SIGSEGV;
            process->due_us = soon(world);
        }
    }
}

static void start(tr_world *world, tr_sim_process *process) {
    const char *nonce = tr_fake_process_arg(world->fakes, process->pid, 4);
    TR_ASSERT(nonce != NULL);
    tr_sim_worker_args args = {
        .world = world, .pid = process->pid, .nonce = strtoull(nonce, NULL, 16)};
    tr_spawn_spec spec = {.behaviour = &tr_sim_worker, .args = &args, .args_size = sizeof args};
    tr_err err = tr_node_spawn(world->clients.node, 0, &spec);
    TR_ASSERT(err == TR_OK);
    bool started = tr_fake_process_start(world->fakes, process->pid);
    TR_ASSERT(started);
    process->started = true;
    process->due_us = process->ending ? soon(world) : UINT64_MAX;
}

static void end(tr_world *world, tr_sim_process *process) {
    if (process->worker != TR_ID_NONE) {
        process->gone = true;
        tr_msg *msg = tr_msg_new(TR_SIM_KIND_DIE, 0);
        TR_ASSERT(msg != NULL);
        tr_post(world->clients.node, process->worker, msg);
    }
    bool by_signal = process->signal != SIGTERM; /* that one it handles */
    bool ended =
        tr_fake_process_exit(world->fakes, process->pid, 0, by_signal ? process->signal : 0);
    TR_ASSERT(ended);
    *process = (tr_sim_process){0};
}

bool tr_sim_processes_step(tr_world *world) {
    for (size_t i = 0; i < TR_WORLD_PROCESSES_max; i++) {
        tr_sim_process *process = &world->processes[i];
        if (process->pid != 0 && process->due_us <= world->now_us) {
            tr_world_note(world, (uint64_t)process->pid * 4 + process->started);
            if (process->started) {
                end(world, process);
            } else {
                start(world, process);
            }
            return true;
        }
    }
    return false;
}

uint64_t tr_sim_processes_due_us(const tr_world *world) {
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < TR_WORLD_PROCESSES_max; i++) {
        if (world->processes[i].pid != 0 && world->processes[i].due_us < due) {
            due = world->processes[i].due_us;
        }
    }
    return due;
}
