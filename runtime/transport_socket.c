/*
 * The ipc:// side of the transport: a listening socket and the connections of clients and workers
 * on this host, read and written by the shard of the actor that owns each. NNG's streams carry the
 * same bytes (a client's may be one), but each of their operations ends on a thread of NNG's pool:
 * five futexes and two switches of threads a write, which was a quarter of what a streamed chunk
 * cost. Everything here runs on the owner's shard; a connection that nobody has attached yet is a
 * descriptor and nothing else, so that it may move to another shard.
 *
 * A descriptor is watched for what is wanted of it. Since epoll tells of a peer's end whether it is
 * asked or not, one of which nothing is wanted just then is taken off. Called through transport.h.
 */
#include "runtime/transport_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "runtime/memory.h"
#include "runtime/shard_internal.h"
#include "runtime/socket_file.h"
#include "runtime/stream.h"

#define ACCEPTS_a_turn 64
#define PAUSE_MS_first 20U
#define PAUSE_MS_max 1000U

typedef struct gate {
    tr_listener base;
    tr_self *self;
    uint64_t ref;
    int fd;
    int lock_fd;
    int timer_fd;      /* runs while no descriptor is left to accept with */
    uint32_t pause_ms; /* the next one */
    char *url;
} gate;

typedef struct door {
    tri_stream stream;
    int fd;           /* -1 = closed */
    tr_self *self;    /* the owner while attached */
    uint32_t watched; /* EPOLLIN and EPOLLOUT, as far as the epoll knows; 0 = not on it */
    bool reading;     /* a receive is under way */
    bool writing;     /* a send waits for room */
    tri_inbuf in;
} door;

static tr_transport *transport(void);

/* ---- streams ---- */

static void door_ready(tr_self *self, void *arg, int fd, uint32_t events);

/* Puts the descriptor on the epoll for `events`, or takes it off. */
static tr_err watch_for(door *d, uint32_t events) {
    uint32_t before = d->watched;
    if (events == before) {
        return TR_OK;
    }
    d->watched = events;
    if (events == 0) {
        tr_unwatch(d->self, d->fd);
        return TR_OK;
    }
    tr_err err = before != 0 ? tr_watch_change(d->self, d->fd, events)
                             : tri_watch(d->self, d->fd, events, door_ready, d);
    if (err != TR_OK) {
        d->watched = before;
    }
    return err;
}

static void read_ended(door *d, tr_err err) {
    d->reading = false;
    tri_stream_ended(&d->stream, err);
}

static void read_some(door *d) {
    ssize_t got = recv(d->fd, d->in.bytes, d->in.size, 0);
    if (got > 0) {
        d->reading = false;
        tri_stream_got(&d->stream, d->in.bytes, (size_t)got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        read_ended(d, TR_ERR_CLOSED);
    }
}

/* EAGAIN leaves errno so; *ret_done is what went out. */
static bool write_some(door *d, const char *bytes, size_t size, size_t *ret_done) {
    *ret_done = 0;
    while (*ret_done < size) {
        ssize_t sent = send(d->fd, bytes + *ret_done, size - *ret_done, MSG_NOSIGNAL);
        if (sent >= 0) {
            *ret_done += (size_t)sent;
        } else if (errno != EINTR) {
            return errno == EAGAIN;
        }
    }
    return true;
}

static void go_on_writing(door *d) {
    tri_stream *stream = &d->stream;
    size_t done = 0;
    bool fine = write_some(d, stream->send_body->bytes + stream->send_done,
                           stream->send_size - stream->send_done, &done);
    stream->send_done += done;
    d->writing = fine && stream->send_done < stream->send_size;
    if (d->writing && watch_for(d, d->watched | EPOLLOUT) == TR_OK) {
        return;
    }
    d->writing = false;
    tri_stream_sent(stream, fine && stream->send_done == stream->send_size);
}

static void door_ready(tr_self *self, void *arg, int fd, uint32_t events) {
    (void)self;
    (void)fd;
    door *d = arg;
    tri_stream_ref(&d->stream); /* it may end within */
    if (d->writing && (events & ~(uint32_t)EPOLLIN) != 0) {
        go_on_writing(d);
    }
    if (d->reading && (events & ~(uint32_t)EPOLLOUT) != 0) {
        read_some(d);
    } else if (d->fd >= 0) {
        /* Less is wanted than it was: nothing new has to be remembered, so this cannot fail. */
        (void)!watch_for(d, (d->reading ? EPOLLIN : 0U) | (d->writing ? EPOLLOUT : 0U));
    }
    tri_stream_unref(&d->stream);
}

/* From the owner's received(). */
static void door_arm(tri_stream *stream) {
    door *d = TRI_CONTAINER(door, stream, stream);
    tri_inbuf_follow(&d->in, stream->size);
    d->reading = true;
    if (d->fd < 0) {
        read_ended(d, TR_ERR_CLOSED);
    } else if (d->self != NULL) {
        tr_err err = watch_for(d, d->watched | EPOLLIN);
        if (err != TR_OK) {
            read_ended(d, err);
        }
    }
}

static void door_send(tri_stream *stream) {
    door *d = TRI_CONTAINER(door, stream, stream);
    if (d->fd < 0) {
        tri_stream_sent(stream, false);
    } else {
        go_on_writing(d);
    }
}

static size_t door_try_send(tr_stream *base, const void *bytes, size_t size) {
    door *d = TRI_CONTAINER(door, stream.base, base);
    size_t done = 0;
    if (d->fd >= 0) {
        (void)write_some(d, bytes, size, &done); /* what went wrong, the send behind it finds out */
    }
    return done;
}

static void door_shut(tri_stream *stream) {
    door *d = TRI_CONTAINER(door, stream, stream);
    if (d->fd < 0) {
        return;
    }
    if (d->watched != 0) {
        (void)!watch_for(d, 0);
    }
    close(d->fd);
    d->fd = -1;
    tri_stream_ref(stream);
    if (d->reading) {
        read_ended(d, TR_ERR_CLOSED);
    }
    if (d->writing) {
        d->writing = false;
        tri_stream_sent(stream, false);
    }
    tri_stream_unref(stream);
}

static void door_fini(tri_stream *stream) {
    door *d = TRI_CONTAINER(door, stream, stream);
    TR_ASSERT(d->fd < 0);
    tri_inbuf_fini(&d->in);
    tri_stream_fini(stream);
    tr_free(d);
}

static const tri_stream_io door_io = {
    .arm = door_arm, .start_send = door_send, .shut = door_shut, .fini = door_fini};

static void door_attach(tr_stream *base, tr_self *self) {
    door *d = TRI_CONTAINER(door, stream.base, base);
    if (d->watched != 0) {
        (void)!watch_for(d, 0);
    }
    d->self = self;
    tri_stream_attach(base, self);
    if (self != NULL && d->reading && d->fd >= 0) {
        tr_err err = watch_for(d, EPOLLIN);
        if (err != TR_OK) {
            read_ended(d, err);
        }
    }
}

static bool door_peer_uid(tr_stream *base, uint32_t *ret_uid) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    door *d = TRI_CONTAINER(door, stream.base, base);
    if (getsockopt(d->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
        return false;
    }
    *ret_uid = peer.uid;
    return true;
}

/* Takes the descriptor, also on failure. */
static tr_err door_new(int fd, door **ret) {
    door *d = tr_zalloc(sizeof *d);
    tr_err no_buffer = d != NULL ? tri_inbuf_init(&d->in) : TR_ERR_NOMEM;
    if (no_buffer != TR_OK || tri_stream_init(&d->stream, transport(), &door_io) != TR_OK) {
        if (d != NULL) {
            tri_inbuf_fini(&d->in);
        }
        tr_free(d);
        close(fd);
        return TR_ERR_NOMEM;
    }
    d->fd = fd;
    d->reading = true;
    *ret = d;
    return TR_OK;
}

/* ---- listeners ---- */

static void gate_ready(tr_self *self, void *arg, int fd, uint32_t events);

static void give_accepted(gate *g, int fd) {
    door *d;
    if (door_new(fd, &d) != TR_OK) {
        return; /* the peer sees its connection closed */
    }
    tr_msg *msg = tri_stream_opening(TR_STREAM_ACCEPTED, &d->stream, TR_OK, g->ref);
    if (msg != NULL) {
        (void)!tr_send_control(g->self, tr_self_id(g->self), msg);
    }
}

/* Out of descriptors or memory: at once would only fail at once. */
static void pause_accepting(gate *g) {
    struct itimerspec due = {.it_value = {.tv_sec = g->pause_ms / 1000,
                                          .tv_nsec = (long)(g->pause_ms % 1000) * 1000000}};
    g->pause_ms = g->pause_ms * 2 > PAUSE_MS_max ? PAUSE_MS_max : g->pause_ms * 2;
    if (timerfd_settime(g->timer_fd, 0, &due, NULL) == 0) {
        tr_unwatch(g->self, g->fd);
    }
}

static void gate_ready(tr_self *self, void *arg, int fd, uint32_t events) {
    (void)self;
    (void)events;
    gate *g = arg;
    for (int i = 0; i < ACCEPTS_a_turn; i++) {
        int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            g->pause_ms = PAUSE_MS_first;
            give_accepted(g, accepted);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            pause_accepting(g);
            return;
        }
    }
}

static void pause_over(tr_self *self, void *arg, int fd, uint32_t events) {
    gate *g = arg;
    uint64_t times;
    (void)events;
    (void)!read(fd, &times, sizeof times);
    if (tri_watch(self, g->fd, EPOLLIN, gate_ready, g) != TR_OK) {
        struct itimerspec due = {.it_value = {.tv_sec = 1}};
        (void)timerfd_settime(fd, 0, &due, NULL);
    }
}

static void close_fd(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

static void gate_free(gate *g) {
    close_fd(g->fd);
    close_fd(g->timer_fd);
    close_fd(g->lock_fd);
    tr_free(g->url);
    tr_free(g);
}

/* Only its user may connect: the mode is the file's from its first moment. */
static tr_err bind_to(gate *g, const char *path, char *why, size_t why_size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path)); /* its length was checked with the file */
    g->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (g->fd < 0 || g->timer_fd < 0 || fchmod(g->fd, 0600) != 0 ||
        bind(g->fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(g->fd, SOMAXCONN) != 0) {
        int error = errno;
        if (error == EADDRINUSE) {
            snprintf(why, why_size, "another program listens at %s", g->url);
        } else {
            snprintf(why, why_size, "cannot listen at %s: %s", g->url, strerror(error));
        }
        return error == EADDRINUSE ? TR_ERR_EXISTS : TR_ERR_IO;
    }
    return TR_OK;
}

static tr_err gate_listen(tr_transport *table, tr_self *self, const tr_listen_spec *spec,
                          tr_listener **ret, char *why, size_t why_size) {
    const char *path = spec->url + strlen("ipc://");
    gate *g = tr_zalloc(sizeof *g);
    snprintf(why, why_size, "out of memory");
    if (g == NULL) {
        return TR_ERR_NOMEM;
    }
    *g = (gate){.base = {.transport = table},
                .self = self,
                .ref = spec->ref,
                .fd = -1,
                .lock_fd = -1,
                .timer_fd = -1,
                .pause_ms = PAUSE_MS_first,
                .url = tr_strndup(spec->url, strlen(spec->url))};
    tr_err err = TR_ERR_NOMEM;
    if (g->url != NULL) {
        err = tri_socket_file_take(path, why, why_size, &g->lock_fd);
    }
    if (err != TR_OK) {
        gate_free(g);
        return err;
    }
    err = bind_to(g, path, why, why_size);
    if (err == TR_OK) {
        err = tri_watch(self, g->fd, EPOLLIN, gate_ready, g);
    }
    if (err == TR_OK) {
        err = tri_watch(self, g->timer_fd, EPOLLIN, pause_over, g);
        if (err != TR_OK) {
            tr_unwatch(self, g->fd);
            unlink(path);
        }
    }
    if (err != TR_OK) {
        gate_free(g);
        return err;
    }
    *ret = &g->base;
    return TR_OK;
}

static void gate_close(tr_listener *base) {
    gate *g = TRI_CONTAINER(gate, base, base);
    tr_unwatch(g->self, g->fd);
    tr_unwatch(g->self, g->timer_fd);
    unlink(g->url + strlen("ipc://"));
    gate_free(g);
}

static void gate_url(const tr_listener *base, char *buf, size_t size) {
    snprintf(buf, size, "%s", TRI_CONTAINER(const gate, base, base)->url);
}

static tr_transport *transport(void) {
    static tr_transport table = {.listen = gate_listen,
                                 .listener_close = gate_close,
                                 .attach = door_attach,
                                 .received = tri_stream_received,
                                 .send = tri_stream_send,
                                 .try_send = door_try_send,
                                 .close = tri_stream_close,
                                 .peer_uid = door_peer_uid,
                                 .listener_url = gate_url};
    return &table;
}

tr_transport *tri_transport_socket(void) {
    return transport();
}
