/*
 * The door to a daemon in the same process: protocol/inproc.h over NNG's pair0. The descriptor is
 * an eventfd, written when the pipe is there or gone, and when a receive or a send that had to wait
 * is through; so NNG's threads run no code of ours but these three notes. (RECVFD and SENDFD would
 * do without them, but NNG 1.5 never closes these.) Also where it is decided whether NNG may be
 * used at all: in a child of a process that has opened it, it aborts. For inproc:// the process
 * must hold a daemon, hence threads; one with a single thread (such as a fresh child) has none, and
 * is told so before NNG is touched.
 */
#include "protocol/client/door_nng.h"

#include <dirent.h>
#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/push.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol/client/process.h"
#include "protocol/inproc.h"
#include "protocol/limits.h"

typedef struct inproc_door {
    tri_door door; /* fd: the eventfd */
    nng_socket pair, push;
    bool pair_open, push_open;
    nng_aio *receive, *send; /* what waits; NULL only in a half-built door */
    bool receiving, sending; /* handed to NNG, and not looked at since */
    nng_msg *msg;            /* being read */
    size_t msg_at;
    /* by NNG's threads; acquired by the door's caller */
    _Atomic bool added, removed, received, sent;
} inproc_door;

/* The process that used NNG first through this library; 0 = none. Inherited by children. */
static _Atomic uint64_t nng_process;

static size_t count_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        return 0;
    }
    size_t count = 0;
    for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

tr_err tri_nng_allowed(tri_scheme scheme) {
    uint64_t process = tri_process();
    uint64_t first = 0;
    if (!atomic_compare_exchange_strong(&nng_process, &first, process) && first != process) {
        return tri_say(TR_ERR_FORKED,
                       "A tls+tcp:// or inproc:// client was opened before fork, and the library "
                       "under it cannot be used in a child of such a process: open the clients "
                       "after fork only, or use ipc:// or tcp://.");
    }
    if (scheme == TRI_INPROC && count_threads() == 1) {
        return tri_say(TR_ERR_NO_DAEMON, "No daemon runs in this process: call tr_daemon_start "
                                         "here (after fork), or use the daemon's ipc:// address.");
    }
    return TR_OK;
}

static void note(inproc_door *inproc, _Atomic bool *flag) {
    atomic_store(flag, true);
    uint64_t one = 1;
    ssize_t written = write(inproc->door.fd, &one, sizeof one);
    (void)written; /* full means that it is readable already */
}

static void pipe_event(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    (void)pipe;
    inproc_door *inproc = arg;
    note(inproc, event == NNG_PIPE_EV_ADD_POST ? &inproc->added : &inproc->removed);
}

static void receive_done(void *arg) {
    inproc_door *inproc = arg;
    note(inproc, &inproc->received);
}

static void send_done(void *arg) {
    inproc_door *inproc = arg;
    note(inproc, &inproc->sent);
}

static tr_err inproc_connected(tri_door *door, const char **ret_why) {
    inproc_door *inproc = (inproc_door *)door;
    if (!atomic_load(&inproc->added)) {
        *ret_why = "it does not answer";
        return TR_ERR_FULL;
    }
    if (inproc->push_open) {
        nng_close(inproc->push);
        inproc->push_open = false;
    }
    return TR_OK;
}

/* The next message: 0, NNG_EAGAIN, or another when there will be none. The descriptor is cleared
 * only here and before the last look, so that it stays readable until there is nothing to read. */
static int next_message(inproc_door *inproc) {
    bool removed = atomic_load(&inproc->removed); /* before the look, or a message is missed */
    if (!inproc->receiving) {
        int error = nng_recvmsg(inproc->pair, &inproc->msg, NNG_FLAG_NONBLOCK);
        if (error != NNG_EAGAIN || removed) {
            return error == NNG_EAGAIN ? NNG_ECLOSED : error;
        }
        uint64_t count;
        ssize_t got = read(inproc->door.fd, &count, sizeof count);
        (void)got; /* EAGAIN: it was clear */
        atomic_store(&inproc->received, false);
        inproc->receiving = true;
        nng_recv_aio(inproc->pair, inproc->receive);
        removed = atomic_load(&inproc->removed);
    }
    if (removed) { /* NNG goes on waiting, for another pipe */
        nng_aio_cancel(inproc->receive);
    } else if (!atomic_load(&inproc->received)) {
        return NNG_EAGAIN;
    }
    nng_aio_wait(inproc->receive); /* for its note to have returned */
    inproc->receiving = false;
    int error = nng_aio_result(inproc->receive);
    if (error == 0) {
        inproc->msg = nng_aio_get_msg(inproc->receive);
    }
    return error;
}

static ssize_t inproc_recv(tri_door *door, void *data, size_t size) {
    inproc_door *inproc = (inproc_door *)door;
    while (inproc->msg == NULL) {
        int error = next_message(inproc);
        if (error != 0) {
            return error == NNG_EAGAIN ? -EAGAIN : 0;
        }
        inproc->msg_at = 0;
        if (nng_msg_len(inproc->msg) == 0) {
            nng_msg_free(inproc->msg);
            inproc->msg = NULL;
        }
    }
    size_t left = nng_msg_len(inproc->msg) - inproc->msg_at;
    size_t count = left < size ? left : size;
    memcpy(data, (const uint8_t *)nng_msg_body(inproc->msg) + inproc->msg_at, count);
    inproc->msg_at += count;
    if (count == left) {
        nng_msg_free(inproc->msg);
        inproc->msg = NULL;
    }
    return (ssize_t)count;
}

/* What the send that waited has come to: 0, NNG_EAGAIN, or an error. */
static int finish_send(inproc_door *inproc) {
    if (!inproc->sending) {
        return 0;
    }
    if (!atomic_load(&inproc->sent)) {
        return NNG_EAGAIN;
    }
    nng_aio_wait(inproc->send);
    inproc->sending = false;
    int error = nng_aio_result(inproc->send);
    if (error != 0) {
        nng_msg_free(nng_aio_get_msg(inproc->send));
    }
    return error;
}

/* A message that finds the queue full waits in NNG, and counts as sent; one at a time. */
static ssize_t inproc_send(tri_door *door, const void *data, size_t size) {
    inproc_door *inproc = (inproc_door *)door;
    int error = finish_send(inproc);
    if (error != 0 || atomic_load(&inproc->removed)) {
        return error == NNG_EAGAIN && !atomic_load(&inproc->removed) ? -EAGAIN : -EPIPE;
    }
    size_t count = size < TR_LINK_BUFFER_max ? size : TR_LINK_BUFFER_max;
    nng_msg *msg = NULL;
    if (nng_msg_alloc(&msg, count) != 0) {
        return -ENOMEM;
    }
    memcpy(nng_msg_body(msg), data, count);
    error = nng_sendmsg(inproc->pair, msg, NNG_FLAG_NONBLOCK);
    if (error == NNG_EAGAIN) {
        atomic_store(&inproc->sent, false);
        inproc->sending = true;
        nng_aio_set_msg(inproc->send, msg);
        nng_send_aio(inproc->pair, inproc->send);
        return (ssize_t)count;
    }
    if (error != 0) {
        nng_msg_free(msg);
        return -EPIPE;
    }
    return (ssize_t)count;
}

static void inproc_close(tri_door *door) {
    inproc_door *inproc = (inproc_door *)door;
    if (inproc->push_open) {
        nng_close(inproc->push);
    }
    if (inproc->pair_open) {
        nng_close(inproc->pair); /* waits for a running notification */
    }
    if (inproc->receive != NULL) {
        nng_aio_stop(inproc->receive);
        if (inproc->receiving && nng_aio_result(inproc->receive) == 0) {
            nng_msg_free(nng_aio_get_msg(inproc->receive));
        }
        nng_aio_free(inproc->receive);
    }
    if (inproc->send != NULL) {
        nng_aio_stop(inproc->send);
        if (inproc->sending && nng_aio_result(inproc->send) != 0) {
            nng_msg_free(nng_aio_get_msg(inproc->send));
        }
        nng_aio_free(inproc->send);
    }
    nng_msg_free(inproc->msg);
    if (inproc->door.fd >= 0) {
        close(inproc->door.fd);
    }
    free(inproc);
}

static const tri_door_ops inproc_ops = {
    .connected = inproc_connected, .recv = inproc_recv, .send = inproc_send, .close = inproc_close};

static int open_pair(inproc_door *inproc, const char *own_url) {
    int error = nng_pair0_open(&inproc->pair);
    if (error != 0) {
        return error;
    }
    inproc->pair_open = true;
    error = nng_socket_set_int(inproc->pair, NNG_OPT_RECVBUF, TR_INPROC_QUEUE);
    error = error != 0 ? error
                       : nng_pipe_notify(inproc->pair, NNG_PIPE_EV_ADD_POST, pipe_event, inproc);
    error = error != 0 ? error
                       : nng_pipe_notify(inproc->pair, NNG_PIPE_EV_REM_POST, pipe_event, inproc);
    error = error != 0 ? error : nng_aio_alloc(&inproc->receive, receive_done, inproc);
    error = error != 0 ? error : nng_aio_alloc(&inproc->send, send_done, inproc);
    return error != 0 ? error : nng_listen(inproc->pair, own_url, NULL, 0);
}

/* Tells the daemon our address; it dials back. */
static int call_daemon(inproc_door *inproc, const char *daemon_url, const char *own_url) {
    int error = nng_push0_open(&inproc->push);
    if (error != 0) {
        return error;
    }
    inproc->push_open = true;
    error = nng_socket_set_ms(inproc->push, NNG_OPT_SENDTIMEO, TR_INPROC_CONNECT_MS);
    error = error != 0 ? error : nng_dial(inproc->push, daemon_url, NULL, 0);
    nng_msg *msg = NULL;
    error = error != 0 ? error : nng_msg_alloc(&msg, 0);
    error = error != 0 ? error : nng_msg_append(msg, own_url, strlen(own_url));
    error = error != 0 ? error : nng_sendmsg(inproc->push, msg, 0);
    if (error != 0) {
        nng_msg_free(msg);
    }
    return error;
}

static tr_err dial_inproc(inproc_door *inproc, const tri_place *place, const char **ret_why) {
    static _Atomic unsigned serial;
    char own_url[TR_INPROC_URL_max + 1];
    int length =
        snprintf(own_url, sizeof own_url, "%s/client-%u", place->url, atomic_fetch_add(&serial, 1));
    if (length < 0 || (size_t)length >= sizeof own_url) {
        *ret_why = "the address is too long";
        return TR_ERR_INVALID;
    }
    if (inproc->door.fd < 0) {
        *ret_why = "no descriptor is left";
        return TR_ERR_IO;
    }
    int error = open_pair(inproc, own_url);
    error = error != 0 ? error : call_daemon(inproc, place->url, own_url);
    if (error == 0) {
        return TR_OK;
    }
    *ret_why = error == NNG_ECONNREFUSED ? "no daemon of that name runs in this process"
                                         : nng_strerror(error);
    return error == NNG_ENOMEM ? TR_ERR_NOMEM : TR_ERR_NO_DAEMON;
}

tr_err tri_door_dial_inproc(const tri_place *place, tri_door **ret, const char **ret_why) {
    inproc_door *inproc = calloc(1, sizeof *inproc);
    if (inproc == NULL) {
        *ret_why = "out of memory";
        return TR_ERR_NOMEM;
    }
    inproc->door = (tri_door){
        .ops = &inproc_ops, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .one_way = true};
    tr_err err = dial_inproc(inproc, place, ret_why);
    if (err != TR_OK) {
        inproc_close(&inproc->door);
        return err;
    }
    *ret = &inproc->door;
    return TR_OK;
}

tr_err tri_door_dial_nng(const tri_place *place, tri_door **ret, const char **ret_why) {
    return place->scheme == TRI_TLS ? tri_door_dial_tls(place, ret, ret_why)
                                    : tri_door_dial_inproc(place, ret, ret_why);
}
