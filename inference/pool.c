/*
 * The pool: a gate that loads its model when somebody asks and unloads it when nobody has for a
 * while. The line (pool_line.c) says who gets which sequence; this file says which workers there
 * are. Every message changes one thing and then calls think(), which does whatever follows from
 * the books as they are: grants, starts, stops, refuses, answers. So no order of messages needs a
 * case of its own.
 *
 * What the pool does not do: it carries no stream (calls and workers speak to each other), and it
 * restarts no worker (their supervisor does); it sees workers by what they tell it and by their
 * DOWN. It gives a model up when its workers say that they cannot load it, when they crash again
 * and again while loading, or when their supervisor has given up; after a pause that doubles, the
 * next request tries again. Runs on its shard only.
 */
#include "inference/pool.h"

#include <stdio.h>
#include <string.h>

#include "inference/pool_line.h"
#include "protocol/assert.h"
#include "runtime/link.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/node.h"

#define LOAD_CRASHES_max 5
#define PAUSE_FIRST_US 1000000U
/* A worker that says why it cannot load has cost little, and a file that was missing may have come:
 * it is tried again after 4 s at most. One that crashes has cost a whole load: 64 s. */
#define PAUSE_DOUBLINGS_SAID_max 2U
#define PAUSE_DOUBLINGS_CRASHED_max 6U
#define GRACE_US 10000000U /* for a joined worker to come back */
#define LOOK_US 500000U    /* how often the line is looked at while time alone may move it */
#define ASKERS_max 4096U

enum { TAG_IDLE = 1, TAG_GRACE, TAG_PATIENCE };

/* A supervisor's answer names the question: `serial` above, the worker's index or this below. */
#define REF_SHIFT 8
#define REF_SUPERVISOR 0xffU

static const bool may[TRI_POOL_N][TRI_POOL_N] = {
    [TRI_POOL_UNLOADED] = {[TRI_POOL_LOADING] = true, [TRI_POOL_FAILED] = true},
    [TRI_POOL_LOADING] = {[TRI_POOL_READY] = true,
                          [TRI_POOL_FAILED] = true,
                          [TRI_POOL_UNLOADING] = true,
                          [TRI_POOL_UNLOADED] = true},
    [TRI_POOL_READY] = {[TRI_POOL_LOADING] = true,
                        [TRI_POOL_FAILED] = true,
                        [TRI_POOL_UNLOADING] = true,
                        [TRI_POOL_UNLOADED] = true},
    [TRI_POOL_FAILED] = {[TRI_POOL_LOADING] = true,
                         [TRI_POOL_READY] = true,
                         [TRI_POOL_UNLOADING] = true,
                         [TRI_POOL_UNLOADED] = true},
    [TRI_POOL_UNLOADING] = {[TRI_POOL_UNLOADED] = true,
                            [TRI_POOL_LOADING] = true,
                            [TRI_POOL_READY] = true,
                            [TRI_POOL_FAILED] = true}, /* wanted again, and it cannot start */
};

static void set_state(tr_self *self, tri_pool *p, tri_pool_state next) {
    if (next == p->state) {
        return;
    }
    TR_ASSERT(may[p->state][next]);
    p->state = next;
    tr_log(TR_LOG_INFO, self, "the model's state changed", "model=%s state=%s waiting=%u",
           p->plan->spec.model, tri_pool_state_names[next], p->line.waiting);
}

static tri_pool_state state_of(const tri_pool *p) {
    if (tri_pool_ready_members(p) > 0) {
        return TRI_POOL_READY;
    }
    if (p->failed) {
        return TRI_POOL_FAILED;
    }
    if (p->local == TRI_LOCAL_STOPPING) {
        return TRI_POOL_UNLOADING;
    }
    return p->local == TRI_LOCAL_ON || p->members != NULL ? TRI_POOL_LOADING : TRI_POOL_UNLOADED;
}

/* --- who asked for LOAD or UNLOAD --- */

static tr_msg *done_msg(const tri_pool *p) {
    tr_done head = {.finish = TR_FINISH_STOP, .usage.cost = __builtin_nan("")};
    const char *model = p->plan->spec.model;
    tr_end_view view = {.target = {model, strlen(model)}};
    return tr_msg_done(&head, &view);
}

static void answer(tr_self *self, const tri_asker *asker, tr_msg *msg) {
    if (msg != NULL) {
        msg->ref = asker->ref;
    }
    (void)tr_send_control(self, asker->from, msg); /* whoever asked has limits of its own */
}

static void answer_all(tr_self *self, const tri_pool *p, tri_askers *askers, tr_err err,
                       const char *why) {
    for (uint32_t i = 0; i < askers->count; i++) {
        answer(self, &askers->list[i], err == TR_OK ? done_msg(p) : tr_msg_failf(err, "%s", why));
    }
    askers->count = 0;
}

static void add_asker(tr_self *self, tri_askers *askers, const tr_msg *msg) {
    tri_asker asker = {.from = msg->from, .ref = msg->ref};
    if (askers->count == askers->room) {
        uint32_t room = askers->room * 2 + 8;
        tri_asker *more = room <= ASKERS_max ? tr_realloc(askers->list, room * sizeof *more) : NULL;
        if (more == NULL) {
            answer(self, &asker, tr_msg_failf(TR_ERR_OVERLOADED, "too many ask for this at once"));
            return;
        }
        askers->list = more;
        askers->room = room;
    }
    askers->list[askers->count++] = asker;
}

/* --- starting and stopping the workers of this machine --- */

static void leave_locals(tri_pool *p) {
    for (tri_member *m = p->members; m != NULL; m = m->next) {
        m->leaving = m->leaving || !m->note.joined;
    }
}

/* The model cannot be served by workers of this machine: says so to everyone who waits. */
static void give_up(tr_self *self, tri_pool *p, tr_err err, const char *why) {
    uint32_t most = err == TR_ERR_CRASHED ? PAUSE_DOUBLINGS_CRASHED_max : PAUSE_DOUBLINGS_SAID_max;
    uint32_t doublings = p->failures < most ? p->failures : most;
    p->failed = true;
    p->failures++;
    p->retry_us = tr_now_us(self) + ((uint64_t)PAUSE_FIRST_US << doublings);
    p->fail_err = err;
    snprintf(p->why, sizeof p->why, "%s", why);
    p->why[tr_utf8_cut(p->why, strlen(p->why), sizeof p->why - 1)] = '\0';
    char quoted[sizeof p->why + 64];
    tr_log(TR_LOG_ERROR, self, "the model cannot be served", "model=%s err=%s why=%s",
           p->plan->spec.model, tr_err_name(err),
           tr_log_quote(p->why, strlen(p->why), quoted, sizeof quoted));
    if (p->local == TRI_LOCAL_ON) {
        p->local = TRI_LOCAL_STOPPING;
        leave_locals(p);
    }
    answer_all(self, p, &p->loads, err, p->why);
}

static tr_err tell_sup(tr_self *self, const tri_pool *p, tr_msg *msg) {
    tr_id sup = tr_whereis(tr_self_node(self), p->plan->sup_name);
    if (sup == TR_ID_NONE) {
        tr_msg_free(msg);
        return TR_ERR_GONE;
    }
    return tr_send_control(self, sup, msg);
}

static void start_local(tr_self *self, tri_pool *p) {
    p->failed = false;
    p->load_crashes = 0;
    memset(p->index_failed, 0, sizeof p->index_failed);
    memset(p->index_starts, 0, sizeof p->index_starts);
    p->sup_asked = (++p->serial << REF_SHIFT) | REF_SUPERVISOR;
    tr_err err = tell_sup(self, p, tr_start_child(&p->plan->workers_child, p->sup_asked));
    if (err != TR_OK) {
        give_up(self, p, err, tr_err_text(err));
        return;
    }
    p->local = TRI_LOCAL_ON;
    p->stop_sent = false;
}

/* Their supervisor is up: the workers are its children, each on a shard of its own if possible. */
static void start_workers(tr_self *self, tri_pool *p, tr_id sup) {
    const tr_pool_plan *plan = p->plan;
    uint32_t shards = tr_node_shards(tr_self_node(self));
    tr_err err = tr_monitor(self, sup, &p->sup_monitor);
    for (uint32_t i = 0; i < plan->spec.workers && err == TR_OK; i++) {
        tr_child_spec spec = {.name = plan->workers[i].name,
                              .behaviour = &tri_worker_behaviour,
                              .args = &plan->workers[i].args,
                              .args_size = sizeof plan->workers[i].args,
                              .restart = TR_TRANSIENT,
                              .shutdown_ms = TRI_WORKER_SHUTDOWN_MS,
                              .shard = (tr_self_shard(self) + i) % shards};
        err = tr_send_control(
            self, sup, tr_start_child(&spec, (p->sup_asked & ~(uint64_t)REF_SUPERVISOR) | i));
    }
    if (err != TR_OK) {
        give_up(self, p, err, tr_err_text(err));
    }
}

static void begin_unload(tr_self *self, tri_pool *p) {
    bool loading = p->state == TRI_POOL_LOADING;
    p->local = TRI_LOCAL_STOPPING;
    leave_locals(p);
    if (loading) {
        const char *why = "the model was unloaded while it was loading";
        tr_line_refuse_all(&p->line, self, TR_ERR_CANCELLED, why);
        answer_all(self, p, &p->loads, TR_ERR_CANCELLED, why);
    }
}

/* Their supervisor has ended, with all of them. */
static void locals_gone(tr_self *self, tri_pool *p) {
    p->local = TRI_LOCAL_OFF;
    tr_demonitor(self, p->sup_monitor);
    p->sup_monitor = 0;
    answer_all(self, p, &p->unloads, TR_OK, NULL);
}

/* False: there was no memory for it, and it is to be tried again. */
static bool stop_when_drained(tr_self *self, tri_pool *p) {
    if (p->local != TRI_LOCAL_STOPPING || p->stop_sent) {
        return true;
    }
    for (const tri_member *m = p->members; m != NULL; m = m->next) {
        if (!m->note.joined && m->used > 0 && m->note.state == TRI_WORKER_READY) {
            return true; /* a stream runs */
        }
    }
    p->stop_asked = (++p->serial << REF_SHIFT) | REF_SUPERVISOR;
    tr_err err = tell_sup(self, p, tr_stop_child(p->plan->workers_name, p->stop_asked));
    p->stop_sent = err == TR_OK;
    return p->stop_sent;
}

/* --- think --- */

static void wait_for_joiners(tr_self *self, tri_pool *p) {
    if (p->members != NULL || (p->line.waiting == 0 && p->loads.count == 0)) {
        tr_timer_cancel(self, &p->grace_timer);
    } else if (!p->ever_joined ||
               (p->grace_timer == 0 &&
                tr_timer_start(self, GRACE_US, TAG_GRACE, &p->grace_timer) != TR_OK)) {
        char why[256];
        snprintf(why, sizeof why,
                 "no worker of %s has joined: start one by troupe-worker --join, or give the model "
                 "workers here",
                 p->plan->spec.model);
        tr_line_refuse_all(&p->line, self, TR_ERR_CONNECT, why);
        answer_all(self, p, &p->loads, TR_ERR_CONNECT, why);
    }
}

static void serve_waiting(tr_self *self, tri_pool *p) {
    bool wanted = p->line.waiting > 0 || p->loads.count > 0;
    if (!wanted && p->grace_timer == 0) {
        return;
    }
    if (p->plan->spec.workers == 0) {
        wait_for_joiners(self, p);
        return;
    }
    if (p->failed && tr_now_us(self) >= p->retry_us && p->local == TRI_LOCAL_OFF) {
        p->failed = false;
    }
    if (wanted && !p->failed && p->local == TRI_LOCAL_OFF) {
        start_local(self, p);
    }
    if (p->failed && tri_pool_ready_members(p) == 0) {
        tr_line_refuse_all(&p->line, self, p->fail_err, p->why);
    }
}

static void watch_idle(tr_self *self, tri_pool *p) {
    uint64_t limit_ms = p->plan->spec.idle_unload_ms;
    bool idle = limit_ms > 0 && p->local == TRI_LOCAL_ON && p->state == TRI_POOL_READY &&
                p->line.used == 0 && p->line.waiting == 0;
    if (!idle) {
        tr_timer_cancel(self, &p->idle_timer);
    } else if (p->idle_timer == 0 &&
               tr_timer_start(self, limit_ms * 1000, TAG_IDLE, &p->idle_timer) != TR_OK) {
        p->idle_timer = 0; /* out of memory: the next message tries again */
    }
}

static void think(tr_self *self, tri_pool *p) {
    tri_line_advance(self, p);
    serve_waiting(self, p);
    bool again = !stop_when_drained(self, p);
    set_state(self, p, state_of(p));
    if (p->state == TRI_POOL_READY) {
        answer_all(self, p, &p->loads, TR_OK, NULL);
    }
    watch_idle(self, p);
    if (p->patience_timer == 0 && (again || tri_line_is_patient(p)) &&
        tr_timer_start(self, LOOK_US, TAG_PATIENCE, &p->patience_timer) != TR_OK) {
        p->patience_timer = 0; /* out of memory: the next message looks again */
    }
}

/* --- workers --- */

static tri_member *member_of(tri_pool *p, tr_id id) {
    tri_member *m = p->members;
    while (m != NULL && m->id != id) {
        m = m->next;
    }
    return m;
}

static tr_err add_member(tr_self *self, tri_pool *p, tr_id id, const tri_worker_note *note,
                         tri_member **ret) {
    tri_member *m = tr_zalloc(sizeof *m);
    if (m == NULL || tr_monitor(self, id, &m->monitor) != TR_OK) {
        tr_free(m);
        return TR_ERR_NOMEM;
    }
    m->id = id;
    tri_member **last = &p->members;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = m;
    if (note->joined) {
        p->ever_joined = true;
    } else {
        p->index_failed[note->index] = false;
        p->restarts += p->index_starts[note->index]++ > 0 ? 1 : 0;
    }
    *ret = m;
    return TR_OK;
}

/* Whether streams may move between this worker and the others. With nobody left who could tell the
 * difference, its model is the model. */
static bool same_model(tri_pool *p, const tri_member *m) {
    bool bound = p->line.used > 0;
    for (const tri_member *other = p->members; other != NULL; other = other->next) {
        bound =
            bound ||
            (other != m && other->note.has_digest &&
             (other->note.state == TRI_WORKER_LOADING || other->note.state == TRI_WORKER_READY));
    }
    bound = bound || p->line.returning > 0;
    if (bound && p->has_digest) {
        return memcmp(p->digest, m->note.digest, sizeof p->digest) == 0;
    }
    memcpy(p->digest, m->note.digest, sizeof p->digest);
    p->has_digest = true;
    return true;
}

static tr_err refuse_member(tr_self *self, tri_member *m) {
    static const char why[] = "it has another model file than the workers that serve this model: "
                              "only equal files can go on with each other's streams";
    m->leaving = true;
    tr_msg *msg = tr_msg_new(TRI_KIND_WORKER_REFUSE, sizeof why);
    if (msg != NULL) {
        memcpy(msg->data, why, sizeof why);
    }
    return tr_send_control(self, m->id, msg);
}

static tr_err note_came(tr_self *self, tri_pool *p, const tr_msg *msg) {
    const tri_worker_note *note = (const tri_worker_note *)msg->data;
    tri_member *m = member_of(p, msg->from);
    tr_err err = m != NULL ? TR_OK : add_member(self, p, msg->from, note, &m);
    if (err != TR_OK) {
        return err;
    }
    bool alive = note->state == TRI_WORKER_LOADING || note->state == TRI_WORKER_READY;
    m->note = *note;
    m->leaving = m->leaving || note->state >= TRI_WORKER_DRAINING ||
                 (!note->joined && p->local != TRI_LOCAL_ON);
    if (alive && !m->leaving && note->has_digest && !same_model(p, m)) {
        return refuse_member(self, m);
    }
    if (note->state == TRI_WORKER_READY && !m->was_ready) {
        m->was_ready = true;
        p->load_crashes = 0;
    }
    return TR_OK;
}

static bool all_failed(const tri_pool *p) {
    for (uint32_t i = 0; i < p->plan->spec.workers; i++) {
        if (!p->index_failed[i]) {
            return false;
        }
    }
    return true;
}

static void member_down(tr_self *self, tri_pool *p, tri_member **at, tr_err reason) {
    tri_member *m = *at;
    *at = m->next;
    tri_line_member_gone(p, m);
    const tri_worker_note *note = &m->note;
    if (!note->joined && p->local == TRI_LOCAL_ON) {
        if (note->failed) {
            p->index_failed[note->index] = true;
            if (all_failed(p)) {
                give_up(self, p, (tr_err)note->err, note->text);
            }
        } else if (reason != TR_OK && !m->was_ready && ++p->load_crashes >= LOAD_CRASHES_max &&
                   tri_pool_ready_members(p) == 0) {
            char why[sizeof p->why];
            snprintf(why, sizeof why,
                     "workers of %s ended %u times in a row before they were ready: %s",
                     p->plan->spec.model, p->load_crashes, note->text);
            give_up(self, p, TR_ERR_CRASHED, why);
        }
    }
    tr_free(m);
}

static void sup_down(tr_self *self, tri_pool *p, tr_err reason) {
    p->sup_monitor = 0;
    if (p->local == TRI_LOCAL_ON && reason == TR_ERR_SHUTDOWN) {
        p->local = TRI_LOCAL_OFF; /* the whole tree is being stopped */
    } else if (p->local == TRI_LOCAL_ON) {
        p->local = TRI_LOCAL_OFF;
        char why[256];
        snprintf(why, sizeof why,
                 "the workers of %s crashed more than %d times in %d s without a new token; the "
                 "model is tried again after a pause, or by troupe load",
                 p->plan->spec.model, TR_WORKER_RESTARTS, TR_WORKER_PERIOD_MS / 1000);
        give_up(self, p, TR_ERR_CRASHED, why);
    } else if (p->local == TRI_LOCAL_STOPPING && !p->stop_sent) {
        locals_gone(self, p);
    }
}

static void down_came(tr_self *self, tri_pool *p, const tr_msg *msg) {
    tr_err reason = (tr_err)((const tr_ended *)msg->data)->reason;
    if (p->sup_monitor != 0 && msg->ref == p->sup_monitor) {
        sup_down(self, p, reason);
        return;
    }
    for (tri_member **at = &p->members; *at != NULL; at = &(*at)->next) {
        if ((*at)->monitor == msg->ref) {
            member_down(self, p, at, reason);
            return;
        }
    }
    tri_line_call_ended(self, p, msg->from);
}

static void started_came(tr_self *self, tri_pool *p, const tr_msg *msg) {
    const tr_started_note *note = (const tr_started_note *)msg->data;
    if (p->local == TRI_LOCAL_STOPPING && p->stop_sent && msg->ref == p->stop_asked) {
        locals_gone(self, p);
    } else if (p->local != TRI_LOCAL_ON || msg->ref >> REF_SHIFT != p->sup_asked >> REF_SHIFT) {
        return; /* of a start that was called off */
    } else if (note->err != TR_OK) {
        char why[256];
        snprintf(why, sizeof why, "the workers of %s cannot be started: %s", p->plan->spec.model,
                 tr_err_text((tr_err)note->err));
        give_up(self, p, (tr_err)note->err, why);
    } else if (msg->ref == p->sup_asked) {
        start_workers(self, p, note->id);
    }
}

/* A worker of another machine has come over a listener. */
static tr_err join_came(tr_self *self, tri_pool *p, tr_msg **msg) {
    uint32_t count = 0;
    for (const tri_member *m = p->members; m != NULL; m = m->next) {
        count += m->note.joined ? 1 : 0;
    }
    if (count >= TR_POOL_WORKERS_max) {
        tr_log(TR_LOG_WARN, self, "a worker was turned away: too many have joined", "model=%s",
               p->plan->spec.model);
        return TR_OK;
    }
    tri_worker_args args = {.plan = p->plan, .joined = true};
    tr_spawn_spec spec = {
        .behaviour = &tri_worker_behaviour, .args = &args, .args_size = sizeof args};
    tr_id id;
    tr_err err = tr_spawn(self, &spec, &id);
    return err == TR_OK ? tr_send(self, id, msg) : TR_OK;
}

/* --- the actor --- */

static void load_asked(tr_self *self, tri_pool *p, const tr_msg *msg) {
    if (p->plan->spec.workers == 0 && p->members == NULL) {
        tri_asker asker = {.from = msg->from, .ref = msg->ref};
        answer(self, &asker,
               tr_msg_failf(TR_ERR_CONNECT, "no worker of %s has joined, and it has none here",
                            p->plan->spec.model));
        return;
    }
    p->failed = false; /* somebody asks for it: no pause */
    p->failures = 0;
    add_asker(self, &p->loads, msg);
}

static void unload_asked(tr_self *self, tri_pool *p, const tr_msg *msg) {
    add_asker(self, &p->unloads, msg);
    if (p->local == TRI_LOCAL_ON) {
        begin_unload(self, p);
    } else if (p->local == TRI_LOCAL_OFF) {
        p->failed = false;
        answer_all(self, p, &p->unloads, TR_OK, NULL);
    }
}

static void timer_came(tr_self *self, tri_pool *p, const tr_msg *msg) {
    p->patience_timer = msg->ref == p->patience_timer ? 0 : p->patience_timer;
    if (msg->ref == p->idle_timer) {
        p->idle_timer = 0;
        tr_log(TR_LOG_INFO, self, "unloading an idle model", "model=%s", p->plan->spec.model);
        begin_unload(self, p);
    } else if (msg->ref == p->grace_timer) {
        p->grace_timer = 0;
        p->ever_joined = p->members != NULL; /* nobody came back: the next request need not wait */
    }
}

static tr_err handle(tr_self *self, void *state, tr_msg **taken) {
    tri_pool *p = state;
    const tr_msg *msg = *taken;
    tr_err err = TR_OK;
    switch (msg->kind) {
    case TR_KIND_RESERVE:
        tri_line_reserve(self, p, msg);
        break;
    case TR_KIND_SETTLE:
        tri_line_settle(self, p, msg);
        break;
    case TRI_KIND_FIRST_TOKEN:
        p->failures = 0;
        tri_line_first_token(p, msg->from, (const tri_stream_key *)msg->data);
        break;
    case TRI_KIND_RETURNED:
        tri_line_returned(p, msg->from);
        break;
    case TRI_KIND_WORKER_NOTE:
        err = note_came(self, p, msg);
        break;
    case TR_KIND_HANDOVER:
        err = join_came(self, p, taken);
        break;
    case TR_KIND_STARTED:
        started_came(self, p, msg);
        break;
    case TR_KIND_DOWN:
        down_came(self, p, msg);
        break;
    case TR_KIND_LOAD:
        load_asked(self, p, msg);
        break;
    case TR_KIND_UNLOAD:
        unload_asked(self, p, msg);
        break;
    case TR_KIND_STATUS:
        (void)tri_pool_tell_status(self, p, msg); /* whoever asked has a time limit */
        break;
    case TR_KIND_TIMER:
        timer_came(self, p, msg);
        break;
    default:
        break;
    }
    think(self, p);
    return err;
}

static tr_err init(tr_self *self, void *state, const void *args) {
    tri_pool *p = state;
    p->plan = *(const tr_pool_plan *const *)args;
    tri_line_init(p);
    if (p->plan->spec.preload && p->plan->spec.workers > 0) {
        start_local(self, p);
        set_state(self, p, state_of(p));
    }
    return TR_OK;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    tri_pool *p = state;
    tr_line_fini(&p->line);
    while (p->members != NULL) {
        tri_member *next = p->members->next;
        tr_free(p->members);
        p->members = next;
    }
    tr_free(p->loads.list);
    tr_free(p->unloads.list);
}

const tr_behaviour tri_pool_behaviour = {
    .name = "pool",
    .state_size = sizeof(tri_pool),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = tri_pool_describe,
};
