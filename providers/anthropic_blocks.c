/*
 * The blocks of an answer. Texts, thoughts and tool calls go on as they come; what a later request
 * must bring back is kept until the answer is complete and then handed on as one opaque field,
 * `content_blocks`: thinking with its signature, redacted thinking, tools that the server ran, each
 * as it was. The server refuses an assistant's turn whose thoughts have changed their place, so
 * where the order is not the usual one (those blocks, then one text, then tool calls) the field
 * also says where texts ({"type":"text","bytes":N}, with its citations) and tool calls
 * ({"type":"tool_use","id":…}) stood; the texts themselves are not repeated.
 * anthropic_messages.c reads it.
 *
 * Called by anthropic_decode.c; pure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/anthropic.h"
#include "providers/anthropic_internal.h"
#include "providers/codec.h"
#include "providers/decoder.h"
#include "runtime/memory.h"

#define BLOCKS_max 4096U

static tr_err keep(tr_decoding *decoding, tri_anthropic_text *to, tr_str text);
static tri_anthropic_block *new_block(tr_decoding *decoding, tri_anthropic_kind kind, int64_t index,
                                      tr_err *ret_err);
static tri_anthropic_block *find(tri_anthropic *state, int64_t index);
static tr_err begin_text(tr_decoding *decoding, tri_anthropic_block *made,
                         const tr_json_value *block);
static tr_err begin_tool(tr_decoding *decoding, tri_anthropic_block *made,
                         const tr_json_value *block);
static tr_err add_text(tr_decoding *decoding, int64_t index, tr_str text);
static tr_err add_citation(tr_decoding *decoding, tri_anthropic_block *to,
                           const tr_json_value *citation);
static tr_err add_input(tr_decoding *decoding, tri_anthropic_block *to, tr_str json);
static tr_err end_block(tr_decoding *decoding, tri_anthropic_block *block);
static bool comes_back(const tri_anthropic_block *block);
static bool usual_order(const tri_anthropic *state);
static void write_block(tr_jsonw *w, const tri_anthropic_block *block, bool places);
static void write_other(tr_jsonw *w, const tri_anthropic_block *block);
static tr_err hand_on(tr_decoding *decoding, const char *name, tr_jsonw *w);

static tr_str str_of(const tri_anthropic_text *text) {
    return (tr_str){text->bytes == NULL ? "" : text->bytes, text->size};
}

tr_err tri_anthropic_begin(tr_decoding *decoding, int64_t index, const tr_json_value *block) {
    tr_str type = tr_json_string(tr_json_get(block, "type"));
    tri_anthropic_kind kind = tri_same(type, "text")       ? TRI_ANTHROPIC_TEXT
                              : tri_same(type, "thinking") ? TRI_ANTHROPIC_THINKING
                              : tri_same(type, "tool_use") ? TRI_ANTHROPIC_TOOL
                                                           : TRI_ANTHROPIC_OTHER;
    if (!tri_is(block, TR_JSON_OBJECT)) {
        return tri_broken(decoding, TR_ERR_PROTOCOL, "the server sent a block without form");
    }
    tr_err err = TR_OK;
    tri_anthropic_block *made = new_block(decoding, kind, index, &err);
    if (made == NULL) {
        return err;
    }
    switch (kind) {
    case TRI_ANTHROPIC_TEXT:
        return begin_text(decoding, made, block);
    case TRI_ANTHROPIC_THINKING: {
        tr_str thoughts = tr_json_string(tr_json_get(block, "thinking"));
        err = keep(decoding, &made->text, thoughts);
        if (err == TR_OK) {
            err = keep(decoding, &made->more, tr_json_string(tr_json_get(block, "signature")));
        }
        return err == TR_OK ? tri_emit_text(decoding, TR_DELTA_REASONING, 0, thoughts) : err;
    }
    case TRI_ANTHROPIC_TOOL:
        return begin_tool(decoding, made, block);
    case TRI_ANTHROPIC_OTHER:
        break;
    }
    return keep(decoding, &made->raw, tr_json_raw(block));
}

static tr_err begin_text(tr_decoding *decoding, tri_anthropic_block *made,
                         const tr_json_value *block) {
    tr_str text = tr_json_string(tr_json_get(block, "text"));
    const tr_json_value *citations = tr_json_get(block, "citations");
    tr_err err = TR_OK;
    if (tri_is(citations, TR_JSON_ARRAY)) {
        const tr_json_value *one = tr_json_first(citations);
        for (; one != NULL && err == TR_OK; one = tr_json_next(one)) {
            err = add_citation(decoding, made, one);
        }
    }
    made->size = text.size;
    return err == TR_OK ? tri_emit_text(decoding, TR_DELTA_TEXT, 0, text) : err;
}

static tr_err begin_tool(tr_decoding *decoding, tri_anthropic_block *made,
                         const tr_json_value *block) {
    tri_anthropic *state = decoding->state;
    const tr_json_value *input = tr_json_get(block, "input");
    tr_str id = tr_json_string(tr_json_get(block, "id"));
    made->tool = state->tools++;
    tr_err err =
        tri_emit_call(decoding, 0, made->tool, id, tr_json_string(tr_json_get(block, "name")));
    if (err == TR_OK) {
        err = keep(decoding, &made->raw, id);
    }
    /* A stream begins with an empty input, a whole answer and some other servers with all of it. */
    if (err == TR_OK && tri_is(input, TR_JSON_OBJECT) && tr_json_count(input) > 0) {
        made->whole = true;
        made->size = tr_json_raw(input).size;
        err = tri_emit_args(decoding, 0, made->tool, tr_json_raw(input));
    }
    return err;
}

tr_err tri_anthropic_add(tr_decoding *decoding, int64_t index, const tr_json_value *delta) {
    tr_str type = tr_json_string(tr_json_get(delta, "type"));
    tri_anthropic_block *to = find(decoding->state, index);
    if (tri_same(type, "text_delta")) {
        return add_text(decoding, index, tr_json_string(tr_json_get(delta, "text")));
    }
    if (tri_same(type, "thinking_delta")) {
        tr_str thoughts = tr_json_string(tr_json_get(delta, "thinking"));
        tr_err err = TR_OK;
        if (to != NULL && to->kind == TRI_ANTHROPIC_THINKING) {
            err = keep(decoding, &to->text, thoughts);
        }
        return err == TR_OK ? tri_emit_text(decoding, TR_DELTA_REASONING, 0, thoughts) : err;
    }
    if (to == NULL) {
        return tri_same(type, "input_json_delta")
                   ? tri_broken(decoding, TR_ERR_PROTOCOL,
                                "the server sent arguments of a tool call that it did not begin")
                   : TR_OK;
    }
    if (tri_same(type, "input_json_delta")) {
        return add_input(decoding, to, tr_json_string(tr_json_get(delta, "partial_json")));
    }
    if (tri_same(type, "signature_delta") && to->kind == TRI_ANTHROPIC_THINKING) {
        to->more.size = 0;
        return keep(decoding, &to->more, tr_json_string(tr_json_get(delta, "signature")));
    }
    if (tri_same(type, "citations_delta")) {
        return add_citation(decoding, to, tr_json_get(delta, "citation"));
    }
    to->lost = true;
    return TR_OK;
}

/* A text may come without a beginning: some servers leave that out. */
static tr_err add_text(tr_decoding *decoding, int64_t index, tr_str text) {
    tri_anthropic_block *to = find(decoding->state, index);
    tr_err err = TR_OK;
    if (to == NULL) {
        to = new_block(decoding, TRI_ANTHROPIC_TEXT, index, &err);
    }
    if (to == NULL) {
        return err;
    }
    to->size += to->kind == TRI_ANTHROPIC_TEXT ? text.size : 0;
    return tri_emit_text(decoding, TR_DELTA_TEXT, 0, text);
}

static tr_err add_citation(tr_decoding *decoding, tri_anthropic_block *to,
                           const tr_json_value *citation) {
    if (citation == NULL || to->kind != TRI_ANTHROPIC_TEXT) {
        to->lost = true;
        return TR_OK;
    }
    tr_err err = TR_OK;
    if (to->more.size > 0) {
        err = keep(decoding, &to->more, (tr_str){",", 1});
    }
    return err == TR_OK ? keep(decoding, &to->more, tr_json_raw(citation)) : err;
}

static tr_err add_input(tr_decoding *decoding, tri_anthropic_block *to, tr_str json) {
    switch (to->kind) {
    case TRI_ANTHROPIC_TOOL:
        if (to->whole) {
            return TR_OK;
        }
        to->size += json.size;
        return tri_emit_args(decoding, 0, to->tool, json);
    case TRI_ANTHROPIC_OTHER:
        return keep(decoding, &to->text, json);
    case TRI_ANTHROPIC_TEXT:
    case TRI_ANTHROPIC_THINKING:
        break;
    }
    to->lost = true;
    return TR_OK;
}

tr_err tri_anthropic_end(tr_decoding *decoding, int64_t index) {
    tri_anthropic_block *block = find(decoding->state, index);
    return block == NULL ? TR_OK : end_block(decoding, block);
}

/* A call without arguments says nothing in a stream; to its reader it is an empty object. */
static tr_err end_block(tr_decoding *decoding, tri_anthropic_block *block) {
    bool nothing = block->kind == TRI_ANTHROPIC_TOOL && !block->ended && block->size == 0;
    block->ended = true;
    return nothing ? tri_emit_args(decoding, 0, block->tool, (tr_str){"{}", 2}) : TR_OK;
}

tr_err tri_anthropic_report(tr_decoding *decoding) {
    tri_anthropic *state = decoding->state;
    bool any = false, cited = false;
    tr_err err = TR_OK;
    if (state->reported) {
        return TR_OK;
    }
    state->reported = true;
    for (uint32_t i = 0; i < state->count && err == TR_OK; i++) {
        err = end_block(decoding, &state->blocks[i]);
        bool text = state->blocks[i].kind == TRI_ANTHROPIC_TEXT;
        cited = cited || (text && state->blocks[i].more.size > 0);
        any = any || comes_back(&state->blocks[i]);
    }
    tr_jsonw w;
    if (err == TR_OK && (any || cited)) {
        bool places = cited || !usual_order(state);
        tr_jsonw_init(&w);
        tr_jsonw_open(&w, '[');
        for (uint32_t i = 0; i < state->count; i++) {
            write_block(&w, &state->blocks[i], places);
        }
        tr_jsonw_close(&w, ']');
        err = hand_on(decoding, TR_ANTHROPIC_BLOCKS, &w);
    }
    if (err == TR_OK && cited) {
        tr_jsonw_init(&w);
        tr_jsonw_open(&w, '[');
        for (uint32_t i = 0; i < state->count; i++) {
            const tri_anthropic_block *block = &state->blocks[i];
            if (block->kind == TRI_ANTHROPIC_TEXT && block->more.size > 0) {
                tr_jsonw_raw(&w, str_of(&block->more));
            }
        }
        tr_jsonw_close(&w, ']');
        err = hand_on(decoding, "citations", &w);
    }
    return err;
}

static tr_err hand_on(tr_decoding *decoding, const char *name, tr_jsonw *w) {
    char *text = NULL;
    size_t size = 0;
    tr_err err = tr_jsonw_take(w, &text, &size);
    if (err == TR_OK) {
        err = tri_emit_opaque(decoding, 0, name, (tr_str){text, size});
        free(text);
    }
    return err;
}

/* Thoughts without a signature would be refused. */
static bool comes_back(const tri_anthropic_block *block) {
    bool signed_thoughts = block->kind == TRI_ANTHROPIC_THINKING && block->more.size > 0;
    return !block->lost && (signed_thoughts || block->kind == TRI_ANTHROPIC_OTHER);
}

/* What comes back, then texts, then tool calls: the order in which such a turn is written when
 * nothing is said of places. Several texts are one then. */
static bool usual_order(const tri_anthropic *state) {
    int stage = 0;
    for (uint32_t i = 0; i < state->count; i++) {
        const tri_anthropic_block *block = &state->blocks[i];
        int its = block->kind == TRI_ANTHROPIC_TEXT ? 1 : block->kind == TRI_ANTHROPIC_TOOL ? 2 : 0;
        bool says = its == 0 ? comes_back(block) : its == 2 || block->size > 0;
        if (says && its < stage) {
            return false;
        }
        stage = says ? its : stage;
    }
    return true;
}

static void write_block(tr_jsonw *w, const tri_anthropic_block *block, bool places) {
    switch (block->kind) {
    case TRI_ANTHROPIC_TEXT:
        if (places && block->size > 0) {
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "type");
            tr_jsonw_text(w, "text");
            tr_jsonw_name(w, "bytes");
            tr_jsonw_uint(w, block->size);
            if (block->more.size > 0) {
                tr_jsonw_name(w, "citations");
                tr_jsonw_open(w, '[');
                tr_jsonw_raw(w, str_of(&block->more));
                tr_jsonw_close(w, ']');
            }
            tr_jsonw_close(w, '}');
        }
        break;
    case TRI_ANTHROPIC_TOOL:
        if (places) {
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "type");
            tr_jsonw_text(w, "tool_use");
            tr_jsonw_name(w, "id");
            tr_jsonw_str(w, str_of(&block->raw));
            tr_jsonw_close(w, '}');
        }
        break;
    case TRI_ANTHROPIC_THINKING:
        if (comes_back(block)) {
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "type");
            tr_jsonw_text(w, "thinking");
            tr_jsonw_name(w, "thinking");
            tr_jsonw_str(w, str_of(&block->text));
            tr_jsonw_name(w, "signature");
            tr_jsonw_str(w, str_of(&block->more));
            tr_jsonw_close(w, '}');
        }
        break;
    case TRI_ANTHROPIC_OTHER:
        if (comes_back(block)) {
            write_other(w, block);
        }
        break;
    }
}

/* As it began, or with the input that came in pieces. */
static void write_other(tr_jsonw *w, const tri_anthropic_block *block) {
    static const char *const reserved[] = {"input", NULL};
    tr_json *input = NULL;
    if (block->text.size == 0) {
        tr_jsonw_raw(w, str_of(&block->raw));
        return;
    }
    if (tr_json_parse(block->text.bytes, block->text.size, &input, NULL) != TR_OK) {
        return;
    }
    tr_jsonw_open(w, '{');
    tri_write_extra(w, str_of(&block->raw), reserved);
    tr_jsonw_name(w, "input");
    tr_jsonw_raw(w, str_of(&block->text));
    tr_jsonw_close(w, '}');
    tr_json_free(input);
}

static tr_err keep(tr_decoding *decoding, tri_anthropic_text *to, tr_str text) {
    tri_anthropic *state = decoding->state;
    if (text.size > TR_ANSWER_JSON_max - state->kept) {
        return tri_broken(decoding, TR_ERR_TOO_LARGE,
                          "the server's answer is larger than its limit");
    }
    if (text.size == 0) {
        return TR_OK;
    }
    if (to->size + text.size > to->room) {
        size_t room = to->room == 0 ? 64 : to->room;
        while (room < to->size + text.size) {
            room *= 2;
        }
        char *grown = tr_realloc(to->bytes, room);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        to->bytes = grown;
        to->room = room;
    }
    memcpy(to->bytes + to->size, text.ptr, text.size);
    to->size += text.size;
    state->kept += text.size;
    return TR_OK;
}

/* NULL: none, and *ret_err says why. */
static tri_anthropic_block *new_block(tr_decoding *decoding, tri_anthropic_kind kind, int64_t index,
                                      tr_err *ret_err) {
    tri_anthropic *state = decoding->state;
    if (state->count == BLOCKS_max) {
        *ret_err = tri_broken(decoding, TR_ERR_PROTOCOL, "the server's answer has too many blocks");
        return NULL;
    }
    if (state->count == state->room) {
        uint32_t room = state->room == 0 ? 4 : state->room * 2;
        tri_anthropic_block *grown = tr_realloc(state->blocks, room * sizeof(*grown));
        if (grown == NULL) {
            *ret_err = TR_ERR_NOMEM;
            return NULL;
        }
        state->blocks = grown;
        state->room = room;
    }
    tri_anthropic_block *made = &state->blocks[state->count++];
    *made = (tri_anthropic_block){.kind = kind, .index = index};
    return made;
}

/* The newest of that index. */
static tri_anthropic_block *find(tri_anthropic *state, int64_t index) {
    for (uint32_t i = state->count; i-- > 0;) {
        if (index < 0 || state->blocks[i].index == index) {
            return &state->blocks[i];
        }
    }
    return NULL;
}

void tri_anthropic_blocks_fini(tri_anthropic *state) {
    for (uint32_t i = 0; i < state->count; i++) {
        tr_free(state->blocks[i].raw.bytes);
        tr_free(state->blocks[i].text.bytes);
        tr_free(state->blocks[i].more.bytes);
    }
    tr_free(state->blocks);
}
