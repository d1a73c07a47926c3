/*
 * The state of one request and its few transitions; the messages of its door, and those of the
 * stream. Credit is counted twice: what the client may still get (its DELTAs carry no token ids),
 * and what the backend may still send; the difference, the ids' bytes, goes back to the backend.
 * call_internal.h says where the rest is. Runs on its shard only.
 */
#include "actors/call.h"

#include <stdio.h>
#include <string.h>

#include "actors/call_internal.h"
#include "actors/call_shape.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

static const bool may[TRI_CALL_STATES][TRI_CALL_STATES] = {
    [TRI_CALL_NEW] =
        {[TRI_CALL_RESERVING] = true, [TRI_CALL_PAUSED] = true, [TRI_CALL_ENDED] = true},
    [TRI_CALL_RESERVING] =
        {[TRI_CALL_RESERVING] = true, [TRI_CALL_STREAMING] = true, [TRI_CALL_ENDED] = true},
    [TRI_CALL_STREAMING] = {[TRI_CALL_RESERVING] = true,
                            [TRI_CALL_PAUSED] = true,
                            [TRI_CALL_BACKOFF] = true,
                            [TRI_CALL_DELIVERING] = true,
                            [TRI_CALL_ENDED] = true},
    [TRI_CALL_PAUSED] = {[TRI_CALL_RESERVING] = true, [TRI_CALL_ENDED] = true},
    [TRI_CALL_BACKOFF] = {[TRI_CALL_RESERVING] = true, [TRI_CALL_ENDED] = true},
    [TRI_CALL_DELIVERING] = {[TRI_CALL_ENDED] = true},
};

/* Less room than this counts as none. */
#define ROOM_min 512U

/* The token ids of an owed refund gather up to this many bytes. */
#define REFUND_BYTES 4096U

void tri_call_set_state(tri_call *c, tri_call_state next) {
    TR_ASSERT(may[c->state][next]);
    c->state = next;
}

static tr_err init(tr_self *self, void *state, const void *args) {
    (void)self;
    tri_call *c = state;
    c->services = ((const tr_call_args *)args)->services;
    return TR_OK;
}

uint32_t tri_call_ms_since(tr_self *self, uint64_t then_us) {
    uint64_t ms = (tr_now_us(self) - then_us) / 1000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

uint32_t tri_call_remaining_ms(tr_self *self, const tri_call *c) {
    uint32_t gone = tri_call_ms_since(self, c->began_us);
    return gone < c->head.total_ms ? c->head.total_ms - gone : 0;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    tri_call *c = state;
    tri_call_leave(self, c, reason == TR_OK ? (tr_err)c->outcome.err : reason);
    tr_body_unref(c->body);
    tri_shape_free(c->shape);
    tr_routes_unref(c->routes);
    tr_targets_fini(&c->targets);
    tr_msg_free(c->failure);
    tr_free((void *)c->base_url.ptr);
    tr_free(c->tokens);
    if (tr_services_leave(c->services)) {
        (void)tr_send_control(self, tr_services_company(c->services),
                              tr_msg_new(TR_KIND_DRAINED, 0));
    }
}

/* What is held back needs no reader. */
static bool takes_all(const tri_call *c) {
    return c->state == TRI_CALL_STREAMING && tri_shape_holds(c);
}

bool tri_call_is_starved(const tri_call *c) {
    return !takes_all(c) && (c->credit_messages == 0 || c->credit_bytes < TR_DELTA_max);
}

bool tri_call_is_shut(const tri_call *c) {
    return !takes_all(c) && (c->credit_messages == 0 || c->credit_bytes < ROOM_min);
}

/* --- messages of the door --- */

static uint32_t or_default(uint32_t value, uint32_t otherwise) {
    uint32_t ms = value != 0 ? value : otherwise;
    return ms != 0 && ms < TR_TIMEOUT_MS_max ? ms : TR_TIMEOUT_MS_max;
}

/* The request's own limits, or the configuration's. */
static void set_limits(tri_call *c, const tr_submit *submit) {
    const tr_routes_spec *routes = tr_routes_of(c->routes);
    const tr_time_limits *limits = &routes->limits;
    c->head.connect_ms = or_default(submit->connect_ms, limits->connect_ms);
    c->head.first_token_ms = or_default(submit->first_token_ms, limits->first_token_ms);
    c->head.idle_ms = or_default(submit->idle_ms, limits->idle_ms);
    c->head.total_ms = or_default(submit->total_ms, limits->total_ms);
    c->stalled_ms = or_default(0, limits->stalled_ms);
    c->pause_ms = limits->pause_ms != 0 ? limits->pause_ms : TR_PAUSE_MS_default;
    c->head.attempts = submit->attempts > 0 ? submit->attempts : (uint16_t)routes->attempts;
}

/* In which order the targets are tried. */
static void set_order(tr_self *self, tri_call *c) {
    tr_target_load loads[TR_TARGETS_max] = {0};
    tr_stats *stats = tr_services_stats(c->services);
    for (uint32_t i = 0; i < c->targets.count && c->targets.count > 1; i++) {
        uint32_t row = tr_stats_row(stats, c->targets.items[i].label, true);
        loads[i] = tr_stats_load(stats, row, tr_now_us(self));
        loads[i].weight = c->targets.weights[i];
    }
    tr_order(c->targets.policy, loads, c->targets.count, c->targets.count > 1 ? tr_random(self) : 0,
             c->order);
}

/* Where a first try may still be under way: another target first, at the cost of a retry. */
static void set_second(tri_call *c) {
    if ((c->head.flags & TR_SUBMIT_SECOND) != 0) {
        bool same_first =
            c->targets.policy == TR_POLICY_ORDER || c->targets.policy == TR_POLICY_FASTEST;
        c->at = same_first && c->targets.count > 1 ? 1 : 0;
        c->cause = TRI_CALL_AGAIN;
    }
}

static tr_err set_targets(tr_self *self, tri_call *c, const tr_submit_view *view, char *why,
                          size_t why_size) {
    tr_err err = tr_route_all(c->routes, view->target, view->provider, &c->targets, why, why_size);
    if (err == TR_OK) {
        /* A base URL is one server's: nobody else is asked in its place. */
        c->targets.count = view->base_url.size > 0 ? 1 : c->targets.count;
        set_order(self, c);
        if ((c->head.flags & TR_SUBMIT_SHOW) != 0) {
            c->targets.count = 1; /* the first would be asked: it is what is shown */
            c->head.attempts = 1;
        }
        set_second(c);
    }
    return err;
}

static tr_err submitted(tr_self *self, tri_call *c, tr_msg *msg) {
    TR_ASSERT(c->state == TRI_CALL_NEW);
    const tr_submit *submit = (const tr_submit *)msg->data;
    tr_submit_view view = tr_submit_read(submit);
    c->door = msg->from;
    c->ref = msg->ref;
    c->head = *submit;
    c->began_us = tr_now_us(self);
    c->credit_messages = submit->credit_messages;
    c->credit_bytes = submit->credit_bytes;
    c->starved_us = c->began_us;
    c->head.seed = (uint32_t)tr_random(self);
    c->routes = tr_services_routes(c->services);
    if (c->routes == NULL || msg->body == NULL) {
        return tri_call_failf(self, c, TR_ERR_INVALID, "the request has no body");
    }
    c->body = tr_body_ref(msg->body);
    set_limits(c, submit);
    if (view.base_url.size > 0) {
        char *copy = tr_strndup(view.base_url.ptr, view.base_url.size);
        if (copy == NULL) {
            return tri_call_failf(self, c, TR_ERR_NOMEM, "out of memory");
        }
        c->base_url = (tr_str){copy, view.base_url.size};
    }
    char why[512];
    tr_err err = set_targets(self, c, &view, why, sizeof why);
    if (err != TR_OK) {
        return tri_call_failf(self, c, err, "%s", why);
    }
    if (submit->resume_count > 0) {
        return tri_call_failf(self, c, TR_ERR_INVALID, "only the daemon resumes streams");
    }
    err = tri_shape_begin(c);
    if (err != TR_OK) {
        return tri_call_failf(self, c, err, "out of memory");
    }
    return tri_call_is_shut(c) ? tri_call_pause(self, c) : tri_call_ask_gate(self, c);
}

/* Grants on what the client granted, and what is owed for ids, as far as one CREDIT may carry. */
static tr_err send_credit(tr_self *self, tri_call *c, const tr_credit *granted) {
    uint32_t room = TR_CREDIT_BYTES_max - granted->bytes;
    uint32_t owed = c->refund_bytes < room ? c->refund_bytes : room;
    tr_msg *msg = tr_msg_credit(granted->messages, granted->bytes + owed);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    msg->ref = c->attempt;
    c->refund_bytes -= owed;
    return tr_send_control(self, c->backend, msg);
}

static tr_err credit_came(tr_self *self, tri_call *c, const tr_credit *credit) {
    uint64_t messages = c->credit_messages + credit->messages;
    uint64_t bytes = c->credit_bytes + credit->bytes;
    if (messages > TR_CREDIT_MESSAGES_max || bytes > TR_CREDIT_BYTES_max) {
        return tri_call_failf(self, c, TR_ERR_PROTOCOL,
                              "the client granted more credit than %d messages "
                              "and %d bytes",
                              TR_CREDIT_MESSAGES_max, TR_CREDIT_BYTES_max);
    }
    c->credit_messages = messages;
    c->credit_bytes = bytes;
    c->progress_us = tr_now_us(self); /* the idle limit did not run while there was no credit */
    if (!tri_call_is_shut(c)) {
        c->starved_us = c->progress_us; /* it reads */
    }
    if (c->state == TRI_CALL_PAUSED && !tri_call_is_shut(c)) {
        return tri_call_ask_gate(self, c);
    }
    if (c->state == TRI_CALL_DELIVERING) {
        return tri_shape_go_on(self, c);
    }
    if (c->state != TRI_CALL_STREAMING || tri_shape_holds(c)) {
        return TR_OK;
    }
    tr_err err = send_credit(self, c, credit);
    return err == TR_OK ? tri_call_arm(self, c) : err;
}

/* --- messages of the backend --- */

/* Of an embed request, whose DELTAs say how far it has come, only the last place is kept. */
static tr_err keep_tokens(tri_call *c, const int32_t *tokens, uint32_t count) {
    if (c->head.op == TR_OP_EMBED) {
        c->token_count = 0;
    }
    if (count > TR_RESUME_TOKENS_max - c->token_count) {
        c->untracked = true; /* too long to be replayed */
        return TR_OK;
    }
    if (c->token_room - c->token_count < count) {
        uint32_t room = c->token_room * 2 + count + 64;
        int32_t *more = tr_realloc(c->tokens, room * sizeof *more);
        if (more == NULL) {
            return TR_ERR_NOMEM;
        }
        c->tokens = more;
        c->token_room = room;
    }
    memcpy(c->tokens + c->token_count, tokens, count * sizeof *tokens);
    c->token_count += count;
    return TR_OK;
}

/* Takes the token ids out of the message: the client does not need them. */
static uint32_t strip_tokens(tr_msg *msg) {
    tr_delta *delta = (tr_delta *)msg->data;
    uint32_t bytes = delta->token_count * (uint32_t)sizeof(int32_t);
    char *strings = (char *)(delta + 1);
    memmove(strings, strings + bytes, msg->size - sizeof *delta - bytes);
    delta->token_count = 0;
    msg->size -= bytes;
    return bytes;
}

/* Without memory the gate learns of it at the end. */
static void tell_gate(tr_self *self, tri_call *c) {
    tr_msg *flows = c->owes_flows ? tr_msg_new(TR_KIND_FLOWS, 0) : NULL;
    c->owes_flows = false;
    if (flows != NULL) {
        flows->ref = c->attempt;
        (void)!tr_send_control(self, c->gate, flows);
    }
}

static tr_err delta_came(tr_self *self, tri_call *c, tr_msg **msg) {
    tr_delta *delta = (tr_delta *)(*msg)->data;
    tr_err err = TR_OK;
    tell_gate(self, c);
    c->said_bytes += delta->kind == TR_DELTA_OPAQUE ? 0 : delta->text_size;
    if (tri_shape_holds(c)) {
        return tri_shape_hold(self, c, msg);
    }
    /* The backend's credit is the client's without what is owed for ids. */
    TR_ASSERT(c->refund_bytes <= c->credit_bytes);
    if (c->credit_messages == 0 || c->credit_bytes - c->refund_bytes < (*msg)->size) {
        return tri_call_failf(self, c, TR_ERR_BUG, "%s sent more than its credit",
                              tri_call_label(c));
    }
    if (delta->token_count > 0) {
        err = keep_tokens(c, tr_delta_read(delta).tokens, delta->token_count);
        if (err != TR_OK) {
            return tri_call_failf(self, c, err, "out of memory");
        }
        c->refund_bytes += strip_tokens(*msg);
    } else {
        c->untracked = true;
    }
    c->credit_messages--;
    c->credit_bytes -= (*msg)->size;
    c->progress_us = tr_now_us(self);
    if (tri_call_is_starved(c)) {
        c->starved_us = c->progress_us;
    }
    if (c->first_token_us == 0) {
        c->first_token_us = c->progress_us;
    }
    if (c->attempt_token_us == 0) {
        c->attempt_token_us = c->progress_us;
    }
    tri_shape_note(c, delta);
    delta->seq = c->seq++;
    (*msg)->ref = c->ref;
    err = tr_send(self, c->door, msg);
    bool short_of_room = c->credit_bytes - c->refund_bytes < TR_DELTA_max;
    if (err == TR_OK && c->refund_bytes > 0 && (short_of_room || c->refund_bytes >= REFUND_BYTES)) {
        err = send_credit(self, c, &(tr_credit){0, 0});
    }
    return err == TR_OK ? tri_call_arm(self, c) : err;
}

static tr_err fail_came(tr_self *self, tri_call *c, const tr_msg *msg) {
    const tr_fail *head = (const tr_fail *)msg->data;
    tr_end_view view = tr_fail_read(head);
    bool refused = c->state == TRI_CALL_RESERVING;
    if (refused) {
        c->reserved = false; /* a gate that refuses holds nothing */
    } else {
        c->backend_owes = false;
        if ((head->flags & TR_FAIL_RESUMABLE) != 0) {
            return tri_call_resume(self, c);
        }
    }
    return tri_call_attempt_failed(self, c, head, &view, refused);
}

static tr_err down_came(tr_self *self, tri_call *c, const tr_msg *msg) {
    if (c->backend != TR_ID_NONE && msg->ref == c->backend_monitor) {
        return tri_call_resume(self, c);
    }
    if (c->gate != TR_ID_NONE && msg->ref == c->gate_monitor) {
        return tri_call_gate_down(self, c);
    }
    return TR_OK;
}

static tr_err cancelled(tr_self *self, tri_call *c) {
    return tri_call_failf(self, c, TR_ERR_CANCELLED, "the request was cancelled");
}

/* Whether a message belongs to the attempt that runs. */
static bool current(const tri_call *c, const tr_msg *msg, tri_call_state state) {
    return c->state == state && msg->ref == c->attempt;
}

/* A full mailbox on another shard sent RESERVE or SUBMIT back: nobody holds anything by it. */
static tr_err bounced(tr_self *self, tri_call *c, const tr_msg *msg) {
    bool reserving = current(c, msg, TRI_CALL_RESERVING);
    if (!reserving && !current(c, msg, TRI_CALL_STREAMING)) {
        return TR_OK;
    }
    c->reserved = c->reserved && !reserving;
    c->backend_owes = false;
    return tri_call_attempt_failedf(self, c, TR_ERR_OVERLOADED, reserving, "%s has too much to do",
                                    tri_call_label(c));
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    tri_call *c = state;
    switch ((*msg)->kind) {
    case TR_KIND_SUBMIT:
        return submitted(self, c, *msg);
    case TR_KIND_GRANTED:
        return current(c, *msg, TRI_CALL_RESERVING)
                   ? tri_call_granted(self, c, (const tr_granted *)(*msg)->data)
                   : TR_OK;
    case TR_KIND_DELTA:
        return current(c, *msg, TRI_CALL_STREAMING) ? delta_came(self, c, msg) : TR_OK;
    case TR_KIND_DONE:
        return current(c, *msg, TRI_CALL_STREAMING) ? tri_shape_done(self, c, *msg) : TR_OK;
    case TR_KIND_FAIL:
        return current(c, *msg, TRI_CALL_STREAMING) || current(c, *msg, TRI_CALL_RESERVING)
                   ? fail_came(self, c, *msg)
                   : TR_OK;
    case TR_KIND_SERVED:
        if (current(c, *msg, TRI_CALL_STREAMING)) {
            snprintf(c->request_id, sizeof c->request_id, "%.*s", (int)(*msg)->size,
                     (const char *)(*msg)->data);
        }
        return TR_OK;
    case TR_KIND_CREDIT:
        return credit_came(self, c, (const tr_credit *)(*msg)->data);
    case TR_KIND_CANCEL:
        return cancelled(self, c);
    case TR_KIND_DOWN:
        return down_came(self, c, *msg);
    case TR_KIND_BOUNCED:
        return bounced(self, c, *msg);
    case TR_KIND_TIMER:
        return tri_call_time_came(self, c, (*msg)->ref);
    default:
        return TR_OK;
    }
}

static void describe(const void *state, char *buf, size_t size) {
    static const char *const names[TRI_CALL_STATES] = {
        "new", "waiting", "streaming", "paused", "backoff", "delivering", "ended"};
    const tri_call *c = state;
    bool in_line = tri_call_in_line(c);
    const char *what = !in_line ? "" : tri_call_is_local(c) ? " for its model" : " at limits of ";
    snprintf(buf, size, "%s%s%.40s target=%s deltas=%u%s", names[c->state], what,
             in_line && !tri_call_is_local(c) ? tri_call_target(c)->provider : "",
             tri_call_label(c), c->seq, c->credit_messages == 0 ? " client behind" : "");
}

const tr_behaviour tr_call = {
    .name = "call",
    .state_size = sizeof(tri_call),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
