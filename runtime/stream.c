/*
 * The life of a stream, the same for every transport. All that can race here is decided under the
 * stream's mutex: an operation ends on one of NNG's threads while the owner closes on its shard, or
 * a door detaches a stream that has just received. Events are posted under the mutex too, so none
 * comes after CLOSED or after the owner closed. Each event carries a reference in its body, so a
 * stream's memory outlives every message that names it, and an owner can tell a stale event by its
 * pointer. A failed send ends nothing by itself: the peer may have said its last words before it
 * left, and the receive that reads them will find the end.
 */
#include "runtime/stream.h"

#include <string.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"
#include "runtime/node.h"

/* In an event's body. */
typedef struct event_ref {
    tri_stream *stream;
    bool opens; /* close the stream if nobody claimed it */
} event_ref;

static void event_fini(tr_body *body) {
    event_ref ref;
    memcpy(&ref, body->bytes, sizeof ref);
    if (ref.opens) {
        pthread_mutex_lock(&ref.stream->mtx);
        bool orphan = !ref.stream->claimed;
        pthread_mutex_unlock(&ref.stream->mtx);
        if (orphan) {
            tri_stream_close(&ref.stream->base);
        }
    }
    tri_stream_unref(ref.stream);
}

/* A STREAM message; NULL when out of memory. */
static tr_msg *event_new(tr_stream_event_kind event, tri_stream *stream, bool opens) {
    tr_msg *msg = tr_msg_new(TR_KIND_STREAM, sizeof(tr_stream_event));
    tr_body *body = tr_body_new(sizeof(event_ref));
    if (msg == NULL || body == NULL) {
        tr_msg_free(msg);
        tr_body_unref(body);
        return NULL;
    }
    tri_stream_ref(stream);
    event_ref ref = {.stream = stream, .opens = opens};
    memcpy(body->bytes, &ref, sizeof ref);
    body->fini = event_fini;
    msg->flags = TR_MSG_LOCAL;
    msg->body = body;
    *(tr_stream_event *)(void *)msg->data =
        (tr_stream_event){.event = event, .stream = &stream->base};
    return msg;
}

tr_err tri_stream_init(tri_stream *stream, tr_transport *transport, const tri_stream_io *io) {
    memset(stream, 0, sizeof *stream);
    stream->base.transport = transport;
    stream->io = io;
    atomic_init(&stream->refs, 2);
    stream->receiving = true;
    /* Its reference is taken when it is sent: until then the stream owns it. */
    stream->closed_msg = event_new(TR_STREAM_CLOSED, stream, false);
    if (stream->closed_msg == NULL) {
        return TR_ERR_NOMEM;
    }
    atomic_fetch_sub_explicit(&stream->refs, 1, memory_order_relaxed); /* nobody else sees it yet */
    pthread_mutex_init(&stream->mtx, NULL);
    return TR_OK;
}

void tri_stream_fini(tri_stream *stream) {
    TR_ASSERT(stream->send_body == NULL);
    if (stream->closed_msg != NULL) {
        stream->closed_msg->body->fini = NULL; /* it holds no reference */
        tr_msg_free(stream->closed_msg);
    }
    pthread_mutex_destroy(&stream->mtx);
}

void tri_stream_ref(tri_stream *stream) {
    /* Relaxed: whoever refs already holds a reference. */
    atomic_fetch_add_explicit(&stream->refs, 1, memory_order_relaxed);
}

void tri_stream_unref(tri_stream *stream) {
    /* Release orders this holder's use before the free, acquire lets the last see it: partner is
     * this line. */
    if (atomic_fetch_sub_explicit(&stream->refs, 1, memory_order_acq_rel) == 1) {
        stream->io->fini(stream);
    }
}

/* `self` is the owner when it runs just now, else NULL. Takes msg. */
static void post_locked(tri_stream *stream, tr_self *self, tr_msg *msg) {
    if (self != NULL) {
        tr_err err = tr_send_control(self, stream->owner, msg);
        TR_ASSERT(err == TR_OK); /* no bound refuses it */
        return;
    }
    tr_post(stream->node, stream->owner, msg);
}

static void tell_closed_locked(tri_stream *stream, tr_self *self) {
    if (stream->owner == TR_ID_NONE || stream->closed) {
        return;
    }
    tr_msg *msg = stream->closed_msg;
    if (msg != NULL) {
        stream->closed_msg = NULL;
        tri_stream_ref(stream);
    } else {
        msg = event_new(TR_STREAM_CLOSED, stream, false); /* told to an earlier owner before */
        if (msg == NULL) {
            return; /* the new owner's own time limits find out */
        }
    }
    ((tr_stream_event *)(void *)msg->data)->err = stream->end_err;
    post_locked(stream, self, msg);
}

/* False: out of memory, the stream cannot go on and must be shut. */
static bool tell_locked(tri_stream *stream, tr_self *self, tr_stream_event_kind kind) {
    tr_msg *msg = event_new(kind, stream, false);
    if (msg == NULL) {
        stream->ended = true;
        stream->broken = true;
        stream->holds = stream->holds && kind != TR_STREAM_RECEIVED;
        stream->end_err = TR_ERR_NOMEM;
        if (!stream->receiving && !stream->sending) {
            tell_closed_locked(stream, self);
        }
        return false;
    }
    tr_stream_event *event = (tr_stream_event *)(void *)msg->data;
    if (kind == TR_STREAM_RECEIVED) {
        event->data = stream->data;
        event->size = stream->size;
    }
    post_locked(stream, self, msg);
    return true;
}

void tri_stream_got(tri_stream *stream, uint8_t *data, size_t size) {
    bool shut = false;
    pthread_mutex_lock(&stream->mtx);
    TR_ASSERT(stream->receiving && !stream->holds);
    stream->receiving = false;
    if (stream->ended) { /* shut for want of memory while this was under way */
        if (!stream->sending) {
            tell_closed_locked(stream, NULL);
        }
    } else if (!stream->closed) {
        stream->holds = true;
        stream->data = data;
        stream->size = size;
        if (stream->owner != TR_ID_NONE) {
            shut = !tell_locked(stream, NULL, TR_STREAM_RECEIVED);
        }
    }
    pthread_mutex_unlock(&stream->mtx);
    if (shut) {
        stream->io->shut(stream);
    }
    tri_stream_unref(stream);
}

void tri_stream_ended(tri_stream *stream, tr_err err) {
    pthread_mutex_lock(&stream->mtx);
    TR_ASSERT(stream->receiving);
    stream->receiving = false;
    if (!stream->ended) {
        stream->ended = true;
        stream->end_err = err;
    }
    bool shut = stream->sending && !stream->closed;
    if (!stream->sending) {
        tell_closed_locked(stream, NULL);
    }
    pthread_mutex_unlock(&stream->mtx);
    if (shut) { /* CLOSED follows when the send has ended */
        stream->io->shut(stream);
    }
    tri_stream_unref(stream);
}

void tri_stream_sent(tri_stream *stream, bool ok) {
    bool shut = false;
    pthread_mutex_lock(&stream->mtx);
    TR_ASSERT(stream->sending);
    tr_body *body = stream->send_body;
    stream->sending = false;
    stream->send_body = NULL;
    if (!ok) {
        stream->broken = true;
    }
    if (stream->ended) {
        if (!stream->receiving) {
            tell_closed_locked(stream, NULL);
        }
    } else if (ok && !stream->closed) {
        shut = !tell_locked(stream, NULL, TR_STREAM_SENT);
    }
    pthread_mutex_unlock(&stream->mtx);
    tr_body_unref(body);
    if (shut) {
        stream->io->shut(stream);
    }
    tri_stream_unref(stream);
}

tr_msg *tri_stream_opening(tr_stream_event_kind event, tri_stream *stream, tr_err err,
                           uint64_t ref) {
    tr_msg *msg;
    if (stream != NULL) {
        msg = event_new(event, stream, true);
        if (msg == NULL) {
            tri_stream_close(&stream->base);
            return NULL;
        }
    } else {
        msg = tr_msg_new(TR_KIND_STREAM, sizeof(tr_stream_event));
        if (msg == NULL) {
            return NULL;
        }
        msg->flags = TR_MSG_LOCAL;
        *(tr_stream_event *)(void *)msg->data = (tr_stream_event){.event = event, .err = err};
    }
    msg->ref = ref;
    return msg;
}

tr_stream *tr_stream_take(tr_msg *msg) {
    TR_ASSERT(msg->kind == TR_KIND_STREAM);
    tr_stream_event *event = (tr_stream_event *)(void *)msg->data;
    tr_stream *base = event->stream;
    if (base != NULL) {
        tri_stream *stream = (tri_stream *)base;
        pthread_mutex_lock(&stream->mtx);
        stream->claimed = true;
        pthread_mutex_unlock(&stream->mtx);
        event->stream = NULL;
    }
    return base;
}

void tri_stream_attach(tr_stream *base, tr_self *self) {
    tri_stream *stream = (tri_stream *)base;
    bool shut = false;
    pthread_mutex_lock(&stream->mtx);
    TR_ASSERT(!stream->closed);
    stream->claimed = true;
    if (self == NULL) {
        TR_ASSERT(!stream->sending);
        stream->owner = TR_ID_NONE;
        stream->node = NULL;
    } else {
        stream->owner = tr_self_id(self);
        stream->node = tr_self_node(self);
        if (stream->holds) {
            shut = !tell_locked(stream, self, TR_STREAM_RECEIVED);
        } else if (stream->ended && !stream->sending && !stream->receiving) {
            tell_closed_locked(stream, self);
        }
    }
    pthread_mutex_unlock(&stream->mtx);
    if (shut) {
        stream->io->shut(stream);
    }
}

void tri_stream_received(tr_stream *base) {
    tri_stream *stream = (tri_stream *)base;
    pthread_mutex_lock(&stream->mtx);
    TR_ASSERT(stream->holds && !stream->closed);
    stream->holds = false;
    bool again = !stream->ended;
    if (again) {
        stream->receiving = true;
        tri_stream_ref(stream);
    }
    pthread_mutex_unlock(&stream->mtx);
    if (again) {
        stream->io->arm(stream);
    }
}

void tri_stream_send(tr_stream *base, tr_body *body, size_t size) {
    tri_stream *stream = (tri_stream *)base;
    TR_ASSERT(size > 0 && size <= body->size);
    pthread_mutex_lock(&stream->mtx);
    TR_ASSERT(!stream->sending && !stream->closed);
    bool dead = stream->ended || stream->broken; /* CLOSED is told or will be; never SENT */
    if (!dead) {
        stream->sending = true;
        stream->send_body = tr_body_ref(body);
        stream->send_size = size;
        stream->send_done = 0;
        tri_stream_ref(stream);
    }
    pthread_mutex_unlock(&stream->mtx);
    if (!dead) {
        stream->io->start_send(stream);
    }
}

void tri_stream_close(tr_stream *base) {
    tri_stream *stream = (tri_stream *)base;
    pthread_mutex_lock(&stream->mtx);
    TR_ASSERT(!stream->closed);
    stream->closed = true;
    stream->claimed = true;
    stream->holds = false;
    stream->owner = TR_ID_NONE;
    pthread_mutex_unlock(&stream->mtx);
    stream->io->shut(stream);
    tri_stream_unref(stream);
}

#define BUFFER_first 4096
/* This many receives in a row that fill less than an eighth: a smaller buffer will do. */
#define SMALL_max 64

tr_err tri_inbuf_init(tri_inbuf *in) {
    *in = (tri_inbuf){.bytes = tr_alloc(BUFFER_first), .size = BUFFER_first};
    return in->bytes != NULL ? TR_OK : TR_ERR_NOMEM;
}

void tri_inbuf_follow(tri_inbuf *in, size_t got) {
    size_t size = in->size;
    if (got == size && size < TR_LINK_BUFFER_max) {
        size *= 4;
        in->small_receives = 0;
    } else if (got >= size / 8 || size == BUFFER_first) {
        in->small_receives = 0;
    } else if (++in->small_receives == SMALL_max) {
        size /= 4;
        in->small_receives = 0;
    }
    if (size == in->size) {
        return;
    }
    size = size > TR_LINK_BUFFER_max ? TR_LINK_BUFFER_max : size;
    uint8_t *bytes = tr_alloc(size);
    if (bytes != NULL) { /* without memory the present one will do */
        tr_free(in->bytes);
        in->bytes = bytes;
        in->size = size;
    }
}

void tri_inbuf_fini(tri_inbuf *in) {
    tr_free(in->bytes);
}
