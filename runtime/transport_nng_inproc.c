/*
 * The inproc:// side of the transport: connections of clients in the daemon's own process, over NNG
 * pair sockets, by the handshake of protocol/inproc.h. A message of a pair is a run of stream
 * bytes. A connection is accepted when its pipe is up; until then its first receive, armed with a
 * time limit, is its clock. When the pipe ends, the receive is cancelled and armed again with a
 * short limit until the queue holds nothing more. Here aios are cancelled, which needs care (NNG
 * can lose the callback of an aio cancelled while it is submitted): both happen under `pipe_mtx`.
 * Sockets are closed by the reaper's thread, since that blocks. Called from shards; callbacks on
 * NNG's threads.
 */
#include "runtime/transport_nng.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/inproc.h"
#include "runtime/memory.h"
#include "runtime/node.h"

#define DRAIN_MS 5 /* the last messages of a pipe may come a little after the news of its end */

typedef struct hall {
    tr_listener base;
    tri_reap reap;
    nng_socket pull;
    nng_listener nng;
    nng_aio *aio;
    tr_node *node;
    tr_id owner;
    uint64_t ref;
    char *url;
    _Atomic uint32_t
        refs; /* the owner's, the receive's, one a connection under way; last: acq_rel */
    pthread_mutex_t mtx;
    bool opened;
    bool closed; /* guarded by mtx */
} hall;

typedef struct pipe {
    tri_stream stream;
    tri_reap reap;
    nng_socket pair;
    nng_aio *receive_aio;
    nng_aio *send_aio;
    nng_msg *msg; /* what the owner reads now; the receive's */
    pthread_mutex_t pipe_mtx;
    /* guarded by pipe_mtx */
    hall *hall; /* until the connection is up or has failed */
    bool connected;
    bool gone;    /* the pipe has ended, or nobody wants it */
    bool drained; /* and so has its queue */
} pipe;

/* ---- streams ---- */

static void pipe_free(tri_reap *reap) {
    pipe *self = TRI_CONTAINER(pipe, reap, reap);
    nng_close(self->pair);
    nng_aio_free(self->receive_aio);
    nng_aio_free(self->send_aio);
    if (self->msg != NULL) {
        nng_msg_free(self->msg);
    }
    tri_stream_fini(&self->stream);
    pthread_mutex_destroy(&self->pipe_mtx);
    tr_free(self);
}

static void pipe_fini(tri_stream *stream) {
    pipe *self = TRI_CONTAINER(pipe, stream, stream);
    self->reap.fn = pipe_free;
    tri_reap_later(&self->reap);
}

static void arm_locked(pipe *self) {
    nng_duration limit_ms = NNG_DURATION_INFINITE;
    if (self->gone) {
        limit_ms = DRAIN_MS;
    } else if (!self->connected) {
        limit_ms = TR_INPROC_CONNECT_MS;
    }
    nng_aio_set_timeout(self->receive_aio, limit_ms);
    nng_recv_aio(self->pair, self->receive_aio);
}

/* The owner has handed the last message back. */
static void pipe_arm(tri_stream *stream) {
    pipe *self = TRI_CONTAINER(pipe, stream, stream);
    if (self->msg != NULL) {
        nng_msg_free(self->msg);
        self->msg = NULL;
    }
    pthread_mutex_lock(&self->pipe_mtx);
    bool drained = self->drained;
    if (!drained) {
        arm_locked(self);
    }
    pthread_mutex_unlock(&self->pipe_mtx);
    if (drained) {
        tri_stream_ended(stream, TR_ERR_CLOSED);
    }
}

static void hall_unref(hall *hall);

static void receive_done(void *arg) {
    pipe *self = arg;
    int rv = nng_aio_result(self->receive_aio);
    nng_msg *msg = rv == 0 ? nng_aio_get_msg(self->receive_aio) : NULL;
    if (msg != NULL && nng_msg_len(msg) > 0) {
        self->msg = msg;
        tri_stream_got(&self->stream, nng_msg_body(msg), nng_msg_len(msg));
        return;
    }
    if (msg != NULL) {
        nng_msg_free(msg); /* a run of no bytes */
    }
    pthread_mutex_lock(&self->pipe_mtx);
    hall *failed = NULL;
    if (rv == NNG_ETIMEDOUT && !self->connected && !self->gone) {
        failed = self->hall; /* the client never came */
        self->hall = NULL;
        self->gone = true;
        self->drained = true;
    } else if (rv != 0 && self->gone && rv != NNG_ECANCELED) {
        self->drained = true;
    } else if (rv != 0 && rv != NNG_ETIMEDOUT && rv != NNG_ECANCELED) {
        self->gone = true;
        self->drained = true;
    }
    bool ended = self->drained;
    if (!ended) {
        arm_locked(self);
    }
    pthread_mutex_unlock(&self->pipe_mtx);
    if (ended) {
        if (failed != NULL) {
            hall_unref(failed);
            tri_stream_close(&self->stream.base);
        }
        tri_stream_ended(&self->stream, TR_ERR_CLOSED);
    }
}

static void pipe_send(tri_stream *stream) {
    pipe *self = TRI_CONTAINER(pipe, stream, stream);
    nng_msg *msg = NULL;
    bool going = false;
    if (nng_msg_alloc(&msg, stream->send_size) == 0) {
        memcpy(nng_msg_body(msg), stream->send_body->bytes, stream->send_size);
        pthread_mutex_lock(&self->pipe_mtx);
        going = !self->gone;
        if (going) {
            nng_aio_set_msg(self->send_aio, msg);
            nng_send_aio(self->pair, self->send_aio);
        }
        pthread_mutex_unlock(&self->pipe_mtx);
        if (!going) {
            nng_msg_free(msg);
        }
    }
    if (!going) {
        tri_stream_sent(stream, false);
    }
}

static void send_done(void *arg) {
    pipe *self = arg;
    int rv = nng_aio_result(self->send_aio);
    if (rv != 0) {
        nng_msg_free(nng_aio_get_msg(self->send_aio));
    }
    tri_stream_sent(&self->stream, rv == 0);
}

static void pipe_shut(tri_stream *stream) {
    pipe *self = TRI_CONTAINER(pipe, stream, stream);
    pthread_mutex_lock(&self->pipe_mtx);
    self->gone = true;
    self->drained = true;
    nng_aio_cancel(self->receive_aio);
    nng_aio_cancel(self->send_aio);
    pthread_mutex_unlock(&self->pipe_mtx);
}

static const tri_stream_io pipe_io = {
    .arm = pipe_arm, .start_send = pipe_send, .shut = pipe_shut, .fini = pipe_fini};

static void give_accepted(hall *hall, tri_stream *stream) {
    tr_msg *msg = tri_stream_opening(TR_STREAM_ACCEPTED, stream, TR_OK, hall->ref);
    if (msg == NULL) {
        return;
    }
    pthread_mutex_lock(&hall->mtx);
    bool closed = hall->closed;
    if (!closed) {
        tr_post(hall->node, hall->owner, msg);
    }
    pthread_mutex_unlock(&hall->mtx);
    if (closed) {
        tr_msg_free(msg); /* closes the stream */
    }
}

static void pipe_event(nng_pipe nng, nng_pipe_ev event, void *arg) {
    pipe *self = arg;
    hall *opened = NULL;
    bool refused = false;
    pthread_mutex_lock(&self->pipe_mtx);
    if (event == NNG_PIPE_EV_ADD_PRE) {
        refused = self->connected || self->gone; /* NNG dials again when a pipe has ended */
    } else if (event == NNG_PIPE_EV_ADD_POST && !self->connected && !self->gone) {
        self->connected = true;
        opened = self->hall;
        self->hall = NULL;
    } else if (event == NNG_PIPE_EV_REM_POST && self->connected && !self->gone) {
        self->gone = true;
        nng_aio_cancel(self->receive_aio); /* if it is armed: it drains the queue then */
        nng_aio_cancel(self->send_aio);
    }
    pthread_mutex_unlock(&self->pipe_mtx);
    if (refused) {
        nng_pipe_close(nng);
    }
    if (opened != NULL) {
        give_accepted(opened, &self->stream);
        hall_unref(opened);
    }
}

static int open_pair(pipe *self) {
    int rv = nng_pair0_open(&self->pair);
    if (rv == 0) {
        rv = nng_socket_set_int(self->pair, NNG_OPT_RECVBUF, TR_INPROC_QUEUE);
    }
    for (int event = NNG_PIPE_EV_ADD_PRE; rv == 0 && event <= NNG_PIPE_EV_REM_POST; event++) {
        rv = nng_pipe_notify(self->pair, (nng_pipe_ev)event, pipe_event, self);
    }
    return rv;
}

/* A client's message came: dials it. Whatever fails, the client's own time limit tells it. */
static void connect_to(hall *hall, const char *url) {
    pipe *self = tr_zalloc(sizeof *self);
    if (self == NULL) {
        return;
    }
    if (tri_stream_init(&self->stream, tri_transport_inproc(), &pipe_io) != TR_OK) {
        tr_free(self);
        return;
    }
    pthread_mutex_init(&self->pipe_mtx, NULL);
    self->pair = (nng_socket)NNG_SOCKET_INITIALIZER;
    if (open_pair(self) != 0 || nng_aio_alloc(&self->receive_aio, receive_done, self) != 0 ||
        nng_aio_alloc(&self->send_aio, send_done, self) != 0) {
        pipe_free(&self->reap); /* a socket without pipes closes at once */
        return;
    }
    atomic_fetch_add_explicit(&hall->refs, 1, memory_order_relaxed); /* the caller holds one */
    self->hall = hall;
    tri_stream_ref(&self->stream); /* until the dial has been started */
    pthread_mutex_lock(&self->pipe_mtx);
    arm_locked(self);
    pthread_mutex_unlock(&self->pipe_mtx);
    /* A failure here is one of memory: the receive's time limit ends the connection. */
    (void)nng_dial(self->pair, url, NULL, NNG_FLAG_NONBLOCK);
    tri_stream_unref(&self->stream);
}

static bool peer_uid(tr_stream *stream, uint32_t *ret_uid) {
    (void)stream;
    (void)ret_uid;
    return false;
}

/* ---- listeners ---- */

static void hall_free(tri_reap *reap) {
    hall *self = TRI_CONTAINER(hall, reap, reap);
    if (self->opened) {
        nng_close(self->pull);
    }
    nng_aio_free(self->aio);
    pthread_mutex_destroy(&self->mtx);
    tr_free(self->url);
    tr_free(self);
}

static void hall_unref(hall *self) {
    if (atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel) == 1) {
        self->reap.fn = hall_free;
        tri_reap_later(&self->reap);
    }
}

/* Under the mutex, so that it is never cancelled while it is submitted. False: closed. */
static bool hall_arm(hall *self) {
    pthread_mutex_lock(&self->mtx);
    bool open = !self->closed;
    if (open) {
        nng_recv_aio(self->pull, self->aio);
    }
    pthread_mutex_unlock(&self->mtx);
    return open;
}

static void hall_received(void *arg) {
    hall *self = arg;
    if (nng_aio_result(self->aio) != 0) {
        hall_unref(self); /* closed */
        return;
    }
    nng_msg *msg = nng_aio_get_msg(self->aio);
    size_t size = nng_msg_len(msg);
    if (size > 0 && size <= TR_INPROC_URL_max && strncmp(nng_msg_body(msg), "inproc://", 9) == 0) {
        char url[TR_INPROC_URL_max + 1];
        snprintf(url, sizeof url, "%.*s", (int)size, (const char *)nng_msg_body(msg));
        connect_to(self, url);
    }
    nng_msg_free(msg);
    if (!hall_arm(self)) {
        hall_unref(self);
    }
}

static tr_err listen_at(tr_transport *transport, tr_self *owner, const tr_listen_spec *spec,
                        tr_listener **ret, char *why, size_t why_size) {
    hall *self = tr_zalloc(sizeof *self);
    if (self == NULL) {
        snprintf(why, why_size, "out of memory");
        return TR_ERR_NOMEM;
    }
    self->base.transport = transport;
    self->node = tr_self_node(owner);
    self->owner = tr_self_id(owner);
    self->ref = spec->ref;
    atomic_init(&self->refs, 2);
    pthread_mutex_init(&self->mtx, NULL);
    self->url = tr_strndup(spec->url, strlen(spec->url));
    int rv = self->url != NULL ? nng_aio_alloc(&self->aio, hall_received, self) : NNG_ENOMEM;
    if (rv == 0) {
        rv = nng_pull0_open(&self->pull);
        self->opened = rv == 0;
    }
    if (rv == 0) {
        rv = nng_listen(self->pull, spec->url, &self->nng, 0);
    }
    if (rv != 0) {
        snprintf(why, why_size, "cannot listen at %s: %s", spec->url, nng_strerror(rv));
        hall_free(&self->reap);
        return tri_nng_err(rv);
    }
    (void)hall_arm(self); /* it is open */
    *ret = &self->base;
    return TR_OK;
}

static void listener_close(tr_listener *base) {
    hall *self = TRI_CONTAINER(hall, base, base);
    nng_listener_close(self->nng); /* now, so that another may listen there at once */
    pthread_mutex_lock(&self->mtx);
    TR_ASSERT(!self->closed);
    self->closed = true;
    nng_aio_cancel(self->aio);
    pthread_mutex_unlock(&self->mtx);
    hall_unref(self);
}

static void listener_url(const tr_listener *base, char *buf, size_t size) {
    snprintf(buf, size, "%s", TRI_CONTAINER(const hall, base, base)->url);
}

tr_transport *tri_transport_inproc(void) {
    static tr_transport transport = {.listen = listen_at,
                                     .listener_close = listener_close,
                                     .attach = tri_stream_attach,
                                     .received = tri_stream_received,
                                     .send = tri_stream_send,
                                     .close = tri_stream_close,
                                     .peer_uid = peer_uid,
                                     .listener_url = listener_url};
    return &transport;
}
