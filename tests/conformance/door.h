/*
 * Exchanges through the real HTTP door: a server of raw sockets says what was recorded, and the
 * whole path hears it. There are two: the HTTP and provider actors alone, which take every
 * operation; and a daemon in this process with libtroupe as its client, which takes chats.
 */
#ifndef TR_TESTS_CONFORMANCE_DOOR_H
#define TR_TESTS_CONFORMANCE_DOOR_H

#include "tests/conformance/heard.h"
#include "tests/lib/replay_server.h"

#define DOOR_BATCH 40 /* exchanges at once: a daemon knows 64 providers, its own among them */
#define DOOR_KEY "sk-replay-0123456789"
#define DOOR_KEY_ENV "TROUPE_REPLAY_KEY"

typedef struct door_way {
    enum { DOOR_WHOLE, DOOR_BYTES, DOOR_CUT } kind;
    uint64_t seed; /* of a cut: where, and in what pieces */
} door_way;

/* One exchange on its way through; its slot is its place among the batch's. */
typedef struct door_run {
    const exchange *exchange;
    door_way way;
    char kind[64]; /* the catalog row that it is asked through */
    char base_path[128];
    char model[160];
    bool stream;
    text body;          /* the request's body, as a client would give it */
    bool as_recorded;   /* it is the recorded one */
    size_t size;        /* of the answer's body that the server sends */
    bool cut;           /* and then breaks off */
    heard heard;        /* what came */
    unsigned terminals; /* that came: must be 1 */
} door_run;

/* Chooses kind, paths and model, and where to cut. */
void door_prepare(door_run *run, const exchange *exchange, door_way way);
/* Asks what the recording asked, where its request has the form of ours. */
void door_say_as_recorded(door_run *run);
void door_run_fini(door_run *run);
/* What the server will say. */
void door_arm(replay_server *server, size_t slot, const door_run *run);
/* And then, at the next request. */
void door_arm_next(replay_server *server, size_t slot, const door_run *run);
/* NULL, or what is wrong with what the server was asked. */
const char *door_request_wrong(const replay_request *request, const door_run *run);
/* Takes the provider's name and status from a failure's sentence: what is left are the server's
 * words. */
void door_words(heard *heard, const char *provider, const char *message);

/* Both: all runs at once, each through a provider of its own, named x0, x1, ...; true when all
 * ended within a minute and nothing is held afterwards. */
bool door_through_actors(replay_server *server, door_run *runs, size_t count);
bool door_through_daemon(replay_server *server, door_run *runs, size_t count);

#endif
