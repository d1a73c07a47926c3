/*
 * An embedding's numbers on their way from JSON to an opaque piece of little-endian float32: the
 * same for all dialects. Internal to providers/.
 */
#ifndef TR_PROVIDERS_VECTOR_H
#define TR_PROVIDERS_VECTOR_H

#include "providers/dialect.h"

/* Hands the array's numbers to the decoding's sink as a piece "embedding" with `index` as its
 * choice. TR_ERR_PROTOCOL (said) when it is no array of numbers, TR_ERR_NOMEM, or what the sink
 * returned. Pure. */
TR_MUST_USE tr_err tri_vector_hand_out(tr_decoding *decoding, const tr_json_value *vector,
                                       uint32_t index);

#endif
