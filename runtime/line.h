/*
 * The line before a gate (protocol/gate.h): every reservation is one holder, from RESERVE until
 * SETTLE or its call's DOWN. It waits in line, by priority and then in the order of coming, until
 * it is granted; then it counts as used. One way in, one way out. Part of a gate's state; its
 * functions are called from the gate's.
 */
#ifndef TR_RUNTIME_LINE_H
#define TR_RUNTIME_LINE_H

#include "protocol/gate.h"
#include "runtime/actor.h"

#define TR_LINE_BUCKETS 256U

typedef struct tr_holder {
    struct tr_holder *hash_next;
    struct tr_holder *next, *prev; /* in line, while it waits */
    tr_id call;
    uint64_t ref;
    uint64_t monitor;
    uint64_t came_us;
    uint64_t until_us; /* the call has given up then */
    tr_id avoid;       /* RESERVE's */
    tr_id backend;     /* set when granted */
    int8_t priority;
    bool granted;
} tr_holder;

typedef struct tr_line {
    tr_holder *buckets[TR_LINE_BUCKETS];
    tr_holder *head, *tail;
    uint32_t used;    /* granted and not released */
    uint32_t waiting; /* in line */
} tr_line;

/* Adds the sender of a RESERVE at its place in line and monitors it. TR_ERR_EXISTS: it stands there
 * already, or holds a grant. TR_ERR_NOMEM. */
TR_MUST_USE tr_err tr_line_add(tr_line *line, tr_self *self, const tr_msg *reserve);
/* NULL when there is none. */
tr_holder *tr_line_find(const tr_line *line, tr_id call, uint64_t ref);
/* Takes a waiting holder out of line and answers it with GRANTED. TR_ERR_NOMEM: it still waits. */
TR_MUST_USE tr_err tr_line_grant(tr_line *line, tr_self *self, tr_holder *holder, tr_id backend);
/* Takes a waiting holder out of line and answers it with `fail` (taken; NULL = no answer). */
void tr_line_refuse(tr_line *line, tr_self *self, tr_holder *holder, tr_msg *fail);
/* The way out: frees the holder. */
void tr_line_release(tr_line *line, tr_self *self, tr_holder *holder);
/* Releases all that `call` holds; how many grants that were. `fn` (or NULL) sees each before. */
typedef void tr_holder_fn(void *arg, const tr_holder *holder);
void tr_line_call_ended(tr_line *line, tr_self *self, tr_id call, tr_holder_fn *fn, void *arg);
/* Frees everything without a word: the calls see the gate's DOWN. */
void tr_line_fini(tr_line *line);

#endif
