/*
 * Numbers that are not finite in float32, and an empty vector, are a server's fault: a vector store
 * would take them without a word.
 *
 * Called by the dialects' decoders; pure.
 */
#include "providers/vector.h"

#include <math.h>
#include <stdio.h>

#include "runtime/memory.h"

tr_err tri_vector_hand_out(tr_decoding *decoding, const tr_json_value *vector, uint32_t index) {
    bool array = vector != NULL && tr_json_type_of(vector) == TR_JSON_ARRAY;
    size_t size = array ? tr_json_count(vector) * sizeof(float) : 0;
    float *numbers = tr_alloc(size + 1);
    if (numbers == NULL) {
        return TR_ERR_NOMEM;
    }
    size_t filled = 0;
    bool sound = array;
    const tr_json_value *value = array ? tr_json_first(vector) : NULL;
    for (; value != NULL; value = tr_json_next(value)) {
        float number = (float)tr_json_number(value, __builtin_nan(""));
        sound = sound && isfinite(number);
        numbers[filled++] = number;
    }
    tr_err err = TR_OK;
    if (!sound || filled == 0) {
        snprintf(decoding->outcome->message, sizeof(decoding->outcome->message),
                 "the server sent an embedding that is no numbers");
        err = TR_ERR_PROTOCOL;
    } else {
        tr_piece piece = {.kind = TR_DELTA_OPAQUE,
                          .choice = index,
                          .name = {"embedding", 9},
                          .text = {(const char *)numbers, size}};
        err = decoding->fn(decoding->arg, &piece);
    }
    tr_free(numbers);
    return err;
}
