/*
 * The two halves of the responses dialect: requests out (responses.c), answers in
 * (responses_decode.c). Internal to providers/.
 */
#ifndef TR_PROVIDERS_RESPONSES_INTERNAL_H
#define TR_PROVIDERS_RESPONSES_INTERNAL_H

#include "providers/dialect.h"

/* An item of the answer's output, by its index there. */
typedef struct tri_responses_item {
    int64_t index;
    uint32_t tool; /* of a function call */
    bool started;  /* its TOOL_START is out */
    bool said;     /* some of its text or arguments came in deltas */
    bool thought;  /* the same of its reasoning */
    bool finished;
} tri_responses_item;

typedef struct tri_responses {
    tri_responses_item *items;
    uint32_t item_count, item_room;
    uint32_t tools;
    bool worth;      /* the output holds what text and calls do not say */
    bool has_output; /* then `output` are the items that are done, as they came */
    tr_jsonw output;
    char *refusal; /* the text of a refusal, collected */
    size_t refusal_size, refusal_room;
} tri_responses;

tr_err tri_responses_event(tr_decoding *decoding, tr_str type, tr_str data, bool last);
tr_err tri_responses_whole(tr_decoding *decoding, tr_str body);
tr_err tri_responses_eof(tr_decoding *decoding, bool cut);
tr_err tri_responses_refusal(tr_decoding *decoding, tr_str body);
void tri_responses_fini(tr_decoding *decoding);

#endif
