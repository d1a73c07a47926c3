/*
 * Frames over one stream. In: what arrives is cut into messages where it lies; only a frame that
 * ends in a later read is gathered in a message of its own. Out: frames are written one behind the
 * other into a buffer; while one buffer flies the next fills, so that the busier a link is, the
 * more frames leave with each write (singly 0.1 M frames/s, joined 2 M), and a quiet link's frame
 * leaves when the shard has done what it has to do now. What the peer has room for is written there
 * and then where the transport can (try_send); only the rest flies. That flush is one deferred
 * function for all links of the thread, on a list, since a deferred function knows its actor's
 * state but not the link. Part of an actor's state: only its shard calls this.
 */
#include "runtime/link.h"

#include <string.h>

#include "protocol/assert.h"
#include "protocol/frame.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

#define FILL_first 4096
#define FILL_keep (256 * 1024) /* a larger buffer is given back once it has been written */
#define BODY_first (64 * 1024) /* of a large body, until as much has really come */

struct tr_link {
    /* set at init */
    tr_stream *stream; /* NULL = closed or detached */
    tr_link_frame_fn *fn;
    void *state;
    uint64_t serial; /* marks the link's messages to itself */
    size_t out_max;
    size_t body_max;
    /* in: a frame that is not complete yet */
    uint8_t head[TR_FRAME_HEADER_size];
    size_t head_have;
    tr_frame frame;
    tr_msg *msg; /* NULL with `skipping` = its bytes are dropped */
    size_t have; /* bytes of inline part and body */
    bool skipping;
    /* out */
    tr_body *fill;
    size_t fill_size;
    tr_body *fly;
    size_t fly_size; /* 0 = no send is under way */
    tr_link *flush_next, **flush_prev;
    bool handling;     /* tr_link_handle is on the stack */
    bool finishing;    /* close when all is written */
    tr_self *finisher; /* the owner, who waits for that; NULL = nothing was left to write */
    bool deaf;         /* the peer broke the protocol: what it says is dropped */
    bool gone;         /* detached or freed by fn: tr_link_handle frees it */
    bool at_frame;     /* nothing was read beyond the frame that fn has now */
};

/* The links of this thread that have something to write: a shard's, or all of a simulation's. */
static _Thread_local tr_link *flush_list;
static _Atomic uint64_t next_serial = 1; /* relaxed: only its difference counts */

static void unlist(tr_link *link) {
    if (link->flush_prev != NULL) {
        *link->flush_prev = link->flush_next;
        if (link->flush_next != NULL) {
            link->flush_next->flush_prev = link->flush_prev;
        }
        link->flush_prev = NULL;
    }
}

static void reset_frame(tr_link *link) {
    tr_msg_free(link->msg);
    link->msg = NULL;
    link->head_have = 0;
    link->have = 0;
    link->skipping = false;
}

static void close_stream(tr_link *link) {
    if (link->stream != NULL) {
        link->stream->transport->close(link->stream);
        link->stream = NULL;
    }
    unlist(link);
}

static void free_link(tr_link *link) {
    close_stream(link);
    reset_frame(link);
    tr_body_unref(link->fill);
    tr_body_unref(link->fly);
    tr_free(link);
}

tr_err tr_link_new(tr_self *self, tr_stream *stream, size_t body_max, size_t out_max,
                   tr_link_frame_fn *fn, void *state, tr_link **ret) {
    TR_ASSERT(body_max <= TR_FRAME_BODY_max);
    tr_link *link = tr_zalloc(sizeof *link);
    if (link == NULL) {
        stream->transport->close(stream);
        return TR_ERR_NOMEM;
    }
    link->stream = stream;
    link->fn = fn;
    link->state = state;
    link->serial = atomic_fetch_add_explicit(&next_serial, 1, memory_order_relaxed);
    link->body_max = body_max;
    link->out_max = out_max;
    *ret = link; /* before attach: what came before is delivered then */
    stream->transport->attach(stream, self);
    return TR_OK;
}

void tr_link_set_body_max(tr_link *link, size_t body_max) {
    TR_ASSERT(body_max <= TR_FRAME_BODY_max);
    link->body_max = body_max;
}

/* ---- in ---- */

static bool known_kind(uint16_t kind) {
    switch (kind) {
    case TR_KIND_SUBMIT:
    case TR_KIND_DELTA:
    case TR_KIND_CREDIT:
    case TR_KIND_DONE:
    case TR_KIND_FAIL:
    case TR_KIND_CANCEL:
    case TR_KIND_HELLO:
    case TR_KIND_WELCOME:
    case TR_KIND_PING:
    case TR_KIND_PONG:
        return true;
    default:
        return false;
    }
}

/* A whole message: checked, then the owner's. */
static tr_err give(tr_link *link, tr_self *self) {
    tr_msg *msg = link->msg;
    link->msg = NULL;
    reset_frame(link);
    tr_err err = TR_OK;
    if (msg != NULL && !link->finishing) {
        err = tr_wire_check(msg->kind, msg->data, msg->size);
        if (err == TR_OK) {
            err = link->fn(self, link->state, &msg);
        }
    }
    tr_msg_free(msg);
    return err;
}

/* After the header: makes room for the rest. */
static tr_err begin_frame(tr_link *link, const uint8_t *head) {
    const tr_frame *frame = &link->frame;
    tr_err err = tr_frame_decode(head, TR_FRAME_HEADER_size, link->body_max, &link->frame);
    if (err != TR_OK) {
        return err;
    }
    link->have = 0;
    link->skipping = !known_kind(frame->kind);
    if (link->skipping) {
        return TR_OK;
    }
    link->msg = tr_msg_new(frame->kind, frame->inline_size);
    if (link->msg == NULL) {
        return TR_ERR_NOMEM;
    }
    link->msg->ref = frame->ref;
    /* The upper byte is the runtime's: a peer does not set it. */
    link->msg->flags = (uint16_t)((frame->flags & 0xffU) |
                                  (frame->kind == TR_KIND_SUBMIT ? (unsigned)TR_MSG_OPENING : 0U));
    if (frame->body_size > 0) {
        link->msg->body =
            tr_body_new(frame->body_size < BODY_first ? frame->body_size : BODY_first);
        if (link->msg->body == NULL) {
            return TR_ERR_NOMEM;
        }
    }
    return TR_OK;
}

/* Doubles with what has come, so that a claim alone takes no memory. */
static tr_err grow_body(tr_msg *msg, size_t needed, size_t whole) {
    size_t size = msg->body->size;
    if (needed <= size) {
        return TR_OK;
    }
    while (size < needed) {
        size *= 2;
    }
    tr_body *body = tr_body_new(size < whole ? size : whole);
    if (body == NULL) {
        return TR_ERR_NOMEM;
    }
    memcpy(body->bytes, msg->body->bytes, msg->body->size);
    tr_body_unref(msg->body);
    msg->body = body;
    return TR_OK;
}

/* Takes up to `size` bytes of the frame's inline part and body. */
static tr_err take_bytes(tr_link *link, const uint8_t *data, size_t size, size_t *ret_taken) {
    const tr_frame *frame = &link->frame;
    size_t whole = (size_t)frame->inline_size + frame->body_size;
    size_t taken = whole - link->have < size ? whole - link->have : size;
    *ret_taken = taken;
    if (link->skipping) {
        link->have += taken;
        return TR_OK;
    }
    size_t part = 0;
    if (link->have < frame->inline_size) {
        part = frame->inline_size - link->have < taken ? frame->inline_size - link->have : taken;
        memcpy(link->msg->data + link->have, data, part);
    }
    if (part < taken) {
        size_t at = link->have + part - frame->inline_size;
        tr_err err = grow_body(link->msg, at + (taken - part), frame->body_size);
        if (err != TR_OK) {
            return err;
        }
        memcpy(link->msg->body->bytes + at, data + part, taken - part);
    }
    link->have += taken;
    return TR_OK;
}

static tr_err take_in(tr_link *link, tr_self *self, const uint8_t *data, size_t size) {
    while (size > 0 && !link->gone) {
        if (link->head_have < TR_FRAME_HEADER_size) {
            const uint8_t *head = data;
            size_t taken = TR_FRAME_HEADER_size;
            if (link->head_have > 0 || size < taken) { /* split inside the header */
                size_t missing = TR_FRAME_HEADER_size - link->head_have;
                taken = missing < size ? missing : size;
                memcpy(link->head + link->head_have, data, taken);
                head = link->head;
            }
            link->head_have += taken;
            data += taken;
            size -= taken;
            if (link->head_have < TR_FRAME_HEADER_size) {
                return TR_OK;
            }
            tr_err err = begin_frame(link, head);
            if (err != TR_OK) {
                return err;
            }
        }
        size_t taken;
        tr_err err = take_bytes(link, data, size, &taken);
        if (err != TR_OK) {
            return err;
        }
        data += taken;
        size -= taken;
        if (link->have == (size_t)link->frame.inline_size + link->frame.body_size) {
            link->at_frame = size == 0;
            err = give(link, self);
            link->at_frame = false;
            if (err != TR_OK) {
                return err;
            }
        }
    }
    return TR_OK;
}

/* ---- out ---- */

/* The owner of a link that is finishing learns that all is written. */
static void tell_finished(tr_link *link, tr_self *self) {
    tr_msg *msg = tr_msg_new(TR_KIND_STREAM, sizeof(tr_stream_event));
    if (msg == NULL) {
        close_stream(link); /* the owner's timer ends it */
        return;
    }
    msg->flags = TR_MSG_LOCAL;
    msg->ref = link->serial;
    ((tr_stream_event *)(void *)msg->data)->event = TR_STREAM_CLOSED;
    tr_err err = tr_send_control(self, tr_self_id(self), msg);
    TR_ASSERT(err == TR_OK);
}

/* What the peer has room for goes out of the buffer as it lies there. */
static void write_at_once(tr_link *link) {
    const tr_transport *transport = link->stream->transport;
    size_t done = transport->try_send != NULL
                      ? transport->try_send(link->stream, link->fill->bytes, link->fill_size)
                      : 0;
    TR_ASSERT(done <= link->fill_size);
    link->fill_size -= done;
    if (link->fill_size > 0) {
        if (done > 0) {
            memmove(link->fill->bytes, link->fill->bytes + done, link->fill_size);
        }
        return;
    }
    if (link->fill->size > FILL_keep) {
        tr_body_unref(link->fill);
        link->fill = NULL;
    }
    if (link->finisher != NULL) {
        tell_finished(link, link->finisher);
    }
}

static void start_write(tr_link *link) {
    unlist(link);
    if (link->fly_size > 0 || link->fill_size == 0) {
        return;
    }
    write_at_once(link);
    if (link->fill_size == 0) {
        return;
    }
    tr_body *empty = link->fly;
    link->fly = link->fill;
    link->fly_size = link->fill_size;
    link->fill = empty;
    link->fill_size = 0;
    link->stream->transport->send(link->stream, link->fly, link->fly_size);
}

static void flush_all(tr_self *self, void *state) {
    (void)self;
    (void)state;
    while (flush_list != NULL) {
        start_write(flush_list);
    }
}

static tr_err make_room(tr_link *link, size_t size) {
    size_t room = link->fill != NULL ? link->fill->size : 0;
    if (link->fill_size + size <= room) {
        return TR_OK;
    }
    room = room < FILL_first ? FILL_first : room * 2;
    while (room < link->fill_size + size) {
        room *= 2;
    }
    tr_body *fill = tr_body_new(room);
    if (fill == NULL) {
        return TR_ERR_NOMEM;
    }
    if (link->fill != NULL) {
        memcpy(fill->bytes, link->fill->bytes, link->fill_size);
    }
    tr_body_unref(link->fill);
    link->fill = fill;
    return TR_OK;
}

tr_err tr_link_send(tr_link *link, tr_self *self, const tr_msg *msg, uint64_t ref) {
    TR_ASSERT(!link->gone && (msg->flags & TR_MSG_LOCAL) == 0);
    if (link->finishing) {
        return TR_ERR_CLOSED;
    }
    tr_frame frame = {.kind = msg->kind,
                      .flags = msg->flags & 0xffU,
                      .ref = ref,
                      .inline_size = msg->size,
                      .body_size = msg->body != NULL ? (uint32_t)msg->body->size : 0};
    TR_ASSERT(msg->body == NULL || msg->body->size <= TR_FRAME_BODY_max);
    size_t size = tr_frame_size(&frame);
    if (tr_link_pending(link) + size > link->out_max) {
        return TR_ERR_STALLED;
    }
    tr_err err = make_room(link, size);
    if (err != TR_OK) {
        return err;
    }
    TR_ASSERT(link->fill != NULL);
    uint8_t *out = (uint8_t *)link->fill->bytes + link->fill_size;
    tr_frame_encode(&frame, out);
    memcpy(out + TR_FRAME_HEADER_size, msg->data, msg->size);
    if (frame.body_size > 0) {
        memcpy(out + TR_FRAME_HEADER_size + msg->size, msg->body->bytes, frame.body_size);
    }
    link->fill_size += size;
    if (link->fly_size == 0 && link->flush_prev == NULL && link->stream != NULL) {
        link->flush_next = flush_list;
        if (flush_list != NULL) {
            flush_list->flush_prev = &link->flush_next;
        }
        link->flush_prev = &flush_list;
        flush_list = link;
        tr_defer(self, flush_all);
    }
    return TR_OK;
}

size_t tr_link_pending(const tr_link *link) {
    return link->fill_size + link->fly_size;
}

void tr_link_finish(tr_link *link, tr_self *self) {
    if (link->finishing) {
        return;
    }
    link->finishing = true;
    if (tr_link_pending(link) > 0 && link->stream != NULL) {
        link->finisher = self;
        return; /* the last write goes on */
    }
    tell_finished(link, self);
}

static tr_err sent(tr_link *link) {
    if (link->fly->size > FILL_keep) {
        tr_body_unref(link->fly);
        link->fly = NULL;
    }
    link->fly_size = 0;
    link->finisher = NULL; /* told here */
    start_write(link);
    return link->finishing && link->fly_size == 0 ? TR_ERR_CLOSED : TR_OK;
}

/* ---- events ---- */

static tr_err handle_event(tr_link *link, tr_self *self, const tr_stream_event *event) {
    tr_stream *stream = event->stream;
    switch (event->event) {
    case TR_STREAM_RECEIVED: {
        tr_err err = link->deaf ? TR_OK : take_in(link, self, event->data, event->size);
        link->deaf = link->deaf || err == TR_ERR_PROTOCOL || err == TR_ERR_TOO_LARGE;
        if ((err == TR_OK || link->deaf) && link->stream == stream) {
            stream->transport->received(stream);
        }
        return err;
    }
    case TR_STREAM_SENT:
        return sent(link);
    case TR_STREAM_CLOSED:
        return TR_ERR_CLOSED;
    case TR_STREAM_ACCEPTED:
    case TR_STREAM_DIALED:
        break;
    }
    return TR_OK;
}

tr_err tr_link_handle(tr_link *link, tr_self *self, tr_msg *msg) {
    TR_ASSERT(msg->kind == TR_KIND_STREAM && !link->handling);
    const tr_stream_event *event = (const tr_stream_event *)(const void *)msg->data;
    if (event->stream == NULL) {
        bool own = msg->ref == link->serial && event->event == TR_STREAM_CLOSED;
        if (own) {
            close_stream(link);
        }
        return own ? TR_ERR_CLOSED : TR_OK;
    }
    if (event->stream != link->stream) {
        return TR_OK;
    }
    link->handling = true;
    tr_err err = handle_event(link, self, event);
    link->handling = false;
    if (link->gone) {
        free_link(link);
        return TR_DONE;
    }
    if (err != TR_OK && (!link->deaf || event->event != TR_STREAM_RECEIVED)) {
        close_stream(link);
    }
    return err;
}

tr_stream *tr_link_detach(tr_link *link) {
    tr_stream *stream = link->stream;
    if (stream == NULL || tr_link_pending(link) > 0 || link->head_have > 0 ||
        (link->handling && !link->at_frame)) {
        return NULL;
    }
    stream->transport->attach(stream, NULL);
    if (link->handling) { /* what fn was called for has been read to its end */
        stream->transport->received(stream);
    }
    link->stream = NULL;
    tr_link_free(link);
    return stream;
}

void tr_link_free(tr_link *link) {
    if (link == NULL) {
        return;
    }
    if (link->handling) {
        close_stream(link);
        link->gone = true;
        return;
    }
    free_link(link);
}

/* ---- the handover of a worker's stream ---- */

/* In the message's body; the copy in tr_handover is for the eye. */
static void handover_fini(tr_body *body) {
    tr_stream *stream;
    memcpy(&stream, body->bytes, sizeof stream);
    if (stream != NULL) {
        stream->transport->close(stream);
    }
}

tr_msg *tr_handover_new(tr_stream *stream, const tr_hello *hello, size_t hello_size) {
    tr_msg *msg = tr_msg_new(TR_KIND_HANDOVER, sizeof(tr_handover) + hello_size);
    tr_body *body = tr_body_new(sizeof stream);
    if (msg == NULL || body == NULL) {
        tr_msg_free(msg);
        tr_body_unref(body);
        stream->transport->close(stream);
        return NULL;
    }
    memcpy(body->bytes, &stream, sizeof stream);
    body->fini = handover_fini;
    msg->body = body;
    msg->flags = TR_MSG_LOCAL;
    tr_handover *handover = (tr_handover *)(void *)msg->data;
    handover->stream = stream;
    handover->hello_size = (uint32_t)hello_size;
    memcpy(handover->hello, hello, hello_size);
    return msg;
}

tr_stream *tr_handover_take(tr_msg *msg) {
    TR_ASSERT(msg->kind == TR_KIND_HANDOVER);
    tr_handover *handover = (tr_handover *)(void *)msg->data;
    tr_stream *stream = handover->stream;
    handover->stream = NULL;
    memset(msg->body->bytes, 0, sizeof stream);
    return stream;
}
