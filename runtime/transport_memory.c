/*
 * See transport_memory.h. Each connection is two ends; an end keeps the bytes on their way to it as
 * segments with a due time. Nothing happens inside a call of an actor: it only makes actions
 * possible, and the driver's step picks one of them by the seed, so that every order in which a
 * real transport could complete its operations can come up. The streams' life is the real one
 * (stream.c).
 */
#include "runtime/transport_memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"
#include "runtime/node.h"
#include "runtime/stream.h"

#define WINDOW (256UL * 1024) /* on their way to an end at most; a write beyond it is short */

typedef struct segment {
    struct segment *next;
    uint64_t due_us;
    size_t size;
    size_t taken;
    uint8_t bytes[];
} segment;

typedef struct end {
    tri_stream stream;
    tr_memory_net *net;
    struct end *next, *prev;
    struct end *peer; /* NULL = it is gone */
    uint32_t connection;
    segment *head, *tail; /* on their way here */
    size_t queued;
    size_t swallowed; /* by a half-open connection */
    uint64_t last_due_us;
    uint8_t *buffer;
    bool armed;   /* a receive waits */
    bool writing; /* a send waits */
    bool shut;    /* closed at this side */
    bool cut;
    bool silent; /* half-open */
} end;

typedef struct memory_listener {
    tr_listener base;
    tr_memory_net *net;
    struct memory_listener *next;
    tr_node *node;
    tr_id owner;
    uint64_t ref;
    char *url;
} memory_listener;

typedef struct memory_dial {
    struct memory_dial *next;
    tr_node *node;
    tr_id owner;
    uint64_t ref;
    char *url;
} memory_dial;

struct tr_memory_net {
    tr_transport transport;
    tr_memory_faults faults;
    uint64_t random;
    uint64_t now_us;
    end *ends; /* newest first */
    memory_listener *listeners;
    memory_dial *dials; /* oldest first */
    uint32_t connections;
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t draw(tr_memory_net *net) {
    uint64_t z = net->random += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static bool chance(tr_memory_net *net, uint32_t per_million) {
    return per_million > 0 && draw(net) % 1000000 < per_million;
}

/* ---- ends ---- */

static end *end_of(tri_stream *stream) {
    return (end *)(void *)((char *)stream - offsetof(end, stream));
}

static void end_arm(tri_stream *stream) {
    end_of(stream)->armed = true;
}

static void end_send(tri_stream *stream) {
    end_of(stream)->writing = true;
}

static void end_shut(tri_stream *stream) {
    end_of(stream)->shut = true;
}

static void drop_segments(end *self) {
    while (self->head != NULL) {
        segment *next = self->head->next;
        tr_free(self->head);
        self->head = next;
    }
    self->tail = NULL;
    self->queued = 0;
}

static void end_fini(tri_stream *stream) {
    end *self = end_of(stream);
    if (self->peer != NULL) {
        self->peer->peer = NULL;
    }
    *(self->prev != NULL ? &self->prev->next : &self->net->ends) = self->next;
    if (self->next != NULL) {
        self->next->prev = self->prev;
    }
    drop_segments(self);
    tri_stream_fini(stream);
    tr_free(self->buffer);
    tr_free(self);
}

static const tri_stream_io end_io = {
    .arm = end_arm, .start_send = end_send, .shut = end_shut, .fini = end_fini};

static end *end_new(tr_memory_net *net) {
    end *self = tr_zalloc(sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->buffer = tr_alloc(TR_LINK_BUFFER_max);
    if (self->buffer == NULL) {
        tr_free(self);
        return NULL;
    }
    if (tri_stream_init(&self->stream, &net->transport, &end_io) != TR_OK) {
        tr_free(self->buffer);
        tr_free(self);
        return NULL;
    }
    self->net = net;
    self->armed = true;
    self->connection = net->connections;
    self->next = net->ends;
    if (net->ends != NULL) {
        net->ends->prev = self;
    }
    net->ends = self;
    return self;
}

static bool peer_left(const end *self) {
    return self->peer == NULL || self->peer->shut;
}

/* ---- actions ---- */

typedef enum action { NOTHING, DELIVER, END_RECEIVE, WRITE, FAIL_WRITE } action;

static action receive_action(const end *self) {
    if (!self->armed) {
        return NOTHING;
    }
    if (self->shut || self->cut) {
        return END_RECEIVE;
    }
    if (self->silent) {
        return NOTHING;
    }
    if (self->head != NULL) {
        return self->head->due_us <= self->net->now_us ? DELIVER : NOTHING;
    }
    return peer_left(self) ? END_RECEIVE : NOTHING;
}

static action write_action(const end *self) {
    if (!self->writing) {
        return NOTHING;
    }
    if (self->shut || self->cut) {
        return FAIL_WRITE;
    }
    if (self->silent) {
        return self->swallowed < WINDOW ? WRITE : NOTHING;
    }
    if (peer_left(self)) {
        return FAIL_WRITE;
    }
    return self->peer->queued < WINDOW ? WRITE : NOTHING;
}

static void cut_end(end *self) {
    self->cut = true;
    drop_segments(self);
    if (self->peer != NULL) {
        self->peer->cut = true;
        drop_segments(self->peer);
    }
}

static void silence_end(end *self) {
    self->silent = true;
    if (self->peer != NULL) {
        self->peer->silent = true;
    }
}

static void end_receive(end *self) {
    self->armed = false;
    tri_stream_ended(&self->stream, TR_ERR_CLOSED);
}

static void deliver(end *self) {
    tr_memory_net *net = self->net;
    if (chance(net, net->faults.cuts_per_million)) {
        cut_end(self);
        end_receive(self);
        return;
    }
    if (chance(net, net->faults.half_open_per_million)) {
        silence_end(self);
        return;
    }
    size_t want = TR_LINK_BUFFER_max;
    if (net->faults.split_max > 0) {
        want = 1 + draw(net) % net->faults.split_max;
        want = want < TR_LINK_BUFFER_max ? want : TR_LINK_BUFFER_max;
    }
    size_t got = 0;
    while (got < want && self->head != NULL && self->head->due_us <= net->now_us) {
        segment *head = self->head;
        size_t part = head->size - head->taken < want - got ? head->size - head->taken : want - got;
        memcpy(self->buffer + got, head->bytes + head->taken, part);
        got += part;
        head->taken += part;
        if (head->taken == head->size) {
            self->head = head->next;
            if (self->head == NULL) {
                self->tail = NULL;
            }
            tr_free(head);
        }
    }
    self->queued -= got;
    self->armed = false;
    tri_stream_got(&self->stream, self->buffer, got);
}

static void fail_write(end *self) {
    self->writing = false;
    tri_stream_sent(&self->stream, false);
}

static void finish_write(end *self, size_t wrote) {
    self->stream.send_done += wrote;
    if (self->stream.send_done == self->stream.send_size) {
        self->writing = false;
        tri_stream_sent(&self->stream, true);
    }
}

/* As much as there is room for at the peer; 0: none, or out of memory. */
static size_t put_on_its_way(end *self, const void *bytes, size_t size) {
    tr_memory_net *net = self->net;
    end *peer = self->peer;
    size = WINDOW - peer->queued < size ? WINDOW - peer->queued : size;
    segment *added = size > 0 ? tr_alloc(sizeof *added + size) : NULL;
    if (added == NULL) {
        return 0;
    }
    const tr_memory_faults *faults = &net->faults;
    uint64_t delay_us = faults->delay_min_us;
    if (faults->delay_max_us > faults->delay_min_us) {
        delay_us += draw(net) % (faults->delay_max_us - faults->delay_min_us + 1);
    }
    uint64_t due_us = net->now_us + delay_us;
    peer->last_due_us = due_us > peer->last_due_us ? due_us : peer->last_due_us;
    *added = (segment){.due_us = peer->last_due_us, .size = size};
    memcpy(added->bytes, bytes, size);
    *(peer->tail != NULL ? &peer->tail->next : &peer->head) = added;
    peer->tail = added;
    peer->queued += size;
    return size;
}

static void write_some(end *self) {
    tri_stream *stream = &self->stream;
    size_t left = stream->send_size - stream->send_done;
    if (self->silent) {
        self->swallowed += left;
        finish_write(self, left);
        return;
    }
    size_t size = put_on_its_way(self, stream->send_body->bytes + stream->send_done, left);
    if (size == 0) {
        cut_end(self);
        fail_write(self);
        return;
    }
    finish_write(self, size);
}

/* A link that can be written at once may take any part, or nothing. */
static size_t try_send(tr_stream *base, const void *bytes, size_t size) {
    end *self = (end *)base;
    tr_memory_net *net = self->net;
    bool gone = self->shut || self->cut || self->silent || peer_left(self);
    if (gone || !chance(net, net->faults.at_once_per_million)) {
        return 0;
    }
    return put_on_its_way(self, bytes, draw(net) % 2 == 0 ? size : 1 + draw(net) % size);
}

static memory_listener *find_listener(const tr_memory_net *net, const char *url) {
    memory_listener *listener = net->listeners;
    while (listener != NULL && strcmp(listener->url, url) != 0) {
        listener = listener->next;
    }
    return listener;
}

static void post_opening(tr_stream_event_kind kind, tri_stream *stream, tr_err err, tr_node *node,
                         tr_id owner, uint64_t ref) {
    tr_msg *msg = tri_stream_opening(kind, stream, err, ref);
    if (msg != NULL) {
        tr_post(node, owner, msg);
    }
}

static void connect_first(tr_memory_net *net) {
    memory_dial *dial = net->dials;
    net->dials = dial->next;
    memory_listener *listener = find_listener(net, dial->url);
    end *near = NULL;
    end *far = NULL;
    if (listener != NULL && !chance(net, net->faults.refused_per_million)) {
        near = end_new(net);
        far = near != NULL ? end_new(net) : NULL;
    }
    if (far != NULL) {
        near->peer = far;
        far->peer = near;
        net->connections++;
        post_opening(TR_STREAM_ACCEPTED, &far->stream, TR_OK, listener->node, listener->owner,
                     listener->ref);
        post_opening(TR_STREAM_DIALED, &near->stream, TR_OK, dial->node, dial->owner, dial->ref);
    } else {
        if (near != NULL) {
            tri_stream_close(&near->stream.base); /* its receive ends at a later step */
        }
        post_opening(TR_STREAM_DIALED, NULL, TR_ERR_CONNECT, dial->node, dial->owner, dial->ref);
    }
    tr_free(dial->url);
    tr_free(dial);
}

static void act(end *self, action what) {
    switch (what) {
    case NOTHING:
        return;
    case DELIVER:
        deliver(self);
        return;
    case END_RECEIVE:
        end_receive(self);
        return;
    case WRITE:
        write_some(self);
        return;
    case FAIL_WRITE:
        fail_write(self);
        return;
    }
}

bool tr_memory_net_step(tr_memory_net *net, uint64_t now_us) {
    TR_ASSERT(now_us >= net->now_us);
    net->now_us = now_us;
    uint64_t possible = net->dials != NULL ? 1 : 0;
    for (end *self = net->ends; self != NULL; self = self->next) {
        possible += receive_action(self) != NOTHING ? 1U : 0U;
        possible += write_action(self) != NOTHING ? 1U : 0U;
    }
    if (possible == 0) {
        return false;
    }
    uint64_t choice = draw(net) % possible;
    if (net->dials != NULL && choice-- == 0) {
        connect_first(net);
        return true;
    }
    for (end *self = net->ends; self != NULL; self = self->next) {
        action actions[] = {receive_action(self), write_action(self)};
        for (int i = 0; i < 2; i++) {
            if (actions[i] != NOTHING && choice-- == 0) {
                act(self, actions[i]);
                return true;
            }
        }
    }
    return true;
}

uint64_t tr_memory_net_due_us(const tr_memory_net *net) {
    uint64_t due_us = UINT64_MAX;
    for (const end *self = net->ends; self != NULL; self = self->next) {
        if (self->armed && !self->silent && self->head != NULL && self->head->due_us < due_us) {
            due_us = self->head->due_us;
        }
    }
    return due_us;
}

uint32_t tr_memory_net_connections(const tr_memory_net *net) {
    return net->connections;
}

static end *find_connection(tr_memory_net *net, uint32_t connection) {
    end *self = net->ends;
    while (self != NULL && (self->connection != connection || self->peer == NULL || self->cut)) {
        self = self->next;
    }
    return self;
}

bool tr_memory_net_cut(tr_memory_net *net, uint32_t connection) {
    end *self = find_connection(net, connection);
    if (self != NULL) {
        cut_end(self);
    }
    return self != NULL;
}

bool tr_memory_net_half_open(tr_memory_net *net, uint32_t connection) {
    end *self = find_connection(net, connection);
    if (self != NULL) {
        silence_end(self);
    }
    return self != NULL;
}

/* ---- the table ---- */

static tr_memory_net *net_of(tr_transport *transport) {
    return (tr_memory_net *)(void *)((char *)transport - offsetof(tr_memory_net, transport));
}

static tr_err listen_at(tr_transport *transport, tr_self *self, const tr_listen_spec *spec,
                        tr_listener **ret, char *why, size_t why_size) {
    tr_memory_net *net = net_of(transport);
    if (find_listener(net, spec->url) != NULL) {
        snprintf(why, why_size, "another program listens at %s", spec->url);
        return TR_ERR_EXISTS;
    }
    memory_listener *listener = tr_zalloc(sizeof *listener);
    char *url = tr_strndup(spec->url, strlen(spec->url));
    if (listener == NULL || url == NULL) {
        tr_free(listener);
        tr_free(url);
        snprintf(why, why_size, "out of memory");
        return TR_ERR_NOMEM;
    }
    *listener = (memory_listener){.base.transport = transport,
                                  .net = net,
                                  .next = net->listeners,
                                  .node = tr_self_node(self),
                                  .owner = tr_self_id(self),
                                  .ref = spec->ref,
                                  .url = url};
    net->listeners = listener;
    *ret = &listener->base;
    return TR_OK;
}

static void listener_close(tr_listener *base) {
    memory_listener *listener = (memory_listener *)base;
    memory_listener **link = &listener->net->listeners;
    while (*link != listener) {
        link = &(*link)->next;
    }
    *link = listener->next;
    tr_free(listener->url);
    tr_free(listener);
}

static void listener_url(const tr_listener *base, char *buf, size_t size) {
    snprintf(buf, size, "%s", ((const memory_listener *)base)->url);
}

static tr_err dial_to(tr_transport *transport, tr_self *self, const tr_dial_spec *spec) {
    tr_memory_net *net = net_of(transport);
    memory_dial *dial = tr_zalloc(sizeof *dial);
    char *url = tr_strndup(spec->url, strlen(spec->url));
    if (dial == NULL || url == NULL) {
        tr_free(dial);
        tr_free(url);
        return TR_ERR_NOMEM;
    }
    *dial = (memory_dial){
        .node = tr_self_node(self), .owner = tr_self_id(self), .ref = spec->ref, .url = url};
    memory_dial **last = &net->dials;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = dial;
    return TR_OK;
}

static bool peer_uid(tr_stream *stream, uint32_t *ret_uid) {
    (void)stream;
    *ret_uid = (uint32_t)geteuid(); /* every peer is this process */
    return true;
}

static void forget(tr_transport *transport, tr_node *node) {
    memory_dial **link = &net_of(transport)->dials;
    while (*link != NULL) {
        memory_dial *dial = *link;
        if (dial->node == node) {
            *link = dial->next;
            tr_free(dial->url);
            tr_free(dial);
        } else {
            link = &dial->next;
        }
    }
}

tr_memory_net *tr_memory_net_new(uint64_t seed) {
    tr_memory_net *net = tr_zalloc(sizeof *net);
    if (net != NULL) {
        net->random = seed;
        net->transport = (tr_transport){.listen = listen_at,
                                        .listener_close = listener_close,
                                        .dial = dial_to,
                                        .attach = tri_stream_attach,
                                        .received = tri_stream_received,
                                        .send = tri_stream_send,
                                        .try_send = try_send,
                                        .close = tri_stream_close,
                                        .peer_uid = peer_uid,
                                        .listener_url = listener_url,
                                        .forget = forget};
    }
    return net;
}

void tr_memory_net_free(tr_memory_net *net) {
    if (net == NULL) {
        return;
    }
    while (net->dials != NULL) {
        forget(&net->transport, net->dials->node);
    }
    /* Every stream has been closed by its owner: what is left are the ends of operations. */
    while (tr_memory_net_step(net, UINT64_MAX)) {
    }
    TR_ASSERT(net->ends == NULL && net->listeners == NULL);
    tr_free(net);
}

tr_transport *tr_memory_net_transport(tr_memory_net *net) {
    return &net->transport;
}

void tr_memory_net_set_faults(tr_memory_net *net, const tr_memory_faults *faults) {
    net->faults = *faults;
}
