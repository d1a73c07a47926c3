/*
 * Whether a value follows a schema. The answer names the first place that does not, and what was
 * expected there, in words that a model can act on. Of alternatives that all fail, the one that got
 * deepest into the value speaks. Each visit costs a step, of which there are so many: a schema
 * whose alternatives multiply ends the validation, not the machine. Called by the call, by whoever
 * checks tool arguments, and by the grammar for enums; on any thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/schema.h"
#include "protocol/limits.h"
#include "protocol/schema_internal.h"
#include "protocol/schema_pattern.h"

/* Where in the value: a list up to its root. */
typedef struct place {
    const struct place *up;
    tr_str name; /* ptr NULL: `index` */
    size_t index;
    uint32_t depth;
} place;

typedef struct checker {
    const tr_schema *schema;
    uint64_t steps;
    bool quiet;
    uint32_t depth;              /* of the fault that `why` tells of */
    const tr_json_value *listed; /* stands in the enum of node `lists`: not looked for there */
    uint32_t lists;
    char why[TR_SCHEMA_WHY_size];
} checker;

static tr_err check(checker *c, uint32_t node, const tr_json_value *value, const place *at);

static void add_place(const place *at, char *out, size_t size) {
    if (at->up == NULL) {
        return;
    }
    add_place(at->up, out, size);
    size_t used = strlen(out);
    if (at->name.ptr != NULL) {
        snprintf(out + used, size - used, "/%.*s", (int)(at->name.size < 64 ? at->name.size : 64),
                 at->name.ptr);
    } else {
        snprintf(out + used, size - used, "/%zu", at->index);
    }
}

static tr_err fault(checker *c, const place *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static tr_err fault(checker *c, const place *at, const char *format, ...) {
    c->depth = at->depth;
    if (c->quiet) {
        return TR_ERR_INVALID;
    }
    char where[256] = "";
    add_place(at, where, sizeof where);
    int used = snprintf(c->why, sizeof c->why, "at %s: ", where[0] != '\0' ? where : "the top");
    va_list args;
    va_start(args, format);
    /* clang 14 loses sight of va_start. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(c->why + used, sizeof c->why - (size_t)used, format, args);
    va_end(args);
    return TR_ERR_INVALID;
}

static bool step(checker *c, uint64_t steps) {
    c->steps += steps;
    return c->steps <= TR_SCHEMA_STEPS_max;
}

static uint32_t type_of(const tr_json_value *value) {
    switch (tr_json_type_of(value)) {
    case TR_JSON_NULL:
        return TRI_TYPE_NULL;
    case TR_JSON_BOOL:
        return TRI_TYPE_BOOL;
    case TR_JSON_NUMBER:
        return tri_number_whole(tr_json_raw(value)) ? TRI_TYPE_INTEGER : TRI_TYPE_NUMBER;
    case TR_JSON_STRING:
        return TRI_TYPE_STRING;
    case TR_JSON_ARRAY:
        return TRI_TYPE_ARRAY;
    case TR_JSON_OBJECT:
        return TRI_TYPE_OBJECT;
    }
    return 0;
}

static const char *type_name(uint32_t bit) {
    return bit == TRI_TYPE_NULL      ? "null"
           : bit == TRI_TYPE_BOOL    ? "boolean"
           : bit == TRI_TYPE_INTEGER ? "integer"
           : bit == TRI_TYPE_NUMBER  ? "number"
           : bit == TRI_TYPE_STRING  ? "string"
           : bit == TRI_TYPE_ARRAY   ? "array"
                                     : "object";
}

static tr_err check_type(checker *c, const tri_schema_node *n, const tr_json_value *value,
                         const place *at) {
    uint32_t type = type_of(value);
    if (n->types == 0 || (n->types & type) != 0) {
        return TR_OK;
    }
    char names[96] = "";
    uint32_t wanted =
        (n->types & TRI_TYPE_NUMBER) != 0 ? n->types & ~(uint32_t)TRI_TYPE_INTEGER : n->types;
    for (uint32_t bit = TRI_TYPE_NULL; bit <= TRI_TYPE_OBJECT; bit <<= 1) {
        size_t used = strlen(names);
        if ((wanted & bit) != 0) {
            snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? " or " : "",
                     type_name(bit));
        }
    }
    /* Whole or not says nothing to who is told that a number is wrong here. */
    return fault(c, at, "expected %s, got %s", names,
                 type_name(type == TRI_TYPE_INTEGER ? (uint32_t)TRI_TYPE_NUMBER : type));
}

/* --- equality --- */

static bool same_text(tr_str a, tr_str b) {
    return a.size == b.size && memcmp(a.ptr, b.ptr, a.size) == 0;
}

static bool same_members(const tr_json_value *a, const tr_json_value *b) {
    if (tr_json_count(a) != tr_json_count(b)) {
        return false;
    }
    for (const tr_json_value *one = tr_json_first(a); one != NULL; one = tr_json_next(one)) {
        const tr_json_value *other = tr_json_get(b, tr_json_name(one).ptr);
        if (other == NULL || !tri_schema_equal(one, other)) {
            return false;
        }
    }
    return true;
}

bool tri_schema_equal(const tr_json_value *a, const tr_json_value *b) {
    if (tr_json_type_of(a) != tr_json_type_of(b)) {
        return false;
    }
    switch (tr_json_type_of(a)) {
    case TR_JSON_NULL:
        return true;
    case TR_JSON_BOOL:
        return tr_json_bool(a, false) == tr_json_bool(b, false);
    case TR_JSON_NUMBER:
        return tri_number_compare(tr_json_raw(a), tr_json_raw(b)) == 0;
    case TR_JSON_STRING:
        return same_text(tr_json_string(a), tr_json_string(b));
    case TR_JSON_OBJECT:
        return same_members(a, b);
    case TR_JSON_ARRAY:
        break;
    }
    const tr_json_value *one = tr_json_first(a), *other = tr_json_first(b);
    for (; one != NULL && other != NULL && tri_schema_equal(one, other);
         one = tr_json_next(one), other = tr_json_next(other)) {
    }
    return one == NULL && other == NULL;
}

/* What comparing them may cost. */
static uint64_t weight(const tr_json_value *value) {
    return 1 + tr_json_raw(value).size / 16;
}

static void add_raw(char *out, size_t size, const tr_json_value *value) {
    tr_str raw = tr_json_raw(value);
    size_t used = strlen(out), most = raw.size < 48 ? raw.size : tr_utf8_cut(raw.ptr, raw.size, 45);
    snprintf(out + used, size - used, "%.*s%s", (int)most, raw.ptr, most < raw.size ? "…" : "");
}

static tr_err check_enum(checker *c, const tri_schema_node *n, const tr_json_value *value,
                         const place *at) {
    bool is = false;
    for (const tr_json_value *one = tr_json_first(n->enumeration); one != NULL && !is;
         one = tr_json_next(one)) {
        if (!step(c, 1)) {
            return TR_ERR_TOO_LARGE;
        }
        is = tri_schema_equal(one, value);
    }
    if (is) {
        return TR_OK;
    }
    char list[256] = "", got[64] = "";
    for (const tr_json_value *one = tr_json_first(n->enumeration); one != NULL;
         one = tr_json_next(one)) {
        size_t used = strlen(list);
        if (used > 180) {
            snprintf(list + used, sizeof list - used, " …");
            break;
        }
        if (used > 0) {
            snprintf(list + used, sizeof list - used, ", ");
        }
        add_raw(list, sizeof list, one);
    }
    add_raw(got, sizeof got, value);
    return fault(c, at, "expected one of %s, got %s", list, got);
}

static tr_err check_const(checker *c, const tri_schema_node *n, const tr_json_value *value,
                          const place *at) {
    if (!step(c, weight(n->constant))) {
        return TR_ERR_TOO_LARGE;
    }
    if (tri_schema_equal(n->constant, value)) {
        return TR_OK;
    }
    char wanted[64] = "", got[64] = "";
    add_raw(wanted, sizeof wanted, n->constant);
    add_raw(got, sizeof got, value);
    return fault(c, at, "expected %s, got %s", wanted, got);
}

/* --- strings and numbers --- */

static int64_t characters(tr_str text) {
    int64_t count = 0;
    for (size_t i = 0; i < text.size; i++) {
        count += ((uint8_t)text.ptr[i] & 0xc0) != 0x80;
    }
    return count;
}

static tr_err check_pattern(checker *c, const tri_schema_node *n, const tr_json_value *value,
                            const place *at) {
    tr_err err =
        tri_pattern_match(n->pattern, tr_json_string(value), &c->steps, TR_SCHEMA_STEPS_max);
    if (err != TR_ERR_INVALID) {
        return err;
    }
    tr_str pattern = tr_json_raw(tr_json_get(n->value, "pattern"));
    char got[64] = "";
    add_raw(got, sizeof got, value);
    return fault(c, at, "expected a string that matches %.*s, got %s",
                 (int)(pattern.size < 100 ? pattern.size : 100), pattern.ptr, got);
}

static tr_err check_string(checker *c, const tri_schema_node *n, const tr_json_value *value,
                           const place *at) {
    tr_str text = tr_json_string(value);
    if (!step(c, text.size / 64)) {
        return TR_ERR_TOO_LARGE;
    }
    int64_t length = n->length_min >= 0 || n->length_max >= 0 ? characters(text) : 0;
    if (n->length_min >= 0 && length < n->length_min) {
        return fault(c, at, "expected at least %lld characters, got %lld", (long long)n->length_min,
                     (long long)length);
    }
    if (n->length_max >= 0 && length > n->length_max) {
        return fault(c, at, "expected at most %lld characters, got %lld", (long long)n->length_max,
                     (long long)length);
    }
    return n->pattern != NULL ? check_pattern(c, n, value, at) : TR_OK;
}

static tr_err check_number(checker *c, const tri_schema_node *n, const tr_json_value *value,
                           const place *at) {
    const struct {
        tr_str bound;
        int wrong, wrong_too;
        const char *text;
    } bounds[] = {
        {n->minimum, -1, -1, "at least"},
        {n->maximum, 1, 1, "at most"},
        {n->above, -1, 0, "more than"},
        {n->below, 1, 0, "less than"},
    };
    tr_str number = tr_json_raw(value);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        if (bounds[i].bound.ptr == NULL) {
            continue;
        }
        int order = tri_number_compare(number, bounds[i].bound);
        if (order == bounds[i].wrong || order == bounds[i].wrong_too) {
            char got[64] = "";
            add_raw(got, sizeof got, value);
            return fault(c, at, "expected %s %.*s, got %s", bounds[i].text,
                         (int)(bounds[i].bound.size < 48 ? bounds[i].bound.size : 48),
                         bounds[i].bound.ptr, got);
        }
    }
    return TR_OK;
}

/* --- arrays and objects --- */

static tr_err check_unique(checker *c, const tr_json_value *value, const place *at) {
    size_t i = 0;
    for (const tr_json_value *one = tr_json_first(value); one != NULL; one = tr_json_next(one)) {
        i++;
        for (const tr_json_value *other = tr_json_next(one); other != NULL;
             other = tr_json_next(other)) {
            if (!step(c, weight(one))) {
                return TR_ERR_TOO_LARGE;
            }
            if (tri_schema_equal(one, other)) {
                return fault(c, at, "expected items that are all different, got item %zu twice",
                             i - 1);
            }
        }
    }
    return TR_OK;
}

static tr_err check_array(checker *c, const tri_schema_node *n, const tr_json_value *value,
                          const place *at) {
    int64_t count = (int64_t)tr_json_count(value);
    if (n->items_min >= 0 && count < n->items_min) {
        return fault(c, at, "expected at least %lld items, got %lld", (long long)n->items_min,
                     (long long)count);
    }
    if (n->items_max >= 0 && count > n->items_max) {
        return fault(c, at, "expected at most %lld items, got %lld", (long long)n->items_max,
                     (long long)count);
    }
    place below = {.up = at, .depth = at->depth + 1};
    for (const tr_json_value *one = tr_json_first(value); one != NULL; one = tr_json_next(one)) {
        bool is_prefix = below.index < n->prefix.count;
        uint32_t part = is_prefix ? c->schema->list[n->prefix.first + below.index] : n->items;
        if (!is_prefix && part != 0 && c->schema->nodes[part].never) {
            return fault(c, at, "expected at most %u items, got %lld", n->prefix.count,
                         (long long)count);
        }
        tr_err err = part != 0 ? check(c, part, one, &below) : TR_OK;
        if (err != TR_OK) {
            return err;
        }
        below.index++;
    }
    return n->unique ? check_unique(c, value, at) : TR_OK;
}

static tr_err check_required(checker *c, const tri_schema_node *n, const tr_json_value *value,
                             const place *at) {
    for (uint32_t i = 0; i < n->props.count; i++) {
        const tri_prop *prop = &c->schema->props[n->props.first + i];
        if (!prop->required) {
            continue;
        }
        if (!step(c, 1 + tr_json_count(value) / 8)) {
            return TR_ERR_TOO_LARGE;
        }
        if (tr_json_get(value, prop->name.ptr) == NULL) {
            return fault(c, at, "the property \"%.*s\" is missing",
                         (int)(prop->name.size < 64 ? prop->name.size : 64), prop->name.ptr);
        }
    }
    return TR_OK;
}

static tr_err check_object(checker *c, const tri_schema_node *n, const tr_json_value *value,
                           const place *at) {
    int64_t count = (int64_t)tr_json_count(value);
    if (n->props_min >= 0 && count < n->props_min) {
        return fault(c, at, "expected at least %lld properties, got %lld", (long long)n->props_min,
                     (long long)count);
    }
    if (n->props_max >= 0 && count > n->props_max) {
        return fault(c, at, "expected at most %lld properties, got %lld", (long long)n->props_max,
                     (long long)count);
    }
    tr_err err = check_required(c, n, value, at);
    for (const tr_json_value *one = tr_json_first(value); one != NULL && err == TR_OK;
         one = tr_json_next(one)) {
        const tri_prop *prop = tri_schema_prop(c->schema, n, tr_json_name(one));
        uint32_t part = prop != NULL ? prop->node : n->additional;
        place below = {.up = at, .name = tr_json_name(one), .depth = at->depth + 1};
        if (prop == NULL && part != 0 && c->schema->nodes[part].never) {
            return fault(c, at, "the property \"%.*s\" is not allowed",
                         (int)(below.name.size < 64 ? below.name.size : 64), below.name.ptr);
        }
        err = part != 0 ? check(c, part, one, &below) : TR_OK;
    }
    return err;
}

/* --- alternatives --- */

static tr_err check_alternatives(checker *c, tri_span span, bool exactly_one,
                                 const tr_json_value *value, const place *at) {
    uint32_t fits = 0, deepest = 0, speaker = 0;
    for (uint32_t i = 0; i < span.count; i++) {
        bool quiet = c->quiet;
        c->quiet = true;
        tr_err err = check(c, c->schema->list[span.first + i], value, at);
        c->quiet = quiet;
        if (err != TR_OK && err != TR_ERR_INVALID) {
            return err;
        }
        if (err == TR_OK) {
            fits++;
            if (!exactly_one) {
                return TR_OK;
            }
        } else if (c->depth > deepest) {
            deepest = c->depth;
            speaker = i;
        }
    }
    if (fits == 1) {
        return TR_OK;
    }
    if (fits > 1) {
        return fault(c, at, "expected what fits one of the %u alternatives, got what fits %u",
                     span.count, fits);
    }
    c->depth = deepest > at->depth ? deepest : at->depth;
    if (c->quiet) {
        return TR_ERR_INVALID;
    }
    if (deepest <= at->depth && span.count > 1) {
        char got[64] = "";
        add_raw(got, sizeof got, value);
        return fault(c, at, "expected one of %u alternatives, and %s fits none", span.count, got);
    }
    return check(c, c->schema->list[span.first + speaker], value, at);
}

static tr_err check_parts(checker *c, const tri_schema_node *n, const tr_json_value *value,
                          const place *at) {
    tr_err err = n->ref != 0 ? check(c, n->ref, value, at) : TR_OK;
    for (uint32_t i = 0; i < n->all_of.count && err == TR_OK; i++) {
        err = check(c, c->schema->list[n->all_of.first + i], value, at);
    }
    if (err == TR_OK && n->any_of.count > 0) {
        err = check_alternatives(c, n->any_of, false, value, at);
    }
    if (err == TR_OK && n->one_of.count > 0) {
        err = check_alternatives(c, n->one_of, true, value, at);
    }
    return err;
}

static tr_err check_content(checker *c, const tri_schema_node *n, const tr_json_value *value,
                            const place *at) {
    switch (tr_json_type_of(value)) {
    case TR_JSON_STRING:
        return check_string(c, n, value, at);
    case TR_JSON_NUMBER:
        return check_number(c, n, value, at);
    case TR_JSON_ARRAY:
        return check_array(c, n, value, at);
    case TR_JSON_OBJECT:
        return check_object(c, n, value, at);
    case TR_JSON_NULL:
    case TR_JSON_BOOL:
        break;
    }
    return TR_OK;
}

static tr_err check(checker *c, uint32_t node, const tr_json_value *value, const place *at) {
    const tri_schema_node *n = &c->schema->nodes[node];
    if (!step(c, 1)) {
        return TR_ERR_TOO_LARGE;
    }
    if (n->never) {
        return fault(c, at, "nothing is allowed here");
    }
    tr_err err = check_type(c, n, value, at);
    bool known = node == c->lists && value == c->listed;
    if (err == TR_OK && n->enumeration != NULL && !known) {
        err = check_enum(c, n, value, at);
    }
    if (err == TR_OK && n->constant != NULL) {
        err = check_const(c, n, value, at);
    }
    if (err == TR_OK) {
        err = check_content(c, n, value, at);
    }
    return err == TR_OK ? check_parts(c, n, value, at) : err;
}

tr_err tri_schema_follows(const tr_schema *schema, uint32_t node, const tr_json_value *value) {
    checker c = {.schema = schema, .quiet = true};
    return check(&c, node, value, &(place){.depth = 0});
}

tr_err tri_schema_listed_follows(const tr_schema *schema, uint32_t node,
                                 const tr_json_value *value) {
    checker c = {.schema = schema, .quiet = true};
    if (schema->nodes[node].constant == NULL) {
        c.listed = value;
        c.lists = node;
    }
    return check(&c, node, value, &(place){.depth = 0});
}

tr_err tr_schema_check(const tr_schema *schema, const tr_json_value *value, char *ret_why,
                       size_t why_size) {
    checker c = {.schema = schema};
    tr_err err = check(&c, 1, value, &(place){.depth = 0});
    if (err == TR_ERR_TOO_LARGE) {
        snprintf(c.why, sizeof c.why,
                 "checking it against the schema takes more than %d steps: let alternatives in the "
                 "schema be fewer",
                 TR_SCHEMA_STEPS_max);
    }
    if (err == TR_ERR_NOMEM) {
        snprintf(c.why, sizeof c.why, "out of memory");
    }
    if (err != TR_OK && why_size > 0) {
        snprintf(ret_why, why_size, "%s", c.why);
        ret_why[tr_utf8_mend(ret_why, strlen(ret_why))] = '\0';
    }
    return err;
}

tr_err tr_schema_validate(const tr_schema *schema, const char *text, size_t size, char *ret_why,
                          size_t why_size) {
    tr_json *json = NULL;
    tr_json_fault fault = {0};
    tr_err err = tr_json_parse_max(text, size, TR_SCHEMA_VALUES_max, &json, &fault);
    if (err == TR_ERR_INVALID && fault.too_many) {
        snprintf(ret_why, why_size, "it has more than %d values, too many to be checked",
                 TR_SCHEMA_VALUES_max);
        return TR_ERR_TOO_LARGE;
    }
    if (err != TR_OK) {
        snprintf(ret_why, why_size, "%s%s at byte %zu",
                 err == TR_ERR_INVALID ? "it is no JSON: " : "",
                 err == TR_ERR_INVALID ? fault.reason : "out of memory", fault.offset);
        return err;
    }
    if (schema != NULL) {
        err = tr_schema_check(schema, tr_json_root(json), ret_why, why_size);
    }
    tr_json_free(json);
    return err;
}
