/*
 * Answers in the shapes of Google's Gemini API: the model in the path, each event a response of its
 * own, no [DONE]. Like the real one it signs the call that it makes, and refuses one that comes
 * back without its signature. Called by conn.c.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/mock/answer.h"

#define SIGNATURE "bW9jayBzaWduYXR1cmU="

static bool serves(tr_str path, mock_request *request) {
    bool stream = mock_path_is(path, ":streamGenerateContent");
    bool embed = mock_path_is(path, ":batchEmbedContents");
    bool count = mock_path_is(path, ":countTokens");
    if (!stream && !embed && !count && !mock_path_is(path, ":generateContent")) {
        return false;
    }
    request->stream = stream;
    request->embed = embed;
    request->count = count;
    request->needs = embed ? "requests" : count ? NULL : "contents";
    mock_path_model(path, request->model, sizeof(request->model));
    return true;
}

static bool is_signed(const tr_json_value *part) {
    tr_str text = tr_json_string(tr_json_get(part, "thoughtSignature"));
    return text.size == sizeof(SIGNATURE) - 1 &&
           memcmp(text.ptr, SIGNATURE, sizeof(SIGNATURE) - 1) == 0;
}

static bool check(mock_request *request, char *why, size_t why_size) {
    const tr_json_value *root = tr_json_root(request->json);
    if (request->count && tr_json_get(root, "generateContentRequest") != NULL) {
        root = tr_json_get(root, "generateContentRequest");
    }
    tr_str last = {"", 0};
    const tr_json_value *content = tr_json_first(tr_json_get(root, "contents"));
    for (; content != NULL; content = tr_json_next(content)) {
        const tr_json_value *part = tr_json_first(tr_json_get(content, "parts"));
        for (; part != NULL; part = tr_json_next(part)) {
            if (tr_json_get(part, "functionCall") != NULL && !is_signed(part)) {
                snprintf(why, why_size, "Function call is missing a thought_signature");
                return false;
            }
            if (tr_json_get(part, "functionResponse") != NULL) {
                request->plan.tools = 0; /* the call was made: now comes the answer */
            }
            const tr_json_value *text = tr_json_get(part, "text");
            last = text == NULL ? last : tr_json_string(text);
        }
    }
    free(request->echo);
    request->echo = strndup(last.ptr, last.size);
    return request->echo != NULL;
}

/* ---- Responses ---- */

static void open_response(tr_jsonw *w) {
    tr_jsonw_init(w);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "candidates");
    tr_jsonw_open(w, '[');
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "content");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "role");
    tr_jsonw_text(w, "model");
    tr_jsonw_name(w, "parts");
    tr_jsonw_open(w, '[');
}

static void write_usage(tr_jsonw *w, const mock_request *request) {
    tr_jsonw_name(w, "usageMetadata");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "promptTokenCount");
    tr_jsonw_uint(w, request->echo == NULL ? 0 : strlen(request->echo));
    tr_jsonw_name(w, "candidatesTokenCount");
    tr_jsonw_uint(w, mock_answer_tokens(request));
    tr_jsonw_name(w, "thoughtsTokenCount");
    tr_jsonw_uint(w, request->plan.reasoning);
    tr_jsonw_close(w, '}');
}

static char *close_response(tr_jsonw *w, const mock_request *request, bool last) {
    tr_jsonw_close(w, ']');
    tr_jsonw_close(w, '}');
    if (last) {
        tr_jsonw_name(w, "finishReason");
        tr_jsonw_text(w, "STOP");
    }
    tr_jsonw_name(w, "index");
    tr_jsonw_int(w, 0);
    tr_jsonw_close(w, '}');
    tr_jsonw_close(w, ']');
    if (last && request->plan.nousage == 0) {
        write_usage(w, request);
    }
    tr_jsonw_name(w, "modelVersion");
    tr_jsonw_text(w, request->model);
    tr_jsonw_name(w, "responseId");
    tr_jsonw_text(w, "mock-response");
    tr_jsonw_close(w, '}');
    return request->stream ? mock_take_text(w, "data: ", "\r\n\r\n") : mock_take_text(w, "", "\n");
}

static void write_call(tr_jsonw *w, const mock_call *call) {
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "functionCall");
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "name");
    tr_jsonw_text(w, call->name);
    tr_jsonw_name(w, "args");
    tr_jsonw_raw(w, (tr_str){call->args, strlen(call->args)});
    tr_jsonw_close(w, '}');
    tr_jsonw_name(w, "thoughtSignature");
    tr_jsonw_text(w, SIGNATURE);
    tr_jsonw_close(w, '}');
}

static void open_text(tr_jsonw *w, bool thought) {
    tr_jsonw_open(w, '{');
    if (thought) {
        tr_jsonw_name(w, "thought");
        tr_jsonw_bool(w, true);
    }
    tr_jsonw_name(w, "text");
}

static char *token(const mock_request *request, uint64_t i) {
    tr_jsonw w;
    char buf[4096];
    bool reasoning = i < request->plan.reasoning;
    open_response(&w);
    if (!reasoning && request->plan.tools != 0) {
        write_call(&w, &request->calls[i - request->plan.reasoning]);
    } else {
        open_text(&w, reasoning);
        tr_jsonw_str(&w, mock_token(request, reasoning ? i : i - request->plan.reasoning, buf));
        tr_jsonw_close(&w, '}');
    }
    return close_response(&w, request, false);
}

static char *finish(const mock_request *request) {
    tr_jsonw w;
    if (request->plan.nofinish != 0) {
        return strdup("");
    }
    open_response(&w);
    return close_response(&w, request, true);
}

static char *nothing(const mock_request *request) {
    (void)request;
    return strdup("");
}

static char *embeddings(const mock_request *request) {
    tr_jsonw w;
    const tr_json_value *one = tr_json_first(tr_json_get(tr_json_root(request->json), "requests"));
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "embeddings");
    tr_jsonw_open(&w, '[');
    for (; one != NULL; one = tr_json_next(one)) {
        const tr_json_value *part =
            tr_json_first(tr_json_get(tr_json_get(one, "content"), "parts"));
        tr_jsonw_open(&w, '{');
        tr_jsonw_name(&w, "values");
        mock_write_vector(&w, tr_json_string(tr_json_get(part, "text")), request->plan.dim);
        tr_jsonw_close(&w, '}');
    }
    tr_jsonw_close(&w, ']');
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
        tr_jsonw_name(&w, "totalTokens");
        tr_jsonw_uint(&w, request->echo == NULL ? 0 : strlen(request->echo));
        tr_jsonw_close(&w, '}');
        return mock_take_text(&w, "", "\n");
    }
    open_response(&w);
    if (request->plan.reasoning > 0) {
        open_text(&w, true);
        mock_write_text(&w, request, request->plan.reasoning);
        tr_jsonw_close(&w, '}');
    }
    for (uint64_t i = 0; i < request->call_count && request->plan.tools != 0; i++) {
        write_call(&w, &request->calls[i]);
    }
    if (request->plan.tools != 0) {
        /* nothing but calls */
    } else {
        open_text(&w, false);
        mock_write_text(&w, request, mock_answer_tokens(request));
        tr_jsonw_close(&w, '}');
    }
    return close_response(&w, request, true);
}

/* ---- Failures ---- */

static char *error(uint64_t status, const char *message) {
    static const struct {
        uint64_t status;
        const char *word;
    } words[] = {{400, "INVALID_ARGUMENT"}, {401, "UNAUTHENTICATED"},    {403, "PERMISSION_DENIED"},
                 {404, "NOT_FOUND"},        {429, "RESOURCE_EXHAUSTED"}, {500, "INTERNAL"},
                 {503, "UNAVAILABLE"},      {504, "DEADLINE_EXCEEDED"}};
    tr_jsonw w;
    const char *word = "UNKNOWN";
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        word = words[i].status == status ? words[i].word : word;
    }
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "error");
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "code");
    tr_jsonw_uint(&w, status);
    tr_jsonw_name(&w, "message");
    tr_jsonw_text(&w, message);
    tr_jsonw_name(&w, "status");
    tr_jsonw_text(&w, word);
    if (status == 429) {
        static const char details[] = "[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
                                      "\"retryDelay\":\"48s\"}]";
        tr_jsonw_name(&w, "details");
        tr_jsonw_raw(&w, (tr_str){details, sizeof(details) - 1});
    }
    tr_jsonw_close(&w, '}');
    tr_jsonw_close(&w, '}');
    return mock_take_text(&w, "", "\n");
}

static char *error_event(const mock_request *request) {
    char *object = error(500, "the mock broke off");
    char *text = NULL;
    (void)request;
    if (object != NULL &&
        asprintf(&text, "data: %.*s\r\n\r\n", (int)strlen(object) - 1, object) < 0) {
        text = NULL;
    }
    free(object);
    return text;
}

static char *garbage(const mock_request *request) {
    (void)request;
    return strdup("data: {\"candidates\":<garbage>\r\n\r\n");
}

const mock_dialect mock_gemini = {
    .id_header = "x-request-id",
    .stream_type = "text/event-stream",
    .serves = serves,
    .check = check,
    .role = nothing,
    .token = token,
    .finish = finish,
    .usage = nothing,
    .done = nothing,
    .error_event = error_event,
    .garbage = garbage,
    .whole = whole,
    .error = error,
};
