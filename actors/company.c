/*
 * Two parts: the plan (the nested child specs, in memory that the company owns, since supervisors
 * start children from them again and again) and the founder, an actor above the root supervisor.
 * The founder starts the tree, tells `up` and `down`, and drains: it waits for the last request or
 * for the time limit before it ends the root.
 */
#include "actors/company.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "actors/echo.h"
#include "actors/limiter.h"
#include "protocol/assert.h"
#include "runtime/log.h"
#include "runtime/memory.h"

#define GATEWAY_SHUTDOWN_MS 5000
#define LEAF_SHUTDOWN_MS 2000
/* Restarts of a group of leaves before the group is given up and its neighbours restart too. */
#define GROUP_INTENSITY 10
#define GROUP_PERIOD_MS 10000
/* Of the root: OTP's default, one restart in five seconds, would end the daemon, with all its
 * connections and loaded models, at the gateway's second crash. */
#define ROOT_INTENSITY 3
#define ROOT_PERIOD_MS 60000

enum { KIND_STOP = 121 };

typedef struct calls_plan {
    tr_supervisor_args args;
    char name[32];
} calls_plan;

typedef struct limiter_plan {
    tr_limiter_args args;
    tr_limits_now now;
    char name[TR_ACTOR_NAME_max + 1];
} limiter_plan;

struct tr_company {
    tr_node *node;
    tr_company_spec spec;
    tr_gateway_args gateway;
    char why[512];
    tr_msg *stop_msg; /* made at the start: a stop needs no memory */
    /* seq_cst: either the founder sees that it was asked to stop when the tree is up, or the one
     * who asks sees the founder's id (services.h) */
    _Atomic bool stop_asked;
    _Atomic uint32_t drain_ms; /* relaxed: a number by itself */
    /* the plan */
    tr_child_spec root[5];
    tr_supervisor_args root_args, providers_args, limiters_args, pools_args, desks_args;
    tr_child_spec *providers, *limiters, *pools, *desks;
    char (*echo_names)[32];
    limiter_plan *limiter_plans;
    size_t limiter_count;
    calls_plan *calls_plans;
};

static tr_child_spec leaf(const char *name, const tr_behaviour *behaviour, const void *args,
                          size_t args_size) {
    return (tr_child_spec){.name = name,
                           .behaviour = behaviour,
                           .args = args,
                           .args_size = args_size,
                           .restart = TR_PERMANENT,
                           .shutdown_ms = LEAF_SHUTDOWN_MS,
                           .shard = TR_SHARD_SAME,
                           .registers = true};
}

static tr_child_spec group(const char *name, tr_supervisor_args *args,
                           const tr_child_spec *children, size_t count) {
    *args = (tr_supervisor_args){.strategy = TR_ONE_FOR_ONE,
                                 .intensity = GROUP_INTENSITY,
                                 .period_ms = GROUP_PERIOD_MS,
                                 .children = children,
                                 .child_count = count};
    tr_child_spec spec = leaf(name, &tr_supervisor, args, sizeof *args);
    spec.shutdown_ms = TR_SHUTDOWN_INFINITY;
    return spec;
}

static tr_err plan_providers(tr_company *c, uint32_t shards) {
    size_t given = c->spec.provider_count;
    c->providers = tr_zalloc((given + shards) * sizeof *c->providers);
    c->echo_names = tr_zalloc(shards * sizeof *c->echo_names);
    if (c->providers == NULL || c->echo_names == NULL) {
        return TR_ERR_NOMEM;
    }
    if (given > 0) {
        memcpy(c->providers, c->spec.providers, given * sizeof *c->providers);
    }
    for (uint32_t i = 0; i < shards; i++) {
        snprintf(c->echo_names[i], sizeof c->echo_names[i], "provider:echo:%u", i);
        c->providers[given + i] = leaf(c->echo_names[i], &tr_echo, NULL, 0);
        c->providers[given + i].shard = i;
    }
    c->root[0] = group("providers", &c->providers_args, c->providers, given + shards);
    return TR_OK;
}

static void set_limits(limiter_plan *plan, const tr_provider_limit *limit) {
    TR_ASSERT(limit->at_once > 0);
    atomic_store_explicit(&plan->now.at_once, limit->at_once, memory_order_relaxed);
    atomic_store_explicit(&plan->now.rpm, limit->rpm, memory_order_relaxed);
    atomic_store_explicit(&plan->now.tpm, limit->tpm, memory_order_relaxed);
    atomic_store_explicit(&plan->now.burst, limit->burst, memory_order_relaxed);
    atomic_store_explicit(&plan->now.adaptive, limit->adaptive, memory_order_relaxed);
}

static void plan_limiter(tr_company *c, const tr_provider_limit *limit) {
    limiter_plan *plan = &c->limiter_plans[c->limiter_count];
    set_limits(plan, limit);
    plan->args.now = &plan->now;
    plan->args.waiting_max = TR_LIMITER_WAITING_max;
    memcpy(plan->args.provider, limit->name, sizeof plan->args.provider);
    snprintf(plan->name, sizeof plan->name, "limiter:%s", plan->args.provider);
    c->limiters[c->limiter_count++] = leaf(plan->name, &tr_limiter, &plan->args, sizeof plan->args);
}

static tr_err plan_limiters(tr_company *c) {
    static const tr_provider_limit echo = {.name = "echo", .at_once = TR_REQUESTS_max};
    size_t count = c->spec.limit_count + 1;
    bool has_echo = false;
    c->limiters = tr_zalloc(count * sizeof *c->limiters);
    c->limiter_plans = tr_zalloc(count * sizeof *c->limiter_plans);
    if (c->limiters == NULL || c->limiter_plans == NULL) {
        return TR_ERR_NOMEM;
    }
    for (size_t i = 0; i < c->spec.limit_count; i++) {
        has_echo = has_echo || strcmp(c->spec.limits[i].name, echo.name) == 0;
        plan_limiter(c, &c->spec.limits[i]);
    }
    if (!has_echo) {
        plan_limiter(c, &echo);
    }
    c->root[1] = group("limiters", &c->limiters_args, c->limiters, c->limiter_count);
    return TR_OK;
}

static tr_err plan_pools(tr_company *c) {
    c->pools = tr_zalloc((c->spec.pool_count + 1) * sizeof *c->pools);
    if (c->pools == NULL) {
        return TR_ERR_NOMEM;
    }
    if (c->spec.pool_count > 0) {
        memcpy(c->pools, c->spec.pools, c->spec.pool_count * sizeof *c->pools);
    }
    c->root[2] = group("pools", &c->pools_args, c->pools, c->spec.pool_count);
    return TR_OK;
}

/* One supervisor of calls a shard: calls are spawned by connections and only stopped here. */
static tr_err plan_calls(tr_company *c, uint32_t shards) {
    c->desks = tr_zalloc(shards * sizeof *c->desks);
    c->calls_plans = tr_zalloc(shards * sizeof *c->calls_plans);
    if (c->desks == NULL || c->calls_plans == NULL) {
        return TR_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < shards; i++) {
        calls_plan *plan = &c->calls_plans[i];
        snprintf(plan->name, sizeof plan->name, "calls:%u", i);
        plan->args = (tr_supervisor_args){.adopts = true};
        c->desks[i] = leaf(plan->name, &tr_supervisor, &plan->args, sizeof plan->args);
        c->desks[i].shutdown_ms = TR_SHUTDOWN_INFINITY;
        c->desks[i].shard = i;
    }
    c->root[3] = group("calls", &c->desks_args, c->desks, shards);
    return TR_OK;
}

static void plan_root(tr_company *c) {
    c->gateway.services = c->spec.services;
    c->gateway.door_count = (uint32_t)c->spec.door_count;
    for (size_t i = 0; i < c->spec.door_count; i++) {
        c->gateway.doors[i] = c->spec.doors[i];
    }
    c->gateway.why = c->why;
    c->gateway.why_size = sizeof c->why;
    c->root[4] = leaf("gateway", &tr_gateway, &c->gateway, sizeof c->gateway);
    c->root[4].shutdown_ms = GATEWAY_SHUTDOWN_MS;
    c->root_args = (tr_supervisor_args){.strategy = TR_REST_FOR_ONE,
                                        .intensity = ROOT_INTENSITY,
                                        .period_ms = ROOT_PERIOD_MS,
                                        .children = c->root,
                                        .child_count = sizeof c->root / sizeof *c->root};
}

/* --- the founder --- */

typedef struct founder {
    tr_company *company;
    uint64_t watch; /* of the root */
    tr_msg *exit;   /* for the root, made before it: a stop needs no memory. NULL once sent */
    uint64_t timer;
    bool told_up, up; /* `up` has been called; with TR_OK */
    bool told_down;
    bool stopping;
} founder;

static void tell_up(founder *f, tr_err err) {
    tr_company *c = f->company;
    TR_ASSERT(!f->told_up);
    f->told_up = true;
    f->up = err == TR_OK;
    c->spec.up(c->spec.arg, err, err != TR_OK && c->why[0] != '\0' ? c->why : tr_err_text(err));
}

/* Before the root's end only when the founder dies itself: whoever waits must hear of it. */
static void tell_down(founder *f, tr_err reason) {
    const tr_company_spec *spec = &f->company->spec;
    if (f->up && !f->told_down) {
        f->told_down = true;
        spec->down(spec->arg, reason);
    }
}

/* No memory for the founder, or for what it needs to start the tree. */
static void founder_failed(void *arg, tr_err err) {
    founder nobody = {.company = arg};
    tell_up(&nobody, err);
}

static tr_err found(tr_self *self, void *state, const void *args) {
    founder *f = state;
    f->company = *(tr_company *const *)args;
    f->exit = tr_exit_message();
    if (f->exit == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_spawn_spec spec = {.behaviour = &tr_supervisor,
                          .args = &f->company->root_args,
                          .args_size = sizeof f->company->root_args,
                          .name = "root",
                          .registers = true};
    tr_err err = tr_spawn_watched(self, tr_self_shard(self), &spec, 1, &f->watch);
    if (err != TR_OK) {
        tr_msg_free(f->exit);
        return err;
    }
    tr_services_set_company(f->company->spec.services, tr_self_id(self));
    return TR_OK;
}

static tr_err end_root(tr_self *self, founder *f) {
    tr_timer_cancel(self, &f->timer);
    if (f->exit != NULL) {
        tr_exit_watched(self, tr_self_shard(self), f->watch, TR_ERR_SHUTDOWN, f->exit);
        f->exit = NULL;
    }
    return TR_OK;
}

static tr_err begin_stop(tr_self *self, founder *f) {
    if (f->stopping || !f->up) {
        return TR_OK;
    }
    f->stopping = true;
    tr_services *services = f->company->spec.services;
    if (tr_services_drain(services)) {
        return end_root(self, f);
    }
    uint32_t drain_ms = atomic_load_explicit(&f->company->drain_ms, memory_order_relaxed);
    tr_log(TR_LOG_INFO, self, "draining: no new requests", "running=%u limit_ms=%u",
           tr_services_running(services), drain_ms);
    if (tr_timer_start(self, (uint64_t)drain_ms * 1000, 0, &f->timer) != TR_OK) {
        return end_root(self, f); /* no limit could be kept */
    }
    return TR_OK;
}

static tr_err root_started(tr_self *self, founder *f, const tr_started_note *note) {
    if (note->err != TR_OK) {
        tell_up(f, (tr_err)note->err);
        return TR_DONE;
    }
    tell_up(f, TR_OK);
    return atomic_load(&f->company->stop_asked) ? begin_stop(self, f) : TR_OK;
}

static tr_err founder_handle(tr_self *self, void *state, tr_msg **msg) {
    founder *f = state;
    switch ((*msg)->kind) {
    case TR_KIND_STARTED:
        return root_started(self, f, (const tr_started_note *)(*msg)->data);
    case KIND_STOP:
        return begin_stop(self, f);
    case TR_KIND_DRAINED:
        return f->stopping ? end_root(self, f) : TR_OK;
    case TR_KIND_TIMER:
        return (*msg)->ref == f->timer ? end_root(self, f) : TR_OK;
    case TR_KIND_DOWN: {
        tr_err reason = (tr_err)((const tr_ended *)(*msg)->data)->reason;
        if (!f->told_up) {
            tell_up(f, reason != TR_OK ? reason : TR_ERR_GONE);
        }
        tell_down(f, f->stopping ? TR_OK : reason);
        return TR_DONE;
    }
    default:
        return TR_OK;
    }
}

/* Its own death, as for lack of memory, is told like the tree's: nobody would end that any more. */
static void founder_stop(tr_self *self, void *state, tr_err reason) {
    founder *f = state;
    reason = reason == TR_OK ? TR_ERR_GONE : reason;
    if (!f->told_up) {
        tell_up(f, reason);
    }
    tell_down(f, reason);
    (void)end_root(self, f);
}

static const tr_behaviour founder_behaviour = {
    .name = "founder",
    .state_size = sizeof(founder),
    .init = found,
    .handle = founder_handle,
    .stop = founder_stop,
};

tr_err tr_company_start(tr_node *node, const tr_company_spec *spec, tr_company **ret) {
    TR_ASSERT(spec->door_count <= TR_LISTENERS_max);
    tr_company *c = tr_zalloc(sizeof *c);
    if (c == NULL) {
        return TR_ERR_NOMEM;
    }
    c->node = node;
    c->spec = *spec;
    atomic_init(&c->drain_ms, spec->drain_ms);
    c->stop_msg = tr_msg_new(KIND_STOP, 0);
    uint32_t shards = tr_node_shards(node);
    tr_err err = c->stop_msg != NULL ? plan_providers(c, shards) : TR_ERR_NOMEM;
    if (err == TR_OK) {
        err = plan_limiters(c);
    }
    if (err == TR_OK) {
        err = plan_pools(c);
    }
    if (err == TR_OK) {
        err = plan_calls(c, shards);
    }
    if (err == TR_OK) {
        plan_root(c);
        tr_spawn_spec founder_spec = {.behaviour = &founder_behaviour,
                                      .args = &c,
                                      .args_size = sizeof(tr_company *),
                                      .name = "founder"};
        err = tr_node_spawn_or(node, 0, &founder_spec, founder_failed, c);
    }
    if (err != TR_OK) {
        tr_company_free(c);
        return err;
    }
    *ret = c;
    return TR_OK;
}

void tr_company_free(tr_company *company) {
    if (company != NULL) {
        tr_free(company->providers);
        tr_free(company->echo_names);
        tr_free(company->limiters);
        tr_free(company->limiter_plans);
        tr_free(company->pools);
        tr_free(company->desks);
        tr_free(company->calls_plans);
        tr_msg_free(company->stop_msg);
        tr_free(company);
    }
}

void tr_company_stop(tr_company *company) {
    atomic_store(&company->stop_asked, true);
    tr_id founder_id = tr_services_company(company->spec.services);
    tr_msg *msg = company->stop_msg;
    if (founder_id != TR_ID_NONE && msg != NULL) {
        company->stop_msg = NULL;
        tr_post(company->node, founder_id, msg);
    }
}

bool tr_company_set_limit(tr_company *company, const tr_provider_limit *limit) {
    for (size_t i = 0; i < company->limiter_count; i++) {
        limiter_plan *plan = &company->limiter_plans[i];
        if (strcmp(plan->args.provider, limit->name) == 0) {
            set_limits(plan, limit);
            tr_id limiter = tr_whereis(company->node, plan->name);
            tr_msg *msg = tr_msg_new(TR_KIND_LIMIT_CHANGED, 0);
            if (limiter != TR_ID_NONE && msg != NULL) {
                tr_post(company->node, limiter, msg);
            } else {
                tr_msg_free(msg); /* it will see the numbers at its next message, or its start */
            }
            return true;
        }
    }
    return false;
}

void tr_company_set_drain(tr_company *company, uint32_t drain_ms) {
    atomic_store_explicit(&company->drain_ms, drain_ms, memory_order_relaxed);
}
