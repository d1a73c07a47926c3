/*
 * The door over NNG's TLS stream. NNG's callbacks run on its own threads, so that they only move
 * bytes between two buffers here and write an eventfd, which is the door's descriptor. One receive
 * is armed as long as its buffer is empty; one send flies at a time. An aio is used again only
 * after nng_aio_wait, since using it before its callback has returned aborts the process (NNG 1.5).
 * Called as door.c is; the callbacks take `mtx` and nothing else.
 */
#include "protocol/client/door_nng.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol/limits.h"

typedef struct tls_door {
    tri_door door;
    nng_tls_config *config;
    nng_stream_dialer *dialer;
    nng_stream *stream;
    nng_aio *dial_aio, *rx_aio, *tx_aio;
    pthread_mutex_t mtx;
    /* Guarded by mtx. */
    bool connected;
    bool rx_armed, tx_flying;
    int error; /* NNG's; the connection is over */
    size_t rx_at, rx_size;
    size_t tx_at, tx_size;
    uint8_t rx[TR_LINK_BUFFER_max];
    uint8_t tx[TR_LINK_BUFFER_max];
} tls_door;

static void wake(tls_door *tls) {
    uint64_t one = 1;
    ssize_t written = write(tls->door.fd, &one, sizeof one);
    (void)written; /* full means that it is readable already */
}

static void arm_rx(tls_door *tls) {
    nng_iov iov = {.iov_buf = tls->rx, .iov_len = sizeof tls->rx};
    nng_aio_set_iov(tls->rx_aio, 1, &iov);
    nng_stream_recv(tls->stream, tls->rx_aio);
}

static void fly_tx(tls_door *tls) {
    nng_iov iov = {.iov_buf = tls->tx + tls->tx_at, .iov_len = tls->tx_size - tls->tx_at};
    nng_aio_set_iov(tls->tx_aio, 1, &iov);
    nng_stream_send(tls->stream, tls->tx_aio);
}

static void dialed(void *arg) {
    tls_door *tls = arg;
    int error = nng_aio_result(tls->dial_aio);
    pthread_mutex_lock(&tls->mtx);
    tls->error = error;
    if (error == 0) {
        tls->stream = nng_aio_get_output(tls->dial_aio, 0);
        tls->connected = true;
        tls->rx_armed = true;
    }
    pthread_mutex_unlock(&tls->mtx);
    if (error == 0) {
        arm_rx(tls);
    }
    wake(tls);
}

static void received(void *arg) {
    tls_door *tls = arg;
    int error = nng_aio_result(tls->rx_aio);
    pthread_mutex_lock(&tls->mtx);
    tls->rx_armed = false;
    if (error != 0 && tls->error == 0) {
        tls->error = error;
    }
    tls->rx_at = 0;
    tls->rx_size = error == 0 ? nng_aio_count(tls->rx_aio) : 0;
    pthread_mutex_unlock(&tls->mtx);
    wake(tls);
}

static void sent(void *arg) {
    tls_door *tls = arg;
    int error = nng_aio_result(tls->tx_aio);
    pthread_mutex_lock(&tls->mtx);
    if (error != 0 && tls->error == 0) {
        tls->error = error;
    }
    tls->tx_at += error == 0 ? nng_aio_count(tls->tx_aio) : 0;
    bool more = error == 0 && tls->tx_at < tls->tx_size;
    tls->tx_flying = more;
    pthread_mutex_unlock(&tls->mtx);
    if (more) {
        fly_tx(tls);
    } else {
        wake(tls);
    }
}

static tr_err tls_connected(tri_door *door, const char **ret_why) {
    tls_door *tls = (tls_door *)door;
    pthread_mutex_lock(&tls->mtx);
    bool connected = tls->connected;
    int error = tls->error;
    pthread_mutex_unlock(&tls->mtx);
    if (error == 0) {
        return connected ? TR_OK : TR_ERR_FULL;
    }
    *ret_why = nng_strerror(error);
    return error == NNG_ECRYPTO || error == NNG_EPEERAUTH ? TR_ERR_AUTH : TR_ERR_NO_DAEMON;
}

static void clear_fd(tls_door *tls) {
    uint64_t count;
    ssize_t got = read(tls->door.fd, &count, sizeof count);
    (void)got; /* EAGAIN: it was clear */
}

static ssize_t tls_recv(tri_door *door, void *data, size_t size) {
    tls_door *tls = (tls_door *)door;
    clear_fd(tls); /* before looking, so that what comes after the look wakes again */
    pthread_mutex_lock(&tls->mtx);
    size_t count = tls->rx_size - tls->rx_at < size ? tls->rx_size - tls->rx_at : size;
    memcpy(data, tls->rx + tls->rx_at, count);
    tls->rx_at += count;
    bool arm = count > 0 && tls->rx_at == tls->rx_size && !tls->rx_armed && tls->error == 0;
    bool left = tls->rx_at < tls->rx_size;
    tls->rx_armed = tls->rx_armed || arm;
    int error = tls->error;
    pthread_mutex_unlock(&tls->mtx);
    if (arm) {
        nng_aio_wait(tls->rx_aio);
        arm_rx(tls);
    }
    if (left || (count > 0 && error != 0)) {
        wake(tls);
    }
    if (count > 0) {
        return (ssize_t)count;
    }
    if (error == 0) {
        return -EAGAIN;
    }
    return error == NNG_ECONNSHUT || error == NNG_ECLOSED ? 0 : -ECONNRESET;
}

static ssize_t tls_send(tri_door *door, const void *data, size_t size) {
    tls_door *tls = (tls_door *)door;
    pthread_mutex_lock(&tls->mtx);
    int error = tls->error;
    bool busy = tls->tx_flying;
    pthread_mutex_unlock(&tls->mtx);
    if (error != 0) {
        return -EPIPE;
    }
    if (busy) {
        return -EAGAIN;
    }
    nng_aio_wait(tls->tx_aio);
    size_t count = size < sizeof tls->tx ? size : sizeof tls->tx;
    memcpy(tls->tx, data, count);
    pthread_mutex_lock(&tls->mtx);
    tls->tx_at = 0;
    tls->tx_size = count;
    tls->tx_flying = true;
    pthread_mutex_unlock(&tls->mtx);
    fly_tx(tls);
    return (ssize_t)count;
}

static void tls_close(tri_door *door) {
    tls_door *tls = (tls_door *)door;
    if (tls->dialer != NULL) {
        nng_stream_dialer_close(tls->dialer);
    }
    nng_aio_stop(tls->dial_aio);
    if (tls->stream != NULL) {
        nng_stream_close(tls->stream);
    }
    nng_aio_stop(tls->rx_aio);
    nng_aio_stop(tls->tx_aio);
    nng_aio_free(tls->dial_aio);
    nng_aio_free(tls->rx_aio);
    nng_aio_free(tls->tx_aio);
    if (tls->stream != NULL) {
        nng_stream_free(tls->stream);
    }
    if (tls->dialer != NULL) {
        nng_stream_dialer_free(tls->dialer);
    }
    if (tls->config != NULL) {
        nng_tls_config_free(tls->config);
    }
    if (tls->door.fd >= 0) {
        close(tls->door.fd);
    }
    pthread_mutex_destroy(&tls->mtx);
    free(tls);
}

static const tri_door_ops tls_ops = {
    .connected = tls_connected, .recv = tls_recv, .send = tls_send, .close = tls_close};

static int prepare(tls_door *tls, const tri_place *place) {
    int error = nng_aio_alloc(&tls->dial_aio, dialed, tls);
    error = error != 0 ? error : nng_aio_alloc(&tls->rx_aio, received, tls);
    error = error != 0 ? error : nng_aio_alloc(&tls->tx_aio, sent, tls);
    error = error != 0 ? error : nng_tls_config_alloc(&tls->config, NNG_TLS_MODE_CLIENT);
    error = error != 0 ? error : nng_tls_config_ca_file(tls->config, place->ca_file);
    error = error != 0 ? error : nng_tls_config_auth_mode(tls->config, NNG_TLS_AUTH_MODE_REQUIRED);
    error = error != 0 ? error : nng_stream_dialer_alloc(&tls->dialer, place->url);
    return error != 0 ? error
                      : nng_stream_dialer_set_ptr(tls->dialer, NNG_OPT_TLS_CONFIG, tls->config);
}

tr_err tri_door_dial_tls(const tri_place *place, tri_door **ret, const char **ret_why) {
    tls_door *tls = calloc(1, sizeof *tls);
    if (tls == NULL) {
        *ret_why = "out of memory";
        return TR_ERR_NOMEM;
    }
    pthread_mutex_init(&tls->mtx, NULL);
    tls->door =
        (tri_door){.ops = &tls_ops, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .one_way = true};
    if (tls->door.fd < 0) {
        *ret_why = "no descriptor is left";
        tls_close(&tls->door);
        return TR_ERR_IO;
    }
    int error = prepare(tls, place);
    if (error != 0) {
        *ret_why = error == NNG_ENOENT ? "ca_file cannot be read" : nng_strerror(error);
        tls_close(&tls->door);
        return error == NNG_ENOMEM ? TR_ERR_NOMEM : TR_ERR_INVALID;
    }
    nng_stream_dialer_dial(tls->dialer, tls->dial_aio);
    *ret = &tls->door;
    return TR_OK;
}
