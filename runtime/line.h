/*
 * The line before a gate (protocol/gate.h): every reservation is one holder, from RESERVE until
 * SETTLE or its call's DOWN. It waits in line, until its time has passed or it is granted; then it
 * counts as used. In line stand first those in the middle of an answer, then by priority, then
 * those whose backend died; among equals one client's turn follows another's, and a client's own go
 * in the order of their coming. What a gate may hold by itself (one of a provider's models) has an
 * aisle, which delays no other. One way in, one way out. Part of a gate's state; its functions are
 * called from the gate's.
 */
#ifndef TR_RUNTIME_LINE_H
#define TR_RUNTIME_LINE_H

#include "protocol/gate.h"
#include "runtime/actor.h"
#include "runtime/dues.h"
#include "runtime/turns.h"

#define TR_LINE_BUCKETS 256U

typedef enum tr_place {
    TR_PLACE_WAITING = 1,
    TR_PLACE_GRANTED,
    TR_PLACE_PARKED, /* it holds nothing; the gate remembers it */
} tr_place;

/* A gate's own holder may begin with one: tr_line.holder_size. */
typedef struct tr_holder {
    struct tr_holder *hash_next;
    tr_turn turn; /* while it waits */
    tr_due until; /* the same: the call has given up then */
    tr_id call;
    uint64_t ref;
    uint64_t monitor;
    uint64_t came_us;
    tr_id avoid; /* RESERVE's, as are the next three */
    int8_t priority;
    bool mid_answer;
    bool resumed;
    bool behind; /* tr_line_reserve's */
    tr_place place;
} tr_holder;

typedef struct tr_line {
    /* set by the gate's init */
    const char *name;     /* what they wait for, in FAILs */
    size_t holder_size;   /* at least a tr_holder's; what comes behind begins as zeros */
    uint32_t waiting_max; /* newcomers beyond it are refused; mid-answer it binds nobody */
    /* Sees every holder before it is freed, whatever its end, but for tr_line_fini; may be NULL. It
     * must not change the line. */
    void (*released)(void *arg, tr_self *self, tr_holder *holder);
    /* Whether the aisle of this one, who is the first in it, is held for now; NULL = none ever is.
     */
    bool (*held)(void *arg, tr_self *self, const tr_holder *holder);
    void *arg;
    /* the line's */
    tr_holder *buckets[TR_LINE_BUCKETS];
    tr_turns turns;
    tr_dues late;
    uint32_t used;      /* granted and not released */
    uint32_t waiting;   /* in line */
    uint32_t returning; /* of them, those who were granted before: resumed, or mid-answer */
    uint64_t granted;   /* so far */
} tr_line;

/* Adds the sender of a RESERVE at its place in line and monitors it, or refuses it: the line is
 * full, or memory. A second RESERVE of one name changes nothing. `aisle` is below TR_TURNS_AISLES.
 * `behind`: after all others of its kind and priority that had to leave a dead backend. The holder,
 * or NULL when there is no new one. */
tr_holder *tr_line_reserve(tr_line *line, tr_self *self, const tr_msg *reserve, uint32_t aisle,
                           bool behind);
/* NULL when there is none. */
tr_holder *tr_line_find(const tr_line *line, tr_id call, uint64_t ref);
/* Any of a call's that is in this place; or NULL. */
tr_holder *tr_line_find_at(const tr_line *line, tr_id call, tr_place place);
/* Who is next of those whose aisles are not held: those whose time has passed are refused before.
 * NULL: nobody. */
tr_holder *tr_line_next(tr_line *line, tr_self *self);
/* The first of all, who may be held, or late already, and nobody is refused. */
const tr_holder *tr_line_peek(const tr_line *line);
/* Takes a waiting holder out of line and answers it with GRANTED; queue_ms is filled in. An error
 * means that it was not told: refuse it. */
TR_MUST_USE tr_err tr_line_grant(tr_line *line, tr_self *self, tr_holder *holder, tr_granted grant);
/* A granted one gives back what it holds and stays. */
void tr_line_park(tr_line *line, tr_holder *holder);
/* Releases a holder and answers it with `fail` (taken; NULL = no memory, and no answer). */
void tr_line_refuse(tr_line *line, tr_self *self, tr_holder *holder, tr_msg *fail);
/* Everyone who waits gets this FAIL. */
void tr_line_refuse_all(tr_line *line, tr_self *self, tr_err err, const char *why);
/* The FAIL of `why` for each that waits and of which it returns one; it may return NULL. */
typedef tr_msg *tr_holder_why_fn(void *arg, const tr_holder *holder);
void tr_line_refuse_some(tr_line *line, tr_self *self, tr_holder_why_fn *why, void *arg);
/* The way out: frees the holder. */
void tr_line_release(tr_line *line, tr_self *self, tr_holder *holder);
/* Releases all that `call` holds. `fn` (or NULL) sees each before. */
typedef void tr_holder_fn(void *arg, tr_holder *holder);
void tr_line_call_ended(tr_line *line, tr_self *self, tr_id call, tr_holder_fn *fn, void *arg);
/* Frees everything without a word: the calls see the gate's DOWN. */
void tr_line_fini(tr_line *line);

#endif
