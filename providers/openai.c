/*
 * Requests of the openai dialect, and the dialect's table. A request is written in one pass over
 * the common chat request. What the user put under a field of the provider's own name wins over
 * ours (then ours is left out: a JSON object has a name once), except for the fields that decide
 * how the answer is read. A sampling option that the server is known not to take is refused, never
 * dropped in silence: an answer made with other options than those asked for is a wrong answer.
 *
 * Called by the provider actor on its shard; pure.
 */
#include "providers/openai.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/anthropic.h"
#include "providers/gemini.h"
#include "providers/codec.h"
#include "providers/openai_internal.h"
#include "providers/responses.h"

typedef struct writer {
    tr_jsonw w;
    const tr_encode *in;
    const tr_json_value *extra; /* the request's own fields, or NULL */
} writer;

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
static tr_err check(const tr_encode *in, char *ret_why, size_t why_size);
static void write_chat(writer *writer);
static void write_sampling(writer *writer);
static void write_schema(tr_jsonw *w, tr_str schema);
static bool is_named(tr_str format);
static bool any_object(tr_str schema);
static void write_tools(writer *writer);
static void write_turn(tr_jsonw *w, const tr_turn *turn);
static void write_content(tr_jsonw *w, const tr_turn *turn);
static void write_calls(tr_jsonw *w, const tr_turn *turn);
static void write_embed(writer *writer);
static void write_count(writer *writer);
static bool ours(const writer *writer, const char *name);

const tr_dialect tr_dialect_openai = {
    .name = "openai",
    .framing = TR_FRAMING_SSE,
    .state_size = sizeof(tri_openai),
    .encode = encode,
    .event = tri_openai_event,
    .whole = tri_openai_whole,
    .eof = tri_openai_eof,
    .refusal = tri_openai_refusal,
    .fini = tri_openai_fini,
    .inquire = tri_openai_inquire,
};

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    tr_err err = check(in, ret_why, why_size);
    if (err != TR_OK) {
        return err;
    }
    tr_json *extra = NULL;
    if (in->chat->extra.ptr != NULL) {
        err = tr_json_parse(in->chat->extra.ptr, in->chat->extra.size, &extra, NULL);
        if (err != TR_OK) {
            snprintf(ret_why, why_size, "the provider's own fields are not a JSON object");
            return err;
        }
    }
    writer writer = {.in = in, .extra = extra == NULL ? NULL : tr_json_root(extra)};
    tr_jsonw_init(&writer.w);
    tr_encoded encoded = {0};
    if (in->op == TR_OP_EMBED) {
        write_embed(&writer);
        snprintf(encoded.path, sizeof(encoded.path), "/embeddings");
    } else if (in->op == TR_OP_COUNT) {
        write_count(&writer);
        snprintf(encoded.path, sizeof(encoded.path), "/tokenize");
        encoded.from_root = true;
    } else {
        write_chat(&writer);
        snprintf(encoded.path, sizeof(encoded.path), "/chat/completions");
    }
    err = tr_jsonw_take(&writer.w, &encoded.body, &encoded.body_size);
    tr_json_free(extra);
    if (err != TR_OK) {
        snprintf(ret_why, why_size, "the request cannot be written as JSON: %s", tr_err_text(err));
        return err;
    }
    *ret = encoded;
    return TR_OK;
}

static tr_err check(const tr_encode *in, char *ret_why, size_t why_size) {
    const tr_chat *chat = in->chat;
    const struct {
        bool asked;
        uint32_t taken_with; /* any of these quirks; 0 = by no server */
        const char *what;
    } options[] = {
        {chat->top_k >= 0, TR_QUIRK_TOP_K, "top_k"},
        {!isnan(chat->min_p), TR_QUIRK_MIN_P, "min_p"},
        {!isnan(chat->repeat_penalty), TR_QUIRK_REPEAT_PENALTY | TR_QUIRK_REPETITION_PENALTY,
         "repeat_penalty"},
        {chat->repeat_last_n >= 0, TR_QUIRK_REPEAT_LAST_N, "repeat_last_n"},
        {chat->grammar.ptr != NULL, TR_QUIRK_GRAMMAR | TR_QUIRK_STRUCTURED_OUTPUTS, "a grammar"},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (options[i].asked && (in->quirks & options[i].taken_with) == 0) {
            snprintf(ret_why, why_size, "provider %s does not take %s", in->provider,
                     options[i].what);
            return TR_ERR_UNSUPPORTED;
        }
    }
    if (chat->seed >= 0 && (in->quirks & TR_QUIRK_NO_SEED) != 0) {
        snprintf(ret_why, why_size, "provider %s does not take a seed", in->provider);
        return TR_ERR_UNSUPPORTED;
    }
    if (chat->schema.ptr != NULL && (in->quirks & TR_QUIRK_NO_SCHEMA) != 0 &&
        !any_object(chat->schema)) {
        snprintf(ret_why, why_size, "provider %s cannot hold an answer to a JSON schema",
                 in->provider);
        return TR_ERR_UNSUPPORTED;
    }
    if (chat->stop_count > 4 && (in->quirks & TR_QUIRK_STOP_4) != 0) {
        snprintf(ret_why, why_size, "provider %s takes at most 4 stop strings", in->provider);
        return TR_ERR_UNSUPPORTED;
    }
    if (in->op == TR_OP_EMBED && (in->quirks & TR_QUIRK_NO_EMBED) != 0) {
        snprintf(ret_why, why_size, "provider %s makes no embeddings", in->provider);
        return TR_ERR_UNSUPPORTED;
    }
    bool counts = in->op == TR_OP_COUNT && (in->quirks & TR_QUIRK_TOKENIZE) != 0;
    if (in->op != TR_OP_EMBED && in->op != TR_OP_CHAT && !counts) {
        snprintf(ret_why, why_size, "provider %s cannot count tokens", in->provider);
        return TR_ERR_UNSUPPORTED;
    }
    return TR_OK;
}

/* Whether we write the field: the user did not. */
static bool ours(const writer *writer, const char *name) {
    return tr_json_get(writer->extra, name) == NULL;
}

/* Model and messages, with which both a chat and its count begin. */
static void write_prompt(writer *writer) {
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    tr_jsonw_name(w, "model");
    tr_jsonw_str(w, writer->in->model);
    tr_jsonw_name(w, "messages");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->turn_count; i++) {
        write_turn(w, &chat->turns[i]);
    }
    tr_jsonw_close(w, ']');
}

/* What the chat template makes tokens of, and none of the options. */
static void write_count(writer *writer) {
    static const char *const counted[] = {"tools",
                                          "chat_template",
                                          "chat_template_kwargs",
                                          "mm_processor_kwargs",
                                          "add_generation_prompt",
                                          "continue_final_message"};
    tr_jsonw *w = &writer->w;
    tr_jsonw_open(w, '{');
    write_prompt(writer);
    if (writer->in->chat->tool_count > 0 && ours(writer, "tools")) {
        tri_write_tools(w, writer->in->chat);
    }
    for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
        const tr_json_value *value = tr_json_get(writer->extra, counted[i]);
        if (value != NULL) {
            tr_jsonw_name(w, counted[i]);
            tr_jsonw_raw(w, tr_json_raw(value));
        }
    }
    tr_jsonw_close(w, '}');
}

static void write_chat(writer *writer) {
    static const char *const reserved[] = {"model", "messages", "stream", "stream_options", NULL};
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    tr_jsonw_open(w, '{');
    write_prompt(writer);
    tr_jsonw_name(w, "stream");
    tr_jsonw_bool(w, writer->in->stream);
    if (writer->in->stream && (writer->in->quirks & TR_QUIRK_NO_STREAM_OPTIONS) == 0) {
        tr_jsonw_name(w, "stream_options");
        tr_jsonw_raw(w, (tr_str){"{\"include_usage\":true}", 22});
    }
    write_sampling(writer);
    write_tools(writer);
    tri_write_extra(w, chat->extra, reserved);
    tr_jsonw_close(w, '}');
}

static void write_double(writer *writer, const char *name, double number) {
    if (!isnan(number) && ours(writer, name)) {
        tr_jsonw_name(&writer->w, name);
        tr_jsonw_double(&writer->w, number);
    }
}

static void write_int(writer *writer, const char *name, int64_t number) {
    if (number >= 0 && ours(writer, name)) {
        tr_jsonw_name(&writer->w, name);
        tr_jsonw_int(&writer->w, number);
    }
}

static void write_raw(writer *writer, const char *name, tr_str json) {
    if (json.ptr != NULL && ours(writer, name)) {
        tr_jsonw_name(&writer->w, name);
        tr_jsonw_raw(&writer->w, json);
    }
}

static void write_sampling(writer *writer) {
    const tr_chat *chat = writer->in->chat;
    uint32_t quirks = writer->in->quirks;
    tr_jsonw *w = &writer->w;
    write_double(writer, "temperature", chat->temperature);
    write_double(writer, "top_p", chat->top_p);
    write_double(writer, "min_p", chat->min_p);
    write_int(writer, "top_k", chat->top_k);
    write_double(writer, "frequency_penalty", chat->frequency_penalty);
    write_double(writer, "presence_penalty", chat->presence_penalty);
    write_double(writer,
                 (quirks & TR_QUIRK_REPETITION_PENALTY) != 0 ? "repetition_penalty"
                                                             : "repeat_penalty",
                 chat->repeat_penalty);
    write_int(writer, "repeat_last_n", chat->repeat_last_n);
    write_int(writer, (quirks & TR_QUIRK_RANDOM_SEED) != 0 ? "random_seed" : "seed", chat->seed);
    if (ours(writer, "max_tokens") && ours(writer, "max_completion_tokens")) {
        bool renamed = (quirks & TR_QUIRK_MAX_COMPLETION_TOKENS) != 0;
        write_int(writer, renamed ? "max_completion_tokens" : "max_tokens", chat->max_tokens);
    }
    if (chat->stop_count > 0 && ours(writer, "stop")) {
        tr_jsonw_name(w, "stop");
        tr_jsonw_open(w, '[');
        for (size_t i = 0; i < chat->stop_count; i++) {
            tr_jsonw_str(w, chat->stops[i]);
        }
        tr_jsonw_close(w, ']');
    }
    if (chat->reasoning_effort.ptr != NULL && ours(writer, "reasoning_effort")) {
        tr_jsonw_name(w, "reasoning_effort");
        tr_jsonw_str(w, chat->reasoning_effort);
    }
    if (chat->grammar.ptr != NULL && (quirks & TR_QUIRK_STRUCTURED_OUTPUTS) != 0) {
        if (ours(writer, "structured_outputs")) {
            tr_jsonw_name(w, "structured_outputs");
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "grammar");
            tr_jsonw_str(w, chat->grammar);
            tr_jsonw_close(w, '}');
        }
    } else if (chat->grammar.ptr != NULL && ours(writer, "grammar")) {
        tr_jsonw_name(w, "grammar");
        tr_jsonw_str(w, chat->grammar);
    }
    if (chat->schema.ptr != NULL && ours(writer, "response_format")) {
        if (is_named(chat->format)) {
            tr_jsonw_name(w, "response_format");
            tr_jsonw_raw(w, chat->format);
        } else {
            write_schema(w, chat->schema);
        }
    }
}

/* Whether a response_format has the name that the API demands: then it goes on as it was written.
 */
static bool is_named(tr_str format) {
    tr_json *json = NULL;
    if (format.ptr == NULL || tr_json_parse(format.ptr, format.size, &json, NULL) != TR_OK) {
        return false;
    }
    const tr_json_value *schema = tr_json_get(tr_json_root(json), "json_schema");
    bool named = tr_json_string(tr_json_get(schema, "name")).size > 0;
    tr_json_free(json);
    return named;
}

/* Any object at all is the older "JSON mode". A schema that closes its object is meant to be held
 * to exactly, which is what strict asks for; an open one would be refused with it. */
static void write_schema(tr_jsonw *w, tr_str schema) {
    tr_json *json = NULL;
    tr_jsonw_name(w, "response_format");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    if (any_object(schema)) {
        tr_jsonw_text(w, "json_object");
        tr_jsonw_close(w, '}');
        return;
    }
    tr_jsonw_text(w, "json_schema");
    tr_jsonw_name(w, "json_schema");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "name");
    tr_jsonw_text(w, "answer");
    if (tr_json_parse(schema.ptr, schema.size, &json, NULL) == TR_OK) {
        const tr_json_value *more = tr_json_get(tr_json_root(json), "additionalProperties");
        if (more != NULL && !tr_json_bool(more, true)) {
            tr_jsonw_name(w, "strict");
            tr_jsonw_bool(w, true);
        }
        tr_json_free(json);
    }
    tr_jsonw_name(w, "schema");
    tr_jsonw_raw(w, schema);
    tr_jsonw_close(w, '}');
    tr_jsonw_close(w, '}');
}

static bool any_object(tr_str schema) {
    static const char plain[] = "{\"type\":\"object\"}";
    return schema.size == sizeof(plain) - 1 && memcmp(schema.ptr, plain, schema.size) == 0;
}

static void write_tools(writer *writer) {
    const tr_chat *chat = writer->in->chat;
    if (chat->tool_count > 0 && ours(writer, "tools")) {
        tri_write_tools(&writer->w, chat);
    }
    write_raw(writer, "tool_choice", chat->tool_choice);
}

/* What another dialect's answer wants back would be noise to a server of this one. */
static void write_turn(tr_jsonw *w, const tr_turn *turn) {
    static const char *const reserved[] = {
        "role",          "content",           "tool_calls", "tool_call_id", TR_ANTHROPIC_BLOCKS,
        TR_GEMINI_PARTS, TR_RESPONSES_OUTPUT, NULL};
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, tr_chat_role_name(turn->role));
    tr_jsonw_name(w, "content");
    write_content(w, turn);
    if (turn->call_count > 0) {
        tr_jsonw_name(w, "tool_calls");
        write_calls(w, turn);
    }
    if (turn->tool_call_id.ptr != NULL) {
        tr_jsonw_name(w, "tool_call_id");
        tr_jsonw_str(w, turn->tool_call_id);
    }
    tri_write_extra(w, turn->extra, reserved);
    tr_jsonw_close(w, '}');
}

/* Plain text as a string, which every server takes; parts only where there is more to say. */
static void write_content(tr_jsonw *w, const tr_turn *turn) {
    static const char *const reserved[] = {"type", "text", "image_url", NULL};
    static const char *const inside[] = {"url", NULL};
    if (turn->part_count == 0) {
        if (turn->call_count > 0) {
            tr_jsonw_null(w);
        } else {
            tr_jsonw_text(w, "");
        }
        return;
    }
    const tr_part *first = &turn->parts[0];
    if (turn->part_count == 1 && first->kind == TR_PART_TEXT && first->extra.ptr == NULL) {
        tr_jsonw_str(w, first->text);
        return;
    }
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < turn->part_count; i++) {
        const tr_part *part = &turn->parts[i];
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        switch (part->kind) {
        case TR_PART_TEXT:
            tr_jsonw_text(w, "text");
            tr_jsonw_name(w, "text");
            tr_jsonw_str(w, part->text);
            break;
        case TR_PART_IMAGE:
            tr_jsonw_text(w, "image_url");
            tr_jsonw_name(w, "image_url");
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "url");
            tr_jsonw_str(w, part->url);
            tri_write_extra(w, part->image_extra, inside);
            tr_jsonw_close(w, '}');
            break;
        }
        tri_write_extra(w, part->extra, reserved);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

static void write_calls(tr_jsonw *w, const tr_turn *turn) {
    static const char *const reserved[] = {"id", "type", "function", NULL};
    static const char *const inside[] = {"name", "arguments", NULL};
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < turn->call_count; i++) {
        const tr_tool_call_part *call = &turn->calls[i];
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "id");
        tr_jsonw_str(w, call->id.ptr == NULL ? (tr_str){"", 0} : call->id);
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "function");
        tr_jsonw_name(w, "function");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, call->name);
        tr_jsonw_name(w, "arguments");
        tr_jsonw_str(w, call->arguments.ptr == NULL ? (tr_str){"{}", 2} : call->arguments);
        tri_write_extra(w, call->function_extra, inside);
        tr_jsonw_close(w, '}');
        tri_write_extra(w, call->extra, reserved);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

static void write_embed(writer *writer) {
    static const char *const reserved[] = {"model", "input", NULL};
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "model");
    tr_jsonw_str(w, writer->in->model);
    tr_jsonw_name(w, "input");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->input_count; i++) {
        tr_jsonw_str(w, chat->inputs[i]);
    }
    tr_jsonw_close(w, ']');
    if (ours(writer, "encoding_format")) {
        tr_jsonw_name(w, "encoding_format");
        tr_jsonw_text(w, "float");
    }
    tri_write_extra(w, chat->extra, reserved);
    tr_jsonw_close(w, '}');
}
