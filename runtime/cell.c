/*
 * Slots and the lives of actors: start, end, and everything of actor.h that an actor does to itself and others. Slots lie in
 * pages that never move, so a pointer to a slot stays good while the shard lives; the generation in the id says which life.
 * An actor that ends while one of its functions is on the stack ends when that returns (tri_leave).
 */
#include "runtime/shard_internal.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

tr_self *tri_find(tr_shard *shard, tr_id id) {
    uint32_t slot = tr_id_slot(id);
    if (slot >= shard->page_count * TRI_PAGE) {
        return NULL;
    }
    tr_self *self = &shard->pages[slot / TRI_PAGE][slot % TRI_PAGE];
    return self->id == id && self->behaviour != NULL ? self : NULL;
}

static tr_err add_page(tr_shard *shard) {
    if ((shard->page_count + 1) * TRI_PAGE > TR_ACTORS_PER_SHARD_max) {
        return TR_ERR_OVERLOADED;
    }
    if (shard->page_count == shard->page_room) {
        uint32_t room = shard->page_room == 0 ? 4 : shard->page_room * 2;
        tr_self **pages = tr_realloc(shard->pages, room * sizeof *pages);
        if (pages == NULL) {
            return TR_ERR_NOMEM;
        }
        shard->pages = pages;
        shard->page_room = room;
    }
    tr_self *page = tr_zalloc(TRI_PAGE * sizeof *page);
    if (page == NULL) {
        return TR_ERR_NOMEM;
    }
    uint32_t base = shard->page_count * TRI_PAGE;
    shard->pages[shard->page_count++] = page;
    for (uint32_t i = TRI_PAGE; i-- > 0;) {
        if (base + i == 0) {
            continue; /* slot 0 is the shard itself */
        }
        page[i].id = tr_id_make(shard->node->spec.node, shard->number, base + i, 0);
        page[i].free_next = shard->free_slot;
        shard->free_slot = base + i;
    }
    return TR_OK;
}

static tr_err take_slot(tr_shard *shard, tr_self **ret) {
    if (shard->free_slot == UINT32_MAX) {
        tr_err err = add_page(shard);
        if (err != TR_OK) {
            return err;
        }
    }
    uint32_t slot = shard->free_slot;
    tr_self *self = &shard->pages[slot / TRI_PAGE][slot % TRI_PAGE];
    shard->free_slot = self->free_next;
    uint32_t generation = (tr_id_generation(self->id) + 1) & 0xffffffU;
    bool queued = self->queued; /* its last life may still stand in the run queue */
    tr_self *run_next = self->run_next;
    memset(self, 0, sizeof *self);
    self->queued = queued;
    self->run_next = run_next;
    self->shard = shard;
    self->id = tr_id_make(shard->node->spec.node, shard->number, slot, generation == 0 ? 1 : generation);
    self->timers = TRI_TIMER_NONE;
    *ret = self;
    return TR_OK;
}

static void give_slot(tr_self *self) {
    tr_shard *shard = self->shard;
    self->behaviour = NULL;
    self->state = NULL;
    self->free_next = shard->free_slot;
    shard->free_slot = tr_id_slot(self->id);
}

static void tell_started(tr_self *self, tr_err err) {
    if (self->ack_to == TR_ID_NONE) {
        return;
    }
    tr_msg *msg = tr_msg_new(TR_KIND_STARTED, sizeof(tr_started_note));
    TR_ASSERT(msg != NULL || err == TR_ERR_NOMEM || tr_self_id(self) != TR_ID_NONE);
    if (msg != NULL) {
        *(tr_started_note *)msg->data = (tr_started_note){.id = self->id, .err = (uint32_t)err};
        msg->to = self->ack_to;
        msg->from = self->id;
        msg->ref = self->ack_ref;
        self->ack_to = TR_ID_NONE;
        tri_route(self->shard, msg);
    }
}

/* Everything but stop() and the news of the end. */
static void release(tr_self *self) {
    tr_shard *shard = self->shard;
    if (self->defer_fn != NULL) {
        tr_self **link = &shard->defer_head;
        while (*link != self) {
            link = &(*link)->defer_next;
        }
        *link = self->defer_next;
        self->defer_fn = NULL;
    }
    tri_timers_cancel_all(&shard->timers, &self->timers);
    tri_watches_end(self);
    if (self->registered) {
        tri_registry_remove(&shard->node->registry, self->name, self->id);
    }
    while (self->mail_head != NULL) {
        tr_msg *next = self->mail_head->next;
        tr_msg_free(self->mail_head);
        self->mail_head = next;
    }
    self->mail_tail = NULL;
    self->mail_count = 0;
    tr_free(self->name);
    self->name = NULL;
    tr_free(self->state);
}

static tr_err fail_start(tr_shard *shard, tr_self *self, tr_err err) {
    if (self != NULL) {
        tell_started(self, err);
        tri_monitors_end(self, err);
        release(self);
        give_slot(self);
        shard->actors--;
    }
    return err;
}

tr_err tri_start(tr_shard *shard, const tr_spawn_spec *spec, tr_id spawner, bool answers,
                 uint64_t ref, tr_id *ret) {
    TR_ASSERT(spec->behaviour != NULL);
    tr_self *self;
    tr_err err = take_slot(shard, &self);
    if (err != TR_OK) {
        tr_msg *msg = answers ? tr_msg_new(TR_KIND_STARTED, sizeof(tr_started_note)) : NULL;
        if (msg != NULL) {
            ((tr_started_note *)msg->data)->err = (uint32_t)err;
            msg->to = spawner;
            msg->ref = ref;
            tri_route(shard, msg);
        }
        return err;
    }
    shard->actors++;
    self->behaviour = spec->behaviour;
    self->parent = spec->parent != TR_ID_NONE ? spec->parent : spawner;
    self->mail_max = spec->mailbox_max != 0 ? spec->mailbox_max : TR_MAILBOX_default;
    self->restarts = spec->restarts;
    self->ack_to = answers ? spawner : TR_ID_NONE;
    self->ack_ref = ref;
    self->state = tr_zalloc(spec->behaviour->state_size + 1);
    if (self->state == NULL) {
        return fail_start(shard, self, TR_ERR_NOMEM);
    }
    if (spec->name != NULL) {
        self->name = tr_strndup(spec->name, strnlen(spec->name, TR_ACTOR_NAME_max));
        if (self->name == NULL) {
            return fail_start(shard, self, TR_ERR_NOMEM);
        }
        if (spec->registers) {
            err = tri_registry_add(&shard->node->registry, self->name, self->id);
            if (err != TR_OK) {
                return fail_start(shard, self, err);
            }
            self->registered = true;
        }
    }
    if (spec->behaviour->init != NULL) {
        self->running++;
        err = spec->behaviour->init(self, self->state, spec->args);
        self->running--;
        if (err != TR_OK) {
            return fail_start(shard, self, err);
        }
    }
    if (!spec->behaviour->acks_itself) {
        tell_started(self, TR_OK);
    }
    *ret = self->id;
    if (self->ending) {
        tri_end(self, self->end_reason);
    }
    return TR_OK;
}

void tri_end(tr_self *self, tr_err reason) {
    if (self->running > 0) {
        self->ending = true;
        self->end_reason = reason;
        return;
    }
    self->ending = true;
    if (self->behaviour->stop != NULL) {
        self->running++;
        self->behaviour->stop(self, self->state, reason);
        self->running--;
    }
    tell_started(self, reason == TR_OK ? TR_ERR_GONE : reason);
    tri_monitors_end(self, reason);
    release(self);
    give_slot(self);
    self->shard->actors--;
}

void tri_leave(tr_self *self) {
    TR_ASSERT(self->running > 0);
    if (--self->running == 0 && self->ending) {
        tri_end(self, self->end_reason);
    }
}

tr_err tr_spawn(tr_self *self, const tr_spawn_spec *spec, tr_id *ret) {
    return tri_start(self->shard, spec, self->id, false, 0, ret);
}

static tr_err spawn_message(const tr_spawn_spec *spec, bool answers, tr_msg **ret) {
    tr_msg *msg = tr_msg_new(TRI_KIND_SPAWN, 0);
    tr_body *body = tr_body_new(sizeof(tri_spawn) + spec->args_size);
    if (msg == NULL || body == NULL) {
        tr_msg_free(msg);
        tr_body_unref(body);
        return TR_ERR_NOMEM;
    }
    tri_spawn spawn = {.spec = *spec, .answers = answers};
    char *args = body->bytes + sizeof spawn;
    if (spec->args_size > 0) {
        memcpy(args, spec->args, spec->args_size);
    }
    spawn.spec.args = args;
    memcpy(body->bytes, &spawn, sizeof spawn);
    msg->body = body;
    msg->flags = TR_MSG_LOCAL;
    *ret = msg;
    return TR_OK;
}

tr_err tr_spawn_on(tr_self *self, uint32_t shard, const tr_spawn_spec *spec, uint64_t ref) {
    TR_ASSERT(shard < self->shard->node->spec.shards);
    tr_msg *msg;
    tr_err err = spawn_message(spec, true, &msg);
    if (err != TR_OK) {
        return err;
    }
    msg->to = tr_shard_id(self->shard->node, shard);
    msg->from = self->id;
    msg->ref = ref;
    tri_route(self->shard, msg);
    return TR_OK;
}

tr_err tr_node_spawn(tr_node *node, uint32_t shard, const tr_spawn_spec *spec) {
    tr_msg *msg;
    tr_err err = spawn_message(spec, false, &msg);
    if (err == TR_OK) {
        tr_post(node, tr_shard_id(node, shard), msg);
    }
    return err;
}

void tr_started(tr_self *self, tr_err err) {
    tell_started(self, err);
    if (err != TR_OK) {
        self->ending = true;
        self->end_reason = err;
        TR_ASSERT(self->running > 0);
    }
}

tr_err tr_send(tr_self *self, tr_id to, tr_msg **msg) {
    tr_msg *sent = *msg;
    TR_ASSERT(sent != NULL);
    sent->to = to;
    sent->from = self->id;
    tr_shard *shard = self->shard;
    if (tr_id_shard(to) == shard->number && shard->node->inproc == NULL &&
        (sent->kind < TRI_KIND_SPAWN && sent->kind != TR_KIND_INSPECT)) {
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
    bool kill = reason == TR_ERR_CANCELLED;
    tr_msg *msg = tr_msg_new(kill ? TRI_KIND_KILL : TR_KIND_EXIT, sizeof(tr_ended));
    if (msg == NULL) {
        return;
    }
    *(tr_ended *)msg->data = (tr_ended){.reason = (uint32_t)reason};
    msg->to = to;
    msg->from = self->id;
    tri_route(self->shard, msg);
}

tr_err tr_timer_start(tr_self *self, uint64_t delay_us, uint16_t tag, uint64_t *ret_id) {
    tr_shard *shard = self->shard;
    uint64_t due = delay_us > UINT64_MAX - shard->now_us - 1 ? UINT64_MAX - 1 : shard->now_us + delay_us;
    return tri_timers_add(&shard->timers, due, self->id, tag, &self->timers, ret_id);
}

void tr_timer_cancel(tr_self *self, uint64_t *id) {
    if (*id != 0) {
        tri_timers_cancel(&self->shard->timers, *id, &self->timers);
        *id = 0;
    }
}

void tr_defer(tr_self *self, tr_defer_fn *fn) {
    if (self->defer_fn == NULL) {
        self->defer_fn = fn;
        self->defer_next = self->shard->defer_head;
        self->shard->defer_head = self;
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
        for (uint32_t i = 0; i < TRI_PAGE; i++) {
            const tr_self *child = &shard->pages[page][i];
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
