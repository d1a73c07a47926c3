/*
 * Slots and the lives of actors: how one starts and how it ends. Slots lie in pages that never
 * move, so a pointer to a slot stays good while its actor lives; the generation in the id says
 * which life, also when the page was given back in between. An actor that ends while one of its
 * functions is on the stack ends when that returns (tri_leave). A slot may stand in the run queue
 * or the deferred queue from an earlier life: the two flags that say so survive, and the queues
 * skip what has nothing to do. Everything runs on the shard's thread.
 */
#include "runtime/cell.h"

#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

tr_self *tri_find(tr_shard *shard, tr_id id) {
    uint32_t slot = tr_id_slot(id);
    if (slot >= shard->page_count * TRI_PAGE) {
        return NULL;
    }
    tr_self *page = shard->pages[slot / TRI_PAGE].slots;
    if (page == NULL) {
        return NULL;
    }
    tr_self *self = &page[slot % TRI_PAGE];
    return self->id == id && self->behaviour != NULL ? self : NULL;
}

/* Room for a page: where one was given back, or behind the last. */
static tr_err page_place(tr_shard *shard, uint32_t *ret) {
    uint32_t at = 0;
    while (at < shard->page_count && shard->pages[at].slots != NULL) {
        at++;
    }
    if (at == shard->page_count) {
        if ((at + 1) * TRI_PAGE > TR_ACTORS_PER_SHARD_max) {
            return TR_ERR_OVERLOADED;
        }
        if (at == shard->page_room) {
            uint32_t room = at == 0 ? 4 : at * 2;
            tri_page *pages = tr_realloc(shard->pages, room * sizeof *pages);
            if (pages == NULL) {
                return TR_ERR_NOMEM;
            }
            shard->pages = pages;
            shard->page_room = room;
        }
        shard->pages[shard->page_count++] = (tri_page){.slots = NULL};
    }
    *ret = at;
    return TR_OK;
}

static bool is_unused(const tr_self *slot) {
    return slot->behaviour == NULL && !slot->queued && !slot->deferred;
}

/* Puts the free slots of a page before the others in the list. */
static void list_free(tr_shard *shard, uint32_t page) {
    for (uint32_t i = TRI_PAGE; i-- > 0;) {
        tr_self *slot = &shard->pages[page].slots[i];
        uint32_t number = page * TRI_PAGE + i;
        if (number != 0 && slot->behaviour == NULL) { /* slot 0 is the shard itself */
            slot->free_next = shard->free_slot;
            shard->free_slot = number;
        }
    }
}

static tr_err add_page(tr_shard *shard) {
    uint32_t at = 0;
    tr_err err = page_place(shard, &at);
    if (err != TR_OK) {
        return err;
    }
    tr_self *slots = tr_zalloc(TRI_PAGE * sizeof *slots);
    if (slots == NULL) {
        return TR_ERR_NOMEM;
    }
    tri_page *page = &shard->pages[at];
    page->slots = slots;
    for (uint32_t i = at == 0 ? 1 : 0; i < TRI_PAGE; i++) {
        slots[i].id =
            tr_id_make(shard->node->spec.node, shard->number, at * TRI_PAGE + i, page->generation);
    }
    list_free(shard, at);
    return TR_OK;
}

void tri_pages_shrink(tr_shard *shard) {
    shard->free_slot = UINT32_MAX;
    for (uint32_t at = shard->page_count; at-- > 0;) {
        tri_page *page = &shard->pages[at];
        uint32_t unused = 0, generation = page->generation;
        for (uint32_t i = 0; page->slots != NULL && i < TRI_PAGE; i++) {
            uint32_t its = tr_id_generation(page->slots[i].id);
            generation = its > generation ? its : generation;
            unused += is_unused(&page->slots[i]) ? 1 : 0;
        }
        if (unused == TRI_PAGE) {
            tr_free(page->slots);
            *page = (tri_page){.slots = NULL, .generation = generation};
        } else if (page->slots != NULL) {
            list_free(shard, at);
        }
    }
}

static tr_err take_slot(tr_shard *shard, tr_self **ret) {
    if (shard->closing) {
        return TR_ERR_SHUTDOWN;
    }
    if (shard->free_slot == UINT32_MAX) {
        tr_err err = add_page(shard);
        if (err != TR_OK) {
            return err;
        }
    }
    uint32_t slot = shard->free_slot;
    tr_self *self = &shard->pages[slot / TRI_PAGE].slots[slot % TRI_PAGE];
    shard->free_slot = self->free_next;
    uint32_t generation = (tr_id_generation(self->id) + 1) & 0xffffffU;
    generation = generation == 0 ? 1 : generation;
    *self = (tr_self){.shard = shard,
                      .id = tr_id_make(shard->node->spec.node, shard->number, slot, generation),
                      .queued = self->queued,
                      .run_next = self->run_next,
                      .deferred = self->deferred,
                      .defer_next = self->defer_next,
                      .timers = TRI_TIMER_NONE};
    shard->actors++;
    shard->peak = shard->actors > shard->peak ? shard->actors : shard->peak;
    *ret = self;
    return TR_OK;
}

static void give_slot(tr_self *self) {
    tr_shard *shard = self->shard;
    self->behaviour = NULL;
    self->state = NULL;
    self->free_next = shard->free_slot;
    shard->free_slot = tr_id_slot(self->id);
    shard->actors--;
    tri_ebb_note(shard);
}

/* The SPAWN that became an answer goes home. */
static void answer(tr_shard *shard, tr_msg *ack, tr_id id, tr_err err) {
    *(tr_started_note *)(void *)ack->data = (tr_started_note){.id = id, .err = (uint32_t)err};
    ack->from = id;
    tri_route(shard, ack);
}

void tri_tell_started(tr_self *self, tr_err err) {
    if (self->ack != NULL) {
        tr_msg *ack = self->ack;
        self->ack = NULL;
        answer(self->shard, ack, self->id, err);
    }
}

/* Before the news of the end: whoever hears of it may take the name. */
static void free_name(tr_self *self) {
    if (self->registered) {
        tri_registry_remove(&self->shard->node->registry, self->name, self->id);
        self->registered = false;
    }
}

/* Everything but stop(), the name and the news of the end. */
static void release(tr_self *self) {
    tr_shard *shard = self->shard;
    self->defer_fn = NULL;
    tri_timers_cancel_all(&shard->timers, &self->timers);
    tri_watches_end(self);
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

static tr_err prepare(tr_self *self, const tr_spawn_spec *spec, tr_id spawner) {
    self->behaviour = spec->behaviour;
    self->parent = spec->parent != TR_ID_NONE ? spec->parent : spawner;
    self->mail_max = spec->mailbox_max != 0 ? spec->mailbox_max : TR_MAILBOX_default;
    self->restarts = spec->restarts;
    self->state = tr_zalloc(spec->behaviour->state_size + 1);
    if (self->state == NULL) {
        return TR_ERR_NOMEM;
    }
    if (spec->name != NULL) {
        self->name = tr_strndup(spec->name, strnlen(spec->name, TR_ACTOR_NAME_max));
        if (self->name == NULL) {
            return TR_ERR_NOMEM;
        }
        if (spec->registers) {
            tr_err err = tri_registry_add(&self->shard->node->registry, self->name, self->id);
            if (err != TR_OK) {
                return err;
            }
            self->registered = true;
        }
    }
    if (spec->behaviour->init == NULL) {
        return TR_OK;
    }
    self->running++;
    tr_err err = spec->behaviour->init(self, self->state, spec->args);
    self->running--;
    return err;
}

tr_err tri_start(tr_shard *shard, const tr_spawn_spec *spec, tr_id spawner, tr_msg *ack,
                 tr_msg *watch, tr_id *ret) {
    TR_ASSERT(spec->behaviour != NULL);
    TR_ASSERT(!spec->registers || spec->name != NULL);
    tr_self *self;
    tr_err err = take_slot(shard, &self);
    if (err != TR_OK) {
        if (ack != NULL) {
            answer(shard, ack, TR_ID_NONE, err);
        }
        if (watch != NULL) {
            tri_tie_refuse(shard, watch, err);
        }
        return err;
    }
    self->ack = ack;
    if (watch != NULL) {
        tri_tie_attach(self, watch);
    }
    err = prepare(self, spec, spawner);
    if (err != TR_OK) {
        free_name(self);
        tri_tell_started(self, err);
        tri_ties_end(self, err);
        release(self);
        give_slot(self);
        return err;
    }
    *ret = self->id;
    if (!spec->behaviour->acks_itself) {
        tri_tell_started(self, TR_OK);
    }
    if (self->ending) {
        tri_end(self, self->end_reason);
    }
    return TR_OK;
}

void tri_end(tr_self *self, tr_err reason) {
    reason = reason == TR_DONE ? TR_OK : reason;
    if (self->running > 0) {
        if (!self->ending) {
            self->ending = true;
            self->end_reason = reason;
        }
        return;
    }
    self->ending = true;
    if (self->behaviour->stop != NULL) {
        self->running++;
        self->behaviour->stop(self, self->state, reason);
        self->running--;
    }
    free_name(self);
    tri_tell_started(self, reason == TR_OK ? TR_ERR_GONE : reason);
    tri_ties_end(self, reason);
    release(self);
    give_slot(self);
}

void tri_leave(tr_self *self) {
    TR_ASSERT(self->running > 0);
    if (--self->running == 0 && self->ending) {
        tri_end(self, self->end_reason);
    }
}

static void spawn_fini(tr_body *body) {
    tri_spawn *spawn = (tri_spawn *)(void *)body->bytes;
    tr_msg_free(spawn->watch);
}

tr_err tri_spawn_message(const tr_spawn_spec *spec, bool answers, tr_msg **ret) {
    size_t name_size = spec->name != NULL ? strnlen(spec->name, TR_ACTOR_NAME_max) : 0;
    tr_msg *msg = tr_msg_new(TRI_KIND_SPAWN, sizeof(tr_started_note));
    tr_body *body = tr_body_new(sizeof(tri_spawn) + spec->args_size + name_size + 1);
    if (msg == NULL || body == NULL) {
        tr_msg_free(msg);
        tr_body_unref(body);
        return TR_ERR_NOMEM;
    }
    tri_spawn spawn = {.spec = *spec, .watch = NULL, .answers = answers};
    char *args = body->bytes + sizeof spawn;
    if (spec->args_size > 0) {
        memcpy(args, spec->args, spec->args_size);
    }
    spawn.spec.args = spec->args != NULL ? args : NULL;
    if (spec->name != NULL) {
        char *name = args + spec->args_size;
        memcpy(name, spec->name, name_size);
        name[name_size] = '\0';
        spawn.spec.name = name;
    }
    memcpy(body->bytes, &spawn, sizeof spawn);
    body->fini = spawn_fini;
    msg->body = body;
    msg->flags = TR_MSG_LOCAL;
    *ret = msg;
    return TR_OK;
}

void tri_spawned(tr_shard *shard, tr_msg *msg) {
    tr_body *body = msg->body;
    tri_spawn *spawn = (tri_spawn *)(void *)body->bytes;
    tr_id spawner = msg->from;
    tr_msg *watch = spawn->watch;
    spawn->watch = NULL;
    msg->body = NULL;
    if (spawn->answers) {
        msg->kind = TR_KIND_STARTED;
        msg->flags = 0;
        msg->to = spawner;
    } else {
        tr_msg_free(msg);
        msg = NULL;
    }
    tr_id id;
    tr_err err = tri_start(shard, &spawn->spec, spawner, msg, watch, &id);
    if (err != TR_OK && spawn->failed != NULL) { /* else the sender hears of it by STARTED */
        spawn->failed(spawn->failed_arg, err);
    }
    tr_body_unref(body);
}
