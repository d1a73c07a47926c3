/*
 * What the pool's files share: the plan, what pool and workers tell each other, and the pool's
 * books. Internal to inference/pool*.
 */
#ifndef TR_INFERENCE_POOL_INTERNAL_H
#define TR_INFERENCE_POOL_INTERNAL_H

#include "inference/pool.h"
#include "protocol/gate.h"

typedef struct tri_worker_args {
    const tr_pool_plan *plan;
    uint32_t index; /* of a local worker */
    bool joined;    /* it has no process here: a HANDOVER follows */
} tri_worker_args;

struct tr_pool_plan {
    tr_pool_spec spec; /* its texts lie in `texts` */
    char *texts[5];
    char pool_name[TR_ACTOR_NAME_max + 1];
    char sup_name[TR_ACTOR_NAME_max + 1];
    char workers_name[TR_ACTOR_NAME_max + 1];
    tr_supervisor_args sup_args, workers_args;
    tr_child_spec pool_child, workers_child;
    const tr_pool_plan *self; /* the pool's args */
    struct {
        char name[TR_ACTOR_NAME_max + 1];
        tri_worker_args args;
    } workers[TR_POOL_WORKERS_max];
};

extern const tr_behaviour tri_pool_behaviour;   /* args: const tr_pool_plan * */
extern const tr_behaviour tri_worker_behaviour; /* args: tri_worker_args */

/* SIGTERM, then SIGKILL half way. */
#define TRI_WORKER_SHUTDOWN_MS 4000

typedef enum tri_worker_state {
    TRI_WORKER_SPAWNING, /* its process is being started */
    TRI_WORKER_JOINING,  /* it runs; its HELLO has not come */
    TRI_WORKER_LOADING,  /* linked */
    TRI_WORKER_READY,
    TRI_WORKER_DRAINING, /* it was told to end, in good order */
    TRI_WORKER_DEAD,     /* lost; its process may still have to be reaped */
    TRI_WORKER_N
} tri_worker_state;
extern const char *const tri_worker_state_names[TRI_WORKER_N];

enum {
    TRI_KIND_WORKER_NOTE = 112, /* worker to pool: tri_worker_note */
    TRI_KIND_WORKER_REFUSE,     /* pool to worker: why it may not serve, NUL-terminated */
    TRI_KIND_FIRST_TOKEN,       /* worker to pool: tri_stream_key: that stream gets on */
    TRI_KIND_RETURN,   /* pool to worker: tri_stream_key: cancel it, and say when it ended */
    TRI_KIND_RETURNED, /* worker to pool: one of those has */
};

typedef struct tri_worker_note {
    uint32_t state; /* tri_worker_state */
    uint32_t err;   /* with failed: tr_err */
    uint32_t index;
    bool joined;
    bool failed; /* it cannot serve and is not to be restarted: `text` says why */
    bool has_digest;
    int32_t pid;
    uint32_t sequences;
    uint32_t context;
    uint32_t percent;
    uint8_t digest[32];
    char text[1024]; /* why it ended; "" */
} tri_worker_note;

typedef struct tri_stream_key {
    tr_id call;
    uint64_t ref;
} tri_stream_key;

#endif
