/*
 * Byte streams to other processes, through a table: NNG's stream API in real nodes (ipc, tcp,
 * tls+tcp), NNG pair sockets for inproc, memory in simulation. A stream belongs to one actor, which
 * learns of everything by STREAM messages and calls everything from its shard. One receive is armed
 * at all times (facts of NNG: docs/architecture.md), so at most TR_LINK_BUFFER_max bytes wait; one
 * send flies at a time.
 */
#ifndef TR_RUNTIME_TRANSPORT_H
#define TR_RUNTIME_TRANSPORT_H

#include "runtime/actor.h"

typedef struct tr_transport tr_transport;
/* What its transport keeps follows; call through stream->transport, listener->transport. */
typedef struct tr_listener {
    tr_transport *transport;
} tr_listener;
typedef struct tr_stream {
    tr_transport *transport;
} tr_stream;

typedef enum tr_stream_event_kind {
    TR_STREAM_ACCEPTED = 1, /* to the listener's owner: `stream` is a new one: attach or close it */
    TR_STREAM_DIALED,       /* to the dialer: `stream` is new: attach or close it; or err */
    TR_STREAM_RECEIVED,     /* `data`, `size`: valid until received() or close() */
    TR_STREAM_SENT,         /* the whole send went out */
    TR_STREAM_CLOSED,       /* the peer left or an error: the last event; call close */
} tr_stream_event_kind;

/* data of a STREAM message (TR_MSG_LOCAL); ref = the listener's or dialer's, 0 from a stream. Each
 * keeps its stream's address from being used again, so an owner tells an old stream's event by
 * comparing pointers. ACCEPTED and DIALED may be sent on to another actor; whoever handles one
 * attaches, takes or closes the stream, which else is closed when the message is freed. */
typedef struct tr_stream_event {
    tr_stream_event_kind event;
    tr_err err;
    tr_stream *stream;
    uint8_t *data;
    size_t size;
} tr_stream_event;

typedef struct tr_listen_spec {
    const char *url;       /* ipc://, tcp://, tls+tcp://, inproc:// */
    const char *cert_file; /* PEM certificate and key, for tls+tcp */
    uint64_t ref;
} tr_listen_spec;

typedef struct tr_dial_spec {
    const char *url;
    const char *ca_file; /* PEM, for tls+tcp; NULL = no verification is refused: TR_ERR_INVALID */
    uint64_t ref;
} tr_dial_spec;

/* Of an ACCEPTED or DIALED: its stream, from now on the caller's to attach or close; or NULL. */
tr_stream *tr_stream_take(tr_msg *msg);

struct tr_transport {
    tr_err (*listen)(tr_transport *transport, tr_self *self, const tr_listen_spec *spec,
                     tr_listener **ret, char *ret_why, size_t why_size);
    void (*listener_close)(tr_listener *listener); /* non-blocking; a socket file is removed */
    tr_err (*dial)(tr_transport *transport, tr_self *self,
                   const tr_dial_spec *spec); /* DIALED follows */
    /* From now on `self` gets the stream's events; what came before is delivered now. NULL: nobody
     * does, until the next attach (not while a send flies). */
    void (*attach)(tr_stream *stream, tr_self *self);
    /* Hands back the RECEIVED buffer and re-arms the receive. */
    void (*received)(tr_stream *stream);
    /* Sends the first `size` bytes of `body`, holding a reference until SENT, CLOSED or, after a
     * close, until the operation has ended. Only one at a time (asserted). */
    void (*send)(tr_stream *stream, tr_body *body, size_t size);
    /* NULL = it has none. How many of the bytes went out at once: then there is nothing to hold and
     * no SENT. Not while a send flies. */
    size_t (*try_send)(tr_stream *stream, const void *bytes, size_t size);
    /* Non-blocking, once, from the owner's shard, or any thread while nobody is attached: nothing
     * follows but events already in the mailbox; the stream is freed when its operations have
     * ended. */
    void (*close)(tr_stream *stream);
    bool (*peer_uid)(tr_stream *stream, uint32_t *ret_uid); /* false = not known (tcp, inproc) */
    /* The address it is bound to, port 0 replaced by the real port. */
    void (*listener_url)(const tr_listener *listener, char *buf, size_t size);
    /* Before tr_node_free: drops the node's unfinished dials, so that nothing is posted to it. */
    void (*forget)(tr_transport *transport, tr_node *node);
};

/* The real one: plain sockets where it listens at ipc://, NNG for all else. Process-wide, made
 * once, never freed before exit. */
tr_transport *tr_transport_nng(void);

#endif
