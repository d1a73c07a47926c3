/*
 * libtrouped: the daemon inside a C program. The program gets everything trouped has (supervised
 * workers, providers, limits) without a second process to look after; its own code talks to it by
 * libtroupe through an inproc:// URL. Each function may be called from any thread but not from two
 * at once for the same daemon. One daemon a process at a time; after its stop another may
 * start. A child made by fork cannot use the parent's daemon, nor start one.
 * The daemon's threads take no signals, and no signal handler is installed; SIGPIPE is not raised.
 *
 * Link with -ltrouped -ltroupe (`pkg-config --cflags --libs trouped`).
 */
#ifndef TR_TROUPED_H
#define TR_TROUPED_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stddef.h>

#pragma GCC visibility push(default)

typedef struct tr_daemon tr_daemon;

/* Strings are copied. */
typedef struct tr_daemon_options {
    size_t size;                /* sizeof(tr_daemon_options): lets the struct grow */
    const char *config_file;    /* YAML, see docs/config.md; NULL = none */
    const char *config_text;    /* YAML as text instead of a file; NULL = none */
    const char *inproc;         /* "inproc://NAME" for clients in this process; NULL = none */
    const char *worker_program; /* troupe-worker's path; NULL = beside this program, in bin/ beside
                                 * libtrouped's lib/, then PATH */
    /* Called on one of the daemon's threads when a client asks the daemon to stop (`troupe stop`);
     * it must return at once and have tr_daemon_stop called elsewhere. NULL = such a request is
     * refused. */
    void (*stop_requested)(void *arg);
    void *arg;
} tr_daemon_options;

#define TR_DAEMON_OPTIONS_INIT                                                                     \
    { sizeof(tr_daemon_options), NULL, NULL, NULL, NULL, NULL, NULL }

/* Starts it and returns when it listens: 0, or an error number of libtroupe (tr_err_text names it),
 * with a sentence in tr_daemon_error. Blocks for some milliseconds; loads no model unless the
 * configuration says preload. Starts threads; child processes are troupe-workers only.
 * TR_ERR_EXISTS: one runs in this process, or another owns the socket or the inproc name. */
int tr_daemon_start(const tr_daemon_options *options, tr_daemon **ret);

/* The URL for tr_client_open: the inproc one when there is one, else the ipc one. Valid until stop.
 */
const char *tr_daemon_url(const tr_daemon *daemon);

/* Reads config_file again and applies what may change at run time. 0, or an error with the old
 * configuration still in force and a sentence in tr_daemon_error. Does not block for requests. */
int tr_daemon_reload(tr_daemon *daemon);

/* Refuses new requests, lets running ones finish within `drain` of the configuration, stops
 * everything in order and frees it. Blocks. NULL is fine. */
void tr_daemon_stop(tr_daemon *daemon);

/* This thread's last failure as a sentence; never NULL. */
const char *tr_daemon_error(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
