/*
 * What an actor may do (actor.h), all of it on its shard's thread: thin functions over the shard's
 * cells, ties, timers and routes.
 */
#include "runtime/actor.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/cell.h"
#include "runtime/memory.h"

tr_err tr_spawn(tr_self *self, const tr_spawn_spec *spec, tr_id *ret) {
    return tri_start(self->shard, spec, self->id, NULL, NULL, ret);
}

tr_err tr_spawn_on(tr_self *self, uint32_t shard, const tr_spawn_spec *spec, uint64_t ref) {
    TR_ASSERT(shard < self->shard->node->spec.shards);
    tr_msg *msg;
    tr_err err = tri_spawn_message(spec, true, &msg);
    if (err != TR_OK) {
        return err;
    }
    msg->to = tr_shard_id(self->shard->node, shard);
    msg->from = self->id;
    msg->ref = ref;
    tri_route(self->shard, msg);
    return TR_OK;
}

void tr_started(tr_self *self, tr_err err) {
    tri_tell_started(self, err);
    if (err != TR_OK) {
        TR_ASSERT(self->running > 0);
        tri_end(self, err);
    }
}

tr_err tr_send(tr_self *self, tr_id to, tr_msg **msg) {
    tr_msg *sent = *msg;
    TR_ASSERT(sent != NULL);
    sent->to = to;
    sent->from = self->id;
    tr_shard *shard = self->shard;
    if (tr_id_shard(to) == shard->number && shard->node->inproc == NULL &&
        sent->kind != TR_KIND_INSPECT) {
        tr_self *target = tri_find(shard, to);
        if (target == NULL) {
            tr_msg_free(sent);
        } else if ((sent->flags & TR_MSG_OPENING) != 0 && target->mail_count >= target->mail_max) {
            return TR_ERR_FULL;
        } else {
            tri_enqueue(target, sent);
        }
    } else {
        tri_route(shard, sent);
    }
    *msg = NULL;
    return TR_OK;
}

tr_err tr_send_control(tr_self *self, tr_id to, tr_msg *msg) {
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    TR_ASSERT((msg->flags & TR_MSG_OPENING) == 0);
    return tr_send(self, to, &msg);
}

void tr_exit(tr_self *self, tr_id to, tr_err reason) {
    tr_shard *shard = self->shard;
    bool kill = reason == TR_ERR_CANCELLED;
    bool here = tr_id_shard(to) == shard->number && shard->node->inproc == NULL;
    tr_self *target = here ? tri_find(shard, to) : NULL;
    if (here && (target == NULL || kill)) {
        if (target != NULL) {
            tri_end(target, reason);
        }
        return;
    }
    tr_msg *msg = tr_msg_new(kill ? TRI_KIND_KILL : TR_KIND_EXIT, sizeof(tr_ended));
    if (msg != NULL) {
        *(tr_ended *)(void *)msg->data = (tr_ended){.reason = (uint32_t)reason};
        msg->to = to;
        msg->from = self->id;
        tri_route(shard, msg);
    } else if (target != NULL && !target->behaviour->traps_exit) {
        tri_end(target, reason); /* out of memory: it ends before what waits, but it ends */
    }
}

tr_err tr_timer_start(tr_self *self, uint64_t delay_us, uint16_t tag, uint64_t *ret_id) {
    tr_shard *shard = self->shard;
    uint64_t room = UINT64_MAX - 1 - shard->now_us;
    uint64_t due_us = shard->now_us + (delay_us < room ? delay_us : room);
    return tri_timers_add(&shard->timers, due_us, self->id, tag, &self->timers, ret_id);
}

void tr_timer_cancel(tr_self *self, uint64_t *id) {
    if (*id != 0) {
        tri_timers_cancel(&self->shard->timers, *id, self->id, &self->timers);
        *id = 0;
    }
}

void tr_defer(tr_self *self, tr_defer_fn *fn) {
    if (self->defer_fn != NULL) {
        return;
    }
    self->defer_fn = fn;
    if (!self->deferred) {
        tr_shard *shard = self->shard;
        self->deferred = true;
        self->defer_next = NULL;
        if (shard->defer_tail != NULL) {
            shard->defer_tail->defer_next = self;
        } else {
            shard->defer_head = self;
        }
        shard->defer_tail = self;
    }
}

tr_err tr_register(tr_self *self, const char *name) {
    TR_ASSERT(!self->registered);
    char *copy = tr_strndup(name, strnlen(name, TR_ACTOR_NAME_max));
    if (copy == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_err err = tri_registry_add(&self->shard->node->registry, copy, self->id);
    if (err != TR_OK) {
        tr_free(copy);
        return err;
    }
    tr_free(self->name);
    self->name = copy;
    self->registered = true;
    return TR_OK;
}

void tr_children(tr_self *self, void (*fn)(void *arg, tr_id child), void *arg) {
    tr_shard *shard = self->shard;
    for (uint32_t page = 0; page < shard->page_count; page++) {
        for (uint32_t i = 0; shard->pages[page].slots != NULL && i < TRI_PAGE; i++) {
            const tr_self *child = &shard->pages[page].slots[i];
            if (child->behaviour != NULL && child->parent == self->id) {
                fn(arg, child->id);
            }
        }
    }
}

tr_id tr_self_id(const tr_self *self) {
    return self->id;
}

uint32_t tr_self_shard(const tr_self *self) {
    return self->shard->number;
}

tr_node *tr_self_node(const tr_self *self) {
    return self->shard->node;
}

uint64_t tr_now_us(const tr_self *self) {
    return self->shard->now_us;
}

uint64_t tr_random(tr_self *self) {
    const tr_platform *platform = &self->shard->node->spec.platform;
    return platform->random(platform->arg);
}
