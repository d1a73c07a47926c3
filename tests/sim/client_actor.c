/* The client of client_actor.h, an actor on the clients' node. Its choices come from the world's
 * seed. */
#include "tests/sim/client_actor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/json.h"
#include "runtime/link.h"
#include "runtime/node.h"

#define PATIENCE_US 30000000U
#define TAG_PATIENCE 2

typedef enum manner { EAGER, SLOW, NEVER, CANCELS, VANISHES, MANNERS } manner;

typedef struct request {
    uint64_t ref;
    uint32_t chunks, bytes;
    uint64_t credit_messages, credit_bytes;
    uint64_t owed_messages, owed_bytes; /* read and not granted again yet */
    uint32_t deltas;
    uint32_t seed; /* a local stream's, as its text tells */
    bool open, ended, cancelled;
    bool fails;    /* for certain ... */
    bool may_fail; /* ... or some of its attempts */
    bool pair;     /* goes to an alias of two targets */
    bool paced;    /* goes to the provider with a rate */
    bool local;    /* of the pool: chunks are its tokens */
    bool poison;   /* kills each worker that takes it */
    bool words;    /* some text came */
    uint32_t at;   /* the next token */
} request;

typedef struct client {
    tr_sim_client_args args;
    manner manner;
    tr_link *link;
    bool welcome;
    request requests[TR_SIM_REQUESTS_max];
    uint32_t count;
    uint64_t timer;
    char answer[65536];
    size_t answer_size;
} client;

static tr_err init(tr_self *self, void *state, const void *args) {
    client *c = state;
    c->args = *(const tr_sim_client_args *)args;
    c->manner = c->args.auditor ? EAGER : (manner)tr_world_below(c->args.world, MANNERS);
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    tr_dial_spec spec = {.url = TR_WORLD_URL};
    tr_err err = transport->dial(transport, self, &spec);
    if (err == TR_OK && c->args.world->half_opens) { /* else waiting for ever is a broken rule */
        uint64_t patience;
        err = tr_timer_start(self, PATIENCE_US, TAG_PATIENCE, &patience);
    }
    return err;
}

static tr_err send(tr_self *self, client *c, tr_msg *msg, uint64_t ref) {
    TR_ASSERT(msg != NULL);
    tr_err err = tr_link_send(c->link, self, msg, ref);
    tr_msg_free(msg);
    return err;
}

static tr_err greet(tr_self *self, client *c) {
    tr_hello head = {.magic = TR_HELLO_MAGIC,
                     .version_min = TR_PROTOCOL_VERSION,
                     .version_max = TR_PROTOCOL_VERSION,
                     .role = TR_ROLE_CLIENT};
    tr_hello_view view = {.software = {"sim/1", 5}};
    tr_msg *msg = tr_msg_new(TR_KIND_HELLO, tr_hello_size(&view));
    TR_ASSERT(msg != NULL);
    tr_hello_write(msg->data, &head, &view);
    return send(self, c, msg, 0);
}

static tr_err submit(tr_self *self, client *c, request *r, tr_op op, const char *body) {
    size_t size = strlen(body);
    tr_body *bytes = tr_body_new(size);
    TR_ASSERT(bytes != NULL);
    memcpy(bytes->bytes, body, size);
    r->credit_messages = 4 + tr_world_below(c->args.world, 64);
    r->credit_bytes = TR_CREDIT_BYTES_min + tr_world_below(c->args.world, 100000);
    r->open = true;
    c->args.tally->submits++;
    tr_submit head = {.op = (uint8_t)op,
                      .credit_messages = (uint32_t)r->credit_messages,
                      .credit_bytes = (uint32_t)r->credit_bytes};
    static const char *const paced[TR_WORLD_PACED] = {"paced/x", "paced/y", "paced/z"};
    const char *target = r->local   ? "tiny"
                         : r->pair  ? "pair"
                         : r->paced ? paced[r->ref % TR_WORLD_PACED]
                                    : "fast";
    tr_submit_view view = {.target = {target, strlen(target)}};
    tr_msg *msg = tr_msg_submit(&head, &view, bytes);
    return send(self, c, msg, r->ref);
}

/* The number of the error that the echo is to end with, 0 = none. */
static int choose_failure(tr_world *world, request *r) {
    uint32_t chance = r->local ? 8 : tr_world_below(world, 8);
    r->fails = chance == 0;
    r->may_fail = chance == 1 || chance == 2;
    return chance < 3 ? (int)(TR_ERR_NOMEM + tr_world_below(world, TR_ERR_N - TR_ERR_NOMEM)) : 0;
}

static tr_err begin(tr_self *self, client *c) {
    c->welcome = true;
    tr_world *world = c->args.world;
    if (c->args.auditor) {
        c->count = 1;
        c->requests[0].ref = 1;
        return submit(self, c, &c->requests[0], TR_OP_CONTROL, "{\"do\":\"status\"}");
    }
    c->count = 1 + tr_world_below(world, TR_SIM_REQUESTS_max);
    tr_err err = TR_OK;
    for (uint32_t i = 0; i < c->count && err == TR_OK; i++) {
        request *r = &c->requests[i];
        r->ref = 100 + i * 7;
        r->chunks = tr_world_below(world, 200);
        r->bytes = 1 + tr_world_below(world, 300);
        r->local = tr_world_below(world, 2) == 0;
        r->pair = tr_world_below(world, 2) == 0;
        r->paced = tr_world_below(world, 2) == 0;
        int fail = choose_failure(world, r);
        int odds = r->fails ? 100 : (int)tr_world_below(world, 100);
        int hint_ms = (int)tr_world_below(world, 4000) - 2000;
        /* Before the first piece, where another attempt may follow, or after the last. */
        int fail_after = fail > 0 && tr_world_below(world, 3) > 0 ? 0 : -1;
        r->poison = r->local && tr_world_below(world, 40) == 0;
        /* An echo that breaks off after so many pieces; another attempt goes on. */
        int crash_after = tr_world_below(world, 6) == 0 ? 1 + (int)tr_world_below(world, 60) : -1;
        char body[384];
        snprintf(body, sizeof body,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                 "\"echo\":{\"chunks\":%u,\"bytes\":%u,\"fail\":%d,\"odds\":%d,"
                 "\"fail_after\":%d,\"retry_after_ms\":%d,\"crash_after\":%d,\"poison\":%d}}",
                 r->chunks, r->bytes, fail, odds, fail_after, hint_ms, crash_after, r->poison);
        err = submit(self, c, r, TR_OP_CHAT, body);
    }
    if (err == TR_OK && (c->manner == CANCELS || c->manner == VANISHES || c->manner == SLOW)) {
        err = tr_timer_start(self, tr_world_below(world, 20000), 0, &c->timer);
    }
    return err;
}

static tr_err grant(tr_self *self, client *c, request *r) {
    if (!r->open || r->ended || r->owed_messages == 0) {
        return TR_OK;
    }
    tr_msg *msg = tr_msg_credit((uint32_t)r->owed_messages, (uint32_t)r->owed_bytes);
    r->credit_messages += r->owed_messages;
    r->credit_bytes += r->owed_bytes;
    r->owed_messages = r->owed_bytes = 0;
    return send(self, c, msg, r->ref);
}

static request *find(client *c, uint64_t ref) {
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->requests[i].ref == ref) {
            return &c->requests[i];
        }
    }
    return NULL;
}

/* A local stream's text is "0:SEED,1:SEED,…", whichever workers wrote it. */
static void check_tokens(client *c, request *r, tr_str text) {
    const char *at = text.ptr;
    while (at < text.ptr + text.size) {
        char *end;
        uint32_t number = (uint32_t)strtoul(at, &end, 10);
        uint32_t seed = *end == ':' ? (uint32_t)strtoul(end + 1, &end, 10) : UINT32_MAX;
        r->seed = r->words ? r->seed : seed;
        if (number != r->at || seed != r->seed || *end != ',') {
            tr_world_fault(c->args.world, "a stream went on with %u:%u after %u:%u", number, seed,
                           r->at, r->seed);
            return;
        }
        r->words = true;
        r->at++;
        at = end + 1;
    }
}

static void check_delta(client *c, request *r, const tr_msg *msg) {
    tr_world *world = c->args.world;
    const tr_delta *delta = (const tr_delta *)msg->data;
    tr_delta_view view = tr_delta_read(delta);
    if (r->ended) {
        tr_world_fault(world, "a DELTA came after the terminal");
    }
    if (r->credit_messages == 0 || r->credit_bytes < msg->size) {
        tr_world_fault(world, "a DELTA went beyond the credit");
        return;
    }
    if (delta->seq != r->deltas || delta->token_count != 0) {
        tr_world_fault(world, "DELTA %u came as number %u", delta->seq, r->deltas);
    }
    r->credit_messages--;
    r->credit_bytes -= msg->size;
    r->owed_messages++;
    r->owed_bytes += msg->size;
    r->deltas++;
    if (r->local) {
        check_tokens(c, r, view.text);
    } else if (!c->args.auditor && view.text.size != r->bytes) {
        tr_world_fault(world, "a piece of %zu bytes, not %u, came", view.text.size, r->bytes);
    }
    if (c->args.auditor && c->answer_size + view.text.size < sizeof c->answer) {
        memcpy(c->answer + c->answer_size, view.text.ptr, view.text.size);
        c->answer_size += view.text.size;
    }
}

static void check_end(client *c, request *r, const tr_msg *msg) {
    tr_world *world = c->args.world;
    if (r->ended) {
        tr_world_fault(world, "a second terminal came for one SUBMIT");
    }
    r->ended = true;
    if (msg->kind == TR_KIND_DONE) {
        c->args.tally->dones++;
        uint32_t came = r->local ? r->at : r->deltas;
        if (!c->args.auditor && (came != r->chunks || r->fails || (r->poison && r->at == 0))) {
            tr_world_fault(world, "DONE after %u of %u chunks", came, r->chunks);
        }
    } else {
        c->args.tally->fails++;
        tr_err err = (tr_err)((const tr_fail *)msg->data)->err;
        bool trouble = world->cuts || world->half_opens || world->kills > 0 ||
                       world->shortages > 0 || world->stopped;
        bool begun = r->local && r->words && world->shortages == 0 && !world->stopped;
        if (begun && (err == TR_ERR_SERVER || err == TR_ERR_OVERLOADED)) {
            tr_world_fault(world, "FAIL %s in the middle of an answer", tr_err_name(err));
        }
        bool crashed = err == TR_ERR_CRASHED && (r->poison || world->deaths > 2);
        tr_str said = tr_fail_read((const tr_fail *)msg->data).message;
        bool given_up = err == TR_ERR_OVERLOADED && !r->local &&
                        memmem(said.ptr, said.size, "times in a row", 14) != NULL;
        bool expected = r->fails || r->may_fail || given_up || r->cancelled || c->manner == NEVER ||
                        err == TR_ERR_BUG || err == TR_ERR_SERVER /* the assassin's work */ ||
                        crashed || trouble;
        if (!expected) {
            tr_world_fault(world, "FAIL %s without a reason: %.*s", tr_err_name(err),
                           (int)said.size, said.ptr);
        }
    }
}

static void audit(client *c) {
    if (c->args.world->sequences_held != 0) {
        tr_world_fault(c->args.world, "%u sequences are held at rest",
                       c->args.world->sequences_held);
    }
    tr_json *json;
    if (tr_json_parse(c->answer, c->answer_size, &json, NULL) != TR_OK) {
        tr_world_fault(c->args.world, "the status is no JSON");
        return;
    }
    const tr_json_value *part = tr_json_first(tr_json_get(tr_json_root(json), "parts"));
    for (; part != NULL; part = tr_json_next(part)) {
        if (tr_json_int(tr_json_get(part, "used"), 0) != 0 ||
            tr_json_int(tr_json_get(part, "waiting"), 0) != 0 ||
            tr_json_int(tr_json_get(part, "tokens_reserved"), 0) != 0) {
            tr_world_fault(c->args.world, "a slot is held at rest");
        }
    }
    tr_json_free(json);
}

static bool all_ended(const client *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        if (!c->requests[i].ended) {
            return false;
        }
    }
    return true;
}

static tr_err frame_came(tr_self *self, void *state, tr_msg **msg) {
    client *c = state;
    if ((*msg)->kind == TR_KIND_WELCOME) {
        return begin(self, c);
    }
    request *r = find(c, (*msg)->ref);
    tr_world_note(c->args.world, (*msg)->kind * 1000003ULL + (*msg)->ref);
    if (r == NULL) {
        return TR_OK;
    }
    if ((*msg)->kind == TR_KIND_DELTA) {
        c->args.tally->deltas++;
        check_delta(c, r, *msg);
        bool eager = c->manner != NEVER && c->manner != SLOW;
        return eager && r->owed_messages >= 2 ? grant(self, c, r) : TR_OK;
    }
    if ((*msg)->kind == TR_KIND_DONE || (*msg)->kind == TR_KIND_FAIL) {
        check_end(c, r, *msg);
    }
    return TR_OK;
}

static tr_err stream_event(tr_self *self, client *c, tr_msg *msg) {
    if (c->link == NULL) {
        tr_stream *stream = tr_stream_take(msg);
        if (stream == NULL) {
            return TR_DONE;
        }
        tr_err err = tr_link_new(self, stream, 0, 64U << 20, frame_came, c, &c->link);
        return err == TR_OK ? greet(self, c) : err;
    }
    tr_err err = tr_link_handle(c->link, self, msg);
    if (err == TR_OK && c->welcome && all_ended(c)) {
        if (c->args.auditor) {
            audit(c);
        }
        /* Now and then stay for a while: a late second terminal must be seen. */
        if (tr_world_below(c->args.world, 2) == 0) {
            return TR_DONE;
        }
        return c->timer == 0 ? tr_timer_start(self, 50000, 1, &c->timer) : TR_OK;
    }
    return err == TR_OK ? TR_OK : TR_DONE;
}

static tr_err time_came(tr_self *self, client *c) {
    c->timer = 0;
    if (c->manner == VANISHES || all_ended(c)) {
        return TR_DONE;
    }
    tr_err err = TR_OK;
    for (uint32_t i = 0; i < c->count && err == TR_OK; i++) {
        request *r = &c->requests[i];
        if (c->manner == SLOW) {
            if (r->deltas == 0 && tr_world_below(c->args.world, 4) == 0) {
                r->owed_messages++; /* more than it took: also between two attempts */
                r->owed_bytes += 100;
            }
            err = grant(self, c, r);
        } else if (!r->ended && tr_world_below(c->args.world, 2) == 0) {
            r->cancelled = true;
            err = send(self, c, tr_msg_cancel(TR_ERR_CANCELLED), r->ref);
        }
    }
    return err == TR_OK
               ? tr_timer_start(self, 1 + tr_world_below(c->args.world, 5000), 0, &c->timer)
               : TR_DONE;
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    client *c = state;
    switch ((*msg)->kind) {
    case TR_KIND_STREAM:
        return stream_event(self, c, *msg);
    case TR_KIND_TIMER:
        return (*msg)->flags == TAG_PATIENCE ? TR_DONE : time_came(self, c);
    default:
        return TR_OK;
    }
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    client *c = state;
    tr_link_free(c->link);
    c->args.tally->clients_left--;
}

const tr_behaviour tr_sim_client = {
    .name = "sim-client",
    .state_size = sizeof(client),
    .init = init,
    .handle = handle,
    .stop = stop,
};
