/*
 * Slots, two rates, what the provider said of its own limits, the health of its models, and a line.
 * Whenever one of them changes, or a timer says that a rate allows the next, the head of the line
 * is looked at; nothing else ever grants. Each model has an aisle in the line, so that one which is
 * held by what its provider said of it alone delays no other. Whoever cannot be served at all (a
 * target that is not asked, no retry left, limits that are not reset in time) is refused when it
 * comes, and does not wait. One actor a provider, on shard 0.
 *
 * A grant reserves an estimate of tokens and is settled with what was used. Requests are given back
 * only when nothing was sent; a call that ends without SETTLE keeps its estimate charged, since
 * nobody knows what the provider counted.
 */
#include "actors/limiter_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/assert.h"
#include "runtime/log.h"
#include "runtime/planted.h"

#define HOLD_US_max (TR_LIMITER_HOLD_MS_max * 1000ULL)
/* A time-out before this says more about the request's own limit than about its target. */
#define PATIENCE_US 1000000U

static uint32_t load(const _Atomic uint32_t *number) {
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void store(_Atomic uint32_t *number, uint32_t value) {
    atomic_store_explicit(number, value, memory_order_relaxed);
}

/* --- limits --- */

static void refresh(tri_limiter *l, uint64_t now_us) {
    const tr_limits_now *now = l->args.now;
    tr_limit limits = {.at_once = load(&now->at_once),
                       .rpm = load(&now->rpm),
                       .tpm = load(&now->tpm),
                       .burst = load(&now->burst),
                       .adaptive = load(&now->adaptive)};
    if (memcmp(&limits, &l->limits, sizeof limits) != 0) {
        l->aimd = limits.adaptive != 0 ? l->aimd : (tr_aimd){0};
        l->limits = limits;
        tr_gcra_set(&l->requests, limits.rpm, limits.burst, now_us);
        tr_gcra_set(&l->tokens, limits.tpm, 0, now_us);
    }
}

static void change(tri_limiter *l, const tr_limit *limit) {
    tr_limits_now *now = l->args.now;
    if ((limit->flags & TR_LIMIT_AT_ONCE) != 0 && limit->at_once > 0) {
        store(&now->at_once, limit->at_once);
    }
    if ((limit->flags & TR_LIMIT_RPM) != 0) {
        store(&now->rpm, limit->rpm);
    }
    if ((limit->flags & TR_LIMIT_TPM) != 0) {
        store(&now->tpm, limit->tpm);
    }
    if ((limit->flags & TR_LIMIT_BURST) != 0) {
        store(&now->burst, limit->burst);
    }
    if ((limit->flags & TR_LIMIT_ADAPTIVE) != 0) {
        store(&now->adaptive, limit->adaptive);
    }
}

uint32_t tri_limiter_slots(const tri_limiter *l) {
    return l->limits.adaptive != 0 ? tr_aimd_slots(&l->aimd, l->limits.at_once) : l->limits.at_once;
}

/* --- what the provider said --- */

/* What is left without the time of its reset tells nothing about later. */
static tr_learned_budget learn(int64_t left, int64_t reset_ms, uint64_t now_us) {
    bool lasts = left >= 0 && reset_ms > 0 && reset_ms < INT64_MAX / 1000;
    return (tr_learned_budget){.left = lasts ? left : -1,
                               .until_us = lasts ? now_us + (uint64_t)reset_ms * 1000 : 0};
}

/* How long a request of that cost has to wait for the reset. */
static uint64_t held_us(const tr_learned_budget *learned, uint32_t cost, uint64_t now_us) {
    bool held = learned->left >= 0 && learned->left < cost && learned->until_us > now_us;
    return held ? learned->until_us - now_us : 0;
}

static void spend(tr_learned_budget *learned, uint32_t cost) {
    if (learned->left >= 0) {
        learned->left = learned->left > cost ? learned->left - cost : 0;
    }
}

static uint64_t learned_us(const tr_learned *learned, uint32_t tokens, uint64_t now_us) {
    uint64_t requests_us = held_us(&learned->requests, 1, now_us);
    uint64_t tokens_us = held_us(&learned->tokens, tokens, now_us);
    return requests_us > tokens_us ? requests_us : tokens_us;
}

/* `target` NULL: what holds for all of the provider's models. */
static uint64_t hold_us(const tri_limiter *l, const tr_health_target *target, uint32_t tokens,
                        uint64_t now_us) {
    uint64_t all_us = learned_us(&l->learned, tokens, now_us);
    uint64_t own_us = target != NULL ? learned_us(&target->learned, tokens, now_us) : 0;
    return all_us > own_us ? all_us : own_us;
}

static void spend_learned(tr_learned *learned, uint32_t tokens) {
    spend(&learned->requests, 1);
    spend(&learned->tokens, tokens);
}

/* --- refusing --- */

__attribute__((format(printf, 3, 4))) static tr_msg *refusal(tr_err err, uint32_t after_ms,
                                                             const char *format, ...) {
    char text[TR_MESSAGE_max + 1];
    va_list args;
    va_start(args, format);
    /* clang 14 loses sight of va_start here. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tr_fail head = {.err = (uint16_t)err,
                    .flags = TR_FAIL_RETRY_AFTER,
                    .retry_after_ms = after_ms,
                    .usage.cost = __builtin_nan("")};
    tr_end_view view = {.message = {text, tr_utf8_plain(text, strlen(text))}};
    return tr_msg_fail(&head, &view);
}

static tr_msg *held_refusal(const tri_limiter *l, uint64_t us) {
    uint32_t ms = (uint32_t)(us / 1000 < UINT32_MAX ? us / 1000 + 1 : UINT32_MAX);
    return refusal(TR_ERR_RATE_LIMIT, ms,
                   "%s says that its rate limit is used up and will be reset in %u.%u s",
                   l->args.provider, ms / 1000, ms / 100 % 10);
}

static tr_msg *ill_refusal(const tri_limiter *l, const tr_health_target *target, uint32_t ms) {
    return refusal(
        TR_ERR_OVERLOADED, ms,
        "%s/%s is not asked for another %u.%u s: it failed %u times in a row" TR_LIMITER_last "%s",
        l->args.provider, target->model, ms / 1000, ms / 100 % 10, target->failed, target->why);
}

static tr_msg *budget_refusal(const tri_limiter *l, const tr_health_target *target) {
    return refusal(TR_ERR_OVERLOADED, 1000 / TR_BUDGET_PER_SECOND,
                   "the retry budget of %s/%s is used up", l->args.provider, target->model);
}

/* Why some of those who wait are refused. */
typedef struct occasion {
    const tri_limiter *limiter;
    const tr_health_target *target; /* which has just been given up */
    uint64_t now_us;
} occasion;

/* A waiting one that would not live to see the reset. */
static tr_msg *hopeless(void *arg, const tr_holder *holder) {
    const occasion *o = arg;
    const tri_grant *g = (const tri_grant *)holder;
    uint64_t us = hold_us(o->limiter, g->target, g->tokens, o->now_us);
    bool late = us > HOLD_US_max || o->now_us + us >= holder->until.us;
    return us > 0 && late && !holder->mid_answer ? held_refusal(o->limiter, us) : NULL;
}

static tr_msg *unasked(void *arg, const tr_holder *holder) {
    const occasion *o = arg;
    if (((const tri_grant *)holder)->target != o->target || holder->mid_answer) {
        return NULL;
    }
    uint64_t rest_us = o->target->breaker.until_us - o->now_us;
    return ill_refusal(o->limiter, o->target, (uint32_t)((rest_us + 999) / 1000));
}

/* --- granting --- */

static tr_id backend_for(tr_self *self, const tri_limiter *l, tr_id call) {
    char name[TR_ACTOR_NAME_max + 1];
    snprintf(name, sizeof name, "provider:%s:%u", l->args.provider, tr_id_shard(call));
    return tr_whereis(tr_self_node(self), name);
}

/* What its own model does not tell: that stops the whole line. */
static uint64_t wait_us(const tri_limiter *l, const tri_grant *g, uint64_t now_us) {
    uint64_t wait = learned_us(&l->learned, g->tokens, now_us);
    uint64_t requests = tr_gcra_wait_us(&l->requests, 1, now_us);
    uint64_t tokens = tr_gcra_wait_us(&l->tokens, g->tokens, now_us);
    wait = requests > wait ? requests : wait;
    return tokens > wait ? tokens : wait;
}

/* It may only come too early: then it is set again. */
TR_MUST_USE static tr_err arm(tr_self *self, tri_limiter *l, uint64_t wait) {
    uint64_t due_us = tr_now_us(self) + wait;
    if (l->timer != 0 && l->timer_due_us <= due_us) {
        return TR_OK;
    }
    tr_timer_cancel(self, &l->timer);
    l->timer_due_us = due_us;
    return tr_timer_start(self, wait, 0, &l->timer);
}

static void take(tr_self *self, tri_limiter *l, tri_grant *g) {
    uint64_t now_us = tr_now_us(self);
    g->granted_us = now_us;
    tr_gcra_take(&l->requests, 1, now_us);
    tr_gcra_take(&l->tokens, g->tokens, now_us);
    spend_learned(&l->learned, g->tokens);
    l->reserved += g->tokens;
    g->taken = true;
    if (g->target != NULL) {
        spend_learned(&g->target->learned, g->tokens);
        g->target->running++;
    }
}

/* Its model is, whatever the others are. */
static bool is_held(void *arg, tr_self *self, const tr_holder *holder) {
    tri_limiter *l = arg;
    const tri_grant *g = (const tri_grant *)holder;
    uint64_t us =
        g->target != NULL ? learned_us(&g->target->learned, g->tokens, tr_now_us(self)) : 0;
    if (us > 0 && (l->held_us == 0 || us < l->held_us)) {
        l->held_us = us;
    }
    return us > 0;
}

/* Of those whose models are not held, with a timer for when the next of them is free. */
static tri_grant *next_free(tr_self *self, tri_limiter *l) {
    for (;;) {
        l->held_us = 0;
        tri_grant *g = (tri_grant *)tr_line_next(&l->line, self);
        bool armed = l->held_us == 0 || arm(self, l, l->held_us) == TR_OK;
        if (armed || g != NULL) {
            return g;
        }
        tr_line_refuse_all(&l->line, self, TR_ERR_NOMEM, "out of memory");
    }
}

static void grant_waiting(tr_self *self, tri_limiter *l) {
    tri_grant *g = NULL;
    refresh(l, tr_now_us(self)); /* there may be more slots than a moment ago */
    while (l->line.used < tri_limiter_slots(l) && (g = next_free(self, l)) != NULL) {
        uint64_t wait = wait_us(l, g, tr_now_us(self));
        if (wait > 0) {
            if (arm(self, l, wait) == TR_OK) {
                return;
            }
            tr_line_refuse(&l->line, self, &g->base, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
            continue;
        }
        tr_id backend = backend_for(self, l, g->base.call);
        if (backend == TR_ID_NONE) {
            tr_line_refuse(&l->line, self, &g->base,
                           tr_msg_failf(TR_ERR_SERVER, "the provider %s is being restarted",
                                        l->args.provider));
        } else if (tr_line_grant(&l->line, self, &g->base,
                                 (tr_granted){.backend = backend, .wants_flows = g->probe}) !=
                   TR_OK) {
            tr_line_refuse(&l->line, self, &g->base, tr_msg_failf(TR_ERR_NOMEM, "out of memory"));
        } else {
            take(self, l, g);
        }
    }
}

/* --- the messages --- */

static void refuse(tr_self *self, const tr_msg *reserve, tr_msg *fail) {
    if (fail != NULL) { /* without memory the call's own deadline ends it */
        fail->ref = reserve->ref;
        (void)tr_send_control(self, reserve->from, fail);
    }
}

/* Whether it may stand in line at all. */
static bool admit(tr_self *self, tri_limiter *l, const tr_msg *msg, tr_health_target *target,
                  bool *ret_probe) {
    const tr_reserve *want = (const tr_reserve *)msg->data;
    uint64_t now_us = tr_now_us(self);
    uint64_t us = hold_us(l, target, want->tokens, now_us);
    if (us > 0 && (us > HOLD_US_max || us >= want->remaining_ms * 1000ULL)) {
        refuse(self, msg, held_refusal(l, us));
        return false;
    }
    if (target == NULL) {
        return true;
    }
    bool again = (want->flags & TR_RESERVE_RETRY) != 0;
    if (again && tr_budget_left(&target->budget, now_us) == 0) {
        refuse(self, msg, budget_refusal(l, target));
        return false;
    }
    uint32_t wait_ms;
    if (!tr_breaker_admits(&target->breaker, now_us, ret_probe, &wait_ms)) {
        refuse(self, msg, ill_refusal(l, target, wait_ms));
        return false;
    }
    if (again) {
        (void)tr_budget_take(&target->budget, now_us);
    } else {
        tr_budget_first(&target->budget);
    }
    return true;
}

static void reserve(tr_self *self, tri_limiter *l, const tr_msg *msg) {
    const tr_reserve *want = (const tr_reserve *)msg->data;
    if (tr_line_find(&l->line, msg->from, msg->ref) != NULL) {
        return; /* asked twice: the first stands */
    }
    TR_ASSERT(msg->size >= sizeof *want + want->model_size);
    tr_str model = {(const char *)(want + 1), want->model_size};
    uint64_t now_us = tr_now_us(self);
    tr_health_target *target = tr_health_find(&l->health, model, now_us);
    bool probe = false;
    bool again = want->mid_answer == 0 && target != NULL && (want->flags & TR_RESERVE_RETRY) != 0;
    if (want->mid_answer == 0 && !admit(self, l, msg, target, &probe)) {
        return;
    }
    uint32_t aisle = target != NULL ? 1 + target->place : 0;
    tri_grant *g = (tri_grant *)tr_line_reserve(&l->line, self, msg, aisle, false);
    if (g == NULL) {
        if (probe) {
            (void)tr_health_ended(target, TR_VERDICT_NONE, true, (tr_str){"", 0}, now_us, 0);
        }
        if (again) {
            tr_budget_return(&target->budget);
        }
        return;
    }
    g->tokens = want->tokens < TR_LIMITER_TOKENS_max ? want->tokens : TR_LIMITER_TOKENS_max;
    g->target = target;
    g->probe = probe;
    g->again = again;
    if (target != NULL) {
        target->holders++;
    }
}

/* What the provider has counted. Where it did not say, the estimate stands, unless it refused. */
static uint32_t used_of(const tri_grant *g, const tr_settle *settle) {
    const uint64_t max = TR_LIMITER_TOKENS_max;
    uint64_t in = settle->tokens_in < max ? settle->tokens_in : max;
    uint64_t out = settle->tokens_out < max ? settle->tokens_out : max;
    tr_err err = (tr_err)settle->err;
    bool begun = settle->progressed != 0 || err == TR_OK || err == TR_ERR_CANCELLED ||
                 err == TR_ERR_TIMEOUT || err == TR_ERR_TRUNCATED || err == TR_ERR_STALLED ||
                 err == TR_ERR_CRASHED || err == TR_ERR_SHUTDOWN;
    if (in == 0 && begun) {
        in = g->tokens;
    }
    return (uint32_t)(in + out < max ? in + out : max);
}

/* The way out of every reservation, whatever ended it: what SETTLE has not settled before. */
static void released(void *arg, tr_self *self, tr_holder *holder) {
    tri_limiter *l = arg;
    tri_grant *g = (tri_grant *)holder;
    if (g->taken) {
        TR_ASSERT(l->reserved >= g->tokens);
        l->reserved -= g->tokens;
    }
    if (g->target == NULL) {
        return;
    }
    if (g->probe) {
        (void)tr_health_ended(g->target, TR_VERDICT_NONE, true, (tr_str){"", 0}, tr_now_us(self),
                              0);
    }
    if (g->again && !g->taken) {
        tr_budget_return(&g->target->budget);
    }
    TR_ASSERT(g->target->holders > 0);
    g->target->holders--;
    g->target->running -= g->taken ? 1 : 0;
}

/* Its target's breaker has opened: who waits for it is told. */
static void give_up(tr_self *self, tri_limiter *l, const tr_health_target *target) {
    uint64_t now_us = tr_now_us(self);
    if (tr_log_on(TR_LOG_WARN)) {
        char quoted[300];
        tr_log(TR_LOG_WARN, self, "a target does not answer: it is left alone for a while",
               "target=%s/%s failures=%u ms=%u why=%s", l->args.provider, target->model,
               target->failed, (unsigned)((target->breaker.until_us - now_us) / 1000),
               tr_log_quote(target->why, strlen(target->why), quoted, sizeof quoted));
    }
    occasion o = {.limiter = l, .target = target, .now_us = now_us};
    tr_line_refuse_some(&l->line, self, unasked, &o);
}

/* What the end of a granted request tells about how many the provider bears. */
static void adapt(tr_self *self, tri_limiter *l, const tri_grant *g, const tr_settle *settle) {
    if (l->limits.adaptive == 0 || (settle->flags & TR_SETTLE_UNUSED) != 0) {
        return;
    }
    bool late = settle->first_token_ms > 0 &&
                tr_pace_is_late(&g->target->pace, settle->first_token_ms * 1000ULL);
    uint32_t before = tri_limiter_slots(l);
    if (tr_aimd_ended(&l->aimd, (tr_err)settle->err, late, l->line.used, l->limits.at_once,
                      g->granted_us, tr_now_us(self)) &&
        tr_log_on(TR_LOG_INFO)) {
        tr_log(TR_LOG_INFO, self, "fewer requests run at once", "target=%s/%s slots=%u before=%u",
               l->args.provider, g->target->model, tri_limiter_slots(l), before);
    }
}

/* True: the target's breaker has opened. */
static bool settle_grant(tr_self *self, tri_limiter *l, tri_grant *g, const tr_msg *msg) {
    const tr_settle *settle = (const tr_settle *)msg->data;
    uint64_t now_us = tr_now_us(self);
    bool unused = (settle->flags & TR_SETTLE_UNUSED) != 0;
    if (unused) {
        tr_gcra_return(&l->requests, 1, g->granted_us, now_us);
    }
    tr_gcra_settle(&l->tokens, g->tokens, unused ? 0 : used_of(g, settle), now_us);
    if (g->target == NULL) {
        return false;
    }
    if (settle->first_token_ms > 0) {
        tr_health_first_token(g->target, settle->first_token_ms);
    }
    adapt(self, l, g, settle);
    bool hasty = settle->err == TR_ERR_TIMEOUT && now_us - g->granted_us < PATIENCE_US;
    tr_verdict verdict = unused || hasty
                             ? TR_VERDICT_NONE
                             : tr_breaker_verdict((tr_err)settle->err, settle->progressed != 0);
    size_t why_size = settle->why_size < msg->size - sizeof *settle ? settle->why_size
                                                                    : msg->size - sizeof *settle;
    tr_str why = {(const char *)(settle + 1), why_size};
    if (why.size == 0) {
        why.ptr = tr_err_text((tr_err)settle->err);
        why.size = strlen(why.ptr);
    }
    bool probe = g->probe;
    g->probe = false;
    return tr_health_ended(g->target, verdict, probe, why, now_us, tr_random(self));
}

/* Always false, but for the simulator's planted bug. */
static bool keeps_slot(const tr_settle *settle) {
    return TR_PLANTED(TR_BUG_SLOT_LEAK) && settle->err != TR_OK;
}

static void settle(tr_self *self, tri_limiter *l, const tr_msg *msg) {
    tri_grant *g = (tri_grant *)tr_line_find(&l->line, msg->from, msg->ref);
    if (g == NULL || keeps_slot((const tr_settle *)msg->data)) {
        return;
    }
    tr_health_target *target = g->target;
    bool opened = g->taken && settle_grant(self, l, g, msg);
    tr_line_release(&l->line, self, &g->base);
    if (opened) {
        give_up(self, l, target);
    }
}

/* A probe's target answers: nobody need wait for the end of what it says. */
static void flows(tr_self *self, tri_limiter *l, const tr_msg *msg) {
    tri_grant *g = (tri_grant *)tr_line_find(&l->line, msg->from, msg->ref);
    if (g != NULL && g->taken && g->probe) {
        g->probe = false;
        (void)tr_health_ended(g->target, TR_VERDICT_GOOD, true, (tr_str){"", 0}, tr_now_us(self),
                              0);
    }
}

static void rates_came(tr_self *self, tri_limiter *l, const tr_msg *msg) {
    const tr_rates *rates = (const tr_rates *)msg->data;
    uint64_t now_us = tr_now_us(self);
    tr_str model = {(const char *)(rates + 1), msg->size - sizeof *rates};
    tr_health_target *target = tr_health_find(&l->health, model, now_us);
    tr_learned *learned = target != NULL ? &target->learned : &l->learned;
    if (rates->requests_left >= 0) {
        learned->requests = learn(rates->requests_left, rates->requests_reset_ms, now_us);
    }
    if (rates->tokens_left >= 0) {
        learned->tokens = learn(rates->tokens_left, rates->tokens_reset_ms, now_us);
    }
    const tr_due *first = tr_dues_first(&l->line.late);
    uint64_t us = hold_us(l, target, 1, now_us);
    if (us > 0 && first != NULL && (us > HOLD_US_max || now_us + us >= first->us)) {
        occasion o = {.limiter = l, .now_us = now_us};
        tr_line_refuse_some(&l->line, self, hopeless, &o);
    }
}

/* --- the actor --- */

static tr_err init(tr_self *self, void *state, const void *args) {
    tri_limiter *l = state;
    l->args = *(const tr_limiter_args *)args;
    TR_ASSERT(l->args.waiting_max > 0);
    if (l->args.now == NULL) {
        store(&l->own.at_once, l->args.at_once);
        store(&l->own.rpm, l->args.rpm);
        store(&l->own.tpm, l->args.tpm);
        store(&l->own.burst, l->args.burst);
        store(&l->own.adaptive, l->args.adaptive);
        l->args.now = &l->own;
    }
    refresh(l, tr_now_us(self));
    TR_ASSERT(l->limits.at_once > 0);
    l->learned.requests.left = l->learned.tokens.left = -1;
    l->line = (tr_line){.name = l->args.provider,
                        .holder_size = sizeof(tri_grant),
                        .waiting_max = l->args.waiting_max,
                        .released = released,
                        .held = is_held,
                        .arg = l};
    return TR_OK;
}

static tr_err handle(tr_self *self, void *state, tr_msg **msg) {
    tri_limiter *l = state;
    switch ((*msg)->kind) {
    case TR_KIND_RESERVE:
        grant_waiting(self, l); /* who came before goes before */
        reserve(self, l, *msg);
        break;
    case TR_KIND_SETTLE:
        settle(self, l, *msg);
        break;
    case TR_KIND_FLOWS:
        flows(self, l, *msg);
        break;
    case TR_KIND_DOWN:
        if (!TR_PLANTED(TR_BUG_SLOT_LEAK)) {
            tr_line_call_ended(&l->line, self, (*msg)->from, NULL, NULL);
        }
        break;
    case TR_KIND_RATES:
        rates_came(self, l, *msg);
        break;
    case TR_KIND_TIMER:
        l->timer = (*msg)->ref == l->timer ? 0 : l->timer;
        break;
    case TR_KIND_LIMIT_CHANGED:
        break;
    case TR_KIND_LIMIT:
        change(l, (const tr_limit *)(*msg)->data);
        grant_waiting(self, l);
        (void)tri_limiter_tell_status(self, l, *msg); /* whoever asked has a time limit */
        return TR_OK;
    case TR_KIND_STATUS:
        (void)tri_limiter_tell_status(self, l, *msg);
        return TR_OK;
    default:
        return TR_OK;
    }
    grant_waiting(self, l);
    return TR_OK;
}

static void stop(tr_self *self, void *state, tr_err reason) {
    (void)self;
    (void)reason;
    tri_limiter *l = state;
    tr_line_fini(&l->line);
    tr_health_fini(&l->health);
}

_Static_assert(TR_HEALTH_TARGETS_max < TR_TURNS_AISLES, "an aisle for each target");

const tr_behaviour tr_limiter = {
    .name = "limiter",
    .state_size = sizeof(tri_limiter),
    .init = init,
    .handle = handle,
    .stop = stop,
    .describe = tri_limiter_describe,
};
