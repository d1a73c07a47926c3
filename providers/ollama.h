/*
 * Ollama's own dialect (/api/chat, /api/embed and the lists of models), over lines of JSON. Source:
 * the `docs/api.md` and `envconfig/config.go` of github.com/ollama/ollama. What Ollama serves below
 * /v1 is the openai dialect's.
 */
#ifndef TR_PROVIDERS_OLLAMA_H
#define TR_PROVIDERS_OLLAMA_H

#include "providers/dialect.h"

extern const tr_dialect tr_dialect_ollama;

#endif
