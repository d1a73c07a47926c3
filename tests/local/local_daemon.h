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
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actors/company.h"
#include "inference/pool.h"
#include "protocol/client/troupe.h"
#include "protocol/json.h"
#include "runtime/log.h"
#include "runtime/node.h"
#include "runtime/process.h"
#include "runtime/transport.h"
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

static inline void local_tell(local_daemon *d, bool *flag) {
    pthread_mutex_lock(&d->mtx);
    *flag = true;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->mtx);
}

static inline void local_up(void *arg, tr_err err, const char *why) {
    if (err != TR_OK) {
        fprintf(stderr, "the daemon does not start: %s\n", why);
        abort();
    }
    local_tell(arg, &((local_daemon *)arg)->up);
}

static inline void local_down(void *arg, tr_err reason) {
    (void)reason;
    local_tell(arg, &((local_daemon *)arg)->down);
}

static inline void local_wait(local_daemon *d, const bool *flag) {
    pthread_mutex_lock(&d->mtx);
    while (!*flag) {
        pthread_cond_wait(&d->cond, &d->mtx);
    }
    pthread_mutex_unlock(&d->mtx);
}

/* Makes the folder and its model; `url` is where pools dial. */
static inline void local_prepare(local_daemon *d, tr_tiny_kind kind) {
    *d = (local_daemon){.mtx = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    snprintf(d->folder, sizeof d->folder, "/tmp/troupe-local-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(d->folder));
    snprintf(d->socket, sizeof d->socket, "%s/troupe.sock", d->folder);
    snprintf(d->url, sizeof d->url, "ipc://%s", d->socket);
    snprintf(d->model, sizeof d->model, "%s/model.gguf", d->folder);
    CU_ASSERT_TRUE_FATAL(tr_tiny_gguf_write(&(tr_tiny_spec){.kind = kind, .seed = 3}, d->model));
}

static inline tr_pool_spec local_pool(const local_daemon *d, const char *name, uint32_t workers) {
    return (tr_pool_spec){.model = name,
                          .file = d->model,
                          .worker_program = WORKER_PROGRAM,
                          .dial_url = d->url,
                          .workers = workers,
                          .sequences = 4,
                          .context = 512,
                          .threads = 1};
}

/* With `tcp_url` set: workers may join there. */
static inline void local_start(local_daemon *d, const tr_pool_spec *pools, size_t count) {
    tr_log_set(TR_LOG_LOGFMT, getenv("TROUPE_TEST_LOG") != NULL ? TR_LOG_DEBUG : TR_LOG_ERROR,
               STDERR_FILENO);
    tr_services_spec services_spec = {.version = "test"};
    const char *locals[LOCAL_POOLS_max];
    tr_child_spec children[LOCAL_POOLS_max];
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL_FATAL(tr_pool_plan_new(&pools[i], &d->plans[i]), TR_OK);
        children[i] = tr_pool_child(d->plans[i]);
        locals[i] = pools[i].model;
    }
    d->plan_count = count;
    tr_routes_spec routes_spec = {.locals = locals, .local_count = count};
    tr_routes *routes = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_services_new(&services_spec, &d->services), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_routes_new(&routes_spec, &routes), TR_OK);
    tr_services_set_routes(d->services, routes);
    CU_ASSERT_EQUAL_FATAL(tr_process_table_linux(&d->processes), TR_OK);
    tr_node_spec node_spec = {
        .shards = 2, .platform = {.transport = tr_transport_nng(), .processes = d->processes}};
    tr_door_spec doors[] = {{.url = d->url, .same_user = true, .takes_clients = true},
                            {.url = d->tcp_url,
                             .token = LOCAL_TOKEN,
                             .token_size = sizeof LOCAL_TOKEN - 1,
                             .takes_clients = true}};
    tr_company_spec spec = {.services = d->services,
                            .doors = doors,
                            .door_count = d->tcp_url[0] != '\0' ? 2 : 1,
                            .pools = children,
                            .pool_count = count,
                            .drain_ms = 200,
                            .up = local_up,
                            .down = local_down,
                            .arg = d};
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&node_spec, &d->node), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_company_start(d->node, &spec, &d->company), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_node_start(d->node), TR_OK);
    local_wait(d, &d->up);
    CU_ASSERT_EQUAL_FATAL(tr_client_open(d->url, &d->client), TR_OK);
}

static inline void local_stop(local_daemon *d) {
    tr_client_close(d->client);
    tr_company_stop(d->company);
    local_wait(d, &d->down);
    tr_node_stop(d->node);
    tr_process_table_free(d->processes);
    tr_transport_nng()->forget(tr_transport_nng(), d->node);
    tr_node_free(d->node);
    tr_company_free(d->company);
    tr_services_free(d->services);
    for (size_t i = 0; i < d->plan_count; i++) {
        tr_pool_plan_free(d->plans[i]);
    }
    char lock[sizeof d->socket + 8];
    snprintf(lock, sizeof lock, "%s.lock", d->socket);
    unlink(lock);
    unlink(d->model);
    unlink(d->token_file);
    CU_ASSERT_EQUAL(rmdir(d->folder), 0); /* nothing else was left */
}

/* What the first pool says of itself; free it with tr_json_free. */
static inline tr_json *local_status(local_daemon *d, const tr_json_value **ret_pool) {
    char *text = NULL;
    tr_json *json = NULL;
    CU_ASSERT_EQUAL_FATAL(tr_models_json(d->client, &text), TR_OK);
    CU_ASSERT_EQUAL_FATAL(tr_json_parse(text, strlen(text), &json, NULL), TR_OK);
    tr_memory_free(text);
    *ret_pool = tr_json_first(tr_json_get(tr_json_root(json), "local"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(*ret_pool);
    return json;
}

static inline int64_t local_number(local_daemon *d, const char *name) {
    const tr_json_value *pool;
    tr_json *json = local_status(d, &pool);
    int64_t number = tr_json_int(tr_json_get(pool, name), -1);
    tr_json_free(json);
    return number;
}

static inline bool local_state_is(local_daemon *d, const char *state) {
    const tr_json_value *pool;
    tr_json *json = local_status(d, &pool);
    tr_str now = tr_json_string(tr_json_get(pool, "state"));
    bool same = now.size == strlen(state) && memcmp(now.ptr, state, now.size) == 0;
    tr_json_free(json);
    return same;
}

/* The pids of workers that have streams (or of all), at most `max`; how many there are. */
static inline size_t local_workers(local_daemon *d, bool active, pid_t *pids, size_t max) {
    const tr_json_value *pool;
    tr_json *json = local_status(d, &pool);
    size_t count = 0;
    const tr_json_value *worker = tr_json_first(tr_json_get(pool, "workers"));
    for (; worker != NULL && count < max; worker = tr_json_next(worker)) {
        pid_t pid = (pid_t)tr_json_int(tr_json_get(worker, "pid"), 0);
        if (pid > 0 && (!active || tr_json_int(tr_json_get(worker, "active"), 0) > 0)) {
            pids[count++] = pid;
        }
    }
    tr_json_free(json);
    return count;
}

/* The first of them, or 0. */
static inline pid_t local_worker(local_daemon *d, bool active) {
    pid_t pid = 0;
    return local_workers(d, active, &pid, 1) == 1 ? pid : 0;
}

static inline uint64_t local_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

#endif
