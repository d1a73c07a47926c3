/*
 * The step of a shard: inbox, timers, mailboxes, deferred flushes, outboxes, in this order. It is called by the shard's thread
 * or by the simulator and knows neither. An actor has a turn of at most TURN messages, then goes to the end of the run queue,
 * so no chatty pair starves another actor; messages to other shards leave once a step, as one chain a shard.
 */
#include "runtime/shard_internal.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/mailbox_inproc.h"
#include "runtime/memory.h"
#include "runtime/planted.h"

#define TURN 32U

tr_err tri_shard_init(tr_shard *shard, tr_node *node, uint32_t number) {
    memset(shard, 0, sizeof *shard);
    shard->node = node;
    shard->number = number;
    shard->epoll_fd = -1;
    shard->wake_fd = -1;
    shard->free_slot = UINT32_MAX;
    tri_timers_init(&shard->timers);
    shard->out = tr_zalloc(node->spec.shards * sizeof *shard->out);
    shard->now_us = node->spec.platform.now_us(node->spec.platform.arg);
    return shard->out != NULL ? TR_OK : TR_ERR_NOMEM;
}

static void free_chain(tr_msg *msg) {
    while (msg != NULL) {
        tr_msg *next = msg->next;
        tr_msg_free(msg);
        msg = next;
    }
}

void tri_shard_fini(tr_shard *shard) {
    for (uint32_t page = 0; page < shard->page_count; page++) {
        for (uint32_t i = 0; i < TRI_PAGE; i++) {
            tr_self *self = &shard->pages[page][i];
            if (self->behaviour != NULL) {
                tri_end(self, TR_ERR_SHUTDOWN);
            }
        }
    }
    for (uint32_t page = 0; page < shard->page_count; page++) {
        tr_free(shard->pages[page]);
    }
    tr_free(shard->pages);
    if (shard->out != NULL) {
        for (uint32_t i = 0; i < shard->node->spec.shards; i++) {
            free_chain(shard->out[i].last);
        }
    }
    tr_free(shard->out);
    free_chain(tri_inbox_take(&shard->inbox));
    tri_timers_fini(&shard->timers);
    tri_monitors_fini(&shard->monitors);
    tr_free(shard->fds);
}

void tri_enqueue(tr_self *self, tr_msg *msg) {
    msg->next = NULL;
    if (self->mail_tail != NULL) {
        self->mail_tail->next = msg;
    } else {
        self->mail_head = msg;
    }
    self->mail_tail = msg;
    self->mail_count++;
    if (!self->queued) {
        tr_shard *shard = self->shard;
        self->queued = true;
        self->run_next = NULL;
        if (shard->run_tail != NULL) {
            shard->run_tail->run_next = self;
        } else {
            shard->run_head = self;
        }
        shard->run_tail = self;
        shard->run_count++;
    }
}

static void bounce(tr_shard *shard, tr_msg *msg) {
    if (msg->from == TR_ID_NONE) {
        tr_msg_free(msg);
        return;
    }
    tr_body_unref(msg->body);
    msg->body = NULL;
    tr_id sender = msg->from;
    msg->from = msg->to;
    msg->to = sender;
    msg->flags = msg->kind;
    msg->kind = TR_KIND_BOUNCED;
    msg->size = 0;
    tri_route(shard, msg);
}

void tri_deliver(tr_shard *shard, tr_msg *msg) {
    switch (msg->kind) {
    case TRI_KIND_SPAWN: {
        const tri_spawn *spawn = (const tri_spawn *)(const void *)msg->body->bytes;
        tr_id id;
        tr_err err = tri_start(shard, &spawn->spec, msg->from, spawn->answers, msg->ref, &id);
        (void)err; /* the sender hears of it by STARTED */
        tr_msg_free(msg);
        return;
    }
    case TRI_KIND_MONITOR:
    case TRI_KIND_DEMONITOR:
    case TRI_KIND_LINK:
    case TRI_KIND_UNLINK:
        tri_monitor_told(shard, msg);
        tr_msg_free(msg);
        return;
    case TR_KIND_INSPECT:
        tri_inspect(shard, msg);
        return;
    default:
        break;
    }
    tr_self *self = tri_find(shard, msg->to);
    if (self == NULL) {
        tr_msg_free(msg);
    } else if (msg->kind == TRI_KIND_KILL) {
        tr_msg_free(msg);
        tri_end(self, TR_ERR_CANCELLED);
    } else if ((msg->flags & TR_MSG_OPENING) != 0 && self->mail_count >= self->mail_max) {
        bounce(shard, msg);
    } else {
        tri_enqueue(self, msg);
    }
}

void tri_route(tr_shard *shard, tr_msg *msg) {
    tr_node *node = shard->node;
    uint32_t target = tr_id_shard(msg->to);
    if (tr_id_node(msg->to) != node->spec.node || target >= node->spec.shards) {
        tr_msg_free(msg); /* an id that never was ours: as an actor that is gone */
        return;
    }
    if (node->inproc != NULL && (msg->flags & TR_MSG_LOCAL) == 0) {
        tri_inproc_send(node->inproc, shard->number, target, msg);
        return;
    }
    if (target == shard->number) {
        tri_deliver(shard, msg);
        return;
    }
    tri_outbox *out = &shard->out[target];
    msg->next = out->last;
    out->last = msg;
    if (out->first == NULL) {
        out->first = msg;
    }
}

static void flush(tr_shard *shard) {
    tr_node *node = shard->node;
    for (uint32_t i = 0; i < node->spec.shards; i++) {
        tri_outbox out = shard->out[i];
        if (out.last != NULL) {
            shard->out[i] = (tri_outbox){NULL, NULL};
            if (tri_inbox_push(&node->shards[i].inbox, out.last, out.first)) {
                tri_wake(&node->shards[i]);
            }
        }
    }
    if (node->inproc != NULL) {
        tri_inproc_flush(node->inproc, shard->number);
    }
}

static void fire_timers(tr_shard *shard) {
    tr_id owner;
    while (tri_timers_peek(&shard->timers, shard->now_us, &owner)) {
        tr_self *self = tri_find(shard, owner);
        TR_ASSERT(self != NULL); /* an actor's timers end with it */
        tri_fired fired = tri_timers_pop(&shard->timers, &self->timers);
        tr_msg *msg = tr_msg_new(TR_KIND_TIMER, 0);
        if (msg == NULL) {
            tri_end(self, TR_ERR_NOMEM); /* it could wait for ever */
            continue;
        }
        msg->to = owner;
        msg->ref = fired.id;
        msg->flags = fired.tag;
        tri_enqueue(self, msg);
    }
}

/* One message; false when the actor ended. */
static bool handle(tr_self *self, tr_msg *msg) {
    tr_err err;
    if (msg->kind == TR_KIND_EXIT && !self->behaviour->traps_exit) {
        err = (tr_err)((const tr_ended *)msg->data)->reason;
        tr_msg_free(msg);
        tri_end(self, err);
        return false;
    }
    self->handled++;
    self->running++;
    err = self->behaviour->handle(self, self->state, &msg);
    tr_msg_free(msg);
    if (err != TR_OK && !self->ending) {
        self->ending = true;
        self->end_reason = err == TR_DONE ? TR_OK : err;
    }
    bool goes_on = !self->ending;
    tri_leave(self);
    return goes_on;
}

static uint32_t turn(tr_shard *shard, uint32_t messages_max) {
    tr_self *self = shard->run_head;
    shard->run_head = self->run_next;
    if (shard->run_head == NULL) {
        shard->run_tail = NULL;
    }
    shard->run_count--;
    self->queued = false;
    uint32_t count = 0;
    while (self->behaviour != NULL && self->mail_head != NULL && count < messages_max) {
        tr_msg *msg = self->mail_head;
        self->mail_head = msg->next;
        if (self->mail_head == NULL) {
            self->mail_tail = NULL;
        } else {
            __builtin_prefetch(self->mail_head);
        }
        self->mail_count--;
        count++;
        self->queued = true; /* what it sends itself waits in its mailbox: it is taken below */
        bool alive = handle(self, msg);
        self->queued = false;
        if (!alive) {
            return count;
        }
    }
    if (self->mail_head != NULL) {
        tr_msg *rest = self->mail_head;
        tr_msg *tail = self->mail_tail;
        uint32_t left = self->mail_count;
        tri_enqueue(self, rest);
        self->mail_head = rest;
        self->mail_tail = tail;
        self->mail_count = left;
    }
    return count;
}

static void run_deferred(tr_shard *shard) {
    while (shard->defer_head != NULL) {
        tr_self *self = shard->defer_head;
        shard->defer_head = self->defer_next;
        tr_defer_fn *fn = self->defer_fn;
        self->defer_fn = NULL;
        self->running++;
        fn(self, self->state);
        tri_leave(self);
    }
}

bool tr_shard_step(tr_shard *shard, uint32_t messages_max) {
    shard->now_us = shard->node->spec.platform.now_us(shard->node->spec.platform.arg);
    tr_msg *msg = tri_inbox_take(&shard->inbox);
    while (msg != NULL) {
        tr_msg *next = msg->next;
        tri_deliver(shard, msg);
        msg = next;
    }
    fire_timers(shard);
    uint32_t done = 0;
    while (shard->run_head != NULL && done < messages_max) {
        uint32_t left = messages_max - done;
        done += turn(shard, left < TURN ? left : TURN);
    }
    run_deferred(shard);
    flush(shard);
    shard->handled += done;
    atomic_store_explicit(&shard->handled_total, shard->handled, memory_order_relaxed);
    return shard->run_head != NULL || !tri_inbox_empty(&shard->inbox);
}

uint64_t tr_shard_deadline_us(const tr_shard *shard) {
    return tri_timers_due(&shard->timers);
}

bool tr_shard_has_work(tr_shard *shard) {
    return shard->run_head != NULL || !tri_inbox_empty(&shard->inbox);
}

void tr_shard_rotate(tr_shard *shard, uint32_t count) {
    for (; count > 0 && shard->run_head != shard->run_tail; count--) {
        tr_self *self = shard->run_head;
        shard->run_head = self->run_next;
        self->run_next = NULL;
        shard->run_tail->run_next = self;
        shard->run_tail = self;
    }
}

bool tr_shard_sleeps(tr_shard *shard) {
    if (shard->run_head != NULL) {
        return false;
    }
    atomic_store(&shard->inbox.sleeping, true); /* partner: tri_inbox_push */
    if (TR_PLANTED(TR_BUG_LOST_WAKE) || tri_inbox_empty(&shard->inbox)) {
        return true;
    }
    atomic_store(&shard->inbox.sleeping, false);
    return false;
}

uint32_t tr_shard_actors(const tr_shard *shard) {
    return shard->actors;
}

uint64_t tr_shard_handled(const tr_shard *shard) {
    return atomic_load_explicit(&shard->handled_total, memory_order_relaxed);
}
