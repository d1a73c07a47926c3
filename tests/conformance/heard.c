/*
 * Adds up what comes of an answer and compares it, field by field, with expected.json; a tool
 * call's arguments are compared as JSON values, so blanks between tokens do not matter. Whoever
 * hears (a decoder's caller, an actor, a client of the daemon) fills the same structure, so that
 * all are held to the same.
 */
#include "tests/conformance/heard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tr_err heard_piece(void *arg, const tr_piece *piece) {
    heard *heard = arg;
    if (piece->choice != 0) {
        return TR_OK;
    }
    if (piece->kind != TR_DELTA_OPAQUE &&
        !tr_utf8_valid(piece->text.size == 0 ? "" : piece->text.ptr, piece->text.size)) {
        heard->disorder = true;
    }
    switch (piece->kind) {
    case TR_DELTA_TEXT:
        text_add(&heard->answer, piece->text);
        break;
    case TR_DELTA_REASONING:
        text_add(&heard->reasoning, piece->text);
        break;
    case TR_DELTA_TOOL_START:
        heard->disorder =
            heard->disorder || piece->tool != heard->calls || piece->tool >= HEARD_CALLS;
        if (!heard->disorder) {
            text_add(&heard->names[heard->calls], piece->name);
            text_add(&heard->arguments[heard->calls++], (tr_str){"", 0});
        }
        break;
    case TR_DELTA_TOOL_ARGS:
        heard->disorder = heard->disorder || piece->tool >= heard->calls;
        if (!heard->disorder) {
            text_add(&heard->arguments[piece->tool], piece->text);
        }
        break;
    case TR_DELTA_OPAQUE: {
        /* A large one comes in pieces of the same name. */
        size_t last = heard->opaque_count - 1;
        if (heard->opaque_count > 0 && heard->opaque_names[last].size == piece->name.size &&
            memcmp(heard->opaque_names[last].bytes, piece->name.ptr, piece->name.size) == 0) {
            text_add(&heard->opaques[last], piece->text);
        } else if (heard->opaque_count < HEARD_OPAQUES) {
            text_add(&heard->opaque_names[heard->opaque_count], piece->name);
            text_add(&heard->opaques[heard->opaque_count++], piece->text);
        }
        break;
    }
    }
    return TR_OK;
}

void heard_end(heard *heard, const tr_outcome *outcome, uint16_t status) {
    heard->err = outcome->err;
    heard->finish = outcome->finish;
    heard->status = status;
    heard->usage = outcome->usage;
    snprintf(heard->message, sizeof(heard->message), "%s", outcome->message);
}

void heard_free(heard *heard) {
    free(heard->answer.bytes);
    free(heard->reasoning.bytes);
    for (size_t i = 0; i < HEARD_CALLS; i++) {
        free(heard->names[i].bytes);
        free(heard->arguments[i].bytes);
    }
    for (size_t i = 0; i < HEARD_OPAQUES; i++) {
        free(heard->opaque_names[i].bytes);
        free(heard->opaques[i].bytes);
    }
    memset(heard, 0, sizeof(*heard));
}

static bool same_value(const tr_json_value *expected, const text *arguments) {
    tr_json *json = NULL;
    if (tr_json_parse(arguments->bytes, arguments->size, &json, NULL) != TR_OK) {
        return false;
    }
    bool same = exchange_same_json(expected, tr_json_root(json));
    tr_json_free(json);
    return same;
}

/* The fields of the provider's own, where a recording says which are expected: no more, no fewer.
 */
static bool same_opaques(const tr_json_value *expected, const heard *heard) {
    if (expected != NULL && tr_json_count(expected) != heard->opaque_count) {
        return false;
    }
    for (size_t i = 0; expected != NULL && i < heard->opaque_count; i++) {
        const tr_json_value *want = tr_json_get(expected, heard->opaque_names[i].bytes);
        if (want == NULL || !same_value(want, &heard->opaques[i])) {
            return false;
        }
    }
    return true;
}

static const char *finish_name(uint8_t finish) {
    static const char *const names[] = {"", "stop", "length", "tools", "filter", "other"};
    return finish < sizeof(names) / sizeof(names[0]) ? names[finish] : "?";
}

static const char *calls_differ(const heard *heard, const tr_json_value *calls) {
    if (tr_json_count(calls) != heard->calls) {
        return "number of tool calls";
    }
    const tr_json_value *call = tr_json_first(calls);
    for (size_t i = 0; call != NULL; call = tr_json_next(call), i++) {
        if (!exchange_same_text(tr_json_get(call, "name"), heard->names[i].bytes,
                                heard->names[i].size) ||
            !same_value(tr_json_get(call, "arguments"), &heard->arguments[i])) {
            return "a tool call";
        }
    }
    return NULL;
}

static const char *error_differs(const heard *heard, const tr_json_value *error) {
    const char *class = tr_err_class_name(tr_err_class_of(heard->err));
    if (tr_json_int(tr_json_get(error, "status"), 0) != heard->status) {
        return "error.status";
    }
    if (!exchange_same_text(tr_json_get(error, "message"), heard->message,
                            strlen(heard->message))) {
        return "error.message";
    }
    const tr_json_value *want = tr_json_get(error, "class");
    return want == NULL || exchange_same_text(want, class, strlen(class)) ? NULL : "error.class";
}

const char *heard_differs(const heard *heard, const tr_json_value *expected) {
    const char *end = heard->err == TR_OK              ? "done"
                      : heard->err == TR_ERR_TRUNCATED ? "truncated"
                                                       : "error";
    if (heard->disorder) {
        return "order of the pieces";
    }
    if (!exchange_same_text(tr_json_get(expected, "outcome"), end, strlen(end))) {
        return "outcome";
    }
    if (!exchange_same_text(tr_json_get(expected, "text"), heard->answer.bytes,
                            heard->answer.size)) {
        return "text";
    }
    if (!exchange_same_text(tr_json_get(expected, "reasoning"), heard->reasoning.bytes,
                            heard->reasoning.size)) {
        return "reasoning";
    }
    const char *finish = finish_name(heard->finish);
    if (heard->finish != HEARD_UNTOLD &&
        !exchange_same_text(tr_json_get(expected, "finish"), finish, strlen(finish))) {
        return "finish";
    }
    const char *wrong = calls_differ(heard, tr_json_get(expected, "tool_calls"));
    if (wrong != NULL) {
        return wrong;
    }
    if (!same_opaques(tr_json_get(expected, "opaque"), heard)) {
        return "the provider's own fields";
    }
    const tr_json_value *usage = tr_json_get(expected, "usage");
    const tr_json_value *cached = tr_json_get(usage, "cached_tokens");
    const tr_json_value *reasoning = tr_json_get(usage, "reasoning_tokens");
    if ((cached != NULL && tr_json_int(cached, 0) != (int64_t)heard->usage.cached) ||
        (reasoning != NULL && tr_json_int(reasoning, 0) != (int64_t)heard->usage.reasoning)) {
        return HEARD_USAGE;
    }
    if (tr_json_int(tr_json_get(usage, "input_tokens"), 0) != (int64_t)heard->usage.in ||
        tr_json_int(tr_json_get(usage, "output_tokens"), 0) != (int64_t)heard->usage.out) {
        return HEARD_USAGE;
    }
    const tr_json_value *error = tr_json_get(expected, "error");
    return error == NULL ? NULL : error_differs(heard, error);
}

static bool same(const text *a, const text *b) {
    return a->size == b->size && (a->size == 0 || memcmp(a->bytes, b->bytes, a->size) == 0);
}

const char *heard_apart(const heard *a, const heard *b) {
    if (a->disorder || b->disorder) {
        return "order of the pieces";
    }
    if (a->err != b->err || (a->err == TR_OK && a->finish != b->finish)) {
        return "outcome";
    }
    if (!same(&a->answer, &b->answer) || !same(&a->reasoning, &b->reasoning)) {
        return "text";
    }
    if (a->calls != b->calls || a->opaque_count != b->opaque_count) {
        return "number of tool calls or own fields";
    }
    for (size_t i = 0; i < a->calls; i++) {
        if (!same(&a->names[i], &b->names[i]) || !same(&a->arguments[i], &b->arguments[i])) {
            return "a tool call";
        }
    }
    for (size_t i = 0; i < a->opaque_count; i++) {
        if (!same(&a->opaques[i], &b->opaques[i])) {
            return "the provider's own fields";
        }
    }
    if (a->usage.in != b->usage.in || a->usage.out != b->usage.out ||
        a->usage.cached != b->usage.cached || a->usage.reasoning != b->usage.reasoning) {
        return "usage";
    }
    return strcmp(a->message, b->message) == 0 ? NULL : "message";
}

bool heard_decode(heard *heard, const exchange *exchange, size_t size, bool cut, size_t step,
                  uint64_t seed) {
    tr_decoder *decoder = NULL;
    const tr_dialect *dialect = tr_dialect_find(exchange->dialect);
    if (dialect == NULL ||
        tr_decoder_new(dialect, exchange->op, heard_piece, heard, &decoder) != TR_OK) {
        return false;
    }
    tr_decoder_head(decoder, exchange->status);
    tr_err err = TR_OK;
    for (size_t at = 0; at < size && err == TR_OK;) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        size_t piece = step > 0 ? step : 1 + (size_t)(seed >> 33) % 97;
        piece = piece < size - at ? piece : size - at;
        err = tr_decoder_feed(decoder, exchange->body.bytes + at, piece);
        at += piece;
    }
    if (err == TR_OK) {
        err = tr_decoder_end(decoder, cut);
    }
    heard_end(heard, tr_decoder_outcome(decoder), exchange->status);
    tr_decoder_free(decoder);
    return err != TR_OK;
}
