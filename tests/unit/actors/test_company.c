/* The whole company on real threads and a real socket, by clients that are plain sockets: for the
 * thread sanitizer, in both mailbox modes. */
#include <CUnit/Basic.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "actors/company.h"
#include "protocol/frame.h"
#include "runtime/log.h"
#include "runtime/transport_nng.h"
#include "tests/lib/peer.h"

#define CLIENTS 4
#define ROUNDS 12
#define STREAMS 4
#define CHUNKS 200
#define WAIT_MS 20000
#define BODY                                                                                       \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"echo\":{\"chunks\":200,\"bytes\":64}" \
    "}"

typedef struct stage {
    tr_node *node;
    tr_services *services;
    tr_company *company;
    char folder[64], path[96], url[112];
    pthread_mutex_t mtx;
    pthread_cond_t changed;
    /* guarded by mtx */
    bool up, down;
    tr_err err;
} stage;

static void told(stage *s, bool *what, tr_err err) {
    pthread_mutex_lock(&s->mtx);
    *what = true;
    s->err = err;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mtx);
}

static void up(void *arg, tr_err err, const char *why) {
    (void)why;
    told(arg, &((stage *)arg)->up, err);
}

static void down(void *arg, tr_err reason) {
    told(arg, &((stage *)arg)->down, reason);
}

static tr_err await(stage *s, const bool *what) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&s->mtx);
    int err = 0;
    while (!*what && err == 0) {
        err = pthread_cond_timedwait(&s->changed, &s->mtx, &until);
    }
    tr_err result = *what ? s->err : TR_ERR_TIMEOUT;
    pthread_mutex_unlock(&s->mtx);
    return result;
}

static void set_up(stage *s, tr_mailbox_mode mailbox) {
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->mtx, NULL);
    pthread_cond_init(&s->changed, NULL);
    snprintf(s->folder, sizeof s->folder, "/tmp/troupe-company-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->folder));
    snprintf(s->path, sizeof s->path, "%s/socket", s->folder);
    snprintf(s->url, sizeof s->url, "ipc://%s", s->path);
    tr_node_spec spec = {
        .shards = 3, .mailbox = mailbox, .platform = {.transport = tr_transport_nng()}};
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &s->node), TR_OK);
    tr_services_spec services = {.version = "0"};
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&services, &s->services), TR_OK);
    const char *providers[] = {"echo"};
    tr_routes_spec routes_spec = {
        .providers = providers, .provider_count = 1, .default_model = "echo/x"};
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&routes_spec, &routes), TR_OK);
    tr_services_set_routes(s->services, routes);
    tr_door_spec door = {.url = s->url, .same_user = true, .takes_clients = true};
    tr_company_spec company = {.services = s->services,
                               .doors = &door,
                               .door_count = 1,
                               .drain_ms = 100,
                               .up = up,
                               .down = down,
                               .arg = s};
    CU_ASSERT_EQUAL_FATAL(tr_node_start(s->node), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_company_start(s->node, &company, &s->company), TR_OK);
    CU_ASSERT_EQUAL_FATAL(await(s, &s->up), TR_OK);
}

static void tear_down(stage *s) {
    tr_company_stop(s->company);
    CU_ASSERT_EQUAL(await(s, &s->down), TR_OK);
    tr_node_stop(s->node);
    tr_node_free(s->node);
    tr_company_free(s->company);
    CU_ASSERT_EQUAL(tr_services_running(s->services), 0);
    tr_services_free(s->services);
    CU_ASSERT_NOT_EQUAL(access(s->path, F_OK), 0); /* the socket file is gone */
    char lock[112];
    snprintf(lock, sizeof lock, "%s.lock", s->path);
    CU_ASSERT_EQUAL(unlink(lock), 0);
    CU_ASSERT_EQUAL(rmdir(s->folder), 0);
}

/* ---- a client on a thread of its own: it counts, the test asserts ---- */

typedef struct client {
    const stage *s;
    pthread_t thread;
    uint32_t seed;
    bool until_closed; /* goes on until the daemon hangs up */
    atomic_uint begun; /* rounds; seq_cst, partner: the test that waits for it */
    uint32_t done, cancelled, deltas, wrong;
    int fd;
    uint8_t in[1 << 18];
    size_t size;
} client;

static bool write_msg(client *c, tr_msg *msg, uint64_t ref) {
    uint8_t out[1024];
    tr_frame frame = {.kind = msg->kind,
                      .ref = ref,
                      .inline_size = msg->size,
                      .body_size = msg->body != NULL ? (uint32_t)msg->body->size : 0};
    tr_frame_encode(&frame, out);
    memcpy(out + TR_FRAME_HEADER_size, msg->data, msg->size);
    if (msg->body != NULL) {
        memcpy(out + TR_FRAME_HEADER_size + msg->size, msg->body->bytes, msg->body->size);
    }
    tr_msg_free(msg);
    size_t size = tr_frame_size(&frame);
    return send(c->fd, out, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* The next frame's header and, in `fail`, a FAIL's error. False: the daemon hung up. */
static bool next_frame(client *c, tr_frame *frame, uint16_t *fail) {
    for (;;) {
        if (tr_frame_decode(c->in, c->size, TR_FRAME_BODY_max, frame) == TR_OK &&
            c->size >= tr_frame_size(frame)) {
            *fail = frame->kind == TR_KIND_FAIL
                        ? ((const tr_fail *)(const void *)(c->in + TR_FRAME_HEADER_size))->err
                        : 0;
            size_t whole = tr_frame_size(frame);
            memmove(c->in, c->in + whole, c->size - whole);
            c->size -= whole;
            return true;
        }
        struct pollfd wait = {.fd = c->fd, .events = POLLIN};
        if (poll(&wait, 1, WAIT_MS) != 1) {
            c->wrong++;
            return false;
        }
        ssize_t got = recv(c->fd, c->in + c->size, sizeof c->in - c->size, 0);
        if (got <= 0) {
            return false;
        }
        c->size += (size_t)got;
    }
}

/* STREAMS requests at once, some cancelled; true when each has had its one terminal. */
static bool round_trip(client *c, uint64_t first) {
    tr_frame frame;
    uint16_t fail;
    uint32_t open = 0;
    for (uint64_t i = 0; i < STREAMS; i++, open++) {
        if (!write_msg(c, peer_submit(TR_OP_CHAT, "", BODY, CHUNKS, 1000000), first + i)) {
            return false;
        }
    }
    if (c->seed++ % 2 == 0 && !write_msg(c, tr_msg_cancel(TR_ERR_CANCELLED), first + 1)) {
        return false;
    }
    while (open > 0 && next_frame(c, &frame, &fail)) {
        if (frame.ref == 0 && c->until_closed && fail == TR_ERR_SHUTDOWN) {
            return false; /* the daemon's last words */
        }
        c->wrong += frame.ref < first || frame.ref >= first + STREAMS;
        c->deltas += frame.kind == TR_KIND_DELTA;
        open -= frame.kind == TR_KIND_DONE || frame.kind == TR_KIND_FAIL;
        c->done += frame.kind == TR_KIND_DONE;
        c->cancelled += fail == TR_ERR_CANCELLED;
        c->wrong += frame.kind == TR_KIND_FAIL && fail != TR_ERR_CANCELLED && !c->until_closed;
    }
    return open == 0;
}

static void *run_client(void *arg) {
    client *c = arg;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", c->s->path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tr_frame frame;
    uint16_t fail;
    bool fine = connect(c->fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                write_msg(c, peer_hello(""), 0) && next_frame(c, &frame, &fail) &&
                frame.kind == TR_KIND_WELCOME;
    c->wrong += !fine;
    for (uint32_t i = 0; fine && (i < ROUNDS || c->until_closed); i++) {
        atomic_fetch_add(&c->begun, 1);
        fine = round_trip(c, 1 + (uint64_t)i * STREAMS);
    }
    c->wrong += !fine && !c->until_closed;
    atomic_fetch_add(&c->begun, ROUNDS); /* whoever waits for it need not wait longer */
    close(c->fd);
    return NULL;
}

static client clients[CLIENTS];

static void start_clients(const stage *s, bool until_closed) {
    for (uint32_t i = 0; i < CLIENTS; i++) {
        memset(&clients[i], 0, sizeof clients[i]);
        clients[i].s = s;
        clients[i].seed = i;
        clients[i].until_closed = until_closed;
        CU_ASSERT_EQUAL_FATAL(pthread_create(&clients[i].thread, NULL, run_client, &clients[i]), 0);
    }
}

static void many_clients_are_served_at_once(void) {
    for (int mode = 0; mode < 2; mode++) {
        stage s;
        set_up(&s, mode == 0 ? TR_MAILBOX_DIRECT : TR_MAILBOX_INPROC);
        start_clients(&s, false);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            pthread_join(clients[i].thread, NULL);
            CU_ASSERT_EQUAL(clients[i].wrong, 0);
            CU_ASSERT_EQUAL(clients[i].done + clients[i].cancelled, ROUNDS * STREAMS);
            CU_ASSERT(clients[i].cancelled <= ROUNDS / 2);
            CU_ASSERT(clients[i].deltas >= clients[i].done * CHUNKS);
        }
        CU_ASSERT_EQUAL(tr_node_inproc_messages(s.node) > 0, mode == 1);
        tear_down(&s);
    }
}

static void stop_comes_while_clients_stream(void) {
    for (int mode = 0; mode < 2; mode++) {
        stage s;
        set_up(&s, mode == 0 ? TR_MAILBOX_DIRECT : TR_MAILBOX_INPROC);
        start_clients(&s, true);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            while (atomic_load(&clients[i].begun) < 3) {
                sched_yield();
            }
        }
        tr_company_stop(s.company);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            pthread_join(clients[i].thread, NULL);
            CU_ASSERT_EQUAL(clients[i].wrong, 0);
            CU_ASSERT(clients[i].done > 0);
        }
        tear_down(&s);
    }
}

int main(void) {
    static const puppet_test tests[] = {
        PUPPET_TEST(many_clients_are_served_at_once),
        PUPPET_TEST(stop_comes_while_clients_stream),
    };
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_ERROR, 2);
    return puppet_main("company", tests, sizeof tests / sizeof *tests);
}
