/*
 * Rates in integers. A unit costs 60,000,000 / per_minute µs, which is seldom whole: the remainder
 * is kept in 1 / per_minute µs, so a million small costs add up to exactly what one large one is.
 * Called by the limiter, on its shard.
 */
#include "actors/gcra.h"

#include <stdbool.h>

#include "protocol/assert.h"

#define MINUTE_US 60000000U

void tr_gcra_set(tr_gcra *gcra, uint32_t per_minute, uint32_t burst, uint64_t now_us) {
    if (burst == 0) {
        burst = per_minute / 60 > 0 ? per_minute / 60 : 1;
    }
    bool same = gcra->per_minute == per_minute;
    if (!same && gcra->per_minute > 0 && per_minute > 0 && gcra->paid_us > now_us) {
        double owed = (double)(gcra->paid_us - now_us) * gcra->per_minute / per_minute;
        gcra->paid_us = now_us + (uint64_t)owed + 1;
    }
    if (!same) {
        gcra->paid_rest = 0;
    }
    gcra->per_minute = per_minute;
    gcra->burst = burst;
}

/* The time that `units` cost, downwards, and the rest of it. */
static uint64_t price_us(const tr_gcra *gcra, uint64_t units, uint64_t *ret_rest) {
    TR_ASSERT(units <= UINT64_MAX / MINUTE_US);
    *ret_rest = units * MINUTE_US % gcra->per_minute;
    return units * MINUTE_US / gcra->per_minute;
}

uint64_t tr_gcra_wait_us(const tr_gcra *gcra, uint32_t cost, uint64_t now_us) {
    if (gcra->per_minute == 0 || cost == 0) {
        return 0;
    }
    uint64_t rest;
    uint64_t free_us = price_us(gcra, cost < gcra->burst ? gcra->burst - cost : 0, &rest);
    uint64_t when_us = gcra->paid_us + (gcra->paid_rest > rest ? 1 : 0);
    return when_us > now_us + free_us ? when_us - now_us - free_us : 0;
}

void tr_gcra_take(tr_gcra *gcra, uint64_t cost, uint64_t now_us) {
    if (gcra->per_minute == 0) {
        return;
    }
    if (gcra->paid_us + (gcra->paid_rest > 0 ? 1 : 0) < now_us) {
        gcra->paid_us = now_us;
        gcra->paid_rest = 0;
    }
    uint64_t rest;
    gcra->paid_us += price_us(gcra, cost, &rest);
    gcra->paid_rest += rest;
    if (gcra->paid_rest >= gcra->per_minute) {
        gcra->paid_rest -= gcra->per_minute;
        gcra->paid_us++;
    }
}

/* Never earlier than now: capacity beyond the burst is not saved up. */
static void give_back(tr_gcra *gcra, uint64_t us, uint64_t rest, uint64_t now_us) {
    if (gcra->paid_us <= now_us + us) {
        gcra->paid_us = gcra->paid_us < now_us ? gcra->paid_us : now_us;
        gcra->paid_rest = 0;
        return;
    }
    gcra->paid_us -= us;
    if (gcra->paid_rest < rest) {
        gcra->paid_us--;
        gcra->paid_rest += gcra->per_minute;
    }
    gcra->paid_rest -= rest;
}

void tr_gcra_settle(tr_gcra *gcra, uint64_t taken, uint64_t used, uint64_t now_us) {
    if (gcra->per_minute == 0 || taken == used) {
        return;
    }
    if (used > taken) {
        tr_gcra_take(gcra, used - taken, now_us);
        return;
    }
    uint64_t rest;
    uint64_t us = price_us(gcra, taken - used, &rest);
    give_back(gcra, us, rest, now_us);
}

void tr_gcra_return(tr_gcra *gcra, uint64_t units, uint64_t taken_us, uint64_t now_us) {
    if (gcra->per_minute == 0) {
        return;
    }
    uint64_t rest;
    uint64_t us = price_us(gcra, units, &rest);
    uint64_t gone_us = now_us - taken_us;
    if (us > gone_us) {
        give_back(gcra, us - gone_us, 0, now_us);
    }
}

uint32_t tr_gcra_free(const tr_gcra *gcra, uint64_t now_us) {
    if (gcra->per_minute == 0) {
        return UINT32_MAX;
    }
    uint64_t owed_us = gcra->paid_us > now_us ? gcra->paid_us - now_us : 0;
    double owed = ((double)owed_us * gcra->per_minute + (double)gcra->paid_rest) / MINUTE_US;
    double left = (double)gcra->burst - owed;
    return left > 0 ? (uint32_t)(left + 1e-6) : 0;
}
