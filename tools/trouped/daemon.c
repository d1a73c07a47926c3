/*
 * libtrouped: from a configuration to a running company, and back. Everything that the company's
 * specs point to lies in struct tr_daemon and outlives the node. tr_daemon_start waits for the
 * company's `up`, tr_daemon_stop for its `down`; both come on a shard and only set a flag.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/trouped/daemon_internal.h"

#include "protocol/assert.h"
#include "protocol/client/socket_path.h"
#include "providers/catalog.h"
#include "runtime/log.h"
#include "runtime/transport.h"

static _Thread_local char last_error[1024];

const char *tr_daemon_error(void) {
    return last_error;
}

tr_err tri_daemon_failed(tr_err err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(last_error, sizeof last_error, format, args);
    va_end(args);
    return err;
}

/* --- what the company tells --- */

static void up(void *arg, tr_err err, const char *why) {
    tr_daemon *d = arg;
    pthread_mutex_lock(&d->state_mtx);
    d->up = true;
    d->up_err = err;
    snprintf(d->why, sizeof d->why, "%s", why);
    pthread_cond_broadcast(&d->state_cond);
    pthread_mutex_unlock(&d->state_mtx);
}

static void down(void *arg, tr_err reason) {
    tr_daemon *d = arg;
    pthread_mutex_lock(&d->state_mtx);
    d->down = true;
    bool asked = d->stopping;
    d->gave_up = !asked;
    pthread_cond_broadcast(&d->state_cond);
    pthread_mutex_unlock(&d->state_mtx);
    if (!asked) {
        tr_log(TR_LOG_ERROR, NULL, "the supervision tree gave up", "err=%s", tr_err_name(reason));
        if (d->options.stop_requested != NULL) {
            d->options.stop_requested(d->options.arg);
        }
    }
}

bool tri_daemon_gave_up(tr_daemon *daemon) {
    pthread_mutex_lock(&daemon->state_mtx);
    bool gave_up = daemon->gave_up;
    pthread_mutex_unlock(&daemon->state_mtx);
    return gave_up;
}

static void wait_for(tr_daemon *d, const bool *flag) {
    pthread_mutex_lock(&d->state_mtx);
    while (!*flag) {
        pthread_cond_wait(&d->state_cond, &d->state_mtx);
    }
    pthread_mutex_unlock(&d->state_mtx);
}

/* --- doors --- */

static tr_err read_token(tr_daemon *d, const char *path) {
    struct stat status;
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), &status) != 0) {
        if (file != NULL) {
            fclose(file);
        }
        return tri_daemon_failed(TR_ERR_NOT_FOUND, "listen.token_file: %s cannot be read: %s", path,
                                 strerror(errno));
    }
    size_t size = fread(d->token, 1, sizeof d->token, file);
    fclose(file);
    if ((status.st_mode & 077) != 0) {
        return tri_daemon_failed(TR_ERR_AUTH, "listen.token_file: others may read %s: chmod 600 it",
                                 path);
    }
    while (size > 0 && (d->token[size - 1] == '\n' || d->token[size - 1] == '\r')) {
        size--;
    }
    if (size < 16 || size > TR_TOKEN_max) {
        return tri_daemon_failed(TR_ERR_INVALID,
                                 "listen.token_file: %s holds %zu bytes; a token has 16 to %d",
                                 path, size, TR_TOKEN_max);
    }
    d->token_size = size;
    return TR_OK;
}

static tr_err plan_doors(tr_daemon *d) {
    const tr_config *config = &d->config;
    char why[256];
    bool has_socket = strcmp(config->socket, "off") != 0;
    if (!has_socket) {
        char directory[TR_SOCKET_PATH_max + 1];
        tr_err err = tr_socket_directory(true, directory, sizeof directory, why, sizeof why);
        if (err != TR_OK) {
            return tri_daemon_failed(err, "%s", why);
        }
        snprintf(d->socket_url, sizeof d->socket_url, "ipc://%s/workers-%d.sock", directory,
                 (int)getpid());
        d->private_socket = true;
    } else if (strcmp(config->socket, "default") == 0) {
        tr_err err = tr_socket_url(true, d->socket_url, sizeof d->socket_url, why, sizeof why);
        if (err != TR_OK) {
            return tri_daemon_failed(err, "%s", why);
        }
    } else {
        snprintf(d->socket_url, sizeof d->socket_url, "%s", config->socket);
    }
    d->doors[d->door_count++] =
        (tr_door_spec){.url = d->socket_url, .same_user = true, .takes_clients = has_socket};
    if (d->options.inproc != NULL) {
        d->doors[d->door_count++] = (tr_door_spec){.url = d->options.inproc, .takes_clients = true};
    }
    if (config->tcp[0] != '\0') {
        tr_err err = read_token(d, config->token_file);
        if (err != TR_OK) {
            return err;
        }
        d->doors[d->door_count++] = (tr_door_spec){
            .url = config->tcp,
            .cert_file = config->cert_file[0] != '\0' ? config->cert_file : NULL,
            .token = d->token,
            .token_size = d->token_size,
            .takes_clients = true,
        };
    }
    return TR_OK;
}

/* --- start --- */

tr_err tri_daemon_read_config(const tr_daemon_options *options, tr_config *ret) {
    char why[TR_CONFIG_WHY_size];
    tr_err err = options->config_text != NULL
                     ? tr_config_parse(options->config_text, strlen(options->config_text),
                                       "config_text", ret, why)
                     : tr_config_load(options->config_file, ret, why);
    if (err == TR_OK) {
        err = tr_config_check(ret, why);
        if (err != TR_OK) {
            tr_config_fini(ret);
        }
    }
    return err == TR_OK ? TR_OK : tri_daemon_failed(err, "%s", why);
}

void tri_daemon_set_log(const tr_config *config) {
    tr_log_level level = TR_LOG_INFO;
    bool known = tr_log_level_parse(config->log_level, &level);
    TR_ASSERT(known); /* the configuration's table has the same names */
    bool json = strcmp(config->log_format, "json") == 0;
    tr_log_set(json ? TR_LOG_JSON : TR_LOG_LOGFMT, level, STDERR_FILENO);
}

static uint32_t shard_count(const tr_config *config) {
    if (config->shards > 0) {
        return (uint32_t)config->shards;
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > 4 ? 4 : (uint32_t)cores;
}

static tr_err start_node(tr_daemon *d) {
    tr_err err = tr_process_table_linux(&d->processes);
    if (err != TR_OK) {
        return tri_daemon_failed(err, "child processes cannot be started: %s", strerror(errno));
    }
    tr_node_spec spec = {
        .shards = shard_count(&d->config),
        .mailbox = strcmp(d->config.mailbox, "inproc") == 0 ? TR_MAILBOX_INPROC : TR_MAILBOX_DIRECT,
        .platform = {.transport = tr_transport_nng(), .processes = d->processes},
    };
    err = tr_node_new(&spec, &d->node);
    return err == TR_OK ? TR_OK : tri_daemon_failed(err, "%s", tr_err_text(err));
}

static tr_err start_company(tr_daemon *d) {
    tr_company_spec spec = {
        .services = d->services,
        .doors = d->doors,
        .door_count = d->door_count,
        .providers = d->children,
        .provider_count = d->child_count,
        .pools = d->pools,
        .pool_count = d->pool_count,
        .limits = d->limits,
        .limit_count = d->provider_count,
        .drain_ms = (uint32_t)d->config.drain_ms,
        .up = up,
        .down = down,
        .arg = d,
    };
    tr_err err = tr_company_start(d->node, &spec, &d->company);
    if (err == TR_OK) {
        err = tr_node_start(d->node);
    }
    if (err != TR_OK) {
        return tri_daemon_failed(err, "the daemon cannot start: %s", tr_err_text(err));
    }
    d->running = true;
    wait_for(d, &d->up);
    return d->up_err == TR_OK ? TR_OK : tri_daemon_failed(d->up_err, "%s", d->why);
}

/* One daemon a process: the log's settings and NNG are the process's. */
static _Atomic bool taken;

static void free_daemon(tr_daemon *d) {
    pthread_mutex_lock(&d->state_mtx);
    d->stopping = true; /* what still runs now ends because we say so */
    pthread_mutex_unlock(&d->state_mtx);
    if (d->running) {
        tr_node_stop(d->node);
    }
    if (d->node != NULL) {
        tr_node_end_actors(d->node); /* those left after a failure use the tables */
    }
    tr_process_table_free(d->processes);
    tr_node_free(d->node);
    tr_company_free(d->company);
    if (d->private_socket) { /* nobody will ever lock this process's name again */
        char lock[sizeof d->socket_url + 8];
        snprintf(lock, sizeof lock, "%s.lock", d->socket_url + strlen("ipc://"));
        unlink(lock);
    }
    tri_plans_free(d);
    tr_services_free(d->services);
    tr_config_fini(&d->config);
    pthread_cond_destroy(&d->state_cond);
    pthread_mutex_destroy(&d->state_mtx);
    free(d->strings);
    free(d);
    atomic_store(&taken, false);
}

/* The caller's options, with strings of our own. */
static tr_err copy_options(tr_daemon *d, const tr_daemon_options *options) {
    memcpy(&d->options, options,
           options->size < sizeof d->options ? options->size : sizeof d->options);
    const char **strings[] = {&d->options.config_file, &d->options.config_text, &d->options.inproc,
                              &d->options.worker_program};
    size_t size = 1;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        size += *strings[i] != NULL ? strlen(*strings[i]) + 1 : 0;
    }
    d->strings = malloc(size);
    if (d->strings == NULL) {
        return tri_daemon_failed(TR_ERR_NOMEM, "out of memory");
    }
    char *at = d->strings;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        if (*strings[i] != NULL) {
            size_t length = strlen(*strings[i]) + 1;
            memcpy(at, *strings[i], length);
            *strings[i] = at;
            at += length;
        }
    }
    return TR_OK;
}

static tr_err start(tr_daemon *d) {
    tr_err err = tri_daemon_read_config(&d->options, &d->config);
    if (err != TR_OK) {
        return err;
    }
    tri_daemon_set_log(&d->config);
    tr_services_spec services = {.version = TROUPE_VERSION,
                                 .stop_requested = d->options.stop_requested,
                                 .arg = d->options.arg};
    err = tr_services_new(&services, &d->services);
    if (err != TR_OK) {
        return tri_daemon_failed(err, "%s", tr_err_text(err));
    }
    err = plan_doors(d);
    if (err == TR_OK) {
        err = start_node(d);
    }
    if (err == TR_OK) {
        err = tri_plan_models(d, tr_node_shards(d->node));
    }
    if (err == TR_OK) {
        err = tri_plan_routes(d, &d->config);
    }
    return err == TR_OK ? start_company(d) : err;
}

int tr_daemon_start(const tr_daemon_options *options, tr_daemon **ret) {
    if (atomic_exchange(&taken, true)) {
        return (int)tri_daemon_failed(TR_ERR_EXISTS, "a daemon runs in this process already");
    }
    tr_daemon *d = calloc(1, sizeof *d);
    if (d == NULL) {
        atomic_store(&taken, false);
        return (int)tri_daemon_failed(TR_ERR_NOMEM, "out of memory");
    }
    pthread_mutex_init(&d->state_mtx, NULL);
    pthread_cond_init(&d->state_cond, NULL);
    tr_err err = copy_options(d, options);
    if (err == TR_OK) {
        err = start(d);
    }
    if (err != TR_OK) {
        free_daemon(d);
        return (int)err;
    }
    tr_log(TR_LOG_INFO, NULL, "ready", "version=%s pid=%d shards=%u mailbox=%s", TROUPE_VERSION,
           (int)getpid(), tr_node_shards(d->node), d->config.mailbox);
    *ret = d;
    return TR_OK;
}

const char *tr_daemon_url(const tr_daemon *daemon) {
    return daemon->options.inproc != NULL ? daemon->options.inproc : daemon->socket_url;
}

void tr_daemon_stop(tr_daemon *daemon) {
    if (daemon == NULL) {
        return;
    }
    pthread_mutex_lock(&daemon->state_mtx);
    daemon->stopping = true;
    bool gone = daemon->down;
    pthread_mutex_unlock(&daemon->state_mtx);
    if (!gone) {
        tr_company_stop(daemon->company);
        wait_for(daemon, &daemon->down);
    }
    tr_log(TR_LOG_INFO, NULL, "stopped", "pid=%d", (int)getpid());
    free_daemon(daemon);
}
