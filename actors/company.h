/*
 * The company: the whole supervision tree of a daemon on one node, the same for trouped, for
 * libtrouped, for benchmarks and in simulation (docs/architecture.md, "Supervision"). Made before
 * the node starts or while it runs, from any thread; `up` and `down` come on a shard.
 */
#ifndef TR_ACTORS_COMPANY_H
#define TR_ACTORS_COMPANY_H

#include "actors/gateway.h"
#include "runtime/node.h"
#include "runtime/supervisor.h"

typedef struct tr_company tr_company;

typedef struct tr_provider_limit {
    char name[TR_ACTOR_NAME_max - 15];
    uint32_t at_once;                   /* >= 1 */
    uint32_t rpm, tpm, burst, adaptive; /* 0: protocol/gate.h's tr_limit */
} tr_provider_limit;

typedef struct tr_company_spec {
    tr_services *services;
    const tr_door_spec *doors;
    size_t door_count;
    /* Ready-made children, copied: http doors and providers with their shard, and a pool's
     * supervisor each. What their args point to lives as long as the node. */
    const tr_child_spec *providers;
    size_t provider_count;
    const tr_child_spec *pools;
    size_t pool_count;
    /* A limiter each; "echo" is always there, unlimited if it is not among them. */
    const tr_provider_limit *limits;
    size_t limit_count;
    uint32_t drain_ms;
    /* Once, whatever happens. TR_OK: everything listens. Else `why` says what failed, and `down`
     * does not come. */
    void (*up)(void *arg, tr_err err, const char *why);
    /* The tree has ended: TR_OK after tr_company_stop, else it gave up, or the founder died, which
     * leaves what still runs to tr_node_end_actors. */
    void (*down)(void *arg, tr_err reason);
    void *arg;
} tr_company_spec;

/* Starts it on shard 0; `up` follows. The company is freed after the node. */
TR_MUST_USE tr_err tr_company_start(tr_node *node, const tr_company_spec *spec, tr_company **ret);
void tr_company_free(tr_company *company); /* NULL is fine */
/* Refuses new requests, gives running ones `drain_ms`, then stops the tree in order; `down`
 * follows. Once; any thread that is no shard's. */
void tr_company_stop(tr_company *company);
/* What may change while it runs; any thread that is no shard's. The limits of the provider of that
 * name from now on: more of those that wait may go, running ones go on. False: there is no such
 * provider. */
bool tr_company_set_limit(tr_company *company, const tr_provider_limit *limit);
/* For the next tr_company_stop. */
void tr_company_set_drain(tr_company *company, uint32_t drain_ms);

#endif
