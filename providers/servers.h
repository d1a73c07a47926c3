/*
 * Model servers that a user has installed and Troupe starts (actors/managed.h): a row a kind, with
 * the command that starts it and the path that says whether it is well. They speak OpenAI's
 * dialect, each with a catalog row of its own that says how it differs.
 */
#ifndef TR_PROVIDERS_SERVERS_H
#define TR_PROVIDERS_SERVERS_H

#include "providers/catalog.h"

#define TR_SERVER_KIND_PREFIX "managed/"

typedef struct tr_server_row {
    tr_catalog_row row;  /* its name is the kind: "managed/…" */
    const char *command; /* a template: actors/command.h; NULL = the user's own */
    const char *health;  /* a path from the root of the server */
    const char *install; /* how one gets the program; NULL = nothing is known */
    bool names_model;    /* requests carry the model's own name, else the one that users give it */
} tr_server_row;

/* NULL when there is no such kind. Constant, any thread. */
const tr_server_row *tr_server_find(const char *kind);
/* The i-th row, or NULL past the end. */
const tr_server_row *tr_server_at(size_t i);

#endif
