/*
 * Answers of the ollama dialect: lines of JSON, of which a whole answer is the only one, and an
 * embedding's body. /api/chat says message.content and message.thinking, /api/generate `response`
 * and `thinking`; tool calls come whole, their arguments as an object, and may lack an id, which a
 * tool's result has to name: then they get one. The last line says done and the counts, of which a
 * missing one is 0. A stream without that line was cut. An error may come as any line.
 *
 * Called by decoder.c; pure.
 */
#include <stdio.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/ollama_internal.h"
#include "providers/openai_internal.h"

#define CALLS_max 1024U

static tr_err take_line(tr_decoding *decoding, const tr_json_value *root);
static tr_err take_calls(tr_decoding *decoding, const tr_json_value *calls);
static tr_err take_call(tr_decoding *decoding, const tr_json_value *call);
static tr_err take_logprobs(tr_decoding *decoding, const tr_json_value *logprobs);
static void take_end(tr_decoding *decoding, const tr_json_value *root);
static void take_usage(tr_outcome *outcome, const tr_json_value *root);
static void take_model(tr_outcome *outcome, const tr_json_value *root);
static tr_err take_embeddings(tr_decoding *decoding, const tr_json_value *root);

tr_err tri_ollama_event(tr_decoding *decoding, tr_str type, tr_str data, bool last) {
    (void)type;
    if (data.size > 0 && data.ptr[data.size - 1] == '\r') {
        data.size--;
    }
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
        /* A last line that is no JSON was cut in the middle: the end of the stream tells. */
        return last ? TR_OK
                    : tri_broken(decoding, TR_ERR_PROTOCOL,
                                 "the server's stream holds a line that is not JSON");
    }
    err = take_line(decoding, tr_json_root(json));
    tr_json_free(json);
    return err;
}

tr_err tri_ollama_whole(tr_decoding *decoding, tr_str body) {
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM
                   ? err
                   : tri_broken(decoding, TR_ERR_PROTOCOL, "the server's answer is not valid JSON");
    }
    err = take_embeddings(decoding, tr_json_root(json));
    tr_json_free(json);
    return err == TR_OK ? TR_DONE : err;
}

tr_err tri_ollama_eof(tr_decoding *decoding, bool cut) {
    return tri_broken(decoding, TR_ERR_TRUNCATED,
                      cut ? "the connection broke off before the answer was complete"
                          : "the stream ended before the answer was complete");
}

void tri_ollama_fini(tr_decoding *decoding) {
    (void)decoding; /* nothing is kept beyond the state itself */
}

static tr_err take_line(tr_decoding *decoding, const tr_json_value *root) {
    tr_err err = tri_openai_error(decoding, root, false);
    if (err != TR_OK) {
        take_usage(decoding->outcome, root);
        return err;
    }
    take_model(decoding->outcome, root);
    const tr_json_value *message = tr_json_get(root, "message");
    bool generated = !tri_is(message, TR_JSON_OBJECT);
    const tr_json_value *from = generated ? root : message;
    err = tri_emit_text(decoding, TR_DELTA_REASONING, 0,
                        tr_json_string(tr_json_get(from, "thinking")));
    if (err == TR_OK) {
        err = tri_emit_text(decoding, TR_DELTA_TEXT, 0,
                            tr_json_string(tr_json_get(from, generated ? "response" : "content")));
    }
    if (err == TR_OK) {
        err = take_calls(decoding, tr_json_get(from, "tool_calls"));
    }
    if (err == TR_OK) {
        err = take_logprobs(decoding, tr_json_get(root, "logprobs"));
    }
    if (err != TR_OK || !tr_json_bool(tr_json_get(root, "done"), false)) {
        return err;
    }
    take_end(decoding, root);
    return TR_DONE;
}

static tr_err take_calls(tr_decoding *decoding, const tr_json_value *calls) {
    tr_err err = TR_OK;
    if (!tri_is(calls, TR_JSON_ARRAY)) {
        return TR_OK;
    }
    const tr_json_value *call = tr_json_first(calls);
    for (; call != NULL && err == TR_OK; call = tr_json_next(call)) {
        err = take_call(decoding, call);
    }
    return err;
}

static tr_err take_call(tr_decoding *decoding, const tr_json_value *call) {
    tri_ollama *state = decoding->state;
    const tr_json_value *function = tr_json_get(call, "function");
    const tr_json_value *arguments = tr_json_get(function, "arguments");
    tr_str id = tr_json_string(tr_json_get(call, "id"));
    tr_str name = tr_json_string(tr_json_get(function, "name"));
    char own[24];
    if (state->calls == CALLS_max) {
        return tri_broken(decoding, TR_ERR_PROTOCOL, "the server sent too many tool calls");
    }
    if (id.size == 0) {
        snprintf(own, sizeof(own), "call_%u", (unsigned)state->calls);
        id = (tr_str){own, strlen(own)};
    }
    tr_str text = tr_json_string(arguments);
    if (tri_is(arguments, TR_JSON_OBJECT)) {
        text = tr_json_raw(arguments);
    } else if (text.size == 0) {
        text = (tr_str){"{}", 2};
    }
    uint32_t tool = state->calls++;
    tr_err err = tri_emit_call(decoding, 0, tool, id, name);
    return err == TR_OK ? tri_emit_args(decoding, 0, tool, text) : err;
}

/* As it was written, unless it says nothing. */
static tr_err take_logprobs(tr_decoding *decoding, const tr_json_value *logprobs) {
    if (!tri_is(logprobs, TR_JSON_ARRAY) || tr_json_count(logprobs) == 0) {
        return TR_OK;
    }
    return tri_emit_opaque(decoding, 0, "logprobs", tr_json_raw(logprobs));
}

/* A server older than done_reason ends without one. An answer that calls tools ends with "stop". */
static void take_end(tr_decoding *decoding, const tr_json_value *root) {
    const tri_ollama *state = decoding->state;
    tr_str reason = tr_json_string(tr_json_get(root, "done_reason"));
    bool stopped = reason.size == 0 || tri_same(reason, "stop");
    take_usage(decoding->outcome, root);
    decoding->outcome->finish = tri_same(reason, "length")    ? TR_FINISH_LENGTH
                                : stopped && state->calls > 0 ? TR_FINISH_TOOL_CALLS
                                : stopped                     ? TR_FINISH_STOP
                                                              : TR_FINISH_OTHER;
}

static void take_usage(tr_outcome *outcome, const tr_json_value *root) {
    outcome->has_usage = true;
    outcome->usage.in = tri_count(root, "prompt_eval_count");
    outcome->usage.out = tri_count(root, "eval_count");
}

static void take_model(tr_outcome *outcome, const tr_json_value *root) {
    tri_keep(outcome->model, sizeof(outcome->model), tr_json_string(tr_json_get(root, "model")));
}

/* {embeddings: [[…], …]} of /api/embed, {embedding: […]} of the older /api/embeddings. */
static tr_err take_embeddings(tr_decoding *decoding, const tr_json_value *root) {
    tr_err err = tri_openai_error(decoding, root, false);
    if (err != TR_OK) {
        return err;
    }
    take_model(decoding->outcome, root);
    take_usage(decoding->outcome, root);
    const tr_json_value *vectors = tr_json_get(root, "embeddings");
    const tr_json_value *single = tr_json_get(root, "embedding");
    if (tri_is(single, TR_JSON_ARRAY)) {
        err = tri_emit_vector(decoding, single, 0);
    } else if (!tri_is(vectors, TR_JSON_ARRAY) || tr_json_count(vectors) > UINT16_MAX + 1U) {
        return tri_broken(decoding, TR_ERR_SERVER, "the server's answer holds no embeddings");
    } else {
        uint32_t index = 0;
        const tr_json_value *vector = tr_json_first(vectors);
        for (; vector != NULL && err == TR_OK; vector = tr_json_next(vector)) {
            err = tri_emit_vector(decoding, vector, index++);
        }
    }
    if (err == TR_OK) {
        decoding->outcome->finish = TR_FINISH_STOP;
    }
    return err;
}
