/*
 * The configuration: one YAML file, every key optional. One table (config_table.c) gives each key's
 * name, type, range, default and description, so that reading, `trouped --print` and docs/config.md
 * cannot disagree. A fault names file, line, column and key.
 */
#ifndef TR_TOOLS_TROUPED_CONFIG_H
#define TR_TOOLS_TROUPED_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "protocol/err.h"

#define TR_CONFIG_WHY_size 1024    /* room for the sentence of a fault */
#define TR_CONFIG_PROVIDERS_max 64 /* those of the catalog among them */

typedef struct tr_config_strings {
    const char **items;
    size_t count;
} tr_config_strings;

/* Every entry of a named section begins with its name. */
typedef struct tr_config_provider {
    const char *name;
    const char *kind; /* a catalog row; "" = the row of the provider's own name */
    const char *base_url;
    tr_config_strings keys;
    uint64_t at_once;
    uint64_t rpm, tpm, burst; /* 0 = no limit; burst 0 = what a second brings */
    bool adaptive;
    const char *structured; /* how answers come to follow a JSON schema: see tr_structured */
} tr_config_provider;

typedef struct tr_config_local {
    const char *name;
    const char *file; /* "default" = the model that tools/setup installed */
    uint64_t workers;
    uint64_t sequences;
    uint64_t context;
    uint64_t threads; /* 0 = auto */
    uint64_t gpu_layers;
    const char *chat_template; /* "" = the model's own */
    uint64_t idle_unload_ms;   /* 0 = never */
    bool preload;
    uint64_t silence_ms; /* a worker that says nothing, or works without getting on, for so long */
    uint64_t hang_ms;    /* is killed and started again */
    /* Of a managed server; context, sequences, idle_unload, preload and hang are its too. */
    const char *kind;    /* "worker", or a row of providers/servers.h */
    const char *model;   /* {model} of its command */
    const char *command; /* "" = the row's */
    const char *health;  /* "" = the row's */
    tr_config_strings env;
    uint64_t load_limit_ms;
} tr_config_local;

typedef struct tr_config_alias {
    const char *name;
    tr_config_strings targets;
    const char *policy; /* order, weight, least_busy, fastest */
    tr_config_strings weights;
} tr_config_alias;

typedef struct tr_config_model {
    const char *name;              /* provider/model */
    uint64_t context, output;      /* tokens; 0 = as known */
    const char *in, *out, *cached; /* "" = as known */
} tr_config_model;

/* A named section: entries of one struct, in the file's order. */
typedef struct tr_config_list {
    void *items;
    size_t count;
} tr_config_list;

typedef struct tr_config {
    const char *socket; /* "default" = the user's socket directory; "off" = none */
    const char *tcp;    /* tcp://… or tls+tcp://…; "" = none */
    const char *token_file;
    const char *cert_file;
    const char *default_model; /* "" = the first local model */
    const char *mailbox;       /* direct, inproc */
    uint64_t attempts;
    uint64_t shards;          /* 0 = one a core, at most 4 */
    tr_config_list providers; /* tr_config_provider */
    tr_config_list locals;    /* tr_config_local */
    tr_config_list aliases;   /* tr_config_alias */
    tr_config_list models;    /* tr_config_model */
    uint64_t connect_ms, first_token_ms, idle_ms, total_ms, stalled_ms, pause_ms;
    uint64_t drain_ms;
    const char *log_format; /* logfmt, json */
    const char *log_level;
    const char *origin; /* the file's name, for messages */
    void *marks;        /* where each value stands in it */
    void *strings;      /* owns all of the above */
} tr_config;

/* The defaults, changed by the file at `path` (NULL = none). On failure `why` (TR_CONFIG_WHY_size)
 * says file:line:column: key: what is wrong and what is expected. TR_ERR_INVALID, TR_ERR_NOT_FOUND,
 * TR_ERR_NOMEM. Reads the file; any thread. */
TR_MUST_USE tr_err tr_config_load(const char *path, tr_config *ret, char *why);
/* The same from text; `name` stands for the file in messages. */
TR_MUST_USE tr_err tr_config_parse(const char *text, size_t size, const char *name, tr_config *ret,
                                   char *why);
void tr_config_fini(tr_config *config);

/* What no single value shows: whether names lead to something and do not collide, whether URLs and
 * references are well formed and the doors' files usable. TR_ERR_INVALID with the sentence in `why`
 * (TR_CONFIG_WHY_size), TR_ERR_NOMEM. Looks at files; any thread. */
TR_MUST_USE tr_err tr_config_check(const tr_config *config, char *why);
/* Tells `fn` what will keep a part from working but not the daemon: a model file or a key that is
 * not there. Such a thing may come later, so it stops nothing. Looks at files and environment. */
void tr_config_warn(const tr_config *config, void (*fn)(void *arg, const char *sentence),
                    void *arg);
/* Whether it is a server to be started, and no model for workers. */
bool tr_config_is_managed(const tr_config_local *local);
/* How it is started: as configured, or its kind's way; "" = nobody said. */
const char *tr_config_server_command(const tr_config_local *local);
/* The place of a local model's file: as configured, or where tools/setup installs the default. */
void tr_config_model_file(const tr_config_local *local, char *buf, size_t size);

/* Effective values as YAML that reads back as the same; keys of providers are shown only when they
 * are references (env:NAME). */
void tr_config_print(const tr_config *config, FILE *out);
/* docs/config.md. */
void tr_config_document(FILE *out);

#endif
