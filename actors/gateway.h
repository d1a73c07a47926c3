/*
 * The gateway: listens, and gives each accepted stream to a connection of its own, shard by shard
 * in turn. When it is told to end, it closes the listeners first and then each connection, and
 * waits for them.
 */
#ifndef TR_ACTORS_GATEWAY_H
#define TR_ACTORS_GATEWAY_H

#include "actors/services.h"

#define TR_LISTENERS_max 8

/* What a listener is and who may come in by it. Strings live as long as the node. */
typedef struct tr_door_spec {
    const char *url;
    const char *cert_file;
    const char *token; /* NULL = none */
    size_t token_size;
    bool same_user;     /* peers must be of this process's user or root (ipc) */
    bool takes_clients; /* false: workers only */
} tr_door_spec;

typedef struct tr_gateway_args {
    tr_services *services;
    tr_door_spec doors[TR_LISTENERS_max];
    uint32_t door_count;
    /* What could not be listened on and why, when init fails: at the caller's address. */
    char *why;
    size_t why_size;
} tr_gateway_args;

extern const tr_behaviour tr_gateway;

#endif
