/*
 * How it ends: a failed attempt is answered by another (retry.h decides) or becomes the one
 * terminal. The FAIL of the last failed attempt is kept while another is tried, as it would be
 * sent: when a gate then refuses, as it does when a target's retry budget is used up, that failure
 * is the answer, since the refusal is not what went wrong.
 *
 * Called by the other parts of the call; on its shard.
 */
#include "actors/call_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "actors/call_shape.h"
#include "actors/limiter.h"
#include "actors/retry.h"
#include "protocol/assert.h"
#include "protocol/tokens.h"
#include "runtime/log.h"

static void set_usage(tr_self *self, const tri_call *c, tr_usage_wire *usage) {
    usage->queue_ms = c->queue_ms;
    usage->first_token_ms =
        c->first_token_us > 0 ? (uint32_t)((c->first_token_us - c->began_us) / 1000) : 0;
    if (c->first_token_us > 0 && usage->first_token_ms == 0) {
        usage->first_token_ms = 1; /* 0 says that there was none */
    }
    usage->total_ms = tri_call_ms_since(self, c->began_us);
    if (usage->total_ms < usage->first_token_ms) {
        usage->total_ms = usage->first_token_ms;
    }
}

static tr_str label_of(const tri_call *c) {
    const char *label = tri_call_label(c);
    return (tr_str){label, tr_utf8_cut(label, strlen(label), TR_NAME_max)};
}

static uint16_t attempts_of(const tri_call *c) {
    return (uint16_t)(c->sent < UINT16_MAX ? c->sent : UINT16_MAX);
}

void tri_call_estimate_used(tri_call *c, tr_usage_wire *usage) {
    bool uses = c->head.op == TR_OP_CHAT || c->head.op == TR_OP_EMBED;
    if (!uses || (c->head.flags & TR_SUBMIT_SHOW) != 0 || usage->in > 0 || usage->out > 0) {
        return;
    }
    usage->in = tr_tokens_of_body(c->body->bytes, c->body->size);
    if (c->head.op == TR_OP_CHAT) {
        usage->out = (c->said_bytes + TR_TOKENS_BYTES - 1) / TR_TOKENS_BYTES;
    }
    c->estimated = true;
}

void tri_call_set_outcome(tri_call *c, tr_err err, const tr_usage_wire *usage, tr_str why) {
    c->outcome =
        (tr_settle){.err = (uint32_t)err, .tokens_in = usage->in, .tokens_out = usage->out};
    size_t size = tr_utf8_cut(why.ptr, why.size, sizeof c->why - 1);
    memcpy(c->why, why.ptr, size);
    c->why[size] = '\0';
}

/* Sends the one terminal; the actor's end (stop) gives everything back. */
tr_err tri_call_finish(tr_self *self, tri_call *c, tr_msg *terminal) {
    tri_call_set_state(c, TRI_CALL_ENDED);
    if (terminal == NULL) {
        return TR_ERR_NOMEM; /* the door sees a crash and answers for us */
    }
    terminal->ref = c->ref;
    tr_err err = tr_send_control(self, c->door, terminal);
    return err == TR_OK ? TR_DONE : err;
}

/* A FAIL as the door gets it. */
static tr_msg *fail_message(tr_self *self, const tri_call *c, const tr_fail *head,
                            const tr_end_view *view) {
    tr_fail full = *head;
    set_usage(self, c, &full.usage);
    full.attempts = attempts_of(c);
    full.flags &= (uint16_t)~TR_FAIL_RESUMABLE;
    tr_end_view named = *view;
    if (named.request_id.size == 0) { /* it was not the provider who ended it */
        named.request_id = (tr_str){c->request_id, strlen(c->request_id)};
    }
    return tr_msg_fail(&full, &named);
}

/* `view` has the target that failed. */
static tr_err fail(tr_self *self, tri_call *c, const tr_fail *head, const tr_end_view *view) {
    tri_call_set_outcome(c, (tr_err)head->err, &head->usage, view->message);
    if (tr_log_on(TR_LOG_INFO)) {
        char why[256];
        char id[TR_ID_FMT_size];
        tr_log(TR_LOG_INFO, self, "request failed",
               "request=%s target=%.*s err=%s ms=%u attempts=%u resumes=%u why=%s",
               tr_id_format(tr_self_id(self), id), (int)view->target.size, view->target.ptr,
               tr_err_name((tr_err)head->err), tri_call_ms_since(self, c->began_us), c->sent,
               c->resumes, tr_log_quote(view->message.ptr, view->message.size, why, sizeof why));
    }
    tr_fail whole = *head;
    tri_shape_add_used(c, &whole.usage);
    return tri_call_finish(self, c, fail_message(self, c, &whole, view));
}

/* A formatted sentence as the view of a FAIL of the target in use. */
#define SENTENCE_size 512
static tr_end_view sentence(const tri_call *c, char *text, const char *format, va_list args) {
    /* clang 14 loses sight of va_start. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(text, SENTENCE_size, format, args);
    return (tr_end_view){.message = {text, tr_utf8_plain(text, strlen(text))},
                         .target = label_of(c)};
}

tr_err tri_call_failf(tr_self *self, tri_call *c, tr_err err, const char *format, ...) {
    char text[SENTENCE_size];
    va_list args;
    va_start(args, format);
    tr_end_view view = sentence(c, text, format, args);
    va_end(args);
    tr_fail head = {.err = (uint16_t)err, .usage.cost = __builtin_nan("")};
    return fail(self, c, &head, &view);
}

tr_err tri_call_done(tr_self *self, tri_call *c, const tr_msg *msg) {
    tr_done head = *(const tr_done *)msg->data;
    tr_end_view view = tr_done_read((const tr_done *)msg->data);
    c->backend_owes = false;
    tri_call_estimate_used(c, &head.usage);
    tri_call_set_outcome(c, TR_OK, &head.usage, (tr_str){"", 0});
    tri_shape_add_used(c, &head.usage);
    set_usage(self, c, &head.usage);
    tr_usage_wire told = head.usage;
    if (c->estimated) { /* a price times a guess is no price */
        told.in = told.out = 0;
    }
    head.usage.cost = tr_model_cost(&tri_call_target(c)->facts, &told);
    head.attempts = attempts_of(c);
    head.flags = c->at > 0 ? TR_DONE_FALLBACK : 0;
    head.flags = (uint8_t)(head.flags | (c->estimated ? TR_DONE_ESTIMATED : 0));
    view.target = label_of(c);
    if (tr_log_on(TR_LOG_INFO)) {
        char id[TR_ID_FMT_size];
        tr_log(TR_LOG_INFO, self, "request done",
               "request=%s target=%s in=%llu out=%llu first_token_ms=%u ms=%u attempts=%u "
               "resumes=%u",
               tr_id_format(tr_self_id(self), id), tri_call_label(c),
               (unsigned long long)head.usage.in, (unsigned long long)head.usage.out,
               head.usage.first_token_ms, head.usage.total_ms, c->sent, c->resumes);
    }
    tr_msg *terminal = tr_msg_done(&head, &view);
    return tri_shape_holds(c) ? tri_shape_deliver(self, c, terminal)
                              : tri_call_finish(self, c, terminal);
}

/* --- another attempt --- */

/* The place of the next target for whom `err` is no reason, or targets.count. A prompt that was too
 * long may only go where more is said to fit. */
static uint32_t next_place(const tri_call *c, bool longer) {
    uint32_t place = c->at + 1;
    uint32_t context = tri_call_target(c)->context;
    for (; longer && place < c->targets.count; place++) {
        if (context > 0 && c->targets.items[c->order[place]].context > context) {
            break;
        }
    }
    return place < c->targets.count ? place : c->targets.count;
}

static tr_retry_facts facts_of(tr_self *self, const tri_call *c, const tr_fail *head,
                               bool refused) {
    return (tr_retry_facts){
        .err = (tr_err)head->err,
        .begun = c->seq > 0,
        .refused = refused,
        .hinted = (head->flags & TR_FAIL_RETRY_AFTER) != 0,
        .hint_ms = head->retry_after_ms,
        .advised = (head->flags & TR_FAIL_RETRY_NO) != 0    ? -1
                   : (head->flags & TR_FAIL_RETRY_YES) != 0 ? 1
                                                            : 0,
        .attempts = c->tries,
        .attempts_max = c->head.attempts,
        .remaining_ms = tri_call_remaining_ms(self, c),
        .random = tr_random(self),
        .next_left = next_place(c, false) < c->targets.count,
        .longer_left = next_place(c, true) < c->targets.count,
    };
}

static void log_failed(tr_self *self, const tri_call *c, const tr_fail *head, tr_str message,
                       tr_retry_choice choice) {
    char why[256];
    char id[TR_ID_FMT_size];
    if (tr_log_on(TR_LOG_WARN)) {
        tr_log(TR_LOG_WARN, self,
               choice.action == TR_RETRY_AGAIN ? "an attempt failed; another follows"
                                               : "an attempt failed; the next target is asked",
               "request=%s target=%s err=%s attempts=%u after_ms=%u why=%s",
               tr_id_format(tr_self_id(self), id), tri_call_label(c),
               tr_err_name((tr_err)head->err), c->sent, choice.after_ms,
               tr_log_quote(message.ptr, message.size, why, sizeof why));
    }
}

/* Without the failure that it quotes, when that has just been told. */
static tr_str unquoted(tr_str refusal, tr_str told) {
    const char *quote = memmem(refusal.ptr, refusal.size, TR_LIMITER_last, strlen(TR_LIMITER_last));
    if (quote != NULL) {
        const char *words = quote + strlen(TR_LIMITER_last);
        size_t size = (size_t)(refusal.ptr + refusal.size - words);
        bool same = size <= told.size && memcmp(words, told.ptr, size) == 0;
        refusal.size = same ? (size_t)(quote - refusal.ptr) : refusal.size;
    }
    return refusal;
}

/* The gate refuses another attempt: what went wrong before is the answer. */
static tr_err fail_as_before(tr_self *self, tri_call *c, tr_str refusal) {
    char text[TR_MESSAGE_max + 1];
    const tr_fail *head = (const tr_fail *)c->failure->data;
    tr_end_view view = tr_fail_read(head);
    refusal = unquoted(refusal, view.message);
    snprintf(text, sizeof text, "%.*s; no further attempt: %.*s", (int)view.message.size,
             view.message.ptr, (int)(refusal.size < 512 ? refusal.size : 512), refusal.ptr);
    view.message = (tr_str){text, tr_utf8_plain(text, strlen(text))};
    return fail(self, c, head, &view);
}

/* Keeps it for fail_as_before; a refusal only when nothing failed yet. Without memory the older
 * one, or none, will have to do. */
static void keep_failure(tr_self *self, tri_call *c, const tr_fail *head, const tr_end_view *view,
                         bool refused) {
    tr_msg *kept = refused && c->failure != NULL ? NULL : fail_message(self, c, head, view);
    if (kept != NULL) {
        tr_msg_free(c->failure);
        c->failure = kept;
    }
}

static tr_err ask_next(tr_self *self, tri_call *c, bool longer) {
    c->at = next_place(c, longer);
    c->cause = TRI_CALL_NEXT;
    c->avoid = TR_ID_NONE;
    c->let_in = false;
    c->lost_us = 0;
    c->barren = 0;
    return tri_call_ask_gate(self, c); /* without a DELTA no credit was used: there is some */
}

static tr_err back_off(tr_self *self, tri_call *c, tr_id failed, uint32_t after_ms) {
    c->cause = TRI_CALL_AGAIN;
    c->avoid = failed;
    c->backoff_us = tr_now_us(self) + (uint64_t)after_ms * 1000;
    tri_call_set_state(c, TRI_CALL_BACKOFF);
    return tri_call_arm(self, c);
}

/* The last failure says how often it was tried, when that was more than once. */
static tr_err fail_at_last(tr_self *self, tri_call *c, const tr_fail *head,
                           const tr_end_view *view) {
    char text[TR_MESSAGE_max + 1];
    tr_end_view told = *view;
    if (c->tries > 1) {
        size_t size = tr_utf8_cut(told.message.ptr, told.message.size, TR_MESSAGE_max - 40);
        snprintf(text, sizeof text, "%.*s (after %u attempts)", (int)size, told.message.ptr,
                 c->tries);
        told.message = (tr_str){text, strlen(text)};
    }
    return fail(self, c, head, &told);
}

tr_err tri_call_attempt_failed(tr_self *self, tri_call *c, const tr_fail *head,
                               const tr_end_view *view, bool refused) {
    TR_ASSERT(c->targets.count > 0);
    tr_end_view ours = {
        .message = view->message, .target = label_of(c), .request_id = view->request_id};
    tr_retry_facts facts = facts_of(self, c, head, refused);
    tr_retry_choice choice = tr_retry_decide(&facts);
    if (choice.action == TR_RETRY_FAIL) {
        return refused && c->failure != NULL ? fail_as_before(self, c, view->message)
                                             : fail_at_last(self, c, head, &ours);
    }
    log_failed(self, c, head, view->message, choice);
    keep_failure(self, c, head, &ours, refused);
    tri_call_set_outcome(c, facts.err, &head->usage, view->message);
    tr_id failed = c->backend;
    tri_call_leave(self, c, facts.err);
    return choice.action == TR_RETRY_NEXT ? ask_next(self, c, facts.err == TR_ERR_CONTEXT_LENGTH)
                                          : back_off(self, c, failed, choice.after_ms);
}

tr_err tri_call_attempt_failedf(tr_self *self, tri_call *c, tr_err err, bool refused,
                                const char *format, ...) {
    char text[SENTENCE_size];
    va_list args;
    va_start(args, format);
    tr_end_view view = sentence(c, text, format, args);
    va_end(args);
    tr_fail head = {.err = (uint16_t)err, .usage.cost = __builtin_nan("")};
    return tri_call_attempt_failed(self, c, &head, &view, refused);
}
