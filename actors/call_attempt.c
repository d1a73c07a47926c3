/*
 * One attempt: the gate is asked (RESERVE), a backend granted, the request given to it (SUBMIT),
 * and both are left again by one function (CANCEL, SETTLE). Each attempt has a number, the `ref` of
 * its messages, so that whatever an earlier one still sends is told apart and dropped. A worker's
 * death leads to another attempt that goes on from the tokens so far, which is no retry: nothing of
 * the answer is made twice.
 *
 * Called by the other parts of the call; on its shard.
 */
#include "actors/call_internal.h"

#include <string.h>

#include "actors/call_shape.h"
#include "protocol/assert.h"
#include "protocol/tokens.h"
#include "runtime/log.h"
#include "runtime/memory.h"

/* A gate that ended is looked for so often, and given up after so long: its supervisor stops what
 * it had, which may take seconds, before it starts the next. */
#define KNOCK_US 100000U
#define GATE_US 10000000U

/* Deaths of workers that one request may write into the log. */
#define RESUMES_LOGGED 5U

/* From SUBMIT to the attempt's first delta; 0 = none came. */
static uint32_t first_ms(const tri_call *c) {
    uint64_t ms = c->attempt_token_us > 0 ? (c->attempt_token_us - c->submitted_us) / 1000 : 0;
    return c->attempt_token_us > 0 && ms == 0 ? 1 : (uint32_t)ms;
}

/* What the attempt used, and how it ended, as far as the call knows. */
static tr_msg *settle_message(const tri_call *c, uint16_t flags, tr_err err) {
    size_t why_size = strlen(c->why);
    tr_msg *msg = tr_msg_new(TR_KIND_SETTLE, sizeof(tr_settle) + why_size);
    if (msg == NULL) {
        return NULL; /* the gate also monitors us */
    }
    tr_settle *settle = (tr_settle *)msg->data;
    *settle = c->outcome;
    settle->err = (uint32_t)err;
    settle->progressed = c->seq > c->seq_at_attempt;
    settle->flags = flags;
    settle->why_size = (uint16_t)why_size;
    if (settle->tokens_in == 0 && settle->tokens_out == 0) {
        settle->tokens_out = c->seq - c->seq_at_attempt; /* at least one token a delta */
    }
    settle->first_token_ms = first_ms(c);
    memcpy(settle + 1, c->why, why_size);
    msg->ref = c->attempt;
    return msg;
}

void tri_call_leave(tr_self *self, tri_call *c, tr_err err) {
    uint16_t flags = c->backend == TR_ID_NONE || c->bounced ? TR_SETTLE_UNUSED
                     : c->backend_owes                      ? TR_SETTLE_OWES
                                                            : 0;
    if (c->stats_row > 0) {
        tr_stats_end(tr_services_stats(c->services), c->stats_row, first_ms(c),
                     err != TR_OK && err != TR_ERR_CANCELLED, tr_now_us(self));
        c->stats_row = 0;
    }
    if (c->backend != TR_ID_NONE) {
        tr_demonitor(self, c->backend_monitor);
        if (c->backend_owes) {
            tr_msg *cancel = tr_msg_cancel(err);
            if (cancel != NULL) {
                cancel->ref = c->attempt;
            }
            (void)tr_send_control(self, c->backend, cancel);
        }
        c->backend = TR_ID_NONE;
        c->backend_owes = false;
    }
    if (c->gate != TR_ID_NONE) {
        tr_demonitor(self, c->gate_monitor);
        if (c->reserved) {
            tr_msg *settle = settle_message(c, flags, err);
            (void)tr_send_control(self, c->gate, settle); /* the gate also monitors us */
        }
        c->gate = TR_ID_NONE;
        c->reserved = false;
    }
}

static uint32_t clamp(uint64_t number, uint32_t max) {
    return number < max ? (uint32_t)number : max;
}

/* There is no gate. Who was let in once waits for its replacement; others may come back. */
static tr_err without_gate(tr_self *self, tri_call *c) {
    uint64_t now = tr_now_us(self);
    c->lost_us = c->lost_us != 0 ? c->lost_us : now;
    if (!c->let_in || now - c->lost_us >= GATE_US) {
        return tri_call_attempt_failedf(self, c, TR_ERR_SERVER, true,
                                        "%s is being restarted: try again",
                                        tri_call_target(c)->provider);
    }
    c->knock_us = now + KNOCK_US;
    return tri_call_arm(self, c);
}

tr_err tri_call_gate_down(tr_self *self, tri_call *c) {
    c->gate = TR_ID_NONE; /* what it held died with it; a running stream does not need it */
    c->reserved = false;
    return c->state == TRI_CALL_RESERVING ? without_gate(self, c) : TR_OK;
}

/* What the attempt will take of a rate of tokens; counting a prompt takes none. */
static uint32_t estimate(const tri_call *c) {
    return c->head.op == TR_OP_COUNT
               ? 0
               : clamp(tr_tokens_of_body(c->body->bytes, c->body->size), UINT32_MAX);
}

/* RESERVE; NULL when out of memory. */
static tr_msg *reserve_message(tr_self *self, const tri_call *c) {
    const tr_target *target = tri_call_target(c);
    size_t model_size = strlen(target->model);
    tr_msg *msg = tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve) + model_size);
    if (msg == NULL) {
        return NULL;
    }
    *(tr_reserve *)msg->data = (tr_reserve){
        .remaining_ms = tri_call_remaining_ms(self, c),
        .tokens = estimate(c),
        .priority = c->head.priority,
        .resumes = (uint8_t)(c->resumes < UINT8_MAX ? c->resumes : UINT8_MAX),
        .mid_answer = c->token_count > 0,
        .flags = c->cause == TRI_CALL_AGAIN ? TR_RESERVE_RETRY : 0,
        .model_size = (uint16_t)model_size,
        .client = c->door,
        .avoid = c->avoid,
    };
    memcpy(msg->data + sizeof(tr_reserve), target->model, model_size);
    msg->ref = c->attempt;
    msg->flags = c->token_count > 0 ? 0 : TR_MSG_OPENING; /* mid-answer nothing is opened */
    return msg;
}

/* Who can show the request: a provider's actor, also a managed server's, which is not started for
 * it. None for a local model, whose worker knows its template. */
static tr_id shower(tr_self *self, const tri_call *c) {
    const tr_target *target = tri_call_target(c);
    bool local = tri_call_is_local(c);
    char name[256];
    snprintf(name, sizeof name, "provider:%.64s%s%.128s:%u", target->provider, local ? "/" : "",
             local ? target->model : "", (unsigned)tr_self_shard(self));
    return tr_whereis(tr_self_node(self), name);
}

tr_err tri_call_knock(tr_self *self, tri_call *c) {
    if ((c->head.flags & TR_SUBMIT_SHOW) != 0) {
        tr_id backend = shower(self, c);
        if (backend != TR_ID_NONE) { /* past the gate: nothing of the provider is used */
            return tri_call_granted(self, c, &(tr_granted){.backend = backend});
        }
    }
    c->gate = tr_whereis(tr_self_node(self), tri_call_target(c)->gate);
    if (c->gate == TR_ID_NONE) {
        return without_gate(self, c);
    }
    c->lost_us = 0;
    tr_err err = tr_monitor(self, c->gate, &c->gate_monitor);
    tr_msg *msg = err == TR_OK ? reserve_message(self, c) : NULL;
    if (msg == NULL) {
        c->gate = err == TR_OK ? c->gate : TR_ID_NONE;
        return tri_call_failf(self, c, TR_ERR_NOMEM, "out of memory");
    }
    c->reserved = true;
    err = tr_send(self, c->gate, &msg);
    if (err != TR_OK) {
        tr_msg_free(msg);
        c->reserved = false;
        return tri_call_attempt_failedf(self, c, TR_ERR_OVERLOADED, true,
                                        "too many requests wait for %s",
                                        tri_call_target(c)->provider);
    }
    return tri_call_arm(self, c);
}

tr_err tri_call_ask_gate(tr_self *self, tri_call *c) {
    const char *refusal = tri_shape_refusal(c);
    if (refusal != NULL) {
        return tri_call_failf(self, c, TR_ERR_UNSUPPORTED, "%s", refusal);
    }
    tri_call_set_state(c, TRI_CALL_RESERVING);
    c->attempt++;
    c->asked_us = tr_now_us(self);
    c->seq_at_attempt = c->seq;
    c->said_bytes = 0;
    c->attempt_token_us = 0;
    c->outcome = (tr_settle){0};
    c->bounced = false;
    c->why[0] = '\0';
    c->request_id[0] = '\0';
    return tri_call_knock(self, c);
}

/* SUBMIT; NULL when out of memory. */
static tr_msg *submit_message(tr_self *self, tri_call *c) {
    const tr_target *target = tri_call_target(c);
    uint32_t left_ms = tri_call_remaining_ms(self, c);
    tr_submit head = c->head;
    head.total_ms = left_ms > 0 ? left_ms : 1;
    tr_body *body = tri_shape_body(c);
    if (body == NULL) {
        return NULL;
    }
    head.credit_messages = clamp(c->credit_messages, TR_CREDIT_MESSAGES_max);
    head.credit_bytes = clamp(c->credit_bytes, TR_CREDIT_BYTES_max);
    if (tri_shape_holds(c)) {
        head.credit_messages = TR_CREDIT_MESSAGES_default;
        head.credit_bytes = TR_CREDIT_BYTES_default;
    }
    head.resume_count = c->token_count;
    tr_submit_view view = {
        .resume = c->tokens,
        .target = {target->model, strlen(target->model)},
        .provider = {target->provider, strlen(target->provider)},
        .base_url = c->base_url,
    };
    tr_msg *msg = tr_msg_submit(&head, &view, body);
    if (msg != NULL) {
        msg->ref = c->attempt;
    }
    return msg;
}

/* The attempt runs from now on, as one that counts or not. */
static void count_attempt(tr_self *self, tri_call *c) {
    c->let_in = true;
    c->tries += c->cause != TRI_CALL_RESUME && c->cause != TRI_CALL_UNPAUSED &&
                c->cause != TRI_CALL_CORRECT;
    c->sent += c->cause != TRI_CALL_UNPAUSED; /* a pause is not the attempt's end */
    c->submitted_us = c->progress_us = tr_now_us(self);
    c->refund_bytes = 0;
    tr_stats *stats = tr_services_stats(c->services);
    c->stats_row = tr_stats_row(stats, tri_call_label(c), c->targets.count > 1);
    tr_stats_begin(stats, c->stats_row);
}

tr_err tri_call_granted(tr_self *self, tri_call *c, const tr_granted *grant) {
    tri_call_set_state(c, TRI_CALL_STREAMING);
    c->queue_ms += grant->queue_ms;
    if (c->token_count > 0 && grant->model != c->model) {
        return tri_call_failf(self, c, TR_ERR_CRASHED,
                              "the model of %s was replaced in the middle of the answer",
                              tri_call_label(c));
    }
    c->model = grant->model;
    c->backend = grant->backend;
    c->owes_flows = grant->wants_flows != 0;
    count_attempt(self, c);
    tr_err err = tr_monitor(self, c->backend, &c->backend_monitor);
    tr_msg *msg = err == TR_OK ? submit_message(self, c) : NULL;
    if (msg == NULL) {
        c->backend = err == TR_OK ? c->backend : TR_ID_NONE;
        return tri_call_failf(self, c, TR_ERR_NOMEM, "out of memory");
    }
    err = tr_send(self, c->backend, &msg);
    if (err != TR_OK) {
        tr_msg_free(msg);
        c->bounced = true;
        return tri_call_attempt_failedf(self, c, TR_ERR_OVERLOADED, false, "%s has too much to do",
                                        tri_call_label(c));
    }
    c->backend_owes = true;
    return tri_call_arm(self, c);
}

tr_err tri_call_resume(tr_self *self, tri_call *c) {
    c->avoid = c->backend;
    c->backend_owes = false;
    if (c->seq > c->seq_at_attempt) {
        c->barren = 0;
    } else if (!tri_call_is_shut(c)) {
        c->barren++; /* without credit for a token it had no chance to show one */
    }
    c->resumes++;
    tri_call_leave(self, c, TR_ERR_CRASHED);
    if (c->untracked) {
        return tri_call_failf(
            self, c, TR_ERR_CRASHED,
            "what served %s died in the middle of the answer, and nothing else can go on "
            "from there",
            tri_call_label(c));
    }
    if (c->barren >= TR_RESUMES_WITHOUT_TOKEN_max) {
        return tri_call_attempt_failedf(
            self, c, TR_ERR_CRASHED, false,
            "%u workers in a row died at this request without a new token: it is not tried "
            "again",
            c->barren);
    }
    if (c->resumes <= RESUMES_LOGGED && tr_log_on(TR_LOG_WARN)) {
        char id[TR_ID_FMT_size];
        tr_log(TR_LOG_WARN, self,
               c->resumes < RESUMES_LOGGED ? "a worker died; another goes on"
                                           : "a worker died; another goes on; more of this are "
                                             "only counted, in the request's last line",
               "request=%s target=%s tokens=%u resumes=%u", tr_id_format(tr_self_id(self), id),
               tri_call_label(c), c->token_count, c->resumes);
    }
    c->cause = TRI_CALL_RESUME;
    return tri_call_is_shut(c) ? tri_call_pause(self, c) : tri_call_ask_gate(self, c);
}
