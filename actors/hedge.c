/*
 * Two children at most, each a call. Until one of them has sent a DELTA or DONE nobody serves, and
 * every CREDIT goes to both: neither has used any. From then on only the serving child is heard. A
 * child that fails before is remembered; when both have, the first one's failure is the answer,
 * since it is the request's own and the second was only a try.
 *
 * Spawned by a connection in a call's place; on its shard.
 */
#include "actors/hedge.h"

#include <stdio.h>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "runtime/log.h"
#include "runtime/msg.h"
#include "runtime/node.h"

#define NOBODY 2U

typedef struct child {
    tr_id id; /* TR_ID_NONE: not begun, or ended */
    uint64_t monitor;
    bool begun;
} child;

typedef struct hedge {
    tr_services *services;
    tr_id door;
    uint64_t ref;
    tr_msg *submit;                 /* for the second call; NULL once it cannot begin any more */
    char name[2 * TR_NAME_max + 2]; /* what was asked for; first tokens are learned by it */
    bool entered; /* the place among running requests is ours, and no call's yet */
    uint64_t began_us;
    uint64_t first_us; /* from then until somebody served */
    uint64_t timer;
    child children[2];
    uint32_t serving; /* NOBODY at first */
    tr_msg *failure;  /* of the first child, while the second runs */
} hedge;

static tr_err init(tr_self *self, void *state, const void *args) {
    (void)self;
    hedge *h = state;
    h->services = ((const tr_call_args *)args)->services;
    h->serving = NOBODY;
    h->entered = true;
    return TR_OK;
}

static void leave_services(tr_self *self, hedge *h) {
    if (tr_services_leave(h->services)) {
        (void)tr_send_control(self, tr_services_company(h->services),
                              tr_msg_new(TR_KIND_DRAINED, 0));
    }
}

/* Stops hearing it; what it holds, it gives back by itself. */
static void drop(tr_self *self, child *c, bool cancels) {
    if (c->id == TR_ID_NONE) {
        return;
    }
    tr_demonitor(self, c->monitor);
    if (cancels) {
        tr_msg *cancel = tr_msg_cancel(TR_ERR_CANCELLED);
        if (cancel == NULL) {
            tr_exit(self, c->id, TR_ERR_CANCELLED);
        } else {
            (void)tr_send_control(self, c->id, cancel);
        }
    }
    c->id = TR_ID_NONE;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    hedge *h = state;
    drop(self, &h->children[0], true);
    drop(self, &h->children[1], true);
    tr_msg_free(h->submit);
    tr_msg_free(h->failure);
    if (h->entered) {
        leave_services(self, h);
    }
}

/* The call of `place` begins with `submit`, which is taken, and with the place among the running
 * requests that was entered for it. */
static tr_err begin(tr_self *self, hedge *h, uint32_t place, tr_msg *submit) {
    child *c = &h->children[place];
    char parent[32];
    snprintf(parent, sizeof parent, "calls:%u", tr_self_shard(self));
    tr_call_args args = {.services = h->services};
    tr_spawn_spec spec = {.behaviour = &tr_call,
                          .args = &args,
                          .args_size = sizeof args,
                          .parent = tr_whereis(tr_self_node(self), parent)};
    tr_err err = tr_spawn(self, &spec, &c->id);
    if (err != TR_OK) {
        tr_msg_free(submit);
        return err;
    }
    h->entered = false; /* the call leaves when it ends */
    err = tr_monitor(self, c->id, &c->monitor);
    if (err != TR_OK) {
        tr_exit(self, c->id, TR_ERR_CANCELLED);
        c->id = TR_ID_NONE;
        tr_msg_free(submit);
        return err;
    }
    c->begun = true;
    submit->ref = place;
    err = tr_send(self, c->id, &submit);
    TR_ASSERT(err == TR_OK); /* an empty mailbox takes it */
    return TR_OK;
}

/* The last word; the actor's end drops whoever still runs. */
static tr_err finish(tr_self *self, const hedge *h, tr_msg *terminal) {
    terminal->ref = h->ref;
    tr_err err = tr_send_control(self, h->door, terminal);
    return err == TR_OK ? TR_DONE : err;
}

static uint32_t ms_since(tr_self *self, uint64_t then_us) {
    uint64_t ms = (tr_now_us(self) - then_us) / 1000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

/* A second call's times are told from the request's beginning. */
static void set_times(tr_self *self, const hedge *h, tr_usage_wire *usage) {
    usage->total_ms = ms_since(self, h->began_us);
    if (usage->first_token_ms > 0) {
        usage->first_token_ms = h->first_us < 1000 ? 1 : (uint32_t)(h->first_us / 1000);
    }
}

/* --- the second call --- */

static uint32_t default_total_ms(const hedge *h) {
    tr_routes *routes = tr_services_routes(h->services);
    uint32_t ms = routes != NULL ? tr_routes_of(routes)->limits.total_ms : 0;
    tr_routes_unref(routes);
    return ms != 0 && ms < TR_TIMEOUT_MS_max ? ms : TR_TIMEOUT_MS_max;
}

static tr_err submitted(tr_self *self, hedge *h, tr_msg **msg) {
    TR_ASSERT(!h->children[0].begun);
    h->door = (*msg)->from;
    h->ref = (*msg)->ref;
    h->began_us = tr_now_us(self);
    tr_submit *head = (tr_submit *)(*msg)->data;
    head->flags &= (uint16_t)~TR_SUBMIT_SECOND; /* HEDGE stays: it tells a call whom it serves */
    tr_submit_view view = tr_submit_read(head);
    snprintf(h->name, sizeof h->name, "%.*s/%.*s", (int)view.provider.size, view.provider.ptr,
             (int)view.target.size, view.target.ptr);
    tr_stats *stats = tr_services_hedging(h->services);
    uint64_t after_us = tr_stats_late_us(stats, tr_stats_row(stats, h->name, false));
    if (after_us > 0 && (*msg)->body != NULL) {
        h->submit = tr_msg_submit(head, &view, tr_body_ref((*msg)->body));
        after_us = after_us > TR_HEDGE_US_min ? after_us : TR_HEDGE_US_min;
    }
    tr_msg *first = *msg;
    *msg = NULL;
    tr_err err = begin(self, h, 0, first);
    return err != TR_OK || h->submit == NULL ? err : tr_timer_start(self, after_us, 0, &h->timer);
}

/* The time has passed: whoever asked reads, and has heard nothing. */
static tr_err make_second(tr_self *self, hedge *h) {
    tr_submit *head = (tr_submit *)h->submit->data;
    uint32_t gone_ms = ms_since(self, h->began_us);
    uint32_t total_ms = head->total_ms != 0 ? head->total_ms : default_total_ms(h);
    if (total_ms <= gone_ms || head->credit_messages == 0 ||
        tr_services_enter(h->services) != TR_OK) {
        return TR_OK; /* the first goes on alone */
    }
    h->entered = true;
    head->total_ms = total_ms - gone_ms;
    head->attempts = 1;
    head->flags |= TR_SUBMIT_SECOND;
    if (tr_log_on(TR_LOG_DEBUG)) {
        tr_log(TR_LOG_DEBUG, self, "a request without a first token is made a second time", "ms=%u",
               gone_ms);
    }
    tr_msg *submit = h->submit;
    h->submit = NULL;
    (void)!begin(self, h, 1, submit); /* without room for it the first goes on alone */
    if (h->entered) {
        leave_services(self, h);
        h->entered = false;
    }
    return TR_OK;
}

static tr_err time_came(tr_self *self, hedge *h, uint64_t id) {
    if (id != h->timer) {
        return TR_OK;
    }
    h->timer = 0;
    bool alone = h->serving == NOBODY && h->children[0].id != TR_ID_NONE && h->submit != NULL;
    return alone ? make_second(self, h) : TR_OK;
}

/* --- messages of the door --- */

static tr_err credit_came(tr_self *self, hedge *h, const tr_credit *credit) {
    if (h->submit != NULL) {
        tr_submit *head = (tr_submit *)h->submit->data;
        uint64_t messages = (uint64_t)head->credit_messages + credit->messages;
        uint64_t bytes = (uint64_t)head->credit_bytes + credit->bytes;
        if (messages > TR_CREDIT_MESSAGES_max || bytes > TR_CREDIT_BYTES_max) {
            tr_msg_free(h->submit); /* the first call has its own word to say about that */
            h->submit = NULL;
        } else {
            head->credit_messages = (uint32_t)messages;
            head->credit_bytes = (uint32_t)bytes;
        }
    }
    for (uint32_t i = 0; i < 2; i++) {
        bool heard = h->serving == NOBODY || h->serving == i;
        if (!heard || h->children[i].id == TR_ID_NONE) {
            continue;
        }
        tr_msg *copy = tr_msg_credit(credit->messages, credit->bytes);
        if (copy == NULL) {
            return TR_ERR_NOMEM;
        }
        tr_err err = tr_send_control(self, h->children[i].id, copy);
        if (err != TR_OK) {
            return err;
        }
    }
    return TR_OK;
}

static tr_err cancelled(tr_self *self, hedge *h, const tr_msg *msg) {
    tr_msg_free(h->submit);
    tr_msg_free(h->failure); /* an earlier failure is not why it ends */
    h->submit = h->failure = NULL;
    for (uint32_t i = 0; i < 2; i++) {
        if (h->children[i].id != TR_ID_NONE) {
            tr_msg *cancel = tr_msg_cancel((tr_err)((const tr_cancel *)msg->data)->reason);
            if (cancel == NULL) {
                return TR_ERR_NOMEM;
            }
            tr_err err = tr_send_control(self, h->children[i].id, cancel);
            if (err != TR_OK) {
                return err;
            }
        }
    }
    return TR_OK; /* their FAILs are the answer */
}

/* --- messages of the calls --- */

/* `place` was first: it serves. */
static void decide(tr_self *self, hedge *h, uint32_t place) {
    if (h->serving != NOBODY) {
        return;
    }
    h->serving = place;
    drop(self, &h->children[1 - place], true);
    tr_msg_free(h->submit);
    h->submit = NULL;
    tr_timer_cancel(self, &h->timer);
    h->first_us = tr_now_us(self) - h->began_us;
    tr_stats *stats = tr_services_hedging(h->services);
    tr_stats_first_came(stats, tr_stats_row(stats, h->name, true), h->first_us);
}

static tr_err delta_came(tr_self *self, hedge *h, tr_msg **msg) {
    decide(self, h, (uint32_t)(*msg)->ref);
    (*msg)->ref = h->ref;
    return tr_send(self, h->door, msg);
}

static tr_err done_came(tr_self *self, hedge *h, tr_msg **msg) {
    decide(self, h, (uint32_t)(*msg)->ref);
    tr_done *done = (tr_done *)(*msg)->data;
    done->attempts = (uint16_t)(done->attempts + h->children[1].begun);
    set_times(self, h, &done->usage);
    done->flags |= h->serving == 1 ? TR_DONE_HEDGED : 0;
    tr_msg *terminal = *msg;
    *msg = NULL;
    return finish(self, h, terminal);
}

/* `fail` is taken. */
static tr_err failed(tr_self *self, hedge *h, uint32_t place, tr_msg *fail) {
    drop(self, &h->children[place], false);
    bool alone = h->children[1 - place].id == TR_ID_NONE;
    if (h->serving == place || alone) {
        tr_msg *answer = h->failure != NULL && h->serving == NOBODY ? h->failure : fail;
        if (answer == h->failure) {
            tr_msg_free(fail);
            h->failure = NULL;
        }
        tr_fail *head = (tr_fail *)answer->data;
        set_times(self, h, &head->usage);
        head->attempts = (uint16_t)(head->attempts + h->children[1].begun);
        return finish(self, h, answer);
    }
    if (place == 0) {
        h->failure = fail;
    } else {
        tr_msg_free(fail); /* the first still runs, and its end is the request's */
    }
    return TR_OK;
}

static tr_err fail_came(tr_self *self, hedge *h, tr_msg **msg) {
    tr_msg *fail = *msg;
    *msg = NULL;
    return failed(self, h, (uint32_t)fail->ref, fail);
}

static tr_err down_came(tr_self *self, hedge *h, const tr_msg *msg) {
    for (uint32_t i = 0; i < 2; i++) {
        if (h->children[i].id != TR_ID_NONE && h->children[i].monitor == msg->ref) {
            tr_msg *fail = tr_msg_failf(TR_ERR_CRASHED, "the call ended without an answer");
            return fail != NULL ? failed(self, h, i, fail) : TR_ERR_NOMEM;
        }
    }
    return TR_OK;
}

/* Whether it comes from a call that is still heard. */
static bool heard(const hedge *h, const tr_msg *msg) {
    return msg->ref < 2 && h->children[msg->ref].id == msg->from;
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    hedge *h = state;
    switch ((*msg)->kind) {
    case TR_KIND_SUBMIT:
        return submitted(self, h, msg);
    case TR_KIND_CREDIT:
        return credit_came(self, h, (const tr_credit *)(*msg)->data);
    case TR_KIND_CANCEL:
        return cancelled(self, h, *msg);
    case TR_KIND_DELTA:
        return heard(h, *msg) ? delta_came(self, h, msg) : TR_OK;
    case TR_KIND_BEGUN:
        if (heard(h, *msg)) {
            decide(self, h, (uint32_t)(*msg)->ref);
        }
        return TR_OK;
    case TR_KIND_DONE:
        return heard(h, *msg) ? done_came(self, h, msg) : TR_OK;
    case TR_KIND_FAIL:
        return heard(h, *msg) ? fail_came(self, h, msg) : TR_OK;
    case TR_KIND_DOWN:
        return down_came(self, h, *msg);
    case TR_KIND_TIMER:
        return time_came(self, h, (*msg)->ref);
    default:
        return TR_OK;
    }
}

const tr_behaviour tr_hedge = {
    .name = "hedge",
    .state_size = sizeof(hedge),
    .init = init,
    .handle = handle,
    .stop = stop,
};
