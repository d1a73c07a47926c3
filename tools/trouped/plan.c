/* From the configuration to what the company starts: providers (the catalog's and the user's),
 * pools of local models, and the routes to them. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/trouped/daemon_internal.h"

#include "actors/command.h"
#include "providers/catalog.h"
#include "providers/http.h"
#include "providers/servers.h"
#include "runtime/log.h"
#include "tools/trouped/config_table.h"

#define AT_ONCE_default 64

/* --- providers --- */

const tr_config_provider *tri_plan_configured(const tr_config *config, const char *name) {
    const tr_config_provider *providers = config->providers.items;
    for (size_t i = 0; i < config->providers.count; i++) {
        if (strcmp(providers[i].name, name) == 0) {
            return &providers[i];
        }
    }
    return NULL;
}

tr_provider_limit tri_plan_limit(const tr_config *config, const char *provider) {
    const tr_config_provider *given = tri_plan_configured(config, provider);
    tr_provider_limit limit = {.at_once = AT_ONCE_default};
    if (given != NULL) {
        limit = (tr_provider_limit){.at_once = (uint32_t)given->at_once,
                                    .rpm = (uint32_t)given->rpm,
                                    .tpm = (uint32_t)given->tpm,
                                    .burst = (uint32_t)given->burst,
                                    .adaptive = given->adaptive};
    }
    snprintf(limit.name, sizeof limit.name, "%s", provider);
    return limit;
}

static tr_err add_provider(tr_daemon *d, const char *name, const tr_config_provider *given) {
    if (d->provider_count == TRI_PROVIDERS_max) {
        return tri_daemon_failed(TR_ERR_INVALID, "at most %d providers", TRI_PROVIDERS_max);
    }
    if (strlen(name) >= sizeof d->limits[0].name) {
        return tri_daemon_failed(TR_ERR_INVALID, "providers: %s: the name is too long", name);
    }
    const char *kind = given != NULL && given->kind[0] != '\0' ? given->kind : NULL;
    const char *url = given != NULL && given->base_url[0] != '\0' ? given->base_url : NULL;
    char why[256];
    tr_provider_spec *spec = &d->providers[d->provider_count];
    tr_err err = tr_provider_spec_init(name, kind, url, NULL, spec, why, sizeof why);
    if (err != TR_OK) {
        return tri_daemon_failed(err, "providers: %s: %s", name, why);
    }
    spec->keychain = tri_plan_keychain(&d->config, name, spec->kind);
    if (spec->keychain == NULL) {
        return tri_daemon_failed(TR_ERR_NOMEM, "out of memory");
    }
    d->keychains[d->provider_count] = spec->keychain;
    d->limits[d->provider_count++] = tri_plan_limit(&d->config, name);
    return TR_OK;
}

static tr_err plan_providers(tr_daemon *d, uint32_t shards) {
    tr_err err = TR_OK;
    for (size_t i = 0; err == TR_OK && tr_catalog_at(i) != NULL; i++) {
        const char *name = tr_catalog_at(i)->name;
        err = add_provider(d, name, tri_plan_configured(&d->config, name));
    }
    const tr_config_provider *own = d->config.providers.items;
    for (size_t i = 0; err == TR_OK && i < d->config.providers.count; i++) {
        if (tr_catalog_find(own[i].name) == NULL) {
            err = add_provider(d, own[i].name, &own[i]);
        }
    }
    if (err != TR_OK) {
        return err;
    }
    d->names = calloc(shards, sizeof *d->names);
    d->children =
        calloc(1 + shards * (d->provider_count + 1 + d->config.locals.count), sizeof *d->children);
    if (d->names == NULL || d->children == NULL) {
        return tri_daemon_failed(TR_ERR_NOMEM, "out of memory");
    }
    d->key_commands = (tr_key_commands_args){
        .processes = d->processes, .chains = d->keychains, .chain_count = d->provider_count};
    d->children[d->child_count++] = tr_key_commands_child(&d->key_commands);
    for (uint32_t shard = 0; shard < shards; shard++) {
        tri_shard_names *names = &d->names[shard];
        snprintf(names->http, sizeof names->http, "http:%u", shard);
        d->children[d->child_count++] = tr_http_child(shard, names->http);
        for (size_t i = 0; i < d->provider_count; i++) {
            d->children[d->child_count++] =
                tr_provider_child(&d->providers[i], shard, names->providers[i]);
        }
    }
    return TR_OK;
}

/* --- local models --- */

static const char taken_from = 0; /* lies where this code lies */

/* Whether DIRECTORY/troupe-worker can be run; then it is what is started. */
static bool take_worker(tr_daemon *d, size_t size, const char *directory, const char *below) {
    char *program = d->worker_program;
    int used = snprintf(program, sizeof d->worker_program, "%.*s%s/troupe-worker", (int)size,
                        directory, below);
    return used > 0 && (size_t)used < sizeof d->worker_program && access(program, X_OK) == 0;
}

static size_t directory_size(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? (size_t)(slash - path) : 0;
}

/* troupe-worker: as told, else beside this program, else in the bin/ beside the lib/ from which
 * this code was loaded (libtrouped in a program that lies elsewhere), else in PATH. */
static void find_worker(tr_daemon *d) {
    if (d->options.worker_program != NULL) {
        snprintf(d->worker_program, sizeof d->worker_program, "%s", d->options.worker_program);
        return;
    }
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    if (length > 0 && take_worker(d, directory_size(self), self, "")) {
        return;
    }
    Dl_info info;
    char library[PATH_MAX];
    if (dladdr(&taken_from, &info) != 0 && info.dli_fname != NULL &&
        realpath(info.dli_fname, library) != NULL) {
        size_t size = directory_size(library);
        if (take_worker(d, size, library, "/../bin") ||
            take_worker(d, size, library, "/../../bin")) { /* lib/x86_64-linux-gnu */
            return;
        }
    }
    const char *path = getenv("PATH");
    while (path != NULL && path[0] != '\0') {
        size_t part = strcspn(path, ":");
        if (take_worker(d, part, path, "")) {
            return;
        }
        path += part + (path[part] == ':');
    }
    snprintf(d->worker_program, sizeof d->worker_program,
             "troupe-worker"); /* starting it will say that it is missing */
}

static tr_err plan_pools(tr_daemon *d) {
    size_t count = d->config.locals.count;
    const tr_config_local *locals = d->config.locals.items;
    d->plans = calloc(count + 1, sizeof *d->plans);
    d->pools = calloc(count + 1, sizeof *d->pools);
    if (d->plans == NULL || d->pools == NULL) {
        return tri_daemon_failed(TR_ERR_NOMEM, "out of memory");
    }
    find_worker(d);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    for (size_t i = 0; i < count; i++) {
        const tr_config_local *local = &locals[i];
        char file[PATH_MAX];
        if (tr_config_is_managed(local)) {
            continue;
        }
        tr_config_model_file(local, file, sizeof file);
        uint64_t share =
            (uint64_t)(cores > 0 ? cores : 1) / (local->workers > 0 ? local->workers : 1);
        tr_pool_spec spec = {
            .model = local->name,
            .file = file,
            .worker_program = d->worker_program,
            .dial_url = d->socket_url,
            .workers = (uint32_t)local->workers,
            .sequences = (uint32_t)local->sequences,
            .context = (uint32_t)local->context,
            .threads = (uint32_t)(local->threads > 0 ? local->threads
                                  : share > 0        ? share
                                                     : 1),
            .gpu_layers = (int32_t)local->gpu_layers,
            .chat_template = local->chat_template,
            .idle_unload_ms = local->idle_unload_ms,
            .preload = local->preload,
            .silence_ms = (uint32_t)local->silence_ms,
            .hang_ms = (uint32_t)local->hang_ms,
        };
        tr_err err = tr_pool_plan_new(&spec, &d->plans[i]);
        if (err != TR_OK) {
            return tri_daemon_failed(err, "local: %s: %s", local->name, tr_err_text(err));
        }
        d->pools[d->pool_count++] = tr_pool_child(d->plans[i]);
    }
    return TR_OK;
}

tr_err tri_plan_models(tr_daemon *d, uint32_t shards) {
    tr_err err = plan_providers(d, shards);
    if (err == TR_OK) {
        err = plan_pools(d);
    }
    if (err == TR_OK) {
        err = tri_plan_servers(d, shards);
    }
    if (err == TR_OK) {
        tri_plan_report(d);
    }
    return err;
}

/* --- what there is, for the log --- */

static void log_warning(void *arg, const char *sentence) {
    char quoted[TR_CONFIG_WHY_size];
    (void)arg;
    tr_log(TR_LOG_WARN, NULL, "the configuration asks for what is not there", "why=%s",
           tr_log_quote(sentence, strlen(sentence), quoted, sizeof quoted));
}

static void add_name(char *list, size_t size, const char *name) {
    size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%s", used > 0 ? " " : "", name);
}

void tri_plan_report(const tr_daemon *d) {
    static const char how[] =
        " how=\"tools/setup installs a model; local: {NAME: {file: PATH}} in the configuration "
        "names another; a provider works when its key is stored (troupe key set openai) or in the "
        "daemon's environment, such as OPENAI_API_KEY; providers: {NAME: {kind: openai-compatible, "
        "base_url: URL}} adds a "
        "server; then start trouped again\"";
    const tr_config_local *locals = d->config.locals.items;
    char here[512] = "";
    char missing[512] = "";
    char ready[512] = "";
    char open[512] = "";
    for (size_t i = 0; i < d->config.locals.count; i++) {
        char file[PATH_MAX];
        tr_config_model_file(&locals[i], file, sizeof file);
        bool there =
            tr_config_is_managed(&locals[i]) || locals[i].workers == 0 || access(file, R_OK) == 0;
        add_name(there ? here : missing, sizeof here, locals[i].name);
    }
    bool asked = false; /* a server that the user named */
    for (size_t i = 0; i < d->provider_count; i++) {
        const tr_provider_spec *spec = &d->providers[i];
        bool required = tr_provider_needs_key(spec);
        asked = asked || (!required && tri_plan_configured(&d->config, spec->name) != NULL);
        if (!required) {
            add_name(open, sizeof open, spec->name);
        } else if (tr_keychain_has(spec->keychain)) {
            add_name(ready, sizeof ready, spec->name);
        }
    }
    tr_log(TR_LOG_INFO, NULL, "models and providers",
           "models=\"%s\" models_without_file=\"%s\" providers_with_key=\"%s\" "
           "providers_without_need_of_one=\"%s\"%s",
           here, missing, ready, open, here[0] == '\0' && ready[0] == '\0' && !asked ? how : "");
    tr_config_warn(&d->config, log_warning, NULL);
}

/* --- routes --- */

/* A server that is not told of it has a context of its own. */
static uint32_t context_of(const tr_config_local *local) {
    const char *command =
        tr_config_is_managed(local) ? tr_config_server_command(local) : "{context}";
    bool told = tr_command_has(command, "context") || tr_command_has(command, "cache");
    return told ? (uint32_t)local->context : 0;
}

static tr_structured structured_of(const tr_config_local *local) {
    if (!tr_config_is_managed(local)) {
        return TR_STRUCTURED_GRAMMAR;
    }
    bool lacks_it = (tr_server_find(local->kind)->row.quirks & TR_QUIRK_NO_SCHEMA) != 0;
    return lacks_it ? TR_STRUCTURED_INSTRUCT : TR_STRUCTURED_NATIVE;
}

/* The configuration's word, or the catalog's. */
static tr_structured provider_structured(const tr_config *config,
                                         const tr_provider_spec *provider) {
    const tr_config_provider *given = tri_plan_configured(config, provider->name);
    const char *word = given != NULL ? given->structured : "auto";
    const tr_catalog_row *row = tr_catalog_find(provider->kind);
    uint32_t quirks = row != NULL ? row->quirks : 0;
    return strcmp(word, "native") == 0             ? TR_STRUCTURED_NATIVE
           : strcmp(word, "object") == 0           ? TR_STRUCTURED_OBJECT
           : strcmp(word, "instruct") == 0         ? TR_STRUCTURED_INSTRUCT
           : (quirks & TR_QUIRK_NO_SCHEMA) != 0    ? TR_STRUCTURED_OBJECT
           : (quirks & TR_QUIRK_NO_JSON_MODE) != 0 ? TR_STRUCTURED_SCHEMA
                                                   : TR_STRUCTURED_NATIVE;
}

tr_err tri_plan_routes(tr_daemon *d, const tr_config *config) {
    size_t local_count = d->config.locals.count; /* pools change with a restart only */
    const tr_config_local *locals = d->config.locals.items;
    const char **local_names = calloc(local_count + 1, sizeof *local_names);
    uint32_t *contexts = calloc(local_count + 1, sizeof *contexts);
    tr_structured *by = calloc(local_count + 1, sizeof *by);
    const char **provider_names = calloc(d->provider_count + 1, sizeof *provider_names);
    tr_structured structured[TRI_PROVIDERS_max + 1] = {TR_STRUCTURED_NATIVE};
    const char **kinds = calloc(d->provider_count + 1, sizeof *kinds);
    const char **urls = calloc(d->provider_count + 1, sizeof *urls);
    char(*texts)[TR_URL_max + 1] = calloc(d->provider_count + 1, sizeof *texts);
    tr_model_own *models = calloc(config->models.count + 1, sizeof *models);
    tr_alias *aliases = calloc(config->aliases.count + 1, sizeof *aliases);
    tr_err err = TR_ERR_NOMEM;
    tr_routes *routes = NULL;
    if (local_names != NULL && contexts != NULL && by != NULL && provider_names != NULL &&
        aliases != NULL && kinds != NULL && models != NULL && urls != NULL && texts != NULL) {
        for (size_t i = 0; i < local_count; i++) {
            local_names[i] = locals[i].name;
            contexts[i] = context_of(&locals[i]);
            by[i] = structured_of(&locals[i]);
        }
        for (size_t i = 0; i < d->provider_count; i++) {
            provider_names[i] = d->providers[i].name;
            structured[i] = provider_structured(config, &d->providers[i]);
            kinds[i] = d->providers[i].kind;
            urls[i] = tr_provider_base_url(&d->providers[i], texts[i]);
        }
        provider_names[d->provider_count] = kinds[d->provider_count] = "echo";
        tri_config_models(config, models);
        tri_config_aliases(config, aliases);
        tr_routes_spec spec = {
            .locals = local_names,
            .local_count = local_count,
            .contexts = contexts,
            .local_structured = by,
            .structured = structured,
            .providers = provider_names,
            .provider_count = d->provider_count + 1,
            .kinds = kinds,
            .urls = urls,
            .models = models,
            .model_count = config->models.count,
            .aliases = aliases,
            .alias_count = config->aliases.count,
            .default_model = config->default_model,
            .limits = {.connect_ms = (uint32_t)config->connect_ms,
                       .first_token_ms = (uint32_t)config->first_token_ms,
                       .idle_ms = (uint32_t)config->idle_ms,
                       .total_ms = (uint32_t)config->total_ms,
                       .stalled_ms = (uint32_t)config->stalled_ms,
                       .pause_ms = (uint32_t)config->pause_ms},
            .attempts = (uint32_t)config->attempts,
        };
        err = tr_routes_new(&spec, &routes);
    }
    free(local_names);
    free(contexts);
    free(by);
    free(provider_names);
    free(aliases);
    free(kinds);
    free(urls);
    free(texts);
    free(models);
    if (err != TR_OK) {
        return tri_daemon_failed(err, "%s", tr_err_text(err));
    }
    tr_services_set_routes(d->services, routes);
    return TR_OK;
}

void tri_plans_free(tr_daemon *d) {
    for (size_t i = 0; d->plans != NULL && i < d->config.locals.count; i++) {
        tr_pool_plan_free(d->plans[i]);
    }
    tri_plan_servers_free(d);
    for (size_t i = 0; i < TRI_PROVIDERS_max; i++) {
        tr_keychain_free(d->keychains[i]);
    }
    free(d->plans);
    free(d->pools);
    free(d->children);
    free(d->names);
}
