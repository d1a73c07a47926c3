/*
 * Supervisors: Erlang/OTP's rules (the supervisor documentation of stdlib is the specification),
 * plus backoff. Children start left to right, each up before the next begins, and stop right to
 * left. A child that ends is restarted by its type and the strategy; more than `intensity` restarts
 * within `period_ms` and the supervisor stops its children and fails itself. The first restart is
 * at once, further ones wait with exponential backoff, reset after a quiet period. A supervisor may
 * end itself when its significant children have done their work.
 */
#ifndef TR_RUNTIME_SUPERVISOR_H
#define TR_RUNTIME_SUPERVISOR_H

#include "runtime/actor.h"

typedef enum tr_restart { TR_PERMANENT, TR_TRANSIENT, TR_TEMPORARY } tr_restart;
typedef enum tr_strategy { TR_ONE_FOR_ONE, TR_ONE_FOR_ALL, TR_REST_FOR_ONE } tr_strategy;

/* When significant children that end by themselves, and are not restarted, end their supervisor
 * too: it stops the others and ends with TR_ERR_SHUTDOWN. Whom the supervisor stops does not count.
 */
typedef enum tr_auto_shutdown {
    TR_AUTO_SHUTDOWN_NEVER,
    TR_AUTO_SHUTDOWN_ANY, /* the first of them */
    TR_AUTO_SHUTDOWN_ALL, /* the last that was active */
} tr_auto_shutdown;

#define TR_SHUTDOWN_BRUTAL 0U
#define TR_SHUTDOWN_INFINITY UINT32_MAX
#define TR_SHARD_SAME UINT32_MAX

typedef struct tr_child_spec {
    const char *name; /* unique in its supervisor; registered when `registers` */
    const tr_behaviour *behaviour;
    const void *args; /* copied by the supervisor, used for every start */
    size_t args_size;
    tr_restart restart;
    uint32_t shutdown_ms; /* TR_SHUTDOWN_BRUTAL, a limit, or TR_SHUTDOWN_INFINITY */
    uint32_t shard;       /* TR_SHARD_SAME or a number */
    uint32_t mailbox_max;
    bool registers;
    bool significant; /* with auto_shutdown only, and not TR_PERMANENT: else TR_ERR_INVALID */
} tr_child_spec;

typedef struct tr_supervisor_args {
    tr_strategy strategy;
    uint32_t intensity; /* both 0 = TR_RESTARTS_default in TR_PERIOD_MS_default */
    uint32_t period_ms;
    const tr_child_spec *children; /* must outlive the supervisor, which may be restarted */
    size_t child_count;
    /* A temporary-children supervisor for actors spawned by others with it as `parent` (calls): it
     * only stops them. */
    bool adopts;
    tr_auto_shutdown auto_shutdown;
} tr_supervisor_args;

/* Spawn it with tr_supervisor_args as args; as a child of another supervisor give it
 * TR_SHUTDOWN_INFINITY. It acks when all children are up. */
extern const tr_behaviour tr_supervisor;

/* Messages to a supervisor from an actor (kinds 48 to 50). The first two are answered by STARTED
 * with the sender's ref, when the child is up (or has failed: then it is forgotten) or has stopped.
 */
enum {
    TR_KIND_START_CHILD =
        48, /* data = tr_child_spec (TR_MSG_LOCAL; pointers live until the answer) */
    TR_KIND_STOP_CHILD = 49, /* data = the child's name, NUL-terminated: stopped and forgotten */
    TR_KIND_FORGIVE_CHILD =
        50, /* data = name: its restarts so far no longer count (it made progress) */
};
/* Builders of the three; NULL when out of memory. */
tr_msg *tr_start_child(const tr_child_spec *spec, uint64_t ref);
tr_msg *tr_stop_child(const char *name, uint64_t ref);
tr_msg *tr_forgive_child(const char *name);

#endif
