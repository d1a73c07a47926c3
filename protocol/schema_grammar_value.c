/*
 * Strings, numbers and free values of a schema's grammar. A bounded integer is written digit by
 * digit; a bounded number as whole numbers and, between two of them, fractions that do not end in
 * 0. Blanks: none, one, or a line break with at most 20 behind it. Free values nest six deep, so
 * that a model comes to an end. Called by schema_grammar.c.
 */
#include <inttypes.h>
#include <string.h>

#include "protocol/schema_grammar_internal.h"

enum { length_cap = 1000, length_most = 2000, free_depth = 6, digits_max = 15 };
#define NUMBER_max 999999999999999LL /* as many digits as a double holds */

/* --- strings --- */

void tri_grammar_add_string(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    int64_t least = n->length_min > 0 ? n->length_min : 0;
    w->string_used = true;
    if (n->pattern != NULL) {
        tri_grammar_add_pattern(w, node);
        return;
    }
    if (n->length_max >= 0 && n->length_max < least) {
        tri_grammar_refuse(w, node, "maxLength", "it is less than minLength");
    } else if (least > length_most) {
        tri_grammar_refuse(w, node, "minLength", "so many characters are too many for a grammar");
    } else if (least == 0 && n->length_max < 0) {
        tri_grammar_add(w, "%s-s", w->rule);
    } else if (n->length_max < 0) {
        tri_grammar_add(w, "\"\\\"\" %s-c{%" PRId64 ",} \"\\\"\"", w->rule, least);
    } else {
        int64_t cap = least > length_cap ? least : length_cap;
        int64_t most = n->length_max > cap ? cap : n->length_max;
        tri_grammar_add(w, "\"\\\"\" %s-c{%" PRId64 ",%" PRId64 "} \"\\\"\"", w->rule, least, most);
    }
}

void tri_grammar_add_bool(tri_grammar_writer *w, uint32_t node) {
    (void)node;
    tri_grammar_add(w, "\"true\" | \"false\"");
}

void tri_grammar_add_null(tri_grammar_writer *w, uint32_t node) {
    (void)node;
    tri_grammar_add(w, "\"null\"");
}

/* --- numbers --- */

typedef struct range {
    int64_t low, high; /* whole numbers that may be written; low > high: none */
} range;

/* A bound against a whole number: -1, 0, 1. */
static int compare_to(int64_t number, tr_str bound) {
    char text[24];
    int size = snprintf(text, sizeof text, "%" PRId64, number);
    return tri_number_compare((tr_str){text, (size_t)size}, bound);
}

static bool above(const tri_schema_node *n, int64_t number, bool strictly) {
    return (n->minimum.ptr == NULL || compare_to(number, n->minimum) >= 0) &&
           (n->above.ptr == NULL || compare_to(number, n->above) >= (strictly ? 1 : 0));
}

static bool below(const tri_schema_node *n, int64_t number, bool strictly) {
    return (n->maximum.ptr == NULL || compare_to(number, n->maximum) <= 0) &&
           (n->below.ptr == NULL || compare_to(number, n->below) <= (strictly ? -1 : 0));
}

/* By halving: whatever digits and exponents the bounds have, this is exact. */
static range range_of(const tri_schema_node *n, bool strictly) {
    range r = {.low = NUMBER_max + 1, .high = -NUMBER_max - 1};
    int64_t from = -NUMBER_max, to = NUMBER_max + 1;
    while (from < to) {
        int64_t middle = from + (to - from) / 2;
        if (above(n, middle, strictly)) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    r.low = from;
    from = -NUMBER_max - 1;
    to = NUMBER_max;
    while (from < to) {
        int64_t middle = to - (to - from) / 2;
        if (below(n, middle, strictly)) {
            from = middle;
        } else {
            to = middle - 1;
        }
    }
    r.high = from;
    return r;
}

static bool is_bounded(const tri_schema_node *n) {
    return n->minimum.ptr != NULL || n->maximum.ptr != NULL || n->above.ptr != NULL ||
           n->below.ptr != NULL;
}

static bool allows_fractions(const tri_schema_node *n) {
    return n->types == 0 || (n->types & TRI_TYPE_NUMBER) != 0;
}

bool tri_grammar_number_ends(const tri_schema_node *n) {
    range whole = range_of(n, true), wide = range_of(n, false);
    return whole.low <= whole.high || (allows_fractions(n) && wide.low < wide.high);
}

static bool all(const char *digits, char digit, int count) {
    for (int i = 0; i < count; i++) {
        if (digits[i] != digit) {
            return false;
        }
    }
    return true;
}

static void add_any_digits(tri_grammar_writer *w, int count) {
    if (count > 0) {
        tri_grammar_add(w, "[0-9]{%d} ", count);
    }
}

/* Numbers of `count` digits from `low` to `high`. */
static void add_digits(tri_grammar_writer *w, const char *low, const char *high, int count) {
    static const char nines[] = "999999999999999", zeros[] = "000000000000000";
    if (count == 0) {
        return;
    }
    if (low[0] == high[0]) {
        tri_grammar_add(w, "\"%c\" ", low[0]);
        add_digits(w, low + 1, high + 1, count - 1);
        return;
    }
    char from = low[0], to = high[0];
    bool low_part = !all(low + 1, '0', count - 1), high_part = !all(high + 1, '9', count - 1);
    bool middle = from + (low_part ? 1 : 0) <= to - (high_part ? 1 : 0);
    tri_grammar_add(w, "(");
    if (low_part) {
        tri_grammar_add(w, "\"%c\" ", from++);
        add_digits(w, low + 1, nines, count - 1);
        tri_grammar_add(w, middle || high_part ? "| " : "");
    }
    if (middle) {
        char last = (char)(to - (high_part ? 1 : 0));
        tri_grammar_add(w, from == last ? "[%c] " : "[%c-%c] ", from, last);
        add_any_digits(w, count - 1);
        tri_grammar_add(w, high_part ? "| " : "");
    }
    if (high_part) {
        tri_grammar_add(w, "\"%c\" ", to);
        add_digits(w, zeros, high + 1, count - 1);
    }
    tri_grammar_add(w, ") ");
}

/* Whole numbers from `low` to `high`, neither negative, as alternatives. */
static void add_range(tri_grammar_writer *w, int64_t low, int64_t high) {
    char first[24], last[24];
    int64_t ten = 10;
    int count = 1;
    bool began = false;
    tri_grammar_add(w, "(");
    for (; count <= digits_max; count++, ten *= 10) {
        int64_t from = low > ten / 10 || count == 1 ? low : ten / 10;
        int64_t to = high < ten - 1 ? high : ten - 1;
        if (low < ten && from <= to) {
            snprintf(first, sizeof first, "%" PRId64, from);
            snprintf(last, sizeof last, "%" PRId64, to);
            tri_grammar_add(w, began ? "| " : "");
            add_digits(w, first, last, count);
            began = true;
        }
    }
    tri_grammar_add(w, ") ");
}

/* Both signs; `fraction` stands behind each. */
static void add_signed(tri_grammar_writer *w, range positive, range negative, const char *fraction,
                       bool *began) {
    if (positive.low <= positive.high) {
        tri_grammar_add(w, *began ? " | " : "");
        add_range(w, positive.low, positive.high);
        tri_grammar_add(w, "%s", fraction);
        *began = true;
    }
    if (negative.low <= negative.high) {
        tri_grammar_add(w, *began ? " | \"-\" " : "\"-\" ");
        add_range(w, negative.low, negative.high);
        tri_grammar_add(w, "%s", fraction);
        *began = true;
    }
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void check_whole_bounds(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    const struct {
        const char *keyword;
        tr_str bound;
    } bounds[] = {{"minimum", n->minimum},
                  {"maximum", n->maximum},
                  {"exclusiveMinimum", n->above},
                  {"exclusiveMaximum", n->below}};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        if (bounds[i].bound.ptr != NULL && !tri_number_whole(bounds[i].bound)) {
            tri_grammar_refuse(w, node, bounds[i].keyword,
                               "in a grammar, bounds are whole numbers");
        }
    }
}

void tri_grammar_add_number(tri_grammar_writer *w, uint32_t node) {
    const tri_schema_node *n = &w->schema->nodes[node];
    bool fractions = allows_fractions(n), began = false;
    if (!is_bounded(n)) {
        tri_grammar_add(w, fractions ? "%s-n" : "%s-i", w->rule);
        w->number_used = w->number_used || fractions;
        w->integer_used = w->integer_used || !fractions;
        return;
    }
    range whole = range_of(n, true);
    add_signed(w, (range){most(whole.low, 0), whole.high},
               (range){most(-whole.high, 1), -whole.low}, "", &began);
    if (fractions) {
        check_whole_bounds(w, node);
        range wide = range_of(n, false);
        add_signed(w, (range){most(wide.low, 0), least(wide.high, NUMBER_max) - 1},
                   (range){most(-wide.high, 0), -wide.low - 1}, "\".\" [0-9]{0,14} [1-9] ", &began);
    }
}

/* --- what all refer to --- */

static void add_free(tri_grammar_writer *w) {
    const char *r = w->rule;
    tri_grammar_add(w, "%s-v ::= %s-v%d\n%s-o ::= %s-o%d\n", r, r, free_depth, r, r, free_depth);
    tri_grammar_add(w, "%s-v0 ::= %s-s | %s-n | \"true\" | \"false\" | \"null\"\n", r, r, r);
    for (int i = 1; i <= free_depth; i++) {
        int d = i - 1;
        tri_grammar_add(w, "%s-v%d ::= %s-o%d | %s-a%d | %s-v0\n", r, i, r, i, r, i, r);
        tri_grammar_add(w, "%s-o%d ::= \"{\" %s-w (%s-s \":\" %s-w %s-v%d ", r, i, r, r, r, r, d);
        tri_grammar_add(w, "(\",\" %s-w %s-s \":\" %s-w %s-v%d)* %s-w)? \"}\"\n", r, r, r, r, d, r);
        tri_grammar_add(w, "%s-a%d ::= \"[\" %s-w (%s-v%d (\",\" %s-w %s-v%d)* %s-w)? \"]\"\n", r,
                        i, r, r, d, r, r, d, r);
    }
}

void tri_grammar_add_basics(tri_grammar_writer *w) {
    const char *r = w->rule;
    if (w->free_used) {
        add_free(w);
        w->string_used = w->number_used = true;
    }
    if (w->number_used) {
        tri_grammar_add(w, "%s-n ::= %s-i (\".\" [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?\n", r, r);
        w->integer_used = true;
    }
    if (w->integer_used) {
        tri_grammar_add(w, "%s-i ::= \"-\"? (\"0\" | [1-9] [0-9]{0,14})\n", r);
    }
    if (w->string_used) {
        /* No halves of surrogate pairs and no \u0000, which the reader would not take. */
        tri_grammar_add(w, "%s-s ::= \"\\\"\" %s-c* \"\\\"\"\n", r, r);
        tri_grammar_add(w,
                        "%s-c ::= [ !#-\\x5B\\x5D-\\x7E\\u00A0-\\uD7FF\\uE000-\\U0010FFFF] | "
                        "\"\\\\\" ([\"\\\\/bfnrt] | \"u\" %s-h)\n",
                        r, r);
        tri_grammar_add(w, "%s-x ::= [0-9a-fA-F]\n", r);
        tri_grammar_add(w,
                        "%s-h ::= [1-9a-cA-CefEF] %s-x{3} | [dD] [0-7] %s-x{2} | "
                        "\"0\" ([1-9a-fA-F] %s-x{2} | \"0\" ([1-9a-fA-F] %s-x | \"0\" "
                        "[1-9a-fA-F]))\n",
                        r, r, r, r, r);
    }
    tri_grammar_add(w, "%s-w ::= | \" \" | \"\\n\" [ \\t]{0,20}\n", r);
}
