/*
 * The dialect of OpenAI's chat completions and embeddings, and of the many servers that speak it.
 * Source: platform.openai.com/docs/api-reference, and what those servers were recorded to send.
 */
#ifndef TR_PROVIDERS_OPENAI_H
#define TR_PROVIDERS_OPENAI_H

#include "providers/dialect.h"

extern const tr_dialect tr_dialect_openai;

#endif
