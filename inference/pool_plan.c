/*
 * The plan of a pool: its settings and every name and child spec made from them, in memory that
 * lives as long as the node, since supervisors start children from it again and again and a request
 * to start one may still lie in a mailbox when the pool that sent it has crashed. Made and freed by
 * the program that holds the node; read by actors.
 */
#include <stdio.h>
#include <string.h>

#include "inference/pool_internal.h"
#include "runtime/memory.h"

#define POOL_INTENSITY 5
#define POOL_PERIOD_MS 60000
#define POOL_MAILBOX 16384 /* RESERVEs of calls on all shards */
#define POOL_SHUTDOWN_MS 2000

static tr_err copy_text(char **ret_text, const char **text) {
    *ret_text = tr_strndup(*text, strlen(*text));
    *text = *ret_text;
    return *ret_text != NULL ? TR_OK : TR_ERR_NOMEM;
}

static uint32_t limit_ms(uint32_t given, uint32_t otherwise) {
    uint32_t ms = given != 0 ? given : otherwise;
    return ms > TR_POOL_SILENCE_MS_min ? ms : TR_POOL_SILENCE_MS_min;
}

static void fill_defaults(tr_pool_spec *spec) {
    if (spec->waiting_max == 0 || spec->waiting_max > TR_POOL_WAITING_max) {
        spec->waiting_max = TR_POOL_WAITING_max;
    }
    spec->silence_ms = limit_ms(spec->silence_ms, TR_POOL_SILENCE_MS_default);
    spec->hang_ms = limit_ms(spec->hang_ms, TR_POOL_HANG_MS_default);
    spec->cancel_ms = limit_ms(spec->cancel_ms, TR_POOL_CANCEL_MS_default);
}

static void write_specs(tr_pool_plan *plan) {
    const char *model = plan->spec.model;
    snprintf(plan->pool_name, sizeof plan->pool_name, "pool:%s", model);
    snprintf(plan->sup_name, sizeof plan->sup_name, "pool-sup:%s", model);
    snprintf(plan->workers_name, sizeof plan->workers_name, "workers:%s", model);
    for (uint32_t i = 0; i < TR_POOL_WORKERS_max; i++) {
        snprintf(plan->workers[i].name, sizeof plan->workers[i].name, "%s#%u", model, i);
        plan->workers[i].args = (tri_worker_args){.plan = plan, .index = i};
    }
    plan->self = plan;
    plan->pool_child = (tr_child_spec){.name = plan->pool_name,
                                       .behaviour = &tri_pool_behaviour,
                                       .args = (const void *)&plan->self,
                                       .args_size = sizeof plan->self,
                                       .restart = TR_PERMANENT,
                                       .shutdown_ms = POOL_SHUTDOWN_MS,
                                       .shard = TR_SHARD_SAME,
                                       .mailbox_max = POOL_MAILBOX,
                                       .registers = true};
    /* The pool starts and stops this one; if the pool itself crashes, workers go with it. */
    plan->workers_args = (tr_supervisor_args){.strategy = TR_ONE_FOR_ONE,
                                              .intensity = TR_WORKER_RESTARTS,
                                              .period_ms = TR_WORKER_PERIOD_MS};
    plan->workers_child = (tr_child_spec){.name = plan->workers_name,
                                          .behaviour = &tr_supervisor,
                                          .args = &plan->workers_args,
                                          .args_size = sizeof plan->workers_args,
                                          .restart = TR_TEMPORARY,
                                          .shutdown_ms = TR_SHUTDOWN_INFINITY,
                                          .shard = TR_SHARD_SAME,
                                          .registers = true};
    plan->sup_args = (tr_supervisor_args){.strategy = TR_REST_FOR_ONE,
                                          .intensity = POOL_INTENSITY,
                                          .period_ms = POOL_PERIOD_MS,
                                          .children = &plan->pool_child,
                                          .child_count = 1};
}

tr_err tr_pool_plan_new(const tr_pool_spec *spec, tr_pool_plan **ret) {
    size_t size = strlen(spec->model);
    if (size == 0 || size > TR_POOL_MODEL_max || spec->workers > TR_POOL_WORKERS_max) {
        return TR_ERR_INVALID;
    }
    tr_pool_plan *plan = tr_zalloc(sizeof *plan);
    if (plan == NULL) {
        return TR_ERR_NOMEM;
    }
    plan->spec = *spec;
    if (spec->chat_template == NULL) {
        plan->spec.chat_template = "";
    }
    const char **texts[] = {&plan->spec.model, &plan->spec.file, &plan->spec.worker_program,
                            &plan->spec.dial_url, &plan->spec.chat_template};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (copy_text(&plan->texts[i], texts[i]) != TR_OK) {
            tr_pool_plan_free(plan);
            return TR_ERR_NOMEM;
        }
    }
    fill_defaults(&plan->spec);
    write_specs(plan);
    *ret = plan;
    return TR_OK;
}

void tr_pool_plan_free(tr_pool_plan *plan) {
    if (plan == NULL) {
        return;
    }
    for (size_t i = 0; i < sizeof plan->texts / sizeof *plan->texts; i++) {
        tr_free(plan->texts[i]);
    }
    tr_free(plan);
}

tr_child_spec tr_pool_child(const tr_pool_plan *plan) {
    return (tr_child_spec){.name = plan->sup_name,
                           .behaviour = &tr_supervisor,
                           .args = &plan->sup_args,
                           .args_size = sizeof plan->sup_args,
                           .restart = TR_PERMANENT,
                           .shutdown_ms = TR_SHUTDOWN_INFINITY,
                           .shard = TR_SHARD_SAME,
                           .registers = true};
}
