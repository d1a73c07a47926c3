/*
 * A conversation with tools, in every dialect: the first answer calls the request's first tool once
 * for each word of the question that begins with a capital (the first word excepted), as the value
 * of the schema's first property; when results come, the answer is their texts. Tools and results
 * are looked for wherever an API may have them. Called by answer.c.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/mock/answer.h"

static bool is(const tr_json_value *value, const char *word) {
    tr_str text = tr_json_string(value);
    return text.size == strlen(word) && memcmp(text.ptr, word, text.size) == 0;
}

/* The first element, when it is an array. */
static const tr_json_value *elements(const tr_json_value *value) {
    bool array = value != NULL && tr_json_type_of(value) == TR_JSON_ARRAY;
    return array ? tr_json_first(value) : NULL;
}

static void add_result(FILE *out, const tr_json_value *result) {
    tr_str text =
        tr_json_type_of(result) == TR_JSON_STRING ? tr_json_string(result) : tr_json_raw(result);
    fprintf(out, "%.*s ", (int)text.size, text.ptr);
}

/* Anthropic's blocks and Gemini's parts. */
static bool add_parts(FILE *out, const tr_json_value *parts) {
    bool any = false;
    const tr_json_value *part = elements(parts);
    for (; part != NULL; part = tr_json_next(part)) {
        const tr_json_value *response = tr_json_get(part, "functionResponse");
        if (is(tr_json_get(part, "type"), "tool_result")) {
            add_result(out, tr_json_get(part, "content"));
            any = true;
        } else if (response != NULL) {
            add_result(out, tr_json_get(response, "response"));
            any = true;
        }
    }
    return any;
}

static bool add_turns(FILE *out, const tr_json_value *turns) {
    bool any = false;
    const tr_json_value *turn = elements(turns);
    for (; turn != NULL; turn = tr_json_next(turn)) {
        if (is(tr_json_get(turn, "role"), "tool")) {
            add_result(out, tr_json_get(turn, "content"));
            any = true;
        } else if (is(tr_json_get(turn, "type"), "function_call_output")) {
            add_result(out, tr_json_get(turn, "output"));
            any = true;
        } else {
            any = add_parts(out, tr_json_get(turn, "content")) || any;
            any = add_parts(out, tr_json_get(turn, "parts")) || any;
        }
    }
    return any;
}

static bool has_results(mock_request *request) {
    static const char *const places[] = {"messages", "input", "contents"};
    char *text = NULL;
    size_t size = 0;
    bool any = false;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out != NULL && i < 3; i++) {
        any = add_turns(out, tr_json_get(tr_json_root(request->json), places[i])) || any;
    }
    if (out != NULL) {
        fclose(out);
    }
    if (any) {
        free(request->echo);
        request->echo = text;
    } else {
        free(text);
    }
    return any;
}

static void add_call(mock_request *request, tr_str name, tr_str argument, tr_str value) {
    mock_call *call = &request->calls[request->call_count++];
    snprintf(call->name, sizeof(call->name), "%.*s", (int)name.size, name.ptr);
    snprintf(call->args, sizeof(call->args), "{\"%.*s\":\"%.*s\"}",
             (int)(argument.size < 64 ? argument.size : 64), argument.ptr,
             (int)(value.size < 64 ? value.size : 64), value.ptr);
}

static void call_for_words(mock_request *request) {
    const tr_json_value *tool = tr_json_first(tr_json_get(tr_json_root(request->json), "tools"));
    const tr_json_value *inner = tr_json_get(tool, "function");
    tool = inner != NULL ? inner : tool;
    inner = tr_json_first(tr_json_get(tool, "functionDeclarations"));
    tool = inner != NULL ? inner : tool;
    static const char *const schemas[] = {"parameters", "input_schema", "parametersJsonSchema"};
    const tr_json_value *schema = NULL;
    for (size_t i = 0; i < 3 && schema == NULL; i++) {
        schema = tr_json_get(tool, schemas[i]);
    }
    const tr_json_value *property = tr_json_first(tr_json_get(schema, "properties"));
    tr_str argument = property != NULL ? tr_json_name(property) : (tr_str){"a", 1};
    tr_str name = tr_json_string(tr_json_get(tool, "name"));
    const char *at = strchr(request->echo, ' ');
    for (; at != NULL && name.size > 0 && request->call_count < MOCK_CALLS_max;
         at = strchr(at, ' ')) {
        at++;
        size_t size = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
        if (*at >= 'A' && *at <= 'Z') {
            add_call(request, name, argument, (tr_str){at, size});
        }
    }
}

void mock_converse(mock_request *request) {
    mock_plan *plan = &request->plan;
    if (plan->converse != 0) {
        plan->tools = 0;
        if (has_results(request)) {
            plan->echo = 1;
            return;
        }
        call_for_words(request);
        plan->tools = request->call_count > 0;
    } else if (plan->tools != 0) {
        request->calls[0] = (mock_call){"mock", "{\"a\":1}"};
        request->call_count = 1;
    }
}
