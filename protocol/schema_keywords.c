/*
 * The keywords of a schema, a row each: what is not in the table is no part of the subset, and said
 * so by name and place; in LENIENT mode it is left out, which may only make the schema allow more.
 * Called by schema.c for each node.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/schema_internal.h"
#include "protocol/schema_pattern.h"

static bool equals(tr_str text, const char *word) {
    return text.ptr != NULL && text.size == strlen(word) && memcmp(text.ptr, word, text.size) == 0;
}

static tri_schema_node *node_of(tri_schema_parser *p, uint32_t node) {
    return &p->schema->nodes[node];
}

static tr_err invalid(tri_schema_parser *p, uint32_t node, const char *keyword, const char *what) {
    return tri_schema_refuse(p, TR_ERR_INVALID, node, keyword, "expected %s", what);
}

/* --- parts that are schemas --- */

static tr_err add_part(tri_schema_parser *p, uint32_t node, const char *keyword, tr_str name,
                       int64_t index, const tr_json_value *value, uint32_t *ret) {
    tr_json_type type = tr_json_type_of(value);
    if (type != TR_JSON_OBJECT && type != TR_JSON_BOOL) {
        return invalid(p, node, keyword, "a schema: an object, true or false");
    }
    return tri_schema_add(
        p, value,
        (tri_schema_node){
            .up = node, .keyword = {keyword, strlen(keyword)}, .name = name, .index = index},
        ret);
}

static tr_err add_list(tri_schema_parser *p, uint32_t node, const char *keyword,
                       const tr_json_value *value, bool may_be_empty, tri_span *ret) {
    size_t count = tr_json_count(value);
    if (tr_json_type_of(value) != TR_JSON_ARRAY || (count == 0 && !may_be_empty)) {
        return invalid(p, node, keyword, "an array of schemas");
    }
    tr_schema *s = p->schema;
    if (s->list_room - s->list_count < count) {
        uint32_t room = s->list_room * 2 + (uint32_t)count + 16;
        uint32_t *more = realloc(s->list, room * sizeof *more);
        if (more == NULL) {
            return TR_ERR_NOMEM;
        }
        s->list = more;
        s->list_room = room;
    }
    tri_span span = {s->list_count, (uint32_t)count};
    s->list_count += (uint32_t)count;
    uint32_t i = 0;
    for (const tr_json_value *one = tr_json_first(value); one != NULL; one = tr_json_next(one)) {
        tr_err err = add_part(p, node, keyword, (tr_str){NULL, 0}, (int64_t)i, one,
                              &s->list[span.first + i]);
        if (err != TR_OK) {
            return err;
        }
        i++;
    }
    *ret = span;
    return TR_OK;
}

/* The value that a JSON pointer (RFC 6901) names, or NULL. */
static const tr_json_value *resolve(const tr_json_value *at, tr_str pointer) {
    size_t i = 1; /* behind the '#' */
    while (at != NULL && i < pointer.size) {
        char name[256];
        size_t size = 0;
        if (pointer.ptr[i++] != '/') {
            return NULL;
        }
        for (; i < pointer.size && pointer.ptr[i] != '/'; i++) {
            char c = pointer.ptr[i];
            if (c == '~' && i + 1 < pointer.size) {
                c = pointer.ptr[++i] == '1' ? '/' : '~';
            }
            if (size + 1 == sizeof name) {
                return NULL;
            }
            name[size++] = c;
        }
        name[size] = '\0';
        if (tr_json_type_of(at) == TR_JSON_ARRAY) {
            char *end = NULL;
            unsigned long index = strtoul(name, &end, 10);
            at = size > 0 && *end == '\0' ? tr_json_first(at) : NULL;
            for (; at != NULL && index > 0; index--) {
                at = tr_json_next(at);
            }
        } else {
            at = tr_json_get(at, name);
        }
    }
    return at;
}

static tr_err read_ref(tri_schema_parser *p, uint32_t node, const char *keyword,
                       const tr_json_value *value) {
    tr_str pointer = tr_json_string(value);
    if (pointer.ptr == NULL || pointer.size == 0 || pointer.ptr[0] != '#' ||
        memchr(pointer.ptr, '%', pointer.size) != NULL) {
        return tri_schema_refuse(p, TR_ERR_UNSUPPORTED, node, keyword,
                                 "only a place in this schema (\"#/$defs/name\") can be referred "
                                 "to");
    }
    const tr_json_value *target = resolve(tr_json_root(p->schema->json), pointer);
    if (target == NULL ||
        (tr_json_type_of(target) != TR_JSON_OBJECT && tr_json_type_of(target) != TR_JSON_BOOL)) {
        return tri_schema_refuse(p, TR_ERR_INVALID, node, keyword, "there is no schema at %.*s",
                                 (int)(pointer.size < 128 ? pointer.size : 128), pointer.ptr);
    }
    for (uint32_t i = 1; i < p->schema->node_count; i++) {
        if (p->schema->nodes[i].value == target) {
            node_of(p, node)->ref = i;
            return TR_OK;
        }
    }
    uint32_t added = 0;
    tr_err err =
        tri_schema_add(p, target, (tri_schema_node){.keyword = pointer, .index = -1}, &added);
    node_of(p, node)->ref = added;
    return err;
}

/* anyOf, oneOf, allOf and prefixItems: only the last may be empty. */
static tr_err read_list(tri_schema_parser *p, uint32_t node, const char *keyword,
                        const tr_json_value *value) {
    tri_span span = {0, 0};
    bool is_prefix = strcmp(keyword, "prefixItems") == 0;
    tr_err err = add_list(p, node, keyword, value, is_prefix, &span);
    tri_schema_node *n = node_of(p, node); /* by now they may be elsewhere */
    *(is_prefix                       ? &n->prefix
      : strcmp(keyword, "anyOf") == 0 ? &n->any_of
      : strcmp(keyword, "oneOf") == 0 ? &n->one_of
                                      : &n->all_of) = span;
    return err;
}

static tr_err read_items(tri_schema_parser *p, uint32_t node, const char *keyword,
                         const tr_json_value *value) {
    if (tr_json_type_of(value) == TR_JSON_ARRAY) {
        return tri_schema_refuse(p, TR_ERR_UNSUPPORTED, node, keyword,
                                 "an array of schemas is written prefixItems");
    }
    uint32_t part = 0;
    tr_err err = add_part(p, node, keyword, (tr_str){NULL, 0}, -1, value, &part);
    node_of(p, node)->items = part;
    return err;
}

static tr_err read_additional(tri_schema_parser *p, uint32_t node, const char *keyword,
                              const tr_json_value *value) {
    if (p->mode == TR_SCHEMA_LENIENT &&
        tr_json_get(node_of(p, node)->value, "patternProperties") != NULL) {
        return TR_OK; /* these would be properties too, which nobody here knows */
    }
    uint32_t part = 0;
    tr_err err = add_part(p, node, keyword, (tr_str){NULL, 0}, -1, value, &part);
    node_of(p, node)->additional = part;
    return err;
}

/* --- properties; required names that have no schema of their own follow the others --- */

static tr_err add_prop(tri_schema_parser *p, uint32_t node, tri_prop prop) {
    tr_schema *s = p->schema;
    if (s->prop_count == s->prop_room) {
        uint32_t room = s->prop_room * 2 + 16;
        tri_prop *more = realloc(s->props, room * sizeof *more);
        if (more == NULL) {
            return TR_ERR_NOMEM;
        }
        s->props = more;
        s->prop_room = room;
    }
    s->props[s->prop_count++] = prop;
    node_of(p, node)->props.count++;
    return TR_OK;
}

static tri_prop *find_prop(tri_schema_parser *p, uint32_t node, tr_str name) {
    tri_span span = node_of(p, node)->props;
    for (uint32_t i = 0; i < span.count; i++) {
        tri_prop *prop = &p->schema->props[span.first + i];
        if (prop->name.size == name.size && memcmp(prop->name.ptr, name.ptr, name.size) == 0) {
            return prop;
        }
    }
    return NULL;
}

static tr_err add_required(tri_schema_parser *p, uint32_t node, const tr_json_value *names) {
    if (tr_json_type_of(names) != TR_JSON_ARRAY || tr_json_count(names) > TR_SCHEMA_NODES_max) {
        return invalid(p, node, "required", "an array of property names");
    }
    for (const tr_json_value *one = tr_json_first(names); one != NULL; one = tr_json_next(one)) {
        tr_str name = tr_json_string(one);
        if (name.ptr == NULL) {
            return invalid(p, node, "required", "an array of property names");
        }
        tri_prop *prop = find_prop(p, node, name);
        if (prop != NULL) {
            prop->required = true;
            continue;
        }
        tr_err err = add_prop(
            p, node,
            (tri_prop){.name = name, .node = node_of(p, node)->additional, .required = true});
        if (err != TR_OK) {
            return err;
        }
    }
    return TR_OK;
}

static tr_err read_props(tri_schema_parser *p, uint32_t node) {
    const tr_json_value *value = node_of(p, node)->value;
    const tr_json_value *props = tr_json_get(value, "properties");
    const tr_json_value *required = tr_json_get(value, "required");
    node_of(p, node)->props.first = p->schema->prop_count;
    if (props != NULL && tr_json_type_of(props) != TR_JSON_OBJECT) {
        return invalid(p, node, "properties", "an object of schemas");
    }
    for (const tr_json_value *one = tr_json_first(props); one != NULL; one = tr_json_next(one)) {
        tri_prop prop = {.name = tr_json_name(one)};
        tr_err err = add_part(p, node, "properties", prop.name, -1, one, &prop.node);
        if (err == TR_OK) {
            err = add_prop(p, node, prop);
        }
        if (err != TR_OK) {
            return err;
        }
    }
    return required != NULL ? add_required(p, node, required) : TR_OK;
}

/* --- what is said of the value itself --- */

static uint32_t type_bit(tr_str name) {
    static const struct {
        const char *name;
        uint32_t bit;
    } types[] = {
        {"null", TRI_TYPE_NULL},       {"boolean", TRI_TYPE_BOOL},
        {"integer", TRI_TYPE_INTEGER}, {"number", TRI_TYPE_NUMBER | TRI_TYPE_INTEGER},
        {"string", TRI_TYPE_STRING},   {"array", TRI_TYPE_ARRAY},
        {"object", TRI_TYPE_OBJECT},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (equals(name, types[i].name)) {
            return types[i].bit;
        }
    }
    return 0;
}

static tr_err read_type(tri_schema_parser *p, uint32_t node, const char *keyword,
                        const tr_json_value *value) {
    bool many = tr_json_type_of(value) == TR_JSON_ARRAY && tr_json_count(value) > 0;
    uint32_t types = 0;
    for (const tr_json_value *one = many ? tr_json_first(value) : value; one != NULL;
         one = many ? tr_json_next(one) : NULL) {
        uint32_t bit = type_bit(tr_json_string(one));
        if (bit == 0) {
            return invalid(p, node, keyword,
                           "null, boolean, integer, number, string, array or object, or an array "
                           "of them");
        }
        types |= bit;
    }
    node_of(p, node)->types = types;
    return TR_OK;
}

static tr_err read_enum(tri_schema_parser *p, uint32_t node, const char *keyword,
                        const tr_json_value *value) {
    if (tr_json_type_of(value) != TR_JSON_ARRAY || tr_json_count(value) == 0) {
        return invalid(p, node, keyword, "an array of values");
    }
    node_of(p, node)->enumeration = value;
    return TR_OK;
}

static tr_err read_const(tri_schema_parser *p, uint32_t node, const char *keyword,
                         const tr_json_value *value) {
    (void)keyword;
    node_of(p, node)->constant = value;
    return TR_OK;
}

static tr_err read_count(tri_schema_parser *p, uint32_t node, const char *keyword,
                         const tr_json_value *value) {
    int64_t count = tr_json_int(value, -1);
    if (count < 0) {
        return invalid(p, node, keyword, "a whole number, 0 or more");
    }
    tri_schema_node *n = node_of(p, node);
    struct {
        const char *keyword;
        int64_t *place;
    } counts[] = {
        {"minLength", &n->length_min},    {"maxLength", &n->length_max},
        {"minItems", &n->items_min},      {"maxItems", &n->items_max},
        {"minProperties", &n->props_min}, {"maxProperties", &n->props_max},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (strcmp(keyword, counts[i].keyword) == 0) {
            *counts[i].place = count;
        }
    }
    return TR_OK;
}

static tr_err read_bound(tri_schema_parser *p, uint32_t node, const char *keyword,
                         const tr_json_value *value) {
    if (tr_json_type_of(value) != TR_JSON_NUMBER) {
        return invalid(p, node, keyword, "a number");
    }
    tri_schema_node *n = node_of(p, node);
    tr_str *place = strcmp(keyword, "minimum") == 0            ? &n->minimum
                    : strcmp(keyword, "maximum") == 0          ? &n->maximum
                    : strcmp(keyword, "exclusiveMinimum") == 0 ? &n->above
                                                               : &n->below;
    *place = tr_json_raw(value);
    return TR_OK;
}

static tr_err read_unique(tri_schema_parser *p, uint32_t node, const char *keyword,
                          const tr_json_value *value) {
    if (tr_json_type_of(value) != TR_JSON_BOOL) {
        return invalid(p, node, keyword, "true or false");
    }
    node_of(p, node)->unique = tr_json_bool(value, false);
    return TR_OK;
}

static tr_err read_pattern(tri_schema_parser *p, uint32_t node, const char *keyword,
                           const tr_json_value *value) {
    tr_str text = tr_json_string(value);
    if (text.ptr == NULL) {
        return invalid(p, node, keyword, "a regular expression");
    }
    const char *why = NULL;
    tr_err err = tri_pattern_new(text, &node_of(p, node)->pattern, &why);
    return err == TR_OK || err == TR_ERR_NOMEM
               ? err
               : tri_schema_refuse(p, TR_ERR_UNSUPPORTED, node, keyword, "%s", why);
}

/* Said for people, or looked at elsewhere. */
static tr_err read_nothing(tri_schema_parser *p, uint32_t node, const char *keyword,
                           const tr_json_value *value) {
    (void)p;
    (void)node;
    (void)keyword;
    (void)value;
    return TR_OK;
}

static const struct {
    const char *name;
    tr_err (*read)(tri_schema_parser *p, uint32_t node, const char *keyword,
                   const tr_json_value *value);
} keywords[] = {
    {"type", read_type},
    {"properties", read_nothing},
    {"required", read_nothing},
    {"additionalProperties", read_additional},
    {"items", read_items},
    {"prefixItems", read_list},
    {"enum", read_enum},
    {"const", read_const},
    {"anyOf", read_list},
    {"oneOf", read_list},
    {"allOf", read_list},
    {"$ref", read_ref},
    {"minLength", read_count},
    {"maxLength", read_count},
    {"minItems", read_count},
    {"maxItems", read_count},
    {"minProperties", read_count},
    {"maxProperties", read_count},
    {"minimum", read_bound},
    {"maximum", read_bound},
    {"exclusiveMinimum", read_bound},
    {"exclusiveMaximum", read_bound},
    {"pattern", read_pattern},
    {"uniqueItems", read_unique},
    {"$defs", read_nothing},
    {"definitions", read_nothing},
    {"title", read_nothing},
    {"description", read_nothing},
    {"default", read_nothing},
    {"examples", read_nothing},
    {"format", read_nothing},
    {"$schema", read_nothing},
    {"$id", read_nothing},
    {"$comment", read_nothing},
    {"deprecated", read_nothing},
    {"readOnly", read_nothing},
    {"writeOnly", read_nothing},
    {"discriminator", read_nothing},
};

static tr_err read_keyword(tri_schema_parser *p, uint32_t node, const tr_json_value *value) {
    tr_str name = tr_json_name(value);
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        if (equals(name, keywords[i].name)) {
            return keywords[i].read(p, node, keywords[i].name, value);
        }
    }
    char keyword[65];
    snprintf(keyword, sizeof keyword, "%.*s", (int)(name.size < 64 ? name.size : 64), name.ptr);
    return tri_schema_refuse(p, TR_ERR_UNSUPPORTED, node, keyword,
                             "this keyword is not among those that Troupe knows%s",
                             equals(name, "nullable") ? ": write \"type\": [\"…\", \"null\"]" : "");
}

static bool passes(const tri_schema_parser *p, tr_err err) {
    return err == TR_OK ||
           (p->mode == TR_SCHEMA_LENIENT && (err == TR_ERR_INVALID || err == TR_ERR_UNSUPPORTED));
}

tr_err tri_schema_read_node(tri_schema_parser *p, uint32_t node) {
    const tr_json_value *value = node_of(p, node)->value;
    if (tr_json_type_of(value) == TR_JSON_BOOL) {
        node_of(p, node)->never = !tr_json_bool(value, true);
        return TR_OK;
    }
    if (tr_json_type_of(value) != TR_JSON_OBJECT) {
        return passes(p, TR_ERR_INVALID) ? TR_OK : invalid(p, node, NULL, "a schema: an object");
    }
    for (const tr_json_value *one = tr_json_first(value); one != NULL; one = tr_json_next(one)) {
        tr_err err = read_keyword(p, node, one);
        if (!passes(p, err)) {
            return err;
        }
    }
    tr_err err = read_props(p, node);
    return passes(p, err) ? TR_OK : err;
}
