/*
 * The books of a pool: every reservation is one holder, from RESERVE until SETTLE or the call's
 * DOWN, in a hash table by call; while it waits it also stands in the line: by priority, then those
 * that had to leave a dead worker, then in the order of their coming. A sequence has one way in and
 * one way out.
 *
 * A request whose worker died before it showed a new token is a suspect: it may be what kills
 * workers. It is let in only where every stream has shown a token since it was granted, and nobody
 * follows until it has shown one itself; so those who merely shared its worker always get on
 * between two crashes and never use up their resumes. Neither wait is longer than PATIENCE_US,
 * since a stream without credit shows no token, however well it is. Runs on the pool's shard.
 */
#include <inttypes.h>
#include <stdio.h>

#include "inference/pool_line.h"

#include <string.h>
#include "protocol/assert.h"
#include "runtime/memory.h"

#define PATIENCE_US 3000000U

static tri_holder **bucket_of(tri_line *line, tr_id call) {
    return &line->buckets[(tr_id_slot(call) ^ tr_id_shard(call) * 31U) % TRI_HOLDER_BUCKETS];
}

static tri_holder **find(tri_line *line, tr_id call, uint64_t ref) {
    tri_holder **at = bucket_of(line, call);
    while (*at != NULL && ((*at)->call != call || (*at)->ref != ref)) {
        at = &(*at)->hash_next;
    }
    return at;
}

static bool before(const tri_holder *a, const tri_holder *b) {
    return a->priority > b->priority || (a->priority == b->priority && a->resumed && !b->resumed);
}

static void line_insert(tri_line *line, tri_holder *h) {
    tri_holder *after = line->tail;
    while (after != NULL && before(h, after)) {
        after = after->line_prev;
    }
    h->line_prev = after;
    h->line_next = after != NULL ? after->line_next : line->head;
    *(h->line_next != NULL ? &h->line_next->line_prev : &line->tail) = h;
    *(after != NULL ? &after->line_next : &line->head) = h;
    h->place = TRI_WAITING;
    line->waiting++;
}

static void line_remove(tri_line *line, tri_holder *h) {
    TR_ASSERT(h->place == TRI_WAITING && line->waiting > 0);
    h->place = TRI_CALLED;
    *(h->line_prev != NULL ? &h->line_prev->line_next : &line->head) = h->line_next;
    *(h->line_next != NULL ? &h->line_next->line_prev : &line->tail) = h->line_prev;
    h->line_next = h->line_prev = NULL;
    line->waiting--;
}

/* It has shown a token, or will show none any more. */
static void not_fresh(tri_holder *h) {
    if (h->member != NULL && h->fresh) {
        h->member->fresh--;
        h->member->quarantine_us = h->suspect ? 0 : h->member->quarantine_us;
    }
    h->fresh = false;
}

/* Gives back what it holds; it stays in the table. */
static void give_back(tri_line *line, tri_holder *h) {
    if (h->place == TRI_WAITING) {
        line_remove(line, h);
    } else if (h->place == TRI_GRANTED) {
        not_fresh(h);
        TR_ASSERT(line->granted > 0);
        line->granted--;
        if (h->member != NULL) {
            TR_ASSERT(h->member->used > 0);
            h->member->used--;
        }
    }
    h->member = NULL;
}

/* The one way out of a holder. */
static void release(tr_self *self, tri_line *line, tri_holder **at) {
    tri_holder *h = *at;
    TR_ASSERT(h != NULL);
    give_back(line, h);
    *at = h->hash_next;
    tr_demonitor(self, h->monitor);
    tr_free(h);
}

static void refuse(tr_self *self, tr_id call, uint64_t ref, tr_msg *fail) {
    if (fail != NULL) {
        fail->ref = ref;
    }
    (void)tr_send_control(self, call, fail); /* without memory for it the call's deadline ends it */
}

/* Takes a call's memory of a dead worker out. True: there was one. */
static bool recall(tr_self *self, tri_line *line, tr_id call) {
    for (tri_holder **at = bucket_of(line, call); *at != NULL; at = &(*at)->hash_next) {
        if ((*at)->call == call && (*at)->place == TRI_REMEMBERED) {
            release(self, line, at);
            return true;
        }
    }
    return false;
}

static void drop_expired(tr_self *self, tri_pool *pool) {
    uint64_t now = tr_now_us(self);
    tri_holder *next = NULL;
    for (tri_holder *h = pool->line.head; h != NULL; h = next) {
        next = h->line_next;
        if (h->until_us <= now) {
            refuse(self, h->call, h->ref,
                   tr_msg_failf(TR_ERR_TIMEOUT, "the time limit passed while it waited for %s",
                                pool->plan->spec.model));
            release(self, &pool->line, find(&pool->line, h->call, h->ref));
        }
    }
}

tr_err tri_line_reserve(tr_self *self, tri_pool *pool, const tr_msg *msg) {
    const tr_reserve *want = (const tr_reserve *)msg->data;
    tri_line *line = &pool->line;
    bool suspect = recall(self, line, msg->from);
    if (*find(line, msg->from, msg->ref) != NULL) {
        return TR_OK; /* asked twice: the first stands */
    }
    if (line->waiting >= pool->plan->spec.waiting_max) {
        drop_expired(self, pool);
    }
    if (line->waiting >= pool->plan->spec.waiting_max) {
        refuse(self, msg->from, msg->ref,
               tr_msg_failf(TR_ERR_OVERLOADED,
                            "%" PRIu32 " requests of %s run and %" PRIu32 " wait: try again later",
                            line->granted, pool->plan->spec.model, line->waiting));
        return TR_OK;
    }
    tri_holder *h = tr_zalloc(sizeof *h);
    if (h == NULL || tr_monitor(self, msg->from, &h->monitor) != TR_OK) {
        tr_free(h);
        refuse(self, msg->from, msg->ref, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        return TR_OK;
    }
    h->call = msg->from;
    h->ref = msg->ref;
    h->came_us = tr_now_us(self);
    h->until_us = h->came_us + (uint64_t)want->remaining_ms * 1000;
    h->priority = want->priority;
    h->avoid = want->avoid;
    h->suspect = suspect;
    h->resumed = want->resumes > 0 && !suspect;
    tri_holder **bucket = bucket_of(line, h->call);
    h->hash_next = *bucket;
    *bucket = h;
    line_insert(line, h);
    return TR_OK;
}

void tri_line_settle(tr_self *self, tri_pool *pool, const tr_msg *msg) {
    const tr_settle *settle = (const tr_settle *)msg->data;
    tri_holder **at = find(&pool->line, msg->from, msg->ref);
    if (*at == NULL) {
        return;
    }
    bool crashed = settle->err == TR_ERR_CRASHED && settle->progressed == 0;
    if ((*at)->place == TRI_GRANTED && crashed) {
        give_back(&pool->line, *at);
        (*at)->place = TRI_REMEMBERED;
        return;
    }
    release(self, &pool->line, at);
}

void tri_line_call_ended(tr_self *self, tri_pool *pool, tr_id call) {
    tri_holder **at = bucket_of(&pool->line, call);
    while (*at != NULL) {
        if ((*at)->call == call) {
            release(self, &pool->line, at);
        } else {
            at = &(*at)->hash_next;
        }
    }
}

void tri_line_first_token(tri_pool *pool, tr_id worker, const tri_first_token *first) {
    tri_holder *h = *find(&pool->line, first->call, first->ref);
    if (h != NULL && h->member != NULL && h->member->id == worker) {
        not_fresh(h);
        h->suspect = false;
    }
}

void tri_line_member_gone(tri_pool *pool, const tri_member *member) {
    for (uint32_t i = 0; i < TRI_HOLDER_BUCKETS; i++) {
        for (tri_holder *h = pool->line.buckets[i]; h != NULL; h = h->hash_next) {
            if (h->member == member) {
                h->member = NULL; /* the holder stays until its call settles */
            }
        }
    }
}

static bool takes(const tri_member *m, const tri_holder *h, uint64_t now_us) {
    bool welcome = !h->suspect || m->fresh == 0 || now_us >= h->came_us + PATIENCE_US;
    return m->note.state == TRI_WORKER_READY && !m->leaving && now_us >= m->quarantine_us &&
           m->used < m->note.sequences && welcome;
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
        bool avoids = best != NULL && best->id == h->avoid;
        if ((lighter || avoids) && (best == NULL || m->id != h->avoid)) {
            best = m;
        }
    }
    return best;
}

static bool grant(tr_self *self, tri_pool *pool, tri_holder *h, tri_member *m) {
    tr_msg *msg = tr_msg_new(TR_KIND_GRANTED, sizeof(tr_granted));
    if (msg == NULL) {
        return false;
    }
    uint64_t waited_ms = (tr_now_us(self) - h->came_us) / 1000;
    uint32_t model;
    memcpy(&model, pool->digest, sizeof model);
    *(tr_granted *)msg->data =
        (tr_granted){.backend = m->id,
                     .queue_ms = waited_ms < UINT32_MAX ? (uint32_t)waited_ms : UINT32_MAX,
                     .model = model};
    msg->ref = h->ref;
    h->place = TRI_GRANTED;
    h->member = m;
    h->fresh = true;
    m->used++;
    m->fresh++;
    m->quarantine_us = h->suspect ? tr_now_us(self) + PATIENCE_US : m->quarantine_us;
    pool->line.granted++;
    pool->line.granted_total++;
    return tr_send_control(self, h->call, msg) == TR_OK;
}

bool tri_line_is_patient(const tri_pool *pool) {
    bool patient = pool->line.head != NULL && pool->line.head->suspect;
    for (const tri_member *m = pool->members; m != NULL; m = m->next) {
        patient = patient || (pool->line.head != NULL && m->quarantine_us != 0);
    }
    return patient;
}

void tri_line_advance(tr_self *self, tri_pool *pool) {
    tri_line *line = &pool->line;
    while (line->head != NULL) {
        tri_holder *h = line->head;
        bool late = h->until_us <= tr_now_us(self);
        tri_member *m = late ? NULL : pick(pool, h, tr_now_us(self));
        if (m == NULL && !late) {
            return;
        }
        line_remove(line, h);
        if (late) {
            refuse(self, h->call, h->ref,
                   tr_msg_failf(TR_ERR_TIMEOUT, "the time limit passed while it waited for %s",
                                pool->plan->spec.model));
        }
        if (late || !grant(self, pool, h, m)) {
            release(self, line, find(line, h->call, h->ref));
        }
    }
}

void tri_line_refuse_all(tr_self *self, tri_pool *pool, tr_err err, const char *why) {
    tri_line *line = &pool->line;
    while (line->head != NULL) {
        tri_holder *h = line->head;
        refuse(self, h->call, h->ref, tr_msg_failf(err, "%s", why));
        release(self, line, find(line, h->call, h->ref));
    }
}

void tri_line_fini(tri_line *line) {
    for (uint32_t i = 0; i < TRI_HOLDER_BUCKETS; i++) {
        while (line->buckets[i] != NULL) {
            tri_holder *next = line->buckets[i]->hash_next;
            tr_free(line->buckets[i]); /* monitors end with the actor; calls see its DOWN */
            line->buckets[i] = next;
        }
    }
}
