/*
 * Where Azure's OpenAI service takes a request. It speaks OpenAI's dialect; only its URLs differ: a
 * model is a deployment and stands in the path, a version in the query.
 * https://learn.microsoft.com/azure/ai-services/openai/reference
 */
#ifndef TR_PROVIDERS_AZURE_H
#define TR_PROVIDERS_AZURE_H

#include "protocol/wire.h"

/* The latest generally available one of the inference API
 * (learn.microsoft.com/azure/ai-services/openai/reference). */
#define TR_AZURE_VERSION_default "2024-10-21"

/* The whole URL of `path` (as the openai dialect wrote it) below `base`: the endpoint, with or
 * without "/openai"; or one that ends with "/openai/v1", whose paths are OpenAI's own. `version`
 * NULL = the default. False: it does not fit. Pure. */
bool tri_azure_url(tr_str base, tr_str deployment, const char *path, const char *version, char *ret,
                   size_t size);

#endif
