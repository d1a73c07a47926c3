/*
 * JSON schemas (draft 2020-12) of a listed subset: what an answer or a tool's arguments must look
 * like. docs/structured.md lists the keywords. Everything is bounded: size and nesting of the
 * schema, references, the steps that one validation takes. Pure; any thread.
 */
#ifndef TR_PROTOCOL_SCHEMA_H
#define TR_PROTOCOL_SCHEMA_H

#include "protocol/json.h"

#define TR_SCHEMA_TEXT_max (256 * 1024)   /* bytes of a schema */
#define TR_SCHEMA_NODES_max 4096          /* schemas in it */
#define TR_SCHEMA_CHAIN_max 16            /* $ref to $ref, anyOf in anyOf …, about one value */
#define TR_SCHEMA_STEPS_max (1000 * 1000) /* of one validation */
#define TR_SCHEMA_VALUES_max                                                                       \
    (64 * 1024)                /* of a text that is validated: a shard does it in one go */
#define TR_SCHEMA_WHY_size 512 /* room for any sentence below */

typedef struct tr_schema tr_schema;

typedef enum tr_schema_mode {
    TR_SCHEMA_STRICT = 1, /* what is outside the subset is an error */
    TR_SCHEMA_LENIENT,    /* it is left out: texts are checked as far as the schema is understood */
} tr_schema_mode;

/* Copies `text`. TR_ERR_INVALID: it is no JSON schema. TR_ERR_UNSUPPORTED: a keyword is outside the
 * subset. TR_ERR_TOO_LARGE: a limit above. TR_ERR_NOMEM. `ret_why` names the keyword and its place
 * ("/properties/name/not: …") and is valid UTF-8. Freed by tr_schema_free. */
TR_MUST_USE tr_err tr_schema_parse(const char *text, size_t size, tr_schema_mode mode,
                                   tr_schema **ret, char *ret_why, size_t why_size);
void tr_schema_free(tr_schema *schema); /* NULL is fine */

/* Whether the text is JSON and follows the schema; NULL: any JSON does. TR_ERR_INVALID: it does
 * not, and `ret_why` says where and what was expected, for a model to act on ("at /items/0/name:
 * expected string, got number"). TR_ERR_TOO_LARGE: that cannot be said within TR_SCHEMA_STEPS_max,
 * or the text has more than TR_SCHEMA_VALUES_max values. TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_schema_validate(const tr_schema *schema, const char *text, size_t size,
                                      char *ret_why, size_t why_size);
/* The same of a value that has been read. */
TR_MUST_USE tr_err tr_schema_check(const tr_schema *schema, const tr_json_value *value,
                                   char *ret_why, size_t why_size);

#endif
