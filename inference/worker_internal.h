/*
 * The two halves of a worker and what lies between them. `tri_work` is the engine's side: a thread
 * that takes requests from a queue, and whose answers go to the link's actor by tr_post; beside it
 * a thread that reads long requests.
 */
#ifndef TR_INFERENCE_WORKER_INTERNAL_H
#define TR_INFERENCE_WORKER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "inference/worker.h"
#include "runtime/node.h"

/* Kinds between the two halves. */
enum {
    TRI_KIND_LOADED = 96, /* to the link: the model answers from now on */
    TRI_KIND_RESET = 97,  /* to the engine: the link is gone, and with it all requests; ref = the
                             life of the link to come */
};

typedef struct tri_work {
    /* set at init */
    tr_node *node;
    tr_id link; /* the actor that answers go to */
    tr_engine_spec spec;
    pthread_t thread, reader;
    bool started, reads;
    /* guarded by queue_mtx; queue_cond is signalled when something is added */
    pthread_mutex_t queue_mtx;
    pthread_cond_t queue_cond;
    tr_msg *first, **last;
    tr_engine_reading *read; /* back from the reader, for the engine */
    bool ends;
    tr_engine *loaded; /* for tr_engine_abort */
    /* guarded by queue_mtx; reader_cond is signalled when something is added */
    pthread_cond_t reader_cond;
    tr_engine_reading *to_read; /* oldest first */
    bool reader_ends;
    /* atomic; relaxed, since each is a number for itself that PONG tells */
    atomic_ullong ticks;
    atomic_uint busy; /* how many of the two threads work */
    atomic_uint active, load_percent;
    /* engine thread */
    tr_engine *engine;
    uint64_t life; /* of the link that answers belong to: they carry it in `from` */
} tri_work;

tr_err tri_work_init(tri_work *work, tr_node *node, const tr_engine_spec *spec);
/* Starts the thread, which loads the model first. `link` gets DELTA, DONE, FAIL, TRI_KIND_LOADED,
 * and FAIL{ref 0} when the model cannot be loaded. */
tr_err tri_work_start(tri_work *work, tr_id link);
/* Hands over SUBMIT, CREDIT, CANCEL or TRI_KIND_RESET. Takes it. Any thread. */
void tri_work_add(tri_work *work, tr_msg *msg);
/* Ends the threads, waiting at most for the piece of a decode, or the one request that is being
 * read, that cannot be stopped. */
void tri_work_stop(tri_work *work);
void tri_work_fini(tri_work *work);

typedef struct tri_sha256 {
    uint32_t state[8];
    uint64_t total;
    uint8_t open[64];
    size_t open_size;
} tri_sha256;
void tri_sha256_init(tri_sha256 *sha);
void tri_sha256_add(tri_sha256 *sha, const void *data, size_t size);
void tri_sha256_end(tri_sha256 *sha, uint8_t out[32]);

#endif
