/* What a limiter is made of. Everything belongs to its shard's thread. Internal to
 * actors/limiter*.c. */
#ifndef TR_ACTORS_LIMITER_INTERNAL_H
#define TR_ACTORS_LIMITER_INTERNAL_H

#include "actors/aimd.h"
#include "actors/gcra.h"
#include "actors/health.h"
#include "actors/limiter.h"
#include "runtime/line.h"

/* A reservation. */
typedef struct tri_grant {
    tr_holder base; /* first */
    tr_health_target *target;
    uint64_t granted_us;
    uint32_t tokens; /* estimated; reserved when it is granted */
    bool taken;      /* granted: it counts in the rates and in `reserved` */
    bool probe;      /* of a target that is half open */
    bool again; /* it took a retry of its target's budget, which comes back if it is not sent */
} tri_grant;

typedef struct tri_limiter {
    tr_limiter_args args;
    tr_limits_now own; /* args.now, when there is none */
    tr_limit limits;   /* in force */
    tr_line line;      /* of tri_grants */
    tr_gcra requests, tokens;
    tr_learned learned; /* where the provider counts all its models together */
    tr_health health;
    tr_aimd aimd;
    uint64_t reserved; /* tokens of granted requests that are not settled */
    uint64_t timer, timer_due_us;
    uint64_t held_us; /* while it looks at the line: the least that a model is held yet; 0 = none */
} tri_limiter;

/* limiter.c: how many may run now. */
uint32_t tri_limiter_slots(const tri_limiter *limiter);

/* limiter_status.c */
tr_err tri_limiter_tell_status(tr_self *self, const tri_limiter *limiter, const tr_msg *asked);
void tri_limiter_describe(const void *state, char *buf, size_t size);

#endif
