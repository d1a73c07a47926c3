/*
 * The decoder of one answer: takes the HTTP status and the body's bytes as they come and drives the
 * dialect. It decides what the bytes are (a stream of events, one JSON value, a web page) by
 * looking at them, since servers mislabel all three. Pure: the same bytes give the same pieces
 * however they were cut.
 */
#ifndef TR_PROVIDERS_DECODER_H
#define TR_PROVIDERS_DECODER_H

#include "providers/dialect.h"

/* The failure of an answer without a byte. */
#define TR_DECODER_EMPTY "the server sent an empty answer"

typedef struct tr_decoder tr_decoder;

#define TR_ANSWER_JSON_max (16U * 1024U * 1024U)  /* a whole JSON answer */
#define TR_ANSWER_EMBED_max (64U * 1024U * 1024U) /* the same of embeddings */
#define TR_ANSWER_REFUSAL_max (64U * 1024U)       /* of a refusal; what follows is dropped */

/* TR_ERR_NOMEM. `fn` gets the pieces. */
TR_MUST_USE tr_err tr_decoder_new(const tr_dialect *dialect, tr_op op, tr_piece_fn *fn, void *arg,
                                  tr_decoder **ret);
void tr_decoder_free(tr_decoder *decoder);
/* The status line came; before any bytes. */
void tr_decoder_head(tr_decoder *decoder, uint16_t status);
/* TR_OK: go on. TR_DONE: the answer is complete, whatever may follow. Else it has failed. After
 * either, more bytes are ignored and give the same result. */
TR_MUST_USE tr_err tr_decoder_feed(tr_decoder *decoder, const char *bytes, size_t size);
/* The transfer ended, as it should or `cut`: the final result, TR_DONE or a failure. */
TR_MUST_USE tr_err tr_decoder_end(tr_decoder *decoder, bool cut);
/* What is known of the answer so far; complete after TR_DONE, a failure, or tr_decoder_end. */
const tr_outcome *tr_decoder_outcome(const tr_decoder *decoder);

#endif
