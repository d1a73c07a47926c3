/* What a running daemon is made of; shared by daemon.c, plan.c and pulse.c. Internal to
 * tools/trouped. */
#ifndef TR_TOOLS_TROUPED_DAEMON_INTERNAL_H
#define TR_TOOLS_TROUPED_DAEMON_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "actors/company.h"
#include "actors/managed.h"
#include "inference/pool.h"
#include "providers/key_commands.h"
#include "providers/provider.h"
#include "runtime/process.h"
#include "tools/trouped/config.h"
#include "tools/trouped/trouped.h"

#define TRI_PROVIDERS_max TR_CONFIG_PROVIDERS_max

/* The names of one shard's HTTP door and providers. */
typedef struct tri_shard_names {
    char http[24];
    char providers[TRI_PROVIDERS_max][TR_PROVIDER_ACTOR_size];
} tri_shard_names;

struct tr_daemon {
    /* set at start */
    tr_daemon_options options;
    char *strings; /* the options' */
    tr_config config;
    char socket_url[256];
    bool private_socket; /* for our workers alone: no clients */
    char token[TR_TOKEN_max + 2];
    size_t token_size;
    tr_door_spec doors[TR_LISTENERS_max];
    size_t door_count;
    tr_provider_spec providers[TRI_PROVIDERS_max];
    tr_keychain *keychains[TRI_PROVIDERS_max];
    tr_key_commands_args key_commands;
    tr_provider_limit limits[TRI_PROVIDERS_max];
    size_t provider_count;
    tri_shard_names *names; /* one a shard */
    tr_child_spec *children;
    size_t child_count;
    tr_pool_plan **plans;      /* a local model each; NULL = it is a managed server */
    tr_managed_plan **servers; /* the same; NULL = it is not */
    tr_provider_spec *server_specs;
    char (*server_names)[TR_PROVIDER_ACTOR_size]; /* their actors', one a local model and shard */
    tr_child_spec *pools;
    size_t pool_count;
    char worker_program[512];
    tr_services *services;
    tr_node *node;
    tr_process_table *processes;
    tr_company *company;
    bool running;
    /* written by shards, read by tri_daemon_pulse; no other data hangs on it */
    _Atomic uint64_t beats;
    uint64_t beats_asked; /* of tri_daemon_pulse's thread */
    /* guarded by state_mtx */
    pthread_mutex_t state_mtx;
    pthread_cond_t state_cond;
    bool up, down, stopping;
    bool gave_up; /* it went down though nobody had asked */
    tr_err up_err;
    char why[512];
};

/* Keeps the sentence for tr_daemon_error and returns `err`. */
tr_err tri_daemon_failed(tr_err err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether the supervision tree gave up, so that the program ends as one that failed. Any thread. */
bool tri_daemon_gave_up(tr_daemon *daemon);

/* As the options say; a fault's sentence is kept for tr_daemon_error. */
TR_MUST_USE tr_err tri_daemon_read_config(const tr_daemon_options *options, tr_config *ret);
void tri_daemon_set_log(const tr_config *config);
/* The file that the next reload reads; kept as it is, so it must outlive the daemon. */
void tri_daemon_set_config_file(tr_daemon *daemon, const char *file);

/* plan_servers.c: the managed servers among the local models, with their provider actors. Before
 * plan_pools' others; room is there. */
TR_MUST_USE tr_err tri_plan_servers(tr_daemon *d, uint32_t shards);
void tri_plan_servers_free(tr_daemon *d);

/* plan.c: child specs of providers and pools, and the routes, from the configuration. */
TR_MUST_USE tr_err tri_plan_models(tr_daemon *d, uint32_t shards);
/* One log line that says what can be asked and, if nothing can, how that is changed; and a warning
 * for each part that cannot work yet. */
void tri_plan_report(const tr_daemon *d);
TR_MUST_USE tr_err tri_plan_routes(tr_daemon *d, const tr_config *config);
/* plan_keys.c: the keychain of a provider, NULL when out of memory; its sources read anew. */
tr_keychain *tri_plan_keychain(const tr_config *config, const char *name, const char *kind);
void tri_plan_reload_keys(tr_daemon *d, const tr_config *config);
/* Its entry in the configuration, or NULL. */
const tr_config_provider *tri_plan_configured(const tr_config *config, const char *name);
/* The limits that the configuration gives a provider; its name fits. */
tr_provider_limit tri_plan_limit(const tr_config *config, const char *provider);
void tri_plans_free(tr_daemon *d);

/* pulse.c: whether every shard has run since the last call, and asks them anew; false: one hangs.
 * From one thread that is no shard's. */
TR_MUST_USE bool tri_daemon_pulse(tr_daemon *d);
/* How long its stop may take, in milliseconds. */
uint64_t tri_daemon_drain_ms(const tr_daemon *d);

#endif
