/*
 * A link: frames over one stream, part of an actor's state. Incoming frames become checked messages
 * (protocol/wire.h); outgoing ones gather while a write is in flight and leave together. It is
 * never read-paused, since CANCEL and CREDIT ride on it. What waits to go out is bounded by the
 * credit of its streams; beyond `out_max` the link is closed as stalled.
 */
#ifndef TR_RUNTIME_LINK_H
#define TR_RUNTIME_LINK_H

#include "runtime/transport.h"

typedef struct tr_link tr_link;

/* A door that read a worker's HELLO hands stream and HELLO to the worker's actor (or its pool),
 * which attaches and answers WELCOME: TR_MSG_LOCAL, data = tr_handover followed by the HELLO's
 * inline part. Whoever gets it takes the stream by tr_handover_take; if nobody does, it is closed
 * when the message is freed. */
enum { TR_KIND_HANDOVER = 72 };
typedef struct tr_handover {
    tr_stream *stream; /* NULL once taken: use tr_handover_take */
    uint32_t hello_size;
    uint32_t reserved;
    _Alignas(8) uint8_t hello[]; /* a tr_hello that passed tr_wire_check */
} tr_handover;
/* Takes `stream` over (a detached one), also when it returns NULL (out of memory: closed). */
tr_msg *tr_handover_new(tr_stream *stream, const tr_hello *hello, size_t hello_size);
/* The stream, the caller's to attach or close; NULL when it was taken before. */
tr_stream *tr_handover_take(tr_msg *msg);

/* One frame arrived: `*msg` has kind, ref, data and body; take it by setting it to NULL. Returning
 * an error closes. */
typedef tr_err tr_link_frame_fn(tr_self *self, void *state, tr_msg **msg);

/* Attaches `stream` (taken over, also on failure) to this actor. `body_max`: largest body a frame
 * may bring (see tr_link_set_body_max). `state` goes to fn. Kinds above 31 and unknown ones do not
 * reach fn; a SUBMIT comes with TR_MSG_OPENING. The link defers its own flush, so its actor must
 * not use tr_defer for something else. */
TR_MUST_USE tr_err tr_link_new(tr_self *self, tr_stream *stream, size_t body_max, size_t out_max,
                               tr_link_frame_fn *fn, void *state, tr_link **ret);
/* Before a peer has said who it is, 0 keeps it from sending large bodies; raise it then. */
void tr_link_set_body_max(tr_link *link, size_t body_max);
/* Handles a STREAM message of this link's stream: RECEIVED, SENT, CLOSED; another stream's is
 * ignored (TR_OK). TR_OK: go on. TR_DONE: fn detached or freed the link, it is gone. TR_ERR_CLOSED:
 * the peer left; TR_ERR_PROTOCOL, TR_ERR_TOO_LARGE: it broke the protocol: nothing more is read,
 * but last words may be sent before tr_link_finish; an error of fn; TR_ERR_NOMEM. After an error:
 * tr_link_free. */
TR_MUST_USE tr_err tr_link_handle(tr_link *link, tr_self *self, tr_msg *msg);
/* Queues a frame: copies data and body. TR_ERR_STALLED when out_max would be passed, TR_ERR_CLOSED
 * after tr_link_finish, TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_link_send(tr_link *link, tr_self *self, const tr_msg *msg, uint64_t ref);
/* Bytes queued and not yet written. */
size_t tr_link_pending(const tr_link *link);
/* Closes after what is queued has gone out (or `free` comes first: a peer that does not read needs
 * its owner's timer); tr_link_handle then returns TR_ERR_CLOSED. No frame reaches fn meanwhile. */
void tr_link_finish(tr_link *link, tr_self *self);
/* Gives the stream up for another actor to attach (a door hands a worker to its pool): only when
 * nothing is pending and nothing was read beyond the last frame, else NULL. The link is freed when
 * it succeeds; inside fn too (tr_link_handle then returns TR_DONE). */
tr_stream *tr_link_detach(tr_link *link);
/* Closes at once. NULL is fine. From the owner's functions. */
void tr_link_free(tr_link *link);

#endif
