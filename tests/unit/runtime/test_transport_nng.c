/* The real transport: a listener's actor and a dialer's on two shards of a real node, and raw
 * sockets and NNG sockets of the test for peers that misbehave. All in a fresh directory and on
 * loopback. */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/push.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/inproc.h"
#include "runtime/transport.h"
#include "tests/lib/cert.h"
#include "tests/lib/probe.h"

#define STREAMS_max 512
#define IDLE_MS 2000
#define IDLE_CPU_US (IDLE_MS * 10) /* 1 % */

/* ---- the stage ---- */

typedef struct end {
    tr_stream *stream;
    size_t received;
    uint32_t sum;
    uint32_t sent;
    tr_body *body; /* what it sent last */
    bool closed;   /* by the peer */
} end;

/* One actor's streams. A host echoes what it gets, one answer at a time. */
typedef struct side {
    tr_probe *probe;
    tr_transport *transport;
    bool echoes;
    bool deaf; /* attaches to nothing: drops the news of new streams */
    tr_listener *listener;
    end ends[STREAMS_max];
    uint32_t count;
    uint32_t opened; /* ACCEPTED, or DIALED well */
    uint32_t failed; /* DIALED with an error */
    tr_err dial_err;
    uint32_t gone; /* CLOSED */
    uint32_t awaited;
} side;

typedef struct stage {
    tr_node *node;
    side host, guest;
    char folder[64];
    char url[128];
    char path[100];
} stage;

static uint32_t sum_of(const void *data, size_t size, uint32_t sum) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ bytes[i]) * 16777619U;
    }
    return sum;
}

static end *end_of(side *s, const tr_stream *stream) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->ends[i].stream == stream) {
            return &s->ends[i];
        }
    }
    return NULL;
}

static void close_end(end *e) {
    if (e->stream != NULL) {
        e->stream->transport->close(e->stream);
        e->stream = NULL;
    }
    tr_body_unref(e->body);
    e->body = NULL;
}

static void close_side(side *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        close_end(&s->ends[i]);
    }
    if (s->listener != NULL) {
        s->transport->listener_close(s->listener);
        s->listener = NULL;
    }
}

static void add_stream(tr_self *self, side *s, tr_msg *msg) {
    const tr_stream_event *event = (const tr_stream_event *)(const void *)msg->data;
    if (event->stream == NULL) {
        s->failed++;
        s->dial_err = event->err;
        return;
    }
    s->opened++;
    if (s->deaf || s->count == STREAMS_max) {
        return;
    }
    end *e = &s->ends[s->count++];
    e->stream = tr_stream_take(msg);
    e->sum = 2166136261U;
    e->stream->transport->attach(e->stream, self);
}

static void on_received(side *s, end *e, const tr_stream_event *event) {
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
    side *s = arg;
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
    end *e = end_of(s, event->stream);
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

typedef struct listening {
    side *s;
    tr_listen_spec spec;
    tr_err err;
    char why[256];
    char url[128];
} listening;

static void do_listen(tr_self *self, void *arg) {
    listening *l = arg;
    l->err = l->s->transport->listen(l->s->transport, self, &l->spec, &l->s->listener, l->why,
                                     sizeof l->why);
    if (l->err == TR_OK) {
        l->s->transport->listener_url(l->s->listener, l->url, sizeof l->url);
    }
}

static void do_unlisten(tr_self *self, void *arg) {
    (void)self;
    side *s = arg;
    s->transport->listener_close(s->listener);
    s->listener = NULL;
}

typedef struct dialing {
    side *s;
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

static tr_err dial(side *s, const char *url, const char *ca_file, uint32_t count) {
    dialing d = {.s = s, .url = url, .ca_file = ca_file, .count = count};
    tr_probe_run(s->probe, do_dial, &d);
    return d.err;
}

typedef struct sending {
    side *s;
    uint32_t from, to; /* ends */
    size_t size;
} sending;

static void do_send(tr_self *self, void *arg) {
    (void)self;
    sending *out = arg;
    for (uint32_t i = out->from; i < out->to; i++) {
        end *e = &out->s->ends[i];
        e->body = tr_body_new(out->size);
        memset(e->body->bytes, (int)('a' + i % 26), out->size);
        e->stream->transport->send(e->stream, e->body, out->size);
    }
}

static void send_bytes(side *s, uint32_t from, uint32_t to, size_t size) {
    sending out = {.s = s, .from = from, .to = to, .size = size};
    tr_probe_run(s->probe, do_send, &out);
}

static void do_close_all(tr_self *self, void *arg) {
    (void)self;
    side *s = arg;
    for (uint32_t i = 0; i < s->count; i++) {
        close_end(&s->ends[i]);
    }
}

static bool opened_enough(void *arg) {
    side *s = arg;
    return s->opened + s->failed >= s->awaited;
}

static bool gone_enough(void *arg) {
    side *s = arg;
    return s->gone >= s->awaited;
}

static bool received_enough(void *arg) {
    side *s = arg;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->ends[i].received < s->awaited && !s->ends[i].closed) {
            return false;
        }
    }
    return s->count > 0;
}

static bool sent_once(void *arg) {
    return ((side *)arg)->ends[0].sent > 0;
}

static bool await(side *s, bool (*met)(void *arg), uint32_t number) {
    s->awaited = number; /* only the test thread writes it, between waits */
    return tr_probe_await(s->probe, met, s);
}

static void set_up(stage *s) {
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

static void remove_file(const stage *s, const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    remove(path);
}

static void tear_down(stage *s) {
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

static listening try_listen(stage *s, side *who, const char *url, const char *cert_file) {
    (void)s;
    listening l = {.s = who, .spec = {.url = url, .cert_file = cert_file, .ref = 5}};
    tr_probe_run(who->probe, do_listen, &l);
    return l;
}

static void set_up_listening(stage *s) {
    set_up(s);
    listening l = try_listen(s, &s->host, s->url, NULL);
    CU_ASSERT_EQUAL_FATAL(l.err, TR_OK);
}

/* One dial whose bytes come back: the host is well. */
static void check_well(stage *s) {
    uint32_t before = s->guest.count;
    uint32_t opened = s->guest.opened;
    CU_ASSERT_EQUAL_FATAL(dial(&s->guest, s->url, NULL, 1), TR_OK);
    CU_ASSERT_FATAL(await(&s->guest, opened_enough, opened + s->guest.failed + 1));
    CU_ASSERT_EQUAL_FATAL(s->guest.opened, opened + 1);
    send_bytes(&s->guest, before, before + 1, 100);
    CU_ASSERT(await(&s->guest, received_enough, 100));
}

static void check_idle(stage *s) {
    uint64_t before_us = tr_cpu_us();
    tr_probe_stays(s->host.probe, IDLE_MS, NULL, NULL);
    CU_ASSERT(tr_cpu_us() - before_us <= IDLE_CPU_US);
}

static int raw_connect(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void write_file(const stage *s, const char *name, const char *one, const char *two,
                       char *ret_path, size_t size) {
    snprintf(ret_path, size, "%s/%s", s->folder, name);
    FILE *file = fopen(ret_path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, "%s%s", one, two);
    fclose(file);
}

/* ---- claims: streams ---- */

static void bytes_come_back(void) {
    stage s;
    set_up_listening(&s);
    check_well(&s);
    tear_down(&s);
}

static void two_hundred_dials_at_once_succeed(void) {
    stage s;
    set_up_listening(&s);
    CU_ASSERT_EQUAL(dial(&s.guest, s.url, NULL, 200), TR_OK);
    CU_ASSERT(await(&s.guest, opened_enough, 200));
    CU_ASSERT(await(&s.host, opened_enough, 200));
    CU_ASSERT_EQUAL(s.guest.opened, 200);
    CU_ASSERT_EQUAL(s.guest.failed, 0);
    send_bytes(&s.guest, 0, 200, 64);
    CU_ASSERT(await(&s.guest, received_enough, 64));
    check_idle(&s);
    tear_down(&s);
}

static void four_mebibytes_arrive_whole(void) {
    stage s;
    set_up_listening(&s);
    s.host.echoes = false;
    CU_ASSERT_EQUAL(dial(&s.guest, s.url, NULL, 1), TR_OK);
    CU_ASSERT_FATAL(await(&s.guest, opened_enough, 1) && await(&s.host, opened_enough, 1));
    send_bytes(&s.guest, 0, 1, 4UL << 20);
    CU_ASSERT(await(&s.host, received_enough, 4U << 20));
    CU_ASSERT(tr_probe_await(s.guest.probe, sent_once, &s.guest));
    uint32_t sum = 2166136261U;
    for (size_t i = 0; i < 4UL << 20; i++) {
        sum = (sum ^ 'a') * 16777619U;
    }
    CU_ASSERT_EQUAL(s.host.ends[0].sum, sum);
    tear_down(&s);
}

static void close_is_seen_by_the_other_side(void) {
    stage s;
    set_up_listening(&s);
    CU_ASSERT_EQUAL(dial(&s.guest, s.url, NULL, 20), TR_OK);
    CU_ASSERT_FATAL(await(&s.guest, opened_enough, 20) && await(&s.host, opened_enough, 20));
    tr_probe_run(s.guest.probe, do_close_all, &s.guest);
    CU_ASSERT(await(&s.host, gone_enough, 20));
    CU_ASSERT_EQUAL(s.guest.gone, 0); /* who closes hears no more */
    tear_down(&s);
}

static void last_words_are_read_before_the_end(void) {
    stage s;
    set_up_listening(&s);
    s.host.echoes = false;
    CU_ASSERT_EQUAL(dial(&s.guest, s.url, NULL, 1), TR_OK);
    CU_ASSERT_FATAL(await(&s.guest, opened_enough, 1) && await(&s.host, opened_enough, 1));
    send_bytes(&s.guest, 0, 1, 50000);
    CU_ASSERT(tr_probe_await(s.guest.probe, sent_once, &s.guest));
    tr_probe_run(s.guest.probe, do_close_all, &s.guest);
    CU_ASSERT(await(&s.host, gone_enough, 1));
    CU_ASSERT_EQUAL(s.host.ends[0].received, 50000);
    tear_down(&s);
}

static void close_while_a_send_flies_frees_it(void) {
    stage s;
    set_up_listening(&s);
    int fd = raw_connect(s.path); /* never reads */
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_FATAL(await(&s.host, opened_enough, 1));
    send_bytes(&s.host, 0, 1, 8UL << 20);
    tr_probe_run(s.host.probe, do_close_all, &s.host);
    char buf[4096];
    ssize_t got;
    do {
        got = read(fd, buf, sizeof buf);
    } while (got > 0);
    CU_ASSERT_EQUAL(got, 0);
    close(fd);
    check_well(&s);
    tear_down(&s); /* the sanitizer build finds the body if it was not freed */
}

/* ---- claims: peers that misbehave ---- */

static void connect_and_close_costs_nothing_afterwards(void) {
    stage s;
    set_up_listening(&s);
    for (int i = 0; i < 50; i++) {
        int fd = raw_connect(s.path);
        CU_ASSERT_FATAL(fd >= 0);
        close(fd);
    }
    CU_ASSERT(await(&s.host, gone_enough, 50));
    check_well(&s);
    check_idle(&s);
    tear_down(&s);
}

static void silent_peer_costs_nothing(void) {
    stage s;
    set_up_listening(&s);
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = raw_connect(s.path);
        CU_ASSERT_FATAL(fds[i] >= 0);
    }
    CU_ASSERT(await(&s.host, opened_enough, 20));
    check_well(&s);
    check_idle(&s);
    for (int i = 0; i < 20; i++) {
        close(fds[i]);
    }
    CU_ASSERT(await(&s.host, gone_enough, 20));
    tear_down(&s);
}

static void stream_that_nobody_takes_is_closed(void) {
    stage s;
    set_up_listening(&s);
    s.host.deaf = true;
    int fd = raw_connect(s.path);
    CU_ASSERT_FATAL(fd >= 0);
    char byte;
    CU_ASSERT_EQUAL(read(fd, &byte, 1), 0);
    close(fd);
    tear_down(&s);
}

static void want_of_descriptors_passes(void) {
    stage s;
    set_up_listening(&s);
    check_well(&s); /* the library has opened all it needs */
    int first = raw_connect(s.path);
    CU_ASSERT_FATAL(first >= 0);
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    int fds[4];
    for (int i = 0; i < 4; i++) { /* connected, but not accepted once the limit is set */
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    }
    struct rlimit few = {.rlim_cur = (rlim_t)fds[3] + 1, .rlim_max = before.rlim_max};
    CU_ASSERT_FATAL(setrlimit(RLIMIT_NOFILE, &few) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", s.path);
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(connect(fds[i], (struct sockaddr *)&address, sizeof address), 0);
    }
    uint64_t before_us = tr_cpu_us();
    tr_probe_stays(s.host.probe, 500, NULL, NULL);
    CU_ASSERT(tr_cpu_us() - before_us < 50000); /* it does not try at once, again and again */
    setrlimit(RLIMIT_NOFILE, &before);
    CU_ASSERT(await(&s.host, opened_enough, 6));
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    close(first);
    tear_down(&s);
}

/* ---- claims: the socket file ---- */

static void socket_is_private(void) {
    stage s;
    set_up_listening(&s);
    struct stat status;
    CU_ASSERT_EQUAL(stat(s.path, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 07777, 0600);
    char folder[128];
    snprintf(folder, sizeof folder, "%s/run", s.folder);
    CU_ASSERT_EQUAL(stat(folder, &status), 0);
    CU_ASSERT_EQUAL(status.st_mode & 07777, 0700);
    tear_down(&s);
    CU_ASSERT_EQUAL(access(s.path, F_OK), -1);
}

static void second_daemon_is_refused(void) {
    stage s;
    set_up_listening(&s);
    listening l = try_listen(&s, &s.guest, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_ERR_EXISTS);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, s.path));
    char pid[24];
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, pid));
    check_well(&s); /* the first one's socket is untouched */
    tr_probe_run(s.host.probe, do_unlisten, &s.host);
    l = try_listen(&s, &s.guest, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_OK); /* at once */
    tear_down(&s);
}

static int make_socket(const stage *s) {
    char folder[128];
    snprintf(folder, sizeof folder, "%s/run", s->folder);
    mkdir(folder, 0700);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", s->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void stale_socket_is_replaced(void) {
    stage s;
    set_up(&s);
    close(make_socket(&s));
    CU_ASSERT_EQUAL(access(s.path, F_OK), 0);
    CU_ASSERT_EQUAL(try_listen(&s, &s.host, s.url, NULL).err, TR_OK);
    check_well(&s);
    tear_down(&s);
}

static void foreign_socket_and_file_are_left_alone(void) {
    stage s;
    set_up(&s);
    int fd = make_socket(&s);
    listen(fd, 5);
    listening l = try_listen(&s, &s.host, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_ERR_EXISTS);
    CU_ASSERT_EQUAL(access(s.path, F_OK), 0);
    close(fd);
    unlink(s.path);
    char path[160];
    write_file(&s, "run/daemon", "precious", "", path, sizeof path);
    l = try_listen(&s, &s.host, s.url, NULL);
    CU_ASSERT_EQUAL(l.err, TR_ERR_EXISTS);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, "not a socket"));
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    tear_down(&s);
}

static void bad_addresses_are_refused_with_a_reason(void) {
    stage s;
    set_up(&s);
    char url[300];
    snprintf(url, sizeof url, "ipc://%s/%0200d", s.folder, 1);
    const char *urls[] = {url, "http://127.0.0.1:1", "tls+tcp://127.0.0.1:0", "ipc://",
                          "tcp://no.such.host.invalid:x"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        listening l = try_listen(&s, &s.host, urls[i], NULL);
        CU_ASSERT_NOT_EQUAL(l.err, TR_OK);
        CU_ASSERT(strlen(l.why) > 10);
    }
    tear_down(&s);
}

static void nobody_there_is_said(void) {
    stage s;
    set_up(&s);
    CU_ASSERT_EQUAL(dial(&s.guest, s.url, NULL, 1), TR_OK);
    CU_ASSERT(await(&s.guest, opened_enough, 1));
    CU_ASSERT_EQUAL(s.guest.failed, 1);
    CU_ASSERT_EQUAL(s.guest.dial_err, TR_ERR_CONNECT);
    tear_down(&s);
}

typedef struct asked {
    side *s;
    bool known;
    uint32_t uid;
} asked;

static void do_ask_uid(tr_self *self, void *arg) {
    (void)self;
    asked *a = arg;
    a->known = a->s->transport->peer_uid(a->s->ends[0].stream, &a->uid);
}

static void peer_is_known_by_uid(void) {
    stage s;
    set_up_listening(&s);
    check_well(&s);
    asked a = {.s = &s.host};
    tr_probe_run(s.host.probe, do_ask_uid, &a);
    CU_ASSERT(a.known);
    CU_ASSERT_EQUAL(a.uid, geteuid());
    tear_down(&s);
}

/* ---- claims: tcp and tls ---- */

static void tcp_works_on_a_port_of_the_systems_choice(void) {
    stage s;
    set_up(&s);
    listening l = try_listen(&s, &s.host, "tcp://127.0.0.1:0", NULL);
    CU_ASSERT_EQUAL_FATAL(l.err, TR_OK);
    CU_ASSERT_PTR_NULL(strstr(l.url, ":0\0"));
    snprintf(s.url, sizeof s.url, "%s", l.url);
    check_well(&s);
    asked a = {.s = &s.host};
    tr_probe_run(s.host.probe, do_ask_uid, &a);
    CU_ASSERT_FALSE(a.known);
    listening again = try_listen(&s, &s.guest, l.url, NULL);
    CU_ASSERT_EQUAL(again.err, TR_ERR_EXISTS);
    tear_down(&s);
}

static uint16_t port_of(const char *url) {
    return (uint16_t)atoi(strrchr(url, ':') + 1);
}

static void tls_works_and_believes_only_its_own_authority(void) {
    stage s;
    set_up(&s);
    char cert[160];
    char ca[160];
    char other[160];
    write_file(&s, "cert.pem", tr_test_cert, tr_test_key, cert, sizeof cert);
    write_file(&s, "ca.pem", tr_test_cert, "", ca, sizeof ca);
    write_file(&s, "other.pem", tr_other_cert, "", other, sizeof other);
    listening l = try_listen(&s, &s.host, "tls+tcp://127.0.0.1:0", ca);
    CU_ASSERT_NOT_EQUAL(l.err, TR_OK); /* a certificate without its key */
    CU_ASSERT_PTR_NOT_NULL(strstr(l.why, ca));
    l = try_listen(&s, &s.host, "tls+tcp://127.0.0.1:0", cert);
    CU_ASSERT_EQUAL_FATAL(l.err, TR_OK);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port_of(l.url)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* says nothing: blocks nobody */
    CU_ASSERT_EQUAL(connect(silent, (struct sockaddr *)&address, sizeof address), 0);
    CU_ASSERT_EQUAL(dial(&s.guest, l.url, NULL, 1), TR_ERR_INVALID);
    CU_ASSERT_EQUAL(dial(&s.guest, l.url, ca, 1), TR_OK);
    CU_ASSERT_FATAL(await(&s.guest, opened_enough, 1));
    CU_ASSERT_EQUAL_FATAL(s.guest.opened, 1);
    s.host.echoes = false;
    send_bytes(&s.guest, 0, 1, 1UL << 20);
    CU_ASSERT(tr_probe_await(s.guest.probe, sent_once, &s.guest));
    /* A wrong authority ends either in a failed dial or in a stream that closes unread. */
    CU_ASSERT_EQUAL(dial(&s.guest, l.url, other, 1), TR_OK);
    CU_ASSERT(await(&s.guest, opened_enough, 2));
    if (s.guest.failed == 0) {
        CU_ASSERT(await(&s.guest, gone_enough, 1));
    }
    close(silent);
    tear_down(&s);
}

/* ---- claims: inproc, with a client of the test's own ---- */

typedef struct client {
    nng_socket pair, push;
} client;

static void open_client(client *c, const char *hall, const char *own) {
    CU_ASSERT_EQUAL_FATAL(nng_pair0_open(&c->pair), 0);
    nng_socket_set_int(c->pair, NNG_OPT_RECVBUF, TR_INPROC_QUEUE);
    nng_socket_set_ms(c->pair, NNG_OPT_RECVTIMEO, 10000);
    nng_socket_set_ms(c->pair, NNG_OPT_SENDTIMEO, 10000);
    CU_ASSERT_EQUAL_FATAL(nng_listen(c->pair, own, NULL, 0), 0);
    CU_ASSERT_EQUAL_FATAL(nng_push0_open(&c->push), 0);
    CU_ASSERT_EQUAL_FATAL(nng_dial(c->push, hall, NULL, 0), 0);
    CU_ASSERT_EQUAL_FATAL(nng_send(c->push, (void *)(uintptr_t)own, strlen(own), 0), 0);
}

static void close_client(client *c) {
    nng_close(c->pair);
    nng_close(c->push);
}

static void inproc_clients_come_and_go(void) {
    stage s;
    set_up(&s);
    snprintf(s.url, sizeof s.url, "inproc://troupe-test");
    CU_ASSERT_EQUAL_FATAL(try_listen(&s, &s.host, s.url, NULL).err, TR_OK);
    CU_ASSERT_EQUAL(try_listen(&s, &s.guest, s.url, NULL).err, TR_ERR_EXISTS);
    client c[3];
    for (uint32_t i = 0; i < 3; i++) {
        char own[160];
        snprintf(own, sizeof own, "%s/%u", s.url, i);
        open_client(&c[i], s.url, own);
    }
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 3; i++) {
            char text[8];
            char back[8];
            size_t size = sizeof back;
            snprintf(text, sizeof text, "%u.%u", i, round);
            CU_ASSERT_EQUAL_FATAL(nng_send(c[i].pair, text, sizeof text, 0), 0);
            CU_ASSERT_EQUAL_FATAL(nng_recv(c[i].pair, back, &size, 0), 0);
            CU_ASSERT(size == sizeof text && memcmp(text, back, size) == 0);
        }
    }
    close_client(&c[0]);
    CU_ASSERT(await(&s.host, gone_enough, 1));
    tr_probe_run(s.host.probe, do_close_all, &s.host); /* the client sees its pipe end */
    char back[8];
    size_t size = sizeof back;
    CU_ASSERT_EQUAL(nng_send(c[1].pair, "x", 1, NNG_FLAG_NONBLOCK) == 0 &&
                        nng_recv(c[1].pair, back, &size, NNG_FLAG_NONBLOCK) == 0,
                    false);
    close_client(&c[1]);
    close_client(&c[2]);
    tr_probe_run(s.host.probe, do_unlisten, &s.host);
    CU_ASSERT_EQUAL(try_listen(&s, &s.host, s.url, NULL).err, TR_OK);
    tear_down(&s);
}

static void inproc_last_words_are_read_before_the_end(void) {
    stage s;
    set_up(&s);
    s.host.echoes = false;
    CU_ASSERT_EQUAL_FATAL(try_listen(&s, &s.host, "inproc://troupe-last", NULL).err, TR_OK);
    client c;
    open_client(&c, "inproc://troupe-last", "inproc://troupe-last/1");
    CU_ASSERT_FATAL(await(&s.host, opened_enough, 1));
    for (int i = 0; i < 40; i++) {
        CU_ASSERT_EQUAL_FATAL(nng_send(c.pair, "0123456789", 10, 0), 0);
    }
    CU_ASSERT(await(&s.host, received_enough, 390)); /* all but what may be in the last hand */
    close_client(&c);
    CU_ASSERT(await(&s.host, gone_enough, 1));
    CU_ASSERT(s.host.ends[0].received >= 390);
    tear_down(&s);
}

static void inproc_strangers_disturb_nobody(void) {
    stage s;
    set_up(&s);
    CU_ASSERT_EQUAL_FATAL(try_listen(&s, &s.host, "inproc://troupe-odd", NULL).err, TR_OK);
    client liar;
    open_client(&liar, "inproc://troupe-odd", "inproc://troupe-odd/liar");
    CU_ASSERT_FATAL(await(&s.host, opened_enough, 1));
    const char *odd[] = {"", "ipc:///tmp/x", "inproc://nobody/there", "garbage"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        CU_ASSERT_EQUAL(nng_send(liar.push, (void *)(uintptr_t)odd[i], strlen(odd[i]), 0), 0);
    }
    client c;
    open_client(&c, "inproc://troupe-odd", "inproc://troupe-odd/good");
    CU_ASSERT_FATAL(await(&s.host, opened_enough, 2));
    char back[8];
    size_t size = sizeof back;
    CU_ASSERT_EQUAL(nng_send(c.pair, "hello", 5, 0), 0);
    CU_ASSERT_EQUAL(nng_recv(c.pair, back, &size, 0), 0);
    close_client(&liar);
    close_client(&c);
    CU_ASSERT(await(&s.host, gone_enough, 2));
    tear_down(&s);
}

int main(void) {
    CU_TestInfo tests[] = {
        {"bytes_come_back", bytes_come_back},
        {"two_hundred_dials_at_once_succeed", two_hundred_dials_at_once_succeed},
        {"four_mebibytes_arrive_whole", four_mebibytes_arrive_whole},
        {"close_is_seen_by_the_other_side", close_is_seen_by_the_other_side},
        {"last_words_are_read_before_the_end", last_words_are_read_before_the_end},
        {"close_while_a_send_flies_frees_it", close_while_a_send_flies_frees_it},
        {"connect_and_close_costs_nothing_afterwards", connect_and_close_costs_nothing_afterwards},
        {"silent_peer_costs_nothing", silent_peer_costs_nothing},
        {"stream_that_nobody_takes_is_closed", stream_that_nobody_takes_is_closed},
        {"want_of_descriptors_passes", want_of_descriptors_passes},
        {"socket_is_private", socket_is_private},
        {"second_daemon_is_refused", second_daemon_is_refused},
        {"stale_socket_is_replaced", stale_socket_is_replaced},
        {"foreign_socket_and_file_are_left_alone", foreign_socket_and_file_are_left_alone},
        {"bad_addresses_are_refused_with_a_reason", bad_addresses_are_refused_with_a_reason},
        {"nobody_there_is_said", nobody_there_is_said},
        {"peer_is_known_by_uid", peer_is_known_by_uid},
        {"tcp_works_on_a_port_of_the_systems_choice", tcp_works_on_a_port_of_the_systems_choice},
        {"tls_works_and_believes_only_its_own_authority",
         tls_works_and_believes_only_its_own_authority},
        {"inproc_clients_come_and_go", inproc_clients_come_and_go},
        {"inproc_last_words_are_read_before_the_end", inproc_last_words_are_read_before_the_end},
        {"inproc_strangers_disturb_nobody", inproc_strangers_disturb_nobody},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"transport_nng", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        return 2;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed > 0;
}
