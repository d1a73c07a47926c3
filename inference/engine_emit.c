/*
 * What leaves a request: DELTAs within its credit, then one DONE or FAIL. A DELTA costs one message
 * and its whole inline part; when the next does not fit, it waits and the sequence with it. No
 * message is ever half sent. Called by the engine.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "inference/engine_internal.h"
#include "protocol/assert.h"
#include "protocol/limits.h"

enum { silent_tokens_max = 256 }; /* tokens without text are sent along, or when this many wait */

static tr_usage_wire usage_of(const tri_seq *seq) {
    int64_t now_us = llama_time_us();
    return (tr_usage_wire){
        .in = seq->prompt_count,
        .out = seq->count - seq->prompt_count,
        .cached = seq->cached,
        .cost = (double)NAN,
        .first_token_ms =
            seq->first_us != 0 ? (uint32_t)((seq->first_us - seq->arrived_us + 999) / 1000) : 0,
        .total_ms = (uint32_t)((now_us - seq->arrived_us) / 1000),
    };
}

static void emit(tr_engine *engine, const tri_seq *seq, tr_msg *msg) {
    /* Without memory for a message the process cannot keep its promises; its end is seen and
     * answered for by whoever watches it. */
    TR_ASSERT(msg != NULL);
    msg->ref = seq->ref;
    engine->spec.emit(engine->spec.arg, msg);
}

void tri_emit_fail(tr_engine *engine, const tri_seq *seq, tr_err err, uint16_t flags,
                   const char *why) {
    char text[TR_MESSAGE_max + 1]; /* libllama and file names may say anything */
    snprintf(text, sizeof text, "%s", why[0] != '\0' ? why : tr_err_text(err));
    tr_fail head = {.usage = usage_of(seq), .err = (uint16_t)err, .flags = flags, .attempts = 1};
    tr_end_view view = {
        .message = {text, tr_utf8_mend(text, strlen(text))},
        .target = {engine->model_name, strlen(engine->model_name)},
    };
    emit(engine, seq, tr_msg_fail(&head, &view));
}

void tri_emit_done(tr_engine *engine, const tri_seq *seq) {
    tr_done head = {.usage = usage_of(seq), .finish = (uint8_t)seq->finish, .attempts = 1};
    tr_end_view view = {.target = {engine->model_name, strlen(engine->model_name)}};
    emit(engine, seq, tr_msg_done(&head, &view));
}

/* One DELTA, if the credit allows. */
static bool emit_delta(tr_engine *engine, tri_seq *seq, tr_delta *head, const tr_delta_view *view) {
    size_t cost = tr_delta_size(head, view);
    if (seq->credit_messages == 0 || cost > seq->credit_bytes) {
        return false;
    }
    seq->credit_messages--;
    seq->credit_bytes -= (uint32_t)cost;
    head->seq = seq->delta_seq++;
    emit(engine, seq, tr_msg_delta(head, view));
    return true;
}

/* The next DELTA; *ret_last: none follows it. Tokens without text may have gathered behind the
 * beginning of a stop string: no DELTA takes more ids than its limit. */
static bool emit_next(tr_engine *engine, tri_seq *seq, bool *ret_last) {
    tri_text *text = &seq->text;
    int32_t ids[TR_DELTA_TOKENS_max];
    size_t tokens, size;
    tri_text_ready(text, &tokens, &size);
    *ret_last = tokens <= text->sent_tokens + TR_DELTA_TOKENS_max;
    if (!*ret_last) {
        tokens = text->sent_tokens + TR_DELTA_TOKENS_max;
        size_t end = text->tokens[tokens - 1].end;
        size = end < size ? end : size;
    }
    /* A resumed stream's text may have been sent beyond where a stop string now ends it. */
    size_t sent = text->sent_size < size ? text->sent_size : size;
    size_t count = tokens > text->sent_tokens ? tokens - text->sent_tokens : 0;
    if (size == sent && count < silent_tokens_max) {
        return true; /* tokens without text wait for some */
    }
    TR_ASSERT(count <= TR_DELTA_TOKENS_max && size - sent <= TR_DELTA_TEXT_max);
    for (size_t i = 0; i < count; i++) {
        ids[i] = text->tokens[text->sent_tokens + i].id;
    }
    tr_delta head = {.kind = TR_DELTA_TEXT, .token_count = (uint32_t)count};
    tr_delta_view view = {.tokens = ids, .text = {text->bytes + sent, size - sent}};
    if (!emit_delta(engine, seq, &head, &view)) {
        return false;
    }
    tri_text_take(text, tokens, size);
    return true;
}

bool tri_emit_text(tr_engine *engine, tri_seq *seq) {
    bool last = false;
    while (!last) {
        if (!emit_next(engine, seq, &last)) {
            return false;
        }
    }
    return true;
}

bool tri_emit_embedding(tr_engine *engine, tri_seq *seq) {
    size_t count = (size_t)llama_model_n_embd_out(engine->model);
    size_t at_most = TR_DELTA_TEXT_max / sizeof(float);
    while (seq->embedding != NULL && seq->embedding_at < count) {
        size_t left = count - seq->embedding_at;
        size_t now = left < at_most ? left : at_most;
        /* The place that a resume would go on from. */
        int32_t place[2] = {(int32_t)(seq->embedded - 1), (int32_t)(seq->embedding_at + now)};
        tr_delta head = {
            .kind = TR_DELTA_OPAQUE, .choice = (uint16_t)(seq->embedded - 1), .token_count = 2};
        tr_delta_view view = {
            .tokens = place,
            .name = {"embedding", strlen("embedding")},
            .text = {(const char *)(seq->embedding + seq->embedding_at), now * sizeof(float)},
        };
        if (!emit_delta(engine, seq, &head, &view)) {
            return false;
        }
        seq->embedding_at += now;
    }
    return true;
}
