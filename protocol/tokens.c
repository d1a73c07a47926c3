/*
 * The estimate. Vocabularies of byte pairs cut a text at borders that are much the same everywhere:
 * words with the blank before them, runs of digits, runs of signs, line ends. Each run has a price
 * in eighths of a token by its script and length; the prices are plausible, not fitted.
 *
 * A body is walked without being parsed: the limiter wants a figure for every request, and a tree
 * would cost more than all else that the call does. Strings are priced where they lie, escapes
 * undone on the way; an image's base64 is stepped over.
 *
 * Called by a call on its shard, and by provider actors; pure.
 */
#include "protocol/tokens.h"

#include <string.h>

#include "protocol/limits.h"

#define EIGHTHS 8U

typedef enum class {
    NOTHING, /* before the first character */
    BLANK,   /* one blank belongs to the word after it */
    LINE,    /* line ends and the blanks around them */
    WORD,    /* ASCII letters */
    LATIN,   /* the same with accents */
    LETTERS, /* of other alphabets */
    DIGITS,
    SIGNS,
    IDEOGRAPH, /* each by itself; kana and hangul too */
    PICTURE,   /* emoji */
} class;

typedef struct run {
    class class;
    uint32_t length;
    uint32_t last; /* the character before */
    uint64_t eighths;
} run;

static class class_of(uint32_t c) {
    if (c < 0x80) {
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
            return WORD;
        }
        return c >= '0' && c <= '9' ? DIGITS : c == '\n' ? LINE : c <= ' ' ? BLANK : SIGNS;
    }
    if (c < 0x250) {
        return c < 0xc0 ? SIGNS : LATIN;
    }
    if ((c >= 0x2000 && c < 0x2600) || (c >= 0x3000 && c < 0x3040) || (c >= 0xff00 && c < 0xff10)) {
        return SIGNS;
    }
    if (c >= 0x1f000 || (c >= 0x2600 && c < 0x2e80)) {
        return c >= 0x20000 ? IDEOGRAPH : PICTURE;
    }
    return (c >= 0x2e80 && c < 0xa4d0) || (c >= 0xac00 && c < 0xd7b0) || (c >= 0xf900 && c < 0xfb00)
               ? IDEOGRAPH
               : LETTERS;
}

static uint64_t price(class class, uint32_t length) {
    switch (class) {
    case NOTHING:
        return 0;
    case BLANK:
        return length > 1 ? EIGHTHS : 0;
    case LINE:
    case WORD:
        return EIGHTHS + (class == WORD && length > 6 ? (length - 6) * EIGHTHS / 6 : 0);
    case LATIN:
        return EIGHTHS + (length > 3 ? (length - 3) * EIGHTHS / 4 : 0);
    case LETTERS:
        return EIGHTHS / 2 + length * EIGHTHS / 3;
    case DIGITS:
        return (length + 2) / 3 * EIGHTHS;
    case SIGNS:
        return EIGHTHS + (length > 2 ? (length - 2) * EIGHTHS / 3 : 0);
    case IDEOGRAPH:
        return length * (EIGHTHS - 1);
    case PICTURE:
        return length * 2 * EIGHTHS;
    }
    return 0;
}

static bool is_upper(uint32_t c) {
    return c >= 'A' && c <= 'Z';
}

static void add(run *r, uint32_t c) {
    class class = class_of(c);
    bool accent = class == LATIN && r->class == WORD; /* the word goes on */
    bool plain = class == WORD && r->class == LATIN;
    bool hump = class == WORD && is_upper(c) && r->length > 0 && !is_upper(r->last);
    bool blanks = class == BLANK && r->class == LINE; /* the indent of the next line */
    if (accent) {
        r->class = LATIN;
    } else if ((class != r->class && !plain && !blanks) || hump) {
        r->eighths += price(r->class, r->length);
        r->class = class;
        r->length = 0;
    }
    r->length++;
    r->last = c;
}

static uint64_t tokens_of(run *r) {
    r->eighths += price(r->class, r->length);
    r->class = NOTHING;
    r->length = 0;
    return (r->eighths + EIGHTHS - 1) / EIGHTHS;
}

static uint32_t hex4(const char *at) {
    uint32_t number = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 0;
        number = number * 16 + digit;
    }
    return number;
}

/* The character of an escape whose backslash stands at `*at`; surrogates one by one, which prices
 * them as one picture. */
static uint32_t unescape(const char **at, const char *end) {
    const char *p = *at + 1;
    char c = p < end ? *p : '\\';
    *at = p < end ? p + 1 : end;
    if (c == 'u' && end - p > 4) {
        *at = p + 5;
        uint32_t code = hex4(p + 1);
        return code >= 0xd800 && code < 0xe000 ? 0x1f000 : code;
    }
    return c == 'n' ? '\n' : c == 't' || c == 'r' || c == 'b' || c == 'f' ? ' ' : (uint32_t)c;
}

/* One character of UTF-8; bytes that are none count as one each. */
static uint32_t character(const char **at, const char *end) {
    const unsigned char *p = (const unsigned char *)*at;
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint32_t c = size == 1 ? p[0] : p[0] & (0x7fU >> size);
    if (size > (size_t)(end - *at)) {
        size = 1;
    }
    for (size_t i = 1; i < size; i++) {
        c = c << 6 | (p[i] & 0x3fU);
    }
    *at += size;
    return c;
}

static void add_text(run *r, tr_str text, bool escaped) {
    const char *at = text.ptr;
    const char *end = at + text.size;
    while (at < end) {
        add(r, escaped && *at == '\\' ? unescape(&at, end) : character(&at, end));
    }
}

uint64_t tr_tokens_of_text(tr_str text) {
    run r = {0};
    if (text.size > 0) {
        add_text(&r, text, false);
    }
    return tokens_of(&r);
}

/* --- a body --- */

typedef enum place {
    AT_ROOT,
    AT_MESSAGES,
    AT_MESSAGE,
    AT_CONTENT, /* a string, a part or a list of them */
    AT_TEXTS,   /* a string, or what is in a list */
    AT_IMAGE,
    AT_CALLS,
    AT_CALL,
    AT_RAW, /* JSON that the model reads as such */
    AT_TOOLS,
    AT_NOTHING,
} place;

/* What a provider writes around each, in tokens. */
#define AROUND_PROMPT 3U
#define AROUND_MESSAGE 4U
#define AROUND_CALL 6U
#define AROUND_TOOL 8U

typedef struct walk {
    const char *at, *end;
    uint64_t tokens;
} walk;

static const struct {
    const char *name;
    place in, to;
} members[] = {
    {"messages", AT_ROOT, AT_MESSAGES},   {"tools", AT_ROOT, AT_TOOLS},
    {"response_format", AT_ROOT, AT_RAW}, {"input", AT_ROOT, AT_TEXTS},
    {"system", AT_ROOT, AT_CONTENT},      {"content", AT_MESSAGE, AT_CONTENT},
    {"name", AT_MESSAGE, AT_TEXTS},       {"tool_calls", AT_MESSAGE, AT_CALLS},
    {"text", AT_CONTENT, AT_TEXTS},       {"image_url", AT_CONTENT, AT_IMAGE},
    {"function", AT_CALL, AT_CALL},       {"name", AT_CALL, AT_TEXTS},
    {"arguments", AT_CALL, AT_RAW},
};

static place member_of(place in, tr_str name) {
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i].in == in && strlen(members[i].name) == name.size &&
            memcmp(members[i].name, name.ptr, name.size) == 0) {
            return members[i].to;
        }
    }
    return AT_NOTHING;
}

static place item_of(place in) {
    return in == AT_MESSAGES ? AT_MESSAGE : in == AT_CALLS ? AT_CALL : in;
}

static void skip_blanks(walk *w) {
    while (w->at < w->end &&
           (*w->at == ' ' || *w->at == '\n' || *w->at == '\t' || *w->at == '\r')) {
        w->at++;
    }
}

/* The inside of the string whose quote stands at w->at; then at is behind it. */
static tr_str take_string(walk *w) {
    const char *begin = ++w->at;
    const char *from = begin;
    for (;;) {
        const char *quote = memchr(from, '"', (size_t)(w->end - from));
        if (quote == NULL) {
            w->at = w->end;
            return (tr_str){begin, (size_t)(w->end - begin)};
        }
        const char *back = quote;
        while (back > begin && back[-1] == '\\') {
            back--;
        }
        from = quote + 1;
        if ((quote - back) % 2 == 0) {
            w->at = from;
            return (tr_str){begin, (size_t)(quote - begin)};
        }
    }
}

/* Steps over a value of any depth. */
static tr_str take_value(walk *w) {
    const char *begin = w->at;
    uint64_t depth = 0;
    do {
        char c = w->at < w->end ? *w->at : '\0';
        if (c == '"') {
            (void)take_string(w);
        } else if (c == '{' || c == '[') {
            depth++;
            w->at++;
        } else if (c == '}' || c == ']' || c == '\0') {
            if (depth == 0) {
                break;
            }
            depth--;
            w->at++;
        } else if (depth == 0 && c == ',') {
            break;
        } else {
            w->at++;
        }
    } while (w->at < w->end && (depth > 0 || (*w->at != ',' && *w->at != '}' && *w->at != ']')));
    return (tr_str){begin, (size_t)(w->at - begin)};
}

static void price_text(walk *w, tr_str text) {
    run r = {0};
    add_text(&r, text, true);
    w->tokens += tokens_of(&r);
}

static bool holds(tr_str text, const char *word) {
    return memmem(text.ptr, text.size, word, strlen(word)) != NULL;
}

/* A value that is counted where it stands, without a look at what is in it. */
static bool price_whole(walk *w, place place) {
    if (place == AT_NOTHING) {
        (void)take_value(w);
        return true;
    }
    if (place == AT_RAW) {
        price_text(w, take_value(w));
        return true;
    }
    if (place == AT_IMAGE) {
        tr_str image = take_value(w);
        tr_str tail = image.size > 64 ? (tr_str){image.ptr + image.size - 64, 64} : image;
        w->tokens += holds(tail, "\"low\"") ? TR_TOKENS_OF_LOW_IMAGE : TR_TOKENS_OF_IMAGE;
        return true;
    }
    return false;
}

static void walk_value(walk *w, place place, int depth);

static void walk_members(walk *w, place place, int depth) {
    w->at++;
    for (skip_blanks(w); w->at < w->end && *w->at == '"'; skip_blanks(w)) {
        tr_str name = take_string(w);
        skip_blanks(w);
        w->at += w->at < w->end && *w->at == ':';
        walk_value(w, member_of(place, name), depth + 1);
        skip_blanks(w);
        w->at += w->at < w->end && *w->at == ',';
    }
    w->at += w->at < w->end; /* the bracket; else this is no JSON, and the end is near */
}

static void walk_items(walk *w, place place, int depth) {
    w->at++;
    for (skip_blanks(w); w->at < w->end && *w->at != ']'; skip_blanks(w)) {
        const char *before = w->at;
        walk_value(w, item_of(place), depth + 1);
        skip_blanks(w);
        w->at += w->at < w->end && *w->at == ',';
        if (w->at == before) {
            w->at = w->end;
        }
    }
    w->at += w->at < w->end;
}

static void walk_value(walk *w, place place, int depth) {
    skip_blanks(w);
    if (w->at == w->end || depth > TR_JSON_DEPTH_max || price_whole(w, place)) {
        return;
    }
    bool object = *w->at == '{';
    if (object && place == AT_TOOLS) {
        w->tokens += AROUND_TOOL;
        price_text(w, take_value(w));
    } else if (object) {
        w->tokens += place == AT_MESSAGE ? AROUND_MESSAGE : place == AT_CALL ? AROUND_CALL / 2 : 0;
        walk_members(w, place, depth);
    } else if (*w->at == '[') {
        walk_items(w, place, depth);
    } else if (*w->at == '"' && (place == AT_CONTENT || place == AT_TEXTS)) {
        price_text(w, take_string(w));
    } else {
        (void)take_value(w);
    }
}

uint64_t tr_tokens_of_body(const char *body, size_t size) {
    walk w = {body, body + size, AROUND_PROMPT};
    if (size > 0) {
        walk_value(&w, AT_ROOT, 0);
    }
    return w.tokens;
}
