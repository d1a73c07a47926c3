/*
 * Child processes, through a table: fork and exec by a thread that lives as long as the node (the
 * parent-death signal fires when the forking thread ends), death seen by pidfd. No child outlives
 * the daemon, none becomes a zombie. The owner actor gets PROCESS messages. In simulation a fake
 * table plays processes.
 */
#ifndef TR_RUNTIME_PROCESS_H
#define TR_RUNTIME_PROCESS_H

#include "runtime/actor.h"

typedef struct tr_process tr_process;
typedef struct tr_process_table tr_process_table;

typedef enum tr_process_event_kind {
    TR_PROCESS_SPAWNED = 1, /* `pid` runs, or err (exec failed: the reason is logged by the caller
                               from `code` = errno) */
    TR_PROCESS_EXITED,      /* code = exit status, signal = what killed it: the last event */
} tr_process_event_kind;

typedef struct tr_process_event {
    tr_process_event_kind event;
    tr_err err;
    int32_t pid;
    int32_t code;
    int32_t signal;
} tr_process_event;

typedef struct tr_process_spec {
    const char *const *argv;    /* NULL-terminated; argv[0] is a path; copied */
    const char *const *env_add; /* "NAME=value", NULL-terminated, beside what a child may have of
                                   the daemon's (tr_process_env_may_pass); copied; may be NULL */
    int out_fd;                 /* > 0: its standard output, duplicated; its standard error is empty
                                   then, since it may say what the output does. 0 = see spawn */
    bool memory_victim;         /* the kernel's out-of-memory killer takes it before the daemon */
    /* A program that is not ours. What it writes is kept (output, below) and not the daemon's own
     * output; and whatever it starts dies with it and with the daemon, also what leads a session of
     * its own. */
    bool foreign;
    /* More of the daemon's variables that it may have, NULL-terminated, copied; NULL = none. A name
     * that ends in * stands for all that begin so, but none that tr_process_env_may_be_secret. */
    const char *const *env_pass;
} tr_process_spec;

#define TR_PROCESS_OUTPUT_max 4096 /* bytes kept of a foreign program's output: its last */

struct tr_process_table {
    /* SPAWNED and later EXITED go to `self` (msg->ref = ref); after a SPAWNED with err nothing
     * follows. The child leads a session of its own, its standard input is empty and its standard
     * output is the daemon's standard error. The handle is good until abandon. */
    tr_err (*spawn)(tr_process_table *table, tr_self *self, const tr_process_spec *spec,
                    uint64_t ref, tr_process **ret);
    void (*kill)(tr_process *process, int signal); /* no effect after it exited */
    /* The end of what a foreign program has written so far, as a text without its lines' colours;
     * all of it once EXITED has come. `size` is at most TR_PROCESS_OUTPUT_max + 1. */
    void (*output)(tr_process *process, char *buf, size_t size);
    /* The owner no longer cares: SIGKILL if it runs, reaped in the background; nothing follows but
     * events already in the mailbox. Frees the handle: the last call of every owner, also after
     * EXITED (its stop() does it). */
    void (*abandon)(tr_process *process);
    void (*free)(tr_process_table *table); /* use tr_process_table_free */
};

/* Whether a variable of the daemon's ("NAME=value") reaches its children: only those that a program
 * needs to run, or to find its processors, since the others may be providers' keys, and children
 * read files from foreign hands. */
bool tr_process_env_may_pass(const char *variable);
/* Whether its name is that of a key, token, secret or password. */
bool tr_process_env_may_be_secret(const char *variable);

/* Linux's; made once a node. free() kills and reaps what still runs and blocks until it is gone:
 * after tr_node_end_actors (whose stop() may abandon), before tr_node_free. NULL is fine. */
TR_MUST_USE tr_err tr_process_table_linux(tr_process_table **ret);
void tr_process_table_free(tr_process_table *table);

#endif
