/*
 * Requests of the gemini dialect, and the dialect's table. The model stands in the path; options
 * stand in `generationConfig`, where the user's own members win over ours. Schemas go under the
 * fields that take JSON schema as it is (`parametersJsonSchema`, `responseJsonSchema`), so nothing
 * of them is translated or lost. A reasoning effort becomes what the model's generation has for it:
 * a budget of tokens before Gemini 3, a level since. What the API has no field for is refused by
 * name.
 *
 * Called by the provider actor on its shard; pure.
 */
#include "providers/gemini.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/gemini_internal.h"
#include "providers/inventory.h"

#define STOPS_max 5
#define INPUTS_max 100

typedef struct writer {
    tr_jsonw w;
    const tr_encode *in;
    const tr_json_value *own; /* the request's own fields, or NULL */
    char *why;
    size_t why_size;
} writer;

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
static tr_err check(const tr_encode *in, char *ret_why, size_t why_size);
static tr_err write_path(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
static tr_err write_generate(writer *writer, bool count);
static tr_err write_config(writer *writer);
static tr_err write_thinking(writer *writer, const tr_json_value *own);
static tr_err write_tools(writer *writer);
static tr_err write_choice(writer *writer);
static tr_err write_embed(writer *writer);
static void write_model(writer *writer);

static tr_err inquire(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    return tri_inventory_only_lists(in, "/models?pageSize=1000", ret, ret_why, why_size);
}

const tr_dialect tr_dialect_gemini = {
    .name = "gemini",
    .framing = TR_FRAMING_SSE,
    .counts = true,
    .state_size = sizeof(tri_gemini),
    .encode = encode,
    .event = tri_gemini_event,
    .whole = tri_gemini_whole,
    .eof = tri_gemini_eof,
    .refusal = tri_gemini_refusal,
    .fini = tri_gemini_fini,
    .inquire = inquire,
};

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    tr_encoded encoded = {0};
    tr_json *own = NULL;
    tr_err err = check(in, ret_why, why_size);
    if (err == TR_OK) {
        err = write_path(in, &encoded, ret_why, why_size);
    }
    if (err == TR_OK && in->chat->extra.ptr != NULL) {
        err = tr_json_parse(in->chat->extra.ptr, in->chat->extra.size, &own, NULL);
        if (err != TR_OK) {
            snprintf(ret_why, why_size, "the provider's own fields are not a JSON object");
        }
    }
    if (err != TR_OK) {
        return err;
    }
    writer writer = {.in = in,
                     .own = own == NULL ? NULL : tr_json_root(own),
                     .why = ret_why,
                     .why_size = why_size};
    tr_jsonw_init(&writer.w);
    err = in->op == TR_OP_EMBED ? write_embed(&writer)
                                : write_generate(&writer, in->op == TR_OP_COUNT);
    if (err != TR_OK) {
        tr_jsonw_fini(&writer.w);
    } else {
        err = tr_jsonw_take(&writer.w, &encoded.body, &encoded.body_size);
        if (err != TR_OK) {
            snprintf(ret_why, why_size, "the request cannot be written as JSON: %s",
                     tr_err_text(err));
        }
    }
    tr_json_free(own);
    if (err == TR_OK) {
        *ret = encoded;
    }
    return err;
}

static tr_err check(const tr_encode *in, char *ret_why, size_t why_size) {
    tr_err err = tri_check_options(
        in, TRI_LACKS_MIN_P | TRI_LACKS_REPEAT_PENALTY | TRI_LACKS_GRAMMAR, ret_why, why_size);
    if (err != TR_OK) {
        return err;
    }
    if (in->chat->stop_count > STOPS_max) {
        snprintf(ret_why, why_size, "provider %s takes at most %d stop strings", in->provider,
                 STOPS_max);
        return TR_ERR_UNSUPPORTED;
    }
    if (in->chat->input_count > INPUTS_max) {
        snprintf(ret_why, why_size, "provider %s embeds at most %d texts in one request",
                 in->provider, INPUTS_max);
        return TR_ERR_TOO_LARGE; /* who asked may send parts */
    }
    return TR_OK;
}

/* "models/x" and "tunedModels/x" are names as the API itself writes them; any other is a model's.
 */
static const char *collection(tr_str *model) {
    static const char *const collections[] = {"models/", "tunedModels/"};
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(collections[i]);
        if (model->size > size && memcmp(model->ptr, collections[i], size) == 0) {
            *model = (tr_str){model->ptr + size, model->size - size};
            return collections[i];
        }
    }
    return collections[0];
}

/* Percent-encoded but for RFC 3986's unreserved characters. */
static tr_err write_path(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    const char *verb = in->op == TR_OP_EMBED   ? ":batchEmbedContents"
                       : in->op == TR_OP_COUNT ? ":countTokens"
                       : in->stream            ? ":streamGenerateContent?alt=sse"
                                               : ":generateContent";
    tr_str model = in->model;
    size_t used = (size_t)snprintf(ret->path, sizeof(ret->path), "/%s", collection(&model));
    for (size_t i = 0; i < model.size; i++) {
        char c = model.ptr[i];
        bool as_is = c != '\0' && strchr(plain, c) != NULL;
        if (used + 3 + strlen(verb) >= sizeof(ret->path)) {
            snprintf(ret_why, why_size, "the model's name is too long for a URL");
            return TR_ERR_INVALID;
        }
        used += (size_t)snprintf(ret->path + used, sizeof(ret->path) - used,
                                 as_is ? "%c" : "%%%02X", as_is ? c : (unsigned char)c);
    }
    snprintf(ret->path + used, sizeof(ret->path) - used, "%s", verb);
    return TR_OK;
}

static void write_model(writer *writer) {
    tr_str model = writer->in->model;
    const char *folder = collection(&model);
    char name[TR_NAME_max + 32];
    int size = snprintf(name, sizeof(name), "%s%.*s", folder, (int)model.size, model.ptr);
    tr_jsonw_name(&writer->w, "model");
    tr_jsonw_str(&writer->w, (tr_str){name, (size_t)size});
}

/* Whether we write the field: the user did not. */
static bool ours(const writer *writer, const char *name) {
    return tr_json_get(writer->own, name) == NULL;
}

/* A count is asked with the whole request inside it, so that instruction and tools count too. */
static tr_err write_generate(writer *writer, bool count) {
    static const char *const reserved[] = {"contents", "generationConfig",       "toolConfig",
                                           "model",    "generateContentRequest", NULL};
    tr_jsonw *w = &writer->w;
    tr_jsonw_open(w, '{');
    if (count) {
        tr_jsonw_name(w, "generateContentRequest");
        tr_jsonw_open(w, '{');
        write_model(writer);
    }
    tr_err err = tri_gemini_write_turns(w, writer->in, writer->own, writer->why, writer->why_size);
    if (err == TR_OK) {
        err = write_tools(writer);
    }
    if (err == TR_OK) {
        err = write_choice(writer);
    }
    if (err == TR_OK) {
        err = write_config(writer);
    }
    if (err != TR_OK) {
        return err;
    }
    tri_write_members(w, writer->own, reserved);
    if (count) {
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, '}');
    return TR_OK;
}

static bool has_options(const tr_chat *chat) {
    return !isnan(chat->temperature) || !isnan(chat->top_p) || chat->top_k >= 0 ||
           chat->max_tokens >= 0 || chat->seed >= 0 || !isnan(chat->frequency_penalty) ||
           !isnan(chat->presence_penalty) || chat->stop_count > 0 || chat->schema.ptr != NULL ||
           chat->reasoning_effort.ptr != NULL;
}

static tr_err write_config(writer *writer) {
    static const char *const written[] = {"thinkingConfig", NULL};
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    const tr_json_value *own = tr_json_get(writer->own, "generationConfig");
    if (own != NULL && !tri_is(own, TR_JSON_OBJECT)) {
        snprintf(writer->why, writer->why_size, "generationConfig: expected an object");
        return TR_ERR_INVALID;
    }
    if (own == NULL && !has_options(chat)) {
        return TR_OK;
    }
    tr_jsonw_name(w, "generationConfig");
    tr_jsonw_open(w, '{');
    tri_write_double(w, own, "temperature", chat->temperature);
    tri_write_double(w, own, "topP", chat->top_p);
    tri_write_int(w, own, "topK", chat->top_k);
    tri_write_int(w, own, "maxOutputTokens", chat->max_tokens);
    tri_write_int(w, own, "seed", chat->seed);
    tri_write_double(w, own, "frequencyPenalty", chat->frequency_penalty);
    tri_write_double(w, own, "presencePenalty", chat->presence_penalty);
    if (chat->stop_count > 0 && tr_json_get(own, "stopSequences") == NULL) {
        tr_jsonw_name(w, "stopSequences");
        tr_jsonw_open(w, '[');
        for (size_t i = 0; i < chat->stop_count; i++) {
            tr_jsonw_str(w, chat->stops[i]);
        }
        tr_jsonw_close(w, ']');
    }
    if (chat->schema.ptr != NULL) {
        if (tr_json_get(own, "responseMimeType") == NULL) {
            tr_jsonw_name(w, "responseMimeType");
            tr_jsonw_text(w, "application/json");
        }
        if (!tri_any_object(chat->schema) && tr_json_get(own, "responseSchema") == NULL &&
            tr_json_get(own, "responseJsonSchema") == NULL) {
            tr_jsonw_name(w, "responseJsonSchema");
            tr_jsonw_raw(w, chat->schema);
        }
    }
    tr_err err = write_thinking(writer, tr_json_get(own, "thinkingConfig"));
    tri_write_members(w, own, written);
    tr_jsonw_close(w, '}');
    return err;
}

/* The numbers are those of Google's own mapping of OpenAI's efforts. */
static tr_err write_thinking(writer *writer, const tr_json_value *own) {
    static const struct {
        const char *effort;
        int64_t budget;
        const char *level; /* NULL = has none */
    } efforts[] = {{"none", 0, NULL},
                   {"minimal", 1024, "minimal"},
                   {"low", 1024, "low"},
                   {"medium", 8192, "medium"},
                   {"high", 24576, "high"}};
    static const char *const none[] = {NULL};
    tr_jsonw *w = &writer->w;
    tr_str effort = writer->in->chat->reasoning_effort;
    bool said =
        tr_json_get(own, "thinkingBudget") != NULL || tr_json_get(own, "thinkingLevel") != NULL;
    if (own != NULL && (effort.ptr == NULL || said || !tri_is(own, TR_JSON_OBJECT))) {
        tr_jsonw_name(w, "thinkingConfig");
        tr_jsonw_raw(w, tr_json_raw(own));
        return TR_OK;
    }
    if (effort.ptr == NULL) {
        return TR_OK;
    }
    tr_str model = writer->in->model;
    (void)collection(&model);
    bool by_budget = model.size > 8 && memcmp(model.ptr, "gemini-2", 8) == 0;
    size_t i = 0;
    size_t count = sizeof(efforts) / sizeof(efforts[0]);
    while (i < count && !tri_same(effort, efforts[i].effort)) {
        i++;
    }
    if (i == count || (!by_budget && efforts[i].level == NULL)) {
        snprintf(writer->why, writer->why_size,
                 "provider %s has no reasoning effort \"%.*s\" for this model",
                 writer->in->provider, (int)(effort.size < 32 ? effort.size : 32), effort.ptr);
        return TR_ERR_UNSUPPORTED;
    }
    tr_jsonw_name(w, "thinkingConfig");
    tr_jsonw_open(w, '{');
    if (i > 0 && tr_json_get(own, "includeThoughts") == NULL) {
        tr_jsonw_name(w, "includeThoughts");
        tr_jsonw_bool(w, true);
    }
    tr_jsonw_name(w, by_budget ? "thinkingBudget" : "thinkingLevel");
    if (by_budget) {
        tr_jsonw_int(w, efforts[i].budget);
    } else {
        tr_jsonw_text(w, efforts[i].level);
    }
    tri_write_members(w, own, none);
    tr_jsonw_close(w, '}');
    return TR_OK;
}

/* A tool's own fields stand in its declaration, except that "not strict" is what holds here. */
static tr_err write_tools(writer *writer) {
    static const char *const reserved[] = {"name", "description", "parametersJsonSchema", "strict",
                                           NULL};
    const tr_chat *chat = writer->in->chat;
    tr_jsonw *w = &writer->w;
    if (chat->tool_count == 0) {
        return TR_OK;
    }
    tr_jsonw_name(w, "tools");
    tr_jsonw_open(w, '[');
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "functionDeclarations");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->tool_count; i++) {
        const tr_tool *tool = &chat->tools[i];
        if (tri_has_true(tool->function_extra, "strict")) {
            snprintf(writer->why, writer->why_size,
                     "provider %s cannot hold calls of tool %.*s to its schema (strict)",
                     writer->in->provider, (int)(tool->name.size < 64 ? tool->name.size : 64),
                     tool->name.ptr);
            return TR_ERR_UNSUPPORTED;
        }
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, tool->name);
        tr_jsonw_name(w, "description"); /* which is required */
        tr_jsonw_str(w, tool->description.ptr == NULL ? (tr_str){"", 0} : tool->description);
        if (tool->parameters.ptr != NULL) {
            tr_jsonw_name(w, "parametersJsonSchema");
            tr_jsonw_raw(w, tool->parameters);
        }
        tri_write_extra(w, tool->function_extra, reserved);
        tri_write_extra(w, tool->extra, reserved);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
    tr_jsonw_close(w, '}');
    tr_jsonw_close(w, ']');
    return TR_OK;
}

static tr_err write_choice(writer *writer) {
    static const struct {
        const char *word, *mode;
    } modes[] = {{"auto", "AUTO"}, {"none", "NONE"}, {"required", "ANY"}, {"any", "ANY"}};
    tr_jsonw *w = &writer->w;
    tr_str choice = writer->in->chat->tool_choice;
    const tr_json_value *own = tr_json_get(writer->own, "toolConfig");
    tr_json *json = NULL;
    if (own != NULL) {
        tr_jsonw_name(w, "toolConfig");
        tr_jsonw_raw(w, tr_json_raw(own));
        return TR_OK;
    }
    if (choice.ptr == NULL) {
        return TR_OK;
    }
    tr_err err = tr_json_parse(choice.ptr, choice.size, &json, NULL);
    if (err != TR_OK) {
        return err;
    }
    tr_str word = tr_json_string(tr_json_root(json));
    tr_str name = tr_json_string(tr_json_get(tr_json_get(tr_json_root(json), "function"), "name"));
    const char *mode = name.size > 0 ? "ANY" : NULL;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        mode = tri_same(word, modes[i].word) ? modes[i].mode : mode;
    }
    if (mode == NULL) {
        snprintf(writer->why, writer->why_size, "provider %s does not know this tool_choice: %.*s",
                 writer->in->provider, (int)(choice.size < 64 ? choice.size : 64), choice.ptr);
        tr_json_free(json);
        return TR_ERR_UNSUPPORTED;
    }
    tr_jsonw_name(w, "toolConfig");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "functionCallingConfig");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "mode");
    tr_jsonw_text(w, mode);
    if (name.size > 0) {
        tr_jsonw_name(w, "allowedFunctionNames");
        tr_jsonw_open(w, '[');
        tr_jsonw_str(w, name);
        tr_jsonw_close(w, ']');
    }
    tr_jsonw_close(w, '}');
    tr_jsonw_close(w, '}');
    tr_json_free(json);
    return TR_OK;
}

/* One request a text; the user's own fields stand in each. `dimensions` is OpenAI's name for what
 * is `outputDimensionality` here, and floats are the only format. */
static tr_err write_embed(writer *writer) {
    static const char *const reserved[] = {"model", "content", "dimensions", "encoding_format",
                                           NULL};
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    const tr_json_value *format = tr_json_get(writer->own, "encoding_format");
    if (format != NULL && !tri_same(tr_json_string(format), "float")) {
        snprintf(writer->why, writer->why_size,
                 "provider %s sends embeddings as numbers only (encoding_format)",
                 writer->in->provider);
        return TR_ERR_UNSUPPORTED;
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "requests");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->input_count; i++) {
        tr_jsonw_open(w, '{');
        write_model(writer);
        tr_jsonw_name(w, "content");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "parts");
        tr_jsonw_open(w, '[');
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "text");
        tr_jsonw_str(w, chat->inputs[i]);
        tr_jsonw_close(w, '}');
        tr_jsonw_close(w, ']');
        tr_jsonw_close(w, '}');
        if (ours(writer, "outputDimensionality")) {
            tri_write_int(w, NULL, "outputDimensionality",
                          tr_json_int(tr_json_get(writer->own, "dimensions"), -1));
        }
        tri_write_members(w, writer->own, reserved);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
    tr_jsonw_close(w, '}');
    return TR_OK;
}
