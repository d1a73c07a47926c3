/*
 * In which order an alias's targets are tried: by its list, by chance in proportion to weights, the
 * one with the fewest running requests first, or the one whose first token comes soonest. Pure.
 */
#ifndef TR_ACTORS_ORDER_H
#define TR_ACTORS_ORDER_H

#include <stdint.h>

#include "protocol/limits.h"

typedef enum tr_policy {
    TR_POLICY_ORDER,
    TR_POLICY_WEIGHT,
    TR_POLICY_LEAST_BUSY,
    TR_POLICY_FASTEST,
} tr_policy;

/* What is known of a target. */
typedef struct tr_target_load {
    uint32_t weight;   /* 0 = only after all those that have one */
    uint32_t running;  /* requests, now */
    uint32_t first_ms; /* mean time to the first token; 0 = unknown, and worth a try */
} tr_target_load;

/* As the configuration writes it. */
const char *tr_policy_name(tr_policy policy);

/* Writes the `count` (≤ TR_TARGETS_max) places of `loads` in the order to try; equal ones stay in
 * the list's order. */
void tr_order(tr_policy policy, const tr_target_load *loads, uint32_t count, uint64_t random,
              uint8_t *ret_order);

#endif
