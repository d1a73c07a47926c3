/*
 * SIGHUP: the configuration is read again. What can change under running requests does (routes,
 * that is aliases, time limits and the default model; keys and limits of providers; the drain's
 * limit; the log); what is part of the tree's shape (doors, models, providers, shards) stays as it
 * was at the start, and each key that differs from then is named in the log, at each reload anew.
 * Called on the program's thread, never a shard's.
 */
#include <string.h>

#include "tools/trouped/config_table.h"
#include "tools/trouped/daemon_internal.h"

#include "providers/catalog.h"
#include "runtime/log.h"

typedef struct count {
    const char *file;
    unsigned left;
} count;

static bool in_catalog(const char *name) {
    return tr_catalog_find(name) != NULL;
}

static void changed(void *arg, const char *key, bool at_reload) {
    count *c = arg;
    if (!at_reload) {
        c->left++;
        tr_log(TR_LOG_WARN, NULL, "a changed key takes a restart", "key=%s file=%s", key, c->file);
    }
}

static void apply_limits(tr_daemon *d, const tr_config *config) {
    for (size_t i = 0; i < d->provider_count; i++) {
        tr_provider_limit *had = &d->limits[i];
        tr_provider_limit limit = tri_plan_limit(config, had->name);
        if (limit.at_once != had->at_once || limit.rpm != had->rpm || limit.tpm != had->tpm ||
            limit.burst != had->burst || limit.adaptive != had->adaptive) {
            *had = limit;
            (void)tr_company_set_limit(d->company, &limit);
        }
    }
}

void tri_daemon_set_config_file(tr_daemon *daemon, const char *file) {
    daemon->options.config_file = file;
}

int tr_daemon_reload(tr_daemon *daemon) {
    tr_config config;
    tr_err err = tri_daemon_read_config(&daemon->options, &config);
    if (err != TR_OK) {
        return (int)err;
    }
    err = tri_plan_routes(daemon, &config);
    if (err == TR_OK) {
        count c = {.file =
                       daemon->options.config_file != NULL ? daemon->options.config_file : "none"};
        apply_limits(daemon, &config);
        tri_plan_reload_keys(daemon, &config);
        tr_company_set_drain(daemon->company, (uint32_t)config.drain_ms);
        daemon->config.drain_ms = config.drain_ms;
        tri_daemon_set_log(&config);
        tri_config_diff(&daemon->config, &config, in_catalog, changed, &c);
        tr_log(TR_LOG_INFO, NULL, "the configuration was read again", "file=%s need_restart=%u",
               c.file, c.left);
    }
    tr_config_fini(&config);
    return (int)err;
}
