/*
 * Monitors and links. Each has two ends (tie.h), one at either actor, found by ref in the table of
 * the shard that the actor lives on. MONITOR and LINK carry the far end, ready made, to the other
 * actor's shard; when an end goes, its own message tells the other: DEMONITOR, DOWN or LINK_END.
 * So making one may fail for lack of memory, undoing one never can. DOWN and LINK_END are dropped
 * where they arrive if the tie was undone meanwhile, which settles every race between the two
 * sides. Everything runs on the shard's thread.
 */
#include <string.h>

#include "protocol/assert.h"
#include "runtime/cell.h"
#include "runtime/memory.h"

void tri_ties_init(tri_ties *ties) {
    ties->buckets = ties->first;
    ties->bucket_count = TRI_TIES_first;
    ties->count = 0;
}

void tri_ties_fini(tri_ties *ties) {
    TR_ASSERT(ties->count == 0);
    if (ties->buckets != ties->first) {
        tr_free(ties->buckets);
    }
}

static tri_tie **bucket_of(tri_ties *ties, uint64_t ref) {
    uint64_t mixed = ref * 0x9e3779b97f4a7c15U;
    return &ties->buckets[(mixed >> 32) & (ties->bucket_count - 1)];
}

static tri_tie *find(tri_ties *ties, uint64_t ref, tri_tie_side side) {
    tri_tie *tie = *bucket_of(ties, ref);
    while (tie != NULL && (tie->ref != ref || tie->side != side)) {
        tie = tie->hash_next;
    }
    return tie;
}

/* Out of memory leaves the table as it is: other chains, nothing lost. */
static void rehash(tri_ties *ties, uint32_t bucket_count) {
    tri_ties other = {.bucket_count = bucket_count};
    if (bucket_count == TRI_TIES_first) {
        memset(ties->first, 0, sizeof ties->first);
        other.buckets = ties->first;
    } else {
        other.buckets = tr_zalloc(bucket_count * sizeof *other.buckets);
    }
    if (other.buckets == NULL) {
        return;
    }
    for (uint32_t i = 0; i < ties->bucket_count; i++) {
        for (tri_tie *tie = ties->buckets[i]; tie != NULL;) {
            tri_tie *next = tie->hash_next;
            tri_tie **bucket = bucket_of(&other, tie->ref);
            tie->hash_next = *bucket;
            *bucket = tie;
            tie = next;
        }
    }
    if (ties->buckets != ties->first) {
        tr_free(ties->buckets);
    }
    ties->buckets = other.buckets;
    ties->bucket_count = other.bucket_count;
}

static void insert(tr_self *self, tri_tie *tie) {
    tri_ties *ties = &self->shard->ties;
    TR_ASSERT(tie->owner == self->id);
    if (ties->count >= ties->bucket_count) {
        rehash(ties, ties->bucket_count * 4);
    }
    tri_tie **bucket = bucket_of(ties, tie->ref);
    tie->hash_next = *bucket;
    *bucket = tie;
    ties->count++;
    tie->prev = NULL;
    tie->next = self->ties;
    if (tie->next != NULL) {
        tie->next->prev = tie;
    }
    self->ties = tie;
}

static void take_out(tr_self *self, tri_tie *tie) {
    tri_ties *ties = &self->shard->ties;
    tri_tie **link = bucket_of(ties, tie->ref);
    while (*link != tie) {
        link = &(*link)->hash_next;
    }
    *link = tie->hash_next;
    ties->count--;
    if (tie->prev != NULL) {
        tie->prev->next = tie->next;
    } else {
        TR_ASSERT(self->ties == tie);
        self->ties = tie->next;
    }
    if (tie->next != NULL) {
        tie->next->prev = tie->prev;
    }
}

void tri_ties_shrink(tri_ties *ties) {
    uint32_t bucket_count = TRI_TIES_first;
    while (bucket_count <= ties->count) {
        bucket_count *= 4;
    }
    if (bucket_count < ties->bucket_count) {
        rehash(ties, bucket_count);
    }
}

static tr_msg *new_tie(uint16_t kind, tri_tie_side side, tr_id owner, tr_id other, uint64_t ref) {
    tr_msg *msg = tr_msg_new(kind, sizeof(tri_tie));
    if (msg != NULL) {
        *tri_msg_tie(msg) = (tri_tie){.ref = ref, .owner = owner, .other = other, .side = side};
        msg->flags = TR_MSG_LOCAL;
        msg->from = owner;
        msg->to = other;
        msg->ref = ref;
    }
    return msg;
}

static uint64_t next_ref(tr_shard *shard) {
    return ((uint64_t)(shard->number + 1) << 48) | ++shard->next_ref;
}

/* What a tie's end becomes for the other end. */
static const uint16_t endings[] = {[TRI_WATCHES] = TRI_KIND_DEMONITOR,
                                   [TRI_WATCHED_BY] = TR_KIND_DOWN,
                                   [TRI_LINKED] = TRI_KIND_LINK_END};

/* Turns a tie that is in no list any more into the news for its other end, and sends it. */
static void tell_other(tr_shard *shard, tri_tie *tie, tr_err reason) {
    tr_msg *msg = tri_tie_msg(tie);
    tri_tie told = *tie;
    *(tr_ended *)(void *)msg->data = (tr_ended){.reason = (uint32_t)reason};
    msg->size = sizeof(tr_ended);
    msg->kind = endings[told.side];
    msg->flags = 0;
    msg->to = told.other;
    msg->from = told.owner;
    msg->ref = told.ref;
    tri_route(shard, msg);
}

/* Both ends of a tie: one here, and one that travels to the other actor. */
static tr_err tie_to(tr_self *self, tr_id to, tri_tie_side near, tri_tie_side far,
                     uint64_t *ret_ref) {
    static const uint16_t news[] = {
        [TRI_WATCHED_BY] = TRI_KIND_MONITOR, [TRI_LINKED] = TRI_KIND_LINK};
    uint64_t ref = next_ref(self->shard);
    tr_msg *mine = new_tie(endings[near], near, self->id, to, ref);
    tr_msg *theirs = new_tie(news[far], far, to, self->id, ref);
    if (mine == NULL || theirs == NULL) {
        tr_msg_free(mine);
        tr_msg_free(theirs);
        return TR_ERR_NOMEM;
    }
    insert(self, tri_msg_tie(mine));
    *ret_ref = ref;
    theirs->from = self->id;
    theirs->to = to;
    tri_route(self->shard, theirs);
    return TR_OK;
}

tr_err tr_monitor(tr_self *self, tr_id to, uint64_t *ret_ref) {
    return tie_to(self, to, TRI_WATCHES, TRI_WATCHED_BY, ret_ref);
}

void tr_demonitor(tr_self *self, uint64_t ref) {
    tri_tie *tie = find(&self->shard->ties, ref, TRI_WATCHES);
    if (tie != NULL && tie->owner == self->id) {
        take_out(self, tie);
        tell_other(self->shard, tie, TR_OK);
    }
}

tr_err tr_link_to(tr_self *self, tr_id to) {
    if (to == self->id) {
        return TR_OK;
    }
    for (const tri_tie *tie = self->ties; tie != NULL; tie = tie->next) {
        if (tie->side == TRI_LINKED && tie->other == to) {
            return TR_OK;
        }
    }
    uint64_t ref;
    return tie_to(self, to, TRI_LINKED, TRI_LINKED, &ref);
}

void tr_unlink(tr_self *self, tr_id to) {
    tri_tie *tie = self->ties;
    while (tie != NULL) {
        tri_tie *next = tie->next;
        if (tie->side == TRI_LINKED && tie->other == to) {
            take_out(self, tie);
            tell_other(self->shard, tie, TR_OK);
        }
        tie = next;
    }
}

/* The other end is gone: ours goes too. False when it was undone before. */
static bool undo(tr_shard *shard, uint64_t ref, tri_tie_side side, tr_id owner) {
    tri_tie *tie = find(&shard->ties, ref, side);
    if (tie == NULL || (owner != TR_ID_NONE && tie->owner != owner)) {
        return false;
    }
    tr_self *self = tri_find(shard, tie->owner);
    TR_ASSERT(self != NULL); /* an actor's ties end with it */
    take_out(self, tie);
    tr_msg_free(tri_tie_msg(tie));
    return true;
}

static void link_ended(tr_shard *shard, tr_msg *msg) {
    tr_self *self = tri_find(shard, msg->to);
    /* Both ends of a link on one shard have the same ref and side: the owner tells them apart. */
    tri_tie *tie = self != NULL ? self->ties : NULL;
    while (tie != NULL && (tie->ref != msg->ref || tie->side != TRI_LINKED)) {
        tie = tie->next;
    }
    const tr_ended *ended = (const tr_ended *)(const void *)msg->data;
    if (tie == NULL) {
        tr_msg_free(msg);
        return;
    }
    take_out(self, tie);
    tr_msg_free(tri_tie_msg(tie));
    if (ended->reason == TR_OK) {
        tr_msg_free(msg);
        return;
    }
    msg->kind = TR_KIND_EXIT;
    tri_enqueue(self, msg);
}

static void exit_watched(tr_shard *shard, tr_msg *msg) {
    tri_tie *tie = find(&shard->ties, msg->ref, TRI_WATCHED_BY);
    tr_self *self = tie != NULL ? tri_find(shard, tie->owner) : NULL;
    const tr_ended *ended = (const tr_ended *)(const void *)msg->data;
    if (self == NULL) {
        tr_msg_free(msg);
    } else if (ended->reason == TR_ERR_CANCELLED) {
        tr_msg_free(msg);
        tri_end(self, TR_ERR_CANCELLED);
    } else {
        msg->kind = TR_KIND_EXIT;
        msg->to = self->id;
        tri_enqueue(self, msg);
    }
}

void tri_tie_told(tr_shard *shard, tr_msg *msg) {
    tr_self *self = tri_find(shard, msg->to);
    switch (msg->kind) {
    case TRI_KIND_MONITOR:
    case TRI_KIND_LINK:
        if (self != NULL) {
            insert(self, tri_msg_tie(msg));
        } else {
            tell_other(shard, tri_msg_tie(msg), TR_ERR_GONE);
        }
        return;
    case TRI_KIND_DEMONITOR:
        (void)undo(shard, msg->ref, TRI_WATCHED_BY, TR_ID_NONE);
        tr_msg_free(msg);
        return;
    case TRI_KIND_LINK_END:
        link_ended(shard, msg);
        return;
    case TRI_KIND_EXIT_WATCHED:
        exit_watched(shard, msg);
        return;
    default:
        TR_ASSERT(msg->kind == TR_KIND_DOWN);
        if (self != NULL && undo(shard, msg->ref, TRI_WATCHES, msg->to)) {
            tri_enqueue(self, msg);
        } else {
            tr_msg_free(msg);
        }
    }
}

void tri_tie_attach(tr_self *self, tr_msg *watch) {
    tri_tie *tie = tri_msg_tie(watch);
    tie->owner = self->id;
    insert(self, tie);
}

void tri_tie_refuse(tr_shard *shard, tr_msg *watch, tr_err reason) {
    tell_other(shard, tri_msg_tie(watch), reason);
}

void tri_ties_end(tr_self *self, tr_err reason) {
    while (self->ties != NULL) {
        tri_tie *tie = self->ties;
        take_out(self, tie);
        tell_other(self->shard, tie, reason);
    }
}

tr_err tr_spawn_watched(tr_self *self, uint32_t shard, const tr_spawn_spec *spec, uint64_t ref,
                        uint64_t *ret_watch) {
    tr_msg *msg;
    tr_err err = tri_spawn_message(spec, true, &msg);
    if (err != TR_OK) {
        return err;
    }
    uint64_t watch = next_ref(self->shard);
    tr_id there = tr_shard_id(self->shard->node, shard);
    tr_msg *mine = new_tie(TRI_KIND_DEMONITOR, TRI_WATCHES, self->id, there, watch);
    tr_msg *theirs = new_tie(TRI_KIND_MONITOR, TRI_WATCHED_BY, TR_ID_NONE, self->id, watch);
    ((tri_spawn *)(void *)msg->body->bytes)->watch = theirs;
    if (mine == NULL || theirs == NULL) {
        tr_msg_free(mine);
        tr_msg_free(msg);
        return TR_ERR_NOMEM;
    }
    insert(self, tri_msg_tie(mine));
    *ret_watch = watch;
    msg->to = there;
    msg->from = self->id;
    msg->ref = ref;
    tri_route(self->shard, msg);
    return TR_OK;
}

tr_msg *tr_exit_message(void) {
    return tr_msg_new(TRI_KIND_EXIT_WATCHED, sizeof(tr_ended));
}

void tr_exit_watched(tr_self *self, uint32_t shard, uint64_t watch, tr_err reason, tr_msg *msg) {
    *(tr_ended *)(void *)msg->data = (tr_ended){.reason = (uint32_t)reason};
    msg->to = tr_shard_id(self->shard->node, shard);
    msg->from = self->id;
    msg->ref = watch;
    tri_route(self->shard, msg);
}
