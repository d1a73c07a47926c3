/*
 * Messages between actors over NNG inproc. What a shard sends to another in one step leaves as one
 * NNG message of frames, since an NNG message costs more than many of ours. Messages that hold
 * pointers are parked beside the sockets and a frame says "take the next parked one", so they keep
 * their place in the order. Sending blocks at most until a receive callback has run, and those only
 * push on an inbox that has no bound, so no circle can wait on itself. A receive that lacks memory
 * waits and tries the same frame again: nothing is lost.
 *
 * Sends run on the sending shard's thread, receives on NNG's.
 */
#include "runtime/transport_nng_mailbox.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

#include "protocol/assert.h"
#include "runtime/memory.h"
#include "runtime/shard_internal.h"

#define BATCH_BYTES ((size_t)64 * 1024)
#define QUEUE 64 /* NNG messages that wait at either side */
#define RETRY_MS 10
#define NO_BODY UINT32_MAX

typedef struct frame {
    tr_id to;
    tr_id from;
    uint64_t ref;
    uint16_t kind;
    uint16_t flags;
    uint32_t size;
    uint32_t body_size; /* NO_BODY = none */
    uint32_t parked;    /* 1 = the next parked message, and nothing follows */
} frame;

typedef struct pair {
    /* set at init */
    tri_mailbox *mailbox;
    uint32_t to;
    nng_socket out, in;
    nng_aio *aio;
    bool opened;
    /* the sending shard's thread */
    tr_msg *first, *last;
    /* the receive's callback: one at a time */
    nng_msg *held;
    size_t held_at;
    /* guarded by parked_mtx */
    pthread_mutex_t parked_mtx;
    tr_msg *parked_first, *parked_last;
} pair;

struct tri_mailbox {
    tr_node *node;
    uint32_t shards;
    pair *pairs;            /* [from * shards + to] */
    _Atomic uint64_t count; /* relaxed: a figure for people */
};

static void append(tr_msg **first, tr_msg **last, tr_msg *msg) {
    msg->next = NULL;
    if (*last != NULL) {
        (*last)->next = msg;
    } else {
        *first = msg;
    }
    *last = msg;
}

static void free_chain(tr_msg *msg) {
    while (msg != NULL) {
        tr_msg *next = msg->next;
        tr_msg_free(msg);
        msg = next;
    }
}

static tr_msg *unpark(pair *at) {
    pthread_mutex_lock(&at->parked_mtx);
    tr_msg *msg = at->parked_first;
    TR_ASSERT(msg != NULL); /* it was parked before its frame left */
    at->parked_first = msg->next;
    if (at->parked_first == NULL) {
        at->parked_last = NULL;
    }
    pthread_mutex_unlock(&at->parked_mtx);
    return msg;
}

/* The message of the frame at `bytes`; NULL = out of memory. */
static tr_msg *decode(pair *at, const uint8_t *bytes, size_t *ret_size) {
    frame head;
    memcpy(&head, bytes, sizeof head);
    *ret_size = sizeof head;
    if (head.parked != 0) {
        return unpark(at);
    }
    tr_msg *msg = tr_msg_new(head.kind, head.size);
    if (msg == NULL) {
        return NULL;
    }
    msg->to = head.to;
    msg->from = head.from;
    msg->ref = head.ref;
    msg->flags = head.flags;
    memcpy(msg->data, bytes + sizeof head, head.size);
    *ret_size += head.size;
    if (head.body_size != NO_BODY) {
        msg->body = tr_body_new(head.body_size);
        if (msg->body == NULL) {
            tr_msg_free(msg);
            return NULL;
        }
        memcpy(msg->body->bytes, bytes + *ret_size, head.body_size);
        *ret_size += head.body_size;
    }
    return msg;
}

/* Gives the frames of at->held to the shard. False when memory ran out in between. */
static bool deliver_held(pair *at) {
    const uint8_t *bytes = nng_msg_body(at->held);
    size_t size = nng_msg_len(at->held);
    tr_msg *newest = NULL;
    tr_msg *oldest = NULL;
    bool whole = true;
    while (at->held_at < size) {
        size_t used;
        tr_msg *msg = decode(at, bytes + at->held_at, &used);
        if (msg == NULL) {
            whole = false;
            break;
        }
        at->held_at += used;
        msg->next = newest;
        newest = msg;
        oldest = oldest == NULL ? msg : oldest;
    }
    tr_shard *shard = &at->mailbox->node->shards[at->to];
    if (newest != NULL && tri_inbox_push(&shard->inbox, newest, oldest)) {
        tri_wake(shard);
    }
    return whole;
}

static void on_received(void *arg) {
    pair *at = arg;
    if (at->held == NULL) {
        if (nng_aio_result(at->aio) != 0) {
            return; /* closed: the mailbox is being freed */
        }
        at->held = nng_aio_get_msg(at->aio);
        at->held_at = 0;
    } else if (nng_aio_result(at->aio) != 0) {
        return;
    }
    if (!deliver_held(at)) {
        nng_sleep_aio(RETRY_MS, at->aio);
        return;
    }
    nng_msg_free(at->held);
    at->held = NULL;
    nng_recv_aio(at->in, at->aio);
}

static tr_err open_pair(pair *at, const char *url) {
    pthread_mutex_init(&at->parked_mtx, NULL);
    if (nng_aio_alloc(&at->aio, on_received, at) != 0) {
        at->aio = NULL;
        return TR_ERR_NOMEM;
    }
    if (nng_pair0_open(&at->out) != 0) {
        return TR_ERR_NOMEM;
    }
    if (nng_pair0_open(&at->in) != 0) {
        nng_close(at->out);
        return TR_ERR_NOMEM;
    }
    at->opened = true;
    if (nng_socket_set_int(at->out, NNG_OPT_SENDBUF, QUEUE) != 0 ||
        nng_socket_set_int(at->in, NNG_OPT_RECVBUF, QUEUE) != 0 ||
        nng_socket_set_size(at->in, NNG_OPT_RECVMAXSZ, 0) != 0 ||
        nng_listen(at->in, url, NULL, 0) != 0 || nng_dial(at->out, url, NULL, 0) != 0) {
        return TR_ERR_IO;
    }
    nng_recv_aio(at->in, at->aio);
    return TR_OK;
}

tr_err tri_mailbox_new(tr_node *node, tri_mailbox **ret) {
    static _Atomic uint32_t serial; /* relaxed: only its values must differ */
    uint32_t shards = node->spec.shards;
    tri_mailbox *mailbox = tr_zalloc(sizeof *mailbox);
    pair *pairs = tr_zalloc((size_t)shards * shards * sizeof *pairs);
    if (mailbox == NULL || pairs == NULL) {
        tr_free(mailbox);
        tr_free(pairs);
        return TR_ERR_NOMEM;
    }
    mailbox->node = node;
    mailbox->shards = shards;
    mailbox->pairs = pairs;
    uint32_t number = atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed);
    for (uint32_t from = 0; from < shards; from++) {
        for (uint32_t to = 0; to < shards; to++) {
            char url[NNG_MAXADDRLEN];
            snprintf(url, sizeof url, "inproc://troupe-mailbox-%d-%u-%u-%u", (int)getpid(), number,
                     from, to);
            pair *at = &pairs[from * shards + to];
            at->mailbox = mailbox;
            at->to = to;
            tr_err err = open_pair(at, url);
            if (err != TR_OK) {
                tri_mailbox_free(mailbox);
                return err;
            }
        }
    }
    *ret = mailbox;
    return TR_OK;
}

void tri_mailbox_free(tri_mailbox *mailbox) {
    if (mailbox == NULL) {
        return;
    }
    for (uint32_t i = 0; i < mailbox->shards * mailbox->shards; i++) {
        pair *at = &mailbox->pairs[i];
        if (at->mailbox == NULL) {
            continue; /* never opened */
        }
        if (at->aio != NULL) {
            nng_aio_stop(at->aio);
            nng_aio_free(at->aio);
        }
        if (at->opened) {
            nng_close(at->out);
            nng_close(at->in);
        }
        if (at->held != NULL) {
            nng_msg_free(at->held);
        }
        free_chain(at->first);
        free_chain(at->parked_first);
        pthread_mutex_destroy(&at->parked_mtx);
    }
    tr_free(mailbox->pairs);
    tr_free(mailbox);
}

void tri_mailbox_send(tri_mailbox *mailbox, uint32_t from, uint32_t to, tr_msg *msg) {
    pair *at = &mailbox->pairs[from * mailbox->shards + to];
    append(&at->first, &at->last, msg);
}

/* Adds a frame for `msg` to `batch`, whole or not at all. */
static bool encode(nng_msg *batch, const tr_msg *msg, bool parked) {
    frame head = {.to = msg->to,
                  .from = msg->from,
                  .ref = msg->ref,
                  .kind = msg->kind,
                  .flags = msg->flags,
                  .size = msg->size,
                  .body_size = msg->body != NULL ? (uint32_t)msg->body->size : NO_BODY,
                  .parked = parked ? 1 : 0};
    size_t before = nng_msg_len(batch);
    bool ok = nng_msg_append(batch, &head, sizeof head) == 0;
    if (ok && !parked) {
        ok = nng_msg_append(batch, msg->data, msg->size) == 0 &&
             (msg->body == NULL || nng_msg_append(batch, msg->body->bytes, msg->body->size) == 0);
    }
    if (!ok) {
        nng_msg_chop(batch, nng_msg_len(batch) - before);
    }
    return ok;
}

/* One NNG message out of what waits; false when there is no memory for it. */
static bool send_batch(pair *at) {
    nng_msg *batch;
    if (nng_msg_alloc(&batch, 0) != 0) {
        return false;
    }
    uint64_t count = 0;
    while (at->first != NULL && nng_msg_len(batch) < BATCH_BYTES) {
        tr_msg *msg = at->first;
        bool parked =
            (msg->flags & TR_MSG_LOCAL) != 0 || (msg->body != NULL && msg->body->fini != NULL);
        if (!encode(batch, msg, parked)) {
            break;
        }
        at->first = msg->next;
        at->last = at->first == NULL ? NULL : at->last;
        if (parked) {
            pthread_mutex_lock(&at->parked_mtx);
            append(&at->parked_first, &at->parked_last, msg);
            pthread_mutex_unlock(&at->parked_mtx);
        } else {
            tr_msg_free(msg);
        }
        count++;
    }
    if (count == 0 || nng_sendmsg(at->out, batch, 0) != 0) {
        /* Only a socket that is closed refuses, and it is closed after the last step. */
        TR_ASSERT(count == 0);
        nng_msg_free(batch);
        return false;
    }
    atomic_fetch_add_explicit(&at->mailbox->count, count, memory_order_relaxed);
    return true;
}

bool tri_mailbox_flush(tri_mailbox *mailbox, uint32_t from) {
    for (uint32_t to = 0; to < mailbox->shards; to++) {
        pair *at = &mailbox->pairs[from * mailbox->shards + to];
        while (at->first != NULL) {
            if (!send_batch(at)) {
                return false;
            }
        }
    }
    return true;
}

uint64_t tri_mailbox_count(const tri_mailbox *mailbox) {
    return atomic_load_explicit(&mailbox->count, memory_order_relaxed);
}
