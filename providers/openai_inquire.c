/*
 * What servers of the openai dialect can be asked about their models: all of them for a list; LM
 * Studio, by its own API beside /v1, also what is in its memory, and to load and unload a model.
 *
 * Called by the provider actor on its shard; pure.
 */
#include <stdio.h>

#include "providers/inventory.h"
#include "providers/openai_internal.h"

static tr_err refuse(const tr_encode *in, const char *what, char *ret_why, size_t why_size) {
    snprintf(ret_why, why_size, "provider %s cannot be %s", in->provider, what);
    return TR_ERR_UNSUPPORTED;
}

tr_err tri_openai_inquire(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    bool lmstudio = (in->quirks & TR_QUIRK_LMSTUDIO_API) != 0;
    switch (in->op) {
    case TR_OP_MODELS:
        return lmstudio ? tri_inventory_get("/api/v1/models", true, ret)
                        : tri_inventory_get("/models", false, ret);
    case TR_OP_LOADED:
        return lmstudio ? tri_inventory_get("/api/v1/models", true, ret)
                        : refuse(in, "asked which models are loaded", ret_why, why_size);
    case TR_OP_LOAD:
        return lmstudio
                   ? tri_inventory_post("/api/v1/models/load", true, "model", in->model, "", ret)
                   : refuse(in, "told to load a model", ret_why, why_size);
    case TR_OP_UNLOAD:
        return lmstudio ? tri_inventory_post("/api/v1/models/unload", true, "instance_id",
                                             in->model, "", ret)
                        : refuse(in, "told to unload a model", ret_why, why_size);
    case TR_OP_CHAT:
    case TR_OP_EMBED:
    case TR_OP_COUNT:
    case TR_OP_CONTROL:
        break;
    }
    return TR_ERR_UNSUPPORTED;
}
