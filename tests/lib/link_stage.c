/* See link_stage.h. Everything is a consequence of the seed and of what the test tells. */
#include "tests/lib/link_stage.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "runtime/memory.h"
#include "runtime/shard.h"

#define URL "ipc:///stage"

/* ---- memory that counts and fails on demand ---- */

size_t tr_stage_fail_at;
size_t tr_stage_largest;

static void *test_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    if (tr_stage_fail_at > 0 && --tr_stage_fail_at == 0) {
        return NULL;
    }
    tr_stage_largest = size > tr_stage_largest ? size : tr_stage_largest;
    return realloc(ptr, size);
}

static void test_release(void *arg, void *ptr) {
    (void)arg;
    free(ptr);
}

void tr_stage_memory(void) {
    tr_memory table = {.resize = test_resize, .release = test_release};
    tr_memory_set(&table);
}

/* ---- the stage ---- */

static uint64_t clock_us;

static uint64_t test_now(void *arg) {
    (void)arg;
    return clock_us;
}

static uint64_t test_random(void *arg) {
    (void)arg;
    return 4;
}

static void test_wake(void *arg, uint32_t shard) {
    (void)arg;
    (void)shard;
}

enum { KIND_DO = 100 };

typedef struct order {
    tr_stage_do_fn *fn;
    void *arg;
} order;

typedef struct station_state {
    tr_station *me;
} station_state;

static uint32_t sum_of(const void *data, size_t size, uint32_t sum) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ bytes[i]) * 16777619U;
    }
    return sum;
}

uint32_t tr_stage_sum(const tr_msg *msg) {
    uint32_t sum = sum_of(msg->data, msg->size, 2166136261U);
    return msg->body != NULL ? sum_of(msg->body->bytes, msg->body->size, sum) : sum;
}

tr_err tr_stage_note(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    tr_station *me = state;
    CU_ASSERT_FATAL(me->count < TR_STAGE_FRAMES_max);
    me->seen[me->count++] =
        (tr_frame_seen){.kind = (*msg)->kind,
                        .flags = (*msg)->flags,
                        .ref = (*msg)->ref,
                        .size = (*msg)->size,
                        .body_size = (*msg)->body != NULL ? (*msg)->body->size : 0,
                        .sum = tr_stage_sum(*msg)};
    return TR_OK;
}

static void station_attach(tr_self *self, tr_station *me, tr_stream *stream) {
    if (me->raw) {
        me->stream = stream;
        stream->transport->attach(stream, self);
        return;
    }
    tr_err err = tr_link_new(self, stream, me->body_max, me->out_max,
                             me->fn != NULL ? me->fn : tr_stage_note, me, &me->link);
    me->end = err;
}

static void raw_event(tr_station *me, const tr_stream_event *event) {
    switch (event->event) {
    case TR_STREAM_RECEIVED:
        me->receives++;
        me->received += event->size;
        if (me->reads) {
            event->stream->transport->received(event->stream);
        }
        break;
    case TR_STREAM_SENT:
        me->sent++;
        break;
    case TR_STREAM_CLOSED:
        me->closed++;
        event->stream->transport->close(event->stream);
        me->stream = NULL;
        break;
    case TR_STREAM_ACCEPTED:
    case TR_STREAM_DIALED:
        break;
    }
}

static tr_err station_handle(tr_self *self, void *state, tr_msg **msg) {
    tr_station *me = ((station_state *)state)->me;
    if ((*msg)->kind == KIND_DO) {
        const order *told = (const order *)(const void *)(*msg)->data;
        told->fn(self, me, told->arg);
        return TR_OK;
    }
    if ((*msg)->kind == TR_KIND_HANDOVER) {
        if (me->refused > 0) { /* drops it */
            return TR_OK;
        }
        const tr_handover *handover = (const tr_handover *)(const void *)(*msg)->data;
        CU_ASSERT_EQUAL(tr_wire_check(TR_KIND_HELLO, handover->hello, handover->hello_size), TR_OK);
        station_attach(self, me, tr_handover_take(*msg));
        CU_ASSERT_PTR_NULL(tr_handover_take(*msg));
        return TR_OK;
    }
    if ((*msg)->kind != TR_KIND_STREAM) {
        return TR_OK;
    }
    const tr_stream_event *event = (const tr_stream_event *)(const void *)(*msg)->data;
    if (event->event == TR_STREAM_ACCEPTED || event->event == TR_STREAM_DIALED) {
        tr_stream *stream = tr_stream_take(*msg);
        if (stream != NULL) {
            station_attach(self, me, stream);
        } else {
            me->dial_failed = true;
        }
    } else if (me->raw && event->stream == me->stream) {
        raw_event(me, event);
    } else if (me->link != NULL) {
        tr_err err = tr_link_handle(me->link, self, *msg);
        if (err != TR_OK) {
            me->end = err;
            if (me->keeps && err != TR_ERR_CLOSED) {
                return TR_OK;
            }
            if (err != TR_DONE) {
                tr_link_free(me->link);
            }
            me->link = NULL;
        }
    }
    return TR_OK;
}

static tr_err station_init(tr_self *self, void *state, const void *args) {
    tr_station *me = *(tr_station *const *)args;
    ((station_state *)state)->me = me;
    me->id = tr_self_id(self);
    return TR_OK;
}

static void station_stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    tr_station *me = ((station_state *)state)->me;
    tr_link_free(me->link);
    me->link = NULL;
    if (me->stream != NULL) {
        me->stream->transport->close(me->stream);
        me->stream = NULL;
    }
    if (me->listener != NULL) {
        me->listener->transport->listener_close(me->listener);
        me->listener = NULL;
    }
}

static const tr_behaviour station_behaviour = {.name = "station",
                                               .state_size = sizeof(station_state),
                                               .init = station_init,
                                               .handle = station_handle,
                                               .stop = station_stop};

void tr_stage_run(tr_stage *s) {
    for (;;) {
        bool more = tr_shard_step(tr_node_shard(s->node, 0), 1000);
        more = tr_shard_step(tr_node_shard(s->node, 1), 1000) || more;
        more = tr_shard_has_work(tr_node_shard(s->node, 0)) || more;
        more = tr_memory_net_step(s->net, clock_us) || more;
        if (!more) {
            uint64_t due_us = tr_memory_net_due_us(s->net);
            if (due_us == UINT64_MAX) {
                return;
            }
            clock_us = due_us > clock_us ? due_us : clock_us;
        }
    }
}

uint64_t tr_stage_clock_us(void) {
    return clock_us;
}

void tr_stage_step(tr_stage *s, uint32_t shard) {
    tr_shard_step(tr_node_shard(s->node, shard), 1000);
    tr_memory_net_step(s->net, clock_us);
}

void tr_stage_tell(tr_stage *s, tr_station *who, tr_stage_do_fn *fn, void *arg) {
    size_t fails = tr_stage_fail_at;
    tr_stage_fail_at = 0;
    tr_msg *msg = tr_msg_new(KIND_DO, sizeof(order));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(order *)(void *)msg->data = (order){.fn = fn, .arg = arg};
    tr_post(s->node, who->id, msg);
    tr_stage_fail_at = fails;
}

void tr_stage_tell_and_run(tr_stage *s, tr_station *who, tr_stage_do_fn *fn, void *arg) {
    tr_stage_tell(s, who, fn, arg);
    tr_stage_run(s);
}

static void do_listen(tr_self *self, tr_station *me, void *arg) {
    (void)arg;
    char why[128];
    tr_transport *transport = tr_memory_net_transport(me->stage->net);
    tr_listen_spec spec = {.url = URL};
    CU_ASSERT_EQUAL(transport->listen(transport, self, &spec, &me->listener, why, sizeof why),
                    TR_OK);
}

void tr_stage_do_listen_again(tr_self *self, tr_station *me, void *arg) {
    char why[128];
    tr_transport *transport = tr_memory_net_transport(me->stage->net);
    tr_listen_spec spec = {.url = URL};
    tr_listener *second;
    *(bool *)arg =
        transport->listen(transport, self, &spec, &second, why, sizeof why) == TR_ERR_EXISTS;
}

void tr_stage_do_dial(tr_self *self, tr_station *me, void *arg) {
    (void)arg;
    tr_transport *transport = tr_memory_net_transport(me->stage->net);
    tr_dial_spec spec = {.url = URL};
    CU_ASSERT_EQUAL(transport->dial(transport, self, &spec), TR_OK);
}

static void start_station(tr_stage *s, tr_station *who, uint32_t shard) {
    who->stage = s;
    who->body_max = TR_FRAME_BODY_max;
    who->out_max = 1UL << 26;
    who->reads = true;
    tr_spawn_spec spec = {
        .behaviour = &station_behaviour, .args = &who, .args_size = sizeof(tr_station *)};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(s->node, shard, &spec), TR_OK);
    tr_stage_run(s);
}

void tr_stage_set_up(tr_stage *s, uint64_t seed) {
    memset(s, 0, sizeof *s);
    clock_us = 1000;
    s->net = tr_memory_net_new(seed);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->net);
    tr_node_spec spec = {.shards = 2,
                         .platform = {.now_us = test_now,
                                      .random = test_random,
                                      .wake = test_wake,
                                      .transport = tr_memory_net_transport(s->net)}};
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &s->node), TR_OK);
    start_station(s, &s->a, 0);
    start_station(s, &s->b, 1);
    start_station(s, &s->c, 1);
    tr_stage_tell_and_run(s, &s->a, do_listen, NULL);
}

void tr_stage_tear_down(tr_stage *s) {
    tr_node_free(s->node);
    tr_memory_net_free(s->net);
}

void tr_stage_connect(tr_stage *s) {
    tr_stage_tell_and_run(s, &s->b, tr_stage_do_dial, NULL);
    CU_ASSERT_FATAL(s->a.link != NULL || s->a.stream != NULL);
    CU_ASSERT_FATAL(s->b.link != NULL || s->b.stream != NULL);
}

/* ---- messages ---- */

tr_msg *tr_stage_delta(uint32_t seq, size_t text_size) {
    static char text[TR_DELTA_TEXT_max];
    memset(text, 'a' + (int)(seq % 26), sizeof text);
    tr_delta head = {.seq = seq, .kind = TR_DELTA_TEXT};
    tr_delta_view view = {.text = {text, text_size}};
    return tr_msg_delta(&head, &view);
}

tr_msg *tr_stage_submit(size_t body_size) {
    tr_body *body = tr_body_new(body_size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    for (size_t i = 0; i < body_size; i++) {
        body->bytes[i] = (char)(i * 31 + i / 251);
    }
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 10, .credit_bytes = 100000};
    tr_submit_view view = {.target = {"model", 5}};
    return tr_msg_submit(&head, &view, body);
}

tr_msg *tr_stage_hello(void) {
    tr_hello head = {.magic = TR_HELLO_MAGIC,
                     .version_min = 1,
                     .version_max = 1,
                     .role = TR_ROLE_WORKER,
                     .sequences = 4};
    tr_hello_view view = {.software = {"test/1", 6}, .model = {"m", 1}};
    tr_msg *msg = tr_msg_new(TR_KIND_HELLO, tr_hello_size(&view));
    tr_hello_write(msg->data, &head, &view);
    return msg;
}

tr_msg *tr_stage_ping(uint16_t kind, uint64_t number) {
    tr_msg *msg = tr_msg_new(kind, sizeof(tr_ping));
    *(tr_ping *)(void *)msg->data = (tr_ping){.number = number};
    return msg;
}

tr_msg *tr_stage_welcome(void) {
    tr_welcome head = {.version = 1, .streams_max = 1, .frame_max = 100};
    tr_msg *msg = tr_msg_new(TR_KIND_WELCOME, tr_welcome_size((tr_str){"t", 1}));
    tr_welcome_write(msg->data, &head, (tr_str){"t", 1});
    return msg;
}

tr_msg *tr_stage_done(void) {
    tr_done head = {.finish = TR_FINISH_STOP, .attempts = 1};
    tr_end_view view = {.target = {"model", 5}};
    return tr_msg_done(&head, &view);
}

void tr_stage_do_drop(tr_self *self, tr_station *me, void *arg) {
    (void)self;
    (void)me;
    tr_to_send *out = arg;
    for (size_t i = 0; i < out->count; i++) {
        tr_msg_free(out->msgs[i]);
    }
}

void tr_stage_do_send(tr_self *self, tr_station *me, void *arg) {
    tr_to_send *out = arg;
    for (size_t i = 0; i < out->count; i++) {
        if (out->err == TR_OK) {
            out->err = me->link == NULL ? TR_ERR_CLOSED
                                        : tr_link_send(me->link, self, out->msgs[i], 1000 + i);
            out->sent += out->err == TR_OK;
        }
        tr_msg_free(out->msgs[i]);
    }
}

typedef struct bytes {
    tr_body *body;
    size_t size;
} bytes;

static void do_write(tr_self *self, tr_station *me, void *arg) {
    (void)self;
    bytes *out = arg;
    me->stream->transport->send(me->stream, out->body, out->size);
}

size_t tr_stage_frame(const tr_msg *msg, uint64_t ref, char *out) {
    tr_frame frame = {.kind = msg->kind,
                      .ref = ref,
                      .inline_size = msg->size,
                      .body_size = msg->body != NULL ? (uint32_t)msg->body->size : 0};
    tr_frame_encode(&frame, (uint8_t *)out);
    memcpy(out + TR_FRAME_HEADER_size, msg->data, msg->size);
    if (msg->body != NULL) {
        memcpy(out + TR_FRAME_HEADER_size + msg->size, msg->body->bytes, msg->body->size);
    }
    return tr_frame_size(&frame);
}

void tr_stage_raw_write(tr_stage *s, const void *data, size_t size) {
    bytes out = {.body = tr_body_new(size), .size = size};
    CU_ASSERT_PTR_NOT_NULL_FATAL(out.body);
    memcpy(out.body->bytes, data, size);
    tr_stage_tell_and_run(s, &s->b, do_write, &out);
    tr_body_unref(out.body);
}

void tr_stage_set_up_raw(tr_stage *s, uint64_t seed) {
    tr_stage_set_up(s, seed);
    s->b.raw = true;
    tr_stage_connect(s);
}
