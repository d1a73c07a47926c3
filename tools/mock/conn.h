/*
 * One connection of the mock: a request being read, then an answer being written at its pace.
 */
#ifndef TR_TOOLS_MOCK_CONN_H
#define TR_TOOLS_MOCK_CONN_H

#include "tools/mock/answer.h"
#include "tools/mock/lmstudio.h"
#include "tools/mock/server.h"
#include "tools/mock/tls.h"

#define CONN_NEVER UINT64_MAX

typedef struct mock_stats {
    uint64_t requests, completed, aborted, accepted, bytes;
    uint64_t active, connections;
    uint64_t resumed;       /* TLS sessions that went on from an earlier one */
    uint64_t last_abort_us; /* on the monotonic clock, which tests on the same machine share */
} mock_stats;

/* Of so many requests it is known when they came. */
#define MOCK_ARRIVALS_max 4096U

/* How often each plan with `times` was asked for. */
#define MOCK_SEEN_max 65536U /* a power of two */
typedef struct mock_seen {
    uint64_t hash;
    uint64_t count;
} mock_seen;

typedef struct mock_server {
    mock_tls *tls; /* NULL = plain HTTP */
    const mock_options *options;
    mock_stats stats;
    uint64_t arrivals_us[MOCK_ARRIVALS_max]; /* the first stats.requests of them */
    mock_seen seen[MOCK_SEEN_max];           /* by hash, the next place when it is taken */
    mock_loaded loaded;
    uint64_t loaded_us; /* when it will have loaded; CONN_NEVER = it has */
    bool is_loaded;
} mock_server;

typedef enum mock_stage {
    STAGE_READ, /* a request */
    STAGE_HEAD, /* the status line is due */
    STAGE_ROLE, /* then the events of a stream, in order */
    STAGE_TOKENS,
    STAGE_FINISH,
    STAGE_USAGE,
    STAGE_DONE,
    STAGE_LAST,  /* the end of the body */
    STAGE_STALL, /* nothing more, for ever */
    STAGE_CLOSE, /* when everything is written */
} mock_stage;

typedef struct mock_conn {
    mock_server *server;
    int fd;
    mock_session *session; /* NULL = plain */
    bool heard;            /* something of it was read: the handshake is over */
    /* server.c's */
    size_t place;    /* in the heap */
    uint32_t events; /* that the socket is watched for */
    bool unwanted;   /* something came that is not read now */
    mock_stage stage;
    uint64_t due_us; /* when it wants to go on by itself; CONN_NEVER = it waits for the socket */
    char *in;
    size_t in_size, in_room;
    char *out;
    size_t out_at, out_size, out_room;
    mock_request request;
    uint64_t token;
    uint64_t body_bytes;
    bool active; /* an answer is unfinished */
    bool quiet;  /* /stats and the like: counted nowhere */
    bool chunked;
    bool last;        /* the connection ends with this answer */
    bool failed;      /* out of memory or a broken socket: close it */
    uint64_t left_us; /* when its client was seen to leave; 0 = it is there */
    bool counted;     /* among connections */
    char *whole;      /* a body that is not streamed */
    uint64_t status;
} mock_conn;

mock_conn *mock_conn_new(mock_server *server, int fd);
/* Counts an unfinished answer as aborted. Closes the socket. */
void mock_conn_free(mock_conn *conn);
/* The socket may be read, or the peer left. */
void mock_conn_readable(mock_conn *conn, uint64_t now_us);
/* Does what is due and writes what can be written. False: free it. */
bool mock_conn_advance(mock_conn *conn, uint64_t now_us);
/* Whether it wants to read, and to write. */
bool mock_conn_wants_in(const mock_conn *conn);
bool mock_conn_wants_out(const mock_conn *conn);

#endif
