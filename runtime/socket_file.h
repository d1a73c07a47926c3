/*
 * The file of an ipc:// listener: who may have it, and what to do with one that a dead daemon left.
 * The lock file beside it (PATH.lock) is taken before anything else and kept while listening, so
 * two daemons that start at once cannot remove each other's socket. It stays behind: removing it
 * would open the very race it closes. Internal to runtime/. Any thread; blocks only on the disk.
 */
#ifndef TR_RUNTIME_SOCKET_FILE_H
#define TR_RUNTIME_SOCKET_FILE_H

#include <stddef.h>

#include "protocol/err.h"

/* Makes the directory (0700) if its parent exists, takes the lock, and removes a stale socket file.
 * *ret_lock_fd holds the lock until it is closed. TR_ERR_EXISTS: another process listens there, or
 * the file is no socket; TR_ERR_INVALID: too long for a socket address; TR_ERR_IO. `why` gets a
 * sentence that names the path. */
TR_MUST_USE tr_err tri_socket_file_take(const char *path, char *why, size_t why_size,
                                        int *ret_lock_fd);

#endif
