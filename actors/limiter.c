/*
 * Every reservation is one `holder`, from RESERVE until SETTLE or the call's DOWN, in a small hash
 * table by call; while it waits it also stands in the line. So a slot has exactly one way in and
 * one way out, and what is in use is what has been granted and not released.
 */
#include "actors/limiter.h"

#include <stdio.h>
#include <string.h>

#include "actors/answer.h"
#include "protocol/assert.h"
#include "runtime/memory.h"
#include "runtime/planted.h"

#define BUCKETS 256U

typedef struct holder {
    struct holder *hash_next;
    struct holder *line_next, *line_prev; /* while it waits */
    tr_id call;
    uint64_t ref;
    uint64_t monitor;
    uint64_t came_us;
    uint64_t until_us;
    int8_t priority;
    enum { WAITING = 1, CALLED, GRANTED } place; /* CALLED: its turn is now */
} holder;

typedef struct limiter {
    tr_limiter_args args;
    holder *buckets[BUCKETS];
    holder *line_head, *line_tail;
    uint32_t used;
    uint32_t waiting;
    uint64_t granted_total;
} limiter;

static tr_err init(tr_self *self, void *state, const void *args) {
    (void)self;
    limiter *l = state;
    l->args = *(const tr_limiter_args *)args;
    TR_ASSERT(l->args.at_once > 0);
    return TR_OK;
}

static holder **bucket_of(limiter *l, tr_id call) {
    return &l->buckets[(tr_id_slot(call) ^ tr_id_shard(call) * 31U) % BUCKETS];
}

static holder **find(limiter *l, tr_id call, uint64_t ref) {
    holder **at = bucket_of(l, call);
    while (*at != NULL && ((*at)->call != call || (*at)->ref != ref)) {
        at = &(*at)->hash_next;
    }
    return at;
}

static void line_insert(limiter *l, holder *h) {
    holder *after = l->line_tail;
    while (after != NULL && after->priority < h->priority) {
        after = after->line_prev;
    }
    h->line_prev = after;
    h->line_next = after != NULL ? after->line_next : l->line_head;
    *(h->line_next != NULL ? &h->line_next->line_prev : &l->line_tail) = h;
    *(after != NULL ? &after->line_next : &l->line_head) = h;
    h->place = WAITING;
    l->waiting++;
}

static void line_remove(limiter *l, holder *h) {
    h->place = CALLED;
    *(h->line_prev != NULL ? &h->line_prev->line_next : &l->line_head) = h->line_next;
    *(h->line_next != NULL ? &h->line_next->line_prev : &l->line_tail) = h->line_prev;
    l->waiting--;
}

/* The one way out of a holder. It waits, is granted, or (refused at its turn) neither. */
static void release(tr_self *self, limiter *l, holder **at) {
    holder *h = *at;
    *at = h->hash_next;
    if (h->place == GRANTED) {
        TR_ASSERT(l->used > 0);
        l->used--;
    } else if (h->place == WAITING) {
        line_remove(l, h);
    }
    tr_demonitor(self, h->monitor);
    tr_free(h);
}

static void refuse(tr_self *self, tr_id call, uint64_t ref, tr_msg *fail) {
    if (fail != NULL) {
        fail->ref = ref;
    }
    (void)tr_send_control(self, call, fail); /* without memory for it the call's deadline ends it */
}

static tr_id backend_for(tr_self *self, const limiter *l, tr_id call) {
    char name[TR_ACTOR_NAME_max + 1];
    snprintf(name, sizeof name, "provider:%s:%u", l->args.provider, tr_id_shard(call));
    return tr_whereis(tr_self_node(self), name);
}

static bool grant(tr_self *self, limiter *l, holder *h) {
    tr_id backend = backend_for(self, l, h->call);
    if (backend == TR_ID_NONE) {
        refuse(self, h->call, h->ref,
               tr_msg_failf(TR_ERR_SERVER, "the provider %s is being restarted", l->args.provider));
        return false;
    }
    tr_msg *msg = tr_msg_new(TR_KIND_GRANTED, sizeof(tr_granted));
    if (msg == NULL) {
        return false;
    }
    *(tr_granted *)msg->data = (tr_granted){
        .backend = backend, .queue_ms = (uint32_t)((tr_now_us(self) - h->came_us) / 1000)};
    msg->ref = h->ref;
    h->place = GRANTED;
    l->used++;
    l->granted_total++;
    return tr_send_control(self, h->call, msg) == TR_OK;
}

static void grant_waiting(tr_self *self, limiter *l) {
    while (l->used < l->args.at_once && l->line_head != NULL) {
        holder *h = l->line_head;
        line_remove(l, h);
        if (h->until_us <= tr_now_us(self) || !grant(self, l, h)) {
            release(self, l, find(l, h->call, h->ref));
        }
    }
}

static tr_err reserve(tr_self *self, limiter *l, const tr_msg *msg) {
    const tr_reserve *want = (const tr_reserve *)msg->data;
    if (*find(l, msg->from, msg->ref) != NULL) {
        return TR_OK; /* asked twice: the first stands */
    }
    if (l->used >= l->args.at_once && l->waiting >= l->args.waiting_max) {
        refuse(self, msg->from, msg->ref,
               tr_msg_failf(TR_ERR_OVERLOADED, "%u requests of %s run and %u wait: try again later",
                            l->used, l->args.provider, l->waiting));
        return TR_OK;
    }
    holder *h = tr_zalloc(sizeof *h);
    if (h == NULL || tr_monitor(self, msg->from, &h->monitor) != TR_OK) {
        tr_free(h);
        refuse(self, msg->from, msg->ref, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        return TR_OK;
    }
    h->call = msg->from;
    h->ref = msg->ref;
    h->came_us = tr_now_us(self);
    h->until_us = h->came_us + (uint64_t)want->remaining_ms * 1000;
    h->priority = want->priority;
    holder **bucket = bucket_of(l, h->call);
    h->hash_next = *bucket;
    *bucket = h;
    line_insert(l, h);
    grant_waiting(self, l);
    return TR_OK;
}

static void call_ended(tr_self *self, limiter *l, tr_id call) {
    if (TR_PLANTED(TR_BUG_SLOT_LEAK)) {
        return;
    }
    holder **at = bucket_of(l, call);
    while (*at != NULL) {
        if ((*at)->call == call) {
            release(self, l, at);
        } else {
            at = &(*at)->hash_next;
        }
    }
}

static tr_err tell_status(tr_self *self, const limiter *l, const tr_msg *asked) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "gate");
    tr_jsonw_text(&w, "limiter");
    tr_jsonw_name(&w, "provider");
    tr_jsonw_text(&w, l->args.provider);
    tr_jsonw_name(&w, "used");
    tr_jsonw_uint(&w, l->used);
    tr_jsonw_name(&w, "at_once");
    tr_jsonw_uint(&w, l->args.at_once);
    tr_jsonw_name(&w, "waiting");
    tr_jsonw_uint(&w, l->waiting);
    tr_jsonw_close(&w, '}');
    return tr_send_json(self, asked, TR_KIND_STATUSED, &w);
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    limiter *l = state;
    switch ((*msg)->kind) {
    case TR_KIND_RESERVE:
        return reserve(self, l, *msg);
    case TR_KIND_SETTLE: {
        holder **at = find(l, (*msg)->from, (*msg)->ref);
        if (*at != NULL) {
            release(self, l, at);
            grant_waiting(self, l);
        }
        return TR_OK;
    }
    case TR_KIND_DOWN:
        call_ended(self, l, (*msg)->from);
        grant_waiting(self, l);
        return TR_OK;
    case TR_KIND_STATUS:
        (void)tell_status(self, l, *msg); /* whoever asked has a time limit */
        return TR_OK;
    default:
        return TR_OK;
    }
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    limiter *l = state;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (l->buckets[i] != NULL) {
            holder *next = l->buckets[i]->hash_next;
            tr_free(l->buckets[i]); /* monitors end with the actor; calls see its DOWN */
            l->buckets[i] = next;
        }
    }
}

static void describe(const void *state, char *buf, size_t size) {
    const limiter *l = state;
    snprintf(buf, size, "%u of %u slots, %u waiting, %llu granted", l->used, l->args.at_once,
             l->waiting, (unsigned long long)l->granted_total);
}

const tr_behaviour tr_limiter = {
    .name = "limiter",
    .state_size = sizeof(limiter),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
