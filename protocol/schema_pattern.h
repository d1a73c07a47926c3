/*
 * The keyword `pattern`: a regular expression of a subset (schema_pattern.c has it), matched in
 * steps that are counted, and said in a grammar (schema_pattern_grammar.c). Pure; any thread.
 */
#ifndef TR_PROTOCOL_SCHEMA_PATTERN_H
#define TR_PROTOCOL_SCHEMA_PATTERN_H

#include "protocol/wire.h"

typedef struct tri_pattern tri_pattern;

/* TR_ERR_UNSUPPORTED with a static sentence, or TR_ERR_NOMEM. */
TR_MUST_USE tr_err tri_pattern_new(tr_str text, tri_pattern **ret, const char **ret_why);
void tri_pattern_free(tri_pattern *pattern); /* NULL is fine */

/* Whether a part of `text` (or the whole, by ^ and $) matches: TR_OK, TR_ERR_INVALID, or
 * TR_ERR_NOMEM; TR_ERR_TOO_LARGE when `*steps` would pass `steps_max`. */
TR_MUST_USE tr_err tri_pattern_match(const tri_pattern *pattern, tr_str text, uint64_t *steps,
                                     uint64_t steps_max);

/* --- how it is made, for schema_pattern*.c --- */

typedef enum tri_pkind {
    TRI_PATTERN_SET = 1, /* a character: ranges first .. first + count - 1 */
    TRI_PATTERN_GROUP,   /* first = its first alternative */
    TRI_PATTERN_ALT,     /* first = its first node (0 = empty); next = the next alternative */
    TRI_PATTERN_REPEAT,  /* of node first, min to max times */
} tri_pkind;

#define TRI_PATTERN_ENDLESS UINT32_MAX

/* Nodes are named by their index; 0 = none. */
typedef struct tri_pnode {
    tri_pkind kind;
    uint32_t next; /* in its sequence */
    uint32_t first, count, min, max;
} tri_pnode;

typedef struct tri_prange {
    uint32_t low, high;
} tri_prange;

struct tri_pattern {
    tri_pnode *nodes;
    uint32_t node_count, node_room;
    tri_prange *ranges;
    uint32_t range_count, range_room;
    struct tri_pstep *steps; /* what matching goes through */
    uint32_t step_count, step_room;
    uint32_t written;  /* nodes, repetitions counted */
    uint32_t root;     /* a group */
    bool begins, ends; /* ^ and $ */
};

tr_err tri_pattern_compile(tri_pattern *p, const char **ret_why);

#endif
