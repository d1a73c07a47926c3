/*
 * Routing: from the name that a person gave to the targets that may serve it, each with the gate
 * that lets a call through. Pure. The routes are an immutable, reference-counted picture of the
 * configuration.
 *
 * A name is `provider/rest`, split at the first slash; a bare name is an alias, then a local model;
 * no name is the default model. `local/NAME` is the local model NAME. An alias leads to one or more
 * names, aliases among them.
 */
#ifndef TR_ACTORS_ROUTE_H
#define TR_ACTORS_ROUTE_H

#include <stddef.h>

#include "actors/order.h"
#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/wire.h"
#include "providers/models.h"

typedef struct tr_routes tr_routes;

/* How a provider comes to an answer that follows a JSON schema. */
typedef enum tr_structured {
    TR_STRUCTURED_NATIVE,   /* it holds the model to it */
    TR_STRUCTURED_SCHEMA,   /* the same, but any object at all is asked for by instruction */
    TR_STRUCTURED_OBJECT,   /* it knows JSON objects, but no schema: by instruction and check */
    TR_STRUCTURED_INSTRUCT, /* neither */
    TR_STRUCTURED_GRAMMAR,  /* a worker of ours, which follows a grammar: there is nothing to check
                             */
} tr_structured;

/* Defaults of a request's limits, in milliseconds; 0 is none. */
typedef struct tr_time_limits {
    uint32_t connect_ms;
    uint32_t first_token_ms;
    uint32_t idle_ms;
    uint32_t total_ms;
    uint32_t stalled_ms; /* a client that does not read */
    uint32_t pause_ms;   /* then its sequence is given back; 0 = TR_PAUSE_MS_default */
} tr_time_limits;

typedef struct tr_alias {
    const char *name;
    const char *const *targets;
    size_t target_count;
    tr_policy policy;
    uint16_t weights[TR_TARGETS_max]; /* a target each, for TR_POLICY_WEIGHT */
} tr_alias;

/* What the configuration says of a model: "provider/model", or "provider/" with a star for all of
 * that provider's that have no entry of their own. */
typedef struct tr_model_own {
    const char *name;
    tr_model_facts facts;
} tr_model_own;

typedef struct tr_routes_spec {
    const char *const *locals;
    size_t local_count;
    const uint32_t *contexts; /* tokens, a local model each; 0 = not declared; NULL = none is */
    const char *const *providers;
    size_t provider_count;
    const tr_structured *structured;       /* a provider each; NULL = all native */
    const tr_structured *local_structured; /* a local model each; NULL = all are workers of ours */
    const char *const *kinds;              /* a provider each, for models.h; NULL = their names */
    const char *const *urls; /* a provider each, for sentences; NULL = none is known */
    const tr_model_own *models;
    size_t model_count;
    const tr_alias *aliases;
    size_t alias_count;
    const char *default_model; /* NULL or "" = the first local model */
    tr_time_limits limits;
    uint32_t attempts; /* of a request that does not say; 0 = TR_ATTEMPTS_default */
} tr_routes_spec;

/* Copies everything. */
TR_MUST_USE tr_err tr_routes_new(const tr_routes_spec *spec, tr_routes **ret);
tr_routes *tr_routes_ref(tr_routes *routes);
void tr_routes_unref(tr_routes *routes); /* NULL is fine */
/* Borrowed from `routes`. */
const tr_routes_spec *tr_routes_of(const tr_routes *routes);

typedef struct tr_target {
    char gate[TR_ACTOR_NAME_max + 1]; /* "pool:NAME" or "limiter:PROVIDER" */
    char provider[TR_NAME_max + 1];   /* "local" for a local model */
    char model[TR_NAME_max + 1];      /* as the backend knows it */
    char label[2 * TR_NAME_max + 2];  /* "provider/model", for people */
    const char *url;                  /* where that is, borrowed from the routes; "" = not known */
    uint32_t context;                 /* tokens; 0 = neither declared nor known */
    tr_structured structured;
    tr_model_facts facts;
} tr_target;

/* All that a name leads to. */
typedef struct tr_targets {
    tr_target *items; /* in the alias's order */
    uint32_t count;   /* ≥ 1 */
    tr_policy policy;
    uint16_t weights[TR_TARGETS_max];
} tr_targets;

/* TR_ERR_NOT_FOUND (with near names), TR_ERR_INVALID or TR_ERR_NOMEM; `why` then holds the
 * sentence. A `provider` beside the name leads to one target. Any thread. */
TR_MUST_USE tr_err tr_route_all(const tr_routes *routes, tr_str target, tr_str provider,
                                tr_targets *ret, char *why, size_t why_size);
void tr_targets_fini(tr_targets *targets);
/* What is known of a target's model, its context too where none is set. */
void tr_route_know(const tr_routes_spec *spec, tr_target *target);
/* Member "facts" of the open object: what is known of the models that a provider lists (a JSON
 * array of {name, …}), {name: {context, output, in, out, cached}}, each where it is known. */
void tr_route_facts_write(const tr_routes *routes, const char *provider, tr_str models,
                          tr_jsonw *w);
/* The same, the first of them only. */
TR_MUST_USE tr_err tr_route(const tr_routes *routes, tr_str target, tr_str provider, tr_target *ret,
                            char *why, size_t why_size);

#endif
