/*
 * Aliases: from the configuration to the routes, and what is wrong with one: a local model of its
 * name, no target, targets that lead nowhere, in a circle or to too many, weights that do not fit.
 *
 * Called when a configuration is checked, and when its routes are made.
 */
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"
#include "tools/trouped/config_table.h"

static tr_policy policy_of(const char *name) {
    tr_policy policy = TR_POLICY_ORDER;
    while (policy < TR_POLICY_FASTEST && strcmp(name, tr_policy_name(policy)) != 0) {
        policy++;
    }
    return policy;
}

/* Whether `text` is a weight. */
static bool read_weight(const char *text, uint16_t *ret) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number > TR_WEIGHT_max) {
        return false;
    }
    *ret = (uint16_t)number;
    return true;
}

void tri_config_aliases(const tr_config *config, tr_alias *ret_list) {
    const tr_config_alias *aliases = config->aliases.items;
    for (size_t i = 0; i < config->aliases.count; i++) {
        const tr_config_alias *from = &aliases[i];
        tr_alias *to = &ret_list[i];
        *to = (tr_alias){.name = from->name,
                         .targets = from->targets.items,
                         .target_count = from->targets.count,
                         .policy = policy_of(from->policy)};
        for (size_t k = 0; k < TR_TARGETS_max && k < from->targets.count; k++) {
            if (k >= from->weights.count || !read_weight(from->weights.items[k], &to->weights[k])) {
                to->weights[k] = 1;
            }
        }
    }
}

static tr_err check_weights(const tr_config *c, const tr_config_alias *alias, char *why) {
    if (alias->weights.count == 0) {
        return TR_OK;
    }
    if (strcmp(alias->policy, "weight") != 0) {
        return tri_config_fault(c, &alias->weights, why,
                                "weights: they have a meaning with policy: weight only");
    }
    if (alias->weights.count != alias->targets.count) {
        return tri_config_fault(c, &alias->weights, why,
                                "weights: %zu numbers for %zu targets; each target takes one",
                                alias->weights.count, alias->targets.count);
    }
    bool some = false;
    for (size_t i = 0; i < alias->weights.count; i++) {
        uint16_t weight = 0;
        if (!read_weight(alias->weights.items[i], &weight)) {
            return tri_config_fault(c, &alias->weights, why,
                                    "weights: \"%.32s\" is no whole number from 0 to %d",
                                    alias->weights.items[i], TR_WEIGHT_max);
        }
        some = some || weight > 0;
    }
    return some ? TR_OK
                : tri_config_fault(c, &alias->weights, why,
                                   "weights: at least one must be more than 0");
}

static tr_err check_alias(const tr_config *c, const tr_config_alias *alias, const tr_routes *routes,
                          char *why) {
    char reason[400];
    tr_targets targets;
    if (alias->targets.count == 0 || alias->targets.items[0][0] == '\0') {
        return tri_config_fault(c, &alias->name, why,
                                "%s: the alias has no target: write %s: MODEL", alias->name,
                                alias->name);
    }
    if (tr_route_all(routes, (tr_str){alias->name, strlen(alias->name)}, (tr_str){"", 0}, &targets,
                     reason, sizeof reason) != TR_OK) {
        return tri_config_fault(c, &alias->targets, why, "%s: %s", alias->name, reason);
    }
    tr_targets_fini(&targets);
    return check_weights(c, alias, why);
}

/* It would hide the model. */
static tr_err check_twin(const tr_config *c, const tr_config_alias *alias, char *why) {
    const tr_config_local *locals = c->locals.items;
    for (size_t i = 0; i < c->locals.count; i++) {
        if (strcmp(alias->name, locals[i].name) == 0) {
            char place[48] = "";
            size_t line = tri_config_line(c, &locals[i].name);
            if (line > 0) {
                snprintf(place, sizeof place, " (line %zu)", line);
            }
            return tri_config_fault(c, &alias->name, why,
                                    "%s: a local model%s has this name too, and the alias "
                                    "would hide it; rename one of them",
                                    alias->name, place);
        }
    }
    return TR_OK;
}

tr_err tri_config_check_aliases(const tr_config *config, const tr_routes *routes, char *why) {
    const tr_config_alias *aliases = config->aliases.items;
    tr_err err = TR_OK;
    for (size_t i = 0; i < config->aliases.count && err == TR_OK; i++) {
        err = check_twin(config, &aliases[i], why);
    }
    for (size_t i = 0; i < config->aliases.count && err == TR_OK; i++) {
        err = check_alias(config, &aliases[i], routes, why);
    }
    return err;
}
