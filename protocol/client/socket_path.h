/*
 * Where the daemon of this user listens: one function for the daemon and for its clients, so that
 * they always agree. $XDG_RUNTIME_DIR/troupe, else /run/troupe as root, else /tmp/troupe-UID; the
 * file in it is troupe.sock.
 */
#ifndef TR_CLIENT_SOCKET_PATH_H
#define TR_CLIENT_SOCKET_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/err.h"

#define TR_SOCKET_PATH_max 107 /* what a Unix socket's address holds */

/* Writes the directory's path. With `create` (the daemon) it is made when missing, 0700. A
 * directory that exists must be a real one, owned by this user, closed to others (0700); /tmp is
 * where others could have made it first. TR_ERR_IO: it cannot be made, or is not safe.
 * TR_ERR_NOT_FOUND: it is not there (never with `create`). TR_ERR_TOO_LARGE: the path with the
 * socket's name would not fit into a socket's address. `ret_why` says it in a sentence, with the
 * path. `buf` also holds the path after an error, except TR_ERR_TOO_LARGE. Any thread. */
TR_MUST_USE tr_err tr_socket_directory(bool create, char *buf, size_t size, char *ret_why,
                                       size_t why_size);

/* The same, then writes "ipc://DIRECTORY/troupe.sock". */
TR_MUST_USE tr_err tr_socket_url(bool create, char *buf, size_t size, char *ret_why,
                                 size_t why_size);

/* The process that has the lock beside the socket at `path`, as a daemon has while it listens, even
 * when somebody has removed its socket; 0 = none. Reads /proc/locks, since trying the lock would
 * take it from a daemon that starts at this moment. Any thread. */
int tr_socket_holder(const char *path);

#endif
