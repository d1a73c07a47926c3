/*
 * The loop: one epoll over the listener, the signals and the connections, each of which may also be
 * due at a time; the connections stand in a heap by it, so that ten thousand slow streams cost no
 * more than what they say. A client that leaves is seen by EPOLLRDHUP at once, also while its
 * answer stalls: that is what tests of cancelling count on.
 *
 * Called by main.c; ends at SIGTERM or SIGINT.
 */
#include "tools/mock/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "tools/mock/conn.h"

#define CONNS_max 16384

typedef struct loop {
    mock_server server;
    int epoll_fd, listen_fd, signal_fd;
    mock_conn *conns[CONNS_max]; /* a binary heap: what is due first stands first */
    size_t count;
} loop;

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int listen_on(uint16_t port, uint16_t *ret_port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        perror("troupe-mock: cannot listen");
        return -1;
    }
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static bool watch(const loop *loop, int fd, uint64_t id) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = id}};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* When it goes on by itself: what waits for its socket, or stalls, does not. */
static uint64_t due_of(const mock_conn *conn) {
    TR_ASSERT(conn != NULL);
    bool waits = mock_conn_wants_out(conn) || conn->stage == STAGE_STALL;
    return waits ? CONN_NEVER : conn->due_us;
}

static void put(loop *loop, size_t i, mock_conn *conn) {
    loop->conns[i] = conn;
    conn->place = i;
}

/* Moves a connection to where its time belongs. */
static void sift(loop *loop, mock_conn *conn) {
    size_t i = conn->place;
    uint64_t due = due_of(conn);
    while (i > 0 && due < due_of(loop->conns[(i - 1) / 2])) {
        put(loop, i, loop->conns[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (size_t child = 2 * i + 1; child < loop->count; child = 2 * i + 1) {
        child +=
            child + 1 < loop->count && due_of(loop->conns[child + 1]) < due_of(loop->conns[child]);
        if (due <= due_of(loop->conns[child])) {
            break;
        }
        put(loop, i, loop->conns[child]);
        i = child;
    }
    put(loop, i, conn);
}

static void drop(loop *loop, mock_conn *conn) {
    mock_conn *last = loop->conns[--loop->count];
    TR_ASSERT(last != NULL);
    if (last != conn) {
        put(loop, conn->place, last);
        sift(loop, last);
    }
    mock_conn_free(conn);
}

static void accept_all(loop *loop) {
    while (true) {
        int on = 1;
        int fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            return;
        }
        if (loop->count == CONNS_max) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        mock_conn *conn = mock_conn_new(&loop->server, fd);
        if (conn == NULL) {
            continue;
        }
        conn->events = EPOLLIN | EPOLLRDHUP;
        put(loop, loop->count++, conn);
        struct epoll_event event = {.events = conn->events, .data = {.ptr = conn}};
        if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            drop(loop, conn);
        }
    }
}

/* Lets a connection go on as far as it can. What it does not want to read now is only then no
 * longer watched for when it comes: that saves two calls a request. */
static void go_on(loop *loop, mock_conn *conn, uint64_t now) {
    TR_ASSERT(conn != NULL);
    if (!mock_conn_advance(conn, now)) {
        drop(loop, conn);
        return;
    }
    bool in = mock_conn_wants_in(conn) || ((conn->events & EPOLLIN) != 0 && !conn->unwanted);
    uint32_t events =
        EPOLLRDHUP | (in ? EPOLLIN : 0U) | (mock_conn_wants_out(conn) ? EPOLLOUT : 0U);
    conn->unwanted = false;
    if (events != conn->events) {
        struct epoll_event event = {.events = events, .data = {.ptr = conn}};
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
        conn->events = events;
    }
    sift(loop, conn);
}

static uint64_t first_due(const loop *loop) {
    return loop->count > 0 ? due_of(loop->conns[0]) : CONN_NEVER;
}

/* Lets everything due go on; returns when the next is. */
static uint64_t advance_due(loop *loop) {
    uint64_t now = now_us();
    while (first_due(loop) <= now) {
        go_on(loop, loop->conns[0], now);
    }
    return first_due(loop);
}

static int wait_ms(uint64_t next) {
    uint64_t now = now_us();
    if (next == CONN_NEVER) {
        return -1;
    }
    return next <= now ? 0 : (int)((next - now + 999) / 1000);
}

/* The end of its load, when it is due; then it may be the end of all. */
static void load(loop *loop) {
    mock_server *server = &loop->server;
    if (server->loaded_us == CONN_NEVER || now_us() < server->loaded_us) {
        return;
    }
    server->loaded_us = CONN_NEVER;
    server->is_loaded = true;
    if (server->options->crash_loading) {
        fprintf(stderr, "loading the weights\ntroupe-mock: error: the weights are damaged\n");
        exit(3);
    }
    if (server->options->load_us > 0) {
        printf("loaded\n");
        fflush(stdout);
    }
}

static int run(loop *loop) {
    struct epoll_event events[1024];
    uint64_t next = CONN_NEVER;
    while (true) {
        load(loop);
        next = loop->server.loaded_us < next ? loop->server.loaded_us : next;
        int count = epoll_wait(loop->epoll_fd, events, 1024, wait_ms(next));
        if (count < 0 && errno != EINTR) {
            perror("troupe-mock: epoll_wait");
            return 1;
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == 1) {
                return 0;
            }
            if (events[i].data.u64 == 0) {
                accept_all(loop);
                continue;
            }
            mock_conn *conn = events[i].data.ptr;
            if ((events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
                conn->failed = true;
                conn->left_us = now_us();
            } else if ((events[i].events & EPOLLIN) != 0) {
                conn->unwanted = !mock_conn_wants_in(conn);
                if (!conn->unwanted) {
                    mock_conn_readable(conn, now_us());
                }
            }
            go_on(loop, conn, now_us());
        }
        next = advance_due(loop);
    }
}

int mock_serve(const mock_options *options) {
    loop *loop = calloc(1, sizeof(*loop));
    uint16_t port = 0;
    sigset_t signals;
    if (loop == NULL) {
        return 1;
    }
    if (options->tls != NULL && (loop->server.tls = mock_tls_new(options->tls)) == NULL) {
        free(loop);
        return 1;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    loop->server.options = options;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    loop->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->server.loaded_us = now_us() + options->load_us;
    loop->listen_fd = listen_on(options->ignore_port ? 0 : options->port, &port);
    int status = 1;
    if (loop->listen_fd >= 0 && loop->signal_fd >= 0 && loop->epoll_fd >= 0 &&
        watch(loop, loop->listen_fd, 0) && watch(loop, loop->signal_fd, 1)) {
        printf("listening on %s://127.0.0.1:%u/v1\n", options->tls == NULL ? "http" : "https",
               (unsigned)port);
        fflush(stdout);
        status = run(loop);
    }
    while (loop->count > 0) {
        drop(loop, loop->conns[loop->count - 1]);
    }
    close(loop->listen_fd);
    close(loop->signal_fd);
    close(loop->epoll_fd);
    mock_tls_free(loop->server.tls);
    free(loop);
    return status;
}
