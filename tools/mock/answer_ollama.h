/*
 * The mock as an Ollama server beside mock_ollama: which models there are and which are in memory.
 */
#ifndef TR_TOOLS_MOCK_ANSWER_OLLAMA_H
#define TR_TOOLS_MOCK_ANSWER_OLLAMA_H

#include "tools/mock/answer.h"

#define MOCK_LOADED_max 16

/* A model is loaded by the first request for it, and stays until a request's keep_alive is 0. */
typedef struct mock_loaded {
    char names[MOCK_LOADED_max][256];
    size_t count;
} mock_loaded;

/* Whether a model is in memory, puts it there, takes it out. */
bool mock_loaded_has(const mock_loaded *loaded, const char *name);
void mock_loaded_add(mock_loaded *loaded, const char *name);
void mock_loaded_drop(mock_loaded *loaded, const char *name);
/* What the request does to memory. */
void mock_ollama_remember(mock_loaded *loaded, const mock_request *request);
/* Bodies of /api/tags and /api/ps; NULL when out of memory. */
char *mock_ollama_tags(void);
char *mock_ollama_ps(const mock_loaded *loaded);

#endif
