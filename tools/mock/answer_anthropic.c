/*
 * Answers in the shapes of Anthropic's Messages API: named events, one block of thinking, then one
 * of text or a tool call; whole messages; the counting of tokens. What the real server refuses and
 * a client may get wrong (no max_tokens, a system message among the others, thoughts that were not
 * brought back before a tool call) is refused here too. Called by conn.c.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/mock/answer.h"

#define ID "msg_mock"
#define SIGNATURE "bW9jaw=="

static bool serves(tr_str path, mock_request *request) {
    request->count = mock_path_is(path, "/messages/count_tokens");
    request->needs = "messages";
    return request->count || mock_path_is(path, "/v1/messages");
}

static bool is(const tr_json_value *value, const char *word) {
    tr_str text = tr_json_string(value);
    return text.size == strlen(word) && memcmp(text.ptr, word, text.size) == 0;
}

/* Whether a message calls a tool without thinking before it. */
static bool thoughtless(const tr_json_value *message) {
    const tr_json_value *block = tr_json_first(tr_json_get(message, "content"));
    const tr_json_value *type = tr_json_get(block, "type");
    bool thinks = is(type, "thinking") || is(type, "redacted_thinking");
    for (; block != NULL; block = tr_json_next(block)) {
        if (!thinks && is(tr_json_get(block, "type"), "tool_use")) {
            return true;
        }
    }
    return false;
}

static bool check(mock_request *request, char *why, size_t why_size) {
    const tr_json_value *root = tr_json_root(request->json);
    const tr_json_value *thinking = tr_json_get(tr_json_get(root, "thinking"), "type");
    bool thinks = is(thinking, "enabled") || is(thinking, "adaptive");
    if (!request->count && tr_json_int(tr_json_get(root, "max_tokens"), 0) < 1) {
        snprintf(why, why_size, "max_tokens: Field required");
        return false;
    }
    const tr_json_value *message = tr_json_first(tr_json_get(root, "messages"));
    for (; message != NULL; message = tr_json_next(message)) {
        const tr_json_value *role = tr_json_get(message, "role");
        if (!is(role, "user") && !is(role, "assistant")) {
            snprintf(why, why_size, "messages: Input should be 'user' or 'assistant'");
            return false;
        }
        if (thinks && is(role, "assistant") && thoughtless(message)) {
            snprintf(why, why_size,
                     "messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`");
            return false;
        }
    }
    return true;
}

/* Takes both texts and gives them as one; NULL when one is. */
static char *join(char *a, char *b) {
    char *text = NULL;
    if (a != NULL && b != NULL && asprintf(&text, "%s%s", a, b) < 0) {
        text = NULL;
    }
    free(a);
    free(b);
    return text;
}

static void open_event(tr_jsonw *w, const char *type) {
    tr_jsonw_init(w);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, type);
}

static char *close_event(tr_jsonw *w, const mock_request *request, const char *type) {
    char before[64];
    snprintf(before, sizeof(before), "event: %s%sdata: ", type,
             request->plan.crlf != 0 ? "\r\n" : "\n");
    tr_jsonw_close(w, '}');
    return mock_take_text(w, before, mock_blank_line(request));
}

static void raw(tr_jsonw *w, const char *name, const char *json) {
    tr_jsonw_name(w, name);
    tr_jsonw_raw(w, (tr_str){json, strlen(json)});
}

static uint64_t tokens_in(const mock_request *request) {
    return request->echo == NULL ? 0 : strlen(request->echo);
}

static void write_usage(tr_jsonw *w, const mock_request *request, uint64_t out) {
    tr_jsonw_name(w, "usage");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "input_tokens");
    tr_jsonw_uint(w, tokens_in(request));
    tr_jsonw_name(w, "output_tokens");
    tr_jsonw_uint(w, out);
    tr_jsonw_close(w, '}');
}

static char *event_role(const mock_request *request) {
    tr_jsonw w;
    open_event(&w, "message_start");
    tr_jsonw_name(&w, "message");
    tr_jsonw_open(&w, '{');
    raw(&w, "id", "\"" ID "\"");
    raw(&w, "type", "\"message\"");
    raw(&w, "role", "\"assistant\"");
    tr_jsonw_name(&w, "model");
    tr_jsonw_text(&w, request->model);
    raw(&w, "content", "[]");
    raw(&w, "stop_reason", "null");
    if (request->plan.nousage == 0) {
        write_usage(&w, request, 1);
    }
    tr_jsonw_close(&w, '}');
    char *start = close_event(&w, request, "message_start");
    open_event(&w, "ping");
    return join(start, close_event(&w, request, "ping"));
}

static char *event_start(const mock_request *request, uint64_t index, const char *block) {
    tr_jsonw w;
    open_event(&w, "content_block_start");
    tr_jsonw_name(&w, "index");
    tr_jsonw_uint(&w, index);
    raw(&w, "content_block", block);
    return close_event(&w, request, "content_block_start");
}

static char *event_stop(const mock_request *request, uint64_t index) {
    tr_jsonw w;
    open_event(&w, "content_block_stop");
    tr_jsonw_name(&w, "index");
    tr_jsonw_uint(&w, index);
    return close_event(&w, request, "content_block_stop");
}

static char *event_delta(const mock_request *request, uint64_t index, const char *type,
                         const char *name, tr_str text) {
    tr_jsonw w;
    open_event(&w, "content_block_delta");
    tr_jsonw_name(&w, "index");
    tr_jsonw_uint(&w, index);
    tr_jsonw_name(&w, "delta");
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "type");
    tr_jsonw_text(&w, type);
    tr_jsonw_name(&w, name);
    tr_jsonw_str(&w, text);
    tr_jsonw_close(&w, '}');
    return close_event(&w, request, "content_block_delta");
}

/* A call's block; the first has the id without a number. To be freed. */
static char *tool_block(const mock_request *request, uint64_t i, const char *input) {
    char *text = NULL;
    char number[24] = "";
    if (i > 0) {
        snprintf(number, sizeof(number), "_%llu", (unsigned long long)i + 1);
    }
    int size = asprintf(&text,
                        "{\"type\":\"tool_use\",\"id\":\"toolu_mock%s\",\"name\":\"%s\","
                        "\"input\":%s}",
                        number, request->calls[i].name, input);
    return size < 0 ? NULL : text;
}

/* Each call is a block of its own: its beginning, its arguments in two pieces, and its end, which
 * the last one gets from what ends the answer. */
static char *event_call(const mock_request *request, uint64_t index, uint64_t i) {
    char *block = tool_block(request, i, "{}");
    char *text = block != NULL ? event_start(request, index + i, block) : NULL;
    const char *args = request->calls[i].args;
    size_t half = strlen(args) / 2;
    free(block);
    text = join(text, event_delta(request, index + i, "input_json_delta", "partial_json",
                                  (tr_str){args, half}));
    text = join(text, event_delta(request, index + i, "input_json_delta", "partial_json",
                                  (tr_str){args + half, strlen(args + half)}));
    return i + 1 < request->call_count ? join(text, event_stop(request, index + i)) : text;
}

/* The first of a block brings its beginning, and the end of the one before. */
static char *event_token(const mock_request *request, uint64_t i) {
    const mock_plan *plan = &request->plan;
    char buf[4096];
    char *text = strdup("");
    if (i < plan->reasoning) {
        if (i == 0) {
            text = join(text, event_start(request, 0,
                                          "{\"type\":\"thinking\",\"thinking\":\"\","
                                          "\"signature\":\"\"}"));
        }
        return join(text, event_delta(request, 0, "thinking_delta", "thinking",
                                      mock_token(request, i, buf)));
    }
    uint64_t index = plan->reasoning > 0 ? 1 : 0;
    if (i == plan->reasoning) {
        if (index > 0) {
            text = join(text, event_delta(request, 0, "signature_delta", "signature",
                                          (tr_str){SIGNATURE, sizeof(SIGNATURE) - 1}));
            text = join(text, event_stop(request, 0));
        }
        if (plan->tools == 0) {
            text = join(text, event_start(request, index, "{\"type\":\"text\",\"text\":\"\"}"));
        }
    }
    if (plan->tools != 0) {
        return join(text, event_call(request, index, i - plan->reasoning));
    }
    return join(text, event_delta(request, index, "text_delta", "text",
                                  mock_token(request, i - plan->reasoning, buf)));
}

static const char *stop_reason(const mock_request *request) {
    return request->plan.tools != 0 ? "tool_use" : "end_turn";
}

static char *event_finish(const mock_request *request) {
    const mock_plan *plan = &request->plan;
    char *text = strdup("");
    tr_jsonw w;
    if (plan->nofinish != 0) {
        return text;
    }
    if (mock_request_tokens(request) > 0) {
        bool second = plan->reasoning > 0 && mock_answer_tokens(request) > 0;
        uint64_t more = plan->tools != 0 ? request->call_count - 1 : 0;
        text = join(text, event_stop(request, (second ? 1 : 0) + more));
    }
    open_event(&w, "message_delta");
    tr_jsonw_name(&w, "delta");
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "stop_reason");
    tr_jsonw_text(&w, stop_reason(request));
    raw(&w, "stop_sequence", "null");
    tr_jsonw_close(&w, '}');
    if (plan->nousage == 0) {
        write_usage(&w, request, mock_request_tokens(request));
    }
    return join(text, close_event(&w, request, "message_delta"));
}

/* It stands in the event that says why the answer ends. */
static char *event_usage(const mock_request *request) {
    (void)request;
    return strdup("");
}

static char *event_done(const mock_request *request) {
    tr_jsonw w;
    if (request->plan.nodone != 0 || request->plan.nofinish != 0) {
        return strdup("");
    }
    open_event(&w, "message_stop");
    return close_event(&w, request, "message_stop");
}

static void write_error(tr_jsonw *w, const char *type, const char *message) {
    tr_jsonw_name(w, "error");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, type);
    tr_jsonw_name(w, "message");
    tr_jsonw_text(w, message);
    tr_jsonw_close(w, '}');
}

static char *event_error(const mock_request *request) {
    tr_jsonw w;
    open_event(&w, "error");
    write_error(&w, "api_error", "the mock broke off");
    return close_event(&w, request, "error");
}

static char *event_garbage(const mock_request *request) {
    char *text = NULL;
    int size = asprintf(&text, "event: content_block_delta\ndata: {\"type\":<garbage>%s",
                        mock_blank_line(request));
    return size < 0 ? NULL : text;
}

static void write_content(tr_jsonw *w, const mock_request *request) {
    tr_jsonw_name(w, "content");
    tr_jsonw_open(w, '[');
    if (request->plan.reasoning > 0) {
        tr_jsonw_open(w, '{');
        raw(w, "type", "\"thinking\"");
        tr_jsonw_name(w, "thinking");
        mock_write_text(w, request, request->plan.reasoning);
        raw(w, "signature", "\"" SIGNATURE "\"");
        tr_jsonw_close(w, '}');
    }
    for (uint64_t i = 0; request->plan.tools != 0 && i < request->call_count; i++) {
        char *block = tool_block(request, i, request->calls[i].args);
        tr_jsonw_raw(w, (tr_str){block, block != NULL ? strlen(block) : 0});
        free(block);
    }
    if (request->plan.tools == 0) {
        tr_jsonw_open(w, '{');
        raw(w, "type", "\"text\"");
        tr_jsonw_name(w, "text");
        mock_write_text(w, request, mock_answer_tokens(request));
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

static char *whole(const mock_request *request) {
    tr_jsonw w;
    if (request->count) {
        tr_jsonw_init(&w);
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "input_tokens");
        tr_jsonw_uint(&w, tokens_in(request));
        tr_jsonw_close(&w, '}');
        return mock_take_text(&w, "", "\n");
    }
    open_event(&w, "message");
    raw(&w, "id", "\"" ID "\"");
    raw(&w, "role", "\"assistant\"");
    tr_jsonw_name(&w, "model");
    tr_jsonw_text(&w, request->model);
    write_content(&w, request);
    tr_jsonw_name(&w, "stop_reason");
    tr_jsonw_text(&w, stop_reason(request));
    raw(&w, "stop_sequence", "null");
    if (request->plan.nousage == 0) {
        write_usage(&w, request, mock_request_tokens(request));
    }
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

static char *error_body(uint64_t status, const char *message) {
    static const struct {
        uint64_t status;
        const char *type;
    } types[] = {{401, "authentication_error"}, {402, "billing_error"},
                 {403, "permission_error"},     {404, "not_found_error"},
                 {413, "request_too_large"},    {429, "rate_limit_error"},
                 {504, "timeout_error"},        {529, "overloaded_error"}};
    tr_jsonw w;
    const char *type = status >= 500 ? "api_error" : "invalid_request_error";
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        type = types[i].status == status ? types[i].type : type;
    }
    open_event(&w, "error");
    write_error(&w, type, message);
    raw(&w, "request_id", "\"req_mock\"");
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

const mock_dialect mock_anthropic = {
    .id_header = "request-id",
    .stream_type = "text/event-stream",
    .serves = serves,
    .check = check,
    .role = event_role,
    .token = event_token,
    .finish = event_finish,
    .usage = event_usage,
    .done = event_done,
    .error_event = event_error,
    .garbage = event_garbage,
    .whole = whole,
    .error = error_body,
};
