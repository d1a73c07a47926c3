/*
 * The keyword `pattern`: a regular expression of a subset (see schema_pattern.c), matched in time
 * that is bounded, and said in a grammar. Pure; any thread.
 */
#ifndef TR_PROTOCOL_SCHEMA_PATTERN_H
#define TR_PROTOCOL_SCHEMA_PATTERN_H

#include "protocol/wire.h"

typedef struct tri_pattern tri_pattern;

/* TR_ERR_UNSUPPORTED with a static sentence, or TR_ERR_NOMEM. */
TR_MUST_USE tr_err tri_pattern_new(tr_str text, tri_pattern **ret, const char **ret_why);
void tri_pattern_free(tri_pattern *pattern); /* NULL is fine */

#endif
