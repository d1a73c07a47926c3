/*
 * A worker's streams: one row each, from the call's SUBMIT until the process's terminal. The row's
 * number is the low part of the ref on the link and its serial the rest, so a frame finds its row
 * at once and one of an earlier stream is told apart. When the call is gone the row stays until
 * the process has answered the CANCEL: what still comes for it is dropped here. Runs on the
 * worker's shard only.
 */
#include <string.h>

#include "inference/pool_worker.h"
#include "protocol/assert.h"
#include "runtime/memory.h"

#define ROWS_first 16U
/* A SUBMIT waits for the link to be emptier than this; CREDIT and CANCEL always find room. */
#define PENDING_max TR_FRAME_max

static void refuse(tr_self *self, const tr_msg *msg, tr_msg *fail) {
    if (fail != NULL) {
        fail->ref = msg->ref;
    }
    (void)tr_send_control(self, msg->from,
                          fail); /* without memory for it the call's limits end it */
}

static tr_msg *resumable(const char *why) {
    tr_msg *fail = tr_msg_failf(TR_ERR_CRASHED, "%s", why);
    if (fail != NULL) {
        ((tr_fail *)fail->data)->flags |= TR_FAIL_RESUMABLE;
    }
    return fail;
}

/* A free row, or NULL. */
static tri_row *new_row(tri_worker *w) {
    for (uint32_t i = 0; w->row_count < w->row_room && i < w->row_room; i++) {
        if (w->rows[i].ref == 0) {
            return &w->rows[i];
        }
    }
    uint32_t room = w->row_room > 0 ? w->row_room * 2 : ROWS_first;
    tri_row *rows = room <= TRI_STREAMS_max ? tr_realloc(w->rows, room * sizeof *rows) : NULL;
    if (rows == NULL) {
        return NULL;
    }
    memset(rows + w->row_room, 0, (room - w->row_room) * sizeof *rows);
    tri_row *row = &rows[w->row_room];
    w->rows = rows;
    w->row_room = room;
    return row;
}

static tri_row *row_of_ref(const tri_worker *w, uint64_t ref) {
    uint32_t at = (uint32_t)(ref % TRI_STREAMS_max);
    return ref != 0 && at < w->row_room && w->rows[at].ref == ref ? &w->rows[at] : NULL;
}

static tri_row *row_of_call(const tri_worker *w, tr_id call, uint64_t call_ref) {
    for (uint32_t i = 0; i < w->row_room; i++) {
        tri_row *row = &w->rows[i];
        if (row->ref != 0 && row->call == call && row->call_ref == call_ref) {
            return row;
        }
    }
    return NULL;
}

void tri_row_say_returned(tr_self *self, tri_worker *w) {
    while (w->returned > 0 &&
           tr_send_control(self, w->pool, tr_msg_new(TRI_KIND_RETURNED, 0)) == TR_OK) {
        w->returned--;
    }
}

static void say_returned(tr_self *self, tri_worker *w) {
    w->returned++;
    tri_row_say_returned(self, w);
}

static void free_row(tr_self *self, tri_worker *w, tri_row *row) {
    TR_ASSERT(w->row_count > 0);
    if (row->monitor != 0) {
        tr_demonitor(self, row->monitor);
    }
    if (row->returns) {
        say_returned(self, w);
    }
    *row = (tri_row){0};
    w->row_count--;
}

tr_err tri_row_submit(tr_self *self, tri_worker *w, const tr_msg *msg) {
    if (w->note.state != TRI_WORKER_READY) {
        refuse(self, msg, resumable("the worker ended before the request reached it"));
        return TR_OK;
    }
    if (row_of_call(w, msg->from, msg->ref) != NULL) {
        refuse(self, msg, tr_msg_failf(TR_ERR_BUG, "a request was submitted twice"));
        return TR_OK;
    }
    tri_row *row = tr_link_pending(w->link) <= PENDING_max ? new_row(w) : NULL;
    if (row == NULL) {
        refuse(self, msg, tr_msg_failf(TR_ERR_OVERLOADED, "the worker has too much to do"));
        return TR_OK;
    }
    uint64_t monitor;
    if (tr_monitor(self, msg->from, &monitor) != TR_OK) {
        refuse(self, msg, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        return TR_OK;
    }
    *row = (tri_row){
        .ref = ++w->row_serial * TRI_STREAMS_max + (uint64_t)(row - w->rows),
        .call = msg->from,
        .call_ref = msg->ref,
        .monitor = monitor,
    };
    w->row_count++;
    tr_err err = tr_link_send(w->link, self, msg, row->ref);
    if (err == TR_ERR_NOMEM) {
        free_row(self, w, row);
        refuse(self, msg, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        err = TR_OK;
    }
    return err;
}

static tr_err cancel(tr_self *self, tri_worker *w, tri_row *row, tr_err reason) {
    if (row->cancelled_us != 0 || w->note.state != TRI_WORKER_READY) {
        return TR_OK;
    }
    tr_msg *msg = tr_msg_cancel(reason);
    tr_err err = msg != NULL ? tr_link_send(w->link, self, msg, row->ref) : TR_ERR_NOMEM;
    tr_msg_free(msg);
    row->cancelled_us = err == TR_OK ? tr_now_us(self) : 0;
    return err;
}

tr_err tri_row_steer(tr_self *self, tri_worker *w, const tr_msg *msg) {
    tri_row *row = row_of_call(w, msg->from, msg->ref);
    if (row == NULL || w->note.state != TRI_WORKER_READY) {
        return TR_OK; /* it crossed the terminal */
    }
    if (msg->kind == TR_KIND_CANCEL) {
        return cancel(self, w, row, (tr_err)((const tr_cancel *)msg->data)->reason);
    }
    return tr_link_send(w->link, self, msg, row->ref);
}

tr_err tri_row_call_ended(tr_self *self, tri_worker *w, uint64_t monitor) {
    for (uint32_t i = 0; i < w->row_room; i++) {
        tri_row *row = &w->rows[i];
        if (row->ref != 0 && row->monitor == monitor) {
            row->orphan = true;
            row->monitor = 0;
            return cancel(self, w, row, TR_ERR_CLOSED);
        }
    }
    return TR_OK;
}

tr_err tri_row_return(tr_self *self, tri_worker *w, const tri_stream_key *key) {
    tri_row *row = row_of_call(w, key->call, key->ref);
    if (row == NULL) {
        say_returned(self, w); /* it has ended, or never came */
        return TR_OK;
    }
    row->returns = true;
    return cancel(self, w, row, TR_ERR_CANCELLED);
}

uint64_t tri_row_oldest_cancel_us(const tri_worker *w) {
    uint64_t oldest_us = 0;
    for (uint32_t i = 0; i < w->row_room; i++) {
        uint64_t us = w->rows[i].ref != 0 ? w->rows[i].cancelled_us : 0;
        oldest_us = us != 0 && (oldest_us == 0 || us < oldest_us) ? us : oldest_us;
    }
    return oldest_us;
}

/* Its first sign of life: the pool lets others in beside a suspect, and crashes before it are
 * forgiven, since a worker that gets on is not what its supervisor must be saved from. */
static tr_err begin(tr_self *self, tri_worker *w, tri_row *row) {
    row->begun = true;
    tr_msg *first = tr_msg_new(TRI_KIND_FIRST_TOKEN, sizeof(tri_stream_key));
    if (first != NULL) {
        *(tri_stream_key *)first->data = (tri_stream_key){.call = row->call, .ref = row->call_ref};
    }
    tr_err err = tr_send_control(self, w->pool, first);
    if (err == TR_OK && !w->forgiven && !w->note.joined) {
        w->forgiven = true;
        tr_id sup = tr_whereis(tr_self_node(self), w->plan->workers_name);
        if (sup != TR_ID_NONE) {
            err =
                tr_send_control(self, sup, tr_forgive_child(w->plan->workers[w->note.index].name));
        }
    }
    return err;
}

tr_err tri_row_answer(tr_self *self, tri_worker *w, tr_msg **msg) {
    tri_row *row = row_of_ref(w, (*msg)->ref);
    if (row == NULL) {
        return TR_OK; /* of a stream that has ended */
    }
    tr_id call = row->orphan ? TR_ID_NONE : row->call;
    (*msg)->ref = row->call_ref;
    tr_err err = TR_OK;
    if ((*msg)->kind != TR_KIND_DELTA) {
        free_row(self, w, row);
    } else if (!row->begun && call != TR_ID_NONE) {
        err = begin(self, w, row);
    }
    return err == TR_OK && call != TR_ID_NONE ? tr_send(self, call, msg) : err;
}

void tri_row_fail_all(tr_self *self, tri_worker *w, const char *why) {
    for (uint32_t i = 0; i < w->row_room; i++) {
        tri_row *row = &w->rows[i];
        if (row->ref == 0) {
            continue;
        }
        if (!row->orphan) {
            tr_msg *fail = resumable(why);
            if (fail != NULL) {
                fail->ref = row->call_ref;
            }
            (void)tr_send_control(self, row->call, fail); /* else it sees our DOWN */
        }
        free_row(self, w, row);
    }
}
