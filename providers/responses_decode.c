/*
 * Answers of the responses dialect. A stream tells everything up to three times: in deltas, in the
 * "done" event of each part, and whole in the terminal event. The first that comes counts, item by
 * item, so servers that leave one of them out are understood too, and a whole body is read as its
 * terminal event. Reasoning items, marked messages and anything else that text and calls do not say
 * are handed out once more, as the whole output in one opaque field. Only a terminal event makes an
 * answer complete.
 *
 * Called by decoder.c; pure.
 */
#include <stdlib.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/openai_internal.h"
#include "providers/responses.h"
#include "providers/responses_internal.h"
#include "runtime/memory.h"

#define ITEMS_max 4096U
#define OUTPUT_max (16U * 1024U * 1024U)

static tr_err take_event(tr_decoding *decoding, tr_str type, const tr_json_value *root);
static tr_err take_delta(tr_decoding *decoding, const tr_json_value *root, tr_delta_kind kind,
                         bool done);
static tr_err take_refused(tr_decoding *decoding, const tr_json_value *root, bool done);
static tr_err take_item(tr_decoding *decoding, int64_t index, const tr_json_value *item, bool done);
static tr_err take_call(tr_decoding *decoding, tri_responses_item *known, const tr_json_value *item,
                        bool done);
static tr_err take_message(tr_decoding *decoding, tri_responses_item *known,
                           const tr_json_value *item);
static tr_err take_thoughts(tr_decoding *decoding, tri_responses_item *known,
                            const tr_json_value *item);
static tr_err keep_item(tr_decoding *decoding, const tr_json_value *item);
static tr_err take_response(tr_decoding *decoding, const tr_json_value *response);
static tr_err finish(tr_decoding *decoding, const tr_json_value *response);
static tr_err find_item(tr_decoding *decoding, int64_t index, tri_responses_item **ret);
static tr_err add_refusal(tr_decoding *decoding, tr_str text);

tr_err tri_responses_event(tr_decoding *decoding, tr_str type, tr_str data, bool last) {
    data = tri_trim(data);
    if (data.size == 0) {
        return TR_OK;
    }
    if (tri_same(data, "[DONE]")) {
        return tri_responses_eof(decoding, false);
    }
    bool bare = tri_same(type, "bare");
    bool error = tri_same(type, "error");
    tr_json *json = NULL;
    tr_err err = tr_json_parse(data.ptr, data.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM ? err : tri_odd_event(decoding, error, bare || last, data);
    }
    const tr_json_value *root = tr_json_root(json);
    tr_str said = tr_json_string(tr_json_get(root, "type"));
    if (error || tri_same(said, "error")) {
        err = tri_openai_error(decoding, root, true);
    } else if (said.size == 0) {
        err = tri_openai_error(decoding, root, false);
    } else {
        err = take_event(decoding, said, root);
    }
    tr_json_free(json);
    return err;
}

tr_err tri_responses_whole(tr_decoding *decoding, tr_str body) {
    if (decoding->op == TR_OP_EMBED) {
        return tri_openai_whole(decoding, body);
    }
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM
                   ? err
                   : tri_broken(decoding, TR_ERR_PROTOCOL, "the server's answer is not valid JSON");
    }
    const tr_json_value *root = tr_json_root(json);
    const tr_json_value *tokens = tr_json_get(root, "input_tokens");
    if (decoding->op == TR_OP_COUNT && tri_is(tokens, TR_JSON_NUMBER)) {
        err = tri_emit_tokens(decoding, tokens);
        err = err == TR_OK ? TR_DONE : err;
    } else if (decoding->op == TR_OP_CHAT && tri_is(tr_json_get(root, "output"), TR_JSON_ARRAY)) {
        err = take_response(decoding, root);
    } else {
        err = tri_openai_error(decoding, root, false);
        if (err == TR_OK) {
            err = tri_broken(decoding, TR_ERR_SERVER,
                             "the server's answer holds neither output nor an error");
        }
    }
    tr_json_free(json);
    return err;
}

tr_err tri_responses_eof(tr_decoding *decoding, bool cut) {
    return tri_broken(decoding, TR_ERR_TRUNCATED,
                      cut ? "the connection broke off before the answer was complete"
                          : "the stream ended before the answer was complete");
}

/* An unknown model is 400 here, and counts as what that status says: a mistake in the request. */
tr_err tri_responses_refusal(tr_decoding *decoding, tr_str body) {
    tr_err err = tri_openai_refusal(decoding, body);
    return err == TR_ERR_NOT_FOUND && decoding->status == 400 ? TR_ERR_INVALID : err;
}

void tri_responses_fini(tr_decoding *decoding) {
    tri_responses *state = decoding->state;
    tr_free(state->items);
    tr_free(state->refusal);
    if (state->has_output) {
        tr_jsonw_fini(&state->output);
    }
}

static tr_err take_event(tr_decoding *decoding, tr_str type, const tr_json_value *root) {
    static const struct {
        const char *name;
        tr_delta_kind kind;
        bool done;
    } texts[] = {
        {"response.output_text.delta", TR_DELTA_TEXT, false},
        {"response.output_text.done", TR_DELTA_TEXT, true},
        {"response.reasoning_summary_text.delta", TR_DELTA_REASONING, false},
        {"response.reasoning_summary_text.done", TR_DELTA_REASONING, true},
        {"response.reasoning_text.delta", TR_DELTA_REASONING, false},
        {"response.reasoning_text.done", TR_DELTA_REASONING, true},
        {"response.function_call_arguments.delta", TR_DELTA_TOOL_ARGS, false},
        {"response.function_call_arguments.done", TR_DELTA_TOOL_ARGS, true},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (tri_same(type, texts[i].name)) {
            return take_delta(decoding, root, texts[i].kind, texts[i].done);
        }
    }
    bool refused = tri_same(type, "response.refusal.done");
    if (refused || tri_same(type, "response.refusal.delta")) {
        return take_refused(decoding, root, refused);
    }
    bool done = tri_same(type, "response.output_item.done");
    if (done || tri_same(type, "response.output_item.added")) {
        return take_item(decoding, tr_json_int(tr_json_get(root, "output_index"), 0),
                         tr_json_get(root, "item"), done);
    }
    const tr_json_value *response = tr_json_get(root, "response");
    if (tri_same(type, "response.completed") || tri_same(type, "response.incomplete") ||
        tri_same(type, "response.failed") || tri_same(type, "response.cancelled")) {
        return take_response(decoding, response);
    }
    tr_outcome *outcome = decoding->outcome;
    tri_keep(outcome->id, sizeof(outcome->id), tr_json_string(tr_json_get(response, "id")));
    tri_keep(outcome->model, sizeof(outcome->model),
             tr_json_string(tr_json_get(response, "model")));
    return TR_OK;
}

static tr_err find_item(tr_decoding *decoding, int64_t index, tri_responses_item **ret) {
    tri_responses *state = decoding->state;
    for (uint32_t i = state->item_count; i > 0; i--) {
        if (state->items[i - 1].index == index) {
            *ret = &state->items[i - 1];
            return TR_OK;
        }
    }
    if (index < 0 || state->item_count == ITEMS_max) {
        return tri_broken(decoding, TR_ERR_PROTOCOL, "the server numbers its output wrongly");
    }
    if (state->item_count == state->item_room) {
        uint32_t room = state->item_room == 0 ? 8 : state->item_room * 2;
        tri_responses_item *grown = tr_realloc(state->items, room * sizeof(*grown));
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        state->items = grown;
        state->item_room = room;
    }
    state->items[state->item_count] = (tri_responses_item){.index = index};
    *ret = &state->items[state->item_count++];
    return TR_OK;
}

/* A "done" event repeats what deltas have said; where none came it says it. Arguments of a call
 * that has not begun are kept back: the item's own end will bring them. */
static tr_err take_delta(tr_decoding *decoding, const tr_json_value *root, tr_delta_kind kind,
                         bool done) {
    tri_responses_item *item = NULL;
    tr_err err = find_item(decoding, tr_json_int(tr_json_get(root, "output_index"), 0), &item);
    if (err != TR_OK) {
        return err;
    }
    bool arguments = kind == TR_DELTA_TOOL_ARGS;
    bool *said = kind == TR_DELTA_REASONING ? &item->thought : &item->said;
    tr_str text = tr_json_string(tr_json_get(root, !done       ? "delta"
                                                   : arguments ? "arguments"
                                                               : "text"));
    if ((done && *said) || text.size == 0 || (arguments && !item->started)) {
        return TR_OK;
    }
    *said = true;
    return arguments ? tri_emit_args(decoding, 0, item->tool, text)
                     : tri_emit_text(decoding, kind, 0, text);
}

static tr_err take_refused(tr_decoding *decoding, const tr_json_value *root, bool done) {
    tri_responses_item *item = NULL;
    tr_err err = find_item(decoding, tr_json_int(tr_json_get(root, "output_index"), 0), &item);
    if (err != TR_OK || (done && item->said)) {
        return err;
    }
    item->said = true;
    return add_refusal(decoding, tr_json_string(tr_json_get(root, done ? "refusal" : "delta")));
}

static tr_err add_refusal(tr_decoding *decoding, tr_str text) {
    tri_responses *state = decoding->state;
    if (text.size > OUTPUT_max - state->refusal_size) {
        return TR_ERR_TOO_LARGE;
    }
    if (state->refusal_size + text.size > state->refusal_room) {
        size_t room = 256 + 2 * (state->refusal_size + text.size);
        char *grown = tr_realloc(state->refusal, room);
        if (grown == NULL) {
            return TR_ERR_NOMEM;
        }
        state->refusal = grown;
        state->refusal_room = room;
    }
    if (text.size > 0) {
        memcpy(state->refusal + state->refusal_size, text.ptr, text.size);
    }
    state->refusal_size += text.size;
    return TR_OK;
}

static tr_err take_item(tr_decoding *decoding, int64_t index, const tr_json_value *item,
                        bool done) {
    tri_responses_item *known = NULL;
    tr_err err = find_item(decoding, index, &known);
    tr_str type = tr_json_string(tr_json_get(item, "type"));
    if (err != TR_OK || known->finished) {
        return err;
    }
    if (tri_same(type, "function_call")) {
        err = take_call(decoding, known, item, done);
    } else if (done && tri_same(type, "message")) {
        err = take_message(decoding, known, item);
    } else if (done && tri_same(type, "reasoning")) {
        err = take_thoughts(decoding, known, item);
    }
    if (err == TR_OK && done) {
        known->finished = true;
        err = keep_item(decoding, item);
    }
    return err;
}

static tr_err take_call(tr_decoding *decoding, tri_responses_item *known, const tr_json_value *item,
                        bool done) {
    tri_responses *state = decoding->state;
    tr_str name = tr_json_string(tr_json_get(item, "name"));
    if (!known->started && (name.size > 0 || done)) {
        tr_str id = tr_json_string(tr_json_get(item, "call_id"));
        id = id.size > 0 ? id : tr_json_string(tr_json_get(item, "id"));
        known->started = true;
        known->tool = state->tools++;
        tr_err err = tri_emit_call(decoding, 0, known->tool, id, name);
        if (err != TR_OK) {
            return err;
        }
    }
    if (!done || known->said) {
        return TR_OK;
    }
    known->said = true;
    const tr_json_value *arguments = tr_json_get(item, "arguments");
    return tri_emit_args(decoding, 0, known->tool,
                         tri_is(arguments, TR_JSON_OBJECT) ? tr_json_raw(arguments)
                                                           : tr_json_string(arguments));
}

static tr_err take_message(tr_decoding *decoding, tri_responses_item *known,
                           const tr_json_value *item) {
    tr_err err = TR_OK;
    const tr_json_value *part = known->said ? NULL : tr_json_first(tr_json_get(item, "content"));
    for (; part != NULL && err == TR_OK; part = tr_json_next(part)) {
        if (tri_same(tr_json_string(tr_json_get(part, "type")), "refusal")) {
            err = add_refusal(decoding, tr_json_string(tr_json_get(part, "refusal")));
        } else {
            err = tri_emit_text(decoding, TR_DELTA_TEXT, 0,
                                tr_json_string(tr_json_get(part, "text")));
        }
    }
    return err;
}

/* The summary, and what open models tell of the reasoning itself. */
static tr_err take_thoughts(tr_decoding *decoding, tri_responses_item *known,
                            const tr_json_value *item) {
    static const char *const places[] = {"summary", "content"};
    tr_err err = TR_OK;
    for (size_t i = 0; i < 2 && !known->thought; i++) {
        const tr_json_value *part = tr_json_first(tr_json_get(item, places[i]));
        for (; part != NULL && err == TR_OK; part = tr_json_next(part)) {
            err = tri_emit_text(decoding, TR_DELTA_REASONING, 0,
                                tr_json_string(tr_json_get(part, "text")));
        }
    }
    return err;
}

/* Whether an item says more than its text or its call does. */
static bool says_more(const tr_json_value *item) {
    tr_str type = tr_json_string(tr_json_get(item, "type"));
    if (!tri_same(type, "message")) {
        return !tri_same(type, "function_call");
    }
    if (tri_is(tr_json_get(item, "phase"), TR_JSON_STRING)) {
        return true;
    }
    const tr_json_value *part = tr_json_first(tr_json_get(item, "content"));
    for (; part != NULL; part = tr_json_next(part)) {
        tr_str kind = tr_json_string(tr_json_get(part, "type"));
        bool text = tri_same(kind, "output_text") || tri_same(kind, "refusal");
        if (!text || tr_json_count(tr_json_get(part, "annotations")) > 0 ||
            tr_json_count(tr_json_get(part, "logprobs")) > 0) {
            return true;
        }
    }
    return false;
}

static tr_err keep_item(tr_decoding *decoding, const tr_json_value *item) {
    tri_responses *state = decoding->state;
    if (!tri_is(item, TR_JSON_OBJECT)) {
        return TR_OK;
    }
    if (!state->has_output) {
        tr_jsonw_init(&state->output);
        tr_jsonw_open(&state->output, '[');
        state->has_output = true;
    }
    if (tr_json_raw(item).size > OUTPUT_max - state->output.size) {
        return tri_broken(decoding, TR_ERR_TOO_LARGE,
                          "the server's answer is larger than its limit");
    }
    tr_jsonw_raw(&state->output, tr_json_raw(item));
    state->worth = state->worth || says_more(item);
    return state->output.err;
}

static void take_usage(tr_outcome *outcome, const tr_json_value *usage) {
    if (!tri_is(usage, TR_JSON_OBJECT)) {
        return;
    }
    tr_usage_wire *to = &outcome->usage;
    outcome->has_usage = true;
    to->in = tri_count(usage, "input_tokens");
    to->out = tri_count(usage, "output_tokens");
    to->cached = tri_count(tr_json_get(usage, "input_tokens_details"), "cached_tokens");
    to->reasoning = tri_count(tr_json_get(usage, "output_tokens_details"), "reasoning_tokens");
    to->cost = tr_json_number(tr_json_get(usage, "cost"), to->cost);
}

/* A whole response, of a terminal event or a body: TR_DONE or a failure. */
static tr_err take_response(tr_decoding *decoding, const tr_json_value *response) {
    tr_outcome *outcome = decoding->outcome;
    if (!tri_is(response, TR_JSON_OBJECT)) {
        return tri_broken(decoding, TR_ERR_PROTOCOL, "the server's last event holds no response");
    }
    take_usage(outcome, tr_json_get(response, "usage"));
    tri_keep(outcome->id, sizeof(outcome->id), tr_json_string(tr_json_get(response, "id")));
    tri_keep(outcome->model, sizeof(outcome->model),
             tr_json_string(tr_json_get(response, "model")));
    tr_str status = tr_json_string(tr_json_get(response, "status"));
    tr_err err = tri_openai_error(decoding, response, tri_same(status, "failed"));
    if (err != TR_OK) {
        return err;
    }
    if (tri_same(status, "cancelled")) {
        return tri_broken(decoding, TR_ERR_SERVER, "the provider cancelled its answer");
    }
    if (tri_same(status, "in_progress") || tri_same(status, "queued")) {
        return tri_broken(decoding, TR_ERR_SERVER,
                          "the provider answers in the background, which cannot be waited for");
    }
    int64_t index = 0;
    const tr_json_value *item = tr_json_first(tr_json_get(response, "output"));
    for (; item != NULL && err == TR_OK; item = tr_json_next(item)) {
        err = take_item(decoding, index++, item, true);
    }
    return err == TR_OK ? finish(decoding, response) : err;
}

static tr_err emit_written(tr_decoding *decoding, const char *name, tr_jsonw *w) {
    char *text = NULL;
    size_t size = 0;
    tr_err err = tr_jsonw_take(w, &text, &size);
    if (err == TR_OK) {
        err = tri_emit_opaque(decoding, 0, name, (tr_str){text, size});
        free(text);
    }
    return err;
}

static tr_err finish(tr_decoding *decoding, const tr_json_value *response) {
    tri_responses *state = decoding->state;
    tr_outcome *outcome = decoding->outcome;
    tr_err err = TR_OK;
    outcome->finish = state->refusal_size > 0 ? TR_FINISH_FILTERED
                      : state->tools > 0      ? TR_FINISH_TOOL_CALLS
                                              : TR_FINISH_STOP;
    if (tri_same(tr_json_string(tr_json_get(response, "status")), "incomplete")) {
        tr_str reason =
            tr_json_string(tr_json_get(tr_json_get(response, "incomplete_details"), "reason"));
        outcome->finish = tri_same(reason, "max_output_tokens") ? TR_FINISH_LENGTH
                          : tri_same(reason, "content_filter")  ? TR_FINISH_FILTERED
                                                                : TR_FINISH_OTHER;
    }
    if (state->refusal_size > 0) {
        tr_jsonw w;
        tr_jsonw_init(&w);
        tr_jsonw_str(&w, (tr_str){state->refusal, state->refusal_size});
        err = emit_written(decoding, "refusal", &w);
    }
    if (err == TR_OK && state->has_output && state->worth) {
        tr_jsonw_close(&state->output, ']');
        state->has_output = false;
        err = emit_written(decoding, TR_RESPONSES_OUTPUT, &state->output);
    }
    return err == TR_OK ? TR_DONE : err;
}
