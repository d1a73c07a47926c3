/* What a limiter tells about itself: as JSON to whoever asks, in a line for the tree. Called by the
 * limiter, on its shard. */
#include "actors/limiter_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/answer.h"

static void number(tr_jsonw *w, const char *name, uint64_t value) {
    tr_jsonw_name(w, name);
    tr_jsonw_uint(w, value);
}

static void write_learned(tr_jsonw *w, const char *name, const tr_learned_budget *learned,
                          uint64_t now_us) {
    if (learned->left >= 0 && learned->until_us > now_us) {
        tr_jsonw_name(w, name);
        tr_jsonw_open(w, '{');
        number(w, "left", (uint64_t)learned->left);
        number(w, "reset_ms", (learned->until_us - now_us + 999) / 1000);
        tr_jsonw_close(w, '}');
    }
}

static void write_both(tr_jsonw *w, const tr_learned *learned, uint64_t now_us) {
    tr_jsonw_name(w, "learned");
    tr_jsonw_open(w, '{');
    write_learned(w, "requests", &learned->requests, now_us);
    write_learned(w, "tokens", &learned->tokens, now_us);
    tr_jsonw_close(w, '}');
}

static void write_target(tr_jsonw *w, const tr_health_target *target, uint64_t now_us) {
    tr_breaker_state state = tr_breaker_state_at(&target->breaker, now_us);
    tr_jsonw_open(w, '{');
    tr_jsonw_name(w, "model");
    tr_jsonw_text(w, target->model);
    tr_jsonw_name(w, "breaker");
    tr_jsonw_text(w, tr_breaker_state_name(state));
    number(w, "running", target->running);
    number(w, "first_token_ms", target->first_token_ms);
    number(w, "retries_left", tr_budget_left(&target->budget, now_us));
    if (state == TR_BREAKER_OPEN) {
        number(w, "open_ms", (target->breaker.until_us - now_us + 999) / 1000);
    }
    if (target->learned.requests.until_us > now_us || target->learned.tokens.until_us > now_us) {
        write_both(w, &target->learned, now_us);
    }
    if (target->why[0] != '\0') {
        tr_jsonw_name(w, "last_failure");
        tr_jsonw_text(w, target->why);
    }
    tr_jsonw_close(w, '}');
}

tr_err tri_limiter_tell_status(tr_self *self, const tri_limiter *l, const tr_msg *asked) {
    uint64_t now_us = tr_now_us(self);
    tr_jsonw w;
    tr_jsonw_init(&w);
    tr_jsonw_open(&w, '{');
    tr_jsonw_name(&w, "gate");
    tr_jsonw_text(&w, "limiter");
    tr_jsonw_name(&w, "provider");
    tr_jsonw_text(&w, l->args.provider);
    number(&w, "used", l->line.used);
    number(&w, "at_once", l->limits.at_once);
    number(&w, "waiting", l->line.waiting);
    number(&w, "rpm", l->limits.rpm);
    number(&w, "tpm", l->limits.tpm);
    number(&w, "burst", l->limits.burst);
    if (l->limits.adaptive != 0) {
        number(&w, "adaptive", tri_limiter_slots(l));
    }
    number(&w, "tokens_reserved", l->reserved);
    if (l->limits.rpm > 0) {
        number(&w, "requests_free", tr_gcra_free(&l->requests, now_us));
    }
    if (l->limits.tpm > 0) {
        number(&w, "tokens_free", tr_gcra_free(&l->tokens, now_us));
    }
    write_both(&w, &l->learned, now_us);
    tr_jsonw_name(&w, "targets");
    tr_jsonw_open(&w, '[');
    for (uint32_t i = 0; i < l->health.count; i++) {
        write_target(&w, l->health.targets[i], now_us);
    }
    tr_jsonw_close(&w, ']');
    tr_jsonw_close(&w, '}');
    return tr_send_json(self, asked, TR_KIND_STATUSED, &w);
}

void tri_limiter_describe(const void *state, char *buf, size_t size) {
    const tri_limiter *l = state;
    snprintf(buf, size, "%u of %u slots, %u waiting, %" PRIu64 " granted", l->line.used,
             l->limits.at_once, l->line.waiting, l->line.granted);
}
