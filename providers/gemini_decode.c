/*
 * Answers of the gemini dialect: each event of a stream is a whole response of the same form as a
 * body, with the parts that are new. There is no [DONE]: a stream is complete when it ends after a
 * finishReason. Calls come whole and have no ids, so they get one of ours; a finish of STOP with
 * calls means that they are to be made. Thought signatures, images, code and whatever else text and
 * calls do not say go out at the end, with all parts of the answer, in one opaque field.
 *
 * Called by decoder.c; pure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/fault.h"
#include "providers/gemini.h"
#include "providers/gemini_internal.h"
#include "providers/openai_internal.h"

#define CALLS_max 1024U
#define PARTS_max (16U * 1024U * 1024U)

static tr_err take_root(tr_decoding *decoding, const tr_json_value *root);
static tr_err take_error(tr_decoding *decoding, const tr_json_value *root, bool certain);
static tr_err take_candidate(tr_decoding *decoding, const tr_json_value *candidate);
static tr_err take_part(tr_decoding *decoding, const tr_json_value *part, uint32_t choice);
static tr_err take_call(tr_decoding *decoding, const tr_json_value *call, uint32_t choice);
static tr_err keep_part(tr_decoding *decoding, const tr_json_value *part);
static tr_err take_finish(tr_decoding *decoding, const tr_json_value *candidate);
static void take_usage(tr_outcome *outcome, const tr_json_value *usage);
static tr_err take_embeddings(tr_decoding *decoding, const tr_json_value *root);
static tr_err finish(tr_decoding *decoding);

tr_err tri_gemini_event(tr_decoding *decoding, tr_str type, tr_str data, bool last) {
    data = tri_trim(data);
    bool bare = tri_same(type, "bare");
    bool error = tri_same(type, "error");
    tr_json *json = NULL;
    if (data.size == 0) {
        return TR_OK;
    }
    if (tri_same(data, "[DONE]")) {
        return tri_gemini_eof(decoding, false); /* of proxies */
    }
    tr_err err = tr_json_parse(data.ptr, data.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM ? err : tri_odd_event(decoding, error, bare || last, data);
    }
    const tr_json_value *root = tr_json_root(json);
    err = error || bare ? take_error(decoding, root, error) : take_root(decoding, root);
    tr_json_free(json);
    return err;
}

tr_err tri_gemini_whole(tr_decoding *decoding, tr_str body) {
    tri_gemini *state = decoding->state;
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM
                   ? err
                   : tri_broken(decoding, TR_ERR_PROTOCOL, "the server's answer is not valid JSON");
    }
    const tr_json_value *root = tr_json_root(json);
    if (decoding->op == TR_OP_EMBED) {
        err = take_embeddings(decoding, root);
    } else if (decoding->op == TR_OP_COUNT && tr_json_get(root, "totalTokens") != NULL) {
        err = tri_emit_tokens(decoding, tr_json_get(root, "totalTokens"));
    } else if (tri_is(root, TR_JSON_ARRAY)) {
        /* A stream without alt=sse, or an error in its form. */
        const tr_json_value *one = tr_json_first(root);
        for (; one != NULL && err == TR_OK; one = tr_json_next(one)) {
            err = take_root(decoding, one);
        }
    } else {
        err = take_root(decoding, root);
    }
    tr_json_free(json);
    if (err == TR_OK && decoding->op == TR_OP_CHAT) {
        return decoding->outcome->finish != 0 ? finish(decoding)
               : state->saw_answer
                   ? tri_broken(decoding, TR_ERR_TRUNCATED, "the answer has no end")
                   : tri_broken(decoding, TR_ERR_SERVER,
                                "the server's answer holds neither candidates nor an error");
    }
    if (err == TR_OK && decoding->outcome->finish == 0) {
        return tri_broken(decoding, TR_ERR_SERVER, "the server's answer holds no count");
    }
    return err == TR_OK ? TR_DONE : err;
}

tr_err tri_gemini_eof(tr_decoding *decoding, bool cut) {
    if (decoding->outcome->finish != 0) {
        return finish(decoding);
    }
    return tri_broken(decoding, TR_ERR_TRUNCATED,
                      cut ? "the connection broke off before the answer was complete"
                          : "the stream ended before the answer was complete");
}

tr_err tri_gemini_refusal(tr_decoding *decoding, tr_str body) {
    tr_json *json = NULL;
    tr_err err = tr_json_parse(body.ptr, body.size, &json, NULL);
    if (err != TR_OK) {
        return tri_openai_refusal(decoding, body);
    }
    err = take_error(decoding, tr_json_root(json), true);
    tr_json_free(json);
    return err;
}

void tri_gemini_fini(tr_decoding *decoding) {
    tri_gemini *state = decoding->state;
    if (state->has_parts) {
        tr_jsonw_fini(&state->parts);
    }
}

/* "48s" or "48.9s": google.protobuf.Duration. */
static uint32_t duration_ms(tr_str text) {
    char number[32];
    char *end = NULL;
    if (text.size < 2 || text.size >= sizeof(number) || text.ptr[text.size - 1] != 's') {
        return 0;
    }
    memcpy(number, text.ptr, text.size);
    number[text.size] = '\0';
    unsigned long whole = strtoul(number, &end, 10);
    unsigned long ms = 0;
    if (*end == '.') {
        unsigned long unit = 100;
        for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10) {
            ms += (unsigned long)(*end - '0') * unit;
        }
    }
    if (*end != 's' || number[0] < '0' || number[0] > '9' || whole > TR_TIMEOUT_MS_max / 1000) {
        return 0;
    }
    return (uint32_t)(whole * 1000 + ms);
}

/* Whether a quota of the whole day is used up: to wait the seconds that are advised is of no use.
 */
static bool of_the_day(const tr_json_value *violations) {
    bool found = false;
    const tr_json_value *one = tr_json_first(violations);
    for (; one != NULL && !found; one = tr_json_next(one)) {
        found = tr_fault_has(tr_json_string(tr_json_get(one, "quotaId")), "PerDay");
    }
    return found;
}

/* google.rpc.Status: {code, message, status, details}. The details name a bad key, which is only
 * 400 by status, and when to come again. */
static tr_err take_error(tr_decoding *decoding, const tr_json_value *root, bool certain) {
    if (tri_is(root, TR_JSON_ARRAY) && tr_json_count(root) > 0) {
        root = tr_json_first(root);
    }
    tr_outcome *outcome = decoding->outcome;
    const tr_json_value *error = tr_json_get(root, "error");
    const tr_json_value *detail = tr_json_first(tr_json_get(error, "details"));
    tr_str message = tr_json_string(tr_json_get(error, "message"));
    tr_err err = TR_OK;
    if (!tri_is(error, TR_JSON_OBJECT)) {
        return tri_openai_error(decoding, root, certain);
    }
    tr_fault fault = {.status = decoding->status,
                      .type = tr_json_string(tr_json_get(error, "status")),
                      .code = {"", 0},
                      .message = message};
    for (; detail != NULL; detail = tr_json_next(detail)) {
        uint32_t after_ms = duration_ms(tr_json_string(tr_json_get(detail, "retryDelay")));
        outcome->retry_after_ms = after_ms > 0 ? after_ms : outcome->retry_after_ms;
        tr_str reason = tr_json_string(tr_json_get(detail, "reason"));
        if (tr_fault_has(reason, "API_KEY")) {
            err = TR_ERR_AUTH;
        }
        if (of_the_day(tr_json_get(detail, "violations"))) {
            err = TR_ERR_QUOTA;
        }
    }
    int64_t code = tr_json_int(tr_json_get(error, "code"), 0);
    if (fault.status >= 200 && fault.status < 300) {
        fault.status = code >= 400 && code <= 599 ? (uint16_t)code : 0;
    }
    outcome->message[0] = '\0';
    tri_keep(outcome->message, sizeof(outcome->message),
             message.size > 0 ? message : tr_json_raw(error));
    if (err == TR_OK && tr_fault_has(message, "token count") &&
        tr_fault_has(message, "exceeds the maximum number of tokens")) {
        err = TR_ERR_CONTEXT_LENGTH;
    }
    return err == TR_OK ? tr_fault_classify(&fault) : err;
}

/* The prompt itself was refused: there is no answer, and never will be one. */
static tr_err blocked(tr_decoding *decoding, const tr_json_value *feedback) {
    tr_str reason = tr_json_string(tr_json_get(feedback, "blockReason"));
    tr_str more = tr_json_string(tr_json_get(feedback, "blockReasonMessage"));
    if (reason.size == 0) {
        return TR_OK;
    }
    char why[TR_MESSAGE_max + 1];
    snprintf(why, sizeof(why), "the provider's filter refused the prompt (%.*s)%s%.*s",
             (int)(reason.size < 64 ? reason.size : 64), reason.ptr, more.size > 0 ? ": " : "",
             (int)tr_utf8_cut(more.ptr == NULL ? "" : more.ptr, more.size, 1024),
             more.ptr == NULL ? "" : more.ptr);
    decoding->outcome->finish = TR_FINISH_FILTERED;
    return tri_broken(decoding, TR_ERR_FILTERED, why);
}

static tr_err take_root(tr_decoding *decoding, const tr_json_value *root) {
    tr_outcome *outcome = decoding->outcome;
    take_usage(outcome, tr_json_get(root, "usageMetadata"));
    const tr_json_value *error = tr_json_get(root, "error");
    if (error != NULL && !tri_is(error, TR_JSON_NULL)) {
        return take_error(decoding, root, true);
    }
    tri_keep(outcome->id, sizeof(outcome->id), tr_json_string(tr_json_get(root, "responseId")));
    tri_keep(outcome->model, sizeof(outcome->model),
             tr_json_string(tr_json_get(root, "modelVersion")));
    tr_err err = blocked(decoding, tr_json_get(root, "promptFeedback"));
    const tr_json_value *candidate = tr_json_first(tr_json_get(root, "candidates"));
    for (; candidate != NULL && err == TR_OK; candidate = tr_json_next(candidate)) {
        err = take_candidate(decoding, candidate);
    }
    return err;
}

static tr_err take_candidate(tr_decoding *decoding, const tr_json_value *candidate) {
    static const char *const opaque[] = {"groundingMetadata", "citationMetadata",
                                         "urlContextMetadata", "logprobsResult"};
    tri_gemini *state = decoding->state;
    int64_t index = tr_json_int(tr_json_get(candidate, "index"), 0);
    if (index < 0 || index >= TRI_GEMINI_CHOICES_max) {
        return tri_broken(decoding, TR_ERR_PROTOCOL, "the server numbers its candidates wrongly");
    }
    state->saw_answer = true;
    tr_err err = TR_OK;
    const tr_json_value *part =
        tr_json_first(tr_json_get(tr_json_get(candidate, "content"), "parts"));
    for (; part != NULL && err == TR_OK; part = tr_json_next(part)) {
        err = take_part(decoding, part, (uint32_t)index);
    }
    for (size_t i = 0; i < sizeof(opaque) / sizeof(opaque[0]) && err == TR_OK; i++) {
        const tr_json_value *value = tr_json_get(candidate, opaque[i]);
        if (tri_is(value, TR_JSON_OBJECT) && tr_json_count(value) > 0) {
            err = tri_emit_opaque(decoding, (uint32_t)index, opaque[i], tr_json_raw(value));
        }
    }
    return err == TR_OK && index == 0 ? take_finish(decoding, candidate) : err;
}

static tr_err take_part(tr_decoding *decoding, const tr_json_value *part, uint32_t choice) {
    const tr_json_value *call = tr_json_get(part, "functionCall");
    bool thought = tr_json_bool(tr_json_get(part, "thought"), false);
    tr_err err = tri_emit_text(decoding, thought ? TR_DELTA_REASONING : TR_DELTA_TEXT, choice,
                               tr_json_string(tr_json_get(part, "text")));
    if (err == TR_OK && tri_is(call, TR_JSON_OBJECT)) {
        err = take_call(decoding, call, choice);
    }
    return err == TR_OK && choice == 0 ? keep_part(decoding, part) : err;
}

static tr_err take_call(tr_decoding *decoding, const tr_json_value *call, uint32_t choice) {
    tri_gemini *state = decoding->state;
    const tr_json_value *args = tr_json_get(call, "args");
    tr_str id = tr_json_string(tr_json_get(call, "id"));
    uint32_t tool = state->tools[choice]++;
    char made[sizeof(decoding->outcome->id) + 32];
    if (tool == CALLS_max) {
        return tri_broken(decoding, TR_ERR_PROTOCOL, "the server made too many tool calls");
    }
    if (id.size == 0) {
        int size = snprintf(made, sizeof(made), TRI_GEMINI_ID "%s-%u", decoding->outcome->id,
                            (unsigned)tool);
        id = (tr_str){made, (size_t)size};
    }
    tr_err err =
        tri_emit_call(decoding, choice, tool, id, tr_json_string(tr_json_get(call, "name")));
    if (err == TR_OK) {
        err = tri_emit_args(decoding, choice, tool,
                            tri_is(args, TR_JSON_OBJECT) ? tr_json_raw(args) : (tr_str){"{}", 2});
    }
    return err;
}

/* Thoughts are not asked for again, unless they are signed. */
static tr_err keep_part(tr_decoding *decoding, const tr_json_value *part) {
    tri_gemini *state = decoding->state;
    bool signed_part = tr_json_get(part, "thoughtSignature") != NULL;
    bool thought = tr_json_bool(tr_json_get(part, "thought"), false);
    bool plain = tr_json_get(part, "text") != NULL || tr_json_get(part, "functionCall") != NULL;
    if (!tri_is(part, TR_JSON_OBJECT) || (thought && !signed_part)) {
        return TR_OK;
    }
    if (!state->has_parts) {
        tr_jsonw_init(&state->parts);
        tr_jsonw_open(&state->parts, '[');
        state->has_parts = true;
    }
    if (tr_json_raw(part).size > PARTS_max - state->parts.size) {
        return tri_broken(decoding, TR_ERR_TOO_LARGE,
                          "the server's answer is larger than its limit");
    }
    state->worth = state->worth || signed_part || !plain;
    tr_jsonw_raw(&state->parts, tr_json_raw(part));
    return state->parts.err;
}

static tr_err take_finish(tr_decoding *decoding, const tr_json_value *candidate) {
    static const struct {
        const char *word;
        uint8_t finish;
    } reasons[] = {
        {"STOP", TR_FINISH_STOP},
        {"MAX_TOKENS", TR_FINISH_LENGTH},
        {"SAFETY", TR_FINISH_FILTERED},
        {"RECITATION", TR_FINISH_FILTERED},
        {"BLOCKLIST", TR_FINISH_FILTERED},
        {"PROHIBITED_CONTENT", TR_FINISH_FILTERED},
        {"SPII", TR_FINISH_FILTERED},
        {"IMAGE_SAFETY", TR_FINISH_FILTERED},
        {"IMAGE_PROHIBITED_CONTENT", TR_FINISH_FILTERED},
        {"IMAGE_RECITATION", TR_FINISH_FILTERED},
    };
    /* No answer, but a model that went astray: another try may do better. */
    static const char *const failures[] = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL",
                                           "MALFORMED_RESPONSE", "TOO_MANY_TOOL_CALLS"};
    tr_str reason = tr_json_string(tr_json_get(candidate, "finishReason"));
    tr_str more = tr_json_string(tr_json_get(candidate, "finishMessage"));
    if (reason.size == 0) {
        return TR_OK;
    }
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        if (tri_same(reason, failures[i])) {
            char why[TR_MESSAGE_max + 1];
            snprintf(why, sizeof(why), "the model's answer broke off (%s)%s%.*s", failures[i],
                     more.size > 0 ? ": " : "",
                     (int)tr_utf8_cut(more.ptr == NULL ? "" : more.ptr, more.size, 1024),
                     more.ptr == NULL ? "" : more.ptr);
            return tri_broken(decoding, TR_ERR_SERVER, why);
        }
    }
    decoding->outcome->finish = TR_FINISH_OTHER;
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (tri_same(reason, reasons[i].word)) {
            decoding->outcome->finish = reasons[i].finish;
        }
    }
    return TR_OK;
}

/* Each event repeats what was used so far. */
static void take_usage(tr_outcome *outcome, const tr_json_value *usage) {
    if (!tri_is(usage, TR_JSON_OBJECT)) {
        return;
    }
    tr_usage_wire *to = &outcome->usage;
    outcome->has_usage = true;
    to->in = tri_count(usage, "promptTokenCount") + tri_count(usage, "toolUsePromptTokenCount");
    to->reasoning = tri_count(usage, "thoughtsTokenCount");
    to->out = tri_count(usage, "candidatesTokenCount") + to->reasoning;
    to->cached = tri_count(usage, "cachedContentTokenCount");
}

static tr_err take_embeddings(tr_decoding *decoding, const tr_json_value *root) {
    take_usage(decoding->outcome, tr_json_get(root, "usageMetadata"));
    const tr_json_value *list = tr_json_get(root, "embeddings");
    tr_err err = take_error(decoding, root, false);
    if (err != TR_OK) {
        return err;
    }
    if (!tri_is(list, TR_JSON_ARRAY)) {
        return tri_broken(decoding, TR_ERR_SERVER, "the server's answer holds no embeddings");
    }
    uint32_t index = 0;
    const tr_json_value *item = tr_json_first(list);
    for (; item != NULL && err == TR_OK; item = tr_json_next(item)) {
        const tr_json_value *vector = tr_json_get(item, "values");
        if (index > UINT16_MAX || !tri_is(vector, TR_JSON_ARRAY)) {
            return tri_broken(decoding, TR_ERR_PROTOCOL,
                              "the server sent an embedding without form");
        }
        err = tri_emit_vector(decoding, vector, index++);
    }
    decoding->outcome->finish = err == TR_OK ? TR_FINISH_STOP : 0;
    return err;
}

/* The end of an answer that is complete. */
static tr_err finish(tr_decoding *decoding) {
    tri_gemini *state = decoding->state;
    if (decoding->outcome->finish == TR_FINISH_STOP && state->tools[0] > 0) {
        decoding->outcome->finish = TR_FINISH_TOOL_CALLS;
    }
    if (!state->has_parts || !state->worth) {
        return TR_DONE;
    }
    char *text = NULL;
    size_t size = 0;
    tr_jsonw_close(&state->parts, ']');
    state->has_parts = false;
    tr_err err = tr_jsonw_take(&state->parts, &text, &size);
    if (err == TR_OK) {
        err = tri_emit_opaque(decoding, 0, TR_GEMINI_PARTS, (tr_str){text, size});
        free(text);
    }
    return err == TR_OK ? TR_DONE : err;
}
