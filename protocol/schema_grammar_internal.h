/* Writing a grammar: schema_grammar.c has the shapes, schema_grammar_value.c strings, numbers and
 * free values. */
#ifndef TR_PROTOCOL_SCHEMA_GRAMMAR_INTERNAL_H
#define TR_PROTOCOL_SCHEMA_GRAMMAR_INTERNAL_H

#include <stdarg.h>
#include <stdio.h>

#include "protocol/schema_internal.h"

typedef struct tri_grammar_writer {
    const tr_schema *schema;
    const char *rule; /* all names begin so */
    bool *ends;       /* of each node: a finite text can follow it */
    bool *asked;      /* its rule is written or in the queue */
    uint32_t *queue;
    uint32_t queue_count;
    char *text;
    size_t size, room;
    bool string_used, number_used, integer_used, free_used;
    tr_err err; /* the first */
    char *why;
    size_t why_size;
} tri_grammar_writer;

/* Pieces of at most 255 bytes. */
void tri_grammar_add(tri_grammar_writer *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tri_grammar_add_bytes(tri_grammar_writer *w, const char *bytes, size_t size);
/* The text itself, in quotes. */
void tri_grammar_add_literal(tri_grammar_writer *w, tr_str text);
void tri_grammar_refuse(tri_grammar_writer *w, uint32_t node, const char *keyword,
                        const char *what);

bool tri_grammar_number_ends(const tri_schema_node *n);
void tri_grammar_add_string(tri_grammar_writer *w, uint32_t node);
void tri_grammar_add_pattern(tri_grammar_writer *w, uint32_t node);
void tri_grammar_add_number(tri_grammar_writer *w, uint32_t node);
void tri_grammar_add_bool(tri_grammar_writer *w, uint32_t node);
void tri_grammar_add_null(tri_grammar_writer *w, uint32_t node);
/* The rules that those above refer to. */
void tri_grammar_add_basics(tri_grammar_writer *w);

#endif
