/*
 * libllama's own last samplers keep a random generator inside that cannot be read or set, and its
 * penalties keep a ring: neither survives the death of a worker. Here a token's random number is a
 * function of (seed, index), penalties look at the token array itself, and only the grammar has
 * state, which accepting the same tokens restores. The grammar is asked about the one token that
 * won; only when it refuses are all candidates put to it (the way llama.cpp's own sampling does
 * it, since a grammar over a whole vocabulary is slow). The same random number serves both tries.
 * Called by the engine, on its thread.
 */
#include "inference/engine_sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inference/engine_grammar.h"
#include "inference/engine_internal.h"
#include "inference/engine_schema.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

/* What libllama's own programs sample with when nothing is said. */
static const double temperature_default = 0.8, top_p_default = 0.95, min_p_default = 0.05;
enum { top_k_default = 40, window_default = 64, grammar_depth_max = 200 };
static const double grammar_s_max = 1; /* of one token: all others wait for it */

/* A number in [0, 1): the finisher of SplitMix64 over both (Steele, Lea, Flood: "Fast splittable
 * pseudorandom number generators", 2014). */
static double random_of(uint64_t seed, uint64_t index) {
    uint64_t z = seed * 0x9e3779b97f4a7c15ULL + (index + 1) * 0xd1b54a32d192ed03ULL;
    for (int round = 0; round < 2; round++) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        z ^= z >> 31;
    }
    return (double)(z >> 11) * 0x1p-53;
}

/* How deep the parentheses of a grammar nest: libllama's parser recurses, and a stack that runs
 * over would take the process with it. */
static size_t grammar_depth(tr_str text) {
    size_t depth = 0, deepest = 0;
    char inside = 0; /* the character that ends a literal or class */
    for (size_t i = 0; i < text.size; i++) {
        char c = text.ptr[i];
        if (inside != 0) {
            if (c == '\\') {
                i++;
            } else if (c == inside) {
                inside = 0;
            }
        } else if (c == '"') {
            inside = '"';
        } else if (c == '[') {
            inside = ']';
        } else if (c == '#') {
            inside = '\n';
        } else if (c == '(') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if (c == ')' && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

static tr_err init_grammar(tri_sampler *sampler, tr_str text, char *ret_why) {
    if (text.size > TR_ENGINE_GRAMMAR_max || grammar_depth(text) > grammar_depth_max) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "grammar: at most %d bytes and %d nested parentheses are allowed",
                 TR_ENGINE_GRAMMAR_max, grammar_depth_max);
        return TR_ERR_INVALID;
    }
    const char *why = NULL;
    tri_grammar_verdict verdict = tri_grammar_check(text, &why);
    if (verdict == TRI_GRAMMAR_NOMEM) {
        return TR_ERR_NOMEM;
    }
    if (verdict == TRI_GRAMMAR_EXPLOSIVE) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "grammar: %s", why);
        return TR_ERR_INVALID;
    }
    tri_engine_log_clear();
    sampler->grammar = llama_sampler_init_grammar(sampler->vocab, text.ptr, "root");
    if (sampler->grammar == NULL || verdict != TRI_GRAMMAR_FINE) {
        char logged[400];
        tri_engine_log_first(logged, sizeof logged);
        snprintf(
            ret_why, TR_ENGINE_WHY_size,
            "grammar: it is no GBNF with a rule named root%s%s (llama.cpp's grammars/README.md "
            "describes the language)",
            logged[0] != '\0' ? ": " : "", logged);
        return TR_ERR_INVALID;
    }
    return TR_OK;
}

static tr_err init_schema(tri_sampler *sampler, const tr_chat *chat, char *ret_why) {
    if (chat->grammar.ptr != NULL) {
        snprintf(ret_why, TR_ENGINE_WHY_size, "grammar and response_format: give one of them");
        return TR_ERR_INVALID;
    }
    char *text = NULL;
    size_t size = 0;
    tr_err err = tri_schema_to_grammar(chat->schema, &text, &size, ret_why);
    if (err != TR_OK) {
        return err;
    }
    err = init_grammar(sampler, (tr_str){text, size}, ret_why);
    free(text);
    if (err == TR_ERR_INVALID) {
        snprintf(ret_why, TR_ENGINE_WHY_size,
                 "response_format: this schema is too large for a local model: let it have fewer "
                 "alternatives, or fewer and shorter lists");
    }
    return err;
}

static bool chain_add(struct llama_sampler *chain, struct llama_sampler *sampler) {
    if (sampler != NULL) {
        llama_sampler_chain_add(chain, sampler);
    }
    return sampler != NULL;
}

tr_err tri_sampler_init(tri_sampler *sampler, const struct llama_vocab *vocab, const tr_chat *chat,
                        uint32_t seed, char *ret_why) {
    double temperature = isnan(chat->temperature) ? temperature_default : chat->temperature;
    double top_p = isnan(chat->top_p) ? top_p_default : chat->top_p;
    double min_p = isnan(chat->min_p) ? min_p_default : chat->min_p;
    int64_t top_k = chat->top_k < 0 ? top_k_default : chat->top_k;
    int64_t vocab_size = llama_vocab_n_tokens(vocab);
    *sampler = (tri_sampler){
        .vocab = vocab,
        .greedy = temperature <= 0,
        .seed = chat->seed >= 0 ? (uint64_t)chat->seed : seed,
        .repeat = isnan(chat->repeat_penalty) ? 1.0F : (float)chat->repeat_penalty,
        .frequency = isnan(chat->frequency_penalty) ? 0.0F : (float)chat->frequency_penalty,
        .presence = isnan(chat->presence_penalty) ? 0.0F : (float)chat->presence_penalty,
        .window = chat->repeat_last_n < 0 ? window_default : (size_t)chat->repeat_last_n,
    };
    if (sampler->repeat <= 0) {
        sampler->repeat = 1.0F; /* as libllama: it divides by it */
    }
    if (!sampler->greedy) {
        struct llama_sampler *chain =
            llama_sampler_chain_init(llama_sampler_chain_default_params());
        sampler->chain = chain;
        /* A top_k of 0 means all; the rest sorts them then. */
        int32_t k = (int32_t)(top_k == 0 || top_k > vocab_size ? vocab_size : top_k);
        if (chain == NULL || !chain_add(chain, llama_sampler_init_top_k(k)) ||
            (top_p < 1 && !chain_add(chain, llama_sampler_init_top_p((float)top_p, 1))) ||
            (min_p > 0 && !chain_add(chain, llama_sampler_init_min_p((float)min_p, 1))) ||
            !chain_add(chain, llama_sampler_init_temp((float)temperature))) {
            return TR_ERR_NOMEM;
        }
    }
    if (chat->schema.ptr != NULL) {
        return init_schema(sampler, chat, ret_why);
    }
    return chat->grammar.ptr != NULL ? init_grammar(sampler, chat->grammar, ret_why) : TR_OK;
}

void tri_sampler_fini(tri_sampler *sampler) {
    if (sampler->chain != NULL) {
        llama_sampler_free(sampler->chain);
    }
    if (sampler->grammar != NULL) {
        llama_sampler_free(sampler->grammar);
    }
    *sampler = (tri_sampler){0};
}

static bool penalizes(const tri_sampler *sampler) {
    return sampler->window > 0 &&
           (sampler->repeat != 1.0F || sampler->frequency != 0.0F || sampler->presence != 0.0F);
}

/* As libllama's penalties: each token of the window once, with its count. */
static void penalize(const tri_sampler *sampler, const tri_sampler_scratch *scratch,
                     const llama_token *tokens, size_t count) {
    size_t from = count > sampler->window ? count - sampler->window : 0;
    for (size_t i = from; i < count; i++) {
        scratch->times[tokens[i]]++;
    }
    for (size_t i = from; i < count; i++) {
        uint32_t times = scratch->times[tokens[i]];
        if (times == 0) {
            continue; /* done where it stood first */
        }
        scratch->times[tokens[i]] = 0;
        float *logit = &scratch->candidates[tokens[i]].logit;
        *logit = *logit <= 0 ? *logit * sampler->repeat : *logit / sampler->repeat;
        *logit -= (float)times * sampler->frequency + sampler->presence;
    }
}

static llama_token best_of(const llama_token_data *candidates, size_t size) {
    size_t best = 0;
    for (size_t i = 1; i < size; i++) {
        if (candidates[i].logit > candidates[best].logit) {
            best = i;
        }
    }
    return candidates[best].id;
}

/* Draws by the softmax of the logits, in the order in which the candidates stand. */
static llama_token draw(const llama_token_data_array *array, double random) {
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < array->size; i++) {
        max = array->data[i].logit > max ? array->data[i].logit : max;
    }
    for (size_t i = 0; i < array->size; i++) {
        sum += exp((double)array->data[i].logit - max);
    }
    double left = random * sum;
    for (size_t i = 0; i < array->size; i++) {
        left -= exp((double)array->data[i].logit - max);
        if (left < 0) {
            return array->data[i].id;
        }
    }
    return best_of(array->data, array->size); /* rounding ate the last crumb */
}

/* The thread's own time, which a busy machine does not stretch. */
static double cpu_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool grammar_allows(const tri_sampler *sampler, llama_token token) {
    llama_token_data one = {.id = token, .logit = 1.0F, .p = 0};
    llama_token_data_array array = {.data = &one, .size = 1, .selected = -1, .sorted = false};
    llama_sampler_apply(sampler->grammar, &array);
    return one.logit != -INFINITY;
}

static tr_err pick_from_all(const tri_sampler *sampler, tri_sampler_scratch *scratch,
                            const float *logits, const llama_token *tokens, size_t count,
                            double random, bool by_grammar, llama_token *ret) {
    for (size_t i = 0; i < scratch->size; i++) {
        scratch->candidates[i] =
            (llama_token_data){.id = (llama_token)i, .logit = logits[i], .p = 0};
    }
    if (penalizes(sampler)) {
        penalize(sampler, scratch, tokens, count);
    }
    llama_token_data_array array = {
        .data = scratch->candidates, .size = scratch->size, .selected = -1, .sorted = false};
    if (by_grammar) {
        double before = cpu_s();
        llama_sampler_apply(sampler->grammar, &array);
        if (cpu_s() - before > grammar_s_max) {
            return TR_ERR_TOO_LARGE;
        }
    }
    llama_token best = best_of(array.data, array.size);
    if (array.data[best].logit == -INFINITY) {
        return TR_ERR_SERVER;
    }
    if (sampler->greedy) {
        *ret = best;
        return TR_OK;
    }
    llama_sampler_apply(sampler->chain, &array);
    *ret = draw(&array, random);
    return TR_OK;
}

tr_err tri_sampler_pick(const tri_sampler *sampler, tri_sampler_scratch *scratch,
                        const float *logits, const llama_token *tokens, size_t count, size_t index,
                        llama_token *ret) {
    double random = sampler->greedy ? 0 : random_of(sampler->seed, index);
    if (sampler->greedy && !penalizes(sampler)) {
        size_t best = 0;
        for (size_t i = 1; i < scratch->size; i++) {
            best = logits[i] > logits[best] ? i : best;
        }
        *ret = (llama_token)best;
    } else {
        tr_err err = pick_from_all(sampler, scratch, logits, tokens, count, random, false, ret);
        if (err != TR_OK) {
            return err;
        }
    }
    if (sampler->grammar == NULL || grammar_allows(sampler, *ret)) {
        return TR_OK;
    }
    return pick_from_all(sampler, scratch, logits, tokens, count, random, true, ret);
}

tr_err tri_sampler_accept(tri_sampler *sampler, llama_token token) {
    if (sampler->grammar == NULL) {
        return TR_OK;
    }
    double before = cpu_s();
    /* Accepting what it does not allow throws inside libllama. */
    if (!grammar_allows(sampler, token)) {
        return TR_ERR_INVALID;
    }
    llama_sampler_accept(sampler->grammar, token);
    return cpu_s() - before > grammar_s_max ? TR_ERR_TOO_LARGE : TR_OK;
}
