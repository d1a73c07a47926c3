/*
 * The wrapper of json.h. Three passes: scan() walks the text once, refuses what cJSON would let
 * through (RFC 8259 to the letter, UTF-8, no NUL, depth) and notes where each value stands; cJSON
 * parses, that is, unescapes strings and reads numbers; link() walks the tree, whose order is the
 * text's, and gives each value its slice. So a slice is what was written, and a string is what
 * cJSON made of it. Where the program lets us have cJSON's hooks, the tree stands in the same piece
 * of memory as the values and is freed with them.
 */
#include "protocol/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"

/* Small, so that an event of a stream fits malloc's quickest sizes. Its members, if it has any,
 * begin right behind it. */
struct tr_json_value {
    const cJSON *item; /* its name and string as well */
    const char *raw;
    uint32_t raw_size;
    uint32_t name_size;
    uint32_t string_size;
    uint32_t count; /* of members */
    uint32_t next;  /* so many values further on; 0 = it is the last of its siblings */
    uint8_t type;   /* tr_json_type */
};

struct tr_json {
    cJSON *tree;
    bool own_tree; /* it has memory of its own */
    char *text;
    size_t value_count;
    tr_json_value values[]; /* the root is the first */
};

#define TEXT_max (1U << 31)
#define FEW 16U /* members of an object */
#define SPANS_few 48U

/* Where cJSON's tree is to stand while it parses on this thread; NULL = with malloc. */
static _Thread_local char *piece_at;
static _Thread_local size_t piece_left;
static bool hooked; /* set before there are threads */

static size_t whole_words(size_t size) {
    return (size + sizeof(double) - 1) / sizeof(double) * sizeof(double);
}

static void *take(size_t size) {
    if (piece_at == NULL) {
        return malloc(size);
    }
    size_t words = whole_words(size);
    if (words < size || words > piece_left) {
        return NULL;
    }
    char *taken = piece_at;
    piece_at += words;
    piece_left -= words;
    return taken;
}

/* What cJSON gives up while it parses in a piece lies in that piece. */
static void give(void *memory) {
    if (piece_at == NULL) {
        free(memory);
    }
}

void tr_json_own_hooks(void) {
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = take, .free_fn = give});
    hooked = true;
}

/* Where a value stands in the text. */
typedef struct span {
    uint32_t start, size;
} span;

typedef struct scanner {
    const char *text;
    size_t size;
    size_t at;
    size_t values;
    size_t values_max;
    span *spans; /* of the values, in their order */
    size_t span_room;
    span few_spans[SPANS_few]; /* most texts need no more */
    bool no_memory;
    const char *reason; /* NULL = fine so far */
} scanner;

static void free_spans(scanner *s) {
    if (s->spans != s->few_spans) {
        free(s->spans);
    }
}

static bool refuse(scanner *s, const char *reason) {
    if (s->reason == NULL) {
        s->reason = reason;
    }
    return false;
}

static char peek(const scanner *s) {
    return s->at < s->size ? s->text[s->at] : '\0';
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void skip_blank(scanner *s) {
    while (s->at < s->size && is_blank(s->text[s->at])) {
        s->at++;
    }
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool skip_digits(scanner *s) {
    size_t start = s->at;
    while (is_digit(peek(s))) {
        s->at++;
    }
    return s->at > start;
}

static bool scan_number(scanner *s) {
    s->at += peek(s) == '-';
    if (peek(s) == '0') {
        s->at++;
    } else if (!skip_digits(s)) {
        return refuse(s, "not a JSON value");
    }
    if (peek(s) == '.') {
        s->at++;
        if (!skip_digits(s)) {
            return refuse(s, "a number lacks digits after its point");
        }
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        s->at += peek(s) == '+' || peek(s) == '-';
        if (!skip_digits(s)) {
            return refuse(s, "a number lacks its exponent");
        }
    }
    return true;
}

static int hex4(const char *at) {
    int code = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = is_digit(c)              ? c - '0'
                    : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                    : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                             : -1;
        if (digit < 0) {
            return -1;
        }
        code = code * 16 + digit;
    }
    return code;
}

/* After "\u": one escape, or the two of a surrogate pair. */
static bool scan_unicode(scanner *s) {
    int code = s->size - s->at >= 4 ? hex4(s->text + s->at) : -1;
    if (code < 0) {
        return refuse(s, "\\u lacks four hexadecimal digits");
    }
    if (code == 0) {
        return refuse(s, "\\u0000 is not accepted");
    }
    s->at += 4;
    if (code >= 0xdc00 && code <= 0xdfff) {
        return refuse(s, "half a surrogate pair");
    }
    if (code >= 0xd800 && code <= 0xdbff) {
        int low = s->size - s->at >= 6 && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u'
                      ? hex4(s->text + s->at + 2)
                      : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            return refuse(s, "half a surrogate pair");
        }
        s->at += 6;
    }
    return true;
}

/* Goes on to the next byte that means something in a string, eight at a time. */
static void skip_plain(scanner *s) {
    const uint64_t ones = 0x0101010101010101ULL;
    while (s->size - s->at >= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, s->text + s->at, sizeof word);
        uint64_t quote = word ^ (ones * '"');
        uint64_t escape = word ^ (ones * '\\');
        uint64_t means = ((quote - ones) & ~quote) | ((escape - ones) & ~escape) |
                         ((word - ones * 0x20) & ~word);
        means &= ones << 7;
        if (means != 0) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            s->at += (size_t)__builtin_ctzll(means) / 8; /* the lowest mark is always a true one */
#endif
            return;
        }
        s->at += sizeof word;
    }
}

static bool scan_string(scanner *s) {
    s->at++;
    skip_plain(s);
    while (s->at < s->size) {
        char c = s->text[s->at++];
        if (c != '"' && c != '\\' && (unsigned char)c >= 0x20) {
            continue;
        }
        if (c == '"') {
            return true;
        }
        if ((unsigned char)c < 0x20) {
            s->at--;
            return refuse(s, "a control character in a string must be escaped");
        }
        if (c == '\\') {
            char escape = peek(s);
            s->at++;
            if (escape == 'u') {
                if (!scan_unicode(s)) {
                    return false;
                }
            } else if (escape == '\0' || strchr("\"\\/bfnrt", escape) == NULL) {
                return refuse(s, "an unknown escape");
            }
            skip_plain(s);
        }
    }
    return refuse(s, "a string does not end");
}

static bool scan_word(scanner *s, const char *word) {
    size_t size = strlen(word);
    if (s->size - s->at < size || memcmp(s->text + s->at, word, size) != 0) {
        return refuse(s, "not a JSON value");
    }
    s->at += size;
    return true;
}

static bool scan_value(scanner *s, int depth);

static bool scan_members(scanner *s, int depth, char closing) {
    if (depth == TR_JSON_DEPTH_max) {
        return refuse(s, "nested too deeply");
    }
    s->at++;
    skip_blank(s);
    if (peek(s) == closing) {
        s->at++;
        return true;
    }
    for (;;) {
        if (closing == '}') {
            skip_blank(s);
            if (peek(s) != '"') {
                return refuse(s, "expected a key in quotes");
            }
            if (!scan_string(s)) {
                return false;
            }
            skip_blank(s);
            if (peek(s) != ':') {
                return refuse(s, "expected a colon");
            }
            s->at++;
        }
        if (!scan_value(s, depth + 1)) {
            return false;
        }
        skip_blank(s);
        char c = peek(s);
        s->at++;
        if (c == closing) {
            return true;
        }
        if (c != ',') {
            s->at--;
            return refuse(s, "expected a comma or the closing bracket");
        }
    }
}

static bool scan_one(scanner *s, int depth) {
    switch (peek(s)) {
    case '{':
        return scan_members(s, depth, '}');
    case '[':
        return scan_members(s, depth, ']');
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return scan_number(s);
    }
}

static bool more_spans(scanner *s) {
    size_t room = s->span_room * 4;
    span *more = malloc(room * sizeof *more);
    if (more == NULL) {
        s->no_memory = true;
        return false;
    }
    memcpy(more, s->spans, s->values * sizeof *more);
    free_spans(s);
    s->spans = more;
    s->span_room = room;
    return true;
}

static const char too_many[] = "too many values";

static bool scan_value(scanner *s, int depth) {
    skip_blank(s);
    if (s->values == s->values_max) {
        return refuse(s, too_many);
    }
    if (s->values == s->span_room && !more_spans(s)) {
        return false;
    }
    size_t number = s->values++;
    size_t start = s->at;
    bool fine = scan_one(s, depth);
    s->spans[number] = (span){(uint32_t)start, (uint32_t)(s->at - start)};
    return fine;
}

static bool scan(scanner *s) {
    if (s->size > TEXT_max) {
        return refuse(s, "too large");
    }
    if (!tr_utf8_valid(s->text, s->size)) {
        return refuse(s, "not valid UTF-8, or a NUL byte");
    }
    if (!scan_value(s, 0)) {
        return false;
    }
    skip_blank(s);
    return s->at == s->size || refuse(s, "something follows the value");
}

/* Tree and values stand in the same order. */
typedef struct linker {
    const span *spans;
    tr_json *json;
    size_t used;
    const tr_json_value **by_name; /* room for all members of one object */
    const char *twin;              /* a value whose key stands in its object already */
} linker;

static tr_json_type type_of(const cJSON *item) {
    switch (item->type & 0xff) {
    case cJSON_True:
    case cJSON_False:
        return TR_JSON_BOOL;
    case cJSON_Number:
        return TR_JSON_NUMBER;
    case cJSON_String:
        return TR_JSON_STRING;
    case cJSON_Array:
        return TR_JSON_ARRAY;
    case cJSON_Object:
        return TR_JSON_OBJECT;
    default:
        return TR_JSON_NULL;
    }
}

static bool same_name(const tr_json_value *a, const tr_json_value *b) {
    return a->name_size == b->name_size &&
           memcmp(a->item->string, b->item->string, a->name_size) == 0;
}

static int compare_names(const void *a, const void *b) {
    const tr_json_value *x = *(const tr_json_value *const *)a;
    const tr_json_value *y = *(const tr_json_value *const *)b;
    return strcmp(x->item->string, y->item->string);
}

/* In a small object each is compared with each: cheaper than to sort them. */
static const char *find_twin_of_few(const tr_json_value *object) {
    const tr_json_value *first = tr_json_first(object);
    for (const tr_json_value *x = tr_json_next(first); x != NULL; x = tr_json_next(x)) {
        for (const tr_json_value *y = first; y != x; y = tr_json_next(y)) {
            if (same_name(x, y)) {
                return x->raw;
            }
        }
    }
    return NULL;
}

static const char *find_twin(linker *l, const tr_json_value *object) {
    size_t count = 0;
    if (object->count <= FEW) {
        return find_twin_of_few(object);
    }
    const tr_json_value *member = tr_json_first(object);
    for (; member != NULL; member = tr_json_next(member)) {
        l->by_name[count++] = member;
    }
    qsort(l->by_name, count, sizeof(tr_json_value *), compare_names);
    for (size_t i = 1; i < count; i++) {
        const tr_json_value *x = l->by_name[i - 1];
        const tr_json_value *y = l->by_name[i];
        if (same_name(x, y)) {
            return x->raw > y->raw ? x->raw : y->raw;
        }
    }
    return NULL;
}

static tr_json_value *link_value(linker *l, const cJSON *item);

static void link_members(linker *l, tr_json_value *value) {
    bool named = value->type == TR_JSON_OBJECT;
    tr_json_value *last = NULL;
    for (const cJSON *child = value->item->child; child != NULL; child = child->next) {
        tr_json_value *member = link_value(l, child);
        member->name_size = named ? (uint32_t)strlen(child->string) : 0;
        if (last != NULL) {
            last->next = (uint32_t)(member - last);
        }
        last = member;
        value->count++;
    }
    if (named && value->count > 1 && l->twin == NULL) {
        l->twin = find_twin(l, value);
    }
}

static tr_json_value *link_value(linker *l, const cJSON *item) {
    size_t number = l->used++;
    tr_json_value *value = &l->json->values[number];
    *value = (tr_json_value){.item = item,
                             .raw = l->json->text + l->spans[number].start,
                             .raw_size = l->spans[number].size,
                             .type = (uint8_t)type_of(item)};
    if (value->type == TR_JSON_ARRAY || value->type == TR_JSON_OBJECT) {
        link_members(l, value);
    } else if (value->type == TR_JSON_STRING) {
        value->string_size = (uint32_t)strlen(item->valuestring);
    }
    return value;
}

static tr_err fault(tr_json_fault *ret_fault, size_t offset, const char *reason) {
    if (ret_fault != NULL) {
        *ret_fault =
            (tr_json_fault){.offset = offset, .reason = reason, .too_many = reason == too_many};
    }
    return TR_ERR_INVALID;
}

tr_err tr_json_parse(const char *text, size_t size, tr_json **ret, tr_json_fault *ret_fault) {
    return tr_json_parse_max(text, size, TR_JSON_VALUES_max, ret, ret_fault);
}

/* What a tree takes at most: a node for each value, and for each a name and a text (a string's or a
 * number's), together no longer than what was written but for their ends. */
static size_t piece_size(const scanner *s) {
    return s->values * (sizeof(cJSON) + 2 * sizeof(double)) + whole_words(s->size);
}

/* In the piece; should a cJSON want more than the above, with malloc. */
static bool grow_tree(tr_json *json, size_t size, char *piece, size_t room) {
    if (room > 0) {
        piece_at = piece;
        piece_left = room;
        json->tree = cJSON_ParseWithLength(json->text, size);
        piece_at = NULL;
        if (json->tree != NULL) {
            json->own_tree = false;
            return true;
        }
    }
    json->own_tree = true;
    json->tree = cJSON_ParseWithLength(json->text, size);
    return json->tree != NULL;
}

/* Values, the tree if it may stand here, the names' sorting place and the text's copy in one piece
 * of memory. */
static tr_json *make(const scanner *s, const tr_json_value ***ret_by_name) {
    size_t values = s->values * sizeof(tr_json_value);
    size_t piece = hooked ? piece_size(s) : 0;
    size_t names = s->values > FEW ? s->values * sizeof(tr_json_value *) : 0;
    tr_json *json = malloc(sizeof *json + values + piece + names + s->size + 1);
    if (json == NULL) {
        return NULL;
    }
    char *after = (char *)json->values + values;
    *ret_by_name = (const tr_json_value **)(void *)(after + piece);
    json->text = after + piece + names;
    json->value_count = s->values;
    memcpy(json->text, s->text, s->size);
    json->text[s->size] = '\0';
    if (!grow_tree(json, s->size, after, piece)) {
        free(json);
        return NULL;
    }
    return json;
}

tr_err tr_json_parse_max(const char *text, size_t size, size_t values_max, tr_json **ret,
                         tr_json_fault *ret_fault) {
    scanner s;
    s.text = text;
    s.size = size;
    s.at = s.values = 0;
    s.values_max = values_max;
    s.spans = s.few_spans;
    s.span_room = SPANS_few;
    s.no_memory = false;
    s.reason = NULL;
    bool good = scan(&s);
    if (!good && !s.no_memory) {
        free_spans(&s);
        return fault(ret_fault, s.at < size ? s.at : size, s.reason);
    }
    linker l = {.spans = s.spans};
    /* What the scan accepted, cJSON refuses only for want of memory. */
    l.json = good ? make(&s, &l.by_name) : NULL;
    if (l.json != NULL) {
        link_value(&l, l.json->tree);
    }
    free_spans(&s);
    if (l.json == NULL) {
        return TR_ERR_NOMEM;
    }
    if (l.twin != NULL) {
        size_t offset = (size_t)(l.twin - l.json->text);
        tr_json_free(l.json);
        return fault(ret_fault, offset, "a key stands twice in one object");
    }
    *ret = l.json;
    return TR_OK;
}

void tr_json_free(tr_json *json) {
    if (json != NULL) {
        if (json->own_tree) {
            cJSON_Delete(json->tree);
        }
        free(json);
    }
}

const tr_json_value *tr_json_root(const tr_json *json) {
    return &json->values[0];
}

tr_json_type tr_json_type_of(const tr_json_value *value) {
    return (tr_json_type)value->type;
}

tr_str tr_json_raw(const tr_json_value *value) {
    return value != NULL ? (tr_str){value->raw, value->raw_size} : (tr_str){NULL, 0};
}

const tr_json_value *tr_json_get(const tr_json_value *object, const char *name) {
    if (object == NULL || object->type != TR_JSON_OBJECT) {
        return NULL;
    }
    const size_t size = strlen(name);
    const tr_json_value *member = tr_json_first(object);
    for (; member != NULL; member = tr_json_next(member)) {
        if (member->name_size == size && memcmp(member->item->string, name, size) == 0) {
            return member;
        }
    }
    return NULL;
}

size_t tr_json_count(const tr_json_value *array_or_object) {
    return array_or_object != NULL ? array_or_object->count : 0;
}

const tr_json_value *tr_json_first(const tr_json_value *array_or_object) {
    return array_or_object != NULL && array_or_object->count > 0 ? array_or_object + 1 : NULL;
}

const tr_json_value *tr_json_next(const tr_json_value *value) {
    return value->next > 0 ? value + value->next : NULL;
}

tr_str tr_json_name(const tr_json_value *value) {
    return value->name_size > 0 ? (tr_str){value->item->string, value->name_size} : (tr_str){"", 0};
}

tr_str tr_json_string(const tr_json_value *value) {
    return value != NULL && value->type == TR_JSON_STRING
               ? (tr_str){value->item->valuestring, value->string_size}
               : (tr_str){NULL, 0};
}

double tr_json_number(const tr_json_value *value, double otherwise) {
    return value != NULL && value->type == TR_JSON_NUMBER ? value->item->valuedouble : otherwise;
}

int64_t tr_json_int(const tr_json_value *value, int64_t otherwise) {
    if (value == NULL || value->type != TR_JSON_NUMBER) {
        return otherwise;
    }
    bool whole = true;
    for (size_t i = 0; i < value->raw_size; i++) {
        char c = value->raw[i];
        whole = whole && (is_digit(c) || c == '-');
    }
    if (whole) {
        errno = 0;
        long long number = strtoll(value->raw, NULL, 10); /* ends at the slice's end */
        return errno == 0 ? number : otherwise;
    }
    double number = value->item->valuedouble; /* such as 1e3 or 5.0 */
    return fabs(number) < 9007199254740992.0 && number == floor(number) ? (int64_t)number
                                                                        : otherwise;
}

bool tr_json_bool(const tr_json_value *value, bool otherwise) {
    return value != NULL && value->type == TR_JSON_BOOL ? (value->item->type & 0xff) == cJSON_True
                                                        : otherwise;
}
