/*
 * The worker: a process with one model. Its link to a pool is an actor on a node of one shard; its
 * engine has a thread of its own, since a decode blocks. Between them: a queue of requests one way,
 * tr_post the other way, and a few numbers that PONG tells.
 */
#ifndef TR_INFERENCE_WORKER_H
#define TR_INFERENCE_WORKER_H

#include "inference/engine.h"

typedef struct tr_worker_spec {
    const char *model_file, *model_name;
    const char *chat_template; /* NULL = the model's own */
    uint32_t sequences, context, threads;
    int32_t gpu_layers;
    const char *url;     /* where the pool listens */
    const char *ca_file; /* of tls+tcp */
    const char *token;   /* "" = none */
    uint64_t nonce;      /* what a pool gave the process it started; 0 = joins by name and token */
    bool joins;          /* dials again when the link ends; without, the worker ends with it */
} tr_worker_spec;

/* Serves until the link ends (or for ever, when it joins); the process's exit status. Blocks. */
int tr_worker_run(const tr_worker_spec *spec);

/* The model's identity: two workers with equal digests answer the same request with the same
 * tokens. SHA-256 over the file's size, its first and last MiB, 256 blocks of 16 KiB between them,
 * libllama's version and the chat template asked for; not over all bytes, since a large file would
 * hold up the start for minutes. */
TR_MUST_USE tr_err tr_worker_digest(const char *model_file, const char *chat_template,
                                    uint8_t ret_digest[32]);

/* `streams` answers at once from a loaded engine: one JSON line on stdout, or a sentence on stderr.
 * The exit status. */
typedef struct tr_worker_bench {
    const char *prompt;
    uint32_t streams, tokens, rounds;
} tr_worker_bench;
int tr_worker_bench_run(const tr_worker_spec *spec, const tr_worker_bench *bench);

#endif
