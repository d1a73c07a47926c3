/*
 * What the codecs share. Nothing here knows a vendor: a codec decides, these functions read and
 * write. Called by the dialects on the provider actor's shard; pure.
 */
#include "providers/codec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "providers/anthropic.h"
#include "providers/gemini.h"
#include "providers/responses.h"
#include "runtime/memory.h"

bool tri_is(const tr_json_value *value, tr_json_type type) {
    return value != NULL && tr_json_type_of(value) == type;
}

bool tri_same(tr_str text, const char *word) {
    return text.size == strlen(word) && (text.size == 0 || memcmp(text.ptr, word, text.size) == 0);
}

uint64_t tri_count(const tr_json_value *object, const char *name) {
    int64_t number = tr_json_int(tr_json_get(object, name), 0);
    return number > 0 ? (uint64_t)number : 0;
}

void tri_keep(char *to, size_t room, tr_str text) {
    if (to[0] == '\0' && text.size > 0) {
        size_t size = tr_utf8_cut(text.ptr, text.size, room - 1);
        memcpy(to, text.ptr, size);
        to[size] = '\0';
    }
}

tr_err tri_broken(tr_decoding *decoding, tr_err err, const char *why) {
    snprintf(decoding->outcome->message, sizeof(decoding->outcome->message), "%s", why);
    return err;
}

tr_err tri_odd_event(tr_decoding *decoding, bool error, bool lenient, tr_str data) {
    if (error && !tr_utf8_valid(data.ptr, data.size)) {
        return tri_broken(decoding, TR_ERR_SERVER, "the server reported an error that is no text");
    }
    if (error) {
        decoding->outcome->message[0] = '\0';
        tri_keep(decoding->outcome->message, sizeof(decoding->outcome->message), data);
        return TR_ERR_SERVER;
    }
    return lenient ? TR_OK
                   : tri_broken(decoding, TR_ERR_PROTOCOL,
                                "the server's stream holds an event that is not JSON");
}

tr_str tri_trim(tr_str data) {
    while (data.size > 0 && (data.ptr[data.size - 1] == ' ' || data.ptr[data.size - 1] == '\t')) {
        data.size--;
    }
    return data;
}

tr_err tri_emit_text(tr_decoding *decoding, tr_delta_kind kind, uint32_t choice, tr_str text) {
    if (text.size == 0) {
        return TR_OK;
    }
    tr_piece piece = {.kind = kind, .choice = choice, .text = text};
    return decoding->fn(decoding->arg, &piece);
}

tr_err tri_emit_call(tr_decoding *decoding, uint32_t choice, uint32_t tool, tr_str id,
                     tr_str name) {
    if (name.size > TR_NAME_max || id.size > TR_NAME_max) {
        return tri_broken(decoding, TR_ERR_PROTOCOL,
                          "the server names a tool call with more than 255 bytes");
    }
    tr_piece piece = {
        .kind = TR_DELTA_TOOL_START, .choice = choice, .tool = tool, .id = id, .name = name};
    return decoding->fn(decoding->arg, &piece);
}

tr_err tri_emit_args(tr_decoding *decoding, uint32_t choice, uint32_t tool, tr_str text) {
    if (text.size == 0) {
        return TR_OK;
    }
    tr_piece piece = {.kind = TR_DELTA_TOOL_ARGS, .choice = choice, .tool = tool, .text = text};
    return decoding->fn(decoding->arg, &piece);
}

tr_err tri_emit_opaque(tr_decoding *decoding, uint32_t choice, const char *name, tr_str json) {
    tr_piece piece = {
        .kind = TR_DELTA_OPAQUE, .choice = choice, .name = {name, strlen(name)}, .text = json};
    return decoding->fn(decoding->arg, &piece);
}

tr_err tri_emit_vector(tr_decoding *decoding, const tr_json_value *vector, uint32_t index) {
    size_t size = tr_json_count(vector) * sizeof(float);
    float *numbers = tr_alloc(size + 1);
    if (numbers == NULL) {
        return TR_ERR_NOMEM;
    }
    size_t filled = 0;
    bool sound = true;
    for (const tr_json_value *v = tr_json_first(vector); v != NULL; v = tr_json_next(v)) {
        float number = (float)tr_json_number(v, __builtin_nan(""));
        sound = sound && isfinite(number);
        numbers[filled++] = number;
    }
    tr_err err = TR_OK;
    if (!sound || filled == 0) {
        err = tri_broken(decoding, TR_ERR_PROTOCOL,
                         "the server sent an embedding that is no numbers");
    } else {
        err = tri_emit_opaque(decoding, index, "embedding", (tr_str){(const char *)numbers, size});
    }
    tr_free(numbers);
    return err;
}

tr_err tri_emit_tokens(tr_decoding *decoding, const tr_json_value *tokens) {
    char text[64];
    int64_t count = tr_json_int(tokens, -1);
    if (count < 0) {
        return tri_broken(decoding, TR_ERR_SERVER, "the server's answer holds no count of tokens");
    }
    int size = snprintf(text, sizeof(text), "{\"tokens\":%lld,\"exact\":true}", (long long)count);
    decoding->outcome->finish = TR_FINISH_STOP;
    return tri_emit_text(decoding, TR_DELTA_TEXT, 0, (tr_str){text, (size_t)size});
}

static bool in_list(tr_str name, const char *const *list) {
    while (*list != NULL && !tri_same(name, *list)) {
        list++;
    }
    return *list != NULL;
}

static void write_members(tr_jsonw *w, const tr_json_value *object, const char *const *reserved,
                          const char *const *also) {
    for (const tr_json_value *v = tr_json_first(object); v != NULL; v = tr_json_next(v)) {
        tr_str name = tr_json_name(v);
        if (!in_list(name, reserved) && !in_list(name, also)) {
            tr_jsonw_name_str(w, name);
            tr_jsonw_raw(w, tr_json_raw(v));
        }
    }
}

void tri_write_members(tr_jsonw *w, const tr_json_value *object, const char *const *reserved) {
    static const char *const none[] = {NULL};
    write_members(w, object, reserved, none);
}

void tri_write_answer_members(tr_jsonw *w, const tr_json_value *object,
                              const char *const *reserved) {
    static const char *const fields[] = {TR_ANTHROPIC_BLOCKS,
                                         TR_ANTHROPIC_FACTS,
                                         TR_RESPONSES_OUTPUT,
                                         TR_GEMINI_PARTS,
                                         "groundingMetadata",
                                         "citationMetadata",
                                         "logprobsResult",
                                         "urlContextMetadata",
                                         "reasoning_details",
                                         "annotations",
                                         "audio",
                                         "images",
                                         "logprobs",
                                         "citations",
                                         NULL};
    write_members(w, object, reserved, fields);
}

/* NULL where there is none; `json` is to be freed either way. */
static const tr_json_value *member(tr_str object, const char *name, tr_json **json) {
    *json = NULL;
    if (object.ptr == NULL || tr_json_parse(object.ptr, object.size, json, NULL) != TR_OK) {
        return NULL;
    }
    return tr_json_get(tr_json_root(*json), name);
}

bool tri_has_member(tr_str object, const char *name) {
    tr_json *json;
    bool has = member(object, name, &json) != NULL;
    tr_json_free(json);
    return has;
}

bool tri_has_true(tr_str object, const char *name) {
    tr_json *json;
    bool has = tr_json_bool(member(object, name, &json), false);
    tr_json_free(json);
    return has;
}

bool tri_has_word(tr_str object, const char *name, const char *word) {
    tr_json *json;
    bool has = tri_same(tr_json_string(member(object, name, &json)), word);
    tr_json_free(json);
    return has;
}

void tri_write_extra(tr_jsonw *w, tr_str extra, const char *const *reserved) {
    tr_json *json = NULL;
    if (extra.ptr == NULL) {
        return;
    }
    tr_err err = tr_json_parse(extra.ptr, extra.size, &json, NULL);
    if (err != TR_OK) {
        w->err = w->err == TR_OK ? err : w->err;
        return;
    }
    tri_write_members(w, tr_json_root(json), reserved);
    tr_json_free(json);
}

void tri_write_tools(tr_jsonw *w, const tr_chat *chat) {
    static const char *const reserved[] = {"type", "function", NULL};
    static const char *const inside[] = {"name", "description", "parameters", NULL};
    tr_jsonw_name(w, "tools");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->tool_count; i++) {
        const tr_tool *tool = &chat->tools[i];
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "function");
        tr_jsonw_name(w, "function");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, tool->name);
        if (tool->description.ptr != NULL) {
            tr_jsonw_name(w, "description");
            tr_jsonw_str(w, tool->description);
        }
        if (tool->parameters.ptr != NULL) {
            tr_jsonw_name(w, "parameters");
            tr_jsonw_raw(w, tool->parameters);
        }
        tri_write_extra(w, tool->function_extra, inside);
        tr_jsonw_close(w, '}');
        tri_write_extra(w, tool->extra, reserved);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

void tri_write_double(tr_jsonw *w, const tr_json_value *own, const char *name, double number) {
    if (!isnan(number) && tr_json_get(own, name) == NULL) {
        tr_jsonw_name(w, name);
        tr_jsonw_double(w, number);
    }
}

void tri_write_int(tr_jsonw *w, const tr_json_value *own, const char *name, int64_t number) {
    if (number >= 0 && tr_json_get(own, name) == NULL) {
        tr_jsonw_name(w, name);
        tr_jsonw_int(w, number);
    }
}

bool tri_any_object(tr_str schema) {
    return tri_same(schema, "{\"type\":\"object\"}");
}

tr_err tri_check_options(const tr_encode *in, uint32_t lacks, char *ret_why, size_t why_size) {
    const tr_chat *chat = in->chat;
    const struct {
        bool asked;
        uint32_t bit;
        const char *what;
    } options[] = {
        {chat->top_k >= 0, TRI_LACKS_TOP_K, "top_k"},
        {!isnan(chat->min_p), TRI_LACKS_MIN_P, "min_p"},
        {!isnan(chat->repeat_penalty), TRI_LACKS_REPEAT_PENALTY, "repeat_penalty"},
        {chat->repeat_last_n >= 0, TRI_LACKS_REPEAT_PENALTY, "repeat_last_n"},
        {chat->grammar.ptr != NULL, TRI_LACKS_GRAMMAR, "a grammar"},
        {chat->seed >= 0, TRI_LACKS_SEED, "a seed"},
        {!isnan(chat->frequency_penalty), TRI_LACKS_PENALTIES, "frequency_penalty"},
        {!isnan(chat->presence_penalty), TRI_LACKS_PENALTIES, "presence_penalty"},
        {chat->stop_count > 0, TRI_LACKS_STOP, "stop strings"},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (options[i].asked && (lacks & options[i].bit) != 0) {
            snprintf(ret_why, why_size, "provider %s does not take %s", in->provider,
                     options[i].what);
            return TR_ERR_UNSUPPORTED;
        }
    }
    return TR_OK;
}
