/*
 * The HTTP door of a shard: one curl multi whose sockets are watched on the shard's epoll and whose
 * timer is a timer of the actor, so curl never waits and never has a thread of ours. Transfers are
 * found by (user, ref); each has a limit of its own for the first byte, since curl's own total
 * limit counts paused time. Users are monitored: what a dead one left is aborted, at most 200 a
 * turn, for closing a TLS connection costs 50 µs.
 *
 * Spoken to by provider actors (http.h); runs on its shard.
 */
#include "providers/http.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "protocol/assert.h"
#include "providers/http_internal.h"
#include "runtime/memory.h"

#define TAG_CURL 0U
#define TAG_REAP 65535U
#define TAG_QUIET 65534U
#define REAP_a_turn 200U
#define GENTLE_us 200000U
#define CONNECTIONS_least 64U /* kept at least, idle ones included */
#define KEPT_max 1024U        /* entries of the table of transfers, once there are none */
#define QUIET_us 2000000U     /* without a transfer, after which a crowd's connections are closed */

typedef struct http_user {
    tr_id id;
    uint64_t monitor;
} http_user;

struct tri_http {
    tr_self *self; /* valid while one of the functions below runs */
    CURLM *multi;
    CURLSH *share; /* TLS sessions: a handle has its own otherwise, and none ever goes on */
    tri_transfer **transfers; /* by slot; NULL = free */
    uint32_t transfer_room;
    uint32_t active;
    uint32_t kept;      /* connections that curl may keep: it closes others as they fall idle */
    uint32_t free_from; /* no slot before it is free */
    tri_slots slots;
    http_user *users;
    uint32_t user_count;
    uint32_t user_room;
    uint64_t curl_timer;
    uint64_t reap_timer;
    uint64_t quiet_timer;
    uint64_t started; /* transfers since the start */
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static tr_err http_init(tr_self *self, void *state, const void *args);
static tr_err http_handle(tr_self *self, void *state, tr_msg **msg);
static void http_stop(tr_self *self, void *state, tr_err reason);
static void http_describe(const void *state, char *buf, size_t size);
static tr_err on_start(tri_http *http, tr_msg *msg);
static void on_taken(tri_http *http, const tr_msg *msg);
static void on_abort(tri_http *http, const tr_msg *msg);
static tr_err on_close(tri_http *http, const tr_msg *msg);
static void on_timer(tri_http *http, const tr_msg *msg);
static void on_down(tri_http *http, const tr_msg *msg);
static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known);
static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg);
static void on_ready(tr_self *self, void *state, int fd, uint32_t events);
static void reap_finished(tri_http *http);
static void reap_orphans(tri_http *http);
static void finish(tri_transfer *transfer, tr_err err, const char *message);
static void free_transfer(tri_transfer *transfer);
static tr_err know_user(tri_http *http, tr_id id);
static tr_err free_slot(tri_http *http, uint32_t *ret);

const tr_behaviour tr_http = {
    .name = "http",
    .state_size = sizeof(tri_http),
    .init = http_init,
    .handle = http_handle,
    .stop = http_stop,
    .describe = http_describe,
};

tr_child_spec tr_http_child(uint32_t shard, const char *name) {
    return (tr_child_spec){.name = name,
                           .behaviour = &tr_http,
                           .restart = TR_PERMANENT,
                           .shutdown_ms = 1000,
                           .shard = shard,
                           .mailbox_max = TR_HTTP_MAILBOX_max,
                           .registers = true};
}

tr_self *tri_http_self(const tri_http *http) {
    return http->self;
}

CURLM *tri_http_multi(const tri_http *http) {
    return http->multi;
}

CURLSH *tri_http_share(const tri_http *http) {
    return http->share;
}

static void init_curl(void) {
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void keep_connections(tri_http *http, uint32_t count) {
    http->kept = count;
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)count);
}

/* With no connection; the old one's, none of which is in use, are closed. */
static tr_err new_multi(tri_http *http) {
    CURLM *multi = curl_multi_init();
    if (multi == NULL) {
        return TR_ERR_NOMEM;
    }
    if (http->multi != NULL) {
        curl_multi_cleanup(http->multi);
        tr_timer_cancel(http->self, &http->curl_timer);
    }
    http->multi = multi;
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    keep_connections(http, CONNECTIONS_least);
    return TR_OK;
}

static tr_err http_init(tr_self *self, void *state, const void *args) {
    (void)args;
    tri_http *http = state;
    http->self = self;
    pthread_once(&curl_once, init_curl);
    http->share = curl_ready == CURLE_OK ? curl_share_init() : NULL;
    if (http->share == NULL) {
        return TR_ERR_NOMEM;
    }
    curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    tr_err err = new_multi(http);
    if (err != TR_OK) {
        curl_share_cleanup(http->share);
    }
    return err;
}

static tr_err http_handle(tr_self *self, void *state, tr_msg **msg) {
    tri_http *http = state;
    http->self = self;
    switch ((*msg)->kind) {
    case TR_KIND_HTTP_START:
        return on_start(http, *msg);
    case TR_KIND_HTTP_TAKEN:
        on_taken(http, *msg);
        return TR_OK;
    case TR_KIND_HTTP_ABORT:
        on_abort(http, *msg);
        return TR_OK;
    case TR_KIND_HTTP_CLOSE:
        return on_close(http, *msg);
    case TR_KIND_TIMER:
        on_timer(http, *msg);
        return TR_OK;
    case TR_KIND_DOWN:
        on_down(http, *msg);
        return TR_OK;
    default:
        return TR_OK; /* kinds that a reader does not know are skipped */
    }
}

static void http_stop(tr_self *self, void *state, tr_err reason) {
    tri_http *http = state;
    http->self = self;
    for (uint32_t i = 0; i < http->transfer_room; i++) {
        if (http->transfers[i] != NULL) {
            finish(http->transfers[i], reason == TR_OK ? TR_ERR_SHUTDOWN : reason,
                   "the HTTP door is closing");
        }
    }
    curl_multi_cleanup(http->multi);
    curl_share_cleanup(http->share);
    tr_free(http->transfers);
    tr_free(http->users);
    tri_slots_fini(&http->slots);
}

static void http_describe(const void *state, char *buf, size_t size) {
    const tri_http *http = state;
    snprintf(buf, size, "%u open, %llu since start", (unsigned)http->active,
             (unsigned long long)http->started);
}

/* Tells the user that its transfer could not begin. */
static tr_err turn_away(tri_http *http, const tr_msg *msg, tr_err err, const char *why) {
    tr_msg *end = tr_http_end_msg(msg->ref, err, why);
    return end == NULL ? TR_ERR_NOMEM : tr_send_control(http->self, msg->from, end);
}

static tr_err on_start(tri_http *http, tr_msg *msg) {
    tr_str url, headers;
    const tr_http_start *start = tr_http_start_read(msg, &url, &headers);
    if (start == NULL) {
        return turn_away(http, msg, TR_ERR_PROTOCOL, "a malformed START");
    }
    uint32_t slot = 0;
    tr_err err = free_slot(http, &slot);
    if (err == TR_ERR_FULL) {
        return turn_away(http, msg, TR_ERR_OVERLOADED, "too many HTTP transfers are open");
    }
    tri_transfer *transfer = err == TR_OK ? tr_zalloc(sizeof(*transfer)) : NULL;
    if (transfer == NULL) {
        return turn_away(http, msg, TR_ERR_NOMEM, tr_err_text(TR_ERR_NOMEM));
    }
    transfer->http = http;
    transfer->user = msg->from;
    transfer->ref = msg->ref;
    transfer->slot = slot;
    transfer->end = tr_http_end_msg(msg->ref, TR_OK, NULL);
    err = transfer->end == NULL ? TR_ERR_NOMEM
                                : tri_slots_add(&http->slots, msg->from, msg->ref, slot);
    if (err != TR_OK) {
        tr_msg_free(transfer->end);
        tr_free(transfer);
        return turn_away(http, msg, err, tr_err_text(err));
    }
    transfer->body = msg->body;
    msg->body = NULL;
    http->transfers[slot] = transfer;
    http->started++;
    http->active++;
    tr_timer_cancel(http->self, &http->quiet_timer);
    if (http->active > http->kept) {
        /* Else each that ends in a crowd would close a connection that the next could use. */
        keep_connections(http, http->kept * 2);
    }
    err = know_user(http, msg->from);
    if (err == TR_OK && start->first_byte_ms > 0) {
        err = tr_timer_start(http->self, (uint64_t)start->first_byte_ms * 1000,
                             (uint16_t)(slot + 1), &transfer->timer);
    }
    if (err == TR_OK) {
        err = tri_transfer_open(transfer, start, url, headers);
    }
    if (err != TR_OK) {
        finish(transfer, err, tr_err_text(err));
    }
    return TR_OK;
}

static tri_transfer *find(tri_http *http, const tr_msg *msg) {
    uint32_t slot = 0;
    return tri_slots_find(&http->slots, msg->from, msg->ref, &slot) ? http->transfers[slot] : NULL;
}

static void on_taken(tri_http *http, const tr_msg *msg) {
    tri_transfer *transfer = find(http, msg);
    if (transfer == NULL || msg->size < sizeof(tr_http_taken) || transfer->discards) {
        return;
    }
    const tr_http_taken *taken = (const void *)msg->data;
    transfer->outstanding -=
        taken->bytes < transfer->outstanding ? taken->bytes : transfer->outstanding;
    tr_err err = tri_transfer_push(transfer);
    if (err != TR_OK) {
        finish(transfer, err, tr_err_text(err));
    } else if (transfer->finished && transfer->rest == NULL) {
        char text[512];
        err = tri_transfer_verdict(transfer, text, sizeof(text));
        finish(transfer, err, text);
    }
}

static void on_abort(tri_http *http, const tr_msg *msg) {
    tri_transfer *transfer = find(http, msg);
    if (transfer == NULL) {
        return;
    }
    const tr_http_abort *abort = (const void *)msg->data;
    bool gentle = msg->size >= sizeof(*abort) && abort->gentle != 0 && !transfer->finished;
    if (!gentle || transfer->discards) {
        free_transfer(transfer);
        return;
    }
    tr_timer_cancel(http->self, &transfer->timer);
    if (tr_timer_start(http->self, GENTLE_us, (uint16_t)(transfer->slot + 1), &transfer->timer) !=
        TR_OK) {
        free_transfer(transfer);
        return;
    }
    transfer->discards = true;
    transfer->outstanding = 0;
    if (transfer->paused) {
        transfer->paused = false;
        curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
    }
}

static tr_err on_close(tri_http *http, const tr_msg *msg) {
    tr_err err = tri_http_close_idle(http, msg);
    reap_finished(http); /* other transfers may have ended meanwhile */
    return err;
}

/* A crowd's connections, which nobody has used since, are closed: 15 KB each, with TLS 70. */
static void close_crowd(tri_http *http) {
    if (http->active == 0 && http->kept > CONNECTIONS_least) {
        (void)!new_multi(http); /* without memory those connections stay */
        tr_trim(http->self);
    }
}

static void on_timer(tri_http *http, const tr_msg *msg) {
    uint32_t tag = msg->flags;
    if (tag == TAG_CURL) {
        if (msg->ref == http->curl_timer) {
            int running = 0;
            http->curl_timer = 0;
            curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
            reap_finished(http);
        }
        return;
    }
    if (tag == TAG_REAP) {
        http->reap_timer = 0;
        reap_orphans(http);
        return;
    }
    if (tag == TAG_QUIET) {
        if (msg->ref == http->quiet_timer) {
            http->quiet_timer = 0;
            close_crowd(http);
        }
        return;
    }
    tri_transfer *transfer = tag <= http->transfer_room ? http->transfers[tag - 1] : NULL;
    if (transfer == NULL || transfer->timer != msg->ref) {
        return;
    }
    transfer->timer = 0;
    if (transfer->discards) {
        free_transfer(transfer);
        return;
    }
    char text[512];
    transfer->refusal = "it did not begin to answer in time";
    transfer->refusal_err = TR_ERR_TIMEOUT;
    tr_err err = tri_transfer_verdict(transfer, text, sizeof(text));
    finish(transfer, err, text);
}

static void on_down(tri_http *http, const tr_msg *msg) {
    for (uint32_t i = 0; i < http->user_count; i++) {
        if (http->users[i].monitor == msg->ref) {
            http->users[i] = http->users[--http->user_count];
            break;
        }
    }
    for (uint32_t i = 0; i < http->transfer_room; i++) {
        if (http->transfers[i] != NULL && http->transfers[i]->user == msg->from) {
            http->transfers[i]->orphaned = true;
        }
    }
    reap_orphans(http);
}

static void reap_orphans(tri_http *http) {
    uint32_t reaped = 0;
    for (uint32_t i = 0; i < http->transfer_room; i++) {
        if (http->transfers[i] == NULL || !http->transfers[i]->orphaned) {
            continue;
        }
        if (reaped++ == REAP_a_turn) {
            /* Without a timer they go all at once. */
            if (http->reap_timer != 0 ||
                tr_timer_start(http->self, 0, (uint16_t)TAG_REAP, &http->reap_timer) == TR_OK) {
                return;
            }
        }
        free_transfer(http->transfers[i]);
    }
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known) {
    (void)easy;
    tri_http *http = arg;
    if (what == CURL_POLL_REMOVE) {
        if (known != NULL) {
            tr_unwatch(http->self, fd);
            curl_multi_assign(http->multi, fd, NULL);
        }
        return 0;
    }
    uint32_t events =
        ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U) | ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U);
    if (known != NULL) {
        return tr_watch_change(http->self, fd, events) == TR_OK ? 0 : -1;
    }
    if (tr_watch(http->self, fd, events, on_ready) != TR_OK) {
        return -1;
    }
    curl_multi_assign(http->multi, fd, http);
    return 0;
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg) {
    (void)multi;
    tri_http *http = arg;
    tr_timer_cancel(http->self, &http->curl_timer);
    if (timeout_ms < 0) {
        return 0;
    }
    return tr_timer_start(http->self, (uint64_t)timeout_ms * 1000, (uint16_t)TAG_CURL,
                          &http->curl_timer) == TR_OK
               ? 0
               : -1;
}

static void on_ready(tr_self *self, void *state, int fd, uint32_t events) {
    tri_http *http = state;
    http->self = self;
    int what = ((events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
               ((events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
               ((events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);
    int running = 0;
    curl_multi_socket_action(http->multi, fd, what, &running);
    reap_finished(http);
}

/* What curl is done with: redirected, ended, or ended as soon as the rest is taken. */
static void reap_finished(tri_http *http) {
    CURLMsg *info = NULL;
    int left = 0;
    while ((info = curl_multi_info_read(http->multi, &left)) != NULL) {
        if (info->msg != CURLMSG_DONE) {
            continue;
        }
        void *private = NULL;
        curl_easy_getinfo(info->easy_handle, CURLINFO_PRIVATE, &private);
        tri_transfer *transfer = private;
        transfer->result = info->data.result;
        curl_multi_remove_handle(http->multi, transfer->easy);
        if (transfer->discards) {
            free_transfer(transfer);
            continue;
        }
        if (tri_transfer_redirect(transfer)) {
            continue;
        }
        curl_easy_cleanup(transfer->easy);
        transfer->easy = NULL;
        transfer->paused = false;
        transfer->finished = true;
        if (transfer->rest == NULL) {
            char text[512];
            tr_err err = tri_transfer_verdict(transfer, text, sizeof(text));
            finish(transfer, err, text);
        }
    }
}

/* The one end of a transfer that its user did not abort. */
static void finish(tri_transfer *transfer, tr_err err, const char *message) {
    tri_http *http = transfer->http;
    if (!transfer->discards && !transfer->orphaned) {
        tr_msg *end = tr_http_end_msg(transfer->ref, err, err == TR_OK ? NULL : message);
        if (end == NULL) {
            end = transfer->end;
            transfer->end = NULL;
            ((tr_http_end *)(void *)end->data)->err = (uint32_t)err;
        }
        ((tr_http_end *)(void *)end->data)->lasting = tri_transfer_lasting(transfer) ? 1 : 0;
        (void)!tr_send_control(http->self, transfer->user, end);
    }
    free_transfer(transfer);
}

static void free_transfer(tri_transfer *transfer) {
    tri_http *http = transfer->http;
    tr_timer_cancel(http->self, &transfer->timer);
    if (transfer->easy != NULL) {
        curl_multi_remove_handle(http->multi, transfer->easy);
        curl_easy_cleanup(transfer->easy);
    }
    for (struct curl_slist *line = transfer->headers; line != NULL; line = line->next) {
        explicit_bzero(line->data, strlen(line->data));
    }
    curl_slist_free_all(transfer->headers);
    tri_slots_remove(&http->slots, transfer->user, transfer->ref);
    http->transfers[transfer->slot] = NULL;
    http->free_from = transfer->slot < http->free_from ? transfer->slot : http->free_from;
    http->active--;
    tr_body_unref(transfer->body);
    tr_msg_free(transfer->end);
    tr_free(transfer->url);
    tr_free(transfer->head);
    tr_free(transfer->rest);
    tr_free(transfer);
    if (http->active > 0) {
        return;
    }
    if (http->transfer_room > KEPT_max) {
        tr_free(http->transfers);
        http->transfers = NULL;
        http->transfer_room = http->free_from = 0;
    }
    if (http->kept > CONNECTIONS_least && http->quiet_timer == 0) {
        (void)!tr_timer_start(http->self, QUIET_us, (uint16_t)TAG_QUIET, &http->quiet_timer);
    }
}

static tr_err know_user(tri_http *http, tr_id id) {
    for (uint32_t i = 0; i < http->user_count; i++) {
        if (http->users[i].id == id) {
            return TR_OK;
        }
    }
    if (http->user_count == http->user_room) {
        uint32_t room = http->user_room == 0 ? 8 : http->user_room * 2;
        http_user *grown = tr_realloc(http->users, room * sizeof(*grown));
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        http->users = grown;
        http->user_room = room;
    }
    http_user user = {.id = id};
    tr_err err = tr_monitor(http->self, id, &user.monitor);
    if (err == TR_OK) {
        http->users[http->user_count++] = user;
    }
    return err;
}

static tr_err free_slot(tri_http *http, uint32_t *ret) {
    if (http->active < http->transfer_room) {
        while (http->transfers[http->free_from] != NULL) {
            http->free_from++;
        }
        *ret = http->free_from;
        return TR_OK;
    }
    if (http->transfer_room == TR_HTTP_TRANSFERS_max) {
        return TR_ERR_FULL;
    }
    uint32_t room = http->transfer_room == 0 ? 16 : http->transfer_room * 2;
    tri_transfer **grown = tr_realloc(http->transfers, room * sizeof(*grown));
    if (grown == NULL) {
        return TR_ERR_NOMEM;
    }
    memset(grown + http->transfer_room, 0, (room - http->transfer_room) * sizeof(*grown));
    *ret = http->transfer_room;
    http->transfers = grown;
    http->transfer_room = room;
    return TR_OK;
}
