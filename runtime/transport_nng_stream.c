/*
 * One connection over an NNG byte stream: ipc, tcp or tls+tcp alike. NNG's callbacks run on its own
 * threads; each turns its completion into a message. No operation is cancelled: all end when the
 * stream is closed. Sends are short (a megabyte may go out in five pieces)
 * and loop. The receive is armed at once: NNG's poller spins on a stream whose peer left before the
 * first receive.
 */
#include "runtime/transport_nng.h"

#include <nng/nng.h>
#include <pthread.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

typedef struct door {
    tri_stream stream;
    tri_reap reap;
    nng_stream *nng;
    nng_aio *receive_aio;
    nng_aio *send_aio;
    tri_inbuf in; /* the receive's: only while none is armed, or in its callback */
    pthread_mutex_t shut_mtx;
    bool shut; /* guarded by shut_mtx: no operation begins after the close, NNG 1.5 never ends it */
} door;

static void door_free(tri_reap *reap) {
    door *self = TRI_CONTAINER(door, reap, reap);
    nng_stream_free(self->nng);
    nng_aio_free(self->receive_aio);
    nng_aio_free(self->send_aio);
    tri_stream_fini(&self->stream);
    pthread_mutex_destroy(&self->shut_mtx);
    tri_inbuf_fini(&self->in);
    tr_free(self);
}

static void door_fini(tri_stream *stream) {
    door *self = TRI_CONTAINER(door, stream, stream);
    self->reap.fn = door_free;
    tri_reap_later(&self->reap);
}

static void door_arm(tri_stream *stream) {
    door *self = TRI_CONTAINER(door, stream, stream);
    nng_iov iov = {.iov_buf = self->in.bytes, .iov_len = self->in.size};
    pthread_mutex_lock(&self->shut_mtx);
    bool shut = self->shut;
    if (!shut) {
        nng_aio_set_iov(self->receive_aio, 1, &iov);
        nng_stream_recv(self->nng, self->receive_aio);
    }
    pthread_mutex_unlock(&self->shut_mtx);
    if (shut) {
        tri_stream_ended(stream, TR_ERR_CLOSED);
    }
}

/* From the owner's received(): what was read last is no longer needed. */
static void door_rearm(tri_stream *stream) {
    door *self = TRI_CONTAINER(door, stream, stream);
    tri_inbuf_follow(&self->in, stream->size);
    door_arm(stream);
}

static void receive_done(void *arg) {
    door *self = arg;
    int rv = nng_aio_result(self->receive_aio);
    size_t size = nng_aio_count(self->receive_aio);
    if (rv == 0 && size > 0) {
        tri_stream_got(&self->stream, self->in.bytes, size);
    } else {
        tri_stream_ended(&self->stream, rv == 0 ? TR_ERR_CLOSED : tri_nng_err(rv));
    }
}

static void door_send(tri_stream *stream) {
    door *self = TRI_CONTAINER(door, stream, stream);
    nng_iov iov = {.iov_buf = stream->send_body->bytes + stream->send_done,
                   .iov_len = stream->send_size - stream->send_done};
    pthread_mutex_lock(&self->shut_mtx);
    bool shut = self->shut;
    if (!shut) {
        nng_aio_set_iov(self->send_aio, 1, &iov);
        nng_stream_send(self->nng, self->send_aio);
    }
    pthread_mutex_unlock(&self->shut_mtx);
    if (shut) {
        tri_stream_sent(stream, false);
    }
}

static void send_done(void *arg) {
    door *self = arg;
    tri_stream *stream = &self->stream;
    int rv = nng_aio_result(self->send_aio);
    if (rv == 0) {
        stream->send_done += nng_aio_count(self->send_aio);
        TR_ASSERT(stream->send_done <= stream->send_size);
        if (stream->send_done < stream->send_size) {
            door_send(stream);
            return;
        }
    }
    tri_stream_sent(stream, rv == 0);
}

static void door_shut(tri_stream *stream) {
    door *self = TRI_CONTAINER(door, stream, stream);
    pthread_mutex_lock(&self->shut_mtx);
    self->shut = true;
    pthread_mutex_unlock(&self->shut_mtx);
    nng_stream_close(self->nng);
}

static const tri_stream_io door_io = {
    .arm = door_rearm, .start_send = door_send, .shut = door_shut, .fini = door_fini};

/* Takes the NNG stream, also on failure; on success the receive is armed. */
tr_err tri_nng_stream_new(nng_stream *nng, tri_stream **ret) {
    door *self = tr_zalloc(sizeof *self);
    if (self == NULL) {
        nng_stream_free(nng);
        return TR_ERR_NOMEM;
    }
    self->nng = nng;
    pthread_mutex_init(&self->shut_mtx, NULL);
    tr_err no_buffer = tri_inbuf_init(&self->in);
    tr_err err = tri_stream_init(&self->stream, tr_transport_nng(), &door_io);
    if (err != TR_OK || no_buffer != TR_OK ||
        nng_aio_alloc(&self->receive_aio, receive_done, self) != 0 ||
        nng_aio_alloc(&self->send_aio, send_done, self) != 0) {
        nng_stream_free(nng);
        nng_aio_free(self->receive_aio);
        if (err == TR_OK) {
            tri_stream_fini(&self->stream);
        }
        pthread_mutex_destroy(&self->shut_mtx);
        tri_inbuf_fini(&self->in);
        tr_free(self);
        return TR_ERR_NOMEM;
    }
    door_arm(&self->stream);
    *ret = &self->stream;
    return TR_OK;
}

bool tri_nng_peer_uid(tr_stream *base, uint32_t *ret_uid) {
    uint64_t uid;
    door *self = TRI_CONTAINER(door, stream.base, base);
    if (nng_stream_get_uint64(self->nng, NNG_OPT_IPC_PEER_UID, &uid) != 0) {
        return false;
    }
    *ret_uid = (uint32_t)uid;
    return true;
}
