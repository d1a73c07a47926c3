/*
 * A process table for simulation, where a test plays the processes: it decides when one starts,
 * fails to, or ends, and what a signal does to it; a process nobody decides about hangs. One
 * thread.
 */
#ifndef TR_RUNTIME_PROCESS_FAKE_H
#define TR_RUNTIME_PROCESS_FAKE_H

#include "runtime/process.h"

typedef struct tr_fake_processes tr_fake_processes;

/* Called at once, inside the actor's call: note it, act between steps. Any may be NULL. */
typedef struct tr_fake_hooks {
    void (*spawned)(void *arg, int32_t pid);
    void (*signalled)(void *arg, int32_t pid, int signal); /* abandon too, as SIGKILL */
    void *arg;
} tr_fake_hooks;

/* NULL: out of memory. Free its table by tr_process_table_free. */
tr_fake_processes *tr_fake_processes_new(const tr_fake_hooks *hooks);
tr_process_table *tr_fake_processes_table(tr_fake_processes *fakes);

/* pids count up from 1000. Those of processes that have not ended (started or not): the `i`th, or
 * 0. */
int32_t tr_fake_process_pid(const tr_fake_processes *fakes, uint32_t i);
/* Its `i`th argument or NULL; NULL also when it has ended. */
const char *tr_fake_process_arg(const tr_fake_processes *fakes, int32_t pid, uint32_t i);
/* The value it was given for a name in env_add, or NULL. */
const char *tr_fake_process_env(const tr_fake_processes *fakes, int32_t pid, const char *name);

/* Tell the owner (nobody, once abandoned). False: there is no such process, or it is not its turn.
 */
bool tr_fake_process_start(tr_fake_processes *fakes, int32_t pid);
bool tr_fake_process_fail(tr_fake_processes *fakes, int32_t pid, int32_t code);
/* It writes a text of at most half of TR_PROCESS_OUTPUT_max bytes. */
bool tr_fake_process_say(tr_fake_processes *fakes, int32_t pid, const char *text);
bool tr_fake_process_exit(tr_fake_processes *fakes, int32_t pid, int32_t code, int32_t signal);

#endif
