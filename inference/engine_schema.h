/* A request's JSON schema as the sampler's grammar: see engine_schema.c. Pure; any thread. */
#ifndef TR_INFERENCE_ENGINE_SCHEMA_H
#define TR_INFERENCE_ENGINE_SCHEMA_H

#include "protocol/chat.h"

/* `*ret_text` (NUL-terminated) is freed by free(). On TR_ERR_INVALID and TR_ERR_UNSUPPORTED,
 * `ret_why` (>= TR_ENGINE_WHY_size) names the keyword and its place. */
TR_MUST_USE tr_err tri_schema_to_grammar(tr_str schema, char **ret_text, size_t *ret_size,
                                         char *ret_why);

#endif
