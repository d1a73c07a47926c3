/* Routing over the picture of the configuration; called once a request, on its shard. */
#include "actors/route.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/near.h"
#include "runtime/memory.h"

#define ALIAS_DEPTH_max 4

struct tr_routes {
    _Atomic uint32_t refs; /* acq_rel on unref: the freeing thread sees all; partner: itself */
    tr_routes_spec spec;
    char **strings;
    size_t string_count;
};

static const char *keep(tr_routes *routes, const char *text) {
    char *copy = tr_strndup(text, strlen(text));
    if (copy != NULL) {
        routes->strings[routes->string_count++] = copy;
    }
    return copy;
}

static const char *const *keep_all(tr_routes *routes, const char *const *names, size_t count) {
    const char **kept = tr_zalloc((count + 1) * sizeof *kept);
    for (size_t i = 0; kept != NULL && i < count; i++) {
        kept[i] = keep(routes, names[i]);
        if (kept[i] == NULL) {
            tr_free(kept);
            return NULL;
        }
    }
    return kept;
}

static const tr_alias *keep_aliases(tr_routes *routes, const tr_alias *aliases, size_t count) {
    tr_alias *kept = tr_zalloc((count + 1) * sizeof *kept);
    for (size_t i = 0; kept != NULL && i < count; i++) {
        kept[i] = (tr_alias){keep(routes, aliases[i].name), keep(routes, aliases[i].target)};
        if (kept[i].name == NULL || kept[i].target == NULL) {
            tr_free(kept);
            return NULL;
        }
    }
    return kept;
}

tr_err tr_routes_new(const tr_routes_spec *spec, tr_routes **ret) {
    tr_routes *routes = tr_zalloc(sizeof *routes);
    if (routes == NULL) {
        return TR_ERR_NOMEM;
    }
    atomic_init(&routes->refs, 1);
    size_t strings = spec->local_count + spec->provider_count + 2 * spec->alias_count + 1;
    routes->strings = tr_zalloc(strings * sizeof *routes->strings);
    if (routes->strings == NULL) {
        tr_routes_unref(routes);
        return TR_ERR_NOMEM;
    }
    routes->spec = *spec;
    routes->spec.locals = keep_all(routes, spec->locals, spec->local_count);
    routes->spec.providers = keep_all(routes, spec->providers, spec->provider_count);
    routes->spec.aliases = keep_aliases(routes, spec->aliases, spec->alias_count);
    routes->spec.default_model =
        keep(routes, spec->default_model != NULL ? spec->default_model : "");
    if (routes->spec.locals == NULL || routes->spec.providers == NULL ||
        routes->spec.aliases == NULL || routes->spec.default_model == NULL) {
        tr_routes_unref(routes);
        return TR_ERR_NOMEM;
    }
    *ret = routes;
    return TR_OK;
}

tr_routes *tr_routes_ref(tr_routes *routes) {
    atomic_fetch_add_explicit(&routes->refs, 1, memory_order_relaxed);
    return routes;
}

void tr_routes_unref(tr_routes *routes) {
    if (routes == NULL || atomic_fetch_sub_explicit(&routes->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (routes->strings != NULL) {
        for (size_t i = 0; i < routes->string_count; i++) {
            tr_free(routes->strings[i]);
        }
        tr_free((void *)routes->spec.locals);
        tr_free((void *)routes->spec.providers);
        tr_free((void *)routes->spec.aliases);
    }
    tr_free(routes->strings);
    tr_free(routes);
}

const tr_routes_spec *tr_routes_of(const tr_routes *routes) {
    return &routes->spec;
}

static bool same(tr_str str, const char *name) {
    return str.size == strlen(name) && memcmp(str.ptr, name, str.size) == 0;
}

static const char *find(const char *const *names, size_t count, tr_str name) {
    for (size_t i = 0; i < count; i++) {
        if (same(name, names[i])) {
            return names[i];
        }
    }
    return NULL;
}

static tr_err not_found(const tr_routes_spec *spec, tr_str name, bool provider, char *why,
                        size_t why_size) {
    int wrote =
        provider
            ? snprintf(why, why_size, "there is no provider \"%.*s\"", (int)name.size, name.ptr)
            : snprintf(why, why_size,
                       "there is no model or alias \"%.*s\" (`troupe models` lists those there "
                       "are; a provider's model is written provider/model)",
                       (int)name.size, name.ptr);
    size_t used = wrote > 0 && (size_t)wrote < why_size ? (size_t)wrote : why_size;
    if (used < why_size) {
        tr_near near;
        tr_near_init(&near, name, why + used, why_size - used);
        for (size_t i = 0; i < spec->local_count && !provider; i++) {
            tr_near_consider(&near, spec->locals[i]);
        }
        for (size_t i = 0; i < spec->alias_count && !provider; i++) {
            tr_near_consider(&near, spec->aliases[i].name);
        }
        for (size_t i = 0; i < spec->provider_count; i++) {
            tr_near_consider(&near, spec->providers[i]);
        }
    }
    return TR_ERR_NOT_FOUND;
}

static tr_err set(tr_target *ret, const char *provider, tr_str model, char *why, size_t why_size) {
    bool local = strcmp(provider, "local") == 0;
    if (model.size == 0 || model.size > TR_NAME_max) {
        snprintf(why, why_size, "name a model of %s: %s/MODEL", provider, provider);
        return TR_ERR_INVALID;
    }
    snprintf(ret->gate, sizeof ret->gate, "%s:%.*s", local ? "pool" : "limiter",
             local ? (int)model.size : (int)strlen(provider), local ? model.ptr : provider);
    snprintf(ret->provider, sizeof ret->provider, "%s", provider);
    snprintf(ret->model, sizeof ret->model, "%.*s", (int)model.size, model.ptr);
    snprintf(ret->label, sizeof ret->label, "%s/%.*s", provider, (int)model.size, model.ptr);
    return TR_OK;
}

static tr_err to_local(const tr_routes_spec *spec, tr_str name, tr_target *ret, char *why,
                       size_t why_size) {
    const char *local = find(spec->locals, spec->local_count, name);
    if (local == NULL) {
        return not_found(spec, name, false, why, why_size);
    }
    return set(ret, "local", name, why, why_size);
}

static tr_err to_provider(const tr_routes_spec *spec, tr_str provider, tr_str model, tr_target *ret,
                          char *why, size_t why_size) {
    if (same(provider, "local")) {
        return to_local(spec, model, ret, why, why_size);
    }
    const char *known = find(spec->providers, spec->provider_count, provider);
    if (known == NULL) {
        return not_found(spec, provider, true, why, why_size);
    }
    return set(ret, known, model, why, why_size);
}

static const char *alias_of(const tr_routes_spec *spec, tr_str name) {
    for (size_t i = 0; i < spec->alias_count; i++) {
        if (same(name, spec->aliases[i].name)) {
            return spec->aliases[i].target;
        }
    }
    return NULL;
}

tr_err tr_route(const tr_routes *routes, tr_str target, tr_str provider, tr_target *ret, char *why,
                size_t why_size) {
    TR_ASSERT(why_size > 0);
    const tr_routes_spec *spec = &routes->spec;
    if (provider.size > 0) {
        return to_provider(spec, provider, target, ret, why, why_size);
    }
    if (target.size == 0) {
        const char *name = spec->default_model[0] != '\0'
                               ? spec->default_model
                               : (spec->local_count > 0 ? spec->locals[0] : NULL);
        if (name == NULL) {
            snprintf(why, why_size,
                     "the request names no model, and the configuration has neither default_model "
                     "nor a local model: name a provider's model (provider/model), or let "
                     "tools/setup fetch the default one and leave \"local\" out of the "
                     "configuration");
            return TR_ERR_INVALID;
        }
        target = (tr_str){name, strlen(name)};
    }
    for (int depth = 0;; depth++) {
        const char *alias = alias_of(spec, target);
        if (alias == NULL) {
            break;
        }
        if (depth == ALIAS_DEPTH_max) {
            snprintf(why, why_size, "the alias \"%.*s\" leads in a circle", (int)target.size,
                     target.ptr);
            return TR_ERR_INVALID;
        }
        target = (tr_str){alias, strlen(alias)};
    }
    const char *slash = memchr(target.ptr, '/', target.size);
    if (slash != NULL) {
        size_t head = (size_t)(slash - target.ptr);
        return to_provider(spec, (tr_str){target.ptr, head},
                           (tr_str){slash + 1, target.size - head - 1}, ret, why, why_size);
    }
    const char *known = find(spec->providers, spec->provider_count, target);
    if (known != NULL && find(spec->locals, spec->local_count, target) == NULL) {
        return set(ret, known, (tr_str){"", 0}, why, why_size);
    }
    return to_local(spec, target, ret, why, why_size);
}
