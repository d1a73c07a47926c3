/*
 * See pool_stage.h. Orders to puppets travel as messages, so they run as the actor; what only the
 * driver may do (a process's end) is marked and done between steps; pool_stage_worker.c plays the
 * workers. CUnit's assertions are used here because everything runs on the test's thread.
 */
#include "tests/lib/pool_stage_internal.h"

#include <CUnit/Basic.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory.h"

/* ---- memory that runs out ---- */

size_t pool_stage_fail_at;
bool pool_stage_plays;
static bool actors_run;

static void *stage_resize(void *arg, void *ptr, size_t size) {
    (void)arg;
    bool counts = pool_stage_fail_at > 0 && actors_run && !pool_stage_plays;
    return counts && --pool_stage_fail_at == 0 ? NULL : realloc(ptr, size);
}

static void stage_release(void *arg, void *ptr) {
    (void)arg;
    free(ptr);
}

void pool_stage_memory(void) {
    tr_memory table = {.resize = stage_resize, .release = stage_release};
    tr_memory_set(&table);
}

typedef struct order {
    pool_order_fn *fn;
    void *target;
} order;

void pool_stage_tell(pool_stage *s, tr_id to, pool_order_fn *fn, void *target) {
    tr_msg *msg = tr_msg_new(KIND_DO, sizeof(order));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    msg->flags = TR_MSG_LOCAL;
    *(order *)(void *)msg->data = (order){fn, target};
    tr_post(s->node, to, msg);
    if (s->stirring) {
        pool_stage_stir(s, 5);
    } else {
        pool_stage_run(s);
    }
}

bool pool_stage_obeyed(tr_self *self, const tr_msg *msg) {
    if (msg->kind == KIND_DO) {
        const order *told = (const order *)(const void *)msg->data;
        told->fn(self, told->target);
    }
    return msg->kind == KIND_DO;
}

void pool_stage_spawn(pool_stage *s, const tr_behaviour *behaviour, void *target) {
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

tr_err pool_stage_play(tr_self *self, void *state, tr_msg **msg, pool_play_fn *fn) {
    pool_stage_plays = true;
    tr_err err = fn(self, state, msg);
    pool_stage_plays = false;
    return err;
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
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    tr_listen_spec spec = {.url = POOL_STAGE_URL};
    char why[128];
    return transport->listen(transport, self, &spec, &g->listener, why, sizeof why);
}

static tr_err gateway_message(tr_self *self, void *state, tr_msg **msg) {
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

static tr_err gateway_handle(tr_self *self, void *state, tr_msg **msg) {
    return pool_stage_play(self, state, msg, gateway_message);
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
                                            .mid_answer = c->tokens > 0,
                                            .avoid = c->backend};
    msg->flags = c->tokens > 0 ? 0 : TR_MSG_OPENING;
    c->backend = TR_ID_NONE;
    c->tokens_at_attempt = c->tokens;
    send(self, tr_whereis(tr_self_node(self), "pool:m"), msg, ++c->attempt);
}

static void settle(tr_self *self, pool_call *c, tr_err err, bool owes) {
    tr_msg *msg = tr_msg_new(TR_KIND_SETTLE, sizeof(tr_settle));
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    *(tr_settle *)msg->data = (tr_settle){.err = (uint32_t)err,
                                          .progressed = c->tokens > c->tokens_at_attempt,
                                          .flags = owes ? TR_SETTLE_OWES : 0};
    send(self, tr_whereis(tr_self_node(self), "pool:m"), msg, c->attempt);
}

static void granted(tr_self *self, pool_call *c, const tr_granted *grant) {
    c->granted++;
    c->granted_at = ++c->stage->grants;
    c->backend = grant->backend;
    CU_ASSERT_EQUAL_FATAL(tr_monitor(self, c->backend, &c->monitor), TR_OK);
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
    if (c->backend != TR_ID_NONE) {
        tr_demonitor(self, c->monitor);
        settle(self, c, (tr_err)fail->err, false);
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

static tr_err call_message(tr_self *self, void *state, tr_msg **msg) {
    pool_call *c = *(pool_call **)state;
    if (pool_stage_obeyed(self, *msg)) {
        return TR_OK;
    }
    if ((*msg)->kind == KIND_END) {
        return TR_DONE;
    }
    if ((*msg)->kind == TR_KIND_DOWN) {
        if (c->backend != TR_ID_NONE && (*msg)->ref == c->monitor) {
            failed(self, c, &(tr_fail){.err = TR_ERR_CRASHED, .flags = TR_FAIL_RESUMABLE});
        }
        return TR_OK;
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
        settle(self, c, TR_OK, false);
        tr_demonitor(self, c->monitor);
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

static tr_err call_handle(tr_self *self, void *state, tr_msg **msg) {
    return pool_stage_play(self, state, msg, call_message);
}

static const tr_behaviour call_puppet = {.name = "call-puppet",
                                         .state_size = sizeof(pool_call *),
                                         .init = call_init,
                                         .handle = call_handle};

void pool_call_start(pool_stage *s, pool_call *call, const char *body) {
    *call = (pool_call){.stage = s, .body = body, .remaining_ms = 600000};
    pool_stage_spawn(s, &call_puppet, call);
    pool_stage_run(s);
}

void pool_call_reserve(pool_call *call) {
    pool_stage_tell(call->stage, call->id, reserve, call);
}

static void end_call(tr_self *self, void *target) {
    pool_call *c = target;
    if (c->backend != TR_ID_NONE) {
        send(self, c->backend, tr_msg_cancel(TR_ERR_CANCELLED), c->attempt);
    }
    settle(self, c, TR_ERR_CANCELLED, c->backend != TR_ID_NONE);
    c->attempt++; /* a grant under way is not for it */
    send(self, tr_self_id(self), tr_msg_new(KIND_END, 0), 0);
}

void pool_call_end(pool_call *call) {
    pool_stage_tell(call->stage, call->id, end_call, call);
}

static void pause_call(tr_self *self, void *target) {
    pool_call *c = target;
    tr_demonitor(self, c->monitor);
    send(self, c->backend, tr_msg_cancel(TR_OK), c->attempt);
    settle(self, c, TR_OK, true);
    c->backend = TR_ID_NONE;
    c->attempt++; /* what still comes is not for it */
}

void pool_call_pause(pool_call *call) {
    pool_stage_tell(call->stage, call->id, pause_call, call);
}

static void crash_call(tr_self *self, void *target) {
    (void)target;
    tr_exit(self, tr_self_id(self), TR_ERR_CANCELLED);
}

void pool_call_crash(pool_call *call) {
    pool_stage_tell(call->stage, call->id, crash_call, call);
}

static void give_credit(tr_self *self, void *target) {
    pool_call *c = target;
    send(self, c->backend, tr_msg_credit(1, 100), c->attempt);
}

void pool_call_credit(pool_call *call) {
    pool_stage_tell(call->stage, call->id, give_credit, call);
}

/* ---- who asks the pool ---- */

static tr_err asker_init(tr_self *self, void *state, const void *args) {
    pool_stage *s = *(pool_stage *const *)args;
    *(pool_stage **)state = s;
    s->asker = tr_self_id(self);
    return TR_OK;
}

static tr_err asker_message(tr_self *self, void *state, tr_msg **msg) {
    pool_stage *s = *(pool_stage **)state;
    if (pool_stage_obeyed(self, *msg)) {
        return TR_OK;
    }
    s->answers++;
    s->all_answers++;
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

static tr_err asker_handle(tr_self *self, void *state, tr_msg **msg) {
    return pool_stage_play(self, state, msg, asker_message);
}

static const tr_behaviour asker_puppet = {.name = "asker-puppet",
                                          .state_size = sizeof(pool_stage *),
                                          .init = asker_init,
                                          .handle = asker_handle};

static void ask(tr_self *self, pool_stage *s, uint16_t kind) {
    char name[TR_ACTOR_NAME_max + 1];
    snprintf(name, sizeof name, "pool:%s", s->model);
    tr_id pool = tr_whereis(tr_self_node(self), name);
    s->questions += pool != TR_ID_NONE ? 1 : 0;
    send(self, pool, tr_msg_new(kind, 0), 9);
}

static void ask_load(tr_self *self, void *target) {
    ask(self, target, TR_KIND_LOAD);
}

static void ask_unload(tr_self *self, void *target) {
    ask(self, target, TR_KIND_UNLOAD);
}

static void ask_status(tr_self *self, void *target) {
    ask(self, target, TR_KIND_STATUS);
}

void pool_stage_ask(pool_stage *s, const char *model, uint16_t kind) {
    s->answers = 0;
    s->text[0] = '\0';
    s->model = model;
    pool_stage_tell(s, s->asker,
                    kind == TR_KIND_LOAD     ? ask_load
                    : kind == TR_KIND_UNLOAD ? ask_unload
                                             : ask_status,
                    s);
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
    tr_fake_hooks hooks = {
        .spawned = pool_stage_spawned, .signalled = pool_stage_signalled, .arg = s};
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
    pool_stage_spawn(s, &gateway_puppet, s);
    pool_stage_spawn(s, &asker_puppet, s);
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
    pool_stage_tell(s, s->asker, stop_top, s);
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
            actors_run = true;
            more = tr_shard_step(tr_node_shard(s->node, i), 1000) || more;
            actors_run = false;
        }
        while (tr_memory_net_step(s->net, s->now_us)) {
            more = true;
        }
        for (uint32_t i = 0; i < tr_node_shards(s->node); i++) {
            more = tr_shard_has_work(tr_node_shard(s->node, i)) || more;
        }
        for (uint32_t i = 0; !more && i < s->worker_count; i++) {
            more = pool_stage_begin_worker(s, &s->workers[i]) ||
                   pool_stage_end_worker(s, &s->workers[i]);
        }
    }
}

void pool_stage_stir(pool_stage *s, uint32_t steps) {
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t draw = stage_random(s) >> 20;
        tr_shard *shard = tr_node_shard(s->node, (uint32_t)(draw % tr_node_shards(s->node)));
        tr_shard_rotate(shard, (uint32_t)(draw >> 8) % 3);
        (void)tr_shard_step(shard, 1 + (uint32_t)(draw >> 12) % 4);
        if ((draw >> 16) % 2 == 0) {
            (void)tr_memory_net_step(s->net, s->now_us);
        }
        if (s->worker_count > 0) {
            pool_worker *w = &s->workers[(draw >> 20) % s->worker_count];
            (void)(pool_stage_begin_worker(s, w) || pool_stage_end_worker(s, w));
        }
    }
}

void pool_stage_wait_ms(pool_stage *s, uint64_t ms) {
    for (uint64_t until_us = s->now_us + ms * 1000; s->now_us < until_us;) {
        s->now_us += 10000;
        pool_stage_run(s);
    }
}

static void crash(tr_self *self, void *target) {
    tr_exit(self, ((const pool_stage *)target)->victim, TR_ERR_CANCELLED);
}

void pool_stage_crash(pool_stage *s, tr_id actor) {
    s->victim = actor;
    pool_stage_tell(s, s->asker, crash, s);
}
