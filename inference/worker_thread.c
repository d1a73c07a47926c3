/*
 * The engine's thread. It loads the model, then decodes as long as anything can run, looking at its
 * queue between two decodes, and waits on a condition variable when nothing can: an idle worker
 * does not wake. PING is not its business: the link's actor answers from the numbers kept here, so
 * that a worker is known to be alive while it loads or decodes, and to hang when its ticks stand
 * still.
 */
#include <string.h>

#include "inference/worker_internal.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

static void on_emit(void *arg, tr_msg *msg) {
    tri_work *work = arg;
    msg->from = work->life;
    tr_post(work->node, work->link, msg);
}

static bool on_progress(void *arg, uint32_t percent) {
    tri_work *work = arg;
    /* 100 is said when the model answers, not when its file has been read. */
    atomic_store_explicit(&work->load_percent, percent < 99 ? percent : 99, memory_order_relaxed);
    atomic_fetch_add_explicit(&work->ticks, 1, memory_order_relaxed);
    pthread_mutex_lock(&work->queue_mtx);
    bool ends = work->ends;
    pthread_mutex_unlock(&work->queue_mtx);
    return !ends;
}

tr_err tri_work_init(tri_work *work, tr_node *node, const tr_engine_spec *spec) {
    *work = (tri_work){.node = node, .spec = *spec};
    work->last = &work->first;
    work->spec.emit = on_emit;
    work->spec.progress = on_progress;
    work->spec.arg = work;
    if (pthread_mutex_init(&work->queue_mtx, NULL) != 0) {
        return TR_ERR_NOMEM;
    }
    if (pthread_cond_init(&work->queue_cond, NULL) != 0) {
        pthread_mutex_destroy(&work->queue_mtx);
        return TR_ERR_NOMEM;
    }
    return TR_OK;
}

void tri_work_fini(tri_work *work) {
    while (work->first != NULL) {
        tr_msg *msg = work->first;
        work->first = msg->next;
        tr_msg_free(msg);
    }
    pthread_cond_destroy(&work->queue_cond);
    pthread_mutex_destroy(&work->queue_mtx);
}

void tri_work_add(tri_work *work, tr_msg *msg) {
    msg->next = NULL;
    pthread_mutex_lock(&work->queue_mtx);
    *work->last = msg;
    work->last = &msg->next;
    pthread_cond_signal(&work->queue_cond);
    pthread_mutex_unlock(&work->queue_mtx);
}

/* What has come, oldest first; waits when `idle`. False: the thread ends. */
static bool take_queue(tri_work *work, bool idle, tr_msg **ret) {
    pthread_mutex_lock(&work->queue_mtx);
    while (idle && work->first == NULL && !work->ends) {
        pthread_cond_wait(&work->queue_cond, &work->queue_mtx);
    }
    bool goes_on = !work->ends;
    *ret = NULL;
    if (goes_on) {
        *ret = work->first;
        work->first = NULL;
        work->last = &work->first;
    }
    pthread_mutex_unlock(&work->queue_mtx);
    return goes_on;
}

static void handle(tri_work *work, tr_msg *msg) {
    switch (msg->kind) {
    case TR_KIND_SUBMIT:
        tr_engine_submit(work->engine, msg);
        return;
    case TR_KIND_CANCEL:
        tr_engine_cancel(work->engine, msg->ref);
        break;
    case TR_KIND_CREDIT: {
        const tr_credit *credit = (const tr_credit *)msg->data;
        tr_engine_credit(work->engine, msg->ref, credit->messages, credit->bytes);
        break;
    }
    case TRI_KIND_RESET:
        tr_engine_cancel_all(work->engine);
        work->life = msg->ref;
        break;
    default:
        TR_ASSERT(msg->kind == TR_KIND_SUBMIT); /* the link hands on nothing else */
    }
    tr_msg_free(msg);
}

static bool load(tri_work *work) {
    char why[TR_ENGINE_WHY_size];
    atomic_store_explicit(&work->busy, 1, memory_order_relaxed);
    tr_err err = tr_engine_new(&work->spec, &work->engine, why);
    atomic_store_explicit(&work->busy, 0, memory_order_relaxed);
    if (err != TR_OK) {
        tr_msg *fail = tr_msg_failf(err, "%s", why);
        if (fail != NULL) {
            tr_post(work->node, work->link, fail);
        }
        return false;
    }
    atomic_store_explicit(&work->load_percent, 100, memory_order_relaxed);
    pthread_mutex_lock(&work->queue_mtx);
    work->loaded = work->engine;
    pthread_mutex_unlock(&work->queue_mtx);
    tr_msg *loaded = tr_msg_new(TRI_KIND_LOADED, 0);
    if (loaded != NULL) {
        tr_post(work->node, work->link, loaded);
    }
    return true;
}

static void *run(void *arg) {
    tri_work *work = arg;
    if (!load(work)) {
        return NULL;
    }
    bool idle = true;
    tr_msg *list;
    while (take_queue(work, idle, &list)) {
        while (list != NULL) {
            tr_msg *msg = list;
            list = msg->next;
            msg->next = NULL;
            handle(work, msg);
        }
        tr_engine_info info;
        atomic_store_explicit(&work->busy, 1, memory_order_relaxed);
        idle = !tr_engine_step(work->engine);
        tr_engine_info_get(work->engine, &info);
        atomic_fetch_add_explicit(&work->ticks, 1, memory_order_relaxed);
        atomic_store_explicit(&work->active, info.active, memory_order_relaxed);
        atomic_store_explicit(&work->busy, 0, memory_order_relaxed);
    }
    pthread_mutex_lock(&work->queue_mtx);
    work->loaded = NULL;
    pthread_mutex_unlock(&work->queue_mtx);
    tr_engine_free(work->engine);
    work->engine = NULL;
    return NULL;
}

tr_err tri_work_start(tri_work *work, tr_id link) {
    /* libllama's grammars recurse as deep as a request makes them. */
    enum { stack_size = 64 << 20 };
    pthread_attr_t attr;
    work->link = link;
    if (pthread_attr_init(&attr) != 0) {
        return TR_ERR_NOMEM;
    }
    int failed = pthread_attr_setstacksize(&attr, stack_size);
    failed = failed != 0 ? failed : pthread_create(&work->thread, &attr, run, work);
    pthread_attr_destroy(&attr);
    work->started = failed == 0;
    return failed == 0 ? TR_OK : TR_ERR_NOMEM;
}

void tri_work_stop(tri_work *work) {
    pthread_mutex_lock(&work->queue_mtx);
    work->ends = true;
    if (work->loaded != NULL) {
        tr_engine_abort(work->loaded);
    }
    pthread_cond_signal(&work->queue_cond);
    pthread_mutex_unlock(&work->queue_mtx);
    if (work->started) {
        pthread_join(work->thread, NULL);
        work->started = false;
    }
}
