/*
 * Answers in the shapes of OpenAI's Responses API: named events that say everything three times,
 * and whole responses. The output is a reasoning item where the plan has reasoning or a tool call,
 * then a message or the call. Like the real one it refuses a call that comes back without the
 * reasoning that led to it. Called by conn.c.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/mock/answer.h"

#define THOUGHT "bW9jayB0aG91Z2h0" /* what stands for encrypted reasoning */

/* Events are numbered: what comes before the tokens, one a token, and what follows them. */
#define BEFORE 8U

static bool serves(tr_str path, mock_request *request) {
    request->count = mock_path_is(path, "/responses/input_tokens");
    request->needs = "input";
    return request->count || mock_path_is(path, "/responses");
}

#define REASONING UINT64_MAX

static bool is_type(const tr_json_value *item, const char *type) {
    tr_str text = tr_json_string(tr_json_get(item, "type"));
    return text.size == strlen(type) && memcmp(text.ptr, type, text.size) == 0;
}

static bool check(mock_request *request, char *why, size_t why_size) {
    const tr_json_value *item = tr_json_first(tr_json_get(tr_json_root(request->json), "input"));
    bool thought = false;
    for (; item != NULL; item = tr_json_next(item)) {
        if (is_type(item, "reasoning")) {
            tr_str text = tr_json_string(tr_json_get(item, "encrypted_content"));
            thought = text.size == sizeof(THOUGHT) - 1 &&
                      memcmp(text.ptr, THOUGHT, sizeof(THOUGHT) - 1) == 0;
        } else if (is_type(item, "function_call") && !thought) {
            snprintf(why, why_size,
                     "a function_call was provided without its required reasoning item");
            return false;
        } else if (is_type(item, "function_call_output")) {
            request->plan.tools = 0; /* the call was made: now comes the answer */
        }
    }
    return true;
}

/* ---- Items ---- */

static bool thinks(const mock_request *request) {
    return request->plan.reasoning > 0 || request->plan.tools != 0;
}

static void open_item(tr_jsonw *w, const char *type, const char *id) {
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "id");
    tr_jsonw_text(w, id);
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, type);
}

static void write_text_part(tr_jsonw *w, const char *type, const mock_request *request,
                            uint64_t count) {
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, type);
    tr_jsonw_name(w, "text");
    mock_write_text(w, request, count);
    tr_jsonw_close(w, '}');
}

static void write_reasoning(tr_jsonw *w, const mock_request *request, bool done) {
    open_item(w, "reasoning", "rs_mock");
    tr_jsonw_name(w, "summary");
    tr_jsonw_open(w, '[');
    if (done && request->plan.reasoning > 0) {
        write_text_part(w, "summary_text", request, request->plan.reasoning);
    }
    tr_jsonw_close(w, ']');
    tr_jsonw_name(w, "encrypted_content");
    tr_jsonw_text(w, THOUGHT);
    tr_jsonw_close(w, '}');
}

/* The message, or call number `i`. */
static void write_main(tr_jsonw *w, const mock_request *request, uint64_t i, bool done) {
    bool call = request->plan.tools != 0;
    char id[32], call_id[32];
    snprintf(id, sizeof(id), i > 0 ? "fc_mock_%llu" : "fc_mock", (unsigned long long)i + 1);
    snprintf(call_id, sizeof(call_id), "call_%llu", (unsigned long long)i + 1);
    open_item(w, call ? "function_call" : "message", call ? id : "msg_mock");
    tr_jsonw_name(w, "status");
    tr_jsonw_text(w, done ? "completed" : "in_progress");
    if (call) {
        tr_jsonw_name(w, "call_id");
        tr_jsonw_text(w, call_id);
        tr_jsonw_name(w, "name");
        tr_jsonw_text(w, request->calls[i].name);
        tr_jsonw_name(w, "arguments");
        tr_jsonw_text(w, done ? request->calls[i].args : "");
    } else {
        tr_jsonw_name(w, "role");
        tr_jsonw_text(w, "assistant");
        tr_jsonw_name(w, "content");
        tr_jsonw_open(w, '[');
        if (done) {
            write_text_part(w, "output_text", request, mock_answer_tokens(request));
        }
        tr_jsonw_close(w, ']');
    }
    tr_jsonw_close(w, '}');
}

static void write_response(tr_jsonw *w, const mock_request *request, const char *status) {
    bool done = strcmp(status, "completed") == 0;
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "id");
    tr_jsonw_text(w, "resp_mock");
    tr_jsonw_name(w, "object");
    tr_jsonw_text(w, "response");
    tr_jsonw_name(w, "status");
    tr_jsonw_text(w, status);
    tr_jsonw_name(w, "error");
    tr_jsonw_null(w);
    tr_jsonw_name(w, "model");
    tr_jsonw_text(w, request->model);
    tr_jsonw_name(w, "output");
    tr_jsonw_open(w, '[');
    if (done && thinks(request)) {
        write_reasoning(w, request, true);
    }
    uint64_t items = request->plan.tools != 0 ? request->call_count : 1;
    for (uint64_t i = 0; done && i < items; i++) {
        write_main(w, request, i, true);
    }
    tr_jsonw_close(w, ']');
    if (done && request->plan.nousage == 0) {
        tr_jsonw_name(w, "usage");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "input_tokens");
        tr_jsonw_uint(w, request->echo == NULL ? 0 : strlen(request->echo));
        tr_jsonw_name(w, "output_tokens");
        tr_jsonw_uint(w, mock_request_tokens(request));
        tr_jsonw_name(w, "output_tokens_details");
        tr_jsonw_open(w, '{');
        tr_jsonw_name(w, "reasoning_tokens");
        tr_jsonw_uint(w, request->plan.reasoning);
        tr_jsonw_close(w, '}');
        tr_jsonw_close(w, '}');
    }
    tr_jsonw_close(w, '}');
}

/* ---- Events ---- */

static void open_event(tr_jsonw *w, const char *type, uint64_t number) {
    tr_jsonw_init(w);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "type");
    tr_jsonw_text(w, type);
    tr_jsonw_name(w, "sequence_number");
    tr_jsonw_uint(w, number);
}

static char *close_event(tr_jsonw *w, const mock_request *request, const char *type) {
    char before[96];
    snprintf(before, sizeof(before), "event: %s%sdata: ", type,
             request->plan.crlf != 0 ? "\r\n" : "\n");
    tr_jsonw_close(w, '}');
    return mock_take_text(w, before, mock_blank_line(request));
}

static char *response_event(const mock_request *request, const char *status, uint64_t number) {
    tr_jsonw w;
    char type[40];
    snprintf(type, sizeof(type), "response.%s", number == 0 ? "created" : status);
    open_event(&w, type, number);
    tr_jsonw_name(&w, "response");
    write_response(&w, request, status);
    return close_event(&w, request, type);
}

/* `item`: the message or call, from 0; or REASONING. */
static char *item_event(const mock_request *request, uint64_t item, bool done, uint64_t number) {
    bool reasoning = item == REASONING;
    tr_jsonw w;
    const char *type = done ? "response.output_item.done" : "response.output_item.added";
    open_event(&w, type, number);
    tr_jsonw_name(&w, "output_index");
    tr_jsonw_uint(&w, reasoning ? 0 : item + thinks(request));
    tr_jsonw_name(&w, "item");
    if (reasoning) {
        write_reasoning(&w, request, done);
    } else {
        write_main(&w, request, item, done);
    }
    return close_event(&w, request, type);
}

/* Two texts as one; NULL when either is. Frees both. */
static char *join(char *a, char *b) {
    char *both = NULL;
    if (a == NULL || b == NULL || asprintf(&both, "%s%s", a, b) < 0) {
        both = NULL;
    }
    free(a);
    free(b);
    return both;
}

static char *role(const mock_request *request) {
    char *begin =
        join(response_event(request, "in_progress", 0), response_event(request, "in_progress", 1));
    begin = join(begin, item_event(request, thinks(request) ? REASONING : 0, false, 2));
    if (thinks(request) && request->plan.reasoning == 0) {
        begin = join(begin, item_event(request, REASONING, true, 3));
        begin = join(begin, item_event(request, 0, false, 4));
    }
    return begin;
}

static char *delta(const mock_request *request, uint64_t i) {
    tr_jsonw w;
    char buf[4096];
    bool reasoning = i < request->plan.reasoning;
    uint64_t call = reasoning || request->plan.tools == 0 ? 0 : i - request->plan.reasoning;
    const char *type = reasoning                  ? "response.reasoning_summary_text.delta"
                       : request->plan.tools != 0 ? "response.function_call_arguments.delta"
                                                  : "response.output_text.delta";
    open_event(&w, type, BEFORE + i);
    tr_jsonw_name(&w, "output_index");
    tr_jsonw_uint(&w, !reasoning && thinks(request) ? 1 + call : 0);
    tr_jsonw_name(&w, "delta");
    if (!reasoning && request->plan.tools != 0) {
        tr_jsonw_text(&w, request->calls[call].args);
    } else {
        tr_jsonw_str(&w, mock_token(request, reasoning ? i : i - request->plan.reasoning, buf));
    }
    return close_event(&w, request, type);
}

static char *token(const mock_request *request, uint64_t i) {
    char *text = delta(request, i);
    if (request->plan.tools != 0 && i > request->plan.reasoning) {
        uint64_t call = i - request->plan.reasoning;
        text = join(item_event(request, call, false, BEFORE + i), text);
        text = join(item_event(request, call - 1, true, BEFORE + i), text);
    }
    if (i + 1 == request->plan.reasoning) {
        text = join(text, item_event(request, REASONING, true, BEFORE + i));
        text = join(text, item_event(request, 0, false, BEFORE + i));
    }
    return text;
}

static char *finish(const mock_request *request) {
    uint64_t number = BEFORE + mock_request_tokens(request);
    if (request->plan.nofinish != 0) {
        return strdup("");
    }
    uint64_t last = request->plan.tools != 0 ? request->call_count - 1 : 0;
    return join(item_event(request, last, true, number),
                response_event(request, "completed", number + 1));
}

/* Usage stands in the last event, and no [DONE] follows it. */
static char *nothing(const mock_request *request) {
    (void)request;
    return strdup("");
}

static char *error_event(const mock_request *request) {
    tr_jsonw w;
    open_event(&w, "error", BEFORE);
    tr_jsonw_name(&w, "code");
    tr_jsonw_text(&w, "server_error");
    tr_jsonw_name(&w, "message");
    tr_jsonw_text(&w, "the mock broke off");
    return close_event(&w, request, "error");
}

static char *garbage(const mock_request *request) {
    char *text = NULL;
    return asprintf(&text, "data: {\"type\":<garbage>%s", mock_blank_line(request)) < 0 ? NULL
                                                                                        : text;
}

static char *whole(const mock_request *request) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    if (!request->count) {
        write_response(&w, request, "completed");
        return mock_take_text(&w, "", "\n");
    }
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "object");
    tr_jsonw_text(&w, "response.input_tokens");
    tr_jsonw_name(&w, "input_tokens");
    tr_jsonw_uint(&w, request->echo == NULL ? 0 : strlen(request->echo));
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

/* The error object is the one of chat completions. */
static char *error(uint64_t status, const char *message) {
    return mock_openai.error(status, message);
}

const mock_dialect mock_responses = {
    .id_header = "x-request-id",
    .stream_type = "text/event-stream",
    .serves = serves,
    .check = check,
    .role = role,
    .token = token,
    .finish = finish,
    .usage = nothing,
    .done = nothing,
    .error_event = error_event,
    .garbage = garbage,
    .whole = whole,
    .error = error,
};
