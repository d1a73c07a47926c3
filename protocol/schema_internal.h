/* A schema as nodes: schema.c and schema_keywords.c make them, schema_validate.c and
 * schema_grammar.c walk them. */
#ifndef TR_PROTOCOL_SCHEMA_INTERNAL_H
#define TR_PROTOCOL_SCHEMA_INTERNAL_H

#include "protocol/schema.h"

typedef enum tri_type {
    TRI_TYPE_NULL = 1,
    TRI_TYPE_BOOL = 2,
    TRI_TYPE_INTEGER = 4,
    TRI_TYPE_NUMBER = 8,
    TRI_TYPE_STRING = 16,
    TRI_TYPE_ARRAY = 32,
    TRI_TYPE_OBJECT = 64,
    TRI_TYPE_ANY = 127,
} tri_type;

/* Entries of a list of node numbers or of properties. */
typedef struct tri_span {
    uint32_t first, count;
} tri_span;

typedef struct tri_prop {
    tr_str name;
    uint32_t node; /* 0 = anything */
    bool required;
} tri_prop;

/* Nodes are named by their index, the root is 1; 0 = none, that is, anything is allowed. */
typedef struct tri_schema_node {
    const tr_json_value *value;
    uint32_t up;    /* whose part it is; 0 = the root, or the target of a $ref */
    tr_str keyword; /* of `up`; or the whole $ref */
    tr_str name;    /* of the property, or NULL */
    int64_t index;  /* in the keyword's array, or -1 */
    uint32_t types; /* tri_type bits; 0 = not said */
    bool never;     /* the schema `false` */
    bool unique;    /* uniqueItems */
    uint32_t ref;
    tri_span any_of, one_of, all_of, prefix; /* in the schema's list */
    tri_span props;                          /* in its properties, in the order of the schema */
    uint32_t items, additional;
    const tr_json_value *enumeration, *constant;
    int64_t length_min, length_max, items_min, items_max, props_min, props_max; /* -1 = not said */
    tr_str minimum, maximum, above, below; /* numbers as written; ptr NULL = not said */
    struct tri_pattern *pattern;
} tri_schema_node;

struct tr_schema {
    tr_json *json;
    tri_schema_node *nodes;
    uint32_t node_count, node_room; /* count: the next index */
    uint32_t *list;
    uint32_t list_count, list_room;
    tri_prop *props;
    uint32_t prop_count, prop_room;
    uint32_t *sorted; /* places in props, each node's own sorted by name */
};

/* Where a node stands in the schema, as a JSON pointer; `keyword` (or NULL) at its end. */
void tri_schema_place(const tr_schema *schema, uint32_t node, const char *keyword, char *ret,
                      size_t size);
/* The property of that name, or NULL. */
const tri_prop *tri_schema_prop(const tr_schema *schema, const tri_schema_node *node, tr_str name);
/* Whether the value follows this node. TR_OK, TR_ERR_INVALID or TR_ERR_TOO_LARGE. */
tr_err tri_schema_follows(const tr_schema *schema, uint32_t node, const tr_json_value *value);
/* The same for a value of the node's own enum or const; a long enum is not searched for it. */
tr_err tri_schema_listed_follows(const tr_schema *schema, uint32_t node,
                                 const tr_json_value *value);
/* Whether two JSON values are equal, numbers by value. */
bool tri_schema_equal(const tr_json_value *a, const tr_json_value *b);

/* -1, 0, 1: numbers as JSON writes them, compared exactly. */
int tri_number_compare(tr_str a, tr_str b);
bool tri_number_whole(tr_str number);

/* The values of a node's keywords, read into it. */
typedef struct tri_schema_parser {
    tr_schema *schema;
    tr_schema_mode mode;
    char *why;
    size_t why_size;
} tri_schema_parser;
tr_err tri_schema_read_node(tri_schema_parser *p, uint32_t node);
/* Adds a node for a part of `up`. */
tr_err tri_schema_add(tri_schema_parser *p, const tr_json_value *value, tri_schema_node node,
                      uint32_t *ret);
/* Says why at a keyword's place, and returns `err`. */
tr_err tri_schema_refuse(tri_schema_parser *p, tr_err err, uint32_t node, const char *keyword,
                         const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
