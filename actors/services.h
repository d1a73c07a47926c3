/*
 * What all requests of one daemon share: the routes that are in force (swapped whole at a reload),
 * whether it drains, how many requests run, and what the program around it lends. One a node; made
 * before it, freed after it. Every function may be called from any thread.
 */
#ifndef TR_ACTORS_SERVICES_H
#define TR_ACTORS_SERVICES_H

#include "actors/route.h"
#include "actors/stats.h"
#include "runtime/actor.h"

typedef struct tr_services tr_services;

typedef struct tr_services_spec {
    const char *version; /* static */
    /* `troupe stop`: must return at once; NULL = refused. On a shard. */
    void (*stop_requested)(void *arg);
    void *arg;
} tr_services_spec;

TR_MUST_USE tr_err tr_services_new(const tr_services_spec *spec, tr_services **ret);
void tr_services_free(tr_services *services); /* NULL is fine */

/* The routes in force, with a reference for the caller; NULL before the first set. */
tr_routes *tr_services_routes(tr_services *services);
/* Takes `routes` over. */
void tr_services_set_routes(tr_services *services, tr_routes *routes);

/* What aliases choose by, and what hedges wait by: first tokens by the name asked for. */
tr_stats *tr_services_stats(const tr_services *services);
tr_stats *tr_services_hedging(const tr_services *services);

const char *tr_services_version(const tr_services *services);
/* False: nobody can stop this daemon by a request. */
bool tr_services_stop(tr_services *services);

/* A request begins: TR_ERR_SHUTDOWN while draining, TR_ERR_OVERLOADED beyond TR_REQUESTS_max, else
 * TR_OK and one tr_services_leave later. `leave` true: it was the last of a draining daemon. */
TR_MUST_USE tr_err tr_services_enter(tr_services *services);
bool tr_services_leave(tr_services *services);
/* The bodies of running requests count against TR_BODIES_max, those of one client (of which it has
 * `of_client` bytes already) against TR_BODIES_PER_CLIENT_max: false beyond either, else true and
 * one tr_services_release of as many bytes later. */
TR_MUST_USE bool tr_services_hold(tr_services *services, uint64_t of_client, uint64_t bytes);
void tr_services_release(tr_services *services, uint64_t bytes);
uint64_t tr_services_bodies(const tr_services *services);
/* From now on no request begins; true when none runs. */
bool tr_services_drain(tr_services *services);
uint32_t tr_services_running(const tr_services *services);

/* Who is told (TR_KIND_DRAINED) when the last request of a draining daemon has ended. */
enum { TR_KIND_DRAINED = 80 };
void tr_services_set_company(tr_services *services, tr_id company);
tr_id tr_services_company(const tr_services *services);

#endif
