/*
 * Answers of the openai dialect: chunks of a stream, and whole bodies, which differ only in `delta`
 * being called `message`. Servers agree on little beyond that, so nothing is required that is not
 * needed: content may be null, a string or parts; reasoning has two names; a tool call's index may
 * be missing or always 0 and its id absent; usage may stand in any chunk, twice. An error is looked
 * for in every object before anything else. A stream is complete after [DONE], or when it ends
 * after a finish_reason of each choice; otherwise it was cut. What was used may be told after that,
 * so an answer that ends there is whole and has no figures.
 *
 * Called by decoder.c; pure.
 */
#include <stdio.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/fault.h"
#include "providers/openai_internal.h"
#include "runtime/memory.h"

#define CALLS_max 1024U
#define CHOICES_max 128

static tr_err take_object(tr_decoding *decoding, const tr_json_value *root, bool whole);
static tr_err take_choice(tr_decoding *decoding, const tr_json_value *choice, bool whole);
static tr_err take_message(tr_decoding *decoding, const tr_json_value *message, uint32_t choice,
                           bool whole);
static tr_err take_content(tr_decoding *decoding, const tr_json_value *content, uint32_t choice);
static tr_err take_thinking(tr_decoding *decoding, const tr_json_value *part, uint32_t choice);
static tr_err take_opaque(tr_decoding *decoding, const tr_json_value *from, const char *name,
                          uint32_t choice);
static tr_err take_calls(tr_decoding *decoding, const tr_json_value *calls, uint32_t choice,
                         bool whole);
static tr_err take_call(tr_decoding *decoding, const tr_json_value *call, uint32_t choice,
                        bool whole);
static tri_openai_call *find_call(tri_openai *state, uint32_t choice, int64_t index, tr_str id,
                                  tr_str name);
static tr_err new_call(tr_decoding *decoding, uint32_t choice, int64_t index, tr_str id,
                       tr_str name, tri_openai_call **ret);
static void take_usage(tr_outcome *outcome, const tr_json_value *usage);
static tr_err take_finish(tr_decoding *decoding, const tr_json_value *choice, uint32_t index);
static tr_err take_embeddings(tr_decoding *decoding, const tr_json_value *root);
static tr_err take_count(tr_decoding *decoding, const tr_json_value *root);
static tr_err emit_text(tr_decoding *decoding, tr_delta_kind kind, uint32_t choice, tr_str text);
static tr_err broken(tr_decoding *decoding, tr_err err, const char *why);
static bool same(tr_str text, const char *word);
static bool is(const tr_json_value *value, tr_json_type type);

tr_err tri_openai_event(tr_decoding *decoding, tr_str type, tr_str data, bool last) {
    tri_openai *state = decoding->state;
    while (data.size > 0 && (data.ptr[data.size - 1] == ' ' || data.ptr[data.size - 1] == '\t')) {
        data.size--;
    }
    if (data.size == 0) {
        return TR_OK;
    }
    if (same(data, "[DONE]")) {
        return state->saw_choices
                   ? TR_DONE
                   : broken(decoding, TR_ERR_SERVER, "the server sent a stream without an answer");
    }
    bool bare = same(type, "bare");
    bool error = same(type, "error");
    tr_json *json = NULL;
    tr_err err = tr_json_parse(data.ptr, data.size, &json, NULL);
    if (err == TR_ERR_NOMEM) {
        return err;
    }
    if (err != TR_OK) {
        if (error && !tr_utf8_valid(data.ptr, data.size)) {
            return broken(decoding, TR_ERR_SERVER, "the server reported an error that is no text");
        }
        if (error) {
            size_t size = tr_utf8_cut(data.ptr, data.size, TR_MESSAGE_max);
            snprintf(decoding->outcome->message, sizeof(decoding->outcome->message), "%.*s",
                     (int)size, data.ptr);
            return TR_ERR_SERVER;
        }
        /* A last event that is no JSON was cut in the middle: the end of the stream tells. */
        return bare || last ? TR_OK
                            : broken(decoding, TR_ERR_PROTOCOL,
                                     "the server's stream holds an event that is not JSON");
    }
    const tr_json_value *root = tr_json_root(json);
    if (error) {
        take_usage(decoding->outcome, tr_json_get(root, "usage"));
        err = tri_openai_error(decoding, root, true);
    } else if (bare) {
        err = tri_openai_error(decoding, root, false);
    } else {
        err = take_object(decoding, root, false);
    }
    tr_json_free(json);
    return err;
}

tr_err tri_openai_whole(tr_decoding *decoding, tr_str body) {
    tri_openai *state = decoding->state;
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM
                   ? err
                   : broken(decoding, TR_ERR_PROTOCOL, "the server's answer is not valid JSON");
    }
    const tr_json_value *root = tr_json_root(json);
    if (decoding->op == TR_OP_EMBED) {
        err = take_embeddings(decoding, root);
    } else if (decoding->op == TR_OP_COUNT) {
        err = take_count(decoding, root);
    } else {
        err = take_object(decoding, root, true);
        if (err == TR_OK && !state->saw_choices) {
            err = broken(decoding, TR_ERR_SERVER,
                         "the server's answer holds neither choices nor an error");
        }
    }
    tr_json_free(json);
    return err == TR_OK ? TR_DONE : err;
}

tr_err tri_openai_eof(tr_decoding *decoding, bool cut) {
    const tri_openai *state = decoding->state;
    bool all = state->begun[0] == state->finished[0] && state->begun[1] == state->finished[1];
    if (decoding->outcome->finish != 0 && all) {
        return TR_DONE;
    }
    decoding->outcome->finish = 0;
    return broken(decoding, TR_ERR_TRUNCATED,
                  cut ? "the connection broke off before the answer was complete"
                      : "the stream ended before the answer was complete");
}

tr_err tri_openai_refusal(tr_decoding *decoding, tr_str body) {
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err == TR_OK) {
        err = tri_openai_error(decoding, tr_json_root(json), true);
        tr_json_free(json);
        return err;
    }
    tr_fault fault = {
        .status = decoding->status, .code = {"", 0}, .type = {"", 0}, .message = body};
    tr_outcome *outcome = decoding->outcome;
    bool page = body.size > 0 && memchr(body.ptr, '<', body.size < 64 ? body.size : 64) != NULL;
    if (body.size == 0 || page || !tr_utf8_valid(body.ptr, body.size)) {
        snprintf(outcome->message, sizeof(outcome->message), "the server answered HTTP %u%s",
                 (unsigned)decoding->status, page ? " with a web page" : "");
        fault.message.size = 0;
    } else {
        size_t size = tr_utf8_cut(body.ptr, body.size, 500);
        while (size > 0 && (body.ptr[size - 1] == '\n' || body.ptr[size - 1] == '\r')) {
            size--;
        }
        snprintf(outcome->message, sizeof(outcome->message), "HTTP %u: %.*s",
                 (unsigned)decoding->status, (int)size, body.ptr);
    }
    return tr_fault_classify(&fault);
}

void tri_openai_fini(tr_decoding *decoding) {
    tri_openai *state = decoding->state;
    for (uint32_t i = 0; i < state->call_count; i++) {
        tr_free(state->calls[i].id);
        tr_free(state->calls[i].name);
    }
    tr_free(state->calls);
}

static void copy_text(char *to, size_t room, tr_str text) {
    if (to[0] == '\0' && text.ptr != NULL) {
        size_t size = tr_utf8_cut(text.ptr, text.size, room - 1);
        memcpy(to, text.ptr, size);
        to[size] = '\0';
    }
}

static tr_err take_object(tr_decoding *decoding, const tr_json_value *root, bool whole) {
    tri_openai *state = decoding->state;
    tr_outcome *outcome = decoding->outcome;
    state->round++;
    take_usage(outcome, tr_json_get(tr_json_get(root, "x_groq"), "usage"));
    take_usage(outcome, tr_json_get(root, "usage"));
    tr_err err = tri_openai_error(decoding, root, false);
    if (err != TR_OK) {
        return err;
    }
    copy_text(outcome->id, sizeof(outcome->id), tr_json_string(tr_json_get(root, "id")));
    copy_text(outcome->model, sizeof(outcome->model), tr_json_string(tr_json_get(root, "model")));
    const tr_json_value *choices = tr_json_get(root, "choices");
    if (!is(choices, TR_JSON_ARRAY)) {
        return TR_OK;
    }
    state->saw_choices = true;
    const tr_json_value *choice = tr_json_first(choices);
    for (; choice != NULL && err == TR_OK; choice = tr_json_next(choice)) {
        err = take_choice(decoding, choice, whole);
    }
    return err == TR_OK ? take_opaque(decoding, root, "citations", 0) : err;
}

static tr_err take_choice(tr_decoding *decoding, const tr_json_value *choice, bool whole) {
    int64_t index = tr_json_int(tr_json_get(choice, "index"), 0);
    if (index < 0 || index >= CHOICES_max) {
        return broken(decoding, TR_ERR_PROTOCOL, "the server numbers its choices wrongly");
    }
    uint32_t number = (uint32_t)index;
    tri_openai *state = decoding->state;
    state->begun[number / 64] |= 1ULL << number % 64;
    const tr_json_value *message = tr_json_get(choice, "delta");
    if (!is(message, TR_JSON_OBJECT)) {
        message = tr_json_get(choice, "message");
    }
    tr_err err = TR_OK;
    if (is(message, TR_JSON_OBJECT)) {
        err = take_message(decoding, message, number, whole);
    } else {
        /* The older completions endpoint. */
        err = take_content(decoding, tr_json_get(choice, "text"), number);
    }
    if (err == TR_OK) {
        err = take_opaque(decoding, choice, "logprobs", number);
    }
    return err == TR_OK ? take_finish(decoding, choice, number) : err;
}

static tr_err take_message(tr_decoding *decoding, const tr_json_value *message, uint32_t choice,
                           bool whole) {
    static const char *const opaque[] = {"reasoning_details", "refusal", "annotations", "audio",
                                         "images"};
    tr_str reasoning = tr_json_string(tr_json_get(message, "reasoning_content"));
    if (reasoning.size == 0) {
        reasoning = tr_json_string(tr_json_get(message, "reasoning"));
    }
    tr_err err = emit_text(decoding, TR_DELTA_REASONING, choice, reasoning);
    for (size_t i = 0; i < sizeof(opaque) / sizeof(opaque[0]) && err == TR_OK; i++) {
        err = take_opaque(decoding, message, opaque[i], choice);
    }
    if (err == TR_OK) {
        err = take_content(decoding, tr_json_get(message, "content"), choice);
    }
    if (err == TR_OK) {
        err = take_calls(decoding, tr_json_get(message, "tool_calls"), choice, whole);
    }
    const tr_json_value *legacy = tr_json_get(message, "function_call");
    if (err == TR_OK && is(legacy, TR_JSON_OBJECT)) {
        err = take_call(decoding, legacy, choice, whole);
    }
    return err;
}

/* A string, or Mistral's parts: {type: text, text} and {type: thinking, thinking: [parts]}. */
static tr_err take_content(tr_decoding *decoding, const tr_json_value *content, uint32_t choice) {
    if (!is(content, TR_JSON_ARRAY)) {
        return emit_text(decoding, TR_DELTA_TEXT, choice, tr_json_string(content));
    }
    tr_err err = TR_OK;
    const tr_json_value *part = tr_json_first(content);
    for (; part != NULL && err == TR_OK; part = tr_json_next(part)) {
        if (same(tr_json_string(tr_json_get(part, "type")), "thinking")) {
            err = take_thinking(decoding, tr_json_get(part, "thinking"), choice);
        } else {
            err = emit_text(decoding, TR_DELTA_TEXT, choice,
                            tr_json_string(tr_json_get(part, "text")));
        }
    }
    return err;
}

static tr_err take_thinking(tr_decoding *decoding, const tr_json_value *part, uint32_t choice) {
    if (!is(part, TR_JSON_ARRAY)) {
        return emit_text(decoding, TR_DELTA_REASONING, choice, tr_json_string(part));
    }
    tr_err err = TR_OK;
    for (part = tr_json_first(part); part != NULL && err == TR_OK; part = tr_json_next(part)) {
        err = emit_text(decoding, TR_DELTA_REASONING, choice,
                        tr_json_string(tr_json_get(part, "text")));
    }
    return err;
}

/* A provider's own field goes on as it was written, unless it says nothing. */
static tr_err take_opaque(tr_decoding *decoding, const tr_json_value *from, const char *name,
                          uint32_t choice) {
    const tr_json_value *value = tr_json_get(from, name);
    if (value == NULL || is(value, TR_JSON_NULL)) {
        return TR_OK;
    }
    bool container = is(value, TR_JSON_ARRAY) || is(value, TR_JSON_OBJECT);
    if (container ? tr_json_count(value) == 0 : tr_json_raw(value).size <= 2) {
        return TR_OK;
    }
    tr_piece piece = {.kind = TR_DELTA_OPAQUE,
                      .choice = choice,
                      .name = {name, strlen(name)},
                      .text = tr_json_raw(value)};
    return decoding->fn(decoding->arg, &piece);
}

static tr_err take_calls(tr_decoding *decoding, const tr_json_value *calls, uint32_t choice,
                         bool whole) {
    tr_err err = TR_OK;
    if (!is(calls, TR_JSON_ARRAY)) {
        return TR_OK;
    }
    const tr_json_value *call = tr_json_first(calls);
    for (; call != NULL && err == TR_OK; call = tr_json_next(call)) {
        err = take_call(decoding, call, choice, whole);
    }
    return err;
}

static tr_err take_call(tr_decoding *decoding, const tr_json_value *call, uint32_t choice,
                        bool whole) {
    tri_openai *state = decoding->state;
    const tr_json_value *function = tr_json_get(call, "function");
    if (!is(function, TR_JSON_OBJECT)) {
        function = call; /* the older function_call */
    }
    tr_str id = tr_json_string(tr_json_get(call, "id"));
    tr_str name = tr_json_string(tr_json_get(function, "name"));
    int64_t index = tr_json_int(tr_json_get(call, "index"), -1);
    tri_openai_call *found = whole ? NULL : find_call(state, choice, index, id, name);
    if (found == NULL) {
        tr_err err = new_call(decoding, choice, index, id, name, &found);
        if (err != TR_OK) {
            return err;
        }
    }
    const tr_json_value *arguments = tr_json_get(function, "arguments");
    tr_str text = tr_json_string(arguments);
    if (is(arguments, TR_JSON_OBJECT)) {
        text = tr_json_raw(arguments);
    }
    if (text.size == 0) {
        return TR_OK;
    }
    tr_piece piece = {
        .kind = TR_DELTA_TOOL_ARGS, .choice = choice, .tool = found->tool, .text = text};
    return decoding->fn(decoding->arg, &piece);
}

static bool equal(tr_str text, const char *other) {
    return text.size == strlen(other) && memcmp(text.ptr, other, text.size) == 0;
}

/* The call that a fragment goes on with, or NULL when it begins one: the newest with its index (or
 * the newest at all, when the server gives none), unless another id or name says otherwise. */
static tri_openai_call *find_call(tri_openai *state, uint32_t choice, int64_t index, tr_str id,
                                  tr_str name) {
    for (uint32_t i = state->call_count; i-- > 0;) {
        tri_openai_call *call = &state->calls[i];
        if (call->choice != choice || (index >= 0 && call->index >= 0 && call->index != index)) {
            continue;
        }
        if (id.size > 0) {
            if (equal(id, call->id)) {
                return call;
            }
            /* Another id is another call, though the same index may come back to an older one. */
            if (call->id[0] != '\0' || name.size > 0) {
                continue;
            }
            return call;
        }
        bool renamed = name.size > 0 && (!equal(name, call->name) || call->round == state->round);
        return renamed ? NULL : call;
    }
    return NULL;
}

static tr_err new_call(tr_decoding *decoding, uint32_t choice, int64_t index, tr_str id,
                       tr_str name, tri_openai_call **ret) {
    tri_openai *state = decoding->state;
    if (state->call_count == CALLS_max || id.size > TR_NAME_max || name.size > TR_NAME_max) {
        return broken(decoding, TR_ERR_PROTOCOL,
                      "the server sent too many tool calls or one with too long a name");
    }
    if (state->call_count == state->call_room) {
        uint32_t room = state->call_room == 0 ? 4 : state->call_room * 2;
        tri_openai_call *grown = tr_realloc(state->calls, room * sizeof(*grown));
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        state->calls = grown;
        state->call_room = room;
    }
    uint32_t tool = 0;
    for (uint32_t i = 0; i < state->call_count; i++) {
        tool += state->calls[i].choice == choice ? 1 : 0;
    }
    tri_openai_call call = {.choice = choice,
                            .tool = tool,
                            .index = index,
                            .id = tr_strndup(id.ptr == NULL ? "" : id.ptr, id.size),
                            .name = tr_strndup(name.ptr == NULL ? "" : name.ptr, name.size),
                            .round = state->round};
    if (call.id == NULL || call.name == NULL) {
        tr_free(call.id);
        tr_free(call.name);
        return TR_ERR_NOMEM;
    }
    state->calls[state->call_count] = call;
    *ret = &state->calls[state->call_count++];
    tr_piece piece = {
        .kind = TR_DELTA_TOOL_START, .choice = choice, .tool = tool, .id = id, .name = name};
    return decoding->fn(decoding->arg, &piece);
}

static tr_err take_finish(tr_decoding *decoding, const tr_json_value *choice, uint32_t index) {
    static const struct {
        const char *word;
        tr_finish finish;
    } reasons[] = {
        {"stop", TR_FINISH_STOP},
        {"eos", TR_FINISH_STOP},
        {"eos_token", TR_FINISH_STOP},
        {"stop_sequence", TR_FINISH_STOP},
        {"length", TR_FINISH_LENGTH},
        {"model_length", TR_FINISH_LENGTH},
        {"max_tokens", TR_FINISH_LENGTH},
        {"tool_calls", TR_FINISH_TOOL_CALLS},
        {"function_call", TR_FINISH_TOOL_CALLS},
        {"content_filter", TR_FINISH_FILTERED},
    };
    tr_str reason = tr_json_string(tr_json_get(choice, "finish_reason"));
    tri_openai *state = decoding->state;
    if (reason.size > 0) {
        state->finished[index / 64] |= 1ULL << index % 64;
    }
    if (reason.size == 0 || index != 0) {
        return TR_OK;
    }
    if (same(reason, "error")) {
        return broken(decoding, TR_ERR_SERVER, "the provider broke the answer off with an error");
    }
    decoding->outcome->finish = TR_FINISH_OTHER;
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (same(reason, reasons[i].word)) {
            decoding->outcome->finish = (uint8_t)reasons[i].finish;
        }
    }
    return TR_OK;
}

static uint64_t count(const tr_json_value *object, const char *name) {
    int64_t number = tr_json_int(tr_json_get(object, name), 0);
    return number > 0 ? (uint64_t)number : 0;
}

static void take_usage(tr_outcome *outcome, const tr_json_value *usage) {
    if (!is(usage, TR_JSON_OBJECT)) {
        return;
    }
    tr_usage_wire *to = &outcome->usage;
    outcome->has_usage = true;
    to->in = count(usage, "prompt_tokens");
    to->out = count(usage, "completion_tokens");
    to->cached = count(tr_json_get(usage, "prompt_tokens_details"), "cached_tokens");
    if (to->cached == 0) {
        to->cached = count(usage, "prompt_cache_hit_tokens"); /* DeepSeek's name */
    }
    to->reasoning = count(tr_json_get(usage, "completion_tokens_details"), "reasoning_tokens");
    to->cost = tr_json_number(tr_json_get(usage, "cost"), to->cost);
}

static tr_err take_embeddings(tr_decoding *decoding, const tr_json_value *root) {
    take_usage(decoding->outcome, tr_json_get(root, "usage"));
    tr_err err = tri_openai_error(decoding, root, false);
    if (err != TR_OK) {
        return err;
    }
    copy_text(decoding->outcome->model, sizeof(decoding->outcome->model),
              tr_json_string(tr_json_get(root, "model")));
    const tr_json_value *data = tr_json_get(root, "data");
    if (!is(data, TR_JSON_ARRAY)) {
        return broken(decoding, TR_ERR_SERVER, "the server's answer holds no embeddings");
    }
    int64_t place = 0;
    const tr_json_value *item = tr_json_first(data);
    for (; item != NULL && err == TR_OK; item = tr_json_next(item), place++) {
        int64_t index = tr_json_int(tr_json_get(item, "index"), place);
        const tr_json_value *vector = tr_json_get(item, "embedding");
        if (index < 0 || index > UINT16_MAX || !is(vector, TR_JSON_ARRAY)) {
            return broken(decoding, TR_ERR_PROTOCOL, "the server sent an embedding without form");
        }
        err = tri_emit_vector(decoding, vector, (uint32_t)index);
    }
    if (err == TR_OK) {
        decoding->outcome->finish = TR_FINISH_STOP;
    }
    return err;
}

/* vLLM's, of /tokenize. */
static tr_err take_count(tr_decoding *decoding, const tr_json_value *root) {
    tr_err err = tri_openai_error(decoding, root, false);
    return err == TR_OK ? tri_emit_tokens(decoding, tr_json_get(root, "count")) : err;
}

static tr_err emit_text(tr_decoding *decoding, tr_delta_kind kind, uint32_t choice, tr_str text) {
    if (text.size == 0) {
        return TR_OK;
    }
    tr_piece piece = {.kind = kind, .choice = choice, .text = text};
    return decoding->fn(decoding->arg, &piece);
}

static tr_err broken(tr_decoding *decoding, tr_err err, const char *why) {
    snprintf(decoding->outcome->message, sizeof(decoding->outcome->message), "%s", why);
    return err;
}

static bool same(tr_str text, const char *word) {
    return text.size == strlen(word) && (text.size == 0 || memcmp(text.ptr, word, text.size) == 0);
}

static bool is(const tr_json_value *value, tr_json_type type) {
    return value != NULL && tr_json_type_of(value) == type;
}
