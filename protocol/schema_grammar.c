/*
 * A schema as GBNF: a rule a node. Texts of the grammar are a part of those the schema allows,
 * chosen so that a model is led and the grammar stays small: properties in order, blanks few (a
 * model cannot loop on them), numbers of at most 15 digits. Nodes that no finite text can follow
 * are found first and left out, so that every rule ends. What cannot be said is refused by keyword
 * and place. schema_grammar_value.c writes strings, numbers and free values. Called by the engine
 * for local models, on any thread.
 */
#include "protocol/schema_grammar.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/schema_grammar_internal.h"

enum { items_cap = 200, repeats_max = 2000, prefix_max = 64, text_max = 1024 * 1024 };

void tri_grammar_add(tri_grammar_writer *w, const char *format, ...) {
    char piece[256];
    va_list args;
    va_start(args, format);
    /* clang 14 loses sight of va_start. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    int size = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    tri_grammar_add_bytes(w, piece, (size_t)size < sizeof piece ? (size_t)size : sizeof piece - 1);
}

void tri_grammar_add_bytes(tri_grammar_writer *w, const char *bytes, size_t size) {
    if (w->err != TR_OK) {
        return;
    }
    if (size > text_max - w->size) {
        w->err = TR_ERR_UNSUPPORTED;
        snprintf(w->why, w->why_size, "the schema's grammar is larger than %d bytes", text_max);
        return;
    }
    if (w->room - w->size <= size) {
        size_t room = w->room * 2 + size + 1024;
        char *more = realloc(w->text, room);
        if (more == NULL) {
            w->err = TR_ERR_NOMEM;
            return;
        }
        w->text = more;
        w->room = room;
    }
    memcpy(w->text + w->size, bytes, size);
    w->size += size;
    w->text[w->size] = '\0';
}

void tri_grammar_refuse(tri_grammar_writer *w, uint32_t node, const char *keyword,
                        const char *what) {
    if (w->err == TR_OK) {
        char place[256];
        tri_schema_place(w->schema, node, keyword, place, sizeof place);
        w->err = TR_ERR_UNSUPPORTED;
        snprintf(w->why, w->why_size, "%s: %s", place, what);
        w->why[tr_utf8_mend(w->why, strlen(w->why))] = '\0';
    }
}

void tri_grammar_add_literal(tri_grammar_writer *w, tr_str text) {
    tri_grammar_add_bytes(w, "\"", 1);
    for (size_t i = 0; i < text.size; i++) {
        char c = text.ptr[i];
        if (c == '"' || c == '\\') {
            tri_grammar_add(w, "\\%c", c);
        } else if ((unsigned char)c < 0x20 || c == 0x7f) {
            tri_grammar_add(w, "\\x%02X", (unsigned)c);
        } else {
            tri_grammar_add_bytes(w, &c, 1);
        }
    }
    tri_grammar_add_bytes(w, "\"", 1);
}

/* --- what can end --- */

static uint32_t kinds_of(const tri_schema_node *n) {
    if (n->types != 0) {
        return n->types;
    }
    uint32_t kinds = 0;
    kinds |= n->props.count > 0 || n->additional != 0 || n->props_min >= 0 || n->props_max >= 0
                 ? TRI_TYPE_OBJECT
                 : 0U;
    kinds |=
        n->items != 0 || n->prefix.count > 0 || n->items_min >= 0 || n->items_max >= 0 || n->unique
            ? TRI_TYPE_ARRAY
            : 0U;
    kinds |= n->length_min >= 0 || n->length_max >= 0 || n->pattern != NULL ? TRI_TYPE_STRING : 0U;
    kinds |= n->minimum.ptr != NULL || n->maximum.ptr != NULL || n->above.ptr != NULL ||
                     n->below.ptr != NULL
                 ? TRI_TYPE_NUMBER
                 : 0U;
    return kinds;
}

static bool ends(const tri_grammar_writer *w, uint32_t node) {
    return node == 0 || w->ends[node];
}

static bool array_ends(const tri_grammar_writer *w, const tri_schema_node *n) {
    int64_t least = n->items_min > 0 ? n->items_min : 0;
    if (n->items_max >= 0 && n->items_max < least) {
        return false;
    }
    for (uint32_t i = 0; i < n->prefix.count && i < least; i++) {
        if (!ends(w, w->schema->list[n->prefix.first + i])) {
            return false;
        }
    }
    return least <= n->prefix.count || ends(w, n->items);
}

static bool object_ends(const tri_grammar_writer *w, const tri_schema_node *n) {
    for (uint32_t i = 0; i < n->props.count; i++) {
        const tri_prop *prop = &w->schema->props[n->props.first + i];
        if (prop->required && !ends(w, prop->node)) {
            return false;
        }
    }
    return true;
}

static bool any_ends(const tri_grammar_writer *w, tri_span span) {
    for (uint32_t i = 0; i < span.count; i++) {
        if (ends(w, w->schema->list[span.first + i])) {
            return true;
        }
    }
    return false;
}

static bool has_values(const tri_schema_node *n) {
    return n->enumeration != NULL || n->constant != NULL;
}

static const tr_json_value *first_value(const tri_schema_node *n) {
    return n->constant != NULL ? n->constant : tr_json_first(n->enumeration);
}

static const tr_json_value *next_value(const tri_schema_node *n, const tr_json_value *value) {
    return n->constant != NULL ? NULL : tr_json_next(value);
}

static bool values_end(const tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    for (const tr_json_value *one = first_value(n); one != NULL; one = next_value(n, one)) {
        if (tri_schema_listed_follows(w->schema, node, one) == TR_OK) {
            return true;
        }
    }
    return false;
}

static bool node_ends(const tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    if (n->never) {
        return false;
    }
    if (has_values(n)) {
        return values_end(w, node);
    }
    if (n->ref != 0) {
        return ends(w, n->ref);
    }
    if (n->any_of.count + n->one_of.count > 0) {
        return any_ends(w, n->any_of.count > 0 ? n->any_of : n->one_of);
    }
    if (n->all_of.count > 0) {
        return ends(w, w->schema->list[n->all_of.first]);
    }
    uint32_t kinds = kinds_of(n);
    if (kinds == 0 || (kinds & (TRI_TYPE_NULL | TRI_TYPE_BOOL | TRI_TYPE_STRING)) != 0) {
        return true;
    }
    return ((kinds & (TRI_TYPE_NUMBER | TRI_TYPE_INTEGER)) != 0 && tri_grammar_number_ends(n)) ||
           ((kinds & TRI_TYPE_ARRAY) != 0 && array_ends(w, n)) ||
           ((kinds & TRI_TYPE_OBJECT) != 0 && object_ends(w, n));
}

/* Again until nothing more is found. Parts have higher numbers than wholes, but for references: so
 * backwards few rounds do. */
static void find_ends(tri_grammar_writer *w) {
    bool more = true;
    while (more) {
        more = false;
        for (uint32_t i = w->schema->node_count - 1; i > 0; i--) {
            if (!w->ends[i] && node_ends(w, i)) {
                w->ends[i] = true;
                more = true;
            }
        }
    }
}

/* --- whether no value fits both (of oneOf) --- */

static uint32_t through(const tr_schema *s, uint32_t node) {
    while (node != 0 && !has_values(&s->nodes[node]) &&
           (s->nodes[node].ref != 0 || s->nodes[node].all_of.count == 1)) {
        node = s->nodes[node].ref != 0 ? s->nodes[node].ref : s->list[s->nodes[node].all_of.first];
    }
    return node;
}

static bool disjoint(const tri_grammar_writer *w, uint32_t a, uint32_t b, int depth);

static bool all_disjoint(const tri_grammar_writer *w, tri_span span, uint32_t b, int depth) {
    for (uint32_t i = 0; i < span.count; i++) {
        if (!disjoint(w, w->schema->list[span.first + i], b, depth)) {
            return false;
        }
    }
    return true;
}

static bool values_disjoint(const tri_grammar_writer *w, const tri_schema_node *n, uint32_t b) {
    for (const tr_json_value *one = first_value(n); one != NULL; one = next_value(n, one)) {
        if (tri_schema_follows(w->schema, b, one) != TR_ERR_INVALID) {
            return false;
        }
    }
    return true;
}

/* A property of `a` keeps its objects apart from those of `b`. */
static bool props_disjoint(const tri_grammar_writer *w, const tri_schema_node *a,
                           const tri_schema_node *b, int depth) {
    for (uint32_t i = 0; i < a->props.count; i++) {
        const tri_prop *one = &w->schema->props[a->props.first + i];
        const tri_prop *other = tri_schema_prop(w->schema, b, one->name);
        if (other == NULL) {
            if (one->required && b->additional != 0 && w->schema->nodes[b->additional].never) {
                return true;
            }
        } else if ((one->required || other->required) &&
                   disjoint(w, one->node, other->node, depth)) {
            return true;
        }
    }
    return false;
}

static bool disjoint(const tri_grammar_writer *w, uint32_t a, uint32_t b, int depth) {
    a = through(w->schema, a);
    b = through(w->schema, b);
    if (a == 0 || b == 0 || depth == 0) {
        return false;
    }
    const tri_schema_node *one = &w->schema->nodes[a], *other = &w->schema->nodes[b];
    if (one->never || other->never) {
        return true;
    }
    if (has_values(one) || has_values(other)) {
        return has_values(one) ? values_disjoint(w, one, b) : values_disjoint(w, other, a);
    }
    if (one->any_of.count + one->one_of.count > 0) {
        return all_disjoint(w, one->any_of.count > 0 ? one->any_of : one->one_of, b, depth - 1);
    }
    if (other->any_of.count + other->one_of.count > 0) {
        return disjoint(w, b, a, depth - 1);
    }
    uint32_t both = (one->types != 0 ? one->types : TRI_TYPE_ANY) &
                    (other->types != 0 ? other->types : TRI_TYPE_ANY);
    return both == 0 || (both == TRI_TYPE_OBJECT && (props_disjoint(w, one, other, depth - 1) ||
                                                     props_disjoint(w, other, one, depth - 1)));
}

/* --- writing --- */

/* The rule of a node; it is written later. */
static void add_rule_name(tri_grammar_writer *w, uint32_t node) {
    if (node == 0) {
        tri_grammar_add(w, "%s-v", w->rule);
        w->free_used = true;
        return;
    }
    tri_grammar_add(w, "%s-%u", w->rule, node);
    if (!w->asked[node]) {
        w->asked[node] = true;
        w->queue[w->queue_count++] = node;
    }
}

static void add_values(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    bool first = true;
    for (const tr_json_value *one = first_value(n); one != NULL; one = next_value(n, one)) {
        if (tri_schema_listed_follows(w->schema, node, one) == TR_OK) {
            tri_grammar_add(w, first ? "" : " | ");
            tri_grammar_add_literal(w, tr_json_raw(one));
            first = false;
        }
    }
}

static void add_alternatives(tri_grammar_writer *w, tri_span span) {
    bool first = true;
    for (uint32_t i = 0; i < span.count; i++) {
        uint32_t part = w->schema->list[span.first + i];
        if (ends(w, part)) {
            tri_grammar_add(w, first ? "" : " | ");
            add_rule_name(w, part);
            first = false;
        }
    }
}

static void add_one_of(tri_grammar_writer *w, uint32_t node) {
    tri_span span = w->schema->nodes[node].one_of;
    for (uint32_t i = 0; i < span.count; i++) {
        for (uint32_t k = i + 1; k < span.count; k++) {
            if (!disjoint(w, w->schema->list[span.first + i], w->schema->list[span.first + k], 8)) {
                tri_grammar_refuse(w, node, "oneOf",
                                   "a value may fit two of the alternatives: write anyOf, or let "
                                   "a required property with a const tell them apart");
                return;
            }
        }
    }
    add_alternatives(w, span);
}

static void add_tail(tri_grammar_writer *w, uint32_t items, int64_t least, int64_t most) {
    tri_grammar_add(w, "(\",\" %s-w ", w->rule);
    add_rule_name(w, items);
    if (most < 0) {
        tri_grammar_add(w, "){%lld,} ", (long long)least);
    } else {
        tri_grammar_add(w, "){%lld,%lld} ", (long long)least, (long long)most);
    }
}

/* The items from number `from` on, of which `from` stand already. */
static void add_items(tri_grammar_writer *w, const tri_schema_node *n, uint32_t from, int64_t least,
                      int64_t most) {
    bool is_prefix = from < n->prefix.count;
    uint32_t item = is_prefix ? w->schema->list[n->prefix.first + from] : n->items;
    if (most == (int64_t)from || !ends(w, item)) {
        return;
    }
    bool optional = least <= (int64_t)from;
    if (!is_prefix && from > 0) {
        add_tail(w, item, optional ? 0 : least - from, most < 0 ? -1 : most - from);
        return;
    }
    tri_grammar_add(w, optional ? "(" : "");
    if (from > 0) {
        tri_grammar_add(w, "\",\" %s-w ", w->rule);
    }
    add_rule_name(w, item);
    tri_grammar_add(w, " ");
    if (is_prefix) {
        add_items(w, n, from + 1, least, most);
    } else if (most != 1 || least > 1) {
        add_tail(w, item, least > 1 ? least - 1 : 0, most < 0 ? -1 : most - 1);
    }
    tri_grammar_add(w, optional ? ")? " : "");
}

static void add_array(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    int64_t least = n->items_min > 0 ? n->items_min : 0;
    int64_t most = n->items_max;
    if (n->unique && (most < 0 || most > 1)) {
        tri_grammar_refuse(w, node, "uniqueItems", "a grammar cannot compare items");
    }
    if (least > repeats_max || n->prefix.count > prefix_max) {
        tri_grammar_refuse(w, node, least > repeats_max ? "minItems" : "prefixItems",
                           "these are too many for a grammar");
    }
    int64_t cap = least > items_cap ? least : items_cap;
    most = most > cap ? cap : most;
    tri_grammar_add(w, "\"[\" %s-w ", w->rule);
    if (most != 0 && ends(w, n->prefix.count > 0 ? w->schema->list[n->prefix.first] : n->items)) {
        tri_grammar_add(w, least == 0 ? "(" : "");
        /* The first item is not optional within these parentheses. */
        add_items(w, n, 0, least > 0 ? least : 1, most);
        tri_grammar_add(w, "%s-w ", w->rule);
        tri_grammar_add(w, least == 0 ? ")? " : "");
    }
    tri_grammar_add(w, "\"]\"");
}

/* `name: value`; rule NODE-k is one property. */
static void add_member(tri_grammar_writer *w, const tri_prop *prop) {
    tr_jsonw json;
    char *text = NULL;
    size_t size = 0;
    tr_jsonw_init(&json);
    tr_jsonw_str(&json, prop->name);
    tr_err err = tr_jsonw_take(&json, &text, &size);
    if (err != TR_OK) {
        w->err = w->err == TR_OK ? err : w->err;
        return;
    }
    tri_grammar_add_literal(w, (tr_str){text, size});
    free(text);
    tri_grammar_add(w, " \":\" %s-w ", w->rule);
    add_rule_name(w, prop->node);
}

/* Objects of free names. */
static void add_map(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    if (n->props_min > 0 || n->props_max >= 0) {
        tri_grammar_refuse(w, node, n->props_min > 0 ? "minProperties" : "maxProperties",
                           "a grammar cannot count properties of any name");
    }
    if (n->additional == 0) {
        tri_grammar_add(w, "%s-o", w->rule);
        w->free_used = true;
    } else if (!ends(w, n->additional)) {
        tri_grammar_add(w, "\"{\" %s-w \"}\"", w->rule);
    } else {
        w->string_used = true;
        tri_grammar_add(w, "\"{\" %s-w (%s-s \":\" %s-w ", w->rule, w->rule, w->rule);
        add_rule_name(w, n->additional);
        tri_grammar_add(w, " (\",\" %s-w %s-s \":\" %s-w ", w->rule, w->rule, w->rule);
        add_rule_name(w, n->additional);
        tri_grammar_add(w, ")* %s-w)? \"}\"", w->rule);
    }
}

static bool stands(const tri_grammar_writer *w, const tri_prop *prop) {
    return ends(w, prop->node);
}

static void check_prop_counts(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    int64_t required = 0, all = 0;
    for (uint32_t i = 0; i < n->props.count; i++) {
        const tri_prop *prop = &w->schema->props[n->props.first + i];
        required += prop->required ? 1 : 0;
        all += stands(w, prop) ? 1 : 0;
    }
    if (n->props_min > required) {
        tri_grammar_refuse(w, node, "minProperties", "a grammar cannot count optional properties");
    }
    if (n->props_max >= 0 && n->props_max < all) {
        tri_grammar_refuse(w, node, "maxProperties", "a grammar cannot count optional properties");
    }
}

/* What may follow the first `from` properties: rule -fK when none of them stands, -mK when one
 * does. Without either, the object is at its end. */
static void add_rest(tri_grammar_writer *w, uint32_t node, uint32_t from, bool begun) {
    const tri_schema_node *n = &w->schema->nodes[node];
    const tri_prop *props = &w->schema->props[n->props.first];
    bool first = true;
    for (uint32_t i = from; i < n->props.count && w->err == TR_OK; i++) {
        if (!stands(w, &props[i])) {
            continue;
        }
        tri_grammar_add(w, first ? "" : " | ");
        first = false;
        if (begun) {
            tri_grammar_add(w, "\",\" %s-w ", w->rule);
        }
        tri_grammar_add(w, "%s-%u-p%u %s-%u-m%u", w->rule, node, i, w->rule, node, i + 1);
        if (props[i].required) {
            return;
        }
    }
    tri_grammar_add(w, first ? "" : " | ");
    if (begun) {
        tri_grammar_add(w, "%s-w", w->rule);
    }
}

/* The rules of an object's members, beside the rule of its node. */
static void add_member_rules(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    for (uint32_t i = 0; i < n->props.count && w->err == TR_OK; i++) {
        const tri_prop *prop = &w->schema->props[n->props.first + i];
        if (stands(w, prop)) {
            tri_grammar_add(w, "%s-%u-p%u ::= ", w->rule, node, i);
            add_member(w, prop);
            tri_grammar_add(w, "\n%s-%u-m%u ::= ", w->rule, node, i + 1);
            add_rest(w, node, i + 1, true);
            tri_grammar_add(w, "\n");
        }
    }
}

static void add_object(tri_grammar_writer *w, uint32_t node) {
    if (w->schema->nodes[node].props.count == 0) {
        add_map(w, node);
        return;
    }
    check_prop_counts(w, node);
    tri_grammar_add(w, "\"{\" %s-w (", w->rule);
    add_rest(w, node, 0, false);
    tri_grammar_add(w, ") \"}\"");
}

static void add_kinds(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    uint32_t kinds = kinds_of(n);
    if (kinds == 0) {
        add_rule_name(w, 0);
        return;
    }
    bool numbers = (kinds & (TRI_TYPE_NUMBER | TRI_TYPE_INTEGER)) != 0;
    const struct {
        bool is;
        void (*add)(tri_grammar_writer *w, uint32_t node);
    } all[] = {
        {(kinds & TRI_TYPE_OBJECT) != 0 && object_ends(w, n), add_object},
        {(kinds & TRI_TYPE_ARRAY) != 0 && array_ends(w, n), add_array},
        {(kinds & TRI_TYPE_STRING) != 0, tri_grammar_add_string},
        {numbers && tri_grammar_number_ends(n), tri_grammar_add_number},
        {(kinds & TRI_TYPE_BOOL) != 0, tri_grammar_add_bool},
        {(kinds & TRI_TYPE_NULL) != 0, tri_grammar_add_null},
    };
    bool first = true;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].is) {
            tri_grammar_add(w, first ? "" : " | ");
            all[i].add(w, node);
            first = false;
        }
    }
}

/* $ref, anyOf … stand for a whole schema: a grammar cannot hold to two at once. */
static bool stands_alone(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    bool all = n->all_of.count > 0, any = n->any_of.count > 0, one = n->one_of.count > 0;
    int wholes = (n->ref != 0) + all + any + one;
    const char *keyword = n->ref != 0 ? "$ref" : all ? "allOf" : any ? "anyOf" : "oneOf";
    if (wholes > 1 || n->all_of.count > 1 || (wholes > 0 && (kinds_of(n) != 0))) {
        tri_grammar_refuse(w, node, keyword,
                           n->all_of.count > 1
                               ? "a grammar can follow one schema at once: write one instead of "
                                 "these"
                               : "a grammar cannot follow it and the keywords beside it at once");
        return false;
    }
    return wholes > 0;
}

static void add_node(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    tri_grammar_add(w, "%s-%u ::= ", w->rule, node);
    bool object = false;
    if (has_values(n)) {
        add_values(w, node);
    } else if (stands_alone(w, node)) {
        if (n->one_of.count > 0) {
            add_one_of(w, node);
        } else if (n->ref != 0) {
            add_rule_name(w, n->ref);
        } else {
            add_alternatives(w, n->any_of.count > 0 ? n->any_of : n->all_of);
        }
    } else {
        object = (kinds_of(n) & TRI_TYPE_OBJECT) != 0 && object_ends(w, n);
        add_kinds(w, node);
    }
    tri_grammar_add(w, "\n");
    if (object) {
        add_member_rules(w, node);
    }
}

static tr_err write_all(tri_grammar_writer *w) {
    find_ends(w);
    if (!w->ends[1]) {
        tri_grammar_refuse(w, 1, NULL, "no text can follow this schema");
    }
    tri_grammar_add(w, "%s ::= ", w->rule);
    add_rule_name(w, 1);
    tri_grammar_add(w, "\n");
    for (uint32_t i = 0; i < w->queue_count && w->err == TR_OK; i++) {
        add_node(w, w->queue[i]);
    }
    tri_grammar_add_basics(w);
    return w->err;
}

tr_err tr_schema_grammar(const tr_schema *schema, const char *rule, char **ret_text,
                         size_t *ret_size, char *ret_why, size_t why_size) {
    tri_grammar_writer w = {
        .schema = schema,
        .rule = rule,
        .ends = calloc(schema->node_count, sizeof(bool)),
        .asked = calloc(schema->node_count, sizeof(bool)),
        .queue = calloc(schema->node_count, sizeof(uint32_t)),
        .why = ret_why,
        .why_size = why_size,
    };
    snprintf(ret_why, why_size, "%s", "out of memory");
    tr_err err =
        w.ends != NULL && w.asked != NULL && w.queue != NULL ? write_all(&w) : TR_ERR_NOMEM;
    free(w.ends);
    free(w.asked);
    free(w.queue);
    if (err != TR_OK) {
        free(w.text);
        return err;
    }
    *ret_text = w.text;
    *ret_size = w.size;
    return TR_OK;
}
