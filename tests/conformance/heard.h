/* What came of an answer: its pieces added up (choice 0 alone) and its end, to be compared with
 * what the exchange says, or with what came another way. */
#ifndef TR_TESTS_CONFORMANCE_HEARD_H
#define TR_TESTS_CONFORMANCE_HEARD_H

#include "tests/conformance/exchange.h"

#define HEARD_CALLS 64
#define HEARD_OPAQUES 16
#define HEARD_UNTOLD 255 /* as finish: a failure tells of none over the wire */

#define HEARD_USAGE "usage" /* as what differs */

typedef struct heard {
    text answer, reasoning;
    text names[HEARD_CALLS], arguments[HEARD_CALLS];
    text opaque_names[HEARD_OPAQUES], opaques[HEARD_OPAQUES];
    size_t calls, opaque_count;
    bool disorder; /* arguments before their call's start, or half a character */
    tr_err err;
    uint8_t finish;
    uint16_t status;
    tr_usage_wire usage;
    char message[TR_MESSAGE_max + 1]; /* the server's words */
} heard;

void heard_free(heard *heard);
/* A tr_piece_fn; `arg` is the heard. Anybody's text may be cut anywhere between characters. */
tr_err heard_piece(void *arg, const tr_piece *piece);
/* The end as a decoder tells it. */
void heard_end(heard *heard, const tr_outcome *outcome, uint16_t status);
/* NULL, or what differs from expected.json. */
const char *heard_differs(const heard *heard, const tr_json_value *expected);
/* NULL, or in what two ways of hearing the same differ. */
const char *heard_apart(const heard *a, const heard *b);
/* Runs the first `size` bytes of the exchange's body through its decoder, in pieces of `step`
 * bytes or, when that is 0, of sizes from the seed. False: it did not end, or no memory. */
bool heard_decode(heard *heard, const exchange *exchange, size_t size, bool cut, size_t step,
                  uint64_t seed);

#endif
