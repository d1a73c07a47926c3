/*
 * What a limiter knows of its provider's models, its targets: whether each is asked at all
 * (breaker.h), how often it may be asked again (budget.h), how many of its requests run and how
 * soon their first tokens come. A bounded table by the model's name: names come from requests, so
 * those that have rested longest are forgotten first. Pure; one thread.
 */
#ifndef TR_ACTORS_HEALTH_H
#define TR_ACTORS_HEALTH_H

#include "actors/aimd.h"
#include "actors/breaker.h"
#include "actors/budget.h"
#include "protocol/limits.h"
#include "protocol/wire.h"

#define TR_HEALTH_TARGETS_max 64

/* A budget as the provider's last answer told it. */
typedef struct tr_learned_budget {
    int64_t left;      /* less what was granted since; -1 = not known */
    uint64_t until_us; /* then all of it is there again */
} tr_learned_budget;

typedef struct tr_learned {
    tr_learned_budget requests, tokens;
} tr_learned;

typedef struct tr_health_target {
    char model[TR_NAME_max + 1];
    uint32_t place;    /* in the table */
    uint64_t asked_us; /* the last time that it was looked for */
    uint32_t holders;  /* reservations that point here: it is not forgotten */
    uint32_t running;  /* of them, those that were granted */
    tr_breaker breaker;
    tr_budget budget;
    tr_pace pace;
    tr_learned learned;      /* where the provider counts by model */
    uint32_t first_token_ms; /* a moving average; 0 = none has come */
    uint32_t failed;         /* in a row, when the breaker opened last */
    char why[256];           /* the last failure's sentence */
} tr_health_target;

/* Zeroed, it is empty. */
typedef struct tr_health {
    tr_health_target *targets[TR_HEALTH_TARGETS_max];
    uint32_t count;
} tr_health;

/* The target of that name, which is made if it is not there. NULL: an empty name, no memory, or all
 * that are known have reservations; such a request goes unwatched. */
tr_health_target *tr_health_find(tr_health *health, tr_str model, uint64_t now_us);
/* A granted request ended. True: by that the breaker opened. `why` is kept with a failure. */
bool tr_health_ended(tr_health_target *target, tr_verdict verdict, bool probe, tr_str why,
                     uint64_t now_us, uint64_t random);
void tr_health_first_token(tr_health_target *target, uint32_t ms);
void tr_health_fini(tr_health *health);

#endif
