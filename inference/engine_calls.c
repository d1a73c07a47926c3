/*
 * A byte brings at most one thing: text, the beginning of a call, or a byte of its arguments. Bytes
 * that may belong to a call are held back until its name is known to be a tool's and its arguments
 * are announced; when they turn out to be something else, they are text, whole and in their place.
 * From then on nothing is held: what does not belong to the call is text again. With tools
 * the engine's grammar lets no other form through (engine_tools.c), so this matters for an answer
 * that is cut short, and for a reader that must not trust anybody. Called by engine_tools.c.
 */
#include "inference/engine_calls.h"

#include <string.h>

#include "protocol/assert.h"

/* The head and tail of the form; blanks may stand before each part. The name is part 3. */
static const char *const head_parts[] = {"{", "\"name\"", ":", NULL, ",", "\"arguments\"", ":"};
static const char *const tail_parts[] = {"}", TRI_CALL_CLOSE};
enum {
    head_count = sizeof head_parts / sizeof *head_parts,
    tail_count = sizeof tail_parts / sizeof *tail_parts,
    name_part = 3,
};

void tri_calls_init(tri_calls *calls, const tr_str *names, size_t name_count) {
    *calls = (tri_calls){.names = names, .name_count = name_count};
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t tri_calls_held(const tri_calls *calls) {
    switch (calls->state) {
    case TRI_CALLS_TEXT:
        return calls->matched;
    case TRI_CALLS_HEAD:
        return calls->held_size;
    case TRI_CALLS_AFTER:
    case TRI_CALLS_ARGS:
    case TRI_CALLS_TAIL:
        break;
    }
    return 0;
}

static void hold(tri_calls *calls, char c) {
    TR_ASSERT(calls->held_size < sizeof calls->held);
    calls->held[calls->held_size++] = c;
}

/* What is held back, this byte too, is text. */
static tri_calls_out give_up(tri_calls *calls, char c) {
    hold(calls, c);
    tri_calls_out out = {.kind = TR_DELTA_TEXT, .text = {calls->held, calls->held_size}};
    calls->state = TRI_CALLS_TEXT;
    calls->matched = 0;
    calls->held_size = 0;
    if (c == TRI_CALL_OPEN[0]) {
        /* It may begin a call itself. `held` keeps its text until the next byte. */
        out.text.size--;
        calls->matched = 1;
        out.kind = out.text.size > 0 ? TR_DELTA_TEXT : 0;
    }
    return out;
}

static tri_calls_out in_text(tri_calls *calls, const char *byte) {
    static const char tag[] = TRI_CALL_OPEN;
    if (*byte == tag[calls->matched]) {
        calls->matched++;
        if (tag[calls->matched] == '\0') {
            calls->state = TRI_CALLS_HEAD;
            memcpy(calls->held, tag, sizeof tag - 1);
            calls->held_size = sizeof tag - 1;
            calls->matched = 0;
            calls->part = 0;
        }
        return (tri_calls_out){0};
    }
    if (calls->matched == 0) {
        return (tri_calls_out){.kind = TR_DELTA_TEXT, .text = {byte, 1}};
    }
    memcpy(calls->held, tag, calls->matched);
    calls->held_size = calls->matched;
    return give_up(calls, *byte);
}

/* The tool whose name stands in `held` from name_at on, or name_count. */
static size_t tool_of(const tri_calls *calls) {
    size_t size = calls->held_size - calls->name_at;
    size_t i = 0;
    while (i < calls->name_count &&
           (calls->names[i].size != size ||
            memcmp(calls->names[i].ptr, calls->held + calls->name_at, size) != 0)) {
        i++;
    }
    return i;
}

/* A quoted name: `matched` is 0 before it, 1 inside, 2 behind a backslash. False: none of ours. */
static bool in_name(tri_calls *calls, char c) {
    if (calls->matched == 0) {
        calls->matched = 1;
        calls->name_at = calls->held_size + 1;
        return c == '"';
    }
    if (calls->matched == 2) {
        calls->matched = 1;
    } else if (c == '\\') {
        calls->matched = 2;
    } else if (c == '"') {
        calls->matched = 0;
        calls->part++;
        return tool_of(calls) < calls->name_count;
    }
    return true;
}

static tri_calls_out begin_args(tri_calls *calls) {
    calls->held_size = 0;
    calls->matched = 0;
    calls->state = TRI_CALLS_ARGS;
    calls->depth = 0;
    calls->in_string = false;
    calls->escaped = false;
    return (tri_calls_out){
        .kind = TR_DELTA_TOOL_START, .call = calls->count++, .tool = calls->name_at};
}

static tri_calls_out in_head(tri_calls *calls, const char *byte) {
    char c = *byte;
    bool fits = calls->held_size + 1 < sizeof calls->held;
    if (fits && calls->matched == 0 && is_blank(c)) {
        hold(calls, c);
        return (tri_calls_out){0};
    }
    if (fits && calls->part == name_part) {
        fits = in_name(calls, c);
        if (fits && calls->part != name_part) {
            calls->name_at = tool_of(calls); /* from here on its number */
        }
    } else if (fits) {
        const char *part = head_parts[calls->part];
        fits = part[calls->matched] == c;
        if (fits && part[++calls->matched] == '\0') {
            calls->part++;
            calls->matched = 0;
        }
        if (calls->part == head_count) {
            return begin_args(calls);
        }
    }
    if (!fits) {
        return give_up(calls, c);
    }
    hold(calls, c);
    return (tri_calls_out){0};
}

static tri_calls_out in_args(tri_calls *calls, const char *byte) {
    char c = *byte;
    tri_calls_out out = {.kind = TR_DELTA_TOOL_ARGS, .call = calls->count - 1, .text = {byte, 1}};
    if (calls->depth == 0 && c != '{') {
        if (is_blank(c)) {
            return (tri_calls_out){0};
        }
        calls->state = TRI_CALLS_TEXT; /* a call without arguments, and text */
        return in_text(calls, byte);
    }
    if (calls->in_string) {
        bool was_escaped = calls->escaped;
        calls->escaped = !was_escaped && c == '\\';
        calls->in_string = was_escaped || c != '"';
        return out;
    }
    calls->in_string = c == '"';
    calls->depth += c == '{' || c == '[';
    calls->depth -= c == '}' || c == ']';
    if (calls->depth == 0) {
        calls->state = TRI_CALLS_TAIL;
        calls->part = 0;
        calls->matched = 0;
    }
    return out;
}

static tri_calls_out in_tail(tri_calls *calls, const char *byte) {
    if (calls->matched == 0 && is_blank(*byte)) {
        return (tri_calls_out){0};
    }
    const char *part = tail_parts[calls->part];
    if (part[calls->matched] == *byte) {
        if (part[++calls->matched] == '\0') {
            calls->matched = 0;
            calls->part++;
        }
        if (calls->part == tail_count) {
            calls->state = TRI_CALLS_AFTER;
        }
        return (tri_calls_out){0};
    }
    calls->state = TRI_CALLS_TEXT;
    calls->matched = 0;
    return in_text(calls, byte);
}

tri_calls_out tri_calls_feed(tri_calls *calls, const char *byte) {
    switch (calls->state) {
    case TRI_CALLS_AFTER:
        if (is_blank(*byte)) {
            return (tri_calls_out){0};
        }
        calls->state = TRI_CALLS_TEXT;
        return in_text(calls, byte);
    case TRI_CALLS_TEXT:
        return in_text(calls, byte);
    case TRI_CALLS_HEAD:
        return in_head(calls, byte);
    case TRI_CALLS_ARGS:
        return in_args(calls, byte);
    case TRI_CALLS_TAIL:
        return in_tail(calls, byte);
    }
    return (tri_calls_out){0};
}

tri_calls_out tri_calls_finish(tri_calls *calls) {
    size_t held = tri_calls_held(calls);
    if (held == 0) {
        return (tri_calls_out){0};
    }
    if (calls->state != TRI_CALLS_HEAD) {
        memcpy(calls->held, TRI_CALL_OPEN, held);
    }
    calls->state = TRI_CALLS_TEXT;
    calls->matched = 0;
    calls->held_size = 0;
    return (tri_calls_out){.kind = TR_DELTA_TEXT, .text = {calls->held, held}};
}
