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
    bool calls = seq->tools != NULL && seq->tools->calls.count > 0;
    tr_finish finish = calls && seq->finish == TR_FINISH_STOP ? TR_FINISH_TOOL_CALLS : seq->finish;
    tr_done head = {.usage = usage_of(seq), .finish = (uint8_t)finish, .attempts = 1};
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
    if (size - sent > TR_DELTA_TEXT_max) { /* a prompt that is shown comes as one */
        size = sent + tr_utf8_cut(text->bytes + sent, size - sent, TR_DELTA_TEXT_max);
        *ret_last = false;
    }
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

/* The ids that go with the piece: of all tokens whose text it covers, and a mark where it ends
 * inside one, or where it has none. *ret_whole: so many tokens are covered to their end. */
static uint32_t piece_ids(const tri_seq *seq, int32_t *ids, size_t *ret_whole, bool *ret_inside) {
    const tri_text *text = &seq->text;
    const tri_tools *tools = seq->tools;
    size_t whole = 0, count = 0;
    while (whole < text->token_count && text->tokens[whole].end <= tools->covered) {
        whole++;
    }
    size_t begin = whole > 0 ? text->tokens[whole - 1].end : 0;
    bool inside = whole < text->token_count && begin < tools->covered;
    TR_ASSERT(whole < text->sent_tokens + TR_DELTA_TOKENS_max - 1);
    for (size_t i = text->sent_tokens; i < whole + inside; i++) {
        ids[count++] = text->tokens[i].id;
    }
    if (tools->flushed && tools->next.kind == 0) {
        ids[count++] = TRI_MARK_FLUSHED;
    } else if (inside || count == 0) {
        size_t left = inside ? text->tokens[whole].end - tools->covered : 0;
        ids[count++] = -1 - (int32_t)left;
    }
    *ret_whole = whole;
    *ret_inside = inside;
    return (uint32_t)count;
}

static bool emit_piece(tr_engine *engine, tri_seq *seq) {
    tri_tools *tools = seq->tools;
    const tri_tools_piece *piece = &tools->piece;
    int32_t ids[TR_DELTA_TOKENS_max];
    size_t whole;
    bool inside;
    char id[32];
    tr_delta head = {.kind = (uint8_t)piece->kind, .tool = piece->call};
    head.token_count = piece_ids(seq, ids, &whole, &inside);
    tr_delta_view view = {.tokens = ids, .text = {piece->text.text, piece->text.size}};
    if (piece->kind == TR_DELTA_TOOL_START) {
        int size = snprintf(id, sizeof id, "call_%u", tools->calls_before + piece->call);
        view.id = (tr_str){id, (size_t)size};
        view.name = seq->chat->tools[piece->tool].name;
    }
    if (!emit_delta(engine, seq, &head, &view)) {
        return false;
    }
    tri_text_take(&seq->text, whole, tools->covered);
    seq->text.sent_tokens = inside;
    tri_tools_sent(tools);
    return true;
}

/* As emit_next, for an answer that may call tools; *ret_last: nothing waits any more. */
static bool emit_pieces(tr_engine *engine, tri_seq *seq, bool *ret_last) {
    enum { tokens_max = TR_DELTA_TOKENS_max - 2 }; /* beside one that was begun, and a mark */
    tri_tools *tools = seq->tools;
    tri_text *text = &seq->text;
    bool ended = text->stopped || text->finished;
    size_t tokens, size;
    tri_text_ready(text, &tokens, &size);
    bool all = tokens <= text->sent_tokens + tokens_max;
    if (!all) {
        tokens = text->sent_tokens + tokens_max;
        size_t end = text->tokens[tokens - 1].end;
        size = end < size ? end : size;
    }
    tr_err err = tri_tools_read(tools, text->bytes, size, ended && all);
    TR_ASSERT(err == TR_OK); /* as in emit() */
    if (tools->piece.kind == 0 && tokens - text->sent_tokens >= silent_tokens_max) {
        tools->piece.kind = TR_DELTA_TEXT; /* tokens that say nothing */
        tools->covered = size;
    }
    *ret_last = tools->piece.kind == 0;
    return *ret_last || emit_piece(engine, seq);
}

bool tri_emit_text(tr_engine *engine, tri_seq *seq) {
    bool last = false;
    while (!last) {
        if (!(seq->tools != NULL ? emit_pieces(engine, seq, &last)
                                 : emit_next(engine, seq, &last))) {
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
