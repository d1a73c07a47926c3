/*
 * Reading a schema: its JSON becomes nodes, breadth first, so that nesting costs no stack; a $ref
 * is the node of what it names, read once. Afterwards no chain of $ref, anyOf, oneOf and allOf
 * about one and the same value may be long or return to itself: so a validation's stack is bounded
 * by the text's depth, and a grammar has no rule that begins with itself. schema_keywords.c reads
 * the keywords. Called by whoever asks for structured output, on any thread.
 */
#include "protocol/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/schema_internal.h"
#include "protocol/schema_pattern.h"

static void add_text(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add_text(char *out, size_t size, const char *format, ...) {
    size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    /* clang 14 loses sight of va_start. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(out + used, size - used, format, args);
    va_end(args);
}

void tri_schema_place(const tr_schema *schema, uint32_t node, const char *keyword, char *ret,
                      size_t size) {
    uint32_t way[32];
    uint32_t count = 0;
    for (uint32_t at = node; at != 0 && count < 32; at = schema->nodes[at].up) {
        way[count++] = at;
    }
    ret[0] = '\0';
    while (count > 0) {
        const tri_schema_node *n = &schema->nodes[way[--count]];
        if (n->up == 0 && n->keyword.ptr != NULL) {
            add_text(ret, size, "%.*s", (int)n->keyword.size - 1, n->keyword.ptr + 1);
        } else if (n->keyword.ptr != NULL) {
            add_text(ret, size, "/%.*s", (int)n->keyword.size, n->keyword.ptr);
        }
        if (n->name.ptr != NULL) {
            add_text(ret, size, "/%.*s", (int)(n->name.size < 64 ? n->name.size : 64), n->name.ptr);
        } else if (n->index >= 0) {
            add_text(ret, size, "/%lld", (long long)n->index);
        }
    }
    if (keyword != NULL || ret[0] == '\0') {
        add_text(ret, size, "/%s", keyword != NULL ? keyword : "");
    }
}

tr_err tri_schema_refuse(tri_schema_parser *p, tr_err err, uint32_t node, const char *keyword,
                         const char *format, ...) {
    char place[256];
    char text[384];
    tri_schema_place(p->schema, node, keyword, place, sizeof place);
    va_list args;
    va_start(args, format);
    /* clang 14 loses sight of va_start. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(p->why, p->why_size, "%s: %s", place, text);
    p->why[tr_utf8_mend(p->why, strlen(p->why))] = '\0';
    return err;
}

tr_err tri_schema_add(tri_schema_parser *p, const tr_json_value *value, tri_schema_node node,
                      uint32_t *ret) {
    tr_schema *s = p->schema;
    if (s->node_count > TR_SCHEMA_NODES_max) {
        return tri_schema_refuse(p, TR_ERR_TOO_LARGE, node.up, NULL,
                                 "more than %d schemas in one are not accepted",
                                 TR_SCHEMA_NODES_max);
    }
    if (s->node_count >= s->node_room) {
        uint32_t room = s->node_room * 2 + 16;
        tri_schema_node *more = realloc(s->nodes, room * sizeof *more);
        if (more == NULL) {
            return TR_ERR_NOMEM;
        }
        s->nodes = more;
        s->node_room = room;
    }
    node.value = value;
    node.length_min = node.length_max = node.items_min = node.items_max = -1;
    node.props_min = node.props_max = -1;
    s->nodes[s->node_count] = node;
    *ret = s->node_count++;
    return TR_OK;
}

static int compare(tr_str a, tr_str b) {
    size_t size = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.ptr, b.ptr, size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* Shell's sort: qsort has no way to hand the properties over. */
static void sort_props(const tri_prop *props, uint32_t *places, uint32_t count) {
    for (uint32_t gap = count / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < count; i++) {
            uint32_t place = places[i];
            uint32_t j = i;
            for (; j >= gap && compare(props[places[j - gap]].name, props[place].name) > 0;
                 j -= gap) {
                places[j] = places[j - gap];
            }
            places[j] = place;
        }
    }
}

static tr_err sort_all(tr_schema *s) {
    s->sorted = malloc((s->prop_count + 1) * sizeof *s->sorted);
    if (s->sorted == NULL) {
        return TR_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < s->prop_count; i++) {
        s->sorted[i] = i;
    }
    for (uint32_t i = 1; i < s->node_count; i++) {
        sort_props(s->props, s->sorted + s->nodes[i].props.first, s->nodes[i].props.count);
    }
    return TR_OK;
}

const tri_prop *tri_schema_prop(const tr_schema *schema, const tri_schema_node *node, tr_str name) {
    const uint32_t *places = schema->sorted + node->props.first;
    uint32_t low = 0, high = node->props.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const tri_prop *prop = &schema->props[places[middle]];
        int order = compare(name, prop->name);
        if (order == 0) {
            return prop;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

/* The longest chain from this node on: `heights` has 0 = not known, 1 … = known. Stops at a limit
 * of depth, which a chain that returns to itself reaches too. */
static uint32_t height_of(const tr_schema *s, uint32_t node, uint8_t *heights, uint32_t depth) {
    if (node == 0 || heights[node] != 0 || depth > TR_SCHEMA_CHAIN_max) {
        return node == 0                     ? 0
               : depth > TR_SCHEMA_CHAIN_max ? TR_SCHEMA_CHAIN_max + 1
                                             : heights[node];
    }
    const tri_schema_node *n = &s->nodes[node];
    const tri_span spans[] = {n->any_of, n->one_of, n->all_of};
    uint32_t most = height_of(s, n->ref, heights, depth + 1);
    for (size_t k = 0; k < sizeof spans / sizeof *spans; k++) {
        for (uint32_t i = 0; i < spans[k].count && most <= TR_SCHEMA_CHAIN_max; i++) {
            uint32_t height = height_of(s, s->list[spans[k].first + i], heights, depth + 1);
            most = height > most ? height : most;
        }
    }
    heights[node] = (uint8_t)(most < TR_SCHEMA_CHAIN_max + 1 ? most + 1 : TR_SCHEMA_CHAIN_max + 1);
    return heights[node];
}

static tr_err check_chains(tri_schema_parser *p) {
    tr_schema *s = p->schema;
    uint8_t *heights = calloc(s->node_count, 1);
    if (heights == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_err err = TR_OK;
    for (uint32_t i = 1; i < s->node_count && err == TR_OK; i++) {
        if (height_of(s, i, heights, 0) > TR_SCHEMA_CHAIN_max) {
            err = tri_schema_refuse(p, TR_ERR_INVALID, i, NULL,
                                    "$ref, anyOf, oneOf and allOf lead back here, or through more "
                                    "than %d schemas, without a property or an item between",
                                    TR_SCHEMA_CHAIN_max);
        }
    }
    free(heights);
    return err;
}

static tr_err read_all(tri_schema_parser *p) {
    uint32_t root = 0;
    p->schema->node_count = 1; /* 0 is nobody's */
    tr_err err =
        tri_schema_add(p, tr_json_root(p->schema->json), (tri_schema_node){.index = -1}, &root);
    for (uint32_t i = 1; err == TR_OK && i < p->schema->node_count; i++) {
        err = tri_schema_read_node(p, i);
    }
    if (err == TR_OK) {
        err = sort_all(p->schema);
    }
    return err == TR_OK ? check_chains(p) : err;
}

tr_err tr_schema_parse(const char *text, size_t size, tr_schema_mode mode, tr_schema **ret,
                       char *ret_why, size_t why_size) {
    tr_json_fault fault = {0};
    snprintf(ret_why, why_size, "%s", "out of memory");
    if (size > TR_SCHEMA_TEXT_max) {
        snprintf(ret_why, why_size, "a schema has at most %d bytes", TR_SCHEMA_TEXT_max);
        return TR_ERR_TOO_LARGE;
    }
    tr_schema *schema = calloc(1, sizeof *schema);
    if (schema == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_err err = tr_json_parse(text, size, &schema->json, &fault);
    if (err == TR_ERR_INVALID) {
        snprintf(ret_why, why_size, "the schema is no JSON: %s at byte %zu", fault.reason,
                 fault.offset);
    }
    if (err == TR_OK) {
        tri_schema_parser p = {
            .schema = schema, .mode = mode, .why = ret_why, .why_size = why_size};
        err = read_all(&p);
    }
    if (err != TR_OK) {
        tr_schema_free(schema);
        return err;
    }
    *ret = schema;
    return TR_OK;
}

void tr_schema_free(tr_schema *schema) {
    if (schema == NULL) {
        return;
    }
    for (uint32_t i = 1; i < schema->node_count; i++) {
        tri_pattern_free(schema->nodes[i].pattern);
    }
    tr_json_free(schema->json);
    free(schema->nodes);
    free(schema->list);
    free(schema->props);
    free(schema->sorted);
    free(schema);
}
