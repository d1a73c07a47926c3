/*
 * The catalog: one row a provider that is known by name. A row says which dialect it speaks, where
 * it is, where its key comes from and how it differs; the configuration may rename it, move it and
 * give it another key variable (provider.h).
 */
#ifndef TR_PROVIDERS_CATALOG_H
#define TR_PROVIDERS_CATALOG_H

#include <stddef.h>

#include "providers/dialect.h"

typedef enum tr_key_need {
    TR_KEY_REQUIRED, /* without it no request is sent */
    TR_KEY_OPTIONAL, /* sent when it is there */
} tr_key_need;

/* A header whose value comes from the environment, sent when it is there; or one that is always
 * the same. */
typedef struct tr_catalog_header {
    const char *name;
    const char *env;   /* NULL: `value` */
    const char *value; /* without `env` */
} tr_catalog_header;

typedef struct tr_catalog_row {
    const char *name;
    const char *dialect;
    const char *base_url;     /* the default; NULL = it must be configured or asked for */
    const char *base_url_env; /* overrides it; NULL = none */
    /* Makes the variable's value a base URL where it is none by itself; false when it cannot. */
    bool (*read_base_url)(const char *value, char *ret, size_t size);
    const char *key_env;
    const char *key_env_first; /* another name, which wins when both are set; or NULL */
    const char *key_header;    /* NULL = "Authorization" with the prefix "Bearer " */
    const char *token_env;     /* in its place: a token, which goes as Bearer; or NULL */
    const char *check_path; /* asked in place of "/models" to check a key, where that needs none */
    const char *key_page;   /* where a person gets a key; NULL = nowhere */
    tr_catalog_header headers[2];
    tr_key_need key_need;
    uint32_t quirks;
    uint32_t embed_tokens_max; /* of one embed request, all texts together; 0 = not known */
    uint32_t embed_texts_max;  /* of one embed request; 0 = as many as a request of ours has */
    bool limits_by_model;      /* its rate limits are each model's own */
    bool any_base_url;         /* a request may bring its own base URL */
} tr_catalog_row;

/* The row of that name, or of that kind of managed server (servers.h); or NULL. */
const tr_catalog_row *tr_catalog_find(const char *name);
/* The i-th row, or NULL past the end: for lists. */
const tr_catalog_row *tr_catalog_at(size_t i);

/* Whether a server of that kind can be told to let a model go. */
bool tr_catalog_unloads(const char *name);

/* Whose stored keys a provider of that name has: of rows that share a variable it is the first. */
const char *tr_catalog_account(const char *name);

/* Accepts a base URL: http or https, a host, no user, query, fragment, blank or control character,
 * at most TR_URL_max bytes. */
bool tr_base_url_valid(tr_str url);
/* Whether both have the same scheme, host and port: a key meant for one may go to the other. */
bool tr_base_url_same_origin(tr_str a, tr_str b);
/* How many of its bytes are scheme, host and port; 0 when it is no base URL. */
size_t tr_base_url_origin(tr_str url);

#endif
