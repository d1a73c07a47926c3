/* The line of line.h: a hash table of holders by call, and among them a list of those who wait. */
#include "runtime/line.h"

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

static void stand_in_line(tr_line *line, tr_holder *h) {
    tr_holder *after = line->tail;
    while (after != NULL && after->priority < h->priority) {
        after = after->prev;
    }
    h->prev = after;
    h->next = after != NULL ? after->next : line->head;
    *(h->next != NULL ? &h->next->prev : &line->tail) = h;
    *(after != NULL ? &after->next : &line->head) = h;
    line->waiting++;
}

static void leave_line(tr_line *line, tr_holder *h) {
    TR_ASSERT(!h->granted);
    *(h->prev != NULL ? &h->prev->next : &line->head) = h->next;
    *(h->next != NULL ? &h->next->prev : &line->tail) = h->prev;
    line->waiting--;
}

tr_err tr_line_add(tr_line *line, tr_self *self, const tr_msg *reserve) {
    const tr_reserve *want = (const tr_reserve *)reserve->data;
    if (tr_line_find(line, reserve->from, reserve->ref) != NULL) {
        return TR_ERR_EXISTS;
    }
    tr_holder *h = tr_zalloc(sizeof *h);
    if (h == NULL || tr_monitor(self, reserve->from, &h->monitor) != TR_OK) {
        tr_free(h);
        return TR_ERR_NOMEM;
    }
    h->call = reserve->from;
    h->ref = reserve->ref;
    h->came_us = tr_now_us(self);
    h->until_us = h->came_us + (uint64_t)want->remaining_ms * 1000;
    h->avoid = want->avoid;
    h->priority = want->priority;
    tr_holder **bucket = bucket_of(line, h->call);
    h->hash_next = *bucket;
    *bucket = h;
    stand_in_line(line, h);
    return TR_OK;
}

tr_err tr_line_grant(tr_line *line, tr_self *self, tr_holder *holder, tr_id backend) {
    tr_msg *msg = tr_msg_new(TR_KIND_GRANTED, sizeof(tr_granted));
    if (msg == NULL) {
        return TR_ERR_NOMEM;
    }
    *(tr_granted *)msg->data = (tr_granted){
        .backend = backend, .queue_ms = (uint32_t)((tr_now_us(self) - holder->came_us) / 1000)};
    msg->ref = holder->ref;
    leave_line(line, holder);
    holder->granted = true;
    holder->backend = backend;
    line->used++;
    return tr_send_control(self, holder->call, msg);
}

void tr_line_release(tr_line *line, tr_self *self, tr_holder *holder) {
    tr_holder **at = bucket_of(line, holder->call);
    while (*at != holder) {
        at = &(*at)->hash_next;
    }
    *at = holder->hash_next;
    if (holder->granted) {
        TR_ASSERT(line->used > 0);
        line->used--;
    } else {
        leave_line(line, holder);
    }
    tr_demonitor(self, holder->monitor);
    tr_free(holder);
}

void tr_line_refuse(tr_line *line, tr_self *self, tr_holder *holder, tr_msg *fail) {
    if (fail != NULL) {
        fail->ref = holder->ref;
        (void)tr_send_control(self, holder->call, fail);
    }
    tr_line_release(line, self, holder);
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
            tr_free(line->buckets[i]);
            line->buckets[i] = next;
        }
    }
}
