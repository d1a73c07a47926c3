/*
 * A circuit breaker: whether one target (a model at a provider) is asked at all. Closed, it lets
 * everybody pass; after TR_BREAKER_FAILURES failures in a row it opens, if most of what ended of
 * late failed (a busy target that fails now and then has such rows by chance), and nobody is sent
 * to the target for a while, which doubles each time; then it is half open and lets one probe at a
 * time pass, and closes after TR_BREAKER_SUCCESSES of them (Nygard, Release It!). Failures are
 * those which say that the target is down: a connection, server, time-out or overload error before
 * the first token. A rate limit or a request at fault says nothing of the kind. Pure; one thread.
 */
#ifndef TR_ACTORS_BREAKER_H
#define TR_ACTORS_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/err.h"

#define TR_BREAKER_FAILURES 5
/* Of the average of failures and successes a new one's share, and how soon it fades to none. */
#define TR_BREAKER_LEAN 32
#define TR_BREAKER_FADE_US 5000000U
#define TR_BREAKER_SUCCESSES 2
#define TR_BREAKER_OPEN_MS 1000
#define TR_BREAKER_OPEN_MS_max 60000
/* What those are told who come while a probe is under way. */
#define TR_BREAKER_PROBE_MS 1000

typedef enum tr_breaker_state {
    TR_BREAKER_CLOSED,
    TR_BREAKER_OPEN,
    TR_BREAKER_HALF_OPEN,
    TR_BREAKER_N
} tr_breaker_state;

/* Zeroed, it is closed. */
typedef struct tr_breaker {
    tr_breaker_state state;
    uint32_t failures;  /* in a row */
    uint32_t successes; /* of probes, in a row */
    uint32_t opened;    /* times since it was closed */
    bool probing;
    uint64_t until_us; /* open */
    uint64_t lean_us;  /* when lean_ppm changed last */
    int32_t lean_ppm;  /* above 0: of those that ended of late most failed */
} tr_breaker;

/* What the end of a request says about its target. */
typedef enum tr_verdict { TR_VERDICT_NONE, TR_VERDICT_GOOD, TR_VERDICT_BAD } tr_verdict;

/* `progressed`: a part of the answer had come. */
tr_verdict tr_breaker_verdict(tr_err err, bool progressed);
/* Whether a request may go to the target; *ret_probe then says whether it is a probe, which must be
 * told to tr_breaker_ended. If not, *ret_wait_ms says when to ask again. */
TR_MUST_USE bool tr_breaker_admits(tr_breaker *breaker, uint64_t now_us, bool *ret_probe,
                                   uint32_t *ret_wait_ms);
/* An admitted request has ended. `random` decides how long it opens, if it does. */
void tr_breaker_ended(tr_breaker *breaker, tr_verdict verdict, bool probe, uint64_t now_us,
                      uint64_t random);
/* Its state at that time: one whose time is up is half open. */
tr_breaker_state tr_breaker_state_at(const tr_breaker *breaker, uint64_t now_us);
const char *tr_breaker_state_name(tr_breaker_state state);

#endif
