/* See door_stage.h. */
#include "tests/lib/door_stage.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define IDLE_MS 2000
#define IDLE_CPU_US (IDLE_MS * 10) /* 1 % */

/* ---- the stage ---- */

static uint32_t sum_of(const void *data, size_t size, uint32_t sum) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ bytes[i]) * 16777619U;
    }
    return sum;
}

static tr_doors_end *end_of(tr_doors_side *s, const tr_stream *stream) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->ends[i].stream == stream) {
            return &s->ends[i];
        }
    }
    return NULL;
}

static void close_end(tr_doors_end *e) {
    if (e->stream != NULL) {
        e->stream->transport->close(e->stream);
        e->stream = NULL;
    }
    tr_body_unref(e->body);
    e->body = NULL;
}

static void close_side(tr_doors_side *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        close_end(&s->ends[i]);
    }
    if (s->listener != NULL) {
        s->transport->listener_close(s->listener);
        s->listener = NULL;
    }
}

static void add_stream(tr_self *self, tr_doors_side *s, tr_msg *msg) {
    const tr_stream_event *event = (const tr_stream_event *)(const void *)msg->data;
    if (event->stream == NULL) {
        s->failed++;
        s->dial_err = event->err;
        return;
    }
    s->opened++;
    if (s->deaf || s->count == TR_DOORS_STREAMS_max) {
        return;
    }
    tr_doors_end *e = &s->ends[s->count++];
    e->stream = tr_stream_take(msg);
    e->sum = 2166136261U;
    e->stream->transport->attach(e->stream, self);
}

static void on_received(tr_doors_side *s, tr_doors_end *e, const tr_stream_event *event) {
    e->received += event->size;
    e->sum = sum_of(event->data, event->size, e->sum);
    if (s->echoes) { /* and hands the buffer back when its answer has gone */
        e->body = tr_body_new(event->size);
        memcpy(e->body->bytes, event->data, event->size);
        e->stream->transport->send(e->stream, e->body, event->size);
    } else {
        e->stream->transport->received(e->stream);
    }
}

static void on_message(tr_self *self, void *arg, tr_msg **msg) {
    tr_doors_side *s = arg;
    if (*msg == NULL) {
        close_side(s);
        return;
    }
    if ((*msg)->kind != TR_KIND_STREAM) {
        return;
    }
    const tr_stream_event *event = (const tr_stream_event *)(const void *)(*msg)->data;
    if (event->event == TR_STREAM_ACCEPTED || event->event == TR_STREAM_DIALED) {
        add_stream(self, s, *msg);
        return;
    }
    tr_doors_end *e = end_of(s, event->stream);
    if (e == NULL) {
        return; /* closed meanwhile */
    }
    switch (event->event) {
    case TR_STREAM_RECEIVED:
        on_received(s, e, event);
        break;
    case TR_STREAM_SENT:
        e->sent++;
        tr_body_unref(e->body);
        e->body = NULL;
        if (s->echoes) {
            e->stream->transport->received(e->stream);
        }
        break;
    case TR_STREAM_CLOSED:
        e->closed = true;
        s->gone++;
        close_end(e);
        break;
    case TR_STREAM_ACCEPTED:
    case TR_STREAM_DIALED:
        break;
    }
}

static void do_listen(tr_self *self, void *arg) {
    tr_doors_listening *l = arg;
    l->err = l->s->transport->listen(l->s->transport, self, &l->spec, &l->s->listener, l->why,
                                     sizeof l->why);
    if (l->err == TR_OK) {
        l->s->transport->listener_url(l->s->listener, l->url, sizeof l->url);
    }
}

void tr_doors_do_unlisten(tr_self *self, void *arg) {
    (void)self;
    tr_doors_side *s = arg;
    s->transport->listener_close(s->listener);
    s->listener = NULL;
}

typedef struct dialing {
    tr_doors_side *s;
    const char *url;
    const char *ca_file;
    uint32_t count;
    tr_err err;
} dialing;

static void do_dial(tr_self *self, void *arg) {
    dialing *d = arg;
    for (uint32_t i = 0; i < d->count && d->err == TR_OK; i++) {
        tr_dial_spec spec = {.url = d->url, .ca_file = d->ca_file, .ref = i};
        d->err = d->s->transport->dial(d->s->transport, self, &spec);
    }
}

tr_err tr_doors_dial(tr_doors_side *s, const char *url, const char *ca_file, uint32_t count) {
    dialing d = {.s = s, .url = url, .ca_file = ca_file, .count = count};
    tr_probe_run(s->probe, do_dial, &d);
    return d.err;
}

typedef struct sending {
    tr_doors_side *s;
    uint32_t from, to; /* ends */
    size_t size;
} sending;

static void do_send(tr_self *self, void *arg) {
    (void)self;
    sending *out = arg;
    for (uint32_t i = out->from; i < out->to; i++) {
        tr_doors_end *e = &out->s->ends[i];
        e->body = tr_body_new(out->size);
        memset(e->body->bytes, (int)('a' + i % 26), out->size);
        e->stream->transport->send(e->stream, e->body, out->size);
    }
}

void tr_doors_send(tr_doors_side *s, uint32_t from, uint32_t to, size_t size) {
    sending out = {.s = s, .from = from, .to = to, .size = size};
    tr_probe_run(s->probe, do_send, &out);
}

void tr_doors_do_close_all(tr_self *self, void *arg) {
    (void)self;
    tr_doors_side *s = arg;
    for (uint32_t i = 0; i < s->count; i++) {
        close_end(&s->ends[i]);
    }
}

bool tr_doors_opened(void *arg) {
    tr_doors_side *s = arg;
    return s->opened + s->failed >= s->awaited;
}

bool tr_doors_gone(void *arg) {
    tr_doors_side *s = arg;
    return s->gone >= s->awaited;
}

bool tr_doors_received(void *arg) {
    tr_doors_side *s = arg;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->ends[i].received < s->awaited && !s->ends[i].closed) {
            return false;
        }
    }
    return s->count > 0;
}

bool tr_doors_sent(void *arg) {
    return ((tr_doors_side *)arg)->ends[0].sent > 0;
}

bool tr_doors_await(tr_doors_side *s, bool (*met)(void *arg), uint32_t number) {
    s->awaited = number; /* only the test thread writes it, between waits */
    return tr_probe_await(s->probe, met, s);
}

void tr_doors_set_up(tr_doors_stage *s) {
    memset(s, 0, sizeof *s);
    snprintf(s->folder, sizeof s->folder, "/tmp/troupe-test-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->folder));
    snprintf(s->path, sizeof s->path, "%s/run/daemon", s->folder);
    snprintf(s->url, sizeof s->url, "ipc://%s", s->path);
    s->host.transport = s->guest.transport = tr_transport_nng();
    s->host.echoes = true;
    tr_node_spec spec = {.shards = 2, .platform = {.transport = tr_transport_nng()}};
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &s->node), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_node_start(s->node), TR_OK);
    s->host.probe = tr_probe_new(s->node, 0, on_message, &s->host);
    s->guest.probe = tr_probe_new(s->node, 1, on_message, &s->guest);
}

void tr_doors_take_over(tr_doors_stage *s, tr_probe_fn *fn, void *host, void *guest) {
    tr_probe_set(s->host.probe, fn, host);
    tr_probe_set(s->guest.probe, fn, guest);
}

static void remove_file(const tr_doors_stage *s, const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    remove(path);
}

void tr_doors_tear_down(tr_doors_stage *s) {
    tr_probe_end(s->guest.probe);
    tr_probe_end(s->host.probe);
    tr_node_stop(s->node);
    tr_node_free(s->node);
    tr_probe_free(s->guest.probe);
    tr_probe_free(s->host.probe);
    remove_file(s, "run/daemon");
    remove_file(s, "run/daemon.lock");
    remove_file(s, "run");
    remove_file(s, "cert.pem");
    remove_file(s, "ca.pem");
    remove_file(s, "other.pem");
    CU_ASSERT_EQUAL(rmdir(s->folder), 0);
}

tr_doors_listening tr_doors_listen(tr_doors_side *who, const char *url, const char *cert_file) {
    tr_doors_listening l = {.s = who, .spec = {.url = url, .cert_file = cert_file, .ref = 5}};
    tr_probe_run(who->probe, do_listen, &l);
    return l;
}

void tr_doors_set_up_listening(tr_doors_stage *s) {
    tr_doors_set_up(s);
    tr_doors_listening l = tr_doors_listen(&s->host, s->url, NULL);
    CU_ASSERT_EQUAL_FATAL(l.err, TR_OK);
}

void tr_doors_check_well(tr_doors_stage *s) {
    uint32_t before = s->guest.count;
    uint32_t opened = s->guest.opened;
    CU_ASSERT_EQUAL_FATAL(tr_doors_dial(&s->guest, s->url, NULL, 1), TR_OK);
    CU_ASSERT_FATAL(tr_doors_await(&s->guest, tr_doors_opened, opened + s->guest.failed + 1));
    CU_ASSERT_EQUAL_FATAL(s->guest.opened, opened + 1);
    tr_doors_send(&s->guest, before, before + 1, 100);
    CU_ASSERT(tr_doors_await(&s->guest, tr_doors_received, 100));
}

void tr_doors_check_idle(tr_doors_stage *s) {
    uint64_t before_us = tr_cpu_us();
    tr_probe_stays(s->host.probe, IDLE_MS, NULL, NULL);
    CU_ASSERT(tr_cpu_us() - before_us <= IDLE_CPU_US);
}

int tr_doors_raw_connect(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void tr_doors_write_file(const tr_doors_stage *s, const char *name, const char *one,
                         const char *two, char *ret_path, size_t size) {
    snprintf(ret_path, size, "%s/%s", s->folder, name);
    FILE *file = fopen(ret_path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, "%s%s", one, two);
    fclose(file);
}
