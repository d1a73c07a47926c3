/*
 * The table of models, and the arithmetic of a request's cost. A row is a name as its vendor
 * documents it; dated and "latest" versions of it are the same model. Prices are those of the
 * standard tier, without batch discounts. A model that is missing has no figures, however much its
 * name looks like another's: a guess would be taken for a bill.
 *
 * Looked up when a request is routed, on its shard; constant.
 */
#include "providers/models.h"

#include <math.h>
#include <string.h>

#define UNKNOWN __builtin_nan("")

typedef struct row {
    const char *kind;
    const char *model;
    uint32_t context, output;
    double in, out, cached;
    uint32_t priced_to;
} row;

static const row rows[] = {
    {"openai", "gpt-4o-2024-05-13", 128000, 4096, 5, 15, UNKNOWN, 0},
    {"openai", "gpt-4o", 128000, 16384, 2.5, 10, 1.25, 0},
    {"openai", "gpt-4o-mini", 128000, 16384, 0.15, 0.6, 0.075, 0},
    {"openai", "gpt-4.1", 1047576, 32768, 2, 8, 0.5, 0},
    {"openai", "gpt-4.1-mini", 1047576, 32768, 0.4, 1.6, 0.1, 0},
    {"openai", "gpt-4.1-nano", 1047576, 32768, 0.1, 0.4, 0.025, 0},
    {"openai", "gpt-5", 400000, 128000, 1.25, 10, 0.125, 0},
    {"openai", "gpt-5-mini", 400000, 128000, 0.25, 2, 0.025, 0},
    {"openai", "gpt-5-nano", 400000, 128000, 0.05, 0.4, 0.005, 0},
    {"openai", "o1", 200000, 100000, 15, 60, 7.5, 0},
    {"openai", "o3", 200000, 100000, 2, 8, 0.5, 0},
    {"openai", "o3-mini", 200000, 100000, 1.1, 4.4, 0.55, 0},
    {"openai", "o4-mini", 200000, 100000, 1.1, 4.4, 0.275, 0},
    {"openai", "text-embedding-3-small", 8192, 0, 0.02, 0, 0.02, 0},
    {"openai", "text-embedding-3-large", 8192, 0, 0.13, 0, 0.13, 0},
    {"anthropic", "claude-3-5-haiku", 200000, 8192, 0.8, 4, 0.08, 0},
    {"anthropic", "claude-3-5-sonnet", 200000, 8192, 3, 15, 0.3, 0},
    {"anthropic", "claude-3-7-sonnet", 200000, 64000, 3, 15, 0.3, 0},
    {"anthropic", "claude-haiku-4-5", 200000, 64000, 1, 5, 0.1, 0},
    {"anthropic", "claude-sonnet-4", 200000, 64000, 3, 15, 0.3, 200000},
    {"anthropic", "claude-sonnet-4-5", 200000, 64000, 3, 15, 0.3, 200000},
    {"anthropic", "claude-opus-4", 200000, 32000, 15, 75, 1.5, 0},
    {"anthropic", "claude-opus-4-1", 200000, 32000, 15, 75, 1.5, 0},
    {"anthropic", "claude-opus-4-5", 200000, 64000, 5, 25, 0.5, 0},
    {"gemini", "gemini-2.5-pro", 1048576, 65536, 1.25, 10, UNKNOWN, 200000},
    {"gemini", "gemini-2.5-flash", 1048576, 65536, 0.3, 2.5, UNKNOWN, 0},
    {"gemini", "gemini-2.5-flash-lite", 1048576, 65536, 0.1, 0.4, UNKNOWN, 0},
    {"gemini", "gemini-2.0-flash", 1048576, 8192, 0.1, 0.4, 0.025, 0},
    {"mistral", "mistral-large-2411", 131072, 0, 2, 6, UNKNOWN, 0},
    {"mistral", "mistral-small-2506", 131072, 0, 0.1, 0.3, UNKNOWN, 0},
    {"mistral", "mistral-medium-2505", 131072, 0, 0.4, 2, UNKNOWN, 0},
    {"mistral", "codestral-2508", 0, 0, 0.3, 0.9, UNKNOWN, 0},
    {"groq", "llama-3.1-8b-instant", 131072, 131072, 0.05, 0.08, UNKNOWN, 0},
    {"groq", "llama-3.3-70b-versatile", 131072, 32768, 0.59, 0.79, UNKNOWN, 0},
    {"groq", "openai/gpt-oss-20b", 131072, 65536, UNKNOWN, UNKNOWN, UNKNOWN, 0},
    {"groq", "openai/gpt-oss-120b", 131072, 65536, UNKNOWN, UNKNOWN, UNKNOWN, 0},
    {"deepseek", "deepseek-chat", 131072, 8192, UNKNOWN, UNKNOWN, UNKNOWN, 0},
    {"deepseek", "deepseek-reasoner", 131072, 65536, UNKNOWN, UNKNOWN, UNKNOWN, 0},
    {"xai", "grok-3", 131072, 0, 3, 15, 0.75, 0},
    {"xai", "grok-3-mini", 131072, 0, 0.3, 0.5, 0.075, 0},
    {"xai", "grok-4", 256000, 0, 3, 15, 0.75, 128000},
};

/* "-2024-07-18", "-20250929", "-0709", "-001", "-latest": the name of a version. */
static bool is_version(tr_str rest) {
    if (rest.size == 0 || (rest.size == 7 && memcmp(rest.ptr, "-latest", 7) == 0)) {
        return true;
    }
    bool dashed = rest.size == 11;
    for (size_t i = 0; i < rest.size; i++) {
        bool dash = i == 0 || (dashed && (i == 5 || i == 8));
        if (dash ? rest.ptr[i] != '-' : rest.ptr[i] < '0' || rest.ptr[i] > '9') {
            return false;
        }
    }
    return dashed || rest.size == 4 || rest.size == 5 || rest.size == 9;
}

tr_model_facts tr_model_facts_of(const char *kind, tr_str model) {
    tr_model_facts facts = {.in = UNKNOWN,
                            .out = UNKNOWN,
                            .cached = UNKNOWN,
                            .cached_apart = strcmp(kind, "anthropic") == 0,
                            .reasoning_apart = strcmp(kind, "xai") == 0};
    if (strcmp(kind, "local") == 0 || strcmp(kind, "echo") == 0) {
        facts.in = facts.out = facts.cached = 0;
        return facts;
    }
    kind = strcmp(kind, "openai-responses") == 0 ? "openai" : kind;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const row *r = &rows[i];
        size_t size = strlen(r->model);
        if (strcmp(r->kind, kind) == 0 && model.size >= size &&
            memcmp(model.ptr, r->model, size) == 0 &&
            is_version((tr_str){model.ptr + size, model.size - size})) {
            facts.context = r->context;
            facts.output = r->output;
            facts.in = r->in;
            facts.out = r->out;
            facts.cached = r->cached;
            facts.priced_to = r->priced_to;
            break;
        }
    }
    return facts;
}

void tr_model_facts_merge(tr_model_facts *facts, const tr_model_facts *own) {
    facts->context = own->context > 0 ? own->context : facts->context;
    facts->output = own->output > 0 ? own->output : facts->output;
    facts->in = isnan(own->in) ? facts->in : own->in;
    facts->out = isnan(own->out) ? facts->out : own->out;
    facts->cached = isnan(own->cached) ? facts->cached : own->cached;
    if (!isnan(own->in) || !isnan(own->out)) {
        facts->priced_to = 0; /* who writes a price means it for all prompts */
    }
}

/* Nothing costs nothing, also where its price is unknown. */
static double share(uint64_t tokens, double price) {
    return tokens > 0 ? (double)tokens * price / 1e6 : 0;
}

double tr_model_cost(const tr_model_facts *facts, const tr_usage_wire *usage) {
    if (!isnan(usage->cost)) {
        return usage->cost;
    }
    bool free_of_charge = facts->in == 0 && facts->out == 0;
    uint64_t whole = usage->in + (facts->cached_apart ? usage->cached : 0) + usage->surcharge;
    if ((isnan(facts->in) && isnan(facts->out)) ||
        (usage->in == 0 && usage->out == 0 && !free_of_charge) ||
        (facts->priced_to > 0 && whole > facts->priced_to)) {
        return UNKNOWN; /* among them: nobody said what was used */
    }
    uint64_t cached = facts->cached_apart || usage->cached < usage->in ? usage->cached : usage->in;
    uint64_t fresh = facts->cached_apart ? usage->in : usage->in - cached;
    uint64_t out = usage->out + (facts->reasoning_apart ? usage->reasoning : 0);
    return share(fresh, facts->in) + share(usage->surcharge, facts->in) +
           share(cached, facts->cached) + share(out, facts->out);
}
