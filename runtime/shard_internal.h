/*
 * What a shard is made of. Everything here belongs to the shard's thread, except `inbox` (any producer) and the node's
 * registry (its mutex). Internal to runtime/.
 */
#ifndef TR_RUNTIME_SHARD_INTERNAL_H
#define TR_RUNTIME_SHARD_INTERNAL_H

#include <pthread.h>

#include "protocol/limits.h"
#include "runtime/inbox.h"
#include "runtime/shard.h"
#include "runtime/timer.h"

/* Operations on a shard, sent as messages to an id on it and carried out where they arrive, before any mailbox. */
enum {
    TRI_KIND_SPAWN = 0xff00, /* body = tri_spawn; TR_MSG_LOCAL */
    TRI_KIND_MONITOR,
    TRI_KIND_DEMONITOR,
    TRI_KIND_LINK,
    TRI_KIND_UNLINK,
    TRI_KIND_KILL,
};

typedef struct tri_spawn {
    tr_spawn_spec spec;
    bool answers; /* STARTED goes to the sender */
} tri_spawn;      /* the args' copy follows */

/* One side of a monitor or link: kept at the target (it tells the watcher) and, for monitors, at the watcher (it takes its
 * monitors back when it ends). Both are found by ref in the shard's table. */
typedef struct tri_watcher {
    uint64_t ref;
    tr_id self;  /* the actor whose list this is */
    tr_id other;
    struct tri_watcher *hash_next;
    struct tri_watcher *next, *prev;
    enum { TRI_WATCHED_BY, TRI_WATCHES, TRI_LINKED } side;
} tri_watcher;

typedef struct tri_monitors {
    tri_watcher **buckets;
    uint32_t bucket_count; /* a power of two, or 0 */
    uint32_t count;
} tri_monitors;

struct tr_self {
    tr_shard *shard;
    const tr_behaviour *behaviour; /* NULL = the slot is free */
    void *state;
    tr_msg *mail_head, *mail_tail;
    tr_self *run_next;
    tr_self *defer_next;
    tr_defer_fn *defer_fn;
    tri_watcher *watchers;
    char *name;
    tr_id id;
    tr_id parent;
    tr_id ack_to; /* who waits for STARTED */
    uint64_t ack_ref;
    uint64_t handled;
    uint32_t mail_count, mail_max;
    uint32_t timers;  /* list head in the shard's pool */
    uint32_t watches; /* file descriptors */
    uint32_t restarts;
    uint32_t free_next;
    uint16_t running; /* depth of its functions on the stack: it cannot be freed now */
    bool queued;      /* in the run queue */
    bool registered;
    bool ending; /* terminate when `running` falls to 0 */
    tr_err end_reason;
};

#define TRI_PAGE 256U

typedef struct tri_outbox {
    tr_msg *last, *first;
} tri_outbox;

typedef struct tri_fd {
    tr_id owner;
    tr_watch_fn *fn;
} tri_fd;

struct tr_shard {
    /* set at init */
    tr_node *node;
    uint32_t number;
    int epoll_fd; /* -1 = driven without a thread */
    int wake_fd;
    pthread_t thread;
    /* any thread */
    tri_inbox inbox;
    _Atomic bool stopping; /* set by tr_node_stop before a wake; read each round */
    _Atomic uint64_t handled_total; /* relaxed: a figure for people */
    /* owner thread */
    tr_self **pages;
    uint32_t page_count;
    uint32_t page_room;
    uint32_t free_slot; /* UINT32_MAX = none */
    uint32_t actors;
    tr_self *run_head, *run_tail;
    uint32_t run_count;
    tr_self *defer_head;
    tri_timers timers;
    tri_monitors monitors;
    tri_outbox *out; /* one a shard */
    tri_fd *fds;     /* by descriptor */
    uint32_t fd_room;
    uint64_t now_us;
    uint64_t next_ref;
    uint64_t handled;
};

typedef struct tri_registry {
    pthread_mutex_t names_mtx;
    struct tri_name **buckets; /* guarded by names_mtx */
    uint32_t count;            /* guarded by names_mtx */
} tri_registry;

struct tri_inproc;

struct tr_node {
    tr_node_spec spec;
    tr_shard *shards;
    tri_registry registry;
    struct tri_inproc *inproc; /* NULL = mailbox: direct */
    bool started;
};

/* shard.c */
tr_err tri_shard_init(tr_shard *shard, tr_node *node, uint32_t number);
void tri_shard_fini(tr_shard *shard);
/* Carries a message to its shard: takes it. */
void tri_route(tr_shard *shard, tr_msg *msg);
/* Takes in a message that is at its shard. */
void tri_deliver(tr_shard *shard, tr_msg *msg);
void tri_enqueue(tr_self *self, tr_msg *msg);

/* cell.c: slots and lives */
tr_self *tri_find(tr_shard *shard, tr_id id);
tr_err tri_start(tr_shard *shard, const tr_spawn_spec *spec, tr_id spawner, bool answers,
                 uint64_t ref, tr_id *ret);
void tri_end(tr_self *self, tr_err reason);
void tri_leave(tr_self *self); /* one function of self returned */

/* monitor.c */
void tri_monitor_told(tr_shard *shard, tr_msg *msg); /* MONITOR, DEMONITOR, LINK, UNLINK arrived */
void tri_monitors_end(tr_self *self, tr_err reason);
void tri_monitors_fini(tri_monitors *monitors);

/* registry.c */
tr_err tri_registry_init(tri_registry *registry);
void tri_registry_fini(tri_registry *registry);
tr_err tri_registry_add(tri_registry *registry, const char *name, tr_id id);
void tri_registry_remove(tri_registry *registry, const char *name, tr_id id);

/* watch.c */
void tri_watch_event(tr_shard *shard, int fd, uint32_t events);
void tri_watches_end(tr_self *self);

/* shard_thread.c */
tr_err tri_thread_start(tr_shard *shard);
void tri_thread_stop(tr_shard *shard);
void tri_wake(tr_shard *shard);

/* inspect.c */
void tri_inspect(tr_shard *shard, tr_msg *msg);

#endif
