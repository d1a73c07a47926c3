/*
 * Refuses grammars that would take libllama minutes or all memory. Its grammars are sets of stacks:
 * what may come next, each with what follows it. An ambiguous grammar has more and more of them,
 * and one call into libllama, which nothing can interrupt, then stops every stream of the worker.
 * So the same sets are computed here first, under a limit of work: from each place of the grammar
 * where it branches, some characters on, always the one that most stacks allow. What stays small on
 * all these ways stays small enough; what a grammar still costs later is watched token by token
 * (engine_sample.c), and what defeats both, by the pool. Called by the sampler, on any thread.
 *
 * Stacks share their tails and are kept once: a stack is a number.
 */
#include "inference/engine_grammar_internal.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

enum {
    stacks_max = 1024, /* at once */
    ways_max = 50000,  /* in which so many characters can be read: */
    ways_chars = 3,    /* libllama tries them all for tokens that do not fit */
    probe_chars = 16,  /* read from one place */
    probe_visits_max = 100000,
    visits_max = 6000000, /* from all places */
    samples_max = 16,     /* characters that are compared */
    size_max = 100000,    /* elements, written out */
    table_size = 1 << 18,
    tails_max = table_size / 2,
    open_max = 1 << 16,
};

/* What is to be read: `node`, of which `done` repetitions have been, then `after`. */
typedef struct tail {
    uint32_t node, done, after;
    uint32_t at; /* in the newer set, when `epoch` is the probe's */
    uint32_t epoch;
    uint32_t slot; /* in the table */
} tail;

typedef struct stack {
    uint32_t tail;
    uint64_t ways; /* that lead to it */
} stack;

typedef struct probe {
    const tri_grammar *grammar;
    tail *tails; /* from 1; 0 = the end */
    uint32_t tail_count;
    uint32_t *table;
    uint32_t *open; /* still to be expanded */
    stack *sets[2];
    uint32_t counts[2];
    uint32_t epoch;
    uint64_t visits, visits_before; /* in all; when this place began */
    bool explodes;
} probe;

static uint32_t tail_of(probe *p, uint32_t node, uint32_t done, uint32_t after) {
    const tri_gnode *nodes = p->grammar->nodes;
    while (node != 0 && nodes[node].kind == TRI_GNODE_REPEAT &&
           nodes[node].max != TRI_GNODE_ENDLESS && done >= nodes[node].max) {
        node = nodes[node].next;
        done = 0;
    }
    if (node == 0) {
        return after;
    }
    if (nodes[node].kind == TRI_GNODE_REPEAT && nodes[node].max == TRI_GNODE_ENDLESS) {
        done = done < nodes[node].min ? done : nodes[node].min;
    }
    uint64_t hash = ((uint64_t)node * 0x9e3779b97f4a7c15ULL) ^ ((uint64_t)done << 32) ^
                    ((uint64_t)after * 0xd1b54a32d192ed03ULL);
    hash = (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9ULL;
    uint32_t at = (uint32_t)(hash >> 40) % table_size;
    for (; p->table[at] != 0; at = (at + 1) % table_size) {
        const tail *t = &p->tails[p->table[at]];
        if (t->node == node && t->done == done && t->after == after) {
            return p->table[at];
        }
    }
    if (p->tail_count == tails_max) {
        p->explodes = true;
        return 0;
    }
    p->tails[p->tail_count] = (tail){.node = node, .done = done, .after = after, .slot = at};
    p->table[at] = p->tail_count;
    return p->tail_count++;
}

static void add_stack(probe *p, uint32_t to, uint32_t t, uint64_t ways) {
    tail *top = &p->tails[t];
    if (top->epoch == p->epoch) {
        p->sets[to][top->at].ways += ways;
    } else if (p->counts[to] == stacks_max) {
        p->explodes = true;
    } else {
        top->epoch = p->epoch;
        top->at = p->counts[to];
        p->sets[to][p->counts[to]++] = (stack){t, ways};
    }
}

static void push(probe *p, uint32_t *count, uint32_t t) {
    if (*count == open_max) {
        p->explodes = true;
    } else {
        p->open[(*count)++] = t;
    }
}

static void push_alternatives(probe *p, uint32_t *count, uint32_t alt, uint32_t after) {
    for (; alt != 0 && !p->explodes; alt = p->grammar->nodes[alt].next) {
        push(p, count, tail_of(p, p->grammar->nodes[alt].first, 0, after));
    }
}

/* All stacks with a character on top that `from` leads to. */
static void expand(probe *p, uint32_t to, uint32_t from, uint64_t ways) {
    uint32_t count = 0;
    push(p, &count, from);
    while (count > 0 && !p->explodes) {
        uint32_t t = p->open[--count];
        p->visits++;
        p->explodes = p->visits - p->visits_before > probe_visits_max || p->visits > visits_max;
        if (t == 0) {
            continue;
        }
        tail now = p->tails[t];
        const tri_gnode *node = &p->grammar->nodes[now.node];
        switch (node->kind) {
        case TRI_GNODE_CHAR:
            add_stack(p, to, t, ways);
            break;
        case TRI_GNODE_RULE:
            push_alternatives(p, &count, p->grammar->rules[node->first - 1].alts,
                              tail_of(p, node->next, 0, now.after));
            break;
        case TRI_GNODE_GROUP:
            push_alternatives(p, &count, node->first, tail_of(p, node->next, 0, now.after));
            break;
        case TRI_GNODE_REPEAT:
            if (now.done >= node->min) {
                push(p, &count, tail_of(p, node->next, 0, now.after));
            }
            push(p, &count,
                 tail_of(p, node->first, 0, tail_of(p, now.node, now.done + 1, now.after)));
            break;
        case TRI_GNODE_ALT:
            TR_ASSERT(node->kind != TRI_GNODE_ALT); /* stands in no sequence */
        }
    }
}

static bool allows(const probe *p, const stack *s, uint32_t code) {
    const tri_gnode *node = &p->grammar->nodes[p->tails[s->tail].node];
    bool in = false;
    for (uint32_t i = 0; i < node->count && !in; i++) {
        const tri_grange *range = &p->grammar->ranges[node->first + i];
        in = code >= range->low && code <= range->high;
    }
    return in != node->negated;
}

/* A character that this stack allows, or nearly. */
static uint32_t sample_of(const probe *p, const stack *s) {
    const tri_gnode *node = &p->grammar->nodes[p->tails[s->tail].node];
    for (uint32_t code = 'a'; node->negated && code < 'z'; code++) {
        if (allows(p, s, code)) {
            return code;
        }
    }
    return node->count > 0 ? p->grammar->ranges[node->first].low : 'a';
}

/* The character that most ways allow, of some. */
static uint32_t busiest(const probe *p, uint32_t set) {
    uint32_t codes[samples_max], code_count = 0, best = 0;
    uint64_t best_ways = 0;
    uint32_t stride = p->counts[set] / samples_max + 1;
    for (uint32_t i = 0; i < p->counts[set] && code_count < samples_max; i += stride) {
        codes[code_count++] = sample_of(p, &p->sets[set][i]);
    }
    for (uint32_t k = 0; k < code_count; k++) {
        uint64_t ways = 0;
        for (uint32_t i = 0; i < p->counts[set]; i++) {
            ways += allows(p, &p->sets[set][i], codes[k]) ? p->sets[set][i].ways : 0;
        }
        if (ways > best_ways) {
            best_ways = ways;
            best = codes[k];
        }
    }
    return best;
}

/* The stacks after the next character instead of those before it. */
static void read_char(probe *p, uint32_t now) {
    uint32_t code = busiest(p, now);
    p->epoch++;
    p->counts[1 - now] = 0;
    for (uint32_t i = 0; i < p->counts[now] && !p->explodes; i++) {
        const stack *s = &p->sets[now][i];
        if (allows(p, s, code)) {
            tail top = p->tails[s->tail];
            uint64_t ways = s->ways < ways_max ? s->ways : ways_max + 1U; /* a sum stays in range */
            expand(p, 1 - now, tail_of(p, p->grammar->nodes[top.node].next, 0, top.after), ways);
        }
    }
}

static void begin_probe(probe *p) {
    for (uint32_t i = 1; i < p->tail_count; i++) {
        p->table[p->tails[i].slot] = 0;
    }
    p->tail_count = 1;
    p->visits_before = p->visits;
    p->epoch++;
    p->counts[0] = 0;
}

/* The first stacks are in set 0. */
static void read_on(probe *p) {
    uint32_t now = 0;
    for (uint32_t chars = 0; chars < probe_chars && p->counts[now] > 0 && !p->explodes; chars++) {
        uint64_t ways = 0;
        for (uint32_t i = 0; i < p->counts[now]; i++) {
            ways += p->sets[now][i].ways;
        }
        if (chars <= ways_chars && ways > ways_max) {
            p->explodes = true;
            return;
        }
        read_char(p, now);
        now = 1 - now;
    }
}

static void expand_root(probe *p) {
    const tri_gnode *nodes = p->grammar->nodes;
    for (uint32_t alt = p->grammar->rules[p->grammar->root - 1].alts; alt != 0 && !p->explodes;
         alt = nodes[alt].next) {
        expand(p, 0, tail_of(p, nodes[alt].first, 0, 0), 1);
    }
}

/* Where it branches, and behind every such place, which is where a bomb may stand. */
static bool branches(const tri_gnode *node) {
    return node->kind == TRI_GNODE_RULE || node->kind == TRI_GNODE_GROUP ||
           node->kind == TRI_GNODE_REPEAT;
}

static tri_grammar_verdict walk(const tri_grammar *grammar, const char **ret_why) {
    probe p = {
        .grammar = grammar,
        .tails = tr_alloc(tails_max * sizeof(tail)),
        .tail_count = 1,
        .table = tr_zalloc(table_size * sizeof(uint32_t)),
        .open = tr_alloc(open_max * sizeof(uint32_t)),
        .sets = {tr_alloc(stacks_max * sizeof(stack)), tr_alloc(stacks_max * sizeof(stack))}};
    bool has_memory = p.tails != NULL && p.table != NULL && p.open != NULL && p.sets[0] != NULL &&
                      p.sets[1] != NULL;
    if (has_memory) {
        begin_probe(&p);
        expand_root(&p);
        read_on(&p);
    }
    for (uint32_t i = 1; i < grammar->node_count && has_memory && !p.explodes; i++) {
        if (branches(&grammar->nodes[i])) {
            begin_probe(&p);
            expand(&p, 0, tail_of(&p, i, 0, 0), 1);
            read_on(&p);
        }
    }
    tr_free(p.tails);
    tr_free(p.table);
    tr_free(p.open);
    tr_free(p.sets[0]);
    tr_free(p.sets[1]);
    *ret_why = p.explodes ? "it can read the same text in too many ways, or a rule begins with "
                            "itself: let fewer parts be empty, and alternatives begin differently"
                          : NULL;
    return !has_memory ? TRI_GRAMMAR_NOMEM : p.explodes ? TRI_GRAMMAR_EXPLOSIVE : TRI_GRAMMAR_FINE;
}

tri_grammar_verdict tri_grammar_check(tr_str text, const char **ret_why) {
    tri_grammar grammar;
    tri_grammar_verdict verdict = tri_grammar_read(&grammar, text);
    uint64_t size = 0;
    for (uint32_t i = 1; i < grammar.node_count; i++) {
        size += grammar.nodes[i].size;
    }
    if (verdict == TRI_GRAMMAR_FINE && size > size_max) {
        *ret_why = "its repetitions make it too long: repeat fewer times, or without a limit";
        verdict = TRI_GRAMMAR_EXPLOSIVE;
    }
    if (verdict == TRI_GRAMMAR_FINE) {
        verdict = walk(&grammar, ret_why);
    }
    tri_grammar_fini(&grammar);
    return verdict;
}
