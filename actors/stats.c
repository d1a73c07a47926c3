/* Open addressing over the labels' hashes; a row is claimed by one compare-and-swap and never given
 * up. Numbers are relaxed: each stands by itself, and a lost update of a mean does no harm. */
#include "actors/stats.h"

#include <stdatomic.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

#define ROWS 1024U /* a power of two */
#define PROBES_max 32U
#define FAILED_MS 10000U
#define HALF_LIFE_US 30000000U

typedef struct stats_row {
    _Atomic uint64_t key; /* 0 = free; relaxed: nothing else is published by it */
    _Atomic uint32_t running;
    _Atomic uint32_t first_ms;
    _Atomic uint64_t seen_us; /* when first_ms was last changed */
    _Atomic uint32_t begun;
    _Atomic uint64_t late_us;
} stats_row;

struct tr_stats {
    stats_row rows[ROWS];
};

tr_err tr_stats_new(tr_stats **ret) {
    tr_stats *stats = tr_zalloc(sizeof *stats);
    if (stats == NULL) {
        return TR_ERR_NOMEM;
    }
    *ret = stats;
    return TR_OK;
}

void tr_stats_free(tr_stats *stats) {
    tr_free(stats);
}

/* FNV-1a; never 0. Two labels of one hash would share a row, which is a wrong number, no fault. */
static uint64_t hash(const char *label) {
    uint64_t sum = 0xcbf29ce484222325U;
    for (; *label != '\0'; label++) {
        sum = (sum ^ (unsigned char)*label) * 0x100000001b3U;
    }
    return sum | 1U;
}

uint32_t tr_stats_row(tr_stats *stats, const char *label, bool add) {
    uint64_t key = hash(label);
    for (uint32_t i = 0; i < PROBES_max; i++) {
        uint32_t at = (uint32_t)((key >> 1) + i) & (ROWS - 1);
        uint64_t found = atomic_load_explicit(&stats->rows[at].key, memory_order_relaxed);
        if (found == 0 && !add) {
            return 0;
        }
        if (found == 0 &&
            atomic_compare_exchange_strong_explicit(&stats->rows[at].key, &found, key,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            return at + 1;
        }
        if (found == key) {
            return at + 1;
        }
    }
    return 0;
}

void tr_stats_begin(tr_stats *stats, uint32_t row) {
    TR_ASSERT(row <= ROWS);
    if (row > 0) {
        atomic_fetch_add_explicit(&stats->rows[row - 1].running, 1, memory_order_relaxed);
    }
}

void tr_stats_end(tr_stats *stats, uint32_t row, uint32_t first_ms, bool failed, uint64_t now_us) {
    if (row == 0) {
        return;
    }
    stats_row *r = &stats->rows[row - 1];
    uint32_t before = atomic_fetch_sub_explicit(&r->running, 1, memory_order_relaxed);
    TR_ASSERT(before > 0);
    uint32_t came_ms = first_ms > 0 ? first_ms : FAILED_MS;
    if (first_ms == 0 && !failed) {
        return;
    }
    uint32_t mean = atomic_load_explicit(&r->first_ms, memory_order_relaxed);
    int64_t next = mean == 0 ? came_ms : mean + ((int64_t)came_ms - mean) / 8;
    atomic_store_explicit(&r->first_ms, next > 0 ? (uint32_t)next : 1, memory_order_relaxed);
    atomic_store_explicit(&r->seen_us, now_us, memory_order_relaxed);
}

tr_target_load tr_stats_load(const tr_stats *stats, uint32_t row, uint64_t now_us) {
    if (row == 0) {
        return (tr_target_load){0};
    }
    const stats_row *r = &stats->rows[row - 1];
    uint64_t seen_us = atomic_load_explicit(&r->seen_us, memory_order_relaxed);
    uint64_t halves = now_us > seen_us ? (now_us - seen_us) / HALF_LIFE_US : 0;
    uint32_t mean = atomic_load_explicit(&r->first_ms, memory_order_relaxed);
    return (tr_target_load){.running = atomic_load_explicit(&r->running, memory_order_relaxed),
                            .first_ms = halves < 32 ? mean >> halves : 0};
}

/* The quantile by stochastic approximation (Robbins and Monro, 1951), with steps in proportion: one
 * of twenty that are late raises it by as much as the other nineteen lower it. */
void tr_stats_first_came(tr_stats *stats, uint32_t row, uint64_t us) {
    if (row == 0) {
        return;
    }
    stats_row *r = &stats->rows[row - 1];
    uint32_t begun = atomic_fetch_add_explicit(&r->begun, 1, memory_order_relaxed);
    uint64_t late_us = atomic_load_explicit(&r->late_us, memory_order_relaxed);
    if (begun < TR_STATS_LATE_SEEN_min) {
        late_us = us > late_us ? us : late_us;
    } else {
        late_us = us > late_us ? late_us + late_us * 19 / 200 + 1 : late_us - late_us / 200;
    }
    atomic_store_explicit(&r->late_us, late_us, memory_order_relaxed);
}

uint64_t tr_stats_late_us(const tr_stats *stats, uint32_t row) {
    if (row == 0 || atomic_load_explicit(&stats->rows[row - 1].begun, memory_order_relaxed) <
                        TR_STATS_LATE_SEEN_min) {
        return 0;
    }
    return atomic_load_explicit(&stats->rows[row - 1].late_us, memory_order_relaxed);
}
