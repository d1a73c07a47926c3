/*
 * How a request comes in. Reading one (its JSON, its chat template, its tokens, a grammar, what is
 * replayed of a resumed stream) takes a second a megabyte, far longer than the others' streams may
 * stand still. So a reading prepares a request of its own, a draft, on whatever thread its caller
 * likes, out of nothing but the message and what never changes in an engine; meanwhile the list
 * holds a request in state READING that takes credit and can be cancelled. At the end the draft's
 * content goes into it. Begin and end are called on the engine's thread, read on any.
 */
#include <stdio.h>

#include "inference/engine_internal.h"
#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

struct tr_engine_reading {
    /* set at begin */
    const tr_engine *engine;
    tr_msg *submit; /* NULL = the caller has a chat */
    tri_seq *seq;   /* in the engine's list; NULL = cancelled. Engine thread. */
    /* the reader's until end */
    tri_seq draft;
    tr_err err;
    char why[TR_ENGINE_WHY_size];
    /* whoever queues it */
    tr_engine_reading *next;
    /* Relaxed: it only saves work, `seq` decides. */
    atomic_bool cancelled;
};

bool tr_engine_reading_cancelled(const tr_engine_reading *reading) {
    return atomic_load_explicit(&reading->cancelled, memory_order_relaxed);
}

tr_engine_reading **tr_engine_reading_next(tr_engine_reading *reading) {
    return &reading->next;
}

void tri_reading_cancel(tr_engine_reading *reading) {
    TR_ASSERT(reading->seq != NULL);
    atomic_store_explicit(&reading->cancelled, true, memory_order_relaxed);
    reading->seq->reading = NULL;
    reading->seq = NULL;
}

static tr_engine_reading *begin(tr_engine *engine, uint64_t ref, const tr_submit *submit) {
    TR_ASSERT(tri_seq_find(engine, ref) == NULL);
    tri_seq *seq = tr_zalloc(sizeof *seq);
    tr_engine_reading *reading = tr_zalloc(sizeof *reading);
    TR_ASSERT(seq != NULL && reading != NULL); /* as in engine_emit.c: no memory for an answer */
    *seq = (tri_seq){
        .reading = reading,
        .ref = ref,
        .op = (tr_op)submit->op,
        .state = TRI_SEQ_READING,
        .slot = -1,
        .row = -1,
        .credit_messages = submit->credit_messages,
        .credit_bytes = submit->credit_bytes,
        .arrived_us = llama_time_us(),
    };
    reading->engine = engine;
    reading->seq = seq;
    reading->draft = (tri_seq){.ref = ref, .op = seq->op, .slot = -1, .row = -1};
    *engine->last = seq;
    engine->last = &seq->next;
    engine->active++;
    if (engine->active > TR_ENGINE_REQUESTS_max) {
        reading->err = TR_ERR_OVERLOADED;
        snprintf(reading->why, sizeof reading->why, "the worker has too many requests");
    }
    return reading;
}

static void prepare(tr_engine_reading *reading, const tr_submit *submit, const int32_t *resume) {
    tri_seq *draft = &reading->draft;
    draft->state = TRI_SEQ_WAITING;
    tri_text_init(&draft->text, draft->chat->stops, draft->chat->stop_count);
    reading->err = tri_seq_prepare(reading->engine, draft, submit, resume, reading->why);
}

void tr_engine_read(tr_engine_reading *reading) {
    const tr_submit *head = (const tr_submit *)reading->submit->data;
    const tr_body *body = reading->submit->body;
    if (reading->err != TR_OK || tr_engine_reading_cancelled(reading)) {
        return;
    }
    if (body == NULL) {
        reading->err = TR_ERR_INVALID;
        snprintf(reading->why, sizeof reading->why, "the request has no body");
        return;
    }
    reading->err = tr_chat_parse(reading->draft.op, body->bytes, body->size, &reading->draft.chat,
                                 reading->why, sizeof reading->why);
    if (reading->err == TR_OK) {
        prepare(reading, head, tr_submit_read(head).resume);
    }
}

static void end_seq(tr_engine *engine, tr_engine_reading *reading) {
    tri_seq *seq = reading->seq, *draft = &reading->draft;
    draft->next = seq->next;
    draft->credit_messages = seq->credit_messages;
    draft->credit_bytes = seq->credit_bytes;
    draft->arrived_us = seq->arrived_us;
    *seq = *draft;
    *draft = (tri_seq){0};
    if (reading->err != TR_OK) {
        tri_emit_fail(engine, seq, reading->err, 0, reading->why);
        tri_seq_remove(engine, seq, false);
        return;
    }
    engine->totals.tokens_in += seq->prompt_count;
}

void tr_engine_end(tr_engine *engine, tr_engine_reading *reading) {
    if (reading->seq != NULL) {
        end_seq(engine, reading);
    } else {
        tri_seq_fini(&reading->draft);
    }
    tr_msg_free(reading->submit);
    tr_free(reading);
}

void tr_engine_add(tr_engine *engine, uint64_t ref, const tr_submit *submit, const int32_t *resume,
                   tr_chat *chat) {
    tr_engine_reading *reading = begin(engine, ref, submit);
    reading->draft.chat = chat;
    if (reading->err == TR_OK) {
        prepare(reading, submit, resume);
    }
    tr_engine_end(engine, reading);
}

tr_engine_reading *tr_engine_begin(tr_engine *engine, tr_msg *submit) {
    if (tri_seq_find(engine, submit->ref) != NULL) {
        tr_msg_free(submit);
        return NULL;
    }
    const tr_submit *head = (const tr_submit *)submit->data;
    tr_engine_reading *reading = begin(engine, submit->ref, head);
    reading->submit = submit;
    if (reading->err == TR_OK && head->op == TR_OP_CONTROL) {
        reading->err = TR_ERR_UNSUPPORTED;
        snprintf(reading->why, sizeof reading->why, "a worker takes no control requests");
    }
    if (reading->err != TR_OK) {
        tr_engine_end(engine, reading);
        return NULL;
    }
    return reading;
}

void tr_engine_submit(tr_engine *engine, tr_msg *submit) {
    tr_engine_reading *reading = tr_engine_begin(engine, submit);
    if (reading != NULL) {
        tr_engine_read(reading);
        tr_engine_end(engine, reading);
    }
}
