/*
 * The fake daemon: one thread, one poll loop; streams advance as far as their credit goes each time
 * round. Everything is guarded by one mutex, which the thread releases only in poll, so that a test
 * sees whole steps. It is written apart from the daemon on purpose: what both misread shows in
 * neither, what one misreads shows here.
 */
#include "tests/lib/fake_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "protocol/frame.h"
#include "protocol/wire.h"

#define CONNECTIONS_max 64
#define STREAMS_max 512

typedef struct stream {
    uint64_t ref;
    char verb[16];
    unsigned long a, b;
    uint32_t left, seq; /* DELTAs to go; the next one's number */
    uint32_t credit_messages, credit_bytes;
    int64_t next_ms; /* of slow */
    uint8_t *body;
    size_t body_size;
} stream;

typedef struct connection {
    int fd;
    bool greeted, closing;
    uint8_t *in, *out;
    size_t in_size, in_room, out_size, out_room;
    stream streams[STREAMS_max];
    size_t stream_count;
} connection;

struct fake_server {
    bool tcp;
    char directory[64], url[128];
    struct sockaddr_un unix_address;
    struct sockaddr_in tcp_address;
    pthread_t thread;
    pthread_mutex_t mtx;
    pthread_cond_t changed;
    int wake_fd;
    /* Guarded by mtx. */
    int listen_fd;
    fake_greeting greeting;
    bool stop, hang;
    size_t dribble;
    fake_counts counts;
    connection *connections[CONNECTIONS_max];
};

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void append(uint8_t **data, size_t *size, size_t *room, const void *more, size_t more_size) {
    if (*size + more_size > *room) {
        *room = (*size + more_size) * 2;
        *data = realloc(*data, *room);
        TR_ASSERT(*data != NULL);
    }
    if (more_size > 0) {
        memcpy(*data + *size, more, more_size);
    }
    *size += more_size;
}

static void put(connection *c, const void *data, size_t size) {
    append(&c->out, &c->out_size, &c->out_room, data, size);
}

static void put_frame(connection *c, tr_kind kind, uint64_t ref, const void *data, size_t size) {
    tr_frame frame = {.kind = (uint16_t)kind, .ref = ref, .inline_size = (uint32_t)size};
    uint8_t header[TR_FRAME_HEADER_size];
    tr_frame_encode(&frame, header);
    put(c, header, sizeof header);
    put(c, data, size);
}

static size_t put_delta(connection *c, stream *s, tr_delta head, tr_delta_view view) {
    _Alignas(8) uint8_t inline_part[TR_DELTA_max];
    head.seq = s->seq++;
    size_t size = tr_delta_size(&head, &view);
    tr_delta_write(inline_part, &head, &view);
    put_frame(c, TR_KIND_DELTA, s->ref, inline_part, size);
    return size;
}

static void put_text(connection *c, stream *s, tr_delta_kind kind, const char *text, size_t size) {
    put_delta(c, s, (tr_delta){.kind = (uint8_t)kind}, (tr_delta_view){.text = {text, size}});
}

static void put_done(connection *c, const stream *s, tr_finish finish) {
    _Alignas(8) uint8_t inline_part[256];
    tr_done done = {.usage = {.in = 3, .out = s->seq, .cost = 0.25, .total_ms = 5},
                    .finish = (uint8_t)finish,
                    .attempts = 1};
    tr_end_view view = {.target = {"fake/model", 10}, .request_id = {"req-1", 5}};
    tr_done_write(inline_part, &done, &view);
    put_frame(c, TR_KIND_DONE, s->ref, inline_part, tr_done_size(&view));
}

static void put_fail(connection *c, uint64_t ref, tr_err err, uint32_t retry_after_ms) {
    _Alignas(8) uint8_t inline_part[256];
    const char *why = ref == 0 ? "the fake does not want you" : "the fake said no";
    tr_fail fail = {.usage = {.in = 3, .cost = 0.5},
                    .err = (uint16_t)err,
                    .flags = retry_after_ms != 0 ? TR_FAIL_RETRY_AFTER : 0,
                    .retry_after_ms = retry_after_ms,
                    .status = 429,
                    .attempts = 2};
    tr_end_view view = {.message = {why, strlen(why)}, .target = {"fake/model", 10}};
    tr_fail_write(inline_part, &fail, &view);
    put_frame(c, TR_KIND_FAIL, ref, inline_part, tr_fail_size(&view));
}

static void end_stream(fake_server *server, connection *c, stream *s) {
    free(s->body);
    *s = c->streams[--c->stream_count];
    server->counts.open--;
}

static void put_tools(connection *c, stream *s) {
    put_text(c, s, TR_DELTA_REASONING, "hmm", 3);
    for (uint32_t i = 0; i < 2; i++) {
        tr_delta head = {.kind = TR_DELTA_TOOL_START, .tool = i};
        put_delta(c, s, head,
                  (tr_delta_view){.id = {i == 0 ? "id-0" : "id-1", 4}, .name = {"look_up", 7}});
        head.kind = TR_DELTA_TOOL_ARGS;
        put_delta(c, s, head, (tr_delta_view){.text = {"{\"q\":", 5}});
        put_delta(c, s, head, (tr_delta_view){.text = {i == 0 ? "0}" : "1}", 2}});
    }
    put_delta(c, s, (tr_delta){.kind = TR_DELTA_OPAQUE},
              (tr_delta_view){.name = {"signature", 9}, .text = {"\"s1", 3}});
    put_delta(c, s, (tr_delta){.kind = TR_DELTA_OPAQUE}, (tr_delta_view){.text = {"g\"", 2}});
    put_text(c, s, TR_DELTA_TEXT, "text", 4);
    put_done(c, s, TR_FINISH_TOOL_CALLS);
}

static void put_vectors(connection *c, stream *s) {
    for (unsigned long i = 0; i < s->a; i++) {
        float vector[256];
        for (unsigned long k = 0; k < s->b; k++) {
            vector[k] = (float)i + (float)k / 16;
        }
        size_t half = s->b / 2 * sizeof(float);
        tr_delta head = {.kind = TR_DELTA_OPAQUE, .choice = (uint16_t)i};
        tr_delta_view view = {.text = {(const char *)vector, half}};
        put_delta(c, s, head, view);
        view.text = (tr_str){(const char *)vector + half, s->b * sizeof(float) - half};
        put_delta(c, s, head, view);
    }
    put_done(c, s, TR_FINISH_STOP);
}

/* Everything that a daemon may send, and then not quite. */
static void put_noise(connection *c, stream *s) {
    size_t from = c->out_size;
    uint64_t random = 0x9e3779b97f4a7c15U * (s->a + 1);
    for (int i = 0; i < 8; i++) {
        put_text(c, s, TR_DELTA_TEXT, "some text \xE2\x82\xAC", 13);
        put_delta(c, s, (tr_delta){.kind = TR_DELTA_TOOL_START, .tool = 1},
                  (tr_delta_view){.id = {"id", 2}, .name = {"name", 4}});
    }
    tr_ping ping = {.number = 7};
    put_frame(c, TR_KIND_PING, 0, &ping, sizeof ping);
    put_fail(c, s->ref + 1, TR_ERR_SERVER, 5);
    put_frame(c, (tr_kind)99, s->ref, "unknown", 7);
    put_done(c, s, TR_FINISH_STOP);
    for (unsigned long i = 0; i < s->b; i++) {
        random ^= random << 13; /* xorshift64, Marsaglia 2003 */
        random ^= random >> 7;
        random ^= random << 17;
        c->out[from + random % (c->out_size - from)] ^= (uint8_t)(1 + (random >> 40) % 255);
    }
    c->closing = true;
}

/* DELTAs within credit. True = all of them are out. */
static bool put_counted(connection *c, stream *s, size_t size, bool greedy) {
    char text[TR_DELTA_TEXT_max];
    memset(text, 'a' + (int)(s->ref % 26), size);
    while (s->left > 0) {
        size_t cost = sizeof(tr_delta) + size;
        if (!greedy && (s->credit_messages == 0 || s->credit_bytes < cost)) {
            return false;
        }
        if (!greedy) {
            s->credit_messages--;
            s->credit_bytes -= (uint32_t)cost;
        }
        put_text(c, s, TR_DELTA_TEXT, text, size);
        s->left--;
    }
    return true;
}

/* What can be done for a stream now; true = it has its terminal. */
static bool advance(connection *c, stream *s) {
    const char *verb = s->verb;
    if (strcmp(verb, "count") == 0) {
        if (!put_counted(c, s, s->b, false)) {
            return false;
        }
        put_done(c, s, TR_FINISH_STOP);
        return true;
    }
    if (strcmp(verb, "slow") == 0) {
        if (now_ms() < s->next_ms || s->credit_messages == 0) {
            return false;
        }
        s->next_ms = now_ms() + (int64_t)s->b;
        s->credit_messages--;
        put_text(c, s, TR_DELTA_TEXT, "slowly .", 8);
        if (--s->left == 0) {
            put_done(c, s, TR_FINISH_STOP);
        }
        return s->left == 0;
    }
    if (strcmp(verb, "die") == 0 || strcmp(verb, "garbage") == 0) {
        if (s->left > 0 && put_counted(c, s, 8, false)) {
            c->closing = verb[0] == 'd';
            if (!c->closing) {
                put(c, "this is no frame, and nothing that was ever agreed upon", 55);
            }
        }
    }
    return false;
}

/* Answers that need no credit to speak of, at once. True = it has its terminal. */
static bool begin(connection *c, stream *s) {
    const char *verb = s->verb;
    if (strcmp(verb, "echo") == 0) {
        for (size_t at = 0; at < s->body_size;) {
            size_t size = tr_utf8_cut((const char *)s->body + at, s->body_size - at, 16000);
            put_text(c, s, TR_DELTA_TEXT, (const char *)s->body + at, size);
            at += size;
        }
        put_done(c, s, TR_FINISH_STOP);
        return true;
    }
    if (strcmp(verb, "fail") == 0) {
        put_fail(c, s->ref, (tr_err)s->a, (uint32_t)s->b);
        return true;
    }
    if (strcmp(verb, "tools") == 0) {
        put_tools(c, s);
        return true;
    }
    if (strcmp(verb, "embed") == 0) {
        put_vectors(c, s);
        return true;
    }
    if (strcmp(verb, "late") == 0) {
        put_text(c, s, TR_DELTA_TEXT, "on time", 7);
        put_done(c, s, TR_FINISH_STOP);
        put_text(c, s, TR_DELTA_TEXT, "too late", 8);
        put_fail(c, s->ref, TR_ERR_SERVER, 0);
        return true;
    }
    if (strcmp(verb, "huge") == 0) {
        uint8_t header[TR_FRAME_HEADER_size] = {0, 0, 0, 0x40, TR_KIND_DELTA};
        put(c, header, sizeof header);
    } else if (strcmp(verb, "noise") == 0) {
        put_noise(c, s);
    } else if (strcmp(verb, "greedy") == 0) {
        s->left = 20 * s->credit_messages;
        put_counted(c, s, 8, true);
    } else if (strcmp(verb, "skip") == 0) {
        put_text(c, s, TR_DELTA_TEXT, "0", 1);
        s->seq++;
        put_text(c, s, TR_DELTA_TEXT, "2", 1);
    }
    return advance(c, s);
}

static void on_submit(fake_server *server, connection *c, const tr_frame *frame,
                      const tr_submit *submit, const uint8_t *body) {
    TR_ASSERT(c->stream_count < STREAMS_max);
    stream *s = &c->streams[c->stream_count++];
    *s = (stream){.ref = frame->ref,
                  .credit_messages = submit->credit_messages,
                  .credit_bytes = submit->credit_bytes,
                  .body = malloc(frame->body_size + 1),
                  .body_size = frame->body_size};
    TR_ASSERT(s->body != NULL);
    memcpy(s->body, body, frame->body_size);
    tr_str target = tr_submit_read(submit).target;
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)target.size, target.ptr);
    sscanf(text, "%15[a-z]:%lu:%lu", s->verb, &s->a, &s->b);
    if (submit->op == TR_OP_CONTROL) {
        snprintf(s->verb, sizeof s->verb, "echo");
    } else if (submit->op == TR_OP_COUNT) {
        free(s->body);
        s->body = (uint8_t *)strdup("{\"tokens\":7,\"exact\":true}");
        s->body_size = strlen((const char *)s->body);
        snprintf(s->verb, sizeof s->verb, "echo");
    } else if (submit->op == TR_OP_EMBED && s->verb[0] == '\0') {
        s->a = 3;
        s->b = 4;
        snprintf(s->verb, sizeof s->verb, "embed");
    } else if (s->verb[0] == '\0') {
        s->a = 3;
        s->b = 5;
        snprintf(s->verb, sizeof s->verb, "count");
    }
    s->left = (uint32_t)s->a;
    fake_counts *counts = &server->counts;
    counts->submits++;
    counts->open++;
    counts->most_open = counts->open > counts->most_open ? counts->open : counts->most_open;
    counts->total_ms = submit->total_ms;
    counts->attempts = submit->attempts;
    counts->credit_messages = submit->credit_messages;
    size_t shown =
        frame->body_size < sizeof counts->body - 1 ? frame->body_size : sizeof counts->body - 1;
    memcpy(counts->body, body, shown);
    counts->body[shown] = '\0';
    if (begin(c, s)) {
        end_stream(server, c, s);
    }
}

static stream *find(connection *c, uint64_t ref) {
    for (size_t i = 0; i < c->stream_count; i++) {
        if (c->streams[i].ref == ref) {
            return &c->streams[i];
        }
    }
    return NULL;
}

static void on_hello(fake_server *server, connection *c, const tr_hello *hello) {
    tr_str token = tr_hello_read(hello).token;
    snprintf(server->counts.token, sizeof server->counts.token, "%.*s", (int)token.size, token.ptr);
    c->greeted = true;
    _Alignas(8) uint8_t inline_part[64];
    tr_str software = {"fake/1", 6};
    tr_welcome welcome = {.version =
                              server->greeting == FAKE_NEW_VERSION ? 99 : TR_PROTOCOL_VERSION,
                          .streams_max = 256,
                          .frame_max = TR_FRAME_max};
    switch (server->greeting) {
    case FAKE_WELCOME:
    case FAKE_NEW_VERSION:
        tr_welcome_write(inline_part, &welcome, software);
        put_frame(c, TR_KIND_WELCOME, 0, inline_part, tr_welcome_size(software));
        break;
    case FAKE_WRONG_VERSION:
    case FAKE_REFUSE:
        put_fail(c, 0, server->greeting == FAKE_REFUSE ? TR_ERR_AUTH : TR_ERR_VERSION, 0);
        c->closing = true;
        break;
    case FAKE_GARBAGE:
        put(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", 47);
        break;
    case FAKE_MUTE:
    case FAKE_HANG_UP:
        break;
    }
}

static void on_frame(fake_server *server, connection *c, const tr_frame *frame,
                     const uint8_t *data) {
    _Alignas(8) uint8_t aligned[TR_FRAME_INLINE_max];
    memcpy(aligned, data, frame->inline_size);
    const void *at = aligned;
    TR_ASSERT(tr_wire_check(frame->kind, at, frame->inline_size) == TR_OK);
    TR_ASSERT(c->greeted == (frame->kind != TR_KIND_HELLO));
    stream *s = find(c, frame->ref);
    if (frame->kind == TR_KIND_HELLO) {
        on_hello(server, c, at);
    } else if (frame->kind == TR_KIND_SUBMIT) {
        TR_ASSERT(s == NULL);
        on_submit(server, c, frame, at, data + frame->inline_size);
    } else if (frame->kind == TR_KIND_PING) {
        server->counts.pings++;
        put_frame(c, TR_KIND_PONG, 0, at, frame->inline_size);
    } else if (frame->kind == TR_KIND_CREDIT) {
        server->counts.credits++;
        if (s != NULL) {
            s->credit_messages += ((const tr_credit *)at)->messages;
            s->credit_bytes += ((const tr_credit *)at)->bytes;
        }
    } else if (frame->kind == TR_KIND_CANCEL) {
        server->counts.cancels++;
        if (s != NULL && strcmp(s->verb, "deaf") != 0) {
            put_fail(c, s->ref, TR_ERR_CANCELLED, 0);
        }
        if (s != NULL) {
            end_stream(server, c, s);
        }
    }
}

static void close_connection(fake_server *server, size_t i) {
    connection *c = server->connections[i];
    while (c->stream_count > 0) {
        end_stream(server, c, &c->streams[0]);
    }
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
    server->connections[i] = NULL;
}

/* False: the other side has closed. */
static bool receive(fake_server *server, connection *c) {
    uint8_t more[65536];
    ssize_t count = recv(c->fd, more, sizeof more, MSG_DONTWAIT);
    if (count <= 0) {
        return count < 0 && errno == EAGAIN;
    }
    append(&c->in, &c->in_size, &c->in_room, more, (size_t)count);
    size_t at = 0;
    tr_frame frame;
    while (tr_frame_decode(c->in + at, c->in_size - at, TR_FRAME_BODY_max, &frame) == TR_OK &&
           c->in_size - at >= tr_frame_size(&frame)) {
        on_frame(server, c, &frame, c->in + at + TR_FRAME_HEADER_size);
        at += tr_frame_size(&frame);
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
    return true;
}

static bool transmit(const fake_server *server, connection *c) {
    while (c->out_size > 0) {
        size_t size =
            server->dribble != 0 && server->dribble < c->out_size ? server->dribble : c->out_size;
        ssize_t count = send(c->fd, c->out, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0) {
            return errno == EAGAIN;
        }
        memmove(c->out, c->out + count, c->out_size - (size_t)count);
        c->out_size -= (size_t)count;
    }
    return !c->closing;
}

static void accept_one(fake_server *server) {
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    server->counts.connections++;
    for (size_t i = 0; i < CONNECTIONS_max && server->greeting != FAKE_HANG_UP; i++) {
        if (server->connections[i] == NULL) {
            server->connections[i] = calloc(1, sizeof(connection));
            TR_ASSERT(server->connections[i] != NULL);
            server->connections[i]->fd = fd;
            return;
        }
    }
    close(fd);
}

static void serve(fake_server *server, size_t i) {
    connection *c = server->connections[i];
    bool open = receive(server, c);
    for (size_t k = c->stream_count; k > 0; k--) {
        if (advance(c, &c->streams[k - 1])) {
            end_stream(server, c, &c->streams[k - 1]);
        }
    }
    if (!transmit(server, c) || !open) {
        close_connection(server, i);
    }
}

/* A slow stream looks at the clock every millisecond. */
static int poll_ms(const connection *c) {
    for (size_t i = 0; i < c->stream_count; i++) {
        if (strcmp(c->streams[i].verb, "slow") == 0) {
            return 1;
        }
    }
    return -1;
}

static void *run(void *arg) {
    fake_server *server = arg;
    pthread_mutex_lock(&server->mtx);
    while (!server->stop) {
        struct pollfd polled[CONNECTIONS_max + 2] = {
            {.fd = server->wake_fd, .events = POLLIN},
            {.fd = server->hang ? -1 : server->listen_fd, .events = POLLIN}};
        int timeout_ms = -1;
        for (size_t i = 0; i < CONNECTIONS_max; i++) {
            const connection *c = server->connections[i];
            polled[i + 2].fd = c != NULL && !server->hang ? c->fd : -1;
            if (c != NULL) {
                polled[i + 2].events = (short)(POLLIN | (c->out_size > 0 ? POLLOUT : 0));
                timeout_ms = poll_ms(c) > 0 ? 1 : timeout_ms;
            }
        }
        pthread_cond_broadcast(&server->changed);
        pthread_mutex_unlock(&server->mtx);
        poll(polled, CONNECTIONS_max + 2, timeout_ms);
        pthread_mutex_lock(&server->mtx);
        uint64_t count;
        ssize_t got = read(server->wake_fd, &count, sizeof count);
        (void)got; /* EAGAIN: nobody woke it */
        if (server->hang) {
            continue;
        }
        if (server->listen_fd >= 0) {
            accept_one(server);
        }
        for (size_t i = 0; i < CONNECTIONS_max; i++) {
            if (server->connections[i] != NULL) {
                serve(server, i);
            }
        }
    }
    pthread_mutex_unlock(&server->mtx);
    return NULL;
}

static bool open_socket(fake_server *server) {
    int fd = socket(server->tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const struct sockaddr *address =
        server->tcp ? (const void *)&server->tcp_address : (const void *)&server->unix_address;
    socklen_t size = server->tcp ? sizeof server->tcp_address : sizeof server->unix_address;
    if (fd < 0 || bind(fd, address, size) != 0 || listen(fd, 64) != 0) {
        return false;
    }
    size = sizeof server->tcp_address;
    if (server->tcp) {
        getsockname(fd, (struct sockaddr *)&server->tcp_address, &size);
    }
    server->listen_fd = fd;
    return true;
}

/* With what a daemon that found the directory by the environment may have left there. */
static void remove_directories(const fake_server *server) {
    char inner[80];
    snprintf(inner, sizeof inner, "%s/troupe", server->directory);
    DIR *files = opendir(inner);
    for (const struct dirent *file; files != NULL && (file = readdir(files)) != NULL;) {
        unlinkat(dirfd(files), file->d_name, 0);
    }
    if (files != NULL) {
        closedir(files);
    }
    rmdir(inner);
    rmdir(server->directory);
}

fake_server *fake_server_start(bool tcp, fake_greeting greeting) {
    fake_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return NULL;
    }
    server->tcp = tcp;
    server->greeting = greeting;
    snprintf(server->directory, sizeof server->directory, "/tmp/troupe-fake-XXXXXX");
    if (mkdtemp(server->directory) == NULL) {
        free(server);
        return NULL;
    }
    server->unix_address.sun_family = AF_UNIX;
    char inner[80];
    snprintf(inner, sizeof inner, "%s/troupe", server->directory);
    mkdir(inner, 0700);
    snprintf(server->unix_address.sun_path, sizeof server->unix_address.sun_path, "%s/troupe.sock",
             inner);
    server->tcp_address.sin_family = AF_INET;
    server->tcp_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!open_socket(server)) {
        remove_directories(server);
        free(server);
        return NULL;
    }
    if (tcp) {
        snprintf(server->url, sizeof server->url, "tcp://127.0.0.1:%u",
                 ntohs(server->tcp_address.sin_port));
    } else {
        snprintf(server->url, sizeof server->url, "ipc://%s", server->unix_address.sun_path);
    }
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&server->mtx, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    TR_ASSERT(pthread_create(&server->thread, NULL, run, server) == 0);
    return server;
}

const char *fake_server_directory(const fake_server *server) {
    return server->directory;
}

const char *fake_server_url(const fake_server *server) {
    return server->url;
}

static void lock(fake_server *server) {
    pthread_mutex_lock(&server->mtx);
}

static void unlock(fake_server *server) {
    uint64_t one = 1;
    TR_ASSERT(write(server->wake_fd, &one, sizeof one) == sizeof one);
    pthread_mutex_unlock(&server->mtx);
}

void fake_server_greet(fake_server *server, fake_greeting greeting) {
    lock(server);
    server->greeting = greeting;
    unlock(server);
}

fake_counts fake_server_counts(fake_server *server) {
    lock(server);
    fake_counts counts = server->counts;
    unlock(server);
    return counts;
}

bool fake_server_until(fake_server *server, bool (*fn)(const fake_counts *counts, unsigned n),
                       unsigned n) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 5;
    lock(server);
    bool holds = fn(&server->counts, n);
    while (!holds && pthread_cond_timedwait(&server->changed, &server->mtx, &until) == 0) {
        holds = fn(&server->counts, n);
    }
    unlock(server);
    return holds;
}

static void die_locked(fake_server *server) {
    if (server->listen_fd >= 0) {
        close(server->listen_fd);
        server->listen_fd = -1;
    }
    unlink(server->unix_address.sun_path);
    for (size_t i = 0; i < CONNECTIONS_max; i++) {
        if (server->connections[i] != NULL) {
            close_connection(server, i);
        }
    }
}

void fake_server_die(fake_server *server) {
    lock(server);
    die_locked(server);
    unlock(server);
}

bool fake_server_back(fake_server *server) {
    lock(server);
    bool back = open_socket(server);
    unlock(server);
    return back;
}

void fake_server_hang(fake_server *server, bool hang) {
    lock(server);
    server->hang = hang;
    unlock(server);
}

void fake_server_dribble(fake_server *server, size_t bytes) {
    lock(server);
    server->dribble = bytes;
    unlock(server);
}

void fake_server_stop(fake_server *server) {
    lock(server);
    server->stop = true;
    unlock(server);
    pthread_join(server->thread, NULL);
    die_locked(server);
    remove_directories(server);
    close(server->wake_fd);
    pthread_mutex_destroy(&server->mtx);
    pthread_cond_destroy(&server->changed);
    free(server);
}
