/*
 * A call: one request on its way, from SUBMIT to DONE or FAIL. Guarded by its client's mtx, except
 * what belongs to whoever consumes its chunks. Who refers to it: the client's table until it has
 * ended, the stream handle or the thread that asked, and a dispatch that is delivering it.
 */
#ifndef TR_CLIENT_CALL_H
#define TR_CLIENT_CALL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "protocol/client/buffer.h"
#include "protocol/client/request.h"
#include "protocol/client/result.h"
#include "protocol/client/troupe.h"

typedef enum tri_mode {
    TRI_COLLECT, /* deltas go into the result as they arrive */
    TRI_PULL,    /* they wait for tr_stream_next */
    TRI_PUSH,    /* they wait for tr_client_dispatch */
} tri_mode;

/* A thread that sleeps until something happens to its calls, or until it must pump. */
typedef struct tri_waiter {
    pthread_cond_t cond;
    struct tri_waiter *next;
    struct tri_call *ended; /* its calls of mode collect that have ended, by ready_next */
} tri_waiter;

typedef struct tri_call {
    /* Set when it is made. */
    struct tr_client *client;
    uint64_t ref;
    tri_mode mode;
    bool keep_text;
    tr_op op;
    uint32_t window_messages, window_bytes;
    tr_chunk_fn *on_chunk;
    tr_done_fn *on_done;
    void *arg;
    /* Guarded by the client's mtx. */
    unsigned refs; /* the table's, the handle's, the running dispatch's */
    bool in_table; /* no terminal yet */
    bool sent;     /* the SUBMIT has been queued on the present connection */
    bool ended;    /* `result` has its end */
    bool ready;    /* in the client's ready list */
    /* Written under mtx; its consumer also looks between two chunks, without the mutex, where
     * nothing else hangs on the order. */
    _Atomic bool cancelled;   /* deltas are dropped; only the end counts */
    _Atomic bool done_called; /* of push: nothing may follow */
    struct tri_call *ready_next;
    tri_waiter *waiter; /* who is told, or NULL */
    tri_buffer frame;   /* the SUBMIT, until it is sent */
    int64_t made_ns;
    int64_t deadline_ns;                    /* ends here even if the daemon is silent; TRI_NEVER */
    uint32_t seq;                           /* of the next delta */
    uint32_t credit_messages, credit_bytes; /* what the daemon may still send */
    tri_buffer pending; /* inline parts, each padded to 8 and with its size in 8 bytes before */
    /* Of whoever consumes: stream's reader or dispatch. */
    tri_buffer taken; /* swapped with pending */
    size_t taken_at;
    tri_buffer strings;                 /* id and name of a chunk, with their NULs */
    uint32_t used_messages, used_bytes; /* consumed, and not yet given back */
    tr_result *result;
    /* Of op embed: floats, consumed by the thread that asked (calls of mode collect only). */
    tr_err (*on_delta)(struct tri_call *call, const tr_delta *delta);
    void *delta_arg;
    size_t index; /* of a gathering */
} tri_call;

typedef struct tri_table { /* ref -> call; open addressing */
    tri_call **slots;
    size_t room; /* a power of two, or 0 */
    size_t count;
} tri_table;

TR_MUST_USE tr_err tri_call_new(tr_op op, tri_mode mode, const tr_request *request,
                                const tri_buffer *body, tri_call **ret);
/* With the request's turns as the body. */
TR_MUST_USE tr_err tri_call_chat(tr_op op, tri_mode mode, const tr_request *request,
                                 tri_call **ret);
/* Takes a reference for the table; `waiter` (or NULL) is told. Unlocks before, never after it is in
 * the table. TR_ERR_CLOSED: a push call that a close has overtaken, to be freed; the other modes
 * are told their end by the call. */
TR_MUST_USE tr_err tri_call_start_locked(struct tr_client *client, tri_call *call,
                                         tri_waiter *waiter);
/* ask.c: starts it (taken over, also on failure), waits for its end. */
TR_MUST_USE tr_err tri_run(struct tr_client *client, tri_call *call, tr_result **ret);
void tri_call_send_locked(tri_call *call); /* queues its SUBMIT */
void tri_call_tell_locked(tri_call *call); /* something to consume, or ended */
void tri_call_end_locked(tri_call *call);  /* `result` has its end: leaves the table, tells */
void tri_call_fail_locked(tri_call *call, tr_err err, const char *why);
/* These three queue a CANCEL and do not flush: the caller does, last. */
void tri_call_cancel_locked(tri_call *call);                            /* the end follows */
void tri_call_drop_locked(tri_call *call, tr_err err, const char *why); /* and fails at once */
/* What arrived cannot be kept (`err`): the call fails, the rest is dropped. */
void tri_call_overflow_locked(tri_call *call, tr_err err);
void tri_call_unref_locked(tri_call *call);
void tri_call_free(tri_call *call);
void tri_call_credit_locked(tri_call *call, bool dry); /* queues it */
/* The next delta of what was taken, or NULL. */
const tr_delta *tri_call_next(tri_call *call);
/* As the user sees it; also adds it to the result, whose errors it gives. */
TR_MUST_USE tr_err tri_call_chunk(tri_call *call, const tr_delta *delta, tr_chunk *ret);
/* Swaps what arrived in, when what was taken has been read. False: nothing arrived. */
bool tri_call_take_locked(tri_call *call);
TR_MUST_USE tr_err tri_frame_locked(tr_client *client, uint16_t kind, uint64_t ref,
                                    const void *data, size_t size);
TR_MUST_USE tr_err tri_table_add(tri_table *table, tri_call *call);
tri_call *tri_table_find(const tri_table *table, uint64_t ref);
void tri_table_remove(tri_table *table, uint64_t ref);

#endif
