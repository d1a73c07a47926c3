/*
 * A hedge: a request that may be made twice ("The Tail at Scale", Dean and Barroso, 2013). It
 * stands where a call stands, between a door and the request, and is spoken to in the same way. The
 * first call begins at once. When its first DELTA has not come after the time in which 95 of 100
 * requests of that name had theirs, a second call begins, at the alias's next target if there is
 * one; who sends first serves, and the other is cancelled. The second counts against its target's
 * retry budget: a provider that is slow for everybody is not asked twice by everybody.
 *
 * A call each keeps "one owner a request" true: the hedge holds no gate and no backend.
 */
#ifndef TR_ACTORS_HEDGE_H
#define TR_ACTORS_HEDGE_H

#include "actors/call.h"

/* No second request begins sooner. */
#define TR_HEDGE_US_min 10000U

/* Of a call to its hedge, with the SUBMIT's ref: its answer has begun, though it is held back. */
enum { TR_KIND_BEGUN = 75 };

/* Spawn it with tr_call_args, as tr_call: only after tr_services_enter said TR_OK, which is handed
 * on to the first call. */
extern const tr_behaviour tr_hedge;

#endif
