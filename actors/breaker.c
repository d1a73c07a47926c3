/*
 * The three states of breaker.h. Requests that were under way when it opened may still end, either
 * way: while it is open or half open only the probe's end counts, since the others were sent before
 * the target was given its rest. Called by the limiter, on its shard.
 */
#include "actors/breaker.h"

#include "protocol/assert.h"

static const bool may[TR_BREAKER_N][TR_BREAKER_N] = {
    [TR_BREAKER_CLOSED] = {[TR_BREAKER_OPEN] = true},
    [TR_BREAKER_OPEN] = {[TR_BREAKER_HALF_OPEN] = true},
    [TR_BREAKER_HALF_OPEN] = {[TR_BREAKER_OPEN] = true, [TR_BREAKER_CLOSED] = true},
};

static void set_state(tr_breaker *breaker, tr_breaker_state next) {
    TR_ASSERT(may[breaker->state][next]);
    breaker->state = next;
    breaker->failures = breaker->successes = 0;
    breaker->probing = false;
}

const char *tr_breaker_state_name(tr_breaker_state state) {
    static const char *const names[TR_BREAKER_N] = {"closed", "open", "half open"};
    return names[state];
}

tr_breaker_state tr_breaker_state_at(const tr_breaker *breaker, uint64_t now_us) {
    bool rested = breaker->state == TR_BREAKER_OPEN && now_us >= breaker->until_us;
    return rested ? TR_BREAKER_HALF_OPEN : breaker->state;
}

tr_verdict tr_breaker_verdict(tr_err err, bool progressed) {
    if (err == TR_OK) {
        return TR_VERDICT_GOOD;
    }
    if (err == TR_ERR_CONNECT || err == TR_ERR_SERVER || err == TR_ERR_TIMEOUT ||
        err == TR_ERR_OVERLOADED) {
        return progressed ? TR_VERDICT_NONE : TR_VERDICT_BAD;
    }
    if (err == TR_ERR_CANCELLED && progressed) {
        return TR_VERDICT_GOOD; /* it was answering: who asked has left */
    }
    switch (tr_err_class_of(err)) {
    case TR_CLASS_INVALID_REQUEST:
    case TR_CLASS_AUTH:
    case TR_CLASS_QUOTA:
    case TR_CLASS_NOT_FOUND:
        return TR_VERDICT_GOOD; /* it is there and answers */
    case TR_CLASS_OK:
    case TR_CLASS_RATE_LIMIT:
    case TR_CLASS_OVERLOADED:
    case TR_CLASS_TIMEOUT:
    case TR_CLASS_SERVER:
    case TR_CLASS_TRUNCATED:
    case TR_CLASS_CANCELLED:
    case TR_CLASS_NO_DAEMON:
    case TR_CLASS_N:
        break;
    }
    return TR_VERDICT_NONE;
}

bool tr_breaker_admits(tr_breaker *breaker, uint64_t now_us, bool *ret_probe,
                       uint32_t *ret_wait_ms) {
    if (tr_breaker_state_at(breaker, now_us) != breaker->state) {
        set_state(breaker, TR_BREAKER_HALF_OPEN);
    }
    switch (breaker->state) {
    case TR_BREAKER_OPEN:
        *ret_wait_ms = (uint32_t)((breaker->until_us - now_us + 999) / 1000);
        return false;
    case TR_BREAKER_HALF_OPEN:
        if (breaker->probing) {
            *ret_wait_ms = TR_BREAKER_PROBE_MS;
            return false;
        }
        breaker->probing = *ret_probe = true;
        return true;
    case TR_BREAKER_CLOSED:
    case TR_BREAKER_N:
        break;
    }
    *ret_probe = false;
    return true;
}

/* Up to a quarter less than the step, so that not all who know the target ask it together again. */
static void open_it(tr_breaker *breaker, uint64_t now_us, uint64_t random) {
    uint64_t ms = TR_BREAKER_OPEN_MS;
    for (uint32_t i = 0; i < breaker->opened && ms < TR_BREAKER_OPEN_MS_max; i++) {
        ms *= 2;
    }
    ms = ms < TR_BREAKER_OPEN_MS_max ? ms : TR_BREAKER_OPEN_MS_max;
    ms -= random % (ms / 4 + 1);
    set_state(breaker, TR_BREAKER_OPEN);
    breaker->opened++;
    breaker->until_us = now_us + ms * 1000;
}

/* A moving average of failures (half a million) and successes (less that): above 0 most failed. It
 * fades while nothing ends. */
static void lean(tr_breaker *breaker, bool bad, uint64_t now_us) {
    uint64_t halves = (now_us - breaker->lean_us) / TR_BREAKER_FADE_US;
    for (; halves > 0 && breaker->lean_ppm != 0; halves--) {
        breaker->lean_ppm /= 2;
    }
    breaker->lean_us = now_us;
    breaker->lean_ppm += ((bad ? 500000 : -500000) - breaker->lean_ppm) / TR_BREAKER_LEAN;
}

void tr_breaker_ended(tr_breaker *breaker, tr_verdict verdict, bool probe, uint64_t now_us,
                      uint64_t random) {
    if (breaker->state == TR_BREAKER_CLOSED) {
        if (verdict == TR_VERDICT_NONE) {
            return;
        }
        lean(breaker, verdict == TR_VERDICT_BAD, now_us);
        breaker->failures = verdict == TR_VERDICT_BAD ? breaker->failures + 1 : 0;
        if (breaker->failures >= TR_BREAKER_FAILURES && breaker->lean_ppm > 0) {
            open_it(breaker, now_us, random);
        }
        return;
    }
    if (!probe || breaker->state != TR_BREAKER_HALF_OPEN) {
        return;
    }
    TR_ASSERT(breaker->probing);
    breaker->probing = false;
    if (verdict == TR_VERDICT_BAD) {
        open_it(breaker, now_us, random);
    } else if (verdict == TR_VERDICT_GOOD && ++breaker->successes >= TR_BREAKER_SUCCESSES) {
        set_state(breaker, TR_BREAKER_CLOSED);
        breaker->opened = 0;
        breaker->lean_ppm = 0;
    }
}
