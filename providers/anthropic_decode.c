/*
 * Answers of the anthropic dialect: the named events of a stream, from message_start to
 * message_stop, and whole bodies, which hold the same blocks at once. The type inside the data
 * decides, since some servers leave the event's name out. `ping` and types that are not known are
 * skipped. An error may come at any time, also at status 200; its type says what it means
 * (fault.h). A stream is complete after message_stop, or when it ends after a stop_reason;
 * otherwise it was cut.
 *
 * Refusals have the shape that openai_error.c reads. Called by decoder.c; pure.
 */
#include <stdio.h>
#include <string.h>

#include "providers/anthropic_internal.h"
#include "providers/codec.h"
#include "providers/openai_internal.h"

static bool is_error(const tr_json_value *root, tr_str type);
static tr_err take_object(tr_decoding *decoding, const tr_json_value *root, tr_str type);
static tr_err take_error(tr_decoding *decoding, const tr_json_value *root);
static tr_err take_start(tr_decoding *decoding, const tr_json_value *message);
static tr_err take_delta(tr_decoding *decoding, const tr_json_value *root);
static void take_usage(tr_decoding *decoding, const tr_json_value *usage);
static tr_err take_stop(tr_decoding *decoding, const tr_json_value *from);
static tr_err take_message(tr_decoding *decoding, const tr_json_value *root);
static tr_err take_count(tr_decoding *decoding, const tr_json_value *root);

tr_err tri_anthropic_event(tr_decoding *decoding, tr_str type, tr_str data, bool last) {
    data = tri_trim(data);
    if (data.size == 0) {
        return TR_OK;
    }
    tr_json *json = NULL;
    tr_err err = tr_json_parse(data.ptr, data.size, &json, NULL);
    if (err == TR_ERR_NOMEM) {
        return err;
    }
    if (err != TR_OK) {
        /* Some gateways end a stream as OpenAI does. */
        bool lenient = last || tri_same(type, "bare") || tri_same(data, "[DONE]");
        return tri_odd_event(decoding, tri_same(type, "error"), lenient, data);
    }
    const tr_json_value *root = tr_json_root(json);
    tr_str inner = tr_json_string(tr_json_get(root, "type"));
    err = take_object(decoding, root, inner.size > 0 ? inner : type);
    tr_json_free(json);
    return err;
}

static tr_err take_object(tr_decoding *decoding, const tr_json_value *root, tr_str type) {
    tri_anthropic *state = decoding->state;
    int64_t index = tr_json_int(tr_json_get(root, "index"), -1);
    if (is_error(root, type)) {
        return take_error(decoding, root);
    }
    if (tri_same(type, "message_start")) {
        return take_start(decoding, tr_json_get(root, "message"));
    }
    if (tri_same(type, "content_block_start")) {
        state->begun = true;
        return tri_anthropic_begin(decoding, index, tr_json_get(root, "content_block"));
    }
    if (tri_same(type, "content_block_delta")) {
        state->begun = true;
        return tri_anthropic_add(decoding, index, tr_json_get(root, "delta"));
    }
    if (tri_same(type, "content_block_stop")) {
        return tri_anthropic_end(decoding, index);
    }
    if (tri_same(type, "message_delta")) {
        return take_delta(decoding, root);
    }
    if (tri_same(type, "message_stop")) {
        if (!state->begun) {
            return tri_broken(decoding, TR_ERR_SERVER,
                              "the server sent a stream without an answer");
        }
        tr_err err = tri_anthropic_report(decoding);
        return err == TR_OK ? TR_DONE : err;
    }
    return TR_OK;
}

static bool is_error(const tr_json_value *root, tr_str type) {
    const tr_json_value *error = tr_json_get(root, "error");
    return tri_same(type, "error") || tri_is(error, TR_JSON_OBJECT) ||
           tri_is(error, TR_JSON_STRING);
}

static tr_err take_error(tr_decoding *decoding, const tr_json_value *root) {
    tri_keep(decoding->outcome->id, sizeof(decoding->outcome->id),
             tr_json_string(tr_json_get(root, "request_id")));
    return tri_openai_error(decoding, root, true);
}

static tr_err take_start(tr_decoding *decoding, const tr_json_value *message) {
    tri_anthropic *state = decoding->state;
    tr_outcome *outcome = decoding->outcome;
    state->begun = true;
    tri_keep(outcome->id, sizeof(outcome->id), tr_json_string(tr_json_get(message, "id")));
    tri_keep(outcome->model, sizeof(outcome->model), tr_json_string(tr_json_get(message, "model")));
    take_usage(decoding, tr_json_get(message, "usage"));
    return TR_OK;
}

static tr_err take_delta(tr_decoding *decoding, const tr_json_value *root) {
    ((tri_anthropic *)decoding->state)->begun = true;
    take_usage(decoding, tr_json_get(root, "usage"));
    return take_stop(decoding, tr_json_get(root, "delta"));
}

/* Writing into the cache costs a quarter more than reading afresh, and twice as much where it shall
 * last for an hour. The end of a stream says the sum again, but not how much of it is for an hour.
 */
static void take_surcharge(tri_anthropic *state, tr_usage_wire *to, const tr_json_value *usage) {
    const tr_json_value *split = tr_json_get(usage, "cache_creation");
    uint64_t all = tri_count(usage, "cache_creation_input_tokens");
    if (tri_is(split, TR_JSON_OBJECT)) {
        state->cache_hour = tri_count(split, "ephemeral_1h_input_tokens");
    }
    uint64_t hour = state->cache_hour < all ? state->cache_hour : all;
    uint64_t charged = hour * 2 + ((all - hour) * 5 + 3) / 4;
    if (all > 0 && charged <= UINT32_MAX) {
        to->surcharge = (uint32_t)charged;
    }
}

/* Counts are cumulative; what a later event leaves out stays as it was. */
static void take_usage(tr_decoding *decoding, const tr_json_value *usage) {
    tri_anthropic *state = decoding->state;
    tr_usage_wire *to = &decoding->outcome->usage;
    if (!tri_is(usage, TR_JSON_OBJECT)) {
        return;
    }
    const tr_json_value *details = tr_json_get(usage, "output_tokens_details");
    const struct {
        const tr_json_value *object;
        const char *name;
        uint64_t *to;
    } counts[] = {
        {usage, "input_tokens", &to->in},
        {usage, "output_tokens", &to->out},
        {usage, "cache_read_input_tokens", &to->cached},
        {usage, "cache_creation_input_tokens", &state->cache_creation},
        {details, "thinking_tokens", &to->reasoning},
    };
    decoding->outcome->has_usage = true;
    take_surcharge(state, to, usage);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        if (tri_is(tr_json_get(counts[i].object, counts[i].name), TR_JSON_NUMBER)) {
            *counts[i].to = tri_count(counts[i].object, counts[i].name);
        }
    }
}

/* The reason why the answer ends, and what only this provider says about it. */
static tr_err take_stop(tr_decoding *decoding, const tr_json_value *from) {
    static const struct {
        const char *word;
        tr_finish finish;
    } reasons[] = {
        {"end_turn", TR_FINISH_STOP},       {"stop_sequence", TR_FINISH_STOP},
        {"max_tokens", TR_FINISH_LENGTH},   {"model_context_window_exceeded", TR_FINISH_LENGTH},
        {"tool_use", TR_FINISH_TOOL_CALLS}, {"refusal", TR_FINISH_FILTERED},
    };
    static const char *const opaque[] = {"stop_sequence", "stop_details", "container"};
    tri_anthropic *state = decoding->state;
    tr_str reason = tr_json_string(tr_json_get(from, "stop_reason"));
    if (reason.size == 0) {
        return TR_OK;
    }
    decoding->outcome->finish = TR_FINISH_OTHER;
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (tri_same(reason, reasons[i].word)) {
            decoding->outcome->finish = (uint8_t)reasons[i].finish;
        }
    }
    tr_err err = tri_anthropic_report(decoding);
    for (size_t i = 0; i < sizeof(opaque) / sizeof(opaque[0]) && err == TR_OK; i++) {
        const tr_json_value *value = tr_json_get(from, opaque[i]);
        if (value != NULL && !tri_is(value, TR_JSON_NULL)) {
            err = tri_emit_opaque(decoding, 0, opaque[i], tr_json_raw(value));
        }
    }
    if (err == TR_OK && decoding->outcome->finish == TR_FINISH_OTHER) {
        err = tri_emit_opaque(decoding, 0, "stop_reason",
                              tr_json_raw(tr_json_get(from, "stop_reason")));
    }
    if (err == TR_OK && state->cache_creation > 0) {
        char text[32];
        int size = snprintf(text, sizeof(text), "%llu", (unsigned long long)state->cache_creation);
        state->cache_creation = 0;
        err = tri_emit_opaque(decoding, 0, "cache_creation_input_tokens",
                              (tr_str){text, (size_t)size});
    }
    return err;
}

tr_err tri_anthropic_whole(tr_decoding *decoding, tr_str body) {
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM
                   ? err
                   : tri_broken(decoding, TR_ERR_PROTOCOL, "the server's answer is not valid JSON");
    }
    const tr_json_value *root = tr_json_root(json);
    if (is_error(root, tr_json_string(tr_json_get(root, "type")))) {
        err = take_error(decoding, root);
    } else if (decoding->op == TR_OP_COUNT) {
        err = take_count(decoding, root);
    } else {
        err = take_message(decoding, root);
    }
    tr_json_free(json);
    return err == TR_OK ? TR_DONE : err;
}

static tr_err take_message(tr_decoding *decoding, const tr_json_value *root) {
    const tr_json_value *content = tr_json_get(root, "content");
    if (!tri_is(content, TR_JSON_ARRAY)) {
        return tri_broken(decoding, TR_ERR_SERVER,
                          "the server's answer holds neither content nor an error");
    }
    int64_t index = 0;
    tr_err err = take_start(decoding, root);
    const tr_json_value *block = tr_json_first(content);
    for (; block != NULL && err == TR_OK; block = tr_json_next(block), index++) {
        err = tri_anthropic_begin(decoding, index, block);
        if (err == TR_OK) {
            err = tri_anthropic_end(decoding, index);
        }
    }
    if (err == TR_OK) {
        err = tri_anthropic_report(decoding);
    }
    return err == TR_OK ? take_stop(decoding, root) : err;
}

static tr_err take_count(tr_decoding *decoding, const tr_json_value *root) {
    tr_err err = tri_emit_tokens(decoding, tr_json_get(root, "input_tokens"));
    decoding->outcome->has_usage = err == TR_OK;
    return err;
}

tr_err tri_anthropic_eof(tr_decoding *decoding, bool cut) {
    if (decoding->outcome->finish != 0) {
        return TR_DONE;
    }
    return tri_broken(decoding, TR_ERR_TRUNCATED,
                      cut ? "the connection broke off before the answer was complete"
                          : "the stream ended before the answer was complete");
}

/* A refusal names the request, which a header may have lost on the way. */
tr_err tri_anthropic_refusal(tr_decoding *decoding, tr_str body) {
    tr_json *json = NULL;
    if (tr_json_parse(body.ptr, body.size, &json, NULL) == TR_OK) {
        tri_keep(decoding->outcome->id, sizeof(decoding->outcome->id),
                 tr_json_string(tr_json_get(tr_json_root(json), "request_id")));
        tr_json_free(json);
    }
    return tri_openai_refusal(decoding, body);
}

void tri_anthropic_fini(tr_decoding *decoding) {
    tri_anthropic_blocks_fini(decoding->state);
}
