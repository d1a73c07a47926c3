/* See peer.h. CUnit's assertions are used, since everything runs on the test's thread. */
#include "tests/lib/peer.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"

enum { KIND_WRITE = 112, KIND_LEAVE };

typedef struct peer_state {
    peer *me;
} peer_state;

typedef struct peer_args {
    peer *me;
    const char *url;
} peer_args;

static tr_memory_net *net;
static uint64_t random_state;

static uint64_t now(void *arg) {
    (void)arg;
    return puppet_clock_us;
}

static uint64_t draw(void *arg) {
    (void)arg;
    return random_state = random_state * 6364136223846793005U + 1442695040888963407U;
}

static void wake(void *arg, uint32_t shard) {
    (void)arg;
    (void)shard;
}

tr_node *peer_node(uint32_t shards) {
    puppet_clock_us = 1000;
    random_state = 4;
    net = tr_memory_net_new(1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(net);
    tr_node_spec spec = {.shards = shards,
                         .platform = {.now_us = now,
                                      .random = draw,
                                      .wake = wake,
                                      .transport = tr_memory_net_transport(net)}};
    tr_node *node = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &node), TR_OK);
    return node;
}

void peer_node_free(tr_node *node) {
    tr_transport *transport = tr_memory_net_transport(net);
    transport->forget(transport, node);
    tr_node_free(node);
    tr_memory_net_free(net);
}

void peer_run(tr_node *node) {
    bool more = true;
    while (more) {
        puppet_run(node);
        more = false;
        while (tr_memory_net_step(net, puppet_clock_us)) {
            more = true;
        }
    }
}

void peer_wait_us(tr_node *node, uint64_t us) {
    uint64_t until = puppet_clock_us + us;
    peer_run(node);
    for (;;) {
        uint64_t due = tr_memory_net_due_us(net);
        for (uint32_t i = 0; i < tr_node_shards(node); i++) {
            uint64_t timer = tr_shard_deadline_us(tr_node_shard(node, i));
            due = timer < due ? timer : due;
        }
        if (due > until) {
            break;
        }
        puppet_clock_us = due > puppet_clock_us ? due : puppet_clock_us;
        peer_run(node);
    }
    puppet_clock_us = until;
    peer_run(node);
}

/* --- the actor --- */

static tr_err init(tr_self *self, void *state, const void *args) {
    const peer_args *a = args;
    ((peer_state *)state)->me = a->me;
    a->me->id = tr_self_id(self);
    tr_transport *transport = tr_memory_net_transport(net);
    tr_dial_spec spec = {.url = a->url};
    return transport->dial(transport, self, &spec);
}

static void keep(peer *me, const tr_stream_event *event) {
    if (me->in_room - me->in_size < event->size) {
        me->in_room = 2 * me->in_room + event->size;
        me->in = realloc(me->in, me->in_room);
        CU_ASSERT_PTR_NOT_NULL_FATAL(me->in);
    }
    memcpy(me->in + me->in_size, event->data, event->size);
    me->in_size += event->size;
    if (!me->deaf) {
        event->stream->transport->received(event->stream);
    }
}

static void close_stream(peer *me) {
    if (me->stream != NULL) {
        me->stream->transport->close(me->stream);
        me->stream = NULL;
    }
}

static void stream_event(tr_self *self, peer *me, tr_msg *msg) {
    const tr_stream_event *event = (const tr_stream_event *)(const void *)msg->data;
    switch (event->event) {
    case TR_STREAM_DIALED:
        me->stream = tr_stream_take(msg);
        me->refused = me->stream == NULL;
        if (me->stream != NULL) {
            me->stream->transport->attach(me->stream, self);
        }
        break;
    case TR_STREAM_RECEIVED:
        keep(me, event);
        break;
    case TR_STREAM_SENT:
        me->sending = false;
        break;
    case TR_STREAM_CLOSED:
        me->closed = true;
        close_stream(me);
        break;
    case TR_STREAM_ACCEPTED:
        break;
    }
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    peer *me = ((peer_state *)state)->me;
    if ((*msg)->kind == TR_KIND_STREAM) {
        stream_event(self, me, *msg);
    } else if ((*msg)->kind == KIND_WRITE && me->stream != NULL) {
        me->stream->transport->send(me->stream, (*msg)->body, (*msg)->body->size);
    } else if ((*msg)->kind == KIND_LEAVE) {
        return TR_DONE;
    }
    return TR_OK;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    peer *me = ((peer_state *)state)->me;
    close_stream(me);
    me->id = TR_ID_NONE;
}

static const tr_behaviour behaviour = {
    .name = "peer", .state_size = sizeof(peer_state), .init = init, .handle = handle, .stop = stop};

/* --- the test's side --- */

void peer_dial(peer *who, tr_node *node, const char *url) {
    *who = (peer){.node = node, .deaf = who->deaf};
    peer_args args = {who, url};
    tr_spawn_spec spec = {.behaviour = &behaviour, .args = &args, .args_size = sizeof args};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(node, 0, &spec), TR_OK);
    peer_run(node);
}

void peer_write(peer *who, const void *data, size_t size) {
    if (who->closed) { /* the other side hung up before it had heard everything */
        return;
    }
    CU_ASSERT_FATAL(!who->sending && who->stream != NULL);
    tr_msg *msg = tr_msg_new(KIND_WRITE, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->body = tr_body_new(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg->body);
    memcpy(msg->body->bytes, data, size);
    who->sending = true;
    tr_post(who->node, who->id, msg);
    peer_run(who->node);
}

void peer_send(peer *who, tr_msg *msg, uint64_t ref) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    tr_frame frame = {.kind = msg->kind,
                      .ref = ref,
                      .inline_size = msg->size,
                      .body_size = msg->body != NULL ? (uint32_t)msg->body->size : 0};
    size_t size = tr_frame_size(&frame);
    uint8_t *out = malloc(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    tr_frame_encode(&frame, out);
    memcpy(out + TR_FRAME_HEADER_size, msg->data, msg->size);
    if (msg->body != NULL) {
        memcpy(out + TR_FRAME_HEADER_size + msg->size, msg->body->bytes, msg->body->size);
    }
    tr_msg_free(msg);
    peer_write(who, out, size);
    free(out);
}

tr_msg *peer_take(peer *who) {
    tr_frame frame;
    const uint8_t *at = who->in + who->taken;
    size_t left = who->in_size - who->taken;
    if (left == 0 || tr_frame_decode(at, left, TR_FRAME_BODY_max, &frame) != TR_OK ||
        left < tr_frame_size(&frame)) {
        return NULL;
    }
    tr_msg *msg = tr_msg_new(frame.kind, frame.inline_size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    memcpy(msg->data, at + TR_FRAME_HEADER_size, frame.inline_size);
    CU_ASSERT_EQUAL(tr_wire_check(msg->kind, msg->data, msg->size), TR_OK);
    msg->ref = frame.ref;
    who->taken += tr_frame_size(&frame);
    return msg;
}

tr_msg *peer_expect(peer *who, uint16_t kind, uint64_t ref) {
    tr_msg *msg = peer_take(who);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    CU_ASSERT_EQUAL(msg->kind, kind);
    CU_ASSERT_EQUAL(msg->ref, ref);
    return msg;
}

uint32_t peer_drop(peer *who) {
    uint32_t count = 0;
    for (tr_msg *msg = peer_take(who); msg != NULL; msg = peer_take(who)) {
        tr_msg_free(msg);
        count++;
    }
    return count;
}

void peer_leave(peer *who) {
    tr_msg *msg = tr_msg_new(KIND_LEAVE, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    tr_post(who->node, who->id, msg);
    peer_run(who->node);
}

void peer_free(peer *who) {
    if (who->id != TR_ID_NONE) {
        peer_leave(who);
    }
    free(who->in);
    who->in = NULL;
}

tr_msg *peer_hello(const char *token) {
    tr_hello head = {.magic = TR_HELLO_MAGIC,
                     .version_min = TR_PROTOCOL_VERSION,
                     .version_max = TR_PROTOCOL_VERSION,
                     .role = TR_ROLE_CLIENT};
    tr_hello_view view = {.token = {token, strlen(token)}, .software = {"peer/1", 6}};
    tr_msg *msg = tr_msg_new(TR_KIND_HELLO, tr_hello_size(&view));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    tr_hello_write(msg->data, &head, &view);
    return msg;
}

tr_msg *peer_submit(tr_op op, const char *target, const char *body, uint32_t credit_messages,
                    uint32_t credit_bytes) {
    size_t size = strlen(body);
    tr_body *bytes = tr_body_new(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    memcpy(bytes->bytes, body, size);
    tr_submit head = {
        .op = (uint8_t)op, .credit_messages = credit_messages, .credit_bytes = credit_bytes};
    tr_submit_view view = {.target = {target, strlen(target)}};
    return tr_msg_submit(&head, &view, bytes);
}
