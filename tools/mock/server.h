/*
 * The mock's HTTP server: raw sockets, one thread, one epoll, so that it can misbehave in ways that
 * no HTTP library allows.
 */
#ifndef TR_TOOLS_MOCK_SERVER_H
#define TR_TOOLS_MOCK_SERVER_H

#include "tools/mock/plan.h"

typedef struct mock_options {
    uint16_t port;   /* 0 = any */
    const char *key; /* NULL = none is asked for */
    mock_plan plan;  /* what requests begin with */
} mock_options;

/* Binds loopback, prints "listening on http://127.0.0.1:PORT/v1" and serves until SIGTERM or
 * SIGINT. Returns the exit status. */
int mock_serve(const mock_options *options);

#endif
