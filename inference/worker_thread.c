/*
 * The engine's thread. It loads the model, then decodes as long as anything can run, looking at its
 * queue between two decodes, and waits on a condition variable when nothing can: an idle worker
 * does not wake. A request long enough to hold up the decodes is read by a second thread, one after
 * the other; what has been read comes back in the engine's queue. PING is not its business: the
 * link's actor answers from the numbers kept here, so that a worker is known to be alive while it
 * loads or decodes, and to hang when its ticks stand still.
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

static void on_tick(void *arg) {
    atomic_fetch_add_explicit(&((tri_work *)arg)->ticks, 1, memory_order_relaxed);
}

/* So much of a request is read in about ten milliseconds: no longer than a decode. */
enum { read_at_once_max = 8 * 1024 };

static void begin_work(tri_work *work) {
    atomic_fetch_add_explicit(&work->busy, 1, memory_order_relaxed);
}

static void end_work(tri_work *work) {
    atomic_fetch_add_explicit(&work->ticks, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&work->busy, 1, memory_order_relaxed);
}

tr_err tri_work_init(tri_work *work, tr_node *node, const tr_engine_spec *spec) {
    *work = (tri_work){.node = node, .spec = *spec};
    work->last = &work->first;
    work->spec.emit = on_emit;
    work->spec.progress = on_progress;
    work->spec.tick = on_tick;
    work->spec.arg = work;
    if (pthread_mutex_init(&work->queue_mtx, NULL) != 0) {
        return TR_ERR_NOMEM;
    }
    if (pthread_cond_init(&work->queue_cond, NULL) != 0) {
        pthread_mutex_destroy(&work->queue_mtx);
        return TR_ERR_NOMEM;
    }
    if (pthread_cond_init(&work->reader_cond, NULL) != 0) {
        pthread_cond_destroy(&work->queue_cond);
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
    pthread_cond_destroy(&work->reader_cond);
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
static bool take_queue(tri_work *work, bool idle, tr_msg **ret, tr_engine_reading **ret_read) {
    pthread_mutex_lock(&work->queue_mtx);
    while (idle && work->first == NULL && work->read == NULL && !work->ends) {
        pthread_cond_wait(&work->queue_cond, &work->queue_mtx);
    }
    bool goes_on = !work->ends;
    *ret = NULL;
    if (goes_on) {
        *ret = work->first;
        work->first = NULL;
        work->last = &work->first;
    }
    *ret_read = work->read;
    work->read = NULL;
    pthread_mutex_unlock(&work->queue_mtx);
    return goes_on;
}

/* --- the reader --- */

static void *run_reader(void *arg) {
    tri_work *work = arg;
    pthread_mutex_lock(&work->queue_mtx);
    for (;;) {
        while (work->to_read == NULL && !work->reader_ends) {
            pthread_cond_wait(&work->reader_cond, &work->queue_mtx);
        }
        if (work->reader_ends) {
            break;
        }
        tr_engine_reading *reading = work->to_read;
        work->to_read = *tr_engine_reading_next(reading);
        pthread_mutex_unlock(&work->queue_mtx);
        begin_work(work);
        tr_engine_read(reading);
        end_work(work);
        pthread_mutex_lock(&work->queue_mtx);
        *tr_engine_reading_next(reading) = work->read;
        work->read = reading;
        pthread_cond_signal(&work->queue_cond);
    }
    pthread_mutex_unlock(&work->queue_mtx);
    return NULL;
}

static void give_to_reader(tri_work *work, tr_engine_reading *reading) {
    pthread_mutex_lock(&work->queue_mtx);
    tr_engine_reading **at = &work->to_read;
    while (*at != NULL) {
        at = tr_engine_reading_next(*at);
    }
    *at = reading;
    pthread_cond_signal(&work->reader_cond);
    pthread_mutex_unlock(&work->queue_mtx);
}

static void end_all(tri_work *work, tr_engine_reading *list) {
    while (list != NULL) {
        tr_engine_reading *reading = list;
        list = *tr_engine_reading_next(reading);
        tr_engine_end(work->engine, reading);
    }
}

/* What nobody wants any more gives its memory back at once, not when its turn comes. */
static void drop_cancelled(tri_work *work) {
    tr_engine_reading *dropped = NULL;
    pthread_mutex_lock(&work->queue_mtx);
    for (tr_engine_reading **at = &work->to_read; *at != NULL;) {
        tr_engine_reading *reading = *at;
        if (tr_engine_reading_cancelled(reading)) {
            *at = *tr_engine_reading_next(reading);
            *tr_engine_reading_next(reading) = dropped;
            dropped = reading;
        } else {
            at = tr_engine_reading_next(reading);
        }
    }
    pthread_mutex_unlock(&work->queue_mtx);
    end_all(work, dropped);
}

static tr_err start_thread(tri_work *work, void *(*fn)(void *), pthread_t *ret) {
    /* libllama's grammars and regular expressions recurse as deep as a request makes them. */
    enum { stack_size = 64 << 20 };
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) {
        return TR_ERR_NOMEM;
    }
    int failed = pthread_attr_setstacksize(&attr, stack_size);
    failed = failed != 0 ? failed : pthread_create(ret, &attr, fn, work);
    pthread_attr_destroy(&attr);
    return failed == 0 ? TR_OK : TR_ERR_NOMEM;
}

/* No reading may outlive the engine. */
static void stop_reader(tri_work *work) {
    pthread_mutex_lock(&work->queue_mtx);
    work->reader_ends = true;
    pthread_cond_signal(&work->reader_cond);
    pthread_mutex_unlock(&work->queue_mtx);
    if (work->reads) {
        pthread_join(work->reader, NULL);
    }
    tr_engine_cancel_all(work->engine);
    end_all(work, work->to_read);
    end_all(work, work->read);
    work->to_read = work->read = NULL;
}

/* --- the engine --- */

static void submit(tri_work *work, tr_msg *msg) {
    size_t size = msg->size + (msg->body != NULL ? msg->body->size : 0);
    tr_engine_reading *reading = tr_engine_begin(work->engine, msg);
    if (reading == NULL) {
        return;
    }
    if (size > read_at_once_max && work->reads) {
        give_to_reader(work, reading);
    } else {
        tr_engine_read(reading);
        tr_engine_end(work->engine, reading);
    }
}

static void handle(tri_work *work, tr_msg *msg) {
    switch (msg->kind) {
    case TR_KIND_SUBMIT:
        submit(work, msg);
        return;
    case TR_KIND_CANCEL:
        tr_engine_cancel(work->engine, msg->ref);
        drop_cancelled(work);
        break;
    case TR_KIND_CREDIT: {
        const tr_credit *credit = (const tr_credit *)msg->data;
        tr_engine_credit(work->engine, msg->ref, credit->messages, credit->bytes);
        break;
    }
    case TRI_KIND_RESET:
        tr_engine_cancel_all(work->engine);
        drop_cancelled(work);
        work->life = msg->ref;
        break;
    default:
        TR_ASSERT(msg->kind == TR_KIND_SUBMIT); /* the link hands on nothing else */
    }
    tr_msg_free(msg);
}

static bool load(tri_work *work) {
    char why[TR_ENGINE_WHY_size];
    begin_work(work);
    tr_err err = tr_engine_new(&work->spec, &work->engine, why);
    end_work(work);
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
    tr_engine_reading *read = NULL;
    work->reads = start_thread(work, run_reader, &work->reader) == TR_OK;
    while (take_queue(work, idle, &list, &read)) {
        begin_work(work);
        end_all(work, read);
        while (list != NULL) {
            tr_msg *msg = list;
            list = msg->next;
            msg->next = NULL;
            handle(work, msg);
        }
        tr_engine_info info;
        idle = !tr_engine_step(work->engine);
        tr_engine_info_get(work->engine, &info);
        atomic_store_explicit(&work->active, info.active, memory_order_relaxed);
        end_work(work);
    }
    end_all(work, read);
    stop_reader(work);
    pthread_mutex_lock(&work->queue_mtx);
    work->loaded = NULL;
    pthread_mutex_unlock(&work->queue_mtx);
    tr_engine_free(work->engine);
    work->engine = NULL;
    return NULL;
}

tr_err tri_work_start(tri_work *work, tr_id link) {
    work->link = link;
    tr_err err = start_thread(work, run, &work->thread);
    work->started = err == TR_OK;
    return err;
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
