/* Links over the real transport, between two actors on two shards, and against raw sockets. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "runtime/link.h"
#include "tests/lib/door_stage.h"

#define FRAMES 3000
#define IN_FLIGHT_max 200
#define PENDING_max (512UL * 1024)
#define LINKS_max 8

typedef struct talker {
    tr_doors_side *side; /* its probe and listener */
    tr_link *links[LINKS_max];
    uint32_t count;
    size_t out_max;
    bool echoes;
    uint32_t to_send; /* frames that the guest has yet to send */
    uint32_t next;    /* the number of the next one */
    uint32_t got;
    uint32_t wrong;
    uint32_t ended;
    tr_err end;
} talker;

/* The `i`th frame: small and large deltas, now and then a submit with a body. */
static tr_msg *frame_of(uint32_t i) {
    if (i % 500 == 499) {
        tr_body *body = tr_body_new(1000 + i * 300);
        memset(body->bytes, (int)(i % 251), body->size);
        tr_submit head = {.op = TR_OP_CHAT, .credit_messages = 1, .credit_bytes = TR_DELTA_max};
        tr_submit_view view = {.target = {"m", 1}};
        return tr_msg_submit(&head, &view, body);
    }
    static _Thread_local char text[TR_DELTA_TEXT_max];
    size_t size = i % 50 == 0 ? 30000 : i % 97;
    memset(text, 'a' + (int)(i % 26), size);
    tr_delta head = {.seq = i, .kind = TR_DELTA_TEXT};
    tr_delta_view view = {.text = {text, size}};
    return tr_msg_delta(&head, &view);
}

static bool same(const tr_msg *a, const tr_msg *b) {
    size_t body = a->body != NULL ? a->body->size : 0;
    return a->kind == b->kind && a->size == b->size && memcmp(a->data, b->data, a->size) == 0 &&
           body == (b->body != NULL ? b->body->size : 0) &&
           (body == 0 || memcmp(a->body->bytes, b->body->bytes, body) == 0);
}

static tr_err frame_came(tr_self *self, void *state, tr_msg **msg) {
    talker *t = state;
    if (t->echoes) {
        t->got++;
        return tr_link_send(t->links[0], self, *msg, (*msg)->ref);
    }
    tr_msg *expected = frame_of(t->got);
    t->wrong += (*msg)->ref != t->got || !same(*msg, expected);
    t->got++;
    tr_msg_free(expected);
    return TR_OK;
}

static void pump(tr_self *self, talker *t) {
    while (t->count > 0 && t->links[0] != NULL && t->next < t->to_send &&
           t->next - t->got < IN_FLIGHT_max && tr_link_pending(t->links[0]) < PENDING_max) {
        tr_msg *msg = frame_of(t->next);
        t->wrong += tr_link_send(t->links[0], self, msg, t->next) != TR_OK;
        t->next++;
        tr_msg_free(msg);
    }
}

static void opened(tr_self *self, talker *t, tr_msg *msg) {
    tr_stream *stream = tr_stream_take(msg);
    if (stream == NULL || t->count == LINKS_max) {
        t->ended++;
        return;
    }
    t->wrong += tr_link_new(self, stream, TR_FRAME_BODY_max, t->out_max, frame_came, t,
                            &t->links[t->count++]) != TR_OK;
}

static void on_message(tr_self *self, void *arg, tr_msg **msg) {
    talker *t = arg;
    if (*msg == NULL) {
        for (uint32_t i = 0; i < t->count; i++) {
            tr_link_free(t->links[i]);
        }
        if (t->side->listener != NULL) {
            t->side->transport->listener_close(t->side->listener);
        }
        return;
    }
    if ((*msg)->kind != TR_KIND_STREAM) {
        return;
    }
    const tr_stream_event *event = (const tr_stream_event *)(const void *)(*msg)->data;
    if (event->event == TR_STREAM_ACCEPTED || event->event == TR_STREAM_DIALED) {
        opened(self, t, *msg);
    }
    for (uint32_t i = 0; i < t->count; i++) { /* each ignores the others' events */
        tr_err err = t->links[i] != NULL ? tr_link_handle(t->links[i], self, *msg) : TR_OK;
        if (err != TR_OK) {
            tr_link_free(t->links[i]);
            t->links[i] = NULL;
            t->ended++;
            t->end = err;
        }
    }
    pump(self, t);
}

typedef struct stage {
    tr_doors_stage doors;
    talker host, guest;
} stage;

/* The doors' stage with talkers in place of its own actors. */
static void set_up(stage *s, const char *url) {
    memset(&s->host, 0, sizeof s->host);
    memset(&s->guest, 0, sizeof s->guest);
    tr_doors_set_up(&s->doors);
    s->host = (talker){.side = &s->doors.host, .out_max = 64UL << 20, .echoes = true};
    s->guest = (talker){.side = &s->doors.guest, .out_max = 64UL << 20, .to_send = FRAMES};
    tr_doors_take_over(&s->doors, on_message, &s->host, &s->guest);
    tr_doors_listening l = tr_doors_listen(&s->doors.host, url != NULL ? url : s->doors.url, NULL);
    CU_ASSERT_EQUAL_FATAL(l.err, TR_OK);
    snprintf(s->doors.url, sizeof s->doors.url, "%s", l.url);
}

static bool all_back(void *arg) {
    const talker *t = arg;
    return t->got >= t->to_send || t->ended > 0;
}

static bool has_ended(void *arg) {
    return ((const talker *)arg)->ended > 0;
}

static bool has_link(void *arg) {
    return ((const talker *)arg)->count > 0;
}

static bool got_some(void *arg) {
    return ((const talker *)arg)->got > 100;
}

static void round_trip(const char *url) {
    stage s;
    set_up(&s, url);
    CU_ASSERT_EQUAL(tr_doors_dial(&s.doors.guest, s.doors.url, NULL, 1), TR_OK);
    CU_ASSERT(tr_probe_await(s.doors.guest.probe, all_back, &s.guest));
    CU_ASSERT_EQUAL(s.guest.got, FRAMES);
    CU_ASSERT_EQUAL(s.guest.wrong, 0);
    CU_ASSERT_EQUAL(s.host.got, FRAMES);
    tr_doors_tear_down(&s.doors);
}

static void frames_go_round_over_ipc(void) {
    round_trip(NULL);
}

static void frames_go_round_over_tcp(void) {
    round_trip("tcp://127.0.0.1:0");
}

static void do_vanish(tr_self *self, void *arg) {
    (void)self;
    talker *t = arg;
    tr_link_free(t->links[0]);
    t->links[0] = NULL;
}

static void peer_that_vanishes_is_seen(void) {
    stage s;
    set_up(&s, NULL);
    s.guest.to_send = UINT32_MAX;
    CU_ASSERT_EQUAL(tr_doors_dial(&s.doors.guest, s.doors.url, NULL, 1), TR_OK);
    CU_ASSERT(tr_probe_await(s.doors.guest.probe, got_some, &s.guest));
    tr_probe_run(s.doors.guest.probe, do_vanish, &s.guest);
    CU_ASSERT(tr_probe_await(s.doors.host.probe, has_ended, &s.host));
    CU_ASSERT_EQUAL(s.host.end, TR_ERR_CLOSED);
    tr_doors_tear_down(&s.doors);
}

/* Writes it from a raw socket and waits for the link's end; then all is quiet. */
static tr_err end_after(const void *data, size_t size) {
    stage s;
    set_up(&s, NULL);
    int fd = tr_doors_raw_connect(s.doors.path);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
    CU_ASSERT(tr_probe_await(s.doors.host.probe, has_ended, &s.host));
    char byte;
    ssize_t got = recv(fd, &byte, 1, 0);
    CU_ASSERT(got <= 0); /* closed, or reset with what it had not read */
    close(fd);
    tr_doors_check_idle(&s.doors);
    tr_err end = s.host.end;
    tr_doors_tear_down(&s.doors);
    return end;
}

static void claim_of_one_gibibyte_ends_the_link(void) {
    uint8_t head[TR_FRAME_HEADER_size] = {0};
    uint32_t size = (1U << 30) + 20;
    memcpy(head, &size, 4);
    head[4] = TR_KIND_SUBMIT;
    head[16] = 44;
    CU_ASSERT_EQUAL(end_after(head, sizeof head), TR_ERR_TOO_LARGE);
}

static void garbage_ends_the_link(void) {
    char junk[5000];
    memset(junk, 0xf7, sizeof junk);
    tr_err end = end_after(junk, sizeof junk);
    CU_ASSERT(end == TR_ERR_PROTOCOL || end == TR_ERR_TOO_LARGE);
}

static bool host_got_one(void *arg) {
    return ((const talker *)arg)->got > 0;
}

static void frame_in_single_bytes_arrives(void) {
    stage s;
    set_up(&s, NULL);
    int fd = tr_doors_raw_connect(s.doors.path);
    CU_ASSERT_FATAL(fd >= 0);
    tr_msg *msg = frame_of(42);
    tr_frame frame = {.kind = msg->kind, .ref = 42, .inline_size = msg->size};
    uint8_t bytes[512];
    tr_frame_encode(&frame, bytes);
    memcpy(bytes + TR_FRAME_HEADER_size, msg->data, msg->size);
    size_t size = tr_frame_size(&frame);
    for (size_t i = 0; i < size; i++) {
        CU_ASSERT_EQUAL(send(fd, bytes + i, 1, MSG_NOSIGNAL), 1);
    }
    CU_ASSERT(tr_probe_await(s.doors.host.probe, host_got_one, &s.host));
    uint8_t back[512] = {0};
    size_t have = 0;
    while (have < size) {
        ssize_t got = recv(fd, back + have, size - have, 0);
        CU_ASSERT_FATAL(got > 0);
        have += (size_t)got;
    }
    CU_ASSERT_EQUAL(memcmp(bytes, back, size), 0);
    tr_msg_free(msg);
    close(fd);
    tr_doors_tear_down(&s.doors);
}

static void do_flood(tr_self *self, void *arg) {
    talker *t = arg;
    t->end = TR_OK;
    for (uint32_t i = 0; i < 1000 && t->end == TR_OK; i++) {
        tr_msg *msg = frame_of(0); /* 30,000 bytes */
        t->end = tr_link_send(t->links[0], self, msg, i);
        tr_msg_free(msg);
        t->wrong += tr_link_pending(t->links[0]) > t->out_max;
    }
}

static void peer_that_does_not_read_stalls_only_its_link(void) {
    stage s;
    set_up(&s, NULL);
    s.host.out_max = 4UL << 20;
    int fd = tr_doors_raw_connect(s.doors.path);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_FATAL(tr_probe_await(s.doors.host.probe, has_link, &s.host));
    tr_probe_run(s.doors.host.probe, do_flood, &s.host);
    CU_ASSERT_EQUAL(s.host.end, TR_ERR_STALLED);
    CU_ASSERT_EQUAL(s.host.wrong, 0);
    tr_doors_check_idle(&s.doors);
    close(fd);
    CU_ASSERT(tr_probe_await(s.doors.host.probe, has_ended, &s.host));
    tr_doors_tear_down(&s.doors);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"frames_go_round_over_ipc", frames_go_round_over_ipc},
        {"frames_go_round_over_tcp", frames_go_round_over_tcp},
        {"peer_that_vanishes_is_seen", peer_that_vanishes_is_seen},
        {"claim_of_one_gibibyte_ends_the_link", claim_of_one_gibibyte_ends_the_link},
        {"garbage_ends_the_link", garbage_ends_the_link},
        {"frame_in_single_bytes_arrives", frame_in_single_bytes_arrives},
        {"peer_that_does_not_read_stalls_only_its_link",
         peer_that_does_not_read_stalls_only_its_link},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"link_nng", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
