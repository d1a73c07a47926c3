/*
 * What is known of models: how much they take, how much they write, what they cost. Facts that
 * their vendors publish; what is not known is said so (0, NAN) and never guessed, so that a cost is
 * either right or unknown. The configuration overrides each figure.
 */
#ifndef TR_PROVIDERS_MODELS_H
#define TR_PROVIDERS_MODELS_H

#include <stdbool.h>

#include "protocol/message.h"
#include "protocol/wire.h"

typedef struct tr_model_facts {
    uint32_t context;       /* tokens of prompt and answer; 0 = unknown */
    uint32_t output;        /* tokens of an answer at most; 0 = unknown */
    double in, out, cached; /* US dollars a million tokens; NAN = unknown */
    uint32_t priced_to;     /* longer prompts have another price; 0 = none has */
    /* How the vendor counts: */
    bool cached_apart;    /* cached tokens are not among those that went in */
    bool reasoning_apart; /* thoughts are not among those that came out */
} tr_model_facts;

/* By the provider's kind (a row of the catalog, or "local") and the model's name there, a dated
 * version of it included. Any thread. */
tr_model_facts tr_model_facts_of(const char *kind, tr_str model);
/* Where `own` knows something, it goes before. */
void tr_model_facts_merge(tr_model_facts *facts, const tr_model_facts *own);
/* In dollars; NAN where a figure that it takes is unknown. A cost that the provider told (usage has
 * one) is kept. */
double tr_model_cost(const tr_model_facts *facts, const tr_usage_wire *usage);

#endif
