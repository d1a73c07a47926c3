/*
 * The line of line.h: a hash table of holders by call; among them those who wait, whose order is
 * turns.h's and whose deadlines are a heap. Every step is constant, or logarithmic for the heap.
 *
 * A call in the middle of its answer goes before everybody and is bound by no length: it was let in
 * once, somebody reads its stream, and what has been said cannot be taken back, so to refuse it for
 * want of room would turn an accepted request into a broken one. There are never more of them than
 * running requests, and their deadline holds as everybody's does.
 */
#include "runtime/line.h"

#include <inttypes.h>
#include <stddef.h>

#include "protocol/assert.h"
#include "runtime/memory.h"

static tr_holder **bucket_of(const tr_line *line, tr_id call) {
    uint32_t key = tr_id_slot(call) ^ tr_id_shard(call) * 31U;
    return (tr_holder **)&line->buckets[key % TR_LINE_BUCKETS];
}

tr_holder *tr_line_find(const tr_line *line, tr_id call, uint64_t ref) {
    tr_holder *at = *bucket_of(line, call);
    while (at != NULL && (at->call != call || at->ref != ref)) {
        at = at->hash_next;
    }
    return at;
}

tr_holder *tr_line_find_at(const tr_line *line, tr_id call, tr_place place) {
    tr_holder *at = *bucket_of(line, call);
    while (at != NULL && (at->call != call || at->place != place)) {
        at = at->hash_next;
    }
    return at;
}

static bool is_returning(const tr_holder *h) {
    return h->mid_answer || h->resumed;
}

/* Lower goes first: mid-answer, then by priority, then who had to leave a dead backend. */
static uint32_t lane_of(const tr_holder *h) {
    uint32_t by_priority = (uint32_t)(INT8_MAX - h->priority) * 2;
    uint32_t newcomers = is_returning(h) && !h->behind ? 0 : 1;
    return (h->mid_answer ? 0 : TR_TURNS_LANES / 2) + by_priority + newcomers;
}

static tr_holder *of_turn(tr_turn *turn) {
    return turn != NULL ? (tr_holder *)((char *)turn - offsetof(tr_holder, turn)) : NULL;
}

static tr_holder *of_due(tr_due *due) {
    return due != NULL ? (tr_holder *)((char *)due - offsetof(tr_holder, until)) : NULL;
}

TR_MUST_USE static tr_err stand_in_line(tr_line *line, tr_holder *h, uint32_t aisle,
                                        uint64_t client) {
    tr_err err = tr_dues_add(&line->late, &h->until);
    if (err != TR_OK) {
        return err;
    }
    err = tr_turns_add(&line->turns, &h->turn, aisle, lane_of(h), client);
    if (err != TR_OK) {
        tr_dues_remove(&line->late, &h->until);
        return err;
    }
    h->place = TR_PLACE_WAITING;
    line->waiting++;
    line->returning += is_returning(h);
    return TR_OK;
}

static void leave_line(tr_line *line, tr_holder *h, bool served) {
    TR_ASSERT(h->place == TR_PLACE_WAITING && line->waiting > 0);
    if (served) {
        tr_turns_served(&line->turns, &h->turn);
    } else {
        tr_turns_leave(&line->turns, &h->turn);
    }
    tr_dues_remove(&line->late, &h->until);
    line->waiting--;
    line->returning -= is_returning(h);
}

/* Without memory for the answer the call's own deadline ends it. */
static void answer(tr_self *self, tr_id call, uint64_t ref, tr_msg *fail) {
    if (fail != NULL) {
        fail->ref = ref;
        (void)tr_send_control(self, call, fail);
    }
}

static void drop_late(tr_line *line, tr_self *self) {
    uint64_t now = tr_now_us(self);
    tr_holder *h;
    while ((h = of_due(tr_dues_first(&line->late))) != NULL && h->until.us <= now) {
        tr_line_refuse(line, self, h,
                       tr_msg_failf(TR_ERR_TIMEOUT, "the time limit passed while it waited for %s",
                                    line->name));
    }
}

static bool has_room(tr_line *line, tr_self *self) {
    if (line->waiting >= line->waiting_max) {
        drop_late(line, self);
    }
    return line->waiting < line->waiting_max;
}

tr_holder *tr_line_reserve(tr_line *line, tr_self *self, const tr_msg *reserve, uint32_t aisle,
                           bool behind) {
    const tr_reserve *want = (const tr_reserve *)reserve->data;
    TR_ASSERT(line->name != NULL && line->holder_size >= sizeof(tr_holder));
    if (tr_line_find(line, reserve->from, reserve->ref) != NULL) {
        return NULL; /* asked twice: the first stands */
    }
    if (want->mid_answer == 0 && !has_room(line, self)) {
        answer(self, reserve->from, reserve->ref,
               tr_msg_failf(TR_ERR_OVERLOADED,
                            "%" PRIu32 " requests of %s run and %" PRIu32 " wait: try again later",
                            line->used, line->name, line->waiting));
        return NULL;
    }
    tr_holder *h = tr_zalloc(line->holder_size);
    if (h == NULL || tr_monitor(self, reserve->from, &h->monitor) != TR_OK) {
        tr_free(h);
        answer(self, reserve->from, reserve->ref, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        return NULL;
    }
    h->call = reserve->from;
    h->ref = reserve->ref;
    h->came_us = tr_now_us(self);
    h->until.us = h->came_us + (uint64_t)want->remaining_ms * 1000;
    h->avoid = want->avoid;
    h->priority = want->priority;
    h->mid_answer = want->mid_answer != 0;
    h->resumed = want->resumes > 0;
    h->behind = behind;
    if (stand_in_line(line, h, aisle, want->client) != TR_OK) {
        tr_demonitor(self, h->monitor);
        tr_free(h);
        answer(self, reserve->from, reserve->ref, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        return NULL;
    }
    tr_holder **bucket = bucket_of(line, h->call);
    h->hash_next = *bucket;
    *bucket = h;
    return h;
}

typedef struct looker {
    const tr_line *line;
    tr_self *self;
} looker;

static bool is_held(void *arg, const tr_turn *turn) {
    const looker *l = arg;
    const tr_holder *h = (const tr_holder *)((const char *)turn - offsetof(tr_holder, turn));
    return l->line->held(l->line->arg, l->self, h);
}

tr_holder *tr_line_next(tr_line *line, tr_self *self) {
    drop_late(line, self);
    looker l = {line, self};
    return of_turn(tr_turns_first(&line->turns, line->held != NULL ? is_held : NULL, &l));
}

const tr_holder *tr_line_peek(const tr_line *line) {
    return of_turn(tr_turns_first(&line->turns, NULL, NULL));
}

tr_err tr_line_grant(tr_line *line, tr_self *self, tr_holder *holder, tr_granted grant) {
    uint64_t waited_ms = (tr_now_us(self) - holder->came_us) / 1000;
    tr_msg *msg = tr_msg_new(TR_KIND_GRANTED, sizeof(tr_granted));
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    grant.queue_ms = waited_ms < UINT32_MAX ? (uint32_t)waited_ms : UINT32_MAX;
    *(tr_granted *)msg->data = grant;
    msg->ref = holder->ref;
    leave_line(line, holder, true);
    holder->place = TR_PLACE_GRANTED;
    line->used++;
    line->granted++;
    return tr_send_control(self, holder->call, msg);
}

void tr_line_park(tr_line *line, tr_holder *holder) {
    TR_ASSERT(holder->place == TR_PLACE_GRANTED && line->used > 0);
    line->used--;
    holder->place = TR_PLACE_PARKED;
}

void tr_line_release(tr_line *line, tr_self *self, tr_holder *holder) {
    tr_holder **at = bucket_of(line, holder->call);
    while (*at != holder) {
        at = &(*at)->hash_next;
    }
    *at = holder->hash_next;
    if (line->released != NULL) {
        line->released(line->arg, self, holder);
    }
    if (holder->place == TR_PLACE_GRANTED) {
        tr_line_park(line, holder);
    } else if (holder->place == TR_PLACE_WAITING) {
        leave_line(line, holder, false);
    }
    tr_demonitor(self, holder->monitor);
    tr_free(holder);
}

void tr_line_refuse(tr_line *line, tr_self *self, tr_holder *holder, tr_msg *fail) {
    answer(self, holder->call, holder->ref, fail);
    tr_line_release(line, self, holder);
}

void tr_line_refuse_all(tr_line *line, tr_self *self, tr_err err, const char *why) {
    tr_holder *h;
    while ((h = of_turn(tr_turns_first(&line->turns, NULL, NULL))) != NULL) {
        tr_line_refuse(line, self, h, tr_msg_failf(err, "%s", why));
    }
}

void tr_line_refuse_some(tr_line *line, tr_self *self, tr_holder_why_fn *why, void *arg) {
    for (size_t i = 0; i < TR_LINE_BUCKETS; i++) {
        tr_holder *next;
        for (tr_holder *h = line->buckets[i]; h != NULL; h = next) {
            next = h->hash_next;
            tr_msg *fail = h->place == TR_PLACE_WAITING ? why(arg, h) : NULL;
            if (fail != NULL) {
                tr_line_refuse(line, self, h, fail);
            }
        }
    }
}

void tr_line_call_ended(tr_line *line, tr_self *self, tr_id call, tr_holder_fn *fn, void *arg) {
    tr_holder *next;
    for (tr_holder *at = *bucket_of(line, call); at != NULL; at = next) {
        next = at->hash_next;
        if (at->call == call) {
            if (fn != NULL) {
                fn(arg, at);
            }
            tr_line_release(line, self, at);
        }
    }
}

void tr_line_fini(tr_line *line) {
    for (size_t i = 0; i < TR_LINE_BUCKETS; i++) {
        while (line->buckets[i] != NULL) {
            tr_holder *next = line->buckets[i]->hash_next;
            tr_free(line->buckets[i]); /* its monitor ends with the gate's actor */
            line->buckets[i] = next;
        }
    }
    tr_dues_fini(&line->late);
    tr_turns_fini(&line->turns);
}
