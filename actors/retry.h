/*
 * What follows a failed attempt: the same target again after a while, the next target at once, or
 * the failure is the answer. Pure: all that decides is in the facts, the draw of chance too.
 */
#ifndef TR_ACTORS_RETRY_H
#define TR_ACTORS_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/err.h"

#define TR_RETRY_HINT_MS_max 120000U /* who is told to wait longer is told so and not kept */
#define TR_RETRY_BACKOFF_MS_first 500U
#define TR_RETRY_BACKOFF_MS_max 8000U

typedef enum tr_retry_action {
    TR_RETRY_FAIL,
    TR_RETRY_AGAIN, /* the same target, after_ms from now */
    TR_RETRY_NEXT,  /* the next target, at once */
} tr_retry_action;

typedef struct tr_retry_facts {
    tr_err err;
    bool begun;   /* a part of the answer is out */
    bool refused; /* the gate said it: no attempt was made, and asking it again would not help */
    bool hinted;  /* hint_ms was said */
    uint32_t hint_ms;
    int8_t advised;    /* x-should-retry: 1 true, -1 false, 0 not said */
    uint32_t attempts; /* made so far, over all targets */
    uint32_t attempts_max;
    uint32_t remaining_ms; /* of the request's total limit */
    uint64_t random;
    bool next_left;   /* there is another target */
    bool longer_left; /* there is one with a longer context */
} tr_retry_facts;

typedef struct tr_retry_choice {
    tr_retry_action action;
    uint32_t after_ms;
} tr_retry_choice;

tr_retry_choice tr_retry_decide(const tr_retry_facts *facts);

#endif
