/* See worker_actor.h. A row is a sequence; a tick gives one DELTA to each row that has credit. */
#include "tests/sim/worker_actor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "runtime/link.h"
#include "runtime/node.h"
#include "tests/sim/processes.h"

#define ROWS_max 8
#define TOKENS_max 3 /* of one DELTA */

typedef struct row {
    uint64_t ref;
    uint64_t credit_messages, credit_bytes;
    uint32_t at, count, seed;
    bool used, poison;
} row;

typedef struct worker {
    tr_sim_worker_args args;
    tr_link *link;
    row rows[ROWS_max];
    uint32_t active;
    uint64_t tick;
    uint64_t ticks;
    uint32_t loaded; /* percent */
    bool hangs;
} worker;

static tr_err init(tr_self *self, void *state, const void *args) {
    worker *w = state;
    w->args = *(const tr_sim_worker_args *)args;
    tr_sim_process_runs(w->args.world, w->args.pid, tr_self_id(self));
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    tr_dial_spec spec = {.url = TR_WORLD_WORKER_URL};
    return transport->dial(transport, self, &spec);
}

static tr_err send(tr_self *self, worker *w, tr_msg *msg, uint64_t ref) {
    TR_ASSERT(msg != NULL);
    tr_err err = tr_link_send(w->link, self, msg, ref);
    tr_msg_free(msg);
    return err;
}

static tr_err greet(tr_self *self, worker *w) {
    tr_hello head = {.magic = TR_HELLO_MAGIC,
                     .version_min = TR_PROTOCOL_VERSION,
                     .version_max = TR_PROTOCOL_VERSION,
                     .role = TR_ROLE_WORKER,
                     .sequences = (uint16_t)w->args.world->sequences,
                     .context = 4096,
                     .nonce = w->args.nonce,
                     .digest = {1, 2, 3}};
    tr_hello_view view = {.software = {"sim/1", 5}, .model = {"tiny", 4}};
    tr_msg *msg = tr_msg_new(TR_KIND_HELLO, tr_hello_size(&view));
    TR_ASSERT(msg != NULL);
    tr_hello_write(msg->data, &head, &view);
    return send(self, w, msg, 0);
}

static tr_err pong(tr_self *self, worker *w, uint64_t number, uint64_t ref) {
    tr_msg *msg = tr_msg_new(TR_KIND_PONG, sizeof(tr_ping));
    TR_ASSERT(msg != NULL);
    *(tr_ping *)(void *)msg->data = (tr_ping){.number = number,
                                              .ticks = w->ticks,
                                              .busy = w->tick != 0,
                                              .active = w->active,
                                              .load_percent = w->loaded};
    return send(self, w, msg, ref);
}

static tr_err arm(tr_self *self, worker *w) {
    return w->tick != 0
               ? TR_OK
               : tr_timer_start(self, 100 + tr_world_below(w->args.world, 3000), 0, &w->tick);
}

static row *find(worker *w, uint64_t ref) {
    for (size_t i = 0; i < ROWS_max; i++) {
        if (w->rows[i].used && w->rows[i].ref == ref) {
            return &w->rows[i];
        }
    }
    return NULL;
}

static void drop(worker *w, row *r) {
    r->used = false;
    w->active--;
    w->args.world->sequences_held--;
}

static uint32_t number_after(const tr_body *body, const char *name) {
    const char *at = body != NULL ? strstr(body->bytes, name) : NULL;
    return at != NULL ? (uint32_t)strtoul(at + strlen(name), NULL, 10) : 0;
}

static tr_err submitted(tr_self *self, worker *w, const tr_msg *msg) {
    tr_world *world = w->args.world;
    const tr_submit *submit = (const tr_submit *)msg->data;
    tr_submit_view view = tr_submit_read(submit);
    row *r = w->rows;
    while (r < w->rows + ROWS_max && r->used) {
        r++;
    }
    if (find(w, msg->ref) != NULL || w->active >= world->sequences) {
        tr_world_fault(world, "a worker got more streams than it has sequences");
        return TR_DONE;
    }
    for (uint32_t i = 0; i < submit->resume_count; i++) {
        if (view.resume[i] != (int32_t)(TR_SIM_TOKEN_first + i)) {
            tr_world_fault(world, "token %u to resume from is %d", i, view.resume[i]);
        }
    }
    *r = (row){.ref = msg->ref,
               .credit_messages = submit->credit_messages,
               .credit_bytes = submit->credit_bytes,
               .at = submit->resume_count,
               .count = number_after(msg->body, "\"chunks\":"),
               .seed = submit->seed % 1000,
               .used = true,
               .poison = number_after(msg->body, "\"poison\":") != 0};
    w->active++;
    world->sequences_held++;
    if (submit->resume_count > 0) {
        world->resumes++;
    }
    return arm(self, w);
}

/* One DELTA of a few tokens, or the end. False: out of credit. */
static bool generate(tr_self *self, worker *w, row *r, tr_err *ret_err) {
    int32_t ids[TOKENS_max];
    char text[TOKENS_max * 24];
    size_t size = 0;
    uint32_t count = 1 + tr_world_below(w->args.world, TOKENS_max);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (int32_t)(TR_SIM_TOKEN_first + r->at + i);
        size += (size_t)snprintf(text + size, sizeof text - size, "%u:%u,", r->at + i, r->seed);
        if (r->at + i + 1 >= r->count) {
            count = i + 1;
        }
    }
    if (r->at >= r->count) {
        tr_done head = {.finish = TR_FINISH_STOP, .attempts = 1, .usage.out = r->count};
        *ret_err = send(self, w, tr_msg_done(&head, &(tr_end_view){0}), r->ref);
        drop(w, r);
        return true;
    }
    tr_delta head = {.seq = r->at, .kind = TR_DELTA_TEXT, .token_count = count};
    tr_delta_view view = {.tokens = ids, .text = {text, size}};
    tr_msg *msg = tr_msg_delta(&head, &view);
    TR_ASSERT(msg != NULL);
    if (r->credit_messages == 0 || r->credit_bytes < msg->size) {
        tr_msg_free(msg);
        return false;
    }
    r->credit_messages--;
    r->credit_bytes -= msg->size;
    r->at += count;
    *ret_err = send(self, w, msg, r->ref);
    return true;
}

static tr_err tick(tr_self *self, worker *w) {
    tr_world *world = w->args.world;
    w->tick = 0;
    w->ticks++;
    if (w->loaded < 100) {
        w->loaded = 100;
        return pong(self, w, 0, 0);
    }
    bool more = false;
    tr_err err = TR_OK;
    for (row *r = w->rows; r < w->rows + ROWS_max && err == TR_OK; r++) {
        if (!r->used) {
            continue;
        }
        if (r->poison || (world->deaths_left > 0 && tr_world_below(world, 60) == 0)) {
            world->deaths_left -= r->poison ? 0 : 1;
            world->deaths++;
            return TR_DONE;
        }
        if (world->hangs_left > 0 && tr_world_below(world, 100) == 0) {
            world->hangs_left--;
            world->deaths++;
            w->hangs = true;
            return TR_OK;
        }
        more = generate(self, w, r, &err) || more;
    }
    return more && err == TR_OK ? arm(self, w) : err;
}

static tr_err frame_came(tr_self *self, void *state, tr_msg **msg) {
    worker *w = state;
    row *r = find(w, (*msg)->ref);
    switch ((*msg)->kind) {
    case TR_KIND_WELCOME:
        return arm(self, w);
    case TR_KIND_PING:
        return pong(self, w, ((const tr_ping *)(const void *)(*msg)->data)->number, (*msg)->ref);
    case TR_KIND_SUBMIT:
        return submitted(self, w, *msg);
    case TR_KIND_CREDIT:
        if (r != NULL) {
            r->credit_messages += ((const tr_credit *)(const void *)(*msg)->data)->messages;
            r->credit_bytes += ((const tr_credit *)(const void *)(*msg)->data)->bytes;
        }
        return arm(self, w);
    case TR_KIND_CANCEL:
        if (r == NULL) {
            return TR_OK; /* it crossed the terminal */
        }
        drop(w, r);
        return send(self, w, tr_msg_failf(TR_ERR_CANCELLED, "cancelled"), (*msg)->ref);
    case TR_KIND_FAIL:
        return TR_DONE;
    default:
        tr_world_fault(w->args.world, "a worker got kind %u", (*msg)->kind);
        return TR_DONE;
    }
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    worker *w = state;
    if ((*msg)->kind == TR_SIM_KIND_DIE) {
        return TR_DONE;
    }
    if (w->hangs) {
        return TR_OK;
    }
    if ((*msg)->kind == TR_KIND_TIMER) {
        return tick(self, w);
    }
    if ((*msg)->kind != TR_KIND_STREAM) {
        return TR_OK;
    }
    if (w->link == NULL) {
        tr_stream *stream = tr_stream_take(*msg);
        if (stream == NULL) {
            return TR_DONE;
        }
        tr_err err =
            tr_link_new(self, stream, TR_FRAME_BODY_max, 64U << 20, frame_came, w, &w->link);
        return err == TR_OK ? greet(self, w) : err;
    }
    return tr_link_handle(w->link, self, *msg) == TR_OK ? TR_OK : TR_DONE;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    worker *w = state;
    w->args.world->sequences_held -= w->active;
    tr_link_free(w->link);
    tr_sim_process_ends(w->args.world, w->args.pid);
}

const tr_behaviour tr_sim_worker = {
    .name = "sim-worker",
    .state_size = sizeof(worker),
    .init = init,
    .handle = handle,
    .stop = stop,
};
