/* A grammar as nodes: engine_grammar_read.c makes them, engine_grammar.c walks them. */
#ifndef TR_INFERENCE_ENGINE_GRAMMAR_INTERNAL_H
#define TR_INFERENCE_ENGINE_GRAMMAR_INTERNAL_H

#include <stdint.h>

#include "inference/engine_grammar.h"

#define TRI_GNODE_ENDLESS UINT32_MAX

typedef enum tri_gnode_kind {
    TRI_GNODE_CHAR = 1, /* ranges first .. first + count - 1, all but those when `negated` */
    TRI_GNODE_RULE,     /* first = the rule's number, from 1 */
    TRI_GNODE_GROUP,    /* first = its first alternative */
    TRI_GNODE_REPEAT,   /* first = the first node of what is repeated, min to max times */
    TRI_GNODE_ALT,      /* first = its first node (0 = empty); next = the next alternative */
} tri_gnode_kind;

/* Nodes are named by their index; 0 = none. */
typedef struct tri_gnode {
    tri_gnode_kind kind;
    bool negated;
    uint32_t next; /* in its sequence */
    uint32_t first;
    uint32_t count, min, max;
    uint32_t size; /* in libllama's elements, which writes repetitions out */
} tri_gnode;

typedef struct tri_grange {
    uint32_t low, high;
} tri_grange;

typedef struct tri_grule {
    tr_str name;
    uint32_t alts; /* 0 = used, but not defined */
} tri_grule;

typedef struct tri_grammar {
    tri_gnode *nodes;
    uint32_t node_count, node_room;
    tri_grange *ranges;
    uint32_t range_count, range_room;
    tri_grule *rules;
    uint32_t rule_count, rule_room;
    uint32_t *names; /* hash of names, open addressing: rule numbers */
    uint32_t root;   /* its rule; 0 = none */
} tri_grammar;

/* TRI_GRAMMAR_FINE, UNREADABLE or NOMEM; to be finished in every case. */
tri_grammar_verdict tri_grammar_read(tri_grammar *grammar, tr_str text);
void tri_grammar_fini(tri_grammar *grammar);

#endif
