/*
 * One table says what each error allows; the rest is arithmetic. A next target goes before another
 * attempt at the same one: it costs no waiting. Backoff is exponential with full jitter (Brooker,
 * "Exponential Backoff And Jitter", AWS 2015): callers that failed together do not come back
 * together. A hint of the provider is a floor for every provider, with a little jitter above it.
 *
 * Called by call, once a failed attempt.
 */
#include "actors/retry.h"

enum {
    SAME = 1,   /* the same target may do better the next time */
    ADVICE = 2, /* what the server says about that (x-should-retry) goes before SAME */
    NEXT = 4,   /* another target may do better */
    LONGER = 8, /* another target may, if its context is longer */
};

/* What is not here is the request's own fault, or everybody's: it never helps. */
static const uint8_t allows[TR_ERR_N] = {
    [TR_ERR_NOMEM] = SAME | ADVICE | NEXT,
    [TR_ERR_CONTEXT_LENGTH] = LONGER,
    [TR_ERR_NOT_FOUND] = ADVICE | NEXT,
    [TR_ERR_AUTH] = NEXT,
    [TR_ERR_QUOTA] = NEXT,
    [TR_ERR_RATE_LIMIT] = SAME | ADVICE | NEXT,
    [TR_ERR_OVERLOADED] = SAME | ADVICE | NEXT,
    [TR_ERR_TIMEOUT] = SAME | ADVICE | NEXT,
    [TR_ERR_CONNECT] = SAME | ADVICE | NEXT,
    [TR_ERR_SERVER] = SAME | ADVICE | NEXT,
    [TR_ERR_TRUNCATED] = SAME | ADVICE | NEXT,
    [TR_ERR_PROTOCOL] = ADVICE | NEXT,
    [TR_ERR_FULL] = SAME | ADVICE | NEXT,
    [TR_ERR_GONE] = NEXT,
    [TR_ERR_CRASHED] = NEXT, /* resuming has tried already */
    [TR_ERR_IO] = NEXT,
};

/* A whole number from 0 to `max`. */
static uint32_t draw(uint64_t random, uint32_t max) {
    return (uint32_t)(random % ((uint64_t)max + 1));
}

static uint32_t wait_ms(const tr_retry_facts *f) {
    uint32_t most = TR_RETRY_BACKOFF_MS_first;
    for (uint32_t i = 1; i < f->attempts && most < TR_RETRY_BACKOFF_MS_max; i++) {
        most *= 2;
    }
    most = most < TR_RETRY_BACKOFF_MS_max ? most : TR_RETRY_BACKOFF_MS_max;
    if (!f->hinted || f->hint_ms == 0) {
        return draw(f->random, most);
    }
    uint32_t little = f->hint_ms / 10 + 50;
    return f->hint_ms + draw(f->random, little < 1000 ? little : 1000);
}

static bool may_again(const tr_retry_facts *f, uint8_t allowed) {
    bool helps =
        (allowed & ADVICE) != 0 && f->advised != 0 ? f->advised > 0 : (allowed & SAME) != 0;
    bool far = f->hinted && (f->hint_ms > TR_RETRY_HINT_MS_max || f->hint_ms >= f->remaining_ms);
    return helps && !far && !f->refused;
}

tr_retry_choice tr_retry_decide(const tr_retry_facts *f) {
    uint8_t allowed = f->err < TR_ERR_N ? allows[f->err] : 0;
    if (f->begun || f->attempts >= f->attempts_max) {
        return (tr_retry_choice){TR_RETRY_FAIL, 0};
    }
    if (((allowed & NEXT) != 0 && f->next_left) || ((allowed & LONGER) != 0 && f->longer_left)) {
        return (tr_retry_choice){TR_RETRY_NEXT, 0};
    }
    uint32_t after_ms = wait_ms(f);
    if (may_again(f, allowed) && after_ms < f->remaining_ms) {
        return (tr_retry_choice){TR_RETRY_AGAIN, after_ms};
    }
    return (tr_retry_choice){TR_RETRY_FAIL, 0};
}
