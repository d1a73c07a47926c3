/* The table of health.h: entries are made as names come, up to a number, then taken from whoever
 * has been quiet longest, well ones before ill ones: to forget an ill target would let everybody at
 * it again. Called by the limiter, on its shard. */
#include "actors/health.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

/* Of the moving average, a new value's share: 1 / AVERAGE. */
#define AVERAGE 5U

static bool is_well(const tr_health_target *target) {
    return target->breaker.state == TR_BREAKER_CLOSED && target->breaker.failures == 0;
}

/* Of those without a reservation: a well one, then the one that was asked longest ago. */
static tr_health_target *least_missed(const tr_health *health) {
    tr_health_target *best = NULL;
    for (uint32_t i = 0; i < health->count; i++) {
        tr_health_target *target = health->targets[i];
        if (target->holders > 0) {
            continue;
        }
        bool better = best == NULL || (is_well(target) && !is_well(best)) ||
                      (is_well(target) == is_well(best) && target->asked_us < best->asked_us);
        best = better ? target : best;
    }
    return best;
}

static tr_health_target *make_room(tr_health *health) {
    if (health->count < TR_HEALTH_TARGETS_max) {
        tr_health_target *made = tr_alloc(sizeof *made);
        if (made != NULL) {
            made->place = health->count;
            health->targets[health->count++] = made;
            return made;
        }
    }
    return least_missed(health);
}

tr_health_target *tr_health_find(tr_health *health, tr_str model, uint64_t now_us) {
    if (model.size == 0 || model.size > TR_NAME_max) {
        return NULL;
    }
    for (uint32_t i = 0; i < health->count; i++) {
        tr_health_target *target = health->targets[i];
        if (strncmp(target->model, model.ptr, model.size) == 0 &&
            target->model[model.size] == '\0') {
            target->asked_us = now_us;
            return target;
        }
    }
    tr_health_target *target = make_room(health);
    if (target != NULL) {
        *target = (tr_health_target){.place = target->place,
                                     .asked_us = now_us,
                                     .learned = {.requests = {.left = -1}, .tokens = {.left = -1}}};
        memcpy(target->model, model.ptr, model.size);
        tr_budget_init(&target->budget, now_us);
    }
    return target;
}

bool tr_health_ended(tr_health_target *target, tr_verdict verdict, bool probe, tr_str why,
                     uint64_t now_us, uint64_t random) {
    if (verdict == TR_VERDICT_BAD) {
        size_t size = tr_utf8_cut(why.ptr, why.size, sizeof target->why - 1);
        memcpy(target->why, why.ptr, size);
        target->why[size] = '\0';
    }
    uint32_t opened = target->breaker.opened;
    uint32_t failures = target->breaker.failures;
    tr_breaker_ended(&target->breaker, verdict, probe, now_us, random);
    bool opens = target->breaker.opened > opened;
    if (opens) {
        target->failed = probe ? target->failed + 1 : failures + 1;
    }
    return opens;
}

void tr_health_first_token(tr_health_target *target, uint32_t ms) {
    uint64_t sum = (uint64_t)target->first_token_ms * (AVERAGE - 1) + ms;
    target->first_token_ms = target->first_token_ms == 0 ? ms : (uint32_t)(sum / AVERAGE);
}

void tr_health_fini(tr_health *health) {
    for (uint32_t i = 0; i < health->count; i++) {
        tr_free(health->targets[i]);
    }
    *health = (tr_health){0};
}
