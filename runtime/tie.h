/*
 * A tie is one end of a monitor or a link, kept on the shard of the actor whose end it is. It lies
 * in the data of a message: the message that will tell the other end when this one goes. So the
 * end of an actor allocates nothing and no DOWN can be lost to a lack of memory. Internal to
 * runtime/.
 */
#ifndef TR_RUNTIME_TIE_H
#define TR_RUNTIME_TIE_H

#include "runtime/msg.h"

typedef enum tri_tie_side {
    TRI_WATCHES,    /* the watcher's end of a monitor; its message becomes DEMONITOR */
    TRI_WATCHED_BY, /* the watched one's; its message becomes DOWN */
    TRI_LINKED,     /* either end of a link; its message becomes LINK_END */
} tri_tie_side;

typedef struct tri_tie {
    uint64_t ref;
    tr_id owner; /* whose list this is in */
    tr_id other; /* the other end, or the shard that it is on when its id is not known yet */
    struct tri_tie *hash_next;
    struct tri_tie *next, *prev;
    tri_tie_side side;
} tri_tie;

#define TRI_TIES_first 64U

/* The ties of a shard's actors, by (ref, side). */
typedef struct tri_ties {
    tri_tie *first[TRI_TIES_first]; /* the buckets until there are more */
    tri_tie **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
} tri_ties;

static inline tr_msg *tri_tie_msg(tri_tie *tie) {
    return (tr_msg *)(void *)((char *)tie - offsetof(tr_msg, data));
}

static inline tri_tie *tri_msg_tie(tr_msg *msg) {
    return (tri_tie *)(void *)msg->data;
}

#endif
