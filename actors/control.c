/*
 * One table of verbs. A verb either answers at once or asks other actors first (INSPECT of every
 * shard, STATUS of gates and providers, LOAD and UNLOAD of a pool, inquiry.h of a provider) and
 * answers when all have come or a second has passed. The answer is one JSON text, sent in pieces as
 * credit allows. Whatever is still missing when the request's total limit has passed, the pool's
 * word or the client's credit, FAIL says it.
 */
#include "actors/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/inquiry.h"
#include "protocol/assert.h"
#include "protocol/gate.h"
#include "protocol/json.h"
#include "providers/catalog.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/node.h"

#define GATHER_US 1000000U
#define ANSWERS_max 512U

typedef struct verb verb;

typedef struct control {
    tr_services *services;
    tr_routes *routes;
    tr_id door;
    uint64_t ref;
    uint64_t credit_messages, credit_bytes;
    uint32_t seq;
    const verb *verb;
    char argument[TR_NAME_max + 1]; /* model, id or level */
    uint64_t timer;                 /* for the answers of others */
    uint64_t total_timer;           /* for the whole request */
    uint32_t total_ms;
    /* what has been asked and has come */
    uint32_t asked;
    tr_body *answers[ANSWERS_max];
    uint32_t answer_count;
    tr_id asked_one; /* the pool or provider whose word is awaited without end */
    uint64_t one_monitor;
    tr_inquiry inquiry;
    tr_limit limit; /* what LIMIT is to say */
    /* the answer */
    char *text;
    size_t size, sent;
    bool ended; /* the terminal has been sent */
} control;

struct verb {
    const char *name;
    const char *argument;                     /* the member that it takes, or NULL */
    bool needs;                               /* … and needs */
    tr_err (*ask)(tr_self *self, control *c); /* TR_OK: answers will come; TR_DONE: none needed */
    tr_err (*answer)(tr_self *self, control *c); /* all have come: writes the answer or fails */
};

static tr_err init(tr_self *self, void *state, const void *args) {
    (void)self;
    control *c = state;
    c->services = ((const tr_call_args *)args)->services;
    return TR_OK;
}

/* --- answering --- */

/* Sends the one terminal. */
static tr_err end(tr_self *self, control *c, tr_msg *msg) {
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    TR_ASSERT(!c->ended);
    c->ended = true;
    msg->ref = c->ref;
    tr_err err = tr_send_control(self, c->door, msg);
    return err == TR_OK ? TR_DONE : err;
}

static tr_err send_rest(tr_self *self, control *c) {
    while (c->sent < c->size) {
        size_t left = c->size - c->sent;
        size_t piece = tr_utf8_cut(c->text + c->sent, left, TR_DELTA_TEXT_max);
        if (c->credit_messages == 0 || c->credit_bytes < sizeof(tr_delta) + piece) {
            return TR_OK; /* CREDIT will bring us back */
        }
        tr_delta head = {.seq = c->seq++, .kind = TR_DELTA_TEXT};
        tr_delta_view view = {.text = {c->text + c->sent, piece}};
        tr_msg *msg = tr_msg_delta(&head, &view);
        if (msg == NULL) {
            return TR_ERR_NOMEM;
        }
        c->credit_messages--;
        c->credit_bytes -= msg->size;
        c->sent += piece;
        msg->ref = c->ref;
        tr_err err = tr_send_control(self, c->door, msg);
        if (err != TR_OK) {
            return err;
        }
    }
    tr_done head = {.finish = TR_FINISH_STOP, .attempts = 1, .usage.cost = 0};
    tr_end_view view = {.target = {"daemon", 6}};
    tr_msg *done = tr_msg_done(&head, &view);
    return end(self, c, done);
}

static tr_err finish(tr_self *self, control *c, tr_jsonw *w) {
    TR_ASSERT(c->text == NULL);
    tr_err err = tr_jsonw_take(w, &c->text, &c->size);
    return err == TR_OK ? send_rest(self, c) : err;
}

static tr_err say_done(tr_self *self, control *c) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "done");
    tr_jsonw_text(&w, c->verb->name);
    tr_jsonw_close(&w, '}');
    return finish(self, c, &w);
}

/* --- asking --- */

static tr_err ask(tr_self *self, control *c, tr_id to, uint16_t kind) {
    if (c->asked == ANSWERS_max) {
        return TR_OK;
    }
    tr_msg *msg = tr_msg_new(kind, 0);
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    msg->ref = c->asked++;
    return tr_send_control(self, to, msg);
}

static tr_err ask_shards(tr_self *self, control *c) {
    tr_node *node = tr_self_node(self);
    tr_err err = TR_OK;
    for (uint32_t i = 0; i < tr_node_shards(node) && err == TR_OK; i++) {
        err = ask(self, c, tr_shard_id(node, i), TR_KIND_INSPECT);
    }
    return err;
}

static tr_err ask_named(tr_self *self, control *c, const char *prefix, const char *name,
                        const char *suffix) {
    char full[TR_ACTOR_NAME_max + 1];
    snprintf(full, sizeof full, "%s:%s%s", prefix, name, suffix);
    tr_id to = tr_whereis(tr_self_node(self), full);
    return to != TR_ID_NONE ? ask(self, c, to, TR_KIND_STATUS) : TR_OK;
}

static tr_err ask_pools(tr_self *self, control *c) {
    const tr_routes_spec *routes = tr_routes_of(c->routes);
    tr_err err = TR_OK;
    for (size_t i = 0; i < routes->local_count && err == TR_OK; i++) {
        err = ask_named(self, c, "pool", routes->locals[i], "");
    }
    return err == TR_OK && c->asked == 0 ? TR_DONE : err;
}

static tr_err ask_all(tr_self *self, control *c) {
    const tr_routes_spec *routes = tr_routes_of(c->routes);
    tr_err err = ask_pools(self, c);
    for (size_t i = 0; i < routes->provider_count && (err == TR_OK || err == TR_DONE); i++) {
        err = ask_named(self, c, "limiter", routes->providers[i], "");
        if (err == TR_OK && strcmp(routes->providers[i], "echo") != 0) {
            err = ask_named(self, c, "provider", routes->providers[i], ":0");
        }
    }
    return err == TR_OK && c->asked == 0 ? TR_DONE : err;
}

static tr_err ask_limit(tr_self *self, control *c) {
    char name[sizeof "limiter:" + TR_NAME_max];
    snprintf(name, sizeof name, "limiter:%s", c->argument);
    tr_id limiter = tr_whereis(tr_self_node(self), name);
    if (limiter == TR_ID_NONE) {
        return end(self, c,
                   tr_msg_failf(TR_ERR_NOT_FOUND,
                                "there is no provider \"%s\" (`troupe models` lists those there "
                                "are)",
                                c->argument));
    }
    tr_msg *msg = tr_msg_new(TR_KIND_LIMIT, sizeof(tr_limit));
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    *(tr_limit *)msg->data = c->limit;
    msg->ref = c->asked++;
    return tr_send_control(self, limiter, msg);
}

/* From now on its word or its end is awaited. */
static tr_err await(tr_self *self, control *c, tr_id one, const char *label) {
    if (one == TR_ID_NONE || tr_monitor(self, one, &c->one_monitor) != TR_OK) {
        return end(self, c, tr_msg_failf(TR_ERR_SERVER, "%s is being restarted: try again", label));
    }
    c->asked_one = one;
    return TR_OK;
}

static tr_err route(tr_self *self, control *c, tr_str name, tr_str provider, tr_target *ret) {
    char why[512];
    tr_err err = tr_route(c->routes, name, provider, ret, why, sizeof why);
    return err == TR_OK ? TR_OK : end(self, c, tr_msg_failf(err, "%s", why));
}

static tr_err inquire(tr_self *self, control *c, const tr_target *target, tr_op op) {
    tr_id provider = tr_inquiry_provider(self, target->provider);
    tr_err err = await(self, c, provider, target->provider);
    if (err == TR_OK) {
        err = tr_inquiry_ask(&c->inquiry, self, provider, op, target->model, c->total_ms);
    }
    if (err == TR_ERR_FULL) {
        return end(self, c,
                   tr_msg_failf(TR_ERR_OVERLOADED, "%s has too much to do", target->provider));
    }
    return err;
}

/* LOAD and UNLOAD: of a pool, or of the provider that has the model. */
static tr_err ask_owner(tr_self *self, control *c, uint16_t kind, tr_op op) {
    tr_target target;
    tr_err err =
        route(self, c, (tr_str){c->argument, strlen(c->argument)}, (tr_str){"", 0}, &target);
    if (err != TR_OK) {
        return err;
    }
    if (strcmp(target.provider, "local") != 0) {
        return inquire(self, c, &target, op);
    }
    err = await(self, c, tr_whereis(tr_self_node(self), target.gate), target.label);
    return err == TR_OK ? ask(self, c, c->asked_one, kind) : err;
}

static tr_err ask_load(tr_self *self, control *c) {
    return ask_owner(self, c, TR_KIND_LOAD, TR_OP_LOAD);
}

/* The place in the routes of the provider that the argument names, alone or with a model that the
 * provider keeps as it pleases; or -1. */
static int keeper(const control *c) {
    tr_target target;
    char why[512];
    const tr_routes_spec *routes = tr_routes_of(c->routes);
    tr_err err = tr_route(c->routes, (tr_str){c->argument, strlen(c->argument)}, (tr_str){"", 0},
                          &target, why, sizeof why);
    for (size_t i = 0; i < routes->provider_count; i++) {
        bool here = err == TR_OK ? strcmp(target.provider, routes->providers[i]) == 0 &&
                                       tr_catalog_find(routes->kinds[i]) != NULL &&
                                       !tr_catalog_unloads(routes->kinds[i])
                                 : strcmp(c->argument, routes->providers[i]) == 0;
        if (here) {
            return (int)i;
        }
    }
    return -1;
}

/* What a cloud provider's models hold of us are connections: those that are idle are closed. */
static tr_err ask_unload(tr_self *self, control *c) {
    int at = keeper(c);
    if (at < 0) {
        return ask_owner(self, c, TR_KIND_UNLOAD, TR_OP_UNLOAD);
    }
    const char *name = tr_routes_of(c->routes)->providers[at];
    tr_node *node = tr_self_node(self);
    tr_err err = TR_OK;
    for (uint32_t i = 0; i < tr_node_shards(node) && err == TR_OK && strcmp(name, "echo") != 0;
         i++) {
        char full[TR_ACTOR_NAME_max + 1];
        snprintf(full, sizeof full, "provider:%s:%u", name, i);
        tr_id to = tr_whereis(node, full);
        err = to != TR_ID_NONE ? ask(self, c, to, TR_KIND_UNLOAD) : TR_OK;
    }
    return err == TR_OK && c->asked == 0 ? TR_DONE : err;
}

static tr_err ask_key_check(tr_self *self, control *c) {
    tr_id provider = tr_inquiry_provider(self, c->argument);
    if (provider == TR_ID_NONE) {
        return end(self, c,
                   tr_msg_failf(TR_ERR_NOT_FOUND,
                                "there is no provider \"%s\" with keys (`troupe models` lists the "
                                "providers)",
                                c->argument));
    }
    tr_err err = await(self, c, provider, c->argument);
    return err == TR_OK ? ask(self, c, provider, TR_KIND_KEY_CHECK) : err;
}

static tr_err ask_models(tr_self *self, control *c) {
    if (strcmp(c->argument, "local") == 0) { /* a prefix like a provider's, but no provider */
        c->argument[0] = '\0';
    }
    if (c->argument[0] == '\0') {
        return ask_pools(self, c);
    }
    tr_target target;
    tr_err err =
        route(self, c, (tr_str){"*", 1}, (tr_str){c->argument, strlen(c->argument)}, &target);
    if (err != TR_OK) {
        return err;
    }
    target.model[0] = '\0';
    return inquire(self, c, &target, TR_OP_MODELS);
}

/* --- what the verbs answer --- */

static void write_id(tr_jsonw *w, const char *name, tr_id id) {
    char text[TR_ID_FMT_size];
    tr_jsonw_name(w, name);
    tr_jsonw_text(w, id != TR_ID_NONE ? tr_id_format(id, text) : NULL);
}

static void write_row(tr_jsonw *w, const tr_actor_row *row) {
    tr_jsonw_open(w, '{');
    write_id(w, "id", row->id);
    write_id(w, "parent", row->parent);
    tr_jsonw_name(w, "kind");
    tr_jsonw_text(w, row->kind);
    tr_jsonw_name(w, "name");
    tr_jsonw_text(w, row->name);
    tr_jsonw_name(w, "state");
    tr_jsonw_text(w, row->info);
    tr_jsonw_name(w, "restarts");
    tr_jsonw_uint(w, row->restarts);
    tr_jsonw_name(w, "mailbox");
    tr_jsonw_uint(w, row->mailbox);
    tr_jsonw_name(w, "handled");
    tr_jsonw_uint(w, row->handled);
    tr_jsonw_close(w, '}');
}

/* Calls `fn` for each actor that came; `only` NULL or the kind wanted. */
static void write_rows(const control *c, tr_jsonw *w, const char *only) {
    tr_jsonw_open(w, '[');
    for (uint32_t i = 0; i < c->answer_count; i++) {
        const tr_actor_row *rows = (const tr_actor_row *)(const void *)c->answers[i]->bytes;
        for (size_t k = 0; k < c->answers[i]->size / sizeof *rows; k++) {
            if (only == NULL || strcmp(rows[k].kind, only) == 0) {
                write_row(w, &rows[k]);
            }
        }
    }
    tr_jsonw_close(w, ']');
}

static tr_err answer_tree(tr_self *self, control *c) {
    tr_node *node = tr_self_node(self);
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "mailbox");
    tr_jsonw_text(&w, tr_node_mailbox(node) == TR_MAILBOX_INPROC ? "inproc" : "direct");
    tr_jsonw_name(&w, "inproc_messages");
    tr_jsonw_uint(&w, tr_node_inproc_messages(node));
    tr_jsonw_name(&w, "shards");
    tr_jsonw_uint(&w, tr_node_shards(node));
    tr_jsonw_name(&w, "actors");
    write_rows(c, &w, NULL);
    tr_jsonw_close(&w, '}');
    return finish(self, c, &w);
}

static tr_err answer_requests(tr_self *self, control *c) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "running");
    tr_jsonw_uint(&w, tr_services_running(c->services));
    tr_jsonw_name(&w, "requests");
    write_rows(c, &w, "call");
    tr_jsonw_close(&w, '}');
    return finish(self, c, &w);
}

static tr_err answer_cancel(tr_self *self, control *c) {
    for (uint32_t i = 0; i < c->answer_count; i++) {
        const tr_actor_row *rows = (const tr_actor_row *)(const void *)c->answers[i]->bytes;
        for (size_t k = 0; k < c->answers[i]->size / sizeof *rows; k++) {
            char id[TR_ID_FMT_size];
            tr_id_format(rows[k].id, id);
            /* "<0.1.2.3>" may be given without its brackets, which shells do not like */
            size_t size = strlen(id);
            bool bare =
                strlen(c->argument) == size - 2 && strncmp(c->argument, id + 1, size - 2) == 0;
            if (strcmp(rows[k].kind, "call") == 0 && (bare || strcmp(id, c->argument) == 0)) {
                tr_err err = tr_send_control(self, rows[k].id, tr_msg_cancel(TR_ERR_CANCELLED));
                return err == TR_OK ? say_done(self, c) : err;
            }
        }
    }
    return end(self, c,
               tr_msg_failf(TR_ERR_NOT_FOUND, "no request %s runs (troupe requests lists them)",
                            c->argument));
}

static void write_statuses(const control *c, tr_jsonw *w, const char *name) {
    tr_jsonw_name(w, name);
    tr_jsonw_open(w, '[');
    for (uint32_t i = 0; i < c->answer_count; i++) {
        tr_jsonw_raw(w, (tr_str){c->answers[i]->bytes, c->answers[i]->size});
    }
    tr_jsonw_close(w, ']');
}

/* One target as a text, several as an object. */
static void write_alias(tr_jsonw *w, const tr_alias *alias) {
    tr_jsonw_name(w, alias->name);
    if (alias->target_count == 1) {
        tr_jsonw_text(w, alias->targets[0]);
        return;
    }
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "targets");
    tr_jsonw_open(w, '[');
    for (size_t i = 0; i < alias->target_count; i++) {
        tr_jsonw_text(w, alias->targets[i]);
    }
    tr_jsonw_close(w, ']');
    tr_jsonw_name(w, "policy");
    tr_jsonw_text(w, tr_policy_name(alias->policy));
    tr_jsonw_close(w, '}');
}

static tr_err answer_models(tr_self *self, control *c) {
    const tr_routes_spec *routes = tr_routes_of(c->routes);
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    if (c->argument[0] != '\0') {
        tr_jsonw_name(&w, "provider");
        tr_jsonw_text(&w, c->argument);
        tr_inquiry_write(&c->inquiry, &w);
        tr_route_facts_write(c->routes, c->argument,
                             (tr_str){c->inquiry.lists[0].text, c->inquiry.lists[0].size}, &w);
        tr_jsonw_close(&w, '}');
        return finish(self, c, &w);
    }
    tr_jsonw_name(&w, "default");
    tr_jsonw_text(&w, routes->default_model[0] != '\0' ? routes->default_model
                      : routes->local_count > 0        ? routes->locals[0]
                                                       : NULL);
    write_statuses(c, &w, "local");
    tr_jsonw_name(&w, "aliases");
    tr_jsonw_open(&w, '{');
    for (size_t i = 0; i < routes->alias_count; i++) {
        write_alias(&w, &routes->aliases[i]);
    }
    tr_jsonw_close(&w, '}');
    tr_jsonw_name(&w, "providers");
    tr_jsonw_open(&w, '[');
    for (size_t i = 0; i < routes->provider_count; i++) {
        tr_jsonw_text(&w, routes->providers[i]);
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_close(&w, '}');
    return finish(self, c, &w);
}

static tr_err answer_status(tr_self *self, control *c) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "version");
    tr_jsonw_text(&w, tr_services_version(c->services));
    tr_jsonw_name(&w, "protocol");
    tr_jsonw_uint(&w, TR_PROTOCOL_VERSION);
    tr_jsonw_name(&w, "pid");
    tr_jsonw_int(&w, getpid());
    tr_jsonw_name(&w, "shards");
    tr_jsonw_uint(&w, tr_node_shards(tr_self_node(self)));
    tr_jsonw_name(&w, "running");
    tr_jsonw_uint(&w, tr_services_running(c->services));
    write_statuses(c, &w, "parts");
    tr_jsonw_close(&w, '}');
    return finish(self, c, &w);
}

static tr_err answer_level(tr_self *self, control *c) {
    tr_log_level level;
    if (!tr_log_level_parse(c->argument, &level)) {
        return end(self, c,
                   tr_msg_failf(TR_ERR_INVALID, "\"%s\" is none of error, warn, info, debug",
                                c->argument));
    }
    tr_log_set_level(level);
    return say_done(self, c);
}

/* The one answer as it came: of a limiter, or of a provider about its keys. */
static tr_err answer_limit(tr_self *self, control *c) {
    if (c->answer_count == 0) {
        return end(self, c,
                   tr_msg_failf(TR_ERR_SERVER,
                                "the limiter of %s has not answered: see `troupe limit %s`",
                                c->argument, c->argument));
    }
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_raw(&w, (tr_str){c->answers[0]->bytes, c->answers[0]->size});
    return finish(self, c, &w);
}

static tr_err answer_unload(tr_self *self, control *c) {
    if (c->asked_one != TR_ID_NONE) {
        return say_done(self, c);
    }
    uint64_t closed = 0;
    for (uint32_t i = 0; i < c->answer_count; i++) {
        tr_json *json = NULL;
        if (tr_json_parse(c->answers[i]->bytes, c->answers[i]->size, &json, NULL) == TR_OK) {
            int64_t some = tr_json_int(tr_json_get(tr_json_root(json), "closed"), 0);
            closed += some > 0 ? (uint64_t)some : 0;
        }
        tr_json_free(json);
    }
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "done");
    tr_jsonw_text(&w, c->verb->name);
    tr_jsonw_name(&w, "closed");
    tr_jsonw_uint(&w, closed);
    tr_jsonw_close(&w, '}');
    return finish(self, c, &w);
}

static tr_err answer_stop(tr_self *self, control *c) {
    if (!tr_services_stop(c->services)) {
        return end(self, c,
                   tr_msg_failf(TR_ERR_UNSUPPORTED, "this daemon lives inside another program, "
                                                    "which alone can stop it"));
    }
    return say_done(self, c);
}

static const verb verbs[] = {
    {"tree", NULL, false, ask_shards, answer_tree},
    {"requests", NULL, false, ask_shards, answer_requests},
    {"cancel", "id", true, ask_shards, answer_cancel},
    {"models", "provider", false, ask_models, answer_models},
    {"status", NULL, false, ask_all, answer_status},
    {"load", "model", true, ask_load, say_done},
    {"unload", "model", true, ask_unload, answer_unload},
    {"limit", "provider", true, ask_limit, answer_limit},
    {"key_check", "provider", true, ask_key_check, answer_limit},
    {"log_level", "level", true, NULL, answer_level},
    {"stop", NULL, false, NULL, answer_stop},
    {"ping", NULL, false, NULL, say_done},
};

/* --- the actor --- */

static tr_err bad_request(tr_self *self, control *c, const char *what) {
    char names[192] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 verbs[i].name);
    }
    return end(self, c, tr_msg_failf(TR_ERR_INVALID, "%s; what can be done: %s", what, names));
}

static const verb *find_verb(tr_str name) {
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (name.size == strlen(verbs[i].name) && memcmp(name.ptr, verbs[i].name, name.size) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

/* The numbers of a limit request, all of which may be left out. */
static tr_err read_limit(tr_self *self, control *c, const tr_json_value *request) {
    const struct {
        const char *name;
        uint32_t flag, min, max;
        uint32_t *to;
    } fields[] = {
        {"at_once", TR_LIMIT_AT_ONCE, 1, TR_REQUESTS_max, &c->limit.at_once},
        {"rpm", TR_LIMIT_RPM, 0, TR_RATE_max, &c->limit.rpm},
        {"tpm", TR_LIMIT_TPM, 0, TR_RATE_max, &c->limit.tpm},
        {"burst", TR_LIMIT_BURST, 0, TR_REQUESTS_max, &c->limit.burst},
        {"adaptive", TR_LIMIT_ADAPTIVE, 0, 1, &c->limit.adaptive},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const tr_json_value *value = tr_json_get(request, fields[i].name);
        if (value == NULL) {
            continue;
        }
        int64_t number = tr_json_int(value, -1);
        if (number < fields[i].min || number > fields[i].max) {
            return end(self, c,
                       tr_msg_failf(TR_ERR_INVALID, "%s: a whole number from %u to %u is expected",
                                    fields[i].name, fields[i].min, fields[i].max));
        }
        c->limit.flags |= fields[i].flag;
        *fields[i].to = (uint32_t)number;
    }
    return TR_OK;
}

static tr_err begin(tr_self *self, control *c, const tr_json_value *request) {
    tr_str name = tr_json_string(tr_json_get(request, "do"));
    c->verb = find_verb(name);
    if (c->verb == NULL) {
        char text[96];
        snprintf(text, sizeof text, "do: \"%.*s\" is unknown",
                 (int)tr_utf8_cut(name.ptr, name.size, 40), name.ptr != NULL ? name.ptr : "");
        return bad_request(self, c, text);
    }
    const tr_json_value *given =
        c->verb->argument != NULL ? tr_json_get(request, c->verb->argument) : NULL;
    if (c->verb->needs || given != NULL) {
        tr_str value = tr_json_string(given);
        if (value.size == 0 || value.size > TR_NAME_max) {
            return end(
                self, c,
                tr_msg_failf(TR_ERR_INVALID, "%s needs \"%s\"", c->verb->name, c->verb->argument));
        }
        memcpy(c->argument, value.ptr, value.size);
    }
    tr_err err = c->verb->ask == ask_limit ? read_limit(self, c, request) : TR_OK;
    if (err == TR_OK) {
        err = c->verb->ask != NULL ? c->verb->ask(self, c) : TR_DONE;
    }
    if (err == TR_DONE) {
        return c->ended ? TR_DONE : c->verb->answer(self, c);
    }
    if (err == TR_OK && c->asked_one == TR_ID_NONE) {
        err = tr_timer_start(self, GATHER_US, 0, &c->timer);
    }
    return err;
}

static tr_err submitted(tr_self *self, control *c, const tr_msg *msg) {
    const tr_submit *submit = (const tr_submit *)msg->data;
    c->door = msg->from;
    c->ref = msg->ref;
    c->credit_messages = submit->credit_messages;
    c->credit_bytes = submit->credit_bytes;
    c->routes = tr_services_routes(c->services);
    if (c->routes == NULL) {
        return TR_ERR_BUG;
    }
    uint32_t otherwise = tr_routes_of(c->routes)->limits.total_ms;
    c->total_ms = submit->total_ms != 0 ? submit->total_ms : otherwise;
    c->total_ms = c->total_ms != 0 ? c->total_ms : TR_TIMEOUT_MS_max;
    tr_err err = tr_timer_start(self, c->total_ms * (uint64_t)1000, 0, &c->total_timer);
    if (err != TR_OK) {
        return err;
    }
    if (msg->body != NULL && msg->body->size > TR_CONTROL_BODY_max) {
        return end(self, c,
                   tr_msg_failf(TR_ERR_TOO_LARGE, "a control request has at most %d bytes",
                                TR_CONTROL_BODY_max));
    }
    tr_json *json = NULL;
    if (msg->body == NULL ||
        tr_json_parse(msg->body->bytes, msg->body->size, &json, NULL) != TR_OK) {
        return bad_request(self, c, "the body is no JSON object");
    }
    err = begin(self, c, tr_json_root(json));
    tr_json_free(json);
    return err;
}

static tr_err answer_came(tr_self *self, control *c, tr_msg *msg) {
    if (c->text != NULL || msg->body == NULL || c->answer_count >= c->asked) {
        return TR_OK;
    }
    c->answers[c->answer_count++] = tr_body_ref(msg->body);
    if (c->answer_count < c->asked) {
        return TR_OK;
    }
    tr_timer_cancel(self, &c->timer);
    return c->verb->answer(self, c);
}

static tr_err total_passed(tr_self *self, control *c) {
    const char *what = "others in the daemon have not answered";
    char text[TR_NAME_max + 96];
    if (c->text != NULL) {
        what = "the client has given no credit for the answer";
    } else if (c->inquiry.open > 0) {
        what = "the provider has not answered";
    } else if (c->verb->ask == ask_load) {
        snprintf(text, sizeof text, "%s is not loaded yet, which goes on; no end came",
                 c->argument);
        what = text;
    } else if (c->verb->ask == ask_unload) {
        snprintf(text, sizeof text, "%s has answers to finish, then it is unloaded; no end came",
                 c->argument);
        what = text;
    }
    return end(
        self, c,
        tr_msg_failf(TR_ERR_TIMEOUT, "%s within the total limit of %u ms", what, c->total_ms));
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    control *c = state;
    switch ((*msg)->kind) {
    case TR_KIND_SUBMIT:
        return submitted(self, c, *msg);
    case TR_KIND_INSPECTED:
    case TR_KIND_STATUSED:
        return answer_came(self, c, *msg);
    case TR_KIND_DELTA: { /* of an inquiry, as the two that follow; these also of LOAD and UNLOAD */
        tr_err err = tr_inquiry_take(&c->inquiry, *msg);
        return err == TR_OK
                   ? TR_OK
                   : end(self, c, tr_msg_failf(err, "the provider's list: %s", tr_err_text(err)));
    }
    case TR_KIND_DONE:
        return tr_inquiry_end(&c->inquiry, *msg) ? c->verb->answer(self, c) : TR_OK;
    case TR_KIND_FAIL: {
        if (tr_inquiry_forgives(&c->inquiry, *msg)) {
            return tr_inquiry_end(&c->inquiry, *msg) ? c->verb->answer(self, c) : TR_OK;
        }
        tr_msg *copy = *msg;
        *msg = NULL;
        return end(self, c, copy);
    }
    case TR_KIND_DOWN:
        return end(self, c,
                   tr_msg_failf(TR_ERR_SERVER, "%s%s crashed: try again",
                                c->inquiry.open > 0 ? "" : "the pool of ", c->argument));
    case TR_KIND_CREDIT: {
        const tr_credit *credit = (const tr_credit *)(*msg)->data;
        c->credit_messages += credit->messages;
        c->credit_bytes += credit->bytes;
        return c->text != NULL ? send_rest(self, c) : TR_OK;
    }
    case TR_KIND_CANCEL:
        return end(self, c, tr_msg_failf(TR_ERR_CANCELLED, "the request was cancelled"));
    case TR_KIND_TIMER:
        if ((*msg)->ref == c->total_timer) {
            return total_passed(self, c);
        }
        /* Whoever has not answered is busy: the rest is told. */
        return c->text == NULL && (*msg)->ref == c->timer ? c->verb->answer(self, c) : TR_OK;
    default:
        return TR_OK;
    }
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    control *c = state;
    for (uint32_t i = 0; i < c->answer_count; i++) {
        tr_body_unref(c->answers[i]);
    }
    tr_inquiry_fini(&c->inquiry);
    tr_routes_unref(c->routes);
    free(c->text); /* the writer's */
}

static void describe(const void *state, char *buf, size_t size) {
    const control *c = state;
    snprintf(buf, size, "%s", c->verb != NULL ? c->verb->name : "new");
}

const tr_behaviour tr_control = {
    .name = "control",
    .state_size = sizeof(control),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
