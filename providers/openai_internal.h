/*
 * The two halves of the openai dialect: requests out (openai.c), answers in (openai_decode.c).
 * Internal to providers/.
 */
#ifndef TR_PROVIDERS_OPENAI_INTERNAL_H
#define TR_PROVIDERS_OPENAI_INTERNAL_H

#include "providers/dialect.h"

/* A tool call that has begun. */
typedef struct tri_openai_call {
    uint32_t choice;
    uint32_t tool; /* its number in its choice's answer */
    int64_t index; /* as the server numbers it; -1 = it does not */
    char *id;      /* "" when the server gave none */
    char *name;
    uint32_t round; /* the chunk that began it */
} tri_openai_call;

typedef struct tri_openai {
    tri_openai_call *calls;
    uint32_t call_count;
    uint32_t call_room;
    uint32_t round;   /* chunks so far */
    bool saw_choices; /* at least one chunk was an answer's */
    /* Bits of choices: they have begun, they have a finish_reason. */
    uint64_t begun[2], finished[2];
} tri_openai;

tr_err tri_openai_event(tr_decoding *decoding, tr_str type, tr_str data, bool last);
tr_err tri_openai_whole(tr_decoding *decoding, tr_str body);
tr_err tri_openai_eof(tr_decoding *decoding, bool cut);
tr_err tri_openai_refusal(tr_decoding *decoding, tr_str body);
void tri_openai_fini(tr_decoding *decoding);
/* openai_inquire.c */
tr_err tri_openai_inquire(const tr_encode *in, tr_encoded *ret, char *ret_why, size_t why_size);

/* openai_error.c: if `root` is an error in any of the shapes that servers use, fills the outcome's
 * message and returns its code; else TR_OK. `certain`: an answer of this status can be nothing
 * else. */
tr_err tri_openai_error(tr_decoding *decoding, const tr_json_value *root, bool certain);

#endif
