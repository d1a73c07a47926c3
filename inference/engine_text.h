/*
 * From tokens to text that may be sent: whole characters, and nothing that may still turn out to be
 * a stop string. What has been pushed and not yet taken waits here, with the tokens it came from.
 * Text that may be sent is a function of the tokens alone, which is what makes resuming exact.
 */
#ifndef TR_INFERENCE_ENGINE_TEXT_H
#define TR_INFERENCE_ENGINE_TEXT_H

#include "protocol/wire.h"

typedef struct tri_text_token {
    int32_t id;
    size_t end; /* where its whole characters end in `bytes` */
    bool open;  /* it ends inside a character */
} tri_text_token;

typedef struct tri_text {
    /* set at init */
    const tr_str *stops; /* borrowed */
    size_t stop_count;
    tr_str fence; /* from this text on no stop string is looked for; size 0 = none */
    /* what waits */
    char *bytes;
    size_t size, room;
    tri_text_token *tokens;
    size_t token_count, token_room;
    uint8_t open[4]; /* the first bytes of a character */
    size_t open_size;
    size_t searched; /* no stop string begins before this offset */
    bool fenced;     /* the fence came */
    bool stopped;    /* a stop string came; `bytes` ends before it */
    bool finished;   /* no more tokens: everything may be sent */
    /* of what waits, already sent (after a resume) */
    size_t sent_tokens, sent_size;
} tri_text;

void tri_text_init(tri_text *text, const tr_str *stops, size_t stop_count);
void tri_text_fini(tri_text *text);

/* Adds a token and its bytes; afterwards look at `stopped`. */
TR_MUST_USE tr_err tri_text_push(tri_text *text, int32_t token, const char *piece, size_t size);
/* Adds text that comes from no token. */
TR_MUST_USE tr_err tri_text_add(tri_text *text, const char *bytes, size_t size);
/* No token follows: what is held back may go; an unfinished character is dropped. */
void tri_text_finish(tri_text *text);
/* All that waits has been sent already, by the one who pushed these tokens first. */
void tri_text_resumed(tri_text *text);

/* What may be sent now: *ret_tokens tokens and *ret_size bytes from the front (of which the first
 * sent_tokens and sent_size are sent already). */
void tri_text_ready(const tri_text *text, size_t *ret_tokens, size_t *ret_size);
/* Drops that many from the front. */
void tri_text_take(tri_text *text, size_t tokens, size_t size);

#endif
