/*
 * The bodies that the mock sends, piece by piece: chunks of a stream in the openai dialect, whole
 * answers, errors, embeddings. Pure: text in, text out.
 */
#ifndef TR_TOOLS_MOCK_ANSWER_H
#define TR_TOOLS_MOCK_ANSWER_H

#include "protocol/json.h"
#include "tools/mock/plan.h"

typedef struct mock_request {
    mock_plan plan;
    bool stream, embed;
    bool usage_asked; /* stream_options.include_usage */
    char model[256];
    char *echo; /* the last message's text, or NULL; malloc'd */
    tr_json *json;
} mock_request;

/* Reads a chat or embeddings request's body. False and a sentence when it is none. */
bool mock_request_read(mock_request *request, tr_str body, char *why, size_t why_size);
void mock_request_fini(mock_request *request);
/* Tokens of the answer, reasoning included. */
uint64_t mock_request_tokens(const mock_request *request);

/* The parts of a stream in order: role, tokens, finish, usage, done. Each function returns malloc'd
 * text (an event with its blank line) or NULL when out of memory; "" = there is no such part. */
char *mock_event_role(const mock_request *request);
char *mock_event_token(const mock_request *request, uint64_t i);
char *mock_event_finish(const mock_request *request);
char *mock_event_usage(const mock_request *request);
char *mock_event_done(const mock_request *request);
char *mock_event_error(const mock_request *request);
char *mock_event_garbage(const mock_request *request);

/* Whole bodies. */
char *mock_whole(const mock_request *request);
char *mock_error(uint64_t status, const char *message);
char *mock_models(void);

#endif
