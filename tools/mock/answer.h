/*
 * The bodies that the mock sends, piece by piece: events of a stream, whole answers, errors,
 * embeddings. One mock_dialect a vendor's API, each in a file of its own; what they share stands in
 * answer.c. Pure: text in, text out.
 */
#ifndef TR_TOOLS_MOCK_ANSWER_H
#define TR_TOOLS_MOCK_ANSWER_H

#include "protocol/json.h"
#include "tools/mock/plan.h"

typedef struct mock_dialect mock_dialect;

#define MOCK_CALLS_max 8

typedef struct mock_call {
    char name[64];
    char args[192]; /* JSON */
} mock_call;

typedef struct mock_request {
    const mock_dialect *dialect;
    mock_plan plan;
    bool stream, embed, count;
    const char *needs; /* the member that holds the prompt; NULL = the dialect's check reads it */
    bool usage_asked;  /* stream_options.include_usage */
    char model[256];
    char *echo; /* the last message's text, or NULL; malloc'd */
    tr_json *json;
    mock_call calls[MOCK_CALLS_max]; /* while plan.tools */
    uint64_t call_count;
} mock_request;

/* What one API says. A function that returns text gives it malloc'd, or NULL when out of memory;
 * "" = there is no such part. */
struct mock_dialect {
    const char *id_header;   /* of the request's id */
    const char *stream_type; /* of content */
    bool streams;            /* unless a request says otherwise */
    /* Whether the path is of this API; if so, notes in the request what it says: embed, count,
     * needs, and where they stand in the path, stream and model. */
    bool (*serves)(tr_str path, mock_request *request);
    /* A look at the body, once the common fields are read; NULL = none. */
    bool (*check)(mock_request *request, char *why, size_t why_size);
    /* The parts of a stream in order, each one or more events with their blank lines. */
    char *(*role)(const mock_request *request);
    char *(*token)(const mock_request *request, uint64_t i);
    char *(*finish)(const mock_request *request);
    char *(*usage)(const mock_request *request);
    char *(*done)(const mock_request *request);
    /* Faults in the middle of it. */
    char *(*error_event)(const mock_request *request);
    char *(*garbage)(const mock_request *request);
    /* Whole bodies: of what was asked, and of an error. */
    char *(*whole)(const mock_request *request);
    char *(*error)(uint64_t status, const char *message);
};

extern const mock_dialect mock_openai;
extern const mock_dialect mock_anthropic;
extern const mock_dialect mock_gemini;
extern const mock_dialect mock_ollama;
extern const mock_dialect mock_responses;

/* Sets the request's dialect by the path, to mock_openai when no API has it: then false. */
bool mock_dialect_find(tr_str path, mock_request *request);
bool mock_path_is(tr_str path, const char *end);
/* The model that a path like /models/NAME:verb names, percent-decoded; "" = none. */
void mock_path_model(tr_str path, char *ret, size_t size);

/* Reads a request's body. False and a sentence when it is none. */
bool mock_request_read(mock_request *request, tr_str body, char *why, size_t why_size);
void mock_request_fini(mock_request *request);
/* Tokens of the answer, with and without reasoning. */
uint64_t mock_request_tokens(const mock_request *request);
uint64_t mock_answer_tokens(const mock_request *request);

/* For dialects: the i-th token (`buf` has 4 KiB), the first `count` of them as a JSON string, the
 * vector of a text, a writer's text between two others, an event's end. */
tr_str mock_token(const mock_request *request, uint64_t i, char *buf);
void mock_write_text(tr_jsonw *w, const mock_request *request, uint64_t count);
void mock_write_vector(tr_jsonw *w, tr_str text, uint64_t dim);
char *mock_take_text(tr_jsonw *w, const char *before, const char *after);
const char *mock_blank_line(const mock_request *request);

/* converse.c: what is called, or with `converse` the results as the answer. */
void mock_converse(mock_request *request);

char *mock_models(void);

#endif
