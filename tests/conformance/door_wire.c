/*
 * What goes over the wire for an exchange: the answer's bytes with the headers that were recorded,
 * and how they are cut; and what must have been asked. A stream goes chunked, anything else with
 * its length. Byte by byte means that every byte of the head is a write of its own and every byte
 * of the body a chunk, so that curl hands each on alone however the kernel joins the writes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "providers/catalog.h"
#include "tests/conformance/door.h"

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return *seed >> 33;
}

static void add(text *to, const char *words) {
    text_add(to, (tr_str){words, strlen(words)});
}

/* "POST https://host/v1/chat/completions": the path with its query. */
static const char *recorded_path(const exchange *exchange) {
    tr_str request =
        tr_json_string(tr_json_get(tr_json_root(exchange->meta), "request")); /* NUL behind it */
    const char *host = request.size == 0 ? NULL : strstr(request.ptr, "://");
    return host == NULL ? NULL : strchr(host + 3, '/');
}

static const char *const tails[] = {"/chat/completions", "/completions", "/responses",
                                    "/v1/messages",      "/models/",     "/api/"};

static const char *tail_of(const char *path) {
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        const char *at = strstr(path, tails[i]);
        if (at != NULL && (strcmp(tails[i], "/models/") != 0 || strchr(at, ':') != NULL)) {
            return at;
        }
    }
    return NULL;
}

static void choose_kind(door_run *run) {
    const exchange *exchange = run->exchange;
    const tr_catalog_row *row = tr_catalog_find(exchange->provider);
    const char *kind = exchange->provider;
    if (strcmp(exchange->provider, "openai") == 0 && strcmp(exchange->dialect, "responses") == 0) {
        kind = "openai-responses";
    } else if (row == NULL || strcmp(row->dialect, exchange->dialect) != 0) {
        kind = strcmp(exchange->dialect, "openai") == 0      ? "openai-compatible"
               : strcmp(exchange->dialect, "responses") == 0 ? "responses-compatible"
                                                             : exchange->dialect;
    }
    const char *path = recorded_path(exchange);
    if (strcmp(kind, "azure") == 0 && path != NULL && strstr(path, "/openai/") == NULL) {
        kind = "openai-compatible"; /* its other service, without deployments */
    }
    if (strncmp(exchange->name, "lmstudio-", 9) == 0) {
        kind = "lmstudio";
    }
    snprintf(run->kind, sizeof(run->kind), "%s", kind);
}

void door_prepare(door_run *run, const exchange *exchange, door_way way) {
    *run = (door_run){.exchange = exchange, .way = way, .size = exchange->body.size};
    choose_kind(run);
    const char *path = recorded_path(exchange);
    const char *tail = path == NULL ? NULL : tail_of(path);
    if (tail != NULL) {
        snprintf(run->base_path, sizeof(run->base_path), "%.*s", (int)(tail - path), path);
    } else {
        bool rooted = strcmp(run->kind, "anthropic") == 0 || strcmp(run->kind, "ollama") == 0;
        snprintf(run->base_path, sizeof(run->base_path), "%s", rooted ? "" : "/v1");
    }
    const tr_json_value *meta = tr_json_root(exchange->meta);
    tr_json *request = NULL;
    snprintf(run->model, sizeof(run->model), "a-model");
    if (exchange->request.size > 0 &&
        tr_json_parse(exchange->request.bytes, exchange->request.size, &request, NULL) == TR_OK) {
        tr_str model = tr_json_string(tr_json_get(tr_json_root(request), "model"));
        if (model.size > 0) {
            snprintf(run->model, sizeof(run->model), "%.*s", (int)model.size, model.ptr);
        }
    }
    tr_json_free(request);
    const char *models = tail == NULL ? NULL : strstr(tail, "/models/");
    if (models != NULL) {
        snprintf(run->model, sizeof(run->model), "%.*s", (int)strcspn(models + 8, ":"), models + 8);
    }
    run->stream = exchange->provider[0] == '\0'
                      ? strstr(exchange->name, "whole") == NULL
                      : tr_json_string(tr_json_get(meta, "stream")).size > 0;
    run->cut = exchange->cut;
    if (way.kind == DOOR_CUT && run->size > 0) {
        uint64_t seed = way.seed + run->size;
        next(&seed);
        size_t back =
            (size_t)next(&seed) % (way.seed % 2 == 1 && run->size > 200 ? 200 : run->size);
        run->size -= back + 1; /* half of them near the end, where it is settled how it ended */
        run->cut = true;
    }
    add(&run->body, exchange->op == TR_OP_EMBED
                        ? "{\"input\":[\"a\"]}"
                        : "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
}

/* What the target, the transport and the choice of a stream say in a request of ours. */
static bool said_elsewhere(tr_str name) {
    static const char *const names[] = {"model", "stream", "stream_options"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (name.size == strlen(names[i]) && memcmp(name.ptr, names[i], name.size) == 0) {
            return true;
        }
    }
    return false;
}

void door_say_as_recorded(door_run *run) {
    tr_json *json = NULL;
    const text *request = &run->exchange->request;
    if (strcmp(run->exchange->dialect, "openai") != 0 ||
        tr_json_parse(request->bytes, request->size, &json, NULL) != TR_OK ||
        tr_json_get(tr_json_root(json), "messages") == NULL) {
        tr_json_free(json);
        return;
    }
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    const tr_json_value *v = tr_json_first(tr_json_root(json));
    for (; v != NULL; v = tr_json_next(v)) {
        if (!said_elsewhere(tr_json_name(v))) {
            tr_jsonw_name_str(&w, tr_json_name(v));
            tr_jsonw_raw(&w, tr_json_raw(v));
        }
    }
    tr_jsonw_close(&w, '}');
    char *bytes = NULL;
    size_t size = 0;
    if (tr_jsonw_take(&w, &bytes, &size) == TR_OK) {
        free(run->body.bytes);
        run->body = (text){0};
        text_add(&run->body, (tr_str){bytes, size});
        run->as_recorded = true;
    }
    free(bytes);
    tr_json_free(json);
}

/* Whether all that `recorded` says is in `sent`, which may say nothing (null) besides. */
static bool says(const tr_json_value *sent, const tr_json_value *recorded) {
    tr_json_type type = tr_json_type_of(recorded);
    if (sent == NULL || type != tr_json_type_of(sent) ||
        (type != TR_JSON_OBJECT && type != TR_JSON_ARRAY)) {
        return exchange_same_json(recorded, sent);
    }
    bool object = type == TR_JSON_OBJECT;
    const tr_json_value *other = tr_json_first(sent);
    for (const tr_json_value *v = tr_json_first(recorded); v != NULL; v = tr_json_next(v)) {
        char name[256];
        tr_str key = tr_json_name(v);
        snprintf(name, sizeof(name), "%.*s", (int)key.size, key.ptr);
        if (!says(object ? tr_json_get(sent, name) : other, v)) {
            return false;
        }
        other = tr_json_next(other);
    }
    size_t nulls = 0;
    const tr_json_value *v = object ? tr_json_first(sent) : NULL;
    for (; v != NULL; v = tr_json_next(v)) {
        nulls += tr_json_type_of(v) == TR_JSON_NULL;
    }
    return tr_json_count(recorded) == tr_json_count(sent) ||
           tr_json_count(recorded) == tr_json_count(sent) - nulls;
}

/* Each provider gets the limit by the one of its two names that it knows. */
static const tr_json_value *sent_as(const tr_json_value *sent, const char *name) {
    const tr_json_value *value = tr_json_get(sent, name);
    bool limit = strcmp(name, "max_tokens") == 0 || strcmp(name, "max_completion_tokens") == 0;
    if (value == NULL && limit) {
        value = tr_json_get(sent, name[4] == 't' ? "max_completion_tokens" : "max_tokens");
    }
    return value;
}

/* NULL, or a member of the recorded request that was not said. */
static const char *unsaid(const replay_request *request, const door_run *run) {
    static char name[64];
    tr_json *sent = NULL, *recorded = NULL;
    const char *wrong = "the recorded request";
    const text *text = &run->exchange->request;
    if (tr_json_parse(request->body, request->body_size, &sent, NULL) == TR_OK &&
        tr_json_parse(text->bytes, text->size, &recorded, NULL) == TR_OK) {
        wrong = NULL;
        const tr_json_value *v = tr_json_first(tr_json_root(recorded));
        for (; v != NULL && wrong == NULL; v = tr_json_next(v)) {
            tr_str member = tr_json_name(v);
            snprintf(name, sizeof(name), "%.*s", (int)member.size, member.ptr);
            bool same = says(sent_as(tr_json_root(sent), name), v);
            wrong = same || said_elsewhere(member) ? NULL : name;
        }
    }
    tr_json_free(sent);
    tr_json_free(recorded);
    return wrong;
}

void door_run_fini(door_run *run) {
    heard_free(&run->heard);
    free(run->body.bytes);
    *run = (door_run){0};
}

static void add_head(text *wire, const door_run *run, bool chunked) {
    char line[256];
    const tr_json_value *meta = tr_json_root(run->exchange->meta);
    const tr_json_value *headers = tr_json_get(meta, "headers");
    snprintf(line, sizeof(line), "HTTP/1.1 %u Recorded\r\n", (unsigned)run->exchange->status);
    add(wire, line);
    for (const tr_json_value *v = tr_json_first(headers); v != NULL; v = tr_json_next(v)) {
        tr_str name = tr_json_name(v), value = tr_json_string(v);
        snprintf(line, sizeof(line), "%.*s: %.*s\r\n", (int)name.size, name.ptr, (int)value.size,
                 value.ptr);
        add(wire, line);
    }
    if (headers == NULL) {
        add(wire, run->stream ? "Content-Type: text/event-stream\r\n"
                              : "Content-Type: application/json\r\n");
    }
    if (chunked) {
        add(wire, "Transfer-Encoding: chunked\r\n\r\n");
    } else {
        /* Cut: it promises what it does not keep, also where all of the body came. */
        snprintf(line, sizeof(line), "Content-Length: %zu\r\n\r\n",
                 run->exchange->body.size + (run->exchange->cut ? 1 : 0));
        add(wire, line);
    }
}

typedef struct cuts {
    uint32_t *sizes;
    size_t count;
} cuts;

static void piece(cuts *cuts, size_t size) {
    cuts->sizes[cuts->count++] = (uint32_t)size;
}

static void add_chunk(text *wire, const char *bytes, size_t size) {
    char line[32];
    snprintf(line, sizeof(line), "%zx\r\n", size);
    add(wire, line);
    text_add(wire, (tr_str){bytes, size});
    add(wire, "\r\n");
}

void door_arm(replay_server *server, size_t slot, const door_run *run) {
    replay_server_clear(server, slot);
    door_arm_next(server, slot, run);
}

void door_arm_next(replay_server *server, size_t slot, const door_run *run) {
    const text *body = &run->exchange->body;
    bool bytes = run->way.kind == DOOR_BYTES;
    bool chunked = bytes || run->stream;
    uint64_t seed = run->way.seed;
    text wire = {0};
    add_head(&wire, run, chunked);
    cuts cuts = {.sizes = malloc((wire.size + run->size + 2) * sizeof(uint32_t))};
    if (cuts.sizes == NULL) {
        abort();
    }
    if (run->way.kind == DOOR_WHOLE) {
        /* All in one write. */
    } else if (bytes) {
        for (size_t i = 0; i < wire.size; i++) {
            piece(&cuts, 1);
        }
    } else {
        piece(&cuts, wire.size);
    }
    for (size_t at = 0; at < run->size;) {
        size_t size = run->way.kind == DOOR_WHOLE ? run->size
                      : bytes                     ? 1
                                                  : 1 + (size_t)next(&seed) % 97;
        size = size < run->size - at ? size : run->size - at;
        size_t before = wire.size;
        if (chunked) {
            add_chunk(&wire, body->bytes + at, size);
        } else {
            text_add(&wire, (tr_str){body->bytes + at, size});
        }
        if (run->way.kind != DOOR_WHOLE) {
            piece(&cuts, wire.size - before);
        }
        at += size;
    }
    if (chunked && !run->cut) {
        add(&wire, "0\r\n\r\n");
        if (run->way.kind != DOOR_WHOLE) {
            piece(&cuts, 5);
        }
    }
    replay_script script = {.bytes = wire.bytes,
                            .size = wire.size,
                            .pieces = cuts.count == 0 ? NULL : cuts.sizes,
                            .piece_count = cuts.count,
                            .end = run->cut ? REPLAY_CLOSE : REPLAY_KEEP};
    replay_server_add(server, slot, &script);
    free(wire.bytes);
    free(cuts.sizes);
}

static bool has_key(const replay_request *request, const char *kind) {
    const tr_catalog_row *row = tr_catalog_find(kind);
    char line[128];
    snprintf(line, sizeof(line), "\r\n%s: %s%s\r\n",
             row->key_header == NULL ? "Authorization" : row->key_header,
             row->key_header == NULL ? "Bearer " : "", DOOR_KEY);
    return strstr(request->headers, line) != NULL;
}

/* Troupe asks by chats where these were asked by an older interface, and says no more in a URL than
 * it must. */
static bool path_wrong(const replay_request *request, const door_run *run) {
    const char *path = recorded_path(run->exchange);
    const char *tail = path == NULL ? NULL : tail_of(path);
    size_t base = strlen(run->base_path);
    if (run->exchange->op == TR_OP_COUNT && strcmp(run->kind, "vllm") == 0) {
        return strcmp(request->target, "/tokenize") != 0; /* beside /v1 */
    }
    if (strncmp(request->target, run->base_path, base) != 0 && strcmp(run->kind, "lmstudio") != 0) {
        return true;
    }
    if (tail == NULL || run->exchange->op != TR_OP_CHAT || strncmp(tail, "/completions", 12) == 0 ||
        strncmp(tail, "/api/generate", 13) == 0) {
        return false;
    }
    size_t size = strcspn(path, "?");
    return strncmp(request->target, path, size) != 0 ||
           (request->target[size] != '\0' && request->target[size] != '?');
}

const char *door_request_wrong(const replay_request *request, const door_run *run) {
    bool inquiry = run->exchange->op == TR_OP_MODELS || run->exchange->op == TR_OP_LOADED;
    if (request->count != 1) {
        return "number of requests";
    }
    if (strcmp(request->method, inquiry ? "GET" : "POST") != 0) {
        return "method of the request";
    }
    if (path_wrong(request, run)) {
        return "path of the request";
    }
    if (!has_key(request, run->kind)) {
        return "key of the request";
    }
    if (inquiry) {
        return NULL;
    }
    tr_json *json = NULL;
    if (!request->whole ||
        strcasestr(request->headers, "\r\nContent-Type: application/json") == NULL ||
        tr_json_parse(request->body, request->body_size, &json, NULL) != TR_OK) {
        return "body of the request";
    }
    const tr_json_value *root = tr_json_root(json);
    bool asks_stream = tr_json_bool(tr_json_get(root, "stream"), false);
    bool in_path = strstr(request->target, run->model) != NULL;
    bool model = exchange_same_text(tr_json_get(root, "model"), run->model, strlen(run->model));
    bool loads = run->exchange->op == TR_OP_LOAD || run->exchange->op == TR_OP_UNLOAD;
    if (strcmp(run->kind, "gemini") == 0) {
        asks_stream = strstr(request->target, ":streamGenerateContent?alt=sse") != NULL;
    }
    tr_json_free(json);
    if (!model && !in_path && !loads) {
        return "model of the request";
    }
    if (run->exchange->op == TR_OP_CHAT && asks_stream != run->stream) {
        return "stream of the request";
    }
    return run->as_recorded ? unsaid(request, run) : NULL;
}

void door_words(heard *heard, const char *provider, const char *message) {
    char front[64];
    snprintf(front, sizeof(front), "%s answered %u: ", provider, (unsigned)heard->status);
    if (strncmp(message, front, strlen(front)) != 0) {
        snprintf(front, sizeof(front), "%s: ", provider);
    }
    bool fronted = strncmp(message, front, strlen(front)) == 0;
    snprintf(heard->message, sizeof(heard->message), "%s",
             fronted ? message + strlen(front) : message);
    static const char *const added[] = {" (asked at http://127.0.0.1:",
                                        " (asked with the key of env:TROUPE_REPLAY_KEY)"};
    for (size_t i = 0; i < sizeof added / sizeof *added; i++) {
        char *ours = strstr(heard->message, added[i]);
        if (ours != NULL) {
            *ours = '\0';
        }
    }
}
