/*
 * Slots: the KV cache's streams, one a running sequence. A free slot keeps what its last sequence
 * left, and the next request goes where most of its prompt is already computed; a conversation's
 * next turn costs only its new tokens then. When another slot has more of it (the system prompt
 * that all share), that stream is copied: whole, then cut, since libllama copies parts of a stream
 * only within one (an assertion of its ends the process otherwise). Called by the engine.
 */
#include "inference/engine_internal.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

enum { share_tokens_min = 32 }; /* fewer are computed as fast as a stream is copied */

static size_t common_prefix(const llama_token *a, size_t a_count, const llama_token *b,
                            size_t b_count) {
    size_t n = 0;
    while (n < a_count && n < b_count && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* How much of `seq` the slot's cache begins with. The last token is always computed anew: its
 * logits are wanted. */
static size_t prefix_in(const tri_slot *slot, const tri_seq *seq) {
    size_t n = slot->seq != NULL
                   ? common_prefix(slot->seq->tokens, slot->seq->fed, seq->tokens, seq->count)
                   : common_prefix(slot->cached, slot->cached_count, seq->tokens, seq->count);
    return n < seq->count ? n : seq->count - 1;
}

/* Cuts the stream after `keep` tokens; returns how many are left. */
static size_t cut(tr_engine *engine, int32_t slot, size_t keep) {
    llama_memory_t memory = llama_get_memory(engine->context);
    if (keep > 0 && engine->can_trim && llama_memory_seq_rm(memory, slot, (llama_pos)keep, -1)) {
        return keep;
    }
    llama_memory_seq_rm(memory, slot, -1, -1);
    return 0;
}

bool tri_slot_assign(tr_engine *engine, tri_seq *seq) {
    int32_t best = -1;
    size_t best_prefix = 0;
    for (uint32_t i = 0; i < engine->sequences; i++) {
        const tri_slot *slot = &engine->slots[i];
        if (slot->seq != NULL) {
            continue;
        }
        size_t prefix = prefix_in(slot, seq);
        if (best < 0 || prefix > best_prefix ||
            (prefix == best_prefix && slot->used_us < engine->slots[best].used_us)) {
            best = (int32_t)i;
            best_prefix = prefix;
        }
    }
    if (best < 0) {
        return false;
    }
    tri_slot *slot = &engine->slots[best];
    seq->slot = best;
    seq->fed = cut(engine, best, best_prefix);
    seq->state = TRI_SEQ_FEEDING;
    tr_free(slot->cached);
    *slot = (tri_slot){.seq = seq};
    return true;
}

void tri_slot_share(tr_engine *engine, tri_seq *seq) {
    int32_t best = -1;
    size_t best_prefix = seq->fed + share_tokens_min - 1;
    for (uint32_t i = 0; i < engine->sequences && engine->can_trim; i++) {
        if ((int32_t)i != seq->slot) {
            size_t prefix = prefix_in(&engine->slots[i], seq);
            if (prefix > best_prefix) {
                best = (int32_t)i;
                best_prefix = prefix;
            }
        }
    }
    if (best >= 0) {
        llama_memory_t memory = llama_get_memory(engine->context);
        llama_memory_seq_rm(memory, seq->slot, -1, -1);
        llama_memory_seq_cp(memory, best, seq->slot, -1, -1);
        seq->fed = cut(engine, seq->slot, best_prefix);
    }
    seq->cached = seq->fed < seq->prompt_count ? seq->fed : seq->prompt_count;
}

void tri_slot_release(tr_engine *engine, tri_seq *seq, bool spoilt) {
    if (seq->slot < 0) {
        return;
    }
    tri_slot *slot = &engine->slots[seq->slot];
    TR_ASSERT(slot->seq == seq);
    *slot = (tri_slot){.used_us = llama_time_us()};
    if (spoilt) {
        cut(engine, seq->slot, 0);
    } else {
        slot->cached = seq->tokens;
        slot->cached_count = seq->fed;
        seq->tokens = NULL;
        seq->count = 0;
    }
    seq->slot = -1;
}
