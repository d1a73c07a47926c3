/*
 * A pattern as a part of a grammar: its characters as JSON strings write them, that is, quotes and
 * backslashes escaped, of the control characters only those with a short escape. Where ^ or $ is
 * missing any characters may precede or follow. Called by schema_grammar_value.c; pure.
 */
#include "protocol/schema_grammar_internal.h"
#include "protocol/schema_pattern.h"

typedef struct span {
    uint32_t low, high;
} span;

/* What stands in a JSON string as it is. */
static const span plain[] = {
    {0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x7e}, {0xa0, 0xd7ff}, {0xe000, 0x10ffff},
};

static const struct {
    uint32_t code;
    const char *text; /* in a GBNF literal */
} escapes[] = {
    {'"', "\\\\\\\""}, {'\\', "\\\\\\\\"}, {'\n', "\\\\n"},
    {'\r', "\\\\r"},   {'\t', "\\\\t"},    {'\f', "\\\\f"},
};

static bool has(const tri_pattern *p, const tri_pnode *set, uint32_t code) {
    for (uint32_t i = 0; i < set->count; i++) {
        const tri_prange *range = &p->ranges[set->first + i];
        if (code >= range->low && code <= range->high) {
            return true;
        }
    }
    return false;
}

/* False: none of its characters can be written. */
static bool add_set(tri_grammar_writer *w, const tri_pattern *p, const tri_pnode *set) {
    bool any = false;
    tri_grammar_add(w, "(");
    for (uint32_t i = 0; i < set->count; i++) {
        const tri_prange *range = &p->ranges[set->first + i];
        for (size_t k = 0; k < sizeof plain / sizeof *plain; k++) {
            uint32_t low = range->low > plain[k].low ? range->low : plain[k].low;
            uint32_t high = range->high < plain[k].high ? range->high : plain[k].high;
            if (low <= high) {
                tri_grammar_add(w, "%s\\U%08X-\\U%08X", any ? "" : "[", low, high);
                any = true;
            }
        }
    }
    tri_grammar_add(w, any ? "]" : "");
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        if (has(p, set, escapes[i].code)) {
            tri_grammar_add(w, "%s\"%s\"", any ? " | " : "", escapes[i].text);
            any = true;
        }
    }
    tri_grammar_add(w, ") ");
    return any;
}

static bool add_sequence(tri_grammar_writer *w, const tri_pattern *p, uint32_t node);

static bool add_group(tri_grammar_writer *w, const tri_pattern *p, uint32_t alt) {
    bool good = true;
    tri_grammar_add(w, "(");
    for (bool first = true; alt != 0 && good; alt = p->nodes[alt].next, first = false) {
        tri_grammar_add(w, first ? "" : "| ");
        good = add_sequence(w, p, p->nodes[alt].first);
    }
    tri_grammar_add(w, ") ");
    return good;
}

static bool add_node(tri_grammar_writer *w, const tri_pattern *p, const tri_pnode *node) {
    bool good = true;
    switch (node->kind) {
    case TRI_PATTERN_SET:
        return add_set(w, p, node);
    case TRI_PATTERN_GROUP:
        return add_group(w, p, node->first);
    case TRI_PATTERN_REPEAT:
        tri_grammar_add(w, "(");
        good = add_node(w, p, &p->nodes[node->first]);
        if (node->max == TRI_PATTERN_ENDLESS) {
            tri_grammar_add(w, "){%u,} ", node->min);
        } else {
            tri_grammar_add(w, "){%u,%u} ", node->min, node->max);
        }
        return good;
    case TRI_PATTERN_ALT:
        break; /* stands in no sequence */
    }
    return false;
}

static bool add_sequence(tri_grammar_writer *w, const tri_pattern *p, uint32_t node) {
    bool good = true;
    for (; node != 0 && good; node = p->nodes[node].next) {
        good = add_node(w, p, &p->nodes[node]);
    }
    return good;
}

void tri_grammar_add_pattern(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    const tri_pattern *p = n->pattern;
    if (n->length_min > 0 || n->length_max >= 0) {
        tri_grammar_refuse(w, node, "pattern",
                           "a grammar cannot follow it and minLength or maxLength at once");
    }
    w->string_used = true;
    tri_grammar_add(w, "\"\\\"\" ");
    if (!p->begins) {
        tri_grammar_add(w, "%s-c* ", w->rule);
    }
    if (!add_group(w, p, p->nodes[p->root].first)) {
        tri_grammar_refuse(w, node, "pattern", "it has a character that no JSON string shows");
    }
    if (!p->ends) {
        tri_grammar_add(w, "%s-c* ", w->rule);
    }
    tri_grammar_add(w, "\"\\\"\"");
}
