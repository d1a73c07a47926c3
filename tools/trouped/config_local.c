/*
 * The local models of a configuration: which keys go with which kind, and whether a managed server
 * could be started as it is written. The command is read by the very code that will start it.
 *
 * Called by config_check.c; any thread.
 */
#include <stdlib.h>
#include <string.h>

#include "actors/command.h"
#include "actors/managed.h"
#include "providers/servers.h"
#include "tools/trouped/config_table.h"

bool tr_config_is_managed(const tr_config_local *local) {
    return strncmp(local->kind, TR_SERVER_KIND_PREFIX, strlen(TR_SERVER_KIND_PREFIX)) == 0;
}

/* A key of the other sort that the file sets: it would be ignored. */
static tr_err check_keys(const tr_config *c, const tr_config_local *l, char *why) {
    const struct {
        const char *name;
        const void *member;
        bool managed; /* whose it is */
        bool given;   /* other than its default */
    } keys[] = {
        {"file", &l->file, false, strcmp(l->file, "default") != 0},
        {"workers", &l->workers, false, l->workers != 1},
        {"threads", &l->threads, false, l->threads != 0},
        {"gpu_layers", &l->gpu_layers, false, l->gpu_layers != 0},
        {"chat_template", &l->chat_template, false, l->chat_template[0] != '\0'},
        {"model", &l->model, true, l->model[0] != '\0'},
        {"command", &l->command, true, l->command[0] != '\0'},
        {"health", &l->health, true, l->health[0] != '\0'},
        {"env", &l->env, true, l->env.count > 0},
    };
    bool managed = tr_config_is_managed(l);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (keys[i].managed != managed && keys[i].given) {
            return tri_config_fault(
                c, keys[i].member, why, "%s: this key is %s; %s is of kind %s%s", keys[i].name,
                managed ? "of Troupe's own workers" : "of managed servers", l->name, l->kind,
                managed && i == 0 ? ": name its model by `model`" : "");
        }
    }
    return TR_OK;
}

const char *tr_config_server_command(const tr_config_local *l) {
    const char *usual = tr_server_find(l->kind)->command;
    return l->command[0] != '\0' || usual == NULL ? l->command : usual;
}

static tr_err check_command(const tr_config *c, const tr_config_local *l, char *why) {
    const void *place = l->command[0] != '\0' ? (const void *)&l->command : &l->name;
    const char *command = tr_config_server_command(l);
    char reason[200] = "";
    if (command[0] == '\0') {
        return tri_config_fault(c, place, why, "%s: a server of kind %s needs a command", l->name,
                                l->kind);
    }
    tr_command *words = calloc(1, sizeof *words);
    if (words == NULL) {
        snprintf(why, TR_CONFIG_WHY_size, "%s: out of memory", c->origin);
        return TR_ERR_NOMEM;
    }
    tr_command_values values = {.model = l->model, .host = "127.0.0.1", .port = 65535};
    tr_err err = tr_command_read(command, &values, words, reason, sizeof reason);
    free(words);
    if (err != TR_OK) {
        return tri_config_fault(c, place, why, "command: %s", reason);
    }
    if (!tr_command_has(command, "port")) {
        return tri_config_fault(c, place, why,
                                "command: without {port} the server could not be told where to "
                                "listen");
    }
    if (tr_command_has(command, "model") && l->model[0] == '\0') {
        return tri_config_fault(c, &l->name, why,
                                "%s: it needs a model, since {model} stands in "
                                "its command",
                                l->name);
    }
    return TR_OK;
}

static tr_err check_env(const tr_config *c, const tr_config_local *l, char *why) {
    for (size_t i = 0; i < l->env.count; i++) {
        const char *name = l->env.items[i];
        size_t size = strcspn(name, "*= \t\n");
        if (size == 0 || (name[size] != '\0' && strcmp(name + size, "*") != 0)) {
            return tri_config_fault(c, &l->env, why,
                                    "env: \"%.64s\" is no name of a variable, nor the beginning of "
                                    "one with a * behind it",
                                    name);
        }
    }
    return TR_OK;
}

static tr_err check_server(const tr_config *c, const tr_config_local *l, char *why) {
    if (strlen(l->name) > TR_MANAGED_NAME_max) {
        return tri_config_fault(c, &l->name, why,
                                "%s: the name of a managed server has at most %d "
                                "characters",
                                l->name, TR_MANAGED_NAME_max);
    }
    if (strlen(l->model) > TR_NAME_max) {
        return tri_config_fault(c, &l->model, why, "model: a name has at most %d characters",
                                TR_NAME_max);
    }
    if (l->health[0] != '\0' &&
        (l->health[0] != '/' || strpbrk(l->health, " \t\n") != NULL || strlen(l->health) > 200)) {
        return tri_config_fault(c, &l->health, why,
                                "health: expected a path that begins with / and has no blanks");
    }
    tr_err err = check_command(c, l, why);
    return err == TR_OK ? check_env(c, l, why) : err;
}

tr_err tri_config_check_locals(const tr_config *config, char *why) {
    const tr_config_local *locals = config->locals.items;
    tr_err err = TR_OK;
    for (size_t i = 0; i < config->locals.count && err == TR_OK; i++) {
        err = check_keys(config, &locals[i], why);
        if (err == TR_OK && tr_config_is_managed(&locals[i])) {
            err = check_server(config, &locals[i], why);
        }
    }
    return err;
}

void tri_config_warn_server(const tr_config *config, const tr_config_local *local,
                            void (*fn)(void *arg, const char *sentence), void *arg) {
    char why[TR_CONFIG_WHY_size];
    char path[1024];
    const char *install = tr_server_find(local->kind)->install;
    tr_command *words = calloc(1, sizeof *words);
    tr_command_values values = {.model = local->model, .host = "127.0.0.1", .port = 65535};
    if (words != NULL &&
        tr_command_read(tr_config_server_command(local), &values, words, why, sizeof why) ==
            TR_OK &&
        !tr_command_find(words->words[0], path, sizeof path)) {
        (void)tri_config_fault(config, &local->name, why,
                               "local: %s: the program %s is not in PATH here%s%s", local->name,
                               words->words[0], install != NULL ? "; how to get it: " : "",
                               install != NULL ? install : "");
        fn(arg, why);
    }
    free(words);
}
