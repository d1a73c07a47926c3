/* The managed servers among the configuration's local models: for each its plan, the provider
 * actors that speak to it, and the actor that starts it as a pool's neighbour. Called once, at
 * start. */
#include <stdlib.h>
#include <string.h>

#include "tools/trouped/daemon_internal.h"

#include "providers/servers.h"

static tr_err plan_server(tr_daemon *d, size_t i, const char *const *env) {
    const tr_config_local *local = &((const tr_config_local *)d->config.locals.items)[i];
    const tr_server_row *row = tr_server_find(local->kind);
    char why[256];
    tr_managed_spec spec = {
        .name = local->name,
        .kind = local->kind,
        .model = local->model,
        .command = tr_config_server_command(local),
        .health = local->health[0] != '\0' ? local->health : row->health,
        .install = row->install,
        .env = env,
        .at_once = (uint32_t)local->sequences,
        .context = (uint32_t)local->context,
        .preload = local->preload,
        .idle_unload_ms = local->idle_unload_ms,
        .load_ms = (uint32_t)local->load_limit_ms,
        .hang_ms = (uint32_t)local->hang_ms,
    };
    tr_err err = tr_managed_plan_new(&spec, &d->servers[i], why, sizeof why);
    if (err == TR_OK) {
        err = tr_provider_spec_server(
            local->kind, local->name,
            row->names_model && local->model[0] != '\0' ? local->model : "",
            tr_managed_port(d->servers[i]), &d->server_specs[i], why, sizeof why);
    }
    return err == TR_OK ? TR_OK : tri_daemon_failed(err, "local: %s: %s", local->name, why);
}

/* The list ends with NULL, unlike the configuration's. */
static tr_err plan_with_env(tr_daemon *d, size_t i) {
    const tr_config_local *local = &((const tr_config_local *)d->config.locals.items)[i];
    const char **env = calloc(local->env.count + 1, sizeof *env);
    if (env == NULL) {
        return tri_daemon_failed(TR_ERR_NOMEM, "out of memory");
    }
    for (size_t k = 0; k < local->env.count; k++) {
        env[k] = local->env.items[k];
    }
    tr_err err = plan_server(d, i, env);
    free(env);
    return err;
}

tr_err tri_plan_servers(tr_daemon *d, uint32_t shards) {
    size_t count = d->config.locals.count;
    const tr_config_local *locals = d->config.locals.items;
    d->servers = calloc(count + 1, sizeof *d->servers);
    d->server_specs = calloc(count + 1, sizeof *d->server_specs);
    d->server_names = calloc((count + 1) * shards, sizeof *d->server_names);
    if (d->servers == NULL || d->server_specs == NULL || d->server_names == NULL) {
        return tri_daemon_failed(TR_ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        if (!tr_config_is_managed(&locals[i])) {
            continue;
        }
        tr_err err = plan_with_env(d, i);
        if (err != TR_OK) {
            return err;
        }
        d->pools[d->pool_count++] = tr_managed_child(d->servers[i]);
        for (uint32_t shard = 0; shard < shards; shard++) {
            d->children[d->child_count++] =
                tr_provider_child(&d->server_specs[i], shard, d->server_names[i * shards + shard]);
        }
    }
    return TR_OK;
}

void tri_plan_servers_free(tr_daemon *d) {
    for (size_t i = 0; d->servers != NULL && i < d->config.locals.count; i++) {
        tr_managed_plan_free(d->servers[i]);
    }
    free(d->servers);
    free(d->server_specs);
    free(d->server_names);
}
