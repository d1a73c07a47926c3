/*
 * A managed model server: a program that the user has installed (llama-server, mlx_lm.server,
 * `vllm serve`, any other that speaks OpenAI's dialect), which Troupe starts when it is asked for,
 * asks for its health, starts again, and stops when it is idle. The actor is the gate
 * (protocol/gate.h) to it, registered as "pool:<name>" like the pools of local models, and its only
 * owner. Requests go to the provider actors "provider:local/<name>:<shard>" (providers/provider.h),
 * which learn the port from the plan. docs/architecture/managed.md has the state table.
 */
#ifndef TR_ACTORS_MANAGED_H
#define TR_ACTORS_MANAGED_H

#include <stdatomic.h>

#include "protocol/limits.h"
#include "runtime/supervisor.h"

#define TR_MANAGED_NAME_max 34 /* TR_PROVIDER_SERVER_max */
#define TR_MANAGED_WAITING_max 8192
#define TR_MANAGED_LOAD_MS_default (30U * 60U * 1000U)
#define TR_MANAGED_HANG_MS_default 120000U

typedef struct tr_managed_spec {
    const char *name;       /* what requests use */
    const char *kind;       /* for people */
    const char *model;      /* {model} of the command */
    const char *command;    /* actors/command.h */
    const char *health;     /* a path: an answer below 500 there means that it is well */
    const char *install;    /* how one gets the program; NULL = not known */
    const char *const *env; /* more of the daemon's variables that it may have, as
                               tr_process_spec.env_pass; NULL-terminated; NULL = none */
    uint32_t at_once;       /* requests at the same time, >= 1; more wait in line */
    uint32_t context;       /* tokens of each */
    bool preload;
    uint64_t idle_unload_ms; /* 0 = never */
    uint32_t waiting_max;    /* 0 = TR_MANAGED_WAITING_max */
    uint32_t load_ms;        /* until its first healthy answer; 0 = the default, here and below */
    uint32_t hang_ms;        /* without a healthy answer, then it is killed and started again */
} tr_managed_spec;

typedef struct tr_managed_plan tr_managed_plan;

/* Copies `spec`. TR_ERR_INVALID: a name or command that cannot be, with a sentence in `why` (>= 256
 * bytes). Made before the node's tree, freed after it. */
TR_MUST_USE tr_err tr_managed_plan_new(const tr_managed_spec *spec, tr_managed_plan **ret,
                                       char *why, size_t why_size);
void tr_managed_plan_free(tr_managed_plan *plan); /* NULL is fine */
/* Where it listens now; written by the actor. */
const _Atomic uint32_t *tr_managed_port(const tr_managed_plan *plan);
/* As a child of whoever supervises pools. What it points to lives in `plan`. */
tr_child_spec tr_managed_child(const tr_managed_plan *plan);

#endif
