/*
 * A daemon for the client's tests, that answers by script and can misbehave: plain sockets, one
 * thread. What a request gets is told by its target, as VERB:A:B, so that one connection can carry
 * streams of every kind:
 *
 *   count:N:SIZE    N text DELTAs of SIZE bytes within credit, then DONE
 *   slow:N:MS       the same of 8 bytes, one every MS
 *   echo            the body, then DONE; also what op control does
 *   fail:CODE:MS    FAIL with that tr_err and retry_after_ms
 *   tools           reasoning, two tool calls in pieces, an opaque field, text
 *   embed:N:DIM     N vectors, element k of vector i is i + k / 16; two DELTAs each
 *   never           nothing before CANCEL, which gets FAIL cancelled
 *   deaf            nothing at all, not even after CANCEL
 *   die:N           N DELTAs, then the connection is closed
 *   garbage:N       N DELTAs, then bytes that are no frame
 *   huge            a frame that claims 1 GiB
 *   greedy          more DELTAs than credit
 *   skip            a gap in the numbers
 *   noise:SEED:N    frames of all kinds with N bytes changed at random, then the connection is
 * closed late            DONE, then a DELTA and another DONE
 *
 * Without a target it is count:3:5, and embed:3:4 for op embed.
 */
#ifndef TESTS_LIB_FAKE_SERVER_H
#define TESTS_LIB_FAKE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum fake_greeting {
    FAKE_WELCOME,
    FAKE_MUTE,          /* accepts and says nothing */
    FAKE_WRONG_VERSION, /* FAIL version */
    FAKE_NEW_VERSION,   /* WELCOME with a version nobody offered */
    FAKE_REFUSE,        /* FAIL auth */
    FAKE_GARBAGE,       /* HTTP/1.1 400 */
    FAKE_HANG_UP,       /* accepts and closes */
} fake_greeting;

typedef struct fake_counts {
    unsigned connections; /* accepted so far */
    unsigned open;        /* streams without a terminal */
    unsigned submits, cancels, credits, pings;
    unsigned most_open;
    char token[64];  /* of the last HELLO */
    char body[4096]; /* of the last SUBMIT */
    uint32_t total_ms;
    uint16_t attempts;
    uint32_t credit_messages;
} fake_counts;

typedef struct fake_server fake_server;

/* Listens at ipc://DIRECTORY/troupe/troupe.sock in a fresh directory, or at tcp://127.0.0.1:PORT.
 * NULL = it cannot. */
fake_server *fake_server_start(bool tcp, fake_greeting greeting);
/* What XDG_RUNTIME_DIR must be for its socket to be the user's. */
const char *fake_server_directory(const fake_server *server);
const char *fake_server_url(const fake_server *server);
void fake_server_greet(fake_server *server, fake_greeting greeting);
fake_counts fake_server_counts(fake_server *server);
/* Waits until `fn` holds, at most 5 s. */
bool fake_server_until(fake_server *server, bool (*fn)(const fake_counts *counts, unsigned n),
                       unsigned n);
/* Closes its connections and its socket, as a daemon that dies; `back` starts it again at the same
 * address. */
void fake_server_die(fake_server *server);
bool fake_server_back(fake_server *server);
/* Stops reading and answering, as a daemon that hangs. */
void fake_server_hang(fake_server *server, bool hang);
/* Writes at most `bytes` at a time, so that frames arrive in pieces; 0 = no limit. */
void fake_server_dribble(fake_server *server, size_t bytes);
void fake_server_stop(fake_server *server);

#endif
