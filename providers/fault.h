/*
 * What a server's refusal means: one translation from HTTP statuses and the words of error objects
 * to tr_err, for all dialects. Pure; any thread.
 */
#ifndef TR_PROVIDERS_FAULT_H
#define TR_PROVIDERS_FAULT_H

#include <stdbool.h>

#include "protocol/wire.h"

typedef struct tr_fault {
    uint16_t status; /* of HTTP; for an error inside a 2xx answer the number its object carries */
    tr_str code, type, message;
} tr_fault;

/* Never TR_OK or TR_DONE. The words decide first, since servers agree on them more than on
 * statuses: an exhausted quota is 429 here and 402 there, a bad key 401 or 400. */
tr_err tr_fault_classify(const tr_fault *fault);

/* Whether `text` holds `word`, ASCII letters compared without case. */
bool tr_fault_has(tr_str text, const char *word);

#endif
