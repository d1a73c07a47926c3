/*
 * The worker actor's two halves: pool_worker.c is its life (process, link, heartbeats), and
 * pool_row.c its streams. Internal to those two files.
 */
#ifndef TR_INFERENCE_POOL_WORKER_H
#define TR_INFERENCE_POOL_WORKER_H

#include "inference/pool_internal.h"
#include "runtime/link.h"
#include "runtime/process.h"

#define TRI_STREAMS_max 1024 /* a power of two; the low bits of a stream's ref on the link */

/* One request on the link. */
typedef struct tri_row {
    uint64_t ref; /* on the link; 0 = free */
    tr_id call;
    uint64_t call_ref;
    uint64_t monitor;
    uint64_t cancelled_us; /* when CANCEL went out; 0 = it did not */
    bool orphan;           /* its call is gone; the worker's terminal frees it */
    bool returns;          /* the pool waits for its end */
    bool begun;            /* a token came */
} tri_row;

typedef struct tri_worker {
    /* set at init */
    const tr_pool_plan *plan;
    tr_id pool;
    uint64_t pool_monitor;
    uint64_t nonce;
    /* what it is now */
    tri_worker_note note;
    tr_err outcome; /* how the actor ends once it is dead: TR_DONE = no restart */
    bool forgiven;  /* a token came in this life: crashes before it no longer count */
    /* the process; NULL for a joined worker */
    tr_process *process;
    bool running; /* not exited yet */
    /* the link */
    tr_link *link;
    uint64_t beat_timer, beat_due_us;
    uint64_t guard_timer; /* the limit of what the present state waits for */
    uint64_t ping_number;
    uint64_t asked_us;    /* the first PING since anything came; 0 = none */
    uint64_t progress_us; /* when its work last got on, or it had none */
    uint64_t moved_us;    /* when it last did anything */
    tr_ping pong;         /* the last */
    /* streams */
    tri_row *rows;
    uint32_t row_count, row_room;
    uint64_t row_serial;
    uint32_t returned; /* streams that the pool waits for and has not been told of */
} tri_worker;

/* pool_row.c */
/* SUBMIT, CREDIT, CANCEL from a call. An error means that the link takes nothing any more. */
TR_MUST_USE tr_err tri_row_submit(tr_self *self, tri_worker *w, const tr_msg *msg);
TR_MUST_USE tr_err tri_row_steer(tr_self *self, tri_worker *w, const tr_msg *msg);
/* A call ended: its sequence is cancelled. */
TR_MUST_USE tr_err tri_row_call_ended(tr_self *self, tri_worker *w, uint64_t monitor);
/* The pool takes a stream's sequence back: RETURNED follows once the process has ended it. */
TR_MUST_USE tr_err tri_row_return(tr_self *self, tri_worker *w, const tri_stream_key *key);
/* Tells the pool what it has not been told for want of memory. */
void tri_row_say_returned(tr_self *self, tri_worker *w);
/* Since when the oldest CANCEL waits for its answer; 0 = none does. */
uint64_t tri_row_oldest_cancel_us(const tri_worker *w);
/* DELTA, DONE, FAIL from the process: on to the call. */
TR_MUST_USE tr_err tri_row_answer(tr_self *self, tri_worker *w, tr_msg **msg);
/* Every open stream gets its one FAIL, with the word that another worker may go on. */
void tri_row_fail_all(tr_self *self, tri_worker *w, const char *why);

#endif
