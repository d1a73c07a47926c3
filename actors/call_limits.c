/*
 * The limits in time. One timer serves them all: it looks at what is due and sets itself again, and
 * may only come too early. Connecting, the first token and silence are an attempt's, and another
 * may follow it; the total is the request's.
 *
 * Called by the other parts of the call; on its shard.
 */
#include <stdio.h>
#include <string.h>

#include "actors/call_internal.h"
#include "actors/call_shape.h"

/* Whether the present backend has to read all that was before its first own token. */
static bool is_replaying(const tri_call *c) {
    return c->seq > 0 && c->seq == c->seq_at_attempt;
}

typedef struct limit {
    uint64_t due_us;
    tr_err err; /* TR_OK: no end of anything; the call pauses, knocks again or tries again */
    const char *text;
    uint32_t ms;
    const char *advice; /* NULL = none */
    bool whole;         /* the request's own end, whatever attempts are left */
} limit;

/* Who was asked; size 0 = a model of ours. */
static tr_str url_of(const tri_call *c) {
    const char *known = tri_call_target(c)->url;
    tr_str url = c->base_url.size > 0 ? c->base_url : (tr_str){known, strlen(known)};
    url.size = tr_utf8_cut(url.ptr, url.size, 200);
    return url;
}

static const char *first_token_advice(const tri_call *c) {
    return strcmp(tri_call_target(c)->provider, "local") == 0
               ? " (a long prompt takes a local model long to read: raise timeouts.first_token in "
                 "the configuration, or the request's first_token_ms)"
               : " (the limit is timeouts.first_token in the configuration, or the request's "
                 "first_token_ms)";
}

static limit next_limit(const tri_call *c) {
    limit total = {.due_us = c->began_us + (uint64_t)c->head.total_ms * 1000,
                   .err = TR_ERR_TIMEOUT,
                   .text = "the answer was not complete within the total limit of",
                   .ms = c->head.total_ms,
                   .whole = true};
    limit phase;
    if (c->state == TRI_CALL_RESERVING && c->gate == TR_ID_NONE) {
        phase = (limit){.due_us = c->knock_us};
    } else if (c->state == TRI_CALL_BACKOFF) {
        phase = (limit){.due_us = c->backoff_us};
    } else if (c->state != TRI_CALL_STREAMING && c->state != TRI_CALL_PAUSED &&
               c->state != TRI_CALL_DELIVERING) {
        phase = total;
    } else if (c->state == TRI_CALL_STREAMING && tri_call_is_shut(c) && c->token_count > 0 &&
               !c->untracked && c->pause_ms < c->stalled_ms) {
        phase = (limit){.due_us = c->starved_us + c->pause_ms * 1000ULL};
    } else if (tri_call_is_starved(c) || c->state == TRI_CALL_PAUSED) {
        phase = (limit){.due_us = c->starved_us + (uint64_t)c->stalled_ms * 1000,
                        .err = TR_ERR_STALLED,
                        .text = "the client has not read its stream for",
                        .ms = c->stalled_ms};
    } else if (c->first_token_us == 0 || is_replaying(c) || tri_shape_waits(c)) {
        phase = (limit){.due_us = c->submitted_us + (uint64_t)c->head.first_token_ms * 1000,
                        .err = TR_ERR_TIMEOUT,
                        .text = "no first token came within",
                        .ms = c->head.first_token_ms,
                        .advice = first_token_advice(c)};
    } else {
        phase = (limit){.due_us = c->progress_us + (uint64_t)c->head.idle_ms * 1000,
                        .err = TR_ERR_TIMEOUT,
                        .text = "the stream fell silent for",
                        .ms = c->head.idle_ms};
    }
    return phase.due_us < total.due_us ? phase : total;
}

/* The timer may only come too early: then it sets itself again. */
tr_err tri_call_arm(tr_self *self, tri_call *c) {
    uint64_t due = next_limit(c).due_us;
    if (c->timer != 0 && due >= c->timer_due_us) {
        return TR_OK;
    }
    tr_timer_cancel(self, &c->timer);
    uint64_t now = tr_now_us(self);
    c->timer_due_us = due;
    return tr_timer_start(self, due > now ? due - now : 0, 0, &c->timer);
}

tr_err tri_call_pause(tr_self *self, tri_call *c) {
    tri_call_set_state(c, TRI_CALL_PAUSED);
    return tri_call_arm(self, c);
}

/* What kept it in line; "" = it was not in line. */
static void tell_wait(tr_self *self, const tri_call *c, char *buf, size_t size) {
    const char *label = tri_call_label(c);
    const char *provider = tri_call_target(c)->provider;
    int label_size = (int)tr_utf8_cut(label, strlen(label), 120);
    uint32_t ms = tri_call_ms_since(self, c->asked_us);
    buf[0] = '\0';
    if (tri_call_in_line(c) && tri_call_is_local(c)) {
        snprintf(buf, size,
                 "%.*s waited %u ms for a free place at its model (troupe models): ", label_size,
                 label, ms);
    } else if (tri_call_in_line(c)) {
        snprintf(buf, size,
                 "%.*s waited %u ms at the limits of provider %s (troupe limit %s): ", label_size,
                 label, ms, provider, provider);
    }
}

/* The total limit ended it while an earlier failure was to be mended: that is told too. */
static tr_err too_late(tr_self *self, tri_call *c, const limit *total) {
    char wait[800];
    tell_wait(self, c, wait, sizeof wait);
    if (c->failure == NULL) {
        return tri_call_failf(self, c, total->err, "%s%s %u ms", wait, total->text, total->ms);
    }
    tr_str why = tr_fail_read((const tr_fail *)c->failure->data).message;
    return tri_call_failf(self, c, total->err, "%s%s %u ms; before, an attempt failed: %.*s", wait,
                          total->text, total->ms, (int)why.size, why.ptr);
}

tr_err tri_call_time_came(tr_self *self, tri_call *c, uint64_t id) {
    if (id != c->timer) {
        return TR_OK;
    }
    c->timer = 0;
    limit now = next_limit(c);
    if (now.due_us > tr_now_us(self)) {
        return tri_call_arm(self, c);
    }
    if (now.whole) {
        return too_late(self, c, &now);
    }
    if (now.err != TR_OK) {
        tr_str url = now.advice != NULL ? url_of(c) : (tr_str){"", 0};
        return tri_call_attempt_failedf(self, c, now.err, false, "%s %u ms%s%.*s%s", now.text,
                                        now.ms, url.size > 0 ? " from " : "", (int)url.size,
                                        url.ptr, now.advice != NULL ? now.advice : "");
    }
    if (c->state == TRI_CALL_RESERVING) {
        return tri_call_knock(self, c);
    }
    if (c->state == TRI_CALL_BACKOFF) {
        return tri_call_ask_gate(self, c);
    }
    c->avoid = TR_ID_NONE;
    c->cause = TRI_CALL_UNPAUSED;
    tri_call_leave(self, c, TR_OK);
    return tri_call_pause(self, c);
}
