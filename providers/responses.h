/*
 * The dialect of OpenAI's Responses API, and of the servers that speak it (LM Studio, vLLM).
 * Embeddings are the openai dialect's. Source: platform.openai.com/docs/api-reference/responses.
 */
#ifndef TR_PROVIDERS_RESPONSES_H
#define TR_PROVIDERS_RESPONSES_H

#include "providers/dialect.h"

extern const tr_dialect tr_dialect_responses;

/* The answer's output as it came: sent by us in an opaque field, and taken back under that name in
 * the assistant's message, for which it then stands whole. */
#define TR_RESPONSES_OUTPUT "responses_output"

#endif
