/* Links over the memory transport: a node that the test steps, two stations (actors with a link)
 * and raw peers that write bytes of the test's choice. The clock is the test's. */
#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "runtime/link.h"
#include "runtime/memory.h"
#include "runtime/node.h"
#include "runtime/shard.h"
#include "runtime/transport_memory.h"

#define FRAMES_max 256
#define URL "ipc:///stage"

/* ---- memory that counts and fails on demand ---- */

static size_t fail_at; /* the allocation that fails, counted from now; 0 = none */
static size_t largest; /* since it was last set to 0 */

static void *test_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    if (fail_at > 0 && --fail_at == 0) {
        return NULL;
    }
    largest = size > largest ? size : largest;
    return realloc(ptr, size);
}

static void test_release(void *arg, void *ptr) {
    (void)arg;
    free(ptr);
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

typedef struct frame_seen {
    uint16_t kind, flags;
    uint64_t ref;
    size_t size, body_size;
    uint32_t sum; /* of data and body */
} frame_seen;

typedef struct station {
    struct stage *stage;
    tr_id id;
    tr_listener *listener;
    tr_stream *stream; /* a raw station's */
    tr_link *link;
    bool raw;
    bool reads; /* a raw station hands its buffers back */
    bool dial_failed;
    size_t body_max;
    size_t out_max;
    tr_link_frame_fn *fn; /* NULL = note */
    tr_err end;           /* what tr_link_handle returned when it was not TR_OK */
    uint32_t count;
    frame_seen seen[FRAMES_max];
    uint32_t receives;
    size_t received; /* bytes */
    uint32_t closed;
    uint32_t sent;
    uint32_t refused;
} station;

typedef struct stage {
    tr_node *node;
    tr_memory_net *net;
    station a; /* listens */
    station b; /* dials */
    station c;
} stage;

enum { KIND_DO = 100 };

typedef void do_fn(tr_self *self, station *who, void *arg);

typedef struct order {
    do_fn *fn;
    void *arg;
} order;

typedef struct station_state {
    station *me;
} station_state;

static uint32_t sum_of(const void *data, size_t size, uint32_t sum) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ bytes[i]) * 16777619U;
    }
    return sum;
}

static uint32_t message_sum(const tr_msg *msg) {
    uint32_t sum = sum_of(msg->data, msg->size, 2166136261U);
    return msg->body != NULL ? sum_of(msg->body->bytes, msg->body->size, sum) : sum;
}

static tr_err note(tr_self *self, void *state, tr_msg **msg) {
    (void)self;
    station *me = state;
    CU_ASSERT_FATAL(me->count < FRAMES_max);
    me->seen[me->count++] = (frame_seen){.kind = (*msg)->kind,
                                         .flags = (*msg)->flags,
                                         .ref = (*msg)->ref,
                                         .size = (*msg)->size,
                                         .body_size = (*msg)->body != NULL ? (*msg)->body->size : 0,
                                         .sum = message_sum(*msg)};
    return TR_OK;
}

static void station_attach(tr_self *self, station *me, tr_stream *stream) {
    if (me->raw) {
        me->stream = stream;
        stream->transport->attach(stream, self);
        return;
    }
    tr_err err = tr_link_new(self, stream, me->body_max, me->out_max,
                             me->fn != NULL ? me->fn : note, me, &me->link);
    me->end = err;
}

static void raw_event(station *me, const tr_stream_event *event) {
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
    station *me = ((station_state *)state)->me;
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
            if (err != TR_DONE) {
                tr_link_free(me->link);
            }
            me->link = NULL;
        }
    }
    return TR_OK;
}

static tr_err station_init(tr_self *self, void *state, const void *args) {
    station *me = *(station *const *)args;
    ((station_state *)state)->me = me;
    me->id = tr_self_id(self);
    return TR_OK;
}

static void station_stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    station *me = ((station_state *)state)->me;
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

/* Steps shards and streams until nothing more can happen, letting time pass where it must. */
static void run(stage *s) {
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

static void tell(stage *s, station *who, do_fn *fn, void *arg) {
    size_t fails = fail_at;
    fail_at = 0;
    tr_msg *msg = tr_msg_new(KIND_DO, sizeof(order));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(order *)(void *)msg->data = (order){.fn = fn, .arg = arg};
    tr_post(s->node, who->id, msg);
    fail_at = fails;
}

static void tell_and_run(stage *s, station *who, do_fn *fn, void *arg) {
    tell(s, who, fn, arg);
    run(s);
}

static void do_listen(tr_self *self, station *me, void *arg) {
    (void)arg;
    char why[128];
    tr_transport *transport = tr_memory_net_transport(me->stage->net);
    tr_listen_spec spec = {.url = URL};
    CU_ASSERT_EQUAL(transport->listen(transport, self, &spec, &me->listener, why, sizeof why),
                    TR_OK);
}

static void do_dial(tr_self *self, station *me, void *arg) {
    (void)arg;
    tr_transport *transport = tr_memory_net_transport(me->stage->net);
    tr_dial_spec spec = {.url = URL};
    CU_ASSERT_EQUAL(transport->dial(transport, self, &spec), TR_OK);
}

static void start_station(stage *s, station *who, uint32_t shard) {
    who->stage = s;
    who->body_max = TR_FRAME_BODY_max;
    who->out_max = 1UL << 26;
    who->reads = true;
    tr_spawn_spec spec = {
        .behaviour = &station_behaviour, .args = &who, .args_size = sizeof(station *)};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(s->node, shard, &spec), TR_OK);
    run(s);
}

static void set_up(stage *s, uint64_t seed) {
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
    tell_and_run(s, &s->a, do_listen, NULL);
}

static void tear_down(stage *s) {
    tr_node_free(s->node);
    tr_memory_net_free(s->net); /* asserts that no stream is left */
}

static void connect_them(stage *s) {
    tell_and_run(s, &s->b, do_dial, NULL);
    CU_ASSERT_FATAL(s->a.link != NULL || s->a.stream != NULL);
    CU_ASSERT_FATAL(s->b.link != NULL || s->b.stream != NULL);
}

/* ---- messages ---- */

static tr_msg *delta(uint32_t seq, size_t text_size) {
    static char text[TR_DELTA_TEXT_max];
    memset(text, 'a' + (int)(seq % 26), sizeof text);
    tr_delta head = {.seq = seq, .kind = TR_DELTA_TEXT};
    tr_delta_view view = {.text = {text, text_size}};
    return tr_msg_delta(&head, &view);
}

static tr_msg *submit(size_t body_size) {
    tr_body *body = tr_body_new(body_size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    for (size_t i = 0; i < body_size; i++) {
        body->bytes[i] = (char)(i * 31 + i / 251);
    }
    tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 10, .credit_bytes = 100000};
    tr_submit_view view = {.target = {"model", 5}};
    return tr_msg_submit(&head, &view, body);
}

static tr_msg *hello(void) {
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

static tr_msg *ping(uint16_t kind, uint64_t number) {
    tr_msg *msg = tr_msg_new(kind, sizeof(tr_ping));
    *(tr_ping *)(void *)msg->data = (tr_ping){.number = number};
    return msg;
}

static tr_msg *welcome(void) {
    tr_welcome head = {.version = 1, .streams_max = 1, .frame_max = 100};
    tr_msg *msg = tr_msg_new(TR_KIND_WELCOME, tr_welcome_size((tr_str){"t", 1}));
    tr_welcome_write(msg->data, &head, (tr_str){"t", 1});
    return msg;
}

static tr_msg *done(void) {
    tr_done head = {.finish = TR_FINISH_STOP, .attempts = 1};
    tr_end_view view = {.target = {"model", 5}};
    return tr_msg_done(&head, &view);
}

typedef struct to_send {
    tr_msg *msgs[128];
    size_t count;
    tr_err err; /* of the first that was refused */
    size_t sent;
} to_send;

/* Sends them all in one handler; frees them. Refs count from 1000. */
static void do_send(tr_self *self, station *me, void *arg) {
    to_send *out = arg;
    for (size_t i = 0; i < out->count; i++) {
        if (out->err == TR_OK) {
            out->err = tr_link_send(me->link, self, out->msgs[i], 1000 + i);
            out->sent += out->err == TR_OK;
        }
        tr_msg_free(out->msgs[i]);
    }
}

typedef struct bytes {
    tr_body *body;
    size_t size;
} bytes;

static void do_write(tr_self *self, station *me, void *arg) {
    (void)self;
    bytes *out = arg;
    me->stream->transport->send(me->stream, out->body, out->size);
}

/* One frame as bytes; returns its size. */
static size_t frame_bytes(const tr_msg *msg, uint64_t ref, char *out) {
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

static void raw_write(stage *s, const void *data, size_t size) {
    bytes out = {.body = tr_body_new(size), .size = size};
    CU_ASSERT_PTR_NOT_NULL_FATAL(out.body);
    memcpy(out.body->bytes, data, size);
    tell_and_run(s, &s->b, do_write, &out);
    tr_body_unref(out.body);
}

/* A raw peer at b against a link at a. */
static void set_up_raw(stage *s, uint64_t seed) {
    set_up(s, seed);
    s->b.raw = true;
    connect_them(s);
}

/* ---- claims: whole frames ---- */

static void every_kind_arrives_as_sent(void) {
    stage s;
    set_up(&s, 1);
    connect_them(&s);
    to_send out = {.msgs = {hello(), welcome(), submit(100), delta(0, 64), tr_msg_credit(3, 300),
                            done(), tr_msg_failf(TR_ERR_TIMEOUT, "too late"),
                            tr_msg_cancel(TR_ERR_CANCELLED), ping(TR_KIND_PING, 7),
                            ping(TR_KIND_PONG, 7), submit(1UL << 20)},
                   .count = 11};
    uint16_t kinds[11];
    uint32_t sums[11];
    for (size_t i = 0; i < out.count; i++) {
        kinds[i] = out.msgs[i]->kind;
        sums[i] = message_sum(out.msgs[i]);
    }
    tell_and_run(&s, &s.b, do_send, &out);
    CU_ASSERT_EQUAL(out.err, TR_OK);
    CU_ASSERT_EQUAL_FATAL(s.a.count, out.count);
    for (size_t i = 0; i < out.count; i++) {
        CU_ASSERT_EQUAL(s.a.seen[i].kind, kinds[i]);
        CU_ASSERT_EQUAL(s.a.seen[i].ref, 1000 + i);
        CU_ASSERT_EQUAL(s.a.seen[i].sum, sums[i]);
        CU_ASSERT_EQUAL(s.a.seen[i].flags, kinds[i] == TR_KIND_SUBMIT ? TR_MSG_OPENING : 0);
    }
    CU_ASSERT_EQUAL(tr_link_pending(s.b.link), 0);
    tear_down(&s);
}

static void frames_of_one_step_leave_together(void) {
    stage s;
    set_up(&s, 2);
    s.a.raw = true;
    connect_them(&s);
    to_send out = {.count = 100};
    size_t expected = 0;
    for (uint32_t i = 0; i < 100; i++) {
        out.msgs[i] = delta(i, 64);
        expected += TR_FRAME_HEADER_size + out.msgs[i]->size;
    }
    tell_and_run(&s, &s.b, do_send, &out);
    CU_ASSERT_EQUAL(s.a.receives, 1);
    CU_ASSERT_EQUAL(s.a.received, expected);
    tear_down(&s);
}

static void frames_split_at_every_offset_arrive(void) {
    stage s;
    set_up_raw(&s, 3);
    char all[1024];
    tr_msg *msgs[] = {submit(57), delta(1, 33), ping(TR_KIND_PING, 5)};
    uint32_t sums[3];
    size_t size = 0;
    for (size_t i = 0; i < 3; i++) {
        sums[i] = message_sum(msgs[i]);
        size += frame_bytes(msgs[i], i, all + size);
        tr_msg_free(msgs[i]);
    }
    for (size_t at = 1; at < size; at++) {
        s.a.count = 0;
        raw_write(&s, all, at);
        raw_write(&s, all + at, size - at);
        CU_ASSERT_EQUAL_FATAL(s.a.count, 3);
        for (size_t i = 0; i < 3; i++) {
            CU_ASSERT_EQUAL(s.a.seen[i].sum, sums[i]);
            CU_ASSERT_EQUAL(s.a.seen[i].ref, i);
        }
    }
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    tear_down(&s);
}

static void frames_arrive_through_every_fault_of_delivery(void) {
    for (uint64_t seed = 1; seed <= 30; seed++) {
        stage s;
        set_up(&s, seed);
        tr_memory_faults faults = {.delay_max_us = 5000,
                                   .split_max = seed % 3 == 0 ? 1 : 100 * (uint32_t)seed};
        tr_memory_net_set_faults(s.net, &faults);
        connect_them(&s);
        to_send out = {.count = 40};
        uint32_t sums[40];
        for (uint32_t i = 0; i < 40; i++) {
            out.msgs[i] = i % 10 == 9 ? submit(3000) : delta(i, i * 7);
            sums[i] = message_sum(out.msgs[i]);
        }
        tell_and_run(&s, &s.b, do_send, &out);
        CU_ASSERT_EQUAL_FATAL(s.a.count, 40);
        for (uint32_t i = 0; i < 40; i++) {
            CU_ASSERT_EQUAL(s.a.seen[i].sum, sums[i]);
        }
        tear_down(&s);
    }
}

static void both_ways_at_once(void) {
    stage s;
    set_up(&s, 5);
    connect_them(&s);
    to_send there = {.count = 50};
    to_send back = {.count = 50};
    for (uint32_t i = 0; i < 50; i++) {
        there.msgs[i] = delta(i, 30000);
        back.msgs[i] = delta(i, 20000);
    }
    tell(&s, &s.a, do_send, &back);
    tell_and_run(&s, &s.b, do_send, &there);
    CU_ASSERT_EQUAL(s.a.count, 50);
    CU_ASSERT_EQUAL(s.b.count, 50);
    tear_down(&s);
}

/* ---- claims: bad input ---- */

static void claim_of_one_gibibyte_is_refused(void) {
    stage s;
    set_up_raw(&s, 6);
    uint8_t head[TR_FRAME_HEADER_size] = {0};
    uint32_t size = (1U << 30) + 20;
    memcpy(head, &size, 4);
    head[4] = TR_KIND_SUBMIT;
    head[16] = 44;
    largest = 0;
    raw_write(&s, head, sizeof head);
    CU_ASSERT(s.a.end == TR_ERR_TOO_LARGE || s.a.end == TR_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(s.b.closed, 1);
    CU_ASSERT(largest < 4096);
    tear_down(&s);
}

static void claim_alone_takes_no_memory(void) {
    stage s;
    set_up_raw(&s, 7);
    tr_frame frame = {.kind = TR_KIND_SUBMIT, .inline_size = 49, .body_size = TR_FRAME_BODY_max};
    uint8_t head[TR_FRAME_HEADER_size];
    tr_frame_encode(&frame, head);
    largest = 0;
    raw_write(&s, head, sizeof head);
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    CU_ASSERT(largest <= 66 * 1024);
    tear_down(&s);
}

static void garbage_ends_the_link_and_nothing_else(void) {
    uint32_t ended = 0;
    for (uint32_t seed = 1; seed <= 200; seed++) {
        stage s;
        set_up_raw(&s, seed);
        uint8_t junk[600];
        uint32_t x = seed * 2654435761U;
        for (size_t i = 0; i < sizeof junk; i++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            junk[i] = (uint8_t)x;
            if (seed % 2 == 0 && i % 24 < 4 && i % 24 > 0) {
                junk[i] = 0; /* small sizes get further */
            }
        }
        raw_write(&s, junk, sizeof junk);
        CU_ASSERT(s.a.end == TR_OK || s.a.end == TR_ERR_TOO_LARGE || s.a.end == TR_ERR_PROTOCOL);
        ended += s.a.end != TR_OK;
        tear_down(&s);
    }
    CU_ASSERT(ended > 150);
}

static void unknown_kinds_are_skipped(void) {
    stage s;
    set_up_raw(&s, 8);
    uint16_t kinds[] = {0, 7, 31, TR_KIND_STREAM, TR_KIND_HANDOVER, 200, 0xff00};
    char all[4096];
    size_t size = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        tr_frame frame = {.kind = kinds[i], .inline_size = (uint32_t)(i * 10)};
        tr_frame_encode(&frame, (uint8_t *)all + size);
        memset(all + size + TR_FRAME_HEADER_size, 0xff, i * 10);
        size += tr_frame_size(&frame);
    }
    tr_msg *last = ping(TR_KIND_PING, 9);
    size += frame_bytes(last, 77, all + size);
    tr_msg_free(last);
    raw_write(&s, all, size);
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    CU_ASSERT_EQUAL_FATAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.seen[0].ref, 77);
    tear_down(&s);
}

static void peer_cannot_set_the_runtimes_flags(void) {
    stage s;
    set_up_raw(&s, 9);
    char all[256];
    tr_msg *msg = ping(TR_KIND_PING, 1);
    size_t size = frame_bytes(msg, 1, all);
    tr_msg_free(msg);
    all[6] = (char)0x05;
    all[7] = (char)0xff;
    raw_write(&s, all, size);
    CU_ASSERT_EQUAL_FATAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.seen[0].flags, 5);
    tear_down(&s);
}

static void broken_inline_part_ends_the_link(void) {
    stage s;
    set_up_raw(&s, 10);
    char all[512];
    tr_msg *msg = delta(0, 64);
    size_t size = frame_bytes(msg, 1, all);
    tr_msg_free(msg);
    uint32_t lie = 65;
    memcpy(all + TR_FRAME_HEADER_size + offsetof(tr_delta, text_size), &lie, 4);
    raw_write(&s, all, size);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(s.a.count, 0);
    CU_ASSERT_EQUAL(s.b.closed, 1);
    tear_down(&s);
}

static void do_allow_bodies(tr_self *self, station *me, void *arg) {
    (void)self;
    tr_link_set_body_max(me->link, *(size_t *)arg);
}

static void bodies_wait_until_they_are_allowed(void) {
    for (int allowed = 0; allowed < 2; allowed++) {
        stage s;
        set_up(&s, 11);
        s.a.body_max = 0;
        connect_them(&s);
        size_t max = 1000;
        if (allowed) {
            tell_and_run(&s, &s.a, do_allow_bodies, &max);
        }
        to_send out = {.msgs = {submit(1000)}, .count = 1};
        tell_and_run(&s, &s.b, do_send, &out);
        CU_ASSERT_EQUAL(s.a.count, allowed ? 1 : 0);
        CU_ASSERT_EQUAL(s.a.end, allowed ? TR_OK : TR_ERR_TOO_LARGE);
        tear_down(&s);
    }
}

/* ---- claims: ends ---- */

static void peer_that_vanishes_inside_a_frame_is_seen(void) {
    stage s;
    set_up_raw(&s, 12);
    char all[512];
    tr_msg *msg = delta(0, 64);
    size_t size = frame_bytes(msg, 1, all);
    tr_msg_free(msg);
    raw_write(&s, all, size);
    raw_write(&s, all, size / 2);
    CU_ASSERT_EQUAL(s.a.count, 1);
    CU_ASSERT(tr_memory_net_cut(s.net, 0));
    run(&s);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(s.b.closed, 1);
    CU_ASSERT_FALSE(tr_memory_net_cut(s.net, 0));
    tear_down(&s);
}

static void half_open_peer_is_not_told_of(void) {
    stage s;
    set_up(&s, 13);
    connect_them(&s);
    CU_ASSERT(tr_memory_net_half_open(s.net, 0));
    to_send out = {.msgs = {delta(0, 64)}, .count = 1};
    tell_and_run(&s, &s.b, do_send, &out);
    CU_ASSERT_EQUAL(out.err, TR_OK);
    CU_ASSERT_EQUAL(s.a.count, 0);
    CU_ASSERT_EQUAL(s.a.end, TR_OK);
    CU_ASSERT_EQUAL(s.b.end, TR_OK);
    tear_down(&s);
}

static void nobody_listens_is_said(void) {
    stage s;
    set_up(&s, 14);
    tr_memory_faults faults = {.refused_per_million = 1000000};
    tr_memory_net_set_faults(s.net, &faults);
    tell_and_run(&s, &s.b, do_dial, NULL);
    CU_ASSERT(s.b.dial_failed);
    CU_ASSERT_PTR_NULL(s.b.link);
    tear_down(&s);
}

static void peer_that_does_not_read_stalls_the_link(void) {
    stage s;
    set_up(&s, 15);
    s.a.raw = true;
    s.a.reads = false;
    s.b.out_max = 1UL << 20;
    connect_them(&s);
    size_t sent = 0;
    tr_err err = TR_OK;
    for (int turn = 0; turn < 100 && err == TR_OK; turn++) {
        to_send out = {.count = 10};
        for (uint32_t i = 0; i < 10; i++) {
            out.msgs[i] = delta(i, 30000);
        }
        tell_and_run(&s, &s.b, do_send, &out);
        sent += out.sent;
        err = out.err;
        CU_ASSERT(tr_link_pending(s.b.link) <= s.b.out_max);
    }
    CU_ASSERT_EQUAL(err, TR_ERR_STALLED);
    CU_ASSERT(sent * 30000 > (1UL << 20)); /* the window and what waits */
    CU_ASSERT(tr_link_pending(s.b.link) > s.b.out_max - 31000);
    tear_down(&s);
}

static void do_finish(tr_self *self, station *me, void *arg) {
    if (arg != NULL) {
        do_send(self, me, arg);
    }
    tr_link_finish(me->link, self);
    tr_link_finish(me->link, self);
}

static void finish_lets_what_is_queued_go_out(void) {
    stage s;
    set_up(&s, 16);
    connect_them(&s);
    to_send out = {.count = 60};
    for (uint32_t i = 0; i < 60; i++) {
        out.msgs[i] = delta(i, 20000);
    }
    tell_and_run(&s, &s.b, do_finish, &out);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(s.a.count, 60);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_CLOSED);
    tear_down(&s);
}

static void finish_of_a_quiet_link_ends_it(void) {
    stage s;
    set_up(&s, 17);
    connect_them(&s);
    tell_and_run(&s, &s.b, do_finish, NULL);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_CLOSED);
    tear_down(&s);
}

static tr_err refuse(tr_self *self, void *state, tr_msg **msg) {
    tr_err err = note(self, state, msg);
    (void)err;
    return TR_ERR_AUTH;
}

static void error_of_the_owner_closes(void) {
    stage s;
    set_up(&s, 18);
    s.a.fn = refuse;
    connect_them(&s);
    to_send out = {.msgs = {delta(0, 1), delta(1, 1)}, .count = 2};
    tell_and_run(&s, &s.b, do_send, &out);
    CU_ASSERT_EQUAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.end, TR_ERR_AUTH);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    tear_down(&s);
}

static tr_err free_it(tr_self *self, void *state, tr_msg **msg) {
    tr_err err = note(self, state, msg);
    tr_link_free(((station *)state)->link);
    return err;
}

static void owner_may_free_the_link_inside_a_frame(void) {
    stage s;
    set_up(&s, 19);
    s.a.fn = free_it;
    connect_them(&s);
    to_send out = {.msgs = {delta(0, 1), delta(1, 1)}, .count = 2};
    tell_and_run(&s, &s.b, do_send, &out);
    CU_ASSERT_EQUAL(s.a.count, 1);
    CU_ASSERT_EQUAL(s.a.end, TR_DONE);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    tear_down(&s);
}

/* ---- claims: the handover ---- */

static tr_err hand_over(tr_self *self, void *state, tr_msg **msg) {
    station *me = state;
    tr_err err = note(self, state, msg);
    if ((*msg)->kind != TR_KIND_HELLO) {
        return err;
    }
    tr_stream *stream = tr_link_detach(me->link);
    if (stream == NULL) {
        me->refused++;
        return TR_OK;
    }
    tr_msg *handover =
        tr_handover_new(stream, (const tr_hello *)(const void *)(*msg)->data, (*msg)->size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(handover);
    CU_ASSERT_EQUAL(tr_send(self, me->stage->c.id, &handover), TR_OK);
    return TR_OK;
}

static void handed_over_stream_goes_on_at_its_new_owner(void) {
    stage s;
    set_up(&s, 20);
    s.a.fn = hand_over;
    connect_them(&s);
    to_send first = {.msgs = {hello()}, .count = 1};
    tell_and_run(&s, &s.b, do_send, &first);
    CU_ASSERT_EQUAL(s.a.end, TR_DONE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s.c.link);
    to_send there = {.msgs = {ping(TR_KIND_PONG, 1), delta(0, 5)}, .count = 2};
    tell_and_run(&s, &s.b, do_send, &there);
    CU_ASSERT_EQUAL(s.c.count, 2);
    to_send back = {.msgs = {welcome(), submit(500)}, .count = 2};
    tell_and_run(&s, &s.c, do_send, &back);
    CU_ASSERT_EQUAL(s.b.count, 2);
    CU_ASSERT_EQUAL(s.a.count, 1);
    tear_down(&s);
}

static void what_follows_the_hello_at_once_refuses_a_handover(void) {
    stage s;
    set_up(&s, 21);
    s.a.fn = hand_over;
    connect_them(&s);
    to_send out = {.msgs = {hello(), ping(TR_KIND_PONG, 1)}, .count = 2};
    tell_and_run(&s, &s.b, do_send, &out);
    CU_ASSERT_EQUAL(s.a.refused, 1);
    CU_ASSERT_EQUAL(s.a.count, 2);
    CU_ASSERT_PTR_NOT_NULL(s.a.link);
    tear_down(&s);
}

static void handover_that_nobody_takes_closes_the_stream(void) {
    stage s;
    set_up(&s, 22);
    s.a.fn = hand_over;
    s.c.refused = 1;
    connect_them(&s);
    to_send out = {.msgs = {hello()}, .count = 1};
    tell_and_run(&s, &s.b, do_send, &out);
    CU_ASSERT_EQUAL(s.a.end, TR_DONE);
    CU_ASSERT_EQUAL(s.b.end, TR_ERR_CLOSED);
    tear_down(&s);
}

static void do_detach(tr_self *self, station *me, void *arg) {
    (void)arg;
    tr_stream *stream = tr_link_detach(me->link);
    CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
    me->link = NULL;
    tr_hello nothing = {.magic = TR_HELLO_MAGIC, .version_min = 1, .version_max = 1, .role = 2};
    tr_msg *handover = tr_handover_new(stream, &nothing, sizeof nothing);
    CU_ASSERT_EQUAL(tr_send(self, me->stage->c.id, &handover), TR_OK);
}

/* Frames wait in the old owner's mailbox or in the transport when it lets go: none is lost. */
static void nothing_is_lost_while_a_stream_changes_hands(void) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        stage s;
        set_up(&s, seed);
        connect_them(&s);
        to_send out = {.count = 3};
        for (uint32_t i = 0; i < 3; i++) {
            out.msgs[i] = delta(i, 100);
        }
        tell(&s, &s.b, do_send, &out);
        for (uint64_t i = 0; i < seed % 5; i++) { /* some way towards a's mailbox */
            tr_shard_step(tr_node_shard(s.node, 1), 1000);
            tr_memory_net_step(s.net, clock_us);
        }
        tell_and_run(&s, &s.a, do_detach, NULL);
        CU_ASSERT_EQUAL(s.a.count + s.c.count, 3);
        to_send more = {.msgs = {delta(3, 9)}, .count = 1};
        tell_and_run(&s, &s.b, do_send, &more);
        CU_ASSERT_EQUAL(s.a.count + s.c.count, 4);
        CU_ASSERT(s.c.count > 0);
        tear_down(&s);
    }
}

/* ---- claims: memory ---- */

static void failing_allocation_loses_a_link_at_most(void) {
    bool whole = false;
    for (size_t nth = 1; !whole; nth++) {
        CU_ASSERT_FATAL(nth < 500);
        stage s;
        set_up(&s, nth);
        connect_them(&s);
        to_send out = {.msgs = {submit(90000), delta(0, 64), delta(1, 64)}, .count = 3};
        tell(&s, &s.b, do_send, &out);
        fail_at = nth;
        run(&s);
        whole = fail_at > 0; /* the run needed fewer */
        fail_at = 0;
        run(&s);
        if (whole) {
            CU_ASSERT_EQUAL(s.a.count, 3);
        } else if (out.err == TR_OK) {
            /* It went through all the same, or somebody was told. */
            CU_ASSERT(s.a.count == 3 || s.a.end != TR_OK || s.b.end != TR_OK);
        } else {
            CU_ASSERT_EQUAL(out.err, TR_ERR_NOMEM);
        }
        tear_down(&s);
    }
}

int main(void) {
    tr_memory table = {.resize = test_resize, .release = test_release};
    tr_memory_set(&table);
    CU_TestInfo tests[] = {
        {"every_kind_arrives_as_sent", every_kind_arrives_as_sent},
        {"frames_of_one_step_leave_together", frames_of_one_step_leave_together},
        {"frames_split_at_every_offset_arrive", frames_split_at_every_offset_arrive},
        {"frames_arrive_through_every_fault_of_delivery",
         frames_arrive_through_every_fault_of_delivery},
        {"both_ways_at_once", both_ways_at_once},
        {"claim_of_one_gibibyte_is_refused", claim_of_one_gibibyte_is_refused},
        {"claim_alone_takes_no_memory", claim_alone_takes_no_memory},
        {"garbage_ends_the_link_and_nothing_else", garbage_ends_the_link_and_nothing_else},
        {"unknown_kinds_are_skipped", unknown_kinds_are_skipped},
        {"peer_cannot_set_the_runtimes_flags", peer_cannot_set_the_runtimes_flags},
        {"broken_inline_part_ends_the_link", broken_inline_part_ends_the_link},
        {"bodies_wait_until_they_are_allowed", bodies_wait_until_they_are_allowed},
        {"peer_that_vanishes_inside_a_frame_is_seen", peer_that_vanishes_inside_a_frame_is_seen},
        {"half_open_peer_is_not_told_of", half_open_peer_is_not_told_of},
        {"nobody_listens_is_said", nobody_listens_is_said},
        {"peer_that_does_not_read_stalls_the_link", peer_that_does_not_read_stalls_the_link},
        {"finish_lets_what_is_queued_go_out", finish_lets_what_is_queued_go_out},
        {"finish_of_a_quiet_link_ends_it", finish_of_a_quiet_link_ends_it},
        {"error_of_the_owner_closes", error_of_the_owner_closes},
        {"owner_may_free_the_link_inside_a_frame", owner_may_free_the_link_inside_a_frame},
        {"handed_over_stream_goes_on_at_its_new_owner",
         handed_over_stream_goes_on_at_its_new_owner},
        {"what_follows_the_hello_at_once_refuses_a_handover",
         what_follows_the_hello_at_once_refuses_a_handover},
        {"handover_that_nobody_takes_closes_the_stream",
         handover_that_nobody_takes_closes_the_stream},
        {"nothing_is_lost_while_a_stream_changes_hands",
         nothing_is_lost_while_a_stream_changes_hands},
        {"failing_allocation_loses_a_link_at_most", failing_allocation_loses_a_link_at_most},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"link", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
