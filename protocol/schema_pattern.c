/*
 * Reading a regular expression (ECMA-262, the part of it that schemas use): ^ at the beginning and
 * $ at the end of the whole, characters, . [a-z] [^a-z] \d \w \s and their opposites, groups,
 * alternatives, and ? * + {2} {2,} {2,4}. What looks around, refers back or asks for a word's edge
 * is refused: it is no regular language, or no grammar of characters. schema_pattern_match.c
 * matches. Called by schema_keywords.c.
 */
#include "protocol/schema_pattern.h"

#include <stdlib.h>
#include <string.h>

enum { nodes_max = 4096, ranges_max = 16384, depth_max = 32, repeat_max = 1000 };
#define CODE_max 0x10ffffU

typedef struct reader {
    tri_pattern *p;
    const char *at, *end;
    const char *why; /* NULL = fine so far */
    bool nomem;
} reader;

static uint32_t refuse(reader *r, const char *why) {
    r->why = r->why == NULL ? why : r->why;
    return 0;
}

static bool fails(const reader *r) {
    return r->why != NULL || r->nomem;
}

static uint32_t add_node(reader *r, tri_pnode node) {
    tri_pattern *p = r->p;
    if (p->node_count >= nodes_max) {
        return refuse(r, "the pattern is too long");
    }
    if (p->node_count >= p->node_room) {
        uint32_t room = p->node_room * 2 + 16;
        tri_pnode *more = realloc(p->nodes, room * sizeof *more);
        if (more == NULL) {
            r->nomem = true;
            return 0;
        }
        p->nodes = more;
        p->node_room = room;
    }
    p->nodes[p->node_count] = node;
    return p->node_count++;
}

static void add_range(reader *r, uint32_t low, uint32_t high) {
    tri_pattern *p = r->p;
    if (p->range_count >= ranges_max) {
        (void)refuse(r, "the pattern is too long");
        return;
    }
    if (p->range_count >= p->range_room) {
        uint32_t room = p->range_room * 2 + 16;
        tri_prange *more = realloc(p->ranges, room * sizeof *more);
        if (more == NULL) {
            r->nomem = true;
            return;
        }
        p->ranges = more;
        p->range_room = room;
    }
    p->ranges[p->range_count++] = (tri_prange){low, high};
}

/* The ranges from `from` on become those between them. */
static void negate(reader *r, uint32_t from) {
    tri_pattern *p = r->p;
    uint32_t to = p->range_count;
    uint32_t next = 0;
    while (next <= CODE_max && !fails(r)) {
        uint32_t low = CODE_max + 1, covered = 0;
        for (uint32_t i = from; i < to; i++) {
            const tri_prange *range = &p->ranges[i];
            if (range->low <= next && range->high >= next && range->high + 1 > covered) {
                covered = range->high + 1;
            }
            low = range->low > next && range->low < low ? range->low : low;
        }
        if (covered > 0) {
            next = covered;
        } else {
            add_range(r, next, low - 1);
            next = low;
        }
    }
    if (!fails(r)) {
        memmove(p->ranges + from, p->ranges + to, (p->range_count - to) * sizeof *p->ranges);
        p->range_count -= to - from;
    }
}

static uint32_t add_set(reader *r, uint32_t from) {
    return add_node(
        r, (tri_pnode){.kind = TRI_PATTERN_SET, .first = from, .count = r->p->range_count - from});
}

static bool more(const reader *r) {
    return r->at < r->end && !fails(r);
}

static bool take(reader *r, char c) {
    bool is = r->at < r->end && *r->at == c;
    r->at += is ? 1 : 0;
    return is;
}

/* The text is known to be UTF-8. */
static uint32_t take_code(reader *r) {
    uint8_t c = (uint8_t)*r->at++;
    int rest = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    uint32_t code = rest > 0 ? c & (0x3fU >> rest) : c;
    for (; rest > 0 && r->at < r->end; rest--) {
        code = code << 6 | ((uint8_t)*r->at++ & 0x3fU);
    }
    return code;
}

/* \d and the like: true, with its ranges added. */
static bool add_shorthand(reader *r, char c, bool in_class) {
    static const char whites[] = "\t\n\v\f\r ";
    uint32_t from = r->p->range_count;
    switch (c) {
    case 'd':
    case 'D':
        add_range(r, '0', '9');
        break;
    case 'w':
    case 'W':
        add_range(r, '0', '9');
        add_range(r, 'A', 'Z');
        add_range(r, '_', '_');
        add_range(r, 'a', 'z');
        break;
    case 's':
    case 'S':
        for (const char *white = whites; *white != '\0'; white++) {
            add_range(r, (uint8_t)*white, (uint8_t)*white);
        }
        add_range(r, 0xa0, 0xa0);
        add_range(r, 0x2028, 0x2029);
        break;
    default:
        return false;
    }
    if (c < 'a') {
        if (in_class) {
            (void)refuse(r, "\\D, \\W and \\S do not stand in a class");
        }
        negate(r, from);
    }
    return true;
}

static uint32_t take_hex(reader *r, int digits) {
    uint32_t code = 0;
    for (int i = 0; i < digits; i++) {
        char c = r->at < r->end ? *r->at++ : '\0';
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                                : 99;
        if (digit == 99) {
            return refuse(r, "an escape lacks its hexadecimal digits");
        }
        code = code << 4 | digit;
    }
    return code >= 0xd800 && code <= 0xdfff ? refuse(r, "half a surrogate pair") : code;
}

/* Behind a backslash: one character. */
static uint32_t take_escape(reader *r) {
    if (r->at == r->end) {
        return refuse(r, "nothing is escaped at the end");
    }
    char c = *r->at++;
    static const char letters[] = "tnrfv", codes[] = "\t\n\r\f\v";
    const char *letter = strchr(letters, c);
    if (letter != NULL && c != '\0') {
        return (uint8_t)codes[letter - letters];
    }
    if (c == 'x' || c == 'u') {
        return take_hex(r, c == 'x' ? 2 : 4);
    }
    bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (word || (uint8_t)c >= 0x80) {
        return refuse(r,
                      "only \\d \\w \\s \\t \\n \\r \\f \\v \\xNN \\uNNNN and marks are escaped: "
                      "nothing that refers back or is no character");
    }
    return (uint8_t)c;
}

static uint32_t read_class(reader *r) {
    uint32_t from = r->p->range_count;
    bool negated = take(r, '^');
    while (more(r) && *r->at != ']') {
        bool escaped = take(r, '\\');
        if (escaped && r->at < r->end && add_shorthand(r, *r->at, true)) {
            r->at++;
            continue;
        }
        uint32_t low = escaped ? take_escape(r) : take_code(r), high = low;
        if (r->end - r->at >= 2 && r->at[0] == '-' && r->at[1] != ']') {
            r->at++;
            high = take(r, '\\') ? take_escape(r) : take_code(r);
        }
        if (high < low) {
            (void)refuse(r, "a range of a class is the wrong way round");
        }
        add_range(r, low, high);
    }
    if (!take(r, ']')) {
        return refuse(r, "a class does not end");
    }
    if (negated) {
        negate(r, from);
    }
    return add_set(r, from);
}

static uint32_t read_alternatives(reader *r, int depth);

static uint32_t read_group(reader *r, int depth) {
    if (take(r, '?') && !take(r, ':')) {
        return refuse(r, "groups that look around or have names are not known");
    }
    uint32_t group = depth < depth_max ? read_alternatives(r, depth + 1)
                                       : refuse(r, "groups are nested too deeply");
    return take(r, ')') ? group : refuse(r, "a group does not end");
}

/* One character, class or group. */
static uint32_t read_atom(reader *r, int depth) {
    uint32_t from = r->p->range_count;
    char c = *r->at;
    if (take(r, '(')) {
        return read_group(r, depth);
    }
    if (take(r, '[')) {
        return read_class(r);
    }
    if (take(r, '.')) {
        add_range(r, '\n', '\n');
        add_range(r, '\r', '\r');
        add_range(r, 0x2028, 0x2029);
        negate(r, from);
        return add_set(r, from);
    }
    if (strchr("^$*+?{}])", c) != NULL) {
        return refuse(r, c == '^' || c == '$'
                             ? "^ stands at the beginning and $ at the end of the whole only"
                             : "a mark stands where a character is expected: escape it");
    }
    bool escaped = take(r, '\\');
    if (escaped && r->at < r->end && add_shorthand(r, *r->at, false)) {
        r->at++;
        return add_set(r, from);
    }
    uint32_t code = escaped ? take_escape(r) : take_code(r);
    add_range(r, code, code);
    return add_set(r, from);
}

static uint32_t take_count(reader *r) {
    uint32_t count = 0;
    bool any = false;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        any = true;
        count = count <= repeat_max ? count * 10 + (uint32_t)(*r->at - '0') : count;
    }
    return !any                 ? refuse(r, "a repetition lacks its number")
           : count > repeat_max ? refuse(r, "at most 1000 repetitions are known")
                                : count;
}

/* What may stand behind an atom. */
static uint32_t read_repeat(reader *r, uint32_t atom) {
    tri_pnode node = {.kind = TRI_PATTERN_REPEAT, .first = atom, .max = TRI_PATTERN_ENDLESS};
    if (take(r, '?')) {
        node.max = 1;
    } else if (take(r, '+')) {
        node.min = 1;
    } else if (take(r, '{')) {
        node.min = node.max = take_count(r);
        if (take(r, ',')) {
            node.max = r->at < r->end && *r->at == '}' ? TRI_PATTERN_ENDLESS : take_count(r);
        }
        if (!take(r, '}') || node.max < node.min) {
            return refuse(r, "a repetition is not like {2}, {2,} or {2,4}");
        }
    } else if (!take(r, '*')) {
        return atom;
    }
    (void)take(r, '?'); /* as few as possible: the same texts match */
    return add_node(r, node);
}

static uint32_t read_sequence(reader *r, int depth) {
    uint32_t first = 0, last = 0;
    while (more(r) && *r->at != '|' && *r->at != ')') {
        if (*r->at == '$' && r->at + 1 == r->end && depth == 0) {
            break;
        }
        uint32_t node = read_repeat(r, read_atom(r, depth));
        if (fails(r)) {
            return 0;
        }
        if (last != 0) {
            r->p->nodes[last].next = node;
        }
        first = first != 0 ? first : node;
        last = node;
    }
    return first;
}

static uint32_t read_alternatives(reader *r, int depth) {
    uint32_t first = 0, last = 0;
    do {
        tri_pnode alt = {.kind = TRI_PATTERN_ALT, .first = read_sequence(r, depth)};
        uint32_t node = add_node(r, alt);
        if (fails(r)) {
            return 0;
        }
        if (last != 0) {
            r->p->nodes[last].next = node;
        }
        first = first != 0 ? first : node;
        last = node;
    } while (take(r, '|'));
    return add_node(r, (tri_pnode){.kind = TRI_PATTERN_GROUP, .first = first});
}

tr_err tri_pattern_new(tr_str text, tri_pattern **ret, const char **ret_why) {
    tri_pattern *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return TR_ERR_NOMEM;
    }
    reader r = {.p = p, .at = text.ptr, .end = text.ptr + text.size};
    p->node_count = 1; /* 0 is nobody's */
    p->begins = take(&r, '^');
    p->root = read_alternatives(&r, 0);
    p->ends = take(&r, '$');
    if (!fails(&r) && r.at < r.end) {
        (void)refuse(&r, "a parenthesis is closed that was not opened");
    }
    bool several = !fails(&r) && p->nodes[p->nodes[p->root].first].next != 0;
    if (several && (p->begins || p->ends)) {
        (void)refuse(&r, "alternatives beside ^ or $ stand in parentheses: ^(a|b)$");
    }
    tr_err err = r.nomem         ? TR_ERR_NOMEM
                 : r.why != NULL ? TR_ERR_UNSUPPORTED
                                 : tri_pattern_compile(p, &r.why);
    if (err != TR_OK) {
        *ret_why = r.why;
        tri_pattern_free(p);
        return err;
    }
    *ret = p;
    return TR_OK;
}

void tri_pattern_free(tri_pattern *p) {
    if (p != NULL) {
        free(p->nodes);
        free(p->ranges);
        free(p->steps);
        free(p);
    }
}
