/*
 * Tools for a local model: which a request lets it call (tool_choice), the grammar that holds it to
 * well-formed calls, their names, and the answer in pieces, each of which becomes a DELTA.
 * libllama's templates know no tools; the form is Hermes' and Qwen's (engine_calls.h). Pure; any
 * thread.
 */
#ifndef TR_INFERENCE_ENGINE_TOOLS_H
#define TR_INFERENCE_ENGINE_TOOLS_H

#include "inference/engine_calls.h"
#include "inference/engine_write.h"

#define TRI_TOOLS_max 128
#define TRI_PARALLEL_max 16 /* calls in one answer */

/* A piece of the answer that waits to be sent. */
typedef struct tri_tools_piece {
    int kind; /* tr_delta_kind, 0 = none */
    uint32_t call;
    size_t tool;
    tri_write text;
} tri_tools_piece;

typedef struct tri_tools {
    const tr_chat *chat; /* borrowed */
    tr_str *names;       /* as JSON writes them inside quotes */
    size_t count;
    char *grammar;
    uint32_t calls_before; /* in the conversation: ids count on from there */
    /* the answer, as far as it was read */
    tri_calls calls;
    tri_tools_piece piece, next; /* `next` is of another kind, so `piece` grows no more */
    bool flushed;                /* what was held back at the answer's end is in a piece */
    size_t fed;                  /* bytes that were read of the text that waits (engine_text.h) */
    size_t covered;              /* of them: all that they say is in `piece` */
} tri_tools;

/* *ret NULL: the model is to know of no tools (there are none, or tool_choice is none).
 * TR_ERR_INVALID, TR_ERR_UNSUPPORTED: `ret_why` (>= TR_ENGINE_WHY_size) says what is wrong. */
TR_MUST_USE tr_err tri_tools_new(const tr_chat *chat, tri_tools **ret, char *ret_why);
void tri_tools_free(tri_tools *tools);
/* Where tri_tools_new gave NULL: the grammar that keeps a model, which has seen its earlier calls,
 * from writing more of them as text; static. NULL = none is needed. */
const char *tri_tools_silence(const tr_chat *chat);

/* Reads on in the text that waits, up to `size` bytes, until there is a piece that grows no more.
 * `ended`: nothing comes behind them. */
TR_MUST_USE tr_err tri_tools_read(tri_tools *tools, const char *bytes, size_t size, bool ended);
/* The piece was sent, and `covered` bytes are gone from the text's front. */
void tri_tools_sent(tri_tools *tools);
/* Reads bytes whose pieces were sent before by another worker; `flushed` as above. */
void tri_tools_replay(tri_tools *tools, const char *bytes, size_t size, bool flushed);

#endif
