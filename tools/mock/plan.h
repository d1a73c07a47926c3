/*
 * What the mock does with a request: how many tokens at what interval, and which faults. Written as
 * "tokens=50,interval=20ms,cut=300"; see the table in plan.c, which also prints the help.
 */
#ifndef TR_TOOLS_MOCK_PLAN_H
#define TR_TOOLS_MOCK_PLAN_H

#include <stdbool.h>
#include <stdio.h>

#include "protocol/wire.h"

#define MOCK_NONE UINT64_MAX /* a fault that is not asked for */

typedef struct mock_plan {
    uint64_t tokens, bytes, reasoning, dim;
    uint64_t interval_us, first_us;
    uint64_t status, times, retry_after, retry_after_ms, should_retry;
    uint64_t cut, stall, die, json, error_mid, garbage, slow_read;
    uint64_t nodone, nofinish, nousage, crlf, reset, html, json_error, echo, tools, converse, split;
    uint64_t stamp, told;
} mock_plan;

void mock_plan_init(mock_plan *plan);
/* Adds what `text` says; false and a sentence in `why` (>= 160 bytes) when it cannot be read. */
bool mock_plan_read(mock_plan *plan, tr_str text, char *why, size_t why_size);
/* A time such as 20ms or 1s, in microseconds. */
bool mock_time_read(tr_str text, uint64_t *ret_us);
/* One line a setting. */
void mock_plan_help(FILE *out);

#endif
