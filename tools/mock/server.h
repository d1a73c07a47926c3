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
    const char *tls; /* file with certificate and key; NULL = plain HTTP */
    mock_plan plan;  /* what requests begin with */
    /* As a model server that takes time to load, and fails: */
    uint64_t load_us;     /* 503 until then */
    uint64_t hang_after;  /* from so many requests on nothing is answered; MOCK_NONE = never */
    uint64_t crash_after; /* it dies when so many have come; MOCK_NONE = never */
    bool crash_loading;   /* it dies when it would have loaded */
    bool ignore_port;     /* it listens at any other port */
    bool lives;           /* plans cannot end it */
} mock_options;

/* Binds loopback, prints "listening on http://127.0.0.1:PORT/v1" (https with TLS) and serves until
 * SIGTERM or SIGINT. Returns the exit status. */
int mock_serve(const mock_options *options);

#endif
