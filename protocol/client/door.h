/*
 * How bytes get to the daemon and back: plain sockets for ipc:// and tcp://, NNG for tls+tcp:// and
 * inproc://. Nothing here blocks; `fd` tells when to try again.
 */
#ifndef TR_CLIENT_DOOR_H
#define TR_CLIENT_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "protocol/err.h"

typedef enum tri_scheme {
    TRI_IPC = 1,
    TRI_TCP,
    TRI_TLS,
    TRI_INPROC,
} tri_scheme;

struct addrinfo;
/* Where the daemon is; resolved once, since resolving blocks and reconnecting must not. */
typedef struct tri_place {
    tri_scheme scheme;
    char *url;
    char *ca_file;
    struct addrinfo *addresses;  /* of tcp */
    const struct addrinfo *next; /* the one to try next; NULL = from the first */
} tri_place;

/* Checks the URL and resolves the host. `url` NULL = the user's socket. Blocks on name resolution.
 * TR_ERR_INVALID, TR_ERR_NO_DAEMON (no such host), TR_ERR_NOMEM, TR_ERR_FORKED, TR_ERR_IO; says
 * why.
 */
TR_MUST_USE tr_err tri_place_init(tri_place *place, const char *url, const char *ca_file);
void tri_place_fini(tri_place *place);

typedef struct tri_door tri_door;
typedef struct tri_door_ops {
    /* TR_OK: connected; TR_ERR_FULL: not yet; another: it failed, with errno's or NNG's words. */
    tr_err (*connected)(tri_door *door, const char **ret_why);
    /* Bytes; 0 = the other side has closed; -EAGAIN; another -errno. */
    ssize_t (*recv)(tri_door *door, void *data, size_t size);
    ssize_t (*send)(tri_door *door, const void *data, size_t size);
    void (*close)(tri_door *door); /* frees */
} tri_door_ops;
struct tri_door {
    const tri_door_ops *ops;
    int fd;       /* readable: try recv (and send, when `one_way`) again */
    bool one_way; /* only readability tells; never wait for writability */
};

/* Begins to connect. TR_ERR_FULL: the daemon's queue of connections is full, try again soon.
 * *ret_why: a part of a sentence. */
TR_MUST_USE tr_err tri_door_dial(tri_place *place, tri_door **ret, const char **ret_why);
TR_MUST_USE tr_err tri_door_dial_nng(const tri_place *place, tri_door **ret, const char **ret_why);
/* Whether NNG may be used in this process: it cannot in a child of one that used it. */
TR_MUST_USE tr_err tri_nng_allowed(tri_scheme scheme);

#endif
