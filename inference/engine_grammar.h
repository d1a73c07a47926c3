/*
 * What a grammar costs, before libllama gets it: see engine_grammar.c. Pure; any thread.
 */
#ifndef TR_INFERENCE_ENGINE_GRAMMAR_H
#define TR_INFERENCE_ENGINE_GRAMMAR_H

#include <stdbool.h>

#include "protocol/wire.h"

typedef enum tri_grammar_verdict {
    TRI_GRAMMAR_FINE = 1,
    TRI_GRAMMAR_UNREADABLE, /* no GBNF: libllama says what is wrong with it */
    TRI_GRAMMAR_EXPLOSIVE,  /* `why` says how */
    TRI_GRAMMAR_NOMEM,
} tri_grammar_verdict;

/* `*ret_why` is a static sentence, set with TRI_GRAMMAR_EXPLOSIVE. The caller has bounded how deep
 * parentheses nest. */
tri_grammar_verdict tri_grammar_check(tr_str text, const char **ret_why);

#endif
