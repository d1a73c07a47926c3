/*
 * An accepted stream rides in its ACCEPTED message. The gateway keeps that message until the
 * connection it asked for is up, then sends it on; a message that is freed instead closes its
 * stream, so nothing can be lost in between. One actor on shard 0.
 */
#include "actors/gateway.h"

#include <stdio.h>
#include <string.h>

#include "actors/connection.h"
#include "protocol/assert.h"
#include "runtime/link.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/node.h"

typedef struct guest {
    struct guest *next;
    uint64_t ref;     /* of the spawn, until it is up */
    tr_msg *accepted; /* NULL once sent on */
    tr_id id;         /* TR_ID_NONE until it is up */
    uint64_t monitor;
} guest;

typedef struct gateway {
    tr_gateway_args args;
    tr_listener *listeners[TR_LISTENERS_max];
    guest *guests;
    uint32_t guest_count;
    uint32_t next_shard;
    uint64_t next_ref;
    uint64_t total;
    bool leaving;
} gateway;

static void close_listeners(gateway *g) {
    for (uint32_t i = 0; i < g->args.door_count; i++) {
        if (g->listeners[i] != NULL) {
            g->listeners[i]->transport->listener_close(g->listeners[i]);
            g->listeners[i] = NULL;
        }
    }
}

static tr_err init(tr_self *self, void *state, const void *args) {
    gateway *g = state;
    g->args = *(const tr_gateway_args *)args;
    TR_ASSERT(g->args.door_count <= TR_LISTENERS_max);
    tr_transport *transport = tr_node_platform(tr_self_node(self))->transport;
    for (uint32_t i = 0; i < g->args.door_count; i++) {
        const tr_door_spec *door = &g->args.doors[i];
        tr_listen_spec spec = {.url = door->url, .cert_file = door->cert_file, .ref = i};
        char why[256] = "";
        tr_err err = transport->listen(transport, self, &spec, &g->listeners[i], why, sizeof why);
        if (err != TR_OK) {
            if (g->args.why != NULL) {
                snprintf(g->args.why, g->args.why_size, "cannot listen on %s: %s", door->url,
                         why[0] != '\0' ? why : tr_err_text(err));
            }
            close_listeners(g);
            return err;
        }
        char url[256];
        transport->listener_url(g->listeners[i], url, sizeof url);
        tr_log(TR_LOG_INFO, self, "listening", "url=%s%s", url,
               door->takes_clients ? "" : " for=workers");
    }
    g->args.why = NULL; /* its owner waits for the first start only */
    return TR_OK;
}

static guest **find_ref(gateway *g, uint64_t ref) {
    guest **at = &g->guests;
    while (*at != NULL && ((*at)->id != TR_ID_NONE || (*at)->ref != ref)) {
        at = &(*at)->next;
    }
    return at;
}

static guest **find_monitor(gateway *g, uint64_t monitor) {
    guest **at = &g->guests;
    while (*at != NULL && ((*at)->id == TR_ID_NONE || (*at)->monitor != monitor)) {
        at = &(*at)->next;
    }
    return at;
}

static void forget(gateway *g, guest **at) {
    guest *gone = *at;
    *at = gone->next;
    tr_msg_free(gone->accepted);
    tr_free(gone);
    g->guest_count--;
}

/* A stream that cannot be served is closed by freeing its message. */
static tr_err accepted(tr_self *self, gateway *g, tr_msg **msg) {
    const tr_stream_event *event = (const tr_stream_event *)(*msg)->data;
    if (event->event != TR_STREAM_ACCEPTED || (*msg)->ref >= g->args.door_count || g->leaving) {
        return TR_OK;
    }
    if (g->guest_count >= TR_CONNECTIONS_max) {
        tr_log(TR_LOG_WARN, self, "too many connections: one was closed", "max=%d",
               TR_CONNECTIONS_max);
        return TR_OK;
    }
    guest *fresh = tr_zalloc(sizeof *fresh);
    if (fresh == NULL) {
        return TR_OK;
    }
    const tr_door_spec *door = &g->args.doors[(*msg)->ref];
    tr_connection_args args = {.services = g->args.services,
                               .token = door->token,
                               .token_size = door->token_size,
                               .same_user = door->same_user,
                               .takes_clients = door->takes_clients};
    tr_spawn_spec spec = {.behaviour = &tr_connection,
                          .args = &args,
                          .args_size = sizeof args,
                          .parent = tr_self_id(self)};
    fresh->ref = ++g->next_ref;
    uint32_t shard = g->next_shard++ % tr_node_shards(tr_self_node(self));
    if (tr_spawn_on(self, shard, &spec, fresh->ref) != TR_OK) {
        tr_free(fresh);
        return TR_OK;
    }
    fresh->accepted = *msg;
    *msg = NULL;
    fresh->next = g->guests;
    g->guests = fresh;
    g->guest_count++;
    g->total++;
    return TR_OK;
}

static tr_err leave_when_empty(const gateway *g) {
    return g->leaving && g->guest_count == 0 ? TR_DONE : TR_OK;
}

static tr_err started(tr_self *self, gateway *g, const tr_msg *msg) {
    const tr_started_note *note = (const tr_started_note *)msg->data;
    guest **at = find_ref(g, msg->ref);
    if (*at == NULL) {
        return TR_OK;
    }
    guest *up = *at;
    if (note->err != TR_OK || tr_monitor(self, note->id, &up->monitor) != TR_OK) {
        if (note->err == TR_OK) {
            tr_exit(self, note->id, TR_ERR_SHUTDOWN);
        }
        forget(g, at);
        return leave_when_empty(g);
    }
    up->id = note->id;
    if (g->leaving) {
        tr_exit(self, up->id, TR_ERR_SHUTDOWN);
        return TR_OK;
    }
    tr_msg *accepted_msg = up->accepted;
    up->accepted = NULL;
    return tr_send_control(self, up->id, accepted_msg);
}

static tr_err leave(tr_self *self, gateway *g) {
    g->leaving = true;
    close_listeners(g);
    for (const guest *at = g->guests; at != NULL; at = at->next) {
        if (at->id != TR_ID_NONE) {
            tr_exit(self, at->id, TR_ERR_SHUTDOWN);
        }
    }
    return leave_when_empty(g);
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    gateway *g = state;
    switch ((*msg)->kind) {
    case TR_KIND_STREAM:
        return accepted(self, g, msg);
    case TR_KIND_STARTED:
        return started(self, g, *msg);
    case TR_KIND_DOWN: {
        guest **at = find_monitor(g, (*msg)->ref);
        if (*at != NULL) {
            forget(g, at);
        }
        return leave_when_empty(g);
    }
    case TR_KIND_EXIT:
        return leave(self, g);
    default:
        return TR_OK;
    }
}

/* Also after a crash or a kill: connections do not outlive their gateway. */
static void stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    gateway *g = state;
    close_listeners(g);
    while (g->guests != NULL) {
        if (g->guests->id != TR_ID_NONE) {
            tr_exit(self, g->guests->id, TR_ERR_SHUTDOWN);
        }
        forget(g, &g->guests);
    }
}

static void describe(const void *state, char *buf, size_t size) {
    const gateway *g = state;
    snprintf(buf, size, "%u connections, %llu since the start", g->guest_count,
             (unsigned long long)g->total);
}

const tr_behaviour tr_gateway = {
    .name = "gateway",
    .state_size = sizeof(gateway),
    .traps_exit = true,
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
