/*
 * Reads exchanges from their files, and compares JSON as JSON. Used by the tests that replay them
 * through a decoder and through the HTTP door; the test's thread only.
 */
#include "tests/conformance/exchange.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_add(text *to, tr_str piece) {
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

bool exchange_same_json(const tr_json_value *a, const tr_json_value *b) {
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
        if (!exchange_same_json(v, object ? tr_json_get(b, name) : other)) {
            return false;
        }
        other = tr_json_next(other);
    }
    return true;
}

bool exchange_same_text(const tr_json_value *expected, const char *bytes, size_t size) {
    tr_str want = tr_json_string(expected);
    return want.size == size && (size == 0 || memcmp(want.ptr, bytes, size) == 0);
}

/* What was asked, by the exchange's kind; most are chats of some sort. */
static tr_op op_of(const tr_json_value *meta) {
    static const struct {
        const char *kind;
        tr_op op;
    } kinds[] = {{"embeddings", TR_OP_EMBED}, {"count", TR_OP_COUNT}, {"models", TR_OP_MODELS},
                 {"loaded", TR_OP_LOADED},    {"load", TR_OP_LOAD},   {"unload", TR_OP_UNLOAD}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (exchange_same_text(tr_json_get(meta, "kind"), kinds[i].kind, strlen(kinds[i].kind))) {
            return kinds[i].op;
        }
    }
    return TR_OP_CHAT;
}

static bool load(const char *folder, const char *name, const char *suffix, text *ret) {
    char path[1024];
    char piece[4096];
    snprintf(path, sizeof(path), "%s/%s%s", folder, name, suffix);
    FILE *file = fopen(path, "rb");
    text_add(ret, (tr_str){"", 0});
    if (file == NULL) {
        return false;
    }
    size_t size = 0;
    while ((size = fread(piece, 1, sizeof(piece), file)) > 0) {
        text_add(ret, (tr_str){piece, size});
    }
    fclose(file);
    return true;
}

static bool load_json(const char *folder, const char *name, const char *suffix, tr_json **ret) {
    text json = {0};
    bool fine = load(folder, name, suffix, &json) &&
                tr_json_parse(json.bytes, json.size, ret, NULL) == TR_OK;
    free(json.bytes);
    if (!fine) {
        printf("%s%s cannot be read\n", name, suffix);
    }
    return fine;
}

static bool load_one(const char *folder, const char *name, exchange *ret) {
    ret->name = strdup(name);
    if (ret->name == NULL || !load_json(folder, name, ".meta.json", &ret->meta) ||
        !load_json(folder, name, ".expected.json", &ret->expected)) {
        return false;
    }
    const tr_json_value *meta = tr_json_root(ret->meta);
    tr_str dialect = tr_json_string(tr_json_get(meta, "dialect"));
    tr_str provider = tr_json_string(tr_json_get(meta, "provider"));
    snprintf(ret->dialect, sizeof(ret->dialect), "%.*s", (int)dialect.size, dialect.ptr);
    snprintf(ret->provider, sizeof(ret->provider), "%.*s", (int)provider.size, provider.ptr);
    ret->op = op_of(meta);
    ret->status = (uint16_t)tr_json_int(tr_json_get(meta, "status"), 200);
    ret->cut = tr_json_bool(tr_json_get(meta, "cut"), false);
    load(folder, name, ".body", &ret->body); /* none is an empty one */
    load(folder, name, ".request.json", &ret->request);
    return true;
}

int exchange_load_all(const char *folder, exchange **ret, size_t *ret_count) {
    static const char suffix[] = ".meta.json";
    size_t tail = sizeof(suffix) - 1;
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    if (count < 0) {
        printf("%s cannot be read\n", folder);
        return -1;
    }
    exchange *exchanges = calloc((size_t)count + 1, sizeof(*exchanges));
    size_t used = 0;
    bool fine = exchanges != NULL;
    for (int i = 0; i < count; i++) {
        size_t size = strlen(entries[i]->d_name);
        if (fine && size > tail && strcmp(entries[i]->d_name + size - tail, suffix) == 0) {
            entries[i]->d_name[size - tail] = '\0';
            fine = load_one(folder, entries[i]->d_name, &exchanges[used++]);
        }
        free(entries[i]);
    }
    free(entries);
    if (!fine) {
        exchange_free_all(exchanges, used);
        return -1;
    }
    *ret = exchanges;
    *ret_count = used;
    return 0;
}

void exchange_free_all(exchange *exchanges, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(exchanges[i].name);
        free(exchanges[i].body.bytes);
        free(exchanges[i].request.bytes);
        tr_json_free(exchanges[i].meta);
        tr_json_free(exchanges[i].expected);
    }
    free(exchanges);
}
