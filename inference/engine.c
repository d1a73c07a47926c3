/*
 * Continuous batching: each step puts one token of every running sequence and a share of the
 * waiting prompts into one batch, decodes it, and samples where a sequence has come to its end.
 * Sequences join and leave between two decodes. While others run, prompts get few tokens a step,
 * so that nobody's stream stands still behind a long prompt; alone, they get many. A sequence whose
 * text cannot go out for want of credit is left out of the batch until CREDIT comes. Called by the
 * engine thread of a worker, or by a test.
 */
#include "inference/engine.h"

#include <stdio.h>
#include <string.h>

#include "inference/engine_internal.h"
#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

enum {
    prompt_tokens_min = 48,  /* of one decode, beside many that generate */
    prompt_tokens_max = 128, /* alone: a cancelled prompt computes no more than these */
    sequences_default = 4,
};

tr_err tr_engine_new(const tr_engine_spec *spec, tr_engine **ret, char *ret_why) {
    static atomic_flag began = ATOMIC_FLAG_INIT;
    TR_ASSERT(spec->sequences <= TR_ENGINE_SEQUENCES_max);
    ret_why[0] = '\0';
    if (!atomic_flag_test_and_set(&began)) {
        llama_backend_init();
    }
    tr_engine *engine = tr_zalloc(sizeof *engine);
    if (engine == NULL) {
        return TR_ERR_NOMEM;
    }
    engine->spec = *spec;
    engine->sequences = spec->sequences > 0 ? spec->sequences : sequences_default;
    engine->last = &engine->first;
    engine->model_name = tr_strndup(spec->model_name, strlen(spec->model_name));
    tr_err err = engine->model_name != NULL ? tri_engine_load(engine, ret_why) : TR_ERR_NOMEM;
    if (err != TR_OK) {
        if (ret_why[0] == '\0') {
            snprintf(ret_why, TR_ENGINE_WHY_size, "%s: %s", spec->model_file, tr_err_text(err));
        }
        tr_engine_free(engine);
        return err;
    }
    engine->spec.model_file = NULL; /* the caller's; not needed any more */
    engine->spec.chat_template = NULL;
    engine->spec.model_name = engine->model_name;
    *ret = engine;
    return TR_OK;
}

void tr_engine_free(tr_engine *engine) {
    if (engine == NULL) {
        return;
    }
    while (engine->first != NULL) {
        TR_ASSERT(engine->first->reading == NULL);
        tri_seq_remove(engine, engine->first, false);
    }
    for (uint32_t i = 0; engine->slots != NULL && i < engine->sequences; i++) {
        tr_free(engine->slots[i].cached);
    }
    tr_free(engine->slots);
    tr_free(engine->scratch.candidates);
    tr_free(engine->scratch.times);
    if (engine->batch.token != NULL) {
        llama_batch_free(engine->batch);
    }
    if (engine->embed_batch.token != NULL) {
        llama_batch_free(engine->embed_batch);
    }
    if (engine->embed_context != NULL) {
        llama_free(engine->embed_context);
    }
    if (engine->context != NULL) {
        llama_free(engine->context);
    }
    if (engine->model != NULL) {
        llama_model_free(engine->model);
    }
    tr_free(engine->template_text);
    tr_free(engine->model_name);
    tr_free(engine);
}

/* --- requests in --- */

static void fail(tr_engine *engine, tri_seq *seq, tr_err err, uint16_t flags, const char *why,
                 bool spoilt) {
    tri_emit_fail(engine, seq, err, flags, why);
    tri_seq_remove(engine, seq, spoilt);
}

void tr_engine_cancel(tr_engine *engine, uint64_t ref) {
    tri_seq *seq = tri_seq_find(engine, ref);
    if (seq != NULL) {
        if (seq->reading != NULL) {
            tri_reading_cancel(seq->reading);
        }
        fail(engine, seq, TR_ERR_CANCELLED, 0, "", false);
    }
}

void tr_engine_cancel_all(tr_engine *engine) {
    while (engine->first != NULL) {
        tr_engine_cancel(engine, engine->first->ref);
    }
}

static uint32_t add_up(uint32_t a, uint32_t b) {
    return b > UINT32_MAX - a ? UINT32_MAX : a + b;
}

void tr_engine_credit(tr_engine *engine, uint64_t ref, uint32_t messages, uint32_t bytes) {
    tri_seq *seq = tri_seq_find(engine, ref);
    if (seq != NULL) {
        seq->credit_messages = add_up(seq->credit_messages, messages);
        seq->credit_bytes = add_up(seq->credit_bytes, bytes);
    }
}

void tr_engine_abort(tr_engine *engine) {
    atomic_store_explicit(&engine->aborted, true, memory_order_relaxed);
}

void tr_engine_info_get(const tr_engine *engine, tr_engine_info *ret) {
    *ret = engine->totals;
    ret->sequences = engine->sequences;
    ret->context = engine->context_max;
    ret->active = engine->active;
    ret->chats = engine->context != NULL && engine->template_text != NULL;
    ret->embeds = true;
}

/* --- one step --- */

/* Sends what waits and ends what is at its end; the slots that this frees go to those who wait. */
static void settle(tr_engine *engine) {
    for (tri_seq *seq = engine->first, *next; seq != NULL; seq = next) {
        next = seq->next;
        bool sent = tri_emit_text(engine, seq) && tri_emit_embedding(engine, seq);
        bool embedded = seq->op == TR_OP_EMBED && seq->state != TRI_SEQ_READING &&
                        seq->embedded == seq->chat->input_count;
        if (sent && (seq->state == TRI_SEQ_ENDING || embedded)) {
            seq->finish = embedded ? TR_FINISH_STOP : seq->finish;
            engine->totals.tokens_out += seq->count - seq->prompt_count;
            engine->totals.tokens_cached += seq->cached;
            tri_emit_done(engine, seq);
            tri_seq_remove(engine, seq, false);
        }
    }
    for (tri_seq *seq = engine->first; seq != NULL; seq = seq->next) {
        if (seq->op == TR_OP_CHAT && seq->state == TRI_SEQ_WAITING &&
            !tri_slot_assign(engine, seq)) {
            break;
        }
    }
}

static bool may_run(tr_engine *engine, tri_seq *seq) {
    return seq->state == TRI_SEQ_RUNNING && seq->credit_messages > 0 && tri_emit_text(engine, seq);
}

static bool on_the_way_out(const tr_engine *engine) {
    /* Relaxed: nothing but the flag itself is read. */
    return atomic_load_explicit(&engine->aborted, memory_order_relaxed);
}

static void add_tokens(tr_engine *engine, tri_seq *seq, size_t count) {
    struct llama_batch *batch = &engine->batch;
    for (size_t i = 0; i < count; i++) {
        int32_t at = batch->n_tokens++;
        bool last = seq->fed + i + 1 == seq->count;
        batch->token[at] = seq->tokens[seq->fed + i];
        batch->pos[at] = (llama_pos)(seq->fed + i);
        batch->n_seq_id[at] = 1;
        batch->seq_id[at][0] = seq->slot;
        batch->logits[at] = last;
        seq->row = last ? at : -1;
    }
    seq->feeding = count;
}

/* Prompts that wait have the share of a decode that is theirs by number; few large pieces are
 * computed faster than many small ones. */
static size_t prompt_budget(const tr_engine *engine, size_t running) {
    size_t waiting = 0;
    for (const tri_seq *seq = engine->first; seq != NULL; seq = seq->next) {
        waiting += seq->state == TRI_SEQ_FEEDING;
    }
    size_t share = waiting > 0 ? prompt_tokens_max * waiting / (waiting + running) : 0;
    return share > prompt_tokens_min ? share : prompt_tokens_min;
}

/* In order of arrival, since the first prompt's prefix may serve those behind it. */
static void share_prompts(tr_engine *engine, size_t budget) {
    for (tri_seq *seq = engine->first; seq != NULL && budget > 0; seq = seq->next) {
        if (seq->state != TRI_SEQ_FEEDING) {
            continue;
        }
        if (!seq->shared) {
            tri_slot_share(engine, seq);
            seq->shared = true;
        }
        size_t left = seq->count - seq->fed;
        seq->feeding = left < budget ? left : budget;
        budget -= seq->feeding;
    }
}

/* Rows stand in the order of their slots: libllama joins neighbours into one computation. */
static void fill_batch(tr_engine *engine) {
    size_t running = 0;
    engine->batch.n_tokens = 0;
    for (tri_seq *seq = engine->first; seq != NULL; seq = seq->next) {
        seq->row = -1;
        seq->feeding = may_run(engine, seq) ? seq->count - seq->fed : 0;
        running += seq->feeding > 0;
    }
    share_prompts(engine, prompt_budget(engine, running));
    for (uint32_t i = 0; i < engine->sequences; i++) {
        tri_seq *seq = engine->slots[i].seq;
        if (seq != NULL && seq->feeding > 0) {
            add_tokens(engine, seq, seq->feeding);
        }
    }
    TR_ASSERT((uint32_t)engine->batch.n_tokens <= engine->batch_room);
}

/* The next token of a sequence all of whose tokens are in the cache. */
static void sample(tr_engine *engine, tri_seq *seq) {
    const float *logits = llama_get_logits_ith(engine->context, seq->row);
    llama_token token;
    tr_err err = logits != NULL
                     ? tri_sampler_pick(&seq->sampler, &engine->scratch, logits, seq->tokens,
                                        seq->count, seq->count - seq->prompt_count, &token)
                     : TR_ERR_BUG;
    seq->state = TRI_SEQ_RUNNING;
    if (err == TR_OK && llama_vocab_is_eog(engine->vocab, token)) {
        tri_seq_finish(seq, TR_FINISH_STOP);
        return;
    }
    if (err == TR_OK) {
        err = tri_seq_accept(engine, seq, token);
    }
    if (err != TR_OK) {
        fail(engine, seq, err == TR_ERR_INVALID ? TR_ERR_SERVER : err, 0,
             err == TR_ERR_NOMEM       ? ""
             : err == TR_ERR_TOO_LARGE ? "grammar: it takes too long to say which token may follow"
                                       : "no token of the model fits the grammar there",
             false);
        return;
    }
    if (seq->first_us == 0) {
        seq->first_us = llama_time_us();
    }
    if (seq->text.stopped) {
        tri_seq_finish(seq, TR_FINISH_STOP);
    } else if (seq->count >= seq->max) {
        tri_seq_finish(seq, TR_FINISH_LENGTH);
    }
}

/* A decode that failed has left the caches of its sequences in an unknown state. They may go on
 * elsewhere from their tokens. */
static void decode_failed(tr_engine *engine, int32_t result) {
    char why[128], logged[64];
    snprintf(why, sizeof why, "libllama could not decode (code %d) %s", result,
             tri_engine_log_first(logged, sizeof logged));
    for (tri_seq *seq = engine->first, *next; seq != NULL; seq = next) {
        next = seq->next;
        if (seq->feeding > 0) {
            fail(engine, seq, TR_ERR_SERVER, TR_FAIL_RESUMABLE, why, true);
        }
    }
}

static bool decode(tr_engine *engine) {
    int32_t result = llama_decode(engine->context, engine->batch);
    if (result == 2 && on_the_way_out(engine)) {
        return false;
    }
    engine->totals.decodes++;
    if (result != 0) {
        decode_failed(engine, result);
        return true;
    }
    for (tri_seq *seq = engine->first, *next; seq != NULL; seq = next) {
        next = seq->next;
        seq->fed += seq->feeding;
        seq->feeding = 0;
        if (seq->row >= 0) {
            sample(engine, seq);
        }
    }
    return true;
}

/* One embedding of the first request that waits for one. */
static bool embed(tr_engine *engine) {
    for (tri_seq *seq = engine->first; seq != NULL; seq = seq->next) {
        if (seq->op == TR_OP_EMBED && seq->state != TRI_SEQ_READING &&
            seq->embedded < seq->chat->input_count && tri_emit_embedding(engine, seq)) {
            char why[TR_ENGINE_WHY_size];
            tr_err err = tri_engine_embed(engine, seq, why);
            if (err != TR_OK) {
                fail(engine, seq, err, 0, why, false);
            }
            return true;
        }
    }
    return false;
}

bool tr_engine_step(tr_engine *engine) {
    bool worked = false;
    settle(engine);
    if (on_the_way_out(engine)) {
        return false;
    }
    if (engine->context != NULL) {
        fill_batch(engine);
        if (engine->batch.n_tokens > 0) {
            worked = decode(engine);
        }
    }
    worked = embed(engine) || worked;
    settle(engine);
    return worked;
}
