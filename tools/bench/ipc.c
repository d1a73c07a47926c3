/*
 * ipc: streamed chunks from the echo provider through call, connection and link, over a Unix
 * socket, through the client library, as a program's event loop gets them. Without --socket the
 * daemon's whole supervision tree runs in this process, on shards of its own; each client is a
 * thread with a connection and its part of the streams. Counted from the first request to the last
 * answer; every chunk's size is checked.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actors/company.h"
#include "protocol/client/troupe.h"
#include "runtime/log.h"
#include "runtime/transport.h"
#include "tools/bench/bench.h"

enum { STREAMS, CHUNKS, BYTES, CLIENTS, SHARDS, WINDOW };
#define CLIENTS_max 64

/* The daemon in this process. */
typedef struct daemon {
    char directory[64], url[128];
    tr_services *services;
    tr_node *node;
    tr_company *company;
    pthread_mutex_t mtx;
    pthread_cond_t cond;
    bool up, down; /* guarded by mtx */
    tr_err err;
    bool running;
} daemon_t;

static void tell(daemon_t *d, bool *flag, tr_err err) {
    pthread_mutex_lock(&d->mtx);
    *flag = true;
    d->err = err;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->mtx);
}

static void up(void *arg, tr_err err, const char *why) {
    daemon_t *d = arg;
    if (err != TR_OK) {
        fprintf(stderr, "troupe-bench: %s\n", why);
    }
    tell(d, &d->up, err);
}

static void down(void *arg, tr_err reason) {
    daemon_t *d = arg;
    tell(d, &d->down, reason);
}

static void wait_for(daemon_t *d, const bool *flag) {
    pthread_mutex_lock(&d->mtx);
    while (!*flag) {
        pthread_cond_wait(&d->cond, &d->mtx);
    }
    pthread_mutex_unlock(&d->mtx);
}

static tr_err start_services(daemon_t *d) {
    tr_services_spec spec = {.version = TROUPE_VERSION};
    static const char *const providers[] = {"echo"};
    tr_routes_spec routes = {.providers = providers, .provider_count = 1};
    tr_routes *made = NULL;
    tr_err err = tr_services_new(&spec, &d->services);
    err = err == TR_OK ? tr_routes_new(&routes, &made) : err;
    if (err == TR_OK) {
        tr_services_set_routes(d->services, made);
    }
    return err;
}

static tr_err start_daemon(daemon_t *d, const tri_run *run) {
    snprintf(d->directory, sizeof d->directory, "/tmp/troupe-bench-XXXXXX");
    if (mkdtemp(d->directory) == NULL) {
        return TR_ERR_IO;
    }
    snprintf(d->url, sizeof d->url, "ipc://%s/troupe.sock", d->directory);
    tr_err err = start_services(d);
    tr_node_spec spec = {.shards = (uint32_t)run->values[SHARDS],
                         .mailbox = run->mailbox,
                         .platform = {.transport = tr_transport_nng()}};
    err = err == TR_OK ? tr_node_new(&spec, &d->node) : err;
    tr_door_spec door = {.url = d->url, .same_user = true, .takes_clients = true};
    tr_company_spec company = {.services = d->services,
                               .doors = &door,
                               .door_count = 1,
                               .drain_ms = 1000,
                               .up = up,
                               .down = down,
                               .arg = d};
    err = err == TR_OK ? tr_company_start(d->node, &company, &d->company) : err;
    err = err == TR_OK ? tr_node_start(d->node) : err;
    if (err != TR_OK) {
        return err;
    }
    d->running = true;
    wait_for(d, &d->up);
    return d->err;
}

static void stop_daemon(daemon_t *d) {
    if (d->running) {
        if (d->err == TR_OK) {
            tr_company_stop(d->company);
            wait_for(d, &d->down);
        }
        tr_node_stop(d->node);
    }
    if (d->node != NULL) {
        tr_transport_nng()->forget(tr_transport_nng(), d->node);
        tr_node_free(d->node);
    }
    tr_company_free(d->company);
    tr_services_free(d->services);
    char lock[sizeof d->url + 8];
    snprintf(lock, sizeof lock, "%s.lock", d->url + strlen("ipc://"));
    unlink(lock); /* it outlives its daemon, by design */
    rmdir(d->directory);
}

/* One connection and its streams, on a thread of its own. */
typedef struct client {
    const tri_run *run;
    const char *url;
    uint64_t streams;
    uint64_t chunks, ended;
    tr_err err; /* the first */
    pthread_t thread;
} client;

static void on_chunk(const tr_chunk *chunk, void *arg) {
    client *c = arg;
    c->chunks++;
    if (chunk->size != c->run->values[BYTES]) {
        c->err = TR_ERR_BUG;
    }
}

static void on_done(const tr_result *result, void *arg) {
    client *c = arg;
    c->ended++;
    if (tr_result_error(result) != TR_OK && c->err == TR_OK) {
        c->err = tr_result_error(result);
        fprintf(stderr, "troupe-bench: %s\n", tr_result_message(result));
    }
}

static tr_err submit_all(client *c, tr_client *connection) {
    char extra[96];
    snprintf(extra, sizeof extra, "{\"echo\":{\"chunks\":%llu,\"bytes\":%llu}}",
             (unsigned long long)c->run->values[CHUNKS], (unsigned long long)c->run->values[BYTES]);
    tr_options options = TR_OPTIONS_INIT;
    options.model = "echo/bench";
    options.extra_json = extra;
    options.forget = true;
    options.window_messages = (uint32_t)c->run->values[WINDOW];
    tr_request *request = NULL;
    tr_err err = tr_request_new(&options, &request);
    err = err == TR_OK ? tr_request_text(request, "user", "x") : err;
    for (uint64_t i = 0; i < c->streams && err == TR_OK; i++) {
        err = tr_client_submit(connection, request, on_chunk, on_done, c, NULL);
    }
    tr_request_free(request);
    return err;
}

static void *run_client(void *arg) {
    client *c = arg;
    tr_client *connection = NULL;
    tr_err err = tr_client_open(c->url, &connection);
    err = err == TR_OK ? submit_all(c, connection) : err;
    if (err != TR_OK) {
        fprintf(stderr, "troupe-bench: %s\n", tr_client_error());
    }
    struct pollfd polled = {.fd = err == TR_OK ? tr_client_fd(connection) : -1, .events = POLLIN};
    while (err == TR_OK && c->err == TR_OK && c->ended < c->streams && poll(&polled, 1, -1) > 0) {
        err = tr_client_dispatch(connection);
    }
    tr_client_close(connection);
    c->err = c->err == TR_OK ? err : c->err;
    return NULL;
}

static double seconds_since(const struct timespec *begun) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - begun->tv_sec) + (double)(now.tv_nsec - begun->tv_nsec) / 1e9;
}

static tr_err run_clients(const tri_run *run, const char *url, tri_result *ret) {
    static client clients[CLIENTS_max];
    uint64_t count = run->values[CLIENTS], left = run->values[STREAMS];
    struct timespec begun;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (uint64_t i = 0; i < count; i++) {
        clients[i] = (client){.run = run, .url = url, .streams = left / (count - i)};
        left -= clients[i].streams;
        if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) != 0) {
            abort();
        }
    }
    tr_err err = TR_OK;
    ret->count = 0;
    for (uint64_t i = 0; i < count; i++) {
        pthread_join(clients[i].thread, NULL);
        ret->count += clients[i].chunks;
        err = err == TR_OK ? clients[i].err : err;
    }
    ret->seconds = seconds_since(&begun);
    bool whole = ret->count == run->values[STREAMS] * run->values[CHUNKS];
    return err == TR_OK && !whole ? TR_ERR_TRUNCATED : err;
}

static tr_err run_ipc(const tri_run *run, tri_result *ret) {
    if (run->socket != NULL) {
        return run_clients(run, run->socket, ret);
    }
    tr_log_set(TR_LOG_LOGFMT, TR_LOG_WARN, STDERR_FILENO); /* else a line a request */
    daemon_t d = {.mtx = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    tr_err err = start_daemon(&d, run);
    err = err == TR_OK ? run_clients(run, d.url, ret) : err;
    stop_daemon(&d);
    return err;
}

const tri_workload tri_bench_ipc = {
    .name = "ipc",
    .counts = "chunks",
    .options = {{"streams", 64, 1, 4096},
                {"chunks", 20000, 1, 100000000},
                {"bytes", 64, 1, 32768},
                {"clients", 1, 1, CLIENTS_max},
                {"shards", 1, 1, 64},
                {"window", 256, 1, 65536}},
    .run = run_ipc,
};
