/* What a managed server's actor is made of. Everything belongs to its shard's thread, but for the
 * plan's port. Internal to actors/managed*.c. */
#ifndef TR_ACTORS_MANAGED_INTERNAL_H
#define TR_ACTORS_MANAGED_INTERNAL_H

#include "actors/managed.h"
#include "runtime/line.h"
#include "runtime/process.h"

#define TRI_MANAGED_TEXTS 6
#define TRI_MANAGED_WHY_size 1024

struct tr_managed_plan {
    tr_managed_spec spec;
    char *texts[TRI_MANAGED_TEXTS]; /* the spec's */
    const char **env;               /* one block: built-in names, then the spec's */
    char name[TR_ACTOR_NAME_max + 1];
    const tr_managed_plan *self; /* the child's args */
    _Atomic uint32_t port;       /* relaxed: the grants that follow order it */
};

typedef enum tri_managed_state {
    TRI_MANAGED_STOPPED,
    TRI_MANAGED_STARTING, /* its process is there, or being started; it has not been well yet */
    TRI_MANAGED_READY,
    TRI_MANAGED_RESTING,  /* it crashed, and is started again in a moment */
    TRI_MANAGED_DRAINING, /* it is to end when its streams have */
    TRI_MANAGED_STOPPING, /* it has been told to end */
    TRI_MANAGED_FAILED,
    TRI_MANAGED_N
} tri_managed_state;

extern const char *const tri_managed_state_names[TRI_MANAGED_N];

typedef struct tri_asked {
    tr_id from;
    uint64_t ref;
    struct tri_asked *next;
} tri_asked;

typedef struct tri_managed {
    tr_managed_plan *plan;
    tri_managed_state state;
    tr_line line;
    tri_asked *loads, *unloads; /* who asked, and waits for the answer */
    uint32_t asked;
    /* the process */
    tr_process *process; /* NULL = none */
    uint64_t life;       /* the number of its start: the ref of its events */
    int32_t pid;
    uint64_t started_us;
    uint64_t guard_timer; /* for loading, or for ending by itself */
    char ending[200];     /* why we kill it; "" = we do not */
    bool hopeless;        /* and that it is not started again at once */
    /* its health */
    uint64_t probe; /* the number of the question that is open; 0 = none */
    uint64_t probes;
    tr_id door;
    uint64_t probe_timer;
    uint64_t probe_us; /* between two questions while it starts */
    uint64_t good_us;  /* the last healthy answer */
    /* crashes */
    uint32_t load_crashes; /* in a row */
    uint32_t crashes;      /* in a row, without a request that ended well between them */
    uint32_t port_losses;
    uint32_t starts;
    uint64_t rest_timer;
    uint64_t idle_timer;
    /* what failed */
    tr_err fail_err;
    uint32_t failures;
    uint64_t retry_us;
    char why[TRI_MANAGED_WHY_size]; /* of the last crash or failure */
} tri_managed;

enum { TRI_MANAGED_PROBE = 1, TRI_MANAGED_GUARD, TRI_MANAGED_REST, TRI_MANAGED_IDLE };

void tri_managed_set_state(tr_self *self, tri_managed *m, tri_managed_state next);
/* It cannot be served now: answers LOADs; the line is refused by whoever looks next. */
void tri_managed_give_up(tr_self *self, tri_managed *m, tr_err err);

/* managed_server.c */
/* A new process at a new port; or why there is none (give_up). */
void tri_managed_start(tr_self *self, tri_managed *m);
/* Has it end: by itself, or (`brutal`) at once; its exit follows. */
void tri_managed_end(tr_self *self, tri_managed *m, bool brutal);
void tri_managed_process_came(tr_self *self, tri_managed *m, const tr_msg *msg);
void tri_managed_http_came(tr_self *self, tri_managed *m, const tr_msg *msg);
void tri_managed_probe_timer(tr_self *self, tri_managed *m);
void tri_managed_guard_timer(tr_self *self, tri_managed *m);

/* managed_status.c */
/* (managed_server.c) The end of what it wrote, in one line of at most `size`; "" when it wrote
 * nothing. */
void tri_managed_last_words(tr_self *self, const tri_managed *m, char *buf, size_t size);
tr_err tri_managed_tell_status(tr_self *self, const tri_managed *m, const tr_msg *asked);
void tri_managed_describe(const void *state, char *buf, size_t size);

extern const tr_behaviour tri_managed_behaviour;

#endif
