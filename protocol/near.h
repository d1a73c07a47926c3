/* Names that a person may have meant: those that differ from what was written by a few letters, or
 * begin with it. Pure; for the sentences of faults. */
#ifndef TR_PROTOCOL_NEAR_H
#define TR_PROTOCOL_NEAR_H

#include "protocol/wire.h"

typedef struct tr_near {
    tr_str wanted;
    char *out;
    size_t size;
    size_t used;
    size_t count;
} tr_near;

/* Writes into `out` (`size` > 0): "" and, with the names that come, "; did you mean a or b". */
void tr_near_init(tr_near *near, tr_str wanted, char *out, size_t size);
/* One name that exists; at most three that are near are kept, in the order of the calls. */
void tr_near_consider(tr_near *near, const char *name);

#endif
