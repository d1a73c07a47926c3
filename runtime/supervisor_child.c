/*
 * One child of a supervisor: its spec's copy, the states of its present life, and what it takes to
 * start and stop it. The two messages that end a child are made before it starts, so memory that
 * runs out later cannot keep a supervisor from stopping it. On the supervisor's shard.
 */
#include <string.h>

#include "protocol/assert.h"
#include "runtime/memory.h"
#include "runtime/supervisor_internal.h"

#define BACKOFF_FIRST_US 100000U /* the second restart in a row; doubled by each further one */
#define BACKOFF_MAX_US 10000000U

tr_err tri_child_add(tri_supervisor *sup, const tr_child_spec *spec, tri_child **ret) {
    TR_ASSERT(spec->name != NULL && spec->behaviour != NULL);
    size_t name_size = strnlen(spec->name, TR_ACTOR_NAME_max);
    if (tri_child_by_name(sup, spec->name) != NULL) {
        return TR_ERR_EXISTS;
    }
    if (spec->significant &&
        (sup->auto_shutdown == TR_AUTO_SHUTDOWN_NEVER || spec->restart == TR_PERMANENT)) {
        return TR_ERR_INVALID;
    }
    if (sup->count == sup->room) {
        uint32_t room = sup->room == 0 ? 4 : sup->room * 2;
        tri_child **children = tr_realloc(sup->children, room * sizeof(tri_child *));
        if (children == NULL) {
            return TR_ERR_NOMEM;
        }
        sup->children = children;
        sup->room = room;
    }
    tri_child *child = tr_zalloc(sizeof *child + spec->args_size + name_size + 1);
    if (child == NULL) {
        return TR_ERR_NOMEM;
    }
    char *args = (char *)(child + 1);
    char *name = args + spec->args_size;
    if (spec->args_size > 0) {
        memcpy(args, spec->args, spec->args_size);
    }
    memcpy(name, spec->name, name_size);
    child->spec = *spec;
    child->spec.args = spec->args_size > 0 ? args : NULL;
    child->spec.name = name;
    child->serial = ++sup->next_serial;
    sup->children[sup->count++] = child;
    *ret = child;
    return TR_OK;
}

void tri_child_answer(tr_self *self, tri_child *child, tr_err err) {
    tr_msg *msg = child->answer;
    if (msg == NULL) {
        return;
    }
    child->answer = NULL;
    msg->kind = TR_KIND_STARTED;
    msg->flags = 0;
    msg->size = sizeof(tr_started_note);
    *(tr_started_note *)(void *)msg->data =
        (tr_started_note){.id = err == TR_OK ? child->id : TR_ID_NONE, .err = (uint32_t)err};
    tr_err sent = tr_send(self, msg->from, &msg);
    TR_ASSERT(sent == TR_OK); /* no bound refuses it */
}

void tri_child_remove(tri_supervisor *sup, tr_self *self, tri_child *child, tr_err err) {
    TR_ASSERT(child->state == TRI_CHILD_OFF);
    tri_child_answer(self, child, err);
    uint32_t i = 0;
    while (sup->children[i] != child) {
        i++;
    }
    memmove(&sup->children[i], &sup->children[i + 1], (sup->count - i - 1) * sizeof(tri_child *));
    sup->count--;
    tr_free(child);
}

void tri_child_set(tri_child *child, tri_child_state state) {
    static const bool may[TRI_CHILD_N][TRI_CHILD_N] = {
        [TRI_CHILD_OFF] = {[TRI_CHILD_STARTING] = true, [TRI_CHILD_WAITING] = true},
        [TRI_CHILD_WAITING] = {[TRI_CHILD_OFF] = true},
        [TRI_CHILD_STARTING] =
            {[TRI_CHILD_UP] = true, [TRI_CHILD_OFF] = true, [TRI_CHILD_STOPPING] = true},
        [TRI_CHILD_UP] = {[TRI_CHILD_OFF] = true, [TRI_CHILD_STOPPING] = true},
        [TRI_CHILD_STOPPING] = {[TRI_CHILD_OFF] = true},
    };
    TR_ASSERT(may[child->state][state]);
    child->state = state;
}

static uint32_t shard_of(const tri_child *child, const tr_self *self) {
    return child->spec.shard == TR_SHARD_SAME ? tr_self_shard(self) : child->spec.shard;
}

tr_err tri_child_start(tri_child *child, tr_self *self) {
    child->must_start = false;
    tri_child_set(child, TRI_CHILD_STARTING);
    if (shard_of(child, self) >= tr_node_shards(tr_self_node(self))) {
        return TR_ERR_INVALID;
    }
    TR_ASSERT(child->ask_msg == NULL && child->kill_msg == NULL);
    child->ask_msg = tr_exit_message();
    child->kill_msg = tr_exit_message();
    if (child->ask_msg == NULL || child->kill_msg == NULL) {
        return TR_ERR_NOMEM;
    }
    tr_spawn_spec spec = {.behaviour = child->spec.behaviour,
                          .args = child->spec.args,
                          .args_size = child->spec.args_size,
                          .name = child->spec.name,
                          .registers = child->spec.registers,
                          .mailbox_max = child->spec.mailbox_max,
                          .restarts = child->restarts};
    return tr_spawn_watched(self, shard_of(child, self), &spec, child->serial, &child->watch);
}

void tri_child_stop(tri_child *child, tr_self *self) {
    tri_child_set(child, TRI_CHILD_STOPPING);
    if (child->spec.shutdown_ms == TR_SHUTDOWN_BRUTAL) {
        tri_child_kill(child, self);
        return;
    }
    if (child->spec.shutdown_ms != TR_SHUTDOWN_INFINITY) {
        tr_err err = tr_timer_start(self, child->spec.shutdown_ms * (uint64_t)1000, TRI_TAG_KILL,
                                    &child->timer);
        if (err != TR_OK) {
            tri_child_kill(child, self); /* no limit could be kept */
            return;
        }
    }
    tr_msg *msg = child->ask_msg;
    child->ask_msg = NULL;
    tr_exit_watched(self, shard_of(child, self), child->watch, TR_ERR_SHUTDOWN, msg);
}

void tri_child_kill(tri_child *child, tr_self *self) {
    tr_msg *msg = child->kill_msg;
    if (msg != NULL) {
        child->kill_msg = NULL;
        tr_exit_watched(self, shard_of(child, self), child->watch, TR_ERR_CANCELLED, msg);
    }
}

void tri_child_off(tri_child *child, tr_self *self) {
    tri_child_set(child, TRI_CHILD_OFF);
    tr_timer_cancel(self, &child->timer);
    tr_msg_free(child->ask_msg);
    tr_msg_free(child->kill_msg);
    child->ask_msg = NULL;
    child->kill_msg = NULL;
    child->watch = 0;
    child->id = TR_ID_NONE;
    child->must_stop = false;
}

tri_child *tri_child_by_name(tri_supervisor *sup, const char *name) {
    for (uint32_t i = 0; i < sup->count; i++) {
        if (strncmp(sup->children[i]->spec.name, name, TR_ACTOR_NAME_max) == 0) {
            return sup->children[i];
        }
    }
    return NULL;
}

tri_child *tri_child_by_serial(tri_supervisor *sup, uint64_t serial) {
    for (uint32_t i = 0; i < sup->count; i++) {
        if (sup->children[i]->serial == serial) {
            return sup->children[i];
        }
    }
    return NULL;
}

tri_child *tri_child_by_watch(tri_supervisor *sup, uint64_t watch) {
    for (uint32_t i = 0; i < sup->count; i++) {
        if (sup->children[i]->watch == watch) {
            return sup->children[i];
        }
    }
    return NULL;
}

tri_child *tri_child_by_timer(tri_supervisor *sup, uint64_t timer) {
    for (uint32_t i = 0; i < sup->count; i++) {
        if (sup->children[i]->timer == timer) {
            return sup->children[i];
        }
    }
    return NULL;
}

uint64_t tri_child_backoff_us(tri_child *child, uint64_t now_us, uint64_t quiet_us) {
    if (child->up_since_us != 0 && now_us - child->up_since_us >= quiet_us) {
        child->streak = 0;
    }
    child->up_since_us = 0;
    uint32_t doublings = child->streak;
    child->streak++;
    child->restarts++;
    if (doublings == 0) {
        return 0;
    }
    uint64_t wait_us =
        doublings < 16 ? (uint64_t)BACKOFF_FIRST_US << (doublings - 1) : BACKOFF_MAX_US;
    return wait_us < BACKOFF_MAX_US ? wait_us : BACKOFF_MAX_US;
}
