/*
 * The retry budget of a target: however many requests fail there, those that are sent again are at
 * most a fifth of those that were sent for the first time, and ten a second more. Without it a
 * target in trouble gets a multiple of its traffic at the worst moment. Pure; one thread.
 */
#ifndef TR_ACTORS_BUDGET_H
#define TR_ACTORS_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define TR_BUDGET_PERCENT 20
#define TR_BUDGET_PER_SECOND 10
/* What may be saved up: by time alone, and by first attempts. */
#define TR_BUDGET_REST_max 10
#define TR_BUDGET_SAVED_max 100

typedef struct tr_budget {
    uint64_t thousandths; /* of a retry */
    uint64_t counted_us;  /* time is paid until then */
} tr_budget;

void tr_budget_init(tr_budget *budget, uint64_t now_us);
/* A request is sent for the first time. */
void tr_budget_first(tr_budget *budget);
/* Takes one retry; false = there is none left. */
bool tr_budget_take(tr_budget *budget, uint64_t now_us);
/* Gives back one that was taken for nothing. */
void tr_budget_return(tr_budget *budget);
/* Whole retries that are left. */
uint32_t tr_budget_left(const tr_budget *budget, uint64_t now_us);

#endif
