/*
 * A JSON schema as a grammar (GBNF, llama.cpp's grammars/README.md): every text of the grammar is a
 * JSON text that follows the schema. Not every such text is one of the grammar's: properties come
 * in the order of the schema, there are no others than those, and blanks are few
 * (docs/structured.md). Pure; any thread.
 */
#ifndef TR_PROTOCOL_SCHEMA_GRAMMAR_H
#define TR_PROTOCOL_SCHEMA_GRAMMAR_H

#include "protocol/schema.h"

/* The rule `rule` ("root"; letters, digits and hyphens) and the rules it needs, whose names begin
 * with `rule` and a hyphen: grammars of several schemas can stand in one text. Made by
 * tr_schema_parse in STRICT mode. TR_ERR_UNSUPPORTED: the schema cannot be said so, or no text can
 * follow it; `ret_why` names keyword and place. TR_ERR_NOMEM. The text is NUL-terminated and to be
 * freed by free(). */
TR_MUST_USE tr_err tr_schema_grammar(const tr_schema *schema, const char *rule, char **ret_text,
                                     size_t *ret_size, char *ret_why, size_t why_size);

#endif
