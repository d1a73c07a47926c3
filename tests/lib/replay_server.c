/*
 * The replay server: one thread, one epoll, a listener a slot. A connection collects a request up
 * to the end of its announced body, then writes its slot's next answer piece by piece, each in a
 * write of its own with Nagle's algorithm off, and waits between them only where the answer says
 * so. Nothing in it knows HTTP beyond the end of the headers and Content-Length, so that it can say
 * anything. Everything lies under one mutex, which the thread gives up while it waits.
 */
#include "tests/lib/replay_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/assert.h"

#define CONNECTIONS_max 512
#define SCRIPTS_max 8
#define REQUEST_max (48U * 1024U * 1024U)

typedef struct slot {
    int fd;
    uint16_t port;
    replay_script scripts[SCRIPTS_max];
    size_t script_count, next;
    uint64_t wrote;
    replay_request request;
} slot;

typedef struct connection {
    int fd; /* -1 = free */
    size_t slot;
    char *in;
    size_t in_size, in_room;
    replay_script script; /* bytes are its own copy; NULL = it listens */
    size_t at, piece, left;
    uint32_t repeated;
    uint64_t due_ms; /* of the next write */
} connection;

struct replay_server {
    pthread_mutex_t mtx;
    pthread_t thread;
    int epoll_fd, wake_fd;
    bool stop, hang_up;
    size_t slot_count;
    slot *slots;
    connection connections[CONNECTIONS_max];
};

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void *copy_of(const void *from, size_t size) {
    void *to = malloc(size + 1);
    TR_ASSERT(to != NULL);
    if (size > 0) {
        memcpy(to, from, size);
    }
    ((char *)to)[size] = '\0';
    return to;
}

static replay_script copy_script(const replay_script *script) {
    replay_script copy = *script;
    copy.bytes = copy_of(script->bytes, script->size);
    if (script->pieces != NULL) {
        copy.pieces = copy_of(script->pieces, script->piece_count * sizeof(uint32_t));
    }
    return copy;
}

static void free_script(replay_script *script) {
    free((void *)(uintptr_t)script->bytes);
    free((void *)(uintptr_t)script->pieces);
    *script = (replay_script){0};
}

static void listen_for(replay_server *server, connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data = {.ptr = c}};
    TR_ASSERT(epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) == 0);
}

static void drop(connection *c, bool reset) {
    if (reset) {
        struct linger hard = {.l_onoff = 1};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    }
    close(c->fd);
    free(c->in);
    free_script(&c->script);
    *c = (connection){.fd = -1};
}

static void next_piece(connection *c) {
    const replay_script *script = &c->script;
    if (script->pieces == NULL) {
        c->left = script->size;
    } else {
        c->left = script->pieces[c->piece];
    }
    c->left = c->left < script->size - c->at ? c->left : script->size - c->at;
}

static bool begin(replay_server *server, connection *c) {
    slot *slot = &server->slots[c->slot];
    if (slot->script_count == 0) {
        return false;
    }
    size_t i = slot->next < slot->script_count ? slot->next : slot->script_count - 1;
    slot->next++;
    c->script = copy_script(&slot->scripts[i]);
    c->at = c->piece = c->repeated = 0;
    c->due_ms = 0;
    next_piece(c);
    return true;
}

/* What has been said: the connection listens again, or ends. */
static void said(replay_server *server, connection *c) {
    replay_end end = c->script.end;
    free_script(&c->script);
    if (end == REPLAY_CLOSE) {
        /* With unread bytes a close would reset the connection and lose what was said last. */
        char rest[4096];
        shutdown(c->fd, SHUT_WR);
        while (recv(c->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0) {
        }
    }
    if (end != REPLAY_KEEP) {
        drop(c, end == REPLAY_RESET);
        return;
    }
    listen_for(server, c, EPOLLIN | EPOLLRDHUP);
}

static void speak(replay_server *server, connection *c) {
    replay_script *script = &c->script;
    for (;;) {
        if (c->due_ms > now_ms()) {
            listen_for(server, c, EPOLLRDHUP);
            return;
        }
        while (c->left > 0) {
            ssize_t n = send(c->fd, script->bytes + c->at, c->left, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) {
                listen_for(server, c, EPOLLOUT | EPOLLRDHUP);
                return;
            }
            if (n < 0) {
                drop(c, false);
                return;
            }
            c->at += (size_t)n;
            c->left -= (size_t)n;
            server->slots[c->slot].wrote += (uint64_t)n;
        }
        size_t pieces = script->pieces == NULL ? 1 : script->piece_count;
        if (++c->piece < pieces && c->at < script->size) {
            next_piece(c);
        } else if (c->repeated < script->repeats) {
            c->repeated++;
            c->piece = pieces - 1;
            size_t last = script->pieces == NULL ? script->size : script->pieces[pieces - 1];
            c->at = script->size - last;
            next_piece(c);
        } else {
            said(server, c);
            return;
        }
        c->due_ms = script->pause_ms == 0 ? 0 : now_ms() + script->pause_ms;
    }
}

/* Where the request ends, or 0; also keeps it. */
static size_t read_request(replay_server *server, connection *c) {
    c->in[c->in_size] = '\0';
    char *blank = strstr(c->in, "\r\n\r\n");
    char *line = strstr(c->in, "\r\n");
    if (blank == NULL) {
        return 0;
    }
    const char *length = strcasestr(c->in, "\r\ncontent-length: ");
    size_t announced = length == NULL || length > blank ? 0 : strtoul(length + 18, NULL, 10);
    size_t head = (size_t)(blank + 4 - c->in);
    if (c->in_size < head + announced) {
        return 0;
    }
    replay_request *request = &server->slots[c->slot].request;
    free(request->headers);
    free(request->body);
    request->count++;
    request->method[0] = request->target[0] = '\0';
    sscanf(c->in, "%15s %2047s", request->method, request->target);
    request->headers = copy_of(line, (size_t)(blank + 2 - line));
    request->body = copy_of(c->in + head, announced);
    request->body_size = announced;
    request->whole = length != NULL || strcmp(request->method, "GET") == 0;
    return head + announced;
}

static void receive(replay_server *server, connection *c) {
    for (;;) {
        if (c->in_room - c->in_size < 65536 + 1) {
            c->in_room = c->in_room == 0 ? 131072 : c->in_room * 2;
            TR_ASSERT(c->in_room < REQUEST_max);
            c->in = realloc(c->in, c->in_room);
            TR_ASSERT(c->in != NULL);
        }
        ssize_t n = recv(c->fd, c->in + c->in_size, 65536, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            drop(c, false);
            return;
        }
        c->in_size += (size_t)n;
        size_t used = read_request(server, c);
        if (used == 0) {
            continue;
        }
        memmove(c->in, c->in + used, c->in_size - used);
        c->in_size -= used;
        if (c->script.bytes != NULL) {
            continue; /* it spoke early */
        }
        if (!begin(server, c) || c->script.drops_connection) {
            drop(c, false);
            return;
        }
        speak(server, c);
        return;
    }
}

static void accept_one(replay_server *server, size_t i) {
    int fd = accept4(server->slots[i].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    connection *c = NULL;
    for (size_t k = 0; k < CONNECTIONS_max && c == NULL; k++) {
        c = server->connections[k].fd < 0 ? &server->connections[k] : NULL;
    }
    TR_ASSERT(c != NULL);
    *c = (connection){.fd = fd, .slot = i};
    server->slots[i].request.accepted++;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data = {.ptr = c}};
    TR_ASSERT(epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
    const slot *slot = &server->slots[i];
    size_t next = slot->next < slot->script_count ? slot->next : slot->script_count - 1;
    if (slot->script_count > 0 && slot->scripts[next].early && begin(server, c)) {
        speak(server, c);
    }
}

static void serve(replay_server *server, const struct epoll_event *event) {
    for (size_t i = 0; i < server->slot_count; i++) {
        if (event->data.ptr == &server->slots[i]) {
            accept_one(server, i);
            return;
        }
    }
    connection *c = event->data.ptr;
    if (c == NULL || c->fd < 0) {
        uint64_t count;
        ssize_t got = read(server->wake_fd, &count, sizeof(count));
        (void)got; /* EAGAIN: nobody woke it */
        return;
    }
    if ((event->events & EPOLLIN) != 0) {
        receive(server, c);
    } else if ((event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        drop(c, false);
    } else if (c->script.bytes != NULL) {
        speak(server, c);
    }
}

/* Milliseconds to the next write that waits for its time; -1 = none does. */
static int wait_ms(const replay_server *server) {
    uint64_t now = now_ms(), first = UINT64_MAX;
    for (size_t i = 0; i < CONNECTIONS_max; i++) {
        const connection *c = &server->connections[i];
        if (c->fd >= 0 && c->script.bytes != NULL && c->due_ms > 0) {
            first = c->due_ms < first ? c->due_ms : first;
        }
    }
    return first == UINT64_MAX ? -1 : first <= now ? 0 : (int)(first - now);
}

static void *run(void *arg) {
    replay_server *server = arg;
    struct epoll_event events[64];
    pthread_mutex_lock(&server->mtx);
    while (!server->stop) {
        int timeout_ms = wait_ms(server);
        pthread_mutex_unlock(&server->mtx);
        int count = epoll_wait(server->epoll_fd, events, 64, timeout_ms);
        pthread_mutex_lock(&server->mtx);
        for (int i = 0; i < count; i++) {
            serve(server, &events[i]);
        }
        for (size_t i = 0; i < CONNECTIONS_max; i++) {
            connection *c = &server->connections[i];
            if (c->fd >= 0 && server->hang_up) {
                drop(c, false);
            } else if (c->fd >= 0 && c->script.bytes != NULL && c->due_ms > 0 &&
                       c->due_ms <= now_ms()) {
                speak(server, c);
            }
        }
        server->hang_up = false;
    }
    pthread_mutex_unlock(&server->mtx);
    return NULL;
}

static bool open_slot(replay_server *server, slot *slot) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = slot}};
    slot->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (slot->fd < 0 || bind(slot->fd, (struct sockaddr *)&address, size) != 0 ||
        listen(slot->fd, 64) != 0 ||
        getsockname(slot->fd, (struct sockaddr *)&address, &size) != 0) {
        return false;
    }
    slot->port = ntohs(address.sin_port);
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, slot->fd, &event) == 0;
}

replay_server *replay_server_start(size_t slots) {
    replay_server *server = calloc(1, sizeof(*server));
    slot *all = calloc(slots, sizeof(*all));
    if (server == NULL || all == NULL) {
        free(all);
        free(server);
        return NULL;
    }
    server->slots = all;
    server->slot_count = slots;
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (size_t i = 0; i < CONNECTIONS_max; i++) {
        server->connections[i].fd = -1;
    }
    struct epoll_event event = {.events = EPOLLIN};
    TR_ASSERT(epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->wake_fd, &event) == 0);
    for (size_t i = 0; i < slots; i++) {
        TR_ASSERT(open_slot(server, &all[i]));
    }
    pthread_mutex_init(&server->mtx, NULL);
    TR_ASSERT(pthread_create(&server->thread, NULL, run, server) == 0);
    return server;
}

static void lock(replay_server *server) {
    pthread_mutex_lock(&server->mtx);
}

static void unlock_and_wake(replay_server *server) {
    uint64_t one = 1;
    TR_ASSERT(write(server->wake_fd, &one, sizeof(one)) == sizeof(one));
    pthread_mutex_unlock(&server->mtx);
}

void replay_server_stop(replay_server *server) {
    lock(server);
    server->stop = true;
    unlock_and_wake(server);
    pthread_join(server->thread, NULL);
    for (size_t i = 0; i < CONNECTIONS_max; i++) {
        if (server->connections[i].fd >= 0) {
            drop(&server->connections[i], false);
        }
    }
    for (size_t i = 0; i < server->slot_count; i++) {
        replay_server_clear(server, i);
        close(server->slots[i].fd);
    }
    close(server->epoll_fd);
    close(server->wake_fd);
    pthread_mutex_destroy(&server->mtx);
    free(server->slots);
    free(server);
}

uint16_t replay_server_port(const replay_server *server, size_t slot) {
    return server->slots[slot].port;
}

void replay_server_add(replay_server *server, size_t slot, const replay_script *script) {
    lock(server);
    TR_ASSERT(server->slots[slot].script_count < SCRIPTS_max);
    server->slots[slot].scripts[server->slots[slot].script_count++] = copy_script(script);
    pthread_mutex_unlock(&server->mtx);
}

void replay_server_clear(replay_server *server, size_t slot) {
    lock(server);
    struct slot *s = &server->slots[slot];
    for (size_t i = 0; i < s->script_count; i++) {
        free_script(&s->scripts[i]);
    }
    s->script_count = s->next = 0;
    s->wrote = 0;
    replay_request_fini(&s->request);
    pthread_mutex_unlock(&server->mtx);
}

replay_request replay_server_request(replay_server *server, size_t slot) {
    lock(server);
    replay_request copy = server->slots[slot].request;
    copy.headers = copy_of(copy.headers, copy.headers == NULL ? 0 : strlen(copy.headers));
    copy.body = copy_of(copy.body, copy.body_size);
    pthread_mutex_unlock(&server->mtx);
    return copy;
}

void replay_request_fini(replay_request *request) {
    free(request->headers);
    free(request->body);
    *request = (replay_request){0};
}

size_t replay_server_open(replay_server *server) {
    size_t count = 0;
    lock(server);
    for (size_t i = 0; i < CONNECTIONS_max; i++) {
        count += server->connections[i].fd >= 0;
    }
    pthread_mutex_unlock(&server->mtx);
    return count;
}

uint64_t replay_server_wrote(replay_server *server, size_t slot) {
    lock(server);
    uint64_t wrote = server->slots[slot].wrote;
    pthread_mutex_unlock(&server->mtx);
    return wrote;
}

void replay_server_hang_up(replay_server *server) {
    lock(server);
    server->hang_up = true;
    unlock_and_wake(server);
}
