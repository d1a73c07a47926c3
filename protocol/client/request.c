/*
 * tr_request: turns and tools, each rendered as JSON when it is added, so that sending a request
 * many times costs a copy each and whatever is wrong is said by the call that brought it. The body
 * is what protocol/chat.h reads, a superset of OpenAI's chat completions request. Text is escaped
 * by protocol/json; nothing here prints user text by hand. One thread at a time builds a request.
 */
#include "protocol/client/request.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/client/process.h"
#include "protocol/client/result.h"
#include "protocol/json.h"
#include "protocol/limits.h"

tr_err tri_add(tri_buffer *buffer, const char *text) {
    tr_err err = tri_buffer_add(buffer, text, strlen(text));
    return err == TR_OK ? TR_OK : tri_say_nomem();
}

tr_err tri_json_string(tri_buffer *buffer, const char *text) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_text(&w, text);
    char *json = NULL;
    size_t size = 0;
    tr_err err = tr_jsonw_take(&w, &json, &size);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM ? tri_say_nomem()
                                   : tri_say(TR_ERR_INVALID, "A text is not valid UTF-8.");
    }
    err = tri_buffer_add(buffer, json, size);
    free(json);
    return err == TR_OK ? TR_OK : tri_say_nomem();
}

static void turn_fini(tri_turn *turn) {
    tri_buffer_fini(&turn->text);
    tri_buffer_fini(&turn->parts);
    tri_buffer_fini(&turn->head);
    tri_buffer_fini(&turn->tail);
}

tr_err tr_request_new(const tr_options *options, tr_request **ret) {
    tr_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return tri_say_nomem();
    }
    tr_err err = tri_request_options(request, options);
    if (err != TR_OK) {
        tr_request_free(request);
        return err;
    }
    *ret = request;
    return TR_OK;
}

void tr_request_free(tr_request *request) {
    if (request == NULL) {
        return;
    }
    for (size_t i = 0; i < request->turn_count; i++) {
        turn_fini(&request->turns[i]);
    }
    free(request->turns);
    tri_buffer_fini(&request->fields);
    tri_buffer_fini(&request->choice);
    tri_buffer_fini(&request->tools);
    free(request->target);
    free(request->provider);
    free(request->base_url);
    free(request);
}

tr_err tri_request_turn(tr_request *request, const char *role, tri_turn **ret) {
    tri_turn *turns = realloc(request->turns, (request->turn_count + 1) * sizeof *turns);
    if (turns == NULL) {
        return tri_say_nomem();
    }
    request->turns = turns;
    tri_turn *turn = &turns[request->turn_count];
    *turn = (tri_turn){.user = strcmp(role, "user") == 0};
    tr_err err = tri_add(&turn->head, "{\"role\":\"");
    err = err == TR_OK ? tri_add(&turn->head, role) : err;
    err = err == TR_OK ? tri_add(&turn->head, "\"") : err;
    if (err != TR_OK) {
        turn_fini(turn);
        return err;
    }
    request->turn_count++;
    *ret = turn;
    return TR_OK;
}

/* The last turn goes again: what it should have held was refused. */
static tr_err drop_turn(tr_request *request, tr_err err) {
    if (err != TR_OK) {
        turn_fini(&request->turns[--request->turn_count]);
    }
    return err;
}

tr_err tr_request_text(tr_request *request, const char *role, const char *text) {
    static const char *const roles[] = {"system", "user", "assistant"};
    bool known = false;
    for (size_t i = 0; role != NULL && i < sizeof roles / sizeof roles[0]; i++) {
        known = known || strcmp(role, roles[i]) == 0;
    }
    if (!known || text == NULL) {
        return tri_say(TR_ERR_INVALID, "A turn needs a text and a role: \"system\", \"user\" or "
                                       "\"assistant\" (tr_request_tool_result for a tool's).");
    }
    tri_turn *turn = NULL;
    tr_err err = tri_request_turn(request, role, &turn);
    return err == TR_OK ? drop_turn(request, tri_json_string(&turn->text, text)) : err;
}

tr_err tr_request_tool(tr_request *request, const char *name, const char *description,
                       const char *schema_json) {
    if (name == NULL || name[0] == '\0' || strlen(name) > TR_NAME_max) {
        return tri_say(TR_ERR_INVALID, "A tool needs a name of 1 to 255 bytes.");
    }
    if (schema_json != NULL) {
        tr_json *schema = NULL;
        tr_json_fault fault = {0};
        tr_err err = tr_json_parse(schema_json, strlen(schema_json), &schema, &fault);
        bool object = err == TR_OK && tr_json_type_of(tr_json_root(schema)) == TR_JSON_OBJECT;
        tr_json_free(schema);
        if (!object) {
            return tri_say(TR_ERR_INVALID, "The schema of tool \"%s\" is not a JSON object%s%s.",
                           name, err != TR_OK ? ": " : "", err != TR_OK ? fault.reason : "");
        }
    }
    size_t before = request->tools.size;
    tr_err err = tri_add(&request->tools, before > 0 ? "," : "");
    err = err == TR_OK ? tri_add(&request->tools, "{\"type\":\"function\",\"function\":{\"name\":")
                       : err;
    err = err == TR_OK ? tri_json_string(&request->tools, name) : err;
    if (err == TR_OK && description != NULL) {
        err = tri_add(&request->tools, ",\"description\":");
        err = err == TR_OK ? tri_json_string(&request->tools, description) : err;
    }
    if (err == TR_OK && schema_json != NULL) {
        err = tri_add(&request->tools, ",\"parameters\":");
        err = err == TR_OK ? tri_add(&request->tools, schema_json) : err;
    }
    err = err == TR_OK ? tri_add(&request->tools, "}}") : err;
    if (err != TR_OK) {
        request->tools.size = before;
    }
    return err;
}

/* What only a provider can judge is left to it. */
static bool is_tool(const tr_json_value *tool) {
    return tr_json_type_of(tool) == TR_JSON_OBJECT &&
           tr_json_string(tr_json_get(tr_json_get(tool, "function"), "name")).size > 0;
}

static tr_err add_tools(tr_request *request, const tr_json_value *root) {
    bool many = tr_json_type_of(root) == TR_JSON_ARRAY;
    tr_err err = TR_OK;
    const tr_json_value *tool = many ? tr_json_first(root) : root;
    for (; tool != NULL && err == TR_OK; tool = many ? tr_json_next(tool) : NULL) {
        if (!is_tool(tool)) {
            return tri_say(TR_ERR_INVALID, "A tool is an object {\"type\":\"function\","
                                           "\"function\":{\"name\":…}}.");
        }
        tr_str raw = tr_json_raw(tool);
        err = tri_add(&request->tools, request->tools.size > 0 ? "," : "");
        err = err == TR_OK ? tri_buffer_add(&request->tools, raw.ptr, raw.size) : err;
    }
    return err == TR_OK ? TR_OK : tri_say_nomem();
}

tr_err tr_request_tools_json(tr_request *request, const char *json) {
    tr_json *tools = NULL;
    tr_json_fault fault = {0};
    tr_err err = tr_json_parse(json, strlen(json), &tools, &fault);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM ? tri_say_nomem()
                                   : tri_say(err, "The tools are not valid JSON: %s (at byte %zu).",
                                             fault.reason, fault.offset);
    }
    size_t before = request->tools.size;
    err = add_tools(request, tr_json_root(tools));
    tr_json_free(tools);
    if (err != TR_OK) {
        request->tools.size = before;
    }
    return err;
}

/* One of the three words, or a tool's name. */
static tr_err add_choice(tri_buffer *json, const char *choice) {
    if (strcmp(choice, "auto") == 0 || strcmp(choice, "none") == 0 ||
        strcmp(choice, "required") == 0) {
        return tri_json_string(json, choice);
    }
    tr_err err = tri_add(json, "{\"type\":\"function\",\"function\":{\"name\":");
    err = err == TR_OK ? tri_json_string(json, choice) : err;
    return err == TR_OK ? tri_add(json, "}}") : err;
}

tr_err tr_request_tool_choice(tr_request *request, const char *choice) {
    if (request->extra_choice) {
        return tri_say(TR_ERR_INVALID, "The option extra_json has the tool_choice already.");
    }
    if (choice != NULL && (choice[0] == '\0' || strlen(choice) > TR_NAME_max)) {
        return tri_say(TR_ERR_INVALID, "The option tool_choice takes \"auto\", \"none\", "
                                       "\"required\", or a tool's name of 1 to 255 bytes.");
    }
    tri_buffer json = {0};
    tr_err err = choice != NULL ? add_choice(&json, choice) : TR_OK;
    if (err != TR_OK) {
        tri_buffer_fini(&json);
        return err;
    }
    tri_buffer_fini(&request->choice);
    request->choice = json;
    return TR_OK;
}

tr_err tr_request_tool_result(tr_request *request, const char *call_id, const char *text) {
    if (call_id == NULL || text == NULL) {
        return tri_say(TR_ERR_INVALID, "A tool's result needs its call's id and a text.");
    }
    tri_turn *turn = NULL;
    tr_err err = tri_request_turn(request, "tool", &turn);
    if (err != TR_OK) {
        return err;
    }
    err = tri_add(&turn->head, ",\"tool_call_id\":");
    err = err == TR_OK ? tri_json_string(&turn->head, call_id) : err;
    return drop_turn(request, err == TR_OK ? tri_json_string(&turn->text, text) : err);
}

static tr_err add_call(tri_buffer *tail, size_t i, tr_tool_call call) {
    tr_err err = tri_add(tail, i == 0 ? ",\"tool_calls\":[{\"id\":" : ",{\"id\":");
    err = err == TR_OK ? tri_json_string(tail, call.id) : err;
    err = err == TR_OK ? tri_add(tail, ",\"type\":\"function\",\"function\":{\"name\":") : err;
    err = err == TR_OK ? tri_json_string(tail, call.name) : err;
    err = err == TR_OK ? tri_add(tail, ",\"arguments\":") : err;
    err = err == TR_OK ? tri_json_string(tail, call.arguments_json) : err;
    return err == TR_OK ? tri_add(tail, "}}") : err;
}

/* What is not JSON (bytes of a later kind) has no place in a body. */
static tr_err add_opaque(tri_buffer *tail, const tri_result_opaque *opaque) {
    tr_json *json = NULL;
    tr_err err = tr_json_parse(tri_buffer_text(&opaque->value), opaque->value.size, &json, NULL);
    tr_json_free(json);
    if (err != TR_OK) {
        return err == TR_ERR_NOMEM ? tri_say_nomem() : TR_OK;
    }
    err = tri_add(tail, ",");
    err = err == TR_OK ? tri_json_string(tail, tri_buffer_text(&opaque->name)) : err;
    err = err == TR_OK ? tri_add(tail, ":") : err;
    return err == TR_OK ? tri_buffer_add(tail, opaque->value.data, opaque->value.size) : err;
}

tr_err tr_request_answer(tr_request *request, const tr_result *result) {
    tri_turn *turn = NULL;
    tr_err err = tri_request_turn(request, "assistant", &turn);
    if (err != TR_OK) {
        return err;
    }
    const char *text = tr_result_text(result);
    turn->no_content = text[0] == '\0' && result->call_count > 0;
    err = tri_json_string(&turn->text, text);
    for (size_t i = 0; i < result->call_count && err == TR_OK; i++) {
        err = add_call(&turn->tail, i, tr_result_tool_call(result, i));
    }
    if (err == TR_OK && result->call_count > 0) {
        err = tri_add(&turn->tail, "]");
    }
    for (size_t i = 0; i < result->opaque_count && err == TR_OK; i++) {
        err = add_opaque(&turn->tail, &result->opaques[i]);
    }
    return drop_turn(request, err);
}

static tr_err add_turn(tri_buffer *body, const tri_turn *turn) {
    tr_err err = tri_buffer_add(body, turn->head.data, turn->head.size);
    err = err == TR_OK ? tri_add(body, ",\"content\":") : err;
    if (err != TR_OK) {
        return err;
    }
    if (turn->parts.size > 0) {
        err = tri_add(body, "[");
        err = err == TR_OK ? tri_buffer_add(body, turn->parts.data, turn->parts.size) : err;
        err = err == TR_OK ? tri_add(body, "]") : err;
    } else if (turn->no_content) {
        err = tri_add(body, "null");
    } else {
        err = tri_buffer_add(body, turn->text.data, turn->text.size);
    }
    err = err == TR_OK ? tri_buffer_add(body, turn->tail.data, turn->tail.size) : err;
    return err == TR_OK ? tri_add(body, "}") : err;
}

static tr_err finish_body(const tr_request *request, tri_buffer *body) {
    tr_err err = TR_OK;
    if (request->choice.size > 0) {
        err = tri_add(body, ",\"tool_choice\":");
        err = err == TR_OK ? tri_buffer_add(body, request->choice.data, request->choice.size) : err;
    }
    if (err == TR_OK && request->fields.size > 0) {
        err = tri_add(body, ",");
        err = err == TR_OK ? tri_buffer_add(body, request->fields.data, request->fields.size) : err;
    }
    err = err == TR_OK ? tri_add(body, "}") : err;
    if (err == TR_OK && body->size > TR_FRAME_BODY_max) {
        return tri_say(TR_ERR_TOO_LARGE, "The request is %zu bytes, at most %d are allowed.",
                       body->size, TR_FRAME_BODY_max);
    }
    return err == TR_OK ? TR_OK : tri_say_nomem();
}

tr_err tri_request_body(const tr_request *request, tri_buffer *body) {
    if (request->turn_count == 0) {
        return tri_say(TR_ERR_INVALID, "The request has no turn: add one with tr_request_text.");
    }
    tr_err err = tri_add(body, "{\"messages\":[");
    for (size_t i = 0; i < request->turn_count && err == TR_OK; i++) {
        err = i > 0 ? tri_add(body, ",") : TR_OK;
        err = err == TR_OK ? add_turn(body, &request->turns[i]) : err;
    }
    err = err == TR_OK ? tri_add(body, "]") : err;
    if (err == TR_OK && request->tools.size > 0) {
        err = tri_add(body, ",\"tools\":[");
        err = err == TR_OK ? tri_buffer_add(body, request->tools.data, request->tools.size) : err;
        err = err == TR_OK ? tri_add(body, "]") : err;
    }
    return err == TR_OK ? finish_body(request, body) : tri_say_nomem();
}

tr_err tri_request_inputs(const tr_request *request, const char *const *texts, size_t n,
                          tri_buffer *body) {
    tr_err err = tri_add(body, "{\"input\":[");
    for (size_t i = 0; i < n && err == TR_OK; i++) {
        err = i > 0 ? tri_add(body, ",") : TR_OK;
        err = err == TR_OK ? tri_json_string(body, texts[i]) : err;
    }
    err = err == TR_OK ? tri_add(body, "]") : err;
    return err == TR_OK ? finish_body(request, body) : err;
}

tr_err tr_request_json(const tr_request *request, char **ret) {
    tri_buffer body = {0};
    tr_err err = tri_request_body(request, &body);
    if (err != TR_OK) {
        tri_buffer_fini(&body);
        return err;
    }
    *ret = (char *)body.data;
    return TR_OK;
}
