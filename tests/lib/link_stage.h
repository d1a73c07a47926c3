/*
 * For tests of links over the memory transport: a node that the test steps, actors with a link
 * (stations) or with a bare stream (raw), a clock and a memory of the test's. One thread.
 */
#ifndef TR_TESTS_LIB_LINK_STAGE_H
#define TR_TESTS_LIB_LINK_STAGE_H

#include "runtime/link.h"
#include "runtime/node.h"
#include "runtime/transport_memory.h"

#define TR_STAGE_FRAMES_max 256

typedef struct tr_frame_seen {
    uint16_t kind, flags;
    uint64_t ref;
    size_t size, body_size;
    uint32_t sum; /* of data and body */
} tr_frame_seen;

typedef struct tr_station {
    struct tr_stage *stage;
    tr_id id;
    tr_listener *listener;
    tr_stream *stream; /* a raw station's */
    tr_link *link;
    bool raw;
    bool reads; /* a raw station hands its buffers back */
    bool keeps; /* its link after the peer broke the protocol */
    bool dial_failed;
    size_t body_max;
    size_t out_max;
    tr_link_frame_fn *fn; /* NULL = tr_stage_note */
    tr_err end;           /* what tr_link_handle returned when it was not TR_OK */
    uint32_t count;
    tr_frame_seen seen[TR_STAGE_FRAMES_max];
    uint32_t receives;
    size_t received; /* bytes */
    uint32_t closed;
    uint32_t sent;
    uint32_t refused; /* a handover comes to nothing */
} tr_station;

typedef struct tr_stage {
    tr_node *node;
    tr_memory_net *net;
    tr_station a; /* listens */
    tr_station b; /* dials */
    tr_station c; /* gets handovers */
} tr_stage;

typedef void tr_stage_do_fn(tr_self *self, tr_station *who, void *arg);

/* Memory of the whole program: the allocation that fails, counted from now (0 = none), and the
 * largest since it was set to 0. tr_stage_memory comes before the first stage. */
extern size_t tr_stage_fail_at;
extern size_t tr_stage_largest;
void tr_stage_memory(void);

void tr_stage_set_up(tr_stage *s, uint64_t seed);
void tr_stage_set_up_raw(tr_stage *s, uint64_t seed); /* b is raw, and connected to a's link */
void tr_stage_connect(tr_stage *s);
void tr_stage_tear_down(tr_stage *s); /* asserts that no stream is left */

/* Steps shards and streams until nothing more can happen, letting time pass where it must. */
void tr_stage_run(tr_stage *s);
/* Has `who` do it at its next step, and steps. */
void tr_stage_tell(tr_stage *s, tr_station *who, tr_stage_do_fn *fn, void *arg);
void tr_stage_tell_and_run(tr_stage *s, tr_station *who, tr_stage_do_fn *fn, void *arg);
/* One thing each, so that a test may stop on the way. */
void tr_stage_step(tr_stage *s, uint32_t shard);
uint64_t tr_stage_clock_us(void);

/* The frame function that writes down what comes. */
tr_err tr_stage_note(tr_self *self, void *state, tr_msg **msg);
uint32_t tr_stage_sum(const tr_msg *msg);

/* Sends them all in one handler and frees them; refs count from 1000. */
typedef struct tr_to_send {
    tr_msg *msgs[128];
    size_t count;
    tr_err err; /* of the first that was refused */
    size_t sent;
} tr_to_send;
void tr_stage_do_send(tr_self *self, tr_station *me, void *arg);
void tr_stage_do_drop(tr_self *self, tr_station *me, void *arg);         /* frees them unsent */
void tr_stage_do_listen_again(tr_self *self, tr_station *me, void *arg); /* *(bool *)arg: refused */
void tr_stage_do_dial(tr_self *self, tr_station *me, void *arg);
/* b, which is raw, writes bytes. */
void tr_stage_raw_write(tr_stage *s, const void *data, size_t size);
/* One frame as bytes; returns its size. */
size_t tr_stage_frame(const tr_msg *msg, uint64_t ref, char *out);

/* Valid messages. */
tr_msg *tr_stage_delta(uint32_t seq, size_t text_size);
tr_msg *tr_stage_submit(size_t body_size);
tr_msg *tr_stage_hello(void);
tr_msg *tr_stage_welcome(void);
tr_msg *tr_stage_ping(uint16_t kind, uint64_t number);
tr_msg *tr_stage_done(void);

#endif
