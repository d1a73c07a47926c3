/*
 * What aliases choose by: of each target how many requests run now and how soon its first token
 * comes. A table by the target's label, shared by all shards without a lock. Only targets of
 * aliases get a row, so that names from outside cannot fill it. Any thread.
 */
#ifndef TR_ACTORS_STATS_H
#define TR_ACTORS_STATS_H

#include <stdbool.h>

#include "actors/order.h"
#include "protocol/err.h"

typedef struct tr_stats tr_stats;

#define TR_STATS_LATE_SEEN_min 20U

TR_MUST_USE tr_err tr_stats_new(tr_stats **ret);
void tr_stats_free(tr_stats *stats); /* NULL is fine */

/* The row of `label`, made if it is not there and `add`; 0 = none, and nothing is counted. */
uint32_t tr_stats_row(tr_stats *stats, const char *label, bool add);
/* An attempt begins; it ends by one tr_stats_end. */
void tr_stats_begin(tr_stats *stats, uint32_t row);
/* `first_ms` 0: no token came. What failed without one counts as slow, so that a target that fails
 * fast is not taken for a fast one. */
void tr_stats_end(tr_stats *stats, uint32_t row, uint32_t first_ms, bool failed, uint64_t now_us);
/* An answer began after `us`; also those that count in no other way. */
void tr_stats_first_came(tr_stats *stats, uint32_t row, uint64_t us);
/* The time in which 95 of 100 answers begin; 0 = not known, since fewer than
 * TR_STATS_LATE_SEEN_min began. */
uint64_t tr_stats_late_us(const tr_stats *stats, uint32_t row);
/* With weight 0. An old mean fades: who was slow once is tried again some time. */
tr_target_load tr_stats_load(const tr_stats *stats, uint32_t row, uint64_t now_us);

#endif
