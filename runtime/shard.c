/*
 * The step of a shard: inbox, timers, mailboxes, deferred flushes, outboxes, in this order. It is
 * called by the shard's thread or by the simulator and knows neither. An actor has a turn of at
 * most TURN messages, then goes to the end of the run queue, so no chatty pair starves another
 * actor; messages to other shards leave once a step, as one chain a shard, or earlier when many
 * wait.
 */
#include <string.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "runtime/cell.h"
#include "runtime/memory.h"
#include "runtime/planted.h"
#include "runtime/transport_nng_mailbox.h"

#define TURN 32U
#define OUT_MAX 1024U /* messages for other shards that wait for the end of a step */

tr_err tri_shard_init(tr_shard *shard, tr_node *node, uint32_t number, uint32_t shards) {
    memset(shard, 0, sizeof *shard);
    shard->node = node;
    shard->number = number;
    shard->epoll_fd = -1;
    shard->wake_fd = -1;
    shard->free_slot = UINT32_MAX;
    tri_timers_init(&shard->timers);
    tri_ties_init(&shard->ties);
    shard->out = tr_zalloc(shards * sizeof *shard->out);
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

void tri_shard_end_actors(tr_shard *shard) {
    shard->closing = true;
    for (uint32_t page = 0; page < shard->page_count; page++) {
        for (uint32_t i = 0; shard->pages[page].slots != NULL && i < TRI_PAGE; i++) {
            tr_self *self = &shard->pages[page].slots[i];
            if (self->behaviour != NULL) {
                tri_end(self, TR_ERR_SHUTDOWN);
            }
        }
    }
}

void tri_shard_fini(tr_shard *shard) {
    for (uint32_t page = 0; page < shard->page_count; page++) {
        tr_free(shard->pages[page].slots);
    }
    tr_free(shard->pages);
    for (uint32_t i = 0; shard->out != NULL && i < shard->node->spec.shards; i++) {
        free_chain(shard->out[i].last);
    }
    tr_free(shard->out);
    free_chain(tri_inbox_take(&shard->inbox));
    tri_timers_fini(&shard->timers);
    tri_ties_fini(&shard->ties);
    tr_free(shard->fds);
    if (shard->wake_fd >= 0) {
        close(shard->wake_fd);
    }
    if (shard->epoll_fd >= 0) {
        close(shard->epoll_fd);
    }
}

static void make_ready(tr_self *self) {
    tr_shard *shard = self->shard;
    self->queued = true;
    self->run_next = NULL;
    if (shard->run_tail != NULL) {
        shard->run_tail->run_next = self;
    } else {
        shard->run_head = self;
    }
    shard->run_tail = self;
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
        make_ready(self);
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
    case TRI_KIND_SPAWN:
        tri_spawned(shard, msg);
        return;
    case TRI_KIND_MONITOR:
    case TRI_KIND_DEMONITOR:
    case TRI_KIND_LINK:
    case TRI_KIND_LINK_END:
    case TRI_KIND_EXIT_WATCHED:
    case TR_KIND_DOWN:
        tri_tie_told(shard, msg);
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

static void flush(tr_shard *shard) {
    tr_node *node = shard->node;
    shard->out_count = 0;
    for (uint32_t i = 0; i < node->spec.shards; i++) {
        tri_outbox out = shard->out[i];
        if (out.last != NULL) {
            shard->out[i] = (tri_outbox){NULL, NULL};
            if (tri_inbox_push(&node->shards[i].inbox, out.last, out.first)) {
                tri_wake(&node->shards[i]);
            }
        }
    }
}

void tri_route(tr_shard *shard, tr_msg *msg) {
    tr_node *node = shard->node;
    uint32_t target = tr_id_shard(msg->to);
    if (tr_id_node(msg->to) != node->spec.node || target >= node->spec.shards) {
        /* An id that never was ours: as an actor that is gone. */
        if (msg->kind == TRI_KIND_MONITOR || msg->kind == TRI_KIND_LINK) {
            tri_tie_told(shard, msg);
        } else {
            tr_msg_free(msg);
        }
        return;
    }
    if (node->inproc != NULL) {
        tri_mailbox_send(node->inproc, shard->number, target, msg);
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
    if (++shard->out_count >= OUT_MAX) {
        flush(shard);
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

/* Takes the first actor of the run queue; its messages, at most `messages_max`, are handled. */
static uint32_t turn(tr_shard *shard, uint32_t messages_max) {
    tr_self *self = shard->run_head;
    shard->run_head = self->run_next;
    if (shard->run_head == NULL) {
        shard->run_tail = NULL;
    }
    uint32_t count = 0;
    bool alive = self->behaviour != NULL;
    /* `queued` stays set meanwhile: what it sends to itself is found here, or by its next turn. */
    while (alive && self->mail_head != NULL && count < messages_max) {
        tr_msg *msg = self->mail_head;
        self->mail_head = msg->next;
        if (self->mail_head == NULL) {
            self->mail_tail = NULL;
        } else {
            __builtin_prefetch(self->mail_head);
        }
        self->mail_count--;
        count++;
        alive = handle(self, msg);
    }
    self->queued = false;
    if (alive && self->mail_head != NULL) {
        make_ready(self);
    }
    return count;
}

static void run_deferred(tr_shard *shard) {
    tr_self *self = shard->defer_head;
    shard->defer_head = NULL;
    shard->defer_tail = NULL;
    while (self != NULL) {
        tr_self *next = self->defer_next;
        tr_defer_fn *fn = self->defer_fn;
        self->deferred = false;
        self->defer_fn = NULL;
        if (fn != NULL) {
            self->running++;
            fn(self, self->state);
            tri_leave(self);
        }
        self = next;
    }
}

bool tr_shard_step(tr_shard *shard, uint32_t messages_max) {
    shard->now_us = shard->node->spec.platform.now_us(shard->node->spec.platform.arg);
    if (atomic_load_explicit(&shard->inbox.sleeping, memory_order_relaxed)) {
        /* Awake by a timer or a descriptor; a wake that comes in between is one too many. */
        atomic_store_explicit(&shard->inbox.sleeping, false, memory_order_relaxed);
    }
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
    if (shard->ebb_us != 0 && shard->now_us >= shard->ebb_us) {
        tri_ebb(shard);
    }
    shard->handled += done;
    atomic_store_explicit(&shard->handled_total, shard->handled, memory_order_relaxed);
    bool all_out =
        shard->node->inproc == NULL || tri_mailbox_flush(shard->node->inproc, shard->number);
    return !all_out || tr_shard_has_work(shard);
}

uint64_t tr_shard_deadline_us(const tr_shard *shard) {
    uint64_t due = tri_timers_due(&shard->timers);
    return shard->ebb_us != 0 && shard->ebb_us < due ? shard->ebb_us : due;
}

bool tr_shard_has_work(tr_shard *shard) {
    return shard->run_head != NULL || shard->defer_head != NULL || !tri_inbox_empty(&shard->inbox);
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
    if (shard->run_head != NULL || shard->defer_head != NULL) {
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
