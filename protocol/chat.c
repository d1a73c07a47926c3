/*
 * Reading the common request. Two walks over the parsed JSON: the first counts what will be kept,
 * so that struct and arrays lie in one block; the second fills it. Fields that this file does not
 * know are collected, as they were written, into the `extra` of their place, so that nothing a
 * provider understands is lost on the way.
 */
#include "protocol/chat.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/limits.h"

typedef struct extra_text {
    struct extra_text *next;
    char *text;
} extra_text;

/* What tr_chat_free must find again: the block begins with it. */
typedef struct whole {
    tr_chat chat;
    extra_text *extras;
} whole;

typedef struct reader {
    whole *whole;
    char *why;
    size_t why_size;
    size_t turns, parts, calls, tools, stops, inputs; /* counted, then used from the end */
    tr_part *part_at;
    tr_tool_call_part *call_at;
} reader;

__attribute__((format(printf, 2, 3))) static tr_err refuse(reader *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->why, r->why_size, format, args);
    va_end(args);
    return TR_ERR_INVALID;
}

static bool is_null(const tr_json_value *value) {
    return value == NULL || tr_json_type_of(value) == TR_JSON_NULL;
}

static bool is_type(const tr_json_value *value, tr_json_type type) {
    return value != NULL && tr_json_type_of(value) == type;
}

static bool equals(tr_str str, const char *text) {
    return str.size == strlen(text) && memcmp(str.ptr, text, str.size) == 0;
}

/* Collects the members of `object` whose names are not in `known` (a NULL-terminated list). */
static tr_err take_extra(reader *r, const tr_json_value *object, const char *const *known,
                         tr_str *ret) {
    tr_jsonw w;
    size_t count = 0;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    for (const tr_json_value *member = tr_json_first(object); member != NULL;
         member = tr_json_next(member)) {
        size_t i = 0;
        while (known[i] != NULL && !equals(tr_json_name(member), known[i])) {
            i++;
        }
        if (known[i] == NULL) {
            tr_jsonw_name_str(&w, tr_json_name(member));
            tr_jsonw_raw(&w, tr_json_raw(member));
            count++;
        }
    }
    tr_jsonw_close(&w, '}');
    *ret = (tr_str){NULL, 0};
    if (count == 0) {
        tr_jsonw_fini(&w);
        return TR_OK;
    }
    extra_text *kept = malloc(sizeof *kept);
    char *text;
    size_t size;
    tr_err err = tr_jsonw_take(&w, &text, &size);
    if (err != TR_OK || kept == NULL) {
        free(kept);
        if (err == TR_OK) {
            free(text);
        }
        return TR_ERR_NOMEM;
    }
    *kept = (extra_text){.next = r->whole->extras, .text = text};
    r->whole->extras = kept;
    *ret = (tr_str){text, size};
    return TR_OK;
}

/* --- plain fields --- */

static tr_err take_number(reader *r, const tr_json_value *root, const char *name, double min,
                          double max, double *ret) {
    const tr_json_value *value = tr_json_get(root, name);
    *ret = NAN;
    if (is_null(value)) {
        return TR_OK;
    }
    double number = tr_json_number(value, NAN);
    if (!(number >= min && number <= max)) {
        return refuse(r, "%s: expected a number from %g to %g", name, min, max);
    }
    *ret = number;
    return TR_OK;
}

static tr_err take_int(reader *r, const tr_json_value *root, const char *name, int64_t min,
                       int64_t max, int64_t *ret) {
    const tr_json_value *value = tr_json_get(root, name);
    *ret = -1;
    if (is_null(value)) {
        return TR_OK;
    }
    int64_t number = tr_json_int(value, INT64_MIN);
    if (number < min || number > max) {
        return refuse(r, "%s: expected a whole number from %lld to %lld", name, (long long)min,
                      (long long)max);
    }
    *ret = number;
    return TR_OK;
}

/* `name` may lead to its member through objects, for the sentence: "function.name". */
static tr_err take_text(reader *r, const tr_json_value *object, const char *path, const char *name,
                        bool needed, tr_str *ret) {
    const char *dot = strrchr(name, '.');
    const tr_json_value *value = tr_json_get(object, dot != NULL ? dot + 1 : name);
    *ret = (tr_str){NULL, 0};
    if (is_null(value) && !needed) {
        return TR_OK;
    }
    if (!is_type(value, TR_JSON_STRING)) {
        return refuse(r, "%s%s: expected a string", path, name);
    }
    *ret = tr_json_string(value);
    return TR_OK;
}

static tr_err take_sampling(reader *r, const tr_json_value *root, tr_chat *chat) {
    const struct {
        const char *name;
        double min, max;
        double *ret;
    } numbers[] = {
        {"temperature", 0, 100, &chat->temperature},
        {"top_p", 0, 1, &chat->top_p},
        {"min_p", 0, 1, &chat->min_p},
        {"repeat_penalty", 0, 100, &chat->repeat_penalty},
        {"frequency_penalty", -100, 100, &chat->frequency_penalty},
        {"presence_penalty", -100, 100, &chat->presence_penalty},
    };
    const struct {
        const char *name;
        int64_t min, max;
        int64_t *ret;
    } ints[] = {
        {"top_k", 0, INT32_MAX, &chat->top_k},
        {"repeat_last_n", 0, INT32_MAX, &chat->repeat_last_n},
        {"seed", 0, INT64_MAX, &chat->seed},
    };
    tr_err err = TR_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && err == TR_OK; i++) {
        err = take_number(r, root, numbers[i].name, numbers[i].min, numbers[i].max, numbers[i].ret);
    }
    for (size_t i = 0; i < sizeof ints / sizeof *ints && err == TR_OK; i++) {
        err = take_int(r, root, ints[i].name, ints[i].min, ints[i].max, ints[i].ret);
    }
    int64_t newer = -1;
    if (err == TR_OK) {
        err = take_int(r, root, "max_tokens", 1, INT32_MAX, &chat->max_tokens);
    }
    if (err == TR_OK) {
        err = take_int(r, root, "max_completion_tokens", 1, INT32_MAX, &newer);
    }
    if (err == TR_OK && newer > 0) {
        if (chat->max_tokens > 0 && chat->max_tokens != newer) {
            return refuse(r, "max_tokens and max_completion_tokens contradict each other");
        }
        chat->max_tokens = newer;
    }
    return err;
}

static tr_err take_texts(reader *r, const tr_json_value *value, const char *name, size_t size_max,
                         tr_str *out) {
    const tr_json_value *one = is_type(value, TR_JSON_ARRAY) ? tr_json_first(value) : value;
    if (is_null(value)) {
        return TR_OK;
    }
    for (size_t i = 0; one != NULL; i++) {
        tr_str text = tr_json_string(one);
        if (!is_type(one, TR_JSON_STRING) || text.size == 0) {
            return refuse(r, "%s: entry %zu: expected a string that is not empty", name, i);
        }
        if (text.size > size_max) {
            return refuse(r, "%s: entry %zu has %zu bytes, at most %zu are allowed", name, i,
                          text.size, size_max);
        }
        out[i] = text;
        one = is_type(value, TR_JSON_ARRAY) ? tr_json_next(one) : NULL;
    }
    return TR_OK;
}

static size_t count_texts(const tr_json_value *value) {
    return is_null(value) ? 0 : is_type(value, TR_JSON_ARRAY) ? tr_json_count(value) : 1;
}

static tr_err take_format(reader *r, const tr_json_value *root, tr_chat *chat) {
    const tr_json_value *format = tr_json_get(root, "response_format");
    if (is_null(format)) {
        return TR_OK;
    }
    tr_str type = tr_json_string(tr_json_get(format, "type"));
    chat->format = tr_json_raw(format);
    if (equals(type, "json_schema")) {
        const tr_json_value *schema = tr_json_get(tr_json_get(format, "json_schema"), "schema");
        if (!is_type(schema, TR_JSON_OBJECT)) {
            return refuse(r, "response_format.json_schema.schema: expected an object");
        }
        chat->schema = tr_json_raw(schema);
    } else if (equals(type, "json_object")) {
        chat->schema = (tr_str){"{\"type\":\"object\"}", 17};
    } else if (!equals(type, "text")) {
        return refuse(r, "response_format.type: expected text, json_object or json_schema");
    }
    return TR_OK;
}

/* --- messages --- */

static tr_err take_part(reader *r, const tr_json_value *value, size_t turn, size_t index,
                        tr_part *part) {
    static const char *const text_known[] = {"type", "text", NULL};
    static const char *const image_known[] = {"type", "image_url", NULL};
    static const char *const url_known[] = {"url", NULL};
    char path[64];
    snprintf(path, sizeof path, "messages[%zu].content[%zu].", turn, index);
    tr_str type = tr_json_string(tr_json_get(value, "type"));
    if (equals(type, "text")) {
        part->kind = TR_PART_TEXT;
        tr_err err = take_text(r, value, path, "text", true, &part->text);
        return err == TR_OK ? take_extra(r, value, text_known, &part->extra) : err;
    }
    if (equals(type, "image_url")) {
        const tr_json_value *image = tr_json_get(value, "image_url");
        part->kind = TR_PART_IMAGE;
        tr_err err = TR_OK;
        if (is_type(image, TR_JSON_STRING)) {
            part->url = tr_json_string(image);
        } else {
            err = take_text(r, image, path, "image_url.url", true, &part->url);
        }
        if (err == TR_OK && part->url.size == 0) {
            return refuse(r, "%simage_url.url: is empty", path);
        }
        if (err == TR_OK && is_type(image, TR_JSON_OBJECT)) {
            err = take_extra(r, image, url_known, &part->image_extra);
        }
        return err == TR_OK ? take_extra(r, value, image_known, &part->extra) : err;
    }
    return refuse(r, "%stype: expected \"text\" or \"image_url\"", path);
}

static tr_err take_content(reader *r, const tr_json_value *content, size_t index, tr_turn *turn) {
    turn->parts = r->part_at;
    if (is_null(content)) {
        return TR_OK;
    }
    if (is_type(content, TR_JSON_STRING)) {
        *r->part_at++ = (tr_part){.kind = TR_PART_TEXT, .text = tr_json_string(content)};
        turn->part_count = 1;
        return TR_OK;
    }
    if (!is_type(content, TR_JSON_ARRAY)) {
        return refuse(r, "messages[%zu].content: expected a string or an array of parts", index);
    }
    for (const tr_json_value *value = tr_json_first(content); value != NULL;
         value = tr_json_next(value)) {
        tr_err err = take_part(r, value, index, turn->part_count, r->part_at);
        if (err != TR_OK) {
            return err;
        }
        r->part_at++;
        turn->part_count++;
    }
    return TR_OK;
}

/* The name of a function stands in a call and in a tool, beside what only its provider knows. */
static tr_err take_function(reader *r, const tr_json_value *value, const char *path,
                            const char *const *known, tr_str *ret_name, tr_str *ret_extra) {
    const tr_json_value *type = tr_json_get(value, "type");
    const tr_json_value *function = tr_json_get(value, "function");
    if (!is_null(type) && !equals(tr_json_string(type), "function")) {
        return refuse(r, "%stype: expected \"function\"", path);
    }
    if (!is_type(function, TR_JSON_OBJECT)) {
        return refuse(r, "%sfunction: expected an object", path);
    }
    tr_err err = take_text(r, function, path, "function.name", true, ret_name);
    if (err == TR_OK && ret_name->size == 0) {
        return refuse(r, "%sfunction.name: is empty", path);
    }
    return err == TR_OK ? take_extra(r, function, known, ret_extra) : err;
}

static tr_err take_call(reader *r, const tr_json_value *value, size_t turn, size_t index,
                        tr_tool_call_part *call) {
    static const char *const known[] = {"id", "type", "function", NULL};
    static const char *const function_known[] = {"name", "arguments", NULL};
    char path[64];
    snprintf(path, sizeof path, "messages[%zu].tool_calls[%zu].", turn, index);
    tr_err err = take_text(r, value, path, "id", true, &call->id);
    if (err == TR_OK) {
        err = take_function(r, value, path, function_known, &call->name, &call->function_extra);
    }
    if (err != TR_OK) {
        return err;
    }
    const tr_json_value *arguments = tr_json_get(tr_json_get(value, "function"), "arguments");
    if (is_type(arguments, TR_JSON_OBJECT)) { /* as Ollama's clients write them */
        call->arguments = tr_json_raw(arguments);
    } else {
        err = take_text(r, tr_json_get(value, "function"), path, "function.arguments", false,
                        &call->arguments);
    }
    return err == TR_OK ? take_extra(r, value, known, &call->extra) : err;
}

/* The first name of a role is the one that is written. */
static const struct {
    const char *name;
    tr_chat_role role;
} roles[] = {{"system", TR_CHAT_SYSTEM},
             {"developer", TR_CHAT_SYSTEM},
             {"user", TR_CHAT_USER},
             {"assistant", TR_CHAT_ASSISTANT},
             {"tool", TR_CHAT_TOOL}};

const char *tr_chat_role_name(tr_chat_role role) {
    size_t i = 0;
    while (roles[i].role != role) {
        i++;
        TR_ASSERT(i < sizeof roles / sizeof *roles);
    }
    return roles[i].name;
}

static tr_err take_role(reader *r, const tr_json_value *value, size_t index, tr_chat_role *ret) {
    tr_str role = tr_json_string(tr_json_get(value, "role"));
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (equals(role, roles[i].name)) {
            *ret = roles[i].role;
            return TR_OK;
        }
    }
    return refuse(r, "messages[%zu].role: expected system, user, assistant or tool", index);
}

static tr_err take_turn(reader *r, const tr_json_value *value, size_t index, tr_turn *turn) {
    static const char *const known[] = {"role", "content", "tool_calls", "tool_call_id", NULL};
    char path[32];
    snprintf(path, sizeof path, "messages[%zu].", index);
    if (!is_type(value, TR_JSON_OBJECT)) {
        return refuse(r, "messages[%zu]: expected an object", index);
    }
    tr_err err = take_role(r, value, index, &turn->role);
    if (err == TR_OK) {
        err = take_content(r, tr_json_get(value, "content"), index, turn);
    }
    turn->calls = r->call_at;
    const tr_json_value *calls = tr_json_get(value, "tool_calls");
    for (const tr_json_value *call = tr_json_first(calls); call != NULL && err == TR_OK;
         call = tr_json_next(call)) {
        err = take_call(r, call, index, turn->call_count++, r->call_at++);
    }
    if (err == TR_OK) {
        err = take_text(r, value, path, "tool_call_id", turn->role == TR_CHAT_TOOL,
                        &turn->tool_call_id);
    }
    if (err == TR_OK && turn->part_count == 0 && turn->call_count == 0) {
        return refuse(r, "messages[%zu].content: is missing", index);
    }
    return err == TR_OK ? take_extra(r, value, known, &turn->extra) : err;
}

/* A prompt that says nothing is a mistake, not a question. */
static tr_err check_prompt(reader *r, const tr_chat *chat) {
    for (size_t i = 0; i < chat->turn_count; i++) {
        const tr_turn *turn = &chat->turns[i];
        if (turn->role == TR_CHAT_SYSTEM) {
            continue;
        }
        for (size_t k = 0; k < turn->part_count; k++) {
            if (turn->parts[k].kind == TR_PART_IMAGE || turn->parts[k].text.size > 0) {
                return TR_OK;
            }
        }
        if (turn->call_count > 0) {
            return TR_OK;
        }
    }
    return refuse(r, "messages: the prompt is empty");
}

static tr_err take_tool(reader *r, const tr_json_value *value, size_t index, tr_tool *tool) {
    static const char *const known[] = {"type", "function", NULL};
    static const char *const function_known[] = {"name", "description", "parameters", NULL};
    char path[32];
    snprintf(path, sizeof path, "tools[%zu].", index);
    if (is_null(tr_json_get(value, "type"))) {
        return refuse(r, "%stype: expected \"function\"", path);
    }
    tr_err err = take_function(r, value, path, function_known, &tool->name, &tool->function_extra);
    const tr_json_value *function = tr_json_get(value, "function");
    if (err == TR_OK) {
        err = take_text(r, function, path, "function.description", false, &tool->description);
    }
    const tr_json_value *parameters = tr_json_get(function, "parameters");
    if (err == TR_OK && !is_null(parameters) && !is_type(parameters, TR_JSON_OBJECT)) {
        return refuse(r, "%sfunction.parameters: expected an object", path);
    }
    tool->parameters = is_null(parameters) ? (tr_str){NULL, 0} : tr_json_raw(parameters);
    return err == TR_OK ? take_extra(r, value, known, &tool->extra) : err;
}

/* --- the whole --- */

static tr_err count(reader *r, const tr_json_value *root, tr_op op) {
    if (!is_type(root, TR_JSON_OBJECT)) {
        return refuse(r, "expected a JSON object");
    }
    const tr_json_value *messages = tr_json_get(root, "messages");
    const tr_json_value *stop = tr_json_get(root, "stop");
    r->inputs = op == TR_OP_EMBED ? count_texts(tr_json_get(root, "input")) : 0;
    r->stops = count_texts(stop);
    const tr_json_value *tools = tr_json_get(root, "tools");
    if (!is_null(tools) && !is_type(tools, TR_JSON_ARRAY)) {
        return refuse(r, "tools: expected an array");
    }
    r->tools = tr_json_count(tools);
    if (r->inputs > TR_INPUTS_max) {
        return refuse(r, "input: at most %d texts are allowed", TR_INPUTS_max);
    }
    if (r->stops > TR_STOP_max) {
        return refuse(r, "stop: at most %d strings are allowed", TR_STOP_max);
    }
    if (op == TR_OP_EMBED) {
        return r->inputs > 0 ? TR_OK : refuse(r, "input: expected a string or an array of strings");
    }
    if (!is_type(messages, TR_JSON_ARRAY) || tr_json_count(messages) == 0) {
        return refuse(r, "messages: expected an array with at least one message");
    }
    r->turns = tr_json_count(messages);
    size_t index = 0;
    for (const tr_json_value *turn = tr_json_first(messages); turn != NULL;
         turn = tr_json_next(turn), index++) {
        const tr_json_value *content = tr_json_get(turn, "content");
        const tr_json_value *calls = tr_json_get(turn, "tool_calls");
        r->parts += is_type(content, TR_JSON_ARRAY) ? tr_json_count(content) : 1;
        if (!is_null(calls) && !is_type(calls, TR_JSON_ARRAY)) {
            return refuse(r, "messages[%zu].tool_calls: expected an array", index);
        }
        r->calls += tr_json_count(calls);
    }
    return TR_OK;
}

/* One block for the struct and all arrays. */
static whole *allocate(reader *r) {
    size_t size = sizeof(whole) + r->turns * sizeof(tr_turn) + r->parts * sizeof(tr_part) +
                  r->calls * sizeof(tr_tool_call_part) + r->tools * sizeof(tr_tool) +
                  (r->stops + r->inputs) * sizeof(tr_str);
    whole *made = calloc(1, size);
    if (made == NULL) {
        return NULL;
    }
    tr_chat *chat = &made->chat;
    char *at = (char *)(made + 1);
    chat->turns = (tr_turn *)(void *)at;
    at += r->turns * sizeof(tr_turn);
    r->part_at = (tr_part *)(void *)at;
    at += r->parts * sizeof(tr_part);
    r->call_at = (tr_tool_call_part *)(void *)at;
    at += r->calls * sizeof(tr_tool_call_part);
    chat->tools = (tr_tool *)(void *)at;
    at += r->tools * sizeof(tr_tool);
    chat->stops = (tr_str *)(void *)at;
    chat->inputs = chat->stops + r->stops;
    chat->turn_count = r->turns;
    chat->tool_count = r->tools;
    chat->stop_count = r->stops;
    chat->input_count = r->inputs;
    return made;
}

static tr_err fill(reader *r, const tr_json_value *root) {
    static const char *const known[] = {"messages",
                                        "tools",
                                        "tool_choice",
                                        "temperature",
                                        "top_p",
                                        "min_p",
                                        "top_k",
                                        "repeat_penalty",
                                        "repeat_last_n",
                                        "seed",
                                        "max_tokens",
                                        "max_completion_tokens",
                                        "frequency_penalty",
                                        "stop",
                                        "presence_penalty",
                                        "grammar",
                                        "response_format",
                                        "input",
                                        "reasoning_effort",
                                        "model",
                                        "stream",
                                        "stream_options",
                                        NULL};
    tr_chat *chat = &r->whole->chat;
    tr_err err = take_sampling(r, root, chat);
    if (err == TR_OK) {
        err = take_texts(r, tr_json_get(root, "stop"), "stop", TR_STOP_TEXT_max,
                         (tr_str *)chat->stops);
    }
    if (err == TR_OK && r->inputs > 0) {
        err = take_texts(r, tr_json_get(root, "input"), "input", TR_FRAME_BODY_max,
                         (tr_str *)chat->inputs);
    }
    size_t index = 0;
    for (const tr_json_value *turn = tr_json_first(tr_json_get(root, "messages"));
         turn != NULL && err == TR_OK && r->turns > 0; turn = tr_json_next(turn)) {
        err = take_turn(r, turn, index, (tr_turn *)&chat->turns[index]);
        index++;
    }
    index = 0;
    for (const tr_json_value *tool = tr_json_first(tr_json_get(root, "tools"));
         tool != NULL && err == TR_OK; tool = tr_json_next(tool)) {
        err = take_tool(r, tool, index, (tr_tool *)&chat->tools[index]);
        index++;
    }
    if (err == TR_OK && r->turns > 0) {
        err = check_prompt(r, chat);
    }
    if (err == TR_OK) {
        err = take_text(r, root, "", "grammar", false, &chat->grammar);
    }
    if (err == TR_OK) {
        err = take_text(r, root, "", "reasoning_effort", false, &chat->reasoning_effort);
    }
    const tr_json_value *choice = tr_json_get(root, "tool_choice");
    if (err == TR_OK && !is_null(choice) && !is_type(choice, TR_JSON_STRING) &&
        !is_type(choice, TR_JSON_OBJECT)) {
        return refuse(r, "tool_choice: expected a string or an object");
    }
    chat->tool_choice = is_null(choice) ? (tr_str){NULL, 0} : tr_json_raw(choice);
    if (err == TR_OK) {
        err = take_format(r, root, chat);
    }
    return err == TR_OK ? take_extra(r, root, known, &chat->extra) : err;
}

tr_err tr_chat_parse(tr_op op, const char *text, size_t size, tr_chat **ret, char *ret_why,
                     size_t why_size) {
    TR_ASSERT(op == TR_OP_CHAT || op == TR_OP_EMBED || op == TR_OP_COUNT);
    reader r = {.why = ret_why, .why_size = why_size};
    tr_json_fault fault = {0};
    tr_json *json;
    tr_err err = tr_json_parse_max(text, size, TR_CHAT_VALUES_max, &json, &fault);
    if (err == TR_ERR_INVALID) {
        return refuse(&r, "the request is not JSON: %s, at byte %zu", fault.reason, fault.offset);
    }
    if (err != TR_OK) {
        snprintf(ret_why, why_size, "%s", tr_err_text(err));
        return err;
    }
    err = count(&r, tr_json_root(json), op);
    if (err != TR_OK) {
        tr_json_free(json);
        return err;
    }
    r.whole = allocate(&r);
    if (r.whole == NULL) {
        tr_json_free(json);
        snprintf(ret_why, why_size, "%s", tr_err_text(TR_ERR_NOMEM));
        return TR_ERR_NOMEM;
    }
    r.whole->chat.json = json;
    err = fill(&r, tr_json_root(json));
    if (err != TR_OK) {
        if (err == TR_ERR_NOMEM) {
            snprintf(ret_why, why_size, "%s", tr_err_text(err));
        }
        tr_chat_free(&r.whole->chat);
        return err;
    }
    *ret = &r.whole->chat;
    return TR_OK;
}

void tr_chat_free(tr_chat *chat) {
    if (chat == NULL) {
        return;
    }
    whole *made = (whole *)(void *)chat;
    while (made->extras != NULL) {
        extra_text *next = made->extras->next;
        free(made->extras->text);
        free(made->extras);
        made->extras = next;
    }
    tr_json_free(chat->json);
    free(made);
}
