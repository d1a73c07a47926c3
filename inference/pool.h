/*
 * The pool of one local model: the gate (protocol/gate.h) to its workers' sequences, and the
 * supervision of those workers. A worker is a process (troupe-worker) behind a link: one that the
 * pool starts here, or one that joined from another machine. docs/architecture/pool.md has the
 * state tables and says who holds what.
 *
 *     pool-sup:MODEL ─┬─ pool:MODEL
 *                     ╰─ workers:MODEL, while the model is loaded ── a worker actor a process
 *
 * A local worker is started as
 *     PROGRAM --dial URL --nonce HEX --name MODEL --model FILE --sequences N --context N --threads
 * N
 *             --gpu-layers N --log-level LEVEL --log-format FORMAT
 * with OMP_WAIT_POLICY=passive and GGML_NO_BACKTRACE=1. It dials URL, sends HELLO (role worker,
 * that nonce), waits for WELCOME, loads, answers every PING also while it loads or decodes, and
 * says PONG{load_percent 100} unasked when it is ready. One that cannot load sends FAIL{ref 0} with
 * the reason and exits. It ends when its link ends.
 */
#ifndef TR_INFERENCE_POOL_H
#define TR_INFERENCE_POOL_H

#include "protocol/limits.h"
#include "runtime/supervisor.h"

#define TR_POOL_MODEL_max                                                                          \
    (TR_ACTOR_NAME_max - 9)      /* a model's name: "pool-sup:" stands before it                   \
                                  */
#define TR_POOL_WAITING_max 8192 /* RESERVEs that wait, unless the spec says less */
#define TR_POOL_WORKERS_max 64   /* of either sort */
#define TR_POOL_SILENCE_MS_default 10000
#define TR_POOL_SILENCE_MS_min 500
#define TR_POOL_HANG_MS_default 120000
#define TR_POOL_CANCEL_MS_default 5000

typedef struct tr_pool_spec {
    const char *model; /* the name that requests use */
    const char *file;
    const char *worker_program; /* path of troupe-worker */
    const char *dial_url;       /* the daemon's private ipc:// URL */
    uint32_t workers;           /* processes here; 0 = only workers that join */
    uint32_t sequences;         /* the five below go to the worker as they are */
    uint32_t context;
    uint32_t threads;
    int32_t gpu_layers;
    const char *chat_template; /* one of libllama's names; NULL or "" = the model's own */
    bool preload;
    uint64_t idle_unload_ms; /* 0 = never */
    uint32_t waiting_max;    /* 0 = TR_POOL_WAITING_max */
    /* A worker that says nothing for silence_ms is given up and killed, and so is one that works
     * without getting on for hang_ms (a load that stands still, a decode that never ends), or for
     * cancel_ms while a CANCEL waits for its answer (a request that nothing else can stop). An end
     * that closes nothing, a cut cable, is noticed within 1.5 silence_ms. At least
     * TR_POOL_SILENCE_MS_min; 0 = the default. */
    uint32_t silence_ms;
    uint32_t hang_ms;
    uint32_t cancel_ms;
} tr_pool_spec;

typedef struct tr_pool_plan tr_pool_plan;

/* Copies `spec`. TR_ERR_INVALID: the model's name is empty or longer than TR_POOL_MODEL_max, or
 * there are more than TR_POOL_WORKERS_max workers. Made before the node's tree, freed after it. */
TR_MUST_USE tr_err tr_pool_plan_new(const tr_pool_spec *spec, tr_pool_plan **ret);
void tr_pool_plan_free(tr_pool_plan *plan); /* NULL is fine */
/* The pool's supervisor, registered as "pool-sup:MODEL", as a child of whoever supervises pools.
 * What it points to lives in `plan`. */
tr_child_spec tr_pool_child(const tr_pool_plan *plan);

#endif
