/*
 * Memory after a peak. A shard's tables grow with its actors and stay so large, and the C library
 * keeps what was freed; both show in the daemon's resident size for ever. So when three quarters of
 * a peak's actors have ended, the shard waits until what they left in other threads and in doors
 * has gone as well, cuts its tables to what is in use, drops the messages that its thread kept and
 * trims malloc. A shard that had no peak sets no time, so one at rest sleeps.
 *
 * Called by the shard's step and where actors end, on the shard's thread.
 */
#include "runtime/cell.h"
#include "runtime/memory.h"

#define PEAK_least 64U /* actors that have ended; fewer are not worth the trim */
#define WAIT_us 500000U

static bool has_ebbed(const tr_shard *shard) {
    return shard->peak - shard->actors >= PEAK_least && shard->actors <= shard->peak / 4;
}

void tri_ebb_note(tr_shard *shard) {
    if (shard->ebb_us == 0 && has_ebbed(shard) && !shard->closing) {
        shard->ebb_us = shard->now_us + WAIT_us;
    }
}

void tr_trim(tr_self *self) {
    tr_shard *shard = self->shard;
    shard->trims = true;
    shard->ebb_us = shard->ebb_us != 0 ? shard->ebb_us : shard->now_us + WAIT_us;
}

void tri_ebb(tr_shard *shard) {
    if (tr_shard_has_work(shard)) {
        shard->ebb_us = shard->now_us + WAIT_us; /* doors are closing what actors left */
        return;
    }
    shard->ebb_us = 0;
    if (!has_ebbed(shard) && !shard->trims) {
        return; /* the next one to end sets the time anew */
    }
    shard->trims = false;
    shard->peak = shard->actors;
    tri_pages_shrink(shard);
    tri_timers_shrink(&shard->timers);
    tri_ties_shrink(&shard->ties);
    tri_watches_shrink(shard);
    tr_msg_forget_kept();
    tri_memory_trim();
}
