/*
 * A pool's reservations: what its line (runtime/line.h) cannot know, because it is about workers.
 *
 * A request whose worker died before it showed a new token is a suspect: it may be what kills
 * workers. It is let in only where every stream has shown a token since it was granted, and nobody
 * follows until it has shown one itself; so those who merely shared its worker always get on
 * between two crashes and never use up their resumes. Neither wait is longer than PATIENCE_US,
 * since a stream without credit shows no token, however well it is. Runs on the pool's shard.
 */
#include "inference/pool_line.h"

#include <string.h>

#include "protocol/assert.h"

#define PATIENCE_US 3000000U
#define OWED_US 1000000U /* an answer to a CANCEL that takes longer is a bad sign */

void tri_line_init(tri_pool *pool) {
    const tr_pool_spec *spec = &pool->plan->spec;
    pool->line = (tr_line){
        .name = spec->model, .holder_size = sizeof(tri_holder), .waiting_max = spec->waiting_max};
}

/* It has shown a token, or will show none any more. */
static void not_fresh(tri_holder *h) {
    if (h->member != NULL && h->fresh) {
        h->member->fresh--;
        h->member->quarantine_us = h->suspect ? 0 : h->member->quarantine_us;
    }
    h->fresh = false;
}

/* Gives its worker's sequence back. */
static void leave_member(tri_holder *h) {
    not_fresh(h);
    if (h->member != NULL) {
        TR_ASSERT(h->member->used > 0);
        h->member->used--;
    }
    h->member = NULL;
}

/* The same, when the worker may still be at it: the sequence is free when the worker says so. */
static void ask_back(tr_self *self, tri_holder *h) {
    tri_member *m = h->member;
    tr_msg *msg = m != NULL ? tr_msg_new(TRI_KIND_RETURN, sizeof(tri_stream_key)) : NULL;
    if (msg != NULL) {
        *(tri_stream_key *)msg->data = (tri_stream_key){.call = h->base.call, .ref = h->base.ref};
    }
    leave_member(h);
    if (m != NULL && tr_send_control(self, m->id, msg) == TR_OK) {
        m->used++;
        m->owed_us = m->owed++ == 0 ? tr_now_us(self) : m->owed_us;
    }
}

static void call_gone(void *arg, tr_holder *base) {
    ask_back(arg, (tri_holder *)base);
}

void tri_line_returned(tri_pool *pool, tr_id worker) {
    for (tri_member *m = pool->members; m != NULL; m = m->next) {
        if (m->id == worker) {
            TR_ASSERT(m->owed > 0 && m->used > 0);
            m->owed--;
            m->used--;
            return;
        }
    }
}

void tri_line_reserve(tr_self *self, tri_pool *pool, const tr_msg *msg) {
    tr_holder *parked = tr_line_find_at(&pool->line, msg->from, TR_PLACE_PARKED);
    if (parked != NULL) {
        tr_line_release(&pool->line, self, parked);
    }
    tr_holder *h = tr_line_reserve(&pool->line, self, msg, 0, parked != NULL);
    if (h != NULL) {
        ((tri_holder *)h)->suspect = parked != NULL;
    }
}

void tri_line_settle(tr_self *self, tri_pool *pool, const tr_msg *msg) {
    const tr_settle *settle = (const tr_settle *)msg->data;
    tr_holder *h = tr_line_find(&pool->line, msg->from, msg->ref);
    if (h == NULL) {
        return;
    }
    if ((settle->flags & TR_SETTLE_OWES) != 0) {
        ask_back(self, (tri_holder *)h);
    } else {
        leave_member((tri_holder *)h);
    }
    if (h->place == TR_PLACE_GRANTED && settle->err == TR_ERR_CRASHED && settle->progressed == 0) {
        tr_line_park(&pool->line, h);
    } else {
        tr_line_release(&pool->line, self, h);
    }
}

void tri_line_call_ended(tr_self *self, tri_pool *pool, tr_id call) {
    tr_line_call_ended(&pool->line, self, call, call_gone, self);
}

void tri_line_first_token(tri_pool *pool, tr_id worker, const tri_stream_key *first) {
    tri_holder *h = (tri_holder *)tr_line_find(&pool->line, first->call, first->ref);
    if (h != NULL && h->member != NULL && h->member->id == worker) {
        not_fresh(h);
        h->suspect = false;
    }
}

void tri_line_member_gone(tri_pool *pool, const tri_member *member) {
    for (uint32_t i = 0; i < TR_LINE_BUCKETS; i++) {
        for (tr_holder *h = pool->line.buckets[i]; h != NULL; h = h->hash_next) {
            if (((tri_holder *)h)->member == member) {
                ((tri_holder *)h)->member = NULL; /* the holder stays until its call settles */
            }
        }
    }
}

static bool takes(const tri_member *m, const tri_holder *h, uint64_t now_us) {
    bool answers = m->owed == 0 || now_us < m->owed_us + OWED_US;
    bool welcome = !h->suspect || m->fresh == 0 || now_us >= h->base.came_us + PATIENCE_US;
    return m->note.state == TRI_WORKER_READY && !m->leaving && now_us >= m->quarantine_us &&
           m->used < m->note.sequences && answers && welcome;
}

/* The least loaded, as a share of its sequences; the one to avoid only when there is no other. */
static tri_member *pick(const tri_pool *pool, const tri_holder *h, uint64_t now_us) {
    tri_member *best = NULL;
    for (tri_member *m = pool->members; m != NULL; m = m->next) {
        if (!takes(m, h, now_us)) {
            continue;
        }
        bool lighter = best == NULL || (uint64_t)m->used * best->note.sequences <
                                           (uint64_t)best->used * m->note.sequences;
        bool avoids = best != NULL && best->id == h->base.avoid;
        if ((lighter || avoids) && (best == NULL || m->id != h->base.avoid)) {
            best = m;
        }
    }
    return best;
}

static tr_err grant(tr_self *self, tri_pool *pool, tri_holder *h, tri_member *m) {
    tr_granted granted = {.backend = m->id};
    memcpy(&granted.model, pool->digest, sizeof granted.model);
    h->member = m;
    h->fresh = true;
    m->used++;
    m->fresh++;
    m->quarantine_us = h->suspect ? tr_now_us(self) + PATIENCE_US : m->quarantine_us;
    return tr_line_grant(&pool->line, self, &h->base, granted);
}

bool tri_line_is_patient(const tri_pool *pool) {
    const tri_holder *head = (const tri_holder *)tr_line_peek(&pool->line);
    bool patient = head != NULL && head->suspect;
    for (const tri_member *m = pool->members; m != NULL; m = m->next) {
        patient = patient || (head != NULL && m->quarantine_us != 0);
    }
    return patient;
}

void tri_line_advance(tr_self *self, tri_pool *pool) {
    tri_holder *h;
    while ((h = (tri_holder *)tr_line_next(&pool->line, self)) != NULL) {
        tri_member *m = pick(pool, h, tr_now_us(self));
        if (m == NULL) {
            return;
        }
        if (grant(self, pool, h, m) != TR_OK) {
            leave_member(h);
            tr_line_refuse(&pool->line, self, &h->base,
                           tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        }
    }
}
