/*
 * One sequence's sampler: penalties, grammar, top-k, top-p, min-p, temperature, and a last step
 * whose random number for token i is a function of (seed, i). Its state is nothing but the tokens
 * accepted so far, so that it is rebuilt by accepting them again.
 */
#ifndef TR_INFERENCE_ENGINE_SAMPLE_H
#define TR_INFERENCE_ENGINE_SAMPLE_H

#include <llama.h>

#include "protocol/chat.h"

typedef struct tri_sampler_scratch {
    llama_token_data *candidates; /* one a token of the vocabulary */
    uint32_t *times;              /* as many, 0 between two picks */
    size_t size;
} tri_sampler_scratch;

typedef struct tri_sampler {
    const struct llama_vocab *vocab;
    bool greedy;
    uint64_t seed;
    float repeat, frequency, presence; /* penalties; 1, 0, 0 = none */
    size_t window;                     /* how many of the last tokens are penalized */
    struct llama_sampler *chain;       /* of a sampler that is not greedy */
    struct llama_sampler *grammar;     /* NULL = none */
} tri_sampler;

/* On TR_ERR_INVALID `ret_why` (>= TR_ENGINE_WHY_size) says what is wrong with the grammar. */
tr_err tri_sampler_init(tri_sampler *sampler, const struct llama_vocab *vocab, const tr_chat *chat,
                        uint32_t seed, char *ret_why);
void tri_sampler_fini(tri_sampler *sampler);

/* Token number `index` of the answer, out of `logits`; `tokens` are all before it, the prompt's
 * too. TR_ERR_SERVER: the grammar allows none. TR_ERR_TOO_LARGE: it took too long to say. */
tr_err tri_sampler_pick(const tri_sampler *sampler, tri_sampler_scratch *scratch,
                        const float *logits, const llama_token *tokens, size_t count, size_t index,
                        llama_token *ret);
/* Tells the grammar of a token of the answer. TR_ERR_INVALID: it does not allow it.
 * TR_ERR_TOO_LARGE: it took too long to say. */
tr_err tri_sampler_accept(tri_sampler *sampler, llama_token token);

#endif
