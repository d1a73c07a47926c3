/*
 * Answers in the shapes of OpenAI's chat completions and embeddings. Called by conn.c.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/mock/answer.h"

#define ID "chatcmpl-mock"

static bool serves(tr_str path, mock_request *request) {
    request->embed = mock_path_is(path, "/embeddings");
    request->count = mock_path_is(path, "/tokenize"); /* vLLM's */
    request->needs = request->embed ? "input" : "messages";
    return request->embed || request->count || mock_path_is(path, "/chat/completions");
}

static void open_chunk(tr_jsonw *w, const mock_request *request, bool choice) {
    tr_jsonw_init(w);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "id");
    tr_jsonw_text(w, ID);
    tr_jsonw_name(w, "object");
    tr_jsonw_text(w, request->stream ? "chat.completion.chunk" : "chat.completion");
    tr_jsonw_name(w, "model");
    tr_jsonw_text(w, request->model);
    tr_jsonw_name(w, "choices");
    tr_jsonw_open(w, '[');
    if (choice) {
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "index");
        tr_jsonw_int(w, 0);
        tr_jsonw_name(w, request->stream ? "delta" : "message");
        tr_jsonw_open(w, '{');
    }
}

static void close_chunk(tr_jsonw *w, bool choice, const char *finish) {
    if (choice) {
        tr_jsonw_close(w, '}');
        tr_jsonw_name(w, "finish_reason");
        tr_jsonw_text(w, finish);
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

static void write_usage(tr_jsonw *w, const mock_request *request) {
    tr_jsonw_name(w, "usage");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "prompt_tokens");
    tr_jsonw_uint(w, request->echo == NULL ? 0 : strlen(request->echo));
    tr_jsonw_name(w, "completion_tokens");
    tr_jsonw_uint(w, mock_request_tokens(request));
    tr_jsonw_close(w, '}');
}

static char *event_role(const mock_request *request) {
    tr_jsonw w;
    open_chunk(&w, request, true);
    tr_jsonw_name(&w, "role");
    tr_jsonw_text(&w, "assistant");
    tr_jsonw_name(&w, "content");
    tr_jsonw_text(&w, "");
    close_chunk(&w, true, NULL);
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "data: ", mock_blank_line(request));
}

static void write_tool_calls(tr_jsonw *w, const mock_request *request, uint64_t from, uint64_t to) {
    tr_jsonw_name(w, "tool_calls");
    tr_jsonw_open(w, '[');
    for (uint64_t i = from; i < to; i++) {
        char id[32];
        snprintf(id, sizeof(id), "call_%llu", (unsigned long long)i + 1);
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "index");
        tr_jsonw_uint(w, i);
        tr_jsonw_name(w, "id");
        tr_jsonw_text(w, id);
        tr_jsonw_name(w, "type");
        tr_jsonw_text(w, "function");
        tr_jsonw_name(w, "function");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_text(w, request->calls[i].name);
        tr_jsonw_name(w, "arguments");
        tr_jsonw_text(w, request->calls[i].args);
        tr_jsonw_close(w, '}');
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

static char *event_token(const mock_request *request, uint64_t i) {
    tr_jsonw w;
    char buf[4096];
    bool reasoning = i < request->plan.reasoning;
    open_chunk(&w, request, true);
    if (!reasoning && request->plan.tools != 0) {
        uint64_t call = i - request->plan.reasoning;
        write_tool_calls(&w, request, call, call + 1);
    } else {
        tr_jsonw_name(&w, reasoning ? "reasoning_content" : "content");
        tr_jsonw_str(&w, mock_token(request, reasoning ? i : i - request->plan.reasoning, buf));
    }
    close_chunk(&w, true, NULL);
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "data: ", mock_blank_line(request));
}

static const char *finish_reason(const mock_request *request) {
    return request->plan.tools != 0 ? "tool_calls" : "stop";
}

static char *event_finish(const mock_request *request) {
    tr_jsonw w;
    if (request->plan.nofinish != 0) {
        return strdup("");
    }
    open_chunk(&w, request, true);
    close_chunk(&w, true, finish_reason(request));
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "data: ", mock_blank_line(request));
}

static char *event_usage(const mock_request *request) {
    tr_jsonw w;
    if (request->plan.nousage != 0 || !request->usage_asked) {
        return strdup("");
    }
    open_chunk(&w, request, false);
    close_chunk(&w, false, NULL);
    write_usage(&w, request);
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "data: ", mock_blank_line(request));
}

static char *event_done(const mock_request *request) {
    char *text = NULL;
    if (request->plan.nodone != 0 || request->plan.nofinish != 0) {
        return strdup("");
    }
    return asprintf(&text, "data: [DONE]%s", mock_blank_line(request)) < 0 ? NULL : text;
}

static char *event_error(const mock_request *request) {
    char *text = NULL;
    int size =
        asprintf(&text,
                 "event: error\ndata: {\"error\":{\"message\":\"the mock broke off\",\"type\":"
                 "\"server_error\",\"code\":500}}%s",
                 mock_blank_line(request));
    return size < 0 ? NULL : text;
}

static char *event_garbage(const mock_request *request) {
    char *text = NULL;
    return asprintf(&text, "data: {\"choices\":[<garbage>%s", mock_blank_line(request)) < 0 ? NULL
                                                                                            : text;
}

static char *embeddings(const mock_request *request) {
    tr_jsonw w;
    const tr_json_value *input = tr_json_get(tr_json_root(request->json), "input");
    bool many = tr_json_type_of(input) == TR_JSON_ARRAY;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "object");
    tr_jsonw_text(&w, "list");
    tr_jsonw_name(&w, "model");
    tr_jsonw_text(&w, request->model);
    tr_jsonw_name(&w, "data");
    tr_jsonw_open(&w, '[');
    int64_t index = 0;
    const tr_json_value *one = many ? tr_json_first(input) : input;
    for (; one != NULL; one = many ? tr_json_next(one) : NULL) {
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "object");
        tr_jsonw_text(&w, "embedding");
        tr_jsonw_name(&w, "index");
        tr_jsonw_int(&w, index++);
        tr_jsonw_name(&w, "embedding");
        mock_write_vector(&w, tr_json_string(one), request->plan.dim);
        tr_jsonw_close(&w, '}');
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_name(&w, "usage");
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "prompt_tokens");
    tr_jsonw_int(&w, index);
    tr_jsonw_close(&w, '}');
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

static char *whole(const mock_request *request) {
    tr_jsonw w;
    if (request->embed) {
        return embeddings(request);
    }
    if (request->count) {
        tr_jsonw_init(&w);
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "count");
        tr_jsonw_uint(&w, request->echo == NULL ? 0 : strlen(request->echo));
        tr_jsonw_close(&w, '}');
        return mock_take_text(&w, "", "\n");
    }
    open_chunk(&w, request, true);
    tr_jsonw_name(&w, "role");
    tr_jsonw_text(&w, "assistant");
    if (request->plan.reasoning > 0) {
        tr_jsonw_name(&w, "reasoning_content");
        mock_write_text(&w, request, request->plan.reasoning);
    }
    if (request->plan.tools != 0) {
        write_tool_calls(&w, request, 0, request->call_count);
    } else {
        tr_jsonw_name(&w, "content");
        mock_write_text(&w, request, mock_answer_tokens(request));
    }
    close_chunk(&w, true, finish_reason(request));
    if (request->plan.nousage == 0) {
        write_usage(&w, request);
    }
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

static char *error_body(uint64_t status, const char *message) {
    static const struct {
        uint64_t status;
        const char *code;
    } codes[] = {{401, "invalid_api_key"},
                 {404, "model_not_found"},
                 {429, "rate_limit_exceeded"},
                 {402, "insufficient_quota"}};
    tr_jsonw w;
    const char *code = NULL;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        code = codes[i].status == status ? codes[i].code : code;
    }
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "error");
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "message");
    tr_jsonw_text(&w, message);
    tr_jsonw_name(&w, "type");
    tr_jsonw_text(&w, status >= 500 ? "server_error" : "invalid_request_error");
    tr_jsonw_name(&w, "code");
    tr_jsonw_text(&w, code);
    tr_jsonw_close(&w, '}');
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

const mock_dialect mock_openai = {
    .id_header = "x-request-id",
    .stream_type = "text/event-stream",
    .serves = serves,
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
