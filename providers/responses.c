/*
 * Requests of the responses dialect, and the dialect's table. Turns become input items: a message,
 * or an item a tool call, or an item a tool's output; a system turn that stands first becomes the
 * instructions. An assistant's turn that brings its answer's own output back (reasoning items,
 * calls and messages in their order) is written as exactly that. The user's own fields win over
 * ours as in the openai dialect, member by member inside `reasoning` and `text`. What the API has
 * no field for is refused by name.
 *
 * Called by the provider actor on its shard; pure.
 */
#include "providers/responses.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/openai.h"
#include "providers/openai_internal.h"
#include "providers/responses_internal.h"

typedef struct writer {
    tr_jsonw w;
    const tr_encode *in;
    const tr_json_value *own; /* the request's own fields, or NULL */
} writer;

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
static tr_err write_request(writer *writer, char *ret_why, size_t why_size);
static tr_err write_turn(tr_jsonw *w, const tr_turn *turn, char *ret_why, size_t why_size);
static tr_err write_answer(tr_jsonw *w, const tr_turn *turn, const tr_json_value *own);
static void write_content(tr_jsonw *w, const tr_turn *turn, const char *text_type);
static void write_parts(tr_jsonw *w, const tr_turn *turn, const char *text_type);
static void write_calls(tr_jsonw *w, const tr_turn *turn, const tr_json_value *own);
static void write_tools(writer *writer);
static void write_choice(writer *writer);
static void write_reasoning(writer *writer);
static void write_format(writer *writer);

const tr_dialect tr_dialect_responses = {
    .name = "responses",
    .framing = TR_FRAMING_SSE,
    .counts = true,
    .state_size = sizeof(tri_responses),
    .encode = encode,
    .event = tri_responses_event,
    .whole = tri_responses_whole,
    .eof = tri_responses_eof,
    .refusal = tri_responses_refusal,
    .fini = tri_responses_fini,
    .inquire = tri_openai_inquire,
};

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    if (in->op == TR_OP_EMBED) {
        return tr_dialect_openai.encode(in, ret, ret_why, why_size);
    }
    tr_err err = tri_check_options(in,
                                   TRI_LACKS_TOP_K | TRI_LACKS_MIN_P | TRI_LACKS_REPEAT_PENALTY |
                                       TRI_LACKS_GRAMMAR | TRI_LACKS_SEED | TRI_LACKS_PENALTIES |
                                       TRI_LACKS_STOP,
                                   ret_why, why_size);
    if (err != TR_OK) {
        return err;
    }
    tr_json *own = NULL;
    if (in->chat->extra.ptr != NULL) {
        err = tr_json_parse(in->chat->extra.ptr, in->chat->extra.size, &own, NULL);
        if (err != TR_OK) {
            snprintf(ret_why, why_size, "the provider's own fields are not a JSON object");
            return err;
        }
    }
    writer writer = {.in = in, .own = own == NULL ? NULL : tr_json_root(own)};
    tr_encoded encoded = {0};
    tr_jsonw_init(&writer.w);
    err = write_request(&writer, ret_why, why_size);
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
        snprintf(encoded.path, sizeof(encoded.path), "%s",
                 in->op == TR_OP_COUNT ? "/responses/input_tokens" : "/responses");
        *ret = encoded;
    }
    return err;
}

/* Whether we write the field: the user did not. */
static bool ours(const writer *writer, const char *name) {
    return tr_json_get(writer->own, name) == NULL;
}

/* One part of plain text, or nothing: what goes as a string. */
static bool is_plain(const tr_turn *turn) {
    return turn->part_count == 0 || (turn->part_count == 1 && turn->parts[0].kind == TR_PART_TEXT &&
                                     turn->parts[0].extra.ptr == NULL);
}

static tr_str plain_text(const tr_turn *turn) {
    return turn->part_count == 0 ? (tr_str){"", 0} : turn->parts[0].text;
}

static tr_err write_input(writer *writer, char *ret_why, size_t why_size) {
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    const tr_turn *first = &chat->turns[0];
    size_t at = 0;
    if (first->role == TR_CHAT_SYSTEM && is_plain(first) && first->extra.ptr == NULL &&
        ours(writer, "instructions")) {
        tr_jsonw_name(w, "instructions");
        tr_jsonw_str(w, plain_text(first));
        at = 1;
    }
    tr_jsonw_name(w, "input");
    tr_jsonw_open(w, '[');
    tr_err err = TR_OK;
    for (; at < chat->turn_count && err == TR_OK; at++) {
        err = write_turn(w, &chat->turns[at], ret_why, why_size);
    }
    tr_jsonw_close(w, ']');
    return err;
}

/* A count takes what makes the prompt, and none of what steers the answer. */
static tr_err write_request(writer *writer, char *ret_why, size_t why_size) {
    static const char *const reserved[] = {"model", "input", "stream", "reasoning", "text", NULL};
    static const char *const steering[] = {"model",
                                           "input",
                                           "stream",
                                           "reasoning",
                                           "text",
                                           "store",
                                           "include",
                                           "temperature",
                                           "top_p",
                                           "max_output_tokens",
                                           "metadata",
                                           "service_tier",
                                           "user",
                                           "max_tool_calls",
                                           "top_logprobs",
                                           "background",
                                           "stream_options",
                                           "prompt_cache_key",
                                           "safety_identifier",
                                           NULL};
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    bool count = writer->in->op == TR_OP_COUNT;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "model");
    tr_jsonw_str(w, writer->in->model);
    tr_err err = write_input(writer, ret_why, why_size);
    if (err != TR_OK) {
        return err;
    }
    if (!count) {
        tr_jsonw_name(w, "stream");
        tr_jsonw_bool(w, writer->in->stream);
        tri_write_double(w, writer->own, "temperature", chat->temperature);
        tri_write_double(w, writer->own, "top_p", chat->top_p);
        tri_write_int(w, writer->own, "max_output_tokens", chat->max_tokens);
        /* What is not stored there must come back with the next turn, and can only then. */
        bool stored = tr_json_bool(tr_json_get(writer->own, "store"), true);
        if (chat->reasoning_effort.ptr != NULL && !stored && ours(writer, "include")) {
            tr_jsonw_name(w, "include");
            tr_jsonw_raw(w, (tr_str){"[\"reasoning.encrypted_content\"]", 31});
        }
    }
    write_reasoning(writer);
    write_format(writer);
    write_tools(writer);
    write_choice(writer);
    tri_write_members(w, writer->own, count ? steering : reserved);
    tr_jsonw_close(w, '}');
    return TR_OK;
}

static const char *role_name(tr_chat_role role) {
    return role == TR_CHAT_ASSISTANT ? "assistant" : role == TR_CHAT_SYSTEM ? "system" : "user";
}

static tr_err write_turn(tr_jsonw *w, const tr_turn *turn, char *ret_why, size_t why_size) {
    static const char *const reserved[] = {"type", "role", "content", "call_id", "output", NULL};
    if (turn->role == TR_CHAT_ASSISTANT) {
        tr_json *own = NULL;
        tr_err err = TR_OK;
        if (turn->extra.ptr != NULL) {
            err = tr_json_parse(turn->extra.ptr, turn->extra.size, &own, NULL);
        }
        if (err == TR_OK) {
            err = write_answer(w, turn, own == NULL ? NULL : tr_json_root(own));
        }
        tr_json_free(own);
        if (err != TR_OK) {
            snprintf(ret_why, why_size,
                     "an assistant's message brings back " TR_RESPONSES_OUTPUT
                     ", but not as the array that it was");
        }
        return err;
    }
    bool output = turn->role == TR_CHAT_TOOL;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, output ? "type" : "role");
    tr_jsonw_text(w, output ? "function_call_output" : role_name(turn->role));
    if (output) {
        tr_jsonw_name(w, "call_id");
        tr_jsonw_str(w, turn->tool_call_id.ptr == NULL ? (tr_str){"", 0} : turn->tool_call_id);
    }
    tr_jsonw_name(w, output ? "output" : "content");
    write_content(w, turn, "input_text");
    tri_write_extra(w, turn->extra, reserved);
    tr_jsonw_close(w, '}');
    return TR_OK;
}

/* The output of an earlier answer as it came, or items made of text and calls. */
static tr_err write_answer(tr_jsonw *w, const tr_turn *turn, const tr_json_value *own) {
    static const char *const reserved[] = {"role", "content", "refusal", NULL};
    const tr_json_value *output = tr_json_get(own, TR_RESPONSES_OUTPUT);
    if (output != NULL) {
        const tr_json_value *item = tr_json_first(output);
        for (; item != NULL; item = tr_json_next(item)) {
            tr_jsonw_raw(w, tr_json_raw(item));
        }
        return tri_is(output, TR_JSON_ARRAY) ? TR_OK : TR_ERR_INVALID;
    }
    tr_str refusal = tr_json_string(tr_json_get(own, "refusal"));
    bool silent = is_plain(turn) && plain_text(turn).size == 0 && turn->call_count > 0;
    if (!silent || refusal.size > 0) {
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "role");
        tr_jsonw_text(w, "assistant");
        tr_jsonw_name(w, "content");
        if (refusal.size > 0) {
            tr_jsonw_open(w, '[');
            write_parts(w, turn, "output_text");
            tr_jsonw_open(w, '{');
            tr_jsonw_name(w, "type");
            tr_jsonw_text(w, "refusal");
            tr_jsonw_name(w, "refusal");
            tr_jsonw_str(w, refusal);
            tr_jsonw_close(w, '}');
            tr_jsonw_close(w, ']');
        } else {
            write_content(w, turn, "output_text");
        }
        tri_write_answer_members(w, own, reserved);
        tr_jsonw_close(w, '}');
        own = NULL;
    }
    write_calls(w, turn, own);
    return TR_OK;
}

static void write_content(tr_jsonw *w, const tr_turn *turn, const char *text_type) {
    if (is_plain(turn)) {
        tr_jsonw_str(w, plain_text(turn));
        return;
    }
    tr_jsonw_open(w, '[');
    write_parts(w, turn, text_type);
    tr_jsonw_close(w, ']');
}

static void write_parts(tr_jsonw *w, const tr_turn *turn, const char *text_type) {
    static const char *const reserved[] = {"type", "text", "image_url", "detail", NULL};
    static const char *const inside[] = {"url", NULL};
    for (size_t i = 0; i < turn->part_count; i++) {
        const tr_part *part = &turn->parts[i];
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        switch (part->kind) {
        case TR_PART_TEXT:
            tr_jsonw_text(w, text_type);
            tr_jsonw_name(w, "text");
            tr_jsonw_str(w, part->text);
            break;
        case TR_PART_IMAGE:
            tr_jsonw_text(w, "input_image");
            tr_jsonw_name(w, "image_url");
            tr_jsonw_str(w, part->url);
            tri_write_extra(w, part->image_extra, inside);
            break;
        }
        tri_write_extra(w, part->extra, reserved);
        tr_jsonw_close(w, '}');
    }
}

/* `own` are the turn's own fields when no message carries them. */
static void write_calls(tr_jsonw *w, const tr_turn *turn, const tr_json_value *own) {
    static const char *const reserved[] = {"type",    "call_id", "name",    "arguments",
                                           "content", "role",    "refusal", NULL};
    for (size_t i = 0; i < turn->call_count; i++) {
        const tr_tool_call_part *call = &turn->calls[i];
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "function_call");
        tr_jsonw_name(w, "call_id");
        tr_jsonw_str(w, call->id.ptr == NULL ? (tr_str){"", 0} : call->id);
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, call->name);
        tr_jsonw_name(w, "arguments");
        tr_jsonw_str(w, call->arguments.size == 0 ? (tr_str){"{}", 2} : call->arguments);
        tri_write_extra(w, call->function_extra, reserved);
        tri_write_extra(w, call->extra, reserved);
        if (i == 0) {
            tri_write_answer_members(w, own, reserved);
        }
        tr_jsonw_close(w, '}');
    }
}

/* Strictness is the default here, and is not in the common request. */
static void write_tools(writer *writer) {
    static const char *const reserved[] = {"type", "name", "description", "parameters", NULL};
    const tr_chat *chat = writer->in->chat;
    tr_jsonw *w = &writer->w;
    if (chat->tool_count == 0) {
        return;
    }
    tr_jsonw_name(w, "tools");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->tool_count; i++) {
        const tr_tool *tool = &chat->tools[i];
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "function");
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, tool->name);
        if (tool->description.ptr != NULL) {
            tr_jsonw_name(w, "description");
            tr_jsonw_str(w, tool->description);
        }
        tr_jsonw_name(w, "parameters");
        tr_jsonw_raw(w, tool->parameters.ptr != NULL
                            ? tool->parameters
                            : (tr_str){"{\"type\":\"object\",\"properties\":{}}", 33});
        if (!tri_has_member(tool->function_extra, "strict")) {
            tr_jsonw_name(w, "strict");
            tr_jsonw_bool(w, false);
        }
        tri_write_extra(w, tool->function_extra, reserved);
        tri_write_extra(w, tool->extra, reserved);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

/* {"type":"function","function":{"name":…}} is flat here, all else is as in chat completions. */
static void write_choice(writer *writer) {
    tr_str choice = writer->in->chat->tool_choice;
    tr_json *json = NULL;
    if (choice.ptr == NULL) {
        return;
    }
    tr_jsonw *w = &writer->w;
    tr_jsonw_name(w, "tool_choice");
    tr_str name = {NULL, 0};
    if (tr_json_parse(choice.ptr, choice.size, &json, NULL) == TR_OK) {
        name = tr_json_string(tr_json_get(tr_json_get(tr_json_root(json), "function"), "name"));
    }
    if (name.size == 0) {
        tr_jsonw_raw(w, choice);
    } else {
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "function");
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, name);
        tr_jsonw_close(w, '}');
    }
    tr_json_free(json);
}

static void write_reasoning(writer *writer) {
    static const char *const none[] = {NULL};
    tr_jsonw *w = &writer->w;
    const tr_json_value *own = tr_json_get(writer->own, "reasoning");
    tr_str effort = writer->in->chat->reasoning_effort;
    if (own != NULL && !tri_is(own, TR_JSON_OBJECT)) {
        tr_jsonw_name(w, "reasoning");
        tr_jsonw_raw(w, tr_json_raw(own));
    } else if (own != NULL || effort.ptr != NULL) {
        tr_jsonw_name(w, "reasoning");
        tr_jsonw_open(w, '{');
        if (effort.ptr != NULL && tr_json_get(own, "effort") == NULL) {
            tr_jsonw_name(w, "effort");
            tr_jsonw_str(w, effort);
        }
        tri_write_members(w, own, none);
        tr_jsonw_close(w, '}');
    }
}

/* The members of response_format's json_schema stand beside the type here. A schema that closes its
 * object is meant to be held to exactly, as in the openai dialect. */
static void write_schema(tr_jsonw *w, const tr_chat *chat) {
    static const char *const reserved[] = {"type", "name", "schema", NULL};
    tr_json *format = NULL;
    tr_json *schema = NULL;
    const tr_json_value *named = NULL;
    tr_jsonw_name(w, "format");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, tri_any_object(chat->schema) ? "json_object" : "json_schema");
    if (!tri_any_object(chat->schema)) {
        if (chat->format.ptr != NULL &&
            tr_json_parse(chat->format.ptr, chat->format.size, &format, NULL) == TR_OK) {
            named = tr_json_get(tr_json_root(format), "json_schema");
        }
        tr_str name = tr_json_string(tr_json_get(named, "name"));
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, name.size > 0 ? name : (tr_str){"answer", 6});
        if (tr_json_get(named, "strict") == NULL &&
            tr_json_parse(chat->schema.ptr, chat->schema.size, &schema, NULL) == TR_OK &&
            !tr_json_bool(tr_json_get(tr_json_root(schema), "additionalProperties"), true)) {
            tr_jsonw_name(w, "strict");
            tr_jsonw_bool(w, true);
        }
        tr_jsonw_name(w, "schema");
        tr_jsonw_raw(w, chat->schema);
        tri_write_members(w, named, reserved);
    }
    tr_jsonw_close(w, '}');
    tr_json_free(format);
    tr_json_free(schema);
}

static void write_format(writer *writer) {
    static const char *const none[] = {NULL};
    tr_jsonw *w = &writer->w;
    const tr_json_value *own = tr_json_get(writer->own, "text");
    bool asked = writer->in->chat->schema.ptr != NULL && tr_json_get(own, "format") == NULL;
    if (own != NULL && !tri_is(own, TR_JSON_OBJECT)) {
        tr_jsonw_name(w, "text");
        tr_jsonw_raw(w, tr_json_raw(own));
    } else if (own != NULL || asked) {
        tr_jsonw_name(w, "text");
        tr_jsonw_open(w, '{');
        if (asked) {
            write_schema(w, writer->in->chat);
        }
        tri_write_members(w, own, none);
        tr_jsonw_close(w, '}');
    }
}
