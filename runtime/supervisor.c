/*
 * The supervisor: an actor that traps exits and drives its children by two marks, must_stop and
 * must_start. Every event sets marks and then calls advance(), which does the next single thing in
 * order: stops from the right, one at a time, then starts from the left, each up before the next.
 * So a crash in the middle of a restart only sets more marks. A child's end is known by DOWN alone,
 * also when it never came up; STARTED only says that it is up.
 *
 * A supervisor that is killed or runs out of memory kills its children in stop().
 */
#include "runtime/supervisor.h"

#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "runtime/log.h"
#include "runtime/memory.h"
#include "runtime/supervisor_internal.h"

#define ADOPTED_LIMIT_US 5000000U

static void advance(tri_supervisor *sup, tr_self *self);
static void child_down(tri_supervisor *sup, tr_self *self, tri_child *child, tr_err reason);

/* ---- the end of the supervisor ---- */

static void begin_end(tri_supervisor *sup, tr_err reason) {
    if (sup->phase >= TRI_PHASE_ENDING) {
        return;
    }
    sup->phase = TRI_PHASE_ENDING;
    sup->reason = reason;
}

typedef struct adoption {
    tri_supervisor *sup;
    tr_self *self;
    bool kill;
} adoption;

static void end_adopted(void *arg, tr_id child) {
    adoption *a = arg;
    for (uint32_t i = 0; i < a->sup->count; i++) {
        if (a->sup->children[i]->id == child) {
            return; /* one of its own: stopped by its spec */
        }
    }
    uint64_t ref;
    if (a->kill || tr_monitor(a->self, child, &ref) != TR_OK) {
        tr_exit(a->self, child, TR_ERR_CANCELLED);
        return;
    }
    a->sup->adopted_left++;
    tr_exit(a->self, child, TR_ERR_SHUTDOWN);
}

/* Asks those who were spawned under this supervisor by others to end. True when none is left. */
static bool adopted_gone(tri_supervisor *sup, tr_self *self) {
    if (!sup->adopts || sup->adopted_done) {
        return true;
    }
    if (sup->adopted_left > 0) {
        return false;
    }
    adoption a = {.sup = sup, .self = self, .kill = false};
    if (sup->adopted_timer == 0 && tr_timer_start(self, ADOPTED_LIMIT_US, TRI_TAG_KILL_ADOPTED,
                                                  &sup->adopted_timer) != TR_OK) {
        a.kill = true;
    }
    tr_children(self, end_adopted, &a);
    sup->adopted_done = sup->adopted_left == 0;
    if (sup->adopted_done) {
        tr_timer_cancel(self, &sup->adopted_timer);
    }
    return sup->adopted_done;
}

/* ---- one thing after the other ---- */

static bool any_in(const tri_supervisor *sup, tri_child_state state) {
    for (uint32_t i = 0; i < sup->count; i++) {
        if (sup->children[i]->state == state) {
            return true;
        }
    }
    return false;
}

static void mark_all_for_end(tri_supervisor *sup, tr_self *self) {
    for (uint32_t i = 0; i < sup->count; i++) {
        tri_child *child = sup->children[i];
        child->must_start = false;
        child->must_stop = child->state == TRI_CHILD_UP || child->state == TRI_CHILD_STARTING;
        if (child->state == TRI_CHILD_WAITING) {
            tri_child_off(child, self);
        }
    }
}

/* Stops the last child that must. True when one was found. */
static bool stop_last(tri_supervisor *sup, tr_self *self) {
    for (uint32_t i = sup->count; i-- > 0;) {
        tri_child *child = sup->children[i];
        if (child->must_stop &&
            (child->state == TRI_CHILD_UP || child->state == TRI_CHILD_STARTING)) {
            tri_child_stop(child, self);
            return true;
        }
    }
    return false;
}

/* The first child that must start and may now: in the order of the list, which a child that waits
 * holds up, except where children are independent. */
static tri_child *next_start(tri_supervisor *sup) {
    if (sup->strategy == TR_ONE_FOR_ALL && any_in(sup, TRI_CHILD_WAITING)) {
        return NULL;
    }
    for (uint32_t i = 0; i < sup->count; i++) {
        tri_child *child = sup->children[i];
        if (child->state == TRI_CHILD_WAITING && sup->strategy == TR_REST_FOR_ONE) {
            return NULL;
        }
        if (child->must_start && child->state == TRI_CHILD_OFF) {
            return child;
        }
    }
    return NULL;
}

static void advance(tri_supervisor *sup, tr_self *self) {
    if (sup->phase == TRI_PHASE_ENDED) {
        return;
    }
    if (sup->phase == TRI_PHASE_ENDING) {
        mark_all_for_end(sup, self);
        if (!adopted_gone(sup, self)) {
            return;
        }
    }
    if (any_in(sup, TRI_CHILD_STOPPING) || stop_last(sup, self)) {
        return;
    }
    if (sup->phase == TRI_PHASE_ENDING) {
        sup->phase = TRI_PHASE_ENDED;
        return;
    }
    if (any_in(sup, TRI_CHILD_STARTING)) {
        return;
    }
    tri_child *child = next_start(sup);
    if (child != NULL) {
        tr_err err = tri_child_start(child, self);
        if (err != TR_OK) {
            child_down(sup, self, child, err);
        }
    } else if (sup->phase == TRI_PHASE_STARTING) {
        sup->phase = TRI_PHASE_UP;
        tr_started(self, TR_OK);
        if (sup->ends_when_up) {
            begin_end(sup, TR_ERR_SHUTDOWN);
            advance(sup, self);
        }
    }
}

/* ---- restarts ---- */

/* Whether one more restart now is within the intensity. */
static bool count_restart(tri_supervisor *sup, tr_self *self, const tri_child *child) {
    uint64_t now = tr_now_us(self);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sup->recent_count; i++) {
        if (now - sup->recent[i].at_us <= sup->period_us) {
            sup->recent[kept++] = sup->recent[i];
        }
    }
    sup->recent_count = kept;
    if (kept >= sup->intensity) {
        return false;
    }
    sup->recent[sup->recent_count++] = (tri_restarted){.at_us = now, .serial = child->serial};
    return true;
}

static void forgive(tri_supervisor *sup, tri_child *child) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sup->recent_count; i++) {
        if (sup->recent[i].serial != child->serial) {
            sup->recent[kept++] = sup->recent[i];
        }
    }
    sup->recent_count = kept;
    child->streak = 0;
}

/* A sibling that the strategy takes down and up again. Temporary ones do not come back. */
static void mark_for_restart(tr_self *self, tri_child *child) {
    bool temporary = child->spec.restart == TR_TEMPORARY;
    if (child->state == TRI_CHILD_OFF && child->must_start) {
        return; /* its turn to start is still to come */
    }
    if (child->state == TRI_CHILD_WAITING) {
        tri_child_off(child, self);
    }
    child->must_stop = child->state == TRI_CHILD_UP || child->state == TRI_CHILD_STARTING;
    child->must_start = !temporary && !child->forget;
    child->forget = child->forget || temporary;
}

static void restart(tri_supervisor *sup, tr_self *self, tri_child *child, tr_err reason) {
    if (!count_restart(sup, self, child)) {
        tr_log(TR_LOG_ERROR, self, "restarts too often, the supervisor gives up",
               "child=\"%s\" reason=%s intensity=%u period_ms=%llu", child->spec.name,
               tr_err_name(reason), sup->intensity, (unsigned long long)sup->period_us / 1000);
        bool says_why = reason != TR_OK && reason != TR_DONE && reason != TR_ERR_SHUTDOWN;
        begin_end(sup, says_why ? reason : TR_ERR_CRASHED);
        return;
    }
    bool after = false;
    for (uint32_t i = 0; i < sup->count; i++) {
        tri_child *other = sup->children[i];
        if (other == child) {
            after = true;
        } else if (sup->strategy == TR_ONE_FOR_ALL || (sup->strategy == TR_REST_FOR_ONE && after)) {
            mark_for_restart(self, other);
        }
    }
    child->must_start = true;
    uint64_t wait_us = tri_child_backoff_us(child, tr_now_us(self), sup->period_us);
    if (wait_us > 0 && tr_timer_start(self, wait_us, TRI_TAG_BACKOFF, &child->timer) == TR_OK) {
        tri_child_set(child, TRI_CHILD_WAITING);
    }
}

static bool significant_left(const tri_supervisor *sup) {
    for (uint32_t i = 0; i < sup->count; i++) {
        const tri_child *child = sup->children[i];
        if (child->spec.significant && (child->state != TRI_CHILD_OFF || child->must_start)) {
            return true;
        }
    }
    return false;
}

/* A significant child has ended by itself and does not come back. */
static void significant_ended(tri_supervisor *sup) {
    if (sup->auto_shutdown == TR_AUTO_SHUTDOWN_ALL && significant_left(sup)) {
        return;
    }
    if (sup->phase == TRI_PHASE_STARTING) {
        sup->ends_when_up = true;
    } else {
        begin_end(sup, TR_ERR_SHUTDOWN);
    }
}

/* Ended though nobody asked it to. */
static void child_failed(tri_supervisor *sup, tr_self *self, tri_child *child, tr_err reason) {
    bool normal = reason == TR_OK || reason == TR_ERR_SHUTDOWN;
    bool significant = child->spec.significant;
    tr_log(normal ? TR_LOG_DEBUG : TR_LOG_WARN, self, "child ended",
           "child=\"%s\" reason=%s restarts=%u", child->spec.name, tr_err_name(reason),
           child->restarts);
    switch (child->spec.restart) {
    case TR_TEMPORARY:
        tri_child_remove(sup, self, child, reason);
        if (significant) {
            significant_ended(sup);
        }
        break;
    case TR_TRANSIENT:
        if (!normal) {
            restart(sup, self, child, reason);
        } else if (significant) {
            significant_ended(sup);
        }
        break;
    case TR_PERMANENT:
        restart(sup, self, child, reason);
        break;
    }
}

static void child_down(tri_supervisor *sup, tr_self *self, tri_child *child, tr_err reason) {
    tri_child_state was = child->state;
    bool asked = child->must_stop || was == TRI_CHILD_STOPPING;
    tri_child_off(child, self);
    if (child->forget) {
        bool unborn = child->answer != NULL && child->answer->kind == TR_KIND_START_CHILD;
        tri_child_remove(sup, self, child, unborn ? TR_ERR_CANCELLED : TR_OK);
    } else if (asked || sup->phase == TRI_PHASE_ENDING) {
        /* advance() knows what follows from its marks. */
    } else if (was == TRI_CHILD_UP) {
        child_failed(sup, self, child, reason);
    } else {
        reason = reason == TR_OK ? TR_ERR_GONE : reason;
        if (child->answer != NULL) {
            tri_child_remove(sup, self, child, reason);
        } else if (sup->phase == TRI_PHASE_STARTING) {
            tr_log(TR_LOG_ERROR, self, "child does not start", "child=\"%s\" reason=%s",
                   child->spec.name, tr_err_name(reason));
            begin_end(sup, reason);
        } else {
            restart(sup, self, child, reason);
        }
    }
    advance(sup, self);
}

/* ---- messages ---- */

static void on_started(tri_supervisor *sup, tr_self *self, const tr_msg *msg) {
    const tr_started_note *note = (const tr_started_note *)(const void *)msg->data;
    tri_child *child = tri_child_by_serial(sup, msg->ref);
    if (child == NULL || note->err != TR_OK || child->state != TRI_CHILD_STARTING) {
        return; /* DOWN says the rest */
    }
    tri_child_set(child, TRI_CHILD_UP);
    child->id = note->id;
    child->up_since_us = tr_now_us(self);
    tri_child_answer(self, child, TR_OK);
    advance(sup, self);
}

static void on_down(tri_supervisor *sup, tr_self *self, const tr_msg *msg) {
    tri_child *child = tri_child_by_watch(sup, msg->ref);
    if (child != NULL) {
        const tr_ended *ended = (const tr_ended *)(const void *)msg->data;
        child_down(sup, self, child, (tr_err)ended->reason);
    } else if (sup->adopted_left > 0) {
        sup->adopted_left--;
        advance(sup, self);
    }
}

static void on_timer(tri_supervisor *sup, tr_self *self, const tr_msg *msg) {
    if (msg->flags == TRI_TAG_KILL_ADOPTED) {
        adoption a = {.sup = sup, .self = self, .kill = true};
        sup->adopted_timer = 0;
        tr_children(self, end_adopted, &a);
        return;
    }
    tri_child *child = tri_child_by_timer(sup, msg->ref);
    if (child == NULL) {
        return;
    }
    child->timer = 0;
    if (msg->flags == TRI_TAG_KILL && child->state == TRI_CHILD_STOPPING) {
        tr_log(TR_LOG_WARN, self, "child did not stop in time, killed", "child=\"%s\"",
               child->spec.name);
        tri_child_kill(child, self);
    } else if (msg->flags == TRI_TAG_BACKOFF && child->state == TRI_CHILD_WAITING) {
        tri_child_set(child, TRI_CHILD_OFF);
        advance(sup, self);
    }
}

/* The request itself becomes its answer: it has the room. */
static tr_msg *answerable(tr_msg **msg) {
    tr_msg *taken = *msg;
    *msg = NULL;
    TR_ASSERT(taken->size >= sizeof(tr_started_note));
    return taken;
}

static void answer_now(tr_self *self, tr_msg *request, tr_err err) {
    tri_child nobody = {.answer = request};
    tri_child_answer(self, &nobody, err);
}

static void on_start_child(tri_supervisor *sup, tr_self *self, tr_msg **msg) {
    tr_msg *request = answerable(msg);
    const tr_child_spec *spec = (const tr_child_spec *)(const void *)request->data;
    tri_child *child;
    tr_err err =
        sup->phase >= TRI_PHASE_ENDING ? TR_ERR_SHUTDOWN : tri_child_add(sup, spec, &child);
    if (err != TR_OK) {
        answer_now(self, request, err);
        return;
    }
    child->answer = request;
    child->must_start = true;
    advance(sup, self);
}

static void on_stop_child(tri_supervisor *sup, tr_self *self, tr_msg **msg) {
    tr_msg *request = answerable(msg);
    tri_child *child = tri_child_by_name(sup, (const char *)request->data);
    if (child == NULL || child->forget) {
        answer_now(self, request, TR_ERR_NOT_FOUND);
        return;
    }
    tri_child_answer(self, child, TR_ERR_CANCELLED); /* it was about to start */
    child->answer = request;
    child->forget = true;
    child->must_start = false;
    child->must_stop = true;
    if (child->state == TRI_CHILD_WAITING) {
        tri_child_off(child, self);
    }
    if (child->state == TRI_CHILD_OFF) {
        tri_child_remove(sup, self, child, TR_OK);
    }
    advance(sup, self);
}

static tr_err supervisor_handle(tr_self *self, void *state, tr_msg **msg) {
    tri_supervisor *sup = state;
    switch ((*msg)->kind) {
    case TR_KIND_STARTED:
        on_started(sup, self, *msg);
        break;
    case TR_KIND_DOWN:
        on_down(sup, self, *msg);
        break;
    case TR_KIND_TIMER:
        on_timer(sup, self, *msg);
        break;
    case TR_KIND_EXIT:
        begin_end(sup, (tr_err)((const tr_ended *)(const void *)(*msg)->data)->reason);
        advance(sup, self);
        break;
    case TR_KIND_START_CHILD:
        on_start_child(sup, self, msg);
        break;
    case TR_KIND_STOP_CHILD:
        on_stop_child(sup, self, msg);
        break;
    case TR_KIND_FORGIVE_CHILD: {
        tri_child *child = tri_child_by_name(sup, (const char *)(*msg)->data);
        if (child != NULL) {
            forgive(sup, child);
        }
        break;
    }
    default:
        break;
    }
    if (sup->phase != TRI_PHASE_ENDED) {
        return TR_OK;
    }
    return sup->reason == TR_OK ? TR_DONE : sup->reason;
}

/* ---- life ---- */

static void release(tri_supervisor *sup, tr_self *self) {
    for (uint32_t i = sup->count; i-- > 0;) {
        tri_child *child = sup->children[i];
        if (child->state != TRI_CHILD_OFF) {
            if (child->state != TRI_CHILD_WAITING) {
                tri_child_kill(child, self);
            }
            tri_child_off(child, self);
        }
        tri_child_answer(self, child, TR_ERR_SHUTDOWN);
        tr_free(child);
    }
    tr_free(sup->children);
    tr_free(sup->recent);
    sup->children = NULL;
    sup->recent = NULL;
    sup->count = 0;
}

static tr_err supervisor_init(tr_self *self, void *state, const void *args) {
    tri_supervisor *sup = state;
    const tr_supervisor_args *given = args;
    bool defaults = given->intensity == 0 && given->period_ms == 0;
    sup->strategy = given->strategy;
    sup->adopts = given->adopts;
    sup->auto_shutdown = given->auto_shutdown;
    sup->intensity = defaults ? TR_RESTARTS_default : given->intensity;
    sup->period_us = (defaults ? TR_PERIOD_MS_default : given->period_ms) * (uint64_t)1000;
    sup->recent = tr_zalloc((sup->intensity + (size_t)1) * sizeof *sup->recent);
    tr_err err = sup->recent != NULL ? TR_OK : TR_ERR_NOMEM;
    for (size_t i = 0; err == TR_OK && i < given->child_count; i++) {
        tri_child *child;
        err = tri_child_add(sup, &given->children[i], &child);
        if (err == TR_OK) {
            child->must_start = true;
        }
    }
    if (err == TR_OK) {
        advance(sup, self);
        err = sup->phase == TRI_PHASE_ENDED ? sup->reason : TR_OK;
    }
    if (err != TR_OK) {
        release(sup, self);
    }
    return err;
}

static void supervisor_stop(tr_self *self, void *state, tr_err reason) {
    (void)reason;
    tri_supervisor *sup = state;
    if (sup->adopts && !sup->adopted_done) {
        adoption a = {.sup = sup, .self = self, .kill = true};
        tr_children(self, end_adopted, &a);
    }
    release(sup, self);
}

static void supervisor_describe(const void *state, char *buf, size_t size) {
    static const char *const phases[] = {[TRI_PHASE_STARTING] = "starting",
                                         [TRI_PHASE_UP] = "up",
                                         [TRI_PHASE_ENDING] = "stopping",
                                         [TRI_PHASE_ENDED] = "stopped"};
    const tri_supervisor *sup = state;
    uint32_t up = 0;
    for (uint32_t i = 0; i < sup->count; i++) {
        up += sup->children[i]->state == TRI_CHILD_UP ? 1 : 0;
    }
    snprintf(buf, size, "%s, %u of %u children up", phases[sup->phase], up, sup->count);
}

const tr_behaviour tr_supervisor = {.name = "supervisor",
                                    .state_size = sizeof(tri_supervisor),
                                    .traps_exit = true,
                                    .acks_itself = true,
                                    .init = supervisor_init,
                                    .handle = supervisor_handle,
                                    .stop = supervisor_stop,
                                    .describe = supervisor_describe};

tr_msg *tr_start_child(const tr_child_spec *spec, uint64_t ref) {
    tr_msg *msg = tr_msg_new(TR_KIND_START_CHILD, sizeof *spec);
    if (msg != NULL) {
        memcpy(msg->data, spec, sizeof *spec);
        msg->flags = TR_MSG_LOCAL;
        msg->ref = ref;
    }
    return msg;
}

static tr_msg *named(uint16_t kind, const char *name, uint64_t ref) {
    size_t size = strnlen(name, TR_ACTOR_NAME_max);
    size_t room = size + 1 < sizeof(tr_started_note) ? sizeof(tr_started_note) : size + 1;
    tr_msg *msg = tr_msg_new(kind, room);
    if (msg != NULL) {
        memcpy(msg->data, name, size);
        msg->ref = ref;
    }
    return msg;
}

tr_msg *tr_stop_child(const char *name, uint64_t ref) {
    return named(TR_KIND_STOP_CHILD, name, ref);
}

tr_msg *tr_forgive_child(const char *name) {
    return named(TR_KIND_FORGIVE_CHILD, name, 0);
}
