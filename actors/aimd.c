/* The arithmetic of aimd.h, in thousandths. Called by the limiter at each SETTLE, on its shard. */
#include "actors/aimd.h"

#include "protocol/assert.h"

#define ONE 1000U
/* Of the moving average a new value's share, and of the usual time's drift upwards. */
#define RECENT 8U
#define DRIFT 256U

uint32_t tr_aimd_slots(const tr_aimd *aimd, uint32_t max) {
    TR_ASSERT(max > 0);
    uint32_t slots = aimd->milli / ONE;
    return aimd->milli == 0 || slots > max ? max : slots;
}

static void cut(tr_aimd *aimd, uint32_t max, uint32_t numerator, uint32_t denominator,
                uint64_t now_us) {
    uint64_t milli = aimd->milli > 0 ? aimd->milli : (uint64_t)max * ONE;
    milli = milli < (uint64_t)max * ONE ? milli : (uint64_t)max * ONE;
    milli = milli * numerator / denominator;
    aimd->milli = milli > ONE ? (uint32_t)milli : ONE;
    aimd->cut_us = now_us;
}

bool tr_pace_is_late(tr_pace *pace, uint64_t first_us) {
    uint32_t us = first_us < UINT32_MAX / 4 ? (uint32_t)first_us : UINT32_MAX / 4;
    if (pace->usual_us == 0) {
        pace->usual_us = pace->recent_us = us;
        return false;
    }
    uint64_t late_us = (uint64_t)pace->usual_us * TR_AIMD_LATE_times + TR_AIMD_LATE_MS * 1000U;
    uint32_t most = late_us < UINT32_MAX / 4 ? (uint32_t)late_us * 2 : UINT32_MAX / 2;
    int64_t felt = us < most ? us : most; /* one that takes for ever says nothing of the others */
    pace->recent_us += (uint32_t)((felt - pace->recent_us) / RECENT);
    pace->usual_us = us < pace->usual_us ? us : pace->usual_us + (us - pace->usual_us) / DRIFT;
    return pace->recent_us > late_us && us > late_us;
}

bool tr_aimd_ended(tr_aimd *aimd, tr_err err, bool late, uint32_t used, uint32_t max,
                   uint64_t began_us, uint64_t now_us) {
    bool told = err == TR_ERR_RATE_LIMIT || err == TR_ERR_OVERLOADED;
    if (told || late) {
        bool fresh = aimd->cut_us == 0 || began_us > aimd->cut_us;
        if (fresh) {
            cut(aimd, max, told ? 1 : 9, told ? 2 : 10, now_us);
        }
        return fresh;
    }
    if (err != TR_OK || aimd->milli == 0) {
        return false;
    }
    uint32_t slots = tr_aimd_slots(aimd, max);
    if (used * 2 > slots) {
        aimd->milli += ONE / slots > 0 ? ONE / slots : 1;
    }
    aimd->milli = aimd->milli < (uint64_t)max * ONE ? aimd->milli : 0;
    return false;
}
