/* The commands that look at a running daemon and steer it. Their raw JSON is PROTOCOL.md's; --json
 * prints it as it came. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/client/socket_path.h"
#include "tools/troupe/commands.h"
#include "tools/troupe/launch.h"
#include "tools/troupe/limit.h"

#define STOP_PATIENCE_MS 60000

/* --- models --- */

/* A model whose server is a program that the daemon starts. */
static void print_managed(const tr_json_value *model) {
    printf("%-24.*s %-9.*s %.*s active=%lld waiting=%lld", STR(model, "model"), STR(model, "state"),
           STR(model, "kind"), tri_int_of(model, "active"), tri_int_of(model, "waiting"));
    if (tr_json_string(tr_json_get(model, "url")).size > 0) {
        printf(" pid=%lld %.*s", tri_int_of(model, "pid"), STR(model, "url"));
    }
    if (tri_is(model, "state", "starting")) {
        printf(" for %lld s: %.*s", tri_int_of(model, "running_ms") / 1000,
               STR(model, "last_words"));
    }
    printf("%s%.*s\n", tr_json_string(tr_json_get(model, "why")).size > 0 ? " " : "",
           STR(model, "why"));
}

static void print_local(const tr_json_value *model) {
    if (tri_is(model, "gate", "managed")) {
        print_managed(model);
        return;
    }
    long long active = 0;
    for (const tr_json_value *worker = tr_json_first(tr_json_get(model, "workers")); worker != NULL;
         worker = tr_json_next(worker)) {
        active += tri_int_of(worker, "active");
    }
    printf("%-24.*s %-9.*s workers=%zu active=%lld context=%lld%s%.*s\n", STR(model, "model"),
           STR(model, "state"), tr_json_count(tr_json_get(model, "workers")), active,
           tri_int_of(model, "context"),
           tr_json_string(tr_json_get(model, "why")).size > 0 ? " " : "", STR(model, "why"));
}

/* Whether a list of loaded models holds one of that name, or an instance of it. */
static bool is_loaded(const tr_json_value *loaded, tr_str name) {
    const tr_json_value *item = tr_json_first(loaded);
    for (; item != NULL; item = tr_json_next(item)) {
        tr_str names[] = {tr_json_string(tr_json_get(item, "name")),
                          tr_json_string(tr_json_get(item, "model"))};
        for (size_t i = 0; i < 2; i++) {
            if (names[i].size == name.size && memcmp(names[i].ptr, name.ptr, name.size) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void print_fact(const tr_json_value *model, const char *name, const char *before) {
    const tr_json_value *value = tr_json_get(model, name);
    if (value != NULL) {
        bool string = tr_json_type_of(value) == TR_JSON_STRING;
        tr_str text = string ? tr_json_string(value) : tr_json_raw(value);
        printf(" %s%.*s", before, (int)text.size, text.ptr);
    }
}

/* Context and prices: the server's own word on the context goes before the daemon's table. */
static void print_known(const tr_json_value *root, const tr_json_value *model) {
    tr_str name = tr_json_string(tr_json_get(model, "name"));
    const tr_json_value *facts =
        name.ptr != NULL ? tr_json_get(tr_json_get(root, "facts"), name.ptr) : NULL;
    print_fact(tr_json_get(model, "context") != NULL ? model : facts, "context", "context=");
    print_fact(facts, "output", "output=");
    print_fact(facts, "in", "$in=");
    print_fact(facts, "out", "$out=");
    print_fact(facts, "cached", "$cached=");
}

/* A provider's own models, as it lists them; those in its memory that it does not list come last.
 */
static void print_provider(const tr_json_value *root) {
    const tr_json_value *models = tr_json_get(root, "models");
    const tr_json_value *loaded = tr_json_get(root, "loaded");
    for (const tr_json_value *model = tr_json_first(models); model != NULL;
         model = tr_json_next(model)) {
        printf("%.*s/%.*s", STR(root, "provider"), STR(model, "name"));
        print_fact(model, "parameters", "");
        print_fact(model, "quantization", "");
        print_fact(model, "bytes", "bytes=");
        print_known(root, model);
        puts(is_loaded(loaded, tr_json_string(tr_json_get(model, "name"))) ? " loaded" : "");
    }
    for (const tr_json_value *item = tr_json_first(loaded); item != NULL;
         item = tr_json_next(item)) {
        if (!is_loaded(models, tr_json_string(tr_json_get(item, "name")))) {
            printf("%.*s/%.*s loaded", STR(root, "provider"), STR(item, "name"));
            print_fact(item, "model", "from ");
            print_fact(item, "context", "context=");
            puts("");
        }
    }
}

static void print_alias(const tr_json_value *alias) {
    const tr_json_value *target = tr_json_first(tr_json_get(alias, "targets"));
    printf("%-24.*s alias of %.*s", (int)tr_json_name(alias).size, tr_json_name(alias).ptr,
           (int)tr_json_string(alias).size,
           tr_json_string(alias).ptr != NULL ? tr_json_string(alias).ptr : "");
    for (const char *gap = ""; target != NULL; target = tr_json_next(target), gap = ", ") {
        printf("%s%.*s", gap, (int)tr_json_string(target).size, tr_json_string(target).ptr);
    }
    if (tr_json_get(alias, "policy") != NULL) {
        printf(" (%.*s)", STR(alias, "policy"));
    }
    putchar('\n');
}

static void print_others(const tr_json_value *root) {
    const tr_json_value *item = tr_json_first(tr_json_get(root, "aliases"));
    for (; item != NULL; item = tr_json_next(item)) {
        print_alias(item);
    }
    item = tr_json_first(tr_json_get(root, "providers"));
    for (; item != NULL; item = tr_json_next(item)) {
        printf("%.*s/MODEL\n", (int)tr_json_string(item).size, tr_json_string(item).ptr);
    }
    printf("default: %.*s\n", STR(root, "default"));
}

int tri_cmd_models(const tri_args *args) {
    int status;
    if (args->rest_count > 1) {
        return tri_usage("models", "expected one provider, or nothing");
    }
    const char *provider = args->rest_count == 1 ? args->rest[0] : NULL;
    tr_json *json = tri_control(args, "models", "provider", provider, &status);
    bool local = provider != NULL && strcmp(provider, "local") == 0;
    if (json != NULL && !args->json && provider != NULL && !local) {
        print_provider(tr_json_root(json));
    } else if (json != NULL && !args->json) {
        const tr_json_value *root = tr_json_root(json);
        const tr_json_value *item = tr_json_first(tr_json_get(root, "local"));
        for (; item != NULL; item = tr_json_next(item)) {
            print_local(item);
        }
        if (!local) {
            print_others(root);
        }
    }
    tr_json_free(json);
    return status;
}

static int steer(const tri_args *args, const char *verb, const char *name) {
    if (args->rest_count != 1) {
        return tri_usage(verb, "expected one %s", name);
    }
    int status;
    tr_json *json = tri_control(args, verb, name, args->rest[0], &status);
    tr_json_free(json);
    return status;
}

int tri_cmd_load(const tri_args *args) {
    return steer(args, "load", "model");
}

int tri_cmd_unload(const tri_args *args) {
    if (args->rest_count != 1) {
        return tri_usage("unload", "expected one model");
    }
    int status;
    tr_json *json = tri_control(args, "unload", "model", args->rest[0], &status);
    const tr_json_value *closed = json != NULL ? tr_json_get(tr_json_root(json), "closed") : NULL;
    if (closed != NULL && !args->json) {
        int64_t count = tr_json_int(closed, 0);
        if (count == 0) {
            puts("no idle connection was open");
        } else {
            printf("%lld idle connection%s closed\n", (long long)count, count == 1 ? "" : "s");
        }
    }
    tr_json_free(json);
    return status;
}

int tri_cmd_cancel(const tri_args *args) {
    return steer(args, "cancel", "id");
}

int tri_cmd_log_level(const tri_args *args) {
    if (args->rest_count != 1) {
        return tri_usage("log-level", "expected error, warn, info or debug");
    }
    int status;
    tr_json_free(tri_control(args, "log_level", "level", args->rest[0], &status));
    return status;
}

int tri_cmd_requests(const tri_args *args) {
    int status;
    tr_json *json = tri_control(args, "requests", NULL, NULL, &status);
    if (json != NULL && !args->json) {
        const tr_json_value *item = tr_json_first(tr_json_get(tr_json_root(json), "requests"));
        for (; item != NULL; item = tr_json_next(item)) {
            tr_str id = tri_id(item);
            printf("%.*s %.*s\n", (int)id.size, id.ptr, STR(item, "state"));
        }
    }
    tr_json_free(json);
    return status;
}

/* --- the daemon --- */

static void print_part(const tr_json_value *part) {
    if (tri_is(part, "gate", "pool") || tri_is(part, "gate", "managed")) {
        print_local(part);
    } else if (tri_is(part, "gate", "limiter")) {
        if (tri_int_of(part, "used") + tri_int_of(part, "waiting") > 0) {
            printf("%-24.*s %lld of %lld slots in use, %lld waiting\n", STR(part, "provider"),
                   tri_int_of(part, "used"), tri_int_of(part, "at_once"),
                   tri_int_of(part, "waiting"));
        }
        tri_print_open_targets(part);
    } else if (tr_json_get(part, "key") != NULL) {
        tri_print_keys(part);
    }
}

int tri_cmd_status(const tri_args *args) {
    int status;
    tr_json *json = tri_control(args, "status", NULL, NULL, &status);
    if (json != NULL && !args->json) {
        const tr_json_value *root = tr_json_root(json);
        char url[256];
        char why[256];
        bool known =
            args->socket == NULL && tr_socket_url(false, url, sizeof url, why, sizeof why) == TR_OK;
        printf("trouped %.*s, pid %lld, %lld shards, %lld requests running, %s\n",
               STR(root, "version"), tri_int_of(root, "pid"), tri_int_of(root, "shards"),
               tri_int_of(root, "running"),
               args->socket != NULL ? args->socket : (known ? url : "at its socket"));
        const tr_json_value *part = tr_json_first(tr_json_get(root, "parts"));
        for (; part != NULL; part = tr_json_next(part)) {
            print_part(part);
        }
    }
    tr_json_free(json);
    return status;
}

static bool answers(const tri_args *args) {
    tr_client *client = tri_connect_if_there(args);
    tr_client_close(client);
    return client != NULL;
}

int tri_cmd_start(const tri_args *args) {
    if (answers(args)) {
        if (args->config != NULL) {
            return tri_fail(TR_ERR_EXISTS, "a daemon runs already and keeps its configuration: "
                                           "`troupe stop` it first");
        }
        if (!args->quiet) {
            fputs("troupe: a daemon runs already\n", stderr);
        }
        return TRI_EXIT_OK;
    }
    if (args->config != NULL && access(args->config, R_OK) != 0) {
        fprintf(stderr, "troupe: %s cannot be read: %s\n", args->config, strerror(errno));
        return TRI_EXIT_USAGE;
    }
    char directory[TR_SOCKET_PATH_max + 1];
    char why[512];
    tr_err err = tr_socket_directory(true, directory, sizeof directory, why, sizeof why);
    if (err != TR_OK) {
        return tri_fail(err, why);
    }
    char flag[] = "--config";
    char *arguments[] = {flag, (char *)args->config, NULL};
    tr_launched launched;
    err = tr_launch(directory, args->config != NULL ? arguments : NULL, &launched, why, sizeof why);
    if (err != TR_OK) {
        return tri_fail(err, why);
    }
    if (!args->quiet) {
        fprintf(stderr, "troupe: started trouped, pid %d; its log is %s\n", launched.pid,
                launched.log_file);
    }
    return TRI_EXIT_OK;
}

/* It has been silent for STOP_PATIENCE_MS after its promise to stop. */
static int still_drains(tr_client *client) {
    char *text = NULL;
    tr_json *json = NULL;
    long long running = -1;
    if (tr_control_json(client, "{\"do\":\"status\"}", &text) == TR_OK &&
        tr_json_parse(text, strlen(text), &json, NULL) == TR_OK) {
        running = tri_int_of(tr_json_root(json), "running");
    }
    tr_json_free(json);
    tr_memory_free(text);
    if (tr_client_state(client) != TR_OK) {
        return TRI_EXIT_OK; /* it has gone while it was asked */
    }
    if (running >= 0) {
        fprintf(stderr,
                "troupe: the daemon still drains: %lld request%s may go on for as long as its "
                "configuration says (drain); see `troupe requests`\n",
                running, running == 1 ? "" : "s");
    } else {
        fputs("troupe: the daemon was told to stop, but still runs and does not say why\n", stderr);
    }
    return TRI_EXIT_TIMEOUT;
}

int tri_cmd_stop(const tri_args *args) {
    tr_client *client;
    int status;
    if (!tri_connect(args, &client, &status)) {
        return status;
    }
    tr_json_free(tri_control_on(client, args, "stop", NULL, NULL, &status));
    /* The connection ends when the daemon does. */
    while (status == TRI_EXIT_OK && tr_client_state(client) == TR_OK) {
        struct pollfd fd = {.fd = tr_client_fd(client), .events = POLLIN};
        int ready = poll(&fd, 1, STOP_PATIENCE_MS);
        if (ready == 0) {
            status = still_drains(client);
            break;
        }
        if ((ready < 0 && errno != EINTR) || tr_client_dispatch(client) != TR_OK) {
            break;
        }
    }
    tr_client_close(client);
    return status;
}

int tri_cmd_version(const tri_args *args) {
    int status = TRI_EXIT_OK;
    tr_json *json = NULL;
    if (answers(args)) {
        tri_args plain = *args;
        plain.json = false; /* the daemon's version is a part of what is printed here */
        json = tri_control(&plain, "status", NULL, NULL, &status);
    }
    const tr_json_value *root = json != NULL ? tr_json_root(json) : NULL;
    if (args->json) {
        printf("{\"troupe\":\"%s\"", tr_version());
        if (root != NULL) {
            printf(",\"trouped\":\"%.*s\"", STR(root, "version"));
        }
        puts("}");
    } else {
        printf("troupe %s\n", tr_version());
        if (root != NULL) {
            printf("trouped %.*s\n", STR(root, "version"));
        }
    }
    tr_json_free(json);
    return status;
}
