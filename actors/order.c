/* A stable sort by one number, or draws without putting back. Called by call, once a request whose
 * alias has several targets. */
#include "actors/order.h"

#include <stdbool.h>

#include "protocol/assert.h"

const char *tr_policy_name(tr_policy policy) {
    switch (policy) {
    case TR_POLICY_ORDER:
        return "order";
    case TR_POLICY_WEIGHT:
        return "weight";
    case TR_POLICY_LEAST_BUSY:
        return "least_busy";
    case TR_POLICY_FASTEST:
        return "fastest";
    }
    return "";
}

static uint32_t number_of(tr_policy policy, const tr_target_load *load) {
    return policy == TR_POLICY_LEAST_BUSY ? load->running : load->first_ms;
}

/* Insertion sort: the lists are short, and equal ones keep their order. */
static void sort(tr_policy policy, const tr_target_load *loads, uint32_t count, uint8_t *order) {
    for (uint32_t i = 1; i < count; i++) {
        uint8_t moved = order[i];
        uint32_t number = number_of(policy, &loads[moved]);
        uint32_t k = i;
        for (; k > 0 && number_of(policy, &loads[order[k - 1]]) > number; k--) {
            order[k] = order[k - 1];
        }
        order[k] = moved;
    }
}

/* One of those from `i` on, in proportion to their weights; the first when they have none. */
static uint32_t draw(const tr_target_load *loads, const uint8_t *order, uint32_t i, uint32_t count,
                     uint64_t random) {
    uint64_t sum = 0;
    for (uint32_t k = i; k < count; k++) {
        sum += loads[order[k]].weight;
    }
    uint64_t at = sum > 0 ? random % sum : 0;
    for (uint32_t k = i; k < count && sum > 0; k++) {
        if (at < loads[order[k]].weight) {
            return k;
        }
        at -= loads[order[k]].weight;
    }
    return i;
}

static void shuffle(const tr_target_load *loads, uint32_t count, uint64_t random, uint8_t *order) {
    for (uint32_t i = 0; i + 1 < count; i++) {
        uint32_t drawn = draw(loads, order, i, count, random >> 8);
        uint8_t chosen = order[drawn];
        for (uint32_t k = drawn; k > i; k--) {
            order[k] = order[k - 1];
        }
        order[i] = chosen;
        random = random * 6364136223846793005U + 1442695040888963407U; /* Knuth's MMIX */
    }
}

void tr_order(tr_policy policy, const tr_target_load *loads, uint32_t count, uint64_t random,
              uint8_t *ret_order) {
    TR_ASSERT(count <= TR_TARGETS_max);
    for (uint32_t i = 0; i < count; i++) {
        ret_order[i] = (uint8_t)i;
    }
    switch (policy) {
    case TR_POLICY_ORDER:
        break;
    case TR_POLICY_WEIGHT:
        shuffle(loads, count, random, ret_order);
        break;
    case TR_POLICY_LEAST_BUSY:
    case TR_POLICY_FASTEST:
        sort(policy, loads, count, ret_order);
        break;
    }
}
