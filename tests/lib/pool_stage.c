/*
 * See pool_stage.h. Orders to puppets travel as messages, so they run as the actor; what only the
 * driver may do (a process's end) is marked and done between steps. CUnit's assertions are used
 * here because everything runs on the test's thread.
 */
#include "tests/lib/pool_stage.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_DO = 100, KIND_END };

typedef void order_fn(tr_self *self, void *target);
typedef struct order {
    order_fn *fn;
    void *target;
} order;

static void tell(pool_stage *s, tr_id to, order_fn *fn, void *target) {
    tr_msg *msg = tr_msg_new(KIND_DO, sizeof(order));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->flags = TR_MSG_LOCAL;
    *(order *)(void *)msg->data = (order){fn, target};
    tr_post(s->node, to, msg);
    pool_stage_run(s);
}

static bool obeyed(tr_self *self, const tr_msg *msg) {
    if (msg->kind == KIND_DO) {
        const order *told = (const order *)(const void *)msg->data;
        told->fn(self, told->target);
    }
    return msg->kind == KIND_DO;
}

static void spawn(pool_stage *s, const tr_behaviour *behaviour, void *target) {
    tr_spawn_spec spec = {
        .behaviour = behaviour, .args = &target, .args_size = sizeof target, .name = "puppet"};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(s->node, 0, &spec), TR_OK);
}

static void send(tr_self *self, tr_id to, tr_msg *msg, uint64_t ref) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->ref = ref;
    CU_ASSERT_EQUAL(tr_send(self, to, &msg), TR_OK);
    tr_msg_free(msg);
}

static void write_link(tr_self *self, pool_worker *w, tr_msg *msg, uint64_t ref) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    if (w->link != NULL) {
        CU_ASSERT_EQUAL(tr_link_send(w->link, self, msg, ref), TR_OK);
    }
    tr_msg_free(msg);
}

/* ---- workers ---- */

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
                     .sequences = (uint16_t)(w->manner.sequences > 0 ? w->manner.sequences : 2),
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
    w->streams[w->count++] = (pool_stream){
        .ref = msg->ref, .resumed = ((const tr_submit *)msg->data)->resume_count, .open = true};
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
            stream->open = false;
            stream->cancelled = true;
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

static tr_err worker_init(tr_self *self, void *state, const void *args) {
    pool_worker *w = *(pool_worker *const *)args;
    *(pool_worker **)state = w;
    w->id = tr_self_id(self);
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    tr_dial_spec dial = {.url = POOL_STAGE_URL};
    return transport->dial(transport, self, &dial);
}

static tr_err worker_handle(tr_self *self, void *state, tr_msg **msg) {
    pool_worker *w = *(pool_worker **)state;
    if (obeyed(self, *msg)) {
        return TR_OK;
    }
    if ((*msg)->kind == KIND_END) {
        return TR_DONE;
    }
    if ((*msg)->kind != TR_KIND_STREAM) {
        return TR_OK;
    }
    if (w->link == NULL) {
        tr_stream *stream = tr_stream_take(*msg);
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

static void spawned(void *arg, int32_t pid) {
    new_worker(arg, pid);
}

static void signalled(void *arg, int32_t pid, int signal) {
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
static bool begin_worker(pool_stage *s, pool_worker *w) {
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
        spawn(s, &worker_puppet, w);
    }
    return true;
}

static bool end_worker(pool_stage *s, pool_worker *w) {
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

/* ---- the gateway's part ---- */

typedef struct gateway {
    pool_stage *stage;
    tr_listener *listener;
    tr_link *links[POOL_STAGE_WORKERS_max];
    tr_link *now; /* the one whose frame is being handled */
} gateway;

static tr_err gateway_frame(tr_self *self, void *state, tr_msg **msg) {
    gateway *g = state;
    CU_ASSERT_EQUAL_FATAL((*msg)->kind, TR_KIND_HELLO);
    const tr_hello *hello = (const tr_hello *)(*msg)->data;
    tr_str model = tr_hello_read(hello).model;
    char name[TR_ACTOR_NAME_max + 1];
    if (hello->nonce != 0) {
        snprintf(name, sizeof name, "worker:%016" PRIx64, hello->nonce);
    } else {
        snprintf(name, sizeof name, "pool:%.*s", (int)model.size, model.ptr);
    }
    tr_id to = tr_whereis(tr_self_node(self), name);
    if (to == TR_ID_NONE) {
        return TR_ERR_CLOSED;
    }
    tr_stream *stream = tr_link_detach(g->now);
    CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
    tr_msg *handover = tr_handover_new(stream, hello, (*msg)->size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(handover);
    return tr_send(self, to, &handover);
}

static tr_err gateway_init(tr_self *self, void *state, const void *args) {
    gateway *g = state;
    g->stage = *(pool_stage *const *)args;
    g->stage->gateway = tr_self_id(self);
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    tr_listen_spec spec = {.url = POOL_STAGE_URL};
    char why[128];
    return transport->listen(transport, self, &spec, &g->listener, why, sizeof why);
}

static tr_err gateway_handle(tr_self *self, void *state, tr_msg **msg) {
    gateway *g = state;
    if ((*msg)->kind != TR_KIND_STREAM) {
        return TR_OK;
    }
    bool accepted = ((const tr_stream_event *)(*msg)->data)->event == TR_STREAM_ACCEPTED;
    tr_stream *stream = accepted ? tr_stream_take(*msg) : NULL;
    tr_link **free_at = NULL;
    for (uint32_t i = 0; i < POOL_STAGE_WORKERS_max; i++) {
        if (g->links[i] == NULL) {
            free_at = free_at == NULL ? &g->links[i] : free_at;
            continue;
        }
        g->now = g->links[i];
        tr_err err = stream == NULL ? tr_link_handle(g->links[i], self, *msg) : TR_OK;
        if (err != TR_OK) {
            if (err != TR_DONE) {
                tr_link_free(g->links[i]);
            }
            g->links[i] = NULL;
        }
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(free_at);
    return stream != NULL ? tr_link_new(self, stream, 0, 1U << 16, gateway_frame, g, free_at)
                          : TR_OK;
}

static void gateway_stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    gateway *g = state;
    for (uint32_t i = 0; i < POOL_STAGE_WORKERS_max; i++) {
        tr_link_free(g->links[i]);
    }
    g->listener->transport->listener_close(g->listener);
}

static const tr_behaviour gateway_puppet = {.name = "gateway-puppet",
                                            .state_size = sizeof(gateway),
                                            .init = gateway_init,
                                            .handle = gateway_handle,
                                            .stop = gateway_stop};

/* ---- calls ---- */

static void reserve(tr_self *self, void *target) {
    pool_call *c = target;
    tr_msg *msg = tr_msg_new(TR_KIND_RESERVE, sizeof(tr_reserve));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_reserve *)msg->data = (tr_reserve){.remaining_ms = c->remaining_ms,
                                            .priority = c->priority,
                                            .resumes = (uint8_t)c->resumes,
                                            .avoid = c->backend};
    msg->flags = TR_MSG_OPENING;
    c->backend = TR_ID_NONE;
    c->tokens_at_attempt = c->tokens;
    send(self, tr_whereis(tr_self_node(self), "pool:m"), msg, ++c->attempt);
}

static void settle(tr_self *self, pool_call *c, tr_err err) {
    tr_msg *msg = tr_msg_new(TR_KIND_SETTLE, sizeof(tr_settle));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_settle *)msg->data =
        (tr_settle){.err = (uint32_t)err, .progressed = c->tokens > c->tokens_at_attempt};
    send(self, tr_whereis(tr_self_node(self), "pool:m"), msg, c->attempt);
}

static void granted(tr_self *self, pool_call *c, const tr_granted *grant) {
    c->granted++;
    c->granted_at = ++c->stage->grants;
    c->backend = grant->backend;
    int32_t tokens[64] = {0};
    CU_ASSERT_FATAL(c->tokens <= 64);
    tr_submit head = {.op = TR_OP_CHAT,
                      .credit_messages = TR_CREDIT_MESSAGES_default,
                      .credit_bytes = TR_CREDIT_BYTES_default,
                      .resume_count = c->tokens};
    tr_submit_view view = {.resume = tokens, .target = {"m", 1}};
    tr_body *body = tr_body_new(strlen(c->body));
    CU_ASSERT_PTR_NOT_NULL_FATAL(body);
    memcpy(body->bytes, c->body, body->size);
    send(self, c->backend, tr_msg_submit(&head, &view, body), c->attempt);
}

static void failed(tr_self *self, pool_call *c, const tr_fail *fail) {
    bool resumable = (fail->flags & TR_FAIL_RESUMABLE) != 0;
    bool had_grant = c->backend != TR_ID_NONE;
    if (had_grant) {
        settle(self, c, (tr_err)fail->err);
    }
    if (resumable) {
        c->resumable++;
        c->barren = c->tokens > c->tokens_at_attempt ? 0 : c->barren + 1;
        c->resumes++;
    }
    if (resumable && c->goes_on && c->barren < TR_RESUMES_WITHOUT_TOKEN_max) {
        reserve(self, c);
        return;
    }
    c->terminals++;
    c->backend = TR_ID_NONE;
    c->err = (tr_err)fail->err;
    tr_str why = tr_fail_read(fail).message;
    snprintf(c->message, sizeof c->message, "%.*s", (int)why.size, why.ptr);
}

static tr_err call_init(tr_self *self, void *state, const void *args) {
    pool_call *c = *(pool_call *const *)args;
    *(pool_call **)state = c;
    c->id = tr_self_id(self);
    return TR_OK;
}

static tr_err call_handle(tr_self *self, void *state, tr_msg **msg) {
    pool_call *c = *(pool_call **)state;
    if (obeyed(self, *msg)) {
        return TR_OK;
    }
    if ((*msg)->kind == KIND_END) {
        return TR_DONE;
    }
    if ((*msg)->ref != c->attempt) {
        return TR_OK;
    }
    switch ((*msg)->kind) {
    case TR_KIND_GRANTED:
        granted(self, c, (const tr_granted *)(*msg)->data);
        break;
    case TR_KIND_DELTA:
        CU_ASSERT_EQUAL(c->terminals, 0);
        CU_ASSERT_NOT_EQUAL(c->backend, TR_ID_NONE);
        c->tokens += ((const tr_delta *)(*msg)->data)->token_count;
        break;
    case TR_KIND_DONE:
        c->terminals++;
        c->done = true;
        settle(self, c, TR_OK);
        c->backend = TR_ID_NONE;
        break;
    case TR_KIND_FAIL:
        failed(self, c, (const tr_fail *)(*msg)->data);
        break;
    default:
        CU_FAIL("a call got what it must not get");
    }
    return TR_OK;
}

static const tr_behaviour call_puppet = {.name = "call-puppet",
                                         .state_size = sizeof(pool_call *),
                                         .init = call_init,
                                         .handle = call_handle};

void pool_call_start(pool_stage *s, pool_call *call, const char *body) {
    *call = (pool_call){.stage = s, .body = body, .remaining_ms = 600000};
    spawn(s, &call_puppet, call);
    pool_stage_run(s);
}

void pool_call_reserve(pool_call *call) {
    tell(call->stage, call->id, reserve, call);
}

static void end_call(tr_self *self, void *target) {
    pool_call *c = target;
    if (c->backend != TR_ID_NONE) {
        send(self, c->backend, tr_msg_cancel(TR_ERR_CANCELLED), c->attempt);
    }
    settle(self, c, TR_ERR_CANCELLED);
    send(self, tr_self_id(self), tr_msg_new(KIND_END, 0), 0);
}

void pool_call_end(pool_call *call) {
    tell(call->stage, call->id, end_call, call);
}

static void crash_call(tr_self *self, void *target) {
    (void)target;
    tr_exit(self, tr_self_id(self), TR_ERR_CANCELLED);
}

void pool_call_crash(pool_call *call) {
    tell(call->stage, call->id, crash_call, call);
}

static void give_credit(tr_self *self, void *target) {
    pool_call *c = target;
    send(self, c->backend, tr_msg_credit(1, 100), c->attempt);
}

void pool_call_credit(pool_call *call) {
    tell(call->stage, call->id, give_credit, call);
}

/* ---- who asks the pool ---- */

static tr_err asker_init(tr_self *self, void *state, const void *args) {
    pool_stage *s = *(pool_stage *const *)args;
    *(pool_stage **)state = s;
    s->asker = tr_self_id(self);
    return TR_OK;
}

static tr_err asker_handle(tr_self *self, void *state, tr_msg **msg) {
    pool_stage *s = *(pool_stage **)state;
    if (obeyed(self, *msg)) {
        return TR_OK;
    }
    s->answers++;
    s->answer = TR_OK;
    if ((*msg)->kind == TR_KIND_FAIL) {
        const tr_fail *fail = (const tr_fail *)(*msg)->data;
        tr_str why = tr_fail_read(fail).message;
        s->answer = (tr_err)fail->err;
        snprintf(s->text, sizeof s->text, "%.*s", (int)why.size, why.ptr);
    } else if ((*msg)->kind == TR_KIND_STATUSED) {
        snprintf(s->text, sizeof s->text, "%s", (*msg)->body->bytes);
    } else {
        CU_ASSERT_EQUAL((*msg)->kind, TR_KIND_DONE);
    }
    return TR_OK;
}

static const tr_behaviour asker_puppet = {.name = "asker-puppet",
                                          .state_size = sizeof(pool_stage *),
                                          .init = asker_init,
                                          .handle = asker_handle};

typedef struct question {
    const char *model;
    uint16_t kind;
} question;

static void ask(tr_self *self, void *target) {
    const question *q = target;
    char name[TR_ACTOR_NAME_max + 1];
    snprintf(name, sizeof name, "pool:%s", q->model);
    send(self, tr_whereis(tr_self_node(self), name), tr_msg_new(q->kind, 0), 9);
}

void pool_stage_ask(pool_stage *s, const char *model, uint16_t kind) {
    question q = {model, kind};
    s->answers = 0;
    s->text[0] = '\0';
    tell(s, s->asker, ask, &q);
}

/* ---- the stage ---- */

static uint64_t stage_now(void *arg) {
    return ((pool_stage *)arg)->now_us;
}

static uint64_t stage_random(void *arg) {
    pool_stage *s = arg;
    s->random = s->random * 6364136223846793005U + 1442695040888963407U;
    return s->random;
}

static void stage_wake(void *arg, uint32_t shard) {
    (void)arg;
    (void)shard;
}

void pool_stage_set_up(pool_stage *s, uint32_t shards) {
    memset(s, 0, sizeof *s);
    s->now_us = 1000000;
    s->random = 7;
    tr_fake_hooks hooks = {.spawned = spawned, .signalled = signalled, .arg = s};
    s->net = tr_memory_net_new(1);
    s->processes = tr_fake_processes_new(&hooks);
    CU_ASSERT_FATAL(s->net != NULL && s->processes != NULL);
    tr_node_spec spec = {.shards = shards,
                         .platform = {.now_us = stage_now,
                                      .random = stage_random,
                                      .wake = stage_wake,
                                      .arg = s,
                                      .transport = tr_memory_net_transport(s->net),
                                      .processes = tr_fake_processes_table(s->processes)}};
    CU_ASSERT_EQUAL_FATAL(tr_node_new(&spec, &s->node), TR_OK);
    spawn(s, &gateway_puppet, s);
    spawn(s, &asker_puppet, s);
    pool_stage_run(s);
}

void pool_stage_start(pool_stage *s, const tr_child_spec *child) {
    tr_supervisor_args args = {.strategy = TR_ONE_FOR_ONE, .children = child, .child_count = 1};
    tr_spawn_spec spec = {.behaviour = &tr_supervisor,
                          .args = &args,
                          .args_size = sizeof args,
                          .name = "top",
                          .registers = true};
    CU_ASSERT_EQUAL_FATAL(tr_node_spawn(s->node, 0, &spec), TR_OK);
    pool_stage_run(s);
    s->top = tr_whereis(s->node, "top");
    CU_ASSERT_NOT_EQUAL_FATAL(s->top, TR_ID_NONE);
}

static void stop_top(tr_self *self, void *target) {
    tr_exit(self, ((pool_stage *)target)->top, TR_ERR_SHUTDOWN);
}

void pool_stage_stop(pool_stage *s) {
    tell(s, s->asker, stop_top, s);
    for (uint32_t i = 0; i < 1000 && tr_whereis(s->node, "top") != TR_ID_NONE; i++) {
        pool_stage_wait_ms(s, 10);
    }
    CU_ASSERT_EQUAL(tr_whereis(s->node, "top"), TR_ID_NONE);
}

void pool_stage_tear_down(pool_stage *s) {
    tr_node_free(s->node);
    tr_process_table_free(tr_fake_processes_table(s->processes));
    tr_memory_net_free(s->net);
}

void pool_stage_run(pool_stage *s) {
    bool more = true;
    while (more) {
        more = false;
        for (uint32_t i = 0; i < tr_node_shards(s->node); i++) {
            more = tr_shard_step(tr_node_shard(s->node, i), 1000) || more;
        }
        while (tr_memory_net_step(s->net, s->now_us)) {
            more = true;
        }
        for (uint32_t i = 0; i < tr_node_shards(s->node); i++) {
            more = tr_shard_has_work(tr_node_shard(s->node, i)) || more;
        }
        for (uint32_t i = 0; !more && i < s->worker_count; i++) {
            more = begin_worker(s, &s->workers[i]) || end_worker(s, &s->workers[i]);
        }
    }
}

void pool_stage_wait_ms(pool_stage *s, uint64_t ms) {
    for (uint64_t until_us = s->now_us + ms * 1000; s->now_us < until_us;) {
        s->now_us += 10000;
        pool_stage_run(s);
    }
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
    spawn(s, &worker_puppet, w);
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
    tell(w->stage, w->id, hang_up, w);
}

static void tell_loaded(tr_self *self, void *target) {
    say_pong(self, target, 0);
}

void pool_stage_loaded(pool_worker *w, uint32_t percent) {
    w->percent = percent;
    tell(w->stage, w->id, tell_loaded, w);
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

typedef struct saying {
    pool_worker *worker;
    pool_stream *stream;
} saying;

static void say_token(tr_self *self, void *target) {
    const saying *now = target;
    int32_t token = 5;
    tr_delta head = {.kind = TR_DELTA_TEXT, .token_count = 1};
    tr_delta_view view = {.tokens = &token, .text = {"x", 1}};
    now->worker->ticks++;
    write_link(self, now->worker, tr_msg_delta(&head, &view), now->stream->ref);
}

bool pool_stage_token(pool_stage *s, const pool_call *call) {
    saying now = {.worker = NULL};
    now.worker = pool_stage_serving(s, call, &now.stream);
    if (now.worker != NULL) {
        tell(s, now.worker->id, say_token, &now);
    }
    return now.worker != NULL;
}

static void say_done(tr_self *self, void *target) {
    const saying *now = target;
    tr_done head = {.finish = TR_FINISH_STOP};
    tr_end_view view = {.target = {"m", 1}};
    now->stream->open = false;
    write_link(self, now->worker, tr_msg_done(&head, &view), now->stream->ref);
}

bool pool_stage_done(pool_stage *s, const pool_call *call) {
    saying now = {.worker = NULL};
    now.worker = pool_stage_serving(s, call, &now.stream);
    if (now.worker != NULL) {
        tell(s, now.worker->id, say_done, &now);
    }
    return now.worker != NULL;
}

static void crash(tr_self *self, void *target) {
    tr_exit(self, ((const pool_stage *)target)->victim, TR_ERR_CANCELLED);
}

void pool_stage_crash(pool_stage *s, tr_id actor) {
    s->victim = actor;
    tell(s, s->asker, crash, s);
}
