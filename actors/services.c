/* The shared part of services.h. A request takes a reference to the routes once, at its start, so
 * the mutex is not on the path of a stream. */
#include "actors/services.h"

#include <pthread.h>
#include <stdatomic.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/memory.h"

#define DRAINING (1U << 31)

struct tr_services {
    /* set at init */
    tr_services_spec spec;
    tr_stats *stats, *hedging;
    /* guarded by routes_mtx */
    tr_routes *routes;
    pthread_mutex_t routes_mtx;
    /* atomic */
    _Atomic uint32_t running; /* with DRAINING as its top bit: one word, so that the last request of
                               * a draining daemon is seen exactly once. seq_cst, partner: itself */
    _Atomic uint64_t bodies;  /* bytes; relaxed: a sum that orders nothing else */
    _Atomic tr_id company;    /* seq_cst: its partner is the company's stop_asked */
};

tr_err tr_services_new(const tr_services_spec *spec, tr_services **ret) {
    tr_services *services = tr_zalloc(sizeof *services);
    if (services == NULL || tr_stats_new(&services->stats) != TR_OK ||
        tr_stats_new(&services->hedging) != TR_OK) {
        if (services != NULL) {
            tr_stats_free(services->stats);
        }
        tr_free(services);
        return TR_ERR_NOMEM;
    }
    services->spec = *spec;
    pthread_mutex_init(&services->routes_mtx, NULL);
    *ret = services;
    return TR_OK;
}

void tr_services_free(tr_services *services) {
    if (services != NULL) {
        tr_routes_unref(services->routes);
        tr_stats_free(services->stats);
        tr_stats_free(services->hedging);
        pthread_mutex_destroy(&services->routes_mtx);
        tr_free(services);
    }
}

tr_routes *tr_services_routes(tr_services *services) {
    pthread_mutex_lock(&services->routes_mtx);
    tr_routes *routes = services->routes != NULL ? tr_routes_ref(services->routes) : NULL;
    pthread_mutex_unlock(&services->routes_mtx);
    return routes;
}

void tr_services_set_routes(tr_services *services, tr_routes *routes) {
    pthread_mutex_lock(&services->routes_mtx);
    tr_routes *old = services->routes;
    services->routes = routes;
    pthread_mutex_unlock(&services->routes_mtx);
    tr_routes_unref(old);
}

tr_stats *tr_services_stats(const tr_services *services) {
    return services->stats;
}

tr_stats *tr_services_hedging(const tr_services *services) {
    return services->hedging;
}

const char *tr_services_version(const tr_services *services) {
    return services->spec.version;
}

bool tr_services_stop(tr_services *services) {
    if (services->spec.stop_requested == NULL) {
        return false;
    }
    services->spec.stop_requested(services->spec.arg);
    return true;
}

tr_err tr_services_enter(tr_services *services) {
    uint32_t now = atomic_load(&services->running);
    do {
        if ((now & DRAINING) != 0) {
            return TR_ERR_SHUTDOWN;
        }
        if (now >= TR_REQUESTS_max) {
            return TR_ERR_OVERLOADED;
        }
    } while (!atomic_compare_exchange_weak(&services->running, &now, now + 1));
    return TR_OK;
}

bool tr_services_leave(tr_services *services) {
    uint32_t before = atomic_fetch_sub(&services->running, 1);
    TR_ASSERT((before & ~DRAINING) > 0);
    return before == (DRAINING | 1U);
}

bool tr_services_hold(tr_services *services, uint64_t of_client, uint64_t bytes) {
    uint64_t now = atomic_load_explicit(&services->bodies, memory_order_relaxed);
    do {
        if (of_client + bytes > TR_BODIES_PER_CLIENT_max || now + bytes > TR_BODIES_max) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&services->bodies, &now, now + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void tr_services_release(tr_services *services, uint64_t bytes) {
    uint64_t before = atomic_fetch_sub_explicit(&services->bodies, bytes, memory_order_relaxed);
    TR_ASSERT(before >= bytes);
}

uint64_t tr_services_bodies(const tr_services *services) {
    return atomic_load_explicit(&services->bodies, memory_order_relaxed);
}

bool tr_services_drain(tr_services *services) {
    return (atomic_fetch_or(&services->running, DRAINING) & ~DRAINING) == 0;
}

uint32_t tr_services_running(const tr_services *services) {
    return atomic_load(&services->running) & ~DRAINING;
}

void tr_services_set_company(tr_services *services, tr_id company) {
    atomic_store(&services->company, company);
}

tr_id tr_services_company(const tr_services *services) {
    return atomic_load(&services->company);
}
