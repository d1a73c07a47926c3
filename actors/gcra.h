/*
 * A rate limit: so many units a minute, of which `burst` may go at once. It is the generic cell
 * rate algorithm (ITU-T I.371): one number, the time at which all that went will have been paid
 * for. In any window of w minutes at most burst + w * per_minute units go, and a unit more when the
 * last alone is larger than the burst. Exact for any rate: nothing is lost by rounding. Pure; one
 * thread.
 */
#ifndef TR_ACTORS_GCRA_H
#define TR_ACTORS_GCRA_H

#include <stdint.h>

/* Zeroed, it limits nothing. */
typedef struct tr_gcra {
    uint32_t per_minute; /* 0 = no limit */
    uint32_t burst;      /* >= 1 */
    uint64_t paid_us;    /* when all is paid for, with paid_rest / per_minute µs more */
    uint64_t paid_rest;
} tr_gcra;

/* Sets or changes the rate; what is owed stays owed, in units. `burst` 0: what a second brings, at
 * least 1. */
void tr_gcra_set(tr_gcra *gcra, uint32_t per_minute, uint32_t burst, uint64_t now_us);
/* How long until `cost` units may go; 0 = now. More than the burst: when nothing is owed. */
uint64_t tr_gcra_wait_us(const tr_gcra *gcra, uint32_t cost, uint64_t now_us);
/* `cost` units go now. */
void tr_gcra_take(tr_gcra *gcra, uint64_t cost, uint64_t now_us);
/* Of `taken` units `used` were used: the rest is given back, or more is taken. */
void tr_gcra_settle(tr_gcra *gcra, uint64_t taken, uint64_t used, uint64_t now_us);
/* Units that were taken at `taken_us` and not used. What would have been given back by time since
 * then does not count: so the rate holds in every window, whatever is returned. */
void tr_gcra_return(tr_gcra *gcra, uint64_t units, uint64_t taken_us, uint64_t now_us);
/* What would go at once now; UINT32_MAX without a limit. */
uint32_t tr_gcra_free(const tr_gcra *gcra, uint64_t now_us);

#endif
