/*
 * Slots and a line (runtime/line.h). Whenever one of the two changes, the head of the line is
 * looked at; nothing else ever grants. One actor a provider, on shard 0.
 */
#include "actors/limiter.h"

#include <inttypes.h>
#include <stdio.h>

#include "protocol/assert.h"
#include "runtime/answer.h"
#include "runtime/line.h"
#include "runtime/planted.h"

typedef struct limiter {
    tr_limiter_args args;
    tr_line line;
} limiter;

static uint32_t at_once(const limiter *l) {
    return l->args.now != NULL ? atomic_load_explicit(l->args.now, memory_order_relaxed)
                               : l->args.at_once;
}

static tr_err init(tr_self *self, void *state, const void *args) {
    (void)self;
    limiter *l = state;
    l->args = *(const tr_limiter_args *)args;
    TR_ASSERT(at_once(l) > 0 && l->args.waiting_max > 0);
    l->line = (tr_line){.name = l->args.provider,
                        .holder_size = sizeof(tr_holder),
                        .waiting_max = l->args.waiting_max};
    return TR_OK;
}

static tr_id backend_for(tr_self *self, const limiter *l, tr_id call) {
    char name[TR_ACTOR_NAME_max + 1];
    snprintf(name, sizeof name, "provider:%s:%u", l->args.provider, tr_id_shard(call));
    return tr_whereis(tr_self_node(self), name);
}

static void grant_waiting(tr_self *self, limiter *l) {
    tr_holder *h = NULL;
    while (l->line.used < at_once(l) && (h = tr_line_next(&l->line, self)) != NULL) {
        tr_id backend = backend_for(self, l, h->call);
        if (backend == TR_ID_NONE) {
            tr_line_refuse(&l->line, self, h,
                           tr_msg_failf(TR_ERR_SERVER, "the provider %s is being restarted",
                                        l->args.provider));
        } else if (tr_line_grant(&l->line, self, h, (tr_granted){.backend = backend}) != TR_OK) {
            tr_line_refuse(&l->line, self, h, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        }
    }
}

static tr_err tell_status(tr_self *self, const limiter *l, const tr_msg *asked) {
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "gate");
    tr_jsonw_text(&w, "limiter");
    tr_jsonw_name(&w, "provider");
    tr_jsonw_text(&w, l->args.provider);
    tr_jsonw_name(&w, "used");
    tr_jsonw_uint(&w, l->line.used);
    tr_jsonw_name(&w, "at_once");
    tr_jsonw_uint(&w, at_once(l));
    tr_jsonw_name(&w, "waiting");
    tr_jsonw_uint(&w, l->line.waiting);
    tr_jsonw_close(&w, '}');
    return tr_send_json(self, asked, TR_KIND_STATUSED, &w);
}

/* Always false, but for the simulator's planted bug. */
static bool keeps_slot(const tr_settle *settle) {
    return TR_PLANTED(TR_BUG_SLOT_LEAK) && settle->err != TR_OK;
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    limiter *l = state;
    switch ((*msg)->kind) {
    case TR_KIND_RESERVE:
        grant_waiting(self, l); /* there may be more slots than a moment ago */
        (void)tr_line_reserve(&l->line, self, *msg, false);
        grant_waiting(self, l);
        break;
    case TR_KIND_SETTLE: {
        tr_holder *h = tr_line_find(&l->line, (*msg)->from, (*msg)->ref);
        if (h != NULL && !keeps_slot((const tr_settle *)(*msg)->data)) {
            tr_line_release(&l->line, self, h);
        }
        grant_waiting(self, l);
        break;
    }
    case TR_KIND_DOWN:
        if (!TR_PLANTED(TR_BUG_SLOT_LEAK)) {
            tr_line_call_ended(&l->line, self, (*msg)->from, NULL, NULL);
        }
        grant_waiting(self, l);
        break;
    case TR_KIND_LIMIT_CHANGED:
        grant_waiting(self, l);
        break;
    case TR_KIND_STATUS:
        (void)tell_status(self, l, *msg); /* whoever asked has a time limit */
        break;
    default:
        break;
    }
    return TR_OK;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    tr_line_fini(&((limiter *)state)->line);
}

static void describe(const void *state, char *buf, size_t size) {
    const limiter *l = state;
    snprintf(buf, size, "%u of %u slots, %u waiting, %" PRIu64 " granted", l->line.used, at_once(l),
             l->line.waiting, l->line.granted);
}

const tr_behaviour tr_limiter = {
    .name = "limiter",
    .state_size = sizeof(limiter),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = describe,
};
