/*
 * The transport over NNG's byte streams: tcp and, where the library has it, tls+tcp; dials of ipc
 * too, whose listeners are in transport_socket.c; inproc is in transport_nng_inproc.c. NNG runs
 * callbacks on a pool of its own threads, so each one here turns its completion into a message
 * (stream.c) and returns. What keeps this file as it is, all measured: an aio is re-armed from its
 * own completion only and never cancelled (ends come by closing the stream); a receive is armed in
 * the accept callback, since NNG's poller spins on a stream whose peer left before the first one;
 * sends are short and loop; a full backlog refuses a dial with NNG_EAGAIN, which is retried; an
 * accept that fails for want of descriptors waits before the next. Objects are freed by the
 * reaper's thread. Called from shards; see transport.h.
 */
#include "runtime/transport_nng.h"

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <nng/supplemental/util/platform.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"
#include "runtime/node.h"
#include "runtime/stream.h"
#include "runtime/transport_socket.h"

#define DIAL_MS_max 10000
#define DIAL_BUSY_MS_max 5000 /* how long a full backlog is tried again */
#define DIAL_BUSY_MS_first 2
#define ACCEPT_PAUSE_MS_first 20
#define ACCEPT_PAUSE_MS_max 1000

typedef struct door_listener {
    tr_listener base;
    tri_reap reap;
    nng_stream_listener *nng;
    nng_aio *aio;
    tr_node *node;
    tr_id owner;
    uint64_t ref;
    char *url;
    nng_duration pause_ms;
    bool pausing;          /* accept callback only */
    _Atomic uint32_t refs; /* the owner's and the accept's; the last (acq_rel) reaps */
    pthread_mutex_t mtx;
    bool closed; /* guarded by mtx */
} door_listener;

typedef struct pending_dial {
    tri_reap reap;
    struct pending_dial *next, *prev; /* guarded by dials_mtx */
    nng_stream_dialer *nng;
    nng_aio *aio;
    tr_node *node; /* guarded by dials_mtx; NULL = forgotten */
    tr_id owner;
    uint64_t ref;
    nng_time give_up_ms;
    nng_duration pause_ms;
    bool pausing;
} pending_dial;

static pthread_mutex_t dials_mtx = PTHREAD_MUTEX_INITIALIZER;
static pending_dial *dials; /* guarded by dials_mtx */

/* ---- listeners ---- */

static void free_listener(tri_reap *reap) {
    door_listener *listener = TRI_CONTAINER(door_listener, reap, reap);
    if (listener->nng != NULL) {
        nng_stream_listener_free(listener->nng);
    }
    nng_aio_free(listener->aio);
    pthread_mutex_destroy(&listener->mtx);
    tr_free(listener->url);
    tr_free(listener);
}

static void listener_unref(door_listener *listener) {
    if (atomic_fetch_sub_explicit(&listener->refs, 1, memory_order_acq_rel) == 1) {
        listener->reap.fn = free_listener;
        tri_reap_later(&listener->reap);
    }
}

static void give_accepted(door_listener *listener, nng_stream *nng) {
    tri_stream *stream;
    if (tri_nng_stream_new(nng, &stream) != TR_OK) {
        return; /* the peer sees its connection closed */
    }
    tr_msg *msg = tri_stream_opening(TR_STREAM_ACCEPTED, stream, TR_OK, listener->ref);
    if (msg == NULL) {
        return;
    }
    pthread_mutex_lock(&listener->mtx);
    bool closed = listener->closed;
    if (!closed) {
        tr_post(listener->node, listener->owner, msg);
    }
    pthread_mutex_unlock(&listener->mtx);
    if (closed) {
        tr_msg_free(msg); /* closes the stream */
    }
}

static void accept_done(void *arg) {
    door_listener *listener = arg;
    int rv = nng_aio_result(listener->aio);
    pthread_mutex_lock(&listener->mtx);
    bool closed = listener->closed;
    pthread_mutex_unlock(&listener->mtx);
    if (rv == 0 && !listener->pausing) {
        listener->pause_ms = ACCEPT_PAUSE_MS_first;
        give_accepted(listener, nng_aio_get_output(listener->aio, 0));
    }
    if (closed || rv == NNG_ECLOSED) {
        listener_unref(listener);
        return;
    }
    if (rv != 0 && !listener->pausing) {
        /* Out of descriptors or memory: at once would only fail at once. */
        listener->pausing = true;
        nng_duration pause_ms = listener->pause_ms;
        listener->pause_ms =
            pause_ms * 2 > ACCEPT_PAUSE_MS_max ? ACCEPT_PAUSE_MS_max : pause_ms * 2;
        nng_sleep_aio(pause_ms, listener->aio);
        return;
    }
    listener->pausing = false;
    nng_stream_listener_accept(listener->nng, listener->aio);
}

static void why_nng(char *why, size_t size, const char *url, int rv) {
    if (rv == NNG_EADDRINUSE) {
        snprintf(why, size, "another program listens at %s", url);
    } else {
        snprintf(why, size, "cannot listen at %s: %s", url, nng_strerror(rv));
    }
}

static int set_listener_options(nng_stream_listener *nng, const tr_listen_spec *spec, char *why,
                                size_t why_size) {
    /* Keepalive finds peers that vanished without a word, beside the actors' own heartbeats. */
    int rv = nng_stream_listener_set_bool(nng, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv != 0 && rv != NNG_ENOTSUP) {
        return rv;
    }
    if (strncmp(spec->url, "tls+tcp://", 10) != 0) {
        return 0;
    }
    nng_tls_config *config = NULL;
    rv = nng_tls_config_alloc(&config, NNG_TLS_MODE_SERVER);
    if (rv != 0) {
        return rv;
    }
    rv = nng_tls_config_cert_key_file(config, spec->cert_file, NULL);
    if (rv != 0) {
        snprintf(why, why_size, "cannot use the certificate and key in %s: %s", spec->cert_file,
                 nng_strerror(rv));
    } else {
        rv = nng_stream_listener_set_ptr(nng, NNG_OPT_TLS_CONFIG, config);
    }
    nng_tls_config_free(config);
    return rv;
}

static bool url_is(const char *url, const char *scheme) {
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

/* The address with the real port in place of 0. */
static void fill_url(door_listener *listener) {
    int port;
    char *colon = strrchr(listener->url, ':');
    if (colon == NULL || strcmp(colon, ":0") != 0 ||
        nng_stream_listener_get_int(listener->nng, NNG_OPT_TCP_BOUND_PORT, &port) != 0) {
        return;
    }
    size_t head = (size_t)(colon - listener->url);
    char *url = tr_alloc(head + 8);
    if (url != NULL) {
        snprintf(url, head + 8, "%.*s:%d", (int)head, listener->url, port);
        tr_free(listener->url);
        listener->url = url;
    }
}

static tr_err start_listening(door_listener *listener, const tr_listen_spec *spec, char *why,
                              size_t why_size) {
    why[0] = '\0';
    int rv = nng_stream_listener_alloc(&listener->nng, spec->url);
    if (rv == 0) {
        rv = set_listener_options(listener->nng, spec, why, why_size);
    }
    if (rv == 0) {
        rv = nng_stream_listener_listen(listener->nng);
    }
    if (rv != 0) {
        if (why[0] == '\0') {
            why_nng(why, why_size, spec->url, rv);
        }
        return tri_nng_err(rv);
    }
    fill_url(listener);
    return TR_OK;
}

static tr_err listen_at(tr_transport *transport, tr_self *self, const tr_listen_spec *spec,
                        tr_listener **ret, char *why, size_t why_size) {
    if (url_is(spec->url, "inproc://")) {
        tr_transport *inproc = tri_transport_inproc();
        return inproc->listen(inproc, self, spec, ret, why, why_size);
    }
    if (url_is(spec->url, "ipc://")) {
        tr_transport *socket = tri_transport_socket();
        return socket->listen(socket, self, spec, ret, why, why_size);
    }
    bool tls = url_is(spec->url, "tls+tcp://");
    if (!tls && !url_is(spec->url, "tcp://")) {
        snprintf(why, why_size, "%s is not an ipc://, tcp://, tls+tcp:// or inproc:// URL",
                 spec->url);
        return TR_ERR_INVALID;
    }
    if (tls && spec->cert_file == NULL) {
        snprintf(why, why_size, "%s needs a certificate file", spec->url);
        return TR_ERR_INVALID;
    }
    door_listener *listener = tr_zalloc(sizeof *listener);
    if (listener == NULL) {
        return TR_ERR_NOMEM;
    }
    pthread_mutex_init(&listener->mtx, NULL);
    listener->base.transport = transport;
    listener->node = tr_self_node(self);
    listener->owner = tr_self_id(self);
    listener->ref = spec->ref;
    listener->pause_ms = ACCEPT_PAUSE_MS_first;
    atomic_init(&listener->refs, 2);
    listener->url = tr_strndup(spec->url, strlen(spec->url));
    tr_err err = TR_ERR_NOMEM;
    if (listener->url != NULL && nng_aio_alloc(&listener->aio, accept_done, listener) == 0) {
        err = start_listening(listener, spec, why, why_size);
    } else {
        snprintf(why, why_size, "out of memory");
    }
    if (err != TR_OK) {
        free_listener(&listener->reap);
        return err;
    }
    nng_stream_listener_accept(listener->nng, listener->aio);
    *ret = &listener->base;
    return TR_OK;
}

static void listener_close(tr_listener *base) {
    if (base->transport != tr_transport_nng()) {
        base->transport->listener_close(base);
        return;
    }
    door_listener *listener = TRI_CONTAINER(door_listener, base, base);
    pthread_mutex_lock(&listener->mtx);
    TR_ASSERT(!listener->closed);
    listener->closed = true;
    pthread_mutex_unlock(&listener->mtx);
    nng_stream_listener_close(listener->nng);
    listener_unref(listener);
}

static void listener_url(const tr_listener *base, char *buf, size_t size) {
    if (base->transport != tr_transport_nng()) {
        base->transport->listener_url(base, buf, size);
        return;
    }
    snprintf(buf, size, "%s", TRI_CONTAINER(const door_listener, base, base)->url);
}

/* ---- dials ---- */

static void dial_free(tri_reap *reap) {
    pending_dial *dial = TRI_CONTAINER(pending_dial, reap, reap);
    if (dial->nng != NULL) {
        nng_stream_dialer_free(dial->nng);
    }
    nng_aio_free(dial->aio);
    tr_free(dial);
}

/* The dial is over: tells its owner, unless its node was forgotten. */
static void dial_end(pending_dial *dial, nng_stream *nng, int rv) {
    tri_stream *stream = NULL;
    tr_err err = rv == 0 ? tri_nng_stream_new(nng, &stream) : tri_nng_err(rv);
    if (err == TR_ERR_CLOSED) {
        err = TR_ERR_CONNECT;
    }
    tr_msg *msg = tri_stream_opening(TR_STREAM_DIALED, stream, err, dial->ref);
    pthread_mutex_lock(&dials_mtx);
    *(dial->prev != NULL ? &dial->prev->next : &dials) = dial->next;
    if (dial->next != NULL) {
        dial->next->prev = dial->prev;
    }
    if (dial->node != NULL && msg != NULL) {
        tr_post(dial->node, dial->owner, msg);
        msg = NULL;
    }
    pthread_mutex_unlock(&dials_mtx);
    tr_msg_free(msg);
    dial->reap.fn = dial_free;
    tri_reap_later(&dial->reap);
}

static void dial_done(void *arg) {
    pending_dial *dial = arg;
    int rv = nng_aio_result(dial->aio);
    if (dial->pausing) {
        dial->pausing = false;
        nng_stream_dialer_dial(dial->nng, dial->aio);
        return;
    }
    if (rv == NNG_EAGAIN && nng_clock() < dial->give_up_ms) {
        dial->pausing = true;
        /* Spread, since it was many at once that filled the backlog. */
        nng_duration pause_ms = dial->pause_ms + (nng_duration)(nng_random() % 8);
        dial->pause_ms = dial->pause_ms < 64 ? dial->pause_ms * 2 : dial->pause_ms;
        nng_sleep_aio(pause_ms, dial->aio);
        return;
    }
    dial_end(dial, rv == 0 ? nng_aio_get_output(dial->aio, 0) : NULL, rv);
}

/* The host of tls+tcp://HOST:PORT, without the brackets of an IPv6 address. */
static void host_of(const char *url, char *host, size_t size) {
    const char *start = url + strlen("tls+tcp://");
    const char *end = strrchr(start, ':');
    size_t length = end != NULL ? (size_t)(end - start) : strlen(start);
    if (length >= 2 && start[0] == '[' && start[length - 1] == ']') {
        start++;
        length -= 2;
    }
    snprintf(host, size, "%.*s", (int)length, start);
}

static int set_dialer_options(nng_stream_dialer *nng, const tr_dial_spec *spec) {
    if (url_is(spec->url, "ipc://")) {
        return 0;
    }
    int rv = nng_stream_dialer_set_bool(nng, NNG_OPT_TCP_KEEPALIVE, true);
    if ((rv != 0 && rv != NNG_ENOTSUP) || !url_is(spec->url, "tls+tcp://")) {
        return rv == NNG_ENOTSUP ? 0 : rv;
    }
    char host[TR_NAME_max + 1];
    host_of(spec->url, host, sizeof host);
    nng_tls_config *config = NULL;
    rv = nng_tls_config_alloc(&config, NNG_TLS_MODE_CLIENT);
    if (rv != 0) {
        return rv;
    }
    rv = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED);
    if (rv == 0) {
        rv = nng_tls_config_server_name(config, host);
    }
    if (rv == 0) {
        rv = nng_tls_config_ca_file(config, spec->ca_file);
    }
    if (rv == 0) {
        rv = nng_stream_dialer_set_ptr(nng, NNG_OPT_TLS_CONFIG, config);
    }
    nng_tls_config_free(config);
    return rv;
}

static tr_err dial_to(tr_transport *transport, tr_self *self, const tr_dial_spec *spec) {
    (void)transport;
    if (url_is(spec->url, "inproc://")) {
        return TR_ERR_UNSUPPORTED; /* only clients dial inside a process, by protocol/client */
    }
    if (url_is(spec->url, "tls+tcp://") && spec->ca_file == NULL) {
        return TR_ERR_INVALID;
    }
    pending_dial *dial = tr_zalloc(sizeof *dial);
    if (dial == NULL) {
        return TR_ERR_NOMEM;
    }
    dial->node = tr_self_node(self);
    dial->owner = tr_self_id(self);
    dial->ref = spec->ref;
    dial->pause_ms = DIAL_BUSY_MS_first;
    int rv = nng_stream_dialer_alloc(&dial->nng, spec->url);
    if (rv == 0) {
        rv = set_dialer_options(dial->nng, spec);
    }
    if (rv == 0) {
        rv = nng_aio_alloc(&dial->aio, dial_done, dial);
    }
    if (rv != 0) {
        dial_free(&dial->reap);
        return tri_nng_err(rv);
    }
    nng_aio_set_timeout(dial->aio, DIAL_MS_max);
    dial->give_up_ms = nng_clock() + DIAL_BUSY_MS_max;
    pthread_mutex_lock(&dials_mtx);
    dial->next = dials;
    if (dials != NULL) {
        dials->prev = dial;
    }
    dials = dial;
    pthread_mutex_unlock(&dials_mtx);
    nng_stream_dialer_dial(dial->nng, dial->aio);
    return TR_OK;
}

static void forget(tr_transport *transport, tr_node *node) {
    (void)transport;
    pthread_mutex_lock(&dials_mtx);
    for (pending_dial *dial = dials; dial != NULL; dial = dial->next) {
        if (dial->node == node) {
            dial->node = NULL;
        }
    }
    pthread_mutex_unlock(&dials_mtx);
}

tr_transport *tr_transport_nng(void) {
    static tr_transport transport = {.listen = listen_at,
                                     .listener_close = listener_close,
                                     .dial = dial_to,
                                     .attach = tri_stream_attach,
                                     .received = tri_stream_received,
                                     .send = tri_stream_send,
                                     .close = tri_stream_close,
                                     .peer_uid = tri_nng_peer_uid,
                                     .listener_url = listener_url,
                                     .forget = forget};
    tri_reaper_start();
    return &transport;
}
