/*
 * The gate to a managed server: requests stand in line (runtime/line.h) until the server is well
 * and has a place for them. The first starts it; nobody's wait is its end but the request's own
 * limit or the server's failure, so that a long load is only a wait. Every message changes one
 * thing and then calls think(), which does what follows from the state: starts, grants, stops,
 * refuses, answers. The server's process and health are managed_server.c's.
 *
 * When it crashes, calls that have shown nothing try again by their own rule and find the line
 * here; streams that have shown something end with what the HTTP door saw. Runs on its shard only.
 */
#include "actors/managed.h"

#include <stdio.h>
#include <string.h>

#include "actors/managed_internal.h"
#include "protocol/assert.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/node.h"

#define PAUSE_FIRST_US 1000000U
#define PAUSE_DOUBLINGS_max 6U
#define ASKED_max 1024U

static const bool may[TRI_MANAGED_N][TRI_MANAGED_N] = {
    [TRI_MANAGED_STOPPED] = {[TRI_MANAGED_STARTING] = true},
    [TRI_MANAGED_STARTING] = {[TRI_MANAGED_READY] = true,
                              [TRI_MANAGED_RESTING] = true,
                              [TRI_MANAGED_STOPPING] = true,
                              [TRI_MANAGED_FAILED] = true},
    [TRI_MANAGED_READY] =
        {[TRI_MANAGED_DRAINING] = true, [TRI_MANAGED_RESTING] = true, [TRI_MANAGED_FAILED] = true},
    [TRI_MANAGED_RESTING] =
        {[TRI_MANAGED_STARTING] = true, [TRI_MANAGED_STOPPED] = true, [TRI_MANAGED_FAILED] = true},
    [TRI_MANAGED_DRAINING] = {[TRI_MANAGED_STOPPING] = true, [TRI_MANAGED_STOPPED] = true},
    [TRI_MANAGED_STOPPING] = {[TRI_MANAGED_STOPPED] = true, [TRI_MANAGED_FAILED] = true},
    [TRI_MANAGED_FAILED] = {[TRI_MANAGED_STARTING] = true, [TRI_MANAGED_STOPPED] = true},
};

void tri_managed_set_state(tr_self *self, tri_managed *m, tri_managed_state next) {
    TR_ASSERT(may[m->state][next]);
    m->state = next;
    tr_log(TR_LOG_INFO, self, "the model's state changed", "model=%s state=%s waiting=%u",
           m->plan->spec.name, tri_managed_state_names[next], m->line.waiting);
}

/* --- who asked for LOAD or UNLOAD --- */

static void answer(tr_self *self, tr_id to, uint64_t ref, tr_msg *msg) {
    if (msg != NULL) {
        msg->ref = ref;
    }
    (void)tr_send_control(self, to, msg); /* whoever asked has limits of its own */
}

static void answer_all(tr_self *self, tri_managed *m, tri_asked **list, tr_err err) {
    const char *name = m->plan->spec.name;
    tr_done head = {.finish = TR_FINISH_STOP, .usage.cost = __builtin_nan("")};
    tr_end_view view = {.target = {name, strlen(name)}};
    while (*list != NULL) {
        tri_asked *one = *list;
        *list = one->next;
        answer(self, one->from, one->ref,
               err == TR_OK ? tr_msg_done(&head, &view) : tr_msg_failf(err, "%s", m->why));
        tr_free(one);
        m->asked--;
    }
}

static void remember(tr_self *self, tri_managed *m, tri_asked **list, const tr_msg *msg) {
    tri_asked *one = m->asked < ASKED_max ? tr_zalloc(sizeof *one) : NULL;
    if (one == NULL) {
        answer(self, msg->from, msg->ref,
               tr_msg_failf(TR_ERR_OVERLOADED, "too many ask for this at once"));
        return;
    }
    *one = (tri_asked){.from = msg->from, .ref = msg->ref, .next = *list};
    *list = one;
    m->asked++;
}

/* --- what follows --- */

void tri_managed_give_up(tr_self *self, tri_managed *m, tr_err err) {
    uint32_t doublings = m->failures < PAUSE_DOUBLINGS_max ? m->failures : PAUSE_DOUBLINGS_max;
    tri_managed_set_state(self, m, TRI_MANAGED_FAILED);
    m->failures++;
    m->load_crashes = m->crashes = m->port_losses = 0;
    m->retry_us = tr_now_us(self) + ((uint64_t)PAUSE_FIRST_US << doublings);
    m->fail_err = err;
    char quoted[TRI_MANAGED_WHY_size + 64];
    tr_log(TR_LOG_ERROR, self, "the model cannot be served", "model=%s err=%s why=%s",
           m->plan->spec.name, tr_err_name(err),
           tr_log_quote(m->why, strlen(m->why), quoted, sizeof quoted));
    answer_all(self, m, &m->loads, err);
}

static void grant_waiting(tr_self *self, tri_managed *m) {
    tr_holder *h = NULL;
    while (m->ending[0] == '\0' && m->line.used < m->plan->spec.at_once &&
           (h = tr_line_next(&m->line, self)) != NULL) {
        char name[TR_ACTOR_NAME_max + 1];
        snprintf(name, sizeof name, "provider:local/%s:%u", m->plan->spec.name,
                 tr_id_shard(h->call));
        tr_id backend = tr_whereis(tr_self_node(self), name);
        if (backend == TR_ID_NONE) {
            tr_line_refuse(&m->line, self, h,
                           tr_msg_failf(TR_ERR_SERVER, "%s is being restarted: try again",
                                        m->plan->spec.name));
        } else if (tr_line_grant(&m->line, self, h, (tr_granted){.backend = backend}) != TR_OK) {
            tr_line_refuse(&m->line, self, h, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        }
    }
}

static void watch_idle(tr_self *self, tri_managed *m) {
    uint64_t limit_ms = m->plan->spec.idle_unload_ms;
    bool idle =
        limit_ms > 0 && m->state == TRI_MANAGED_READY && m->line.used == 0 && m->line.waiting == 0;
    if (!idle) {
        tr_timer_cancel(self, &m->idle_timer);
    } else if (m->idle_timer == 0 &&
               tr_timer_start(self, limit_ms * 1000, TRI_MANAGED_IDLE, &m->idle_timer) != TR_OK) {
        m->idle_timer = 0; /* out of memory: the next message tries again */
    }
}

/* What the state asks for now; true: the state is another one. */
static bool step(tr_self *self, tri_managed *m) {
    tri_managed_state before = m->state;
    switch (m->state) {
    case TRI_MANAGED_STOPPED:
        answer_all(self, m, &m->unloads, TR_OK);
        if (m->line.waiting > 0 || m->loads != NULL) {
            tri_managed_start(self, m);
        }
        break;
    case TRI_MANAGED_FAILED:
        answer_all(self, m, &m->unloads, TR_OK);
        if (m->loads != NULL || (m->line.waiting > 0 && tr_now_us(self) >= m->retry_us)) {
            tri_managed_start(self, m);
            return m->state != TRI_MANAGED_FAILED || m->line.waiting > 0;
        }
        tr_line_refuse_all(&m->line, self, m->fail_err, m->why);
        break;
    case TRI_MANAGED_READY:
        answer_all(self, m, &m->loads, TR_OK);
        grant_waiting(self, m);
        break;
    case TRI_MANAGED_DRAINING:
        if (m->line.used == 0) {
            tri_managed_set_state(self, m, TRI_MANAGED_STOPPING);
            tri_managed_end(self, m, false);
        }
        break;
    case TRI_MANAGED_STARTING:
    case TRI_MANAGED_RESTING:
    case TRI_MANAGED_STOPPING:
    case TRI_MANAGED_N:
        break;
    }
    return m->state != before;
}

static void think(tr_self *self, tri_managed *m) {
    while (step(self, m)) {
    }
    watch_idle(self, m);
}

/* --- the messages --- */

static void settle(tr_self *self, tri_managed *m, const tr_msg *msg) {
    const tr_settle *settle = (const tr_settle *)(const void *)msg->data;
    tr_holder *h = tr_line_find(&m->line, msg->from, msg->ref);
    if (h == NULL) {
        return;
    }
    if (h->place == TR_PLACE_GRANTED && settle->err == TR_OK) {
        m->crashes = m->failures = 0;
    }
    tr_line_release(&m->line, self, h);
}

static void load_asked(tr_self *self, tri_managed *m, const tr_msg *msg) {
    m->failures = 0; /* somebody asks for it: the pauses begin anew */
    remember(self, m, &m->loads, msg);
}

/* Who waits is told; a load is not finished for nobody. */
static void call_off(tr_self *self, tri_managed *m) {
    snprintf(m->why, sizeof m->why, "the model was unloaded while it was loading");
    tr_line_refuse_all(&m->line, self, TR_ERR_CANCELLED, m->why);
    answer_all(self, m, &m->loads, TR_ERR_CANCELLED);
}

static void unload_asked(tr_self *self, tri_managed *m, const tr_msg *msg) {
    remember(self, m, &m->unloads, msg);
    switch (m->state) {
    case TRI_MANAGED_READY:
        tri_managed_set_state(self, m, TRI_MANAGED_DRAINING);
        break;
    case TRI_MANAGED_STARTING:
        call_off(self, m);
        tri_managed_set_state(self, m, TRI_MANAGED_STOPPING);
        tri_managed_end(self, m, false);
        break;
    case TRI_MANAGED_RESTING:
        call_off(self, m);
        tr_timer_cancel(self, &m->rest_timer);
        tri_managed_set_state(self, m, TRI_MANAGED_STOPPED);
        break;
    case TRI_MANAGED_FAILED:
        m->failures = 0;
        tri_managed_set_state(self, m, TRI_MANAGED_STOPPED);
        break;
    case TRI_MANAGED_STOPPED:
    case TRI_MANAGED_DRAINING:
    case TRI_MANAGED_STOPPING:
    case TRI_MANAGED_N:
        break;
    }
}

static void timer_came(tr_self *self, tri_managed *m, const tr_msg *msg) {
    if (msg->ref == m->probe_timer) {
        tri_managed_probe_timer(self, m);
    } else if (msg->ref == m->guard_timer) {
        tri_managed_guard_timer(self, m);
    } else if (msg->ref == m->rest_timer) {
        m->rest_timer = 0;
        tri_managed_start(self, m);
    } else if (msg->ref == m->idle_timer) {
        m->idle_timer = 0;
        tr_log(TR_LOG_INFO, self, "unloading an idle model", "model=%s", m->plan->spec.name);
        tri_managed_set_state(self, m, TRI_MANAGED_DRAINING);
    }
}

static tr_err handle(tr_self *self, void *state, tr_msg **taken) {
    tri_managed *m = state;
    const tr_msg *msg = *taken;
    switch (msg->kind) {
    case TR_KIND_RESERVE:
        (void)tr_line_reserve(&m->line, self, msg, 0, false);
        break;
    case TR_KIND_SETTLE:
        settle(self, m, msg);
        break;
    case TR_KIND_DOWN:
        tr_line_call_ended(&m->line, self, msg->from, NULL, NULL);
        break;
    case TR_KIND_LOAD:
        load_asked(self, m, msg);
        break;
    case TR_KIND_UNLOAD:
        unload_asked(self, m, msg);
        break;
    case TR_KIND_STATUS:
        (void)tri_managed_tell_status(self, m, msg); /* whoever asked has a time limit */
        break;
    case TR_KIND_PROCESS:
        tri_managed_process_came(self, m, msg);
        break;
    case TR_KIND_TIMER:
        timer_came(self, m, msg);
        break;
    default:
        tri_managed_http_came(self, m, msg);
        break;
    }
    think(self, m);
    return TR_OK;
}

static tr_err init(tr_self *self, void *state, const void *args) {
    tri_managed *m = state;
    /* The plan is the caller's to read, but for the port, which this actor alone writes. */
    m->plan = (tr_managed_plan *)*(const tr_managed_plan *const *)args;
    m->line = (tr_line){.name = m->plan->spec.name,
                        .holder_size = sizeof(tr_holder),
                        .waiting_max = m->plan->spec.waiting_max};
    if (m->plan->spec.preload) {
        tri_managed_start(self, m);
    }
    return TR_OK;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    tri_managed *m = state;
    tr_line_fini(&m->line);
    tri_asked **lists[] = {&m->loads, &m->unloads};
    for (size_t i = 0; i < 2; i++) {
        while (*lists[i] != NULL) {
            tri_asked *next = (*lists[i])->next;
            tr_free(*lists[i]);
            *lists[i] = next;
        }
    }
    if (m->process != NULL) {
        tr_node_platform(tr_self_node(self))->processes->abandon(m->process);
    }
}

const tr_behaviour tri_managed_behaviour = {
    .name = "managed",
    .state_size = sizeof(tri_managed),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = tri_managed_describe,
};
