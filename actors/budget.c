/* A bucket with two inflows: time, which fills it only a little, and first attempts, which fill it
 * further. Called by the limiter, on its shard. */
#include "actors/budget.h"

#define RETRY 1000U

void tr_budget_init(tr_budget *budget, uint64_t now_us) {
    *budget =
        (tr_budget){.thousandths = (uint64_t)TR_BUDGET_REST_max * RETRY, .counted_us = now_us};
}

static uint64_t at(const tr_budget *budget, uint64_t now_us) {
    const uint64_t rest_max = (uint64_t)TR_BUDGET_REST_max * RETRY;
    uint64_t gone_ms = (now_us - budget->counted_us) / 1000;
    if (budget->thousandths >= rest_max) {
        return budget->thousandths;
    }
    uint64_t missing = rest_max - budget->thousandths;
    bool full = gone_ms >= missing / TR_BUDGET_PER_SECOND + 1;
    return full ? rest_max : budget->thousandths + gone_ms * TR_BUDGET_PER_SECOND;
}

void tr_budget_first(tr_budget *budget) {
    const uint64_t saved_max = (uint64_t)TR_BUDGET_SAVED_max * RETRY;
    budget->thousandths += RETRY * TR_BUDGET_PERCENT / 100;
    budget->thousandths = budget->thousandths < saved_max ? budget->thousandths : saved_max;
}

bool tr_budget_take(tr_budget *budget, uint64_t now_us) {
    budget->thousandths = at(budget, now_us);
    /* What is less than a millisecond stays unpaid, for the next time. */
    budget->counted_us += (now_us - budget->counted_us) / 1000 * 1000;
    if (budget->thousandths < RETRY) {
        return false;
    }
    budget->thousandths -= RETRY;
    return true;
}

void tr_budget_return(tr_budget *budget) {
    const uint64_t saved_max = (uint64_t)TR_BUDGET_SAVED_max * RETRY;
    budget->thousandths += RETRY;
    budget->thousandths = budget->thousandths < saved_max ? budget->thousandths : saved_max;
}

uint32_t tr_budget_left(const tr_budget *budget, uint64_t now_us) {
    return (uint32_t)(at(budget, now_us) / RETRY);
}
