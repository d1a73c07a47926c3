/*
 * Answers as JSON. Tokens are numbered ("t0 t1 t2 …"), so a test sees at once what is lost, doubled
 * or out of order; with `echo` they are the words of the question. An embedding's numbers are a
 * hash of its text. Called by server.c.
 */
#include "tools/mock/answer.h"

#include <stdlib.h>
#include <string.h>

#define ID "chatcmpl-mock"

bool mock_request_read(mock_request *request, tr_str body, char *why, size_t why_size) {
    if (tr_json_parse(body.ptr, body.size, &request->json, NULL) != TR_OK) {
        snprintf(why, why_size, "the body is not JSON");
        return false;
    }
    const tr_json_value *root = tr_json_root(request->json);
    tr_str model = tr_json_string(tr_json_get(root, "model"));
    if (model.size == 0) {
        snprintf(why, why_size, "you must provide a model parameter");
        return false;
    }
    snprintf(request->model, sizeof(request->model), "%.*s", (int)model.size, model.ptr);
    request->stream = tr_json_bool(tr_json_get(root, "stream"), false);
    request->usage_asked =
        tr_json_bool(tr_json_get(tr_json_get(root, "stream_options"), "include_usage"), false);
    if (model.size > 5 && memcmp(model.ptr, "mock:", 5) == 0 &&
        !mock_plan_read(&request->plan, (tr_str){model.ptr + 5, model.size - 5}, why, why_size)) {
        return false;
    }
    const char *needed = request->embed ? "input" : "messages";
    const tr_json_value *asked = tr_json_get(root, needed);
    if (asked == NULL) {
        snprintf(why, why_size, "missing required parameter: '%s'", needed);
        return false;
    }
    tr_str last = {"", 0};
    if (!request->embed) {
        for (const tr_json_value *m = tr_json_first(asked); m != NULL; m = tr_json_next(m)) {
            last = tr_json_string(tr_json_get(m, "content"));
        }
    }
    request->echo = strndup(last.size == 0 ? "" : last.ptr, last.size);
    return request->echo != NULL;
}

void mock_request_fini(mock_request *request) {
    tr_json_free(request->json);
    free(request->echo);
    memset(request, 0, sizeof(*request));
}

/* The i-th word of `text` with the blank that follows it; size 0 past the end. */
static tr_str word(const char *text, uint64_t i) {
    while (true) {
        const char *blank = strchr(text, ' ');
        size_t size = blank == NULL ? strlen(text) : (size_t)(blank - text) + 1;
        if (i == 0 || size == 0) {
            return (tr_str){text, size};
        }
        text += size;
        i--;
    }
}

static uint64_t answer_tokens(const mock_request *request) {
    if (request->plan.tools != 0) {
        return 1;
    }
    if (request->plan.echo == 0) {
        return request->plan.tokens;
    }
    uint64_t count = 0;
    while (word(request->echo, count).size > 0) {
        count++;
    }
    return count;
}

uint64_t mock_request_tokens(const mock_request *request) {
    return request->plan.reasoning + answer_tokens(request);
}

/* The i-th token; `buf` has 4 KiB. */
static tr_str token(const mock_request *request, uint64_t i, char *buf) {
    size_t size = request->plan.bytes < 4096 ? (size_t)request->plan.bytes : 4096;
    if (request->plan.echo != 0) {
        return word(request->echo, i);
    }
    if (size > 0) {
        memset(buf, 'a' + (int)(i % 26), size);
        return (tr_str){buf, size};
    }
    snprintf(buf, 4096, "t%llu ", (unsigned long long)i);
    return (tr_str){buf, strlen(buf)};
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

/* The writer's text with `before` and `after` around it. */
static char *finish_text(tr_jsonw *w, const char *before, const char *after) {
    char *text = NULL;
    char *whole = NULL;
    size_t size = 0;
    if (tr_jsonw_take(w, &text, &size) != TR_OK) {
        return NULL;
    }
    if (asprintf(&whole, "%s%s%s", before, text, after) < 0) {
        whole = NULL;
    }
    free(text);
    return whole;
}

static const char *blank_line(const mock_request *request) {
    return request->plan.crlf != 0 ? "\r\n\r\n" : "\n\n";
}

char *mock_event_role(const mock_request *request) {
    tr_jsonw w;
    open_chunk(&w, request, true);
    tr_jsonw_name(&w, "role");
    tr_jsonw_text(&w, "assistant");
    tr_jsonw_name(&w, "content");
    tr_jsonw_text(&w, "");
    close_chunk(&w, true, NULL);
    tr_jsonw_close(&w, '}');
    return finish_text(&w, "data: ", blank_line(request));
}

static void write_tool_call(tr_jsonw *w) {
    static const char call[] = "[{\"index\":0,\"id\":\"call_1\",\"type\":\"function\",\"function\":"
                               "{\"name\":\"mock\",\"arguments\":\"{\\\"a\\\":1}\"}}]";
    tr_jsonw_name(w, "tool_calls");
    tr_jsonw_raw(w, (tr_str){call, sizeof(call) - 1});
}

char *mock_event_token(const mock_request *request, uint64_t i) {
    tr_jsonw w;
    char buf[4096];
    bool reasoning = i < request->plan.reasoning;
    open_chunk(&w, request, true);
    if (!reasoning && request->plan.tools != 0) {
        write_tool_call(&w);
    } else {
        tr_jsonw_name(&w, reasoning ? "reasoning_content" : "content");
        tr_jsonw_str(&w, token(request, reasoning ? i : i - request->plan.reasoning, buf));
    }
    close_chunk(&w, true, NULL);
    tr_jsonw_close(&w, '}');
    return finish_text(&w, "data: ", blank_line(request));
}

static const char *finish_reason(const mock_request *request) {
    return request->plan.tools != 0 ? "tool_calls" : "stop";
}

char *mock_event_finish(const mock_request *request) {
    tr_jsonw w;
    if (request->plan.nofinish != 0) {
        return strdup("");
    }
    open_chunk(&w, request, true);
    close_chunk(&w, true, finish_reason(request));
    tr_jsonw_close(&w, '}');
    return finish_text(&w, "data: ", blank_line(request));
}

char *mock_event_usage(const mock_request *request) {
    tr_jsonw w;
    if (request->plan.nousage != 0 || !request->usage_asked) {
        return strdup("");
    }
    open_chunk(&w, request, false);
    close_chunk(&w, false, NULL);
    write_usage(&w, request);
    tr_jsonw_close(&w, '}');
    return finish_text(&w, "data: ", blank_line(request));
}

char *mock_event_done(const mock_request *request) {
    char *text = NULL;
    if (request->plan.nodone != 0 || request->plan.nofinish != 0) {
        return strdup("");
    }
    return asprintf(&text, "data: [DONE]%s", blank_line(request)) < 0 ? NULL : text;
}

char *mock_event_error(const mock_request *request) {
    char *text = NULL;
    int size =
        asprintf(&text,
                 "event: error\ndata: {\"error\":{\"message\":\"the mock broke off\",\"type\":"
                 "\"server_error\",\"code\":500}}%s",
                 blank_line(request));
    return size < 0 ? NULL : text;
}

char *mock_event_garbage(const mock_request *request) {
    char *text = NULL;
    return asprintf(&text, "data: {\"choices\":[<garbage>%s", blank_line(request)) < 0 ? NULL
                                                                                       : text;
}

/* FNV-1a, then one step of a generator a number: the same text gives the same vector. */
static void write_vector(tr_jsonw *w, tr_str text, uint64_t dim) {
    uint64_t hash = 14695981039346656037U;
    for (size_t i = 0; i < text.size; i++) {
        hash = (hash ^ (unsigned char)text.ptr[i]) * 1099511628211U;
    }
    tr_jsonw_open(w, '[');
    for (uint64_t i = 0; i < dim; i++) {
        hash = hash * 6364136223846793005U + 1442695040888963407U;
        tr_jsonw_double(w, (double)(int32_t)(uint32_t)(hash >> 32) / 2147483648.0);
    }
    tr_jsonw_close(w, ']');
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
        write_vector(&w, tr_json_string(one), request->plan.dim);
        tr_jsonw_close(&w, '}');
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_name(&w, "usage");
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "prompt_tokens");
    tr_jsonw_int(&w, index);
    tr_jsonw_close(&w, '}');
    tr_jsonw_close(&w, '}');
    return finish_text(&w, "", "\n");
}

/* The tokens of one kind as a string. */
static void write_text(tr_jsonw *w, const mock_request *request, uint64_t count) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        tr_jsonw_null(w);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        char buf[4096];
        tr_str piece = token(request, i, buf);
        fwrite(piece.ptr, 1, piece.size, out);
    }
    fclose(out);
    tr_jsonw_str(w, (tr_str){text, size});
    free(text);
}

char *mock_whole(const mock_request *request) {
    tr_jsonw w;
    if (request->embed) {
        return embeddings(request);
    }
    open_chunk(&w, request, true);
    tr_jsonw_name(&w, "role");
    tr_jsonw_text(&w, "assistant");
    if (request->plan.reasoning > 0) {
        tr_jsonw_name(&w, "reasoning_content");
        write_text(&w, request, request->plan.reasoning);
    }
    if (request->plan.tools != 0) {
        write_tool_call(&w);
    } else {
        tr_jsonw_name(&w, "content");
        write_text(&w, request, answer_tokens(request));
    }
    close_chunk(&w, true, finish_reason(request));
    if (request->plan.nousage == 0) {
        write_usage(&w, request);
    }
    tr_jsonw_close(&w, '}');
    return finish_text(&w, "", "\n");
}

char *mock_error(uint64_t status, const char *message) {
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
    return finish_text(&w, "", "\n");
}

char *mock_models(void) {
    return strdup("{\"object\":\"list\",\"data\":[{\"id\":\"mock:\",\"object\":\"model\"},"
                  "{\"id\":\"mock:echo\",\"object\":\"model\"}]}\n");
}
