/*
 * What a call is made of. Everything belongs to the call's shard. Internal to actors/call*.c:
 * call.c has the door's messages and the backend's, call_attempt.c one attempt from RESERVE to
 * SETTLE, call_limits.c its limits in time, call_end.c what a failure leads to and the terminal,
 * call_shape.c answers in JSON.
 */
#ifndef TR_ACTORS_CALL_INTERNAL_H
#define TR_ACTORS_CALL_INTERNAL_H

#include <string.h>

#include "actors/call.h"
#include "protocol/gate.h"

typedef enum tri_call_state {
    TRI_CALL_NEW,        /* no SUBMIT yet */
    TRI_CALL_RESERVING,  /* a gate has been asked */
    TRI_CALL_STREAMING,  /* a backend has the request */
    TRI_CALL_PAUSED,     /* the client takes nothing: no gate and no backend is held */
    TRI_CALL_BACKOFF,    /* an attempt failed and another follows: the same */
    TRI_CALL_DELIVERING, /* the answer is whole and goes out as the client reads (call_shape.c) */
    TRI_CALL_ENDED,      /* the terminal has been sent */
    TRI_CALL_STATES
} tri_call_state;

/* Why the gate is asked. */
typedef enum tri_call_cause {
    TRI_CALL_FIRST,
    TRI_CALL_AGAIN,    /* this target failed */
    TRI_CALL_NEXT,     /* another target failed */
    TRI_CALL_RESUME,   /* a worker died */
    TRI_CALL_CORRECT,  /* the answer does not follow its schema */
    TRI_CALL_UNPAUSED, /* the client reads again */
} tri_call_cause;

typedef struct tri_call {
    /* set at the SUBMIT */
    tr_services *services;
    tr_routes *routes;
    tr_id door;
    uint64_t ref;
    tr_body *body;
    tr_submit head; /* limits are resolved: no zero stands for a default */
    uint32_t stalled_ms;
    uint32_t pause_ms; /* a stream that can be resumed gives its sequence back then */
    tr_targets targets;
    uint8_t order[TR_TARGETS_max]; /* in which they are tried */
    tr_str base_url;               /* in its own memory */
    uint64_t began_us;
    /* now */
    tri_call_state state;
    uint32_t at; /* the place in `order` */
    tri_call_cause cause;
    uint64_t attempt; /* the ref of its RESERVE and SUBMIT */
    uint32_t tries;   /* attempts that count against head.attempts */
    uint32_t sent;    /* the same and resumes: times that a backend was given the request */
    bool let_in;      /* this target's gate granted once */
    tr_id gate, backend;
    tr_id avoid; /* the backend that the last attempt lost; none after a pause */
    uint64_t gate_monitor, backend_monitor;
    uint64_t lost_us, knock_us; /* without a gate: since when, and when it is looked for again */
    uint64_t asked_us;          /* when the attempt began to wait for its gate */
    uint64_t backoff_us;        /* when the next attempt is due */
    bool reserved;              /* the gate holds something for us */
    bool owes_flows;            /* and wants to hear of the first delta */
    bool backend_owes;          /* a terminal of this attempt */
    bool bounced;       /* the backend's mailbox did not take the attempt: nothing was used */
    uint32_t stats_row; /* where this attempt is counted; 0 = nowhere */
    uint64_t timer;
    uint64_t timer_due_us;
    tr_msg *failure;         /* the FAIL of the last failed attempt; NULL = none failed */
    struct tri_shape *shape; /* of an answer in JSON (call_shape.c); NULL = any text */
    /* the stream */
    uint64_t credit_messages, credit_bytes; /* the client's, not used yet */
    uint32_t refund_bytes;                  /* owed to the backend */
    uint32_t seq;
    int32_t *tokens;
    uint32_t token_count, token_room;
    uint32_t seq_at_attempt; /* `seq` when the attempt began */
    uint64_t said_bytes;     /* of text, reasoning and arguments, by this attempt */
    uint32_t barren;         /* workers that died in a row without a new token */
    uint32_t resumes;
    uint32_t model; /* whose tokens these are: tr_granted */
    bool untracked; /* something went out that no other worker could go on from */
    bool estimated; /* a part of the usage is, since a backend did not tell it */
    uint64_t submitted_us, progress_us, starved_us, first_token_us;
    uint32_t queue_ms;
    /* how the attempt ended, for its gate */
    tr_settle outcome;
    uint64_t attempt_token_us; /* when its first delta came; 0 = none has */
    char why[256];
    char request_id[128]; /* the provider's, of this attempt; "" = not said */
} tri_call;

/* call.c */
void tri_call_set_state(tri_call *c, tri_call_state next);
uint32_t tri_call_ms_since(tr_self *self, uint64_t then_us);
uint32_t tri_call_remaining_ms(tr_self *self, const tri_call *c);
/* Whether the client lets nothing more come at the moment, and whether not even a token may. */
bool tri_call_is_starved(const tri_call *c);
bool tri_call_is_shut(const tri_call *c);
/* The target in use, once the request's name has led to one. */
static inline const tr_target *tri_call_target(const tri_call *c) {
    return &c->targets.items[c->order[c->at]];
}
/* The target's name, for people; "" before there is one. */
static inline const char *tri_call_label(const tri_call *c) {
    return c->targets.count > 0 ? tri_call_target(c)->label : "";
}

/* Its gate has the request in line and has let it in by nothing yet. */
static inline bool tri_call_in_line(const tri_call *c) {
    return c->state == TRI_CALL_RESERVING && c->gate != TR_ID_NONE;
}
static inline bool tri_call_is_local(const tri_call *c) {
    return strncmp(tri_call_target(c)->gate, "limiter:", strlen("limiter:")) != 0;
}

/* call_attempt.c */
tr_err tri_call_ask_gate(tr_self *self, tri_call *c); /* a new attempt */
tr_err tri_call_knock(tr_self *self, tri_call *c);    /* the same, once more */
tr_err tri_call_granted(tr_self *self, tri_call *c, const tr_granted *grant);
tr_err tri_call_gate_down(tr_self *self, tri_call *c);
/* The backend died or gave the request up with the word that another may go on. */
tr_err tri_call_resume(tr_self *self, tri_call *c);
/* Leaves backend and gate: the one place where an attempt's holdings are given back. */
void tri_call_leave(tr_self *self, tri_call *c, tr_err err);

/* call_limits.c */
tr_err tri_call_arm(tr_self *self, tri_call *c); /* sets the timer to what is due next */
tr_err tri_call_time_came(tr_self *self, tri_call *c, uint64_t id);
tr_err tri_call_pause(tr_self *self, tri_call *c);

/* call_end.c: what a failed attempt leads to. `refused`: the gate said it, no backend was asked. */
tr_err tri_call_attempt_failed(tr_self *self, tri_call *c, const tr_fail *head,
                               const tr_end_view *view, bool refused);
tr_err tri_call_attempt_failedf(tr_self *self, tri_call *c, tr_err err, bool refused,
                                const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The request's own end, whatever attempts are left. */
tr_err tri_call_failf(tr_self *self, tri_call *c, tr_err err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
tr_err tri_call_done(tr_self *self, tri_call *c, const tr_msg *msg);
/* Sends the one terminal, which is taken; NULL = there was no memory for it. */
tr_err tri_call_finish(tr_self *self, tri_call *c, tr_msg *terminal);
/* Where an answer came without figures: the estimate in their place. */
void tri_call_estimate_used(tri_call *c, tr_usage_wire *usage);
/* How the attempt ended, for its gate. */
void tri_call_set_outcome(tri_call *c, tr_err err, const tr_usage_wire *usage, tr_str why);

#endif
