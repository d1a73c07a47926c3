/*
 * What is known of the model that a name led to: the table's figures (models.h), and before them
 * those of the configuration. Every route brings them along, so that a request's cost is reckoned
 * with the prices that were in force when it was routed. Pure.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "actors/route.h"

static const char *kind_of(const tr_routes_spec *spec, const char *provider) {
    for (size_t i = 0; i < spec->provider_count; i++) {
        if (strcmp(spec->providers[i], provider) == 0) {
            return spec->kinds[i];
        }
    }
    return provider; /* "local" */
}

static const tr_model_own *own_of(const tr_routes_spec *spec, const char *provider,
                                  const char *model) {
    size_t size = strlen(provider);
    const tr_model_own *star = NULL;
    for (size_t i = 0; i < spec->model_count; i++) {
        const tr_model_own *own = &spec->models[i];
        if (strncmp(own->name, provider, size) != 0 || own->name[size] != '/') {
            continue;
        }
        if (strcmp(own->name + size + 1, model) == 0) {
            return own;
        }
        star = strcmp(own->name + size + 1, "*") == 0 ? own : star;
    }
    return star;
}

void tr_route_know(const tr_routes_spec *spec, tr_target *target) {
    target->facts = tr_model_facts_of(kind_of(spec, target->provider),
                                      (tr_str){target->model, strlen(target->model)});
    const tr_model_own *own = own_of(spec, target->provider, target->model);
    if (own != NULL) {
        tr_model_facts_merge(&target->facts, &own->facts);
    }
    target->context = target->context > 0 ? target->context : target->facts.context;
}

static void write_tokens(tr_jsonw *w, const char *name, uint32_t tokens) {
    if (tokens > 0) {
        tr_jsonw_name(w, name);
        tr_jsonw_uint(w, tokens);
    }
}

static void write_price(tr_jsonw *w, const char *name, double price) {
    if (!isnan(price)) {
        tr_jsonw_name(w, name);
        tr_jsonw_double(w, price);
    }
}

static void write_facts(tr_jsonw *w, const tr_target *target) {
    tr_jsonw_open(w, '{');
    write_tokens(w, "context", target->context);
    write_tokens(w, "output", target->facts.output);
    write_price(w, "in", target->facts.in);
    write_price(w, "out", target->facts.out);
    write_price(w, "cached", target->facts.cached);
    tr_jsonw_close(w, '}');
}

void tr_route_facts_write(const tr_routes *routes, const char *provider, tr_str models,
                          tr_jsonw *w) {
    tr_json *json = NULL;
    tr_jsonw_name(w, "facts");
    tr_jsonw_open(w, '{');
    const tr_json_value *item =
        models.size > 0 && tr_json_parse(models.ptr, models.size, &json, NULL) == TR_OK
            ? tr_json_first(tr_json_root(json))
            : NULL;
    for (; item != NULL; item = tr_json_next(item)) {
        tr_str name = tr_json_string(tr_json_get(item, "name"));
        tr_target target;
        char why[256];
        if (tr_route(routes, name, (tr_str){provider, strlen(provider)}, &target, why,
                     sizeof why) == TR_OK &&
            (target.context > 0 || !isnan(target.facts.in))) {
            tr_jsonw_name_str(w, name);
            write_facts(w, &target);
        }
    }
    tr_jsonw_close(w, '}');
    tr_json_free(json);
}
