/*
 * What servers of the openai dialect can be asked about their models: all of them for a list; LM
 * Studio, by its own API beside /v1, also what is in its memory, and to load and unload a model.
 *
 * Called by the provider actor on its shard; pure.
 */
#include "providers/inventory.h"
#include "providers/openai_internal.h"

tr_err tri_openai_inquire(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size) {
    static const char list[] = "/api/v1/models";
    if ((in->quirks & TR_QUIRK_LMSTUDIO_API) == 0) {
        return tri_inventory_only_lists(in, "/models", ret, ret_why, why_size);
    }
    switch (in->op) {
    case TR_OP_MODELS:
    case TR_OP_LOADED: /* each model says which instances of it are loaded */
        return tri_inventory_get(list, true, ret);
    case TR_OP_LOAD:
        return tri_inventory_post("/api/v1/models/load", true, "model", in->model, "", ret);
    case TR_OP_UNLOAD:
        return tri_inventory_post("/api/v1/models/unload", true, "instance_id", in->model, "", ret);
    case TR_OP_CHAT:
    case TR_OP_EMBED:
    case TR_OP_COUNT:
    case TR_OP_CONTROL:
        break;
    }
    return TR_ERR_UNSUPPORTED;
}
