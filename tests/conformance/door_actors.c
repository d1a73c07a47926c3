/*
 * The HTTP and provider actors of one shard, as they run in the daemon, and in place of the calls a
 * probe: little credit, given back message by message, so that every answer also waits for its
 * reader. The test's thread waits; the probe's functions run on the shard under its mutex.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/http.h"
#include "providers/provider.h"
#include "tests/conformance/door.h"
#include "tests/lib/probe.h"

typedef struct stage {
    tr_node *node;
    tr_probe *probe;
    door_run *runs;
    size_t count;
    tr_id providers[DOOR_BATCH];
} stage;

static void on_end(door_run *run, const tr_msg *msg, size_t i) {
    char name[32], message[TR_MESSAGE_max + 1];
    run->terminals++;
    if (msg->kind == TR_KIND_DONE) {
        const tr_done *done = (const void *)msg->data;
        run->heard.usage = done->usage;
        run->heard.finish = done->finish;
        run->heard.status = run->exchange->status;
        run->heard.err = TR_OK;
        return;
    }
    const tr_fail *fail = (const void *)msg->data;
    tr_str words = tr_fail_read(fail).message;
    run->heard.usage = fail->usage;
    run->heard.finish = HEARD_UNTOLD;
    run->heard.status = fail->status;
    run->heard.err = (tr_err)fail->err;
    snprintf(name, sizeof(name), "x%zu", i);
    snprintf(message, sizeof(message), "%.*s", (int)words.size, words.ptr);
    door_words(&run->heard, name, message);
}

static void take(tr_self *self, void *arg, tr_msg **msg) {
    stage *s = arg;
    if (*msg == NULL || (*msg)->ref >= s->count) {
        return;
    }
    door_run *run = &s->runs[(*msg)->ref];
    if ((*msg)->kind == TR_KIND_DONE || (*msg)->kind == TR_KIND_FAIL) {
        on_end(run, *msg, (size_t)(*msg)->ref);
        return;
    }
    if ((*msg)->kind != TR_KIND_DELTA) {
        return;
    }
    const tr_delta *delta = (const void *)(*msg)->data;
    tr_delta_view view = tr_delta_read(delta);
    tr_piece piece = {.kind = (tr_delta_kind)delta->kind,
                      .choice = delta->choice,
                      .tool = delta->tool,
                      .id = view.id,
                      .name = view.name,
                      .text = view.text};
    (void)!heard_piece(&run->heard, &piece);
    tr_msg *credit = tr_msg_credit(1, (*msg)->size);
    credit->ref = (*msg)->ref;
    (void)!tr_send_control(self, (*msg)->from, credit);
}

static void submit_all(tr_self *self, void *arg) {
    stage *s = arg;
    for (size_t i = 0; i < s->count; i++) {
        const door_run *run = &s->runs[i];
        bool names_none = run->exchange->op == TR_OP_MODELS || run->exchange->op == TR_OP_LOADED;
        bool asks = run->exchange->op == TR_OP_CHAT || run->exchange->op == TR_OP_EMBED ||
                    run->exchange->op == TR_OP_COUNT;
        tr_submit head = {.op = (uint8_t)run->exchange->op,
                          .flags = run->stream ? 0 : TR_SUBMIT_NO_STREAM,
                          .credit_messages = 4,
                          .credit_bytes = TR_CREDIT_BYTES_min};
        tr_submit_view view = {.target = {run->model, names_none ? 0 : strlen(run->model)}};
        tr_body *body = NULL;
        if (asks) {
            body = tr_body_new(run->body.size);
            memcpy(body->bytes, run->body.bytes, run->body.size);
        }
        tr_msg *msg = tr_msg_submit(&head, &view, body);
        msg->ref = i;
        if (tr_send(self, s->providers[i], &msg) != TR_OK) {
            abort();
        }
    }
}

static bool all_ended(void *arg) {
    const stage *s = arg;
    for (size_t i = 0; i < s->count; i++) {
        if (s->runs[i].terminals == 0) {
            return false;
        }
    }
    return true;
}

static bool spawn(tr_node *node, const tr_child_spec *child) {
    tr_spawn_spec spec = {.behaviour = child->behaviour,
                          .args = child->args,
                          .args_size = child->args_size,
                          .name = child->name,
                          .mailbox_max = child->mailbox_max,
                          .registers = true};
    return tr_node_spawn(node, 0, &spec) == TR_OK;
}

static bool open_stage(stage *s, replay_server *server) {
    char why[512], url[256], name[32], door[TR_HTTP_NAME_size], actor[TR_PROVIDER_ACTOR_size];
    tr_node_spec spec = {.shards = 1};
    tr_child_spec child = tr_http_child(0, tr_http_name(0, door));
    if (tr_node_new(&spec, &s->node) != TR_OK || !spawn(s->node, &child)) {
        return false;
    }
    for (size_t i = 0; i < s->count; i++) {
        tr_provider_spec provider;
        snprintf(name, sizeof(name), "x%zu", i);
        snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", (unsigned)replay_server_port(server, i),
                 s->runs[i].base_path);
        if (tr_provider_spec_init(name, s->runs[i].kind, url, DOOR_KEY_ENV, &provider, why,
                                  sizeof(why)) != TR_OK) {
            printf("%s\n", why);
            return false;
        }
        child = tr_provider_child(&provider, 0, actor);
        if (!spawn(s->node, &child)) {
            return false;
        }
    }
    if (tr_node_start(s->node) != TR_OK) {
        return false;
    }
    s->probe = tr_probe_new(s->node, 0, take, s); /* after them, on the same shard */
    for (size_t i = 0; i < s->count; i++) {
        snprintf(actor, sizeof(actor), "provider:x%zu:0", i);
        s->providers[i] = tr_whereis(s->node, actor);
    }
    return true;
}

bool door_through_actors(replay_server *server, door_run *runs, size_t count) {
    stage s = {.runs = runs, .count = count};
    if (!open_stage(&s, server)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        door_arm(server, i, &runs[i]);
    }
    tr_probe_run(s.probe, submit_all, &s);
    bool ended = false;
    for (int i = 0; i < 6 && !ended; i++) { /* ten seconds each */
        ended = tr_probe_await(s.probe, all_ended, &s);
    }
    tr_probe_end(s.probe);
    tr_node_stop(s.node);
    tr_node_free(s.node);
    tr_probe_free(s.probe);
    return ended;
}
