/*
 * What the dialects of the mock share: reading a request, and the tokens of its answer. Tokens are
 * numbered ("t0 t1 t2 …"), so a test sees at once what is lost, doubled or out of order; with
 * `echo` they are the words of the question. An embedding's numbers are a hash of its text. Called
 * by conn.c and the dialects.
 */
#include "tools/mock/answer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const mock_dialect *const dialects[] = {
    &mock_openai, &mock_anthropic, &mock_gemini, &mock_ollama, &mock_responses,
};

bool mock_path_is(tr_str path, const char *end) {
    size_t size = strlen(end);
    return path.size >= size && memcmp(path.ptr + path.size - size, end, size) == 0;
}

bool mock_dialect_find(tr_str path, mock_request *request) {
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        request->dialect = dialects[i];
        if (dialects[i]->serves(path, request)) {
            return true;
        }
    }
    request->dialect = &mock_openai;
    return false;
}

static int hex(char c) {
    static const char digits[] = "0123456789ABCDEF";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? 0 : (int)(at - digits);
}

void mock_path_model(tr_str path, char *ret, size_t size) {
    static const char folder[] = "/models/";
    const char *at = memmem(path.ptr, path.size, folder, sizeof(folder) - 1);
    const char *end = path.ptr + path.size;
    size_t used = 0;
    for (at = at == NULL ? end : at + sizeof(folder) - 1; at < end && *at != ':'; at++) {
        char c = *at;
        if (c == '%' && end - at > 2) {
            c = (char)(hex(at[1]) * 16 + hex(at[2]));
            at += 2;
        }
        if (used + 1 < size) {
            ret[used++] = c;
        }
    }
    ret[used] = '\0';
}

/* A string, or the last text of parts. */
static tr_str text_of(const tr_json_value *content) {
    tr_str text = tr_json_string(content);
    const tr_json_value *part = tr_json_first(content);
    for (; part != NULL; part = tr_json_next(part)) {
        const tr_json_value *one = tr_json_get(part, "text");
        text = one != NULL ? tr_json_string(one) : text;
    }
    return text;
}

/* Troupe's words are what tells a correction. */
static bool answer_json(mock_request *request) {
    bool corrected = strstr(request->echo, "is not valid") != NULL;
    bool good = request->plan.json == 1 || (request->plan.json == 2 && corrected);
    free(request->echo);
    request->echo = strdup(good ? "{\"n\": 1}" : "{\"n\": \"one\"}");
    request->plan.echo = 1;
    return request->echo != NULL;
}

bool mock_request_read(mock_request *request, tr_str body, char *why, size_t why_size) {
    if (tr_json_parse(body.ptr, body.size, &request->json, NULL) != TR_OK) {
        snprintf(why, why_size, "the body is not JSON");
        return false;
    }
    const tr_json_value *root = tr_json_root(request->json);
    tr_str model = {request->model, strlen(request->model)};
    if (model.size == 0) {
        model = tr_json_string(tr_json_get(root, "model"));
    }
    if (model.size == 0) {
        snprintf(why, why_size, "you must provide a model parameter");
        return false;
    }
    if (model.ptr != request->model) {
        snprintf(request->model, sizeof(request->model), "%.*s", (int)model.size, model.ptr);
    }
    request->stream =
        tr_json_bool(tr_json_get(root, "stream"), request->stream || request->dialect->streams);
    request->usage_asked =
        tr_json_bool(tr_json_get(tr_json_get(root, "stream_options"), "include_usage"), false);
    if (model.size > 5 && memcmp(model.ptr, "mock:", 5) == 0 &&
        !mock_plan_read(&request->plan, (tr_str){model.ptr + 5, model.size - 5}, why, why_size)) {
        return false;
    }
    const tr_json_value *asked = request->needs == NULL ? NULL : tr_json_get(root, request->needs);
    if (asked == NULL && request->needs != NULL) {
        snprintf(why, why_size, "missing required parameter: '%s'", request->needs);
        return false;
    }
    tr_str last = tr_json_string(asked);
    if (!request->embed) {
        for (const tr_json_value *m = tr_json_first(asked); m != NULL; m = tr_json_next(m)) {
            last = text_of(tr_json_get(m, "content"));
        }
    }
    if (request->plan.told != 0 && !mock_plan_read(&request->plan, last, why, why_size)) {
        return false;
    }
    request->echo = strndup(last.size == 0 ? "" : last.ptr, last.size);
    if (request->dialect->check != NULL && !request->dialect->check(request, why, why_size)) {
        return false;
    }
    if (request->echo != NULL) {
        mock_converse(request);
    }
    return request->echo != NULL && (request->plan.json == 0 || answer_json(request));
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

uint64_t mock_answer_tokens(const mock_request *request) {
    if (request->plan.tools != 0) {
        return request->call_count;
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
    return request->plan.reasoning + mock_answer_tokens(request);
}

/* The i-th token; `buf` has 4 KiB. */
tr_str mock_token(const mock_request *request, uint64_t i, char *buf) {
    size_t size = request->plan.bytes < 4096 ? (size_t)request->plan.bytes : 4096;
    if (request->plan.echo != 0) {
        return word(request->echo, i);
    }
    if (size > 0) {
        memset(buf, 'a' + (int)(i % 26), size);
        return (tr_str){buf, size};
    }
    if (request->plan.stamp != 0) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        int length = snprintf(buf, 4096, "%lld ",
                              (long long)now.tv_sec * 1000000 + (long long)now.tv_nsec / 1000);
        return (tr_str){buf, (size_t)length};
    }
    snprintf(buf, 4096, "t%llu ", (unsigned long long)i);
    return (tr_str){buf, strlen(buf)};
}

/* The writer's text with `before` and `after` around it. */
char *mock_take_text(tr_jsonw *w, const char *before, const char *after) {
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

const char *mock_blank_line(const mock_request *request) {
    return request->plan.crlf != 0 ? "\r\n\r\n" : "\n\n";
}

/* The tokens of one kind as a string. */
void mock_write_text(tr_jsonw *w, const mock_request *request, uint64_t count) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        tr_jsonw_null(w);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        char buf[4096];
        tr_str piece = mock_token(request, i, buf);
        fwrite(piece.ptr, 1, piece.size, out);
    }
    fclose(out);
    tr_jsonw_str(w, (tr_str){text, size});
    free(text);
}

/* FNV-1a, then one step of a generator a number: the same text gives the same vector. */
void mock_write_vector(tr_jsonw *w, tr_str text, uint64_t dim) {
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

char *mock_models(void) {
    return strdup("{\"object\":\"list\",\"data\":[{\"id\":\"mock:\",\"object\":\"model\"},"
                  "{\"id\":\"mock:echo\",\"object\":\"model\"}]}\n");
}
