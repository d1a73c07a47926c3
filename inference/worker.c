/*
 * The worker's link: an actor that dials its pool, says HELLO, and then carries messages between
 * the frames and the engine's thread. A worker that a pool started lives as long as its link. One
 * that joined from elsewhere drops its requests when the link is gone (the pool has gone on with
 * them elsewhere by then), keeps its model, and dials again with growing waits; silence counts as a
 * lost link, since a cut cable closes nothing. Each life of the link has a number that answers
 * carry, so that none of an earlier life reaches the next.
 */
#include "inference/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "inference/worker_internal.h"
#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/link.h"
#include "runtime/log.h"
#include "runtime/memory.h"

enum { TIMER_REDIAL = 1, TIMER_GREETING, TIMER_SILENCE };
enum { out_max = 64 << 20, sequences_default = 4 };
static const uint64_t greeting_us = 15000000; /* from dialing to WELCOME */
static const uint64_t silence_us = 30000000;  /* a pool sends PING far more often */
static const uint64_t redial_first_us = 500000, redial_max_us = 30000000;

typedef enum door_state {
    DOOR_DIALING = 1,
    DOOR_GREETING, /* HELLO is sent */
    DOOR_OPEN,
    DOOR_WAITING, /* to dial again */
    DOOR_CLOSING, /* a last FAIL goes out */
    DOOR_STATES
} door_state;

/* may[from][to] */
static const bool may[DOOR_STATES][DOOR_STATES] = {
    [0] = {[DOOR_DIALING] = true},
    [DOOR_DIALING] = {[DOOR_GREETING] = true, [DOOR_WAITING] = true},
    [DOOR_GREETING] = {[DOOR_OPEN] = true, [DOOR_WAITING] = true},
    [DOOR_OPEN] = {[DOOR_WAITING] = true, [DOOR_CLOSING] = true},
    [DOOR_WAITING] = {[DOOR_DIALING] = true},
    [DOOR_CLOSING] = {[DOOR_WAITING] = true},
};

/* What main and the actor share: main waits until the actor has ended. */
typedef struct meeting {
    pthread_mutex_t end_mtx;
    pthread_cond_t end_cond;
    bool ended; /* guarded by end_mtx */
    int status; /* guarded by end_mtx: the process's exit status */
} meeting;

typedef struct door_args {
    const tr_worker_spec *spec;
    const uint8_t *digest;
    uint32_t context;
    tri_work *work;
    meeting *meeting;
} door_args;

typedef struct door {
    door_args args;
    door_state state;
    tr_link *link;
    uint64_t life;
    uint64_t timer; /* of the present state */
    uint64_t heard_us;
    uint64_t wait_us; /* before the next dial */
    bool loaded;
    tr_msg *refusal; /* the model cannot be loaded: what to tell the pool */
    int status;
} door;

static void set_state(door *d, door_state state) {
    TR_ASSERT(may[d->state][state]);
    d->state = state;
}

static tr_err arm(tr_self *self, door *d, uint64_t delay_us, uint16_t tag) {
    tr_timer_cancel(self, &d->timer);
    return tr_timer_start(self, delay_us, tag, &d->timer);
}

static tr_err dial(tr_self *self, door *d) {
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    tr_dial_spec spec = {.url = d->args.spec->url, .ca_file = d->args.spec->ca_file};
    tr_err err = transport->dial(transport, self, &spec);
    set_state(d, DOOR_DIALING);
    return err == TR_OK ? arm(self, d, greeting_us, TIMER_GREETING) : err;
}

/* The link is gone, or never came about. TR_DONE: so is the worker. */
static tr_err lost(tr_self *self, door *d, const char *why) {
    tr_link_free(d->link);
    d->link = NULL;
    tr_timer_cancel(self, &d->timer);
    char quoted[256];
    bool was_open = d->state == DOOR_OPEN || d->state == DOOR_CLOSING;
    if (!d->args.spec->joins || d->refusal != NULL) {
        d->status = was_open && d->refusal == NULL ? 0 : 1;
        if (!was_open) {
            tr_log(TR_LOG_ERROR, self, "the pool cannot be reached", "url=%s why=%s",
                   d->args.spec->url, tr_log_quote(why, strlen(why), quoted, sizeof quoted));
        }
        return TR_DONE;
    }
    d->life++;
    tr_msg *reset = tr_msg_new(TRI_KIND_RESET, 0);
    if (reset == NULL) {
        return TR_ERR_NOMEM;
    }
    reset->ref = d->life;
    tri_work_add(d->args.work, reset);
    d->wait_us = was_open || d->wait_us == 0 ? redial_first_us : d->wait_us * 2;
    d->wait_us = d->wait_us > redial_max_us ? redial_max_us : d->wait_us;
    /* Half of it by chance, so that many workers do not come back all at once. */
    uint64_t delay_us = d->wait_us / 2 + tr_random(self) % (d->wait_us / 2);
    tr_log(TR_LOG_WARN, self, "the link to the pool is gone: dialing again",
           "url=%s why=%s in_ms=%" PRIu64, d->args.spec->url,
           tr_log_quote(why, strlen(why), quoted, sizeof quoted), delay_us / 1000);
    set_state(d, DOOR_WAITING);
    return arm(self, d, delay_us, TIMER_REDIAL);
}

static tr_err send(tr_self *self, door *d, tr_msg *msg, uint64_t ref) {
    tr_err err = msg != NULL ? tr_link_send(d->link, self, msg, ref) : TR_ERR_NOMEM;
    tr_msg_free(msg);
    return err;
}

static tr_err say_hello(tr_self *self, door *d) {
    const tr_worker_spec *spec = d->args.spec;
    char engine[96], software[] = "troupe-worker/" TROUPE_VERSION;
    snprintf(engine, sizeof engine, "libllama %s", tr_engine_version());
    tr_hello head = {
        .magic = TR_HELLO_MAGIC,
        .version_min = TR_PROTOCOL_VERSION,
        .version_max = TR_PROTOCOL_VERSION,
        .role = TR_ROLE_WORKER,
        .sequences = (uint16_t)(spec->sequences > 0 ? spec->sequences : sequences_default),
        .context = d->args.context,
        .nonce = spec->nonce,
    };
    memcpy(head.digest, d->args.digest, sizeof head.digest);
    tr_hello_view view = {
        .token = {spec->token, strlen(spec->token)},
        .software = {software, strlen(software)},
        .model = {spec->model_name, strlen(spec->model_name)},
        .engine = {engine, strlen(engine)},
    };
    tr_msg *msg = tr_msg_new(TR_KIND_HELLO, tr_hello_size(&view));
    if (msg != NULL) {
        tr_hello_write(msg->data, &head, &view);
    }
    return send(self, d, msg, 0);
}

static tr_err say_pong(tr_self *self, door *d, uint64_t number) {
    tri_work *work = d->args.work;
    tr_msg *msg = tr_msg_new(TR_KIND_PONG, sizeof(tr_ping));
    if (msg != NULL) {
        *(tr_ping *)msg->data = (tr_ping){
            .number = number,
            .ticks = atomic_load_explicit(&work->ticks, memory_order_relaxed),
            .busy = atomic_load_explicit(&work->busy, memory_order_relaxed) != 0,
            .active = atomic_load_explicit(&work->active, memory_order_relaxed),
            .load_percent = atomic_load_explicit(&work->load_percent, memory_order_relaxed),
        };
    }
    return send(self, d, msg, 0);
}

/* Tells the pool why there will be no model, and leaves. */
static tr_err say_refusal(tr_self *self, door *d) {
    tr_err err = tr_link_send(d->link, self, d->refusal, 0);
    set_state(d, DOOR_CLOSING);
    tr_link_finish(d->link, self);
    return err == TR_OK ? arm(self, d, greeting_us, TIMER_GREETING) : err;
}

static tr_err welcomed(tr_self *self, door *d) {
    if (d->state != DOOR_GREETING) {
        return TR_ERR_PROTOCOL;
    }
    set_state(d, DOOR_OPEN);
    tr_link_set_body_max(d->link, TR_FRAME_BODY_max);
    d->wait_us = 0;
    tr_log(TR_LOG_INFO, self, "joined the pool", "url=%s model=%s", d->args.spec->url,
           d->args.spec->model_name);
    if (d->refusal != NULL) {
        return say_refusal(self, d);
    }
    tr_err err = d->args.spec->joins ? arm(self, d, silence_us, TIMER_SILENCE) : TR_OK;
    if (!d->args.spec->joins) {
        tr_timer_cancel(self, &d->timer);
    }
    return err == TR_OK && d->loaded ? say_pong(self, d, 0) : err;
}

/* The pool does not want this worker. What a second try cannot mend ends a joined one too. */
static tr_err refused(tr_self *self, door *d, const tr_msg *msg) {
    const tr_fail *fail = (const tr_fail *)msg->data;
    tr_str why = tr_fail_read(fail).message;
    char quoted[512];
    tr_log(TR_LOG_ERROR, self, "the pool refused this worker", "url=%s err=%s why=%s",
           d->args.spec->url, tr_err_name((tr_err)fail->err),
           tr_log_quote(why.ptr, why.size, quoted, sizeof quoted));
    bool hopeless = !tr_err_may_retry((tr_err)fail->err);
    d->status = 1;
    return !d->args.spec->joins || hopeless ? TR_DONE : TR_ERR_CLOSED;
}

/* A worker that the daemon started writes to the daemon's log; one that joined keeps its own. */
static void take_level(const door *d, const tr_ping *ping) {
    if (!d->args.spec->joins && ping->log_level > 0 && ping->log_level <= TR_LOG_N) {
        tr_log_set_level((tr_log_level)(ping->log_level - 1));
    }
}

static tr_err on_frame(tr_self *self, void *state, tr_msg **msg) {
    door *d = state;
    d->heard_us = tr_now_us(self);
    switch ((*msg)->kind) {
    case TR_KIND_WELCOME:
        return welcomed(self, d);
    case TR_KIND_PING:
        take_level(d, (const tr_ping *)(*msg)->data);
        return d->state == DOOR_OPEN ? say_pong(self, d, ((const tr_ping *)(*msg)->data)->number)
                                     : TR_ERR_PROTOCOL;
    case TR_KIND_FAIL:
        return (*msg)->ref == 0 ? refused(self, d, *msg) : TR_ERR_PROTOCOL;
    case TR_KIND_SUBMIT:
    case TR_KIND_CREDIT:
    case TR_KIND_CANCEL:
        if (d->state != DOOR_OPEN) {
            return TR_ERR_PROTOCOL;
        }
        tri_work_add(d->args.work, *msg);
        *msg = NULL;
        return TR_OK;
    default:
        return TR_OK;
    }
}

static tr_err on_stream(tr_self *self, door *d, tr_msg *msg) {
    const tr_stream_event *event = (const tr_stream_event *)msg->data;
    if (event->event == TR_STREAM_DIALED) {
        tr_err err = event->err;
        tr_stream *stream = tr_stream_take(msg);
        if (stream == NULL || d->state != DOOR_DIALING) {
            if (stream != NULL) {
                tr_node_platform(tr_self_node(self))->transport->close(stream);
            }
            return d->state == DOOR_DIALING ? lost(self, d, tr_err_text(err)) : TR_OK;
        }
        set_state(d, DOOR_GREETING);
        err = tr_link_new(self, stream, 0, out_max, on_frame, d, &d->link);
        err = err == TR_OK ? say_hello(self, d) : err;
        return err == TR_OK ? TR_OK : lost(self, d, tr_err_text(err));
    }
    if (d->link == NULL) {
        return TR_OK;
    }
    tr_err err = tr_link_handle(d->link, self, msg);
    if (err == TR_DONE && d->status != 0) {
        return TR_DONE; /* refused for good */
    }
    return err == TR_OK ? TR_OK : lost(self, d, tr_err_text(err));
}

static tr_err on_timer(tr_self *self, door *d, const tr_msg *msg) {
    if (msg->ref != d->timer) {
        return TR_OK;
    }
    d->timer = 0;
    switch (msg->flags & 0xffU) {
    case TIMER_REDIAL: {
        tr_err err = dial(self, d);
        return err == TR_OK ? TR_OK : lost(self, d, tr_err_text(err));
    }
    case TIMER_GREETING:
        return lost(self, d, "no answer in time");
    case TIMER_SILENCE: {
        uint64_t silent_us = tr_now_us(self) - d->heard_us;
        if (silent_us >= silence_us) {
            return lost(self, d, "the pool is silent");
        }
        return arm(self, d, silence_us - silent_us, TIMER_SILENCE);
    }
    default:
        return TR_OK;
    }
}

/* From the engine. */
static tr_err on_answer(tr_self *self, door *d, tr_msg **msg) {
    if ((*msg)->kind == TRI_KIND_LOADED) {
        d->loaded = true;
        tr_log(TR_LOG_INFO, self, "the model is loaded", "model=%s", d->args.spec->model_name);
        /* Unasked, so that the first request need not wait for the next PING. */
        return d->state == DOOR_OPEN ? say_pong(self, d, 0) : TR_OK;
    }
    if ((*msg)->kind == TR_KIND_FAIL && (*msg)->ref == 0 && !d->loaded) {
        tr_str why = tr_fail_read((const tr_fail *)(*msg)->data).message;
        char quoted[TR_ENGINE_WHY_size];
        tr_log(TR_LOG_ERROR, self, "the model cannot be loaded", "why=%s",
               tr_log_quote(why.ptr, why.size, quoted, sizeof quoted));
        d->refusal = *msg;
        *msg = NULL;
        d->status = 1;
        return d->state == DOOR_OPEN ? say_refusal(self, d) : TR_OK;
    }
    if ((*msg)->from != d->life || d->state != DOOR_OPEN) {
        return TR_OK;
    }
    tr_err err = tr_link_send(d->link, self, *msg, (*msg)->ref);
    return err == TR_OK ? TR_OK : lost(self, d, tr_err_text(err));
}

static void meet(meeting *m, int status) {
    pthread_mutex_lock(&m->end_mtx);
    m->ended = true;
    m->status = status;
    pthread_cond_signal(&m->end_cond);
    pthread_mutex_unlock(&m->end_mtx);
}

static tr_err door_init(tr_self *self, void *state, const void *args) {
    door *d = state;
    d->args = *(const door_args *)args;
    tr_err err = dial(self, d);
    if (err != TR_OK) {
        char quoted[256];
        tr_log(TR_LOG_ERROR, self, "that address cannot be dialed", "url=%s why=%s",
               d->args.spec->url,
               tr_log_quote(tr_err_text(err), strlen(tr_err_text(err)), quoted, sizeof quoted));
    } else {
        err = tri_work_start(d->args.work, tr_self_id(self));
    }
    if (err != TR_OK) {
        meet(d->args.meeting, 1);
    }
    return err;
}

static tr_err door_handle(tr_self *self, void *state, tr_msg **msg) {
    door *d = state;
    switch ((*msg)->kind) {
    case TR_KIND_STREAM:
        return on_stream(self, d, *msg);
    case TR_KIND_TIMER:
        return on_timer(self, d, *msg);
    case TR_KIND_DELTA:
    case TR_KIND_DONE:
    case TR_KIND_FAIL:
    case TRI_KIND_LOADED:
        return on_answer(self, d, msg);
    default:
        return TR_OK;
    }
}

static void door_stop(tr_self *self, void *state, tr_err reason) {
    door *d = state;
    (void)self;
    tr_link_free(d->link);
    tr_msg_free(d->refusal);
    meet(d->args.meeting, reason == TR_OK ? d->status : 1);
}

static const tr_behaviour door_behaviour = {
    .name = "worker-link",
    .state_size = sizeof(door),
    .init = door_init,
    .handle = door_handle,
    .stop = door_stop,
};

/* --- the process --- */

static tr_engine_spec engine_spec(const tr_worker_spec *spec) {
    return (tr_engine_spec){
        .model_file = spec->model_file,
        .model_name = spec->model_name,
        .chat_template = spec->chat_template,
        .sequences = spec->sequences,
        .context = spec->context,
        .threads = spec->threads,
        .gpu_layers = spec->gpu_layers,
    };
}

static int serve(tr_node *node, const door_args *args) {
    tr_spawn_spec spawn = {.behaviour = &door_behaviour, .args = args, .args_size = sizeof *args};
    meeting *m = args->meeting;
    if (tr_node_spawn(node, 0, &spawn) != TR_OK || tr_node_start(node) != TR_OK) {
        fprintf(stderr, "troupe-worker: %s\n", tr_err_text(TR_ERR_NOMEM));
        return 1;
    }
    pthread_mutex_lock(&m->end_mtx);
    while (!m->ended) {
        pthread_cond_wait(&m->end_cond, &m->end_mtx);
    }
    int status = m->status;
    pthread_mutex_unlock(&m->end_mtx);
    tri_work_stop(args->work);
    tr_node_stop(node);
    return status;
}

int tr_worker_run(const tr_worker_spec *spec) {
    char why[TR_ENGINE_WHY_size] = "";
    uint8_t digest[32] = {0};
    uint32_t trained = 0, context = spec->context;
    /* What is wrong with the file is said by the engine's thread, to the pool too. */
    if (tr_engine_peek(spec->model_file, &trained, why) == TR_OK) {
        (void)!tr_worker_digest(spec->model_file, spec->chat_template, digest);
        context = context == 0 || (trained > 0 && context > trained) ? trained : context;
    }
    meeting m = {.end_mtx = PTHREAD_MUTEX_INITIALIZER, .end_cond = PTHREAD_COND_INITIALIZER};
    tr_node_spec node_spec = {.shards = 1, .platform.transport = tr_transport_nng()};
    tr_engine_spec engine = engine_spec(spec);
    tri_work work;
    tr_node *node = NULL;
    if (tr_node_new(&node_spec, &node) != TR_OK || tri_work_init(&work, node, &engine) != TR_OK) {
        fprintf(stderr, "troupe-worker: %s\n", tr_err_text(TR_ERR_NOMEM));
        tr_node_free(node);
        return 1;
    }
    door_args args = {
        .spec = spec, .digest = digest, .context = context, .work = &work, .meeting = &m};
    int status = serve(node, &args);
    node_spec.platform.transport->forget(node_spec.platform.transport, node);
    tr_node_free(node);
    tri_work_fini(&work);
    return status;
}
