/*
 * The configuration as a whole: names must lead somewhere and not collide, URLs and references be
 * well formed, the files of the doors be usable. The rules of the parts are asked themselves (the
 * catalog for providers, routing for aliases and the default model), so that what passes here is
 * what starts. What may come later, a model's file or a key, is a warning: a supervised part that
 * cannot work yet does not keep the others from working.
 *
 * Called by `trouped --check` and by the daemon at start and at each reload; any thread.
 */
#include "tools/trouped/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/route.h"
#include "protocol/client/socket_path.h"
#include "protocol/near.h"
#include "providers/catalog.h"
#include "providers/key_file.h"
#include "providers/keychain.h"
#include "providers/provider.h"
#include "providers/servers.h"
#include "tools/trouped/config_table.h"

static tr_str str(const char *text) {
    return (tr_str){text, strlen(text)};
}

/* --- doors --- */

/* HOST:PORT, the host possibly empty (all addresses) or an IPv6 address in brackets. */
static bool has_port(const char *place) {
    const char *colon = strrchr(place, ':');
    if (colon == NULL || strpbrk(place, "/ \t") != NULL) {
        return false;
    }
    size_t digits = strspn(colon + 1, "0123456789");
    return digits > 0 && digits <= 5 && colon[1 + digits] == '\0' &&
           strtoul(colon + 1, NULL, 10) <= 65535;
}

static tr_err check_token(const tr_config *c, char *why) {
    struct stat status;
    if (stat(c->token_file, &status) != 0) {
        return tri_config_fault(c, &c->token_file, why, "token_file: %s cannot be read: %s",
                                c->token_file, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return tri_config_fault(c, &c->token_file, why, "token_file: %s is no file", c->token_file);
    }
    if ((status.st_mode & 077) != 0) {
        return tri_config_fault(c, &c->token_file, why,
                                "token_file: others may read %s: chmod 600 it", c->token_file);
    }
    if (status.st_size < 16 || status.st_size > TR_TOKEN_max + 2) {
        return tri_config_fault(c, &c->token_file, why,
                                "token_file: %s holds %lld bytes; a token has 16 to %d",
                                c->token_file, (long long)status.st_size, TR_TOKEN_max);
    }
    return TR_OK;
}

static tr_err check_tcp(const tr_config *c, char *why) {
    bool tls = strncmp(c->tcp, "tls+tcp://", 10) == 0;
    if (!tls && strncmp(c->tcp, "tcp://", 6) != 0) {
        return tri_config_fault(
            c, &c->tcp, why, "tcp: \"%s\" begins neither with tcp:// nor with tls+tcp://", c->tcp);
    }
    if (!has_port(c->tcp + (tls ? 10 : 6))) {
        return tri_config_fault(c, &c->tcp, why, "tcp: \"%s\" does not end in HOST:PORT", c->tcp);
    }
    if (c->token_file[0] == '\0') {
        return tri_config_fault(c, &c->tcp, why,
                                "tcp needs a token_file: who can reach the port could use it");
    }
    if (tls && c->cert_file[0] == '\0') {
        return tri_config_fault(c, &c->tcp, why,
                                "tls+tcp needs a cert_file with certificate and key");
    }
    if (tls && access(c->cert_file, R_OK) != 0) {
        return tri_config_fault(c, &c->cert_file, why, "cert_file: %s cannot be read: %s",
                                c->cert_file, strerror(errno));
    }
    return check_token(c, why);
}

static tr_err check_doors(const tr_config *c, char *why) {
    if (strcmp(c->socket, "default") != 0 && strcmp(c->socket, "off") != 0) {
        if (strncmp(c->socket, "ipc:///", 7) != 0) {
            return tri_config_fault(c, &c->socket, why,
                                    "socket: \"%s\" is neither ipc://PATH, the path beginning with "
                                    "/, nor default nor off",
                                    c->socket);
        }
        size_t size = strlen(c->socket) - 6;
        if (size > TR_SOCKET_PATH_max) {
            return tri_config_fault(c, &c->socket, why,
                                    "socket: the path has %zu bytes; a socket's has at most %d",
                                    size, TR_SOCKET_PATH_max);
        }
    }
    return c->tcp[0] != '\0' ? check_tcp(c, why) : TR_OK;
}

/* --- providers --- */

static tr_err unknown_kind(const tr_config *c, const tr_config_provider *p, char *why) {
    bool own = p->kind[0] != '\0';
    char meant[128];
    char all[256];
    size_t used = 0;
    tr_near near;
    tr_near_init(&near, str(own ? p->kind : p->name), meant, sizeof meant);
    all[0] = '\0';
    for (size_t i = 0; tr_catalog_at(i) != NULL && used < sizeof all; i++) {
        const char *name = tr_catalog_at(i)->name;
        tr_near_consider(&near, name);
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? ", " : "", name);
    }
    if (own) {
        return tri_config_fault(c, &p->kind, why,
                                "kind: there is no kind \"%.64s\"%s; for any server that speaks "
                                "OpenAI's protocol it is openai-compatible; there are %s",
                                p->kind, meant, all);
    }
    return tri_config_fault(c, &p->name, why,
                            "%s: no provider of the catalog has this name%s; an own name needs a "
                            "kind, for any server that speaks OpenAI's protocol "
                            "openai-compatible; there are %s",
                            p->name, meant, all);
}

static tr_err check_keys(const tr_config *c, const tr_config_provider *p, char *why) {
    char reason[256];
    if (p->keys.count > TR_KEY_SOURCES_max) {
        return tri_config_fault(c, &p->keys, why, "keys: %zu sources; at most %d are possible",
                                p->keys.count, TR_KEY_SOURCES_max);
    }
    for (size_t i = 0; i < p->keys.count; i++) {
        if (!tr_key_source_valid(p->keys.items[i], reason, sizeof reason)) {
            return tri_config_fault(c, &p->keys, why, "keys: %s", reason);
        }
    }
    return TR_OK;
}

static tr_err check_provider(const tr_config *c, const tr_config_provider *p, char *why) {
    if (strcmp(p->name, "local") == 0 || strcmp(p->name, "echo") == 0) {
        return tri_config_fault(
            c, &p->name, why, "%s: this name is taken, %s; choose another one", p->name,
            p->name[0] == 'l' ? "by the models of this machine" : "by the daemon's own echo");
    }
    if (strncmp(p->kind, TR_SERVER_KIND_PREFIX, strlen(TR_SERVER_KIND_PREFIX)) == 0) {
        return tri_config_fault(c, &p->kind, why,
                                "kind: a server that Troupe is to start stands under `local:` and "
                                "not under `providers:`");
    }
    if (tr_catalog_find(p->kind[0] != '\0' ? p->kind : p->name) == NULL) {
        return unknown_kind(c, p, why);
    }
    if (p->base_url[0] != '\0' && !tr_base_url_valid(str(p->base_url))) {
        return tri_config_fault(c, &p->base_url, why,
                                "base_url: expected http(s)://HOST[:PORT][/PATH] without user, "
                                "query or blanks");
    }
    tr_err err = check_keys(c, p, why);
    if (err != TR_OK) {
        return err;
    }
    tr_provider_spec spec;
    char reason[256];
    err = tr_provider_spec_init(p->name, p->kind[0] != '\0' ? p->kind : NULL, p->base_url, NULL,
                                &spec, reason, sizeof reason);
    return err == TR_OK ? TR_OK : tri_config_fault(c, &p->name, why, "%s: %s", p->name, reason);
}

static tr_err check_providers(const tr_config *c, char *why) {
    const tr_config_provider *providers = c->providers.items;
    size_t count = 0;
    for (; tr_catalog_at(count) != NULL; count++) {
    }
    for (size_t i = 0; i < c->providers.count; i++) {
        tr_err err = check_provider(c, &providers[i], why);
        if (err != TR_OK) {
            return err;
        }
        count += tr_catalog_find(providers[i].name) == NULL;
        if (count > TR_CONFIG_PROVIDERS_max) {
            return tri_config_fault(c, &providers[i].name, why,
                                    "%s: too many providers: %d with those of the catalog",
                                    providers[i].name, TR_CONFIG_PROVIDERS_max);
        }
    }
    return TR_OK;
}

/* --- names --- */

static tr_err new_routes(const tr_config *c, tr_routes **ret) {
    const tr_config_local *locals = c->locals.items;
    const tr_config_provider *own = c->providers.items;
    const char **names = calloc(c->locals.count + 1, sizeof *names);
    const char **providers =
        calloc(TR_CONFIG_PROVIDERS_max + c->providers.count + 1, sizeof *providers);
    tr_alias *list = calloc(c->aliases.count + 1, sizeof *list);
    tr_err err = TR_ERR_NOMEM;
    if (names != NULL && providers != NULL && list != NULL) {
        size_t count = 0;
        for (size_t i = 0; i < c->locals.count; i++) {
            names[i] = locals[i].name;
        }
        for (size_t i = 0; i < TR_CONFIG_PROVIDERS_max && tr_catalog_at(i) != NULL; i++) {
            providers[count++] = tr_catalog_at(i)->name;
        }
        for (size_t i = 0; i < c->providers.count; i++) {
            providers[count++] = own[i].name;
        }
        providers[count++] = "echo";
        tri_config_aliases(c, list);
        tr_routes_spec spec = {.locals = names,
                               .local_count = c->locals.count,
                               .providers = providers,
                               .provider_count = count,
                               .aliases = list,
                               .alias_count = c->aliases.count,
                               .default_model = c->default_model};
        err = tr_routes_new(&spec, ret);
    }
    free(names);
    free(providers);
    free(list);
    return err;
}

static tr_err check_names(const tr_config *c, char *why) {
    tr_routes *routes = NULL;
    tr_target target;
    char reason[400];
    tr_err err = new_routes(c, &routes);
    if (err != TR_OK) {
        snprintf(why, TR_CONFIG_WHY_size, "%s: out of memory", c->origin);
        return err;
    }
    err = tri_config_check_aliases(c, routes, why);
    err = err == TR_OK ? tri_config_check_models(c, why) : err;
    if (err == TR_OK && c->default_model[0] != '\0' &&
        tr_route(routes, str(c->default_model), str(""), &target, reason, sizeof reason) != TR_OK) {
        err = tri_config_fault(c, &c->default_model, why, "default_model: %s", reason);
    }
    tr_routes_unref(routes);
    return err;
}

tr_err tr_config_check(const tr_config *config, char *why) {
    tr_err err = check_doors(config, why);
    if (err == TR_OK) {
        err = check_providers(config, why);
    }
    if (err == TR_OK) {
        err = tri_config_check_locals(config, why);
    }
    return err == TR_OK ? check_names(config, why) : err;
}

/* --- warnings --- */

void tr_config_model_file(const tr_config_local *local, char *buf, size_t size) {
    const char *cache = getenv("TROUPE_CACHE");
    const char *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    const char *end = "models/default.gguf";
    if (strcmp(local->file, "default") != 0) {
        snprintf(buf, size, "%s", local->file);
    } else if (cache != NULL && cache[0] != '\0') {
        snprintf(buf, size, "%s/%s", cache, end);
    } else if (xdg != NULL && xdg[0] == '/') {
        snprintf(buf, size, "%s/troupe/%s", xdg, end);
    } else {
        snprintf(buf, size, "%s/.cache/troupe/%s", home != NULL ? home : "", end);
    }
}

static void warn_model(const tr_config *c, const tr_config_local *local,
                       void (*fn)(void *arg, const char *sentence), void *arg) {
    char path[512];
    char why[TR_CONFIG_WHY_size];
    char magic[4] = "";
    struct stat status;
    bool standard = strcmp(local->file, "default") == 0;
    const char *reason = NULL;
    tr_config_model_file(local, path, sizeof path);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        reason = strerror(errno);
    } else if (fstat(fileno(file), &status) == 0 && !S_ISREG(status.st_mode)) {
        reason = "it is no file";
    } else if (fread(magic, 1, sizeof magic, file) != sizeof magic ||
               memcmp(magic, "GGUF", sizeof magic) != 0) {
        reason = "it is no GGUF file";
    }
    if (file != NULL) {
        fclose(file);
    }
    if (reason == NULL) {
        return;
    }
    const char *hint = standard         ? "; tools/setup installs it, or name another GGUF file by "
                                          "local.NAME.file"
                       : path[0] == '~' ? "; ~ is not replaced here: write the whole path"
                       : path[0] != '/' ? "; the path is taken from the folder that the daemon was "
                                          "started in: write the whole path"
                                        : "";
    const void *place = standard ? (const void *)&local->name : &local->file;
    (void)tri_config_fault(c, place, why, "local: %s: the model cannot be loaded from %s: %s%s",
                           local->name, path, reason, hint);
    fn(arg, why);
}

/* That one of the sources has no key, or that there is none; a command is not run for it. */
static void warn_keys(const tr_config *c, const tr_config_provider *p, const char *kind,
                      void (*fn)(void *arg, const char *sentence), void *arg) {
    char why[TR_CONFIG_WHY_size];
    char lacks[512];
    char store[512];
    bool stored = tr_key_store_file(tr_catalog_account(p->name), store, sizeof store);
    tr_keychain_spec spec = {.provider = p->name,
                             .kind = kind,
                             .sources = p->keys.items,
                             .source_count = p->keys.count,
                             .store_file = stored ? store : NULL};
    tr_keychain *chain = NULL;
    if (tr_keychain_new(&spec, &chain) != TR_OK) {
        return;
    }
    bool has = tr_keychain_has(chain);
    bool wants = p->keys.count > 0 || tr_catalog_find(kind)->key_need == TR_KEY_REQUIRED;
    tr_keychain_lacks(chain, lacks, sizeof lacks);
    if (wants && (!has || p->keys.count > 0) && lacks[0] != '\0') {
        (void)tri_config_fault(c, p->keys.count > 0 ? (const void *)&p->keys : &p->name, why,
                               "providers: %s: a key is missing: %s", p->name, lacks);
        fn(arg, why);
    }
    tr_keychain_free(chain);
}

static void warn_provider(const tr_config *c, const tr_config_provider *p,
                          void (*fn)(void *arg, const char *sentence), void *arg) {
    char why[TR_CONFIG_WHY_size];
    const char *kind = p->kind[0] != '\0' ? p->kind : p->name;
    const tr_catalog_row *row = tr_catalog_find(kind);
    if (row == NULL) {
        return;
    }
    warn_keys(c, p, kind, fn, arg);
    if (p->base_url[0] == '\0' && row->base_url == NULL &&
        (row->base_url_env == NULL || getenv(row->base_url_env) == NULL)) {
        (void)tri_config_fault(c, &p->name, why,
                               "providers: %s: it has no base_url: only requests that bring one "
                               "will work",
                               p->name);
        fn(arg, why);
    }
}

void tr_config_warn(const tr_config *config, void (*fn)(void *arg, const char *sentence),
                    void *arg) {
    const tr_config_local *locals = config->locals.items;
    const tr_config_provider *providers = config->providers.items;
    for (size_t i = 0; i < config->locals.count; i++) {
        if (tr_config_is_managed(&locals[i])) {
            tri_config_warn_server(config, &locals[i], fn, arg);
        } else if (locals[i].workers > 0) {
            warn_model(config, &locals[i], fn, arg);
        }
    }
    for (size_t i = 0; i < config->providers.count; i++) {
        warn_provider(config, &providers[i], fn, arg);
    }
}
