/*
 * The mock as LM Studio's own API: which models there are and which are loaded, load and unload.
 */
#ifndef TR_TOOLS_MOCK_LMSTUDIO_H
#define TR_TOOLS_MOCK_LMSTUDIO_H

#include "tools/mock/answer_ollama.h"

/* The answer at a path of the API and its status, or NULL when the path is none of it (or memory is
 * out). An instance has its model's name. */
char *mock_lmstudio(mock_loaded *loaded, tr_str path, tr_str body, uint64_t *ret_status);

#endif
