/*
 * Routing: from the name that a person gave to the gate that lets a call through. Pure. The routes
 * are an immutable, reference-counted picture of the configuration.
 *
 * A name is `provider/rest`, split at the first slash; a bare name is an alias, then a local model;
 * no name is the default model. `local/NAME` is the local model NAME.
 */
#ifndef TR_ACTORS_ROUTE_H
#define TR_ACTORS_ROUTE_H

#include <stddef.h>

#include "protocol/limits.h"
#include "protocol/wire.h"

typedef struct tr_routes tr_routes;

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
    const char *target;
} tr_alias;

typedef struct tr_routes_spec {
    const char *const *locals;
    size_t local_count;
    const char *const *providers;
    size_t provider_count;
    const tr_alias *aliases;
    size_t alias_count;
    const char *default_model; /* NULL or "" = the first local model */
    tr_time_limits limits;
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
} tr_target;

/* TR_ERR_NOT_FOUND (with near names) or TR_ERR_INVALID; `why` then holds the sentence. Any thread.
 */
TR_MUST_USE tr_err tr_route(const tr_routes *routes, tr_str target, tr_str provider, tr_target *ret,
                            char *why, size_t why_size);

#endif
