/*
 * A server on raw sockets that says exactly what a test gave it, byte for byte and in the pieces
 * the test chose, and keeps what it was asked. It has one port of its own for each slot, so that
 * what is asked need not say which answer is meant. One thread serves all; loopback only.
 */
#ifndef TR_TESTS_LIB_REPLAY_SERVER_H
#define TR_TESTS_LIB_REPLAY_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct replay_server replay_server;

typedef enum replay_end {
    REPLAY_KEEP,  /* the connection stays open for the next request */
    REPLAY_CLOSE, /* FIN */
    REPLAY_RESET, /* RST */
} replay_end;

typedef struct replay_script {
    const char *bytes; /* status line, headers and body as they go over the wire */
    size_t size;
    const uint32_t *pieces; /* how many bytes each write takes; NULL = all in one */
    size_t piece_count;
    uint32_t pause_ms;     /* between two writes */
    uint32_t repeats;      /* says the last piece so many times more */
    replay_end end;        /* when all is said */
    bool early;            /* speaks when the connection is made, before the request is read */
    bool drops_connection; /* closes when the request is there, and says nothing */
} replay_script;

typedef struct replay_request {
    unsigned count; /* of the slot's requests so far; the rest is of the last */
    unsigned accepted;
    char method[16];
    char target[2048];
    char *headers; /* the lines, as they came */
    char *body;
    size_t body_size;
    bool whole; /* all the bytes that content-length announces came */
} replay_request;

/* NULL = it cannot. */
replay_server *replay_server_start(size_t slots);
void replay_server_stop(replay_server *server);
uint16_t replay_server_port(const replay_server *server, size_t slot);
/* Appends an answer to the slot's line: each request takes the next, the last one again and again.
 * Copied. */
void replay_server_add(replay_server *server, size_t slot, const replay_script *script);
/* Forgets a slot's answers and what it was asked. */
void replay_server_clear(replay_server *server, size_t slot);
/* A copy, to be given to replay_request_fini. */
replay_request replay_server_request(replay_server *server, size_t slot);
void replay_request_fini(replay_request *request);
/* Connections open now. */
size_t replay_server_open(replay_server *server);
/* Bytes that the slot wrote, in all its answers. */
uint64_t replay_server_wrote(replay_server *server, size_t slot);
/* Has the open connections of all slots closed. */
void replay_server_hang_up(replay_server *server);

#endif
