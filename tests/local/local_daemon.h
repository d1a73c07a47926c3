/*
 * The daemon's own tree in this process, with pools whose workers are real troupe-worker processes
 * on a tiny model, and what a test wants to know and do about those.
 */
#ifndef TR_TESTS_LOCAL_LOCAL_DAEMON_H
#define TR_TESTS_LOCAL_LOCAL_DAEMON_H

#include <CUnit/Basic.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "actors/company.h"
#include "inference/pool.h"
#include "protocol/client/troupe.h"
#include "protocol/json.h"
#include "runtime/node.h"
#include "runtime/process.h"
#include "tests/gguf/tiny_gguf.h"

#define LOCAL_TOKEN "0123456789abcdef0123"
#define LOCAL_POOLS_max 4

typedef struct local_daemon {
    char folder[64];
    char socket[128], url[140], tcp_url[64], model[128], token_file[128];
    tr_services *services;
    tr_process_table *processes;
    tr_node *node;
    tr_company *company;
    tr_pool_plan *plans[LOCAL_POOLS_max];
    size_t plan_count;
    pthread_mutex_t mtx;
    pthread_cond_t cond;
    bool up, down;
    tr_client *client;
} local_daemon;

/* Makes a folder with a model in it; `url` is where pools dial. */
void local_prepare(local_daemon *d, tr_tiny_kind kind);
/* One more door, tcp with LOCAL_TOKEN, where workers may join: before local_start. */
void local_open_tcp(local_daemon *d);
tr_pool_spec local_pool(const local_daemon *d, const char *name, uint32_t workers);
void local_start(local_daemon *d, const tr_pool_spec *pools, size_t count);
/* Stops it in order; nothing may be left in its folder. */
void local_stop(local_daemon *d);

/* A worker that joins by tcp, as somebody on another machine would start it; its pid. */
pid_t local_join(local_daemon *d, const char *model);
/* Waits until `count` workers are ready; false after half a minute. */
bool local_await_ready(local_daemon *d, uint32_t count);

/* What the first pool says of itself; free it with tr_json_free. */
tr_json *local_status(local_daemon *d, const tr_json_value **ret_pool);
int64_t local_number(local_daemon *d, const char *name);
bool local_state_is(local_daemon *d, const char *state);
/* The pids of workers of this daemon that have streams (or of all); how many, at most `max`. */
size_t local_workers(local_daemon *d, bool active, pid_t *pids, size_t max);
/* The first of them, or 0. */
pid_t local_worker(local_daemon *d, bool active);

uint64_t local_ms(void);

#endif
