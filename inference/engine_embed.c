/*
 * Embeddings: a context of their own, made at the first request, so that chats keep their caches.
 * One input a step, between two decodes, so that a long list of inputs does not hold up the chats.
 * The model's own pooling, or the mean where it has none, scaled to length 1. Called by the engine.
 */
#include <math.h>
#include <stdio.h>

#include "inference/engine_internal.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

static tr_err read_input(const tr_engine *engine, tri_seq *seq, size_t index, char *ret_why) {
    tr_str input = seq->chat->inputs[index];
    size_t least, *count = &seq->input_counts[index];
    const char *at_least = "";
    tr_err err = TR_OK;
    if (tri_engine_too_long(engine, input.size, engine->embed_max, &least)) {
        *count = least;
        at_least = "at least ";
    } else {
        err = tri_engine_tokenize(engine, input, true, false, &seq->inputs[index], count);
    }
    if (err == TR_OK && *count > engine->embed_max) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "input %zu has %s%zu tokens, and %s embeds at most %u: cut it into parts", index,
                 at_least, *count, engine->model_name, engine->embed_max);
        return TR_ERR_CONTEXT_LENGTH;
    }
    if (err == TR_OK && *count == 0) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "input %zu is empty", index);
        return TR_ERR_INVALID;
    }
    return err;
}

/* Goes on behind the place that the last DELTA named: an input, and how many of its numbers were
 * sent. */
static tr_err resume_at(const tr_engine *engine, tri_seq *seq, const int32_t *place, uint32_t count,
                        char *ret_why) {
    int64_t size = llama_model_n_embd_out(engine->model);
    if (count == 0) {
        return TR_OK;
    }
    if (count != 2 || place[0] < 0 || (size_t)place[0] >= seq->chat->input_count || place[1] < 0 ||
        place[1] > size) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "resume: no place among the embeddings");
        return TR_ERR_INVALID;
    }
    bool whole = place[1] == size;
    seq->embedded = (size_t)place[0] + whole;
    seq->embedding_skip = whole ? 0 : (size_t)place[1];
    for (size_t i = 0; i < seq->embedded; i++) {
        seq->prompt_count += seq->input_counts[i];
    }
    seq->count = seq->prompt_count;
    return TR_OK;
}

tr_err tri_engine_embed_inputs(const tr_engine *engine, tri_seq *seq, const int32_t *resume,
                               uint32_t resume_count, char *ret_why) {
    size_t inputs = seq->chat->input_count;
    seq->inputs = tr_zalloc((inputs + 1) * sizeof *seq->inputs);
    seq->input_counts = tr_zalloc((inputs + 1) * sizeof *seq->input_counts);
    tr_err err = seq->inputs != NULL && seq->input_counts != NULL ? TR_OK : TR_ERR_NOMEM;
    for (size_t i = 0; i < inputs && err == TR_OK; i++) {
        err = read_input(engine, seq, i, ret_why);
    }
    return err == TR_OK ? resume_at(engine, seq, resume, resume_count, ret_why) : err;
}

static void fill(tr_engine *engine, tri_seq *seq) {
    const llama_token *tokens = seq->inputs[seq->embedded];
    size_t count = seq->input_counts[seq->embedded];
    for (size_t i = 0; i < count; i++) {
        engine->embed_batch.token[i] = tokens[i];
        engine->embed_batch.pos[i] = (llama_pos)i;
        engine->embed_batch.n_seq_id[i] = 1;
        engine->embed_batch.seq_id[i][0] = 0;
        engine->embed_batch.logits[i] = 1;
    }
    engine->embed_batch.n_tokens = (int32_t)count;
    seq->prompt_count += count;
    seq->count = seq->prompt_count;
}

tr_err tri_engine_embed(tr_engine *engine, tri_seq *seq, char *ret_why) {
    TR_ASSERT(seq->embedded < seq->chat->input_count);
    ret_why[0] = '\0';
    tr_err err = TR_OK;
    if (engine->embed_context == NULL) {
        err = tri_engine_open_embed(engine, ret_why);
    }
    if (err != TR_OK) {
        return err;
    }
    fill(engine, seq);
    llama_memory_t memory = llama_get_memory(engine->embed_context);
    if (memory != NULL) {
        llama_memory_clear(memory, false);
    }
    int32_t result = llama_decode(engine->embed_context, engine->embed_batch);
    const float *vector = result == 0 ? llama_get_embeddings_seq(engine->embed_context, 0) : NULL;
    if (vector == NULL) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "libllama could not embed it (code %d)", result);
        return TR_ERR_SERVER;
    }
    size_t count = (size_t)llama_model_n_embd_out(engine->model);
    tr_free(seq->embedding);
    seq->embedding = tr_alloc(count * sizeof(float));
    if (seq->embedding == NULL) {
        return TR_ERR_NOMEM;
    }
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)vector[i] * (double)vector[i];
    }
    double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (size_t i = 0; i < count; i++) {
        seq->embedding[i] = (float)((double)vector[i] * scale);
    }
    seq->embedding_at = seq->embedding_skip;
    seq->embedding_skip = 0;
    seq->embedded++;
    engine->totals.decodes++;
    return TR_OK;
}
