/*
 * Reads GBNF as libllama's parser does (llama.cpp, grammars/README.md and src/llama-grammar.cpp),
 * into nodes that keep repetitions as numbers instead of writing them out. What it cannot read it
 * leaves to libllama's own complaint. The only recursion is the parentheses', which the caller has
 * bounded. Called by engine_grammar.c.
 */
#include <string.h>

#include "inference/engine_grammar_internal.h"
#include "runtime/memory.h"

enum { names_size = 1 << 15, rules_max = names_size / 2 };
#define CODE_END UINT32_MAX       /* no character */
#define CODE_TOKEN 0x200000U      /* stands for any token named as such */
#define REPEAT_NUMBER_max 100000U /* more is one too many, whatever it is */
#define SIZE_NUMBER_max 1000000U

typedef struct reader {
    tri_grammar *grammar;
    const char *at, *end;
    tri_grammar_verdict verdict;
} reader;

/* The sequence that is being read. */
typedef struct sequence {
    uint32_t first, last;
    uint32_t before; /* the node before the last symbol; 0 = the symbol is the first */
    bool has_symbol;
} sequence;

static void *grow(reader *r, void *list, uint32_t count, uint32_t *room, size_t size) {
    if (count < *room) {
        return list;
    }
    uint32_t more = *room * 2 + 64;
    void *grown = tr_realloc(list, more * size);
    if (grown == NULL) {
        r->verdict = TRI_GRAMMAR_NOMEM;
        return NULL;
    }
    *room = more;
    return grown;
}

static uint32_t add_node(reader *r, tri_gnode node) {
    tri_grammar *g = r->grammar;
    tri_gnode *nodes = grow(r, g->nodes, g->node_count + 1, &g->node_room, sizeof *nodes);
    if (nodes == NULL) {
        return 0;
    }
    g->nodes = nodes;
    g->node_count = g->node_count == 0 ? 1 : g->node_count; /* 0 is nobody's */
    node.size = node.size != 0 ? node.size : 1;
    nodes[g->node_count] = node;
    return g->node_count++;
}

static void add_range(reader *r, uint32_t low, uint32_t high) {
    tri_grammar *g = r->grammar;
    tri_grange *ranges = grow(r, g->ranges, g->range_count, &g->range_room, sizeof *ranges);
    if (ranges != NULL) {
        g->ranges = ranges;
        ranges[g->range_count++] = (tri_grange){low, high};
    }
}

/* The rule's number; 0 with a verdict. */
static uint32_t rule_of(reader *r, tr_str name) {
    tri_grammar *g = r->grammar;
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < name.size; i++) {
        hash = (hash ^ (uint8_t)name.ptr[i]) * 16777619U;
    }
    uint32_t at = hash % names_size;
    for (; g->names[at] != 0; at = (at + 1) % names_size) {
        tr_str other = g->rules[g->names[at] - 1].name;
        if (other.size == name.size && memcmp(other.ptr, name.ptr, name.size) == 0) {
            return g->names[at];
        }
    }
    tri_grule *rules = grow(r, g->rules, g->rule_count, &g->rule_room, sizeof *rules);
    if (rules == NULL) {
        return 0;
    }
    g->rules = rules;
    if (g->rule_count == rules_max) {
        r->verdict = TRI_GRAMMAR_UNREADABLE;
        return 0;
    }
    rules[g->rule_count++] = (tri_grule){.name = name};
    g->names[at] = g->rule_count;
    return g->rule_count;
}

static bool fails(const reader *r) {
    return r->verdict != TRI_GRAMMAR_FINE;
}

static void give_up(reader *r) {
    r->verdict = fails(r) ? r->verdict : TRI_GRAMMAR_UNREADABLE;
}

static char peek(const reader *r) {
    return r->at < r->end ? *r->at : '\0';
}

static bool take(reader *r, char c) {
    bool is = r->at < r->end && *r->at == c;
    r->at += is ? 1 : 0;
    return is;
}

static void skip_space(reader *r, bool newlines) {
    for (;;) {
        char c = peek(r);
        if (c == '#') {
            while (r->at < r->end && *r->at != '\n' && *r->at != '\r') {
                r->at++;
            }
        } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
            r->at++;
        } else {
            return;
        }
    }
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

static tr_str read_name(reader *r) {
    const char *from = r->at;
    while (is_word(peek(r))) {
        r->at++;
    }
    return (tr_str){from, (size_t)(r->at - from)};
}

static uint32_t read_hex(reader *r, int digits) {
    uint32_t code = 0;
    for (int i = 0; i < digits; i++) {
        char c = peek(r);
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                                : CODE_END;
        if (digit == CODE_END) {
            give_up(r);
            return 0;
        }
        code = code << 4 | digit;
        r->at++;
    }
    return code;
}

static uint32_t read_char(reader *r) {
    if (r->at == r->end) {
        give_up(r);
        return 0;
    }
    uint8_t c = (uint8_t)*r->at++;
    if (c == '\\') {
        char escaped = peek(r);
        r->at += r->at < r->end ? 1 : 0;
        switch (escaped) {
        case 'x':
            return read_hex(r, 2);
        case 'u':
            return read_hex(r, 4);
        case 'U':
            return read_hex(r, 8);
        case 't':
            return '\t';
        case 'r':
            return '\r';
        case 'n':
            return '\n';
        default:
            return (uint8_t)escaped;
        }
    }
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    uint32_t code = more > 0 ? c & (0x3fU >> more) : c;
    for (; more > 0 && r->at < r->end; more--) {
        code = code << 6 | ((uint8_t)*r->at++ & 0x3fU);
    }
    return code;
}

static void append(reader *r, sequence *seq, uint32_t node) {
    if (seq->last != 0 && node != 0) {
        r->grammar->nodes[seq->last].next = node;
    }
    seq->first = seq->first != 0 ? seq->first : node;
    seq->last = node != 0 ? node : seq->last;
}

/* What is appended from now on is one symbol, which a repetition is about. */
static void begin_symbol(sequence *seq) {
    seq->before = seq->last;
    seq->has_symbol = true;
}

static void add_char(reader *r, sequence *seq, uint32_t low, uint32_t high) {
    uint32_t from = r->grammar->range_count;
    add_range(r, low, high);
    append(r, seq, add_node(r, (tri_gnode){.kind = TRI_GNODE_CHAR, .first = from, .count = 1}));
}

static void read_literal(reader *r, sequence *seq) {
    while (!fails(r) && !take(r, '"')) {
        uint32_t code = read_char(r);
        add_char(r, seq, code, code);
    }
}

static void read_class(reader *r, sequence *seq) {
    tri_gnode node = {.kind = TRI_GNODE_CHAR, .first = r->grammar->range_count};
    node.negated = take(r, '^');
    while (!fails(r) && !take(r, ']')) {
        uint32_t low = read_char(r), high = low;
        if (r->end - r->at >= 2 && r->at[0] == '-' && r->at[1] != ']') {
            r->at++;
            high = read_char(r);
        }
        add_range(r, low, high);
    }
    node.count = r->grammar->range_count - node.first;
    append(r, seq, add_node(r, node));
}

static void read_token(reader *r, sequence *seq) {
    (void)take(r, '!');
    if (!take(r, '<')) {
        give_up(r);
    }
    while (!fails(r) && !take(r, '>')) {
        if (r->at++ == r->end) {
            r->at = r->end;
            give_up(r);
        }
    }
    add_char(r, seq, CODE_TOKEN, CODE_TOKEN);
}

static uint32_t read_number(reader *r) {
    uint32_t number = 0;
    bool any = false;
    for (; peek(r) >= '0' && peek(r) <= '9'; r->at++) {
        any = true;
        number = number * 10 + (uint32_t)(*r->at - '0');
        number = number > REPEAT_NUMBER_max ? REPEAT_NUMBER_max : number;
    }
    if (!any) {
        give_up(r);
    }
    return number;
}

static uint32_t repeated_size(const tri_grammar *g, const tri_gnode *repeat) {
    uint64_t size = 0;
    for (uint32_t i = repeat->first; i != 0; i = g->nodes[i].next) {
        size += g->nodes[i].size;
    }
    size *= (uint64_t)(repeat->max == TRI_GNODE_ENDLESS ? repeat->min : repeat->max) + 1;
    return size < SIZE_NUMBER_max ? (uint32_t)size : SIZE_NUMBER_max;
}

static void read_repeat(reader *r, sequence *seq, char kind, bool nested) {
    tri_gnode node = {.kind = TRI_GNODE_REPEAT,
                      .min = kind == '+' ? 1 : 0,
                      .max = kind == '?' ? 1 : TRI_GNODE_ENDLESS};
    if (kind == '{') {
        skip_space(r, nested);
        node.min = node.max = read_number(r);
        skip_space(r, nested);
        if (take(r, ',')) {
            skip_space(r, nested);
            node.max = peek(r) == '}' ? TRI_GNODE_ENDLESS : read_number(r);
            skip_space(r, nested);
        }
        if (!take(r, '}')) {
            give_up(r);
        }
    }
    const tri_gnode *nodes = r->grammar->nodes;
    node.first = !seq->has_symbol ? 0 : seq->before != 0 ? nodes[seq->before].next : seq->first;
    if (node.first == 0) {
        give_up(r);
    }
    if (fails(r)) {
        return;
    }
    node.size = repeated_size(r->grammar, &node);
    uint32_t repeat = add_node(r, node);
    if (repeat == 0) {
        return;
    }
    if (seq->before != 0) {
        r->grammar->nodes[seq->before].next = repeat;
    } else {
        seq->first = repeat;
    }
    seq->last = repeat;
}

static uint32_t read_alternatives(reader *r, bool nested);

/* False: the next is nothing that a sequence is made of. */
static bool read_symbol(reader *r, sequence *seq, bool nested) {
    char c = peek(r);
    if (c == '*' || c == '+' || c == '?' || c == '{') {
        r->at++;
        read_repeat(r, seq, c, nested);
    } else if (is_word(c)) {
        begin_symbol(seq);
        uint32_t rule = rule_of(r, read_name(r));
        append(r, seq, add_node(r, (tri_gnode){.kind = TRI_GNODE_RULE, .first = rule}));
    } else if (c == '<' || c == '!') {
        begin_symbol(seq);
        read_token(r, seq);
    } else if (c == '"' || c == '[' || c == '.' || c == '(') {
        begin_symbol(seq);
        r->at++;
        if (c == '"') {
            read_literal(r, seq);
        } else if (c == '[') {
            read_class(r, seq);
        } else if (c == '.') {
            add_char(r, seq, 0, CODE_TOKEN - 1);
        } else {
            skip_space(r, true);
            uint32_t alts = read_alternatives(r, true);
            append(r, seq, add_node(r, (tri_gnode){.kind = TRI_GNODE_GROUP, .first = alts}));
            if (!take(r, ')')) {
                give_up(r);
            }
        }
    } else {
        return false;
    }
    skip_space(r, nested);
    return true;
}

/* The first alternative's node. */
static uint32_t read_alternatives(reader *r, bool nested) {
    uint32_t first = 0, last = 0;
    do {
        sequence seq = {0};
        skip_space(r, nested || first != 0);
        while (!fails(r) && read_symbol(r, &seq, nested)) {
        }
        uint32_t alt = add_node(r, (tri_gnode){.kind = TRI_GNODE_ALT, .first = seq.first});
        if (fails(r)) {
            return 0;
        }
        if (last != 0) {
            r->grammar->nodes[last].next = alt;
        }
        first = first != 0 ? first : alt;
        last = alt;
    } while (take(r, '|'));
    return first;
}

static void read_rule(reader *r) {
    tr_str name = read_name(r);
    skip_space(r, false);
    if (name.size == 0 || r->end - r->at < 3 || memcmp(r->at, "::=", 3) != 0) {
        give_up(r);
        return;
    }
    r->at += 3;
    skip_space(r, true);
    uint32_t rule = rule_of(r, name);
    uint32_t alts = read_alternatives(r, false);
    if (!fails(r)) {
        r->grammar->rules[rule - 1].alts = alts;
        bool is_root = name.size == 4 && memcmp(name.ptr, "root", 4) == 0;
        r->grammar->root = is_root ? rule : r->grammar->root;
    }
    if (r->at < r->end && *r->at != '\r' && *r->at != '\n') {
        give_up(r);
    }
    skip_space(r, true);
}

tri_grammar_verdict tri_grammar_read(tri_grammar *grammar, tr_str text) {
    *grammar = (tri_grammar){.names = tr_zalloc(names_size * sizeof(uint32_t))};
    size_t size = strnlen(text.ptr, text.size);
    reader r = {.grammar = grammar, .at = text.ptr, .end = text.ptr + size};
    r.verdict = grammar->names != NULL ? TRI_GRAMMAR_FINE : TRI_GRAMMAR_NOMEM;
    if (!fails(&r)) {
        skip_space(&r, true);
    }
    while (!fails(&r) && r.at < r.end) {
        read_rule(&r);
    }
    for (uint32_t i = 0; i < grammar->rule_count; i++) {
        if (grammar->rules[i].alts == 0) {
            give_up(&r);
        }
    }
    if (grammar->root == 0) {
        give_up(&r);
    }
    return r.verdict;
}

void tri_grammar_fini(tri_grammar *grammar) {
    tr_free(grammar->nodes);
    tr_free(grammar->ranges);
    tr_free(grammar->rules);
    tr_free(grammar->names);
    *grammar = (tri_grammar){0};
}
