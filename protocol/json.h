/*
 * JSON behind one door. Reading is strict where cJSON is not: the whole text must be one value,
 * UTF-8 valid, no NUL escapes, no key twice in one object, at most TR_JSON_DEPTH_max deep; look-up
 * is case-sensitive. A value knows the slice of the original text it came from, so that what we do
 * not understand passes through byte for byte (numbers of any size, tool arguments, providers' own
 * fields). RFC 8259.
 *
 * A tr_json is immutable after tr_json_parse, owned by the caller, and freed whole; values borrowed
 * from it live as long.
 */
#ifndef TR_PROTOCOL_JSON_H
#define TR_PROTOCOL_JSON_H

#include "protocol/wire.h"

typedef struct tr_json tr_json;             /* a parsed text: owns everything below */
typedef struct tr_json_value tr_json_value; /* a value in it: borrowed */

typedef enum tr_json_type {
    TR_JSON_NULL,
    TR_JSON_BOOL,
    TR_JSON_NUMBER,
    TR_JSON_STRING,
    TR_JSON_ARRAY,
    TR_JSON_OBJECT,
} tr_json_type;

/* Where and why a text was refused: byte offset and a sentence. */
typedef struct tr_json_fault {
    size_t offset;
    const char *reason;
    bool too_many; /* it has more values than are allowed, and may be JSON */
} tr_json_fault;

/* Copies `text`. TR_ERR_INVALID (with *ret_fault when not NULL) or TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_json_parse(const char *text, size_t size, tr_json **ret,
                                 tr_json_fault *ret_fault);
/* The same with a limit on the number of values, since each takes some 200 bytes however short it
 * is; tr_json_parse allows TR_JSON_VALUES_max. */
TR_MUST_USE tr_err tr_json_parse_max(const char *text, size_t size, size_t values_max,
                                     tr_json **ret, tr_json_fault *ret_fault);
void tr_json_free(tr_json *json);
/* From now on each text takes one piece of memory, which spares most of malloc's part in parsing.
 * It sets cJSON's hooks, which are the whole process's: for a program whose only user of cJSON this
 * is, before it has threads or texts. */
void tr_json_own_hooks(void);

const tr_json_value *tr_json_root(const tr_json *json);
tr_json_type tr_json_type_of(const tr_json_value *value);
/* The slice of the source text: `{"a":1.0}` exactly as it was written. */
tr_str tr_json_raw(const tr_json_value *value);
/* A member by exact name, or NULL; also NULL when `object` is NULL or no object, so look-ups chain.
 */
const tr_json_value *tr_json_get(const tr_json_value *object, const char *name);
size_t tr_json_count(const tr_json_value *array_or_object);
const tr_json_value *tr_json_first(const tr_json_value *array_or_object);
const tr_json_value *tr_json_next(const tr_json_value *value);
/* A member's name; "" for an array's element. */
tr_str tr_json_name(const tr_json_value *value);

/* Conversions: `otherwise` when value is NULL or of another type. Strings are unescaped,
 * NUL-terminated, borrowed. */
tr_str tr_json_string(const tr_json_value *value);
double tr_json_number(const tr_json_value *value, double otherwise);
int64_t tr_json_int(const tr_json_value *value,
                    int64_t otherwise); /* exact, no way through double */
bool tr_json_bool(const tr_json_value *value, bool otherwise);

/* Writing: appends to a growing buffer; the first failure (memory, misuse, a string that is not
 * UTF-8) sticks and tr_jsonw_take reports it. Commas and quotes are the writer's business. */
typedef struct tr_jsonw {
    char *text;
    size_t size;
    size_t room;
    uint32_t depth;
    uint64_t objects; /* bit i: what is open at depth i + 1 is an object */
    bool named;       /* a name waits for its value */
    bool need_comma;
    tr_err err;
} tr_jsonw;

void tr_jsonw_init(tr_jsonw *w);
void tr_jsonw_fini(tr_jsonw *w);
void tr_jsonw_open(tr_jsonw *w, char bracket);  /* '{' or '[' */
void tr_jsonw_close(tr_jsonw *w, char bracket); /* '}' or ']' */
void tr_jsonw_name(tr_jsonw *w, const char *name);
void tr_jsonw_name_str(tr_jsonw *w, tr_str name);
void tr_jsonw_str(tr_jsonw *w, tr_str text);
void tr_jsonw_text(tr_jsonw *w, const char *text); /* NULL writes null */
void tr_jsonw_int(tr_jsonw *w, int64_t number);
void tr_jsonw_uint(tr_jsonw *w, uint64_t number);
void tr_jsonw_double(
    tr_jsonw *w, double number); /* shortest that reads back equal; NaN and infinities write null */
void tr_jsonw_bool(tr_jsonw *w, bool value);
void tr_jsonw_null(tr_jsonw *w);
void tr_jsonw_raw(tr_jsonw *w, tr_str json); /* a value as it is; the caller vouches for it */
/* Hands the text (NUL-terminated, to be freed by free()) to the caller, or the first failure; `w`
 * is as after fini. */
TR_MUST_USE tr_err tr_jsonw_take(tr_jsonw *w, char **ret_text, size_t *ret_size);

#endif
