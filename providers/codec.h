/*
 * What the codecs of several dialects share: small questions to JSON, pieces, and the members of a
 * request that nobody but the provider knows. Internal to providers/; pure.
 */
#ifndef TR_PROVIDERS_CODEC_H
#define TR_PROVIDERS_CODEC_H

#include "providers/dialect.h"

/* ---- Reading ---- */

bool tri_is(const tr_json_value *value, tr_json_type type);
bool tri_same(tr_str text, const char *word);
/* A whole number that is not negative, else 0. */
uint64_t tri_count(const tr_json_value *object, const char *name);
/* Into a buffer that is still empty, cut at a character. */
void tri_keep(char *to, size_t room, tr_str text);
/* Sets the outcome's sentence and returns `err`. */
tr_err tri_broken(tr_decoding *decoding, tr_err err, const char *why);
/* What an event whose data is no JSON means: nothing when it is the cut end of a stream
 * (`lenient`), a server's words when it is an error, else a broken stream. */
tr_err tri_odd_event(tr_decoding *decoding, bool error, bool lenient, tr_str data);
/* The event's data without blanks at its end. */
tr_str tri_trim(tr_str data);
/* Hands on a text, unless it is empty. */
tr_err tri_emit_text(tr_decoding *decoding, tr_delta_kind kind, uint32_t choice, tr_str text);
/* The start of call number `tool`; then a piece of its arguments, unless it is empty. */
tr_err tri_emit_call(tr_decoding *decoding, uint32_t choice, uint32_t tool, tr_str id, tr_str name);
tr_err tri_emit_args(tr_decoding *decoding, uint32_t choice, uint32_t tool, tr_str text);
/* A field of the provider's own. */
tr_err tri_emit_opaque(tr_decoding *decoding, uint32_t choice, const char *name, tr_str json);
/* A JSON array of numbers as the vector of input `index`. */
tr_err tri_emit_vector(tr_decoding *decoding, const tr_json_value *vector, uint32_t index);
/* The answer of a count request; a server's fault when `tokens` is no whole number. */
tr_err tri_emit_tokens(tr_decoding *decoding, const tr_json_value *tokens);

/* ---- Writing ---- */

/* The members of a raw object (or nothing) whose names are not in the NULL-terminated list. */
void tri_write_extra(tr_jsonw *w, tr_str extra, const char *const *reserved);
void tri_write_members(tr_jsonw *w, const tr_json_value *object, const char *const *reserved);
/* The same for the fields of an assistant's message, without those in which Troupe hands out what
 * only one dialect's answers have: in a request they would be noise to any other. */
void tri_write_answer_members(tr_jsonw *w, const tr_json_value *object,
                              const char *const *reserved);
/* Whether a raw object (or nothing) has a member. */
bool tri_has_member(tr_str object, const char *name);
/* Whether it has one that is true, and one that is this string. */
bool tri_has_true(tr_str object, const char *name);
bool tri_has_word(tr_str object, const char *name, const char *word);
/* Numbers that were given, under a name that the user did not use in `own` (which may be NULL). */
void tri_write_double(tr_jsonw *w, const tr_json_value *own, const char *name, double number);
void tri_write_int(tr_jsonw *w, const tr_json_value *own, const char *name, int64_t number);
/* The request's tools as `tools`, in OpenAI's form, with their own fields. */
void tri_write_tools(tr_jsonw *w, const tr_chat *chat);
/* Whether a schema takes any object at all: the older "JSON mode". */
bool tri_any_object(tr_str schema);

/* TR_ERR_UNSUPPORTED with a sentence for the first option of the request that is asked for and
 * stands in `lacks`: bits of the enum below. */
enum {
    TRI_LACKS_TOP_K = 1 << 0,
    TRI_LACKS_MIN_P = 1 << 1,
    TRI_LACKS_REPEAT_PENALTY = 1 << 2, /* and repeat_last_n */
    TRI_LACKS_GRAMMAR = 1 << 3,
    TRI_LACKS_SEED = 1 << 4,
    TRI_LACKS_PENALTIES = 1 << 5, /* of frequency and presence */
    TRI_LACKS_STOP = 1 << 6,
};
tr_err tri_check_options(const tr_encode *in, uint32_t lacks, char *ret_why, size_t why_size);

#endif
