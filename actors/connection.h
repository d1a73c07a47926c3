/*
 * A connection: the door of one client. It owns the link, says who may come in, starts an actor a
 * request and writes down what it owes: for every SUBMIT it took, exactly one DONE or FAIL goes
 * out, its own if the request's actor dies (docs/architecture/requests.md).
 */
#ifndef TR_ACTORS_CONNECTION_H
#define TR_ACTORS_CONNECTION_H

#include "actors/services.h"

typedef struct tr_connection_args {
    tr_services *services;
    const char *token; /* what HELLO must bring; NULL = none. Lives as long as the node */
    size_t token_size;
    bool same_user;     /* an ipc peer's uid must be this process's or root's */
    bool takes_clients; /* false: workers only */
} tr_connection_args;

/* Its first message is the transport's ACCEPTED. */
extern const tr_behaviour tr_connection;

#endif
