/*
 * Ollama's answers: a line a token, no first event, everything about the end in the last line. A
 * request without messages loads or unloads and says so at once. Called by conn.c; pure.
 */
#include "tools/mock/answer_ollama.h"

#include <stdlib.h>
#include <string.h>

static bool serves(tr_str path, mock_request *request) {
    bool chat = mock_path_is(path, "/api/chat");
    bool generate = mock_path_is(path, "/api/generate");
    bool embed = mock_path_is(path, "/api/embed");
    if (chat || generate || embed) {
        request->embed = embed;
        request->needs = chat ? "messages" : generate ? "prompt" : "input";
    }
    return chat || generate || embed;
}

/* Nothing is asked: the model is loaded, or let go. */
static bool is_empty(const mock_request *request) {
    const tr_json_value *asked = tr_json_get(tr_json_root(request->json), request->needs);
    return !request->embed && tr_json_count(asked) == 0 && tr_json_string(asked).size == 0;
}

static bool check(mock_request *request, char *why, size_t why_size) {
    (void)why;
    (void)why_size;
    request->stream = request->stream && !request->embed && !is_empty(request);
    return true;
}

static bool lets_go(const mock_request *request) {
    return tr_json_int(tr_json_get(tr_json_root(request->json), "keep_alive"), -1) == 0;
}

static size_t place(const mock_loaded *loaded, const char *name) {
    size_t i = 0;
    while (i < loaded->count && strcmp(loaded->names[i], name) != 0) {
        i++;
    }
    return i;
}

bool mock_loaded_has(const mock_loaded *loaded, const char *name) {
    return place(loaded, name) < loaded->count;
}

void mock_loaded_add(mock_loaded *loaded, const char *name) {
    if (!mock_loaded_has(loaded, name) && loaded->count < MOCK_LOADED_max) {
        char *to = loaded->names[loaded->count++];
        snprintf(to, sizeof(loaded->names[0]), "%s", name);
    }
}

void mock_loaded_drop(mock_loaded *loaded, const char *name) {
    size_t i = place(loaded, name);
    if (i < loaded->count) {
        loaded->count--;
        memmove(loaded->names[i], loaded->names[loaded->count], sizeof(loaded->names[i]));
    }
}

void mock_ollama_remember(mock_loaded *loaded, const mock_request *request) {
    if (lets_go(request)) {
        mock_loaded_drop(loaded, request->model);
    } else {
        mock_loaded_add(loaded, request->model);
    }
}

static void open_line(tr_jsonw *w, const mock_request *request) {
    tr_jsonw_init(w);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "model");
    tr_jsonw_text(w, request->model);
    tr_jsonw_name(w, "created_at");
    tr_jsonw_text(w, "2026-01-01T00:00:00Z");
}

static char *close_line(tr_jsonw *w, const mock_request *request) {
    tr_jsonw_close(w, '}');
    return mock_take_text(w, "", request->plan.crlf != 0 ? "\r\n" : "\n");
}

static bool generates(const mock_request *request) {
    return strcmp(request->needs, "prompt") == 0;
}

/* What was said: in a chat within `message`, else beside the rest. */
static void open_message(tr_jsonw *w, const mock_request *request) {
    if (!generates(request)) {
        tr_jsonw_name(w, "message");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "role");
        tr_jsonw_text(w, "assistant");
    }
}

static void close_message(tr_jsonw *w, const mock_request *request) {
    if (!generates(request)) {
        tr_jsonw_close(w, '}');
    }
}

static const char *content_name(const mock_request *request) {
    return generates(request) ? "response" : "content";
}

static void write_tool_calls(tr_jsonw *w, const mock_request *request, uint64_t from, uint64_t to) {
    tr_jsonw_name(w, "tool_calls");
    tr_jsonw_open(w, '[');
    for (uint64_t i = from; i < to; i++) {
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "function");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "name");
        tr_jsonw_text(w, request->calls[i].name);
        tr_jsonw_name(w, "arguments");
        tr_jsonw_raw(w, (tr_str){request->calls[i].args, strlen(request->calls[i].args)});
        tr_jsonw_close(w, '}');
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, ']');
}

static void write_end(tr_jsonw *w, const mock_request *request) {
    const char *reason = !is_empty(request) ? "stop" : lets_go(request) ? "unload" : "load";
    tr_jsonw_name(w, "done");
    tr_jsonw_bool(w, true);
    tr_jsonw_name(w, "done_reason");
    tr_jsonw_text(w, reason);
    if (request->plan.nousage == 0 && !is_empty(request)) {
        tr_jsonw_name(w, "total_duration");
        tr_jsonw_uint(w, 1000000);
        tr_jsonw_name(w, "prompt_eval_count");
        tr_jsonw_uint(w, request->echo == NULL ? 0 : strlen(request->echo));
        tr_jsonw_name(w, "eval_count");
        tr_jsonw_uint(w, mock_request_tokens(request));
    }
}

static char *nothing(const mock_request *request) {
    (void)request;
    return strdup("");
}

static char *token_line(const mock_request *request, uint64_t i) {
    tr_jsonw w;
    char buf[4096];
    bool reasoning = i < request->plan.reasoning;
    bool calls = !reasoning && request->plan.tools != 0;
    tr_str text = calls ? (tr_str){"", 0}
                        : mock_token(request, reasoning ? i : i - request->plan.reasoning, buf);
    open_line(&w, request);
    open_message(&w, request);
    tr_jsonw_name(&w, content_name(request));
    tr_jsonw_str(&w, reasoning ? (tr_str){"", 0} : text);
    if (reasoning) {
        tr_jsonw_name(&w, "thinking");
        tr_jsonw_str(&w, text);
    } else if (calls) {
        uint64_t call = i - request->plan.reasoning;
        write_tool_calls(&w, request, call, call + 1);
    }
    close_message(&w, request);
    tr_jsonw_name(&w, "done");
    tr_jsonw_bool(&w, false);
    return close_line(&w, request);
}

static char *last_line(const mock_request *request) {
    tr_jsonw w;
    if (request->plan.nofinish != 0 || request->plan.nodone != 0) {
        return strdup("");
    }
    open_line(&w, request);
    open_message(&w, request);
    tr_jsonw_name(&w, content_name(request));
    tr_jsonw_text(&w, "");
    close_message(&w, request);
    write_end(&w, request);
    return close_line(&w, request);
}

static char *error_line(const mock_request *request) {
    return strdup(request->plan.crlf != 0 ? "{\"error\":\"the mock broke off\"}\r\n"
                                          : "{\"error\":\"the mock broke off\"}\n");
}

static char *garbage_line(const mock_request *request) {
    (void)request;
    return strdup("{\"message\":{<garbage>\n");
}

static char *embeddings(const mock_request *request) {
    tr_jsonw w;
    const tr_json_value *input = tr_json_get(tr_json_root(request->json), "input");
    bool many = tr_json_type_of(input) == TR_JSON_ARRAY;
    uint64_t count = 0;
    open_line(&w, request);
    tr_jsonw_name(&w, "embeddings");
    tr_jsonw_open(&w, '[');
    const tr_json_value *one = many ? tr_json_first(input) : input;
    for (; one != NULL; one = many ? tr_json_next(one) : NULL) {
        mock_write_vector(&w, tr_json_string(one), request->plan.dim);
        count++;
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_name(&w, "prompt_eval_count");
    tr_jsonw_uint(&w, count);
    return close_line(&w, request);
}

static char *whole(const mock_request *request) {
    tr_jsonw w;
    if (request->embed) {
        return embeddings(request);
    }
    open_line(&w, request);
    open_message(&w, request);
    tr_jsonw_name(&w, content_name(request));
    mock_write_text(&w, request,
                    is_empty(request) || request->plan.tools != 0 ? 0
                                                                  : mock_answer_tokens(request));
    if (request->plan.reasoning > 0 && !is_empty(request)) {
        tr_jsonw_name(&w, "thinking");
        mock_write_text(&w, request, request->plan.reasoning);
    }
    if (request->plan.tools != 0 && !is_empty(request)) {
        write_tool_calls(&w, request, 0, request->call_count);
    }
    close_message(&w, request);
    write_end(&w, request);
    return close_line(&w, request);
}

static char *refuse(uint64_t status, const char *message) {
    tr_jsonw w;
    (void)status;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "error");
    tr_jsonw_text(&w, message);
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

const mock_dialect mock_ollama = {
    .id_header = "x-request-id",
    .stream_type = "application/x-ndjson",
    .streams = true,
    .serves = serves,
    .check = check,
    .role = nothing,
    .token = token_line,
    .finish = nothing,
    .usage = nothing,
    .done = last_line,
    .error_event = error_line,
    .garbage = garbage_line,
    .whole = whole,
    .error = refuse,
};

char *mock_ollama_tags(void) {
    return strdup("{\"models\":[{\"name\":\"mock:\",\"model\":\"mock:\",\"size\":1000,\"details\":{"
                  "\"parameter_size\":\"1M\",\"quantization_level\":\"Q4_0\"}},{\"name\":\"mock:"
                  "echo\",\"model\":\"mock:echo\",\"size\":1000,\"details\":{}}]}\n");
}

char *mock_ollama_ps(const mock_loaded *loaded) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "models");
    tr_jsonw_open(&w, '[');
    for (size_t i = 0; i < loaded->count; i++) {
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "name");
        tr_jsonw_text(&w, loaded->names[i]);
        tr_jsonw_name(&w, "size_vram");
        tr_jsonw_uint(&w, 1000);
        tr_jsonw_close(&w, '}');
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}
