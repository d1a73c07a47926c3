/* The state of an answer in JSON: call_shape.c has its course, call_shape_body.c what is asked. */
#ifndef TR_ACTORS_CALL_SHAPE_INTERNAL_H
#define TR_ACTORS_CALL_SHAPE_INTERNAL_H

#include "actors/call_internal.h"
#include "protocol/schema.h"

struct tri_shape {
    /* set at the SUBMIT */
    tr_json *request;  /* what is written anew for a provider that is instructed; NULL: none is */
    tr_str source;     /* the schema's text, in its own memory; ptr NULL: any object */
    tr_schema *schema; /* NULL: nothing of it is understood */
    bool understood;   /* the whole of it */
    bool is_object;    /* its values are objects */
    char why[640];     /* why it is not understood */
    /* the attempt */
    bool holds;
    char *text; /* of choice 0 */
    size_t size, room;
    bool has_text, overflows, other_choices;
    tr_msg **others; /* held back: all DELTAs but those of text */
    uint32_t other_count, other_room;
    uint32_t text_at; /* so many of them precede the text */
    uint64_t held;
    uint32_t owed_messages, owed_bytes; /* credit that the backend gets back */
    char fault[TR_SCHEMA_WHY_size];
    /* the correction */
    bool corrected;
    char *wrong; /* the answer that is to be corrected */
    size_t wrong_size;
    tr_usage_wire used; /* by the attempts before */
    /* the delivery */
    tr_str good; /* of `text`: what goes out */
    size_t text_sent;
    uint32_t other_sent;
    tr_msg *terminal;
};

/* Whether what the answer shall be goes to the target in use as an instruction. */
bool tri_shape_instructs(const tri_call *c);
/* Begins a new answer. */
void tri_shape_reset(struct tri_shape *s);

#endif
