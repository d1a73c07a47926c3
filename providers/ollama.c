/*
 * Requests of the ollama dialect, and the dialect's table. Sampling options stand under their own
 * names in `options`; an option of Ollama's that the user put beside the common fields (num_ctx) is
 * moved there, since the server ignores at top level whatever it does not know. For the same reason
 * what has no place here (a tool_choice, a grammar, an image's URL) is refused, never dropped. A
 * field that the user wrote under Ollama's own name wins over ours.
 *
 * Called by the provider actor on its shard; pure.
 */
#include "providers/ollama.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/codec.h"
#include "providers/inventory.h"
#include "providers/ollama_internal.h"
#include "providers/openai_internal.h"

typedef struct writer {
    tr_jsonw w;
    const tr_encode *in;
    const tr_json_value *extra;   /* the request's own fields, or NULL */
    const tr_json_value *options; /* of them */
    char *why;
    size_t why_size;
} writer;

/* What Ollama takes as an option and the common request does not know. */
static const char *const own_options[] = {"num_ctx",
                                          "num_keep",
                                          "num_batch",
                                          "num_gpu",
                                          "main_gpu",
                                          "use_mmap",
                                          "num_thread",
                                          "typical_p",
                                          "tfs_z",
                                          "numa",
                                          "mirostat",
                                          "mirostat_tau",
                                          "mirostat_eta",
                                          "penalize_newline",
                                          "draft_num_predict",
                                          NULL};

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
static tr_err inquire(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);
static tr_err check(const writer *writer);
static tr_err check_turn(const writer *writer, const tr_turn *turn);
static void write_chat(writer *writer);
static void write_embed(writer *writer);
static void write_options(writer *writer);
static void write_format(writer *writer);
static void write_think(writer *writer);
static void write_tools(writer *writer);
static void write_turn(writer *writer, size_t index);
static void write_text(tr_jsonw *w, const tr_turn *turn);
static void write_own(tr_jsonw *w, const tr_turn *turn, const tr_json_value *extra);
static void write_images(tr_jsonw *w, const tr_turn *turn);
static void write_calls(tr_jsonw *w, const tr_turn *turn);
static void write_members(tr_jsonw *w, const tr_json_value *object, const char *const *reserved,
                          const char *const *moved);
static tr_str base64_of(tr_str url);

const tr_dialect tr_dialect_ollama = {
    .name = "ollama",
    .framing = TR_FRAMING_NDJSON,
    .state_size = sizeof(tri_ollama),
    .encode = encode,
    .event = tri_ollama_event,
    .whole = tri_ollama_whole,
    .eof = tri_ollama_eof,
    .refusal = tri_openai_refusal,
    .fini = tri_ollama_fini,
    .inquire = inquire,
};

static tr_err encode(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    writer writer = {.in = in, .why = ret_why, .why_size = why_size};
    tr_json *extra = NULL;
    if (in->chat->extra.ptr != NULL) {
        tr_err err = tr_json_parse(in->chat->extra.ptr, in->chat->extra.size, &extra, NULL);
        if (err != TR_OK) {
            snprintf(ret_why, why_size, "the provider's own fields are not a JSON object");
            return err;
        }
        writer.extra = tr_json_root(extra);
        writer.options = tr_json_get(writer.extra, "options");
    }
    tr_err err = check(&writer);
    if (err != TR_OK) {
        tr_json_free(extra);
        return err;
    }
    tr_encoded encoded = {0};
    bool embed = in->op == TR_OP_EMBED;
    tr_jsonw_init(&writer.w);
    tr_jsonw_open(&writer.w, '{');
    tr_jsonw_name(&writer.w, "model");
    tr_jsonw_str(&writer.w, in->model);
    if (embed) {
        write_embed(&writer);
    } else {
        write_chat(&writer);
    }
    tr_jsonw_close(&writer.w, '}');
    snprintf(encoded.path, sizeof(encoded.path), "%s", embed ? "/api/embed" : "/api/chat");
    err = tr_jsonw_take(&writer.w, &encoded.body, &encoded.body_size);
    tr_json_free(extra);
    if (err != TR_OK) {
        snprintf(ret_why, why_size, "the request cannot be written as JSON: %s", tr_err_text(err));
        return err;
    }
    *ret = encoded;
    return TR_OK;
}

/* A chat without messages loads the model, and with keep_alive 0 lets it go. */
static tr_err inquire(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    static const char load[] = ",\"messages\":[],\"stream\":false";
    static const char unload[] = ",\"messages\":[],\"stream\":false,\"keep_alive\":0";
    (void)ret_why;
    (void)why_size;
    switch (in->op) {
    case TR_OP_MODELS:
        return tri_inventory_get("/api/tags", false, ret);
    case TR_OP_LOADED:
        return tri_inventory_get("/api/ps", false, ret);
    case TR_OP_LOAD:
        return tri_inventory_post("/api/chat", false, "model", in->model, load, ret);
    case TR_OP_UNLOAD:
        return tri_inventory_post("/api/chat", false, "model", in->model, unload, ret);
    case TR_OP_CHAT:
    case TR_OP_EMBED:
    case TR_OP_COUNT:
    case TR_OP_CONTROL:
        break;
    }
    return TR_ERR_UNSUPPORTED;
}

static tr_err refuse(const writer *writer, const char *what) {
    snprintf(writer->why, writer->why_size, "provider %s %s", writer->in->provider, what);
    return TR_ERR_UNSUPPORTED;
}

static bool listed(tr_str name, const char *const *names) {
    while (*names != NULL && !tri_same(name, *names)) {
        names++;
    }
    return *names != NULL;
}

/* The level that `think` has for a reasoning effort; NULL = none. "" = off. */
static const char *think_level(tr_str effort) {
    static const char *const levels[][2] = {
        {"none", ""},     {"minimal", "low"}, {"low", "low"}, {"medium", "medium"},
        {"high", "high"}, {"xhigh", "high"},  {"max", "max"}};
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (tri_same(effort, levels[i][0])) {
            return levels[i][1];
        }
    }
    return NULL;
}

static tr_err check(const writer *writer) {
    const tr_chat *chat = writer->in->chat;
    const tr_json_value *n = tr_json_get(writer->extra, "n");
    const tr_json_value *format = tr_json_get(writer->extra, "encoding_format");
    if (writer->in->op != TR_OP_EMBED && writer->in->op != TR_OP_CHAT) {
        return refuse(writer, "cannot count tokens");
    }
    if (writer->options != NULL && tr_json_type_of(writer->options) != TR_JSON_OBJECT) {
        snprintf(writer->why, writer->why_size, "options: expected an object");
        return TR_ERR_INVALID;
    }
    if (chat->grammar.ptr != NULL) {
        return refuse(writer, "does not take a grammar: give it a JSON schema");
    }
    if (tr_json_get(writer->extra, "logit_bias") != NULL) {
        return refuse(writer, "takes no logit_bias");
    }
    if (n != NULL && tr_json_int(n, 0) != 1) {
        return refuse(writer, "does not take n: it gives one answer");
    }
    if (format != NULL && !tri_same(tr_json_string(format), "float")) {
        return refuse(writer, "sends embeddings as numbers only (encoding_format)");
    }
    bool free_choice = chat->tool_choice.ptr == NULL || tri_same(chat->tool_choice, "\"auto\"") ||
                       tri_same(chat->tool_choice, "\"none\"");
    if (!free_choice) {
        return refuse(writer, "cannot be told to call a tool: tool_choice may be auto or none");
    }
    if (chat->reasoning_effort.ptr != NULL && think_level(chat->reasoning_effort) == NULL) {
        return refuse(writer, "knows reasoning_effort none, low, medium, high and max only");
    }
    tr_err err = TR_OK;
    for (size_t i = 0; i < chat->turn_count && err == TR_OK; i++) {
        err = check_turn(writer, &chat->turns[i]);
    }
    return err;
}

static bool is_object(tr_str text) {
    tr_json *json = NULL;
    if (tr_json_parse(text.ptr, text.size, &json, NULL) != TR_OK) {
        return false;
    }
    bool object = tr_json_type_of(tr_json_root(json)) == TR_JSON_OBJECT;
    tr_json_free(json);
    return object;
}

static tr_err check_turn(const writer *writer, const tr_turn *turn) {
    for (size_t i = 0; i < turn->part_count; i++) {
        const tr_part *part = &turn->parts[i];
        if (part->extra.ptr != NULL || (part->image_extra.ptr != NULL &&
                                        !tri_same(part->image_extra, "{\"detail\":\"auto\"}"))) {
            return refuse(writer, "has no place for further fields of a message's part");
        }
        if (part->kind == TR_PART_IMAGE && base64_of(part->url).size == 0) {
            return refuse(writer, "takes images as data: URLs in base64 only, and fetches none");
        }
    }
    for (size_t i = 0; i < turn->call_count; i++) {
        tr_str arguments = turn->calls[i].arguments;
        if (arguments.size > 0 && !is_object(arguments)) {
            snprintf(writer->why, writer->why_size,
                     "tool_calls: provider %s takes arguments that are a JSON object only",
                     writer->in->provider);
            return TR_ERR_INVALID;
        }
    }
    return TR_OK;
}

/* Whether we write the field: the user did not. */
static bool ours(const writer *writer, const char *name) {
    return tr_json_get(writer->extra, name) == NULL;
}

static void write_chat(writer *writer) {
    static const char *const reserved[] = {"model",   "messages", "stream", "stream_options",
                                           "options", "n",        NULL};
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    tr_jsonw_name(w, "messages");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->turn_count; i++) {
        write_turn(writer, i);
    }
    tr_jsonw_close(w, ']');
    tr_jsonw_name(w, "stream");
    tr_jsonw_bool(w, writer->in->stream);
    write_options(writer);
    write_format(writer);
    write_think(writer);
    write_tools(writer);
    write_members(w, writer->extra, reserved, own_options);
}

static void write_embed(writer *writer) {
    static const char *const reserved[] = {"model",           "input",   "stream", "stream_options",
                                           "encoding_format", "options", NULL};
    tr_jsonw *w = &writer->w;
    const tr_chat *chat = writer->in->chat;
    tr_jsonw_name(w, "input");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < chat->input_count; i++) {
        tr_jsonw_str(w, chat->inputs[i]);
    }
    tr_jsonw_close(w, ']');
    write_options(writer);
    write_members(w, writer->extra, reserved, own_options);
}

/* --- options --- */

/* The name of an option that is written, the object around it opened before the first. */
static void name_option(writer *writer, bool *opened, tr_str name) {
    if (!*opened) {
        tr_jsonw_name(&writer->w, "options");
        tr_jsonw_open(&writer->w, '{');
        *opened = true;
    }
    tr_jsonw_name_str(&writer->w, name);
}

/* Whether an option that was asked for is ours to write. */
static bool asks(writer *writer, bool *opened, const char *name, bool asked) {
    if (!asked || tr_json_get(writer->options, name) != NULL) {
        return false;
    }
    name_option(writer, opened, (tr_str){name, strlen(name)});
    return true;
}

static void write_options(writer *writer) {
    const tr_chat *chat = writer->in->chat;
    const struct {
        const char *name;
        double number;
    } reals[] = {{"temperature", chat->temperature},
                 {"top_p", chat->top_p},
                 {"min_p", chat->min_p},
                 {"repeat_penalty", chat->repeat_penalty},
                 {"frequency_penalty", chat->frequency_penalty},
                 {"presence_penalty", chat->presence_penalty}};
    const struct {
        const char *name;
        int64_t number;
    } wholes[] = {{"top_k", chat->top_k},
                  {"repeat_last_n", chat->repeat_last_n},
                  {"seed", chat->seed},
                  {"num_predict", chat->max_tokens}};
    tr_jsonw *w = &writer->w;
    bool opened = false;
    bool chats = writer->in->op == TR_OP_CHAT;
    for (size_t i = 0; chats && i < sizeof(reals) / sizeof(reals[0]); i++) {
        if (asks(writer, &opened, reals[i].name, !isnan(reals[i].number))) {
            tr_jsonw_double(w, reals[i].number);
        }
    }
    for (size_t i = 0; chats && i < sizeof(wholes) / sizeof(wholes[0]); i++) {
        if (asks(writer, &opened, wholes[i].name, wholes[i].number >= 0)) {
            tr_jsonw_int(w, wholes[i].number);
        }
    }
    if (chats && asks(writer, &opened, "stop", chat->stop_count > 0)) {
        tr_jsonw_open(w, '[');
        for (size_t i = 0; i < chat->stop_count; i++) {
            tr_jsonw_str(w, chat->stops[i]);
        }
        tr_jsonw_close(w, ']');
    }
    for (size_t i = 0; own_options[i] != NULL; i++) {
        const tr_json_value *value = tr_json_get(writer->extra, own_options[i]);
        if (asks(writer, &opened, own_options[i], value != NULL)) {
            tr_jsonw_raw(w, tr_json_raw(value));
        }
    }
    const tr_json_value *value = tr_json_first(writer->options);
    for (; value != NULL; value = tr_json_next(value)) {
        name_option(writer, &opened, tr_json_name(value));
        tr_jsonw_raw(w, tr_json_raw(value));
    }
    if (opened) {
        tr_jsonw_close(w, '}');
    }
}

/* --- the other fields --- */

static void write_format(writer *writer) {
    tr_str schema = writer->in->chat->schema;
    if (schema.ptr == NULL || !ours(writer, "format")) {
        return;
    }
    tr_jsonw_name(&writer->w, "format");
    if (tri_any_object(schema)) {
        tr_jsonw_text(&writer->w, "json");
    } else {
        tr_jsonw_raw(&writer->w, schema);
    }
}

static void write_think(writer *writer) {
    tr_str effort = writer->in->chat->reasoning_effort;
    if (effort.ptr == NULL || !ours(writer, "think")) {
        return;
    }
    const char *level = think_level(effort);
    tr_jsonw_name(&writer->w, "think");
    if (level == NULL || *level == '\0') {
        tr_jsonw_bool(&writer->w, false);
    } else {
        tr_jsonw_text(&writer->w, level);
    }
}

static void write_tools(writer *writer) {
    const tr_chat *chat = writer->in->chat;
    if (chat->tool_count > 0 && !tri_same(chat->tool_choice, "\"none\"") && ours(writer, "tools")) {
        tri_write_tools(&writer->w, chat);
    }
}

/* --- messages --- */

/* The tool whose call a result answers: the nearest call of that id before it. */
static tr_str tool_name(const tr_chat *chat, size_t index) {
    tr_str id = chat->turns[index].tool_call_id;
    while (id.ptr != NULL && index-- > 0) {
        const tr_turn *turn = &chat->turns[index];
        for (size_t i = 0; i < turn->call_count; i++) {
            tr_str other = turn->calls[i].id;
            if (other.size == id.size &&
                (id.size == 0 || memcmp(other.ptr, id.ptr, id.size) == 0)) {
                return turn->calls[i].name;
            }
        }
    }
    return (tr_str){NULL, 0};
}

static void write_turn(writer *writer, size_t index) {
    const tr_turn *turn = &writer->in->chat->turns[index];
    tr_jsonw *w = &writer->w;
    tr_json *json = NULL;
    if (turn->extra.ptr != NULL) {
        tr_err err = tr_json_parse(turn->extra.ptr, turn->extra.size, &json, NULL);
        w->err = w->err == TR_OK ? err : w->err;
    }
    const tr_json_value *extra = json == NULL ? NULL : tr_json_root(json);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, tr_chat_role_name(turn->role));
    tr_jsonw_name(w, "content");
    write_text(w, turn);
    if (tr_json_get(extra, "images") == NULL) {
        write_images(w, turn);
    }
    if (turn->call_count > 0) {
        tr_jsonw_name(w, "tool_calls");
        write_calls(w, turn);
    }
    if (turn->tool_call_id.ptr != NULL) {
        tr_str name = tool_name(writer->in->chat, index);
        tr_jsonw_name(w, "tool_call_id");
        tr_jsonw_str(w, turn->tool_call_id);
        if (name.ptr != NULL && tr_json_get(extra, "tool_name") == NULL) {
            tr_jsonw_name(w, "tool_name");
            tr_jsonw_str(w, name);
        }
    }
    write_own(w, turn, extra);
    tr_jsonw_close(w, '}');
    tr_json_free(json);
}

/* The turn's own fields. The reasoning that came with an answer goes back as `thinking`, whatever
 * it is called; what only another vendor's answer has goes nowhere. */
static void write_own(tr_jsonw *w, const tr_turn *turn, const tr_json_value *extra) {
    static const char *const reserved[] = {
        "role", "content", "tool_calls", "tool_call_id", "reasoning", "reasoning_content", NULL};
    tr_str thinking = tr_json_string(tr_json_get(extra, "reasoning_content"));
    if (thinking.size == 0) {
        thinking = tr_json_string(tr_json_get(extra, "reasoning"));
    }
    if (thinking.size > 0 && tr_json_get(extra, "thinking") == NULL) {
        tr_jsonw_name(w, "thinking");
        tr_jsonw_str(w, thinking);
    }
    if (turn->role == TR_CHAT_ASSISTANT) {
        tri_write_answer_members(w, extra, reserved);
    } else {
        tri_write_members(w, extra, reserved);
    }
}

/* A message has one text: its parts' one after the other. */
static void write_text(tr_jsonw *w, const tr_turn *turn) {
    size_t size = 0;
    for (size_t i = 0; i < turn->part_count; i++) {
        size += turn->parts[i].text.size;
    }
    char *text = malloc(size + 1);
    if (text == NULL) {
        w->err = w->err == TR_OK ? TR_ERR_NOMEM : w->err;
        return;
    }
    size = 0;
    for (size_t i = 0; i < turn->part_count; i++) {
        tr_str part = turn->parts[i].text;
        if (part.size > 0) {
            memcpy(text + size, part.ptr, part.size);
            size += part.size;
        }
    }
    tr_jsonw_str(w, (tr_str){text, size});
    free(text);
}

static void write_images(tr_jsonw *w, const tr_turn *turn) {
    bool opened = false;
    for (size_t i = 0; i < turn->part_count; i++) {
        if (turn->parts[i].kind != TR_PART_IMAGE) {
            continue;
        }
        if (!opened) {
            tr_jsonw_name(w, "images");
            tr_jsonw_open(w, '[');
            opened = true;
        }
        tr_jsonw_str(w, base64_of(turn->parts[i].url));
    }
    if (opened) {
        tr_jsonw_close(w, ']');
    }
}

/* What stands behind "data:…;base64,"; size 0 = the URL is no such one. */
static tr_str base64_of(tr_str url) {
    static const char mark[] = ";base64,";
    if (url.size < 5 || memcmp(url.ptr, "data:", 5) != 0) {
        return (tr_str){"", 0};
    }
    const char *at = memmem(url.ptr, url.size < 256 ? url.size : 256, mark, sizeof(mark) - 1);
    if (at == NULL) {
        return (tr_str){"", 0};
    }
    at += sizeof(mark) - 1;
    return (tr_str){at, url.size - (size_t)(at - url.ptr)};
}

static void write_calls(tr_jsonw *w, const tr_turn *turn) {
    static const char *const reserved[] = {"id", "type", "function", NULL};
    static const char *const inside[] = {"name", "arguments", NULL};
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < turn->call_count; i++) {
        const tr_tool_call_part *call = &turn->calls[i];
        tr_jsonw_open(w, '{');
        if (call->id.size > 0) {
            tr_jsonw_name(w, "id");
            tr_jsonw_str(w, call->id);
        }
        tr_jsonw_name(w, "function");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_str(w, call->name);
        tr_jsonw_name(w, "arguments");
        tr_jsonw_raw(w, call->arguments.size == 0 ? (tr_str){"{}", 2} : call->arguments);
        tri_write_extra(w, call->function_extra, inside);
        tr_jsonw_close(w, '}');
        tri_write_extra(w, call->extra, reserved);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

/* Those in neither list. */
static void write_members(tr_jsonw *w, const tr_json_value *object, const char *const *reserved,
                          const char *const *moved) {
    const tr_json_value *value = tr_json_first(object);
    for (; value != NULL; value = tr_json_next(value)) {
        tr_str name = tr_json_name(value);
        if (!listed(name, reserved) && !listed(name, moved)) {
            tr_jsonw_name_str(w, name);
            tr_jsonw_raw(w, tr_json_raw(value));
        }
    }
}
