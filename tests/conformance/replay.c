/*
 * The replay. What the decoder's pieces add up to (choice 0 alone) is written in the form of
 * expected.json and compared field by field; a tool call's arguments are compared as JSON values,
 * so blanks between tokens do not matter. Each recording runs whole, byte by byte and cut at
 * offsets from a seeded generator, and every run must give the same.
 */
#include "tests/conformance/replay.h"

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "providers/decoder.h"

#define CALLS 64
#define OPAQUES 16
#define SEEDS 12

typedef struct text {
    char *bytes;
    size_t size;
} text;

typedef struct heard {
    text answer, reasoning;
    text names[CALLS], arguments[CALLS];
    text opaque_names[OPAQUES], opaques[OPAQUES];
    size_t calls, opaque_count;
    bool disorder; /* arguments before their call's start */
} heard;

static void add(text *to, tr_str piece) {
    char *grown = realloc(to->bytes, to->size + piece.size + 1);
    if (grown == NULL) {
        abort();
    }
    if (piece.size > 0) {
        memcpy(grown + to->size, piece.ptr, piece.size);
    }
    to->bytes = grown;
    to->size += piece.size;
    to->bytes[to->size] = '\0';
}

static tr_err hear(void *arg, const tr_piece *piece) {
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
        add(&heard->answer, piece->text);
        break;
    case TR_DELTA_REASONING:
        add(&heard->reasoning, piece->text);
        break;
    case TR_DELTA_TOOL_START:
        heard->disorder = heard->disorder || piece->tool != heard->calls || piece->tool >= CALLS;
        if (!heard->disorder) {
            add(&heard->names[heard->calls], piece->name);
            add(&heard->arguments[heard->calls++], (tr_str){"", 0});
        }
        break;
    case TR_DELTA_TOOL_ARGS:
        heard->disorder = heard->disorder || piece->tool >= heard->calls;
        if (!heard->disorder) {
            add(&heard->arguments[piece->tool], piece->text);
        }
        break;
    case TR_DELTA_OPAQUE:
        if (heard->opaque_count < OPAQUES) {
            add(&heard->opaque_names[heard->opaque_count], piece->name);
            add(&heard->opaques[heard->opaque_count++], piece->text);
        }
        break;
    }
    return TR_OK;
}

static void forget(heard *heard) {
    free(heard->answer.bytes);
    free(heard->reasoning.bytes);
    for (size_t i = 0; i < CALLS; i++) {
        free(heard->names[i].bytes);
        free(heard->arguments[i].bytes);
    }
    for (size_t i = 0; i < OPAQUES; i++) {
        free(heard->opaque_names[i].bytes);
        free(heard->opaques[i].bytes);
    }
}

/* Equal as JSON values: members in any order, numbers by value. */
static bool same_json(const tr_json_value *a, const tr_json_value *b) {
    if (a == NULL || b == NULL || tr_json_type_of(a) != tr_json_type_of(b)) {
        return a == b;
    }
    tr_str left = tr_json_string(a), right = tr_json_string(b);
    switch (tr_json_type_of(a)) {
    case TR_JSON_NULL:
        return true;
    case TR_JSON_BOOL:
        return tr_json_bool(a, false) == tr_json_bool(b, false);
    case TR_JSON_NUMBER:
        return tr_json_number(a, 0) == tr_json_number(b, 0);
    case TR_JSON_STRING:
        return left.size == right.size && memcmp(left.ptr, right.ptr, left.size) == 0;
    case TR_JSON_ARRAY:
    case TR_JSON_OBJECT:
        break;
    }
    if (tr_json_count(a) != tr_json_count(b)) {
        return false;
    }
    bool object = tr_json_type_of(a) == TR_JSON_OBJECT;
    const tr_json_value *other = tr_json_first(b);
    for (const tr_json_value *v = tr_json_first(a); v != NULL; v = tr_json_next(v)) {
        char name[256];
        tr_str key = tr_json_name(v);
        snprintf(name, sizeof(name), "%.*s", (int)key.size, key.ptr);
        if (!same_json(v, object ? tr_json_get(b, name) : other)) {
            return false;
        }
        other = tr_json_next(other);
    }
    return true;
}

static bool same_text(const tr_json_value *expected, const char *bytes, size_t size) {
    tr_str want = tr_json_string(expected);
    return want.size == size && (size == 0 || memcmp(want.ptr, bytes, size) == 0);
}

static bool same_value(const tr_json_value *expected, const text *arguments) {
    tr_json *json = NULL;
    if (tr_json_parse(arguments->bytes, arguments->size, &json, NULL) != TR_OK) {
        return false;
    }
    bool same = same_json(expected, tr_json_root(json));
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

/* NULL, or what differs. */
static const char *compare(const tr_json_value *expected, const heard *heard,
                           const tr_outcome *outcome, uint16_t status) {
    const char *end = outcome->err == TR_OK              ? "done"
                      : outcome->err == TR_ERR_TRUNCATED ? "truncated"
                                                         : "error";
    if (heard->disorder) {
        return "order of the pieces";
    }
    if (!same_text(tr_json_get(expected, "outcome"), end, strlen(end))) {
        return "outcome";
    }
    if (!same_text(tr_json_get(expected, "text"), heard->answer.bytes, heard->answer.size)) {
        return "text";
    }
    if (!same_text(tr_json_get(expected, "reasoning"), heard->reasoning.bytes,
                   heard->reasoning.size)) {
        return "reasoning";
    }
    const char *finish = finish_name(outcome->finish);
    if (!same_text(tr_json_get(expected, "finish"), finish, strlen(finish))) {
        return "finish";
    }
    const tr_json_value *calls = tr_json_get(expected, "tool_calls");
    if (tr_json_count(calls) != heard->calls) {
        return "number of tool calls";
    }
    const tr_json_value *call = tr_json_first(calls);
    for (size_t i = 0; call != NULL; call = tr_json_next(call), i++) {
        if (!same_text(tr_json_get(call, "name"), heard->names[i].bytes, heard->names[i].size) ||
            !same_value(tr_json_get(call, "arguments"), &heard->arguments[i])) {
            return "a tool call";
        }
    }
    if (!same_opaques(tr_json_get(expected, "opaque"), heard)) {
        return "the provider's own fields";
    }
    const tr_json_value *usage = tr_json_get(expected, "usage");
    const tr_json_value *cached = tr_json_get(usage, "cached_tokens");
    const tr_json_value *reasoning = tr_json_get(usage, "reasoning_tokens");
    if ((cached != NULL && tr_json_int(cached, 0) != (int64_t)outcome->usage.cached) ||
        (reasoning != NULL && tr_json_int(reasoning, 0) != (int64_t)outcome->usage.reasoning)) {
        return "cached or reasoning tokens";
    }
    if (tr_json_int(tr_json_get(usage, "input_tokens"), 0) != (int64_t)outcome->usage.in ||
        tr_json_int(tr_json_get(usage, "output_tokens"), 0) != (int64_t)outcome->usage.out) {
        return "usage";
    }
    const tr_json_value *error = tr_json_get(expected, "error");
    if (error == NULL) {
        return NULL;
    }
    const char *class = tr_err_class_name(tr_err_class_of(outcome->err));
    if (tr_json_int(tr_json_get(error, "status"), 0) != status) {
        return "error.status";
    }
    if (!same_text(tr_json_get(error, "message"), outcome->message, strlen(outcome->message))) {
        return "error.message";
    }
    const tr_json_value *want = tr_json_get(error, "class");
    return want == NULL || same_text(want, class, strlen(class)) ? NULL : "error.class";
}

/* What was asked, by the recording's kind; most are chats of some sort. */
static tr_op op_of(const tr_json_value *meta) {
    static const struct {
        const char *kind;
        tr_op op;
    } kinds[] = {{"embeddings", TR_OP_EMBED}, {"count", TR_OP_COUNT}, {"models", TR_OP_MODELS},
                 {"loaded", TR_OP_LOADED},    {"load", TR_OP_LOAD},   {"unload", TR_OP_UNLOAD}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (same_text(tr_json_get(meta, "kind"), kinds[i].kind, strlen(kinds[i].kind))) {
            return kinds[i].op;
        }
    }
    return TR_OP_CHAT;
}

/* One run: pieces of `step` bytes, or of random sizes when it is 0. */
static const char *run(const tr_dialect *dialect, const tr_json_value *meta,
                       const tr_json_value *expected, const text *body, size_t step,
                       uint64_t seed) {
    uint16_t status = (uint16_t)tr_json_int(tr_json_get(meta, "status"), 200);
    heard heard = {0};
    tr_decoder *decoder = NULL;
    if (tr_decoder_new(dialect, op_of(meta), hear, &heard, &decoder) != TR_OK) {
        return "memory";
    }
    tr_decoder_head(decoder, status);
    tr_err err = TR_OK;
    for (size_t at = 0; at < body->size && err == TR_OK;) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        size_t size = step > 0 ? step : 1 + (size_t)(seed >> 33) % 97;
        size = size < body->size - at ? size : body->size - at;
        err = tr_decoder_feed(decoder, body->bytes + at, size);
        at += size;
    }
    bool cut = tr_json_bool(tr_json_get(meta, "cut"), false);
    if (err == TR_OK) {
        err = tr_decoder_end(decoder, cut);
    }
    const char *wrong = compare(expected, &heard, tr_decoder_outcome(decoder), status);
    tr_decoder_free(decoder);
    forget(&heard);
    return err == TR_OK ? "no end" : wrong;
}

static bool load(const char *folder, const char *name, const char *suffix, text *ret) {
    char path[1024];
    char piece[4096];
    snprintf(path, sizeof(path), "%s/%s%s", folder, name, suffix);
    FILE *file = fopen(path, "rb");
    *ret = (text){0};
    if (file == NULL) {
        return false;
    }
    size_t size = 0;
    while ((size = fread(piece, 1, sizeof(piece), file)) > 0) {
        add(ret, (tr_str){piece, size});
    }
    fclose(file);
    return ret->bytes != NULL;
}

static void replay(const char *folder, const char *name, const char *dialect_name,
                   replay_count *count) {
    text meta_text, expected_text = {0}, body = {0};
    tr_json *meta = NULL, *expected = NULL;
    if (!load(folder, name, ".meta.json", &meta_text) ||
        tr_json_parse(meta_text.bytes, meta_text.size, &meta, NULL) != TR_OK) {
        printf("%s: meta.json cannot be read\n", name);
        count->failed++;
    } else if (same_text(tr_json_get(tr_json_root(meta), "dialect"), dialect_name,
                         strlen(dialect_name))) {
        count->files++;
        const tr_dialect *dialect = tr_dialect_find(dialect_name);
        if (!load(folder, name, ".body", &body)) {
            add(&body, (tr_str){"", 0});
        }
        if (dialect == NULL || !load(folder, name, ".expected.json", &expected_text) ||
            tr_json_parse(expected_text.bytes, expected_text.size, &expected, NULL) != TR_OK) {
            printf("%s: expected.json cannot be read\n", name);
            count->failed++;
        } else {
            const char *wrong = NULL;
            for (uint64_t i = 0; i < SEEDS + 2 && wrong == NULL; i++) {
                size_t step = i == 0 ? body.size : i == 1 ? 1 : 0;
                wrong = run(dialect, tr_json_root(meta), tr_json_root(expected), &body, step, i);
                count->runs++;
                if (wrong != NULL) {
                    printf("%s (%s): %s differs\n", name,
                           i == 0   ? "whole"
                           : i == 1 ? "byte by byte"
                                    : "in pieces",
                           wrong);
                    count->failed++;
                }
            }
        }
    }
    tr_json_free(meta);
    tr_json_free(expected);
    free(meta_text.bytes);
    free(expected_text.bytes);
    free(body.bytes);
}

int replay_folder(const char *folder, const char *dialect, replay_count *ret) {
    static const char suffix[] = ".meta.json";
    *ret = (replay_count){0};
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    if (count < 0) {
        return -1;
    }
    for (int i = 0; i < count; i++) {
        size_t size = strlen(entries[i]->d_name);
        if (size > sizeof(suffix) && strcmp(entries[i]->d_name + size - 10, suffix) == 0) {
            entries[i]->d_name[size - 10] = '\0';
            replay(folder, entries[i]->d_name, dialect, ret);
        }
        free(entries[i]);
    }
    free(entries);
    return 0;
}
