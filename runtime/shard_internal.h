/*
 * What a shard is made of. Everything here belongs to the shard's thread, except `inbox` (any
 * producer) and the node's registry (its mutex). Internal to runtime/.
 */
#ifndef TR_RUNTIME_SHARD_INTERNAL_H
#define TR_RUNTIME_SHARD_INTERNAL_H

#include <pthread.h>

#include "protocol/limits.h"
#include "runtime/inbox.h"
#include "runtime/registry.h"
#include "runtime/shard.h"
#include "runtime/tie.h"
#include "runtime/timer.h"

/* Operations on a shard, sent as messages to an id on it and carried out where they arrive, before
 * any mailbox. */
enum {
    TRI_KIND_SPAWN = 0xff00, /* body = tri_spawn; TR_MSG_LOCAL; the message becomes STARTED */
    TRI_KIND_MONITOR,        /* data = the watched end's tie; TR_MSG_LOCAL */
    TRI_KIND_DEMONITOR,      /* ref */
    TRI_KIND_LINK,           /* data = the other end's tie; TR_MSG_LOCAL */
    TRI_KIND_LINK_END,       /* ref, data = tr_ended: becomes EXIT unless normal */
    TRI_KIND_KILL,
    TRI_KIND_EXIT_WATCHED, /* to the actor watched under ref, data = tr_ended */
};

struct tr_self {
    tr_shard *shard;
    const tr_behaviour *behaviour; /* NULL = the slot is free */
    void *state;
    tr_msg *mail_head, *mail_tail;
    tr_self *run_next;
    tr_id id;
    uint32_t mail_count, mail_max;
    uint64_t handled;
    uint16_t running; /* depth of its functions on the stack: it cannot be freed now */
    bool queued;      /* in the run queue, perhaps since the slot's last life */
    bool deferred;    /* in the deferred queue, as above */
    bool registered;
    bool ending; /* ends when `running` falls to 0 */
    tr_err end_reason;
    tr_self *defer_next;
    tr_defer_fn *defer_fn; /* NULL = nothing to run, also while it stands in the queue */
    tri_tie *ties;
    char *name;
    tr_id parent;
    tr_msg *ack;      /* STARTED, waiting to be sent; NULL = nobody waits */
    uint32_t timers;  /* list head in the shard's pool */
    uint32_t watches; /* file descriptors */
    uint32_t restarts;
    uint32_t free_next;
};

#define TRI_PAGE 256U

typedef struct tri_page {
    tr_self *slots;      /* TRI_PAGE of them; NULL = given back (ebb.c) */
    uint32_t generation; /* the highest that it had then: ids are not used again */
} tri_page;

#define TRI_CACHE_LINE 64U

typedef struct tri_outbox {
    tr_msg *last, *first;
} tri_outbox;

typedef struct tri_fd {
    tr_id owner; /* TR_ID_NONE = not watched */
    tr_watch_fn *fn;
    void *arg;           /* NULL = fn gets the owner's state */
    uint32_t generation; /* of this descriptor's watch: an event of an earlier one is stale */
} tri_fd;

/* The padding keeps other threads' pushes off the cache lines that the owner works on. */
struct tr_shard { // NOLINT(clang-analyzer-optin.performance.Padding)
    /* set at init */
    tr_node *node;
    pthread_t thread;
    uint32_t number;
    int epoll_fd; /* -1 = driven without a thread */
    int wake_fd;
    /* any thread */
    _Atomic bool stopping; /* set by tr_node_stop before a wake; read each round */
    _Alignas(64) tri_inbox inbox;
    _Atomic uint64_t handled_total; /* relaxed: a figure for people */
    /* owner thread */
    _Alignas(64) tri_page *pages;
    uint32_t page_count;
    uint32_t page_room;
    uint32_t free_slot; /* UINT32_MAX = none */
    uint32_t actors;
    uint32_t peak;   /* of actors, since memory was last given back */
    uint64_t ebb_us; /* when it is given back; 0 = there was no peak, or it has not passed */
    bool trims;      /* then also when actors are as many as before: a door has freed much */
    tr_self *run_head, *run_tail;
    tr_self *defer_head, *defer_tail;
    tri_outbox *out; /* one a shard */
    uint64_t now_us;
    uint64_t next_ref;
    uint64_t handled;
    tri_timers timers;
    tri_ties ties;
    tri_fd *fds; /* by descriptor */
    uint32_t fd_room;
    uint32_t fd_count; /* watched */
    uint32_t fd_generation;
    uint32_t out_count; /* messages in `out` */
    bool closing;       /* the node is being freed: nothing starts any more */
};

struct tri_mailbox;

struct tr_node {
    tr_node_spec spec;
    tr_shard *shards;
    void *shards_memory; /* where they lie, at a cache line */
    tri_registry registry;
    struct tri_mailbox *inproc; /* NULL = mailbox: direct */
    uint32_t started;           /* threads */
};

/* shard.c */
TR_MUST_USE tr_err tri_shard_init(tr_shard *shard, tr_node *node, uint32_t number, uint32_t shards);
void tri_shard_end_actors(tr_shard *shard); /* each gets its stop() */
void tri_shard_fini(tr_shard *shard);
/* Carries a message to its shard: takes it. */
void tri_route(tr_shard *shard, tr_msg *msg);
/* Takes in a message that is at its shard. */
void tri_deliver(tr_shard *shard, tr_msg *msg);
void tri_enqueue(tr_self *self, tr_msg *msg);

/* watch.c */
/* tr_watch, whose `fn` gets `arg` in the place of its actor's state. */
TR_MUST_USE tr_err tri_watch(tr_self *self, int fd, uint32_t events, tr_watch_fn *fn, void *arg);
void tri_watches_shrink(tr_shard *shard);
void tri_watch_event(tr_shard *shard, uint64_t key, uint32_t events);
void tri_watches_end(tr_self *self);

/* shard_thread.c */
TR_MUST_USE tr_err tri_thread_start(tr_shard *shard);
void tri_thread_stop(tr_shard *shard);
void tri_wake(tr_shard *shard);

/* inspect.c: turns INSPECT into its answer. */
void tri_inspect(tr_shard *shard, tr_msg *msg);

#endif
