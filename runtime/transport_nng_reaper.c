/*
 * The reaper of transport_nng.h, one thread for the whole process, asleep while there is nothing to
 * free, and the translation of NNG's error numbers. The thread is started with the transport and
 * never ends, as NNG's own do not.
 */
#include "runtime/transport_nng.h"

#include <nng/nng.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t reaper_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t reaper_mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t reaper_cond = PTHREAD_COND_INITIALIZER;
static tri_reap *reaper_list; /* guarded by reaper_mtx */

static void *reaper_run(void *arg) {
    (void)arg;
    pthread_mutex_lock(&reaper_mtx);
    for (;;) {
        while (reaper_list == NULL) {
            pthread_cond_wait(&reaper_cond, &reaper_mtx);
        }
        tri_reap *list = reaper_list;
        reaper_list = NULL;
        pthread_mutex_unlock(&reaper_mtx);
        while (list != NULL) {
            tri_reap *next = list->next;
            list->fn(list);
            list = next;
        }
        pthread_mutex_lock(&reaper_mtx);
    }
    return NULL;
}

static void reaper_start(void) {
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, reaper_run, NULL);
    if (failed != 0) { /* at start-up: out of memory or threads is the end */
        fprintf(stderr, "troupe: cannot start a thread: %s\n", strerror(failed));
        abort();
    }
    pthread_setname_np(thread, "doors:reaper");
    pthread_detach(thread);
}

void tri_reaper_start(void) {
    pthread_once(&reaper_once, reaper_start);
}

void tri_reap_later(tri_reap *reap) {
    pthread_mutex_lock(&reaper_mtx);
    reap->next = reaper_list;
    reaper_list = reap;
    pthread_cond_signal(&reaper_cond);
    pthread_mutex_unlock(&reaper_mtx);
}

tr_err tri_nng_err(int rv) {
    switch (rv) {
    case NNG_ENOMEM:
        return TR_ERR_NOMEM;
    case NNG_ECLOSED:
    case NNG_ECONNRESET:
    case NNG_ECONNSHUT:
    case NNG_ECONNABORTED:
    case NNG_ECANCELED:
        return TR_ERR_CLOSED;
    case NNG_EADDRINUSE:
        return TR_ERR_EXISTS;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
        return TR_ERR_INVALID;
    case NNG_ENOTSUP:
        return TR_ERR_UNSUPPORTED;
    case NNG_ECONNREFUSED:
    case NNG_ENOENT:
    case NNG_EUNREACHABLE:
    case NNG_EAGAIN:
        return TR_ERR_CONNECT;
    case NNG_ETIMEDOUT:
        return TR_ERR_TIMEOUT;
    case NNG_ECRYPTO:
    case NNG_EPEERAUTH:
        return TR_ERR_AUTH;
    default:
        return TR_ERR_IO;
    }
}
