/*
 * The parts of the anthropic dialect: requests out (anthropic.c), their messages
 * (anthropic_messages.c), answers in (anthropic_decode.c), the blocks that an answer is made of
 * (anthropic_blocks.c). Internal to providers/.
 */
#ifndef TR_PROVIDERS_ANTHROPIC_INTERNAL_H
#define TR_PROVIDERS_ANTHROPIC_INTERNAL_H

#include "providers/dialect.h"

/* ---- Requests ---- */

typedef struct tri_anthropic_writer {
    tr_jsonw w;
    const tr_encode *in;
    const tr_json_value *own; /* the request's own fields, or NULL */
    tr_err err;               /* the first thing that cannot be said, with its sentence */
    char *why;
    size_t why_size;
} tri_anthropic_writer;

/* Notes the first refusal. */
__attribute__((format(printf, 3, 4))) void
tri_anthropic_refuse(tri_anthropic_writer *writer, tr_err err, const char *format, ...);
/* The members "system" (none when there is no system message) and "messages". */
void tri_anthropic_messages(tri_anthropic_writer *writer);
/* The members of two raw objects (or nothing) that become one, without those of a NULL-terminated
 * list; of a name that both have, the first's. */
void tri_anthropic_members(tr_jsonw *w, tr_str first, tr_str second, const char *const *reserved);

/* ---- Answers ---- */

typedef struct tri_anthropic_text {
    char *bytes;
    size_t size, room;
} tri_anthropic_text;

typedef enum tri_anthropic_kind {
    TRI_ANTHROPIC_TEXT = 1,
    TRI_ANTHROPIC_THINKING,
    TRI_ANTHROPIC_TOOL,
    TRI_ANTHROPIC_OTHER, /* redacted thinking, tools that the server runs, what is not known */
} tri_anthropic_kind;

typedef struct tri_anthropic_block {
    tri_anthropic_kind kind;
    int64_t index; /* as the server numbers it */
    uint32_t tool; /* of a tool call: its number */
    bool whole;    /* of a tool call: its input came with its beginning */
    bool ended;
    bool lost;               /* something of it was not understood: it cannot be sent back */
    uint64_t size;           /* bytes of a text, or of a tool call's input */
    tri_anthropic_text raw;  /* OTHER: the block as it began; TOOL: its id */
    tri_anthropic_text text; /* THINKING: the thoughts; OTHER: the input that came in pieces */
    tri_anthropic_text more; /* THINKING: the signature; TEXT: citations with commas between */
} tri_anthropic_block;

typedef struct tri_anthropic {
    tri_anthropic_block *blocks;
    uint32_t count, room;
    uint32_t tools;          /* tool calls so far */
    size_t kept;             /* bytes of all texts above */
    uint64_t cache_creation; /* tokens written into the prompt cache */
    uint64_t cache_hour;     /* of them, for an hour */
    bool begun;              /* message_start came */
    bool reported;           /* the opaque fields were handed on */
} tri_anthropic;

tr_err tri_anthropic_event(tr_decoding *decoding, tr_str type, tr_str data, bool last);
tr_err tri_anthropic_whole(tr_decoding *decoding, tr_str body);
tr_err tri_anthropic_eof(tr_decoding *decoding, bool cut);
tr_err tri_anthropic_refusal(tr_decoding *decoding, tr_str body);
void tri_anthropic_fini(tr_decoding *decoding);

/* A block begins: hands on what it brings with it. */
tr_err tri_anthropic_begin(tr_decoding *decoding, int64_t index, const tr_json_value *block);
/* A piece of the block of that index (-1: of the newest). */
tr_err tri_anthropic_add(tr_decoding *decoding, int64_t index, const tr_json_value *delta);
tr_err tri_anthropic_end(tr_decoding *decoding, int64_t index);
/* The answer is complete: hands on `content_blocks` and `citations`, once. */
tr_err tri_anthropic_report(tr_decoding *decoding);
void tri_anthropic_blocks_fini(tri_anthropic *state);

#endif
