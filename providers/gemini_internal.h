/*
 * The parts of the gemini dialect: requests out (gemini.c, gemini_turns.c), answers in
 * (gemini_decode.c). Internal to providers/.
 */
#ifndef TR_PROVIDERS_GEMINI_INTERNAL_H
#define TR_PROVIDERS_GEMINI_INTERNAL_H

#include "providers/dialect.h"

/* What an id begins with that we gave a call, since the server gives none: it never goes back. */
#define TRI_GEMINI_ID "troupe-"

#define TRI_GEMINI_CHOICES_max 128

typedef struct tri_gemini {
    uint32_t tools[TRI_GEMINI_CHOICES_max]; /* calls of each candidate */
    bool saw_answer;                        /* at least one candidate */
    bool worth;                             /* the parts hold what text and calls do not say */
    bool has_parts; /* then `parts` are the first candidate's, as they came */
    tr_jsonw parts;
} tri_gemini;

tr_err tri_gemini_event(tr_decoding *decoding, tr_str type, tr_str data, bool last);
tr_err tri_gemini_whole(tr_decoding *decoding, tr_str body);
tr_err tri_gemini_eof(tr_decoding *decoding, bool cut);
tr_err tri_gemini_refusal(tr_decoding *decoding, tr_str body);
void tri_gemini_fini(tr_decoding *decoding);

/* gemini_turns.c: `systemInstruction` and `contents`, as members of the open object. On an error,
 * `ret_why` says why. */
tr_err tri_gemini_write_turns(tr_jsonw *w, const tr_encode *in, const tr_json_value *own,
                              char *ret_why, size_t why_size);

#endif
