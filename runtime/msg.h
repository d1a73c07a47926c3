/*
 * A message in memory: header, inline bytes (a wire structure of protocol/wire.h, or an actor's
 * own) and at most one reference-counted body. It has one owner at a time: tr_send takes it over.
 * Bodies are immutable once shared.
 */
#ifndef TR_RUNTIME_MSG_H
#define TR_RUNTIME_MSG_H

#include <stdatomic.h>
#include <stdbool.h>

#include "protocol/id.h"
#include "protocol/wire.h"

/* The runtime's signals (32 to 63); see actor.h for who sends them. */
enum {
    TR_KIND_DOWN = 32, /* a monitored actor ended: from = it, ref = the monitor, data = tr_ended */
    TR_KIND_EXIT = 33, /* asks to end; seen only by actors that trap it: data = tr_ended */
    TR_KIND_STARTED = 34, /* answer to tr_spawn_on and from acks_itself: ref = the caller's, data =
                             tr_started_note */
    TR_KIND_TIMER = 35,   /* ref = the timer's id, flags = its tag */
    TR_KIND_BOUNCED =
        36, /* the mailbox at `from` was full: ref and flags (the kind) of what came back */
    TR_KIND_STREAM = 37,  /* transport.h */
    TR_KIND_PROCESS = 38, /* process.h */
    TR_KIND_INSPECT = 39, /* node.h */
    TR_KIND_INSPECTED = 40,
    TR_KIND_SIGNAL_last = 63,
    TR_KIND_ACTOR_first = 64,
};

/* Message flags of the runtime (the upper byte; the lower is the kind's own). */
enum {
    TR_MSG_OPENING = 0x8000, /* opens work: the only messages that a mailbox's bound refuses */
    TR_MSG_LOCAL = 0x4000,   /* holds pointers: never serialised, not even by `mailbox: inproc` */
};

typedef struct tr_body {
    _Atomic uint32_t
        refs; /* release on unref, acquire by the last: the freeing thread sees all writes */
    size_t size;
    void (*fini)(struct tr_body *body); /* runs before the memory is freed; NULL = nothing to do */
    char bytes[];                       /* a NUL follows them */
} tr_body;

typedef struct tr_msg {
    struct tr_msg *next; /* its present queue's */
    tr_id to;
    tr_id from;
    uint64_t ref;
    uint16_t kind;
    uint16_t flags;
    uint32_t size; /* of data */
    tr_body *body;
    _Alignas(16) uint8_t data[];
} tr_msg;

typedef struct tr_ended {
    uint32_t reason; /* tr_err: TR_OK normal, TR_ERR_SHUTDOWN asked to, TR_ERR_GONE was not there,
                        else a crash */
    uint32_t reserved;
} tr_ended;

typedef struct tr_started_note {
    tr_id id;
    uint32_t err;
    uint32_t reserved;
} tr_started_note;

/* A message with `size` zeroed inline bytes, or NULL when out of memory. Any thread. */
tr_msg *tr_msg_new(uint16_t kind, size_t size);
/* Frees it and drops its body. NULL is fine. Any thread. */
void tr_msg_free(tr_msg *msg);
/* Freed messages that this shard's thread keeps for the next ones go back to the system's malloc:
 * before malloc_trim, since each of them holds a page. */
void tr_msg_forget_kept(void);
/* A body with one reference and `size` uninitialised bytes plus a NUL, or NULL. Any thread. */
tr_body *tr_body_new(size_t size);
tr_body *tr_body_ref(tr_body *body);
void tr_body_unref(tr_body *body); /* NULL is fine */

/* Whole messages of the request protocol; NULL when out of memory. `head`'s sizes are set from the
 * view. Any thread. */
tr_msg *tr_msg_submit(const tr_submit *head, const tr_submit_view *view, tr_body *take_body);
tr_msg *tr_msg_delta(const tr_delta *head, const tr_delta_view *view);
tr_msg *tr_msg_done(const tr_done *head, const tr_end_view *view);
tr_msg *tr_msg_fail(const tr_fail *head, const tr_end_view *view);
/* A FAIL of `err` with a formatted sentence. */
tr_msg *tr_msg_failf(tr_err err, const char *format, ...) __attribute__((format(printf, 2, 3)));
tr_msg *tr_msg_credit(uint32_t messages, uint32_t bytes);
tr_msg *tr_msg_cancel(tr_err reason);

#endif
