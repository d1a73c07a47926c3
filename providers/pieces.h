/*
 * The queue between a decoder and credit: pieces go in as the decoder finds them, DELTA messages
 * come out as the reader's credit allows. Neighbouring pieces of one text are joined up to
 * TR_DELTA_TEXT_max, so a slow reader gets few large messages instead of many small ones; longer
 * texts are split at a character. One thread. Internal to providers/.
 */
#ifndef TR_PROVIDERS_PIECES_H
#define TR_PROVIDERS_PIECES_H

#include "providers/dialect.h"
#include "runtime/msg.h"

typedef struct tri_piece tri_piece;

typedef struct tri_pieces {
    tri_piece *head, *tail;
    uint32_t seq; /* of the next DELTA */
} tri_pieces;

void tri_pieces_fini(tri_pieces *pieces);
/* Copies. TR_ERR_NOMEM; TR_ERR_PROTOCOL when id or name is longer than TR_NAME_max. */
TR_MUST_USE tr_err tri_pieces_add(tri_pieces *pieces, const tr_piece *piece);
bool tri_pieces_empty(const tri_pieces *pieces);
/* What the next DELTA will use of the credit's bytes; 0 when there is none. */
size_t tri_pieces_next_size(const tri_pieces *pieces);
/* The next DELTA, or NULL when out of memory (it stays queued). Not to be called when empty. */
tr_msg *tri_pieces_take(tri_pieces *pieces);

#endif
