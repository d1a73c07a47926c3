/*
 * Requests: how one is checked and made ready, and how it is taken away. Resuming is here: the
 * tokens that another worker sent are put behind the prompt, and grammar and stop strings are led
 * through them, so that the sequence stands exactly where the other one stood. Preparing is called
 * by engine_read.c, on any thread; the rest by the engine.
 */
#include <stdio.h>
#include <string.h>

#include "inference/engine_internal.h"
#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

enum { piece_size = TR_DELTA_TEXT_max / 4 }; /* a byte may become three */

tri_seq *tri_seq_find(const tr_engine *engine, uint64_t ref) {
    tri_seq *seq = engine->first;
    while (seq != NULL && seq->ref != ref) {
        seq = seq->next;
    }
    return seq;
}

static tr_err push(tri_seq *seq, llama_token token) {
    if (seq->count == seq->room) {
        size_t room = seq->room + seq->room / 2 + 64;
        llama_token *grown = tr_realloc(seq->tokens, room * sizeof *grown);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        seq->tokens = grown;
        seq->room = room;
    }
    seq->tokens[seq->count++] = token;
    return TR_OK;
}

/* The tags around a call are control tokens in some vocabularies, and have no text then. */
static int32_t tag_piece(const tr_engine *engine, llama_token token, char *piece) {
    int32_t size = llama_token_to_piece(engine->vocab, token, piece, piece_size, 0, true);
    tr_str text = {piece, size > 0 ? (size_t)size : 0};
    static const char *const tags[] = {TRI_CALL_OPEN, TRI_CALL_CLOSE};
    for (size_t i = 0; i < 2; i++) {
        if (text.size == strlen(tags[i]) && memcmp(text.ptr, tags[i], text.size) == 0) {
            return size;
        }
    }
    return 0;
}

tr_err tri_seq_accept(const tr_engine *engine, tri_seq *seq, llama_token token) {
    char piece[piece_size];
    int32_t size = llama_token_to_piece(engine->vocab, token, piece, piece_size, 0, false);
    if (size == 0 && seq->tools != NULL) {
        size = tag_piece(engine, token, piece);
    }
    if (size < 0) {
        return TR_ERR_SERVER; /* no sane vocabulary has such a token */
    }
    tr_err err = tri_sampler_accept(&seq->sampler, token);
    if (err == TR_OK) {
        err = tri_text_push(&seq->text, token, piece, (size_t)size);
    }
    return err == TR_OK ? push(seq, token) : err;
}

void tri_seq_finish(tri_seq *seq, tr_finish finish) {
    seq->finish = finish;
    seq->state = TRI_SEQ_ENDING;
    tri_text_finish(&seq->text);
}

/* Where the answer stands after a replay. With tools it may be inside the last token's text. */
static void resumed(tri_seq *seq, int32_t mark) {
    tri_text *text = &seq->text;
    if (seq->tools == NULL) {
        tri_text_resumed(text);
        return;
    }
    bool flushed = mark == TRI_MARK_FLUSHED;
    size_t unsaid = mark < 0 && !flushed ? (size_t)(-1 - (int64_t)mark) : 0;
    size_t said = unsaid < text->size ? text->size - unsaid : 0;
    size_t whole = 0;
    while (whole < text->token_count && text->tokens[whole].end <= said) {
        whole++;
    }
    tri_tools_replay(seq->tools, text->bytes, said, flushed);
    tri_text_take(text, whole, said);
    text->sent_tokens = text->token_count;
}

/* A worker with a larger context may have sent more than fits here: the answer has its end then. */
static tr_err replay(const tr_engine *engine, tri_seq *seq, const int32_t *resume, uint32_t count,
                     char *ret_why) {
    int32_t mark = count > 0 ? resume[count - 1] : 0;
    for (uint32_t i = 0; i < count && !seq->text.stopped && seq->count < engine->context_max; i++) {
        if (seq->tools != NULL && resume[i] < 0) {
            continue; /* a mark */
        }
        bool known = resume[i] >= 0 && resume[i] < llama_vocab_n_tokens(engine->vocab) &&
                     !llama_vocab_is_eog(engine->vocab, resume[i]);
        tr_err err = known && seq->count < seq->max ? tri_seq_accept(engine, seq, resume[i])
                                                    : TR_ERR_INVALID;
        if (err == TR_ERR_INVALID) {
            snprintf(ret_why, TR_ENGINE_WHY_size,
                     "resume: token %u is none that this model could have sent there", i);
        }
        if (err != TR_OK) {
            return err;
        }
    }
    resumed(seq, mark);
    return TR_OK;
}

static size_t text_size(const tr_chat *chat, const tri_tools *tools) {
    size_t size = 0;
    for (size_t i = 0; i < chat->turn_count; i++) {
        for (size_t j = 0; j < chat->turns[i].part_count; j++) {
            size += chat->turns[i].parts[j].text.size;
        }
        for (size_t j = 0; j < chat->turns[i].call_count; j++) {
            size += chat->turns[i].calls[j].arguments.size;
        }
    }
    for (size_t i = 0; tools != NULL && i < chat->tool_count; i++) {
        size += chat->tools[i].description.size + chat->tools[i].parameters.size;
    }
    return size;
}

static tr_err too_long(const tr_engine *engine, const char *at_least, size_t tokens,
                       char *ret_why) {
    snprintf(ret_why, TR_ENGINE_WHY_size,
             "the prompt has %s%zu tokens, and the context of %s holds %u with the answer: "
             "shorten the prompt, or load the model with a larger context",
             at_least, tokens, engine->model_name, engine->context_max);
    return TR_ERR_CONTEXT_LENGTH;
}

/* The tools' grammar is the request's, and their calls are no place for stop strings. */
static tr_err prepare_tools(tri_seq *seq, char *ret_why) {
    tr_err err = tri_tools_new(seq->chat, &seq->tools, ret_why);
    if (err == TR_OK && seq->tools != NULL) {
        seq->chat->grammar = (tr_str){seq->tools->grammar, strlen(seq->tools->grammar)};
        seq->chat->schema = (tr_str){NULL, 0}; /* it is part of that grammar */
        if (seq->chat->stop_count > 0) {
            seq->text.fence = (tr_str){TRI_CALL_OPEN, strlen(TRI_CALL_OPEN)};
        }
    } else if (err == TR_OK) {
        const char *silence = tri_tools_silence(seq->chat);
        seq->chat->grammar =
            silence != NULL ? (tr_str){silence, strlen(silence)} : seq->chat->grammar;
    }
    return err;
}

static tr_err prepare_chat(const tr_engine *engine, tri_seq *seq, const tr_submit *submit,
                           const int32_t *resume, char *ret_why) {
    tr_chat *chat = seq->chat;
    size_t least;
    tr_err err = prepare_tools(seq, ret_why);
    if (err != TR_OK) {
        return err;
    }
    size_t size = text_size(chat, seq->tools);
    if (tri_engine_too_long(engine, size, engine->context_max - 1, &least)) {
        return too_long(engine, "at least ", least, ret_why);
    }
    err = tri_engine_prompt(engine, chat, seq->tools, &seq->tokens, &seq->count, ret_why);
    seq->room = seq->count;
    seq->prompt_count = seq->count;
    if (err != TR_OK) {
        return err;
    }
    if (seq->count == 0) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "messages: the prompt is empty");
        return TR_ERR_INVALID;
    }
    if (seq->count >= engine->context_max) {
        return too_long(engine, "", seq->count, ret_why);
    }
    size_t room = engine->context_max - seq->count;
    bool limited = chat->max_tokens >= 0 && (uint64_t)chat->max_tokens < room;
    seq->max = seq->count + (limited ? (size_t)chat->max_tokens : room);
    err = tri_sampler_init(&seq->sampler, engine->vocab, chat, submit->seed, ret_why);
    if (err == TR_ERR_INVALID && seq->tools != NULL) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "tools: their schemas are too large for a local model: let them be fewer, with "
                 "fewer alternatives and shorter lists");
    }
    if (err == TR_OK) {
        err = replay(engine, seq, resume, submit->resume_count, ret_why);
    }
    if (err == TR_OK && seq->text.stopped) {
        tri_seq_finish(seq, TR_FINISH_STOP);
    } else if (err == TR_OK && seq->count >= seq->max) {
        tri_seq_finish(seq, TR_FINISH_LENGTH);
    }
    return err;
}

static tr_err prepare_count(const tr_engine *engine, tri_seq *seq, char *ret_why) {
    llama_token *tokens = NULL;
    size_t count = 0;
    char json[96];
    tri_tools *tools = NULL;
    tr_err err = tri_tools_new(seq->chat, &tools, ret_why);
    if (err == TR_OK) {
        err = tri_engine_prompt(engine, seq->chat, tools, &tokens, &count, ret_why);
    }
    tri_tools_free(tools);
    tr_free(tokens);
    if (err == TR_OK) {
        snprintf(json, sizeof json, "{\"tokens\":%zu,\"exact\":true,\"context\":%u}", count,
                 engine->context_max);
        err = tri_text_add(&seq->text, json, strlen(json));
    }
    if (err == TR_OK) {
        tri_seq_finish(seq, TR_FINISH_STOP);
    }
    return err;
}

/* In place of an answer the prompt, as the model would get it. */
static tr_err prepare_show(const tr_engine *engine, tri_seq *seq, char *ret_why) {
    llama_token *tokens = NULL;
    size_t count = 0;
    tri_tools *tools = NULL;
    tr_err err = tri_tools_new(seq->chat, &tools, ret_why);
    if (err == TR_OK) {
        err = tri_engine_prompt(engine, seq->chat, tools, &tokens, &count, ret_why);
    }
    tri_tools_free(tools);
    for (size_t i = 0; err == TR_OK && i < count; i++) {
        char piece[piece_size];
        int32_t size = llama_token_to_piece(engine->vocab, tokens[i], piece, piece_size, 0, true);
        err = size < 0 ? TR_ERR_SERVER : tri_text_add(&seq->text, piece, (size_t)size);
    }
    tr_free(tokens);
    if (err == TR_OK) {
        tri_seq_finish(seq, TR_FINISH_STOP);
    }
    return err;
}

tr_err tri_seq_prepare(const tr_engine *engine, tri_seq *seq, const tr_submit *submit,
                       const int32_t *resume, char *ret_why) {
    ret_why[0] = '\0';
    switch (seq->op) {
    case TR_OP_CHAT:
        if (engine->context == NULL) {
            snprintf(ret_why, TR_ENGINE_WHY_size, "%s is an embedding model: it cannot chat",
                     engine->model_name);
            return TR_ERR_UNSUPPORTED;
        }
        return (submit->flags & TR_SUBMIT_SHOW) != 0
                   ? prepare_show(engine, seq, ret_why)
                   : prepare_chat(engine, seq, submit, resume, ret_why);
    case TR_OP_COUNT:
        return prepare_count(engine, seq, ret_why);
    case TR_OP_EMBED:
        return tri_engine_embed_inputs(engine, seq, resume, submit->resume_count, ret_why);
    case TR_OP_CONTROL:
    case TR_OP_MODELS:
    case TR_OP_LOADED:
    case TR_OP_LOAD:
    case TR_OP_UNLOAD:
        break;
    }
    return TR_ERR_UNSUPPORTED;
}

void tri_seq_fini(tri_seq *seq) {
    for (size_t i = 0; seq->inputs != NULL && i < seq->chat->input_count; i++) {
        tr_free(seq->inputs[i]);
    }
    tr_free(seq->inputs);
    tr_free(seq->input_counts);
    tri_sampler_fini(&seq->sampler);
    tri_text_fini(&seq->text);
    tri_tools_free(seq->tools);
    tr_chat_free(seq->chat);
    tr_free(seq->tokens);
    tr_free(seq->embedding);
}

void tri_seq_remove(tr_engine *engine, tri_seq *seq, bool spoilt) {
    tri_seq **at = &engine->first;
    while (*at != seq) {
        TR_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = seq->next;
    if (engine->last == &seq->next) {
        engine->last = at;
    }
    engine->active--;
    tri_slot_release(engine, seq, spoilt);
    tri_seq_fini(seq);
    tr_free(seq);
}
