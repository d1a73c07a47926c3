/*
 * What providers say of their own models: the answers to TR_OP_MODELS, TR_OP_LOADED, TR_OP_LOAD and
 * TR_OP_UNLOAD. All vendors' lists are alike enough for one reader: {"data": [...]} or {"models":
 * [...]} of objects with a name. Internal to providers/.
 */
#ifndef TR_PROVIDERS_INVENTORY_H
#define TR_PROVIDERS_INVENTORY_H

#include "providers/dialect.h"

/* Whether the operation is one of the four. */
bool tri_inventory_op(tr_op op);

/* A whole 2xx answer: TR_DONE, or a failure with its sentence. Of the first two operations it
 * becomes one text piece, a JSON array of {name, and where the vendor says so: model, bytes,
 * bytes_vram, context, parameters, quantization, owned_by, expires_at}. Pure. */
TR_MUST_USE tr_err tri_inventory_report(tr_decoding *decoding, tr_str body);

/* The requests: a GET of `path`, or a POST of {"<name>": "<model>"} with what `more` adds
 * (",\"a\":1" or ""). TR_ERR_NOMEM, or TR_ERR_INVALID when no model is named. */
TR_MUST_USE tr_err tri_inventory_get(const char *path, bool from_root, tr_encoded *ret);
TR_MUST_USE tr_err tri_inventory_post(const char *path, bool from_root, const char *name,
                                      tr_str model, const char *more, tr_encoded *ret);
/* `inquire` of a vendor that lists its models at `path` and has nothing else of the kind. */
TR_MUST_USE tr_err tri_inventory_only_lists(const tr_encode *in, const char *path, tr_encoded *ret,
                                            char *ret_why, size_t why_size);

#endif
