/* The workers of pool_stage.h: processes of the fake table, played by actors that dial back. */
#include <CUnit/Basic.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/pool_stage_internal.h"

static void write_link(tr_self *self, pool_worker *w, tr_msg *msg, uint64_t ref) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    if (w->link != NULL) {
        tr_err err = tr_link_send(w->link, self, msg, ref);
        CU_ASSERT(err == TR_OK || err == TR_ERR_CLOSED); /* it has said its last words */
    }
    tr_msg_free(msg);
}

static uint32_t sequences_of(const pool_worker *w) {
    return w->manner.sequences > 0 ? w->manner.sequences : 2;
}

static void say_pong(tr_self *self, pool_worker *w, uint64_t number) {
    tr_msg *msg = tr_msg_new(TR_KIND_PONG, sizeof(tr_ping));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_ping *)msg->data =
        (tr_ping){.number = number, .ticks = w->ticks, .busy = w->busy, .load_percent = w->percent};
    write_link(self, w, msg, 0);
}

static void say_hello(tr_self *self, pool_worker *w, const char *model) {
    tr_hello head = {.magic = TR_HELLO_MAGIC,
                     .version_min = TR_PROTOCOL_VERSION,
                     .version_max = TR_PROTOCOL_VERSION,
                     .role = TR_ROLE_WORKER,
                     .sequences = (uint16_t)sequences_of(w),
                     .context = 512,
                     .nonce = w->nonce};
    memset(head.digest, w->manner.digest > 0 ? w->manner.digest : 1, sizeof head.digest);
    tr_hello_view view = {.model = {model, strlen(model)}};
    tr_msg *msg = tr_msg_new(TR_KIND_HELLO, tr_hello_size(&view));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    tr_hello_write(msg->data, &head, &view);
    write_link(self, w, msg, 0);
}

static void welcomed(tr_self *self, pool_worker *w) {
    w->welcome = true;
    tr_link_set_body_max(w->link, TR_FRAME_BODY_max);
    if (w->manner.load_fails != NULL) {
        write_link(self, w, tr_msg_failf(TR_ERR_NOT_FOUND, "%s", w->manner.load_fails), 0);
        tr_link_finish(w->link, self);
        w->dying = true;
    } else if (w->manner.dies_loading) {
        w->dying = true;
        w->death = SIGSEGV;
    } else if (!w->manner.stays_loading) {
        w->percent = 100;
        say_pong(self, w, 0);
    }
}

static pool_stream *stream_of(pool_worker *w, uint64_t ref) {
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->streams[i].ref == ref && w->streams[i].open) {
            return &w->streams[i];
        }
    }
    return NULL;
}

static void submitted(pool_worker *w, const tr_msg *msg) {
    CU_ASSERT_FATAL(w->count < POOL_STAGE_STREAMS_max);
    uint32_t open = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        open += w->streams[i].open ? 1 : 0;
    }
    w->overbooked = w->overbooked || open >= sequences_of(w);
    w->streams[w->count++] = (pool_stream){.ref = msg->ref,
                                           .resumed = ((const tr_submit *)msg->data)->resume_count,
                                           .worker = w,
                                           .open = true};
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg->body);
    snprintf(w->streams[w->count - 1].body, sizeof w->streams->body, "%s", msg->body->bytes);
    if (w->manner.poison != NULL && strcmp(w->manner.poison, msg->body->bytes) == 0) {
        w->dying = true;
        w->death = SIGSEGV;
    }
}

static tr_err worker_frame(tr_self *self, void *state, tr_msg **msg) {
    pool_worker *w = *(pool_worker **)state;
    pool_stream *stream = stream_of(w, (*msg)->ref);
    switch ((*msg)->kind) {
    case TR_KIND_WELCOME:
        welcomed(self, w);
        break;
    case TR_KIND_PING:
        w->pings++;
        w->log_level = ((const tr_ping *)(*msg)->data)->log_level;
        if (!w->silent) {
            say_pong(self, w, ((const tr_ping *)(*msg)->data)->number);
        }
        break;
    case TR_KIND_SUBMIT:
        submitted(w, *msg);
        break;
    case TR_KIND_CREDIT:
        w->credits++;
        break;
    case TR_KIND_CANCEL:
        if (stream != NULL) {
            stream->cancelled = true;
        }
        if (stream != NULL && !w->deaf) {
            stream->open = false;
            write_link(self, w, tr_msg_failf(TR_ERR_CANCELLED, "cancelled"), (*msg)->ref);
        }
        break;
    case TR_KIND_FAIL: {
        tr_str why = tr_fail_read((const tr_fail *)(*msg)->data).message;
        snprintf(w->refusal, sizeof w->refusal, "%.*s", (int)why.size, why.ptr);
        break;
    }
    default:
        CU_FAIL("a worker got what it must not get");
    }
    return TR_OK;
}

static tr_err dial_back(tr_self *self, void *state, const void *args) {
    pool_worker *w = *(pool_worker *const *)args;
    *(pool_worker **)state = w;
    w->id = tr_self_id(self);
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    tr_dial_spec dial = {.url = POOL_STAGE_URL};
    return transport->dial(transport, self, &dial);
}

static tr_err worker_message(tr_self *self, void *state, tr_msg **msg) {
    pool_worker *w = *(pool_worker **)state;
    if (pool_stage_obeyed(self, *msg)) {
        return TR_OK;
    }
    if ((*msg)->kind == KIND_END) {
        return TR_DONE;
    }
    if ((*msg)->kind != TR_KIND_STREAM) {
        return TR_OK;
    }
    if (w->link == NULL) {
        bool dialed = ((const tr_stream_event *)(*msg)->data)->event == TR_STREAM_DIALED;
        tr_stream *stream = dialed ? tr_stream_take(*msg) : NULL;
        if (stream != NULL) {
            CU_ASSERT_EQUAL_FATAL(
                tr_link_new(self, stream, 0, 1U << 26, worker_frame, state, &w->link), TR_OK);
            say_hello(self, w, "m");
        }
        return TR_OK;
    }
    if (tr_link_handle(w->link, self, *msg) != TR_OK) {
        tr_link_free(w->link);
        w->link = NULL;
        w->dying = w->dying || !w->manner.ignores_terminate;
    }
    return TR_OK;
}

static tr_err worker_init(tr_self *self, void *state, const void *args) {
    pool_stage_plays = true;
    tr_err err = dial_back(self, state, args);
    pool_stage_plays = false;
    return err;
}

static tr_err worker_handle(tr_self *self, void *state, tr_msg **msg) {
    return pool_stage_play(self, state, msg, worker_message);
}

static void worker_stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    pool_worker *w = *(pool_worker **)state;
    tr_link_free(w->link);
    w->link = NULL;
}

static const tr_behaviour worker_puppet = {.name = "worker-puppet",
                                           .state_size = sizeof(pool_worker *),
                                           .init = worker_init,
                                           .handle = worker_handle,
                                           .stop = worker_stop};

static pool_worker *new_worker(pool_stage *s, int32_t pid) {
    CU_ASSERT_FATAL(s->worker_count < POOL_STAGE_WORKERS_max);
    pool_worker *w = &s->workers[s->worker_count++];
    *w = (pool_worker){.stage = s, .manner = s->manner, .pid = pid, .alive = true};
    return w;
}

void pool_stage_spawned(void *arg, int32_t pid) {
    new_worker(arg, pid);
}

void pool_stage_signalled(void *arg, int32_t pid, int signal) {
    pool_stage *s = arg;
    for (uint32_t i = 0; i < s->worker_count; i++) {
        pool_worker *w = &s->workers[i];
        if (w->pid == pid && w->alive && (signal == SIGKILL || !w->manner.ignores_terminate)) {
            w->dying = true;
            w->death = signal;
        }
    }
}

/* Its process has been asked for and nothing has been done about it yet. */
bool pool_stage_begin_worker(pool_stage *s, pool_worker *w) {
    const char *nonce = tr_fake_process_arg(s->processes, w->pid, 4);
    if (w->nonce != 0 || w->pid == 0 || !w->alive || nonce == NULL) {
        return false;
    }
    w->nonce = strtoull(nonce, NULL, 16);
    if (w->manner.exec_fails) {
        w->alive = false;
        return tr_fake_process_fail(s->processes, w->pid, ENOENT);
    }
    tr_fake_process_start(s->processes, w->pid);
    if (w->manner.exits_at_once) {
        w->alive = false;
        tr_fake_process_exit(s->processes, w->pid, 3, 0);
    } else if (!w->manner.stays_out) {
        pool_stage_spawn(s, &worker_puppet, w);
    }
    return true;
}

bool pool_stage_end_worker(pool_stage *s, pool_worker *w) {
    /* What it said before its end leaves first. */
    if (!w->dying || !w->alive ||
        (w->link != NULL && tr_link_pending(w->link) > 0 && w->death == 0)) {
        return false;
    }
    w->alive = false;
    if (w->pid != 0) {
        tr_fake_process_start(s->processes, w->pid);
        tr_fake_process_exit(s->processes, w->pid, 0, w->death);
    }
    tr_msg *end = tr_msg_new(KIND_END, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    tr_post(s->node, w->id, end);
    return true;
}

/* ---- what tests do to workers ---- */

pool_worker *pool_stage_worker(pool_stage *s, uint32_t i) {
    for (uint32_t k = 0; k < s->worker_count; k++) {
        if (s->workers[k].alive && i-- == 0) {
            return &s->workers[k];
        }
    }
    return NULL;
}

uint32_t pool_stage_alive(const pool_stage *s) {
    uint32_t alive = 0;
    for (uint32_t k = 0; k < s->worker_count; k++) {
        alive += s->workers[k].alive ? 1 : 0;
    }
    return alive;
}

pool_worker *pool_stage_join(pool_stage *s, const char *model) {
    CU_ASSERT_STRING_EQUAL(model, "m");
    pool_worker *w = new_worker(s, 0);
    pool_stage_spawn(s, &worker_puppet, w);
    pool_stage_run(s);
    return w;
}

void pool_stage_kill(pool_worker *w, int signal) {
    w->dying = true;
    w->death = signal;
    pool_stage_run(w->stage);
}

static void hang_up(tr_self *self, void *target) {
    (void)self;
    pool_worker *w = target;
    tr_link_free(w->link);
    w->link = NULL;
}

void pool_stage_hang_up(pool_worker *w) {
    pool_stage_tell(w->stage, w->id, hang_up, w);
}

static void tell_loaded(tr_self *self, void *target) {
    say_pong(self, target, 0);
}

void pool_stage_loaded(pool_worker *w, uint32_t percent) {
    w->percent = percent;
    pool_stage_tell(w->stage, w->id, tell_loaded, w);
}

static void answer_cancels(tr_self *self, void *target) {
    pool_worker *w = target;
    w->deaf = false;
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->streams[i].open && w->streams[i].cancelled) {
            w->streams[i].open = false;
            write_link(self, w, tr_msg_failf(TR_ERR_CANCELLED, "cancelled"), w->streams[i].ref);
        }
    }
}

void pool_stage_answer_cancels(pool_worker *w) {
    pool_stage_tell(w->stage, w->id, answer_cancels, w);
}

pool_worker *pool_stage_serving(pool_stage *s, const pool_call *call, pool_stream **ret_stream) {
    for (uint32_t k = 0; k < s->worker_count; k++) {
        pool_worker *w = &s->workers[k];
        for (uint32_t i = 0; w->alive && i < w->count; i++) {
            if (w->streams[i].open && strcmp(w->streams[i].body, call->body) == 0) {
                *ret_stream = &w->streams[i];
                return w;
            }
        }
    }
    return NULL;
}

static void say_token(tr_self *self, void *target) {
    const pool_stream *stream = target;
    int32_t token = 5;
    tr_delta head = {.kind = TR_DELTA_TEXT, .token_count = 1};
    tr_delta_view view = {.tokens = &token, .text = {"x", 1}};
    if (stream->open) {
        stream->worker->ticks++;
        write_link(self, stream->worker, tr_msg_delta(&head, &view), stream->ref);
    }
}

bool pool_stage_token(pool_stage *s, const pool_call *call) {
    pool_stream *stream;
    const pool_worker *w = pool_stage_serving(s, call, &stream);
    if (w != NULL) {
        pool_stage_tell(s, w->id, say_token, stream);
    }
    return w != NULL;
}

static void say_done(tr_self *self, void *target) {
    pool_stream *stream = target;
    tr_done head = {.finish = TR_FINISH_STOP};
    tr_end_view view = {.target = {"m", 1}};
    if (stream->open) {
        stream->open = false;
        write_link(self, stream->worker, tr_msg_done(&head, &view), stream->ref);
    }
}

bool pool_stage_done(pool_stage *s, const pool_call *call) {
    pool_stream *stream;
    const pool_worker *w = pool_stage_serving(s, call, &stream);
    if (w != NULL) {
        pool_stage_tell(s, w->id, say_done, stream);
    }
    return w != NULL;
}
