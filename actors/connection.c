/*
 * States: the stream has yet to come, HELLO has yet to come, open, closing (the last frames go
 * out). A stream of the client is one row in a small hash table by the client's ref: the actor that
 * works on it and the monitor on that actor. A row exists exactly while a terminal is owed.
 * Requests end with the connection: stop() cancels what is left. One actor, its shard's thread.
 */
#include "actors/connection.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "actors/backlog.h"
#include "actors/call.h"
#include "actors/control.h"
#include "actors/hedge.h"
#include "protocol/assert.h"
#include "protocol/frame.h"
#include "runtime/link.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/node.h"
#include "runtime/planted.h"

#define HELLO_US 5000000U
#define CLOSING_US 2000000U
/* What may wait to go out whatever windows justify (backlog.h). */
#define OUT_max (256U * 1024U * 1024U)

typedef enum door_state { STREAMLESS, GREETING, OPEN, CLOSING, STATE_N } door_state;

static const bool may[STATE_N][STATE_N] = {
    [STREAMLESS] = {[GREETING] = true},
    [GREETING] = {[OPEN] = true, [CLOSING] = true},
    [OPEN] = {[CLOSING] = true},
};

typedef struct row {
    struct row *next;
    uint64_t ref;
    tr_id actor;
    uint64_t monitor;
    bool control;
    uint64_t body_size;
    tr_backlog_stream unread;
} row;

typedef struct connection {
    tr_connection_args args;
    door_state state;
    tr_link *link;
    bool own; /* the peer is this process or another of the same user */
    uint64_t timer;
    row **rows;
    uint32_t row_buckets; /* a power of two */
    uint32_t row_count;
    uint32_t controls; /* rows among them */
    uint64_t requests;
    uint64_t bodies; /* bytes: the rows' body_size, held of the services */
    tr_backlog unread;
} connection;

static tr_err init(tr_self *self, void *state, const void *args) {
    connection *c = state;
    c->args = *(const tr_connection_args *)args;
    c->row_buckets = 16;
    c->rows = tr_zalloc(c->row_buckets * sizeof(row *));
    if (c->rows == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_err err = tr_timer_start(self, HELLO_US, 0, &c->timer);
    if (err != TR_OK) {
        tr_free(c->rows);
    }
    return err;
}

static void set_state(connection *c, door_state next) {
    TR_ASSERT(may[c->state][next]);
    c->state = next;
}

/* --- rows --- */

static row **find(connection *c, uint64_t ref) {
    row **at = &c->rows[(uint32_t)(ref * 0x9E3779B97F4A7C15ULL >> 32) & (c->row_buckets - 1)];
    while (*at != NULL && (*at)->ref != ref) {
        at = &(*at)->next;
    }
    return at;
}

static void grow(connection *c) {
    row **old = c->rows;
    uint32_t buckets = c->row_buckets;
    row **more = tr_zalloc(2UL * buckets * sizeof(row *));
    if (more == NULL) {
        return; /* longer chains serve as well */
    }
    c->rows = more;
    c->row_buckets = 2 * buckets;
    for (uint32_t i = 0; i < buckets; i++) {
        while (old[i] != NULL) {
            row *moved = old[i];
            old[i] = moved->next;
            row **at = find(c, moved->ref);
            moved->next = NULL;
            *at = moved;
        }
    }
    tr_free(old);
}

static void remove_row(connection *c, row **at) {
    row *gone = *at;
    *at = gone->next;
    tr_backlog_ended(&c->unread, &gone->unread);
    c->controls -= gone->control;
    c->bodies -= gone->body_size;
    tr_services_release(c->args.services, gone->body_size);
    tr_free(gone);
    c->row_count--;
}

/* --- what goes out --- */

/* `r`: whose credit a DELTA costs; NULL = none. */
static tr_err send(tr_self *self, connection *c, row *r, const tr_msg *msg, uint64_t ref) {
    tr_err err = msg != NULL ? tr_link_send(c->link, self, msg, ref) : TR_ERR_NOMEM;
    if (err == TR_OK) {
        size_t size = TR_FRAME_HEADER_size + msg->size + (msg->body != NULL ? msg->body->size : 0);
        tr_backlog_queued(&c->unread, r != NULL ? &r->unread : NULL, size, msg->size,
                          tr_link_pending(c->link));
    }
    return err;
}

/* The last word to a client that may not go on: what was queued leaves, then the stream closes. */
static tr_err close_with(tr_self *self, connection *c, tr_msg *fail) {
    tr_err err = send(self, c, NULL, fail, 0);
    tr_msg_free(fail);
    set_state(c, CLOSING);
    tr_link_finish(c->link, self);
    tr_timer_cancel(self, &c->timer);
    return err == TR_OK ? tr_timer_start(self, CLOSING_US, 0, &c->timer) : err;
}

/* After a frame was queued with `err`: a client that does not read may not make us hold more. */
static tr_err bound(tr_self *self, connection *c, tr_err err) {
    size_t pending = tr_link_pending(c->link);
    if (err != TR_OK || c->state != OPEN || !tr_backlog_exceeds(&c->unread, pending)) {
        return err;
    }
    tr_log(TR_LOG_WARN, self, "a client does not read what it asks for", "unread=%zu streams=%u",
           pending, c->row_count);
    return close_with(self, c,
                      tr_msg_failf(TR_ERR_OVERLOADED,
                                   "%zu bytes wait that the client does not read, more than its "
                                   "credit and %u bytes: the connection is closed",
                                   pending, TR_BACKLOG_ALLOWANCE));
}

static tr_err answer(tr_self *self, connection *c, uint64_t ref, tr_msg *fail) {
    tr_err err = send(self, c, NULL, fail, ref);
    tr_msg_free(fail);
    return bound(self, c, err);
}

/* --- HELLO --- */

static bool same_bytes(const char *a, size_t a_size, const char *b, size_t b_size) {
    uint8_t differ = a_size != b_size;
    for (size_t i = 0; i < a_size; i++) {
        differ |= (uint8_t)((uint8_t)a[i] ^ (uint8_t)b[b_size > 0 ? i % b_size : 0]);
    }
    return b_size > 0 && differ == 0; /* takes as long for a near miss as for a far one */
}

static tr_err hand_over(tr_self *self, connection *c, const tr_msg *msg) {
    const tr_hello *hello = (const tr_hello *)msg->data;
    tr_hello_view view = tr_hello_read(hello);
    char name[TR_ACTOR_NAME_max + 1];
    if (hello->nonce != 0) {
        snprintf(name, sizeof name, "worker:%016" PRIx64, hello->nonce);
    } else if (c->args.token == NULL) {
        return close_with(self, c, tr_msg_failf(TR_ERR_AUTH, "workers join over a tcp listener"));
    } else {
        snprintf(name, sizeof name, "pool:%.*s", (int)view.model.size, view.model.ptr);
    }
    tr_id pool = tr_whereis(tr_self_node(self), name);
    if (pool == TR_ID_NONE) {
        return close_with(self, c,
                          tr_msg_failf(TR_ERR_NOT_FOUND, "nobody waits for a worker of \"%.*s\"",
                                       (int)view.model.size, view.model.ptr));
    }
    tr_stream *stream = tr_link_detach(c->link);
    if (stream == NULL) {
        return close_with(self, c,
                          tr_msg_failf(TR_ERR_PROTOCOL, "a worker waits for WELCOME after HELLO"));
    }
    c->link = NULL;
    tr_msg *handover = tr_handover_new(stream, hello, msg->size);
    if (handover != NULL) {
        handover->ref = hello->nonce;
    }
    (void)tr_send_control(self, pool, handover);
    return TR_DONE;
}

static tr_err greet(tr_self *self, connection *c, const tr_msg *msg) {
    if (msg->kind != TR_KIND_HELLO) {
        return close_with(self, c, tr_msg_failf(TR_ERR_PROTOCOL, "expected HELLO first"));
    }
    const tr_hello *hello = (const tr_hello *)msg->data;
    tr_hello_view view = tr_hello_read(hello);
    if (hello->version_min > TR_PROTOCOL_VERSION || hello->version_max < TR_PROTOCOL_VERSION) {
        return close_with(self, c,
                          tr_msg_failf(TR_ERR_VERSION,
                                       "this daemon (troupe %s) speaks protocol version %d, the "
                                       "client speaks %u to %u",
                                       tr_services_version(c->args.services), TR_PROTOCOL_VERSION,
                                       hello->version_min, hello->version_max));
    }
    if (c->args.token != NULL &&
        !same_bytes(view.token.ptr, view.token.size, c->args.token, c->args.token_size)) {
        tr_log(TR_LOG_WARN, self, "a peer with a wrong token was refused", "role=%u", hello->role);
        return close_with(self, c, tr_msg_failf(TR_ERR_AUTH, "the token was refused"));
    }
    if (hello->role == TR_ROLE_WORKER) {
        return hand_over(self, c, msg);
    }
    if (!c->args.takes_clients) {
        return close_with(self, c, tr_msg_failf(TR_ERR_AUTH, "this socket is for workers"));
    }
    char software[64];
    int size =
        snprintf(software, sizeof software, "troupe/%s", tr_services_version(c->args.services));
    tr_str name = {software, (size_t)size};
    tr_msg *welcome = tr_msg_new(TR_KIND_WELCOME, tr_welcome_size(name));
    if (welcome == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_welcome head = {.version = TR_PROTOCOL_VERSION,
                       .streams_max = TR_STREAMS_PER_CLIENT_max,
                       .frame_max = TR_FRAME_max};
    tr_welcome_write(welcome->data, &head, name);
    tr_err err = answer(self, c, 0, welcome);
    set_state(c, OPEN);
    tr_timer_cancel(self, &c->timer);
    tr_link_set_body_max(c->link, TR_FRAME_BODY_max);
    return err;
}

/* --- SUBMIT --- */

static bool hedges(const tr_submit *submit) {
    return (submit->flags & (TR_SUBMIT_HEDGE | TR_SUBMIT_SHOW)) == TR_SUBMIT_HEDGE;
}

static tr_err start_request(tr_self *self, connection *c, const tr_submit *submit, tr_id *ret) {
    char parent[32];
    snprintf(parent, sizeof parent, "calls:%u", tr_self_shard(self));
    tr_call_args args = {.services = c->args.services};
    tr_spawn_spec spec = {
        .behaviour = submit->op == TR_OP_CONTROL ? &tr_control
                     : hedges(submit)            ? &tr_hedge
                                                 : &tr_call,
        .args = &args,
        .args_size = sizeof args,
        .parent = tr_whereis(tr_self_node(self), parent),
    };
    return tr_spawn(self, &spec, ret);
}

static tr_err add_row(tr_self *self, connection *c, uint64_t ref, tr_id actor, bool control) {
    row *fresh = tr_zalloc(sizeof *fresh);
    if (fresh == NULL || tr_monitor(self, actor, &fresh->monitor) != TR_OK) {
        tr_free(fresh);
        tr_exit(self, actor, TR_ERR_CANCELLED);
        return TR_ERR_NOMEM;
    }
    fresh->ref = ref;
    fresh->actor = actor;
    fresh->control = control;
    c->controls += control;
    if (c->row_count >= c->row_buckets) {
        grow(c);
    }
    *find(c, ref) = fresh;
    c->row_count++;
    return TR_OK;
}

static tr_err refuse(tr_self *self, connection *c, uint64_t ref, tr_err err) {
    if (err == TR_ERR_SHUTDOWN) {
        return answer(self, c, ref,
                      tr_msg_failf(err, "the daemon is shutting down: send the request again when "
                                        "it is back"));
    }
    if (err == TR_ERR_OVERLOADED) {
        return answer(
            self, c, ref,
            tr_msg_failf(err,
                         "too many requests run: at most %d a connection (%d of control), "
                         "%d in all",
                         TR_STREAMS_PER_CLIENT_max, TR_CONTROLS_PER_CLIENT_max, TR_REQUESTS_max));
    }
    return answer(self, c, ref, tr_msg_failf(err, "%s", tr_err_text(err)));
}

static tr_err refuse_body(tr_self *self, connection *c, uint64_t ref) {
    return answer(self, c, ref,
                  tr_msg_failf(TR_ERR_OVERLOADED,
                               "the requests that run hold as many bytes as they may, at most %llu "
                               "MiB a connection and %llu MiB in all: send it again when some have "
                               "ended",
                               TR_BODIES_PER_CLIENT_max >> 20, TR_BODIES_max >> 20));
}

/* Whose requests may send the daemon anywhere: it can reach servers that a peer elsewhere cannot.
 */
static tr_err refuse_base_url(tr_self *self, connection *c, uint64_t ref) {
    return answer(
        self, c, ref,
        tr_msg_failf(TR_ERR_AUTH,
                     "a request may name a base URL only over ipc and as the daemon's own "
                     "user: give the server a name under providers in the daemon's "
                     "configuration"));
}

static tr_err submit_came(tr_self *self, connection *c, tr_msg **msg) {
    uint64_t ref = (*msg)->ref;
    tr_submit *submit = (tr_submit *)(*msg)->data;
    submit->flags &= hedges(submit) ? UINT16_MAX : (uint16_t)~TR_SUBMIT_HEDGE;
    submit->flags &= (uint16_t)~TR_SUBMIT_SECOND; /* a word among the daemon's own actors */
    uint32_t credit = submit->credit_bytes;
    uint64_t body_size = (*msg)->body != NULL ? (*msg)->body->size : 0;
    if (ref == 0) {
        return close_with(self, c, tr_msg_failf(TR_ERR_PROTOCOL, "ref 0 names no request"));
    }
    if (*find(c, ref) != NULL) {
        return close_with(
            self, c,
            tr_msg_failf(TR_ERR_PROTOCOL, "ref %" PRIu64 " names a request that still runs", ref));
    }
    if (submit->base_url_size > 0 && !c->own) {
        return refuse_base_url(self, c, ref);
    }
    if (!tr_services_hold(c->args.services, c->bodies, body_size)) {
        return refuse_body(self, c, ref);
    }
    bool control = submit->op == TR_OP_CONTROL;
    bool too_many = c->row_count >= TR_STREAMS_PER_CLIENT_max ||
                    (control && c->controls >= TR_CONTROLS_PER_CLIENT_max);
    tr_err err = too_many ? TR_ERR_OVERLOADED : TR_OK;
    bool entered = false;
    if (err == TR_OK && !control) {
        err = tr_services_enter(c->args.services);
        entered = err == TR_OK;
    }
    tr_id actor = TR_ID_NONE;
    if (err == TR_OK) {
        err = start_request(self, c, submit, &actor);
    }
    if (err == TR_OK) {
        entered = false; /* the call leaves by itself from now on */
        err = add_row(self, c, ref, actor, control);
    }
    if (entered && tr_services_leave(c->args.services)) {
        (void)tr_send_control(self, tr_services_company(c->args.services),
                              tr_msg_new(TR_KIND_DRAINED, 0));
    }
    if (err != TR_OK) {
        tr_services_release(c->args.services, body_size);
        return refuse(self, c, ref, err);
    }
    (*find(c, ref))->body_size = body_size; /* released with the row */
    c->bodies += body_size;
    c->requests++;
    tr_backlog_grant(&c->unread, &(*find(c, ref))->unread, credit);
    err = tr_send(self, actor, msg);
    TR_ASSERT(err == TR_OK); /* an empty mailbox takes it */
    return TR_OK;
}

static tr_err frame_came(tr_self *self, void *state, tr_msg **msg) {
    connection *c = state;
    if (c->state == GREETING) {
        return greet(self, c, *msg);
    }
    if (c->state != OPEN) {
        return TR_OK;
    }
    switch ((*msg)->kind) {
    case TR_KIND_SUBMIT:
        return submit_came(self, c, msg);
    case TR_KIND_CREDIT:
    case TR_KIND_CANCEL: {
        row *r = *find(c, (*msg)->ref);
        if (r != NULL && (*msg)->kind == TR_KIND_CREDIT) {
            tr_backlog_grant(&c->unread, &r->unread, ((const tr_credit *)(*msg)->data)->bytes);
        }
        return r != NULL ? tr_send(self, r->actor, msg) : TR_OK; /* it crossed the terminal */
    }
    case TR_KIND_PING: {
        (*msg)->kind = TR_KIND_PONG;
        return bound(self, c, send(self, c, NULL, *msg, (*msg)->ref));
    }
    case TR_KIND_PONG:
        return TR_OK;
    default:
        return close_with(
            self, c, tr_msg_failf(TR_ERR_PROTOCOL, "a client does not send kind %u", (*msg)->kind));
    }
}

/* --- the actor --- */

static tr_err accepted(tr_self *self, connection *c, tr_msg *msg) {
    tr_stream *stream = tr_stream_take(msg);
    if (stream == NULL) {
        return TR_OK;
    }
    uint32_t uid = UINT32_MAX;
    bool known = c->args.same_user && stream->transport->peer_uid(stream, &uid);
    bool stranger = c->args.same_user && (!known || (uid != getuid() && uid != 0));
    c->own = c->args.same_user ? known && uid == getuid() : c->args.token == NULL; /* inproc */
    tr_err err = tr_link_new(self, stream, 0, OUT_max, frame_came, c, &c->link);
    if (err != TR_OK) {
        return err;
    }
    set_state(c, GREETING);
    if (stranger) {
        tr_log(TR_LOG_WARN, self, "a peer of another user was refused", "uid=%u", uid);
        return close_with(self, c, tr_msg_failf(TR_ERR_AUTH, "the socket is another user's"));
    }
    return TR_OK;
}

static tr_err stream_event(tr_self *self, connection *c, tr_msg *msg) {
    if (c->link == NULL) {
        return accepted(self, c, msg);
    }
    tr_err err = tr_link_handle(c->link, self, msg);
    if (err == TR_OK || err == TR_DONE || c->state == CLOSING) {
        return c->state == CLOSING && err != TR_OK ? TR_DONE : err;
    }
    if (err == TR_ERR_PROTOCOL || err == TR_ERR_TOO_LARGE) {
        tr_log(TR_LOG_WARN, self, "a client broke the protocol", "err=%s", tr_err_name(err));
        return close_with(self, c,
                          tr_msg_failf(err, "%s: the connection is closed", tr_err_text(err)));
    }
    return TR_DONE;
}

/* What a request's actor says: on to the client; a terminal pays what is owed. */
static tr_err from_request(tr_self *self, connection *c, const tr_msg *msg) {
    if (c->state != OPEN) {
        return TR_OK;
    }
    row **at = find(c, msg->ref);
    TR_ASSERT(*at != NULL && (*at)->actor == msg->from); /* nothing follows a terminal */
    bool last = msg->kind == TR_KIND_DONE || msg->kind == TR_KIND_FAIL;
    row *payer = last ? NULL : *at;
    if (last && !TR_PLANTED(TR_BUG_SECOND_TERMINAL)) {
        tr_demonitor(self, (*at)->monitor);
        remove_row(c, at);
    }
    tr_err err = bound(self, c, send(self, c, payer, msg, msg->ref));
    return err == TR_ERR_CLOSED || err == TR_ERR_STALLED ? TR_DONE : err;
}

/* A request's actor ended without a terminal: the door answers for it. */
static tr_err down_came(tr_self *self, connection *c, const tr_msg *msg) {
    for (uint32_t i = 0; i < c->row_buckets; i++) {
        for (row **at = &c->rows[i]; *at != NULL; at = &(*at)->next) {
            if ((*at)->monitor == msg->ref) {
                uint64_t ref = (*at)->ref;
                tr_err why = (tr_err)((const tr_ended *)msg->data)->reason;
                remove_row(c, at);
                if (c->state != OPEN) {
                    return TR_OK; /* the client has had its last words */
                }
                tr_log(TR_LOG_ERROR, self, "a request's actor crashed", "err=%s", tr_err_name(why));
                return answer(self, c, ref,
                              tr_msg_failf(why == TR_ERR_NOMEM ? why : TR_ERR_BUG,
                                           "the request failed inside the daemon (%s)",
                                           tr_err_text(why)));
            }
        }
    }
    return TR_OK;
}

/* The daemon ends: every open stream gets its FAIL before the connection closes. */
static tr_err shut_down(tr_self *self, connection *c) {
    if (c->state != OPEN) {
        return TR_DONE;
    }
    tr_err err = TR_OK;
    for (uint32_t i = 0; i < c->row_buckets && err == TR_OK; i++) {
        for (const row *r = c->rows[i]; r != NULL && err == TR_OK; r = r->next) {
            tr_msg *fail =
                tr_msg_failf(TR_ERR_SHUTDOWN, "the daemon was stopped before the answer was "
                                              "complete");
            err = send(self, c, NULL, fail, r->ref);
            tr_msg_free(fail);
        }
    }
    return close_with(self, c, tr_msg_failf(TR_ERR_SHUTDOWN, "the daemon was stopped"));
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    connection *c = state;
    switch ((*msg)->kind) {
    case TR_KIND_STREAM:
        return stream_event(self, c, *msg);
    case TR_KIND_DELTA:
    case TR_KIND_DONE:
    case TR_KIND_FAIL:
        return from_request(self, c, *msg);
    case TR_KIND_DOWN:
        return down_came(self, c, *msg);
    case TR_KIND_EXIT:
        return shut_down(self, c);
    case TR_KIND_TIMER:
        return (*msg)->ref == c->timer ? TR_DONE
                                       : TR_OK; /* no HELLO, or it does not read the end */
    default:
        return TR_OK;
    }
}

/* Two lists in the order of their refs become one. */
static row *merged(row *a, row *b) {
    row *first = NULL, **end = &first;
    while (a != NULL && b != NULL) {
        row **least = a->ref < b->ref ? &a : &b;
        *end = *least;
        end = &(*least)->next;
        *least = (*least)->next;
    }
    *end = a != NULL ? a : b;
    return first;
}

/* All rows into the first bucket, the oldest first: that is the order in which curl finds its
 * connections fast when thousands of them are given up, since it walks a list from its head. */
static void join_rows(connection *c) {
    for (uint32_t i = 0; i < c->row_buckets; i++) {
        row *chain = c->rows[i];
        c->rows[i] = NULL;
        while (chain != NULL) { /* chains are short */
            row *next = chain->next;
            chain->next = NULL;
            c->rows[i] = merged(c->rows[i], chain);
            chain = next;
        }
    }
    for (uint32_t step = 1; step < c->row_buckets; step *= 2) {
        for (uint32_t i = 0; i + step < c->row_buckets; i += 2 * step) {
            c->rows[i] = merged(c->rows[i], c->rows[i + step]);
            c->rows[i + step] = NULL;
        }
    }
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    connection *c = state;
    join_rows(c);
    while (c->rows[0] != NULL) {
        tr_msg *cancel = tr_msg_cancel(TR_ERR_CLOSED);
        if (cancel != NULL) {
            cancel->ref = c->rows[0]->ref;
        }
        if (tr_send_control(self, c->rows[0]->actor, cancel) != TR_OK) {
            tr_exit(self, c->rows[0]->actor, TR_ERR_CANCELLED); /* it has nobody to answer */
        }
        remove_row(c, &c->rows[0]);
    }
    tr_free(c->rows);
    tr_link_free(c->link);
}

static void describe(const void *state, char *buf, size_t size) {
    static const char *const names[STATE_N] = {"new", "greeting", "open", "closing"};
    const connection *c = state;
    snprintf(buf, size, "%s streams=%u requests=%" PRIu64, names[c->state], c->row_count,
             c->requests);
}

const tr_behaviour tr_connection = {
    .name = "connection",
    .state_size = sizeof(connection),
    .traps_exit = true,
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
