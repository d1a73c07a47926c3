/*
 * Matching by all ways at once (Thompson, "Regular Expression Search Algorithm", 1968): time grows
 * with text × pattern, whatever the pattern is, and is counted. Repetitions are written out, so
 * their number is bounded. Called by the validator; pure.
 */
#include <stdlib.h>
#include <string.h>

#include "protocol/schema_pattern.h"

enum { steps_most = 8192, written_max = 100000 };

typedef enum step_kind { STEP_SET = 1, STEP_SPLIT, STEP_MATCH } step_kind;

/* `to` and, of a split, `other` are where it goes on. */
struct tri_pstep {
    step_kind kind;
    uint32_t node; /* the set */
    uint32_t to, other;
};

/* Adds a step; UINT32_MAX: too many, or no memory. */
static uint32_t add_step(tri_pattern *p, struct tri_pstep step) {
    if (p->step_count >= steps_most) {
        return UINT32_MAX;
    }
    if (p->step_count >= p->step_room) {
        uint32_t room = p->step_room * 2 + 32;
        struct tri_pstep *more = realloc(p->steps, room * sizeof *more);
        if (more == NULL) {
            return UINT32_MAX;
        }
        p->steps = more;
        p->step_room = room;
    }
    p->steps[p->step_count] = step;
    return p->step_count++;
}

/* The beginning of a sequence that goes on at `to`: written from its end. */
static uint32_t write_sequence(tri_pattern *p, uint32_t node, uint32_t to);

static uint32_t write_alternatives(tri_pattern *p, uint32_t alt, uint32_t to) {
    uint32_t begin = write_sequence(p, p->nodes[alt].first, to);
    if (p->nodes[alt].next == 0 || begin == UINT32_MAX) {
        return begin;
    }
    uint32_t other = write_alternatives(p, p->nodes[alt].next, to);
    return other == UINT32_MAX
               ? other
               : add_step(p, (struct tri_pstep){.kind = STEP_SPLIT, .to = begin, .other = other});
}

static uint32_t write_node(tri_pattern *p, uint32_t node, uint32_t to);

static uint32_t write_repeat(tri_pattern *p, const tri_pnode repeat, uint32_t to) {
    uint32_t begin = to;
    if (repeat.max == TRI_PATTERN_ENDLESS) {
        begin = add_step(p, (struct tri_pstep){.kind = STEP_SPLIT, .other = to});
        uint32_t body = begin != UINT32_MAX ? write_node(p, repeat.first, begin) : UINT32_MAX;
        if (body == UINT32_MAX) {
            return body;
        }
        p->steps[begin].to = body;
    }
    uint32_t optional = repeat.max == TRI_PATTERN_ENDLESS ? 0 : repeat.max - repeat.min;
    for (uint32_t i = 0; i < optional && begin != UINT32_MAX; i++) {
        uint32_t body = write_node(p, repeat.first, begin);
        begin = body == UINT32_MAX
                    ? body
                    : add_step(p, (struct tri_pstep){.kind = STEP_SPLIT, .to = body, .other = to});
    }
    for (uint32_t i = 0; i < repeat.min && begin != UINT32_MAX; i++) {
        begin = write_node(p, repeat.first, begin);
    }
    return begin;
}

static uint32_t write_node(tri_pattern *p, uint32_t node, uint32_t to) {
    if (p->written++ > written_max) {
        return UINT32_MAX; /* empty groups add no step */
    }
    switch (p->nodes[node].kind) {
    case TRI_PATTERN_SET:
        return add_step(p, (struct tri_pstep){.kind = STEP_SET, .node = node, .to = to});
    case TRI_PATTERN_GROUP:
        return write_alternatives(p, p->nodes[node].first, to);
    case TRI_PATTERN_REPEAT:
        return write_repeat(p, p->nodes[node], to);
    case TRI_PATTERN_ALT:
        break; /* stands in no sequence */
    }
    return UINT32_MAX;
}

static uint32_t write_sequence(tri_pattern *p, uint32_t node, uint32_t to) {
    if (node == 0) {
        return to;
    }
    uint32_t rest = write_sequence(p, p->nodes[node].next, to);
    return rest == UINT32_MAX ? rest : write_node(p, node, rest);
}

/* The last step written is where it begins. */
tr_err tri_pattern_compile(tri_pattern *p, const char **ret_why) {
    uint32_t end = add_step(p, (struct tri_pstep){.kind = STEP_MATCH});
    uint32_t begin = end != UINT32_MAX ? write_node(p, p->root, end) : UINT32_MAX;
    /* One more, so that it is the last. */
    uint32_t first =
        begin != UINT32_MAX
            ? add_step(p, (struct tri_pstep){.kind = STEP_SPLIT, .to = begin, .other = begin})
            : UINT32_MAX;
    if (first == UINT32_MAX) {
        *ret_why = "the pattern's repetitions make it too long";
        return TR_ERR_UNSUPPORTED;
    }
    return TR_OK;
}

/* The ways that lead on, each once a character. */
typedef struct ways {
    uint32_t *now, *next, *open; /* steps */
    uint32_t now_count, next_count;
    uint32_t *seen; /* the character's number + 1 when it was added last */
    bool matched;
} ways;

static void add_way(const tri_pattern *p, ways *w, uint32_t step, uint32_t mark) {
    uint32_t count = 0;
    w->open[count++] = step;
    while (count > 0) {
        uint32_t at = w->open[--count];
        if (w->seen[at] == mark) {
            continue;
        }
        w->seen[at] = mark;
        const struct tri_pstep *s = &p->steps[at];
        if (s->kind == STEP_SPLIT) {
            w->open[count++] = s->other;
            w->open[count++] = s->to;
        } else if (s->kind == STEP_SET) {
            w->next[w->next_count++] = at;
        } else {
            w->matched = true;
        }
    }
}

static bool in_set(const tri_pattern *p, const tri_pnode *set, uint32_t code) {
    for (uint32_t i = 0; i < set->count; i++) {
        const tri_prange *range = &p->ranges[set->first + i];
        if (code >= range->low && code <= range->high) {
            return true;
        }
    }
    return false;
}

static uint32_t take_code(const char **at, const char *end) {
    uint8_t c = (uint8_t) * (*at)++;
    int rest = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    uint32_t code = rest > 0 ? c & (0x3fU >> rest) : c;
    for (; rest > 0 && *at < end; rest--) {
        code = code << 6 | ((uint8_t) * (*at)++ & 0x3fU);
    }
    return code;
}

static tr_err run(const tri_pattern *p, ways *w, tr_str text, uint64_t *steps, uint64_t most) {
    const char *at = text.ptr, *end = text.ptr + text.size;
    uint32_t first = p->step_count - 1;
    uint32_t mark = 1;
    add_way(p, w, first, mark);
    while (!(w->matched && !p->ends) && at < end) {
        uint32_t *swap = w->now;
        w->now = w->next;
        w->next = swap;
        w->now_count = w->next_count;
        w->next_count = 0;
        w->matched = false;
        uint32_t code = take_code(&at, end);
        mark++;
        for (uint32_t i = 0; i < w->now_count; i++) {
            const struct tri_pstep *s = &p->steps[w->now[i]];
            *steps += 1 + p->nodes[s->node].count / 16;
            if (in_set(p, &p->nodes[s->node], code)) {
                add_way(p, w, s->to, mark);
            }
        }
        if (!p->begins) {
            add_way(p, w, first, mark);
        }
        *steps += 1 + w->next_count;
        if (*steps > most) {
            return TR_ERR_TOO_LARGE;
        }
        if (p->begins && w->next_count == 0 && !w->matched) {
            return TR_ERR_INVALID;
        }
    }
    return w->matched ? TR_OK : TR_ERR_INVALID;
}

tr_err tri_pattern_match(const tri_pattern *p, tr_str text, uint64_t *steps, uint64_t steps_max) {
    size_t count = p->step_count;
    /* `open` holds two for each step at most: a step is opened once, and adds two. */
    uint32_t *memory = calloc(count * 5 + 2, sizeof *memory);
    if (memory == NULL) {
        return TR_ERR_NOMEM;
    }
    ways w = {.now = memory,
              .next = memory + count,
              .seen = memory + 2 * count,
              .open = memory + 3 * count};
    *steps += count / 8;
    tr_err err = run(p, &w, text, steps, steps_max);
    free(memory);
    return err;
}
