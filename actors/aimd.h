/*
 * Adaptive concurrency: how many requests run at a provider at once, found out by additive
 * increase and multiplicative decrease (Chiu and Jain, 1989). Answers that say "too many" (429,
 * 503, 529) halve the number; first tokens that come much later than they used to lower it by a
 * tenth, since a queue grows somewhere; every success while the number is in use raises it by its
 * own fraction, so by one a round. A decrease is felt by those alone that begin after it: what
 * began before tells of the old number, and lowers it no second time. Pure; one thread.
 */
#ifndef TR_ACTORS_AIMD_H
#define TR_ACTORS_AIMD_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/err.h"

/* A first token counts as late after so many times the usual time, and this much more. */
#define TR_AIMD_LATE_times 2U
#define TR_AIMD_LATE_MS 100U

/* Of one model: when its first tokens come. Zeroed, none has come. */
typedef struct tr_pace {
    uint32_t usual_us;  /* without a queue: the least, drifting up slowly */
    uint32_t recent_us; /* a moving average */
} tr_pace;

/* Zeroed, it has never been cut. */
typedef struct tr_aimd {
    uint32_t milli;  /* the number in thousandths; 0 = as many as there may be */
    uint64_t cut_us; /* when it was lowered last */
} tr_aimd;

/* A first token came after `us`. True: it is late, and so were those before it. */
bool tr_pace_is_late(tr_pace *pace, uint64_t us);

/* How many may run now: 1 to `max`. */
uint32_t tr_aimd_slots(const tr_aimd *aimd, uint32_t max);
/* A request that began at `began_us` ended, while `used` ran, itself among them. True: the number
 * was lowered. */
bool tr_aimd_ended(tr_aimd *aimd, tr_err err, bool late, uint32_t used, uint32_t max,
                   uint64_t began_us, uint64_t now_us);

#endif
