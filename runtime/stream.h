/*
 * What every transport's streams share: who owns one, which events it has earned, which operations
 * are under way, and when it may be freed. A transport embeds tri_stream first, starts operations
 * through tri_stream_io and reports their ends from any thread. Internal to runtime/.
 */
#ifndef TR_RUNTIME_STREAM_H
#define TR_RUNTIME_STREAM_H

#include <pthread.h>
#include <stddef.h>

#include "runtime/transport.h"

/* The object that `ptr` is the `member` of. */
#define TRI_CONTAINER(type, member, ptr) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

typedef struct tri_stream tri_stream;

/* Called without the stream's mutex, each operation once at a time. */
typedef struct tri_stream_io {
    /* Starts a receive: tri_stream_got or tri_stream_ended follows. */
    void (*arm)(tri_stream *stream);
    /* Sends send_body's bytes from send_done to send_size: tri_stream_sent follows. */
    void (*start_send)(tri_stream *stream);
    /* Makes the operations under way end soon. May be called twice. */
    void (*shut)(tri_stream *stream);
    /* No operation is under way and nobody refers to it: frees it. Must not block. */
    void (*fini)(tri_stream *stream);
} tri_stream_io;

struct tri_stream {
    tr_stream base;
    /* set at init */
    const tri_stream_io *io;
    _Atomic uint32_t refs; /* the owner's, one an operation, one an event message; last: acq_rel */
    pthread_mutex_t mtx;
    /* the send under way: its operation's */
    tr_body *send_body;
    size_t send_size;
    size_t send_done;
    /* guarded by mtx */
    tr_node *node;
    tr_id owner; /* TR_ID_NONE = nobody yet */
    uint8_t *data;
    size_t size;
    tr_msg *closed_msg; /* made at init, so that CLOSED can be told without memory */
    tr_err end_err;
    bool receiving;
    bool sending;
    bool holds;   /* data was received and not handed back */
    bool ended;   /* no receive can succeed any more */
    bool broken;  /* no send can */
    bool claimed; /* attached, taken or closed once */
    bool closed;  /* by its owner */
};

/* One reference, the owner's, and one receive under way (started by the caller, who knows when). */
TR_MUST_USE tr_err tri_stream_init(tri_stream *stream, tr_transport *transport,
                                   const tri_stream_io *io);
/* From io->fini, or after an init whose receive was never started. */
void tri_stream_fini(tri_stream *stream);
void tri_stream_ref(tri_stream *stream);
void tri_stream_unref(tri_stream *stream);

/* Ends of operations, from any thread; the stream may be freed within. */
void tri_stream_got(tri_stream *stream, uint8_t *data, size_t size);
void tri_stream_ended(tri_stream *stream, tr_err err);
void tri_stream_sent(tri_stream *stream, bool ok);

/* ACCEPTED or DIALED of `stream` (whose owner reference it carries), or, when it is NULL, of `err`.
 * NULL: out of memory, and the stream is closed. */
tr_msg *tri_stream_opening(tr_stream_event_kind event, tri_stream *stream, tr_err err,
                           uint64_t ref);

/* What a stream is read into: 4 KiB while it is idle, up to TR_LINK_BUFFER_max while it is busy. */
typedef struct tri_inbuf {
    uint8_t *bytes;
    size_t size;
    uint32_t small_receives; /* in a row */
} tri_inbuf;
TR_MUST_USE tr_err tri_inbuf_init(tri_inbuf *in);
/* Between two receives, the last of which brought `got` bytes. */
void tri_inbuf_follow(tri_inbuf *in, size_t got);
void tri_inbuf_fini(tri_inbuf *in);

/* The table's functions for a transport whose streams are tri_streams. */
void tri_stream_attach(tr_stream *stream, tr_self *self);
void tri_stream_received(tr_stream *stream);
void tri_stream_send(tr_stream *stream, tr_body *body, size_t size);
void tri_stream_close(tr_stream *stream);

#endif
