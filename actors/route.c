/*
 * Routing over the picture of the configuration. An alias is first flattened to names (each once),
 * then each name becomes a target. Called once a request, on its shard; and by the check of a
 * configuration, which is why a circle is found by its depth and nowhere else.
 */
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

/* Tied to `routes` at once, so that tr_routes_unref frees what a failure leaves. */
static bool keep_urls(tr_routes *routes, const char *const *urls, size_t count) {
    const char **kept = tr_zalloc((count + 1) * sizeof *kept);
    routes->spec.urls = kept;
    for (size_t i = 0; kept != NULL && i < count; i++) {
        kept[i] = keep(routes, urls != NULL && urls[i] != NULL ? urls[i] : "");
        if (kept[i] == NULL) {
            return false;
        }
    }
    return kept != NULL;
}

static bool keep_aliases(tr_routes *routes, const tr_alias *aliases, size_t count) {
    tr_alias *kept = tr_zalloc((count + 1) * sizeof *kept);
    routes->spec.aliases = kept;
    routes->spec.alias_count = kept != NULL ? count : 0;
    bool fine = kept != NULL;
    for (size_t i = 0; fine && i < count; i++) {
        kept[i] = aliases[i];
        kept[i].name = keep(routes, aliases[i].name);
        kept[i].targets = keep_all(routes, aliases[i].targets, aliases[i].target_count);
        fine = kept[i].name != NULL && kept[i].targets != NULL;
    }
    return fine;
}

static bool keep_contexts(tr_routes *routes, const uint32_t *contexts, size_t count) {
    uint32_t *kept = tr_zalloc((count + 1) * sizeof *kept);
    routes->spec.contexts = kept;
    if (kept != NULL && contexts != NULL) {
        memcpy(kept, contexts, count * sizeof *kept);
    }
    return kept != NULL;
}

static bool keep_structured(tr_routes *routes, const tr_structured *structured, size_t count) {
    tr_structured *kept = tr_zalloc((count + 1) * sizeof *kept);
    routes->spec.structured = kept;
    if (kept != NULL && structured != NULL) {
        memcpy(kept, structured, count * sizeof *kept);
    }
    return kept != NULL;
}

static bool keep_local_structured(tr_routes *routes, const tr_structured *structured,
                                  size_t count) {
    tr_structured *kept = tr_zalloc((count + 1) * sizeof *kept);
    routes->spec.local_structured = kept;
    for (size_t i = 0; kept != NULL && i < count; i++) {
        kept[i] = structured != NULL ? structured[i] : TR_STRUCTURED_GRAMMAR;
    }
    return kept != NULL;
}

static bool keep_models(tr_routes *routes, const tr_model_own *models, size_t count) {
    tr_model_own *kept = tr_zalloc((count + 1) * sizeof *kept);
    routes->spec.models = kept;
    for (size_t i = 0; kept != NULL && i < count; i++) {
        kept[i] = models[i];
        kept[i].name = keep(routes, models[i].name);
        if (kept[i].name == NULL) {
            return false;
        }
    }
    return kept != NULL;
}

static size_t count_strings(const tr_routes_spec *spec) {
    size_t count =
        spec->local_count + 3 * spec->provider_count + spec->alias_count + spec->model_count + 1;
    for (size_t i = 0; i < spec->alias_count; i++) {
        count += spec->aliases[i].target_count;
    }
    return count;
}

tr_err tr_routes_new(const tr_routes_spec *spec, tr_routes **ret) {
    tr_routes *routes = tr_zalloc(sizeof *routes);
    if (routes == NULL) {
        return TR_ERR_NOMEM;
    }
    atomic_init(&routes->refs, 1);
    routes->strings = tr_zalloc(count_strings(spec) * sizeof *routes->strings);
    if (routes->strings == NULL) {
        tr_routes_unref(routes);
        return TR_ERR_NOMEM;
    }
    routes->spec = *spec;
    routes->spec.locals = keep_all(routes, spec->locals, spec->local_count);
    routes->spec.providers = keep_all(routes, spec->providers, spec->provider_count);
    bool aliases = keep_aliases(routes, spec->aliases, spec->alias_count);
    routes->spec.kinds =
        keep_all(routes, spec->kinds != NULL ? spec->kinds : spec->providers, spec->provider_count);
    bool urls = keep_urls(routes, spec->urls, spec->provider_count);
    bool models = keep_models(routes, spec->models, spec->model_count);
    /* Both, whatever becomes of the first: until then the pointer is the caller's. */
    bool structured = keep_structured(routes, spec->structured, spec->provider_count);
    structured =
        keep_local_structured(routes, spec->local_structured, spec->local_count) && structured;
    bool contexts = keep_contexts(routes, spec->contexts, spec->local_count);
    routes->spec.default_model =
        keep(routes, spec->default_model != NULL ? spec->default_model : "");
    if (routes->spec.locals == NULL || routes->spec.providers == NULL || !aliases || !contexts ||
        !structured || !models || !urls || routes->spec.kinds == NULL ||
        routes->spec.default_model == NULL) {
        tr_routes_unref(routes);
        return TR_ERR_NOMEM;
    }
    routes->spec.attempts = spec->attempts > 0 ? spec->attempts : TR_ATTEMPTS_default;
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
        for (size_t i = 0; i < routes->spec.alias_count; i++) {
            tr_free((void *)routes->spec.aliases[i].targets);
        }
        tr_free((void *)routes->spec.aliases);
        tr_free((void *)routes->spec.locals);
        tr_free((void *)routes->spec.providers);
        tr_free((void *)routes->spec.contexts);
        tr_free((void *)routes->spec.kinds);
        tr_free((void *)routes->spec.urls);
        tr_free((void *)routes->spec.models);
        tr_free((void *)routes->spec.structured);
        tr_free((void *)routes->spec.local_structured);
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
            ? snprintf(why, why_size,
                       "there is no provider \"%.*s\" (`troupe models` lists those there are)",
                       (int)name.size, name.ptr)
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
    ret->url = "";
    ret->context = 0;
    ret->structured = TR_STRUCTURED_NATIVE;
    return TR_OK;
}

static tr_err to_local(const tr_routes_spec *spec, tr_str name, tr_target *ret, char *why,
                       size_t why_size) {
    for (size_t i = 0; i < spec->local_count; i++) {
        if (same(name, spec->locals[i])) {
            tr_err err = set(ret, "local", name, why, why_size);
            ret->context = spec->contexts[i];
            ret->structured = spec->local_structured[i];
            return err;
        }
    }
    return not_found(spec, name, false, why, why_size);
}

/* `known` is the provider's name among the routes' own. */
static tr_err set_provider(const tr_routes_spec *spec, const char *known, tr_str model,
                           tr_target *ret, char *why, size_t why_size) {
    tr_err err = set(ret, known, model, why, why_size);
    for (size_t i = 0; i < spec->provider_count && err == TR_OK; i++) {
        if (spec->providers[i] == known) {
            ret->structured = spec->structured[i];
            ret->url = spec->urls[i];
        }
    }
    return err;
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
    return set_provider(spec, known, model, ret, why, why_size);
}

/* A name that is no alias. */
static tr_err to_target(const tr_routes_spec *spec, tr_str name, tr_target *ret, char *why,
                        size_t why_size) {
    const char *slash = memchr(name.ptr, '/', name.size);
    if (slash != NULL) {
        size_t head = (size_t)(slash - name.ptr);
        return to_provider(spec, (tr_str){name.ptr, head},
                           (tr_str){slash + 1, name.size - head - 1}, ret, why, why_size);
    }
    const char *known = find(spec->providers, spec->provider_count, name);
    if (known != NULL && find(spec->locals, spec->local_count, name) == NULL) {
        return set_provider(spec, known, (tr_str){"", 0}, ret, why, why_size);
    }
    return to_local(spec, name, ret, why, why_size);
}

static const tr_alias *alias_of(const tr_routes_spec *spec, tr_str name) {
    for (size_t i = 0; i < spec->alias_count; i++) {
        if (same(name, spec->aliases[i].name)) {
            return &spec->aliases[i];
        }
    }
    return NULL;
}

/* An alias made flat. */
typedef struct flat {
    const tr_routes_spec *spec;
    tr_str names[TR_TARGETS_max];
    uint16_t weights[TR_TARGETS_max];
    uint32_t count;
    char *why;
    size_t why_size;
} flat;

static tr_err flatten(flat *f, tr_str name, uint16_t weight, int depth);

static tr_err flatten_alias(flat *f, const tr_alias *alias, const uint16_t *weight, int depth) {
    if (depth == ALIAS_DEPTH_max) {
        snprintf(f->why, f->why_size, "the alias \"%s\" leads in a circle", alias->name);
        return TR_ERR_INVALID;
    }
    tr_err err = TR_OK;
    for (size_t i = 0; i < alias->target_count && err == TR_OK; i++) {
        uint16_t own = i < TR_TARGETS_max ? alias->weights[i] : 0;
        err = flatten(f, (tr_str){alias->targets[i], strlen(alias->targets[i])},
                      weight != NULL ? *weight : own, depth + 1);
    }
    return err;
}

/* Those of an alias in the alias have its weight. */
static tr_err flatten(flat *f, tr_str name, uint16_t weight, int depth) {
    const tr_alias *alias = alias_of(f->spec, name);
    if (alias != NULL) {
        return flatten_alias(f, alias, &weight, depth);
    }
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->names[i].size == name.size && memcmp(f->names[i].ptr, name.ptr, name.size) == 0) {
            return TR_OK;
        }
    }
    if (f->count == TR_TARGETS_max) {
        snprintf(f->why, f->why_size, "the alias leads to more than %d models", TR_TARGETS_max);
        return TR_ERR_INVALID;
    }
    f->weights[f->count] = weight;
    f->names[f->count++] = name;
    return TR_OK;
}

/* An alias of nothing but another alias is as that one. */
static const tr_alias *last_alias(const tr_routes_spec *spec, tr_str name) {
    const tr_alias *alias = alias_of(spec, name);
    for (int depth = 0; alias != NULL && alias->target_count == 1; depth++) {
        const tr_alias *inner =
            alias_of(spec, (tr_str){alias->targets[0], strlen(alias->targets[0])});
        if (inner == NULL || depth == ALIAS_DEPTH_max) {
            break;
        }
        alias = inner;
    }
    return alias;
}

static tr_err flatten_name(flat *f, tr_str name, tr_policy *ret_policy) {
    const tr_alias *alias = last_alias(f->spec, name);
    *ret_policy = alias != NULL ? alias->policy : TR_POLICY_ORDER;
    tr_err err = alias != NULL ? flatten_alias(f, alias, NULL, 0) : flatten(f, name, 0, 0);
    if (err == TR_OK && f->count == 0) {
        snprintf(f->why, f->why_size, "the alias \"%.*s\" has no target", (int)name.size, name.ptr);
        return TR_ERR_INVALID;
    }
    return err;
}

static tr_err default_name(const tr_routes_spec *spec, tr_str *ret, char *why, size_t why_size) {
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
    *ret = (tr_str){name, strlen(name)};
    return TR_OK;
}

/* The names of `target`; a provider beside it leaves the name as it is. */
static tr_err names_of(const tr_routes *routes, tr_str target, tr_str provider, flat *f,
                       tr_policy *ret_policy) {
    f->spec = &routes->spec;
    *ret_policy = TR_POLICY_ORDER;
    if (provider.size > 0) {
        f->names[f->count++] = target;
        return TR_OK;
    }
    tr_err err = target.size == 0 ? default_name(f->spec, &target, f->why, f->why_size) : TR_OK;
    return err == TR_OK ? flatten_name(f, target, ret_policy) : err;
}

static tr_err to_any(const flat *f, uint32_t i, tr_str provider, tr_target *ret) {
    tr_err err = provider.size > 0
                     ? to_provider(f->spec, provider, f->names[i], ret, f->why, f->why_size)
                     : to_target(f->spec, f->names[i], ret, f->why, f->why_size);
    if (err == TR_OK) {
        tr_route_know(f->spec, ret);
    }
    return err;
}

tr_err tr_route_all(const tr_routes *routes, tr_str target, tr_str provider, tr_targets *ret,
                    char *why, size_t why_size) {
    TR_ASSERT(why_size > 0);
    flat f = {.why = why, .why_size = why_size};
    tr_targets targets = {0};
    tr_err err = names_of(routes, target, provider, &f, &targets.policy);
    if (err != TR_OK) {
        return err;
    }
    targets.items = tr_alloc(f.count * sizeof *targets.items);
    if (targets.items == NULL) {
        snprintf(why, why_size, "%s", tr_err_text(TR_ERR_NOMEM));
        return TR_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < f.count && err == TR_OK; i++) {
        err = to_any(&f, i, provider, &targets.items[i]);
        targets.weights[i] = f.weights[i];
    }
    if (err != TR_OK) {
        tr_free(targets.items);
        return err;
    }
    targets.count = f.count;
    *ret = targets;
    return TR_OK;
}

void tr_targets_fini(tr_targets *targets) {
    tr_free(targets->items);
    *targets = (tr_targets){0};
}

tr_err tr_route(const tr_routes *routes, tr_str target, tr_str provider, tr_target *ret, char *why,
                size_t why_size) {
    TR_ASSERT(why_size > 0);
    flat f = {.why = why, .why_size = why_size};
    tr_policy policy;
    tr_err err = names_of(routes, target, provider, &f, &policy);
    return err == TR_OK ? to_any(&f, 0, provider, ret) : err;
}
