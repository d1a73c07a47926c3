/*
 * Reads what a provider's answer says about its rate limits, in any of the formats that the field
 * uses (tests/unit/providers/test_rates.c lists them). Pure: the wall clock is handed in.
 */
#ifndef TR_PROVIDERS_RATES_H
#define TR_PROVIDERS_RATES_H

#include "protocol/gate.h"

/* `headers` as HEAD has them (http.h): lower-case names, "name: value\n" each. False: they say
 * nothing of what is left, and *ret is not set. A reset that has passed is 0. */
bool tr_rates_read(tr_str headers, int64_t wall_ms, tr_rates *ret);
/* A time span or moment as a header has it, as milliseconds from now: "1m0s", "6ms", "1.5s", RFC
 * 3339 ("2025-03-15T09:38:27Z"), a plain number of seconds, or seconds or milliseconds since 1970.
 * False: it is none of these. */
bool tr_rates_reset(tr_str text, int64_t wall_ms, int64_t *ret_ms);

#endif
