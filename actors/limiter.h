/*
 * The limiter: the gate of one provider (protocol/gate.h), that is of one key's budget. At most
 * `at_once` of its requests run; they start at `rpm` a minute and with `tpm` tokens a minute, as
 * far as those are limited, and never sooner than the provider's own headers allow. The others wait
 * in line (runtime/line.h): by priority, then one client after the other; beyond `waiting_max` they
 * are refused, as are those whose target does not answer (health.h). A waiter whose deadline has
 * passed is dropped. An adaptive one grants fewer than `at_once` while that many are too many for
 * the provider (aimd.h).
 */
#ifndef TR_ACTORS_LIMITER_H
#define TR_ACTORS_LIMITER_H

#include <stdatomic.h>

#include "protocol/gate.h"
#include "protocol/limits.h"
#include "runtime/actor.h"

#define TR_LIMITER_WAITING_max 8192
/* Who would have to wait longer for the provider's limits to be reset is refused. */
#define TR_LIMITER_HOLD_MS_max 120000U
/* What one request may reserve, or be charged for: larger than any model's context. */
#define TR_LIMITER_TOKENS_max (1U << 24)
/* In a refusal: what follows it is the target's last failure. */
#define TR_LIMITER_last ", the last time with: "

/* Limits that may change while it runs. Each a number by itself: relaxed. Only a limiter's LIMIT
 * and tr_company_set_limit write them. */
typedef struct tr_limits_now {
    _Atomic uint32_t at_once, rpm, tpm, burst, adaptive;
} tr_limits_now;

typedef struct tr_limiter_args {
    char provider[TR_ACTOR_NAME_max - 15]; /* backends are "provider:<provider>:<shard>" */
    uint32_t at_once;                      /* >= 1 */
    uint32_t rpm, tpm, burst, adaptive;    /* 0: tr_limit's */
    uint32_t waiting_max;
    /* Where the four stand now, so that a limiter that is started again finds them; NULL = they are
     * its own. Lives as long as the limiter's supervisor. */
    tr_limits_now *now;
} tr_limiter_args;

/* To a limiter: what is at `now` may have changed. */
enum { TR_KIND_LIMIT_CHANGED = 73 };

/* Spawn it with tr_limiter_args, registered as "limiter:<provider>". */
extern const tr_behaviour tr_limiter;

#endif
