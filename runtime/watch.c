/*
 * File descriptors on a shard's epoll, for the doors above (curl, pidfds). A table by descriptor
 * says whose function runs. An event names the descriptor and the generation of its watch, so one
 * that was already fetched when its watch ended, and its number was taken by another, is dropped.
 * Everything runs on the shard's thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "protocol/assert.h"
#include "runtime/cell.h"
#include "runtime/memory.h"

#define ROOM_first 64U

static uint64_t key_of(const tr_shard *shard, int fd) {
    return ((uint64_t)shard->fds[fd].generation << 32) | (uint32_t)fd;
}

static tr_err make_room(tr_shard *shard, uint32_t fd) {
    if (fd < shard->fd_room) {
        return TR_OK;
    }
    uint32_t room = shard->fd_room == 0 ? ROOM_first : shard->fd_room;
    while (room <= fd) {
        room *= 2;
    }
    tri_fd *fds = tr_realloc(shard->fds, room * sizeof *fds);
    if (fds == NULL) {
        return TR_ERR_NOMEM;
    }
    memset(fds + shard->fd_room, 0, (room - shard->fd_room) * sizeof *fds);
    shard->fds = fds;
    shard->fd_room = room;
    return TR_OK;
}

tr_err tr_watch(tr_self *self, int fd, uint32_t events, tr_watch_fn *fn) {
    return tri_watch(self, fd, events, fn, NULL);
}

tr_err tri_watch(tr_self *self, int fd, uint32_t events, tr_watch_fn *fn, void *arg) {
    tr_shard *shard = self->shard;
    if (shard->epoll_fd < 0) {
        return TR_ERR_UNSUPPORTED;
    }
    if (fd < 0) {
        return TR_ERR_INVALID;
    }
    tr_err err = make_room(shard, (uint32_t)fd);
    if (err != TR_OK) {
        return err;
    }
    tri_fd *watch = &shard->fds[fd];
    if (watch->owner != TR_ID_NONE) {
        return TR_ERR_EXISTS;
    }
    /* Generation 0 with the eventfd's key would be taken for the wake: start at 1. */
    shard->fd_generation = shard->fd_generation + 1 == 0 ? 1 : shard->fd_generation + 1;
    watch->generation = shard->fd_generation;
    struct epoll_event event = {.events = events, .data.u64 = key_of(shard, fd)};
    if (epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return errno == ENOMEM || errno == ENOSPC ? TR_ERR_NOMEM : TR_ERR_IO;
    }
    watch->owner = self->id;
    watch->fn = fn;
    watch->arg = arg;
    self->watches++;
    shard->fd_count++;
    return TR_OK;
}

static tri_fd *mine(tr_self *self, int fd) {
    tr_shard *shard = self->shard;
    if (fd < 0 || (uint32_t)fd >= shard->fd_room || shard->fds[fd].owner != self->id) {
        return NULL;
    }
    return &shard->fds[fd];
}

tr_err tr_watch_change(tr_self *self, int fd, uint32_t events) {
    if (mine(self, fd) == NULL) {
        return TR_ERR_NOT_FOUND;
    }
    struct epoll_event event = {.events = events, .data.u64 = key_of(self->shard, fd)};
    return epoll_ctl(self->shard->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0 ? TR_OK : TR_ERR_IO;
}

void tr_unwatch(tr_self *self, int fd) {
    tri_fd *watch = mine(self, fd);
    if (watch == NULL) {
        return;
    }
    /* A descriptor that was closed first left the epoll by itself. */
    (void)epoll_ctl(self->shard->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    watch->owner = TR_ID_NONE;
    watch->fn = NULL;
    self->watches--;
    self->shard->fd_count--;
}

void tri_watches_shrink(tr_shard *shard) {
    uint32_t used = shard->fd_room, room = ROOM_first;
    while (used > 0 && shard->fds[used - 1].owner == TR_ID_NONE) {
        used--;
    }
    while (room < used) {
        room *= 2;
    }
    tri_fd *fds = room < shard->fd_room ? tr_realloc(shard->fds, room * sizeof *fds) : NULL;
    if (fds != NULL) {
        shard->fds = fds;
        shard->fd_room = room;
    }
}

void tri_watches_end(tr_self *self) {
    for (uint32_t fd = 0; self->watches > 0 && fd < self->shard->fd_room; fd++) {
        tr_unwatch(self, (int)fd);
    }
    TR_ASSERT(self->watches == 0);
}

void tri_watch_event(tr_shard *shard, uint64_t key, uint32_t events) {
    uint32_t fd = (uint32_t)key;
    if (fd >= shard->fd_room || shard->fds[fd].generation != (uint32_t)(key >> 32) ||
        shard->fds[fd].owner == TR_ID_NONE) {
        return;
    }
    tr_self *self = tri_find(shard, shard->fds[fd].owner);
    TR_ASSERT(self != NULL); /* an actor's watches end with it */
    void *arg = shard->fds[fd].arg;
    self->running++;
    shard->fds[fd].fn(self, arg != NULL ? arg : self->state, (int)fd, events);
    tri_leave(self);
}
