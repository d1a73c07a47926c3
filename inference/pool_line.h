/*
 * The pool's books: its workers, those who wait for a sequence and those who hold one, and what it
 * does about them. Internal to inference/pool.c, pool_line.c and pool_status.c.
 */
#ifndef TR_INFERENCE_POOL_LINE_H
#define TR_INFERENCE_POOL_LINE_H

#include "inference/pool_internal.h"
#include "runtime/line.h"

/* A worker's actor as the pool knows it. */
typedef struct tri_member {
    struct tri_member *next; /* in the order of their coming */
    tr_id id;
    uint64_t monitor;
    tri_worker_note note; /* the last */
    bool was_ready;
    bool leaving; /* no more grants */
    /* It holds a suspect that has not shown a token yet: no more grants until then; 0 = none. */
    uint64_t quarantine_us;
    uint32_t used;    /* sequences granted, or owed: */
    uint32_t owed;    /* their streams were cancelled, and the worker has not ended them yet */
    uint64_t owed_us; /* since when there are any */
    uint32_t fresh;   /* of them, those that have not shown a token yet */
} tri_member;

/* A reservation (runtime/line.h). Parked: its worker died before a new token came, and the next
 * RESERVE is a suspect's. */
typedef struct tri_holder {
    tr_holder base;     /* first */
    tri_member *member; /* NULL once that is gone */
    bool suspect;
    bool fresh; /* granted, and has not shown a token yet */
} tri_holder;

typedef struct tri_asker {
    tr_id from;
    uint64_t ref;
} tri_asker;
typedef struct tri_askers {
    tri_asker *list;
    uint32_t count, room;
} tri_askers;

typedef enum tri_pool_state {
    TRI_POOL_UNLOADED,
    TRI_POOL_LOADING,
    TRI_POOL_READY,
    TRI_POOL_FAILED,
    TRI_POOL_UNLOADING,
    TRI_POOL_N
} tri_pool_state;
extern const char *const tri_pool_state_names[TRI_POOL_N];

typedef enum tri_local { TRI_LOCAL_OFF, TRI_LOCAL_ON, TRI_LOCAL_STOPPING } tri_local;

typedef struct tri_pool {
    const tr_pool_plan *plan;
    tri_pool_state state;
    tr_line line; /* of tri_holders */
    tri_member *members;
    uint8_t digest[32]; /* of the model that is served */
    bool has_digest;
    /* the workers' supervisor and what it does */
    tri_local local;
    bool stop_sent;
    uint64_t serial; /* the last question to a supervisor */
    uint64_t sup_asked, stop_asked;
    uint64_t sup_monitor;
    bool index_failed[TR_POOL_WORKERS_max];
    uint32_t index_starts[TR_POOL_WORKERS_max];
    uint32_t restarts;
    uint32_t load_crashes; /* in a row, without a worker that got ready */
    /* why it failed */
    bool failed;
    uint32_t failures; /* in a row */
    uint64_t retry_us;
    tr_err fail_err;
    char why[1152];
    tri_askers loads, unloads;
    bool ever_joined;
    uint64_t idle_timer, grace_timer, patience_timer;
} tri_pool;

/* pool_line.c: who waits and who holds a sequence. */
void tri_line_init(tri_pool *pool);
void tri_line_reserve(tr_self *self, tri_pool *pool, const tr_msg *msg);
void tri_line_settle(tr_self *self, tri_pool *pool, const tr_msg *msg);
void tri_line_call_ended(tr_self *self, tri_pool *pool, tr_id call);
/* A worker has ended a stream that was cancelled: its sequence is free now. */
void tri_line_returned(tri_pool *pool, tr_id worker);
void tri_line_first_token(tri_pool *pool, tr_id worker, const tri_stream_key *first);
void tri_line_member_gone(tri_pool *pool, const tri_member *member);
/* Grants what can be granted, in order. */
void tri_line_advance(tr_self *self, tri_pool *pool);
/* Whether what holds the head of the line back may end by time alone. */
bool tri_line_is_patient(const tri_pool *pool);

/* pool_status.c */
tr_err tri_pool_tell_status(tr_self *self, const tri_pool *pool, const tr_msg *asked);
void tri_pool_describe(const void *state, char *buf, size_t size);
uint32_t tri_pool_ready_members(const tri_pool *pool);

#endif
