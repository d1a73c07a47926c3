/*
 * An answer in JSON of a schema: the schema becomes a grammar, which the sampler holds the model
 * to, so that what comes is valid by construction, unless max_tokens or the context cuts it off.
 * What a grammar cannot say is refused before the model is asked, by keyword and place. Called by
 * the sampler, on any thread.
 */
#include "inference/engine_schema.h"

#include <stdio.h>
#include <string.h>

#include "inference/engine.h"
#include "protocol/schema_grammar.h"

tr_err tri_schema_to_grammar(tr_str schema, char **ret_text, size_t *ret_size, char *ret_why) {
    char why[TR_SCHEMA_WHY_size] = "";
    tr_schema *parsed = NULL;
    tr_err err =
        tr_schema_parse(schema.ptr, schema.size, TR_SCHEMA_STRICT, &parsed, why, sizeof why);
    if (err == TR_OK) {
        err = tr_schema_grammar(parsed, "root", ret_text, ret_size, why, sizeof why);
        tr_schema_free(parsed);
    }
    if (err != TR_OK) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "response_format: a local model cannot be held to this schema: %s", why);
    }
    return err == TR_ERR_TOO_LARGE ? TR_ERR_INVALID : err;
}
